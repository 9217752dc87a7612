#include "base/error.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "tests/base/test.h"

static void test_names(void **state) {
    (void)state;
    assert_string_equal(error_name(ERR_SHAPE), "ERR_SHAPE");
    assert_string_equal(error_name((enum error_code)ERROR_CODE_COUNT), "unknown");
    assert_string_equal(error_name((enum error_code)(-1)), "unknown");
    assert_int_equal(error_exit_status(ERR_OK), 0);
    assert_int_equal(error_exit_status(ERR_USAGE), 2);
    assert_int_equal(error_exit_status(ERR_NETWORK), 3);
    assert_int_equal(error_exit_status(ERR_INTERRUPTED), 130);
    assert_int_equal(error_exit_status((enum error_code)1000), 1);
    assert_int_equal(error_class_of(ERR_IO), ERROR_CLASS_RETRY);
    assert_int_equal(error_class_of(ERR_FORMAT), ERROR_CLASS_FAIL_JOB);
    /* These numbers cross the wire: they never move. */
    assert_int_equal(ERR_FORMAT, 2);
    assert_int_equal(ERR_STALE, 13);
    assert_int_equal(ERR_INTERNAL, 16);
}

static void test_set_and_prefix(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(error_set(&error, ERR_FORMAT, "line %d\nsecond\x1b[m", 3), ERR_FORMAT);
    assert_string_equal(error.detail, "line 3 second [m");
    assert_int_equal(error_prefix(&error, "%s:", "job.yaml"), ERR_FORMAT);
    assert_string_equal(error.detail, "job.yaml:line 3 second [m");
    /* An argument may be the detail itself. */
    assert_int_equal(error_set(&error, ERR_IO, "again: %s", error.detail), ERR_IO);
    assert_string_equal(error.detail, "again: job.yaml:line 3 second [m");
    assert_int_equal(error_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
}

static void test_long_details_are_cut(void **state) {
    (void)state;
    char text[4096];
    for (size_t shift = 0; shift < 4; shift++) {
        struct error error;
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4); /* a euro sign: three bytes */
        assert_int_equal(error_set(&error, ERR_USAGE, "%s", text), ERR_USAGE);
        size_t length = strlen(error.detail);
        assert_in_range(length, ERROR_DETAIL_BYTES - 5, ERROR_DETAIL_BYTES - 1);
        assert_true(text_is_utf8(error.detail, length, NULL));
        assert_int_equal(error_prefix(&error, "%s", text), ERR_USAGE);
        assert_true(strlen(error.detail) < ERROR_DETAIL_BYTES);
    }
}

static void test_controls_are_blank(void **state) {
    struct error error = {0};
    error_set(&error, ERR_FORMAT, "tensor '%s'",
              "a\x1b[2J\xc2\x9b"
              "b\xc2\xb5\n");
    assert_string_equal(error.detail, "tensor 'a [2J  b\xc2\xb5 '");
}

static void test_errno(void **state) {
    (void)state;
    static const struct {
        int number;
        enum error_code code;
    } cases[] = {
        {ENOSPC, ERR_FULL},  {EDQUOT, ERR_FULL},  {ENOENT, ERR_MISSING},    {EACCES, ERR_DENIED},
        {EPERM, ERR_DENIED}, {EROFS, ERR_DENIED}, {ENOMEM, ERR_MEMORY},     {EIO, ERR_IO},
        {EISDIR, ERR_IO},    {ELOOP, ERR_USAGE},  {ENAMETOOLONG, ERR_USAGE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error;
        assert_int_equal(error_set_errno(&error, cases[i].number, "file %s", "f"), cases[i].code);
        assert_int_equal(error.code, cases[i].code);
        assert_memory_equal(error.detail, "file f: ", 8);
        assert_non_null(strstr(error.detail, strerror(cases[i].number)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_set_and_prefix),
        cmocka_unit_test(test_long_details_are_cut), cmocka_unit_test(test_controls_are_blank),
        cmocka_unit_test(test_errno)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
