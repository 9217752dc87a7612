/* kernels/cuda/machine.cuh in plain C++: the kernels run on a CPU, a fibre for each thread of a
 * block, blocks one after another. What it can show: wrong indices, wrong fragments, missing waits
 * for asynchronous copies (they happen when they are waited for, and no sooner), missing barriers
 * (the order of threads is shuffled), reads of shared memory that nothing wrote (it is poisoned).
 * What it cannot: how the hardware rounds, and races inside a warp. */
#ifndef VIDLOOM_TESTS_KERNELS_EMULATED_MACHINE_H
#define VIDLOOM_TESTS_KERNELS_EMULATED_MACHINE_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>

#include "tests/kernels/emulated/runtime.h"

#define WARP 32

#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

struct index3 {
    unsigned x, y, z;
};
extern struct index3 threadIdx, blockIdx, gridDim;
extern uint8_t *emulated_shared;

#define SHARED_MEMORY(name) uint8_t *name = emulated_shared

/* Run a block of `threads` for every index of the grid. */
void emulated_run(dim3 grid, int threads, size_t shared, void (*thread)(void *), void *context);
void emulated_barrier(void);
/* Give `bytes` of this lane, get all lanes': slot + lane * EMULATED_SLOT. Until the next call. */
#define EMULATED_SLOT 64
const uint8_t *emulated_exchange(const void *mine, size_t bytes);
/* Asynchronous copies of this thread. */
void emulated_copy(uint32_t shared, const void *global, bool there);
void emulated_copy_commit(void);
void emulated_copy_wait(int pending);

extern "C" {
float emulated_f16_to_float(uint16_t bits);
uint16_t emulated_f16_from_float(float x);
float emulated_bf16_to_float(uint16_t bits);
uint16_t emulated_bf16_from_float(float x);
float emulated_f8_to_float(uint8_t bits);
uint8_t emulated_f8_from_float(float x);
}

template <typename T> struct same { typedef T type; };

template <typename... Args>
static inline cudaError_t launch(void (*kernel)(Args...), dim3 grid, int threads, size_t shared,
                                 cudaStream_t stream, typename same<Args>::type... args) {
    auto body = [=] { kernel(args...); };
    struct block {
        dim3 grid;
        int threads;
        size_t shared;
        decltype(body) thread;
    };
    /* Bytes are copied, as a launch copies them. */
    static_assert(std::is_trivially_destructible<block>::value, "a kernel's arguments");
    struct block block = {grid, threads, shared, body};
    (void)stream;
    emulated_queue(
        [](void *context) {
            auto *b = (struct block *)context;
            emulated_run(
                b->grid, b->threads, b->shared, [](void *thread) { (*(decltype(body) *)thread)(); },
                &b->thread);
        },
        &block, sizeof block);
    return cudaGetLastError(); /* of whatever failed before, too */
}

template <typename... Args>
static inline cudaError_t allow_shared(void (*kernel)(Args...), int bytes) {
    (void)kernel;
    return bytes <= 227 * 1024 ? cudaSuccess : cudaErrorInvalidValue;
}

static inline void barrier(void) {
    emulated_barrier();
}

static inline unsigned emulated_lane(void) {
    return threadIdx.x % WARP;
}

static inline void warp_barrier(void) {
    (void)emulated_exchange("", 1);
}

static inline float shuffle_xor(float x, int lanes) {
    const uint8_t *all = emulated_exchange(&x, sizeof x);
    float out;
    memcpy(&out, all + (emulated_lane() ^ (unsigned)lanes) * EMULATED_SLOT, sizeof out);
    return out;
}

static inline bool warp_any(bool x) {
    const uint8_t mine = x, *all = emulated_exchange(&mine, sizeof mine);
    bool any = false;
    for (int lane = 0; lane < WARP; lane++) {
        any = any || all[lane * EMULATED_SLOT] != 0;
    }
    return any;
}

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};
struct i8 {
    int8_t bits;
};
struct f8_e4m3 {
    uint8_t bits;
};

static inline float float_of_bits(int bits) {
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}
static inline float to_float(float x) {
    return x;
}
static inline float to_float(bf16 x) {
    return emulated_bf16_to_float(x.bits);
}
static inline float to_float(f16 x) {
    return emulated_f16_to_float(x.bits);
}
static inline float to_float(f8_e4m3 x) {
    return emulated_f8_to_float(x.bits);
}
static inline void from_float(float *out, float x) {
    *out = x;
}
static inline void from_float(bf16 *out, float x) {
    out->bits = emulated_bf16_from_float(x);
}
static inline void from_float(f16 *out, float x) {
    out->bits = emulated_f16_from_float(x);
}
static inline void from_float(f8_e4m3 *out, float x) {
    out->bits = emulated_f8_from_float(x);
}

template <typename T> static inline uint32_t pack(T, float low, float high) {
    T l, h;
    from_float(&l, low);
    from_float(&h, high);
    return l.bits | (uint32_t)h.bits << 16;
}
template <typename T> static inline void unpack(T, float out[2], uint32_t both) {
    out[0] = to_float(T{(uint16_t)both});
    out[1] = to_float(T{(uint16_t)(both >> 16)});
}

static inline uint32_t pack_f8(float a, float b, float c, float d) {
    return emulated_f8_from_float(a) | (uint32_t)emulated_f8_from_float(b) << 8 |
           (uint32_t)emulated_f8_from_float(c) << 16 | (uint32_t)emulated_f8_from_float(d) << 24;
}

static inline float exp2_fast(float x) {
    return exp2f(x);
}

static inline float reciprocal_fast(float x) {
    return fabsf(1 / x) < 0x1p-126f ? 0 : 1 / x;
}

static inline float inverse_root_fast(float x) {
    return 1 / sqrtf(x);
}
static inline int to_int_nearest(float x) {
    return (int)lrintf(x);
}

static inline uint32_t shared_address(const void *pointer) {
    return (uint32_t)((const uint8_t *)pointer - emulated_shared);
}
static inline void copy_async_16(uint32_t shared, const void *global, bool there) {
    emulated_copy(shared, global, there);
}
static inline void copy_async_commit(void) {
    emulated_copy_commit();
}
template <int pending> static inline void copy_async_wait(void) {
    emulated_copy_wait(pending);
}

static inline void emulated_load_matrix(uint32_t out[4], uint32_t shared, bool transposed) {
    if (shared % 16 != 0) {
        abort();
    }
    uint32_t row[WARP];
    const uint8_t *all = emulated_exchange(&shared, sizeof shared);
    for (int lane = 0; lane < WARP; lane++) {
        memcpy(&row[lane], all + lane * EMULATED_SLOT, sizeof row[lane]);
    }
    unsigned g = emulated_lane() / 4, t = emulated_lane() % 4;
    for (unsigned m = 0; m < 4; m++) {
        uint16_t element[2];
        for (unsigned i = 0; i < 2; i++) {
            unsigned r = transposed ? 2 * t + i : g, c = transposed ? g : 2 * t + i;
            memcpy(&element[i], emulated_shared + row[m * 8 + r] + c * 2, 2);
        }
        out[m] = element[0] | (uint32_t)element[1] << 16;
    }
}
static inline void load_matrix_x4(uint32_t out[4], uint32_t shared) {
    emulated_load_matrix(out, shared, false);
}
static inline void load_matrix_x4_transposed(uint32_t out[4], uint32_t shared) {
    emulated_load_matrix(out, shared, true);
}

template <typename T>
static inline void multiply_16x8x16(T, float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    float mine[12];
    for (int i = 0; i < 4; i++) {
        unpack(T{}, mine + 2 * i, a[i]);
    }
    unpack(T{}, mine + 8, b0);
    unpack(T{}, mine + 10, b1);
    const uint8_t *all = emulated_exchange(mine, sizeof mine);
    unsigned g = emulated_lane() / 4, t = emulated_lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned column = 2 * t + i % 2, lower = i / 2; /* row g or g+8 */
        for (unsigned s = 0; s < 4; s++) {
            const float *x = (const float *)(all + (g * 4 + s) * EMULATED_SLOT) + 2 * lower;
            const float *y = (const float *)(all + (column * 4 + s) * EMULATED_SLOT) + 8;
            c[i] += x[0] * y[0] + x[1] * y[1] + x[4] * y[2] + x[5] * y[3];
        }
    }
}

static inline void multiply_16x8x32(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const uint8_t *all = emulated_exchange(mine, sizeof mine);
    unsigned g = emulated_lane() / 4, t = emulated_lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned column = 2 * t + i % 2, lower = i / 2; /* row g or g+8 */
        for (unsigned s = 0; s < 4; s++) {
            const int8_t *x = (const int8_t *)all + (g * 4 + s) * EMULATED_SLOT + 4 * lower;
            const int8_t *y = (const int8_t *)all + (column * 4 + s) * EMULATED_SLOT + 16;
            for (int j = 0; j < 4; j++) {
                c[i] += x[j] * y[j] + x[8 + j] * y[4 + j];
            }
        }
    }
}

/* -- barriers in shared memory, tensor copies, warpgroups -----------------------------------------
 */

/* What tensor_map of runtime.c puts into a CUtensorMap. */
struct emulated_map {
    const uint8_t *data;
    int bytes; /* of an element */
    int head_dim, heads, rows;
    int64_t length, stride;
};

void emulated_phase_init(uint32_t shared, int count);
void emulated_phase_arrive(uint32_t shared, int bytes);
void emulated_phase_wait(uint32_t shared, uint32_t parity);
void emulated_copy_tensor(uint32_t shared, const struct emulated_map *map, int x, int y, int z,
                          uint32_t phase);
void emulated_named(int id, int threads, bool wait);

static inline void phase_init(uint32_t shared, int count) {
    emulated_phase_init(shared, count);
}
static inline void phase_init_done(void) {}
static inline void shared_written(void) {}
static inline void phase_arrive(uint32_t shared) {
    emulated_phase_arrive(shared, 0);
}
static inline void phase_announce(uint32_t shared, int bytes) {
    emulated_phase_arrive(shared, bytes);
}
static inline void phase_wait(uint32_t shared, uint32_t parity) {
    emulated_phase_wait(shared, parity);
}
static inline void copy_tensor(uint32_t shared, const CUtensorMap *map, int x, int y, int z,
                               uint32_t phase) {
    emulated_copy_tensor(shared, (const struct emulated_map *)map, x, y, z, phase);
}
static inline void named_wait(int id, int threads) {
    emulated_named(id, threads, true);
}
static inline void named_arrive(int id, int threads) {
    emulated_named(id, threads, false);
}
template <int registers> static inline void registers_raise(void) {}
template <int registers> static inline void registers_lower(void) {}
static inline void multiply_begin(void) {}
static inline void multiply_commit(void) {}
/* The lanes of a warp end a product together. */
template <int pending> static inline void multiply_wait(void) {
    (void)emulated_exchange("", 1);
}
static inline void settle(uint32_t shared, float x) {
    memcpy(emulated_shared + shared, &x, sizeof x);
}
template <int count, typename T> static inline void registers_pin(T *x) {
    (void)x;
}

static inline uint64_t matrix_at(uint32_t shared, int leading) {
    return (uint64_t)(shared >> 4 & 0x3fff) | (uint64_t)(leading >> 4 & 0x3fff) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#endif
