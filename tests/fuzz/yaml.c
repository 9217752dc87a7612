/* YAML from outside: job and configuration files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"

static void check(const struct yaml *yaml, int depth) {
    size_t children = 0;
    if (depth > 33 || yaml->line < 1 || yaml->column < 1)
        abort();
    if (yaml->type == YAML_SCALAR) {
        if (strlen(yaml->text) != yaml->length)
            abort();
        return;
    }
    for (const struct yaml *child = yaml->child; child; child = child->next, children++) {
        if ((child->key != NULL) != (yaml->type == YAML_MAPPING))
            abort();
        if (child->key && !yaml_get(yaml, child->key))
            abort();
        check(child, depth + 1);
    }
    if (children != yaml->length)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena arena;
    struct error error;
    const struct yaml *yaml;
    if (arena_open(&arena, 8u << 20, &error) != ERR_OK)
        return 0;
    if (yaml_parse(&yaml, &arena, "fuzz", (const char *)data, size, &error) == ERR_OK)
        check(yaml, 0);
    arena_close(&arena);
    return 0;
}
