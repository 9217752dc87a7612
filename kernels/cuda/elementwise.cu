/* Operations on elements: a thread does a few of them, all arrays are read and written once.
 * Compiled without contraction of multiply and add, so that sums equal the plain C ones to the bit.
 * Speed: not yet measured (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 256

/* Call work(i) for every i < count: a grid of at most `GRID` blocks, each striding. */
#define GRID 8192

static __device__ __forceinline__ int64_t first_element(void) {
    return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

static __device__ __forceinline__ int64_t element_stride(void) {
    return (int64_t)gridDim.x * THREADS;
}

static unsigned grid_of(int64_t count) {
    int64_t blocks = blocks_of(count, THREADS);
    return (unsigned)(blocks < GRID ? blocks : GRID);
}

static __global__ void __launch_bounds__(THREADS)
    activate_kernel(float *out, const float *x, int64_t count, enum activation activation) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        out[i] = activation_of(x[i], activation);
    }
}

extern "C" void cuda_activate(struct device *device, float *out, const float *x, int64_t count,
                              enum activation activation) {
    assert(count >= 0);
    if (count > 0 && device_ready(device)) {
        device_noted(device,
                     launch(activate_kernel, grid_of(count), THREADS, 0, device->stream, out, x,
                            count, activation),
                     "activate");
    }
}

template <typename T, int V>
static __global__ void __launch_bounds__(THREADS)
    gelu_gate_kernel(T *out, const T *x, int64_t vectors, int64_t width) {
    for (int64_t i = first_element(); i < vectors; i += element_stride()) {
        int64_t r = i * V / width, column = i * V % width;
        float gate[V], value[V];
        load_vector<T, V>(gate, x + 2 * r * width + column);
        load_vector<T, V>(value, x + (2 * r + 1) * width + column);
#pragma unroll
        for (int j = 0; j < V; j++) {
            value[j] *= activation_of(gate[j], ACTIVATION_GELU_TANH);
        }
        store_vector<T, V>(out + i * V, value);
    }
}

extern "C" void cuda_gelu_gate(struct device *device, void *out, const void *x, int64_t rows,
                               int64_t width, enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (width % 4 == 0 && aligned_to(x, 16) && aligned_to(out, 16)) {
            return launch(gelu_gate_kernel<T, 4>, grid_of(rows * width / 4), THREADS, 0,
                          device->stream, (T *)out, (const T *)x, rows * width / 4, width);
        }
        return launch(gelu_gate_kernel<T, 1>, grid_of(rows * width), THREADS, 0, device->stream,
                      (T *)out, (const T *)x, rows * width, width);
    });
    device_noted(device, code, "gelu_gate");
}

static __global__ void __launch_bounds__(THREADS)
    modulation_kernel(float *out, const float *table, const float *e, int64_t count, int chunks,
                      int e_chunks, int64_t width, uint32_t scale_mask) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        int64_t r = i / width, column = i % width;
        int64_t group = r / chunks, chunk = r % chunks;
        int64_t e_row = group * e_chunks + (e_chunks == 1 ? 0 : chunk);
        float one = (scale_mask >> chunk & 1) != 0 ? 1 : 0;
        out[i] = table[chunk * width + column] + e[e_row * width + column] + one;
    }
}

extern "C" void cuda_modulation(struct device *device, float *out, const float *table,
                                const float *e, int64_t groups, int chunks, int e_chunks,
                                int64_t width, uint32_t scale_mask) {
    assert(groups >= 0 && chunks > 0 && chunks <= 32 && width > 0);
    assert(e_chunks == chunks || e_chunks == 1);
    int64_t count = groups * chunks * width;
    if (count > 0 && device_ready(device)) {
        device_noted(device,
                     launch(modulation_kernel, grid_of(count), THREADS, 0, device->stream, out,
                            table, e, count, chunks, e_chunks, width, scale_mask),
                     "modulation");
    }
}

template <typename Out, typename In>
static __global__ void __launch_bounds__(THREADS)
    convert_kernel(Out *out, const In *x, int64_t count) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        from_float(&out[i], to_float(x[i]));
    }
}

struct f8_e5m2 {
    uint8_t bits;
};

static __device__ __forceinline__ float to_float(i8 x) {
    return (float)x.bits;
}
/* The upper half of an f16. */
static __device__ __forceinline__ float to_float(f8_e5m2 x) {
    return to_float(f16{(uint16_t)(x.bits << 8)});
}

template <typename Function> static cudaError_t with_any_type(enum dtype dtype, Function function) {
    return dtype == DTYPE_F16 ? function(f16{}) : with_type(dtype, function);
}

template <typename Function>
static cudaError_t with_stored_type(enum dtype dtype, Function function) {
    switch (dtype) {
    case DTYPE_I8:
        return function(i8{});
    case DTYPE_F8_E4M3:
        return function(f8_e4m3{});
    case DTYPE_F8_E5M2:
        return function(f8_e5m2{});
    default:
        return with_any_type(dtype, function);
    }
}

extern "C" void cuda_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                             enum dtype dtype, int64_t count) {
    assert(count >= 0 && out_dtype <= DTYPE_F16 && dtype_block(dtype) == 1);
    if (count == 0 || !device_ready(device)) {
        return;
    }
    if (out_dtype == dtype) {
        device_noted(device,
                     cudaMemcpyAsync(out, x, (size_t)count * dtype_bytes(dtype),
                                     cudaMemcpyDeviceToDevice, device->stream),
                     "convert");
        return;
    }
    cudaError_t code = with_any_type(out_dtype, [&](auto out_type) {
        return with_stored_type(dtype, [&](auto type) {
            using Out = decltype(out_type);
            using In = decltype(type);
            return launch(convert_kernel<Out, In>, grid_of(count), THREADS, 0, device->stream,
                          (Out *)out, (const In *)x, count);
        });
    });
    device_noted(device, code, "convert");
}

/* OPS_COMBINE_MAX terms of kernels/ops.h. */
#define TERMS_MAX 6

struct terms {
    const float *x[TERMS_MAX];
    float coefficient[TERMS_MAX];
    int count;
};

static __global__ void __launch_bounds__(THREADS)
    combine_kernel(float *out, struct terms terms, int64_t count) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        float sum = terms.coefficient[0] * terms.x[0][i];
#pragma unroll
        for (int term = 1; term < TERMS_MAX; term++) {
            if (term < terms.count) {
                sum += terms.coefficient[term] * terms.x[term][i];
            }
        }
        out[i] = sum;
    }
}

extern "C" void cuda_combine(struct device *device, float *out, const float *const *x,
                             const float *coefficient, int terms, int64_t count) {
    assert(count >= 0 && terms >= 1 && terms <= TERMS_MAX);
    if (count == 0 || !device_ready(device)) {
        return;
    }
    struct terms sum = {};
    sum.count = terms;
    for (int i = 0; i < terms; i++) {
        sum.x[i] = x[i];
        sum.coefficient[i] = coefficient[i];
    }
    device_noted(
        device, launch(combine_kernel, grid_of(count), THREADS, 0, device->stream, out, sum, count),
        "combine");
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_kernel(T *out, const T *a, const T *b, int64_t count) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        from_float(&out[i], to_float(a[i]) + to_float(b[i]));
    }
}

extern "C" void cuda_add(struct device *device, void *out, const void *a, const void *b,
                         int64_t count, enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(add_kernel<T>, grid_of(count), THREADS, 0, device->stream, (T *)out,
                      (const T *)a, (const T *)b, count);
    });
    device_noted(device, code, "add");
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    from_pixels_kernel(T *out, const uint8_t *rgb, int64_t count) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        from_float(&out[i], (float)rgb[i] / 127.5f - 1);
    }
}

extern "C" void cuda_from_pixels(struct device *device, void *out, const uint8_t *rgb,
                                 int64_t count, enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(from_pixels_kernel<T>, grid_of(count), THREADS, 0, device->stream, (T *)out,
                      rgb, count);
    });
    device_noted(device, code, "from_pixels");
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    to_pixels_kernel(uint8_t *rgb, const T *in, int64_t count) {
    for (int64_t i = first_element(); i < count; i += element_stride()) {
        float x = to_float(in[i]);
        x = x > -1 ? x : -1; /* NaN too */
        x = x < 1 ? x : 1;
        rgb[i] = (uint8_t)rintf((x + 1) * 127.5f);
    }
}

extern "C" void cuda_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                               enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(to_pixels_kernel<T>, grid_of(count), THREADS, 0, device->stream, rgb,
                      (const T *)x, count);
    });
    device_noted(device, code, "to_pixels");
}
