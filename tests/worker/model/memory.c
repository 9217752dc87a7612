/* What a request of the 1.3B model's width takes beyond the weights, as the kernel counts the
 * process's pages, beside what was planned. One layer with holes for weights: how many there are
 * changes neither. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/worker/model/holes.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/safetensors.h"

#define FRAMES 17 /* 5 of latents */

static void is_what_was_planned(void **state) {
    char folder[64];
    struct error error = {0};
    struct device *device;
    struct model *model;
    struct model_cost cost;
    const struct model_size size = {832, 480, FRAMES};
    const struct model_options options = {.stages = STAGE_WINDOW, .dtype = DTYPE_BF16};
    const struct device_config config = {.threads = 2};
    holes_folder(folder, &(struct transformer_config){.width = 1536, .ffn = 8960, .layers = 1});
    ok(model_plan(&cost, folder, STAGE_WINDOW, &size, &options, &error), &error);
    ok(ops_cpu()->device_open(&device, &config, &error), &error);
    ok(model_open(&model, ops_cpu(), device, folder, &options, &error), &error);
    float *rows = calloc(511 * 4096, sizeof *rows);
    float *latents = calloc((size_t)16 * 5 * 60 * 104, sizeof *latents);
    assert_true(rows != NULL && latents != NULL);
    memset(rows, 0, (size_t)511 * 4096 * sizeof *rows); /* the caller's, so counted before */
    struct denoise_request request = {.size = {16, 16, 1},
                                      .positive = {rows, 511},
                                      .negative = {rows, 511},
                                      .sampler = SAMPLER_UNIPC,
                                      .steps = 1,
                                      .guidance = 2,
                                      .shift = 5};
    const struct window_source text = {.tail_frames = 0};
    /* Weights that are used where they lie in the file are there after a first, small request. */
    ok(model_window(model, latents, &text, &request, &error), &error);
    request.size = size;
    double before = process_bytes("VmRSS:");
    ok(model_window(model, latents, &text, &request, &error), &error);
    double peak = process_bytes("VmHWM:") - before, planned = (double)cost.work_bytes;
    print_message(
        "planned %.1f MB beyond the weights; the arena took %.1f, the process %.1f (%.3f)\n",
        planned / 1e6, (double)model_work_peak(model) / 1e6, peak / 1e6, peak / planned);
    assert_true((double)model_work_peak(model) <= planned);
    if (before > 0)
        assert_true(peak <= 1.15 * planned);
    model_close(&model);
    ops_cpu()->device_close(&device);
    free(rows);
    free(latents);
    ok(file_remove_tree(folder, &error), &error);
}

#define RANK 64

/* A LoRA of the feed-forward layers, whose matrices are the largest. */
static void make_lora(char path[FILE_PATH_BYTES]) {
    static const char *const names[] = {
        "blocks.0.ffn.0.lora_A.weight", "blocks.0.ffn.0.lora_B.weight",
        "blocks.0.ffn.2.lora_A.weight", "blocks.0.ffn.2.lora_B.weight"};
    struct tensor tensors[4] = {
        {.dim = {RANK, 1536}}, {.dim = {8960, RANK}}, {.dim = {RANK, 8960}}, {.dim = {1536, RANK}}};
    struct error error = {0};
    (void)scratch_path(path, "large.safetensors");
    float *zeros = calloc((size_t)8960 * RANK, sizeof *zeros);
    assert_non_null(zeros);
    for (int i = 0; i < 4; i++) {
        tensors[i].data = zeros;
        tensors[i].dtype = DTYPE_F32;
        tensors[i].rank = 2;
    }
    ok(safetensors_write(path, tensors, names, 4, &error), &error);
    free(zeros);
}

/* From here on VmHWM counts anew. */
static bool forget_peak(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    bool good = file != NULL && fputs("5", file) >= 0;
    return file != NULL && fclose(file) == 0 && good;
}

/* What opening takes for a while to merge a LoRA, over what it leaves. */
static void merging(const char *folder, const char *lora_path, enum dtype weights) {
    struct error error = {0};
    struct device *device;
    struct model *model;
    struct model_cost cost;
    const struct model_lora lora = {.path = lora_path, .strength = 1};
    const struct model_size size = {16, 16, 1};
    const struct device_config config = {.threads = 2};
    struct model_info info; /* hashing a file is not what is measured */
    const struct model_options options = {.stages = STAGE_WINDOW,
                                          .dtype = DTYPE_BF16,
                                          .weights = weights,
                                          .info = &info,
                                          .loras = &lora,
                                          .lora_count = 1};
    ok(model_read_info(&info, folder, &error), &error);
    ok(model_plan(&cost, folder, STAGE_WINDOW, &size, &options, &error), &error);
    ok(ops_cpu()->device_open(&device, &config, &error), &error);
    bool counted = forget_peak();
    ok(model_open(&model, ops_cpu(), device, folder, &options, &error), &error);
    double peak = process_bytes("VmHWM:") - process_bytes("VmRSS:");
    double planned = (double)cost.work_bytes;
    print_message("planned %.1f MB for merging into %s; the process took %.1f (%.3f)\n",
                  planned / 1e6, dtype_name(weights), peak / 1e6, peak / planned);
    if (counted && peak > 0)
        assert_true(peak <= 1.15 * planned && peak >= 0.4 * planned);
    model_close(&model);
    ops_cpu()->device_close(&device);
}

static void merging_is_planned(void **state) {
    char folder[64], path[FILE_PATH_BYTES];
    struct error error = {0};
    holes_folder(folder, &(struct transformer_config){.width = 1536, .ffn = 8960, .layers = 1});
    make_lora(path);
    merging(folder, path, DTYPE_F32); /* as the file has them */
    merging(folder, path, DTYPE_I8);
    ok(file_remove_tree(folder, &error), &error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merging_is_planned, scratch_make, scratch_remove),
        cmocka_unit_test(is_what_was_planned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
