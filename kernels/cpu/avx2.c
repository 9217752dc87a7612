/* AVX2 and FMA: row functions, and products of f32. */
#include <immintrin.h>

/* The tiles that fit 16 registers. */
/* clang-format off */
#define TILES(X)                                                                                   \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1)      \
    X(12, 1) X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2)
/* clang-format on */
#define VECTOR               __m256
#define VECTOR_BYTES         32
#define VECTOR_LOAD(p)       _mm256_loadu_ps(p)
#define VECTOR_STORE(p, x)   _mm256_storeu_ps(p, x)
#define VECTOR_ZERO()        _mm256_setzero_ps()
#define VECTOR_ADD(a, b)     _mm256_add_ps(a, b)
#define VECTOR_SPREAD(x)     _mm256_castsi256_ps(_mm256_set1_epi32(x))
#define VECTOR_MADD(c, a, b) _mm256_fmadd_ps(a, b, c)
#define UNIT                 1
#define OPERAND_BF16         0
#include "kernels/cpu/gemm_tile.h"

#define PANEL                   16
#define STORE_OPERAND(p, at, x) vf_store((float *)(p) + (at), x)
#include "kernels/cpu/gemm_vector.h"

#include "kernels/cpu/levels.h"
#include "kernels/cpu/rows_vector.h"

static const struct gemm gemm = {
    .name = "avx2",
    .operand = DTYPE_F32,
    .panel = PANEL,
    .step = LANES,
    .rows = {12, 6},
    .tile = run_tile,
    .finish = finish,
    .softmax = softmax,
    .softmax_end = softmax_end,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
};

void cpu_level_avx2(struct cpu_level *level) {
    set_rows(level);
    level->name = "avx2";
    level->gemm_f32 = &gemm;
    level->gemm_bf16 = &gemm;
}
