/* Rows rounded to 8 bits with a scale for each block of columns, as kernels/cpu/int8.h has it. */
#ifndef VIDLOOM_KERNELS_CUDA_ROUNDING_H
#define VIDLOOM_KERNELS_CUDA_ROUNDING_H

#include "kernels/cuda/math.cuh"

#define LEAST 1e-30f /* rows with less in them are zeros: as INT8_LEAST */

static __device__ __forceinline__ float largest_of(float largest, float x) {
    return fabsf(x) > largest ? fabsf(x) : largest; /* NaN is not */
}
static __device__ __forceinline__ float warp_largest(float largest) {
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    return largest;
}

/* What a block whose largest magnitude is `largest` is multiplied by, and its scale. */
static __device__ __forceinline__ float factor_of(float largest) {
    return largest > LEAST ? 127 / largest : 0;
}
static __device__ __forceinline__ float scale_of(float largest) {
    return largest > LEAST ? largest / 127 : 0;
}
static __device__ __forceinline__ int8_t rounded(float x, float factor) {
    float y = rintf(x * factor);
    return y >= -128 && y <= 127 ? (int8_t)y : (int8_t)-128;
}

#endif
