#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/text.h"

#define DEPTH_MAX 32

struct reader {
    yaml_parser_t *parser;
    struct arena *arena;
    const char *name;
    const char *text;
    size_t length;
    struct error *error;
};

static enum error_code fail(const struct reader *reader, enum error_code code, yaml_mark_t mark,
                            const char *what) {
    return error_set(reader->error, code, "%s:%zu:%zu: %s", reader->name, mark.line + 1,
                     mark.column + 1, what);
}

/* As fail(), for libyaml's reader and our own check, which know a byte and no line. */
static enum error_code fail_at_byte(const struct reader *reader, size_t byte, const char *what) {
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < byte && i < reader->length; i++) {
        if (reader->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)reader->text[i] & 0xC0) != 0x80) {
            mark.column++;
        }
    }
    return fail(reader, ERR_FORMAT, mark, what);
}

/* The next event; the caller deletes it when ERR_OK. */
static enum error_code next_event(const struct reader *reader, yaml_event_t *event) {
    const yaml_parser_t *parser = reader->parser;
    if (yaml_parser_parse(reader->parser, event))
        return ERR_OK;
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(reader->error, ERR_MEMORY, "%s: no memory to read it", reader->name);
    const char *problem = parser->problem ? parser->problem : "malformed YAML";
    if (parser->error == YAML_READER_ERROR)
        return fail_at_byte(reader, parser->problem_offset, problem);
    if (parser->context)
        return error_set(reader->error, ERR_FORMAT, "%s:%zu:%zu: %s, %s from line %zu on",
                         reader->name, parser->problem_mark.line + 1,
                         parser->problem_mark.column + 1, problem, parser->context,
                         parser->context_mark.line + 1);
    return fail(reader, ERR_FORMAT, parser->problem_mark, problem);
}

/* Refuse what a value must not have. */
static enum error_code check_event(const struct reader *reader, const yaml_event_t *event) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail(reader, ERR_FORMAT, event->start_mark,
                    "aliases (*name) are not allowed: write the value out, or put it in quotes");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor)
        return fail(reader, ERR_FORMAT, event->start_mark,
                    "anchors (&name) are not allowed: write the value out, or put it in quotes");
    if (tag)
        return fail(reader, ERR_FORMAT, event->start_mark,
                    "tags (!name) are not allowed: leave it out, or put the value in quotes");
    return ERR_OK;
}

static enum error_code copy_scalar(const struct reader *reader, const yaml_event_t *event,
                                   const char **out, size_t *out_length) {
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(text, '\0', length))
        return fail(reader, ERR_FORMAT, event->start_mark, "a NUL character is not allowed");
    if (!text_is_utf8(text, length, NULL)) /* "\ud800" in quotes */
        return fail(reader, ERR_FORMAT, event->start_mark, "an escape that is no character");
    *out = arena_strdup(reader->arena, text, length);
    if (!*out)
        return fail(reader, ERR_LIMIT, event->start_mark, "no room for so much YAML");
    if (out_length)
        *out_length = length;
    return ERR_OK;
}

static int compare_keys(const void *a, const void *b) {
    const struct yaml *const *x = a, *const *y = b;
    int order = strcmp((*x)->key, (*y)->key);
    if (order)
        return order;
    if ((*x)->key_line != (*y)->key_line)
        return (*x)->key_line < (*y)->key_line ? -1 : 1;
    return ((*x)->key_column > (*y)->key_column) - ((*x)->key_column < (*y)->key_column);
}

static enum error_code check_keys(const struct reader *reader, const struct yaml *mapping) {
    if (mapping->length < 2)
        return ERR_OK;
    size_t mark = reader->arena->used, count = 0;
    const struct yaml **sorted = arena_array(reader->arena, mapping->length, sizeof(void *));
    if (!sorted)
        return error_set(reader->error, ERR_LIMIT, "%s:%d:%d: no room for so much YAML",
                         reader->name, mapping->line, mapping->column);
    for (const struct yaml *member = mapping->child; member; member = member->next)
        sorted[count++] = member;
    qsort(sorted, count, sizeof(void *), compare_keys);
    enum error_code code = ERR_OK;
    for (size_t i = 1; i < count && code == ERR_OK; i++) {
        const struct yaml *first = sorted[i - 1], *second = sorted[i];
        if (strcmp(first->key, second->key) == 0)
            code = error_set(reader->error, ERR_FORMAT,
                             "%s:%d:%d: '%s' is there twice, first in line %d", reader->name,
                             second->key_line, second->key_column, second->key, first->key_line);
    }
    arena_reset(reader->arena, mark);
    return code;
}

static enum error_code read_node(const struct reader *reader, struct yaml *out,
                                 const yaml_event_t *event, int depth);

/* The key that `event` must be. */
static enum error_code read_key(const struct reader *reader, struct yaml *out,
                                const yaml_event_t *event) {
    enum error_code code = check_event(reader, event);
    if (code != ERR_OK)
        return code;
    if (event->type != YAML_SCALAR_EVENT)
        return fail(reader, ERR_FORMAT, event->start_mark, "a key must be plain text");
    out->key_line = (int)event->start_mark.line + 1;
    out->key_column = (int)event->start_mark.column + 1;
    return copy_scalar(reader, event, &out->key, NULL);
}

static enum error_code read_children(const struct reader *reader, struct yaml *parent, int depth) {
    struct yaml *last = NULL;
    for (;;) {
        yaml_event_t event;
        enum error_code code = next_event(reader, &event);
        if (code != ERR_OK)
            return code;
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return parent->type == YAML_MAPPING ? check_keys(reader, parent) : ERR_OK;
        }
        struct yaml *child = arena_zalloc(reader->arena, sizeof *child);
        if (!child) {
            code = fail(reader, ERR_LIMIT, event.start_mark, "no room for so much YAML");
            yaml_event_delete(&event);
            return code;
        }
        if (parent->type == YAML_MAPPING) {
            code = read_key(reader, child, &event);
            yaml_event_delete(&event);
            if (code == ERR_OK)
                code = next_event(reader, &event);
            if (code != ERR_OK)
                return code;
        }
        if (code == ERR_OK)
            code = read_node(reader, child, &event, depth);
        yaml_event_delete(&event);
        if (code != ERR_OK)
            return code;
        if (last)
            last->next = child;
        else
            parent->child = child;
        last = child;
        parent->length++;
    }
}

static enum error_code read_node(const struct reader *reader, struct yaml *out,
                                 const yaml_event_t *event, int depth) {
    enum error_code code = check_event(reader, event);
    if (code != ERR_OK)
        return code;
    out->line = (int)event->start_mark.line + 1;
    out->column = (int)event->start_mark.column + 1;
    if (event->type == YAML_SCALAR_EVENT) {
        out->type = YAML_SCALAR;
        out->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return copy_scalar(reader, event, &out->text, &out->length);
    }
    if (event->type != YAML_SEQUENCE_START_EVENT && event->type != YAML_MAPPING_START_EVENT)
        return fail(reader, ERR_FORMAT, event->start_mark, "expected a value");
    out->type = event->type == YAML_MAPPING_START_EVENT ? YAML_MAPPING : YAML_SEQUENCE;
    if (depth >= DEPTH_MAX)
        return fail(reader, ERR_LIMIT, event->start_mark, "more than 32 levels");
    return read_children(reader, out, depth + 1);
}

static enum error_code skip_event(const struct reader *reader) {
    yaml_event_t event;
    enum error_code code = next_event(reader, &event);
    if (code == ERR_OK)
        yaml_event_delete(&event);
    return code;
}

static enum error_code read_document(const struct reader *reader, struct yaml *root) {
    yaml_event_t event;
    enum error_code code = skip_event(reader); /* the start of the stream */
    if (code == ERR_OK)
        code = next_event(reader, &event);
    if (code != ERR_OK)
        return code;
    if (event.type != YAML_DOCUMENT_START_EVENT)
        code = error_set(reader->error, ERR_FORMAT, "%s:1:1: there is nothing in it", reader->name);
    else if (event.data.document_start.tag_directives.start !=
             event.data.document_start.tag_directives.end)
        code = fail(reader, ERR_FORMAT, event.start_mark, "%TAG directives are not allowed");
    yaml_event_delete(&event);
    if (code == ERR_OK)
        code = next_event(reader, &event);
    if (code != ERR_OK)
        return code;
    code = read_node(reader, root, &event, 0);
    yaml_event_delete(&event);
    if (code == ERR_OK)
        code = skip_event(reader); /* the end of the document */
    if (code == ERR_OK)
        code = next_event(reader, &event);
    if (code != ERR_OK)
        return code;
    if (event.type != YAML_STREAM_END_EVENT)
        code = fail(reader, ERR_FORMAT, event.start_mark,
                    "a second document is not allowed: one file is one document");
    yaml_event_delete(&event);
    return code;
}

enum error_code yaml_parse(const struct yaml **out, struct arena *arena, const char *name,
                           const char *text, size_t length, struct error *error) {
    if (length > YAML_BYTES_MAX)
        return error_set(error, ERR_LIMIT, "%s: %zu bytes; at most %u are read", name, length,
                         YAML_BYTES_MAX);
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* as some editors write */
        text += 3;
        length -= 3;
    }
    size_t mark = arena->used;
    struct yaml *root = arena_zalloc(arena, sizeof *root);
    if (!root)
        return error_set(error, ERR_LIMIT, "%s: no room to read it", name);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        arena_reset(arena, mark);
        return error_set(error, ERR_MEMORY, "%s: no memory to read it", name);
    }
    /* Said, not guessed from a byte order mark: UTF-16 is refused. */
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    struct reader reader = {.parser = &parser,
                            .arena = arena,
                            .name = name,
                            .text = text,
                            .length = length,
                            .error = error};
    size_t bad;
    enum error_code code = text_is_utf8(text, length, &bad)
                               ? read_document(&reader, root)
                               : fail_at_byte(&reader, bad, "the text is not UTF-8");
    yaml_parser_delete(&parser);
    if (code != ERR_OK) {
        arena_reset(arena, mark);
        return code;
    }
    *out = root;
    return ERR_OK;
}

const struct yaml *yaml_get(const struct yaml *mapping, const char *key) {
    if (!mapping || mapping->type != YAML_MAPPING)
        return NULL;
    for (const struct yaml *member = mapping->child; member; member = member->next) {
        if (strcmp(member->key, key) == 0)
            return member;
    }
    return NULL;
}
