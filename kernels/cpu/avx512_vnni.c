/* AVX-512 VNNI: products of int8. */
#include <immintrin.h>

#include "kernels/cpu/gemm_tile_avx512.h"
#undef VECTOR_ADD
#define VECTOR_ADD(a, b)                                                                           \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
#define VECTOR_SPREAD(x) _mm512_castsi512_ps(_mm512_set1_epi32(x))
#define VECTOR_MADD(c, a, b)                                                                       \
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(c), _mm512_castps_si512(a),        \
                                            _mm512_castps_si512(b)))
#define UNIT 4
#include "kernels/cpu/attention8_vector.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/int8.h"
#include "kernels/cpu/levels.h"
#include "kernels/cpu/vector.h"

/* The largest magnitude of bf16, which is that of their bits; NaN is none. */
static float largest_bf16(const bf16 *x, int64_t count) {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff), infinity = _mm512_set1_epi16(0x7f80);
    __m512i most = _mm512_setzero_si512();
    for (int64_t k = 0; k < count; k += 2 * LANES) {
        int64_t n = at_most(2 * LANES, count - k);
        __m512i y = _mm512_maskz_loadu_epi16((__mmask32)(UINT32_MAX >> (2 * LANES - n)), x + k);
        y = _mm512_and_si512(y, magnitude);
        __mmask32 number = _mm512_cmple_epu16_mask(y, infinity);
        most = _mm512_mask_max_epu16(most, number, most, y);
    }
    __m512i even = _mm512_slli_epi32(most, 16);
    __m512i odd = _mm512_and_si512(most, _mm512_set1_epi32((int)0xffff0000));
    return vf_largest(vf_max(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)));
}

static inline __m512i rounded(const bf16 *x, vf factor) {
    return _mm512_cvtps_epi32(vf_load_bf16(x) * factor);
}

static float quantise(uint8_t *out, const void *in, int64_t count) {
    const bf16 *x = in;
    float largest = largest_bf16(x, count);
    vf factor = vf_set(largest > INT8_LEAST ? 127 / largest : 0);
    const __m128i sign = _mm_set1_epi8(-128);
    /* Packing turns four vectors of four fours into each other. */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    int64_t k = 0;
    for (; k + 4 * LANES <= count; k += 4 * LANES) {
        const bf16 *at = x + k;
        __m512i low = _mm512_packs_epi32(rounded(at, factor), rounded(at + LANES, factor));
        __m512i high =
            _mm512_packs_epi32(rounded(at + 2 * LANES, factor), rounded(at + 3 * LANES, factor));
        __m512i q = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
        _mm512_storeu_si512(out + k, _mm512_xor_si512(q, _mm512_broadcast_i32x4(sign)));
    }
    for (; k < count; k += LANES) {
        int64_t n = at_most(LANES, count - k);
        vf y = vf_read(x, DTYPE_BF16, k, n) * factor;
        __m128i q = _mm_xor_si128(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(y)), sign);
        _mm_mask_storeu_epi8(out + k, (__mmask16)((1u << n) - 1), q);
    }
    return largest > INT8_LEAST ? largest / 127 : 0;
}

static void offsets(int32_t *out, const void *panel, int columns, int64_t depth) {
    const __m512i ones = _mm512_set1_epi8(1);
    for (int n = 0; n < columns; n += LANES) {
        __m512i sum = _mm512_setzero_si512();
        const char *at = (const char *)panel + n * 4;
        for (int64_t unit = 0; unit < depth / 4; unit++, at += columns * 4) {
            sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(at));
        }
        _mm512_storeu_si512(out + n, _mm512_slli_epi32(sum, 7));
    }
}

static void fold(float *sums, const int32_t *c, const int32_t *offset, const float *row_scale,
                 int64_t stride, const float *column_scale, int rows, int columns, bool first) {
    for (int n = 0; n < columns; n += LANES) {
        __m512i added = _mm512_loadu_si512(offset + n);
        vf scale = vf_load(column_scale + n);
        for (int r = 0; r < rows; r++) {
            int64_t at = r * columns + n;
            vf y = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(c + at), added));
            vf sum = first ? vf_zero() : vf_load(sums + at);
            vf_store(sums + at, vf_madd(y, vf_set(row_scale[r * stride]) * scale, sum));
        }
    }
}

static const struct int8_products products = {run_tile, quantise, offsets, fold};

void cpu_level_avx512_vnni(struct cpu_level *level) {
    level->int8 = &products;
    level->attention8 = &attention8_products;
}
