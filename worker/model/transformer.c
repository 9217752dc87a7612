#include "worker/model/transformer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/loader.h"
#include "worker/model/rope.h"

#define PATCH 4 /* latents of a token: 1·2·2 */

/* Chunks of a block's modulation. */
enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, CHUNKS };
enum { HEAD_SHIFT, HEAD_SCALE, HEAD_CHUNKS };
#define SCALES      (1u << SCALE1 | 1u << SCALE2)
#define HEAD_SCALES (1u << HEAD_SCALE)

struct block {
    const float *modulation;          /* [6,width] */
    const float *norm_mul, *norm_add; /* before cross-attention */
    const float *self_q_norm, *self_k_norm, *cross_q_norm, *cross_k_norm;
    struct layer self_qkv, self_out;
    struct layer cross_q, cross_kv, cross_out;
    struct layer ffn_in, ffn_out;
};

struct transformer {
    struct transformer_config config;
    struct layer patch;
    struct layer text1, text2;
    struct layer time1, time2, time_proj; /* f32 */
    struct block *block;
    const float *head_modulation; /* [2,width] */
    struct layer head;            /* f32 */
};

/* -- weights --------------------------------------------------------------------------------- */

static void load_one(struct loader *loader, struct layer *layer, const char *name, int64_t in,
                     int64_t out, enum dtype dtype) {
    loader_linear(loader, layer, &name, 1, in, out, true, dtype);
}

static void load_block(struct loader *loader, struct block *block,
                       const struct transformer_config *config, int index) {
    int64_t width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    loader_enter(loader, "blocks.%d.", index);
    block->modulation = loader_vector(loader, "scale_shift_table", CHUNKS * width);
    block->norm_mul = loader_vector(loader, "norm2.weight", width);
    block->norm_add = loader_vector(loader, "norm2.bias", width);
    load_one(loader, &block->ffn_in, "ffn.net.0.proj", width, config->ffn, dtype);
    load_one(loader, &block->ffn_out, "ffn.net.2", config->ffn, width, dtype);
    loader_enter(loader, "blocks.%d.attn1.", index);
    loader_linear(loader, &block->self_qkv, (const char *const[]){"to_q", "to_k", "to_v"}, 3, width,
                  width, true, dtype);
    load_one(loader, &block->self_out, "to_out.0", width, width, dtype);
    block->self_q_norm = loader_vector(loader, "norm_q.weight", width);
    block->self_k_norm = loader_vector(loader, "norm_k.weight", width);
    loader_enter(loader, "blocks.%d.attn2.", index);
    load_one(loader, &block->cross_q, "to_q", width, width, dtype);
    loader_linear(loader, &block->cross_kv, (const char *const[]){"to_k", "to_v"}, 2, width, width,
                  true, dtype);
    load_one(loader, &block->cross_out, "to_out.0", width, width, dtype);
    block->cross_q_norm = loader_vector(loader, "norm_q.weight", width);
    block->cross_k_norm = loader_vector(loader, "norm_k.weight", width);
}

static void load_ends(struct loader *loader, struct transformer *transformer) {
    const struct transformer_config *config = &transformer->config;
    int64_t width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    loader_enter(loader, "%s", "");
    loader_patch(loader, &transformer->patch, "patch_embedding", config->in_channels, width, dtype);
    transformer->head_modulation = loader_vector(loader, "scale_shift_table", HEAD_CHUNKS * width);
    load_one(loader, &transformer->head, "proj_out", width, (int64_t)PATCH * config->out_channels,
             DTYPE_F32);
    loader_enter(loader, "condition_embedder.");
    load_one(loader, &transformer->text1, "text_embedder.linear_1", config->text_width, width,
             dtype);
    load_one(loader, &transformer->text2, "text_embedder.linear_2", width, width, dtype);
    load_one(loader, &transformer->time1, "time_embedder.linear_1", config->frequencies, width,
             DTYPE_F32);
    load_one(loader, &transformer->time2, "time_embedder.linear_2", width, width, DTYPE_F32);
    load_one(loader, &transformer->time_proj, "time_proj", width, CHUNKS * width, DTYPE_F32);
}

enum error_code transformer_open(struct transformer **out, struct runtime *runtime,
                                 const struct weights *file,
                                 const struct transformer_config *config, int64_t *elements,
                                 struct error *error) {
    *out = NULL;
    struct transformer *transformer = calloc(1, sizeof *transformer);
    if (transformer == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a transformer");
    transformer->config = *config;
    transformer->block = calloc((size_t)config->layers, sizeof *transformer->block);
    if (transformer->block == NULL) {
        transformer_close(runtime, &transformer);
        return error_set(error, ERR_MEMORY, "no memory for a transformer");
    }
    struct loader loader;
    loader_start(&loader, runtime, file, NAMES_TRANSFORMER, error);
    load_ends(&loader, transformer);
    for (int i = 0; i < config->layers; i++)
        load_block(&loader, &transformer->block[i], config, i);
    enum error_code code = loader_finish(&loader, NULL);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        transformer_close(runtime, &transformer);
    *out = transformer;
    return code;
}

static void close_layers(struct runtime *runtime, struct layer *const *layers) {
    for (; *layers != NULL; layers++)
        layer_close(runtime, *layers);
}

void transformer_close(struct runtime *runtime, struct transformer **transformer) {
    struct transformer *t = *transformer;
    if (t == NULL)
        return;
    close_layers(runtime, (struct layer *const[]){&t->patch, &t->text1, &t->text2, &t->time1,
                                                  &t->time2, &t->time_proj, &t->head, NULL});
    for (int i = 0; t->block != NULL && i < t->config.layers; i++) {
        struct block *b = &t->block[i];
        close_layers(runtime,
                     (struct layer *const[]){&b->self_qkv, &b->self_out, &b->cross_q, &b->cross_kv,
                                             &b->cross_out, &b->ffn_in, &b->ffn_out, NULL});
    }
    free(t->block);
    free(t);
    *transformer = NULL;
}

const struct transformer_config *transformer_get_config(const struct transformer *transformer) {
    return &transformer->config;
}

/* -- what does not depend on time ------------------------------------------------------------ */

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
static void upload_text(struct transformer_text *text, struct runtime *runtime, void *out,
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

void transformer_text_open(struct transformer_text *text, const struct transformer *transformer,
                           struct runtime *runtime, const float *rows, int count, int text_length) {
    assert(count > 0 && count <= text_length);
    const struct transformer_config *config = &transformer->config;
    int64_t width = config->width;
    text->rows = count < text_length ? count + 1 : count;
    text->bias = count < text_length ? work_floats(runtime, text->rows) : NULL;
    uint8_t *kv = work_alloc(runtime, config->layers * text->rows * 2 * width, runtime->dtype);
    text->kv = kv;

    size_t mark = runtime->work->used;
    void *in = work_alloc(runtime, text->rows * config->text_width, runtime->dtype);
    void *hidden = work_alloc(runtime, text->rows * width, runtime->dtype);
    void *context = work_alloc(runtime, text->rows * width, runtime->dtype);
    upload_text(text, runtime, in, rows, count, config->text_width, text_length);
    run_linear(
        runtime, hidden, in, &transformer->text1, text->rows,
        &(struct linear_epilogue){.activation = ACTIVATION_GELU_TANH, .out_dtype = runtime->dtype});
    run_linear(runtime, context, hidden, &transformer->text2, text->rows,
               &(struct linear_epilogue){.out_dtype = runtime->dtype});
    for (int i = 0; i < config->layers; i++) {
        const struct block *block = &transformer->block[i];
        void *out = kv + (size_t)(i * text->rows * 2 * width) * dtype_bytes(runtime->dtype);
        run_linear(runtime, out, context, &block->cross_kv, text->rows,
                   &(struct linear_epilogue){.out_dtype = runtime->dtype});
        runtime->ops->qk_norm_rope(runtime->device, out, 2 * width, block->cross_k_norm, NULL, NULL,
                                   text->rows, config->heads, config->head_dim, config->eps,
                                   runtime->dtype);
    }
    arena_reset(runtime->work, mark);
}

/* -- one step -------------------------------------------------------------------------------- */

/* What a forward shares between its blocks. */
struct step {
    const struct transformer *transformer;
    struct runtime *runtime;
    const struct transformer_grid *grid;
    const struct transformer_text *text;
    const uint8_t *group; /* [tokens], or NULL */
    int groups;
    float *x;          /* [tokens,width] the residual stream */
    void *in;          /* [tokens,width] what a matrix product reads */
    void *wide;        /* [tokens, the widest of qkv and ffn] what it writes */
    float *time;       /* [groups,width]: the head's */
    float *time_parts; /* [6][groups,width]: the blocks' */
    float *modulation; /* [6][groups,width] of the block being run */
};

/* e = Linear(SiLU(Linear(sinusoids))) per group, and its projection to six parts. */
static void embed_time(struct step *step, const struct transformer_time *time) {
    struct runtime *runtime = step->runtime;
    const struct ops *ops = runtime->ops;
    const struct transformer *t = step->transformer;
    int64_t width = t->config.width, groups = step->groups;
    int frequencies = t->config.frequencies;
    size_t mark = runtime->work->used, row = (size_t)width * sizeof(float);
    float *waves = work_floats(runtime, groups * frequencies);
    float *hidden = work_floats(runtime, groups * width);
    float *parts = work_floats(runtime, groups * CHUNKS * width);
    for (int g = 0; g < step->groups; g++) {
        float host[1 << 12]; /* the largest that a configuration may ask for */
        rope_time_waves(host, time->value[g], frequencies);
        ops->upload(runtime->device, waves + (int64_t)g * frequencies, host,
                    (size_t)frequencies * sizeof *host);
    }
    run_linear(runtime, hidden, waves, &t->time1, groups,
               &(struct linear_epilogue){.activation = ACTIVATION_SILU, .out_dtype = DTYPE_F32});
    run_linear(runtime, step->time, hidden, &t->time2, groups,
               &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    ops->activate(runtime->device, hidden, step->time, groups * width, ACTIVATION_SILU);
    run_linear(runtime, parts, hidden, &t->time_proj, groups,
               &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    for (int c = 0; c < CHUNKS; c++) /* [groups,6,width] to [6,groups,width] */
        for (int g = 0; g < step->groups; g++)
            ops->copy(runtime->device, step->time_parts + (c * groups + g) * width,
                      parts + (g * CHUNKS + c) * width, row);
    arena_reset(runtime->work, mark);
}

/* modulation[c] = table[c] + e[c], plus 1 for scales, as [chunks][groups,width]. */
static void modulate(struct step *step, const float *table, const float *e, int chunks,
                     int e_chunks, uint32_t scales) {
    struct runtime *runtime = step->runtime;
    int64_t width = step->transformer->config.width;
    if (step->groups == 1) {
        runtime->ops->modulation(runtime->device, step->modulation, table, e, 1, chunks, e_chunks,
                                 width, scales);
        return;
    }
    for (int c = 0; c < chunks; c++) {
        const float *part = e_chunks == 1 ? e : e + c * step->groups * width;
        runtime->ops->modulation(runtime->device, step->modulation + c * step->groups * width,
                                 table + c * width, part, step->groups, 1, 1, width,
                                 scales >> c & 1u);
    }
}

static const float *part(const struct step *step, int chunk) {
    return step->modulation + (int64_t)chunk * step->groups * step->transformer->config.width;
}

static void norm(struct step *step, void *out, const float *mul, const float *add, bool grouped,
                 enum dtype dtype) {
    const struct transformer_config *config = &step->transformer->config;
    step->runtime->ops->layer_norm(step->runtime->device, out, step->x, mul, add,
                                   grouped ? step->group : NULL, step->grid->tokens, config->width,
                                   config->eps, dtype);
}

static void rope(struct step *step, void *x, int64_t stride, const float *weight, bool rotate) {
    const struct transformer_config *config = &step->transformer->config;
    step->runtime->ops->qk_norm_rope(
        step->runtime->device, x, stride, weight, rotate ? step->grid->cosine : NULL,
        rotate ? step->grid->sine : NULL, step->grid->tokens, config->heads, config->head_dim,
        config->eps, step->runtime->dtype);
}

/* x += gate ⊙ (in · Wᵀ + b); gate NULL: 1. */
static void add_to_stream(struct step *step, const void *in, const struct layer *layer,
                          const float *gate) {
    run_linear(step->runtime, step->x, in, layer, step->grid->tokens,
               &(struct linear_epilogue){.gate = gate,
                                         .group = gate != NULL ? step->group : NULL,
                                         .accumulate = true,
                                         .out_dtype = DTYPE_F32});
}

static void project(struct step *step, const struct layer *layer, enum activation activation) {
    run_linear(
        step->runtime, step->wide, step->in, layer, step->grid->tokens,
        &(struct linear_epilogue){.activation = activation, .out_dtype = step->runtime->dtype});
}

static struct attention_args attention_of(const struct step *step) {
    const struct transformer_config *config = &step->transformer->config;
    return (struct attention_args){.q = step->wide,
                                   .out = step->in,
                                   .out_stride = config->width,
                                   .q_length = step->grid->tokens,
                                   .heads = config->heads,
                                   .head_dim = config->head_dim,
                                   .scale = 1 / sqrtf((float)config->head_dim),
                                   .dtype = step->runtime->dtype};
}

static void self_attention(struct step *step, const struct block *block) {
    int64_t width = step->transformer->config.width;
    uint8_t *q = step->wide, *k = q + (size_t)width * dtype_bytes(step->runtime->dtype);
    norm(step, step->in, part(step, SCALE1), part(step, SHIFT1), true, step->runtime->dtype);
    project(step, &block->self_qkv, ACTIVATION_NONE);
    rope(step, q, 3 * width, block->self_q_norm, true);
    rope(step, k, 3 * width, block->self_k_norm, true);
    struct attention_args args = attention_of(step);
    args.k = k;
    args.v = k + (k - q);
    args.q_stride = args.k_stride = args.v_stride = 3 * width;
    args.k_length = step->grid->tokens;
    run_attention(step->runtime, &args);
    add_to_stream(step, step->in, &block->self_out, part(step, GATE1));
}

static void cross_attention(struct step *step, const struct block *block, int index) {
    int64_t width = step->transformer->config.width;
    size_t bytes = dtype_bytes(step->runtime->dtype);
    const uint8_t *kv =
        (const uint8_t *)step->text->kv + (size_t)(index * step->text->rows * 2 * width) * bytes;
    norm(step, step->in, block->norm_mul, block->norm_add, false, step->runtime->dtype);
    project(step, &block->cross_q, ACTIVATION_NONE);
    rope(step, step->wide, width, block->cross_q_norm, false);
    struct attention_args args = attention_of(step);
    args.k = kv;
    args.v = kv + (size_t)width * bytes;
    args.q_stride = width;
    args.k_stride = args.v_stride = 2 * width;
    args.k_length = step->text->rows;
    args.key_bias = step->text->bias;
    run_attention(step->runtime, &args);
    add_to_stream(step, step->in, &block->cross_out, NULL);
}

static void feed_forward(struct step *step, const struct block *block) {
    norm(step, step->in, part(step, SCALE2), part(step, SHIFT2), true, step->runtime->dtype);
    project(step, &block->ffn_in, ACTIVATION_GELU_TANH);
    add_to_stream(step, step->wide, &block->ffn_out, part(step, GATE2));
}

/* Latents and condition to tokens in the stream. */
static void embed_patches(struct step *step, const float *latents, const float *condition) {
    struct runtime *runtime = step->runtime;
    const struct transformer_config *config = &step->transformer->config;
    const struct transformer_grid *grid = step->grid;
    int given = config->in_channels - config->out_channels;
    assert((condition != NULL) == (given > 0));
    int64_t stride = (int64_t)PATCH * config->in_channels;
    size_t mark = runtime->work->used;
    void *tokens = work_alloc(runtime, grid->tokens * stride, runtime->dtype);
    runtime->ops->patchify(runtime->device, tokens, stride, 0, latents, config->out_channels,
                           grid->frames, grid->height, grid->width, runtime->dtype);
    if (given > 0)
        runtime->ops->patchify(runtime->device, tokens, stride,
                               (int64_t)PATCH * config->out_channels, condition, given,
                               grid->frames, grid->height, grid->width, runtime->dtype);
    run_linear(runtime, step->x, tokens, &step->transformer->patch, grid->tokens,
               &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    arena_reset(runtime->work, mark);
}

/* Norm, modulation and projection in f32, back to latents. */
static void run_head(struct step *step, float *velocity) {
    struct runtime *runtime = step->runtime;
    const struct transformer *t = step->transformer;
    const struct transformer_grid *grid = step->grid;
    size_t mark = runtime->work->used;
    modulate(step, t->head_modulation, step->time, HEAD_CHUNKS, 1, HEAD_SCALES);
    float *in = work_floats(runtime, grid->tokens * t->config.width);
    float *tokens = work_floats(runtime, grid->tokens * PATCH * t->config.out_channels);
    norm(step, in, part(step, HEAD_SCALE), part(step, HEAD_SHIFT), true, DTYPE_F32);
    run_linear(runtime, tokens, in, &t->head, grid->tokens,
               &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    runtime->ops->unpatchify(runtime->device, velocity, tokens, t->config.out_channels,
                             grid->frames, grid->height, grid->width);
    arena_reset(runtime->work, mark);
}

void transformer_forward(const struct transformer *transformer, struct runtime *runtime,
                         float *velocity, const float *latents, const float *condition,
                         const struct transformer_grid *grid, const struct transformer_text *text,
                         const struct transformer_time *time) {
    assert(time->count >= 1 && time->count <= TRANSFORMER_TIMES_MAX);
    const struct transformer_config *config = &transformer->config;
    int64_t width = config->width, wide = config->ffn > 3 * width ? config->ffn : 3 * width;
    size_t mark = runtime->work->used;
    struct step step = {.transformer = transformer,
                        .runtime = runtime,
                        .grid = grid,
                        .text = text,
                        .group = time->count > 1 ? time->group : NULL,
                        .groups = time->count};
    step.x = work_floats(runtime, grid->tokens * width);
    step.time = work_floats(runtime, step.groups * width);
    step.time_parts = work_floats(runtime, CHUNKS * step.groups * width);
    step.modulation = work_floats(runtime, CHUNKS * step.groups * width);
    embed_time(&step, time);
    embed_patches(&step, latents, condition);
    size_t blocks = runtime->work->used;
    step.in = work_alloc(runtime, grid->tokens * width, runtime->dtype);
    step.wide = work_alloc(runtime, grid->tokens * wide, runtime->dtype);
    for (int i = 0; i < config->layers; i++) {
        const struct block *block = &transformer->block[i];
        modulate(&step, block->modulation, step.time_parts, CHUNKS, CHUNKS, SCALES);
        self_attention(&step, block);
        cross_attention(&step, block, i);
        feed_forward(&step, block);
    }
    arena_reset(runtime->work, blocks);
    run_head(&step, velocity);
    arena_reset(runtime->work, mark);
}
