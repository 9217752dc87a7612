#include "kernels/blocks.h"

#include <assert.h>

#include "kernels/cpu/float.h"

#define BLOCK_MAX 256 /* elements */

static float f16_at(const uint8_t *x) {
    return f16_to_float((uint16_t)(x[0] | x[1] << 8));
}

static void q8_0(float *out, const uint8_t *x) {
    float d = f16_at(x);
    for (int i = 0; i < 32; i++) {
        out[i] = d * (float)(int8_t)x[2 + i];
    }
}

static void q4_0(float *out, const uint8_t *x) {
    float d = f16_at(x);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((x[2 + i] & 15) - 8);
        out[16 + i] = d * (float)((x[2 + i] >> 4) - 8);
    }
}

/* Scale and minimum of group j of 8, 6 bits each in 12 bytes: the first four lie in the low bits of
 * bytes 0..7; the last four have their low nibbles in bytes 8..11 and their high bits in the top
 * two bits of bytes 0..7. */
static void scale_and_minimum(float *scale, float *minimum, const uint8_t *x, int j) {
    if (j < 4) {
        *scale = (float)(x[j] & 63);
        *minimum = (float)(x[j + 4] & 63);
    } else {
        *scale = (float)((x[j + 4] & 15) | (x[j - 4] >> 6) << 4);
        *minimum = (float)((x[j + 4] >> 4) | (x[j] >> 6) << 4);
    }
}

/* Groups of 32: two to 32 bytes of q, low nibbles first. `high` has the fifth bits, or is NULL. */
static void q45_k(float *out, const uint8_t *x, const uint8_t *high, const uint8_t *q) {
    float d = f16_at(x), m = f16_at(x + 2);
    for (int j = 0; j < 8; j++) {
        float scale, minimum;
        scale_and_minimum(&scale, &minimum, x + 4, j);
        scale *= d;
        minimum *= m;
        for (int i = 0; i < 32; i++) {
            int value = q[j / 2 * 32 + i] >> j % 2 * 4 & 15;
            if (high != NULL) {
                value |= (high[i] >> j & 1) << 4;
            }
            out[j * 32 + i] = scale * (float)value - minimum;
        }
    }
}

static void q6_k(float *out, const uint8_t *x) {
    const uint8_t *low = x, *high = x + 128, *scale = x + 192;
    float d = f16_at(x + 208);
    for (int i = 0; i < BLOCK_MAX; i++) {
        int half = i / 128, part = i % 128 / 32, at = i % 32;
        int nibble = low[half * 64 + part % 2 * 32 + at] >> part / 2 * 4 & 15;
        int value = nibble | (high[half * 32 + at] >> part * 2 & 3) << 4;
        out[i] = d * (float)(int8_t)scale[i / 16] * (float)(value - 32);
    }
}

static void one_block(float *out, const uint8_t *x, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_Q8_0:
        q8_0(out, x);
        break;
    case DTYPE_Q4_0:
        q4_0(out, x);
        break;
    case DTYPE_Q4_K:
        q45_k(out, x, NULL, x + 16);
        break;
    case DTYPE_Q5_K:
        q45_k(out, x, x + 16, x + 48);
        break;
    default:
        assert(dtype == DTYPE_Q6_K);
        q6_k(out, x);
    }
}

void blocks_to_float(float *out, const void *x, enum dtype dtype, int64_t at, int64_t count) {
    struct tensor one = {.dtype = dtype, .rank = 1, .dim = {dtype_block(dtype)}};
    int64_t block = one.dim[0], bytes = (int64_t)tensor_bytes(&one);
    float values[BLOCK_MAX];
    while (count > 0) {
        int64_t skip = at % block, take = block - skip < count ? block - skip : count;
        const uint8_t *from = (const uint8_t *)x + at / block * bytes;
        if (take == block) {
            one_block(out, from, dtype);
        } else {
            one_block(values, from, dtype);
            memcpy(out, values + skip, (size_t)take * sizeof *out);
        }
        out += take;
        at += take;
        count -= take;
    }
}

float f8_e4m3_to_float(uint8_t x) {
    uint32_t sign = (uint32_t)(x & 0x80) << 24, exponent = x >> 3 & 15, fraction = x & 7;
    if ((x & 0x7f) == 0x7f) {
        return float_from_bits(sign | 0x7fc00000);
    }
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-9, exact */
        float value = (float)fraction * 0x1p-9f;
        return sign != 0 ? -value : value;
    }
    return float_from_bits(sign | (exponent + 120) << 23 | fraction << 20);
}

/* The upper byte of an f16. */
float f8_e5m2_to_float(uint8_t x) {
    return f16_to_float((uint16_t)(x << 8));
}
