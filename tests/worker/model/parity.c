/* Text encoder and transformer against tensors that the published classes gave, in f32 and bf16: of
 * a tiny model with random weights and odd sizes, and of the pocket family where it is.
 *
 *     test_model_parity [--table NAME:INDEX] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/sampler.h"

struct subject {
    const char *folder, *tensors;
    enum dtype dtype;
};

struct state {
    const struct subject *subject;
    struct bench bench;
    struct weights *reference;
};

static int open_state(void **out) {
    const struct subject *subject = *out;
    struct state *state = calloc(1, sizeof *state);
    struct error error = {0};
    *out = NULL;
    if (access(subject->tensors, F_OK) != 0) {
        free(state);
        return 0; /* reported as skipped by every test */
    }
    state->subject = subject;
    bench_open(&state->bench, subject->folder, subject->dtype);
    ok(weights_open(&state->reference, subject->tensors, &error), &error);
    *out = state;
    return 0;
}

static int close_state(void **out) {
    struct state *state = *out;
    if (state != NULL) {
        weights_close(&state->reference);
        bench_close(&state->bench);
    }
    free(state);
    return 0;
}

static struct state *state_of(void **argument) {
    struct state *state = *argument;
    if (state == NULL)
        skip();
    else
        arena_reset(state->bench.runtime.work, 0);
    return state;
}

static void encode_one(struct state *state, const char *name) {
    const struct tensor *ids = reference(state->reference, "%s.ids", name);
    const struct tensor *rows = reference(state->reference, "%s.output", name);
    int count = (int)ids->dim[0];
    float *got = malloc((size_t)tensor_elements(rows) * sizeof *got);
    struct error error = {0};
    ok(umt5_encode(state->bench.parts.umt5, &state->bench.runtime, got, ids->data, count, &error),
       &error);
    close_enough(name, got, rows, state->subject->dtype);
    free(got);
}

static void text_encoder(void **argument) {
    struct state *state = state_of(argument);
    encode_one(state, "text.0");
    encode_one(state, "text.0.joined");
    encode_one(state, "text.1");
    encode_one(state, "text.1.joined");
}

/* Rows of a padded text that are not padding. */
static int real_rows(const struct tensor *text) {
    int64_t rows = text->dim[0], width = text->dim[1];
    const float *data = text->data;
    while (rows > 0) {
        for (int64_t i = 0; i < width; i++)
            if (data[(rows - 1) * width + i] != 0)
                return (int)rows;
        rows--;
    }
    return 1;
}

static void forward_one(struct state *state, const char *name, int index) {
    struct bench *bench = &state->bench;
    struct runtime *runtime = &bench->runtime;
    bool window = strcmp(name, "window") == 0;
    const struct denoiser *denoiser = window ? bench->parts.window : bench->parts.keyframe;
    const struct tensor *input = reference(state->reference, "%s.%d.input", name, index);
    const struct tensor *text = reference(state->reference, "%s.%d.text", name, index);
    const struct tensor *time = reference(state->reference, "%s.%d.timestep", name, index);
    const struct tensor *velocity = reference(state->reference, "%s.%d.velocity", name, index);
    int64_t count = tensor_elements(velocity);
    float *out = work_floats(runtime, count);
    const float *in = table_put_floats(runtime, input->data, tensor_elements(input));
    run_pass(bench, denoiser, out,
             &(struct pass){.frames = input->dim[1],
                            .height = input->dim[2],
                            .width = input->dim[3],
                            .latents = in,
                            .condition = window ? in + count : NULL,
                            .text = text->data,
                            .text_rows = real_rows(text),
                            .text_length = (int)text->dim[0],
                            .time = {.value = {*(const float *)time->data}, .count = 1}});
    char label[64];
    (void)snprintf(label, sizeof label, "%s.%d", name, index);
    near_enough(bench, label, out, velocity);
}

static void keyframe_forward(void **argument) {
    struct state *state = state_of(argument);
    forward_one(state, "keyframe", 0);
    forward_one(state, "keyframe", 1);
}

static void window_forward(void **argument) {
    struct state *state = state_of(argument);
    forward_one(state, "window", 0);
    forward_one(state, "window", 1);
}

static struct pass keyframe_pass(struct state *state) {
    const struct tensor *input = reference(state->reference, "keyframe.0.input");
    const struct tensor *text = reference(state->reference, "keyframe.0.text");
    return (struct pass){
        .frames = input->dim[1],
        .height = input->dim[2],
        .width = input->dim[3],
        .latents = table_put_floats(&state->bench.runtime, input->data, tensor_elements(input)),
        .text = text->data,
        .text_rows = real_rows(text),
        .text_length = (int)text->dim[0],
        .time = {
            .value = {*(const float *)reference(state->reference, "keyframe.0.timestep")->data},
            .count = 1}};
}

/* Padding as real zero rows gives what the one row with a bias gives. */
static void text_padding(void **argument) {
    struct state *state = state_of(argument);
    const struct tensor *velocity = reference(state->reference, "keyframe.0.velocity");
    struct pass pass = keyframe_pass(state);
    const int counts[] = {pass.text_rows, pass.text_rows + 3, pass.text_length - 1,
                          pass.text_length};
    for (int i = 0; i < 4; i++) {
        float *out = work_floats(&state->bench.runtime, tensor_elements(velocity));
        pass.text_rows = counts[i];
        run_pass(&state->bench, state->bench.parts.keyframe, out, &pass);
        near_enough(&state->bench, "padded text", out, velocity);
    }
}

/* Tokens of two times, a third of them at 0; vectors/times.safetensors is made by time_vectors.py.
 */
static void time_groups(void **argument) {
    struct state *state = state_of(argument);
    if (strcmp(state->subject->folder, RANDOM_WAN) != 0)
        skip();
    struct runtime *runtime = &state->bench.runtime;
    struct pass pass = keyframe_pass(state);
    int64_t tokens = pass.frames * (pass.height / 2) * (pass.width / 2);
    struct error error = {0};
    struct weights *times;
    ok(weights_open(&times, "tests/worker/model/vectors/times.safetensors", &error), &error);
    uint8_t *group = malloc((size_t)tokens);
    assert_non_null(group);
    for (int64_t i = 0; i < tokens; i++)
        group[i] = i % 3 == 0;
    const uint8_t *there = table_put(runtime, group, (size_t)tokens);
    free(group);
    float *out = work_floats(runtime, 16 * pass.frames * pass.height * pass.width);
    pass.time =
        (struct transformer_time){.value = {pass.time.value[0], 0}, .count = 2, .group = there};
    run_pass(&state->bench, state->bench.parts.keyframe, out, &pass);
    near_enough(&state->bench, "time groups", out, reference(times, "velocity"));
    weights_close(&times);
}

/* In bf16 the errors of a trajectory's steps add up: 40 dB of the range is the bound, as in
 * tests/parity. */
static void step_close_enough(const struct runtime *runtime, const char *what, const float *there,
                              const struct tensor *expected) {
    int64_t count = tensor_elements(expected);
    const float *want = expected->data;
    float *got = table_get(runtime, there, count, DTYPE_F32);
    double error = relative_error(got, want, count), square = 0, low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        square += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        low = fmin(low, (double)want[i]);
        high = fmax(high, (double)want[i]);
    }
    free(got);
    double psnr = 10 * log10((high - low) * (high - low) * (double)count / (square + 1e-30));
    print_message("%-24s %-4s %.2e, %.1f dB\n", what, dtype_name(runtime->dtype), error, psnr);
    if (!(runtime->dtype == DTYPE_F32 ? error <= 1e-4 : psnr >= 40))
        fail_msg("%s: relative error %g, %.1f dB", what, error, psnr);
}

/* The keyframe's whole trajectory: Euler with guidance, as its scheduler says. */
static void trajectory(void **argument) {
    struct state *state = state_of(argument);
    struct runtime *runtime = &state->bench.runtime;
    const struct parts *parts = &state->bench.parts;
    const struct scheduler_config *scheduler = &parts->config.scheduler;
    const struct tensor *noise = reference(state->reference, "sampler.noise");
    const struct tensor *sigmas = reference(state->reference, "sampler.sigmas");
    const struct tensor *empty = reference(state->reference, "text.empty.rows");
    struct error error = {0};
    struct schedule schedule;
    ok(schedule_make(&schedule, scheduler, scheduler->sampler, scheduler->steps, scheduler->shift,
                     NULL, &error),
       &error);
    assert_int_equal(schedule.steps + 1, sigmas->dim[0]);
    for (int i = 0; i <= schedule.steps; i++)
        assert_float_equal(schedule.sigma[i], ((const float *)sigmas->data)[i], 1e-6);
    int64_t count = tensor_elements(noise);
    float *x = table_put_floats(runtime, noise->data, count), *v = work_floats(runtime, count);
    float *u = work_floats(runtime, count), g = scheduler->guidance;
    struct pass pass = keyframe_pass(state), negative = pass;
    pass.latents = negative.latents = x;
    negative.text = empty->data;
    negative.text_rows = real_rows(empty);
    struct sampler_run run;
    sampler_start(&run, &schedule, runtime, count, NULL, NULL);
    for (int i = 0; i < schedule.steps; i++) {
        pass.time.value[0] = negative.time.value[0] = schedule.time[i];
        run_pass(&state->bench, parts->keyframe, v, &pass);
        if (g != 1) {
            run_pass(&state->bench, parts->keyframe, u, &negative);
            runtime->ops->combine(runtime->device, v, (const float *const[]){u, v},
                                  (const float[]){1 - g, g}, 2, count);
        }
        sampler_step(&run, x, v);
        char name[32];
        (void)snprintf(name, sizeof name, "sampler.step%d", i);
        const struct tensor *expected = weights_find(state->reference, name);
        if (expected != NULL)
            step_close_enough(runtime, name, x, expected);
    }
}

static int run_subject(const struct subject *subject) {
    void *initial = (void *)(uintptr_t)subject;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_encoder),   cmocka_unit_test(keyframe_forward),
        cmocka_unit_test(window_forward), cmocka_unit_test(text_padding),
        cmocka_unit_test(time_groups),    cmocka_unit_test(trajectory),
    };
    void *state = initial;
    struct CMUnitTest with_state[sizeof tests / sizeof *tests];
    memcpy(with_state, tests, sizeof tests);
    open_state(&state);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        with_state[i].initial_state = state;
    int failed = cmocka_run_group_tests_name(subject->folder, with_state, NULL, NULL);
    close_state(&state);
    return failed;
}

int main(int count, char **arguments) {
    static const struct subject subjects[] = {
        {RANDOM_WAN, RANDOM_WAN "/reference.safetensors", DTYPE_F32},
        {RANDOM_WAN, RANDOM_WAN "/reference.safetensors", DTYPE_BF16},
        {POCKET, "tests/vectors/pocket.safetensors", DTYPE_F32},
        {POCKET, "tests/vectors/pocket.safetensors", DTYPE_BF16},
    };
    int failed = 0;
    bench_choose(&count, arguments);
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        failed += run_subject(&subjects[i]);
    return failed;
}
