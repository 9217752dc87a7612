/* What the int8 products share: rows of a matrix in tiles of 128 bytes of depth. */
#ifndef VIDLOOM_KERNELS_CUDA_INT8_H
#define VIDLOOM_KERNELS_CUDA_INT8_H

#include <assert.h>

#include "kernels/cuda/linear_out.cuh"

#define STEP_BYTES 128 /* of depth in a tile: eight chunks of 16, swizzled */

/* A product of quantised rows with a layer's weights. */
struct int8_product {
    const int8_t *in, *weight; /* [rows,inputs], [outputs,inputs] */
    const float *in_scale;     /* [rows,blocks] */
    const float *weight_scale; /* [blocks,outputs] */
    int64_t first;             /* row of the whole that row 0 is */
    int64_t rows, outputs, inputs;
    int blocks, block_steps, steps; /* of scales; tiles of depth in one, and in all */
    bool fours;                     /* four outputs at a time are aligned */
};

/* The tile of outputs that a block does. Blocks start in their order and some hundred run at a
 * time: those do a patch of GROUP_TILES rows of tiles and as many columns, whose rows and weights
 * the L2 cache holds. One column after the other, all rows long, would fetch the rows from memory
 * for every column. Grid: row tiles, column tiles. */
#define GROUP_TILES 12

struct tile_place {
    unsigned row, column;
};

static __device__ __forceinline__ struct tile_place tile_of_block(void) {
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x, patch = GROUP_TILES * gridDim.y;
    const unsigned first = block / patch * GROUP_TILES, left = gridDim.x - first;
    const unsigned rows = left < GROUP_TILES ? left : GROUP_TILES;
    return {first + block % patch % rows, block % patch / rows};
}

/* By a warp, whose sums lie in shared memory at `from`: rows_out, by the widest accesses that the
 * layer takes. m0: row of the product. Outputs are even. */
template <int rows, int columns, typename Out>
static __device__ __forceinline__ void int8_rows_out(const struct int8_product &p,
                                                     const linear_out<Out> &out, const float *from,
                                                     int stride, int64_t m0, int64_t n0) {
    warp_barrier();
    const int64_t first = p.first + m0, end = p.first + p.rows;
    if (p.fours) {
        rows_out<rows, columns, 4>(out, from, stride, first, n0, end);
    } else {
        rows_out<rows, columns, 2>(out, from, stride, first, n0, end);
    }
}

template <typename Out>
static inline struct int8_product product_of(const struct linear *linear, const int8_t *in,
                                             const float *in_scale, int64_t first, int64_t rows,
                                             const linear_out<Out> &out) {
    assert(out.template takes_vectors<2>());
    struct int8_product p = {};
    p.in = in;
    p.weight = (const int8_t *)linear->weight;
    p.in_scale = in_scale;
    p.weight_scale = linear->scale;
    p.first = first;
    p.rows = rows;
    p.outputs = linear->outputs;
    p.inputs = linear->inputs;
    p.blocks = (int)blocks_of(linear->inputs, linear->block);
    p.block_steps = (int)blocks_of(linear->block, STEP_BYTES);
    p.steps = (int)blocks_of(linear->inputs, STEP_BYTES);
    p.fours = out.template takes_vectors<4>();
    return p;
}

#endif
