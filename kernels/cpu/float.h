/* Narrow floats to f32 and back, round to nearest even; NaN stays NaN. */
#ifndef VIDLOOM_KERNELS_CPU_FLOAT_H
#define VIDLOOM_KERNELS_CPU_FLOAT_H

#include <stdint.h>
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/tensor.h"

typedef uint16_t bf16;

static inline uint32_t float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float bf16_to_float(bf16 h) {
    return float_from_bits((uint32_t)h << 16);
}

static inline bf16 bf16_from_float(float x) {
    uint32_t u = float_bits(x);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    return (bf16)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded);
}

static inline float f16_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31) { /* infinity, or a NaN made quiet */
        uint32_t quiet = fraction != 0 ? 0x400000 : 0;
        return float_from_bits(sign | 0x7f800000 | quiet | fraction << 13);
    }
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact */
        float x = (float)fraction * 0x1p-24f;
        return sign != 0 ? -x : x;
    }
    return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t f16_from_float(float x) {
    uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00);
    }
    if (magnitude >= 0x477ff000) { /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { /* below 2^-14: the f32 adder rounds to multiples of 2^-24 */
        float rounded = float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (float_bits(rounded) - float_bits(0.5f)));
    }
    uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

/* To the nearest, ties to even; |x| <= 448. */
static inline uint8_t f8_e4m3_from_float(float x) {
    uint32_t bits = float_bits(x), sign = bits >> 24 & 0x80;
    bits &= 0x7fffffff;
    if (bits < 0x3c800000) { /* below 2^-6: multiples of 2^-9, by the f32 adder */
        float rounded = float_from_bits(bits) + 0x1p14f;
        return (uint8_t)(sign | (float_bits(rounded) - float_bits(0x1p14f)));
    }
    bits += 0x7ffff + (bits >> 20 & 1);
    uint32_t magnitude = (bits >> 20) - (120u << 3);
    return (uint8_t)(sign | (magnitude > 0x7e ? 0x7e : magnitude));
}

/* Element i of an array of any float type. */
static inline float float_load(const void *x, enum dtype dtype, int64_t i) {
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)x)[i];
    case DTYPE_BF16:
        return bf16_to_float(((const bf16 *)x)[i]);
    case DTYPE_F16:
        return f16_to_float(((const uint16_t *)x)[i]);
    case DTYPE_F64:
        return (float)((const double *)x)[i];
    case DTYPE_F8_E4M3:
        return f8_e4m3_to_float(((const uint8_t *)x)[i]);
    case DTYPE_I8:
        return (float)((const int8_t *)x)[i];
    case DTYPE_F8_E5M2:
        return f8_e5m2_to_float(((const uint8_t *)x)[i]);
    default:
        return 0;
    }
}

/* Elements at..at+count-1, of types in blocks too; the types of weights without a choice in the
 * loop. */
static inline void float_row(float *out, const void *x, enum dtype dtype, int64_t at,
                             int64_t count) {
    if (dtype == DTYPE_F32) {
        memcpy(out, (const float *)x + at, (size_t)count * sizeof *out);
    } else if (dtype == DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            out[i] = bf16_to_float(((const bf16 *)x)[at + i]);
        }
    } else if (dtype_block(dtype) > 1) {
        blocks_to_float(out, x, dtype, at, count);
    } else {
        for (int64_t i = 0; i < count; i++) {
            out[i] = float_load(x, dtype, at + i);
        }
    }
}

static inline void float_store(void *x, enum dtype dtype, int64_t i, float value) {
    switch (dtype) {
    case DTYPE_F32:
        ((float *)x)[i] = value;
        break;
    case DTYPE_BF16:
        ((bf16 *)x)[i] = bf16_from_float(value);
        break;
    case DTYPE_F16:
        ((uint16_t *)x)[i] = f16_from_float(value);
        break;
    default:
        break;
    }
}

/* What `value` becomes when stored as `dtype`. */
static inline float float_round(enum dtype dtype, float value) {
    return dtype == DTYPE_BF16 ? bf16_to_float(bf16_from_float(value)) : value;
}

#endif
