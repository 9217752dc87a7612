/* Benchmark reports: cli/report.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/report.h"

static struct report sample(double speed, double memory) {
    struct report report = {.version = "0.1.0", .device = "a CPU", .class = "cpu-1"};
    report_add(&report, speed, "GFLOP/s", "linear bf16 M%d", 512)->share = 0.9;
    report_add(&report, memory, "MiB", "pocket peak memory")->lower_better = true;
    return report;
}

static void test_round_trip(void **state) {
    struct report before = sample(100, 50), after;
    struct buffer text = {0};
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    report_json(&text, &before);
    assert_int_equal(report_parse(&after, "r.json", text.data, text.length, &arena, &error),
                     ERR_OK);
    assert_int_equal(after.count, 2);
    assert_string_equal(after.rows[0].name, "linear bf16 M512");
    assert_true(after.rows[0].value > 99.9 && after.rows[0].value < 100.1);
    assert_true(after.rows[1].lower_better && !after.rows[0].lower_better);
    assert_string_equal(after.class, "cpu-1");
    buffer_close(&text);
    arena_close(&arena);
}

static void test_compare(void **state) {
    static const struct {
        double speed, memory;
        int regressions;
    } rows[] = {{100, 50, 0}, {89, 50, 1}, {91, 50, 0}, {200, 10, 0}, {100, 56, 1}, {50, 90, 2}};
    struct report then = sample(100, 50);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct report now = sample(rows[i].speed, rows[i].memory);
        struct buffer text = {0};
        assert_int_equal(report_compare(&text, &now, &then, 0.1), rows[i].regressions);
        assert_int_equal(strstr(text.data, "REGRESSION") != NULL, rows[i].regressions > 0);
        buffer_close(&text);
    }
}

static void test_rows_that_came_and_went(void **state) {
    struct report then = sample(100, 50), now = sample(100, 50);
    struct buffer text = {0};
    report_add(&now, 1, "x", "new one");
    report_add(&then, 1, "x", "old one");
    assert_int_equal(report_compare(&text, &now, &then, 0.1), 0);
    assert_non_null(strstr(text.data, "new one"));
    assert_non_null(strstr(text.data, "old one"));
    assert_non_null(strstr(text.data, "gone"));
    buffer_close(&text);
}

static void test_not_a_report(void **state) {
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"format\":1}",
                                        "{\"format\":2,\"rows\":[]}",
                                        "{\"format\":1,\"rows\":[{\"name\":\"a\"}]}",
                                        "{\"format\":1,\"rows\":[3]}"};
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        static struct report report;
        assert_int_equal(
            report_parse(&report, "r.json", texts[i], strlen(texts[i]), &arena, &error),
            ERR_FORMAT);
        assert_non_null(strstr(error.detail, "r.json:"));
    }
    arena_close(&arena);
}

static void test_full(void **state) {
    static struct report report;
    for (int i = 0; i < REPORT_ROWS_MAX; i++)
        assert_non_null(report_add(&report, i, "x", "row %d", i));
    assert_null(report_add(&report, 0, "x", "one too many"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_rows_that_came_and_went),
        cmocka_unit_test(test_not_a_report),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
