/* Norms over rows: layer_norm, rms_norm, qk_norm_rope, channel_norm (kernels/ops.h has the
 * formulas).
 *
 * G threads hold one row in registers, in V-element accesses: it is read once and written once, and
 * the sums are taken over registers. A warp does a short row (the VAE's channels), a block of 128 a
 * long one (a model's width). Bytes moved: a row in, a row out; the multipliers come from the L2
 * cache. Speed: not yet measured (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 128

template <int group, int vector, int repeats> struct row_shape {
    static const int G = group, V = vector, R = repeats;
    static const int rows = THREADS / group; /* of a block */
    static_assert(group == WARP || group == THREADS, "a row belongs to a warp or to the block");
};

/* The smallest shape that holds a row. `vector`: four elements at a time are aligned. */
template <typename Function>
static cudaError_t with_shape(int64_t width, bool vector, Function function) {
    if (vector && width <= 32 * 4 * 3) {
        return function(row_shape<32, 4, 3>());
    }
    if (vector && width <= 32 * 4 * 8) {
        return function(row_shape<32, 4, 8>());
    }
    if (vector && width <= 128 * 4 * 3) {
        return function(row_shape<128, 4, 3>());
    }
    if (vector && width <= 128 * 4 * 12) {
        return function(row_shape<128, 4, 12>());
    }
    assert(width <= 128 * 48);
    return function(row_shape<128, 1, 48>());
}

/* This thread's part of a row. Elements past the width are zero. */
template <class S> struct row {
    float x[S::R][S::V];

    static __device__ __forceinline__ int column(int repeat) {
        return (repeat * S::G + (int)threadIdx.x % S::G) * S::V;
    }
    template <typename T> __device__ __forceinline__ void load(const T *in, int width) {
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
                load_vector<T, S::V>(x[i], in + column(i));
            } else {
#pragma unroll
                for (int j = 0; j < S::V; j++) {
                    x[i][j] = 0;
                }
            }
        }
    }
    template <typename T> __device__ __forceinline__ void store(T *out, int width) const {
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
                store_vector<T, S::V>(out + column(i), x[i]);
            }
        }
    }
    __device__ __forceinline__ float sum(void) const {
        float out = 0;
#pragma unroll
        for (int i = 0; i < S::R; i++) {
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                out += x[i][j];
            }
        }
        return out;
    }
    __device__ __forceinline__ float squares(float mean, int width) const {
        float out = 0;
#pragma unroll
        for (int i = 0; i < S::R; i++) {
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                float d = column(i) < width ? x[i][j] - mean : 0;
                out += d * d;
            }
        }
        return out;
    }
};

/* The sum over the threads of a row, on all of them. Every thread of the block calls it. */
template <class S> static __device__ __forceinline__ float row_sum(float x) {
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        x += shuffle_xor(x, lanes);
    }
    if (S::G == WARP) {
        return x;
    }
    __shared__ float part[THREADS / WARP];
    barrier(); /* the last sum has been read */
    if (threadIdx.x % WARP == 0) {
        part[threadIdx.x / WARP] = x;
    }
    barrier();
    float out = 0;
    for (int i = 0; i < THREADS / WARP; i++) {
        out += part[i];
    }
    return out;
}

template <class S> static __device__ __forceinline__ int64_t row_of_thread(void) {
    return (int64_t)blockIdx.x * S::rows + threadIdx.x / S::G;
}

template <class S, typename T>
static __global__ void __launch_bounds__(THREADS)
    layer_norm_kernel(T *out, const float *x, const float *mul, const float *add,
                      const uint8_t *group, int64_t rows, int width, float eps) {
    int64_t r = row_of_thread<S>();
    bool there = r < rows;
    row<S> values;
    values.load(x + (there ? r : 0) * width, width);
    float mean = row_sum<S>(values.sum()) / (float)width;
    float squares = row_sum<S>(values.squares(mean, width));
    float scale = 1 / sqrtf(squares / (float)width + eps);
    if (!there) {
        return;
    }
    int64_t offset = group != NULL ? (int64_t)group[r] * width : 0;
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        int column = row<S>::column(i);
        if (column < width) {
            float m[S::V], a[S::V];
            for (int j = 0; j < S::V; j++) {
                m[j] = 1;
                a[j] = 0;
            }
            if (mul != NULL) {
                load_vector<float, S::V>(m, mul + offset + column);
            }
            if (add != NULL) {
                load_vector<float, S::V>(a, add + offset + column);
            }
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                values.x[i][j] = (values.x[i][j] - mean) * scale * m[j] + a[j];
            }
        }
    }
    values.store(out + r * width, width);
}

extern "C" void cuda_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                                const float *add, const uint8_t *group, int64_t rows, int64_t width,
                                float eps, enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    bool vector = width % 4 == 0 && aligned_to(out, 16) && aligned_to(x, 16) &&
                  aligned_to(mul, 16) && aligned_to(add, 16);
    cudaError_t code = with_shape(width, vector, [&](auto shape) {
        return with_type(dtype, [&](auto type) {
            using S = decltype(shape);
            using T = decltype(type);
            return launch(layer_norm_kernel<S, T>, blocks_of(rows, S::rows), THREADS, 0,
                          device->stream, (T *)out, x, mul, add, group, rows, (int)width, eps);
        });
    });
    device_noted(device, code, "layer_norm");
}

template <class S, typename T>
static __global__ void __launch_bounds__(THREADS)
    rms_norm_kernel(T *out, const float *x, const float *weight, int64_t rows, int width,
                    float eps) {
    int64_t r = row_of_thread<S>();
    bool there = r < rows;
    row<S> values;
    values.load(x + (there ? r : 0) * width, width);
    float squares = row_sum<S>(values.squares(0, width));
    float scale = 1 / sqrtf(squares / (float)width + eps);
    if (!there) {
        return;
    }
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        int column = row<S>::column(i);
        if (column < width) {
            float w[S::V];
            load_vector<float, S::V>(w, weight + column);
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                values.x[i][j] = values.x[i][j] * scale * w[j];
            }
        }
    }
    values.store(out + r * width, width);
}

extern "C" void cuda_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                              int64_t rows, int64_t width, float eps, enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    bool vector =
        width % 4 == 0 && aligned_to(out, 16) && aligned_to(x, 16) && aligned_to(weight, 16);
    cudaError_t code = with_shape(width, vector, [&](auto shape) {
        return with_type(dtype, [&](auto type) {
            using S = decltype(shape);
            using T = decltype(type);
            return launch(rms_norm_kernel<S, T>, blocks_of(rows, S::rows), THREADS, 0,
                          device->stream, (T *)out, x, weight, rows, (int)width, eps);
        });
    });
    device_noted(device, code, "rms_norm");
}

/* V is at least 2 here, so that a thread holds whole pairs. */
template <class S, typename T>
static __global__ void __launch_bounds__(THREADS)
    qk_norm_rope_kernel(T *x, int64_t stride, const float *weight, const float *cosine,
                        const float *sine, int64_t rows, int width, int head_dim, float eps) {
    int64_t r = row_of_thread<S>();
    bool there = r < rows;
    row<S> values;
    T *in = x + (there ? r : 0) * stride;
    values.load(in, width);
    float squares = row_sum<S>(values.squares(0, width));
    float scale = 1 / sqrtf(squares / (float)width + eps);
    if (!there) {
        return;
    }
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        int column = row<S>::column(i);
        if (column < width) {
            float w[S::V];
            load_vector<float, S::V>(w, weight + column);
#pragma unroll
            for (int j = 0; j < S::V; j += 2) {
                float a = values.x[i][j] * scale * w[j];
                float b = values.x[i][j + 1] * scale * w[j + 1];
                float c = 1, s = 0;
                if (cosine != NULL) {
                    int64_t angle = r * (head_dim / 2) + (column + j) % head_dim / 2;
                    c = cosine[angle];
                    s = sine[angle];
                }
                values.x[i][j] = a * c - b * s;
                values.x[i][j + 1] = a * s + b * c;
            }
        }
    }
    values.store(in, width);
}

extern "C" void cuda_qk_norm_rope(struct device *device, void *x, int64_t stride,
                                  const float *weight, const float *cosine, const float *sine,
                                  int64_t rows, int heads, int head_dim, float eps,
                                  enum dtype dtype) {
    int64_t width = (int64_t)heads * head_dim;
    assert(rows >= 0 && heads > 0 && head_dim > 0 && head_dim % 2 == 0 && stride >= width);
    assert((cosine == NULL) == (sine == NULL));
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        auto run = [&](auto shape) {
            using S = decltype(shape);
            return launch(qk_norm_rope_kernel<S, T>, blocks_of(rows, S::rows), THREADS, 0,
                          device->stream, (T *)x, stride, weight, cosine, sine, rows, (int)width,
                          head_dim, eps);
        };
        bool vector = width % 4 == 0 && stride % 4 == 0 && aligned_to(x, 4 * sizeof(T)) &&
                      aligned_to(weight, 16);
        if (!vector) {
            assert(stride % 2 == 0 && aligned_to(x, 2 * sizeof(T)) && width <= 128 * 2 * 24);
            return run(row_shape<128, 2, 24>());
        }
        if (width <= 32 * 4 * 8) {
            return run(row_shape<32, 4, 8>());
        }
        if (width <= 128 * 4 * 3) {
            return run(row_shape<128, 4, 3>());
        }
        assert(width <= 128 * 4 * 12);
        return run(row_shape<128, 4, 12>());
    });
    device_noted(device, code, "qk_norm_rope");
}

template <class S, typename T>
static __global__ void __launch_bounds__(THREADS)
    channel_norm_kernel(T *out, const T *x, const float *gamma, int64_t rows, int channels,
                        float root, enum activation activation) {
    int64_t r = row_of_thread<S>();
    bool there = r < rows;
    row<S> values;
    values.load(x + (there ? r : 0) * channels, channels);
    float squares = row_sum<S>(values.squares(0, channels));
    float scale = root / fmaxf(sqrtf(squares), 1e-12f);
    if (!there) {
        return;
    }
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        int column = row<S>::column(i);
        if (column < channels) {
            float g[S::V];
            load_vector<float, S::V>(g, gamma + column);
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                values.x[i][j] = activation_of(values.x[i][j] * scale * g[j], activation);
            }
        }
    }
    values.store(out + r * channels, channels);
}

extern "C" void cuda_channel_norm(struct device *device, void *out, const void *x,
                                  const float *gamma, int64_t rows, int64_t channels,
                                  enum activation activation, enum dtype dtype) {
    assert(rows >= 0 && channels > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    assert(activation == ACTIVATION_NONE || activation == ACTIVATION_SILU);
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    bool vector =
        channels % 4 == 0 && aligned_to(out, 16) && aligned_to(x, 16) && aligned_to(gamma, 16);
    float root = (float)sqrt((double)channels);
    cudaError_t code = with_shape(channels, vector, [&](auto shape) {
        return with_type(dtype, [&](auto type) {
            using S = decltype(shape);
            using T = decltype(type);
            return launch(channel_norm_kernel<S, T>, blocks_of(rows, S::rows), THREADS, 0,
                          device->stream, (T *)out, (const T *)x, gamma, rows, (int)channels, root,
                          activation);
        });
    });
    device_noted(device, code, "channel_norm");
}
