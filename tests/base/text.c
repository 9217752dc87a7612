#include "base/text.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tests/base/test.h"

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int bad; /* offset of the first bad byte, -1: none */
    } cases[] = {{"", -1},
                 {"plain", -1},
                 {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8E\x88", -1},
                 {"\xF4\x8F\xBF\xBF", -1},
                 {"\xEF\xBF\xBF", -1},
                 {"a\x80", 1},            /* a lone continuation byte */
                 {"ab\xC3", 2},           /* cut */
                 {"\xE2\x82", 0},         /* cut */
                 {"\xF0\x9F\x8E", 0},     /* cut */
                 {"\xC0\x80", 0},         /* overlong */
                 {"\xC1\xBF", 0},         /* overlong */
                 {"\xE0\x9F\xBF", 0},     /* overlong */
                 {"\xF0\x8F\xBF\xBF", 0}, /* overlong */
                 {"x\xED\xA0\x80", 1},    /* surrogate */
                 {"\xF4\x90\x80\x80", 0}, /* past U+10FFFF */
                 {"\xF5\x80\x80\x80", 0}, /* past U+10FFFF */
                 {"\xFF", 0},
                 {"\xC3(", 0},
                 {"\xE2\x82(", 0},
                 {"\xF0\x9F\x8E(", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t where = 99;
        bool good = text_is_utf8(cases[i].text, strlen(cases[i].text), &where);
        assert_int_equal(good, cases[i].bad < 0);
        assert_int_equal(where, cases[i].bad < 0 ? 99 : cases[i].bad);
    }
    assert_true(text_is_utf8("a\0b", 3, NULL));
    assert_false(text_is_utf8("\xFF", 1, NULL));
}

static void test_points(void **state) {
    (void)state;
    for (uint32_t point = 0, found; point <= 0x10FFFF; point++) {
        char bytes[4];
        size_t length = text_put_point(bytes, point);
        bool surrogate = point >= 0xD800 && point <= 0xDFFF;
        assert_int_equal(text_next_point(&found, bytes, length), surrogate ? 0 : length);
        if (!surrogate)
            assert_int_equal(found, point);
        assert_int_equal(text_next_point(&found, bytes, length - 1), 0); /* cut */
    }
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const keys[] = {"job",    "model", "output", "defaults",
                                       "videos", "seed",  "steps",  NULL};
    assert_string_equal(text_nearest("modle", keys), "model"); /* a transposition */
    assert_string_equal(text_nearest("Seed", keys), "seed");   /* case */
    assert_string_equal(text_nearest("default", keys), "defaults");
    assert_string_equal(text_nearest("step", keys), "steps");
    assert_string_equal(text_nearest("vidoes", keys), "videos");
    assert_null(text_nearest("xyz", keys));
    assert_null(text_nearest("", keys));
    assert_null(text_nearest("something else altogether", keys));
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[199] = '\0';
    assert_null(text_nearest(longest, keys));
    const char *const only_long[] = {longest, NULL};
    assert_null(text_nearest("aaa", only_long));
    longest[64] = '\0';
    assert_string_equal(text_nearest(longest, only_long), longest);
}

static void test_ends_with(void **state) {
    (void)state;
    assert_true(text_ends_with("a.json", ".json"));
    assert_false(text_ends_with(".json", ".json")); /* nothing before it */
    assert_false(text_ends_with("a.jso", ".json"));
    assert_false(text_ends_with("a.json.old", ".json"));
    assert_false(text_ends_with("", "x"));
}

static void test_int(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0},
                {"-7", -7},
                {"+12", 12},
                {"007", 7},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value = 1;
        assert_true(text_to_int(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    static const char *const bad[] = {"",
                                      "-",
                                      "+",
                                      " 1",
                                      "1 ",
                                      "1_000",
                                      "0x10",
                                      "1.0",
                                      "1e3",
                                      "--1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value = 5;
        assert_false(text_to_int(bad[i], &value));
        assert_int_equal(value, 5);
    }
}

static void test_double(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0}, {"1.5", 1.5}, {"-2e3", -2000}, {".5", 0.5}, {"3.", 3}, {"1E-2", 0.01}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = 1;
        assert_true(text_to_double(good[i].text, &value));
        assert_true(value == good[i].value);
    }
    static const char *const bad[] = {"",    ".",    "-",  "nan", "inf", "-inf", "1e999", "0x1p3",
                                      " 1.", "1.5 ", "1e", "1e+", "1,5", "1_0",  "e5",    "1.2.3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value = 5;
        assert_false(text_to_double(bad[i], &value));
        assert_true(value == 5);
    }
}

static void test_bytes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"7B", 7},
                {"6GiB", UINT64_C(6) << 30},
                {"1.5 MiB", 3 << 19},
                {"0.5kB", 500},
                {"2 GB", 2000000000},
                {"8388607TiB", UINT64_C(8388607) << 40}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 1;
        assert_true(text_to_bytes(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {
        "",      " 6GiB",      "6 ",    "6GiB ",   "6G",
        "6gib",  "-1GiB",      "1e3MB", "1.2.3MB", "GiB",
        "6  GB", "8388608TiB", ".",     "1 B B",   "99999999999999999999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 5;
        assert_false(text_to_bytes(bad[i], &bytes));
        assert_int_equal(bytes, 5);
    }
}

static void test_sizes_and_times(void **state) {
    (void)state;
    char out[32];
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {12288, "12 KiB"},
                 {(1u << 20) - 1, "1.0 MiB"},
                 {3u << 29, "1.5 GiB"},
                 {UINT64_MAX, "16 EiB"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_string_equal(text_bytes(out, sizes[i].bytes), sizes[i].text);
    static const struct {
        double seconds;
        const char *text;
    } times[] = {{0, "0 ms"},          {0.05, "50 ms"},        {0.5, "0.5 s"},
                 {12.34, "12.3 s"},    {59.96, "1 min 00 s"},  {125, "2 min 05 s"},
                 {3720, "1 h 02 min"}, {3599.9, "1 h 00 min"}, {360000, "100 h 00 min"},
                 {-1, "unknown"},      {INFINITY, "unknown"},  {NAN, "unknown"}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        assert_string_equal(text_duration(out, times[i].seconds), times[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),    cmocka_unit_test(test_points),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_ends_with),
        cmocka_unit_test(test_int),     cmocka_unit_test(test_double),
        cmocka_unit_test(test_bytes),   cmocka_unit_test(test_sizes_and_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
