/* The one matrix product kernel that linear layers, convolutions and attention share: a tile of a
 * few rows by one panel of columns, summed over a batch of (row block, panel block) pairs.
 *
 * Rows (the A side) are read in place: row r of block b starts at a[b] + r·a_stride. Columns (the B
 * side) are packed in panels of `panel` columns; a panel holds its depth in order: one row of
 * `columns` floats for each k, or for bf16 one row of `columns` pairs for each two k, which is what
 * a dot-product instruction reads. The last panel may be narrower, a multiple of `step`. */
#ifndef VIDLOOM_KERNELS_CPU_GEMM_H
#define VIDLOOM_KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

#define GEMM_PANEL_MAX 64
#define GEMM_ROWS_MAX  24

struct gemm {
    const char *name;
    enum dtype operand;           /* what A and B hold: f32 or bf16 (pairs, depth padded to even) */
    int panel;                    /* columns of a full panel */
    int step;                     /* narrowest panel */
    int rows[GEMM_PANEL_MAX / 8]; /* most rows of a tile whose panel has (i+1)·step columns */
    /* c[r·ldc + n] (+)= Σ_b Σ_k a[b][r·a_stride + k] · panel b; `depth` counts k of one block and
     * must be even for bf16. `b` holds the blocks one after another. */
    void (*tile)(float *c, int64_t ldc, const void *const *a, int64_t a_stride, const void *b,
                 int rows, int columns, int batch, int64_t depth, bool accumulate);
};

/* Fill out[0..depth) with row n of the matrix to pack (f32). */
typedef void gemm_row(const void *context, int64_t n, float *out);

static inline int64_t gemm_depth(const struct gemm *gemm, int64_t depth) {
    return gemm->operand == DTYPE_BF16 ? (depth + 1) / 2 * 2 : depth;
}

/* Columns of the panel that starts at column `first`. */
static inline int gemm_columns(const struct gemm *gemm, int64_t first, int64_t outputs) {
    int64_t left = (outputs - first + gemm->step - 1) / gemm->step * gemm->step;
    return left < gemm->panel ? (int)left : gemm->panel;
}

static inline int gemm_rows(const struct gemm *gemm, int columns) {
    return gemm->rows[columns / gemm->step - 1];
}

/* Bytes of `outputs` columns of `depth` each, packed; panel p starts at
 * p·panel·gemm_depth(depth)·sizeof(operand). */
size_t gemm_packed_bytes(const struct gemm *gemm, int64_t outputs, int64_t depth);
/* Values are rounded to `dtype` first. `row` holds `depth` floats. */
void gemm_pack(const struct gemm *gemm, void *out, int64_t outputs, int64_t depth, enum dtype dtype,
               gemm_row *read, const void *context, float *row);

#endif
