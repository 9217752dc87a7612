/* The tile kernels, once for each instruction set and operand type. The including file defines
 *   VECTOR             a vector of floats of VECTOR_BYTES bytes
 *   VECTOR_LOAD(p)     load one, any alignment
 *   VECTOR_STORE(p,x)  store one
 *   VECTOR_SPREAD(i)   the int i in every lane
 *   VECTOR_ZERO()      zeros
 *   VECTOR_ADD(a,b)    a + b
 *   VECTOR_MADD(c,a,b) c + a·b: a fused multiply-add of floats, or the sum of two bf16 products or
 *                      of four of int8
 *   UNIT               elements of four bytes: 1, 2 or 4
 *   TILES(X)           X(rows, vectors) for every tile there is
 * A unit is four bytes: one f32, two bf16 or four int8. So the same loop serves all types. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/gemm.h"

#define TILE_LANES ((int)(VECTOR_BYTES / 4))

/* Rows in groups of three share a pointer: the row offsets 0, s and 2s are addressing modes, so
 * 16 rows need 6 pointers and all stay in registers. */
#define GROUPS(rows) (((rows) + 2) / 3)

static inline __attribute__((always_inline)) void tile(const int rows, const int vectors, float *c,
                                                       int64_t ldc, const void *const *a,
                                                       int64_t stride, const void *const *b,
                                                       int batch, int64_t units, bool accumulate) {
    VECTOR sum[GEMM_ROWS_MAX][4];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = VECTOR_ZERO();
        }
    }
    for (int i = 0; i < batch; i++) {
        const char *column = b[i];
        const char *row[GROUPS(GEMM_ROWS_MAX)];
#pragma GCC unroll 8
        for (int g = 0; g < GROUPS(rows); g++) {
            row[g] = (const char *)a[i] + 3 * g * stride;
        }
        for (int64_t k = 0; k < units; k++) {
            VECTOR x[4];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                x[v] = VECTOR_LOAD((const float *)(const void *)(column + v * VECTOR_BYTES));
            }
            column += vectors * VECTOR_BYTES;
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                int unit; /* rows of bf16 may start at any even address */
                memcpy(&unit, row[r / 3] + (r % 3) * stride, sizeof unit);
                VECTOR y = VECTOR_SPREAD(unit);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    sum[r][v] = VECTOR_MADD(sum[r][v], y, x[v]);
                }
            }
#pragma GCC unroll 8
            for (int g = 0; g < GROUPS(rows); g++) {
                row[g] += 4;
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            /* Partial sums from zero, then added: rounding errors stay small. */
            float *to = c + r * ldc + v * TILE_LANES;
            VECTOR_STORE(to, accumulate ? VECTOR_ADD(VECTOR_LOAD(to), sum[r][v]) : sum[r][v]);
        }
    }
}

typedef void tile_function(float *c, int64_t ldc, const void *const *a, int64_t stride,
                           const void *const *b, int batch, int64_t units, bool accumulate);

#define DEFINE(rows, vectors)                                                                      \
    static void tile_##rows##_##vectors(float *c, int64_t ldc, const void *const *a,               \
                                        int64_t stride, const void *const *b, int batch,           \
                                        int64_t units, bool accumulate) {                          \
        tile(rows, vectors, c, ldc, a, stride, b, batch, units, accumulate);                       \
    }
TILES(DEFINE)
#undef DEFINE

static tile_function *const tiles[4][GEMM_ROWS_MAX] = {
#define ENTRY(rows, vectors) [(vectors)-1][(rows)-1] = tile_##rows##_##vectors,
    TILES(ENTRY)
#undef ENTRY
};

static void run_tile(float *c, int64_t ldc, const void *const *a, int64_t stride,
                     const void *const *b, int rows, int columns, int batch, int64_t depth,
                     bool accumulate) {
    tiles[columns / TILE_LANES - 1][rows - 1](c, ldc, a, stride * 4 / UNIT, b, batch, depth / UNIT,
                                              accumulate);
}
