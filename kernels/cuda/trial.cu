/* What algorithms are tried on, and what they made of it: numbers that look random, and a sum over
 * the bits of a result, the same one for the same bits alone. Bound by memory; a thread moves 16
 * bytes at a time. Speed: not measured by itself. */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 256
#define BLOCKS  512
static_assert(BLOCKS * THREADS == TRIAL_SUMS, "a sum for each thread");

/* Every bit of x changes about half of the result's (the end of MurmurHash3). */
static __device__ __forceinline__ uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* Of either sign, from 1/8 to 2. */
static __device__ __forceinline__ uint64_t four_bf16(uint64_t random) {
    return (random & 0x81ff81ff81ff81ffu) | 0x3e003e003e003e00u;
}

static __global__ void __launch_bounds__(THREADS) fill_kernel(uint64_t *out, int64_t vectors) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < vectors; i += TRIAL_SUMS) {
        const uint64_t at = 2 * (uint64_t)i;
        const vector<uint64_t, 2> v = {{four_bf16(mixed(at)), four_bf16(mixed(at + 1))}};
        *(vector<uint64_t, 2> *)(out + at) = v;
    }
}

static __global__ void __launch_bounds__(THREADS)
    sums_kernel(uint64_t *out, const uint64_t *x, int64_t vectors) {
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    uint64_t sum = 0;
    for (int64_t i = first; i < vectors; i += TRIAL_SUMS) {
        const vector<uint64_t, 2> v = *(const vector<uint64_t, 2> *)(x + 2 * i);
        sum += mixed(mixed(v.element[0] + (uint64_t)i) ^ v.element[1]);
    }
    out[first] = sum;
}

extern "C" int trial_fill(struct device *device, void *out, size_t bytes) {
    assert(aligned_to(out, 16));
    return launch(fill_kernel, BLOCKS, THREADS, 0, device->stream, (uint64_t *)out,
                  (int64_t)(bytes / 16));
}

extern "C" int trial_sums(struct device *device, uint64_t *out, const void *x, size_t bytes) {
    assert(aligned_to(x, 16));
    return launch(sums_kernel, BLOCKS, THREADS, 0, device->stream, out, (const uint64_t *)x,
                  (int64_t)(bytes / 16));
}
