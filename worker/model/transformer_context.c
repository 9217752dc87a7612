/* What a forward reads and time does not change: positions, and the rows of text and image that the
 * video attends to. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "worker/model/rope.h"
#include "worker/model/transformer_layers.h"

/* Keys and values of all layers are kept when the video has fewer tokens than this for each row:
 * from there on making them anew in every forward is 1 % of its arithmetic or less, and they would
 * take hundreds of MiB for one text. Weights that are streamed are not read once more for them. */
#define KEEP_TOKENS_PER_ROW 16

#define IMAGE_EPS 1e-5f /* of the image embedder's norms */

enum error_code transformer_grid_open(struct transformer_grid *grid,
                                      const struct transformer *transformer,
                                      struct runtime *runtime, int64_t frames, int64_t height,
                                      int64_t width, struct error *error) {
    assert(frames > 0 && height > 0 && width > 0 && height % 2 == 0 && width % 2 == 0);
    int head_dim = transformer->config.head_dim;
    *grid = (struct transformer_grid){.frames = frames, .height = height, .width = width};
    grid->tokens = frames * (height / 2) * (width / 2);
    size_t count = (size_t)grid->tokens * (size_t)(head_dim / 2), bytes = count * sizeof(float);
    float *cosine = work_floats(runtime, (int64_t)count);
    float *sine = work_floats(runtime, (int64_t)count);
    grid->cosine = cosine;
    grid->sine = sine;
    if (runtime->work->measuring)
        return ERR_OK;
    float *host = malloc(2 * bytes);
    if (host == NULL)
        return error_set(error, ERR_MEMORY, "no memory for rotary tables: %zu bytes", 2 * bytes);
    rope_tables(host, host + count, frames, height / 2, width / 2, head_dim);
    runtime->ops->upload(runtime->device, cosine, host, bytes);
    runtime->ops->upload(runtime->device, sine, host + count, bytes);
    free(host);
    return ERR_OK;
}

/* Real rows and one row of padding [rows,text_width], and the padding's logit bias. */
static void upload_text(struct transformer_context *text, struct runtime *runtime, void *out,
                        const float *rows, int count, int text_width, int text_length) {
    const struct ops *ops = runtime->ops;
    float *exact = work_floats(runtime, text->rows * text_width);
    ops->upload(runtime->device, exact, rows, (size_t)count * (size_t)text_width * sizeof *exact);
    if (text->rows > count) {
        ops->zero(runtime->device, exact + (int64_t)count * text_width,
                  (size_t)text_width * sizeof *exact);
        float *bias = (float *)text->bias, padding = logf((float)(text_length - count));
        ops->zero(runtime->device, bias, (size_t)count * sizeof *bias);
        ops->upload(runtime->device, bias + count, &padding, sizeof padding);
    }
    ops->convert(runtime->device, out, runtime->dtype, exact, DTYPE_F32, text->rows * text_width);
}

void transformer_make_kv(const struct transformer *transformer, struct runtime *runtime, void *out,
                         const struct transformer_context *context, int layer) {
    const struct transformer_config *config = &transformer->config;
    const struct block *block = &transformer->block[layer];
    run_linear(runtime, out, context->embedded,
               context->image ? &block->image_kv : &block->cross_kv, context->rows,
               &(struct linear_epilogue){.out_dtype = runtime->dtype});
    runtime->ops->qk_norm_rope(runtime->device, out, 2 * (int64_t)config->width,
                               context->image ? block->image_k_norm : block->cross_k_norm, NULL,
                               NULL, context->rows, config->heads, config->head_dim, config->eps,
                               runtime->dtype);
}

/* Room for what a context keeps, before the scratch that makes it. */
static void keep(struct transformer_context *context, const struct transformer *transformer,
                 struct runtime *runtime, const struct transformer_grid *grid) {
    const struct transformer_config *config = &transformer->config;
    context->embedded = work_alloc(runtime, context->rows * config->width, runtime->dtype);
    if (grid->tokens < KEEP_TOKENS_PER_ROW * context->rows && !runtime->streaming)
        context->kv =
            work_alloc(runtime, config->layers * context->rows * 2 * config->width, runtime->dtype);
}

static void fill_kv(struct transformer_context *context, const struct transformer *transformer,
                    struct runtime *runtime) {
    const struct transformer_config *config = &transformer->config;
    size_t bytes = (size_t)(context->rows * 2 * config->width) * dtype_bytes(runtime->dtype);
    for (int i = 0; context->kv != NULL && i < config->layers; i++) {
        run_block(runtime, transformer->stream, i + 1);
        transformer_make_kv(transformer, runtime, (uint8_t *)context->kv + (size_t)i * bytes,
                            context, i);
    }
}

void transformer_text_open(struct transformer_context *text, const struct transformer *transformer,
                           struct runtime *runtime, const struct transformer_grid *grid,
                           const float *rows, int count, int text_length) {
    assert(count > 0 && count <= text_length);
    const struct transformer_config *config = &transformer->config;
    *text = (struct transformer_context){.rows = count < text_length ? count + 1 : count};
    text->bias = count < text_length ? work_floats(runtime, text->rows) : NULL;
    keep(text, transformer, runtime, grid);
    size_t mark = runtime->work->used;
    void *in = work_alloc(runtime, text->rows * config->text_width, runtime->dtype);
    void *hidden = work_alloc(runtime, text->rows * config->width, runtime->dtype);
    run_block(runtime, transformer->stream, 0);
    upload_text(text, runtime, in, rows, count, config->text_width, text_length);
    run_linear(
        runtime, hidden, in, &transformer->text1, text->rows,
        &(struct linear_epilogue){.activation = ACTIVATION_GELU_TANH, .out_dtype = runtime->dtype});
    run_linear(runtime, text->embedded, hidden, &transformer->text2, text->rows,
               &(struct linear_epilogue){.out_dtype = runtime->dtype});
    fill_kv(text, transformer, runtime);
    arena_reset(runtime->work, mark);
}

void transformer_image_open(struct transformer_context *image,
                            const struct transformer *transformer, struct runtime *runtime,
                            const struct transformer_grid *grid, const float *rows, int64_t count) {
    const struct ops *ops = runtime->ops;
    const struct transformer_config *config = &transformer->config;
    const struct image_embedder *embedder = &transformer->image;
    int64_t in_width = config->image_width, width = config->width;
    assert(in_width > 0 && (config->image_rows == 0 || config->image_rows == count));
    *image = (struct transformer_context){.rows = count, .image = true};
    keep(image, transformer, runtime, grid);
    size_t mark = runtime->work->used;
    float *exact = work_floats(runtime, count * (in_width > width ? in_width : width));
    void *in = work_alloc(runtime, count * in_width, runtime->dtype);
    void *hidden = work_alloc(runtime, count * in_width, runtime->dtype);
    run_block(runtime, transformer->stream, 0);
    if (embedder->position != NULL) {
        ops->combine(runtime->device, exact, (const float *const[]){rows, embedder->position},
                     (const float[]){1, 1}, 2, count * in_width);
        rows = exact;
    }
    ops->layer_norm(runtime->device, in, rows, embedder->norm1_mul, embedder->norm1_add, NULL,
                    count, in_width, IMAGE_EPS, runtime->dtype);
    run_linear(
        runtime, hidden, in, &embedder->in, count,
        &(struct linear_epilogue){.activation = ACTIVATION_GELU_ERF, .out_dtype = runtime->dtype});
    run_linear(runtime, exact, hidden, &embedder->out, count,
               &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    ops->layer_norm(runtime->device, image->embedded, exact, embedder->norm2_mul,
                    embedder->norm2_add, NULL, count, width, IMAGE_EPS, runtime->dtype);
    fill_kv(image, transformer, runtime);
    arena_reset(runtime->work, mark);
}
