/* What the kernels of attention for 8.0 and newer share: rows in shared memory, in chunks of 16
 * bytes. Chunk c of row r lies at c ^ (r % 8), so that the eight rows of an ldmatrix fall into
 * different banks. Rows are whole sets of eight chunks long. */
#ifndef VIDLOOM_KERNELS_CUDA_ATTENTION_SM80_H
#define VIDLOOM_KERNELS_CUDA_ATTENTION_SM80_H

#include <assert.h>

#include "kernels/cuda/attention.cuh"

/* Where a chunk of a row of `bytes` bytes lies. */
template <int bytes> static __device__ __forceinline__ uint32_t place(int row, int chunk) {
    return (uint32_t)(row * bytes + ((chunk ^ (row % 8)) * 16));
}

/* From the place of chunk 0 or 1 to that of the chunk `further` (even, known to the compiler) on:
 * one instruction, where computing every place anew fills the registers with addresses. */
static __device__ __forceinline__ uint32_t chunks_on(uint32_t at, int further) {
    return (at ^ (uint32_t)(further % 8 * 16)) + (uint32_t)(further / 8 * 128);
}

/* By a block of `threads`: `rows` rows of `width` elements, `stride` elements apart, from row
 * `first` on; zeros from `length` on. Queued (copy_async_commit). */
template <int width, int rows, int threads, typename T>
static __device__ __forceinline__ void load_rows(uint32_t shared, const T *global, int64_t stride,
                                                 int64_t first, int64_t length) {
    const int bytes = width * (int)sizeof(T), chunks = bytes / 16, of_chunk = width / chunks;
    static_assert(rows * chunks % threads == 0, "every thread copies as much");
    static_assert(chunks % 8 == 0, "whole sets of chunks");
#pragma unroll
    for (int i = 0; i < rows * chunks / threads; i++) {
        const int at = i * threads + (int)threadIdx.x, row = at / chunks, chunk = at % chunks;
        const bool there = first + row < length;
        const T *from = global + (there ? first + row : 0) * stride + chunk * of_chunk;
        copy_async_16(shared + place<bytes>(row, chunk), from, there);
    }
}

/* o[16,E] += p · v over a tile of `keys`, by a warp; v_lane: where this lane's rows of V begin. */
template <typename T, int E, int keys>
static __device__ __forceinline__ void add_outputs(float o[E / 8][4], const float p[keys / 8][4],
                                                   uint32_t v_lane) {
#pragma unroll
    for (int step = 0; step < keys / 16; step++) {
        uint32_t a[4];
        pack_operand<T>(a, &p[2 * step]);
#pragma unroll
        for (int e = 0; e < E / 8; e += 2) {
            uint32_t v[4];
            load_matrix_x4_transposed(v, chunks_on(v_lane, e) + step * 16 * E * 2);
            multiply_16x8x16(T{}, o[e], a, v[0], v[1]);
            multiply_16x8x16(T{}, o[e + 1], a, v[2], v[3]);
        }
    }
}

#endif
