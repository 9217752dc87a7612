/* What attention in 8 bits (kernels/narrow.h) makes of its inputs: sums of the keys, rows of int8.
 *
 * Every kernel reads its input once: 2 bytes an element in, 1 out; the keys twice, the first time
 * for their mean. Beside the products that is 3 % at 32,760 keys on an H100. */
#include <assert.h>

#include "kernels/cuda/attention8.cuh"

#define THREADS 256
#define E       NARROW_HEAD_DIM
#define V       8 /* elements of a thread in one access of 16 bytes */
#define LANES   (E / V)

/* -- sums and maxima over the keys, a chunk at a time ---------------------------------------------
 */

/* Grid: chunks, heads. A thread has V channels of every (THREADS / LANES)-th key of a chunk. */
static __global__ void __launch_bounds__(THREADS)
    chunk_kernel(float *k_sum, float *v_max, const bf16 *k, int64_t k_stride, const bf16 *v,
                 int64_t v_stride, int64_t length) {
    __shared__ float part[2][THREADS / LANES][E];
    const int group = (int)threadIdx.x / LANES, channel = (int)threadIdx.x % LANES * V;
    const int64_t first = (int64_t)blockIdx.x * NARROW_CHUNK, head = blockIdx.y;
    const int64_t end = first + NARROW_CHUNK < length ? first + NARROW_CHUNK : length;
    float sum[V] = {}, max[V] = {};
    for (int64_t j = first + group; j < end; j += THREADS / LANES) {
        float x[V];
        load_vector<bf16, V>(x, k + j * k_stride + head * E + channel);
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum[i] += x[i];
        }
        load_vector<bf16, V>(x, v + j * v_stride + head * E + channel);
#pragma unroll
        for (int i = 0; i < V; i++) {
            max[i] = fmaxf(max[i], fabsf(x[i]));
        }
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        part[0][group][channel + i] = sum[i];
        part[1][group][channel + i] = max[i];
    }
    barrier();
    if (threadIdx.x < E) {
        float total = 0, largest = 0;
        for (int g = 0; g < THREADS / LANES; g++) {
            total += part[0][g][threadIdx.x];
            largest = fmaxf(largest, part[1][g][threadIdx.x]);
        }
        const int64_t at = ((int64_t)blockIdx.x * gridDim.y + head) * E + threadIdx.x;
        k_sum[at] = total;
        v_max[at] = largest;
    }
}

/* Of all chunks. A thread a channel. */
static __global__ void __launch_bounds__(E)
    all_kernel(float *k_mean, float *v_scale, const float *k_sum, const float *v_max,
               int64_t chunks, int64_t length) {
    const int64_t channel = (int64_t)blockIdx.x * E + threadIdx.x, width = (int64_t)gridDim.x * E;
    float total = 0, largest = 0;
    for (int64_t c = 0; c < chunks; c++) {
        total += k_sum[c * width + channel];
        largest = fmaxf(largest, v_max[c * width + channel]);
    }
    k_mean[channel] = total / (float)length;
    v_scale[channel] = largest / F8_MAX;
}

/* -- rows of int8 -------------------------------------------------------------------------------
 */

static __device__ __forceinline__ void store_rounded(int8_t *out, const float x[V], float largest) {
    const float factor = largest > 0 ? 127 / largest : 0;
    vector<int8_t, V> q;
#pragma unroll
    for (int i = 0; i < V; i++) {
        q.element[i] = (int8_t)rintf(x[i] * factor);
    }
    *(vector<int8_t, V> *)out = q;
}

static __device__ __forceinline__ float largest_of(const float x[V], float largest) {
#pragma unroll
    for (int i = 0; i < V; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
    }
    return largest;
}

/* LANES threads a row of a head, side by side in a warp. */
static __global__ void __launch_bounds__(THREADS)
    query_kernel(int8_t *out, float *scale, const bf16 *q, int64_t stride, int64_t length,
                 int heads) {
    const int64_t unit = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const int64_t row = unit / heads, head = unit % heads;
    const int channel = (int)threadIdx.x % LANES * V;
    const bool there = row < length;
    float x[V];
    load_vector<bf16, V>(x, q + (there ? row : 0) * stride + head * E + channel);
    float largest = largest_of(x, 0);
#pragma unroll
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2) {
        largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    if (there) {
        store_rounded(out + unit * E + channel, x, largest);
        if (channel == 0) {
            scale[unit] = largest / 127;
        }
    }
}

/* Grid: blocks of keys, heads. */
static __global__ void __launch_bounds__(THREADS)
    key_kernel(int8_t *out, float *scale, const bf16 *k, int64_t stride, const float *mean,
               int64_t length) {
    __shared__ float part[THREADS / WARP];
    const int each = NARROW_KEYS / (THREADS / LANES);
    const int group = (int)threadIdx.x / LANES, channel = (int)threadIdx.x % LANES * V;
    const int64_t head = blockIdx.y, heads = gridDim.y;
    float x[each][V], m[V], largest = 0;
    load_vector<float, V>(m, mean + head * E + channel);
#pragma unroll
    for (int i = 0; i < each; i++) {
        const int64_t key = (int64_t)blockIdx.x * NARROW_KEYS + i * (THREADS / LANES) + group;
        load_vector<bf16, V>(x[i], k + (key < length ? key : 0) * stride + head * E + channel);
#pragma unroll
        for (int j = 0; j < V; j++) {
            x[i][j] = key < length ? x[i][j] - m[j] : 0;
        }
        largest = largest_of(x[i], largest);
    }
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    if (threadIdx.x % WARP == 0) {
        part[threadIdx.x / WARP] = largest;
    }
    barrier();
    for (int i = 0; i < THREADS / WARP; i++) {
        largest = fmaxf(largest, part[i]);
    }
#pragma unroll
    for (int i = 0; i < each; i++) {
        const int64_t key = (int64_t)blockIdx.x * NARROW_KEYS + i * (THREADS / LANES) + group;
        if (key < length) {
            store_rounded(out + (key * heads + head) * E + channel, x[i], largest);
        }
    }
    if (threadIdx.x == 0) {
        scale[head * gridDim.x + blockIdx.x] = largest / 127;
    }
}

extern "C" int attention8_prepare(struct device *device, const struct attention_args *a,
                                  const struct narrow_layout *at) {
    uint8_t *base = (uint8_t *)a->narrow;
    float *k_sum = (float *)(base + at->k_sum), *v_max = (float *)(base + at->v_max);
    float *k_mean = (float *)(base + at->k_mean);
    const bf16 *k = (const bf16 *)a->k;
    const unsigned heads = (unsigned)a->heads;
    cudaError_t code =
        launch(chunk_kernel, dim3((unsigned)at->chunks, heads), THREADS, 0, device->stream, k_sum,
               v_max, k, a->k_stride, (const bf16 *)a->v, a->v_stride, a->k_length);
    if (code == cudaSuccess) {
        code = launch(all_kernel, heads, E, 0, device->stream, k_mean,
                      (float *)(base + at->v_scale), k_sum, v_max, at->chunks, a->k_length);
    }
    if (code == cudaSuccess) {
        code = launch(query_kernel, (unsigned)blocks_of(a->q_length * a->heads, THREADS / LANES),
                      THREADS, 0, device->stream, (int8_t *)(base + at->q),
                      (float *)(base + at->q_scale), (const bf16 *)a->q, a->q_stride, a->q_length,
                      a->heads);
    }
    if (code == cudaSuccess) {
        code = launch(key_kernel, dim3((unsigned)at->blocks, heads), THREADS, 0, device->stream,
                      (int8_t *)(base + at->k), (float *)(base + at->k_scale), k, a->k_stride,
                      k_mean, a->k_length);
    }
    return code;
}
