/* Rows rounded to 8 bits with a scale for each block of columns: int8 as kernels/cpu/int8.h has it,
 * f8 as kernels/f8.h. */
#ifndef VIDLOOM_KERNELS_CUDA_ROUNDING_H
#define VIDLOOM_KERNELS_CUDA_ROUNDING_H

#include "kernels/cuda/math.cuh"
#include "kernels/f8.h"

#define LEAST F8_LEAST /* INT8_LEAST too */

static __device__ __forceinline__ float largest_of(float largest, float x) {
    return fmaxf(largest, fabsf(x)); /* NaN is not */
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
/* Four elements times `factor`, which leaves at most limit_of(q); a NaN is the least number. */
static __device__ __forceinline__ uint32_t rounded_four(i8, const float x[4], float factor) {
    uint32_t out = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out |= (uint32_t)(to_int_nearest(fmaxf(x[i] * factor, -128)) & 0xff) << 8 * i;
    }
    return out;
}
static __device__ __forceinline__ uint32_t rounded_four(f8_e4m3, const float x[4], float factor) {
    uint32_t out = 0;
    float y[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        y[i] = fminf(fmaxf(x[i] * factor, -F8_MAX), F8_MAX);
    }
#if __CUDA_ARCH__ >= 890
    out = pack_f8(y[0], y[1], y[2], y[3]);
#else
#pragma unroll
    for (int i = 0; i < 4; i++) {
        f8_e4m3 narrow;
        from_float(&narrow, y[i]);
        out |= (uint32_t)narrow.bits << 8 * i;
    }
#endif
    return out;
}

/* Call `function` with a value of the type. */
template <typename Function>
static inline cudaError_t with_8_bits(enum dtype dtype, Function function) {
    return dtype == DTYPE_F8_E4M3 ? function(f8_e4m3{}) : function(i8{});
}

#endif
