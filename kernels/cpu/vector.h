/* Vectors of floats for the files that are compiled with an instruction set flag: 16 lanes with
 * AVX-512, 8 with AVX2. + - * / work on them (GCC and Clang). */
#ifndef VIDLOOM_KERNELS_CPU_VECTOR_H
#define VIDLOOM_KERNELS_CPU_VECTOR_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/float.h"

/* -ffp-contract=off holds here too: fused where written, nowhere else. */

#if defined(__AVX512F__)

#define LANES 16
typedef __m512 vf;

static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
static inline vf vf_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf vf_madd(vf a, vf b, vf c) { /* a·b + c */
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_round(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_scale(vf x, vf n) { /* x·2^n */
    return _mm512_scalef_ps(x, n);
}
static inline vf vf_abs(vf x) {
    return _mm512_abs_ps(x);
}
static inline vf vf_sign_of(vf x, vf sign) { /* |x| with the sign of `sign`; x >= 0 */
    __m512i bit = _mm512_and_si512(_mm512_castps_si512(sign), _mm512_set1_epi32(INT32_MIN));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x), bit));
}
static inline vf vf_load_bf16(const bf16 *p) {
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline void vf_store_bf16(bf16 *p, vf x) {
#if defined(__AVX512BF16__) /* denormals become zero here, and only here */
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(x));
#else
    __m512i u = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#endif
}
static inline vf vf_load_bf16_some(const bf16 *p, int64_t n) {
    __m256i half = _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline void vf_store_bf16_some(bf16 *p, int64_t n, vf x) {
    bf16 some[LANES];
    vf_store_bf16(some, x);
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)some);
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), half);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf vf_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline vf vf_load_f8_e4m3(const uint8_t *p) { /* its exponent is 120 less than f32's */
    __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi32(0x7f));
    __mmask16 nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
    __m512 y = _mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)) * _mm512_set1_ps(0x1p120f);
    __m512i bits =
        _mm512_mask_mov_epi32(_mm512_castps_si512(y), nan, _mm512_set1_epi32(0x7fc00000));
    __m512i sign = _mm512_slli_epi32(_mm512_and_si512(x, _mm512_set1_epi32(0x80)), 24);
    return _mm512_castsi512_ps(_mm512_or_si512(bits, sign));
}
static inline vf vf_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline void vf_store_u8(uint8_t *p, vf x) { /* rounds to nearest even; x in 0..255 */
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
static inline vf vf_keep(vf x, int64_t n) { /* the first n lanes, the others zero */
    return _mm512_maskz_mov_ps((__mmask16)((1u << n) - 1), x);
}
static inline vf vf_load_some(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_some(float *p, int64_t n, vf x) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}
static inline vf vf_swap_pairs(vf x) { /* lanes 1,0,3,2,... */
    return _mm512_permute_ps(x, 0xb1);
}
static inline vf vf_add_subtract(vf a, vf b, vf c) { /* a·b ∓ c: minus in even lanes */
    return _mm512_fmaddsub_ps(a, b, c);
}

#else

#define LANES 8
typedef __m256 vf;

static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
static inline vf vf_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf vf_madd(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_round(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_scale(vf x, vf n) { /* in two halves: 2^n alone may not be a normal number */
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    __m256i bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    return x * _mm256_castsi256_ps(first) * _mm256_castsi256_ps(second);
}
static inline vf vf_abs(vf x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
static inline vf vf_sign_of(vf x, vf sign) {
    return _mm256_or_ps(x, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}
static inline vf vf_load_bf16(const bf16 *p) {
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
static inline void vf_store_bf16(bf16 *p, vf x) {
    __m256i u = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan)), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(packed));
}
static inline vf vf_load_bf16_some(const bf16 *p, int64_t n) {
    bf16 some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return vf_load_bf16(some);
}
static inline void vf_store_bf16_some(bf16 *p, int64_t n, vf x) {
    bf16 some[LANES];
    vf_store_bf16(some, x);
    memcpy(p, some, (size_t)n * sizeof *p);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf vf_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline vf vf_load_f8_e4m3(const uint8_t *p) {
    __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi32(0x7f));
    __m256i nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f));
    __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)) * _mm256_set1_ps(0x1p120f);
    __m256i bits = _mm256_blendv_epi8(_mm256_castps_si256(y), _mm256_set1_epi32(0x7fc00000), nan);
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0x80)), 24);
    return _mm256_castsi256_ps(_mm256_or_si256(bits, sign));
}
static inline vf vf_load_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline void vf_store_u8(uint8_t *p, vf x) {
    __m256i i = _mm256_cvtps_epi32(x);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(words, words));
}
static inline vf vf_keep(vf x, int64_t n) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i kept = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
    return _mm256_and_ps(x, _mm256_castsi256_ps(kept));
}
static inline vf vf_load_some(const float *p, int64_t n) {
    float some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return vf_load(some);
}
static inline void vf_store_some(float *p, int64_t n, vf x) {
    float some[LANES];
    vf_store(some, x);
    memcpy(p, some, (size_t)n * sizeof *p);
}
static inline vf vf_swap_pairs(vf x) {
    return _mm256_permute_ps(x, 0xb1);
}
static inline vf vf_add_subtract(vf a, vf b, vf c) {
    return _mm256_fmaddsub_ps(a, b, c);
}

#endif

static inline vf vf_zero(void) {
    return vf_set(0);
}

/* Lanes of x added, or the largest, in a fixed order. */
static inline float vf_sum(vf x) {
#if defined(__AVX512F__)
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), high);
#else
    __m256 eight = x;
#endif
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline float vf_largest(vf x) {
#if defined(__AVX512F__)
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), high);
#else
    __m256 eight = x;
#endif
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* A square of LANES x LANES floats, turned. */
static inline void vf_transpose(vf x[LANES]) {
    vf y[LANES];
#if defined(__AVX512F__)
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_shuffle_ps(y[i], y[i + 2], 0x44);
        x[i + 1] = _mm512_shuffle_ps(y[i], y[i + 2], 0xee);
        x[i + 2] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44);
        x[i + 3] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vf a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88),
           b = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd);
        vf c = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88);
        vf d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
        y[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        y[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        y[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        y[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        x[i] = y[i];
    }
#else
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    vf z[LANES];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        z[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
        z[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
        z[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
        z[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x31);
    }
#endif
}

/* n elements (1..LANES) of any type we compute in, the other lanes zero; and back. A tail takes the
 * same arithmetic as a whole vector. */
static inline vf vf_read(const void *x, enum dtype dtype, int64_t at, int64_t n) {
    if (dtype == DTYPE_BF16) {
        const bf16 *p = (const bf16 *)x + at;
        if (n >= LANES) {
            return vf_load_bf16(p);
        }
        return vf_load_bf16_some(p, n);
    }
    const float *p = (const float *)x + at;
    return n >= LANES ? vf_load(p) : vf_load_some(p, n);
}

/* A whole vector of any type that weights have, blocks and f64 excepted. */
static inline vf vf_load_weights(const void *x, enum dtype dtype, int64_t at) {
    switch (dtype) {
    case DTYPE_F16:
        return vf_load_f16((const uint16_t *)x + at);
    case DTYPE_F8_E4M3:
        return vf_load_f8_e4m3((const uint8_t *)x + at);
    case DTYPE_I8:
        return vf_load_i8((const int8_t *)x + at);
    default:
        return vf_read(x, dtype, at, LANES);
    }
}

static inline void vf_write(void *x, enum dtype dtype, int64_t at, int64_t n, vf value) {
    if (dtype == DTYPE_BF16) {
        bf16 *p = (bf16 *)x + at;
        if (n >= LANES) {
            vf_store_bf16(p, value);
            return;
        }
        vf_store_bf16_some(p, n, value);
        return;
    }
    float *p = (float *)x + at;
    if (n >= LANES) {
        vf_store(p, value);
    } else {
        vf_store_some(p, n, value);
    }
}

/* e^x to about 1 ulp: x = n·ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 (Cephes).
 * Below -100 it is 0 or close to it, above 88.7 infinity. NaN gives NaN. */
static inline vf vf_exp(vf x) {
    /* The bound is the first operand: min and max return the second one for NaN. */
    x = vf_max(vf_set(-104), vf_min(vf_set(89), x));
    vf n = vf_round(x * vf_set(1.44269504088896341f));
    vf r = vf_madd(n, vf_set(-0.693359375f), x);
    r = vf_madd(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_madd(p, r, vf_set(1.3981999507e-3f));
    p = vf_madd(p, r, vf_set(8.3334519073e-3f));
    p = vf_madd(p, r, vf_set(4.1665795894e-2f));
    p = vf_madd(p, r, vf_set(1.6666665459e-1f));
    p = vf_madd(p, r, vf_set(5.0000001201e-1f));
    p = vf_madd(p, r * r, r) + vf_set(1);
    return vf_scale(p, n);
}

#if defined(__AVX512F__)
/* 2^t to 4e-6, a quarter of the instructions: for weights that are rounded to bf16. */
static inline vf vf_exp2_rough(vf t) {
    t = vf_max(vf_set(-1000), t); /* not -infinity; NaN stays */
    vf n = vf_round(t), r = t - n;
    vf p = vf_set(9.6181291076e-3f);
    p = vf_madd(p, r, vf_set(5.5504108665e-2f));
    p = vf_madd(p, r, vf_set(2.4022650696e-1f));
    p = vf_madd(p, r, vf_set(6.9314718056e-1f));
    return vf_scale(vf_madd(p, r, vf_set(1)), n);
}
#endif

/* Abramowitz and Stegun 7.1.26: within 1.5e-7. */
static inline vf vf_erf(vf x) {
    vf z = vf_abs(x), t = vf_set(1) / vf_madd(z, vf_set(0.3275911f), vf_set(1));
    vf p = vf_set(1.061405429f);
    p = vf_madd(p, t, vf_set(-1.453152027f));
    p = vf_madd(p, t, vf_set(1.421413741f));
    p = vf_madd(p, t, vf_set(-0.284496736f));
    p = vf_madd(p, t, vf_set(0.254829592f));
    vf y = vf_set(1) - p * t * vf_exp(vf_zero() - z * z);
    return vf_sign_of(vf_max(vf_zero(), y), x);
}

static inline vf vf_silu(vf x) {
    return x / (vf_set(1) + vf_exp(vf_zero() - x));
}

/* ½·x·(1 + tanh u) = x / (1 + e^(-2u)). */
static inline vf vf_gelu_tanh(vf x) {
    vf u = x * vf_madd(x * x, vf_set(0.044715f), vf_set(1));
    return x / (vf_set(1) + vf_exp(u * vf_set(-2 * 0.7978845608028654f)));
}

/* The same to 1e-5, for results that are rounded to bf16. The division stays: Newton's iteration is
 * no faster, and the last bits of a reciprocal instruction differ between makers of processors. */
static inline vf vf_silu_rough(vf x) {
#if defined(__AVX512F__)
    return x / (vf_set(1) + vf_exp2_rough(x * vf_set(-1.44269504088896341f)));
#else
    return vf_silu(x);
#endif
}

static inline vf vf_gelu_tanh_rough(vf x) {
#if defined(__AVX512F__)
    vf u = x * vf_madd(x * x, vf_set(0.044715f), vf_set(1));
    const float factor = -2 * 0.7978845608028654f * 1.44269504088896341f;
    return x / (vf_set(1) + vf_exp2_rough(u * vf_set(factor)));
#else
    return vf_gelu_tanh(x);
#endif
}

static inline vf vf_activate(vf x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_SILU:
        return vf_silu(x);
    case ACTIVATION_GELU_TANH:
        return vf_gelu_tanh(x);
    case ACTIVATION_GELU_ERF:
        return vf_set(0.5f) * x * (vf_set(1) + vf_erf(x * vf_set(0.7071067811865476f)));
    }
    return x;
}

static inline vf vf_activate_rough(vf x, enum activation activation) {
    return activation == ACTIVATION_SILU        ? vf_silu_rough(x)
           : activation == ACTIVATION_GELU_TANH ? vf_gelu_tanh_rough(x)
                                                : vf_activate(x, activation);
}

#endif
