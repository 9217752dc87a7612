/* Operations on elements: a thread does a vector of them, all arrays are read and written once.
 * Compiled without contraction of multiply and add, so that sums equal the plain C ones to the bit.
 *
 * What a kernel that moves bytes needs: enough of them on their way at once (on an H200 some 20 KB
 * an SM, so at least 16 bytes a thread) and fewer instructions a byte than the seven that an SM has
 * time for. Speed: 0.98 to 1.00 of an H100's copy (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 256
#define GRID    (1 << 20) /* blocks at most; each strides */

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

/* `work` on every element: `vectors` vectors of V of them, and what is left one by one.
 * Work has part<n>(i), for elements i to i+n-1, and takes_vectors(). */
#define V 8

template <class Work>
static __global__ void __launch_bounds__(THREADS)
    each_kernel(const Work work, int64_t count, int64_t vectors) {
    for (int64_t i = first_element(); i < vectors; i += element_stride()) {
        work.template part<V>(i * V);
    }
    for (int64_t i = vectors * V + first_element(); i < count; i += element_stride()) {
        work.template part<1>(i);
    }
}

template <class Work>
static cudaError_t each(struct device *device, const Work &work, int64_t count) {
    const int64_t vectors = work.takes_vectors() ? count / V : 0;
    return launch(each_kernel<Work>, grid_of(vectors > 0 ? vectors : count), THREADS, 0,
                  device->stream, work, count, vectors);
}

struct activated {
    float *out;
    const float *x;
    enum activation activation;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        float y[n];
        load_vector<float, n>(y, x + i);
#pragma unroll
        for (int j = 0; j < n; j++) {
            y[j] = activation_of(y[j], activation);
        }
        store_vector<float, n>(out + i, y);
    }
    bool takes_vectors(void) const {
        return vectors_at<V>(out) && vectors_at<V>(x);
    }
};

extern "C" void cuda_activate(struct device *device, float *out, const float *x, int64_t count,
                              enum activation activation) {
    assert(count >= 0);
    if (count > 0 && device_ready(device)) {
        const struct activated work = {out, x, activation};
        device_noted(device, each(device, work, count), "activate");
    }
}

template <typename T, int n>
static __global__ void __launch_bounds__(THREADS)
    gelu_gate_kernel(T *out, const T *x, int64_t vectors, int64_t width) {
    for (int64_t i = first_element(); i < vectors; i += element_stride()) {
        int64_t r = i * n / width, column = i * n % width;
        float gate[n], value[n];
        load_vector<T, n>(gate, x + 2 * r * width + column);
        load_vector<T, n>(value, x + (2 * r + 1) * width + column);
#pragma unroll
        for (int j = 0; j < n; j++) {
            value[j] *= activation_of(gate[j], ACTIVATION_GELU_TANH);
        }
        store_packed<T, n>(out + i * n, value);
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

struct f8_e5m2 {
    uint8_t bits;
};

static __device__ __forceinline__ float to_float(i8 x) {
    return (float)x.bits;
}

/* As to_float, but f16's NaN keeps its bits too, and is quiet. */
template <typename T> static __device__ __forceinline__ float exactly(T x) {
    return to_float(x);
}
static __device__ __forceinline__ float exactly(f16 x) {
    const int quiet = (int)((x.bits & 0x8000u) << 16 | 0x7fc00000u | (x.bits & 0x3ffu) << 13);
    return (x.bits & 0x7fff) > 0x7c00 ? float_of_bits(quiet) : to_float(x);
}
/* The upper half of an f16. */
static __device__ __forceinline__ float exactly(f8_e5m2 x) {
    return exactly(f16{(uint16_t)(x.bits << 8)});
}

/* Exact: a NaN keeps its bits. */
template <typename Out, typename In> struct converted {
    Out *out;
    const In *x;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        const vector<In, n> v = *(const vector<In, n> *)(x + i);
        float y[n];
#pragma unroll
        for (int j = 0; j < n; j++) {
            y[j] = exactly(v.element[j]);
        }
        store_vector<Out, n>(out + i, y);
    }
    bool takes_vectors(void) const {
        return vectors_at<V>(out) && vectors_at<V>(x);
    }
};

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
            const struct converted<Out, In> work = { (Out *)out, (const In *)x };
            return each(device, work, count);
        });
    });
    device_noted(device, code, "convert");
}

/* OPS_COMBINE_MAX terms of kernels/ops.h. */
#define TERMS_MAX 6

struct combined {
    float *out;
    const float *x[TERMS_MAX];
    float coefficient[TERMS_MAX];
    int terms;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        float sum[n], y[n];
        load_vector<float, n>(sum, x[0] + i);
#pragma unroll
        for (int j = 0; j < n; j++) {
            sum[j] *= coefficient[0];
        }
#pragma unroll
        for (int term = 1; term < TERMS_MAX; term++) {
            if (term < terms) {
                load_vector<float, n>(y, x[term] + i);
#pragma unroll
                for (int j = 0; j < n; j++) {
                    sum[j] += coefficient[term] * y[j];
                }
            }
        }
        store_vector<float, n>(out + i, sum);
    }
    bool takes_vectors(void) const {
        bool all = vectors_at<V>(out);
        for (int i = 0; i < terms; i++) {
            all = all && vectors_at<V>(x[i]);
        }
        return all;
    }
};

extern "C" void cuda_combine(struct device *device, float *out, const float *const *x,
                             const float *coefficient, int terms, int64_t count) {
    assert(count >= 0 && terms >= 1 && terms <= TERMS_MAX);
    if (count == 0 || !device_ready(device)) {
        return;
    }
    struct combined work = {};
    work.out = out;
    work.terms = terms;
    for (int i = 0; i < terms; i++) {
        work.x[i] = x[i];
        work.coefficient[i] = coefficient[i];
    }
    device_noted(device, each(device, work, count), "combine");
}

template <typename T> struct added {
    T *out;
    const T *a, *b;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        float x[n], y[n];
        load_vector<T, n>(x, a + i);
        load_vector<T, n>(y, b + i);
#pragma unroll
        for (int j = 0; j < n; j++) {
            x[j] += y[j];
        }
        store_packed<T, n>(out + i, x);
    }
    bool takes_vectors(void) const {
        return vectors_at<V>(out) && vectors_at<V>(a) && vectors_at<V>(b);
    }
};

extern "C" void cuda_add(struct device *device, void *out, const void *a, const void *b,
                         int64_t count, enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const struct added<T> work = { (T *)out, (const T *)a, (const T *)b };
        return each(device, work, count);
    });
    device_noted(device, code, "add");
}

template <typename T> struct from_pixels {
    T *out;
    const uint8_t *rgb;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        const vector<uint8_t, n> pixels = *(const vector<uint8_t, n> *)(rgb + i);
        float y[n];
#pragma unroll
        for (int j = 0; j < n; j++) {
            y[j] = (float)pixels.element[j] / 127.5f - 1;
        }
        store_packed<T, n>(out + i, y);
    }
    bool takes_vectors(void) const {
        return vectors_at<V>(out) && vectors_at<V>(rgb);
    }
};

extern "C" void cuda_from_pixels(struct device *device, void *out, const uint8_t *rgb,
                                 int64_t count, enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const struct from_pixels<T> work = { (T *)out, rgb };
        return each(device, work, count);
    });
    device_noted(device, code, "from_pixels");
}

template <typename T> struct to_pixels {
    uint8_t *rgb;
    const T *x;

    template <int n> __device__ __forceinline__ void part(int64_t i) const {
        vector<uint8_t, n> pixels;
        float y[n];
        load_vector<T, n>(y, x + i);
#pragma unroll
        for (int j = 0; j < n; j++) {
            y[j] = y[j] > -1 ? y[j] : -1; /* NaN too */
            y[j] = y[j] < 1 ? y[j] : 1;
            pixels.element[j] = (uint8_t)rintf((y[j] + 1) * 127.5f);
        }
        *(vector<uint8_t, n> *)(rgb + i) = pixels;
    }
    bool takes_vectors(void) const {
        return vectors_at<V>(rgb) && vectors_at<V>(x);
    }
};

extern "C" void cuda_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                               enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (count == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const struct to_pixels<T> work = { rgb, (const T *)x };
        return each(device, work, count);
    });
    device_noted(device, code, "to_pixels");
}
