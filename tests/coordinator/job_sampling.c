/* How many steps, of which sampler and how guided: what a job says of each stage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "fake.h"

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

/* A model that makes videos of text alone makes keyframes for another's windows, too. */
static void test_keyframe_of_text_model(void **state) {
    struct job *job = fake_job("model: {keyframe: t2v, window: pocket}\nvideos:\n"
                               "  - {prompt: p, frames: 17, keyframe: {steps: 9, guidance: 5}}\n");
    assert_int_equal(job->videos[0].keyframe.steps, 9);
    assert_true(job->videos[0].keyframe.guidance == 5);
    assert_int_equal(job->videos[0].window.steps, 4);
    job_close(&job);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_small_shift),
        cmocka_unit_test(test_keyframe_of_text_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
