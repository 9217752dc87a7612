/* AVX-512 with bf16: products of bf16, and row functions that round by instruction. */
#include <immintrin.h>

#include "kernels/cpu/gemm_tile_avx512.h"
#define VECTOR_SPREAD(x)     _mm512_castsi512_ps(_mm512_set1_epi32(x))
#define VECTOR_MADD(c, a, b) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
#define UNIT                 2
#define OPERAND_BF16         1
#include "kernels/cpu/gemm_tile.h"

#define PANEL                   64
#define STORE_OPERAND(p, at, x) vf_store_bf16((bf16 *)(p) + (at), x)
#include "kernels/cpu/vector.h"

/* Even in the low half of each lane, odd in the high half; both hold exact bf16 values. */
static inline vf vf_pair_bf16(vf even, vf odd) {
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_castps_si512(odd)));
}

#include "kernels/cpu/gemm_vector.h"
#include "kernels/cpu/levels.h"
#include "kernels/cpu/rows_vector.h"

static const struct gemm gemm = {
    .name = "avx512_bf16",
    .operand = DTYPE_BF16,
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

void cpu_level_avx512_bf16(struct cpu_level *level) {
    rows_function *convert = level->convert; /* exact, denormals too */
    set_rows(level);
    level->convert = convert;
    level->name = "avx512_bf16";
    level->gemm_bf16 = &gemm;
}
