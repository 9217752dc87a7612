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
    struct bench bench;
    struct weights *file;
};

static int open_fixture(void **state) {
    static struct fixture f;
    struct error error = {0};
    bench_start(&f.bench, DTYPE_F32);
    ok(weights_open(&f.file, VECTORS, &error), &error);
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *f = *state;
    weights_close(&f->file);
    table_close(&f->bench.runtime);
    return 0;
}

static void read_back(const struct fixture *f, float out[COUNT], const float *there) {
    const struct runtime *runtime = &f->bench.runtime;
    runtime->ops->download(runtime->device, out, there, COUNT * sizeof *out);
}

/* v there of x there; x as it is goes to `now`. */
static void velocity(const struct fixture *f, float *v, const float *x, float now[COUNT], float t) {
    const float *a = reference(f->file, "a")->data, *b = reference(f->file, "b")->data;
    const float *c = reference(f->file, "c")->data;
    const struct runtime *runtime = &f->bench.runtime;
    float out[COUNT];
    read_back(f, now, x);
    for (int i = 0; i < COUNT; i++)
        out[i] = a[i] * now[i] + b[i] * sinf(3 * now[i]) + c[i] * t / 1000;
    runtime->ops->upload(runtime->device, v, out, sizeof out);
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
    struct runtime *runtime = &f->bench.runtime;
    arena_reset(runtime->work, 0);
    float *x = table_put_floats(runtime, reference(f->file, "noise")->data, COUNT);
    float *v = work_floats(runtime, COUNT);
    sampler_start(&run, &schedule, runtime, COUNT, NULL, NULL);
    double worst = 0;
    float now[COUNT];
    for (int i = 0; i < steps; i++) {
        assert_float_equal(schedule.sigma[i], ((const float *)sigmas->data)[i], 1e-6);
        assert_float_equal(schedule.time[i], ((const float *)times->data)[i], 1e-3);
        velocity(f, v, x, now, schedule.time[i]);
        sampler_step(&run, x, v);
        read_back(f, now, x);
        double step = relative_error(now, (const float *)path->data + (size_t)i * COUNT, COUNT);
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
    struct runtime *runtime = &f->bench.runtime;
    arena_reset(runtime->work, 0);
    float *x = table_put_floats(runtime, reference(f->file, "noise")->data, COUNT);
    float *v = work_floats(runtime, COUNT);
    float host[COUNT], noise[COUNT], start[COUNT], now[COUNT], slope[COUNT];
    struct noise_source source = {.seed = 11, .stream = 22, .drawn = COUNT};
    sampler_start(&run, &schedule, runtime, COUNT, &source, host);
    velocity(f, v, x, start, 1000);
    read_back(f, slope, v);
    sampler_step(&run, x, v);
    random_normal(noise, COUNT, 11, 22, COUNT);
    read_back(f, now, x);
    for (int i = 0; i < COUNT; i++)
        assert_float_equal(now[i], 0.2f * (start[i] - slope[i]) + 0.8f * noise[i], 1e-5);
    memcpy(start, now, sizeof start);
    sampler_step(&run, x, v);
    read_back(f, now, x);
    for (int i = 0; i < COUNT; i++)
        assert_float_equal(now[i], start[i] - 0.8f * slope[i], 1e-5);
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

int main(int count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trajectories),
        cmocka_unit_test(renoise),
        cmocka_unit_test(bounds),
        cmocka_unit_test(buckets),
    };
    bench_choose(&count, arguments);
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
