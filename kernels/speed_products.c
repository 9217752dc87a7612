/* Linear layers as the transformer uses them, and convolutions as the VAE does. */
#include <stdlib.h>
#include <string.h>

#include "kernels/quantise.h"
#include "kernels/speed_internal.h"

/* -- linear layers ---------------------------------------------------------------------------- */

/* Where a layer stands: it reads what and writes what. */
enum layer_kind { ROWS_TO_ROWS, ROWS_TO_STREAM, ROWS_TO_HIDDEN, HIDDEN_TO_STREAM };

struct layer_case {
    const char *what;
    int64_t outputs, inputs;
    enum layer_kind kind;
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void run_linear(struct speed *s, const void *args) {
    const struct speed_product *p = args;
    const size_t in_row = p->in_hidden ? 0 : (size_t)p->inputs * dtype_bytes(DTYPE_BF16);
    const size_t out_row =
        p->out_hidden ? 0 : (size_t)p->outputs * dtype_bytes(p->epilogue.out_dtype);
    for (int64_t row = 0; row < p->rows; row += p->part) {
        s->ops->linear(s->device, (uint8_t *)p->out + (size_t)row * out_row,
                       (const uint8_t *)p->in + (size_t)row * in_row, p->linear,
                       smaller(p->part, p->rows - row), &p->epilogue);
    }
}

/* Weights on the host; its bias is the pattern. */
struct layer_data {
    struct tensor weight, bias;
    uint16_t *wide;
    void *narrow;
    float *scale;
};

/* Of BF16; or of I8 or F8_E4M3, for products in 8 bits. */
static void make_layer(struct speed *s, struct layer_data *out, const struct layer_case *layer,
                       enum dtype type) {
    const int64_t outputs = layer->outputs, inputs = layer->inputs;
    memset(out, 0, sizeof *out);
    out->wide = speed_weights(s, outputs * inputs, inputs);
    out->weight = (struct tensor){
        .data = out->wide, .dtype = DTYPE_BF16, .rank = 2, .dim = {outputs, inputs}};
    out->bias =
        (struct tensor){.data = s->pattern, .dtype = DTYPE_F32, .rank = 1, .dim = {outputs}};
    if (out->wide == NULL || type == DTYPE_BF16) {
        return;
    }
    out->narrow = malloc((size_t)(outputs * inputs));
    out->scale = malloc((size_t)quantise_scales(outputs, inputs, type) * sizeof *out->scale);
    if (out->narrow != NULL && out->scale != NULL) {
        const struct tensor wide = out->weight;
        quantise(&out->weight, out->narrow, out->scale, &wide, type);
    } else if (s->code == ERR_OK) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory for a layer");
    }
}

static void free_layer(struct layer_data *data) {
    free(data->wide);
    free(data->narrow);
    free(data->scale);
}

/* Through zeros, so that what is not written or adds up shows. */
static void check_product(struct speed *s, struct speed_samples *samples,
                          const struct speed_product *p) {
    int64_t rows = p->out_hidden ? p->part : p->rows;
    if (s->code == ERR_OK) {
        s->ops->zero(s->device, p->out,
                     (size_t)(rows * p->outputs) * dtype_bytes(p->epilogue.out_dtype));
        run_linear(s, p);
        speed_check_product(s, samples, p);
    }
}

/* Seconds of all rows. */
static double time_linear(struct speed *s, struct speed_samples *samples, int64_t rows,
                          const struct layer_case *layer, enum dtype type) {
    const bool in_hidden = layer->kind == HIDDEN_TO_STREAM;
    const bool out_hidden = layer->kind == ROWS_TO_HIDDEN;
    const int64_t part = in_hidden || out_hidden ? smaller(rows, s->ops->wants.part_rows) : rows;
    struct layer_data data;
    make_layer(s, &data, layer, type);
    struct speed_product p = {
        .weight = data.wide,
        .rows = rows,
        .part = part,
        .outputs = layer->outputs,
        .inputs = layer->inputs,
        .in_hidden = in_hidden,
        .out_hidden = out_hidden,
        .in = speed_operand(s, (in_hidden ? part : rows) * layer->inputs, DTYPE_BF16, SALT_IN),
        .epilogue = {.activation = out_hidden ? ACTIVATION_GELU_TANH : ACTIVATION_NONE,
                     .out_dtype = DTYPE_BF16}};
    if (in_hidden || layer->kind == ROWS_TO_STREAM) {
        p.epilogue =
            (struct linear_epilogue){.gate = speed_operand(s, p.outputs, DTYPE_F32, SALT_GATE),
                                     .accumulate = true,
                                     .out_dtype = DTYPE_F32};
    }
    p.out = speed_operand(s, (out_hidden ? part : rows) * p.outputs, p.epilogue.out_dtype, 0);
    if (s->code == ERR_OK) {
        s->code =
            s->ops->linear_create(s->device, &p.linear, &(const struct tensor *){&data.weight},
                                  &(const struct tensor *){&data.bias}, 1, DTYPE_BF16, s->error);
    }
    double seconds = speed_seconds(s, run_linear, &p);
    check_product(s, samples, &p);
    if (p.linear != NULL) {
        s->ops->linear_close(s->device, &p.linear);
    }
    free_layer(&data);
    speed_reset(s);
    return seconds;
}

/* What 8 bits may cost: as in tests/kernels/int8.c and f8.c. */
static double linear_tolerance(enum dtype type) {
    return type == DTYPE_I8 ? 1.5e-2 : type == DTYPE_F8_E4M3 ? 5e-2 : 4e-3;
}

static void measure_product(struct speed *s) {
    int64_t n = s->sizes->product;
    const struct layer_case square = {"product", n, n, ROWS_TO_ROWS};
    struct speed_samples samples = {0};
    double seconds = time_linear(s, &samples, n, &square, DTYPE_BF16);
    if (speed_right(s, "matmul", &samples, linear_tolerance(DTYPE_BF16))) {
        speed_put(s, "matmul", 2.0 * (double)n * (double)n * (double)n / seconds * 1e-12, "TFLOP/s",
                  &samples, "a product of %lld x %lld x %lld, bf16", (long long)n, (long long)n,
                  (long long)n);
    }
}

/* Of the layers of a block: all together, and each alone. */
struct block_keys {
    const char *all, *each[4]; /* each NULL: not told */
};

static void measure_block(struct speed *s, const struct speed_shape *shape, enum dtype type,
                          const struct block_keys *keys) {
    const int64_t d = shape->width, f = shape->ffn, rows = s->sizes->tokens;
    const struct layer_case layers[] = {{"qkv", 3 * d, d, ROWS_TO_ROWS},
                                        {"out, gate, sum", d, d, ROWS_TO_STREAM},
                                        {"up, GELU", f, d, ROWS_TO_HIDDEN},
                                        {"down, gate, sum", d, f, HIDDEN_TO_STREAM}};
    double flops = 0, seconds = 0;
    struct speed_samples all = {0};
    bool right = true;
    for (int i = 0; i < 4; i++) {
        struct speed_samples samples = {0};
        double one = 2.0 * (double)rows * (double)layers[i].outputs * (double)layers[i].inputs;
        double took = time_linear(s, &samples, rows, &layers[i], type);
        const char *key = keys->each[i] != NULL ? keys->each[i] : keys->all;
        bool this_right = speed_right(s, key, &samples, linear_tolerance(type));
        if (this_right && keys->each[i] != NULL) {
            speed_put(s, key, one / took * 1e-12, "TFLOP/s", &samples,
                      "linear %s, %s, %lld rows, %lld to %lld", shape->name, layers[i].what,
                      (long long)rows, (long long)layers[i].inputs, (long long)layers[i].outputs);
        }
        right = right && this_right;
        flops += one;
        seconds += took;
        all.off += samples.off / samples.size; /* each layer counts alike */
        all.size += 1;
        all.count += samples.count;
    }
    if (right) {
        speed_put(s, keys->all, flops / seconds * 1e-12, "TFLOP/s", &all,
                  "linear layers of a %s block, %lld rows, %s", shape->name, (long long)rows,
                  type == DTYPE_I8        ? "int8"
                  : type == DTYPE_F8_E4M3 ? "f8"
                                          : "bf16");
    }
}

void speed_products(struct speed *s) {
    static const struct block_keys keys[2] = {
        {"linear_1.3b",
         {"linear_1.3b_qkv", "linear_1.3b_out", "linear_1.3b_up", "linear_1.3b_down"}},
        {"linear_14b", {"linear_14b_qkv", "linear_14b_out", "linear_14b_up", "linear_14b_down"}}};
    static const struct block_keys int8_keys[2] = {{.all = "linear8_1.3b"}, {.all = "linear8_14b"}};
    static const struct block_keys f8_keys[2] = {{.all = "linear_f8_1.3b"},
                                                 {.all = "linear_f8_14b"}};
    measure_product(s);
    for (int i = 0; i < 2; i++) {
        measure_block(s, &s->sizes->shapes[i], DTYPE_BF16, &keys[i]);
    }
    for (int i = 0; i < 2; i++) {
        measure_block(s, &s->sizes->shapes[i], DTYPE_I8, &int8_keys[i]);
        if (s->ops->multiplies_f8(s->config->device.index)) { /* else they would be bf16 */
            measure_block(s, &s->sizes->shapes[i], DTYPE_F8_E4M3, &f8_keys[i]);
        }
    }
}

/* -- convolutions ----------------------------------------------------------------------------- */

struct volume {
    int64_t frames, height, width;
};

static size_t history_bytes(const struct speed_convolution *c) {
    return (size_t)(2 * c->args.height * c->args.width * c->channels) * sizeof(uint16_t);
}

static void run_conv(struct speed *s, const void *args) {
    const struct speed_convolution *c = args;
    if (c->kept != NULL && c->args.history != c->kept) {
        s->ops->copy(s->device, (void *)(uintptr_t)c->args.history, c->kept, history_bytes(c));
    }
    s->ops->conv(s->device, c->conv, &c->args);
}

/* 3x3x3 over the input and the two frames before it, without a residual, which is what PyTorch is
 * timed at; or as the VAE has it: with one, and the two frames kept elsewhere from the chunk
 * before, to be copied to where the table wants them. */
static void fill_args(struct speed *s, struct speed_convolution *c, struct volume v, bool as_vae) {
    const int64_t frame = v.height * v.width * c->channels;
    const uint16_t *in = speed_operand(s, (v.frames + 2) * frame, DTYPE_BF16, SALT_IN);
    c->args = (struct conv_args){.out = speed_room(s, (size_t)(v.frames * frame) * 2),
                                 .history = in,
                                 .history_frames = 2,
                                 .frames = v.frames,
                                 .height = v.height,
                                 .width = v.width,
                                 .pad_top = 1,
                                 .pad_bottom = 1,
                                 .pad_left = 1,
                                 .pad_right = 1};
    if (s->code != ERR_OK) {
        return;
    }
    c->args.in = in + 2 * frame;
    if (as_vae) {
        c->kept = speed_operand(s, 2 * frame, DTYPE_BF16, SALT_HISTORY);
        c->args.residual = speed_operand(s, v.frames * frame, DTYPE_BF16, SALT_RESIDUAL);
        c->args.history = s->ops->wants.joins ? in : c->kept;
    }
}

static void measure_conv(struct speed *s, const char *key, int channels, struct volume v,
                         bool as_vae) {
    const int64_t inputs = 27 * (int64_t)channels;
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, channels, channels};
    uint16_t *data = speed_weights(s, channels * inputs, inputs);
    const struct tensor weight = {
        .data = data, .dtype = DTYPE_BF16, .rank = 5, .dim = {channels, channels, 3, 3, 3}};
    const struct tensor bias = {
        .data = s->pattern, .dtype = DTYPE_F32, .rank = 1, .dim = {channels}};
    struct speed_convolution c = {.weight = data, .channels = channels};
    fill_args(s, &c, v, as_vae);
    if (s->code == ERR_OK) {
        s->code =
            s->ops->conv_create(s->device, &c.conv, &shape, &weight, &bias, DTYPE_BF16, s->error);
    }
    double seconds = speed_seconds(s, run_conv, &c);
    struct speed_samples samples = {0};
    speed_check_conv(s, &samples, &c);
    if (speed_right(s, key, &samples, 4e-3)) {
        double flops = 2.0 * (double)(inputs * channels * v.frames * v.height * v.width);
        speed_put(s, key, flops / seconds * 1e-12, "TFLOP/s", &samples,
                  "conv 3x3x3, %d channels, %lldx%lldx%lld, bf16%s", channels, (long long)v.frames,
                  (long long)v.height, (long long)v.width, as_vae ? ", as the VAE has it" : "");
    }
    if (c.conv != NULL) {
        s->ops->conv_close(s->device, &c.conv);
    }
    free(data);
    speed_reset(s);
}

void speed_convs(struct speed *s) {
    static const char *const keys[][2] = {
        {"conv_96", "conv_96_vae"}, {"conv_192", "conv_192_vae"}, {"conv_384", "conv_384_vae"}};
    const struct speed_sizes *z = s->sizes;
    for (int i = 0; i < 3; i++) {
        const struct volume v = {z->frames, z->height >> i, z->width >> i};
        measure_conv(s, keys[i][0], 96 << i, v, false);
        measure_conv(s, keys[i][1], 96 << i, v, true);
    }
}
