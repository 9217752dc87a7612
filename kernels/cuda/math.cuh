/* Arithmetic that several kernels share. */
#ifndef VIDLOOM_KERNELS_CUDA_MATH_H
#define VIDLOOM_KERNELS_CUDA_MATH_H

#include <math.h>

#include "kernels/args.h"
#include <machine.cuh>

#define LOG2_E 1.4426950408889634f

/* As kernels/cpu/activate.c has it. */
static __device__ __forceinline__ float activation_of(float x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_SILU:
        return x / (1 + expf(-x));
    case ACTIVATION_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case ACTIVATION_GELU_ERF:
        return 0.5f * x * (1 + erff(x * 0.7071067811865476f));
    default:
        return x;
    }
}

/* SiLU within some 4 ulp, and 0 where it is less than 1e-36: for results of 16 bits. Precise, the
 * division alone takes more instructions than a norm has for an element. */
static __device__ __forceinline__ float silu_fast(float x) {
    return x * reciprocal_fast(1 + exp2_fast(x * -LOG2_E));
}

/* V elements side by side, in accesses of at most 16 bytes, to which they are aligned. */
template <typename T, int V> struct __align__(sizeof(T) * V < 16 ? sizeof(T) * V : 16) vector {
    T element[V];
};

/* Whether vectors of V elements may begin here. */
template <int V, typename T> static inline bool vectors_at(const T *x) {
    return (uintptr_t)x % __alignof__(vector<T, V>) == 0;
}

template <typename T, int V>
static __device__ __forceinline__ void load_vector(float out[V], const T *x) {
    vector<T, V> v = *(const vector<T, V> *)x;
#pragma unroll
    for (int i = 0; i < V; i++) {
        out[i] = to_float(v.element[i]);
    }
}

template <typename T, int V>
static __device__ __forceinline__ void store_vector(T *out, const float x[V]) {
    vector<T, V> v;
#pragma unroll
    for (int i = 0; i < V; i++) {
        from_float(&v.element[i], x[i]);
    }
    *(vector<T, V> *)out = v;
}

/* The same where a NaN may lose its upper bits: a fifth of the instructions for narrow types. */
template <typename T, int V>
static __device__ __forceinline__ void store_packed(T *out, const float x[V]) {
    if constexpr (sizeof(T) == 2 && V % 2 == 0) {
        vector<uint32_t, V / 2> v;
#pragma unroll
        for (int i = 0; i < V / 2; i++) {
            v.element[i] = pack(T{}, x[2 * i], x[2 * i + 1]);
        }
        *(vector<uint32_t, V / 2> *)out = v;
    } else {
        store_vector<T, V>(out, x);
    }
}

static inline bool aligned_to(const void *pointer, size_t bytes) {
    return (uintptr_t)pointer % bytes == 0;
}

static inline int64_t blocks_of(int64_t count, int64_t each) {
    return (count + each - 1) / each;
}

/* Call `function` with a value of the type that stores `dtype`. */
template <typename Function>
static inline cudaError_t with_type(enum dtype dtype, Function function) {
    return dtype == DTYPE_BF16 ? function(bf16{}) : function(float{});
}

#endif
