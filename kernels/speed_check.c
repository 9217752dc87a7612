/* What should come out of the shapes of kernels/speed.h, in f64, at some places: the first and the
 * last, where tiles are not full, and others between. Inputs are known without asking the device.
 */
#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "kernels/cpu/float.h"
#include "kernels/speed_internal.h"

int64_t speed_place(int64_t first, int64_t end, int index) {
    if (index == 0) {
        return first;
    }
    return index == SPEED_SAMPLES - 1
               ? end - 1
               : first + random_below((uint32_t)(end - first), 2, 2, (uint64_t)index);
}

static double rounded(const struct speed *s, int64_t salt, int64_t i) {
    return (double)bf16_to_float(bf16_from_float(speed_value(s, salt, i)));
}

/* `count` numbers of `dtype` from element `first` on. */
static void download(struct speed *s, void *host, const void *out, enum dtype dtype, int64_t first,
                     int64_t count) {
    const size_t bytes = dtype_bytes(dtype);
    s->ops->download(s->device, host, (const uint8_t *)out + (size_t)first * bytes,
                     (size_t)count * bytes);
}

static void no_memory(struct speed *s) {
    if (s->code == ERR_OK) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory to compare a result");
    }
}

/* The first failure of what was queued: its numbers are none. */
static bool settled(struct speed *s) {
    if (s->code == ERR_OK) {
        s->code = s->ops->status(s->device, s->error);
    }
    return s->code == ERR_OK;
}

/* -- attention -------------------------------------------------------------------------------- */

/* out[e] of one query and head; `weight` is room for k_length. */
static void attend(const struct speed *s, const struct attention_args *a, int64_t row, int64_t head,
                   double *weight, double *out) {
    const int64_t from = head * a->head_dim;
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < a->k_length; j++) {
        double dot = 0;
        for (int64_t e = from; e < from + a->head_dim; e++) {
            dot +=
                rounded(s, SALT_Q, row * a->q_stride + e) * rounded(s, SALT_K, j * a->k_stride + e);
        }
        weight[j] = (double)a->scale * dot;
        most = fmax(most, weight[j]);
    }
    for (int64_t e = 0; e < a->head_dim; e++) {
        out[e] = 0;
    }
    for (int64_t j = 0; j < a->k_length; j++) {
        double p = exp(weight[j] - most);
        sum += p;
        for (int64_t e = 0; e < a->head_dim; e++) {
            out[e] += p * rounded(s, SALT_V, j * a->v_stride + from + e);
        }
    }
    for (int64_t e = 0; e < a->head_dim; e++) {
        out[e] /= sum;
    }
}

void speed_check_attention(struct speed *s, struct speed_samples *samples,
                           const struct attention_args *args) {
    double *weight = malloc((size_t)args->k_length * sizeof *weight);
    double *expected = malloc((size_t)args->head_dim * sizeof *expected);
    bf16 *got = malloc((size_t)args->head_dim * sizeof *got);
    if (weight == NULL || expected == NULL || got == NULL) {
        no_memory(s);
    }
    if (s->code == ERR_OK) {
        s->ops->zero(s->device, args->out, (size_t)(args->q_length * args->out_stride) * 2);
        s->ops->attention(s->device, args);
    }
    for (int i = 0; i < SPEED_SAMPLES && settled(s); i++) {
        const int64_t row = speed_place(0, args->q_length, i);
        const int64_t head = speed_place(0, args->heads, SPEED_SAMPLES - 1 - i);
        attend(s, args, row, head, weight, expected);
        download(s, got, args->out, DTYPE_BF16, row * args->out_stride + head * args->head_dim,
                 args->head_dim);
        if (!settled(s)) {
            break;
        }
        for (int64_t e = 0; e < args->head_dim; e++) {
            speed_sample(samples, (double)bf16_to_float(got[e]), expected[e]);
        }
    }
    free(got);
    free(expected);
    free(weight);
}

/* -- linear layers ---------------------------------------------------------------------------- */

/* Output n of the input's row `row`. */
static double layer_output(const struct speed *s, const struct speed_product *p, int64_t row,
                           int64_t n) {
    double y = 0;
    for (int64_t k = 0; k < p->inputs; k++) {
        y += rounded(s, SALT_IN, row * p->inputs + k) *
             (double)bf16_to_float(p->weight[n * p->inputs + k]);
    }
    y += (double)s->pattern[n];
    if (p->epilogue.activation == ACTIVATION_GELU_TANH) {
        y = 0.5 * y * (1 + tanh(0.7978845608028654 * (y + 0.044715 * y * y * y)));
    }
    return p->epilogue.gate != NULL ? y * (double)speed_value(s, SALT_GATE, n) : y;
}

void speed_check_product(struct speed *s, struct speed_samples *samples,
                         const struct speed_product *p) {
    const enum dtype dtype = p->epilogue.out_dtype;
    const int64_t last =
        (p->rows - 1) / p->part * p->part; /* the part whose hidden rows are left */
    const int64_t first = p->out_hidden ? last : 0;
    void *got = malloc((size_t)p->outputs * dtype_bytes(dtype));
    if (got == NULL) {
        no_memory(s);
    }
    for (int i = 0; i < SPEED_SAMPLES && settled(s); i++) {
        const int64_t row = speed_place(first, p->rows, i);
        download(s, got, p->out, dtype, (row - first) * p->outputs, p->outputs);
        if (!settled(s)) {
            break;
        }
        for (int j = 0; j < SPEED_SAMPLES; j++) {
            const int64_t n = speed_place(0, p->outputs, j);
            speed_sample(samples, (double)float_load(got, dtype, n),
                         layer_output(s, p, p->in_hidden ? row % p->part : row, n));
        }
    }
    free(got);
}

/* -- convolutions ----------------------------------------------------------------------------- */

/* Element `i` of a frame, where frames 0 and 1 are the history. */
static double conv_input(const struct speed *s, const struct speed_convolution *c, int64_t frame,
                         int64_t i) {
    const int64_t elements = c->args.height * c->args.width * c->channels;
    return rounded(s, c->kept != NULL && frame < 2 ? SALT_HISTORY : SALT_IN, frame * elements + i);
}

/* Channel n of the output at frame t, row y, column x. */
static double conv_output(const struct speed *s, const struct speed_convolution *c, int64_t t,
                          int64_t y, int64_t x, int64_t n) {
    const int64_t height = c->args.height, width = c->args.width, channels = c->channels;
    double sum = (double)s->pattern[n];
    for (int64_t tap = 0; tap < 27; tap++) {
        const int64_t row = y + tap / 3 % 3 - 1, column = x + tap % 3 - 1;
        if (row < 0 || row >= height || column < 0 || column >= width) {
            continue;
        }
        for (int64_t k = 0; k < channels; k++) {
            sum += conv_input(s, c, t + tap / 9, (row * width + column) * channels + k) *
                   (double)bf16_to_float(c->weight[(n * channels + k) * 27 + tap]);
        }
    }
    if (c->args.residual != NULL) {
        sum += rounded(s, SALT_RESIDUAL, ((t * height + y) * width + x) * channels + n);
    }
    return sum;
}

void speed_check_conv(struct speed *s, struct speed_samples *samples,
                      const struct speed_convolution *c) {
    const int64_t frames = c->args.frames, height = c->args.height, width = c->args.width;
    bf16 *got = malloc((size_t)c->channels * sizeof *got);
    if (got == NULL) {
        no_memory(s);
    }
    if (s->code == ERR_OK) {
        s->ops->zero(s->device, c->args.out, (size_t)(frames * height * width * c->channels) * 2);
        s->ops->conv(s->device, c->conv, &c->args);
    }
    for (int i = 0; i < SPEED_SAMPLES && settled(s); i++) {
        const int64_t pixel = speed_place(0, frames * height * width, i);
        download(s, got, c->args.out, DTYPE_BF16, pixel * c->channels, c->channels);
        if (!settled(s)) {
            break;
        }
        for (int j = 0; j < SPEED_SAMPLES; j++) {
            const int64_t n = speed_place(0, c->channels, j);
            speed_sample(samples, (double)bf16_to_float(got[n]),
                         conv_output(s, c, pixel / (height * width), pixel / width % height,
                                     pixel % width, n));
        }
    }
    free(got);
}
