/* What the tensor core kernels of attention share. */
#ifndef VIDLOOM_KERNELS_CUDA_ATTENTION_H
#define VIDLOOM_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

/* The online softmax of a warp's 16 rows: row g of lane l = 4g+t, and row g+8. `max` is of logits
 * in base 2. */
struct running {
    float max[2], sum[2];
};

/* Logits to probabilities times 2^raise, in place. Times `scale`, above 0, they are in base 2: a
 * number for each of `parts` parts of the keys and each of the two rows, which so costs no
 * instruction of its own. Returns how much the sums and outputs so far shrink. Without `sums` the
 * running ones are the caller's. */
template <int tiles, int parts, bool sums = true>
static __device__ __forceinline__ void softmax_step(float s[tiles][4], struct running *running,
                                                    float shrink[2], const float scale[parts][2],
                                                    float raise) {
    const int of_part = tiles / parts;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float max = -INFINITY;
#pragma unroll
        for (int part = 0; part < parts; part++) {
            float largest = -INFINITY;
#pragma unroll
            for (int n = part * of_part; n < (part + 1) * of_part; n++) {
                largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            }
            max = fmaxf(max, largest * scale[part][half]);
        }
        max = fmaxf(max, shuffle_xor(max, 1));
        max = fmaxf(fmaxf(max, shuffle_xor(max, 2)), running->max[half]);
        /* All keys so far banned by -infinity: nothing counts yet, and inf-inf must not arise. */
        float shift = max == -INFINITY ? 0 : max;
        shrink[half] = exp2_fast(running->max[half] - shift);
        shift -= raise;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < tiles; n++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[n][i] = exp2_fast(fmaf(s[n][i], scale[n / of_part][half], -shift));
                sum += sums ? s[n][i] : 0;
            }
        }
        running->max[half] = max;
        if (sums) {
            running->sum[half] = running->sum[half] * shrink[half] + sum;
        }
    }
}

/* What the sums and outputs so far shrink by (softmax_step), done to the outputs of a lane. */
template <int E>
static __device__ __forceinline__ void shrink_outputs(float o[E / 8][4], const float shrink[2]) {
#pragma unroll
    for (int e = 0; e < E / 8; e++) {
        o[e][0] *= shrink[0];
        o[e][1] *= shrink[0];
        o[e][2] *= shrink[1];
        o[e][3] *= shrink[1];
    }
}

/* Probabilities of two tiles of eight keys, as the second product's operand a. */
template <typename T>
static __device__ __forceinline__ void pack_operand(uint32_t p[4], const float x[2][4]) {
    p[0] = pack(T{}, x[0][0], x[0][1]);
    p[1] = pack(T{}, x[0][2], x[0][3]);
    p[2] = pack(T{}, x[1][0], x[1][1]);
    p[3] = pack(T{}, x[1][2], x[1][3]);
}

/* 1 / the sum over a row's four lanes: row g, or with `half` row g+8. */
static __device__ __forceinline__ float inverse_sum(const struct running *running, int half) {
    float sum = running->sum[half];
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    return 1 / sum;
}

/* Writes a lane's two rows, `query` and eight further on, of one head. */
template <typename T, int E>
static __device__ __forceinline__ void
write_rows(const struct attention_args &a, const float o[E / 8][4], const struct running *running,
           int64_t query, int64_t head) {
    const int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float inverse = inverse_sum(running, half);
        if (query + 8 * half < a.q_length) {
            T *out = (T *)a.out + (query + 8 * half) * a.out_stride + head * E + lane % 4 * 2;
#pragma unroll
            for (int e = 0; e < E / 8; e++) {
                *(uint32_t *)(out + e * 8) =
                    pack(T{}, o[e][2 * half] * inverse, o[e][2 * half + 1] * inverse);
            }
        }
    }
}

/* Bias of the keys of this lane's columns, in units in which `scale` is still to come; -infinity
 * past the end. */
template <int tiles>
static __device__ __forceinline__ void add_bias(float s[tiles][4], const float *key_bias,
                                                float per_scale, int64_t first, int64_t length) {
#pragma unroll
    for (int n = 0; n < tiles; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int64_t key = first + n * 8 + (int)threadIdx.x % 4 * 2 + i;
            float bias = -INFINITY;
            if (key < length) {
                bias = key_bias != NULL ? key_bias[key] * per_scale : 0;
            }
            s[n][i] += bias;
            s[n][2 + i] += bias;
        }
    }
}

/* Chunks of 16 bytes must not straddle. */
static inline bool chunked(const void *pointer, int64_t stride) {
    return aligned_to(pointer, 16) && stride % 8 == 0;
}

/* Whether tensor cores can do this call, its head dimension aside. */
static inline bool for_tensor_cores(const struct attention_args *args) {
    bool narrow = args->dtype == DTYPE_BF16 || args->dtype == DTYPE_F16;
    return narrow && args->bias == NULL && args->scale > 0 && chunked(args->q, args->q_stride) &&
           chunked(args->k, args->k_stride) && chunked(args->v, args->v_stride) &&
           aligned_to(args->out, 4) && args->out_stride % 2 == 0;
}

static inline bool is_64_or_128(const struct attention_args *args) {
    return args->head_dim == 64 || args->head_dim == 128;
}

#endif
