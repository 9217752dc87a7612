/* What the kernels of attention in 8 bits share (kernels/narrow.h). */
#ifndef VIDLOOM_KERNELS_CUDA_ATTENTION8_H
#define VIDLOOM_KERNELS_CUDA_ATTENTION8_H

#include "kernels/cuda/attention.cuh"
#include "kernels/f8.h"
#include "kernels/narrow.h"

/* What a tile of keys' sums are multiplied by: `row` of the two rows, in base 2, and of the keys.
 * Not 0, as of keys that are all zeros: softmax_step's -infinity stays that. */
static __device__ __forceinline__ void logit_scales(float out[2], const float row[2], float keys) {
    out[0] = fmaxf(row[0] * keys, 1e-30f);
    out[1] = fmaxf(row[1] * keys, 1e-30f);
}

/* Scales of a lane's two rows in base 2; 0 past the end. */
static __device__ __forceinline__ void row_scales(float out[2], const struct attention_args &a,
                                                  const float *q_scale, int64_t query,
                                                  int64_t head) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row = query + 8 * half;
        out[half] = row < a.q_length ? q_scale[row * a.heads + head] * a.scale * LOG2_E : 0;
    }
}

#endif
