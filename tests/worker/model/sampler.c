/* Whole trajectories against diffusers' schedulers; vectors/samplers.safetensors is made by
 * sampler_vectors.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/sampler.h"

#define VECTORS "tests/worker/model/vectors/samplers.safetensors"
#define COUNT   16

struct fixture {
    struct runtime runtime;
    struct arena work;
    struct weights *file;
};

static int open_fixture(void **state) {
    static struct fixture f;
    struct error error = {0};
    const struct device_config config = {.threads = 1};
    f.runtime = (struct runtime){.ops = ops_cpu(), .dtype = DTYPE_F32, .work = &f.work};
    ok(f.runtime.ops->device_open(&f.runtime.device, &config, &error), &error);
    ok(arena_open(&f.work, 1 << 20, &error), &error);
    ok(weights_open(&f.file, VECTORS, &error), &error);
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *f = *state;
    weights_close(&f->file);
    f->runtime.ops->device_close(&f->runtime.device);
    arena_close(&f->work);
    return 0;
}

static void velocity(const struct fixture *f, float *v, const float *x, float t) {
    const float *a = reference(f->file, "a")->data, *b = reference(f->file, "b")->data;
    const float *c = reference(f->file, "c")->data;
    for (int i = 0; i < COUNT; i++)
        v[i] = a[i] * x[i] + b[i] * sinf(3 * x[i]) + c[i] * t / 1000;
}

static void follow(struct fixture *f, const char *name, enum sampler sampler, int steps,
                   float shift) {
    const struct scheduler_config config = {0};
    const struct tensor *path = reference(f->file, "%s.%d.%g.path", name, steps, (double)shift);
    const struct tensor *sigmas = reference(f->file, "%s.%d.%g.sigmas", name, steps, (double)shift);
    const struct tensor *times = reference(f->file, "%s.%d.%g.times", name, steps, (double)shift);
    struct error error = {0};
    struct schedule schedule;
    struct sampler_run run;
    ok(schedule_make(&schedule, &config, sampler, steps, shift, NULL, &error), &error);
    arena_reset(&f->work, 0);
    float *x = work_floats(&f->runtime, COUNT), *v = work_floats(&f->runtime, COUNT);
    memcpy(x, reference(f->file, "noise")->data, COUNT * sizeof *x);
    sampler_start(&run, &schedule, &f->runtime, COUNT, NULL, NULL);
    double worst = 0;
    for (int i = 0; i < steps; i++) {
        assert_float_equal(schedule.sigma[i], ((const float *)sigmas->data)[i], 1e-6);
        assert_float_equal(schedule.time[i], ((const float *)times->data)[i], 1e-3);
        velocity(f, v, x, schedule.time[i]);
        sampler_step(&run, x, v);
        double step = relative_error(x, (const float *)path->data + (size_t)i * COUNT, COUNT);
        worst = step > worst ? step : worst;
    }
    print_message("%s, %d steps, shift %g: %.2e\n", name, steps, (double)shift, worst);
    assert_true(worst <= 1e-4);
}

static void trajectories(void **state) {
    static const struct {
        int steps;
        float shift;
    } runs[] = {{1, 5}, {2, 3}, {3, 5}, {4, 5}, {20, 3}, {50, 12}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        follow(*state, "unipc", SAMPLER_UNIPC, runs[i].steps, runs[i].shift);
        follow(*state, "euler", SAMPLER_EULER, runs[i].steps, runs[i].shift);
    }
}

/* x' = (1-σ')·(x - σ·v) + σ'·noise, the noise of step k being the stream's next `count` numbers. */
static void renoise(void **state) {
    struct fixture *f = *state;
    const struct scheduler_config config = {.shift = 5, .sigma_count = 3, .sigma = {1, 0.8f, 0}};
    struct error error = {0};
    struct schedule schedule;
    struct sampler_run run;
    ok(schedule_make(&schedule, &config, SAMPLER_RENOISE, 2, 5, NULL, &error), &error);
    assert_float_equal(schedule.sigma[1], 0.8, 1e-7); /* its own list, not the computed one */
    arena_reset(&f->work, 0);
    float *x = work_floats(&f->runtime, COUNT), *v = work_floats(&f->runtime, COUNT);
    float host[COUNT], noise[COUNT], start[COUNT];
    memcpy(x, reference(f->file, "noise")->data, COUNT * sizeof *x);
    memcpy(start, x, sizeof start);
    struct noise_source source = {.seed = 11, .stream = 22, .drawn = COUNT};
    sampler_start(&run, &schedule, &f->runtime, COUNT, &source, host);
    velocity(f, v, x, 1000);
    sampler_step(&run, x, v);
    random_normal(noise, COUNT, 11, 22, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_float_equal(x[i], 0.2f * (start[i] - v[i]) + 0.8f * noise[i], 1e-5);
    memcpy(start, x, sizeof start);
    sampler_step(&run, x, v);
    for (int i = 0; i < COUNT; i++)
        assert_float_equal(x[i], start[i] - 0.8f * v[i], 1e-5);
}

static void bounds(void **state) {
    const struct scheduler_config config = {0};
    struct schedule schedule;
    struct error error = {0};
    assert_int_equal(schedule_make(&schedule, &config, SAMPLER_EULER, 0, 1, NULL, &error),
                     ERR_LIMIT);
    assert_int_equal(schedule_make(&schedule, &config, SAMPLER_EULER, 1001, 1, NULL, &error),
                     ERR_LIMIT);
    assert_int_equal(schedule_make(&schedule, &config, SAMPLER_EULER, 4, 0, NULL, &error),
                     ERR_LIMIT);
    assert_int_equal(schedule_make(&schedule, &config, SAMPLER_EULER, 4, NAN, NULL, &error),
                     ERR_LIMIT);
    ok(schedule_make(&schedule, &config, SAMPLER_UNIPC, 1000, 1, NULL, &error), &error);
}

/* Buckets of umT5 at every step of the logarithm, as torch computes them. */
static void buckets(void **state) {
    static const int far[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  11, 12,  15,  16,
                              22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 511};
    static const int bucket[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  8,  9,  9,  10,
                                 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        assert_int_equal(umt5_bucket(-far[i], 32, 128), bucket[i]);
        assert_int_equal(umt5_bucket(far[i], 32, 128), bucket[i] + (far[i] > 0 ? 16 : 0));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trajectories),
        cmocka_unit_test(renoise),
        cmocka_unit_test(bounds),
        cmocka_unit_test(buckets),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
