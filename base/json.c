#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define DEPTH_MAX        32
#define NUMBER_BYTES_MAX 128

/* What the arena holds: the public node first, so that a pointer to one is a pointer to the other.
 */
struct node {
    struct json json;
    size_t where; /* offset of the key, else of the value: for errors */
};

struct parser {
    const char *text;
    size_t length, at;
    struct arena *arena;
    struct error *error;
    int depth;
};

static enum error_code fail(const struct parser *parser, enum error_code code, size_t at,
                            const char *what) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < parser->length; i++) {
        if (parser->text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)parser->text[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    return error_set(parser->error, code, "%zu:%zu: %s", line, column, what);
}

static enum error_code fail_full(const struct parser *parser) {
    return fail(parser, ERR_LIMIT, parser->at, "no room for so much JSON");
}

static int peek(const struct parser *parser) {
    return parser->at < parser->length ? (unsigned char)parser->text[parser->at] : -1;
}

static void skip_space(struct parser *parser) {
    int c = peek(parser);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        parser->at++;
        c = peek(parser);
    }
}

/* Four hexadecimal digits at `at`, or -1. */
static int read_hex4(const struct parser *parser, size_t at) {
    int value = 0;
    if (at > parser->length || parser->length - at < 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = parser->text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The escape after a backslash at parser->at - 1; adds what it means to out. */
static enum error_code parse_escape(struct parser *parser, char *out, size_t *length) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t start = parser->at - 1;
    int c = peek(parser);
    parser->at++;
    if (c != 'u') {
        const char *found = c > 0 ? strchr(from, c) : NULL;
        if (!found)
            return fail(parser, ERR_FORMAT, start, "an unknown escape in a string");
        out[(*length)++] = to[found - from];
        return ERR_OK;
    }
    int high = read_hex4(parser, parser->at);
    if (high < 0)
        return fail(parser, ERR_FORMAT, start, "\\u wants four hexadecimal digits");
    if (high == 0)
        return fail(parser, ERR_FORMAT, start, "\\u0000 is not allowed");
    parser->at += 4;
    unsigned code_point = (unsigned)high;
    if (high >= 0xD800 && high <= 0xDFFF) {
        int low = -1;
        if (high <= 0xDBFF && parser->length - parser->at >= 6 &&
            memcmp(parser->text + parser->at, "\\u", 2) == 0)
            low = read_hex4(parser, parser->at + 2);
        if (low < 0xDC00 || low > 0xDFFF)
            return fail(parser, ERR_FORMAT, start, "half of a surrogate pair");
        parser->at += 6;
        code_point = 0x10000u + (((unsigned)high - 0xD800u) << 10) + ((unsigned)low - 0xDC00u);
    }
    *length += text_put_point(out + *length, code_point);
    return ERR_OK;
}

/* A string, the quote at parser->at. */
static enum error_code parse_string(struct parser *parser, const char **out, size_t *out_length) {
    size_t start = parser->at, end = start + 1;
    while (end < parser->length && parser->text[end] != '"')
        end += parser->text[end] == '\\' ? 2 : 1;
    if (end >= parser->length)
        return fail(parser, ERR_FORMAT, start, "a string that does not end");
    /* An escape is never shorter than what it stands for. */
    char *string = arena_alloc(parser->arena, end - start);
    if (!string)
        return fail_full(parser);
    size_t length = 0;
    parser->at++;
    while (parser->at < end) {
        unsigned char c = (unsigned char)parser->text[parser->at];
        if (c < 0x20)
            return fail(parser, ERR_FORMAT, parser->at, "a control character in a string");
        parser->at++;
        if (c != '\\') {
            string[length++] = (char)c;
            continue;
        }
        enum error_code code = parse_escape(parser, string, &length);
        if (code != ERR_OK)
            return code;
    }
    parser->at = end + 1;
    string[length] = '\0';
    *out = string;
    *out_length = length;
    return ERR_OK;
}

static size_t skip_digits(struct parser *parser) {
    size_t start = parser->at;
    while (peek(parser) >= '0' && peek(parser) <= '9')
        parser->at++;
    return parser->at - start;
}

static enum error_code parse_number(struct parser *parser, struct json *out) {
    static const char malformed[] = "a malformed number";
    size_t start = parser->at;
    bool integer = true;
    if (peek(parser) == '-')
        parser->at++;
    if (peek(parser) == '0')
        parser->at++;
    else if (skip_digits(parser) == 0)
        return fail(parser, ERR_FORMAT, start, malformed);
    if (peek(parser) == '.') {
        integer = false;
        parser->at++;
        if (skip_digits(parser) == 0)
            return fail(parser, ERR_FORMAT, start, malformed);
    }
    if (peek(parser) == 'e' || peek(parser) == 'E') {
        integer = false;
        parser->at++;
        if (peek(parser) == '+' || peek(parser) == '-')
            parser->at++;
        if (skip_digits(parser) == 0)
            return fail(parser, ERR_FORMAT, start, malformed);
    }
    char copy[NUMBER_BYTES_MAX + 1];
    size_t length = parser->at - start;
    if (length > NUMBER_BYTES_MAX)
        return fail(parser, ERR_FORMAT, start, "a number of more than 128 characters");
    memcpy(copy, parser->text + start, length);
    copy[length] = '\0';
    out->type = JSON_NUMBER;
    out->string = parser->text + start;
    out->length = length;
    out->number = strtod(copy, NULL);
    if (!isfinite(out->number))
        return fail(parser, ERR_FORMAT, start, "a number that is too large");
    out->is_integer = integer && text_to_int(copy, &out->integer);
    return ERR_OK;
}

static int compare_keys(const void *a, const void *b) {
    const struct node *const *x = a, *const *y = b;
    int order = strcmp((*x)->json.key, (*y)->json.key);
    if (order)
        return order;
    return ((*x)->where > (*y)->where) - ((*x)->where < (*y)->where);
}

/* Refuse an object that has a key twice. Sorting keeps a header of a million keys from taking the
 * square of that. */
static enum error_code check_keys(const struct parser *parser, const struct json *object) {
    if (object->length < 2)
        return ERR_OK;
    size_t mark = parser->arena->used, count = 0;
    const struct node **sorted = arena_array(parser->arena, object->length, sizeof(void *));
    if (!sorted)
        return fail_full(parser);
    for (const struct json *member = object->child; member; member = member->next)
        sorted[count++] = (const struct node *)member;
    qsort(sorted, count, sizeof(void *), compare_keys);
    enum error_code code = ERR_OK;
    for (size_t i = 1; i < count && code == ERR_OK; i++) {
        if (strcmp(sorted[i - 1]->json.key, sorted[i]->json.key) == 0)
            code = fail(parser, ERR_FORMAT, sorted[i]->where, "this key is there twice");
    }
    arena_reset(parser->arena, mark);
    return code;
}

static enum error_code parse_value(struct parser *parser, struct node *out);

/* The inside of an array or object; the opening bracket is at parser->at. */
static enum error_code parse_children(struct parser *parser, struct json *parent) {
    bool object = peek(parser) == '{';
    char close = object ? '}' : ']';
    parent->type = object ? JSON_OBJECT : JSON_ARRAY;
    if (parser->depth >= DEPTH_MAX)
        return fail(parser, ERR_LIMIT, parser->at, "more than 32 levels");
    parser->depth++;
    parser->at++;
    struct json *last = NULL;
    skip_space(parser);
    if (peek(parser) == close) {
        parser->at++;
        parser->depth--;
        return ERR_OK;
    }
    for (;;) {
        enum error_code code;
        struct node *child = arena_zalloc(parser->arena, sizeof *child);
        if (!child)
            return fail_full(parser);
        skip_space(parser);
        child->where = parser->at;
        if (object) {
            size_t key_length;
            if (peek(parser) != '"')
                return fail(parser, ERR_FORMAT, parser->at, "expected a key in double quotes");
            code = parse_string(parser, &child->json.key, &key_length);
            if (code != ERR_OK)
                return code;
            skip_space(parser);
            if (peek(parser) != ':')
                return fail(parser, ERR_FORMAT, parser->at, "expected ':' after the key");
            parser->at++;
            skip_space(parser);
        }
        code = parse_value(parser, child);
        if (code != ERR_OK)
            return code;
        if (last)
            last->next = &child->json;
        else
            parent->child = &child->json;
        last = &child->json;
        parent->length++;
        skip_space(parser);
        int c = peek(parser);
        if (c != ',' && c != close)
            return fail(parser, ERR_FORMAT, parser->at,
                        object ? "expected ',' or '}'" : "expected ',' or ']'");
        parser->at++;
        if (c == close)
            break;
    }
    parser->depth--;
    return object ? check_keys(parser, parent) : ERR_OK;
}

static bool take_word(struct parser *parser, const char *word) {
    size_t length = strlen(word);
    if (parser->length - parser->at < length ||
        memcmp(parser->text + parser->at, word, length) != 0)
        return false;
    parser->at += length;
    return true;
}

static enum error_code parse_value(struct parser *parser, struct node *out) {
    struct json *json = &out->json;
    int c = peek(parser);
    if (c == '{' || c == '[')
        return parse_children(parser, json);
    if (c == '"') {
        json->type = JSON_STRING;
        return parse_string(parser, &json->string, &json->length);
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return parse_number(parser, json);
    if (take_word(parser, "null")) {
        json->type = JSON_NULL;
        return ERR_OK;
    }
    json->type = JSON_BOOL;
    if (take_word(parser, "true")) {
        json->boolean = true;
        return ERR_OK;
    }
    if (take_word(parser, "false"))
        return ERR_OK;
    return fail(parser, ERR_FORMAT, parser->at, c < 0 ? "the text ends early" : "expected a value");
}

enum error_code json_parse(const struct json **out, struct arena *arena, const char *text,
                           size_t length, struct error *error) {
    struct parser parser = {.text = text, .length = length, .arena = arena, .error = error};
    size_t mark = arena->used, where = 0;
    enum error_code code;
    struct node *root = NULL;
    if (!text_is_utf8(text, length, &where)) {
        code = fail(&parser, ERR_FORMAT, where, "the text is not UTF-8");
        goto done;
    }
    root = arena_zalloc(arena, sizeof *root);
    if (!root) {
        code = fail_full(&parser);
        goto done;
    }
    skip_space(&parser);
    root->where = parser.at;
    code = parse_value(&parser, root);
    if (code != ERR_OK)
        goto done;
    skip_space(&parser);
    if (parser.at < length)
        code = fail(&parser, ERR_FORMAT, parser.at, "something follows the end of the JSON value");
done:
    if (code != ERR_OK) {
        arena_reset(arena, mark);
        return code;
    }
    *out = &root->json;
    return ERR_OK;
}

const struct json *json_get(const struct json *object, const char *key) {
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json *member = object->child; member; member = member->next) {
        if (strcmp(member->key, key) == 0)
            return member;
    }
    return NULL;
}

int64_t json_int(const struct json *object, const char *key, int64_t fallback) {
    const struct json *member = json_get(object, key);
    return member && member->type == JSON_NUMBER && member->is_integer ? member->integer : fallback;
}

double json_double(const struct json *object, const char *key, double fallback) {
    const struct json *member = json_get(object, key);
    return member && member->type == JSON_NUMBER ? member->number : fallback;
}

const char *json_text(const struct json *object, const char *key, const char *fallback) {
    const struct json *member = json_get(object, key);
    return member && member->type == JSON_STRING ? member->string : fallback;
}

bool json_bool(const struct json *object, const char *key, bool fallback) {
    const struct json *member = json_get(object, key);
    return member && member->type == JSON_BOOL ? member->boolean : fallback;
}

/* A string in quotes. Bytes that are not UTF-8 become U+FFFD: the output is always valid JSON. */
static void put_string(struct buffer *buffer, const char *text) {
    size_t length = strlen(text), at = 0;
    buffer_add(buffer, "\"", 1);
    while (at < length) {
        size_t bad = length - at;
        (void)text_is_utf8(text + at, length - at, &bad);
        for (size_t end = at + bad; at < end; at++) {
            unsigned char c = (unsigned char)text[at];
            if (c == '"' || c == '\\')
                buffer_printf(buffer, "\\%c", c);
            else if (c == '\n')
                buffer_add_text(buffer, "\\n");
            else if (c < 0x20 || c == 0x7F)
                buffer_printf(buffer, "\\u%04x", c);
            else
                buffer_add(buffer, text + at, 1);
        }
        if (at < length) {
            buffer_add_text(buffer, "\xEF\xBF\xBD");
            at++;
        }
    }
    buffer_add(buffer, "\"", 1);
}

static void begin_value(struct json_writer *writer, const char *key) {
    if (writer->comma)
        buffer_add(writer->buffer, ",", 1);
    writer->comma = true;
    if (key) {
        put_string(writer->buffer, key);
        buffer_add(writer->buffer, ":", 1);
    }
}

void json_begin_object(struct json_writer *writer, const char *key) {
    begin_value(writer, key);
    buffer_add(writer->buffer, "{", 1);
    writer->comma = false;
}

void json_end_object(struct json_writer *writer) {
    buffer_add(writer->buffer, "}", 1);
    writer->comma = true;
}

void json_begin_array(struct json_writer *writer, const char *key) {
    begin_value(writer, key);
    buffer_add(writer->buffer, "[", 1);
    writer->comma = false;
}

void json_end_array(struct json_writer *writer) {
    buffer_add(writer->buffer, "]", 1);
    writer->comma = true;
}

void json_put_text(struct json_writer *writer, const char *key, const char *value) {
    begin_value(writer, key);
    if (value)
        put_string(writer->buffer, value);
    else
        buffer_add_text(writer->buffer, "null");
}

void json_put_int(struct json_writer *writer, const char *key, int64_t value) {
    begin_value(writer, key);
    buffer_printf(writer->buffer, "%lld", (long long)value);
}

void json_put_double(struct json_writer *writer, const char *key, double value) {
    begin_value(writer, key);
    if (!isfinite(value)) {
        buffer_add_text(writer->buffer, "null");
        return;
    }
    char text[40] = "";
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buffer_add_text(writer->buffer, text);
}

void json_put_float(struct json_writer *writer, const char *key, float value) {
    char text[40];
    double shortest = (double)value;
    for (int digits = 9; digits > 0; digits--) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) != value)
            break;
        shortest = strtod(text, NULL);
    }
    json_put_double(writer, key, shortest);
}

void json_put_bool(struct json_writer *writer, const char *key, bool value) {
    begin_value(writer, key);
    buffer_add_text(writer->buffer, value ? "true" : "false");
}

/* As deep as the reader lets values be. */
void json_put(struct json_writer *writer, const char *key, const struct json *value) {
    switch (value->type) {
    case JSON_NULL:
        json_put_text(writer, key, NULL);
        break;
    case JSON_BOOL:
        json_put_bool(writer, key, value->boolean);
        break;
    case JSON_NUMBER:
        if (value->is_integer)
            json_put_int(writer, key, value->integer);
        else
            json_put_double(writer, key, value->number);
        break;
    case JSON_STRING:
        json_put_text(writer, key, value->string);
        break;
    case JSON_ARRAY:
        json_begin_array(writer, key);
        for (const struct json *item = value->child; item; item = item->next)
            json_put(writer, NULL, item);
        json_end_array(writer);
        break;
    case JSON_OBJECT:
        json_begin_object(writer, key);
        for (const struct json *item = value->child; item; item = item->next)
            json_put(writer, item->key, item);
        json_end_object(writer);
        break;
    }
}
