/* Progress as text: cli/progress.c, and where the driver writes it: cli/progress_view.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/progress.h"

static const struct progress_video videos[] = {
    {.name = "balloon",
     .phase = PHASE_RUNNING,
     .stage = "window",
     .windows = 10,
     .windows_done = 4,
     .step = 2,
     .steps = 4,
     .seconds = 60},
    {.name = "harbour-at-night-in-the-snow",
     .phase = PHASE_RUNNING,
     .stage = "keyframe",
     .windows = 2,
     .step = 1,
     .steps = 4,
     .seconds = 10},
    {.name = "bird",
     .phase = PHASE_DONE,
     .windows = 2,
     .windows_done = 2,
     .seconds = 10,
     .took = 4,
     .path = "out/demo-bird.mp4"},
    {.name = "car", .phase = PHASE_WAITING, .windows = 2, .seconds = 10},
    {.name = "house",
     .phase = PHASE_FAILED,
     .windows = 2,
     .seconds = 10,
     .error = "the disk is full"},
};
static const struct progress state_now = {
    .job = "demo", .videos = videos, .count = 5, .elapsed = 20, .done_at_start = 10};

static bool near(double a, double b) {
    return a - b < 1e-9 && b - a < 1e-9;
}

static void test_sums(void **state) {
    struct progress_sums sums;
    progress_sum(&sums, &state_now);
    assert_int_equal(sums.done, 1);
    assert_int_equal(sums.failed, 1);
    assert_int_equal(sums.running, 2);
    assert_true(near(sums.seconds, 90)); /* the failed one is not waited for */
    assert_true(near(progress_fraction(&videos[0]), 0.44));
    assert_true(near(sums.seconds_done, 60 * 0.44 + 10));
    assert_true(near(sums.speed, 60 * 0.44 / 20));
    assert_true(near(sums.left, (90 - 36.4) / sums.speed));
}

static void test_unknown_pace(void **state) {
    struct progress start = state_now;
    struct progress_sums sums;
    start.elapsed = 0;
    start.done_at_start = progress_done(&start);
    progress_sum(&sums, &start);
    assert_true(near(sums.left, -1));
    assert_true(near(sums.speed, 0));
}

static void test_empty(void **state) {
    static const struct progress empty = {.job = "none"};
    struct progress_style style = {.columns = 80, .rows = 24};
    struct buffer text = {0};
    int lines;
    progress_bars(&text, &lines, &empty, &style);
    progress_line(&text, &empty);
    progress_json(&text, &empty);
    assert_int_equal(lines, 1);
    buffer_close(&text);
}

/* Columns of each line, escape sequences not counted. */
static int widest_line(const char *text, int *lines) {
    int widest = 0, columns = 0;
    *lines = 0;
    for (; *text; text++) {
        if (*text == '\x1b') {
            text = strchr(text, 'm');
            continue;
        }
        if (*text == '\n') {
            widest = columns > widest ? columns : widest;
            columns = 0;
            ++*lines;
        } else if (((unsigned char)*text & 0xC0) != 0x80) {
            columns++;
        }
    }
    return widest;
}

static void test_fits_every_width(void **state) {
    for (int columns = 1; columns <= 250; columns++) {
        for (int form = 0; form < 4; form++) {
            struct progress_style style = {
                .columns = columns, .rows = 24, .utf8 = form & 1, .colour = form & 2};
            struct buffer text = {0};
            int lines, counted;
            progress_bars(&text, &lines, &state_now, &style);
            int widest = widest_line(text.data, &counted);
            if (columns >= 4 && widest > columns)
                fail_msg("%d columns in a terminal of %d:\n%s", widest, columns, text.data);
            assert_int_equal(lines, counted);
            buffer_close(&text);
        }
    }
}

static void test_few_rows(void **state) {
    struct progress_video many[100];
    struct progress crowd = {.job = "crowd", .videos = many, .count = 100};
    struct progress_style style = {.columns = 80, .rows = 10};
    struct buffer text = {0};
    int lines;
    for (int i = 0; i < 100; i++)
        many[i] = videos[0];
    progress_bars(&text, &lines, &crowd, &style);
    assert_true(lines < style.rows);
    assert_non_null(strstr(text.data, "and 93 more"));
    buffer_close(&text);
}

static void test_ascii(void **state) {
    struct progress_style style = {.columns = 100, .rows = 24};
    struct buffer text = {0};
    progress_bars(&text, NULL, &state_now, &style);
    for (const char *at = text.data; *at; at++)
        assert_true((unsigned char)*at < 0x80 && *at != '\x1b');
    assert_non_null(strstr(text.data, "balloon"));
    assert_non_null(strstr(text.data, " 44%  window 5/10 step 2/4\n"));
    assert_non_null(strstr(text.data, "1/5 videos, 1 failed"));
    buffer_close(&text);
}

static void test_utf8(void **state) {
    struct progress_style style = {.columns = 80, .rows = 24, .utf8 = true};
    struct buffer text = {0};
    progress_bars(&text, NULL, &state_now, &style);
    assert_non_null(strstr(text.data, "█"));
    assert_null(strchr(text.data, '\x1b'));
    buffer_close(&text);
}

static void test_ended(void **state) {
    struct progress_style style = {.columns = 80, .rows = 24};
    struct buffer text = {0};
    progress_ended(&text, &videos[0], &style);
    assert_int_equal(text.length, 0);
    progress_ended(&text, &videos[2], &style);
    assert_non_null(strstr(text.data, "2.5 times faster than real time: out/demo-bird.mp4\n"));
    progress_ended(&text, &videos[4], &style);
    assert_non_null(strstr(text.data, "house: failed: the disk is full\n"));
    struct progress_video earlier = videos[2];
    earlier.before = true;
    progress_ended(&text, &earlier, &style);
    assert_non_null(strstr(text.data, "already there: out/demo-bird.mp4\n"));
    buffer_close(&text);
}

static void test_json(void **state) {
    struct buffer text = {0};
    struct arena arena;
    struct error error;
    const struct json *root;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    progress_json(&text, &state_now);
    assert_ptr_equal(strchr(text.data, '\n'), text.data + text.length - 1);
    assert_int_equal(json_parse(&root, &arena, text.data, text.length, &error), ERR_OK);
    assert_int_equal(json_int(root, "done", -1), 1);
    assert_int_equal(json_get(root, "running")->length, 2);
    buffer_close(&text);
    progress_json_video(&text, &videos[4]);
    assert_int_equal(json_parse(&root, &arena, text.data, text.length, &error), ERR_OK);
    assert_string_equal(json_text(root, "error", ""), "the disk is full");
    buffer_close(&text);
    arena_close(&arena);
}

/* -- the driver
 * -------------------------------------------------------------------------------------- */

static int count_of(const char *text, const char *what) {
    int count = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        count++;
    return count;
}

/* What the driver writes when it is called `calls` times, `interval` ns apart. */
static char *show(enum progress_form form, int calls, int64_t interval) {
    struct progress_view *view;
    struct error error;
    FILE *stream = tmpfile();
    assert_int_equal(progress_open(&view, form, stream, stream, &error), ERR_OK);
    for (int i = 0; i < calls; i++)
        progress_show(view, &state_now, (i + 1) * interval);
    progress_close(&view);
    assert_null(view);
    size_t length = (size_t)ftell(stream);
    char *text = calloc(1, length + 1);
    rewind(stream);
    assert_int_equal(fread(text, 1, length, stream), length);
    fclose(stream);
    return text;
}

static void test_at_most_ten_a_second(void **state) {
    char *text = show(PROGRESS_BAR, 1000, CLOCK_MS); /* a thousand calls in a second */
    int drawn = count_of(text, "total");
    assert_true(drawn >= 9 && drawn <= 11);
    assert_int_equal(count_of(text, "demo-bird.mp4"), 1);
    assert_int_equal(count_of(text, "\x1b[?25l"), 1);
    assert_int_equal(count_of(text, "\x1b[?25h"), 1);
    free(text);
}

static void test_lines_become_rare(void **state) {
    char *text = show(PROGRESS_AUTO, 600, CLOCK_S); /* no terminal: lines, ten minutes of them */
    int lines = count_of(text, "demo: ");
    assert_null(strchr(text, '\x1b'));
    assert_true(lines >= 10 && lines <= 16);
    assert_int_equal(count_of(text, "house: failed"), 1);
    free(text);
}

static void test_json_lines(void **state) {
    char *text = show(PROGRESS_JSON, 100, CLOCK_MS * 100); /* ten seconds */
    assert_int_equal(count_of(text, "\"event\":\"video\""), 2);
    int lines = count_of(text, "\"event\":\"progress\"");
    assert_true(lines >= 9 && lines <= 11);
    free(text);
}

static void test_quiet(void **state) {
    char *text = show(PROGRESS_QUIET, 100, CLOCK_S);
    assert_int_equal(strlen(text), 0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_unknown_pace),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_fits_every_width),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_ascii),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_ended),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_at_most_ten_a_second),
        cmocka_unit_test(test_lines_become_rare),
        cmocka_unit_test(test_json_lines),
        cmocka_unit_test(test_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
