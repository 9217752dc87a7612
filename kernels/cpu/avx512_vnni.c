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

static float quantise(uint8_t *out, const void *x, int64_t count) {
    vf most = vf_zero();
    for (int64_t k = 0; k < count; k += LANES) {
        most = vf_max(vf_abs(vf_read(x, DTYPE_BF16, k, at_most(LANES, count - k))), most);
    }
    float largest = vf_largest(most);
    vf factor = vf_set(largest > INT8_LEAST ? 127 / largest : 0);
    const __m128i sign = _mm_set1_epi8(-128);
    for (int64_t k = 0; k < count; k += LANES) {
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
