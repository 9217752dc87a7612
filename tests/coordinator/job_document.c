/* Jobs as the ledger keeps them: what is written is read again, whatever else is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "coordinator/plan.h"
#include "fake.h"

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
        " output: {path: b.mov, codec: prores, overwrite: true, fps: 12.5}, limits: {seam: "
        "0.125}}\n");
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
    assert_true(again->videos[4].limits.seam == 0.125 && again->videos[4].limits.redraws == 0);
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

/* The expert that a LoRA is for is kept, for the model that has some. */
static void test_document_experts(void **state) {
    struct job *job = fake_job("model: {keyframe: pocket, window: experts}\nlora:\n"
                               "  - {file: a.safetensors, expert: low}\n"
                               "  - {file: high-b.safetensors}\n"
                               "  - {file: c.safetensors, expert: both}\n"
                               "  - {file: low-d.safetensors}\n"
                               "  - {file: low-e.safetensors, expert: both}\n"
                               "videos: [{prompt: p, frames: 17, seed: 1}]\n");
    static const enum job_expert expected[] = {JOB_EXPERT_LOW, JOB_EXPERT_HIGH, JOB_EXPERT_BOTH};
    struct buffer text = {0};
    struct job *again = NULL;
    struct error error = {0};
    job_write(&text, job);
    assert_false(job->window.loras[1].unclear);
    assert_true(job->window.loras[3].unclear);
    assert_false(job->keyframe.loras[3].unclear);
    assert_false(job->window.loras[4].unclear);
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

/* Of other vidlooms: what was before is read as it was meant then, what is to come is refused. */
static void test_document_formats(void **state) {
    struct job *job = fake_job("model: experts\nlora: [{file: high-a.safetensors}]\n"
                               "videos: [{prompt: p, frames: 17, seed: 1}]\n");
    struct buffer text = {0};
    struct job *again = NULL;
    struct error error = {0};
    job_write(&text, job);
    char *format = strstr(text.data, "\"format\":4,"), *expert;
    assert_non_null(format);
    format[9] = '3';
    /* As the third was written at first: a worker finds the expert by the name. */
    while ((expert = strstr(text.data, ",\"high\"]")) != NULL)
        memmove(expert, expert + 7, strlen(expert + 7) + 1);
    assert_int_equal(job_load(&again, text.data, strlen(text.data), &error), ERR_OK);
    assert_int_equal(again->window.loras[0].expert, JOB_EXPERT_BY_NAME);
    job_close(&again);
    format[9] = '5';
    assert_int_equal(job_load(&again, text.data, strlen(text.data), &error), ERR_UNSUPPORTED);
    assert_non_null(strstr(error.detail, "format 5; this vidloom knows up to 4"));
    buffer_close(&text);
    job_close(&job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_document_experts),
        cmocka_unit_test(test_document_of_text),
        cmocka_unit_test(test_document_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
