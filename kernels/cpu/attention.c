/* out = softmax(scale · q kᵀ + bias) v, per head. */
#include <assert.h>
#include <float.h>
#include <math.h>

#include "kernels/cpu/attention8.h"

#define HEAD_DIM_MAX 1024

/* Row of (head, query): the logits are computed twice instead of kept, so any length will do. */
struct attention_row {
    const struct attention_args *args;
    int64_t head, query;
};

static double logit(const struct attention_row *row, int64_t key) {
    const struct attention_args *args = row->args;
    int64_t q = row->query * args->q_stride + row->head * args->head_dim;
    int64_t k = key * args->k_stride + row->head * args->head_dim;
    float sum = 0;
    for (int e = 0; e < args->head_dim; e++) {
        sum += float_load(args->q, args->dtype, q + e) * float_load(args->k, args->dtype, k + e);
    }
    double out = (double)sum * (double)args->scale;
    if (args->key_bias != NULL) {
        out += (double)args->key_bias[key];
    }
    if (args->bias != NULL) {
        out += (double)args->bias[(row->head * args->q_length + row->query) * args->k_length + key];
    }
    return out;
}

static void attention_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct attention_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        struct attention_row row = {args, r / args->q_length, r % args->q_length};
        double max = -INFINITY, total = 0;
        double sum[HEAD_DIM_MAX] = {0};
        for (int64_t key = 0; key < args->k_length; key++) {
            max = fmax(max, logit(&row, key));
        }
        for (int64_t key = 0; key < args->k_length; key++) {
            double weight = exp(logit(&row, key) - max);
            int64_t v = key * args->v_stride + row.head * args->head_dim;
            total += weight;
            for (int e = 0; e < args->head_dim; e++) {
                sum[e] += weight * (double)float_load(args->v, args->dtype, v + e);
            }
        }
        for (int e = 0; e < args->head_dim; e++) {
            float_store(args->out, args->dtype,
                        row.query * args->out_stride + row.head * args->head_dim + e,
                        (float)(sum[e] / total));
        }
    }
}

void cpu_attention(struct device *device, const struct attention_args *args) {
    const int64_t width = (int64_t)args->heads * args->head_dim;
    (void)width;
    assert(args->heads > 0 && args->head_dim > 0 && args->head_dim <= HEAD_DIM_MAX);
    assert(args->head_dim % 4 == 0 && args->q_length >= 0 && args->k_length > 0);
    assert(args->q_stride >= width && args->k_stride >= width && args->v_stride >= width);
    assert(args->out_stride >= width);
    assert(args->dtype == DTYPE_F32 || args->dtype == DTYPE_BF16);
    const struct gemm *gemm = level_gemm(&device->level, args->dtype);
    bool narrow = args->narrow != NULL && narrow_suits(args);
    if (narrow && device->level.attention8 != NULL) {
        attention8(device, args);
    } else if (gemm != NULL) {
        attention_gemm(device, args, gemm);
    } else {
        device_rows(device, narrow ? attention_narrow_plain : attention_plain, args,
                    args->heads * args->q_length, args->k_length * args->head_dim);
    }
}
