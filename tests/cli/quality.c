/* What is told of a video's measures: cli/quality.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/quality.h"

static void expect_warning(const struct quality *quality, const char *expected) {
    struct buffer text = {0};
    quality_warn(&text, "boat", quality);
    assert_string_equal(text.length ? text.data : "", expected);
    buffer_close(&text);
}

static void test_warnings(void **state) {
    expect_warning(&(struct quality){.drift = 0.9, .seam = 0.9}, "");
    expect_warning(&(struct quality){.drift = 0.2, .drift_limit = 0.2, .redraws = 1}, "");
    expect_warning(
        &(struct quality){
            .drift = 0.238, .seam = 0.1, .drift_limit = 0.2, .seam_limit = 0.5, .redraws = 4},
        "warning: boat: drift 0.238 is past the limit of 0.2 after 4 redraws\n");
    expect_warning(&(struct quality){.drift = 0.2, .seam = 0.1, .seam_limit = 0.05, .redraws = 1},
                   "warning: boat: seam 0.1 is past the limit of 0.05 after 1 redraw\n");
    expect_warning(
        &(struct quality){.drift = 0.3, .seam = 0.1, .drift_limit = 0.2, .seam_limit = 0.05},
        "warning: boat: drift 0.3 is past the limit of 0.2 and seam 0.1 is past the limit of "
        "0.05: the job asks for no redraws\n");
}

static void test_columns(void **state) {
    struct buffer head = {0}, cells = {0};
    for (int redraws = 0; redraws < 2; redraws++) {
        for (int measured = 0; measured < 2; measured++) {
            const struct quality quality = {.drift = 0.125 * measured, .redraws = 3};
            quality_put_head(&head, redraws);
            quality_put_cells(&cells, &quality, redraws);
            assert_int_equal(head.length, cells.length);
            assert_int_equal(strstr(head.data, "redraws") != NULL, redraws);
            assert_int_equal(strstr(cells.data, "0.125") != NULL, measured);
            assert_int_equal(strstr(cells.data, "-") != NULL, !measured);
            buffer_close(&head);
            buffer_close(&cells);
        }
    }
}

static void test_json(void **state) {
    static const struct {
        unsigned past;
        const char *expected;
    } rows[] = {{0, "[]"},
                {QUALITY_DRIFT, "[\"drift\"]"},
                {QUALITY_SEAM, "[\"seam\"]"},
                {QUALITY_DRIFT | QUALITY_SEAM, "[\"drift\",\"seam\"]"}};
    const struct quality quality = {.drift = 0.5, .seam = 0.25, .redraws = 2};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buffer text = {0};
        struct json_writer writer = {.buffer = &text};
        char expected[128];
        json_begin_object(&writer, NULL);
        quality_put_json(&writer, &quality, rows[i].past);
        json_end_object(&writer);
        snprintf(expected, sizeof expected,
                 "{\"drift\":0.5,\"seam\":0.25,\"redraws\":2,\"past_limits\":%s}",
                 rows[i].expected);
        assert_string_equal(text.data, expected);
        buffer_close(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
