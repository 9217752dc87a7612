#include "worker/model/transformer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/narrow.h"
#include "worker/model/rope.h"
#include "worker/model/transformer_layers.h"

#define SCALES      (1u << SCALE1 | 1u << SCALE2)
#define HEAD_SCALES (1u << HEAD_SCALE)

/* What a forward shares between its blocks. */
struct step {
    const struct transformer *transformer;
    struct runtime *runtime;
    const struct transformer_grid *grid;
    const struct transformer_context *text, *image; /* image may be NULL */
    const uint8_t *group;                           /* [tokens], or NULL */
    int groups;
    float *x;          /* [tokens,width] the residual stream */
    void *in;          /* [tokens,width] what a matrix product reads */
    void *wide;        /* [tokens,3·width] or [rows of a part,ffn]: what it writes */
    void *narrow;      /* for attention in 8 bits; NULL: not so */
    void *kv;          /* of the layer being run, where a context does not keep them */
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
    run_block(runtime, t->stream, 0);
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

/* Of the stream from row `row` on, on the way into a product. */
static struct norm_args norm_of(const struct step *step, const float *mul, const float *add,
                                const uint8_t *group, int64_t row) {
    return (struct norm_args){.x = step->x + row * step->transformer->config.width,
                              .mul = mul,
                              .add = add,
                              .group = group != NULL ? group + row : NULL,
                              .eps = step->transformer->config.eps,
                              .rows = step->in};
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

static void project(struct step *step, const struct norm_args *norm, const struct layer *layer) {
    run_norm_linear(step->runtime, step->wide, norm, layer, step->grid->tokens,
                    &(struct linear_epilogue){.out_dtype = step->runtime->dtype});
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
    const struct norm_args norm =
        norm_of(step, part(step, SCALE1), part(step, SHIFT1), step->group, 0);
    project(step, &norm, &block->self_qkv);
    rope(step, q, 3 * width, block->self_q_norm, true);
    rope(step, k, 3 * width, block->self_k_norm, true);
    struct attention_args args = attention_of(step);
    args.k = k;
    args.v = k + (k - q);
    args.q_stride = args.k_stride = args.v_stride = 3 * width;
    args.k_length = step->grid->tokens;
    args.narrow = step->narrow;
    run_attention(step->runtime, &args);
    add_to_stream(step, step->in, &block->self_out, part(step, GATE1));
}

/* The projected queries attend to one context. */
static void attend_context(struct step *step, void *out, const struct transformer_context *context,
                           int index) {
    int64_t width = step->transformer->config.width;
    size_t bytes = dtype_bytes(step->runtime->dtype);
    const uint8_t *kv = step->kv;
    if (context->kv != NULL)
        kv = (const uint8_t *)context->kv + (size_t)(index * context->rows * 2 * width) * bytes;
    else
        transformer_make_kv(step->transformer, step->runtime, step->kv, context, index);
    struct attention_args args = attention_of(step);
    args.out = out;
    args.k = kv;
    args.v = kv + (size_t)width * bytes;
    args.q_stride = width;
    args.k_stride = args.v_stride = 2 * width;
    args.k_length = context->rows;
    args.key_bias = context->bias;
    run_attention(step->runtime, &args);
}

/* To the text, and to the image by itself; both results are added. */
static void cross_attention(struct step *step, const struct block *block, int index) {
    struct runtime *runtime = step->runtime;
    int64_t count = step->grid->tokens * step->transformer->config.width;
    const struct norm_args norm = norm_of(step, block->norm_mul, block->norm_add, NULL, 0);
    project(step, &norm, &block->cross_q);
    rope(step, step->wide, step->transformer->config.width, block->cross_q_norm, false);
    attend_context(step, step->in, step->text, index);
    if (step->image != NULL) {
        void *other = (uint8_t *)step->wide + (size_t)count * dtype_bytes(runtime->dtype);
        attend_context(step, other, step->image, index);
        runtime->ops->add(runtime->device, step->in, step->in, other, count, runtime->dtype);
    }
    add_to_stream(step, step->in, &block->cross_out, NULL);
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A part of the rows at a time: the hidden rows of all would be the largest thing in memory. */
static void feed_forward(struct step *step, const struct block *block) {
    struct runtime *runtime = step->runtime;
    const struct transformer_config *config = &step->transformer->config;
    const float *gate = part(step, GATE2);
    for (int64_t row = 0; row < step->grid->tokens; row += FEED_FORWARD_ROWS) {
        int64_t rows = smaller(FEED_FORWARD_ROWS, step->grid->tokens - row);
        const struct norm_args norm =
            norm_of(step, part(step, SCALE2), part(step, SHIFT2), step->group, row);
        run_norm_linear(runtime, step->wide, &norm, &block->ffn_in, rows,
                        &(struct linear_epilogue){.activation = ACTIVATION_GELU_TANH,
                                                  .out_dtype = runtime->dtype});
        run_linear(
            runtime, step->x + row * config->width, step->wide, &block->ffn_out, rows,
            &(struct linear_epilogue){.gate = gate,
                                      .group = step->group != NULL ? step->group + row : NULL,
                                      .accumulate = true,
                                      .out_dtype = DTYPE_F32});
    }
}

/* Latents and condition to tokens in the stream. */
static void embed_patches(struct step *step, const float *latents, const float *condition) {
    struct runtime *runtime = step->runtime;
    const struct transformer_config *config = &step->transformer->config;
    const struct transformer_grid *grid = step->grid;
    int given = config->in_channels - config->out_channels;
    assert((condition != NULL) == (given > 0));
    int64_t stride = (int64_t)TRANSFORMER_PATCH * config->in_channels;
    size_t mark = runtime->work->used;
    void *tokens = work_alloc(runtime, grid->tokens * stride, runtime->dtype);
    runtime->ops->patchify(runtime->device, tokens, stride, 0, latents, config->out_channels,
                           grid->frames, grid->height, grid->width, runtime->dtype);
    if (given > 0)
        runtime->ops->patchify(runtime->device, tokens, stride,
                               (int64_t)TRANSFORMER_PATCH * config->out_channels, condition, given,
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
    float *tokens = work_floats(runtime, grid->tokens * TRANSFORMER_PATCH * t->config.out_channels);
    struct norm_args norm =
        norm_of(step, part(step, HEAD_SCALE), part(step, HEAD_SHIFT), step->group, 0);
    norm.rows = work_floats(runtime, grid->tokens * t->config.width);
    run_norm_linear(runtime, tokens, &norm, &t->head, grid->tokens,
                    &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    runtime->ops->unpatchify(runtime->device, velocity, tokens, t->config.out_channels,
                             grid->frames, grid->height, grid->width);
    arena_reset(runtime->work, mark);
}

/* Bytes of a context's keys and values of one layer, where it does not keep them. */
static int64_t kv_elements(const struct transformer *transformer,
                           const struct transformer_context *context) {
    bool made = context != NULL && context->kv == NULL;
    return made ? context->rows * 2 * transformer->config.width : 0;
}

static void *narrow_memory(const struct step *step) {
    struct attention_args args = attention_of(step);
    args.k_length = step->grid->tokens;
    return step->runtime->attention8 && narrow_suits(&args)
               ? work_alloc(step->runtime, (int64_t)narrow_layout(&args).bytes, DTYPE_U8)
               : NULL;
}

static void run_blocks(struct step *step) {
    struct runtime *runtime = step->runtime;
    const struct transformer_config *config = &step->transformer->config;
    int64_t tokens = step->grid->tokens, qkv = tokens * 3 * config->width;
    int64_t hidden = smaller(tokens, FEED_FORWARD_ROWS) * config->ffn;
    int64_t text = kv_elements(step->transformer, step->text);
    int64_t image = kv_elements(step->transformer, step->image);
    size_t mark = runtime->work->used;
    step->in = work_alloc(runtime, tokens * config->width, runtime->dtype);
    step->wide = work_alloc(runtime, qkv > hidden ? qkv : hidden, runtime->dtype);
    step->narrow = narrow_memory(step);
    step->kv = work_alloc(runtime, text > image ? text : image, runtime->dtype);
    for (int i = 0; i < config->layers; i++) {
        const struct block *block = &step->transformer->block[i];
        run_block(runtime, step->transformer->stream, i + 1);
        modulate(step, block->modulation, step->time_parts, CHUNKS, CHUNKS, SCALES);
        self_attention(step, block);
        cross_attention(step, block, i);
        feed_forward(step, block);
    }
    arena_reset(runtime->work, mark);
}

/* What a forward's operations are given, time's own apart: that comes to the device before them. */
struct forward {
    struct step step;
    const struct transformer_input *input;
    float *velocity;
};

/* All of it that may differ between two forwards, as bytes: no padding is looked at. Memory that a
 * forward takes for itself follows from where the stream `x` lies. */
struct forward_key {
    const void *transformer, *x, *velocity, *latents, *condition, *group, *cosine, *sine;
    const void *text[3], *image[3];
    int64_t frames, height, width, text_rows, image_rows, groups, attention8;
};

static void describe_context(const void *pointers[3], int64_t *rows,
                             const struct transformer_context *context) {
    if (context == NULL)
        return;
    pointers[0] = context->embedded;
    pointers[1] = context->kv;
    pointers[2] = context->bias;
    *rows = context->rows;
}

static struct forward_key key_of(const struct forward *forward) {
    const struct step *step = &forward->step;
    const struct transformer_grid *grid = step->grid;
    struct forward_key key;
    memset(&key, 0, sizeof key);
    key.transformer = step->transformer;
    key.x = step->x;
    key.velocity = forward->velocity;
    key.latents = forward->input->latents;
    key.condition = forward->input->condition;
    key.group = step->group;
    key.cosine = grid->cosine;
    key.sine = grid->sine;
    key.frames = grid->frames;
    key.height = grid->height;
    key.width = grid->width;
    key.groups = step->groups;
    key.attention8 = step->runtime->attention8;
    describe_context(key.text, &key.text_rows, step->text);
    describe_context(key.image, &key.image_rows, step->image);
    return key;
}

static bool queue_forward(void *context) {
    struct forward *forward = context;
    struct step *step = &forward->step;
    embed_patches(step, forward->input->latents, forward->input->condition);
    run_blocks(step);
    run_head(step, forward->velocity);
    return !run_is_stopped(step->runtime);
}

/* What a forward computes, by running it on the table that computes nothing. */
static double count_flops(const struct forward *forward) {
    struct forward dry = *forward;
    struct runtime runtime = *forward->step.runtime;
    struct arena work;
    arena_open_measuring(&work);
    runtime.ops = ops_measure();
    runtime.work = &work;
    runtime.flops = 0;
    dry.step.runtime = &runtime;
    (void)queue_forward(&dry);
    return runtime.flops;
}

void transformer_forward(const struct transformer *transformer, struct runtime *runtime,
                         float *velocity, const struct transformer_input *input) {
    const struct transformer_time *time = &input->time;
    assert(time->count >= 1 && time->count <= TRANSFORMER_TIMES_MAX);
    assert((input->image != NULL) == (transformer->config.image_width > 0));
    int64_t width = transformer->config.width;
    size_t mark = runtime->work->used;
    struct forward forward = {.step = {.transformer = transformer,
                                       .runtime = runtime,
                                       .grid = input->grid,
                                       .text = input->text,
                                       .image = input->image,
                                       .group = time->count > 1 ? time->group : NULL,
                                       .groups = time->count},
                              .input = input,
                              .velocity = velocity};
    struct step *step = &forward.step;
    step->x = work_floats(runtime, step->grid->tokens * width);
    step->time = work_floats(runtime, step->groups * width);
    step->time_parts = work_floats(runtime, CHUNKS * step->groups * width);
    step->modulation = work_floats(runtime, CHUNKS * step->groups * width);
    embed_time(step, time);
    const struct forward_key key = key_of(&forward);
    static_assert(sizeof key <= OPS_KEY_MAX, "a key of repeat");
    double before = runtime->flops;
    runtime->ops->repeat(runtime->device, &key, sizeof key, queue_forward, &forward);
    if (runtime->flops == before) /* the device did it without asking */
        runtime->flops += count_flops(&forward);
    arena_reset(runtime->work, mark);
}
