/* Attention in 8 bits, the definition (kernels/narrow.h). */
#include "kernels/narrow.h"

#include <math.h>

#include "kernels/cpu/linear.h"

#define E NARROW_HEAD_DIM /* at most */

/* A row of int8 and its scale. */
struct narrow_row {
    float scale;
    int8_t element[E];
};

static float largest_of(const float *x, int width) {
    float largest = 0;
    for (int e = 0; e < width; e++) {
        largest = fmaxf(largest, fabsf(x[e]));
    }
    return largest;
}

static void round_row(struct narrow_row *out, const float *x, float largest, int width) {
    float factor = largest > 0 ? 127 / largest : 0;
    out->scale = largest / 127;
    for (int e = 0; e < width; e++) {
        out->element[e] = (int8_t)rintf(x[e] * factor);
    }
}

static void means(float out[E], const struct attention_args *args, int64_t head) {
    double sum[E] = {0};
    for (int64_t j = 0; j < args->k_length; j++) {
        int64_t k = j * args->k_stride + head * args->head_dim;
        for (int e = 0; e < args->head_dim; e++) {
            sum[e] += (double)float_load(args->k, DTYPE_BF16, k + e);
        }
    }
    for (int e = 0; e < args->head_dim; e++) {
        out[e] = (float)(sum[e] / (double)args->k_length);
    }
}

/* Keys first.. of a head that share a scale, rounded; how many. */
static int64_t round_keys(struct narrow_row out[NARROW_KEYS], const struct attention_args *args,
                          const float mean[E], int64_t head, int64_t first) {
    float x[NARROW_KEYS][E], largest = 0;
    int64_t count = args->k_length - first < NARROW_KEYS ? args->k_length - first : NARROW_KEYS;
    for (int64_t j = 0; j < count; j++) {
        int64_t k = (first + j) * args->k_stride + head * args->head_dim;
        for (int e = 0; e < args->head_dim; e++) {
            x[j][e] = float_load(args->k, DTYPE_BF16, k + e) - mean[e];
        }
        largest = fmaxf(largest, largest_of(x[j], args->head_dim));
    }
    for (int64_t j = 0; j < count; j++) {
        round_row(&out[j], x[j], largest, args->head_dim);
    }
    return count;
}

struct running {
    double max, total, sum[E];
};

static void add_key(struct running *running, const struct attention_args *args, double logit,
                    int64_t key, int64_t head) {
    double max = fmax(running->max, logit), shrink = exp(running->max - max);
    double weight = exp(logit - max);
    running->max = max;
    running->total = running->total * shrink + weight;
    int64_t v = key * args->v_stride + head * args->head_dim;
    for (int e = 0; e < args->head_dim; e++) {
        running->sum[e] =
            running->sum[e] * shrink + weight * (double)float_load(args->v, DTYPE_BF16, v + e);
    }
}

static void attend(struct running *running, const struct attention_args *args, int64_t head,
                   const struct narrow_row *q, const float mean[E]) {
    struct narrow_row k[NARROW_KEYS];
    for (int64_t first = 0; first < args->k_length; first += NARROW_KEYS) {
        int64_t count = round_keys(k, args, mean, head, first);
        for (int64_t j = 0; j < count; j++) {
            int sum = 0;
            for (int e = 0; e < args->head_dim; e++) {
                sum += q->element[e] * k[j].element[e];
            }
            double logit = (double)args->scale * (double)q->scale * (double)k[j].scale * sum;
            add_key(running, args, logit, first + j, head);
        }
    }
}

void attention_narrow_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct attention_args *args = args_pointer;
    const int width = args->head_dim;
    for (int64_t r = begin; r < end; r++) {
        int64_t head = r / args->q_length, query = r % args->q_length;
        struct running running = {.max = -INFINITY};
        struct narrow_row q;
        float mean[E], x[E];
        means(mean, args, head);
        int64_t at = query * args->q_stride + head * width;
        for (int e = 0; e < width; e++) {
            x[e] = float_load(args->q, DTYPE_BF16, at + e);
        }
        round_row(&q, x, largest_of(x, width), width);
        attend(&running, args, head, &q, mean);
        for (int e = 0; e < width; e++) {
            float_store(args->out, DTYPE_BF16, query * args->out_stride + head * width + e,
                        (float)(running.sum[e] / running.total));
        }
    }
}
