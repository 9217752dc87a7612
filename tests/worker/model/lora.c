/* LoRA files under every name that trainers give them, against sums in double; what does not fit is
 * refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/lora.h"
#include "worker/model/names.h"
#include "worker/model/numbers.h"
#include "worker/model/safetensors.h"

#define BASE RANDOM_WAN "/keyframe/diffusion_pytorch_model.safetensors"
#define RANK 3

struct scene {
    struct bench bench;
    char folder[64];
};

static int open_scene(void **state) {
    static struct scene scene;
    bench_open(&scene.bench, RANDOM_WAN, DTYPE_F32);
    (void)snprintf(scene.folder, sizeof scene.folder, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(scene.folder));
    *state = &scene;
    return 0;
}

static int close_scene(void **state) {
    struct scene *scene = *state;
    bench_close(&scene->bench);
    return file_remove_tree(scene->folder, NULL) == ERR_OK ? 0 : -1;
}

/* A LoRA file being made: random tensors, kept for the sum. */
struct made {
    struct tensor tensor[16];
    const char *name[16];
    int count;
    char path[FILE_PATH_BYTES];
};

static float *add(struct made *made, const char *name, int64_t rows, int64_t columns) {
    int64_t count = rows * columns;
    float *data = malloc((size_t)count * sizeof *data);
    assert_non_null(data);
    random_normal(data, (size_t)count, 9, (uint64_t)made->count, 0);
    made->tensor[made->count] =
        (struct tensor){.data = data, .dtype = DTYPE_F32, .rank = 2, .dim = {rows, columns}};
    made->name[made->count++] = name;
    return data;
}

static void finish(struct made *made, const struct scene *scene, const char *name) {
    struct error error = {0};
    ok(file_join(made->path, scene->folder, name, &error), &error);
    ok(safetensors_write(made->path, made->tensor, made->name, (size_t)made->count, &error),
       &error);
}

static void free_made(struct made *made) {
    for (int i = 0; i < made->count; i++)
        free((void *)(uintptr_t)made->tensor[i].data);
    *made = (struct made){0};
}

static double *widen(const struct tensor *tensor) {
    size_t count = (size_t)tensor_elements(tensor);
    float *floats = malloc(count * sizeof *floats);
    double *out = calloc(count, sizeof *out);
    if (floats == NULL || out == NULL)
        abort();
    numbers_to_float(floats, tensor, 0, (int64_t)count);
    for (size_t i = 0; i < count; i++)
        out[i] = (double)floats[i];
    free(floats);
    return out;
}

/* sum += scale·up·down */
static void add_product(double *sum, const float *up, const float *down, double scale, int64_t rows,
                        int64_t columns) {
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < columns; i++)
            for (int r = 0; r < RANK; r++)
                sum[o * columns + i] +=
                    scale * (double)up[o * RANK + r] * (double)down[r * columns + i];
}

static void expect_sum(const struct scene *scene, const struct weights *weights, const char *name,
                       const double *sum, enum dtype dtype) {
    struct error error = {0};
    struct runtime runtime = scene->bench.runtime;
    const struct tensor *base = weights_find(weights, name);
    assert_non_null(base);
    const struct tensor *merged;
    ok(lora_merge(&merged, weights, base, &runtime, dtype, &error), &error);
    assert_true(merged != base && merged->dtype == dtype);
    double *got = widen(merged), difference = 0, size = 0;
    for (int64_t i = 0; i < tensor_elements(merged); i++) {
        difference += (got[i] - sum[i]) * (got[i] - sum[i]);
        size += sum[i] * sum[i];
    }
    free(got);
    if (!(sqrt(difference / size) < (dtype == DTYPE_F32 ? 1e-6 : 3e-3)))
        fail_msg("%s: relative error %g", name, sqrt(difference / size));
}

/* How many tensors come out otherwise than the file has them. */
static int touched(struct scene *scene, const struct weights *weights) {
    int count = 0;
    for (size_t i = 0; i < weights_count(weights); i++) {
        struct error error = {0};
        const struct tensor *tensor = weights_find(weights, weights_name(weights, i)), *merged;
        ok(lora_merge(&merged, weights, tensor, &scene->bench.runtime, DTYPE_F32, &error), &error);
        count += merged != tensor;
    }
    lora_release(weights, NULL);
    return count;
}

/* One pair under each style of name, for one layer of the diffusers layout. */
static void every_name(void **state) {
    static const char *const pairs[][3] = {
        {"blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q.lora_up.weight", NULL},
        {"diffusion_model.blocks.0.self_attn.q.lora_A.weight",
         "diffusion_model.blocks.0.self_attn.q.lora_B.weight", NULL},
        {"model.diffusion_model.blocks.0.self_attn.q.lora_A.weight",
         "model.diffusion_model.blocks.0.self_attn.q.lora_B.weight", NULL},
        {"transformer.blocks.0.attn1.to_q.lora_A.weight",
         "transformer.blocks.0.attn1.to_q.lora_B.weight", NULL},
        {"blocks.0.attn1.to_q.lora_A.default.weight", "blocks.0.attn1.to_q.lora_B.default.weight",
         NULL},
        {"base_model.model.blocks.0.self_attn.q.lora_A.default.weight",
         "base_model.model.blocks.0.self_attn.q.lora_B.default.weight", NULL},
        {"unet.blocks.0.attn1.to_q.lora.down.weight", "unet.blocks.0.attn1.to_q.lora.up.weight",
         NULL},
        {"blocks.0.self_attn.q.lora_A", "blocks.0.self_attn.q.lora_B",
         "blocks.0.self_attn.q.alpha"},
        {"lora_unet_blocks_0_self_attn_q.lora_down.weight",
         "lora_unet_blocks_0_self_attn_q.lora_up.weight", "lora_unet_blocks_0_self_attn_q.alpha"},
        {"lora_unet_blocks_0_attn1_to_q.lora_down.weight",
         "lora_unet_blocks_0_attn1_to_q.lora_up.weight", NULL},
    };
    struct scene *scene = *state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct weights *weights;
        struct error error = {0};
        struct made made = {0};
        ok(weights_open(&weights, BASE, &error), &error);
        const struct tensor *base = weights_find(weights, "blocks.0.attn1.to_q.weight");
        int64_t width = base->dim[0];
        float *down = add(&made, pairs[i][0], RANK, width);
        float *up = add(&made, pairs[i][1], width, RANK);
        float alpha = RANK;
        if (pairs[i][2] != NULL)
            *add(&made, pairs[i][2], 1, 1) = alpha = 8;
        finish(&made, scene, "a.safetensors");
        ok(lora_add(weights, made.path, 0.7f, &error), &error);
        assert_int_equal(touched(scene, weights), 1);
        double *sum = widen(base);
        add_product(sum, up, down, (double)0.7f * (double)alpha / RANK, width, width);
        expect_sum(scene, weights, "blocks.0.attn1.to_q.weight", sum, DTYPE_F32);
        assert_int_equal(lora_bytes(weights), 4 * width * width);
        const struct tensor *other = weights_find(weights, "blocks.0.attn1.to_k.weight"), *same;
        ok(lora_merge(&same, weights, other, &scene->bench.runtime, DTYPE_BF16, &error), &error);
        assert_ptr_equal(same, other);
        free(sum);
        free_made(&made);
        weights_close(&weights);
    }
}

/* Two files on one layer, a difference of its bias, one of a norm and of both modulations. */
static void several_files_and_differences(void **state) {
    struct scene *scene = *state;
    struct weights *weights;
    struct error error = {0};
    struct made first = {0}, second = {0};
    ok(weights_open(&weights, BASE, &error), &error);
    const struct tensor *base = weights_find(weights, "blocks.1.ffn.net.0.proj.weight");
    int64_t out = base->dim[0], in = base->dim[1], width = in;
    float *down1 = add(&first, "blocks.1.ffn.0.lora_down.weight", RANK, in);
    float *up1 = add(&first, "blocks.1.ffn.0.lora_up.weight", out, RANK);
    float *bias = add(&first, "blocks.1.ffn.0.diff_b", 1, out);
    float *norm = add(&first, "blocks.1.norm3.diff", 1, width);
    float *modulation = add(&first, "blocks.1.diff_m", 6, width);
    float *head = add(&first, "head.diff_m", 2, width);
    finish(&first, scene, "first.safetensors");
    float *down2 = add(&second, "transformer.blocks.1.ffn.net.0.proj.lora_A.weight", RANK, in);
    float *up2 = add(&second, "transformer.blocks.1.ffn.net.0.proj.lora_B.weight", out, RANK);
    float *whole = add(&second, "blocks.1.ffn.0.diff", out, in);
    finish(&second, scene, "second.safetensors");
    ok(lora_add(weights, first.path, 1, &error), &error);
    ok(lora_add(weights, second.path, -0.5f, &error), &error);
    assert_int_equal(touched(scene, weights), 5);
    double *sum = widen(base);
    add_product(sum, up1, down1, 1, out, in);
    add_product(sum, up2, down2, -0.5, out, in);
    for (int64_t i = 0; i < out * in; i++)
        sum[i] -= 0.5 * (double)whole[i];
    expect_sum(scene, weights, "blocks.1.ffn.net.0.proj.weight", sum, DTYPE_BF16);
    free(sum);
    const struct {
        const char *name;
        const float *difference;
    } plain[] = {{"blocks.1.ffn.net.0.proj.bias", bias},
                 {"blocks.1.norm2.weight", norm},
                 {"blocks.1.scale_shift_table", modulation},
                 {"scale_shift_table", head}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const struct tensor *tensor = weights_find(weights, plain[i].name);
        sum = widen(tensor);
        for (int64_t k = 0; k < tensor_elements(tensor); k++)
            sum[k] += (double)plain[i].difference[k];
        expect_sum(scene, weights, plain[i].name, sum, DTYPE_F32);
        free(sum);
    }
    free_made(&first);
    free_made(&second);
    weights_close(&weights);
}

/* A transformer opened with a LoRA gives what one whose file has the sums gives. */
static void through_a_forward(void **state) {
    struct scene *scene = *state;
    struct weights *weights;
    struct error error = {0};
    struct made made = {0};
    ok(weights_open(&weights, BASE, &error), &error);
    int64_t width = weights_find(weights, "blocks.0.attn1.to_q.weight")->dim[0];
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.self_attn.q.lora_B.weight", width, RANK);
    (void)add(&made, "blocks.0.diff_m", 6, width);
    (void)add(&made, "patch_embedding.diff_b", 1, width);
    finish(&made, scene, "f.safetensors");
    ok(lora_add(weights, made.path, 0.1f, &error), &error);

    struct tensor tensors[512];
    const char *names[512];
    char path[FILE_PATH_BYTES];
    size_t count = weights_count(weights);
    assert_true(count <= 512);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *merged;
        ok(lora_merge(&merged, weights, weights_tensor(weights, i), &scene->bench.runtime,
                      DTYPE_F32, &error),
           &error);
        tensors[i] = *merged;
        names[i] = weights_name(weights, i);
    }
    ok(file_join(path, scene->folder, "merged.safetensors", &error), &error);
    ok(safetensors_write(path, tensors, names, count, &error), &error);
    struct weights *merged;
    struct transformer *with, *whole;
    const struct transformer_config *config = &scene->bench.parts.keyframe->config;
    struct runtime *runtime = &scene->bench.runtime;
    ok(weights_open(&merged, path, &error), &error);
    ok(transformer_open(&with, runtime, weights, config, NULL, &error), &error);
    ok(transformer_open(&whole, runtime, merged, config, NULL, &error), &error);

    int64_t elements = config->out_channels * 2 * 4 * 6;
    float *latents = malloc((size_t)elements * sizeof *latents), *rows, *a, *b, *text;
    assert_non_null(latents);
    text = malloc((size_t)config->text_width * sizeof *text);
    assert_non_null(text);
    random_normal(latents, (size_t)elements, 5, 0, 0);
    random_normal(text, (size_t)config->text_width, 5, 1, 0);
    rows = work_floats(runtime, elements);
    runtime->ops->upload(runtime->device, rows, latents, (size_t)elements * sizeof *rows);
    struct transformer *const both[] = {with, whole};
    float *velocity[2];
    for (int i = 0; i < 2; i++) {
        struct transformer_grid grid;
        struct transformer_context context;
        ok(transformer_grid_open(&grid, both[i], runtime, 2, 4, 6, &error), &error);
        transformer_text_open(&context, both[i], runtime, &grid, text, 1, 8);
        velocity[i] = work_floats(runtime, elements);
        const struct transformer_input input = {
            .latents = rows, .grid = &grid, .text = &context, .time = {.value = {500}, .count = 1}};
        transformer_forward(both[i], runtime, velocity[i], &input);
        ok(runtime->ops->status(runtime->device, &error), &error);
    }
    a = velocity[0];
    b = velocity[1];
    assert_memory_equal(a, b, (size_t)elements * sizeof *a);
    transformer_close(runtime, &with);
    transformer_close(runtime, &whole);
    weights_close(&merged);
    weights_close(&weights);
    free(latents);
    free(text);
    free_made(&made);
}

/* A keyframe of 16x16 of a model with this LoRA (path NULL: none); the bytes that its weights were
 * said to take. */
struct opening {
    const char *path;
    float strength;
    enum dtype dtype, weights;
};
static size_t keyframe(float *latents, const struct scene *scene, const struct opening *opening) {
    struct model *model;
    struct error error = {0};
    struct model_bytes bytes;
    const struct model_lora lora = {.path = opening->path, .strength = opening->strength};
    const struct model_options options = {.stages = STAGE_KEYFRAME,
                                          .dtype = opening->dtype,
                                          .weights = opening->weights,
                                          .loras = &lora,
                                          .lora_count = opening->path == NULL ? 0 : 1};
    float row[40] = {1, -1, 2};
    const struct denoise_request request = {.size = {16, 16, 1},
                                            .positive = {row, 1},
                                            .sampler = SAMPLER_EULER,
                                            .steps = 2,
                                            .guidance = 1,
                                            .shift = 1};
    ok(model_measure(&bytes, RANDOM_WAN, &options, &error), &error);
    ok(model_open(&model, ops_cpu(), scene->bench.runtime.device, RANDOM_WAN, &options, &error),
       &error);
    ok(model_keyframe(model, latents, &request, &error), &error);
    model_close(&model);
    return bytes.all;
}

static void in_a_model(void **state) {
    struct scene *scene = *state;
    struct made made = {0};
    float none[16 * 4], nothing[16 * 4], something[16 * 4];
    int64_t width = scene->bench.parts.keyframe->config.width;
    assert_int_equal(scene->bench.parts.umt5_config.width, 40);
    (void)add(&made, "blocks.0.self_attn.v.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.self_attn.v.lora_B.weight", width, RANK);
    finish(&made, scene, "slow_model.safetensors");
    keyframe(none, scene, &(struct opening){.path = NULL});
    keyframe(nothing, scene, &(struct opening){.path = made.path});
    keyframe(something, scene, &(struct opening){.path = made.path, .strength = 1});
    assert_memory_equal(none, nothing, sizeof none);
    assert_memory_not_equal(none, something, sizeof none);
    free_made(&made);
}

/* Matrices held in another type than the file's, with a LoRA merged before. */
static void in_narrow_weights(void **state) {
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_I8, DTYPE_F8_E4M3};
    struct scene *scene = *state;
    struct made made = {0};
    float file[16 * 4], without[16 * 4], nothing[16 * 4], something[16 * 4];
    int64_t width = scene->bench.parts.keyframe->config.width;
    (void)add(&made, "blocks.0.ffn.0.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.ffn.0.lora_B.weight", scene->bench.parts.keyframe->config.ffn, RANK);
    finish(&made, scene, "style.safetensors");
    struct opening how = {.dtype = DTYPE_BF16};
    keyframe(file, scene, &how);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        how = (struct opening){.dtype = DTYPE_BF16, .weights = types[i]};
        size_t bytes = keyframe(without, scene, &how);
        /* Weights are rounded to bf16 sooner or later. */
        bool same = true;
        for (size_t k = 0; k < sizeof file / sizeof *file; k++)
            same = same && file[k] == without[k];
        assert_int_equal(same, types[i] == DTYPE_BF16);
        how.path = made.path;
        size_t merged = keyframe(nothing, scene, &how);
        assert_memory_equal(without, nothing, sizeof nothing);
        assert_int_equal(merged, bytes);
        how.strength = 1;
        keyframe(something, scene, &how);
        assert_memory_not_equal(without, something, sizeof something);
    }
    free_made(&made);
}

/* What was merged is given back, and merged again when it is asked for again. */
static void released(void **state) {
    struct scene *scene = *state;
    struct weights *weights;
    struct error error = {0};
    struct made made = {0};
    const struct tensor *first, *second;
    ok(weights_open(&weights, BASE, &error), &error);
    const struct tensor *base = weights_find(weights, "blocks.0.attn1.to_q.weight");
    size_t count = (size_t)tensor_elements(base);
    (void)add(&made, "blocks.0.attn1.to_q.diff", base->dim[0], base->dim[1]);
    finish(&made, scene, "a.safetensors");
    ok(lora_add(weights, made.path, 1, &error), &error);
    ok(lora_merge(&first, weights, base, &scene->bench.runtime, DTYPE_F32, &error), &error);
    float *kept = malloc(count * sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, first->data, count * sizeof *kept);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lora_bytes(weights), count * sizeof *kept);
        lora_release(weights, i == 0 ? base : NULL);
        assert_int_equal(lora_bytes(weights), 0);
        ok(lora_merge(&second, weights, base, &scene->bench.runtime, DTYPE_F32, &error), &error);
        assert_memory_equal(second->data, kept, count * sizeof *kept);
    }
    free(kept);
    free_made(&made);
    weights_close(&weights);
}

static void expect(struct scene *scene, struct made *made, enum error_code expected,
                   const char *why) {
    struct weights *weights;
    struct error error = {0};
    finish(made, scene, "bad.safetensors");
    ok(weights_open(&weights, BASE, &error), &error);
    enum error_code code = lora_add(weights, made->path, 1, &error);
    if (code != expected || strstr(error.detail, why) == NULL)
        fail_msg("expected '%s', got %s: %s", why, error_name(code), error.detail);
    weights_close(&weights);
    free_made(made);
}

static void what_does_not_fit(void **state) {
    struct scene *scene = *state;
    struct made made = {0};
    struct weights *weights;
    struct error error = {0};
    ok(weights_open(&weights, BASE, &error), &error);
    int64_t width = weights_find(weights, "blocks.0.attn1.to_q.weight")->dim[0];
    weights_close(&weights);
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width + 1);
    (void)add(&made, "blocks.0.self_attn.q.lora_B.weight", width + 1, RANK);
    expect(scene, &made, ERR_SHAPE, "another model");
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.self_attn.q.lora_B.weight", width, RANK + 1);
    expect(scene, &made, ERR_FORMAT, "their ranks differ");
    (void)add(&made, "blocks.39.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.39.self_attn.q.lora_B.weight", width, RANK);
    expect(scene, &made, ERR_SHAPE, "blocks.39.self_attn.q.weight");
    (void)add(&made, "lora_te_text_model_encoder.lora_down.weight", RANK, width);
    expect(scene, &made, ERR_SHAPE, "lora_te");
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    expect(scene, &made, ERR_FORMAT, "half");
    *add(&made, "blocks.0.self_attn.q.alpha", 1, 1) = 1;
    expect(scene, &made, ERR_FORMAT, "half");
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.self_attn.q.lora_B.weight", width, RANK);
    (void)add(&made, "blocks.0.self_attn.q.alpha", 2, 1);
    expect(scene, &made, ERR_FORMAT, "one number");
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.self_attn.q.lora_B.weight", width, RANK);
    *add(&made, "blocks.0.self_attn.q.alpha", 1, 1) = INFINITY;
    expect(scene, &made, ERR_FORMAT, "is inf");
    (void)add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    (void)add(&made, "blocks.0.attn1.to_q.lora_A.weight", RANK, width);
    expect(scene, &made, ERR_FORMAT, "second");
    (void)add(&made, "blocks.0.self_attn.q.dora_scale", 1, width);
    expect(scene, &made, ERR_UNSUPPORTED, "dora_scale");
    (void)add(&made, "blocks.0.self_attn.q.weight", width, width);
    expect(scene, &made, ERR_UNSUPPORTED, "lora_down");
    (void)add(&made, "blocks.0.self_attn.q.diff", width, width + 1);
    expect(scene, &made, ERR_SHAPE, "another model");
    (void)add(&made, ".alpha", 1, 1);
    expect(scene, &made, ERR_UNSUPPORTED, ".alpha");
    (void)add(&made, "model..alpha", 1, 1);
    expect(scene, &made, ERR_SHAPE, "another model");
    (void)add(&made, "lora_unet_.alpha", 1, 1);
    expect(scene, &made, ERR_SHAPE, "another model");
    expect(scene, &made, ERR_SHAPE, "0 tensors");
}

/* A number that is none is found, wherever it is. */
static void numbers_that_are_none(void **state) {
    struct scene *scene = *state;
    enum { ROWS = 100, WIDTH = 100 };
    static const int places[] = {0, 4095, 4096, ROWS * WIDTH - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct made made = {0};
        struct error error = {0};
        char where[32];
        (void)add(&made, "blocks.0.attn1.to_q.lora_A.weight", ROWS, WIDTH);
        float *values = add(&made, "blocks.0.attn1.to_q.lora_B.weight", ROWS, WIDTH);
        finish(&made, scene, "whole.safetensors");
        ok(lora_check_finite(made.path, &error), &error);
        values[places[i]] = i % 2 ? -INFINITY : NAN;
        finish(&made, scene, "damaged.safetensors");
        assert_int_equal(lora_check_finite(made.path, &error), ERR_FORMAT);
        (void)snprintf(where, sizeof where, "element %d of", places[i]);
        assert_non_null(strstr(error.detail, where));
        free_made(&made);
    }
}

/* Every number of the file is one, but not what they come to; and weights that were not before. */
static void sums_that_are_none(void **state) {
    struct scene *scene = *state;
    struct weights *weights;
    struct error error = {0};
    const struct tensor *merged;
    ok(weights_open(&weights, BASE, &error), &error);
    const struct tensor *base = weights_find(weights, "blocks.0.attn1.to_q.weight");
    int64_t width = base->dim[1];
    struct made made = {0};
    float *down = add(&made, "blocks.0.self_attn.q.lora_A.weight", RANK, width);
    float *up = add(&made, "blocks.0.self_attn.q.lora_B.weight", width, RANK);
    down[width + 3] = 1e30f;
    up[5 * RANK + 1] = 1e30f;
    finish(&made, scene, "strong.safetensors");
    ok(lora_check_finite(made.path, &error), &error);
    ok(lora_add(weights, made.path, 1, &error), &error);
    assert_int_equal(lora_merge(&merged, weights, base, &scene->bench.runtime, DTYPE_F32, &error),
                     ERR_FORMAT);
    assert_non_null(strstr(error.detail, "strong.safetensors: added with strength 1, element "));
    assert_non_null(strstr(error.detail, "of 'blocks.0.self_attn.q.weight' becomes"));
    weights_close(&weights);
    free_made(&made);
    /* Now the weights are what is damaged. */
    float *values = add(&made, "blocks.0.attn1.to_q.weight", 8, 8);
    values[9] = NAN;
    finish(&made, scene, "base.safetensors");
    char path[FILE_PATH_BYTES];
    memcpy(path, made.path, sizeof path);
    free_made(&made);
    (void)add(&made, "blocks.0.attn1.to_q.lora_A.weight", RANK, 8);
    (void)add(&made, "blocks.0.attn1.to_q.lora_B.weight", 8, RANK);
    finish(&made, scene, "good.safetensors");
    ok(weights_open(&weights, path, &error), &error);
    ok(lora_add(weights, made.path, 1, &error), &error);
    base = weights_find(weights, "blocks.0.attn1.to_q.weight");
    assert_int_equal(lora_merge(&merged, weights, base, &scene->bench.runtime, DTYPE_BF16, &error),
                     ERR_FORMAT);
    assert_non_null(strstr(error.detail, "base.safetensors: element 9 of"));
    weights_close(&weights);
    free_made(&made);
}

/* Names as they are published, and names that only look so. */
static const struct {
    const char *path;
    enum lora_expert expert; /* LORA_BY_NAME: both, with a warning */
} named_files[] = {
    {"wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors", LORA_HIGH},
    {"low_noise_model.safetensors", LORA_LOW},
    {"high_noise/wan22_LowNoise_x.safetensors", LORA_LOW},
    {"Wan22HighNoise.safetensors", LORA_HIGH},
    {"style-v2LowNoiseV3.safetensors", LORA_LOW},
    {"wan22-high-noise-low-poly.safetensors", LORA_HIGH},
    {"Wan2.2-Lightning_I2V-A14B-4steps-lora_HIGH_fp16.safetensors", LORA_HIGH},
    {"cats_low_lora_rank64.safetensors", LORA_LOW},
    {"cats-LOW.safetensors", LORA_LOW},
    {"low", LORA_LOW},
    {"Wan_2_2_I2V_A14B_HIGH_lightx2v_4step_lora_v1030_rank_64_bf16.safetensors", LORA_HIGH},
    {"SVI_v2_PRO_Wan2.2-I2V-A14B_LOW_lora_rank_128_fp16.safetensors", LORA_LOW},
    {"Wan22_PusaV1_lora_HIGH_resized_dynamic_avg_rank_98_bf16.safetensors", LORA_HIGH},
    {"WAN22_LOW_LIGHTNING_V1.safetensors", LORA_LOW},
    {"a_HIGH_rank_64.safetensors", LORA_HIGH},
    {"a_LOW_rank_64.safetensors", LORA_LOW},
    {"a_low_rank_64.safetensors", LORA_BY_NAME},
    {"my_low-rank64_fp16.safetensors", LORA_BY_NAME},
    {"LowRank_32.safetensors", LORA_BY_NAME},
    {"a_lowrank_64.safetensors", LORA_BOTH},
    {"low_rank_32_high_noise.safetensors", LORA_HIGH},
    {"cats_H_low_rank_32.safetensors", LORA_BY_NAME},
    {"cats_low_noise_H.safetensors", LORA_BY_NAME},
    {"cats_HIGH_LN.safetensors", LORA_BY_NAME},
    {"ViT-L-14_high_noise.safetensors", LORA_HIGH},
    {"cats_low_noise_L.safetensors", LORA_LOW},
    {"a_high_fp8_e4m3fn_scaled.safetensors", LORA_HIGH},
    {"catsHighV2.safetensors", LORA_HIGH},
    {"low-angle_HIGH_motion.safetensors", LORA_HIGH},
    {"high-angle_low.safetensors", LORA_LOW},
    {"low-poly.safetensors", LORA_BY_NAME},
    {"HIGH_QUALITY.safetensors", LORA_BY_NAME},
    {"LowPoly.safetensors", LORA_BY_NAME},
    {"low_rank_adapter.safetensors", LORA_BY_NAME},
    {"cats_high_low.safetensors", LORA_BY_NAME},
    {"high_quality_faces.safetensors", LORA_BY_NAME},
    {"slow_motion_v2.safetensors", LORA_BOTH},
    {"HIGHWAY_v1.safetensors", LORA_BOTH},
    {"highway-rank64.safetensors", LORA_BOTH},
    {"lowrider_lora.safetensors", LORA_BOTH},
    {"SLOW_NOISE.safetensors", LORA_BOTH},
    {"slow.safetensors", LORA_BOTH},
    {"highlight-fp16.safetensors", LORA_BOTH},
    {"high_noise_low_noise.safetensors", LORA_BY_NAME},
    {"style.safetensors", LORA_BOTH},
    {"Wan22_T2V_14B_cats_H.safetensors", LORA_HIGH},
    {"Wan22_T2V_14B_cats_L.safetensors", LORA_LOW},
    {"cats-H-e8.safetensors", LORA_HIGH},
    {"cats_L_rank64_fp16.safetensors", LORA_LOW},
    {"cats-L-000020.safetensors", LORA_LOW},
    {"cats.H.v2.safetensors", LORA_HIGH},
    {"cats_HN.safetensors", LORA_HIGH},
    {"cats-LN-v1.1.safetensors", LORA_LOW},
    {"H_low_noise.safetensors", LORA_BY_NAME},
    {"cats_h.safetensors", LORA_BY_NAME},
    {"cats_ln_v2.safetensors", LORA_BY_NAME},
    {"cats_H_L.safetensors", LORA_BY_NAME},
    {"ViT-L_cats_H.safetensors", LORA_BY_NAME},
    {"H_hair.safetensors", LORA_BY_NAME},
    {"ViT-L-14_style.safetensors", LORA_BY_NAME},
    {"H.264.safetensors", LORA_BY_NAME},
    {"l'amour.safetensors", LORA_BOTH},
    {"SDXL.safetensors", LORA_BOTH},
    {"8H_v2.safetensors", LORA_BOTH},
    {"", LORA_BOTH},
};

static void experts_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof named_files / sizeof *named_files; i++) {
        struct model_lora lora = {.path = named_files[i].path};
        print_message("%s\n", named_files[i].path);
        bool unclear = named_files[i].expert == LORA_BY_NAME;
        assert_int_equal(model_lora_expert(&lora), unclear ? LORA_BOTH : named_files[i].expert);
        assert_int_equal(model_lora_is_unclear(&lora), unclear);
        lora.expert = LORA_HIGH; /* said is said */
        assert_int_equal(model_lora_expert(&lora), LORA_HIGH);
        assert_false(model_lora_is_unclear(&lora));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name),         cmocka_unit_test(several_files_and_differences),
        cmocka_unit_test(through_a_forward),  cmocka_unit_test(in_a_model),
        cmocka_unit_test(in_narrow_weights),  cmocka_unit_test(released),
        cmocka_unit_test(what_does_not_fit),  cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(sums_that_are_none), cmocka_unit_test(experts_by_name),
    };
    return cmocka_run_group_tests(tests, open_scene, close_scene);
}
