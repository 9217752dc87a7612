#include "worker/model/fields.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "worker/model/describe.h"

#define CONFIG_BYTES_MAX (1u << 20)

static void parse(struct fields *fields, const char *text, size_t length) {
    fields->code = json_parse(&fields->root, &fields->arena, text, length, fields->error);
    if (fields->code != ERR_OK)
        fields->code = error_prefix(fields->error, "%s:", fields->path);
    else if (fields->root->type != JSON_OBJECT)
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: expected a JSON object", fields->path);
}

void fields_open(struct fields *fields, const char *folder, const char *name, struct error *error) {
    memset(fields, 0, sizeof *fields);
    fields->error = error;
    fields->code = file_join(fields->path, folder, name, error);
    if (fields->code == ERR_OK)
        fields->code = arena_open(&fields->arena, 64u << 20, error);
    char *text;
    size_t length;
    if (fields->code == ERR_OK)
        fields->code =
            file_read(&text, &length, &fields->arena, fields->path, CONFIG_BYTES_MAX, error);
    if (fields->code == ERR_OK)
        parse(fields, text, length);
}

/* The diffusers layout's own file, which has a config.json beside it. */
static bool has_config(const struct weights *weights) {
    const char *path = weights_path(weights), *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    return strncmp(name, "diffusion_pytorch_model.", 24) == 0 || strncmp(name, "model.", 6) == 0;
}

void fields_open_config(struct fields *fields, const char *folder, const struct weights *weights,
                        enum names_component component, struct error *error) {
    fields_open(fields, folder, "config.json", error);
    if (fields->code != ERR_MISSING || weights == NULL || has_config(weights))
        return;
    struct buffer text = {0};
    (void)snprintf(fields->path, sizeof fields->path, "%s", weights_path(weights));
    fields->code = describe_config(&text, weights, component, NULL, error);
    if (fields->code == ERR_OK) {
        char *kept = arena_strdup(&fields->arena, text.data, text.length);
        if (kept == NULL)
            fields->code = error_set(error, ERR_MEMORY, "no memory for a configuration");
        else
            parse(fields, kept, text.length);
    }
    buffer_close(&text);
}

enum error_code fields_close(struct fields *fields) {
    arena_close(&fields->arena);
    return fields->code;
}

/* The field, or NULL where it is absent or null, or an error came before. */
const struct json *fields_get(const struct fields *fields, const char *key) {
    const struct json *value = fields->code == ERR_OK ? json_get(fields->root, key) : NULL;
    return value == NULL || value->type == JSON_NULL ? NULL : value;
}

int fields_int(struct fields *fields, const char *key, int fallback, int min, int max) {
    const struct json *value = fields_get(fields, key);
    if (value == NULL && fallback >= min)
        return fallback;
    if (fields->code != ERR_OK)
        return min;
    if (value == NULL)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: '%s' is missing; expected a whole "
                                 "number from %d to %d",
                                 fields->path, key, min, max);
    else if (min == max && (value->type != JSON_NUMBER || value->number != min))
        fields->code = error_set(fields->error, ERR_FORMAT, "%s: '%s' must be %d here",
                                 fields->path, key, min);
    else if (value->type != JSON_NUMBER || !value->is_integer || value->integer < min ||
             value->integer > max)
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: '%s' must be a whole number from %d to %d",
                      fields->path, key, min, max);
    return fields->code == ERR_OK ? (int)value->integer : min;
}

float fields_float(struct fields *fields, const char *key, double fallback, double min,
                   double max) {
    const struct json *value = fields_get(fields, key);
    if (value == NULL)
        return (float)fallback;
    if (value->type != JSON_NUMBER || !(value->number >= min && value->number <= max)) {
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: '%s' must be a number from %g to %g",
                      fields->path, key, min, max);
        return (float)fallback;
    }
    return (float)value->number;
}

bool fields_bool(struct fields *fields, const char *key, bool fallback) {
    const struct json *value = fields_get(fields, key);
    if (value == NULL)
        return fallback;
    if (value->type != JSON_BOOL)
        fields->code = error_set(fields->error, ERR_FORMAT, "%s: '%s' must be true or false",
                                 fields->path, key);
    return value->boolean;
}

/* A list of `min` to `max` whole numbers; *count stays and `out` too where it is absent. */
void fields_ints(struct fields *fields, const char *key, int *out, int *count, int max, int low,
                 int high) {
    const struct json *value = fields_get(fields, key);
    if (value == NULL)
        return;
    bool good = value->type == JSON_ARRAY && value->length <= (size_t)max;
    int n = 0;
    for (const struct json *item = good ? value->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_NUMBER && item->is_integer && item->integer >= low &&
               item->integer <= high;
        out[n++] = good ? (int)item->integer : low;
    }
    *count = n;
    if (!good)
        fields->code =
            error_set(fields->error, ERR_FORMAT,
                      "%s: '%s' must be a list of at most %d whole numbers from %d to %d",
                      fields->path, key, max, low, high);
}

void fields_floats(struct fields *fields, const char *key, float *out, int *count, int max) {
    const struct json *value = fields_get(fields, key);
    if (value == NULL)
        return;
    bool good = value->type == JSON_ARRAY && value->length <= (size_t)max;
    int n = 0;
    for (const struct json *item = good ? value->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_NUMBER;
        out[n++] = (float)item->number;
    }
    *count = n;
    if (!good)
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: '%s' must be a list of at most %d numbers",
                      fields->path, key, max);
}

/* As fields_get, but null, which is a value of its own here, is there. */
static const struct json *get_given(const struct fields *fields, const char *key) {
    return fields->code == ERR_OK ? json_get(fields->root, key) : NULL;
}

/* A setting that only has one value here: refuse others by name. */
void fields_must_be_text(struct fields *fields, const char *key, const char *only) {
    const struct json *value = get_given(fields, key);
    if (value == NULL || (value->type == JSON_STRING && strcmp(value->string, only) == 0))
        return;
    bool text = value->type == JSON_STRING;
    fields->code =
        error_set(fields->error, ERR_UNSUPPORTED, "%s: '%s' is %s%s%s; only '%s' is supported",
                  fields->path, key, text ? "'" : "",
                  text                       ? value->string
                  : value->type == JSON_NULL ? "null"
                                             : "not a text",
                  text ? "'" : "", only);
}

void fields_must_be_bool(struct fields *fields, const char *key, bool only) {
    const struct json *value = get_given(fields, key);
    if (value != NULL && (value->type != JSON_BOOL || value->boolean != only))
        fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                 "%s: '%s' must be %s; nothing else is supported", fields->path,
                                 key, only ? "true" : "false");
}

void fields_must_be_empty(struct fields *fields, const char *key) {
    const struct json *value = fields_get(fields, key);
    if (value != NULL && (value->type != JSON_ARRAY || value->length > 0))
        fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                 "%s: '%s' must be null or left out; nothing else is supported",
                                 fields->path, key);
}

void fields_must_be_given(struct fields *fields, const char *key, const char *fallback) {
    if (fields->code == ERR_OK && get_given(fields, key) == NULL)
        fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                 "%s: '%s' is missing, which means %s; that is not supported",
                                 fields->path, key, fallback);
}
