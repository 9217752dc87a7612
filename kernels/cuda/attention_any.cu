/* out = softmax(scale · q kᵀ + bias) v for every head dimension, type and bias: what the tensor
 * core kernels leave over (f32, umT5's bias, odd head dimensions).
 *
 * A block does ROWS queries of one head. Keys pass in tiles of KEYS: every thread has some logits
 * of the tile, then the running maximum and sum of each row move, then every thread adds to its
 * outputs, which stay in shared memory in f32. Speed: not measured; FLOPs bound, no tensor
 * cores. */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 128
#define ROWS    4 /* a warp each, for the softmax */
#define KEYS    64
static_assert(ROWS * WARP == THREADS, "a row of logits belongs to a warp");

template <typename T>
static __global__ void __launch_bounds__(THREADS) attention_any_kernel(struct attention_args a) {
    SHARED_MEMORY(memory);
    const int E = a.head_dim;
    float *q = (float *)memory;            /* [ROWS][E] */
    float *out = q + ROWS * E;             /* [ROWS][E] */
    float *logits = out + ROWS * E;        /* [ROWS][KEYS] */
    float *rescale = logits + ROWS * KEYS; /* [ROWS] */
    const int head = (int)blockIdx.y, row = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t first = (int64_t)blockIdx.x * ROWS;
    const T *q_in = (const T *)a.q + head * E, *k_in = (const T *)a.k + head * E;
    const T *v_in = (const T *)a.v + head * E;
    for (int i = (int)threadIdx.x; i < ROWS * E; i += THREADS) {
        int64_t query = first + i / E;
        q[i] = query < a.q_length ? to_float(q_in[query * a.q_stride + i % E]) : 0;
        out[i] = 0;
    }
    float max = -INFINITY, total = 0;
    for (int64_t key0 = 0; key0 < a.k_length; key0 += KEYS) {
        int keys = a.k_length - key0 < KEYS ? (int)(a.k_length - key0) : KEYS;
        barrier(); /* q is there; the last tile's logits have been used */
        for (int i = (int)threadIdx.x; i < ROWS * KEYS; i += THREADS) {
            int r = i / KEYS, key = i % KEYS;
            int64_t query = first + r;
            float logit = -INFINITY;
            if (key < keys && query < a.q_length) {
                const T *k = k_in + (key0 + key) * a.k_stride;
                float sum = 0;
                for (int e = 0; e < E; e++) {
                    sum += q[r * E + e] * to_float(k[e]);
                }
                logit = sum * a.scale;
                if (a.key_bias != NULL) {
                    logit += a.key_bias[key0 + key];
                }
                if (a.bias != NULL) {
                    logit += a.bias[(head * a.q_length + query) * a.k_length + key0 + key];
                }
            }
            logits[i] = logit;
        }
        barrier();
        float *mine = logits + row * KEYS;
        float x[KEYS / WARP], tile_max = -INFINITY, sum = 0;
#pragma unroll
        for (int i = 0; i < KEYS / WARP; i++) {
            x[i] = mine[i * WARP + lane];
            tile_max = fmaxf(tile_max, x[i]);
        }
#pragma unroll
        for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
            tile_max = fmaxf(tile_max, shuffle_xor(tile_max, lanes));
        }
        float new_max = fmaxf(max, tile_max);
        /* All keys so far banned by -infinity: nothing counts yet, and inf-inf must not arise. */
        float shift = new_max == -INFINITY ? 0 : new_max;
        float factor = expf(max - shift);
#pragma unroll
        for (int i = 0; i < KEYS / WARP; i++) {
            x[i] = expf(x[i] - shift);
            sum += x[i];
            mine[i * WARP + lane] = x[i];
        }
#pragma unroll
        for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
            sum += shuffle_xor(sum, lanes);
        }
        total = total * factor + sum;
        max = new_max;
        if (lane == 0) {
            rescale[row] = factor;
        }
        barrier();
        for (int i = (int)threadIdx.x; i < ROWS * E; i += THREADS) {
            int r = i / E, e = i % E;
            float y = 0;
            for (int key = 0; key < keys; key++) {
                y += logits[r * KEYS + key] * to_float(v_in[(key0 + key) * a.v_stride + e]);
            }
            out[i] = out[i] * rescale[r] + y;
        }
    }
    barrier(); /* the last factors have been used */
    if (lane == 0) {
        rescale[row] = 1 / total;
    }
    barrier();
    for (int i = (int)threadIdx.x; i < ROWS * E; i += THREADS) {
        int64_t query = first + i / E;
        if (query < a.q_length) {
            from_float((T *)a.out + query * a.out_stride + head * E + i % E,
                       out[i] * rescale[i / E]);
        }
    }
}

extern "C" void attention_any(struct device *device, const struct attention_args *args) {
    size_t shared = (size_t)(2 * ROWS * args->head_dim + ROWS * KEYS + ROWS) * sizeof(float);
    dim3 grid((unsigned)blocks_of(args->q_length, ROWS), (unsigned)args->heads);
    if (args->q_length == 0) {
        return;
    }
    cudaError_t code;
    if (args->dtype == DTYPE_F32) {
        code = launch(attention_any_kernel<float>, grid, THREADS, shared, device->stream, *args);
    } else if (args->dtype == DTYPE_F16) {
        code = launch(attention_any_kernel<f16>, grid, THREADS, shared, device->stream, *args);
    } else {
        code = launch(attention_any_kernel<bf16>, grid, THREADS, shared, device->stream, *args);
    }
    device_noted(device, code, "attention");
}
