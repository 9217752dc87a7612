/* The job reader: what it makes of good files, what it says to bad ones, and that
 * configs/job.schema.json says the same to editors. */
#include <math.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/text.h"
#include "base/yaml.h"
#include "coordinator/job.h"
#include "coordinator/plan.h"
#include "fake.h"
#include "proto/limits.h"

#define HEAD  "model: pocket\nvideos:\n"
#define VIDEO HEAD "  - {prompt: a, seconds: 1, "

/* -- good files ------------------------------------------------------------------------------- */

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

static void expect_sampling(const struct job_sampling *is, const struct job_sampling *expected) {
    assert_int_equal(is->sampler, expected->sampler);
    assert_int_equal(is->steps, expected->steps);
    assert_true(is->guidance == expected->guidance && is->shift == expected->shift);
    assert_true(is->guidance_low == expected->guidance_low);
    assert_int_equal(is->attention, expected->attention);
    assert_int_equal(is->sigmas != NULL, expected->sigmas != NULL);
    for (int i = 0; is->sigmas && expected->sigmas && i <= is->steps; i++)
        assert_true(fabs(is->sigmas[i] - expected->sigmas[i]) < 1e-12);
}

/* Steps in every form, for both stages or one; what is nearer wins, and within a layer the stage.
 */
static void test_sampling(void **state) {
    struct job *job = fake_job(
        "model: {keyframe: pocket, window: experts}\n"
        "defaults: {steps: 8, guidance: 2, window: {sampler: unipc}}\n"
        "videos:\n"
        "  - {prompt: a, seconds: 1}\n"
        "  - {prompt: a, seconds: 1, steps: published, keyframe: {steps: 6, guidance: 3}}\n"
        "  - {prompt: a, seconds: 1, window: {steps: published, guidance: 1}, guidance: 5}\n"
        "  - {prompt: a, seconds: 1, sigmas: [1, 0.25], guidance_low: 7}\n"
        "  - {prompt: a, seconds: 1, timesteps: [1000, 500, 0], shift: 5, seeds: 1..2}\n"
        "  - {prompt: a, seconds: 1, window: {guidance: 1}}\n");
    const enum job_sampler euler = JOB_SAMPLER_EULER, unipc = JOB_SAMPLER_UNIPC,
                           renoise = JOB_SAMPLER_RENOISE;
    const double half[] = {1, 0.5, 0}, quarter[] = {1, 0.25, 0}, shifted[] = {1, 5.0 / 6, 0};
    const enum job_attention exact = JOB_ATTENTION_EXACT;
    const struct job_sampling expected[][2] = {
        {{euler, 8, 2, 0, 3, NULL, exact}, {unipc, 8, 2, 0, 3, NULL, exact}},
        {{euler, 6, 3, 0, 3, NULL, exact}, {renoise, 2, 1, 0, 3, half, exact}},
        {{euler, 8, 5, 0, 3, NULL, exact}, {renoise, 2, 1, 0, 3, half, exact}},
        {{euler, 2, 2, 0, 3, quarter, exact}, {unipc, 2, 2, 7, 3, quarter, exact}},
        {{euler, 2, 2, 0, 5, shifted, exact}, {unipc, 2, 2, 0, 5, shifted, exact}},
        {{euler, 2, 2, 0, 5, shifted, exact}, {unipc, 2, 2, 0, 5, shifted, exact}},
        {{euler, 8, 2, 0, 3, NULL, exact}, {unipc, 8, 1, 0, 3, NULL, exact}},
    };
    for (int i = 0; i < 7; i++) {
        expect_sampling(&job->videos[i].keyframe, &expected[i][0]);
        expect_sampling(&job->videos[i].window, &expected[i][1]);
    }
    assert_ptr_equal(job->videos[4].window.sigmas, job->videos[5].window.sigmas);
    assert_true(job_sampling_is_guided(&job->videos[3].window));
    assert_false(job_sampling_is_guided(&job->videos[6].window));
    job_close(&job);
    job = fake_job("model: experts\nvideos: [{prompt: a, seconds: 1}]");
    expect_sampling(&job->videos[0].window, &(struct job_sampling){euler, 4, 4, 3, 3, NULL, exact});
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

static void test_lists(void **state) {
    struct fake fake = {
        .files = {{"p.txt", "\xEF\xBB\xBF# comment\n\n a red ball \r\n12\n"},
                  {"p.csv", "name,prompt,motion,seeds\r\n"
                            "one,\"a \"\"red\"\" ball, big\r\nround\",,\r\n"
                            "\r\n"
                            ",second,it falls,2..3"},
                  {"p.jsonl",
                   "{\"prompt\": \"j\", \"seconds\": 1.5, \"output\": {\"fps\": 8}}\n"
                   "\n{\"name\": \"k\", \"prompt\": \"\\u00e9\", \"seeds\": [1, \"4..4\"]}"}}};
    struct job_resolver resolver = fake_resolver(&fake);
    struct job *job = NULL;
    struct error error = {0};
    const char *yaml = "model: pocket\ndefaults: {seconds: 2}\nvideos:\n"
                       "  - {file: p.txt, name: t, motion: it rolls}\n"
                       "  - {prompt: between}\n"
                       "  - {file: p.csv, seconds: 3}\n"
                       "  - {file: p.jsonl}\n";
    assert_int_equal(job_parse(&job, "a/b/lists.yaml", yaml, strlen(yaml), &resolver, &error),
                     ERR_OK);
    static const char *const names[] = {"t-001",     "t-002",        "video-003",
                                        "one",       "video-005-s2", "video-005-s3",
                                        "video-007", "k-s1",         "k-s4"};
    assert_int_equal(job->video_count, 9);
    for (int i = 0; i < 9; i++)
        assert_string_equal(job->videos[i].name, names[i]);
    assert_string_equal(job->name, "lists");
    assert_string_equal(job->videos[0].shots[0].prompt, "a red ball");
    assert_string_equal(job->videos[1].shots[0].prompt, "12");
    assert_string_equal(job->videos[1].shots[0].motion, "it rolls");
    assert_string_equal(job->videos[3].shots[0].prompt, "a \"red\" ball, big\r\nround");
    assert_int_equal(job->videos[3].frames, 48);
    assert_int_equal(job->videos[6].frames, 12);
    assert_string_equal(job->videos[8].shots[0].prompt, "é");
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

/* A model may have a shift of its own for small videos. */
static void test_small_shift(void **state) {
    struct job *job = fake_job("model: sized\nvideos:\n"
                               "  - {prompt: p, frames: 17, output: {size: 96x160}}\n"
                               "  - {prompt: p, frames: 17, output: {size: 176x96}}\n"
                               "  - {prompt: p, frames: 17, output: {size: 96x96}, shift: 7}\n");
    static const double expected[] = {2, 3, 7};
    for (int i = 0; i < 3; i++)
        assert_true(job->videos[i].window.shift == expected[i]);
    job_close(&job);
}

/* An expert that is named is kept, for the model that has some. */
static void test_document_experts(void **state) {
    struct job *job = fake_job("model: {keyframe: pocket, window: experts}\nlora:\n"
                               "  - {file: a.safetensors, expert: low}\n"
                               "  - {file: b.safetensors}\n"
                               "  - {file: c.safetensors, expert: both}\n"
                               "videos: [{prompt: p, frames: 17, seed: 1}]\n");
    static const enum job_expert expected[] = {JOB_EXPERT_LOW, JOB_EXPERT_BY_NAME, JOB_EXPERT_BOTH};
    struct buffer text = {0};
    struct job *again = NULL;
    struct error error = {0};
    job_write(&text, job);
    assert_int_equal(job_load(&again, text.data, text.length, &error), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(again->keyframe.loras[i].expert, JOB_EXPERT_BY_NAME);
        assert_int_equal(again->window.loras[i].expert, expected[i]);
    }
    char *word = strstr(text.data, ",\"low\"");
    assert_non_null(word);
    word[4] = 'l'; /* "lol" */
    job_close(&again);
    assert_int_equal(job_load(&again, text.data, text.length, &error), ERR_FORMAT);
    buffer_close(&text);
    job_close(&again);
    job_close(&job);
}

static void test_document(void **state) {
    struct job *job = fake_job(
        "job: d\nmodel: {keyframe: pocket, window: ends}\nlora: [{file: l.safetensors, strength: "
        "0.5}]\noutput: {size: 320x192}\nvideos:\n"
        "  - {name: a, prompt: \"q\\\"\\u00e9\\n x\", negative: n, seconds: 3, seeds: 1..3,"
        " noise: torch, windows: last_frame, limits: {drift: 0.25, redraws: 3}, guidance: 1.7,"
        " window: {timesteps: [1000, 700, 300], shift: 2, attention: 8bit}, keyframe: {steps: "
        "published}}\n"
        "  - {name: c, prompt: p, image: i.png, end_image: e.png, frames: 17, sigmas: [0.9, 0.3]}\n"
        "  - {name: b, prompt: p, image: i.png, shots: [{seconds: 1}, {seconds: 2, motion: m}],"
        " output: {path: b.mov, codec: prores, overwrite: true, fps: 12.5}}\n");
    struct buffer first = {0}, second = {0};
    job_write(&first, job);
    struct job *again = NULL;
    struct error error = {0};
    assert_false(first.failed);
    assert_int_equal(job_load(&again, first.data, first.length, &error), ERR_OK);
    job_write(&second, again);
    assert_string_equal(first.data, second.data);
    assert_int_equal(again->video_count, 5);
    for (int i = 0; i < 5; i++) {
        expect_sampling(&again->videos[i].keyframe, &job->videos[i].keyframe);
        expect_sampling(&again->videos[i].window, &job->videos[i].window);
    }
    assert_int_equal(again->videos[0].window.attention, JOB_ATTENTION_8BIT);
    assert_string_equal(again->videos[3].end_name, "e.png");
    assert_true(hash_equal(&again->videos[3].end->hash, &job->videos[3].end->hash));
    assert_null(again->videos[4].end);
    assert_string_equal(again->videos[0].shots[0].prompt, job->videos[0].shots[0].prompt);
    assert_true(again->videos[2].window.guidance == 1.7);
    assert_true(hash_equal(&again->videos[4].image->hash, &job->videos[4].image->hash));
    assert_true(again->videos[4].output.overwrite);
    assert_int_equal(again->videos[0].noise, JOB_NOISE_TORCH);
    assert_int_equal(again->videos[0].overlap, 1);
    assert_true(again->videos[0].limits.drift == 0.25 && again->videos[0].limits.redraws == 3);
    assert_int_equal(again->window.lora_count, 1);
    assert_true(again->window.loras[0].strength == 0.5);
    job_close(&again);
    /* Cut or changed at any place: an error or a job, never a crash. */
    for (size_t cut = 0; cut < first.length; cut += 3)
        assert_int_not_equal(job_load(&again, first.data, cut, &error), ERR_OK);
    for (size_t at = 0; at < first.length; at += 2) {
        char kept = first.data[at];
        first.data[at] = at % 4 ? '9' : 'x';
        if (job_load(&again, first.data, first.length, &error) == ERR_OK)
            job_close(&again);
        first.data[at] = kept;
    }
    buffer_close(&first);
    buffer_close(&second);
    job_close(&job);
}

/* That a model makes videos of text alone outlives a restart, and so do their plans. */
static void test_document_of_text(void **state) {
    struct job *job = fake_job("model: t2v\nvideos: [{prompt: p, frames: 9}]"), *again = NULL;
    struct buffer text = {0};
    struct plan_counts counts;
    struct error error = {0};
    job_write(&text, job);
    assert_int_equal(job_load(&again, text.data, text.length, &error), ERR_OK);
    assert_true(again->window.facts.from_text);
    assert_int_equal(plan_count(&counts, again, &again->videos[0], &error), ERR_OK);
    assert_int_equal(counts.tasks, 4);
    assert_int_equal(counts.steps, again->videos[0].window.steps);
    job_close(&again);
    job_close(&job);
    buffer_close(&text);
}

/* -- bad files -------------------------------------------------------------------------------- */

struct bad {
    const char *yaml, *expected;
    enum error_code code;
    bool beyond_schema; /* no schema can say this */
};
static const struct bad bad_files[] = {
    {"[1, 2]",
     "job.yaml:1:1: expected a job: a mapping with the keys job, model, output, defaults, "
     "videos",
     ERR_USAGE, false},
    {"model: pocket\nvideo: []",
     "job.yaml:2:1: a job has no key \"video\"; did you mean \"videos\"?", ERR_USAGE, false},
    {"model: pocket\nfoo: 1",
     "job.yaml:2:1: a job has no key \"foo\"; it has: job, model, weights, "
     "lora, output, defaults, videos",
     ERR_USAGE, false},
    {"videos: []", "job.yaml:1:1: the job names no model; expected e.g. model: pocket", ERR_USAGE,
     false},
    {"model: pocket",
     "job.yaml:1:1: the job has no videos; expected a list, or {file: prompts.txt}", ERR_USAGE,
     false},
    {"model: pocket\nvideos: []",
     "job.yaml:2:9: videos: expected a list of videos, or {file: prompts.txt}, found an empty list",
     ERR_USAGE, false},
    {"model: poket\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: there is no model poket", ERR_MISSING, true},
    {"model: picture\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: picture (pocket) cannot make windows", ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: expected {keyframe: …, window: …}, found no window", ERR_USAGE, false},
    {"model: i2v\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: model: i2v (pocket) cannot make a keyframe; give the videos an image, or name "
     "a "
     "model that can",
     ERR_UNSUPPORTED, true},
    {"model: single\nvideos: [{prompt: a, seconds: 2}]",
     "job.yaml:2:31: model: single makes single windows of 17 frames and cannot go on from one; "
     "the "
     "video has 32 frames",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, frames: 18}]",
     "job.yaml:2:30: frames: model t2v makes a video from its text alone and cannot continue it, "
     "so "
     "it is one window, of at most 17 frames, not 18; model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL} makes longer ones",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, image: i.png}]",
     "job.yaml:2:41: image: model t2v makes a video from its text alone, without a first picture; "
     "only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: t2v}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:19: model: model t2v makes a video from its text alone, without a first picture; "
     "only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, keyframe: {steps: 2}}]",
     "job.yaml:2:34: keyframe: model t2v makes a video from its text alone, without a first "
     "picture; only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, windows: last_frame}]",
     "job.yaml:2:43: windows: model t2v cannot go on by last_frame; leave the key out for its own "
     "way",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, end_image: e.png}]",
     "job.yaml:2:45: end_image: model t2v cannot end a window in a given picture", ERR_UNSUPPORTED,
     true},
    {"model: ends\nvideos: [{prompt: a, frames: 6, image: a.png, end_image: b.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 5 or 9 frames, not 6: "
     "its last window starts from 1 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {HEAD "  - {prompt: a, seconds: 1, sigmas: [1e-300]}",
     "job.yaml:3:38: sigmas: noise level 1e-300 is 0, or the one before it, in the single "
     "precision that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, sigmas: [0.5, 0.49999999999]}",
     "job.yaml:3:43: sigmas: noise level 0.49999999999 is 0, or the one before it, in the single "
     "precision "
     "that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, timesteps: [900, 1], shift: 1e-40}",
     "job.yaml:3:40: timesteps, shifted: noise level 9e-40 is 0, or the one before it, in the "
     "single precision that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, steps: self-forcing, guidance: 5}",
     "job.yaml:3:60: guidance: the published list at job.yaml:3:36 is for a model without "
     "guidance; leave it out there (of keyframe and window each has its own), or list the noise "
     "levels by sigmas",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, steps: self-forcing, sampler: unipc}",
     "job.yaml:3:59: sampler: the published list at job.yaml:3:36 is for renoise, not unipc; leave "
     "the sampler out, or list the noise levels by sigmas",
     ERR_USAGE, true},
    {"model: i2v\nlora: [{file: l.safetensors, stage: keyframe}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:37: lora: stage: model i2v makes no keyframes, so the LoRA would do nothing; say "
     "stage: window, or leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nlora: [{file: l.safetensors, stage: keyframe}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:37: lora: stage: model t2v makes a video from its text alone, without a first "
     "picture; only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: pocket\nlora: []\nvideos: []",
     "job.yaml:2:7: lora: expected a list of LoRAs, each {file, strength, stage, expert}, found an "
     "empty list",
     ERR_USAGE, false},
    {"job: a/b\nmodel: pocket\nvideos: []",
     "job.yaml:1:6: job: expected a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that "
     "does "
     "not start with '.' or '-', found \"a/b\"",
     ERR_USAGE, false},
    {VIDEO "name: ..}",
     "job.yaml:3:35: name: expected a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that "
     "does not start with '.' or '-', found \"..\"",
     ERR_USAGE, false},
    {HEAD "  - a red balloon",
     "job.yaml:3:5: expected a video, e.g. {name: a, prompt: a red balloon}, found \"a red "
     "balloon\"",
     ERR_USAGE, false},
    {VIDEO "promt: b}", "job.yaml:3:29: a video has no key \"promt\"; did you mean \"prompt\"?",
     ERR_USAGE, false},
    {HEAD "  - {seconds: 1}", "job.yaml:3:5: the video has no prompt", ERR_USAGE, true},
    {HEAD "  - {prompt: \" \", seconds: 1}",
     "job.yaml:3:14: prompt: expected text that is not empty, found \" \"", ERR_USAGE, true},
    {HEAD "  - {prompt: , seconds: 1}", "job.yaml:3:14: prompt: expected text, found nothing",
     ERR_USAGE, false},
    {HEAD "  - {prompt: 12, seconds: 1}",
     "job.yaml:3:14: prompt: expected text (put it in quotes if it is meant as one), found 12",
     ERR_USAGE, false},
    {HEAD "  - {prompt: [a], seconds: 1}", "job.yaml:3:14: prompt: expected text, found a list",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a}",
     "job.yaml:3:5: the video has no length; give seconds (or frames), here or in defaults",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: -3}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found -3",
     ERR_LIMIT, false},
    {HEAD "  - {prompt: a, seconds: 1e300}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found 1e300",
     ERR_LIMIT, false},
    {HEAD "  - {prompt: a, seconds: .nan}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \".nan\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: nan}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \"nan\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: \"10\"}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \"10\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: 0.001}",
     "job.yaml:3:26: seconds: that is less than one frame at 16 frames a second", ERR_USAGE, true},
    {HEAD "  - {prompt: a, frames: 20736000}",
     "job.yaml:3:25: frames: the video would take 1728000 windows of model pocket; at most 4096 "
     "(49157 frames)",
     ERR_LIMIT, true},
    {HEAD "  - {prompt: a, seconds: 80000}",
     "job.yaml:3:26: seconds: the video would take 106667 windows of model pocket; at most 4096 "
     "(49157 frames)",
     ERR_LIMIT, true},
    {VIDEO "frames: 5}", "job.yaml:3:37: frames: there are seconds too; give one of the two",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, frames: 1.5}",
     "job.yaml:3:25: frames: expected frames, a whole number from 1 to 20736000, found 1.5",
     ERR_USAGE, false},
    {VIDEO "seed: -1}",
     "job.yaml:3:35: seed: expected a seed, a whole number from 0 to 9223372036854775807, found -1",
     ERR_LIMIT, false},
    {VIDEO "seeds: 8..1}", "job.yaml:3:36: seeds: the range 8..1 ends before it begins; write 1..8",
     ERR_USAGE, true},
    {VIDEO "seeds: 0..9223372036854775807}",
     "job.yaml:3:36: seeds: the range 0..9223372036854775807 has more than 100000 seeds, the most "
     "videos that a job may have",
     ERR_LIMIT, true},
    {VIDEO "seeds: [1..5, 4]}", "job.yaml:3:43: seeds: seed 4 is there twice", ERR_USAGE, true},
    {VIDEO "seeds: [1..60000, 60001..120000]}",
     "job.yaml:3:36: seeds: 120000 seeds, more than the 100000 videos that a job may have",
     ERR_LIMIT, true},
    {VIDEO "seeds: [x]}",
     "job.yaml:3:37: seeds: expected a seed (0 to 9223372036854775807), a range as 1..8, or a list "
     "of those, found \"x\"",
     ERR_USAGE, false},
    {VIDEO "seed: 1, seeds: 1..2}",
     "job.yaml:3:38: seeds: there is a seed too; give one of the two", ERR_USAGE, false},
    {VIDEO "steps: 0}",
     "job.yaml:3:36: steps: expected steps, a whole number from 1 to 1000, found 0", ERR_LIMIT,
     false},
    {VIDEO "guidance: 1000}",
     "job.yaml:3:39: guidance: expected a guidance scale, a number of at least 0, at most 100, "
     "found "
     "1000",
     ERR_LIMIT, false},
    {VIDEO "shift: 0}",
     "job.yaml:3:36: shift: expected a shift, a number above 0, at most 100, found 0", ERR_LIMIT,
     false},
    {VIDEO "noise: 2}",
     "job.yaml:3:36: noise: expected a generator of noise, one of vidloom, torch, found 2",
     ERR_USAGE, false},
    {VIDEO "noise: torches}",
     "job.yaml:3:36: noise: expected a generator of noise, one of vidloom, torch, found "
     "\"torches\"; did you mean \"torch\"?",
     ERR_USAGE, false},
    {VIDEO "windows: overlap 0}",
     "job.yaml:3:38: windows: expected how windows go on: last_frame, overlap N (a number of "
     "frames) or prefix, found \"overlap 0\"",
     ERR_USAGE, false},
    {VIDEO "windows: overlap 7}",
     "job.yaml:3:38: windows: model pocket cannot go on from 7 frames; it can from 1 or 5",
     ERR_UNSUPPORTED, true},
    {VIDEO "windows: prefix}",
     "job.yaml:3:38: windows: model pocket cannot go on by prefix; leave the key out for its own "
     "way",
     ERR_UNSUPPORTED, true},
    {VIDEO "limits: {drift: 0}}",
     "job.yaml:3:45: drift: expected a measure of drift, a number above 0, at most 1, found 0",
     ERR_LIMIT, false},
    {VIDEO "limits: {draft: 0.1}}",
     "job.yaml:3:38: limits has no key \"draft\"; did you mean \"drift\"?", ERR_USAGE, false},
    {VIDEO "limits: {redraws: 17}}",
     "job.yaml:3:47: redraws: expected a number of redraws, a whole number from 0 to 16, found 17",
     ERR_LIMIT, false},
    {VIDEO "limits: 3}",
     "job.yaml:3:37: limits: expected a mapping, e.g. {drift: 0.15, seam: 0.05, redraws: 2}, found "
     "3",
     ERR_USAGE, false},
    {"model: pocket\nweights: int4\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: weights: expected a type of weights, one of bf16, int8, fp8, found \"int4\"; "
     "did you mean \"int8\"?",
     ERR_USAGE, false},
    {"model: pocket\nlora: [{strength: 1}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:8: a LoRA needs a file", ERR_USAGE, false},
    {"model: pocket\nlora: [{file: missing.safetensors}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:15: lora: missing.safetensors: no such file", ERR_MISSING, true},
    {"model: pocket\nlora: [{file: a.safetensors, strength: nan}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:40: strength: expected a strength, a number of at least -10, at most 10, found "
     "\"nan\"",
     ERR_USAGE, false},
    {"model: pocket\nlora: [{file: a.safetensors, expert: low}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: lora: expert: pocket has no experts, only one transformer; leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: experts}\nlora: [{file: a.safetensors, expert: low, stage: "
     "keyframe}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: lora: expert: pocket has no experts, only one transformer; leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: experts\nlora: [{file: a.safetensors, expert: lo}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: expert: expected an expert, one of high, low, both, found \"lo\"; did you "
     "mean "
     "\"low\"?",
     ERR_USAGE, false},
    {"model: pocket\nlora: {file: a.safetensors}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:7: lora: expected a list of LoRAs, each {file, strength, stage, expert}, found a "
     "mapping",
     ERR_USAGE, false},
    {VIDEO "sampler: uler}",
     "job.yaml:3:38: sampler: expected a sampler, one of euler, unipc, renoise, dpmpp, found "
     "\"uler\"; "
     "did "
     "you mean \"euler\"?",
     ERR_USAGE, false},
    {VIDEO "image: missing.png}", "job.yaml:3:36: image: missing.png: no such file", ERR_MISSING,
     true},
    {VIDEO "shots: [{seconds: 0.5}, {seconds: 1}]}",
     "job.yaml:3:29: shots: they add up to 1.5 seconds, but the video has 1", ERR_USAGE, true},
    {HEAD "  - {prompt: a, frames: 17, shots: [{seconds: 1}]}",
     "job.yaml:3:29: shots: they add up to 1 seconds (16 frames), but the video has 17 frames",
     ERR_USAGE, true},
    {VIDEO "shots: [{prompt: b}]}", "job.yaml:3:37: a shot needs seconds", ERR_USAGE, false},
    {VIDEO "shots: [{seconds: 1, moton: b}]}",
     "job.yaml:3:50: a shot has no key \"moton\"; did you mean \"motion\"?", ERR_USAGE, false},
    {VIDEO "shots: []}",
     "job.yaml:3:36: shots: expected a list of shots, each {seconds, prompt, motion}, found an "
     "empty list",
     ERR_USAGE, false},
    {VIDEO "shots: [{seconds: 0.99}, {seconds: 0.01}]}",
     "job.yaml:3:29: shots: shot 2 lasts less than one frame", ERR_USAGE, true},
    {VIDEO "output: {size: 150x100}}",
     "job.yaml:3:44: size: model pocket cannot make 150x100; its sides are multiples of 16 from 64 "
     "to 512 pixels, the nearest is 144x96",
     ERR_SHAPE, true},
    {VIDEO "output: {size: 4096x32}}",
     "job.yaml:3:44: size: model pocket cannot make 4096x32; its sides are multiples of 16 from 64 "
     "to 512 pixels, the nearest is 512x64",
     ERR_SHAPE, true},
    {VIDEO "output: {size: 160}}",
     "job.yaml:3:44: size: expected a size in pixels, as 160x96 or [160, 96], found 160", ERR_USAGE,
     false},
    {VIDEO "output: {size: [0, 99999999999]}}",
     "job.yaml:3:44: size: sides are from 1 to 8192 pixels, found 0x99999999999", ERR_LIMIT, false},
    {VIDEO "output: {fps: 0}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "0",
     ERR_LIMIT, false},
    {VIDEO "output: {fps: 1/0}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "\"1/0\"",
     ERR_LIMIT, true},
    {VIDEO "output: {fps: 0.5}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "0.5",
     ERR_LIMIT, false},
    {VIDEO "output: {fps: 1000000/999999}}",
     "job.yaml:3:43: fps: a fraction of 1/999999; at most 1/10000", ERR_LIMIT, true},
    {VIDEO "output: {codec: png, path: a.mkv}}",
     "job.yaml:3:45: codec: png does not go into .mkv, which can hold h264, hevc, av1, vp9, ffv1, "
     "prores, h264_nvenc, hevc_nvenc, av1_nvenc",
     ERR_USAGE, true},
    {VIDEO "output: {quality: 60}}",
     "job.yaml:3:47: quality: the scale of h264 ends at 51 (smallest), found 60", ERR_LIMIT, true},
    {VIDEO "output: {codec: h265}}",
     "job.yaml:3:45: codec: expected a codec, one of h264, hevc, av1, vp9, ffv1, prores, png, "
     "h264_nvenc, hevc_nvenc, av1_nvenc, found "
     "\"h265\"; did you mean \"h264\"?",
     ERR_USAGE, false},
    {VIDEO "output: {codec: prores, path: a.mp4}}",
     "job.yaml:3:45: codec: prores does not go into .mp4, which can hold h264, hevc, av1, vp9, "
     "h264_nvenc, hevc_nvenc, av1_nvenc",
     ERR_USAGE, true},
    {VIDEO "output: {quality: 64}}",
     "job.yaml:3:47: quality: expected a quality (0 is the best), a whole number from 0 to 63, "
     "found "
     "64",
     ERR_LIMIT, false},
    {VIDEO "output: {overwrite: yes}}",
     "job.yaml:3:49: overwrite: expected true or false, found \"yes\"", ERR_USAGE, false},
    {VIDEO "output: {path: ../a.mp4}}",
     "job.yaml:3:44: path: \"..\" is not allowed; write a path below the current folder, or an "
     "absolute one",
     ERR_USAGE, true},
    {VIDEO "output: {path: \"{vdeo}.mp4\"}}",
     "job.yaml:3:44: path: {vdeo} cannot be filled in; did you mean {video}; there are {job}, "
     "{video} and {seed}",
     ERR_USAGE, true},
    {VIDEO "output: {path: a.avi}}",
     "job.yaml:3:44: path: no container is called \".avi\"; expected a name that ends with .mp4, "
     ".mkv, .webm or .mov, or one without an extension for a folder of pictures",
     ERR_USAGE, true},
    {VIDEO "output: {path: /}}", "job.yaml:3:44: path: expected the name of a file", ERR_USAGE,
     true},
    {HEAD "  - {name: a, prompt: a, seconds: 1}\n  - {name: a, prompt: b, seconds: 1}",
     "job.yaml:4:12: two videos are called \"a\"; the other is at job.yaml:3:12", ERR_USAGE, true},
    {"model: pocket\noutput: {path: x.mp4}\nvideos:\n  - {prompt: a, seconds: 1}\n"
     "  - {prompt: b, seconds: 1}",
     "job.yaml:2:16: path: videos \"video-001\" and \"video-002\" would both be written to x.mp4; "
     "put {video} into the path",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, output: {path: deep/o/b.mp4}}\n"
          "  - {prompt: a, seconds: 1, output: {path: deep/o, codec: png}}\n",
     "job.yaml:3:44: path: video \"video-001\" would be written into deep/o, which is where video "
     "\"video-002\" goes",
     ERR_USAGE, true},
    {VIDEO "output: {path: ~/a.mp4}}",
     "job.yaml:3:44: path: \"~\" is not the home folder here; write the folder's name out",
     ERR_USAGE, true},
    {VIDEO "attention: 8}",
     "job.yaml:3:40: attention: expected attention, one of exact, 8bit, found 8", ERR_USAGE, false},
    {VIDEO "steps: unknown}", "job.yaml:3:36: steps: no list \"unknown\"", ERR_USAGE, false},
    {VIDEO "steps: 4.5}",
     "job.yaml:3:36: steps: expected steps, a whole number from 1 to 1000, found 4.5", ERR_USAGE,
     false},
    {VIDEO "steps: 4, sigmas: [1]}",
     "job.yaml:3:39: sigmas: give one of steps, sigmas and timesteps", ERR_USAGE, false},
    {VIDEO "sigmas: [1, 0.5], timesteps: [1000]}",
     "job.yaml:3:47: timesteps: give one of steps, sigmas and timesteps", ERR_USAGE, false},
    {VIDEO "sigmas: []}",
     "job.yaml:3:37: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found an empty list",
     ERR_USAGE, false},
    {VIDEO "sigmas: 0.5}",
     "job.yaml:3:37: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0.5",
     ERR_USAGE, false},
    {VIDEO "sigmas: [1, 0.5, 0.5]}",
     "job.yaml:3:46: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0.5",
     ERR_USAGE, true},
    {VIDEO "sigmas: [1, 0, 0]}",
     "job.yaml:3:41: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0",
     ERR_USAGE, true},
    {VIDEO "sigmas: [0]}",
     "job.yaml:3:38: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0",
     ERR_USAGE, true},
    {VIDEO "sigmas: [1.5]}",
     "job.yaml:3:38: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 1.5",
     ERR_USAGE, false},
    {VIDEO "timesteps: [1000, many]}",
     "job.yaml:3:47: timesteps: expected a list of 1 to 64 numbers that fall from at most 1000 to "
     "above 0, found \"many\"",
     ERR_USAGE, false},
    {VIDEO "guidance_low: 3}",
     "job.yaml:3:43: guidance_low: it is of the second of two transformers that share the steps, "
     "and this model has one; say guidance",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: experts}\nvideos:\n  - {prompt: a, seconds: 1, keyframe: "
     "{guidance_low: 3}}",
     "job.yaml:3:54: guidance_low: it is of the second of two transformers that share the steps, "
     "and this model has one; say guidance",
     ERR_UNSUPPORTED, true},
    {"model: experts\nvideos: [{prompt: a, seconds: 1, guidance_low: 0}]",
     "job.yaml:2:48: guidance_low: expected a guidance scale, a number above 0, at most 100, found "
     "0",
     ERR_LIMIT, false},
    {VIDEO "window: 4}",
     "job.yaml:3:37: window: expected a mapping, e.g. {steps: 4, guidance: 1}, found 4", ERR_USAGE,
     false},
    {VIDEO "keyframe: {seed: 4}}",
     "job.yaml:3:40: keyframe has no key \"seed\"; it has: steps, sampler, shift, guidance, "
     "guidance_low, attention, sigmas, timesteps",
     ERR_USAGE, false},
    {VIDEO "end_image: last.png}",
     "job.yaml:3:40: end_image: model pocket cannot end a window in a given picture",
     ERR_UNSUPPORTED, true},
    {"model: ends\nvideos: [{prompt: a, frames: 17, end_image: missing.png}]",
     "job.yaml:2:45: end_image: missing.png: no such file", ERR_MISSING, true},
    {"model: ends\nvideos: [{prompt: a, frames: 16, end_image: last.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 13 or 17 frames, not "
     "16: its last window starts from 1 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {"model: ends\nvideos: [{prompt: a, frames: 20, end_image: last.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 21 frames, not 20: its "
     "last window starts from 5 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {"model: between\nvideos: [{prompt: a, frames: 17}]",
     "job.yaml:2:10: model: between makes a window between two pictures; give the video an "
     "end_image, or name another model",
     ERR_USAGE, true},
    {"model: between\nvideos: [{prompt: a, frames: 33, end_image: last.png}]",
     "job.yaml:2:30: frames: model between makes a window between two pictures, so a video is one "
     "window, of at most 17 frames, not 33",
     ERR_UNSUPPORTED, true},
    {"model: pocket\nlora:\n  - {file: style.safetensors}\n  - {file: other.safetensors}\n"
     "videos: [{prompt: a, seconds: 1}]",
     "job.yaml:4:12: lora: other.safetensors: made for another model than pocket", ERR_SHAPE, true},
    {"model: pocket\nlora: [{file: window.safetensors}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:15: lora: window.safetensors: made for another model than pocket", ERR_SHAPE,
     true},
    {"model: pocket2\nweights: fp8\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: weights: no fp8 here", ERR_UNSUPPORTED, true},
    {"model: pocket\ndefaults: {name: x}\nvideos: []",
     "job.yaml:2:12: defaults has no key \"name\"; it has: prompt, motion, negative, image, "
     "end_image, seconds, frames, seed, seeds, noise, windows, steps, sampler, shift, guidance, "
     "guidance_low, attention, sigmas, timesteps, keyframe, window, limits, shots",
     ERR_USAGE, false},
    {"model: pocket\nvideos: {fil: x.txt}",
     "job.yaml:2:9: videos: expected a list of videos (each starting with \"- \"), or {file: "
     "prompts.txt}, found a mapping",
     ERR_USAGE, false},
    {"model: pocket\nvideos: {file: none.txt}", "job.yaml:2:16: file: none.txt: no such file",
     ERR_MISSING, true},
    {"model: pocket\nvideos: {file: bad.csv, seconds: 1}",
     "bad.csv:2:3: seed: expected a seed, a whole number from 0 to 9223372036854775807, found "
     "\"x\"",
     ERR_USAGE, true},
    {"model: pocket\nvideos: {file: bad.jsonl, seconds: 1}",
     "bad.jsonl:2:13: a video has no key \"promtp\"; did you mean \"prompt\"?", ERR_USAGE, true},
    {"model: pocket\nvideos: {file: empty.txt, seconds: 1}",
     "job.yaml:2:16: file: there is no prompt in empty.txt", ERR_USAGE, true},
    {"model: pocket\nvideos: {file: latin.txt, seconds: 1}",
     "latin.txt:2:4: byte 0xe9 is not UTF-8 text; save the list as UTF-8", ERR_FORMAT, true},
};

static struct fake bad_lists = {
    .files = {{"bad.csv", "prompt,seed\nb,x\n"},
              {"bad.jsonl", "{\"prompt\": \"a\"}\n{\"seed\": 1, \"promtp\": \"b\"}\n"},
              {"empty.txt", "# nothing\n\n"},
              {"latin.txt", "ok\ncaf\xe9\n"}}};

static void test_bad_files(void **state) {
    struct fake fake = bad_lists;
    struct job_resolver resolver = fake_resolver(&fake);
    int failures = 0;
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        const struct bad *bad = &bad_files[i];
        struct job *job = NULL;
        struct error error = {0};
        enum error_code code =
            job_parse(&job, "job.yaml", bad->yaml, strlen(bad->yaml), &resolver, &error);
        if (code != bad->code || strcmp(error.detail, bad->expected) != 0 || job) {
            print_error("%s\n  said:     %s %s\n  expected: %s %s\n", bad->yaml, error_name(code),
                        error.detail, error_name(bad->code), bad->expected);
            failures++;
        }
        job_close(&job);
    }
    assert_int_equal(failures, 0);
}

static const struct {
    const char *name, *text, *expected;
} bad_csv[] = {
    {"a.csv", "",
     "a.csv:1:1: an empty list; expected a header that names the keys, e.g. "
     "name,prompt,motion,seconds"},
    {"a.csv", "prompt\n\"a", "a.csv:2:1: a quote that is never closed"},
    {"a.csv", "prompt\na\"b",
     "a.csv:2:2: a quote inside a field that does not start with one; put "
     "the whole field in quotes and write the inner one twice"},
    {"a.csv", "prompt\n\"a\"b",
     "a.csv:2:4: text after the closing quote; expected a comma or the "
     "end of the line (a quote inside a field is written twice)"},
    {"a.csv", "prompt\na, b\n",
     "a.csv:2:1: 2 fields; the header names 1 column (a field with a "
     "comma in it needs quotes)"},
    {"a.csv", "prompt,motion\na\n", "a.csv:2:1: 1 field; the header names 2 columns"},
    {"a.csv", "prompt,prompt\na,b\n", "a.csv:1:8: two columns are called \"prompt\""},
    {"a.csv", "prompt,motoin\na,b\n",
     "a.csv:1:8: no key is called \"motoin\"; did you mean "
     "\"motion\"; the first line of a CSV list names the keys of its columns"},
    {"a.csv", "prompt\n\"a\nb\"\n\"\",",
     "a.csv:4:1: 2 fields; the header names 1 column (a field "
     "with a comma in it needs quotes)"},
    {"a.jsonl", "{\"prompt\": \"a\"", "a.jsonl:1:15: "},
    {"a.jsonl", "\n[1]", "a.jsonl:2:1: expected an object, e.g. {\"prompt\": \"…\"}"},
    {"a.jsonl", "{\"prompt\": 12}",
     "a.jsonl:1:2: prompt: expected text (put it in quotes if it is "
     "meant as one), found 12"},
    {"a.doc", "a",
     "a.doc: expected the name of a list that ends with .txt (a prompt a line), .csv "
     "or .jsonl"},
};

static void test_bad_lists(void **state) {
    for (size_t i = 0; i < sizeof bad_csv / sizeof bad_csv[0]; i++) {
        struct fake fake = {.files = {{bad_csv[i].name, bad_csv[i].text}}};
        struct job_resolver resolver = fake_resolver(&fake);
        struct job *job = NULL;
        struct error error = {0};
        char yaml[128];
        snprintf(yaml, sizeof yaml, "model: pocket\nvideos: {file: %s, seconds: 1}",
                 bad_csv[i].name);
        assert_int_not_equal(job_parse(&job, "job.yaml", yaml, strlen(yaml), &resolver, &error),
                             ERR_OK);
        if (strncmp(error.detail, bad_csv[i].expected, strlen(bad_csv[i].expected)) != 0) {
            print_error("said:     %s\nexpected: %s\n", error.detail, bad_csv[i].expected);
            fail();
        }
    }
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

/* -- the schema ------------------------------------------------------------------------------- */

struct schema {
    struct arena arena;
    const struct json *top;
};

static void open_schema(struct schema *schema) {
    struct error error = {0};
    char *text;
    size_t length;
    assert_int_equal(arena_open(&schema->arena, 64 << 20, &error), ERR_OK);
    FILE *file = fopen("configs/job.schema.json", "rb");
    assert_non_null(file);
    text = arena_alloc(&schema->arena, 1 << 20);
    length = fread(text, 1, 1 << 20, file);
    fclose(file);
    assert_int_equal(json_parse(&schema->top, &schema->arena, text, length, &error), ERR_OK);
}

/* The part of JSON Schema that the file uses; an unknown keyword fails the test. */
static bool is_valid(const struct schema *schema, const struct json *rule,
                     const struct yaml *node) {
    double number = 0;
    int64_t integer = 0;
    bool scalar = node->type == YAML_SCALAR, plain = scalar && !node->quoted;
    bool is_number = plain && text_to_double(node->text, &number);
    bool is_integer = plain && text_to_int(node->text, &integer);
    bool is_boolean = plain && (!strcmp(node->text, "true") || !strcmp(node->text, "false"));
    bool is_null = plain && !node->length;
    bool is_string = scalar && !is_number && !is_boolean && !is_null;
    for (const struct json *word = rule->child; word; word = word->next) {
        const char *key = word->key;
        if (!strcmp(key, "$ref")) {
            const struct json *at = schema->top;
            char path[128], *save = NULL;
            snprintf(path, sizeof path, "%s", word->string + 2);
            for (char *part = strtok_r(path, "/", &save); part && at;
                 part = strtok_r(NULL, "/", &save))
                at = json_get(at, part);
            assert_non_null(at);
            if (!is_valid(schema, at, node))
                return false;
        } else if (!strcmp(key, "type")) {
            const char *type = word->string;
            bool fits = !strcmp(type, "object")    ? node->type == YAML_MAPPING
                        : !strcmp(type, "array")   ? node->type == YAML_SEQUENCE
                        : !strcmp(type, "string")  ? is_string
                        : !strcmp(type, "number")  ? is_number
                        : !strcmp(type, "integer") ? is_integer
                                                   : is_boolean;
            if (!fits)
                return false;
        } else if (!strcmp(key, "enum")) {
            bool found = false;
            for (const struct json *item = word->child; item; item = item->next)
                found |= scalar && !strcmp(item->string, node->text);
            if (!found)
                return false;
        } else if (!strcmp(key, "minimum")) {
            if (is_number && number < word->number)
                return false;
        } else if (!strcmp(key, "maximum")) {
            if (is_number && number > word->number)
                return false;
        } else if (!strcmp(key, "exclusiveMinimum")) {
            if (is_number && number <= word->number)
                return false;
        } else if (!strcmp(key, "minLength")) {
            if (is_string && (int64_t)node->length < word->integer)
                return false;
        } else if (!strcmp(key, "maxLength")) {
            if (is_string && (int64_t)node->length > word->integer)
                return false;
        } else if (!strcmp(key, "pattern")) {
            regex_t regex;
            assert_int_equal(regcomp(&regex, word->string, REG_EXTENDED | REG_NOSUB), 0);
            bool matches = is_string && !regexec(&regex, node->text, 0, NULL, 0);
            regfree(&regex);
            if (is_string && !matches)
                return false;
        } else if (!strcmp(key, "minItems")) {
            if (node->type == YAML_SEQUENCE && (int64_t)node->length < word->integer)
                return false;
        } else if (!strcmp(key, "maxItems")) {
            if (node->type == YAML_SEQUENCE && (int64_t)node->length > word->integer)
                return false;
        } else if (!strcmp(key, "items")) {
            for (const struct yaml *item = node->child; item && node->type == YAML_SEQUENCE;
                 item = item->next)
                if (!is_valid(schema, word, item))
                    return false;
        } else if (!strcmp(key, "required")) {
            for (const struct json *item = word->child; item; item = item->next)
                if (node->type == YAML_MAPPING && !yaml_get(node, item->string))
                    return false;
        } else if (!strcmp(key, "properties")) {
            for (const struct yaml *item = node->child; item && node->type == YAML_MAPPING;
                 item = item->next) {
                const struct json *inner = json_get(word, item->key);
                if (inner ? !is_valid(schema, inner, item)
                          : !json_bool(rule, "additionalProperties", true))
                    return false;
            }
        } else if (!strcmp(key, "oneOf")) {
            int count = 0;
            for (const struct json *item = word->child; item; item = item->next)
                count += is_valid(schema, item, node);
            if (count != 1)
                return false;
        } else if (!strcmp(key, "allOf")) {
            for (const struct json *item = word->child; item; item = item->next)
                if (!is_valid(schema, item, node))
                    return false;
        } else if (!strcmp(key, "not")) {
            if (is_valid(schema, word, node))
                return false;
        } else if (strcmp(key, "description") != 0 && strcmp(key, "additionalProperties") != 0 &&
                   strcmp(key, "title") != 0 && strcmp(key, "$schema") != 0 &&
                   strcmp(key, "$defs") != 0) {
            print_error("the schema uses \"%s\", which this test does not know\n", key);
            fail();
        }
    }
    return true;
}

static bool document_is_valid(const struct schema *schema, const char *yaml) {
    struct arena arena;
    struct error error = {0};
    const struct yaml *node = NULL;
    assert_int_equal(arena_open(&arena, 16 << 20, &error), ERR_OK);
    bool valid = yaml_parse(&node, &arena, "y", yaml, strlen(yaml), &error) == ERR_OK && node &&
                 is_valid(schema, schema->top, node);
    arena_close(&arena);
    return valid;
}

static void same_words(const struct json *object, const char *const *words, const char *what) {
    size_t count = 0;
    assert_non_null(object);
    for (const struct json *item = object->child; item; item = item->next, count++) {
        const char *name = object->type == JSON_ARRAY ? item->string : item->key;
        bool known = false;
        for (const char *const *word = words; *word; word++)
            known |= !strcmp(*word, name);
        if (!known) {
            print_error("%s: the schema has \"%s\", the reader does not\n", what, name);
            fail();
        }
        if (object->type == JSON_OBJECT && !json_get(item, "$ref"))
            assert_non_null(json_get(item, "description"));
    }
    size_t expected = 0;
    while (words[expected])
        expected++;
    if (count != expected) {
        print_error("%s: the schema has %zu words, the reader %zu\n", what, count, expected);
        fail();
    }
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

static void test_schema_words(void **state) {
    struct schema schema;
    open_schema(&schema);
    const struct json *defs = json_get(schema.top, "$defs");
    static const struct {
        const char *def;
        enum job_words words;
    } pairs[] = {
        {"model", JOB_KEYS_MODEL}, {"output", JOB_KEYS_OUTPUT}, {"defaults", JOB_KEYS_DEFAULTS},
        {"video", JOB_KEYS_VIDEO}, {"file", JOB_KEYS_FILE},     {"shot", JOB_KEYS_SHOT},
        {"lora", JOB_KEYS_LORA},   {"limits", JOB_KEYS_LIMITS}, {"stage", JOB_KEYS_STAGE}};
    same_words(json_get(schema.top, "properties"), job_words(JOB_KEYS_TOP), "job");
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        same_words(json_get(json_get(defs, pairs[i].def), "properties"), job_words(pairs[i].words),
                   pairs[i].def);
    const struct json *output = json_get(json_get(defs, "output"), "properties");
    same_words(json_get(json_get(output, "codec"), "enum"), job_words(JOB_VALUES_CODEC), "codec");
    same_words(json_get(json_get(json_get(defs, "keys"), "sampler"), "enum"),
               job_words(JOB_VALUES_SAMPLER), "sampler");
    same_words(json_get(json_get(json_get(defs, "keys"), "noise"), "enum"),
               job_words(JOB_VALUES_NOISE), "noise");
    same_words(json_get(json_get(json_get(defs, "keys"), "attention"), "enum"),
               job_words(JOB_VALUES_ATTENTION), "attention");
    same_words(json_get(json_get(json_get(schema.top, "properties"), "weights"), "enum"),
               job_words(JOB_VALUES_WEIGHTS), "weights");
    same_words(json_get(json_get(json_get(json_get(defs, "lora"), "properties"), "stage"), "enum"),
               job_words(JOB_VALUES_STAGE), "stage");
    same_words(json_get(json_get(json_get(json_get(defs, "lora"), "properties"), "expert"), "enum"),
               job_words(JOB_VALUES_EXPERT), "expert");
    arena_close(&schema.arena);
}

static void test_schema_documents(void **state) {
    static const char *const good[] = {
        "model: pocket\nvideos: [{prompt: a, seconds: 1}]",
        "model: pocket\nweights: fp8\nlora: [{file: a.safetensors, strength: -0.5, stage: "
        "window}]\n"
        "videos: [{prompt: a, seconds: 1, windows: overlap 5, limits: {seam: 0.1, redraws: 2}}]",
        "model: {window: a, keyframe: b}\nvideos: {file: p.csv, seeds: 1..4}",
        "model: a\ndefaults: {steps: lightx2v, guidance_low: 2}\nvideos: [{prompt: a, frames: 17, "
        "end_image: b.png, keyframe: {sigmas: [1, 0.5, 0]}, window: {timesteps: [1000, 500]}}]",
        "model: pocket\noutput: {size: [160, 96], fps: 12.5, codec: vp9, quality: 0, overwrite: "
        "true}\nvideos: [{prompt: a, frames: 3, motion: \"\", seeds: [1, 2..5]}]",
        "model: pocket\noutput: {size: 160x96, fps: 30000/1001}\ndefaults: {shots: [{seconds: "
        "1}]}\n"
        "videos: [{file: x.txt}, {prompt: b, output: {path: x.mov}}]",
    };
    struct schema schema;
    open_schema(&schema);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!document_is_valid(&schema, good[i])) {
            print_error("the schema refuses:\n%s\n", good[i]);
            fail();
        }
    int failures = 0;
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++)
        if (document_is_valid(&schema, bad_files[i].yaml) != bad_files[i].beyond_schema) {
            print_error("the schema %s:\n%s\n", bad_files[i].beyond_schema ? "refuses" : "accepts",
                        bad_files[i].yaml);
            failures++;
        }
    arena_close(&schema.arena);
    assert_int_equal(failures, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_defaults_and_layers),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_end_image),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_names_of_files),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_document_experts),
        cmocka_unit_test(test_document_of_text),
        cmocka_unit_test(test_small_shift),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_schema_words),
        cmocka_unit_test(test_schema_documents),
        cmocka_unit_test(test_provenance_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
