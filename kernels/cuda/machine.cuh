/* The machine as the kernels see it: launching, shared memory, a warp's exchanges, narrow floats,
 * and every PTX instruction in use, each as one small function. tests/kernels/emulated has a second
 * header of this name in plain C++, so that the same kernels run on a CPU under the tests; a
 * kernel file uses nothing of CUDA beyond what is here, the index variables and the keywords. */
#ifndef VIDLOOM_KERNELS_CUDA_MACHINE_H
#define VIDLOOM_KERNELS_CUDA_MACHINE_H

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define WARP 32

/* The block's dynamic shared memory, as `name`. 1024: what a tensor copy with 128-byte swizzle
 * asks for. */
#define SHARED_MEMORY(name) extern __shared__ __align__(1024) uint8_t name[]

template <typename T> struct same { typedef T type; };

/* Launch on `stream`; the code of the launch itself. */
template <typename... Args>
static inline cudaError_t launch(void (*kernel)(Args...), dim3 grid, int threads, size_t shared,
                                 cudaStream_t stream, typename same<Args>::type... args) {
    kernel<<<grid, (unsigned)threads, shared, stream>>>(args...);
    return cudaGetLastError();
}

/* More than 48 KiB of shared memory must be asked for, once a kernel. */
template <typename... Args>
static inline cudaError_t allow_shared(void (*kernel)(Args...), int bytes) {
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                bytes);
}

static __device__ __forceinline__ void barrier(void) {
    __syncthreads();
}

/* What lanes of this warp wrote to shared memory is seen by all of them. */
static __device__ __forceinline__ void warp_barrier(void) {
    __syncwarp();
}

static __device__ __forceinline__ float shuffle_xor(float x, int lanes) {
    return __shfl_xor_sync(0xffffffffu, x, lanes);
}
/* Whether x holds for any lane of this warp. */
static __device__ __forceinline__ bool warp_any(bool x) {
    return __any_sync(0xffffffffu, x) != 0;
}

/* -- narrow floats: storage types, NaN stays a NaN with its upper bits (but f16's) ---------------
 */

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

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(bf16 x) {
    return __uint_as_float((uint32_t)x.bits << 16);
}
/* Of every NaN it makes one and the same. */
static __device__ __forceinline__ float to_float(f16 x) {
    return __half2float(__ushort_as_half(x.bits));
}
/* Four exponent bits, bias 7; no infinities. */
static __device__ __forceinline__ float to_float(f8_e4m3 x) {
    int exponent = x.bits >> 3 & 15, fraction = x.bits & 7;
    float size =
        exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
    size = (x.bits & 0x7f) == 0x7f ? __uint_as_float(0x7fc00000) : size; /* not CUDA's NAN */
    return __uint_as_float(__float_as_uint(size) | (x.bits & 0x80u) << 24);
}
static __device__ __forceinline__ void from_float(float *out, float x) {
    *out = x;
}
static __device__ __forceinline__ void from_float(bf16 *out, float x) {
    uint32_t upper = __float_as_uint(x) >> 16;
    out->bits = x != x ? (uint16_t)(upper | 0x40) : __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
static __device__ __forceinline__ void from_float(f16 *out, float x) {
    uint32_t sign = (__float_as_uint(x) >> 16) & 0x8000;
    out->bits = x != x ? (uint16_t)(sign | 0x7e00) : __half_as_ushort(__float2half_rn(x));
}
/* |x| <= 448. */
static __device__ __forceinline__ void from_float(f8_e4m3 *out, float x) {
#if __CUDA_ARCH__ >= 890
    uint16_t both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(0.0f), "f"(x));
    out->bits = (uint8_t)both;
#else /* as kernels/cpu/float.h has it */
    uint32_t bits = __float_as_uint(x), sign = bits >> 24 & 0x80;
    bits &= 0x7fffffff;
    uint32_t magnitude = (bits + 0x7ffff + (bits >> 20 & 1)) >> 20;
    magnitude = bits < 0x3c800000 ? __float_as_uint(__uint_as_float(bits) + 16384.0f) - 0x46800000
                                  : magnitude - (120u << 3);
    out->bits = (uint8_t)(sign | magnitude);
#endif
}

static __device__ __forceinline__ float float_of_bits(int bits) {
    return __int_as_float(bits);
}

/* Two floats as two narrow ones in a register, `low` in the lower half. No care for NaN's bits. */
static __device__ __forceinline__ uint32_t pack(bf16, float low, float high) {
    uint32_t out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
}
static __device__ __forceinline__ uint32_t pack(f16, float low, float high) {
    uint32_t out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
}

/* Four floats as f8 (E4M3, at most 448) in a register, the first in the lowest byte (sm_89). */
static __device__ __forceinline__ uint32_t pack_f8(float a, float b, float c, float d) {
    uint16_t low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
    return low | (uint32_t)high << 16;
}

/* 2^x within 2 ulp; 0 for -infinity. */
static __device__ __forceinline__ float exp2_fast(float x) {
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

/* 1/x within 1 ulp; 0 where that is below the smallest normal number. */
static __device__ __forceinline__ float reciprocal_fast(float x) {
    float out;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

/* 1/√x within 2 ulp, for normal x. */
static __device__ __forceinline__ float inverse_root_fast(float x) {
    float out;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}
/* The nearest whole number, of two the even one; |x| < 2^31. */
static __device__ __forceinline__ int to_int_nearest(float x) {
    return __float2int_rn(x);
}

/* -- shared memory: addresses, copies, matrices (sm_80) ------------------------------------------
 */

static __device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* 16 bytes from global to shared memory, asynchronously; zeros when !there (nothing is read). */
static __device__ __forceinline__ void copy_async_16(uint32_t shared, const void *global,
                                                     bool there) {
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
                 "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void copy_async_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most `pending` of this thread's groups are on their way. */
template <int pending> static __device__ __forceinline__ void copy_async_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8, and
 * gets elements (l/4, 2(l%4)) and the next of each. */
static __device__ __forceinline__ void load_matrix_x4(uint32_t out[4], uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared)
                 : "memory");
}
/* The same, each matrix transposed. */
static __device__ __forceinline__ void load_matrix_x4_transposed(uint32_t out[4], uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared)
                 : "memory");
}

/* c[16,8] += a[16,16] · b[16,8], f32 sums. Lane l with g = l/4, t = l%4 holds
 * a: (g,2t..) (g+8,2t..) (g,2t+8..) (g+8,2t+8..); b: (2t..,g) (2t+8..,g); c: (g,2t..) (g+8,2t..).
 */
static __device__ __forceinline__ void multiply_16x8x16(bf16, float c[4], const uint32_t a[4],
                                                        uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
static __device__ __forceinline__ void multiply_16x8x16(f16, float c[4], const uint32_t a[4],
                                                        uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c[16,8] += a[16,32] · b[32,8] of int8, exact. Lanes hold what they hold in multiply_16x8x16, four
 * elements in the place of two. */
static __device__ __forceinline__ void multiply_16x8x32(int c[4], const uint32_t a[4], uint32_t b0,
                                                        uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* -- barriers in shared memory, tensor copies, warpgroups (sm_90a) -------------------------------
 */

/* A barrier's phase ends when `count` arrivals and the announced bytes have come. */
static __device__ __forceinline__ void phase_init(uint32_t shared, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared), "r"(count) : "memory");
}
/* After phase_init, before a barrier of the block: the copy engine sees them too. */
static __device__ __forceinline__ void phase_init_done(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* What this thread wrote to shared memory is seen, after a barrier, by the tensor cores too. */
static __device__ __forceinline__ void shared_written(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void phase_arrive(uint32_t shared) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared) : "memory");
}
/* Arrive, and announce bytes that tensor copies will bring. */
static __device__ __forceinline__ void phase_announce(uint32_t shared, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared), "r"(bytes)
                 : "memory");
}
/* Until the phase of this parity has ended; the first phase has parity 0. A barrier on which
 * nothing has happened counts as having ended parity 1. */
static __device__ __forceinline__ void phase_wait(uint32_t shared, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(shared),
                 "r"(parity)
                 : "memory");
}

/* A box of a three-dimensional tensor to shared memory; its bytes count on `phase`. One thread. */
static __device__ __forceinline__ void copy_tensor(uint32_t shared, const CUtensorMap *map, int x,
                                                   int y, int z, uint32_t phase) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(phase)
                 : "memory");
}

/* Barrier `id` (1..15; 0 is barrier()) among `threads` threads: wait there, or only be counted. */
static __device__ __forceinline__ void named_wait(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
static __device__ __forceinline__ void named_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Registers of a thread of this warpgroup from here on. */
template <int registers> static __device__ __forceinline__ void registers_raise(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers> static __device__ __forceinline__ void registers_lower(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

/* Before the first product of a group: registers written until now are seen by it. */
static __device__ __forceinline__ void multiply_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void multiply_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Until at most `pending` groups are at work. */
template <int pending> static __device__ __forceinline__ void multiply_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
/* What follows is done after x is known. registers_pin binds the compiler, but not the assembler
 * (ptxas), which moves multiply_wait up past arithmetic that does not touch memory; so x goes to
 * shared memory, to four bytes there that nobody reads. */
static __device__ __forceinline__ void settle(uint32_t shared, float x) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared), "f"(x) : "memory");
}
/* The compiler must not move uses of these registers across this point. */
template <int count> static __device__ __forceinline__ void registers_pin(float *x) {
#pragma unroll
    for (int i = 0; i < count; i++) {
        asm volatile("" : "+f"(x[i])::"memory");
    }
}
template <int count> static __device__ __forceinline__ void registers_pin(int *x) {
#pragma unroll
    for (int i = 0; i < count; i++) {
        asm volatile("" : "+r"(x[i])::"memory");
    }
}

/* Where a matrix lies in shared memory with 128-byte swizzle: rows of 128 bytes, groups of eight of
 * them 1024 bytes apart; `leading`: bytes to the next 64 elements, where the innermost axis is
 * longer than a row. */
static __device__ __forceinline__ uint64_t matrix_at(uint32_t shared, int leading) {
    return (uint64_t)(shared >> 4 & 0x3fff) | (uint64_t)(leading >> 4 & 0x3fff) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#endif
