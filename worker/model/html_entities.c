#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/text_clean.h"

struct entity {
    const char *name, *text;
    bool bare; /* may stand without a semicolon */
};

static const struct entity entities[] = {
#include "worker/model/html_entities.inc"
};

struct key {
    const char *name;
    size_t length;
};

static int compare(const void *key_pointer, const void *entity_pointer) {
    const struct key *key = key_pointer;
    const struct entity *entity = entity_pointer;
    int order = strncmp(key->name, entity->name, key->length);
    return order != 0 ? order : -(entity->name[key->length] != 0);
}

const char *html_entity(const char *name, size_t length, bool semicolon) {
    const struct key key = {name, length};
    const struct entity *entity =
        bsearch(&key, entities, sizeof entities / sizeof *entities, sizeof *entities, compare);
    return entity != NULL && (semicolon || entity->bare) ? entity->text : NULL;
}
