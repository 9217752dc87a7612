/* out = softmax(scale · q kᵀ + key bias) v on tensor cores for heads of 256 and wider, in steps of
 * 128: the VAE's one head, as wide as its channels (384, 640, 1024). Compute capability 8.0 and
 * newer.
 *
 * A block does ROWS queries of one head and SLICE of its outputs (grid: query tiles, heads,
 * slices), a warp 16 rows. The registers that hold the outputs bound the slice; logits are computed
 * anew for each. Their depth passes in chunks of DEPTH through two stages of shared memory, queries
 * and keys together: the next chunk is on its way (cp.async) while this one is used. The softmax is
 * that of attention_sm80.cu.
 *
 * FLOPs: 2·Lq·Lk·E·(E/SLICE + 1) a head. Speed: 61
 * TFLOP/s of an H100 at a head of 384 and 6,240 tokens (ops/gpu/RESULTS.md). */
#include "kernels/cuda/attention_sm80.cuh"

#define SLICE   128 /* outputs of a block */
#define DEPTH   64
#define KEYS    64
#define WARPS   8
#define THREADS (WARPS * WARP)
#define ROWS    (WARPS * 16)
#define N       (KEYS / 8)

static const int q_bytes = ROWS * DEPTH * 2, k_bytes = KEYS * DEPTH * 2;
static const int stage_bytes = q_bytes + k_bytes;
static const int shared_bytes = 2 * stage_bytes + KEYS * SLICE * 2;
static_assert(shared_bytes <= 99 * 1024, "shared memory of the smaller cards");

/* s[16,KEYS] += q · kᵀ over a chunk of depth. */
template <typename T>
static __device__ __forceinline__ void add_logits(float s[N][4], uint32_t q_lane, uint32_t k_lane) {
#pragma unroll
    for (int step = 0; step < DEPTH / 16; step++) {
        uint32_t q[4];
        load_matrix_x4(q, chunks_on(q_lane, step * 2));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t k[4];
            load_matrix_x4(k, chunks_on(k_lane, step * 2) + n * 8 * DEPTH * 2);
            multiply_16x8x16(T{}, s[n], q, k[0], k[1]);
            multiply_16x8x16(T{}, s[n + 1], q, k[2], k[3]);
        }
    }
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) attention_wide_kernel(struct attention_args a) {
    SHARED_MEMORY(memory);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int chunks = a.head_dim / DEPTH;
    const int64_t first = (int64_t)blockIdx.x * ROWS, column = (int64_t)blockIdx.y * a.head_dim;
    const int64_t slice = (int64_t)blockIdx.y * gridDim.z + blockIdx.z; /* of all heads' */
    const uint32_t base = shared_address(memory), v_at = base + 2 * stage_bytes;
    const T *q_in = (const T *)a.q + column, *k_in = (const T *)a.k + column;
    const T *v_in = (const T *)a.v + slice * SLICE;
    const float scale[1][2] = {{a.scale * LOG2_E, a.scale * LOG2_E}};
    auto load_chunk = [&](int stage, int64_t key0, int chunk) {
        const uint32_t at = base + (uint32_t)(stage * stage_bytes);
        load_rows<DEPTH, ROWS, THREADS>(at, q_in + chunk * DEPTH, a.q_stride, first, a.q_length);
        load_rows<DEPTH, KEYS, THREADS>(at + q_bytes, k_in + chunk * DEPTH, a.k_stride, key0,
                                        a.k_length);
    };
    const uint32_t q_lane = base + place<DEPTH * 2>(warp * 16 + lane % 16, lane / 16);
    const uint32_t k_lane =
        base + q_bytes + place<DEPTH * 2>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const uint32_t v_lane = v_at + place<SLICE * 2>(lane % 16, lane / 16);

    float o[SLICE / 8][4] = {};
    struct running running = {{-INFINITY, -INFINITY}, {0, 0}};
    int stage = 0;
    load_chunk(stage, 0, 0);
    copy_async_commit();
    for (int64_t key0 = 0; key0 < a.k_length; key0 += KEYS) {
        float s[N][4] = {}, shrink[2];
        for (int chunk = 0; chunk < chunks; chunk++, stage ^= 1) {
            copy_async_wait<0>();
            barrier(); /* this chunk is there for all; the other, and the last V, have been used */
            if (chunk == 0) { /* V is there with the next chunk */
                load_rows<SLICE, KEYS, THREADS>(v_at, v_in, a.v_stride, key0, a.k_length);
            }
            if (chunk + 1 < chunks) {
                load_chunk(stage ^ 1, key0, chunk + 1);
            } else if (key0 + KEYS < a.k_length) {
                load_chunk(stage ^ 1, key0 + KEYS, 0);
            }
            copy_async_commit();
            add_logits<T>(s, q_lane + (uint32_t)(stage * stage_bytes),
                          k_lane + (uint32_t)(stage * stage_bytes));
        }
        if (a.key_bias != NULL || key0 + KEYS > a.k_length) {
            add_bias<N>(s, a.key_bias, 1 / a.scale, key0, a.k_length);
        }
        softmax_step<N, 1>(s, &running, shrink, scale, 0);
        shrink_outputs<SLICE>(o, shrink);
        add_outputs<T, SLICE, KEYS>(o, s, v_lane);
    }
    write_rows<T, SLICE>(a, o, &running, first + warp * 16 + lane / 4, slice);
}

extern "C" bool attention_wide(struct device *device, const struct attention_args *args) {
    if (!for_tensor_cores(args) || args->head_dim % SLICE != 0 || args->head_dim < 2 * SLICE) {
        return false;
    }
    dim3 grid((unsigned)blocks_of(args->q_length, ROWS), (unsigned)args->heads,
              (unsigned)(args->head_dim / SLICE));
    auto run = [&](auto kernel) {
        cudaError_t code = allow_shared(kernel, shared_bytes);
        return code != cudaSuccess
                   ? code
                   : launch(kernel, grid, THREADS, shared_bytes, device->stream, *args);
    };
    cudaError_t code = args->dtype == DTYPE_BF16 ? run(attention_wide_kernel<bf16>)
                                                 : run(attention_wide_kernel<f16>);
    device_noted(device, code, "attention");
    return true;
}
