/* Of a job on this device: keys that do nothing there are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/job_source.h"

static bool only_128(int index, int64_t head_dim) {
    return index == 1 && head_dim == 128;
}

static bool none(int index, int64_t head_dim) {
    (void)index, (void)head_dim;
    return false;
}

struct scene {
    struct job_source source;
    struct job_video video;
    struct job job;
    struct ops ops;
};

/* Two models: windows with heads of 128 channels, keyframes of 64. */
static struct scene *make_scene(void) {
    static struct scene s;
    memset(&s, 0, sizeof s);
    s.source.known_count = 2;
    snprintf(s.source.known[0].spec, sizeof s.source.known[0].spec, "wide");
    s.source.known[0].info.head_width = 128;
    snprintf(s.source.known[1].spec, sizeof s.source.known[1].spec, "small");
    s.source.known[1].info.head_width = 64;
    s.job = (struct job){.videos = &s.video, .video_count = 1};
    s.job.window.spec = "wide";
    s.job.keyframe.spec = "small";
    s.video.window.attention = s.video.keyframe.attention = JOB_ATTENTION_8BIT;
    s.ops = (struct ops){.name = "some", .attends_narrow = only_128};
    return &s;
}

/* What is said, of which there are so many lines. */
static void expect(const struct scene *s, enum dtype dtype, int lines, const char *what) {
    char *text = NULL;
    size_t length;
    int count = 0;
    FILE *to = open_memstream(&text, &length);
    assert_non_null(to);
    job_source_warn_device(to, &s->source, &s->job, &s->ops, 1, dtype);
    assert_int_equal(fclose(to), 0);
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    if (count != lines || strstr(text, what) == NULL)
        fail_msg("%d lines with \"%s\" expected: %s", lines, what, text);
    free(text);
}

static void where_it_has_no_effect(void **state) {
    (void)state;
    struct scene *s = make_scene();
    expect(s, DTYPE_BF16, 1,
           "warning: attention: 8bit has no effect with model small: its heads "
           "have 64 channels");
    expect(s, DTYPE_F32, 2, "model wide: it is of bf16, and --dtype f32");
    s->ops.attends_narrow = none;
    expect(s, DTYPE_BF16, 2, "model wide: device some has no int8 products");
    s->job.keyframe.spec = "wide"; /* once of a model */
    expect(s, DTYPE_BF16, 1, "");
}

static void where_nothing_is_to_be_said(void **state) {
    (void)state;
    struct scene *s = make_scene();
    struct job_file image = {.bytes = 1};
    s->video.image = &image; /* no keyframe is made */
    expect(s, DTYPE_BF16, 0, "");
    s->video.image = NULL;
    s->video.keyframe.attention = JOB_ATTENTION_EXACT;
    expect(s, DTYPE_BF16, 0, "");
    s->video.window.attention = JOB_ATTENTION_EXACT;
    expect(s, DTYPE_F32, 0, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_it_has_no_effect),
        cmocka_unit_test(where_nothing_is_to_be_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
