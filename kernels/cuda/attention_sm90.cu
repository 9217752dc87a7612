/* out = softmax(scale · q kᵀ + key bias) v for Hopper (sm_90a).
 *
 * A block does 128 queries of one head (grid: query tiles, heads). One warpgroup produces: a thread
 * of it keeps the tensor copies of K and V tiles in flight, two stages deep. Two consume, 64
 * queries each, and take turns (ping-pong): while one has its products in the tensor cores, the
 * other does its softmax. Within a warpgroup the logits of tile i are computed together with the
 * outputs of tile i-1, so that its own softmax overlaps with a product as well.
 *
 * Tiles of rows of 64 elements, 128 bytes, swizzled by the copy engine; a head of 128 is two such
 * tiles. Q, K: depth innermost. V: keys along the depth, outputs innermost (transposed by the
 * tensor cores). Probabilities go from the logits' registers to the second product's.
 *
 * FLOPs: 4·Lq·Lk·E a head. Method: FlashAttention-3 (arXiv 2407.08608).
 * Speed (ops/gpu/RESULTS.md): 665 TFLOP/s of bf16 at a head of 128 and 32,760 tokens on an H100,
 * which then runs at its limit of power; cuDNN's, 583. */
#include "kernels/cuda/attention_sm90.cuh"

#define STAGES    2
#define ROW_BYTES 128 /* of a tile: 64 elements */

template <int E> struct tile {
    static const int keys = 176; /* 88 logits a thread; 128 keys in three stages are 4 % slower */
    static const int halves = E / 64;
    static const int q_bytes = ROWS * E * 2, kv_bytes = keys * E * 2;
    static const int shared = q_bytes + 2 * STAGES * kv_bytes + 1024; /* and the phases */
    static_assert(shared <= 227 * 1024, "shared memory of a block");
    static_assert(keys * ROW_BYTES % 1024 == 0, "swizzled tiles are aligned");
};

template <int E>
static __device__ void produce(const CUtensorMap *q, const CUtensorMap *k, const CUtensorMap *v,
                               uint32_t q_at, uint32_t k_at, uint32_t v_at, struct phases phases,
                               int tiles) {
    const int KEYS = tile<E>::keys, bytes = tile<E>::kv_bytes;
    const int head = (int)blockIdx.y, first = (int)blockIdx.x * ROWS;
    phase_announce(phases.q, tile<E>::q_bytes);
    for (int h = 0; h < tile<E>::halves; h++) {
        copy_tensor(q_at + h * ROWS * ROW_BYTES, q, h * 64, head, first, phases.q);
    }
    for (int i = 0; i < tiles; i++) {
        const int stage = i % STAGES;
        const uint32_t free = parity_of<STAGES>(i) ^ 1;
        phase_wait(phases.k_empty + 8 * stage, free);
        phase_announce(phases.k_full + 8 * stage, bytes);
        for (int h = 0; h < tile<E>::halves; h++) {
            copy_tensor(k_at + stage * bytes + h * KEYS * ROW_BYTES, k, h * 64, head, i * KEYS,
                        phases.k_full + 8 * stage);
        }
        phase_wait(phases.v_empty + 8 * stage, free);
        phase_announce(phases.v_full + 8 * stage, bytes);
        for (int h = 0; h < tile<E>::halves; h++) {
            copy_tensor(v_at + stage * bytes + h * KEYS * ROW_BYTES, v, h * 64, head, i * KEYS,
                        phases.v_full + 8 * stage);
        }
    }
}

/* s[64,KEYS] = q · kᵀ; queued. */
template <typename T, int E>
static __device__ __forceinline__ void logits(float *s, uint32_t q_at, uint32_t k_at) {
    const int KEYS = tile<E>::keys;
#pragma unroll
    for (int step = 0; step < E / 16; step++) {
        const int half = step / 4, along = step % 4 * 32;
        multiply_64_shared(columns<KEYS>{}, T{}, s,
                           matrix_at(q_at + half * ROWS * ROW_BYTES + along, 16),
                           matrix_at(k_at + half * KEYS * ROW_BYTES + along, 16), step > 0);
    }
    multiply_commit();
}

/* o[64,E] += p · v; queued. */
template <typename T, int E>
static __device__ __forceinline__ void outputs(float *o, const uint32_t p[][4], uint32_t v_at) {
    const int KEYS = tile<E>::keys;
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
        multiply_64_registers(columns<E>{}, T{}, o, p[step],
                              matrix_at(v_at + step * 16 * ROW_BYTES, KEYS * ROW_BYTES));
    }
    multiply_commit();
}

template <typename T, int N>
static __device__ __forceinline__ void to_operand(uint32_t p[][4], const float s[N][4]) {
#pragma unroll
    for (int step = 0; step < N / 2; step++) {
        pack_operand<T>(p[step], &s[2 * step]);
    }
}

template <typename T, int E>
static __device__ __forceinline__ void consume(const struct attention_args &a, uint32_t q_at,
                                               uint32_t k_at, uint32_t v_at, struct phases phases,
                                               int tiles) {
    const int KEYS = tile<E>::keys, N = KEYS / 8, bytes = tile<E>::kv_bytes;
    const int consumer = (int)threadIdx.x / GROUP - 1, lane = (int)threadIdx.x % WARP;
    const int warp = (int)threadIdx.x % GROUP / WARP;
    const int mine = consumer == 0 ? TURN_OF_FIRST : TURN_OF_SECOND;
    const int other = consumer == 0 ? TURN_OF_SECOND : TURN_OF_FIRST;
    const float scale[1][2] = {{a.scale * LOG2_E, a.scale * LOG2_E}};
    float s[N][4], o[E / 8][4], shrink[2];
    uint32_t p[N / 2][4];
    struct running running = {{-INFINITY, -INFINITY}, {0, 0}};
    q_at += consumer * 64 * ROW_BYTES;
#pragma unroll
    for (int e = 0; e < E / 8; e++) {
        o[e][0] = o[e][1] = o[e][2] = o[e][3] = 0;
    }
    if (consumer == 1) {
        named_arrive(TURN_OF_FIRST, CONSUMERS * GROUP);
    }

    auto finish_logits = [&](int i) {
        registers_pin<N * 4>(&s[0][0]);
        if (lane == 0) {
            phase_arrive(phases.k_empty + 8 * (i % STAGES));
        }
        if (a.key_bias != NULL || (int64_t)(i + 1) * KEYS > a.k_length) {
            add_bias<N>(s, a.key_bias, 1 / a.scale, (int64_t)i * KEYS, a.k_length);
        }
        softmax_step<N, 1>(s, &running, shrink, scale, 0);
    };

    /* The first tile's logits alone. The second's last turn is followed by none of the first's. */
    phase_wait(phases.q, 0);
    phase_wait(phases.k_full, 0);
    named_wait(mine, CONSUMERS * GROUP);
    multiply_begin();
    logits<T, E>(&s[0][0], q_at, k_at);
    if (consumer == 0 || tiles > 1) {
        named_arrive(other, CONSUMERS * GROUP);
    }
    multiply_wait<0>();
    finish_logits(0);
    to_operand<T, N>(p, s);

    /* Both products in one straight line, without a branch between their beginning and their end:
     * else the compiler makes each wait for the one before (its remark C7514). */
#pragma unroll 1
    for (int i = 1; i < tiles; i++) {
        const int stage = i % STAGES, last = (i - 1) % STAGES;
        phase_wait(phases.k_full + 8 * stage, parity_of<STAGES>(i));
        phase_wait(phases.v_full + 8 * last, parity_of<STAGES>(i - 1));
        named_wait(mine, CONSUMERS * GROUP);
        multiply_begin();
        logits<T, E>(&s[0][0], q_at, k_at + stage * bytes);
        outputs<T, E>(&o[0][0], p, v_at + last * bytes);
        if (consumer == 0 || i + 1 < tiles) {
            named_arrive(other, CONSUMERS * GROUP);
        }
        multiply_wait<1>();
        finish_logits(i);
        settle(phases.unread, running.sum[0] + running.sum[1]); /* the softmax overlaps p · v */
        multiply_wait<0>();
        registers_pin<E / 2>(&o[0][0]);
        if (lane == 0) {
            phase_arrive(phases.v_empty + 8 * last);
        }
        if (warp_any(shrink[0] != 1 || shrink[1] != 1)) { /* rarely, after some tiles */
            shrink_outputs<E>(o, shrink);
        }
        to_operand<T, N>(p, s);
    }
    const int stage = (tiles - 1) % STAGES;
    phase_wait(phases.v_full + 8 * stage, parity_of<STAGES>(tiles - 1));
    multiply_begin();
    outputs<T, E>(&o[0][0], p, v_at + stage * bytes);
    multiply_wait<0>();
    registers_pin<E / 2>(&o[0][0]);

    const int64_t query = (int64_t)blockIdx.x * ROWS + consumer * 64 + warp * 16 + lane / 4;
    write_rows<T, E>(a, o, &running, query, blockIdx.y);
}

template <typename T, int E>
static __global__ void __launch_bounds__(THREADS, 1)
    attention_sm90_kernel(const struct attention_args a, const __grid_constant__ CUtensorMap q,
                          const __grid_constant__ CUtensorMap k,
                          const __grid_constant__ CUtensorMap v) {
    SHARED_MEMORY(memory);
    const uint32_t q_at = shared_address(memory), k_at = q_at + tile<E>::q_bytes;
    const uint32_t v_at = k_at + STAGES * tile<E>::kv_bytes;
    const struct phases phases = phases_at<STAGES>(v_at + STAGES * tile<E>::kv_bytes);
    const int tiles = (int)((a.k_length + tile<E>::keys - 1) / tile<E>::keys);
    if (threadIdx.x == 0) {
        phases_init<STAGES>(phases);
    }
    barrier();
    if (threadIdx.x < GROUP) {
        registers_lower<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) {
            produce<E>(&q, &k, &v, q_at, k_at, v_at, phases, tiles);
        }
    } else {
        registers_raise<CONSUMER_REGISTERS>();
        consume<T, E>(a, q_at, k_at, v_at, phases, tiles);
    }
}

template <typename T, int E>
static bool run(struct device *device, const struct attention_args *args) {
    CUtensorMap q, k, v;
    if (!tensor_map(&q, args->q, args->dtype, E, args->heads, args->q_length, args->q_stride,
                    ROWS) ||
        !tensor_map(&k, args->k, args->dtype, E, args->heads, args->k_length, args->k_stride,
                    tile<E>::keys) ||
        !tensor_map(&v, args->v, args->dtype, E, args->heads, args->k_length, args->v_stride,
                    tile<E>::keys)) {
        return false;
    }
    dim3 grid((unsigned)blocks_of(args->q_length, ROWS), (unsigned)args->heads);
    cudaError_t code = allow_shared(attention_sm90_kernel<T, E>, tile<E>::shared);
    if (code == cudaSuccess) {
        code = launch(attention_sm90_kernel<T, E>, grid, THREADS, tile<E>::shared, device->stream,
                      *args, q, k, v);
    }
    device_noted(device, code, "attention");
    return true;
}

extern "C" bool attention_sm90(struct device *device, const struct attention_args *args) {
    if (device->capability != 90 || !is_64_or_128(args) || !for_tensor_cores(args)) {
        return false;
    }
    if (args->dtype == DTYPE_BF16) {
        return args->head_dim == 64 ? run<bf16, 64>(device, args) : run<bf16, 128>(device, args);
    }
    return args->head_dim == 64 ? run<f16, 64>(device, args) : run<f16, 128>(device, args);
}
