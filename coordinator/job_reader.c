/* What every part of the job reader needs: errors with their places, sets of names. */
#include "coordinator/job_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#undef job_fail

enum error_code job_fail(struct reader *reader, struct place at, enum error_code code,
                         const char *format, ...) {
    char text[ERROR_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(reader->error, code, "%s:%d:%d: %s", at.file, at.line, at.column, text);
}

enum error_code job_no_memory(struct reader *reader) {
    return error_set(reader->error, ERR_MEMORY,
                     "%s: the job takes more than %llu MiB of memory, or there is none left",
                     reader->file, (unsigned long long)(LIMIT_JOB_BYTES >> 20));
}

struct place job_place(const struct reader *reader, const struct yaml *node) {
    return (struct place){reader->file, node->line, node->column};
}

struct place job_place_of_key(const struct reader *reader, const struct yaml *node) {
    return (struct place){reader->file, node->key_line, node->key_column};
}

/* "the text \"abc\"", "a list", …: what stands there. */
const char *job_describe(char out[96], const struct yaml *node) {
    double number;
    if (node->type == YAML_SEQUENCE)
        return node->length ? "a list" : "an empty list";
    if (node->type == YAML_MAPPING)
        return node->length ? "a mapping" : "an empty mapping";
    if (!node->length)
        return node->quoted ? "an empty text" : "nothing";
    size_t shown = node->length < 48 ? node->length : 48;
    while (shown < node->length && shown && ((unsigned char)node->text[shown] & 0xC0) == 0x80)
        shown--;
    size_t line = 0;
    while (line < shown && (unsigned char)node->text[line] >= ' ')
        line++;
    snprintf(out, 96, "%s%.*s%s%s",
             !node->quoted && text_to_double(node->text, &number) ? "" : "\"", (int)line,
             node->text, line < node->length ? "…" : "",
             !node->quoted && text_to_double(node->text, &number) ? "" : "\"");
    return out;
}

enum error_code job_wrong(struct reader *reader, const struct yaml *node, enum error_code code,
                          const char *expected) {
    char found[96];
    return job_fail(reader, job_place(reader, node), code, "%s%sexpected %s, found %s",
                    node->key ? node->key : "", node->key ? ": " : "", expected,
                    job_describe(found, node));
}

/* Whether every key of the mapping is among the words. */
enum error_code job_check_keys(struct reader *reader, const struct yaml *mapping,
                               enum job_words words, const char *what) {
    const char *const *known_words = job_words(words);
    for (const struct yaml *child = mapping->child; child; child = child->next) {
        bool known = false;
        for (const char *const *word = known_words; *word && !known; word++)
            known = !strcmp(*word, child->key);
        if (known)
            continue;
        const char *near = text_nearest(child->key, known_words);
        if (near)
            return job_fail(reader, job_place_of_key(reader, child), ERR_USAGE,
                            "%s has no key \"%.64s\"; did you mean \"%s\"?", what, child->key,
                            near);
        char list[512] = "";
        for (const char *const *word = known_words; *word; word++) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *word);
        }
        return job_fail(reader, job_place_of_key(reader, child), ERR_USAGE,
                        "%s has no key \"%.64s\"; it has: %s", what, child->key, list);
    }
    return ERR_OK;
}

char *job_keep(struct reader *reader, const char *text) {
    return text ? arena_strdup(&reader->job->arena, text, strlen(text)) : NULL;
}

static uint64_t name_hash(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash ^ hash >> 29;
}

uint32_t job_name_set_find(const struct reader *reader, const struct name_set *set, name_of get,
                           const char *name) {
    if (!set->slots)
        return UINT32_MAX;
    for (size_t at = name_hash(name) & set->mask; set->slots[at]; at = (at + 1) & set->mask)
        if (!strcmp(get(reader, set->slots[at] - 1), name))
            return set->slots[at] - 1;
    return UINT32_MAX;
}

enum error_code job_name_set_add(struct reader *reader, struct name_set *set, name_of get,
                                 const char *name, uint32_t index, uint32_t *there) {
    *there = job_name_set_find(reader, set, get, name);
    if (*there != UINT32_MAX)
        return ERR_OK;
    if (!set->slots || set->count * 2 > set->mask) {
        size_t size = set->slots ? (set->mask + 1) * 2 : 64;
        uint32_t *slots = calloc(size, sizeof *slots);
        if (!slots)
            return job_no_memory(reader);
        for (size_t i = 0; set->slots && i <= set->mask; i++)
            if (set->slots[i]) {
                size_t at = name_hash(get(reader, set->slots[i] - 1)) & (size - 1);
                while (slots[at])
                    at = (at + 1) & (size - 1);
                slots[at] = set->slots[i];
            }
        free(set->slots);
        set->slots = slots;
        set->mask = size - 1;
    }
    size_t at = name_hash(name) & set->mask;
    while (set->slots[at])
        at = (at + 1) & set->mask;
    set->slots[at] = index + 1;
    set->count++;
    return ERR_OK;
}
