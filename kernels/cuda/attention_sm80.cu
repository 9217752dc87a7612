/* out = softmax(scale · q kᵀ + key bias) v on tensor cores, for compute capability 8.0 and newer.
 *
 * A block does ROWS queries of one head (grid: query tiles, heads), a warp 16 or 32 rows of them.
 * Keys and values pass in tiles of KEYS through two stages of shared memory: the next tile is on
 * its way (cp.async) while this one is used. Logits and outputs stay in registers; the softmax is
 * online, in base 2 with the scale folded in; the probabilities go from the first product's
 * accumulators to the second one's operand without leaving their registers.
 *
 * FLOPs: 4·Lq·Lk·E a head. Bytes: q and out once, k and v once a query tile (L2 cache).
 * Method: FlashAttention-2 (arXiv 2307.08691). Speed: not yet measured on such a card. */
#include <assert.h>

#include "kernels/cuda/attention_sm80.cuh"

#define STAGES 2

/* Tiles by head dimension: what fits the registers without spills and, at 128, the 99 KiB that a
 * block may have on 8.6 and 8.9. Two fragments a warp read each key half as often from shared
 * memory; at 128 their outputs alone are 128 registers, and the kernel spills. */
template <int E> struct tile {
    static const int warps = E == 64 ? 4 : 8;
    static const int fragments = E == 64 ? 2 : 1; /* of 16 rows, of a warp */
    static const int threads = warps * WARP;
    static const int rows = warps * 16 * fragments; /* queries of a block */
    static const int keys = 64;
    static const int shared = (rows + 2 * STAGES * keys) * E * 2; /* bytes */
    static_assert(shared <= 99 * 1024, "shared memory of the smaller cards");
    static_assert(keys % 16 == 0 && E % 64 == 0, "whole fragments, eight chunks to swizzle");
};

template <typename T, int E>
static __global__ void __launch_bounds__(tile<E>::threads)
    attention_sm80_kernel(struct attention_args a) {
    SHARED_MEMORY(memory);
    const int ROWS = tile<E>::rows, KEYS = tile<E>::keys, M = tile<E>::fragments;
    const int THREADS = tile<E>::threads;
    const int N = KEYS / 8; /* accumulators of logits along the keys */
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t head = blockIdx.y, first = (int64_t)blockIdx.x * ROWS;
    const uint32_t q_at = shared_address(memory);
    const uint32_t k_at = q_at + ROWS * E * 2, v_at = k_at + STAGES * KEYS * E * 2;
    const T *q_in = (const T *)a.q + head * E, *k_in = (const T *)a.k + head * E;
    const T *v_in = (const T *)a.v + head * E;
    const float scale[1][2] = {{a.scale * LOG2_E, a.scale * LOG2_E}};

    load_rows<E, ROWS, THREADS>(q_at, q_in, a.q_stride, first, a.q_length);
    load_rows<E, KEYS, THREADS>(k_at, k_in, a.k_stride, 0, a.k_length);
    load_rows<E, KEYS, THREADS>(v_at, v_in, a.v_stride, 0, a.k_length);
    copy_async_commit();

    /* Where this lane's rows begin, for each kind of fragment. */
    const uint32_t q_lane = q_at + place<E * 2>(warp * M * 16 + lane % 16, lane / 16);
    const uint32_t k_lane = place<E * 2>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const uint32_t v_lane = place<E * 2>(lane % 16, lane / 16);

    float o[M][E / 8][4] = {};
    struct running running[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        running[m] = {{-INFINITY, -INFINITY}, {0, 0}};
    }
    int stage = 0;
    for (int64_t key0 = 0; key0 < a.k_length; key0 += KEYS, stage ^= 1) {
        copy_async_wait<0>();
        barrier(); /* this tile is there for all; the other stage has been used by all */
        if (key0 + KEYS < a.k_length) {
            uint32_t next = (uint32_t)((stage ^ 1) * KEYS * E * 2);
            load_rows<E, KEYS, THREADS>(k_at + next, k_in, a.k_stride, key0 + KEYS, a.k_length);
            load_rows<E, KEYS, THREADS>(v_at + next, v_in, a.v_stride, key0 + KEYS, a.k_length);
            copy_async_commit();
        }
        const uint32_t k_tile = k_at + k_lane + (uint32_t)(stage * KEYS * E * 2);
        const uint32_t v_tile = v_at + v_lane + (uint32_t)(stage * KEYS * E * 2);

        float s[M][N][4] = {};
#pragma unroll
        for (int step = 0; step < E / 16; step++) {
            uint32_t q[M][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
                load_matrix_x4(q[m], chunks_on(q_lane, step * 2) + m * 16 * E * 2);
            }
#pragma unroll
            for (int n = 0; n < N; n += 2) {
                uint32_t k[4];
                load_matrix_x4(k, chunks_on(k_tile, step * 2) + n * 8 * E * 2);
#pragma unroll
                for (int m = 0; m < M; m++) {
                    multiply_16x8x16(T{}, s[m][n], q[m], k[0], k[1]);
                    multiply_16x8x16(T{}, s[m][n + 1], q[m], k[2], k[3]);
                }
            }
        }

#pragma unroll
        for (int m = 0; m < M; m++) {
            if (a.key_bias != NULL || key0 + KEYS > a.k_length) {
                add_bias<N>(s[m], a.key_bias, 1 / a.scale, key0, a.k_length);
            }
            float shrink[2];
            softmax_step<N, 1>(s[m], &running[m], shrink, scale, 0);
            shrink_outputs<E>(o[m], shrink);
        }

#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            uint32_t p[M][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
                pack_operand<T>(p[m], &s[m][2 * step]);
            }
#pragma unroll
            for (int e = 0; e < E / 8; e += 2) {
                uint32_t v[4];
                load_matrix_x4_transposed(v, chunks_on(v_tile, e) + step * 16 * E * 2);
#pragma unroll
                for (int m = 0; m < M; m++) {
                    multiply_16x8x16(T{}, o[m][e], p[m], v[0], v[1]);
                    multiply_16x8x16(T{}, o[m][e + 1], p[m], v[2], v[3]);
                }
            }
        }
    }

#pragma unroll
    for (int m = 0; m < M; m++) {
        const int64_t query = first + (warp * M + m) * 16 + lane / 4;
        write_rows<T, E>(a, o[m], &running[m], query, head);
    }
}

template <typename T, int E>
static cudaError_t run(struct device *device, const struct attention_args *args) {
    dim3 grid((unsigned)blocks_of(args->q_length, tile<E>::rows), (unsigned)args->heads);
    cudaError_t code = allow_shared(attention_sm80_kernel<T, E>, tile<E>::shared);
    if (code != cudaSuccess) {
        return code;
    }
    return launch(attention_sm80_kernel<T, E>, grid, tile<E>::threads, tile<E>::shared,
                  device->stream, *args);
}

extern "C" bool attention_sm80(struct device *device, const struct attention_args *args) {
    if (!is_64_or_128(args) || !for_tensor_cores(args)) {
        return false;
    }
    cudaError_t code;
    if (args->dtype == DTYPE_BF16) {
        code = args->head_dim == 64 ? run<bf16, 64>(device, args) : run<bf16, 128>(device, args);
    } else {
        code = args->head_dim == 64 ? run<f16, 64>(device, args) : run<f16, 128>(device, args);
    }
    device_noted(device, code, "attention");
    return true;
}
