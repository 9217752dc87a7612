/* What cpu/attention8.h asks of an instruction set, with AVX-512 and VNNI. */
#include <float.h>

#include "kernels/cpu/attention8.h"
#include "kernels/cpu/vector.h"

static void sum_chunk(float *k_sum, float *v_max, const void *k, int64_t k_stride, const void *v,
                      int64_t v_stride, int64_t count, int64_t width) {
    for (int64_t e = 0; e < width; e += LANES) {
        vf sum = vf_zero(), most = vf_zero();
        for (int64_t j = 0; j < count; j++) {
            sum = sum + vf_read(k, DTYPE_BF16, j * k_stride + e, LANES);
            most = vf_max(vf_abs(vf_read(v, DTYPE_BF16, j * v_stride + e, LANES)), most);
        }
        vf_store(k_sum + e, sum);
        vf_store(v_max + e, most);
    }
}

static float round_keys(int8_t *out, const void *k, int64_t stride, int64_t count,
                        const float *mean, int64_t width) {
    vf most = vf_zero();
    for (int64_t j = 0; j < count; j++) {
        for (int64_t e = 0; e < width; e += LANES) {
            vf x = vf_read(k, DTYPE_BF16, j * stride + e, LANES) - vf_load(mean + e);
            most = vf_max(vf_abs(x), most);
        }
    }
    float largest = vf_largest(most);
    vf factor = vf_set(largest > INT8_LEAST ? 127 / largest : 0);
    memset(out, 0, (size_t)(NARROW_KEYS * width));
    for (int64_t j = 0; j < count; j++) {
        int8_t *to = out + attention8_column((int)j) * width;
        for (int64_t e = 0; e < width; e += LANES) {
            vf x = vf_read(k, DTYPE_BF16, j * stride + e, LANES) - vf_load(mean + e);
            _mm_storeu_si128((__m128i *)(void *)(to + e),
                             _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x * factor)));
        }
    }
    return largest > INT8_LEAST ? largest / 127 : 0;
}

static void round_values(int8_t *out, int64_t panel, const void *v, int64_t stride, int64_t count,
                         const float *v_max, int64_t width) {
    const __m512i byte = _mm512_set1_epi32(255);
    for (int64_t e = 0; e < width; e += LANES) {
        vf most = vf_load(v_max + e);
        __mmask16 some = _mm512_cmp_ps_mask(most, vf_set(INT8_LEAST), _CMP_GT_OQ);
        vf factor = _mm512_maskz_div_ps(some, vf_set(127), most);
        int8_t *to = out + e / ATTENTION8_COLUMNS * panel + e % ATTENTION8_COLUMNS * 4;
        for (int64_t j = 0; j < NARROW_KEYS; j += 4, to += (ptrdiff_t)ATTENTION8_COLUMNS * 4) {
            __m512i unit = _mm512_setzero_si512();
            for (int i = 3; i >= 0; i--) {
                vf x =
                    j + i < count ? vf_read(v, DTYPE_BF16, (j + i) * stride + e, LANES) : vf_zero();
                __m512i q = _mm512_and_si512(_mm512_cvtps_epi32(x * factor), byte);
                unit = _mm512_or_si512(_mm512_slli_epi32(unit, 8), q);
            }
            _mm512_storeu_si512(to, unit);
        }
    }
}

/* 65280 · 2^(-i/64): 255 in the high byte. */
static const uint16_t powers[64] = {
    65280, 64577, 63881, 63193, 62512, 61839, 61173, 60514, 59862, 59217, 58579, 57948, 57324,
    56707, 56096, 55491, 54894, 54302, 53717, 53139, 52566, 52000, 51440, 50886, 50338, 49796,
    49259, 48729, 48204, 47684, 47171, 46663, 46160, 45663, 45171, 44684, 44203, 43727, 43256,
    42790, 42329, 41873, 41422, 40976, 40534, 40098, 39666, 39238, 38816, 38398, 37984, 37575,
    37170, 36770, 36374, 35982, 35594, 35211, 34831, 34456, 34085, 33718, 33355, 32995,
};

/* 255 · 2^(-j/64) rounded, of 16-bit j >= 0; what a conversion could not hold is the least, and
 * becomes 0 too. */
static inline __m512i weights_of(__m512i j, __m512i low, __m512i high) {
    __m512i power = _mm512_permutex2var_epi16(low, j, high);
    __m512i y = _mm512_srlv_epi16(power, _mm512_srli_epi16(j, 6));
    return _mm512_srli_epi16(_mm512_add_epi16(y, _mm512_set1_epi16(128)), 8);
}

/* Weights of a row; returns the largest of its logits. */
static inline __attribute__((always_inline)) float
weigh_row(const int panels, const struct attention8_block *b, int64_t r, uint32_t *total) {
    const int32_t *c = b->products + r * ATTENTION8_KEYS;
    const __m512i low = _mm512_loadu_si512(powers), high = _mm512_loadu_si512(powers + 32);
    vf x[4 * 4], most = vf_set(-FLT_MAX);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        vf factor = vf_set(b->factor[r] * b->key_scale[p]);
#pragma GCC unroll 4
        for (int i = 4 * p; i < 4 * p + 4; i++) {
            __m512i q = _mm512_sub_epi32(_mm512_loadu_si512(c + i * LANES),
                                         _mm512_loadu_si512(b->offset + i * LANES));
            x[i] = _mm512_cvtepi32_ps(q) * factor;
            most = vf_max(x[i], most);
        }
    }
    float largest = vf_largest(most);
    vf top = vf_set(largest);
    __m512i sum = _mm512_setzero_si512();
    uint8_t *to = b->weights + r * ATTENTION8_KEYS;
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        __m512i j[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            j[i] = _mm512_cvtps_epi32(top - x[4 * p + i]);
        }
        __m512i first = weights_of(_mm512_packs_epi32(j[0], j[1]), low, high);
        __m512i second = weights_of(_mm512_packs_epi32(j[2], j[3]), low, high);
        __m512i w = _mm512_packus_epi16(first, second);
        if (p == panels - 1) {
            int64_t n = b->keys - p * NARROW_KEYS;
            w = _mm512_maskz_mov_epi8(~(uint64_t)0 >> (NARROW_KEYS - n), w);
        }
        sum = _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi8(1));
        _mm512_storeu_si512(to + p * NARROW_KEYS, w);
    }
    *total = (uint32_t)_mm512_reduce_add_epi32(sum);
    return largest;
}

/* `largest` and `total` of n rows into their state. */
static void add_rows(const struct attention8_block *b, int64_t r, int64_t n, const float *largest,
                     const uint32_t *total) {
    const vf unit = vf_set(1.0F / 64);
    vf before = vf_load_some(b->max + r, n), top = vf_load(largest);
    vf most = vf_max(top, before);
    vf keep = vf_exp2_rough((before - most) * unit), share = vf_exp2_rough((top - most) * unit);
    vf sum = vf_load_some(b->sum + r, n) * keep;
    sum = vf_madd(_mm512_cvtepi32_ps(_mm512_loadu_si512(total)), share, sum);
    vf_store_some(b->max + r, n, most);
    vf_store_some(b->sum + r, n, sum);
    vf_store_some(b->keep + r, n, keep);
    vf_store_some(b->share + r, n, share * vf_set(1.0F / 127));
}

static inline __attribute__((always_inline)) void weigh_rows(const int panels,
                                                             const struct attention8_block *b) {
    for (int64_t r = 0; r < b->rows; r += LANES) {
        float largest[LANES] = {0};
        uint32_t total[LANES] = {0};
        int64_t n = at_most(LANES, b->rows - r);
        for (int64_t i = 0; i < n; i++) {
            largest[i] = weigh_row(panels, b, r + i, &total[i]);
        }
        add_rows(b, r, n, largest, total);
    }
}

static void softmax8(const struct attention8_block *block) {
    switch ((block->keys + NARROW_KEYS - 1) / NARROW_KEYS) {
    case 1:
        weigh_rows(1, block);
        break;
    case 2:
        weigh_rows(2, block);
        break;
    case 3:
        weigh_rows(3, block);
        break;
    default:
        weigh_rows(4, block);
        break;
    }
}

static void fold8(float *out, const int32_t *c, const float *keep, const float *share,
                  const float *v_max, int64_t rows, int64_t width, bool first) {
    for (int64_t r = 0; r < rows; r++) {
        vf kept = vf_set(keep[r]), part = vf_set(share[r]);
        for (int64_t e = 0; e < width; e += LANES) {
            int64_t at = r * width + e;
            vf y = _mm512_cvtepi32_ps(_mm512_loadu_si512(c + at)) * vf_load(v_max + e);
            vf before = first ? vf_zero() : vf_load(out + at);
            vf_store(out + at, vf_madd(y, part, before * kept));
        }
    }
}

static void end8(void *out, int64_t stride, const float *sums, const float *sum, int64_t rows,
                 int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        vf share = vf_set(1 / sum[r]);
        for (int64_t e = 0; e < width; e += LANES) {
            vf_write(out, DTYPE_BF16, r * stride + e, LANES, vf_load(sums + r * width + e) * share);
        }
    }
}

static const struct attention8_products attention8_products = {sum_chunk, round_keys, round_values,
                                                               softmax8,  fold8,      end8};
