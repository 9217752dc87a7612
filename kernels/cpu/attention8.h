/* Attention in 8 bits (kernels/narrow.h) over an instruction set's int8 products: the definition's
 * q and k; weights and values in 8 bits too.
 *
 *   x[i,j] = 64 · log2 e · logit[i,j];  m[i] = the largest of a block of keys
 *   p[i,j] = round(255 · 2^(-round(m[i] - x[i,j]) / 64))
 *   vq     = v rounded to int8 by channels of a head and chunks of NARROW_CHUNK keys
 *   out    = Σ_blocks 2^(m/64) · vs · Σ_j p · vq / Σ_blocks 2^(m/64) · Σ_j p, the inner sums exact
 *
 * Since the weights are as the rounded ones are in both sums, the result is a mean of the values
 * whatever is rounded. From the definition it is 1 % or so in the 2-norm. */
#ifndef VIDLOOM_KERNELS_CPU_ATTENTION8_H
#define VIDLOOM_KERNELS_CPU_ATTENTION8_H

#include "kernels/cpu/int8.h"
#include "kernels/narrow.h"

#define ATTENTION8_KEYS    256 /* of a block: a row of logits fits the registers */
#define ATTENTION8_COLUMNS 64  /* of a panel: NARROW_KEYS keys, or channels */

/* Instead of an offset, for columns without a key: their logits are less than any. */
#define ATTENTION8_NO_KEY (1 << 23)

/* Some queries and a block of keys. */
struct attention8_block {
    const int32_t *products; /* [rows, ATTENTION8_KEYS]: (q + 128) · k */
    const int32_t *offset;   /* [keys in whole panels]: what the 128 added */
    const float *key_scale;  /* [panels] */
    const float *factor;     /* [rows]: 64 · log2 e · scale · the query's scale */
    uint8_t *weights;        /* [rows, ATTENTION8_KEYS]: p, in the order of keys; 0 past the last */
    int64_t rows, keys;
    float *max, *sum;    /* [rows]: of the blocks so far, and with this one */
    float *keep, *share; /* [rows]: what the sums so far, and this block's, are multiplied by */
};

/* What an instruction set provides. k and v are bf16, their rows `stride` apart, `width` a multiple
 * of ATTENTION8_COLUMNS. */
struct attention8_products {
    /* Σ k and max |v| by channels. */
    void (*chunk)(float *k_sum, float *v_max, const void *k, int64_t k_stride, const void *v,
                  int64_t v_stride, int64_t count, int64_t width);
    /* At most NARROW_KEYS keys less their mean, to int8; returns their scale. Key j becomes row
     * attention8_column(j) of out[NARROW_KEYS, width], the others zeros. */
    float (*keys)(int8_t *out, const void *k, int64_t stride, int64_t count, const float *mean,
                  int64_t width);
    /* At most NARROW_KEYS values to int8, 127 for v_max; panels have four keys in a row of 4-byte
     * units, and are `panel` bytes apart. Zeros for the others. */
    void (*values)(int8_t *out, int64_t panel, const void *v, int64_t stride, int64_t count,
                   const float *v_max, int64_t width);
    void (*softmax)(const struct attention8_block *block);
    /* out[r,e] = keep[r] · out[r,e] + share[r] · v_max[e] / 127 · c[r,e] */
    void (*fold)(float *out, const int32_t *c, const float *keep, const float *share,
                 const float *v_max, int64_t rows, int64_t width, bool first);
    /* out[r·stride + e] = sums[r·width + e] / sum[r], bf16 */
    void (*end)(void *out, int64_t stride, const float *sums, const float *sum, int64_t rows,
                int64_t width);
};

/* The column of key j of a panel, and the key of column j: packing 32-bit weights to bytes turns
 * four vectors of four fours into each other, and this turns them back. */
static inline int attention8_column(int j) {
    return (j & 3) | (j & 12) << 2 | (j & 48) >> 2;
}

void attention8(struct device *device, const struct attention_args *args);

#endif
