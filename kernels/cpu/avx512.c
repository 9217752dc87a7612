/* AVX-512 (F, BW, DQ, VL): row functions, and products of f32. */
#include <immintrin.h>

#include "kernels/cpu/gemm_tile_avx512.h"
#define VECTOR_SPREAD(x)     _mm512_castsi512_ps(_mm512_set1_epi32(x))
#define VECTOR_MADD(c, a, b) _mm512_fmadd_ps(a, b, c)
#define UNIT                 1
#define OPERAND_BF16         0
#include "kernels/cpu/gemm_tile.h"

#define PANEL                   64
#define STORE_OPERAND(p, at, x) vf_store((float *)(p) + (at), x)
#include "kernels/cpu/gemm_vector.h"

#include "kernels/cpu/levels.h"
#include "kernels/cpu/rows_vector.h"

static const struct gemm gemm = {
    .name = "avx512",
    .operand = DTYPE_F32,
    .panel = PANEL,
    .step = LANES,
    .rows = TILE_ROWS,
    .tile = run_tile,
    .finish = finish,
    .softmax = softmax,
    .softmax_end = softmax_end,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
};

void cpu_level_avx512(struct cpu_level *level) {
    set_rows(level);
    level->name = "avx512";
    level->gemm_f32 = &gemm;
    level->gemm_bf16 = &gemm;
}
