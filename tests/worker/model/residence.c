/* Weights on a GPU under a limit of memory: as planned, and the bits do not depend on it. Over the
 * emulated machine. */
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/worker/model/holes.h"
#include "tests/worker/model/model_test.h"

#define SIDE  32
#define COUNT (16 * 2 * (SIDE / 8) * (SIDE / 8))
#define TEXT  4096

static const struct ops *gpu;
static const struct model_size size = {SIDE, SIDE, 5};

static int load(void **state) {
    struct error error;
    (void)state;
    return ops_load(&gpu, "emulated", &error) != ERR_OK;
}

/* A window of text; *weights: bytes of them on the device after it, *work: what it took. */
static enum error_code make_window(float *latents, size_t *weights, size_t *work,
                                   const char *folder, size_t memory) {
    static float rows[2 * TEXT];
    struct error error = {0};
    struct device *device;
    struct model *model;
    const struct model_options options = {
        .stages = STAGE_WINDOW, .dtype = DTYPE_BF16, .memory = memory};
    const struct denoise_request request = {.size = size,
                                            .positive = {rows, 2},
                                            .negative = {rows, 1},
                                            .sampler = SAMPLER_EULER,
                                            .steps = 2,
                                            .guidance = 3,
                                            .shift = 5};
    const struct window_source text = {.tail_frames = 0};
    random_normal(rows, 2 * TEXT, 1, 2, 0);
    ok(gpu->device_open(&device, NULL, &error), &error);
    enum error_code code = model_open(&model, gpu, device, folder, &options, &error);
    if (code == ERR_OK)
        code = model_window(model, latents, &text, &request, &error);
    if (code == ERR_OK)
        *work = model_work_peak(model);
    else
        print_message("%s\n", error.detail);
    *weights = gpu->weight_bytes(device);
    model_close(&model);
    gpu->device_close(&device);
    return code;
}

static struct model_cost plan(const char *folder, size_t memory) {
    struct model_cost cost;
    struct error error = {0};
    ok(model_plan(&cost, folder, STAGE_WINDOW, &size,
                  &(struct model_options){.dtype = DTYPE_BF16, .memory = memory, .like = gpu},
                  &error),
       &error);
    return cost;
}

static void under_a_limit(void **state) {
    (void)state;
    char folder[64];
    static float expected[COUNT], result[COUNT];
    struct error error = {0};
    size_t all, some, work = 0;
    holes_folder(folder, &(struct transformer_config){.width = 256, .ffn = 512, .layers = 4});
    holes_fill(folder, "transformer/diffusion_pytorch_model.safetensors");
    const struct model_cost cost = plan(folder, 0);
    assert_true(cost.weight_bytes_least < cost.weight_bytes);
    assert_int_equal(make_window(expected, &all, &work, folder, 0), ERR_OK);
    const size_t least = cost.weight_bytes_least + work, most = cost.weight_bytes + work;
    for (size_t memory = least; memory < most; memory += (most - least + 1) / 2) {
        memset(result, 0, sizeof result);
        assert_int_equal(make_window(result, &some, &work, folder, memory), ERR_OK);
        print_message("%zu kB of weights, %zu on the device\n", all >> 10, some >> 10);
        assert_memory_equal(result, expected, sizeof result);
        assert_true(some < all);
        assert_true(some + work < memory);
    }
    assert_int_equal(make_window(result, &some, &work, folder, most), ERR_OK);
    assert_int_equal(some, all);
    assert_int_equal(make_window(result, &some, &work, folder, least - 4096), ERR_MEMORY);
    /* The plan is for the longest text. */
    const size_t memory = cost.weight_bytes_least + cost.work_bytes;
    assert_int_equal(plan(folder, memory).held_bytes, cost.weight_bytes_least);
    assert_int_equal(plan(folder, memory).read_bytes, 0);
    ok(file_remove_tree(folder, &error), &error);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(under_a_limit)};
    return cmocka_run_group_tests(tests, load, NULL);
}
