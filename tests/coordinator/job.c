/* What the job reader makes of good files, and of files as long as they may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "fake.h"
#include "proto/limits.h"

#define HEAD  "model: pocket\nvideos:\n"
#define VIDEO HEAD "  - {prompt: a, seconds: 1, "

static void test_example(void **state) {
    struct job *job = fake_job("job: harbour\n"
                               "model: pocket\n"
                               "output: {path: \"out/{job}-{video}.mp4\", size: 160x96, fps: 16,"
                               " codec: h264, quality: 18}\n"
                               "defaults: {seconds: 10, seed: 1, steps: 4}\n"
                               "videos:\n"
                               "  - name: balloon\n"
                               "    prompt: a red hot air balloon over the sea at night\n"
                               "    motion: it rises\n"
                               "    seconds: 60\n"
                               "  - name: day\n"
                               "    prompt: a boat\n"
                               "    image: first-frame.png\n"
                               "    seeds: 1..8\n"
                               "    shots:\n"
                               "      - {seconds: 20, motion: it moves left}\n"
                               "      - {seconds: 40, motion: it sinks}\n");
    assert_int_equal(job->video_count, 9);
    assert_string_equal(job->name, "harbour");
    const struct job_video *video = &job->videos[0];
    assert_string_equal(video->name, "balloon");
    assert_string_equal(video->output.path, "out/harbour-balloon.mp4");
    assert_int_equal(video->frames, 960);
    assert_int_equal(video->seed, 1);
    assert_int_equal(video->shot_count, 1);
    assert_string_equal(video->shots[0].motion, "it rises");
    assert_int_equal(video->output.quality, 18);
    assert_int_equal(video->output.container, JOB_CONTAINER_MP4);
    assert_null(video->image);
    video = &job->videos[8];
    assert_string_equal(video->name, "day-s8");
    assert_int_equal(video->seed, 8);
    assert_int_equal(video->frames, 960);
    assert_int_equal(video->shot_count, 2);
    assert_int_equal(video->shots[0].frames, 320);
    assert_string_equal(video->shots[1].motion, "it sinks");
    assert_string_equal(video->shots[1].prompt, "a boat");
    assert_string_equal(video->image_name, "first-frame.png");
    assert_ptr_equal(video->image, job->videos[1].image);
    assert_int_equal(video->window.steps, 4);
    job_close(&job);
    assert_null(job);
    job_close(&job);
}

static void test_defaults_and_layers(void **state) {
    struct job *job =
        fake_job("model: {keyframe: pocket, window: wan}\n"
                 "output: {size: [320, 192], fps: 30000/1001}\n"
                 "defaults: {seeds: [3, 5..6], guidance: 2.5, negative: blur}\n"
                 "videos:\n"
                 "  - {prompt: a, frames: 7, seed: 9, output: {path: \"x/./y//{video}\"}}\n"
                 "  - {prompt: \"  b \\n\", seconds: 2, sampler: renoise}\n");
    assert_string_equal(job->name, "job");
    assert_int_equal(job->video_count, 4);
    const struct job_video *video = &job->videos[0];
    assert_string_equal(video->name, "video-001");
    assert_string_equal(video->output.path, "x/y/video-001");
    assert_int_equal(video->output.container, JOB_CONTAINER_FOLDER);
    assert_int_equal(video->output.codec, JOB_CODEC_PNG);
    assert_int_equal(video->output.width, 320);
    assert_int_equal(video->output.fps_numerator, 30000);
    assert_int_equal(video->output.fps_denominator, 1001);
    assert_int_equal(video->output.quality, -1);
    assert_int_equal(video->seed, 9);
    assert_string_equal(video->negative, "blur");
    assert_true(video->window.guidance == 2.5 && video->keyframe.guidance == 2.5);
    assert_int_equal(video->window.steps, 50);
    assert_int_equal(video->keyframe.steps, 4);
    assert_int_equal(video->window.sampler, JOB_SAMPLER_UNIPC);
    video = &job->videos[1];
    assert_string_equal(video->name, "video-002-s3");
    assert_string_equal(video->shots[0].prompt, "b");
    assert_string_equal(video->output.path, "out/job-video-002-s3.mp4");
    assert_int_equal(video->frames, 60); /* 59.94 */
    assert_int_equal(video->window.sampler, JOB_SAMPLER_RENOISE);
    assert_int_equal(job->videos[3].seed, 6);
    job_close(&job);
}

static void test_end_image(void **state) {
    struct job *job = fake_job("model: ends\nvideos:\n"
                               "  - {prompt: a, frames: 25, end_image: b.png, image: a.png}\n"
                               "  - {prompt: a, frames: 5, image: b.png, end_image: b.png}\n");
    assert_string_equal(job->videos[0].end_name, "b.png");
    assert_ptr_equal(job->videos[0].end, job->videos[1].end);
    assert_ptr_equal(job->videos[1].image, job->videos[1].end);
    assert_ptr_not_equal(job->videos[0].image, job->videos[0].end);
    job_close(&job);
    job = fake_job("model: between\nvideos: [{prompt: a, frames: 17, end_image: b.png}]");
    job_close(&job);
}

/* Names of files in other scripts do not all become the same. */
static void test_names_of_files(void **state) {
    static const char *const files[] = {"x/\xD0\xB0.yaml", "x/\xD0\xB1.yaml", "my job.yaml"};
    struct job_resolver resolver = fake_resolver(&(struct fake){0});
    static const char text[] = HEAD "  - {name: v1.5, prompt: a, seconds: 1, output: {codec: png}}";
    struct job *jobs[3];
    struct error error = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(job_parse(&jobs[i], files[i], text, sizeof text - 1, &resolver, &error),
                         ERR_OK);
    assert_memory_equal(jobs[0]->name, "job-", 4);
    assert_int_equal(strlen(jobs[0]->name), 12);
    assert_string_not_equal(jobs[0]->name, jobs[1]->name);
    assert_string_equal(jobs[2]->name, "my-job");
    /* A dot in a video's name makes no extension of a folder. */
    assert_string_equal(jobs[2]->videos[0].output.path, "out/my-job-v1.5");
    assert_int_equal(jobs[2]->videos[0].output.container, JOB_CONTAINER_FOLDER);
    for (int i = 0; i < 3; i++)
        job_close(&jobs[i]);
}

static void test_limits(void **state) {
    struct job_resolver resolver = fake_resolver(&(struct fake){0});
    struct error error = {0};
    struct job *job = NULL;
    struct buffer yaml = {0};
    buffer_add_text(&yaml, VIDEO "name: a}\n  - {seconds: 1, prompt: \"");
    for (int i = 0; i < LIMIT_PROMPT_BYTES; i++)
        buffer_add_text(&yaml, "x");
    size_t mark = yaml.length;
    buffer_add_text(&yaml, "\"}\n");
    assert_int_equal(job_parse(&job, "j.yaml", yaml.data, yaml.length, &resolver, &error), ERR_OK);
    job_close(&job);
    yaml.length = mark;
    buffer_add_text(&yaml, "x\"}\n");
    assert_int_equal(job_parse(&job, "j.yaml", yaml.data, yaml.length, &resolver, &error),
                     ERR_LIMIT);
    assert_string_equal(error.detail, "j.yaml:4:26: prompt: a text of 4097 bytes; at most 4096");
    yaml.length = 0;
    buffer_add_text(&yaml, HEAD "  - {seconds: 1, prompt: a, seeds: 1..100000}\n  - {seconds: 1, "
                                "prompt: a}\n");
    assert_int_equal(job_parse(&job, "j.yaml", yaml.data, yaml.length, &resolver, &error),
                     ERR_LIMIT);
    assert_string_equal(error.detail, "j.yaml:4:5: more than 100000 videos in one job");
    buffer_close(&yaml);
}

/* Ten thousand videos are read, and written and read again, without work that grows faster than
 * they do: a generous bound, to catch a square. */
static void test_many(void **state) {
    struct buffer yaml = {0}, document = {0};
    buffer_add_text(&yaml, HEAD);
    for (int i = 0; i < 10000; i++)
        buffer_printf(&yaml,
                      "  - {name: v%d, prompt: a red balloon number %d, motion: it rises, "
                      "seconds: 60, seed: %d}\n",
                      i, i, i);
    struct job_resolver resolver = fake_resolver(&(struct fake){0});
    struct error error = {0};
    struct job *job = NULL, *again = NULL;
    clock_t start = clock();
    assert_int_equal(job_parse(&job, "j.yaml", yaml.data, yaml.length, &resolver, &error), ERR_OK);
    clock_t parsed = clock();
    job_write(&document, job);
    assert_int_equal(job_load(&again, document.data, document.length, &error), ERR_OK);
    clock_t loaded = clock();
    assert_int_equal(again->video_count, 10000);
    print_message("10,000 videos: read %.0f ms, written and loaded %.0f ms, %zu bytes\n",
                  (double)(parsed - start) * 1e3 / CLOCKS_PER_SEC,
                  (double)(loaded - parsed) * 1e3 / CLOCKS_PER_SEC, document.length);
    job_close(&job);
    job_close(&again);
    buffer_close(&yaml);
    buffer_close(&document);
}

_Static_assert(LIMIT_PARAMETERS_BYTES + 1024 <= PROTO_PARAMETERS_BYTES,
               "a mux lease fits the wire, with names of seeds");

/* `shots` shots of a second, each with a motion of 4096 bytes that differs from the one before. */
static enum error_code parse_long_shots(int shots, bool same, struct error *error) {
    struct buffer yaml = {0};
    struct fake fake = {0};
    struct job_resolver resolver = fake_resolver(&fake);
    struct job *job = NULL;
    buffer_printf(&yaml, HEAD "  - {prompt: a, seeds: 1..3, seconds: %d, shots: [", shots);
    for (int i = 0; i < shots; i++)
        buffer_printf(&yaml, "%s{seconds: 1, motion: m%04095d}", i ? ", " : "", same ? 0 : i % 2);
    buffer_add_text(&yaml, "]}\n");
    enum error_code code = job_parse(&job, "job.yaml", yaml.data, yaml.length, &resolver, error);
    buffer_close(&yaml);
    job_close(&job);
    return code;
}

static void test_provenance_fits(void **state) {
    struct error error = {0};
    assert_int_equal(parse_long_shots(14, false, &error), ERR_OK);
    assert_int_equal(parse_long_shots(200, true, &error), ERR_OK);
    assert_int_equal(parse_long_shots(15, false, &error), ERR_LIMIT);
    assert_memory_equal(error.detail, "job.yaml:3:", 11);
    assert_non_null(strstr(error.detail, "shots: the texts that the finished file names take"));
    assert_non_null(strstr(error.detail, "at most 61440: shorten them, or make several videos"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),         cmocka_unit_test(test_defaults_and_layers),
        cmocka_unit_test(test_end_image),       cmocka_unit_test(test_names_of_files),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_many),
        cmocka_unit_test(test_provenance_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
