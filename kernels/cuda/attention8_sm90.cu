/* Attention in 8 bits (kernels/narrow.h) for Hopper (sm_90a): logits in int8, the second product in
 * f8 (E4M3). As attention_sm90.cu, whose comment has the method, but for these:
 *
 * The two that consume take no turns: their softmax takes longer than their products, and waiting
 * for turns costs 6 %.
 *
 * P goes from the logits' registers to the second product's as f8: a thread has two neighbours of
 * every eight keys where the product wants four of sixteen, so V's keys lie in the order that makes
 * them the same. V is transposed as well, keys innermost: the tensor cores take no other f8.
 *
 * V has a column of ones besides (and seven of zeros, which the products' width asks for): so the
 * sum of a row's P comes with its outputs, and takes no instructions.
 *
 * P is raised to 0..448, all of f8's range. Sums of f8 products keep some 14 bits in the tensor
 * cores, so that a tile is summed by itself and added to the outputs in f32.
 *
 * FLOPs: 4·Lq·Lk·E a head, all at the 8-bit rate. Speed
 * (ops/gpu/RESULTS.md): 808 TFLOP/s on an H100, 1.22 of bf16's, with what is made of the inputs. */
#include "kernels/cuda/attention8.cuh"
#include "kernels/cuda/attention_sm90.cuh"

#define E      NARROW_HEAD_DIM
#define KEYS   (2 * NARROW_KEYS) /* of a tile */
#define STAGES 4
#define N      (KEYS / 8)
#define RAISE  8.807354922057604f /* log2 of F8_MAX */

/* 1.5·2^23, whose neighbours are the whole numbers beside it: sums that are counted from its bits
 * on are the bits of ZERO + sum. A subtraction takes a quarter of a conversion's time. */
#define ZERO      12582912.0f
#define ZERO_BITS 0x4B400000

#define COLUMNS (E + 8) /* of V */
#define ONE     0x38    /* in f8 */

static const int q_bytes = ROWS * E, tile_bytes = KEYS * E;
static const int ones_bytes = (COLUMNS - E) * KEYS, v_bytes = tile_bytes + ones_bytes;
static const int shared_bytes = q_bytes + STAGES * (tile_bytes + v_bytes) + 1024; /* and phases */
static_assert(shared_bytes <= 227 * 1024, "shared memory of a block");
static_assert(E == 128 && KEYS == 128, "a row of a tile is 128 bytes");
static_assert(v_bytes % 1024 == 0, "swizzled tiles are aligned");

/* -- V: transposed, in the products' order of keys ------------------------------------------------
 */

#define V_THREADS 256
#define V         8 /* channels of a thread */
#define LANES     (E / V)

/* Where a key of 32 lies: tile j of eight keys, its pair t, of which b. */
static __device__ __forceinline__ int position_of(int key) {
    const int j = key % 32 / 8, t = key % 8 / 2, b = key % 2;
    return key / 32 * 32 + j / 2 * 16 + t * 4 + j % 2 * 2 + b;
}

/* Grid: tiles of keys, heads. */
static __global__ void __launch_bounds__(V_THREADS)
    value_kernel(uint8_t *out, const float *scale, const bf16 *v, int64_t stride, int64_t length,
                 int64_t keys) {
    __shared__ __align__(16) uint8_t tile[E][KEYS + 16];
    const int group = (int)threadIdx.x / LANES, channel = (int)threadIdx.x % LANES * V;
    const int64_t head = blockIdx.y, first = (int64_t)blockIdx.x * KEYS;
    float s[V];
    load_vector<float, V>(s, scale + head * E + channel);
#pragma unroll
    for (int i = 0; i < V; i++) {
        s[i] = s[i] > 0 ? 1 / s[i] : 0;
    }
    for (int key = group; key < KEYS; key += V_THREADS / LANES) {
        float x[V] = {};
        if (first + key < length) {
            load_vector<bf16, V>(x, v + (first + key) * stride + head * E + channel);
        }
#pragma unroll
        for (int i = 0; i < V; i += 4) {
            const uint32_t four =
                pack_f8(x[i] * s[i], x[i + 1] * s[i + 1], x[i + 2] * s[i + 2], x[i + 3] * s[i + 3]);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                tile[channel + i + j][position_of(key)] = (uint8_t)(four >> 8 * j);
            }
        }
    }
    barrier();
    for (int i = (int)threadIdx.x; i < E * KEYS / 16; i += V_THREADS) {
        const int row = i / (KEYS / 16), chunk = i % (KEYS / 16) * 16;
        *(vector<uint32_t, 4> *)(out + (head * E + row) * keys + first + chunk) =
            *(const vector<uint32_t, 4> *)&tile[row][chunk];
    }
}

/* -- the attention ------------------------------------------------------------------------------
 */

struct narrow_rows {
    const float *q_scale, *k_scale, *v_scale;
    int64_t blocks;
};

static __device__ void produce(const CUtensorMap *q, const CUtensorMap *k, const CUtensorMap *v,
                               uint32_t q_at, uint32_t k_at, uint32_t v_at, struct phases phases,
                               int tiles) {
    const int head = (int)blockIdx.y;
    phase_announce(phases.q, q_bytes);
    copy_tensor(q_at, q, 0, head, (int)blockIdx.x * ROWS, phases.q);
    for (int i = 0; i < tiles; i++) {
        const int stage = i % STAGES;
        const uint32_t free = parity_of<STAGES>(i) ^ 1;
        phase_wait(phases.k_empty + 8 * stage, free);
        phase_announce(phases.k_full + 8 * stage, tile_bytes);
        copy_tensor(k_at + stage * tile_bytes, k, 0, head, i * KEYS, phases.k_full + 8 * stage);
        phase_wait(phases.v_empty + 8 * stage, free);
        phase_announce(phases.v_full + 8 * stage, tile_bytes);
        copy_tensor(v_at + stage * v_bytes, v, i * KEYS, 0, head * E, phases.v_full + 8 * stage);
    }
}

/* sum[64,KEYS] += q · kᵀ; queued. */
static __device__ __forceinline__ void logits(int *sum, uint32_t q_at, uint32_t k_at) {
#pragma unroll
    for (int step = 0; step < E / 32; step++) {
        multiply_64_shared(columns<KEYS>{}, i8{}, sum, matrix_at(q_at + step * 32, 16),
                           matrix_at(k_at + step * 32, 16), true);
    }
    multiply_commit();
}

static __device__ __forceinline__ void clear(int sum[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = ZERO_BITS;
    }
}

/* Behind every tile of V its ones, which stay. A row is of one number, so that it is the same
 * swizzled. All threads. */
static __device__ __forceinline__ void write_ones(uint8_t *v) {
    for (int i = (int)threadIdx.x * 4; i < STAGES * ones_bytes; i += THREADS * 4) {
        const int at = i % ones_bytes;
        *(uint32_t *)(v + i / ones_bytes * v_bytes + tile_bytes + at) =
            at < KEYS ? ONE * 0x01010101u : 0;
    }
    shared_written();
}

/* part[64,COLUMNS] = p · v of one tile; queued. */
static __device__ __forceinline__ void outputs(float *part, const uint32_t p[][4], uint32_t v_at) {
#pragma unroll
    for (int step = 0; step < KEYS / 32; step++) {
        multiply_64_registers_f8(columns<COLUMNS>{}, part, p[step], matrix_at(v_at + step * 32, 16),
                                 step > 0);
    }
    multiply_commit();
}

static __device__ __forceinline__ void to_operand(uint32_t p[][4], const float s[N][4]) {
#pragma unroll
    for (int step = 0; step < KEYS / 32; step++) {
        const float(*x)[4] = &s[4 * step];
#pragma unroll
        for (int i = 0; i < 4; i++) { /* rows g and g+8 of two tiles, then of the next two */
            const int tile = i / 2 * 2, half = i % 2 * 2;
            p[step][i] =
                pack_f8(x[tile][half], x[tile][half + 1], x[tile + 1][half], x[tile + 1][half + 1]);
        }
    }
}

/* The first of a lane's two rows. */
static __device__ __forceinline__ int64_t query_of(int thread) {
    return (int64_t)blockIdx.x * ROWS + thread / WARP * 16 - GROUP / WARP * 16 + thread % WARP / 4;
}

static __device__ __forceinline__ void write_outputs(const struct attention_args &a,
                                                     const float *v_scale, const float o[E / 8][4],
                                                     const struct running *running) {
    int thread = (int)threadIdx.x;
    registers_pin<1>(&thread); /* or `query` is kept over the loop, in registers that it needs */
    const int64_t query = query_of(thread), head = blockIdx.y;
    const int64_t column = head * E + thread % WARP % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float inverse = inverse_sum(running, half);
        if (query + 8 * half < a.q_length) {
            bf16 *out = (bf16 *)a.out + (query + 8 * half) * a.out_stride + column;
#pragma unroll
            for (int e = 0; e < E / 8; e++) {
                float scale[2];
                load_vector<float, 2>(scale, v_scale + column + e * 8);
                *(uint32_t *)(out + e * 8) = pack(bf16{}, o[e][2 * half] * inverse * scale[0],
                                                  o[e][2 * half + 1] * inverse * scale[1]);
            }
        }
    }
}

static __device__ __forceinline__ void consume(const struct attention_args &a,
                                               const struct narrow_rows &in, uint32_t q_at,
                                               uint32_t k_at, uint32_t v_at, struct phases phases,
                                               int tiles) {
    const int consumer = (int)threadIdx.x / GROUP - 1, lane = (int)threadIdx.x % WARP;
    const int64_t head = blockIdx.y;
    const float *k_scale = in.k_scale + head * in.blocks;
    int sum[N][4];
    float s[N][4], o[E / 8][4], part[COLUMNS / 8][4], shrink[2], row_scale[2];
    uint32_t p[KEYS / 32][4];
    struct running running = {{-INFINITY, -INFINITY}, {0, 0}};
    q_at += consumer * 64 * E;
    row_scales(row_scale, a, in.q_scale, query_of((int)threadIdx.x), head);
#pragma unroll
    for (int e = 0; e < E / 8; e++) {
        o[e][0] = o[e][1] = o[e][2] = o[e][3] = 0;
    }

    /* Read before the products are waited for. */
    auto read_scales = [&](float of_keys[2], int i) {
        const int block = 2 * i;
        of_keys[0] = k_scale[block];
        of_keys[1] = block + 1 < in.blocks ? k_scale[block + 1] : 0;
    };
    auto finish_logits = [&](int i, const float of_keys[2]) {
        float scale[2][2];
        registers_pin<N * 4>(&sum[0][0]);
        logit_scales(scale[0], row_scale, of_keys[0]);
        logit_scales(scale[1], row_scale, of_keys[1]);
        if (lane == 0) {
            phase_arrive(phases.k_empty + 8 * (i % STAGES));
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s[n][j] = float_of_bits(sum[n][j]) - ZERO;
            }
        }
        if ((int64_t)(i + 1) * KEYS > a.k_length) {
            add_bias<N>(s, NULL, 1, (int64_t)i * KEYS, a.k_length);
        }
        softmax_step<N, 2, false>(s, &running, shrink, scale, RAISE);
    };
    /* `smaller`: what tile i's softmax gave. */
    auto finish_outputs = [&](int i, const float smaller[2]) {
        registers_pin<COLUMNS / 2>(&part[0][0]);
        if (lane == 0) {
            phase_arrive(phases.v_empty + 8 * (i % STAGES));
        }
#pragma unroll
        for (int e = 0; e < E / 8; e++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                o[e][j] = fmaf(o[e][j], smaller[j / 2], part[e][j]);
            }
        }
        /* The column of ones is that of a row's first lane; the others' part is 0. */
        running.sum[0] = fmaf(running.sum[0], smaller[0], part[E / 8][0]);
        running.sum[1] = fmaf(running.sum[1], smaller[1], part[E / 8][2]);
    };

    /* The first tile's logits alone. */
    float of_keys[2];
    read_scales(of_keys, 0);
    phase_wait(phases.q, 0);
    phase_wait(phases.k_full, 0);
    clear(sum);
    multiply_begin();
    logits(&sum[0][0], q_at, k_at);
    multiply_wait<0>();
    finish_logits(0, of_keys);
    to_operand(p, s);

#pragma unroll 1
    for (int i = 1; i < tiles; i++) {
        const int stage = i % STAGES, last = (i - 1) % STAGES;
        const float smaller[2] = {shrink[0], shrink[1]};
        read_scales(of_keys, i);
        phase_wait(phases.k_full + 8 * stage, parity_of<STAGES>(i));
        phase_wait(phases.v_full + 8 * last, parity_of<STAGES>(i - 1));
        clear(sum);
        multiply_begin();
        logits(&sum[0][0], q_at, k_at + stage * tile_bytes);
        outputs(&part[0][0], p, v_at + last * v_bytes);
        multiply_wait<1>();
        finish_logits(i, of_keys);
        settle(phases.unread, s[N - 1][1] + s[N - 1][3]); /* the softmax overlaps p · v */
        multiply_wait<0>();
        finish_outputs(i - 1, smaller);
        to_operand(p, s);
    }
    const int stage = (tiles - 1) % STAGES;
    phase_wait(phases.v_full + 8 * stage, parity_of<STAGES>(tiles - 1));
    multiply_begin();
    outputs(&part[0][0], p, v_at + stage * v_bytes);
    multiply_wait<0>();
    finish_outputs(tiles - 1, shrink);

    write_outputs(a, in.v_scale, o, &running);
}

static __global__ void __launch_bounds__(THREADS, 1)
    attention8_sm90_kernel(const struct attention_args a, const struct narrow_rows in,
                           const __grid_constant__ CUtensorMap q,
                           const __grid_constant__ CUtensorMap k,
                           const __grid_constant__ CUtensorMap v) {
    SHARED_MEMORY(memory);
    const uint32_t q_at = shared_address(memory), k_at = q_at + q_bytes;
    const uint32_t v_at = k_at + STAGES * tile_bytes;
    const struct phases phases = phases_at<STAGES>(v_at + STAGES * v_bytes);
    const int tiles = (int)((a.k_length + KEYS - 1) / KEYS);
    if (threadIdx.x == 0) {
        phases_init<STAGES>(phases);
    }
    write_ones(memory + (v_at - q_at));
    barrier();
    if (threadIdx.x < GROUP) {
        registers_lower<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) {
            produce(&q, &k, &v, q_at, k_at, v_at, phases, tiles);
        }
    } else {
        registers_raise<CONSUMER_REGISTERS>();
        consume(a, in, q_at, k_at, v_at, phases, tiles);
    }
}

extern "C" bool attention8_sm90(struct device *device, const struct attention_args *args,
                                const struct narrow_layout *at) {
    uint8_t *base = (uint8_t *)args->narrow;
    const int64_t narrow_stride = (int64_t)args->heads * E;
    CUtensorMap q, k, v;
    if (device->capability != 90 ||
        !tensor_map(&q, base + at->q, DTYPE_I8, E, args->heads, args->q_length, narrow_stride,
                    ROWS) ||
        !tensor_map(&k, base + at->k, DTYPE_I8, E, args->heads, args->k_length, narrow_stride,
                    KEYS) ||
        !tensor_map(&v, base + at->v, DTYPE_I8, (int)at->keys, 1, narrow_stride, at->keys, E)) {
        return false;
    }
    const struct narrow_rows rows = {(const float *)(base + at->q_scale),
                                     (const float *)(base + at->k_scale),
                                     (const float *)(base + at->v_scale), at->blocks};
    dim3 tiles((unsigned)(at->keys / KEYS), (unsigned)args->heads);
    dim3 grid((unsigned)blocks_of(args->q_length, ROWS), (unsigned)args->heads);
    cudaError_t code =
        launch(value_kernel, tiles, V_THREADS, 0, device->stream, base + at->v, rows.v_scale,
               (const bf16 *)args->v, args->v_stride, args->k_length, at->keys);
    if (code == cudaSuccess) {
        code = allow_shared(attention8_sm90_kernel, shared_bytes);
    }
    if (code == cudaSuccess) {
        code = launch(attention8_sm90_kernel, grid, THREADS, shared_bytes, device->stream, *args,
                      rows, q, k, v);
    }
    device_noted(device, code, "attention in 8 bits");
    return true;
}
