/* The products of a warpgroup (wgmma, sm_90a): d[64,N] += a[64,16] · b[16,N], f32 sums. Warp w of
 * the group has rows 16w.. of d and a; within them lanes hold what they hold in multiply_16x8x16, d
 * for N/8 tiles side by side. Queued: registers and shared memory belong to it until multiply_wait.
 *
 * a in shared memory lies with its depth innermost; b does too for a product with a in shared
 * memory, and with N innermost for one with a in registers. int8: the same for a[64,32] and
 * b[32,N], with sums in i32; f8: with b's depth innermost too. */
#ifndef VIDLOOM_KERNELS_CUDA_WGMMA_H
#define VIDLOOM_KERNELS_CUDA_WGMMA_H

#include <machine.cuh>

template <int N> struct columns {};

/* PTX has no arrays: the registers d[0] to d[N/2 - 1] are written one by one, by their numbers in
 * the instruction, and after it by what holds them ("+f" or "+r"). */
#define NAMES_TEN(t)                                                                               \
    "%" t "0, %" t "1, %" t "2, %" t "3, %" t "4, %" t "5, %" t "6, %" t "7, %" t "8, %" t "9, "
#define NAMES_30 NAMES_TEN("") NAMES_TEN("1") NAMES_TEN("2")
#define NAMES_60 NAMES_30 NAMES_TEN("3") NAMES_TEN("4") NAMES_TEN("5")
#define NAMES_80 NAMES_60 NAMES_TEN("6") NAMES_TEN("7")
#define NAMES_32 NAMES_30 "%30, %31"
#define NAMES_64 NAMES_60 "%60, %61, %62, %63"
#define NAMES_68 NAMES_60 "%60, %61, %62, %63, %64, %65, %66, %67"
#define NAMES_88 NAMES_80 "%80, %81, %82, %83, %84, %85, %86, %87"
#define NAMES_96 NAMES_80 NAMES_TEN("8") "%90, %91, %92, %93, %94, %95"

#define HELD_EIGHT(by, i)                                                                          \
    by(d[i]), by(d[i + 1]), by(d[i + 2]), by(d[i + 3]), by(d[i + 4]), by(d[i + 5]), by(d[i + 6]),  \
        by(d[i + 7])
#define HELD_32(by) HELD_EIGHT(by, 0), HELD_EIGHT(by, 8), HELD_EIGHT(by, 16), HELD_EIGHT(by, 24)
#define HELD_64(by)                                                                                \
    HELD_32(by), HELD_EIGHT(by, 32), HELD_EIGHT(by, 40), HELD_EIGHT(by, 48), HELD_EIGHT(by, 56)
#define HELD_68(by) HELD_64(by), by(d[64]), by(d[65]), by(d[66]), by(d[67])
#define HELD_88(by) HELD_64(by), HELD_EIGHT(by, 64), HELD_EIGHT(by, 72), HELD_EIGHT(by, 80)
#define HELD_96(by) HELD_88(by), HELD_EIGHT(by, 88)

/* a and b in shared memory, by their descriptors (matrix_at); without `add` d is overwritten.
 *   registers   N/2, and ab, add the numbers of the operands after them
 *   shape       the instruction's name after N;  signs: what it takes after `add` */
#define MULTIPLY_64_SHARED(N, registers, shape, type, sums, by, ab, add_at, signs)                 \
    static __device__ __forceinline__ void multiply_64_shared(columns<N>, type, sums *d,           \
                                                              uint64_t a, uint64_t b, bool add) {  \
        asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_at ", 0;\n"                       \
                     "wgmma.mma_async.sync.aligned.m64n" #N shape " {" NAMES_##registers           \
                     "}, " ab ", add" signs ";\n}"                                                 \
                     : HELD_##registers(by)                                                        \
                     : "l"(a), "l"(b), "r"((int)add));                                             \
    }
MULTIPLY_64_SHARED(128, 64, "k16.f32.bf16.bf16", bf16, float, "+f", "%64, %65", "%66",
                   ", 1, 1, 0, 0")
MULTIPLY_64_SHARED(128, 64, "k16.f32.f16.f16", f16, float, "+f", "%64, %65", "%66", ", 1, 1, 0, 0")
MULTIPLY_64_SHARED(176, 88, "k16.f32.bf16.bf16", bf16, float, "+f", "%88, %89", "%90",
                   ", 1, 1, 0, 0")
MULTIPLY_64_SHARED(176, 88, "k16.f32.f16.f16", f16, float, "+f", "%88, %89", "%90", ", 1, 1, 0, 0")
MULTIPLY_64_SHARED(128, 64, "k32.s32.s8.s8", i8, int, "+r", "%64, %65", "%66", "")
MULTIPLY_64_SHARED(192, 96, "k32.s32.s8.s8", i8, int, "+r", "%96, %97", "%98", "")

/* a in registers; d is always added to. */
#define MULTIPLY_64_REGISTERS(N, registers, shape, type, ab)                                       \
    static __device__ __forceinline__ void multiply_64_registers(                                  \
        columns<N>, type, float *d, const uint32_t a[4], uint64_t b) {                             \
        asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                    \
                     "wgmma.mma_async.sync.aligned.m64n" #N shape " {" NAMES_##registers           \
                     "}, " ab ", p, 1, 1, 1;\n}"                                                   \
                     : HELD_##registers("+f")                                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                        \
    }
MULTIPLY_64_REGISTERS(64, 32, "k16.f32.bf16.bf16", bf16, "{%32, %33, %34, %35}, %36")
MULTIPLY_64_REGISTERS(64, 32, "k16.f32.f16.f16", f16, "{%32, %33, %34, %35}, %36")
MULTIPLY_64_REGISTERS(128, 64, "k16.f32.bf16.bf16", bf16, "{%64, %65, %66, %67}, %68")
MULTIPLY_64_REGISTERS(128, 64, "k16.f32.f16.f16", f16, "{%64, %65, %66, %67}, %68")

/* a in registers; without `add` d is overwritten. */
static __device__ __forceinline__ void
multiply_64_registers_f8(columns<136>, float *d, const uint32_t a[4], uint64_t b, bool add) {
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %73, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n136k32.f32.e4m3.e4m3 {" NAMES_68
                 "}, {%68, %69, %70, %71}, %72, add, 1, 1;\n}"
                 : HELD_68("+f")
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));
}

#endif
