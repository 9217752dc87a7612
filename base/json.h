/* JSON, strictly (RFC 8259), bounded: the reader of weight headers, model configurations and
 * prompt lists, and the writer of every --json report.
 *
 * Our own because a weight header must be read on a bare GPU machine that has no library, and
 * because duplicate keys, depth and sizes must be refused. Fuzzed by tests/fuzz/json.c.
 *
 * Any thread; an arena or a buffer by one thread at a time. */
#ifndef VIDLOOM_BASE_JSON_H
#define VIDLOOM_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    const char *key;    /* of an object's member; NULL otherwise */
    const char *string; /* JSON_STRING: decoded UTF-8, NUL-terminated; a \u0000 is refused;
                           JSON_NUMBER: as written, in the text that was parsed, no NUL */
    size_t length;      /* of `string` in bytes; JSON_ARRAY, JSON_OBJECT: number of children */
    double number;      /* JSON_NUMBER */
    int64_t integer;    /* JSON_NUMBER that is_integer */
    bool is_integer;    /* written without fraction or exponent, and fits int64_t */
    bool boolean;
    const struct json *child, *next; /* first child; next sibling */
};

/* Parse all of text[0..length). Depth at most 32; duplicate keys, invalid UTF-8, trailing bytes
 * refused, as are numbers of more than 128 characters or past a double. Nodes and strings are in
 * `arena`; only a number's text stays in `text`. The error gives line:column.
 * Errors: ERR_FORMAT, ERR_LIMIT (depth; arena full); then the arena is as before. */
MUST_CHECK enum error_code json_parse(const struct json **out, struct arena *arena,
                                      const char *text, size_t length, struct error *error);

const struct json *json_get(const struct json *object, const char *key); /* NULL: absent */
/* The member if it is there and of the type, else the fallback. */
int64_t json_int(const struct json *object, const char *key, int64_t fallback);
double json_double(const struct json *object, const char *key, double fallback);
const char *json_text(const struct json *object, const char *key, const char *fallback);
bool json_bool(const struct json *object, const char *key, bool fallback);

/* Writer. Commas are put in by it; `key` is NULL inside arrays. Doubles are written shortest-exact
 * (%.17g or less); NaN and infinities as null. */
struct json_writer {
    struct buffer *buffer;
    bool comma;
};
void json_begin_object(struct json_writer *writer, const char *key);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer, const char *key);
void json_end_array(struct json_writer *writer);
void json_put_text(struct json_writer *writer, const char *key, const char *value); /* NULL: null */
void json_put_int(struct json_writer *writer, const char *key, int64_t value);
void json_put_double(struct json_writer *writer, const char *key, double value);
void json_put_float(struct json_writer *writer, const char *key, float value); /* as few digits as
                                                                                  give it back */
void json_put_bool(struct json_writer *writer, const char *key, bool value);
/* A value that was read, with everything in it; its own key is not used. */
void json_put(struct json_writer *writer, const char *key, const struct json *value);

#endif
