/* Rows rounded to 8 bits with a scale for each block of columns: int8 as kernels/cpu/int8.h has it,
 * f8 as kernels/f8.h. */
#ifndef VIDLOOM_KERNELS_CUDA_ROUNDING_H
#define VIDLOOM_KERNELS_CUDA_ROUNDING_H

#include "kernels/cuda/math.cuh"
#include "kernels/f8.h"

#define LEAST F8_LEAST /* INT8_LEAST too */

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

/* Of the largest magnitude that the type holds. */
static __device__ __forceinline__ float limit_of(i8) {
    return 127;
}
static __device__ __forceinline__ float limit_of(f8_e4m3) {
    return F8_MAX;
}
/* What a block whose largest magnitude is `largest` is multiplied by, and its scale. */
template <typename Q> static __device__ __forceinline__ float factor_of(Q q, float largest) {
    return largest > LEAST ? limit_of(q) / largest : 0;
}
template <typename Q> static __device__ __forceinline__ float scale_of(Q q, float largest) {
    return largest > LEAST ? largest / limit_of(q) : 0;
}
static __device__ __forceinline__ i8 rounded_to(i8, float x, float factor) {
    float y = rintf(x * factor);
    return {y >= -128 && y <= 127 ? (int8_t)y : (int8_t)-128};
}
static __device__ __forceinline__ f8_e4m3 rounded_to(f8_e4m3, float x, float factor) {
    float y = x * factor;
    f8_e4m3 out;
    from_float(&out, y > F8_MAX ? F8_MAX : y >= -F8_MAX ? y : -F8_MAX); /* NaN too */
    return out;
}

/* Call `function` with a value of the type. */
template <typename Function>
static inline cudaError_t with_8_bits(enum dtype dtype, Function function) {
    return dtype == DTYPE_F8_E4M3 ? function(f8_e4m3{}) : function(i8{});
}

#endif
