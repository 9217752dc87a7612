#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/base/test.h"

static struct arena arena;

static int open_arena(void **state) {
    (void)state;
    struct error error;
    return arena_open(&arena, 64u << 20, &error) == ERR_OK ? 0 : -1;
}

static int close_arena(void **state) {
    (void)state;
    arena_close(&arena);
    return 0;
}

static const struct json *parse(const char *text) {
    const struct json *json = NULL;
    struct error error = {0};
    enum error_code code = json_parse(&json, &arena, text, strlen(text), &error);
    if (code != ERR_OK)
        fail_msg("%s: %s", text, error.detail);
    return json;
}

static void test_values(void **state) {
    (void)state;
    const struct json *json = parse(
        " {\"a\": [1, -2.5e1, true, false, null, \"x\"],\t\"b\": {}, \"c\": [],\r\n"
        "\"big\": 9223372036854775807, \"bigger\": 9223372036854775808, \"z\": -0, \"f\": 1.0 } ");
    assert_int_equal(json->type, JSON_OBJECT);
    assert_int_equal(json->length, 7);
    const struct json *a = json_get(json, "a");
    assert_string_equal(a->key, "a");
    assert_int_equal(a->length, 6);
    const struct json *item = a->child;
    assert_true(item->is_integer && item->integer == 1 && item->number == 1);
    assert_null(item->key);
    item = item->next;
    assert_true(!item->is_integer && item->number == -25);
    assert_true(item->next->type == JSON_BOOL && item->next->boolean);
    item = item->next->next;
    assert_true(item->type == JSON_BOOL && !item->boolean);
    assert_int_equal(item->next->type, JSON_NULL);
    assert_string_equal(item->next->next->string, "x");
    assert_null(item->next->next->next);
    assert_int_equal(json_get(json, "b")->length, 0);
    assert_int_equal(json_get(json, "c")->type, JSON_ARRAY);
    assert_int_equal(json_int(json, "big", 0), INT64_MAX);
    assert_int_equal(json_int(json, "bigger", 3), 3); /* not an int64_t */
    assert_true(json_double(json, "bigger", 0) == 9223372036854775808.0);
    assert_int_equal(json_int(json, "f", 3), 3);
    assert_int_equal(json_int(json, "z", 3), 0);
    assert_int_equal(json_int(json, "absent", 3), 3);
    assert_string_equal(json_text(json, "a", "fallback"), "fallback");
    assert_true(json_bool(json, "absent", true));
    assert_null(json_get(a, "a"));
    assert_null(json_get(NULL, "a"));
    assert_int_equal(parse("3")->integer, 3);
}

static void test_strings(void **state) {
    (void)state;
    const struct json *json =
        parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t \\u00e9\\u20AC\\ud83c\\udf88 \xC3\xA9\"");
    assert_string_equal(json->string,
                        "\"\\/\b\f\n\r\t \xC3\xA9\xE2\x82\xAC\xF0\x9F\x8E\x88 \xC3\xA9");
    assert_int_equal(json->length, strlen(json->string));
    assert_string_equal(parse("\"\"")->string, "");
}

static void test_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "1:1: "},
        {"  \n ", "2:2: "},
        {"{", "1:2: "},
        {"[1,]", "1:4: "},
        {"[1 2]", "1:4: "},
        {"{\"a\":1,}", "1:8: "},
        {"{a:1}", "1:2: "},
        {"{\"a\" 1}", "1:6: "},
        {"{\"a\":1 \"b\":2}", "1:8: "},
        {"{\"a\":1,\n \"b\":2,\n \"a\":3}", "3:2: this key is there twice"},
        {"{\"\\u0061\":1,\"a\":3}", "1:13: this key is there twice"},
        {"[1]x", "1:4: "},
        {"1 2", "1:3: "},
        {"01", "1:2: "},
        {"-", "1:1: "},
        {"+1", "1:1: "},
        {"1.", "1:1: "},
        {".5", "1:1: "},
        {"1e", "1:1: "},
        {"1e999", "1:1: "},
        {"NaN", "1:1: "},
        {"tru", "1:1: "},
        {"truex", "1:5: "},
        {"'a'", "1:1: "},
        {"\"a", "1:1: "},
        {"\"a\\", "1:1: "},
        {"\"a\\\"", "1:1: "},
        {"\"a\nb\"", "1:3: "},
        {"\"\\x\"", "1:2: "},
        {"\"\\u12\"", "1:2: "},
        {"\"\\u0000\"", "1:2: "},
        {"\"\\ud800\"", "1:2: "},
        {"\"\\ud800\\u0041\"", "1:2: "},
        {"\"\\udc00\"", "1:2: "},
        {"\"\xC3\xA9\xFF\"", "1:3: "},
        {"[/* no */]", "1:2: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct json *json = NULL;
        struct error error = {0};
        size_t mark = arena.used;
        enum error_code code = json_parse(&json, &arena, cases[i][0], strlen(cases[i][0]), &error);
        if (code != ERR_FORMAT)
            fail_msg("accepted: %s", cases[i][0]);
        if (strncmp(error.detail, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: %s", cases[i][0], error.detail);
        assert_null(json);
        assert_int_equal(arena.used, mark);
    }
    struct error error;
    const struct json *json;
    assert_int_equal(json_parse(&json, &arena, "\"a\0b\"", 5, &error), ERR_FORMAT);
    assert_int_equal(json_parse(&json, &arena, "1\0", 2, &error), ERR_FORMAT);
    assert_int_equal(json_parse(&json, &arena, "truex", 4, &error), ERR_OK);
    assert_int_equal(json_parse(&json, &arena, "true", 3, &error), ERR_FORMAT);
}

static void test_depth_and_room(void **state) {
    (void)state;
    char text[200];
    struct error error;
    const struct json *json;
    memset(text, '[', 33);
    memset(text + 32, ']', 32);
    assert_int_equal(json_parse(&json, &arena, text, 64, &error), ERR_OK);
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    assert_int_equal(json_parse(&json, &arena, text, 66, &error), ERR_LIMIT);
    memset(text, '[', sizeof text);
    assert_int_equal(json_parse(&json, &arena, text, sizeof text, &error), ERR_LIMIT);
    struct arena small;
    static const char object[] = "{\"a\": [1, 2, \"three\"], \"b\": {\"c\": null, \"d\": 1}}";
    for (size_t bytes = 1; bytes < 4096; bytes += 64) {
        assert_int_equal(arena_open(&small, bytes, &error), ERR_OK);
        enum error_code code = json_parse(&json, &small, object, strlen(object), &error);
        assert_true(code == (bytes > 3000 ? ERR_OK : code) &&
                    (code == ERR_OK || code == ERR_LIMIT));
        arena_close(&small);
    }
}

static void test_many_keys_are_quick(void **state) {
    (void)state;
    struct buffer buffer = {0};
    struct error error;
    const struct json *json;
    buffer_add_text(&buffer, "{");
    for (int i = 0; i < 200000; i++)
        buffer_printf(&buffer, "%s\"key%d\":%d", i ? "," : "", (i * 7919) % 200000, i);
    buffer_add_text(&buffer, "}");
    assert_false(buffer.failed);
    assert_int_equal(json_parse(&json, &arena, buffer.data, buffer.length, &error), ERR_OK);
    assert_int_equal(json->length, 200000);
    buffer_close(&buffer);
}

static void test_writer(void **state) {
    (void)state;
    struct buffer buffer = {0};
    struct json_writer writer = {.buffer = &buffer};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "text", "a\"\\\n\x01\x7f \xC3\xA9 \xFF");
    json_put_text(&writer, "nothing", NULL);
    json_begin_array(&writer, "list");
    json_put_int(&writer, NULL, INT64_MIN);
    json_put_double(&writer, NULL, 0.1);
    json_put_double(&writer, NULL, 1.0 / 3);
    json_put_double(&writer, NULL, NAN);
    json_put_float(&writer, NULL, 0.9F);
    json_put_float(&writer, NULL, 1e-6F);
    json_put_bool(&writer, NULL, true);
    json_begin_object(&writer, NULL);
    json_end_object(&writer);
    json_begin_array(&writer, NULL);
    json_end_array(&writer);
    json_end_array(&writer);
    json_put_bool(&writer, "last", false);
    json_end_object(&writer);
    assert_string_equal(
        buffer.data,
        "{\"text\":\"a\\\"\\\\\\n\\u0001\\u007f \xC3\xA9 \xEF\xBF\xBD\",\"nothing\":"
        "null,\"list\":[-9223372036854775808,0.1,0.3333333333333333,null,0.9,1e-06,true,{},[]"
        "],\"last\":false}");
    const struct json *back = parse(buffer.data);
    assert_true(json_get(back, "list")->child->next->next->number == 1.0 / 3);
    buffer_close(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_strings),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_depth_and_room),
                                       cmocka_unit_test(test_many_keys_are_quick),
                                       cmocka_unit_test(test_writer)};
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
