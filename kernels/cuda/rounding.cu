/* Rows of bf16 to 8 bits. A warp has one block of one row; read twice (the second time from the L1
 * cache), written once. Bytes: 2 in and 1 out an element; a product that follows reads them from
 * the L2 cache. Speed: not measured by itself. */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/rounding.cuh"

#define THREADS       256
#define LANE_ELEMENTS 8 /* in one access of 16 bytes */

template <typename Q>
static __global__ void __launch_bounds__(THREADS)
    rounding_kernel(Q *out, float *scale, const bf16 *in, int64_t rows, int64_t inputs,
                    int64_t block, int blocks) {
    const int64_t unit = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    const int64_t row = unit / blocks, first = unit % blocks * block;
    const int lane = (int)threadIdx.x % WARP;
    if (row >= rows) {
        return; /* the whole warp */
    }
    const int64_t end = first + block < inputs ? first + block : inputs;
    const int64_t begin = first + lane * LANE_ELEMENTS;
    const bf16 *from = in + row * inputs;
    float x[LANE_ELEMENTS], largest = 0;
    for (int64_t k = begin; k < end; k += WARP * LANE_ELEMENTS) {
        load_vector<bf16, LANE_ELEMENTS>(x, from + k);
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) {
            largest = largest_of(largest, x[i]);
        }
    }
    largest = warp_largest(largest);
    const float factor = factor_of(Q{}, largest);
    for (int64_t k = begin; k < end; k += WARP * LANE_ELEMENTS) {
        vector<uint32_t, LANE_ELEMENTS / 4> q;
        load_vector<bf16, LANE_ELEMENTS>(x, from + k);
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS / 4; i++) {
            q.element[i] = rounded_four(Q{}, x + 4 * i, factor);
        }
        *(vector<uint32_t, LANE_ELEMENTS / 4> *)(out + row * inputs + k) = q;
    }
    if (lane == 0) {
        scale[unit] = scale_of(Q{}, largest);
    }
}

extern "C" int rounding_rows(struct device *device, const struct rounded *out, const void *in,
                             int64_t rows) {
    assert(out->inputs % 16 == 0 && out->block % 16 == 0);
    assert(aligned_to(in, 16) && aligned_to(out->rows, 16));
    int64_t blocks = blocks_of(out->inputs, out->block);
    return with_8_bits(out->dtype, [&](auto type) {
        using Q = decltype(type);
        return launch(rounding_kernel<Q>, (unsigned)blocks_of(rows * blocks, THREADS / WARP),
                      THREADS, 0, device->stream, (Q *)out->rows, out->scale, (const bf16 *)in,
                      rows, out->inputs, out->block, (int)blocks);
    });
}
