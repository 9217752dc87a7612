/* Random weights and narrower ones: a small transformer of each, planned and run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/transformer.h"

static const struct transformer_config config = {.heads = 2,
                                                 .head_dim = 64,
                                                 .width = 128,
                                                 .in_channels = 4,
                                                 .out_channels = 4,
                                                 .text_width = 24,
                                                 .frequencies = 16,
                                                 .ffn = 256,
                                                 .layers = 2,
                                                 .eps = 1e-6f};

#define COUNT (4 * 2 * 6 * 8) /* latents of 2 frames of 6x8 */

/* One forward; the bytes of parameters that it took. */
static size_t forward(float out[COUNT], const struct ops *ops, enum dtype narrow, bool attention8) {
    struct error error = {0};
    struct arena params, made, work;
    struct runtime runtime = {.ops = ops,
                              .wants = ops->wants,
                              .dtype = DTYPE_BF16,
                              .narrow = narrow,
                              .attention8 = attention8,
                              .params = &params,
                              .made = &made,
                              .work = &work};
    struct transformer *transformer;
    struct transformer_grid grid;
    struct transformer_context text;
    float rows[3 * 24], latents[COUNT];
    for (int i = 0; i < 3 * 24; i++)
        rows[i] = sinf((float)i);
    for (int i = 0; i < COUNT; i++)
        latents[i] = cosf((float)i);
    ok(ops->device_open(&runtime.device, NULL, &error), &error);
    ok(ops->arena_open(runtime.device, &params, 1 << 22, &error), &error);
    ok(ops->arena_open(runtime.device, &work, 1 << 22, &error), &error);
    ok(arena_open(&made, 1 << 22, &error), &error);
    ok(transformer_open(&transformer, &runtime, NULL, &config, NULL, &error), &error);
    ok(transformer_grid_open(&grid, transformer, &runtime, 2, 6, 8, &error), &error);
    transformer_text_open(&text, transformer, &runtime, &grid, rows, 3, 8);
    float *in = work_floats(&runtime, COUNT), *velocity = work_floats(&runtime, COUNT);
    ops->upload(runtime.device, in, latents, sizeof latents);
    transformer_forward(
        transformer, &runtime, velocity,
        &(struct transformer_input){
            .latents = in, .grid = &grid, .text = &text, .time = {.value = {300}, .count = 1}});
    ops->download(runtime.device, out, velocity, COUNT * sizeof *out);
    ok(ops->status(runtime.device, &error), &error);
    transformer_close(&runtime, &transformer);
    size_t peak = params.peak + made.peak;
    arena_close(&params);
    arena_close(&work);
    ops->device_close(&runtime.device);
    arena_close(&made);
    return peak;
}

static double distance(const float *a, const float *b) {
    double difference = 0, norm = 0;
    for (int i = 0; i < COUNT; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)a[i] * (double)a[i];
    }
    assert_true(norm > 0);
    return sqrt(difference / norm);
}

static void narrow_is_near_and_planned(void **state) {
    static const enum dtype narrow[] = {DTYPE_I8, DTYPE_F8_E4M3};
    float wide[COUNT], out[COUNT], measured[COUNT];
    size_t wide_bytes = forward(wide, ops_cpu(), DTYPE_F32, false);
    assert_int_equal(forward(measured, ops_measure(), DTYPE_F32, false), wide_bytes);
    for (int i = 0; i < 2; i++) {
        size_t bytes = forward(out, ops_cpu(), narrow[i], false);
        assert_int_equal(forward(measured, ops_measure(), narrow[i], false), bytes);
        assert_true(bytes > wide_bytes);
        double error = distance(wide, out);
        print_message("%s weights: %.2g from bf16's\n", dtype_name(narrow[i]), error);
        assert_true(error > 1e-4 && error < 0.08);
    }
}

/* Exact where the CPU has no products of int8. */
static void attention8_is_near(void **state) {
    float wide[COUNT], out[COUNT];
    struct device *device;
    struct device_info info;
    struct error error = {0};
    ok(ops_cpu()->device_open(&device, NULL, &error), &error);
    ops_cpu()->device_info(device, &info);
    ops_cpu()->device_close(&device);
    bool has_products = strncmp(info.class, "cpu-avx512_bf16-", 16) == 0;
    size_t bytes = forward(wide, ops_cpu(), DTYPE_F32, false);
    assert_int_equal(forward(out, ops_cpu(), DTYPE_F32, true), bytes);
    double off = distance(wide, out);
    print_message("attention in 8 bits: %.2g from bf16's\n", off);
    assert_true(off < 2e-2 && (off > 1e-5) == has_products);
}

/* Weights are made in the host's memory: a device whose memory is another takes them from there. */
static void made_for_a_device(void **state) {
    static const enum dtype narrow[] = {DTYPE_F32, DTYPE_I8, DTYPE_F8_E4M3};
    float here[COUNT], there[COUNT];
    struct error error = {0};
    const struct ops *walled;
    ok(ops_load(&walled, "walled", &error), &error);
    for (int i = 0; i < 3; i++) {
        forward(here, ops_cpu(), narrow[i], false);
        forward(there, walled, narrow[i], false);
        assert_memory_equal(here, there, sizeof here);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(narrow_is_near_and_planned),
                                       cmocka_unit_test(attention8_is_near),
                                       cmocka_unit_test(made_for_a_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
