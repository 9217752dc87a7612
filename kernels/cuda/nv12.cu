/* RGB to NV12 for the card's encoder: kernels/nv12.h has the formula, in whole numbers.
 * A thread has a block of 2x2 pixels: four lumas of its own, and colour from the 8x8 pixels about
 * it, which its neighbours read too, so most come from the L1 cache. Bytes moved: 3 read, 1.5
 * written per pixel. Speed: not measured (an H100 has no NVENC). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"
#include "kernels/nv12.h"

#define THREADS 128

static __device__ __forceinline__ uint8_t luma_of(const uint8_t *rgb) {
    int sum = NV12_LUMA_R * rgb[0] + NV12_LUMA_G * rgb[1] + NV12_LUMA_B * rgb[2];
    return (uint8_t)((sum + (16 << NV12_LUMA_BITS) + (1 << (NV12_LUMA_BITS - 1))) >>
                     NV12_LUMA_BITS);
}

static __device__ __forceinline__ uint8_t chroma_of(int64_t sum) {
    const int bits = NV12_CHROMA_BITS + 16;
    int64_t value = (sum + ((int64_t)128 << bits) + ((int64_t)1 << (bits - 1))) >> bits;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static __device__ __forceinline__ int within(int i, int count) {
    return i < 0 ? 0 : i < count ? i : count - 1;
}

static __global__ void __launch_bounds__(THREADS) nv12_kernel(struct nv12_args a) {
    const int tap[] = NV12_TAPS;
    const int height = (int)a.height, width = (int)a.width;
    const int x = (int)(blockIdx.x * THREADS + threadIdx.x), y = (int)blockIdx.y;
    if (2 * x >= width) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        int row = 2 * y + i / 2, column = 2 * x + i % 2;
        a.out.luma[row * a.out.luma_stride + column] =
            luma_of(a.rgb + ((int64_t)row * width + column) * 3);
    }
    int mean[3] = {0, 0, 0}; /* at most 1.53 times 255 << 16 */
    for (int j = 0; j < 8; j++) {
        const uint8_t *row = a.rgb + (int64_t)within(2 * y - NV12_REACH + j, height) * width * 3;
        int across[3] = {0, 0, 0};
        for (int i = 0; i < 8; i++) {
            const uint8_t *rgb = row + within(2 * x - NV12_REACH + i, width) * 3;
            for (int c = 0; c < 3; c++) {
                across[c] += tap[i] * rgb[c];
            }
        }
        for (int c = 0; c < 3; c++) {
            mean[c] += tap[j] * across[c];
        }
    }
    const int64_t r = mean[0], g = mean[1], b = mean[2];
    uint8_t *chroma = a.out.chroma + y * a.out.chroma_stride + 2 * x;
    chroma[0] = chroma_of(NV12_CB_R * r + NV12_CB_G * g + NV12_CB_B * b);
    chroma[1] = chroma_of(NV12_CR_R * r + NV12_CR_G * g + NV12_CR_B * b);
}

extern "C" void cuda_to_nv12(struct device *device, const struct nv12_args *args) {
    assert(args->height >= 0 && args->height % 2 == 0 && args->width % 2 == 0);
    assert(args->height <= 1 << 16 && args->width <= 1 << 16);
    if (args->height == 0 || args->width == 0 || !device_ready(device)) {
        return;
    }
    const dim3 grid((unsigned)blocks_of(args->width / 2, THREADS), (unsigned)(args->height / 2));
    device_noted(device, launch(nv12_kernel, grid, THREADS, 0, device->stream, *args), "to_nv12");
}
