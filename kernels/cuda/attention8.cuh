/* What the kernels of attention in 8 bits share (kernels/narrow.h). */
#ifndef VIDLOOM_KERNELS_CUDA_ATTENTION8_H
#define VIDLOOM_KERNELS_CUDA_ATTENTION8_H

#include "kernels/cuda/attention.cuh"
#include "kernels/f8.h"
#include "kernels/narrow.h"

/* Logits of a tile of keys from their sums: `scale` of the row, in base 2, and of the keys. */
template <int tiles>
static __device__ __forceinline__ void logits_of(float out[tiles][4], const int sum[tiles][4],
                                                 const float row[2], float keys) {
    const float scale[2] = {row[0] * keys, row[1] * keys};
#pragma unroll
    for (int n = 0; n < tiles; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[n][i] = (float)sum[n][i] * scale[i / 2];
        }
    }
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
