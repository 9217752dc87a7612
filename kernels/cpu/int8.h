/* Linear layers whose weights are I8: activations are rounded to int8 too, row by row, each block
 * of columns that shares a scale of the weights with a scale of its own.
 *
 *   s[m,b] = max |x[m,k]| / 127 over the columns k of block b;  q[m,k] = round(x[m,k] / s[m,b])
 *   y[m,n] = Σ_b (Σ_k q[m,k] · w[n,k]) · (s[m,b] · scale[n,b])
 *
 * The inner sum is exact, the outer one is taken in the order of b by fused multiply-adds: every
 * level that has these products gives the same bits. */
#ifndef VIDLOOM_KERNELS_CPU_INT8_H
#define VIDLOOM_KERNELS_CPU_INT8_H

#include "kernels/cpu/linear.h"

/* Rows with less in them are zeros: their reciprocals would not be finite. */
#define INT8_LEAST 1e-30f

/* What an instruction set provides. Panels are those of the level's bf16 products; a panel has four
 * elements of depth in a row of 4-byte units. */
struct int8_products {
    /* As struct gemm's: sums are i32, a is u8 and b i8, `depth` is a multiple of 4. */
    void (*tile)(float *c, int64_t ldc, const void *const *a, int64_t stride, const void *const *b,
                 int rows, int columns, int batch, int64_t depth, bool accumulate);
    /* out[k] = q[k] + 128 of one block of a row; returns its scale. `x` is bf16. */
    float (*quantise)(uint8_t *out, const void *x, int64_t count);
    /* out[n] = 128 · Σ_k b[k,n]: what the 128 adds to a product. */
    void (*offsets)(int32_t *out, const void *panel, int columns, int64_t depth);
    /* sums[r·columns + n] (+)= (c[r·columns + n] - offset[n]) · (row_scale[r·stride] ·
     * column_scale[n]) */
    void (*fold)(float *sums, const int32_t *c, const int32_t *offset, const float *row_scale,
                 int64_t stride, const float *column_scale, int rows, int columns, bool first);
};

/* Whether a layer of these tensors, of the same inputs, can be computed so. */
bool int8_suits(const struct tensor *part, int count, enum dtype dtype);
void int8_linear(struct device *device, const struct linear_args *args);
rows_function int8_linear_plain; /* the definition; args are linear_args */

#endif
