/* JSON from outside: weight headers, model configurations, prompt lists. What parses must also come
 * back the same from the writer. */
#include <stdlib.h>

#include "base/json.h"

static void write_value(struct json_writer *writer, const struct json *json) {
    switch (json->type) {
    case JSON_NULL:
        json_put_text(writer, json->key, NULL);
        break;
    case JSON_BOOL:
        json_put_bool(writer, json->key, json->boolean);
        break;
    case JSON_NUMBER:
        if (json->is_integer)
            json_put_int(writer, json->key, json->integer);
        else
            json_put_double(writer, json->key, json->number);
        break;
    case JSON_STRING:
        json_put_text(writer, json->key, json->string);
        break;
    case JSON_ARRAY:
        json_begin_array(writer, json->key);
        break;
    case JSON_OBJECT:
        json_begin_object(writer, json->key);
        break;
    }
    size_t children = 0;
    for (const struct json *child = json->child; child; child = child->next, children++)
        write_value(writer, child);
    if (json->type == JSON_ARRAY)
        json_end_array(writer);
    if (json->type == JSON_OBJECT)
        json_end_object(writer);
    if (json->type != JSON_STRING && children != json->length)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena arena;
    struct error error;
    const struct json *json, *again;
    if (arena_open(&arena, 8u << 20, &error) != ERR_OK)
        return 0;
    if (json_parse(&json, &arena, (const char *)data, size, &error) == ERR_OK) {
        struct buffer buffer = {0};
        struct json_writer writer = {.buffer = &buffer};
        write_value(&writer, json);
        enum error_code code = json_parse(&again, &arena, buffer.data, buffer.length, &error);
        if (code != ERR_OK && code != ERR_LIMIT)
            abort();
        buffer_close(&buffer);
    }
    arena_close(&arena);
    return 0;
}
