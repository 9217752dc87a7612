#include "kernels/speed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu/float.h"
#include "kernels/narrow.h"
#include "kernels/quantise.h"

#define SAMPLES   5
#define CALLS_MAX 2000
#define TOO_LONG  5.0 /* seconds of a call that is not repeated: something is amiss */
#define PATTERN   ((int64_t)1 << 20) /* random numbers, repeated in every operand */

/* Width, heads of 128 and hidden width of a transformer. */
struct shape {
    const char *name;
    int64_t width, heads, ffn;
};

struct sizes {
    size_t arena_bytes, copy_bytes;
    int64_t product; /* M = N = K */
    int64_t tokens, text, heads_14b;
    struct shape shapes[2];
    int64_t frames, height, width; /* of the VAE's largest activations: a piece of a video */
};

static const struct sizes full = {.arena_bytes = (size_t)6 << 30,
                                  .copy_bytes = (size_t)2 << 30,
                                  .product = 8192,
                                  .tokens = 32760,
                                  .text = 512,
                                  .heads_14b = 40,
                                  .shapes = {{"1.3b", 1536, 12, 8960}, {"14b", 5120, 40, 13824}},
                                  .frames = 4,
                                  .height = 480,
                                  .width = 832};
static const struct sizes small = {.arena_bytes = (size_t)256 << 20,
                                   .copy_bytes = (size_t)8 << 20,
                                   .product = 256,
                                   .tokens = 240,
                                   .text = 32,
                                   .heads_14b = 3,
                                   .shapes = {{"1.3b", 256, 2, 512}, {"14b", 384, 3, 640}},
                                   .frames = 2,
                                   .height = 32,
                                   .width = 48};

struct speed {
    const struct speed_config *config;
    const struct ops *ops;
    const struct sizes *sizes;
    struct device *device;
    struct arena arena;
    float *pattern, *there; /* PATTERN normal numbers on the host, and on the device */
    enum error_code code;   /* the first failure; nothing is measured after it */
    struct error *error;
};

/* -- operands --------------------------------------------------------------------------------- */

static void *room(struct speed *s, size_t bytes) {
    void *out = s->code == ERR_OK ? arena_alloc(&s->arena, bytes) : NULL;
    if (s->code == ERR_OK && out == NULL) {
        s->code = error_set(s->error, ERR_MEMORY, "a shape needs more than the %zu bytes taken",
                            s->arena.capacity);
    }
    return out;
}

/* Random: zeros would be faster than what is real. */
static void *operand(struct speed *s, int64_t elements, enum dtype dtype) {
    uint8_t *out = room(s, (size_t)elements * dtype_bytes(dtype));
    for (int64_t i = 0; out != NULL && i < elements; i += PATTERN) {
        int64_t count = elements - i < PATTERN ? elements - i : PATTERN;
        s->ops->convert(s->device, out + (size_t)i * dtype_bytes(dtype), dtype, s->there, DTYPE_F32,
                        count);
    }
    return out;
}

/* bf16 on the host, of the size that keeps a layer's output that of its input. NULL: no memory. */
static void *weights(struct speed *s, int64_t elements, int64_t inputs) {
    uint16_t *out = malloc((size_t)elements * sizeof *out);
    if (out == NULL && s->code == ERR_OK) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory for weights");
    }
    int64_t first = elements < PATTERN ? elements : PATTERN;
    double scale = 1;
    while (scale * scale * (double)inputs > 1) {
        scale /= 2;
    }
    for (int64_t i = 0; out != NULL && i < first; i++) {
        float_store(out, DTYPE_BF16, i, s->pattern[i] * (float)scale);
    }
    for (int64_t i = first; out != NULL && i < elements; i += PATTERN) {
        int64_t count = elements - i < PATTERN ? elements - i : PATTERN;
        memcpy(out + i, out, (size_t)count * sizeof *out);
    }
    return out;
}

/* -- time ------------------------------------------------------------------------------------- */

/* Queues one call. */
typedef void call(struct speed *s, const void *args);

static double time_calls(struct speed *s, call *run, const void *args, int calls) {
    int64_t before = clock_monotonic_ns();
    for (int i = 0; i < calls; i++) {
        run(s, args);
    }
    if (s->code == ERR_OK) {
        s->code = s->ops->status(s->device, s->error);
    }
    return (double)(clock_monotonic_ns() - before) / (double)CLOCK_S / calls;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of a call, the median of some samples; 0 after a failure. */
static double seconds_of(struct speed *s, call *run, const void *args) {
    double sample[SAMPLES], budget = s->config->seconds > 0 ? s->config->seconds : 0.3;
    if (s->code != ERR_OK) {
        return 0;
    }
    double once = time_calls(s, run, args, 1); /* plans are made, algorithms measured */
    if (once > TOO_LONG) {
        return s->code == ERR_OK ? once : 0;
    }
    once = time_calls(s, run, args, 2);
    double calls = budget / SAMPLES / (once > 0 ? once : 1e-9);
    for (int i = 0; i < SAMPLES; i++) {
        sample[i] = time_calls(s, run, args,
                               calls < 1           ? 1
                               : calls > CALLS_MAX ? CALLS_MAX
                                                   : (int)calls);
    }
    qsort(sample, SAMPLES, sizeof *sample, by_value);
    return s->code == ERR_OK ? sample[SAMPLES / 2] : 0;
}

static void PRINTF_LIKE(5, 6)
    put(struct speed *s, const char *key, double value, const char *unit, const char *format, ...) {
    struct figure figure = {.key = key, .value = value, .unit = unit};
    va_list values;
    va_start(values, format);
    (void)vsnprintf(figure.what, sizeof figure.what, format, values);
    va_end(values);
    if (s->code == ERR_OK) {
        s->config->put(s->config->user, &figure);
    }
}

/* -- attention -------------------------------------------------------------------------------- */

static void run_attention(struct speed *s, const void *args) {
    s->ops->attention(s->device, args);
}

/* Ours, ours in 8 bits, the vendor's. */
enum attention_by { BY_US, BY_US_IN_8_BITS, BY_LIBRARY };

static void measure_attention(struct speed *s, const char *key, int64_t q, int64_t k, int64_t heads,
                              int64_t head_dim, enum attention_by by) {
    static const char *const words[] = {"bf16", "8 bits", "bf16 by cuDNN"};
    int64_t width = heads * head_dim;
    struct attention_args args = {.q = operand(s, q * width, DTYPE_BF16),
                                  .k = operand(s, k * width, DTYPE_BF16),
                                  .v = operand(s, k * width, DTYPE_BF16),
                                  .out = room(s, (size_t)(q * width) * 2),
                                  .q_stride = width,
                                  .k_stride = width,
                                  .v_stride = width,
                                  .out_stride = width,
                                  .q_length = q,
                                  .k_length = k,
                                  .heads = (int)heads,
                                  .head_dim = (int)head_dim,
                                  .scale = head_dim == 128 ? 0.08838834765f : 0.125f,
                                  .library = by == BY_LIBRARY,
                                  .dtype = DTYPE_BF16};
    if (by == BY_US_IN_8_BITS) {
        args.narrow = room(s, narrow_layout(&args).bytes);
    }
    double seconds = seconds_of(s, run_attention, &args);
    double flops = 4.0 * (double)q * (double)k * (double)width;
    put(s, key, flops / seconds * 1e-12, "TFLOP/s",
        "attention %s, %lld heads of %lld, %lld tokens to %lld", words[by], (long long)heads,
        (long long)head_dim, (long long)q, (long long)k);
    arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
}

static void measure_attentions(struct speed *s) {
    const struct sizes *z = s->sizes;
    int64_t heads = z->shapes[0].heads;
    measure_attention(s, "attention_128", z->tokens, z->tokens, heads, 128, BY_US);
    if (strcmp(s->ops->name, "cuda") == 0) {
        measure_attention(s, "attention_128_cudnn", z->tokens, z->tokens, heads, 128, BY_LIBRARY);
    }
    measure_attention(s, "attention8_128", z->tokens, z->tokens, heads, 128, BY_US_IN_8_BITS);
    measure_attention(s, "attention_64", z->tokens, z->tokens, 2 * heads, 64, BY_US);
    measure_attention(s, "attention_cross", z->tokens, z->text, heads, 128, BY_US);
    measure_attention(s, "attention_14b", z->tokens, z->tokens, z->heads_14b, 128, BY_US);
}

/* -- linear layers ---------------------------------------------------------------------------- */

struct product {
    struct linear *linear;
    void *out;
    const void *in;
    int64_t rows;
    struct linear_epilogue epilogue;
};

static void run_linear(struct speed *s, const void *args) {
    const struct product *p = args;
    s->ops->linear(s->device, p->out, p->in, p->linear, p->rows, &p->epilogue);
}

/* Weights and bias on the host. */
struct layer_data {
    struct tensor weight, bias;
    void *wide, *narrow;
    float *scale, *zeros;
};

/* Of BF16; or of I8 or F8_E4M3, for products in 8 bits. */
static void make_layer(struct speed *s, struct layer_data *out, int64_t outputs, int64_t inputs,
                       enum dtype type) {
    const bool narrow = type != DTYPE_BF16;
    memset(out, 0, sizeof *out);
    out->wide = weights(s, outputs * inputs, inputs);
    out->zeros = calloc((size_t)outputs, sizeof *out->zeros);
    out->weight = (struct tensor){
        .data = out->wide, .dtype = DTYPE_BF16, .rank = 2, .dim = {outputs, inputs}};
    out->bias =
        (struct tensor){.data = out->zeros, .dtype = DTYPE_F32, .rank = 1, .dim = {outputs}};
    if (narrow) {
        out->narrow = malloc((size_t)(outputs * inputs));
        out->scale = malloc((size_t)quantise_scales(outputs, inputs, type) * sizeof *out->scale);
    }
    bool whole = out->wide != NULL && out->zeros != NULL &&
                 (!narrow || (out->narrow != NULL && out->scale != NULL));
    if (!whole && s->code == ERR_OK) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory for a layer");
    }
    if (whole && narrow) {
        const struct tensor wide = out->weight;
        quantise(&out->weight, out->narrow, out->scale, &wide, type);
    }
}

static void free_layer(struct layer_data *data) {
    free(data->wide);
    free(data->narrow);
    free(data->scale);
    free(data->zeros);
}

/* A layer as the transformer uses it: its way in (bf16, perhaps GELU), or its way back into the
 * stream (f32, a gate, a sum). Seconds. */
static double time_linear(struct speed *s, int64_t rows, int64_t outputs, int64_t inputs,
                          bool to_stream, enum activation activation, enum dtype type) {
    struct layer_data data;
    make_layer(s, &data, outputs, inputs, type);
    struct product p = {.in = operand(s, rows * inputs, DTYPE_BF16),
                        .rows = rows,
                        .epilogue = {.activation = activation, .out_dtype = DTYPE_BF16}};
    if (to_stream) {
        p.epilogue = (struct linear_epilogue){
            .gate = operand(s, outputs, DTYPE_F32), .accumulate = true, .out_dtype = DTYPE_F32};
    }
    p.out = operand(s, rows * outputs, p.epilogue.out_dtype);
    if (s->code == ERR_OK) {
        s->code =
            s->ops->linear_create(s->device, &p.linear, &(const struct tensor *){&data.weight},
                                  &(const struct tensor *){&data.bias}, 1, DTYPE_BF16, s->error);
    }
    double seconds = seconds_of(s, run_linear, &p);
    if (p.linear != NULL) {
        s->ops->linear_close(s->device, &p.linear);
    }
    free_layer(&data);
    arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
    return seconds;
}

static void measure_product(struct speed *s) {
    int64_t n = s->sizes->product;
    double seconds = time_linear(s, n, n, n, false, ACTIVATION_NONE, DTYPE_BF16);
    put(s, "matmul", 2.0 * (double)n * (double)n * (double)n / seconds * 1e-12, "TFLOP/s",
        "a product of %lld x %lld x %lld, bf16", (long long)n, (long long)n, (long long)n);
}

/* Of the layers of a block: all together, and each alone. */
struct block_keys {
    const char *all, *each[4]; /* each NULL: not told */
};

static void measure_block(struct speed *s, const struct shape *shape, enum dtype type,
                          const struct block_keys *keys) {
    const int64_t d = shape->width, f = shape->ffn, rows = s->sizes->tokens;
    const struct {
        const char *what;
        int64_t outputs, inputs;
        bool to_stream;
        enum activation activation;
    } layers[] = {{"qkv", 3 * d, d, false, ACTIVATION_NONE},
                  {"out, gate, sum", d, d, true, ACTIVATION_NONE},
                  {"up, GELU", f, d, false, ACTIVATION_GELU_TANH},
                  {"down, gate, sum", d, f, true, ACTIVATION_NONE}};
    double flops = 0, seconds = 0;
    for (int i = 0; i < 4; i++) {
        double one = 2.0 * (double)rows * (double)layers[i].outputs * (double)layers[i].inputs;
        double took = time_linear(s, rows, layers[i].outputs, layers[i].inputs, layers[i].to_stream,
                                  layers[i].activation, type);
        if (keys->each[i] != NULL) {
            put(s, keys->each[i], one / took * 1e-12, "TFLOP/s",
                "linear %s, %s, %lld rows, %lld to %lld", shape->name, layers[i].what,
                (long long)rows, (long long)layers[i].inputs, (long long)layers[i].outputs);
        }
        flops += one;
        seconds += took;
    }
    put(s, keys->all, flops / seconds * 1e-12, "TFLOP/s",
        "linear layers of a %s block, %lld rows, %s", shape->name, (long long)rows,
        type == DTYPE_I8        ? "int8"
        : type == DTYPE_F8_E4M3 ? "f8"
                                : "bf16");
}

static void measure_blocks(struct speed *s) {
    static const struct block_keys keys[2] = {
        {"linear_1.3b",
         {"linear_1.3b_qkv", "linear_1.3b_out", "linear_1.3b_up", "linear_1.3b_down"}},
        {"linear_14b", {"linear_14b_qkv", "linear_14b_out", "linear_14b_up", "linear_14b_down"}}};
    static const struct block_keys int8_keys[2] = {{.all = "linear8_1.3b"}, {.all = "linear8_14b"}};
    static const struct block_keys f8_keys[2] = {{.all = "linear_f8_1.3b"},
                                                 {.all = "linear_f8_14b"}};
    for (int i = 0; i < 2; i++) {
        measure_block(s, &s->sizes->shapes[i], DTYPE_BF16, &keys[i]);
        measure_block(s, &s->sizes->shapes[i], DTYPE_I8, &int8_keys[i]);
        measure_block(s, &s->sizes->shapes[i], DTYPE_F8_E4M3, &f8_keys[i]);
    }
}

/* -- convolutions ----------------------------------------------------------------------------- */

struct convolution {
    struct conv *conv;
    struct conv_args args;
};

static void run_conv(struct speed *s, const void *args) {
    const struct convolution *c = args;
    s->ops->conv(s->device, c->conv, &c->args);
}

/* 3x3x3 with the two frames before it as history and a residual: a layer of the VAE's. */
static void measure_conv(struct speed *s, const char *key, int64_t channels, int64_t frames,
                         int64_t height, int64_t width) {
    const int64_t inputs = 27 * channels, pixels = height * width;
    void *data = weights(s, channels * inputs, inputs);
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, (int)channels, (int)channels};
    struct tensor weight = {
        .data = data, .dtype = DTYPE_BF16, .rank = 5, .dim = {channels, channels, 3, 3, 3}};
    const uint16_t *in = operand(s, (frames + 2) * pixels * channels, DTYPE_BF16);
    struct convolution c = {.args = {.residual = operand(s, frames * pixels * channels, DTYPE_BF16),
                                     .out = room(s, (size_t)(frames * pixels * channels) * 2),
                                     .history = in,
                                     .history_frames = 2,
                                     .frames = frames,
                                     .height = height,
                                     .width = width,
                                     .pad_top = 1,
                                     .pad_bottom = 1,
                                     .pad_left = 1,
                                     .pad_right = 1}};
    if (s->code == ERR_OK) {
        c.args.in = in + 2 * pixels * channels;
        s->code =
            s->ops->conv_create(s->device, &c.conv, &shape, &weight, NULL, DTYPE_BF16, s->error);
    }
    double seconds = seconds_of(s, run_conv, &c);
    put(s, key, 2.0 * (double)(inputs * channels) * (double)(frames * pixels) / seconds * 1e-12,
        "TFLOP/s", "conv 3x3x3, %lld channels, %lldx%lldx%lld, bf16", (long long)channels,
        (long long)frames, (long long)height, (long long)width);
    if (c.conv != NULL) {
        s->ops->conv_close(s->device, &c.conv);
    }
    free(data);
    arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
}

static void measure_convs(struct speed *s) {
    const struct sizes *z = s->sizes;
    measure_conv(s, "conv_96", 96, z->frames, z->height, z->width);
    measure_conv(s, "conv_192", 192, z->frames, z->height / 2, z->width / 2);
    measure_conv(s, "conv_384", 384, z->frames, z->height / 4, z->width / 4);
}

/* -- what only moves bytes -------------------------------------------------------------------- */

struct move {
    void *out;
    const void *x, *y;
    const float *a, *b;
    int64_t rows, width;
    const struct sizes *sizes;
    int heads;
};

static void run_copy(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->copy(s->device, m->out, m->x, (size_t)m->rows);
}

static void measure_copy(struct speed *s) {
    size_t bytes = s->sizes->copy_bytes;
    struct move m = {.x = operand(s, (int64_t)(bytes / 4), DTYPE_F32),
                     .out = room(s, bytes),
                     .rows = (int64_t)bytes};
    double seconds = seconds_of(s, run_copy, &m);
    put(s, "copy", 2.0 * (double)bytes / seconds * 1e-9, "GB/s", "a copy of %zu MiB", bytes >> 20);
    arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
}

static void run_layer_norm(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->layer_norm(s->device, m->out, m->x, m->a, m->b, NULL, m->rows, m->width, 1e-6f,
                       DTYPE_BF16);
}

static void run_qk_norm_rope(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->qk_norm_rope(s->device, m->out, 3 * m->width, m->a + m->rows * 64, m->a, m->b, m->rows,
                         m->heads, 128, 1e-6f, DTYPE_BF16);
}

static void run_convert(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->convert(s->device, m->out, DTYPE_BF16, m->x, DTYPE_F32, m->rows * m->width);
}

static void run_add(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->add(s->device, m->out, m->x, m->y, m->rows * m->width, DTYPE_BF16);
}

static void run_combine(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->combine(s->device, m->out, (const float *const[]){m->x, m->y},
                    (const float[]){0.5f, -0.25f}, 2, m->rows * m->width);
}

static void run_channel_norm(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->channel_norm(s->device, m->out, m->x, m->a, m->rows, m->width, ACTIVATION_SILU,
                         DTYPE_BF16);
}

static void run_upsample(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->upsample(s->device, m->out, m->x, m->sizes->frames, m->sizes->height / 2,
                     m->sizes->width / 2, m->width, DTYPE_BF16);
}

static void run_to_pixels(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->to_pixels(s->device, m->out, m->x, m->rows * m->width, DTYPE_BF16);
}

/* The room of all of them in turn; the widest takes 12 bytes an element and four outputs. */
static void measure_moves(struct speed *s) {
    const struct sizes *z = s->sizes;
    const int64_t tokens = z->tokens, d = z->shapes[0].width;
    const int64_t pixels = z->frames * z->height * z->width, half = pixels / 4;
    const struct {
        const char *key, *what;
        call *run;
        int64_t rows, width, out; /* elements: rows x width in, `out` out */
        enum dtype in_dtype, out_dtype;
        double bytes;
    } moves[] = {
        {"layer_norm", "layer norm and modulation, f32 to bf16", run_layer_norm, tokens, d,
         tokens * d, DTYPE_F32, DTYPE_BF16, 6.0 * (double)(tokens * d)},
        {"qk_norm_rope", "RMS norm and rotation of q, bf16", run_qk_norm_rope, tokens, d,
         3 * tokens * d, DTYPE_BF16, DTYPE_BF16,
         4.0 * (double)(tokens * d) + 512.0 * (double)tokens},
        {"convert", "f32 to bf16", run_convert, tokens, d, tokens * d, DTYPE_F32, DTYPE_BF16,
         6.0 * (double)(tokens * d)},
        {"add", "sum, bf16", run_add, tokens, d, tokens * d, DTYPE_BF16, DTYPE_BF16,
         6.0 * (double)(tokens * d)},
        {"combine", "sum of two, f32", run_combine, tokens, d, tokens * d, DTYPE_F32, DTYPE_F32,
         12.0 * (double)(tokens * d)},
        {"channel_norm", "RMS norm over 96 channels and SiLU, bf16", run_channel_norm, pixels, 96,
         pixels * 96, DTYPE_BF16, DTYPE_BF16, 4.0 * (double)(pixels * 96)},
        {"upsample", "upsample of 192 channels, bf16", run_upsample, half, 192, 4 * half * 192,
         DTYPE_BF16, DTYPE_BF16, 10.0 * (double)(half * 192)},
        {"to_pixels", "bf16 to pixels", run_to_pixels, pixels, 60, pixels * 60, DTYPE_BF16,
         DTYPE_U8, 3.0 * (double)(pixels * 60)},
    };
    double bytes = 0, seconds = 0;
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
        int64_t count = moves[i].rows * moves[i].width;
        struct move m = {.x = operand(s, count, moves[i].in_dtype),
                         .y = operand(s, count, moves[i].in_dtype),
                         .a = operand(s, tokens * 64 + d, DTYPE_F32),
                         .b = operand(s, tokens * 64 + d, DTYPE_F32),
                         .rows = moves[i].rows,
                         .width = moves[i].width,
                         .sizes = z,
                         .heads = (int)z->shapes[0].heads};
        /* In place, some of them: their room is random too. */
        m.out = moves[i].out_dtype == DTYPE_U8 ? room(s, (size_t)moves[i].out)
                                               : operand(s, moves[i].out, moves[i].out_dtype);
        double took = seconds_of(s, moves[i].run, &m);
        put(s, moves[i].key, moves[i].bytes / took * 1e-9, "GB/s", "%s, %lld x %lld", moves[i].what,
            (long long)moves[i].rows, (long long)moves[i].width);
        bytes += moves[i].bytes;
        seconds += took;
        arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
    }
    put(s, "elementwise", bytes / seconds * 1e-9, "GB/s", "elementwise kernels, all of these");
}

/* -- all -------------------------------------------------------------------------------------- */

static void start(struct speed *s) {
    const struct device_config *device = &s->config->device;
    s->pattern = malloc((size_t)PATTERN * sizeof *s->pattern);
    if (s->pattern == NULL) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory for random numbers");
        return;
    }
    random_normal(s->pattern, (size_t)PATTERN, 1, 1, 0);
    s->code = s->ops->device_open(&s->device, device, s->error);
    if (s->code == ERR_OK) {
        s->code = s->ops->arena_open(s->device, &s->arena, s->sizes->arena_bytes, s->error);
    }
    s->there = room(s, (size_t)PATTERN * sizeof(float));
    if (s->there != NULL) {
        s->ops->upload(s->device, s->there, s->pattern, (size_t)PATTERN * sizeof(float));
    }
}

enum error_code speed_kernels(const struct speed_config *config, struct error *error) {
    struct speed s = {.config = config,
                      .ops = config->ops,
                      .sizes = config->small ? &small : &full,
                      .error = error};
    start(&s);
    measure_copy(&s);
    measure_product(&s);
    measure_attentions(&s);
    measure_blocks(&s);
    measure_convs(&s);
    measure_moves(&s);
    arena_close(&s.arena);
    if (s.device != NULL) {
        s.ops->device_close(&s.device);
    }
    free(s.pattern);
    return s.code;
}
