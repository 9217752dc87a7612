#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/base/test.h"

static void test_adding(void **state) {
    (void)state;
    struct buffer buffer = {0};
    char expected[4096] = "";
    for (int i = 0; i < 300; i++) {
        buffer_printf(&buffer, "%d,", i);
        (void)snprintf(expected + strlen(expected), 8, "%d,", i);
    }
    buffer_add(&buffer, "a\0b", 3);
    buffer_add(&buffer, NULL, 0);
    assert_int_equal(buffer.length, strlen(expected) + 3);
    assert_int_equal(buffer.data[buffer.length], 0);
    assert_memory_equal(buffer.data, expected, strlen(expected));
    char *taken = buffer_take(&buffer);
    assert_non_null(taken);
    assert_null(buffer.data);
    free(taken);
    taken = buffer_take(&buffer);
    assert_string_equal(taken, "");
    free(taken);
}

static void test_long_format(void **state) {
    (void)state;
    struct buffer buffer = {0};
    char text[1000];
    for (size_t length = 250; length < 260; length++) { /* around the formatting buffer */
        memset(text, 'x', length);
        text[length] = '\0';
        buffer_printf(&buffer, "<%s>", text);
        assert_int_equal(buffer.length, length + 2);
        assert_int_equal(buffer.data[length + 1], '>');
        buffer_close(&buffer);
    }
}

static void test_failure_is_sticky(void **state) {
    (void)state;
    struct buffer buffer = {0};
    buffer_add_text(&buffer, "here");
    buffer_add(&buffer, NULL, SIZE_MAX - 2); /* refused before anything is read */
    assert_true(buffer.failed);
    buffer_add_text(&buffer, "more");
    buffer_printf(&buffer, "%d", 1);
    assert_int_equal(buffer.length, 4);
    assert_null(buffer_take(&buffer));
    assert_false(buffer.failed);
    buffer_close(&buffer);
}

static void test_shown(void **state) {
    struct buffer buffer = {0};
    buffer_add_shown(&buffer, "a\x1b[31m\a\nb\x7f\xc2\x9b"
                              "c\xc3\xa9\xc2\xa0\xc2");
    assert_string_equal(buffer.data, "a?[31m??b??c\xc3\xa9\xc2\xa0\xc2");
    buffer_add_shown(&buffer, "");
    assert_int_equal(buffer.length, strlen(buffer.data));
    buffer_close(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adding), cmocka_unit_test(test_long_format),
        cmocka_unit_test(test_failure_is_sticky), cmocka_unit_test(test_shown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
