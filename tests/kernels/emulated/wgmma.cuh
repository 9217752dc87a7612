/* kernels/cuda/wgmma.cuh for the emulated machine: the products are done at once. Where elements
 * lie follows the PTX manual's layouts of matrices with 128-byte swizzle. */
#ifndef VIDLOOM_TESTS_KERNELS_EMULATED_WGMMA_H
#define VIDLOOM_TESTS_KERNELS_EMULATED_WGMMA_H

#include <machine.cuh>

template <int N> struct columns {};

static inline uint32_t emulated_start(uint64_t matrix) {
    return (uint32_t)(matrix & 0x3fff) << 4;
}

template <typename T> static inline float emulated_element(T, uint32_t at) {
    T out;
    at ^= (at >> 7 & 7) << 4;
    memcpy(&out, emulated_shared + at, sizeof out);
    return to_float(out);
}

/* Element (row, depth) where the depth is innermost. */
template <typename T> static inline float emulated_deep(T, uint64_t matrix, int row, int depth) {
    uint32_t stride = (uint32_t)(matrix >> 32 & 0x3fff) << 4;
    return emulated_element(T{}, emulated_start(matrix) + (uint32_t)(row / 8) * stride +
                                     (uint32_t)(row % 8 * 128 + depth * 2));
}

/* Element (depth, column) where the columns are innermost. */
template <typename T> static inline float emulated_wide(T, uint64_t matrix, int depth, int column) {
    uint32_t stride = (uint32_t)(matrix >> 32 & 0x3fff) << 4;
    uint32_t leading = (uint32_t)(matrix >> 16 & 0x3fff) << 4;
    return emulated_element(T{}, emulated_start(matrix) + (uint32_t)(column / 64) * leading +
                                     (uint32_t)(depth / 8) * stride +
                                     (uint32_t)(depth % 8 * 128 + column % 64 * 2));
}

template <int N, typename T>
static inline void multiply_64_shared(columns<N>, T, float *d, uint64_t a, uint64_t b, bool add) {
    int lane = (int)emulated_lane(), warp = (int)threadIdx.x / WARP % 4;
    float x[2][16];
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < 16; k++) {
            x[half][k] = emulated_deep(T{}, a, warp * 16 + half * 8 + lane / 4, k);
        }
    }
    for (int i = 0; i < N / 2; i++) {
        int column = i / 4 * 8 + lane % 4 * 2 + i % 2, half = i / 2 % 2;
        float sum = add ? d[i] : 0;
        for (int k = 0; k < 16; k++) {
            sum += x[half][k] * emulated_deep(T{}, b, column, k);
        }
        d[i] = sum;
    }
}

/* The same of int8, 32 deep. */
static inline int emulated_deep_byte(uint64_t matrix, int row, int depth) {
    uint32_t stride = (uint32_t)(matrix >> 32 & 0x3fff) << 4;
    uint32_t at =
        emulated_start(matrix) + (uint32_t)(row / 8) * stride + (uint32_t)(row % 8 * 128 + depth);
    return (int8_t)emulated_shared[at ^ (at >> 7 & 7) << 4];
}

template <int N>
static inline void multiply_64_shared(columns<N>, i8, int *d, uint64_t a, uint64_t b, bool add) {
    int lane = (int)emulated_lane(), warp = (int)threadIdx.x / WARP % 4;
    for (int i = 0; i < N / 2; i++) {
        int column = i / 4 * 8 + lane % 4 * 2 + i % 2, half = i / 2 % 2;
        int sum = add ? d[i] : 0;
        for (int k = 0; k < 32; k++) {
            sum += emulated_deep_byte(a, warp * 16 + half * 8 + lane / 4, k) *
                   emulated_deep_byte(b, column, k);
        }
        d[i] = sum;
    }
}

template <int N, typename T>
static inline void multiply_64_registers(columns<N>, T, float *d, const uint32_t a[4], uint64_t b) {
    int lane = (int)emulated_lane();
    float x[2][16];
    const uint8_t *all = emulated_exchange(a, 4 * sizeof *a);
    for (int t = 0; t < 4; t++) {
        const uint32_t *from = (const uint32_t *)(all + (lane / 4 * 4 + t) * EMULATED_SLOT);
        for (int i = 0; i < 4; i++) { /* row g, g+8, then the same at depth 8 */
            unpack(T{}, &x[i % 2][i / 2 * 8 + 2 * t], from[i]);
        }
    }
    for (int i = 0; i < N / 2; i++) {
        int column = i / 4 * 8 + lane % 4 * 2 + i % 2, half = i / 2 % 2;
        for (int k = 0; k < 16; k++) {
            d[i] += x[half][k] * emulated_wide(T{}, b, k, column);
        }
    }
}

template <int N>
static inline void multiply_64_registers_f8(columns<N>, float *d, const uint32_t a[4], uint64_t b,
                                            bool add) {
    int lane = (int)emulated_lane();
    float x[2][32];
    const uint8_t *all = emulated_exchange(a, 4 * sizeof *a);
    for (int t = 0; t < 4; t++) {
        const uint8_t *from = all + (lane / 4 * 4 + t) * EMULATED_SLOT;
        for (int i = 0; i < 16; i++) { /* four of row g, of g+8, then the same at depth 16 */
            x[i / 4 % 2][i / 8 * 16 + 4 * t + i % 4] = emulated_f8_to_float(from[i]);
        }
    }
    for (int i = 0; i < N / 2; i++) {
        int column = i / 4 * 8 + lane % 4 * 2 + i % 2, half = i / 2 % 2;
        float sum = add ? d[i] : 0;
        for (int k = 0; k < 32; k++) {
            sum += x[half][k] * emulated_f8_to_float((uint8_t)emulated_deep_byte(b, column, k));
        }
        d[i] = sum;
    }
}

#endif
