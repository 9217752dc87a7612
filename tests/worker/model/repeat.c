/* A transformer's steps on a table that records what repeats: the bytes, and the count of
 * operations, of a table that does not. Over the emulated machine. */
#include <math.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/transformer.h"

static const struct transformer_config config = {.heads = 2,
                                                 .head_dim = 128,
                                                 .width = 256,
                                                 .in_channels = 4,
                                                 .out_channels = 4,
                                                 .text_width = 24,
                                                 .frequencies = 16,
                                                 .ffn = 96,
                                                 .layers = 2,
                                                 .eps = 1e-6f};

#define COUNT (4 * 2 * 6 * 8) /* latents of 2 frames of 6x8 */
#define STEPS 5

static const struct ops *recording;
static int recorded; /* operations that were not asked for */

static int load(void **state) {
    struct error error;
    (void)state;
    return ops_load(&recording, "emulated", &error) != ERR_OK;
}

static void always_ask(struct device *device, const void *key, size_t bytes,
                       bool (*queue)(void *context), void *context) {
    (void)device, (void)key, (void)bytes;
    (void)queue(context);
}

struct result {
    float velocity[STEPS][2][COUNT];
    double flops[STEPS];
};

/* How a transformer is run. */
struct manner {
    int device; /* of the emulated machine: 1 is of Hopper's kind, 3 of Ada's */
    bool attention8;
    enum dtype weights;
    int steps; /* at most STEPS */
};

/* Steps of two passes each; in the last ones a part of the tokens has another time. */
static void run(struct result *out, const struct ops *ops, const struct manner *manner) {
    const struct device_config device = {.index = manner->device};
    struct error error = {0};
    struct arena params, work;
    struct runtime runtime = {.ops = ops,
                              .wants = ops->wants,
                              .dtype = DTYPE_BF16,
                              .attention8 = manner->attention8,
                              .narrow = manner->weights,
                              .params = &params,
                              .work = &work};
    struct transformer *transformer;
    struct transformer_grid grid;
    struct transformer_context text[2];
    float rows[5 * 24];
    uint8_t groups[2 * 3 * 4] = {1, 1, 1};
    for (int i = 0; i < 5 * 24; i++)
        rows[i] = sinf((float)i);
    ok(ops->device_open(&runtime.device, &device, &error), &error);
    ok(ops->arena_open(runtime.device, &params, 1 << 23, &error), &error);
    ok(ops->arena_open(runtime.device, &work, 1 << 22, &error), &error);
    ok(transformer_open(&transformer, &runtime, NULL, &config, NULL, &error), &error);
    ok(transformer_grid_open(&grid, transformer, &runtime, 2, 6, 8, &error), &error);
    for (int i = 0; i < 2; i++)
        transformer_text_open(&text[i], transformer, &runtime, &grid, rows, 3 + i, 8);
    float *latents = work_floats(&runtime, COUNT), *velocity = work_floats(&runtime, COUNT);
    uint8_t *group = work_alloc(&runtime, sizeof groups, DTYPE_U8);
    ops->upload(runtime.device, group, groups, sizeof groups);
    for (int step = 0; step < manner->steps; step++) {
        float host[COUNT];
        for (int i = 0; i < COUNT; i++)
            host[i] = cosf((float)(i * (step + 1)));
        ops->upload(runtime.device, latents, host, sizeof host);
        runtime.flops = 0;
        for (int pass = 0; pass < 2; pass++) {
            transformer_forward(
                transformer, &runtime, velocity,
                &(struct transformer_input){.latents = latents,
                                            .grid = &grid,
                                            .text = &text[pass],
                                            .time = {.value = {1000.0F - 200.0F * (float)step, 10},
                                                     .count = step < 3 ? 1 : 2,
                                                     .group = step < 3 ? NULL : group}});
            ops->download(runtime.device, out->velocity[step][pass], velocity,
                          COUNT * sizeof *velocity);
        }
        out->flops[step] = runtime.flops;
    }
    ok(ops->status(runtime.device, &error), &error);
    transformer_close(&runtime, &transformer);
    ops->device_close(&runtime.device);
    arena_close(&params);
    arena_close(&work);
}

static void (*repeat)(struct device *device, const void *key, size_t bytes,
                      bool (*queue)(void *context), void *context);

struct asked {
    bool (*queue)(void *context);
    void *context;
    bool asked;
};

static bool ask(void *context) {
    struct asked *asked = context;
    asked->asked = true;
    return asked->queue(asked->context);
}

static void count_recorded(struct device *device, const void *key, size_t bytes,
                           bool (*queue)(void *context), void *context) {
    struct asked asked = {.queue = queue, .context = context};
    repeat(device, key, bytes, ask, &asked);
    recorded += !asked.asked;
}

static const struct manner usual = {.steps = STEPS};

static void recorded_steps_are_equal(void **state) {
    (void)state;
    static struct result expected, result;
    struct ops table = *recording;
    table.repeat = always_ask;
    run(&expected, &table, &usual);
    repeat = recording->repeat;
    table.repeat = count_recorded;
    run(&result, &table, &usual);
    assert_int_equal(recorded, 2); /* the third step's two passes; one time, then two times */
    assert_memory_equal(&expected, &result, sizeof expected);
    for (int pass = 0; pass < 2; pass++)
        for (int step = 1; step < STEPS; step++) {
            assert_true(expected.velocity[step][pass][7] != expected.velocity[0][pass][7]);
            assert_true(expected.velocity[step][0][7] != expected.velocity[step][1][7]);
        }
    assert_true(expected.flops[0] > 0);
}

/* How far the first step's velocity is from bf16's, in the 2-norm. */
static double error_of(int device, bool attention8, enum dtype weights) {
    static struct result expected, result;
    double difference = 0, norm = 0;
    run(&expected, recording, &(struct manner){.device = device, .steps = 1});
    run(&result, recording, &(struct manner){device, attention8, weights, 1});
    for (int i = 0; i < COUNT; i++) {
        double x = (double)result.velocity[0][0][i], y = (double)expected.velocity[0][0][i];
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    assert_true(result.flops[0] == expected.flops[0]);
    return sqrt(difference / norm);
}

static void eight_bits_are_near(void **state) {
    (void)state;
    static const struct {
        const char *what;
        int device;
        bool attention8;
        enum dtype weights;
        double least, most;
    } cases[] = {{"attention in 8 bits", 0, true, DTYPE_F32, 1e-5, 2e-2},
                 {"int8", 0, false, DTYPE_I8, 1e-4, 2e-2},
                 {"int8, Hopper", 1, false, DTYPE_I8, 1e-4, 2e-2},
                 {"f8, stored", 0, false, DTYPE_F8_E4M3, 1e-4, 5e-2},
                 {"f8, Hopper", 1, false, DTYPE_F8_E4M3, 1e-4, 5e-2},
                 {"f8, Ada", 3, false, DTYPE_F8_E4M3, 1e-4, 5e-2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double error = error_of(cases[i].device, cases[i].attention8, cases[i].weights);
        print_message("%s: %.2g from bf16's\n", cases[i].what, error);
        assert_true(error > cases[i].least && error < cases[i].most);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded_steps_are_equal),
                                       cmocka_unit_test(eight_bits_are_near)};
    return cmocka_run_group_tests(tests, load, NULL);
}
