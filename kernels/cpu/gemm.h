/* The one matrix product kernel that linear layers, convolutions and attention share: a tile of a
 * few rows by one panel of columns, summed over a batch of (row block, panel block) pairs.
 *
 * Rows (the A side) are read in place: row r of block b starts at a[b] + r·stride. Columns (the B
 * side) are packed in panels of `panel` columns; a panel holds its depth in order: one row of
 * `columns` floats for each k, or for bf16 one row of `columns` pairs for each two k, which is what
 * a dot-product instruction reads. The last panel may be narrower, a multiple of `step`.
 *
 * An element's sum is taken in the order of k, whatever tile it is computed in: so results do not
 * depend on how rows and columns are cut. */
#ifndef VIDLOOM_KERNELS_CPU_GEMM_H
#define VIDLOOM_KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

#define GEMM_PANEL_MAX 64
#define GEMM_ROWS_MAX  16

/* What happens to a tile's sums on their way out: y = act(sum + bias), times gate, plus residual.
 */
struct gemm_finish {
    void *out; /* row r, column n at r·stride + n */
    enum dtype out_dtype;
    int64_t stride;
    const float *bias; /* by column */
    enum activation activation;
    const float *gate; /* by column; NULL: none */
    const uint8_t *group;
    const void *residual; /* like out, NULL: none */
    bool accumulate;
};

/* One query row's state between blocks of keys. */
struct softmax_row {
    float max, sum;
};

struct softmax_block {
    float *logits; /* [rows, stride]: q·k, unscaled; overwritten */
    void *weights; /* [rows, stride] operand type: exp(logit - max), 0 in the padding */
    int64_t stride;
    int rows;
    bool first;   /* block of keys: nothing is in `state` and `out` yet */
    int64_t keys; /* valid columns; the padding up to `stride` is less than one step */
    float scale;
    const float *key_bias; /* [keys] or NULL */
    const float *bias;     /* [rows, bias_stride] or NULL */
    int64_t bias_stride;
    struct softmax_row *state; /* [rows] */
    float *out;                /* [rows, out_width] sums so far, rescaled to the new maximum */
    int64_t out_width;
};

struct gemm {
    const char *name;
    enum dtype operand; /* what A and B hold: f32 or bf16 (pairs, depth padded to even) */
    int panel;          /* columns of a full panel */
    int step;           /* columns of the narrowest */
    int rows[4];        /* most rows of a tile of (i+1)·step columns */
    /* c[r·ldc + n] (+)= Σ_i Σ_k a[i][r·stride + k] · b[i][k,n], i < batch; `depth` counts the k of
     * one block and is even for bf16. */
    void (*tile)(float *c, int64_t ldc, const void *const *a, int64_t stride, const void *const *b,
                 int rows, int columns, int batch, int64_t depth, bool accumulate);
    /* Rows first.. and columns column.. of the output, from sums[r·ld + n]. */
    void (*finish)(const struct gemm_finish *finish, const float *sums, int64_t ld, int64_t row,
                   int64_t column, int rows, int64_t columns);
    void (*softmax)(const struct softmax_block *block);
    /* out[r·stride + n] = sums[r·ld + n] / state[r].sum */
    void (*softmax_end)(void *out, enum dtype dtype, int64_t stride, const float *sums, int64_t ld,
                        const struct softmax_row *state, int64_t rows, int64_t columns);
    /* Keys (rows of `depth` elements, `stride` apart) to panels whose columns are keys, and values
     * to panels whose depth is keys. `count` rows; both are padded with zeros to whole panels and
     * even depth. dtype is that of the rows. */
    void (*pack_keys)(void *out, const void *rows, enum dtype dtype, int64_t stride, int64_t count,
                      int64_t depth);
    void (*pack_values)(void *out, const void *rows, enum dtype dtype, int64_t stride,
                        int64_t count, int64_t width);
};

/* A matrix to pack: rows that become columns. Its functions are called by any thread. */
struct gemm_source {
    /* Elements k..k+count-1 of row n as f32. */
    void (*read)(struct device *device, const void *context, int64_t n, int64_t k, int64_t count,
                 float *out);
    /* Where element k of row n lies, if `count` rows lie there `stride` elements apart and hold
     * `dtype`; otherwise NULL. May itself be NULL. */
    const void *(*rows)(const void *context, int64_t n, int64_t count, int64_t k, enum dtype *dtype,
                        int64_t *stride);
    const void *context;
    enum dtype dtype; /* that values are rounded to: f32 or bf16 */
};

static inline int64_t gemm_round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

static inline int64_t gemm_depth(const struct gemm *gemm, int64_t depth) {
    return gemm->operand == DTYPE_BF16 ? (depth + 1) / 2 * 2 : depth;
}

static inline int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline const char *element(const void *base, enum dtype dtype, int64_t at) {
    return (const char *)base + at * (int64_t)dtype_bytes(dtype);
}

/* Columns of the panel that starts at column `first`. */
static inline int gemm_columns(const struct gemm *gemm, int64_t first, int64_t outputs) {
    int64_t left = gemm_round_up(outputs - first, gemm->step);
    return left < gemm->panel ? (int)left : gemm->panel;
}

static inline int gemm_rows(const struct gemm *gemm, int columns) {
    return gemm->rows[columns / gemm->step - 1];
}

/* `count` things in `parts` nearly equal parts: where part i begins. */
static inline int64_t part_begin(int64_t count, int64_t parts, int64_t i) {
    return count / parts * i + (i < count % parts ? i : count % parts);
}

/* `count` elements of one type in another. */
void gemm_widen(struct device *device, void *out, enum dtype out_dtype, const void *in,
                enum dtype dtype, int64_t count);

/* Bytes of `outputs` columns of `depth` each, packed; the panel of column n starts at element
 * n·gemm_depth(depth). */
size_t gemm_packed_bytes(const struct gemm *gemm, int64_t outputs, int64_t depth);
/* Elements k..k+count-1 of columns first.. as one part of a panel; `scratch` has room for
 * gemm_pack_scratch(count) bytes. */
void gemm_pack_columns(struct device *device, const struct gemm *gemm,
                       const struct gemm_source *source, void *out, int64_t first, int64_t columns,
                       int64_t k, int64_t count, void *scratch);
size_t gemm_pack_scratch(const struct gemm *gemm, int64_t depth);
/* All of it, `step` elements of depth at a time (even), on the device's threads and scratch memory.
 */
void gemm_pack(struct device *device, const struct gemm *gemm, void *out,
               const struct gemm_source *source, int64_t outputs, int64_t depth, int64_t step);

#endif
