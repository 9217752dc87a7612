/* Attention in 8 bits (kernels/narrow.h) for compute capability 8.0 and newer: logits in int8, the
 * second product in bf16. As attention_sm80.cu but for the logits: its comment has the method.
 *
 * Speed: not yet measured on such a card. */
#include <assert.h>

#include "kernels/cuda/attention8.cuh"
#include "kernels/cuda/attention_sm80.cuh"

#define STAGES  2
#define E       NARROW_HEAD_DIM
#define WARPS   8
#define THREADS (WARPS * WARP)
#define ROWS    (WARPS * 16) /* queries of a block */
#define KEYS    NARROW_KEYS  /* of a tile: one scale */
#define N       (KEYS / 8)

static const int q_bytes = ROWS * E, k_bytes = KEYS * E, v_bytes = KEYS * E * 2;
static const int shared_bytes = q_bytes + STAGES * (k_bytes + v_bytes);
static_assert(shared_bytes <= 99 * 1024, "shared memory of the smaller cards");

struct narrow_rows {
    const uint8_t *q, *k; /* int8 [length][heads][E] */
    const float *q_scale, *k_scale;
    int64_t blocks;
};

static __device__ __forceinline__ void to_floats(float out[N][4], const int sum[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[n][i] = (float)sum[n][i];
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    attention8_sm80_kernel(struct attention_args a, struct narrow_rows in) {
    SHARED_MEMORY(memory);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t head = blockIdx.y, first = (int64_t)blockIdx.x * ROWS;
    const int64_t narrow_stride = (int64_t)a.heads * E;
    const uint32_t q_at = shared_address(memory), k_at = q_at + q_bytes;
    const uint32_t v_at = k_at + STAGES * k_bytes;
    const uint8_t *q_in = in.q + head * E, *k_in = in.k + head * E;
    const uint8_t *v_in = (const uint8_t *)a.v + head * E * 2;

    load_rows<E, ROWS, THREADS>(q_at, q_in, narrow_stride, first, a.q_length);
    load_rows<E, KEYS, THREADS>(k_at, k_in, narrow_stride, 0, a.k_length);
    load_rows<E * 2, KEYS, THREADS>(v_at, v_in, a.v_stride * 2, 0, a.k_length);
    copy_async_commit();

    const uint32_t q_lane = q_at + place<E>(warp * 16 + lane % 16, lane / 16);
    const uint32_t k_lane = place<E>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const uint32_t v_lane = place<E * 2>(lane % 16, lane / 16);
    const int64_t query = first + warp * 16 + lane / 4;
    float o[E / 8][4] = {}, row_scale[2];
    struct running running = {{-INFINITY, -INFINITY}, {0, 0}};
    row_scales(row_scale, a, in.q_scale, query, head);
    int stage = 0;
    for (int64_t block = 0; block < in.blocks; block++, stage ^= 1) {
        const int64_t key0 = block * KEYS;
        copy_async_wait<0>();
        barrier(); /* this tile is there for all; the other stage has been used by all */
        if (block + 1 < in.blocks) {
            load_rows<E, KEYS, THREADS>(k_at + (uint32_t)((stage ^ 1) * k_bytes), k_in,
                                        narrow_stride, key0 + KEYS, a.k_length);
            load_rows<E * 2, KEYS, THREADS>(v_at + (uint32_t)((stage ^ 1) * v_bytes), v_in,
                                            a.v_stride * 2, key0 + KEYS, a.k_length);
            copy_async_commit();
        }
        const uint32_t k_tile = k_at + k_lane + (uint32_t)(stage * k_bytes);
        const uint32_t v_tile = v_at + v_lane + (uint32_t)(stage * v_bytes);

        int sum[N][4] = {};
#pragma unroll
        for (int step = 0; step < E / 32; step++) {
            uint32_t q[4];
            load_matrix_x4(q, chunks_on(q_lane, step * 2));
#pragma unroll
            for (int n = 0; n < N; n += 2) {
                uint32_t k[4];
                load_matrix_x4(k, chunks_on(k_tile, step * 2) + n * 8 * E);
                multiply_16x8x32(sum[n], q, k[0], k[1]);
                multiply_16x8x32(sum[n + 1], q, k[2], k[3]);
            }
        }

        float s[N][4], shrink[2];
        float scale[1][2];
        logit_scales(scale[0], row_scale, in.k_scale[head * in.blocks + block]);
        to_floats(s, sum);
        if (key0 + KEYS > a.k_length) {
            add_bias<N>(s, NULL, 1, key0, a.k_length);
        }
        softmax_step<N, 1>(s, &running, shrink, scale, 0);
        shrink_outputs<E>(o, shrink);

        add_outputs<bf16, E, KEYS>(o, s, v_tile);
    }
    write_rows<bf16, E>(a, o, &running, query, head);
}

extern "C" int attention8_sm80(struct device *device, const struct attention_args *args,
                               const struct narrow_layout *at) {
    const uint8_t *base = (const uint8_t *)args->narrow;
    const struct narrow_rows rows = {base + at->q, base + at->k,
                                     (const float *)(base + at->q_scale),
                                     (const float *)(base + at->k_scale), at->blocks};
    dim3 grid((unsigned)blocks_of(args->q_length, ROWS), (unsigned)args->heads);
    cudaError_t code = allow_shared(attention8_sm80_kernel, shared_bytes);
    return code != cudaSuccess ? code
                               : launch(attention8_sm80_kernel, grid, THREADS, shared_bytes,
                                        device->stream, *args, rows);
}
