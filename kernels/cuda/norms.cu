/* Norms over rows: layer_norm, rms_norm, the two with rows of 8 bits, qk_norm_rope, channel_norm
 * (kernels/ops.h has the formulas).
 *
 * G threads hold one row in registers, in V-element accesses: it is read once and written once, and
 * the sums are taken over registers. A warp does a short row (the VAE's channels), a block of 128 a
 * long one (a model's width). Bytes moved: a row in, a row out; the multipliers come from the L2
 * cache. Speed: not yet measured (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/rounding.cuh"

#define THREADS 128

template <int group, int vector, int repeats> struct row_shape {
    static const int G = group, V = vector, R = repeats;
    static const int rows = THREADS / group; /* of a block */
    static_assert(group == WARP || group == THREADS, "a row belongs to a warp or to the block");
};

#define ROW_MAX (THREADS * 48) /* elements of a row: what registers hold */

/* The smallest shape that holds a row, four elements at a time. */
template <typename Function> static cudaError_t with_vectors(int64_t width, Function function) {
    assert(width <= ROW_MAX);
    if (width <= 32 * 4 * 3) {
        return function(row_shape<32, 4, 3>());
    }
    if (width <= 32 * 4 * 8) {
        return function(row_shape<32, 4, 8>());
    }
    if (width <= 128 * 4 * 3) {
        return function(row_shape<128, 4, 3>());
    }
    return function(row_shape<128, 4, 12>());
}

/* `vector`: four elements at a time are aligned. */
template <typename Function>
static cudaError_t with_shape(int64_t width, bool vector, Function function) {
    if (vector) {
        return with_vectors(width, function);
    }
    assert(width <= ROW_MAX);
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

/* A norm's multipliers, as struct norm_args has them. */
struct multipliers {
    const float *mul, *add;
    const uint8_t *group;
    float eps;
};

/* values = (values - mean)·rsqrt(variance + eps) ⊙ mul + add of row r; RMS: without mean and add.
 * Every thread of the block calls it. */
template <class S, bool rms>
static __device__ __forceinline__ void normalise(row<S> &values, const struct multipliers &m,
                                                 int64_t r, int width) {
    float mean = rms ? 0 : row_sum<S>(values.sum()) / (float)width;
    float squares = row_sum<S>(values.squares(mean, width));
    float scale = 1 / sqrtf(squares / (float)width + m.eps);
    int64_t offset = m.group != NULL ? (int64_t)m.group[r] * width : 0;
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        int column = row<S>::column(i);
        if (column < width) {
            float mul[S::V], add[S::V];
            for (int j = 0; j < S::V; j++) {
                mul[j] = 1;
                add[j] = 0;
            }
            if (m.mul != NULL) {
                load_vector<float, S::V>(mul, m.mul + offset + column);
            }
            if (!rms && m.add != NULL) {
                load_vector<float, S::V>(add, m.add + offset + column);
            }
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                float y = (values.x[i][j] - mean) * scale * mul[j];
                values.x[i][j] = rms ? y : y + add[j];
            }
        }
    }
}

template <class S, typename T, bool rms>
static __global__ void __launch_bounds__(THREADS)
    norm_kernel(T *out, const float *x, struct multipliers multipliers, int64_t rows, int width) {
    int64_t r = row_of_thread<S>();
    bool there = r < rows;
    row<S> values;
    r = there ? r : 0;
    values.load(x + r * width, width);
    normalise<S, rms>(values, multipliers, r, width);
    if (there) {
        values.store(out + r * width, width);
    }
}

static bool is_aligned(const float *x, const struct multipliers &m, int64_t width) {
    return width % 4 == 0 && aligned_to(x, 16) && aligned_to(m.mul, 16) && aligned_to(m.add, 16);
}

template <bool rms>
static void norm_rows(struct device *device, void *out, const float *x,
                      const struct multipliers &multipliers, int64_t rows, int64_t width,
                      enum dtype dtype, const char *what) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    bool vector = is_aligned(x, multipliers, width) && aligned_to(out, 16);
    cudaError_t code = with_shape(width, vector, [&](auto shape) {
        return with_type(dtype, [&](auto type) {
            using S = decltype(shape);
            using T = decltype(type);
            return launch(norm_kernel<S, T, rms>, blocks_of(rows, S::rows), THREADS, 0,
                          device->stream, (T *)out, x, multipliers, rows, (int)width);
        });
    });
    device_noted(device, code, what);
}

extern "C" void cuda_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                                const float *add, const uint8_t *group, int64_t rows, int64_t width,
                                float eps, enum dtype dtype) {
    norm_rows<false>(device, out, x, {mul, add, group, eps}, rows, width, dtype, "layer_norm");
}

extern "C" void cuda_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                              int64_t rows, int64_t width, float eps, enum dtype dtype) {
    norm_rows<true>(device, out, x, {weight, NULL, NULL, eps}, rows, width, dtype, "rms_norm");
}

/* -- norms that are rounded to 8 bits on the way out -------------------------------------------
 *
 * A warp has UNIT columns of a row side by side. Blocks of columns that share a scale are whole
 * units, or the row; the units' largest magnitudes meet in shared memory. */

#define UNIT (WARP * 4)

/* Factor of every unit of a row, from their largest magnitudes; scales of the blocks. Threads of
 * the row by their number. */
template <typename Q>
static __device__ __forceinline__ void rate_units(float *factor, float *scale, const float *largest,
                                                  int units, int block_units, int thread) {
    if (thread < units) {
        const int block = thread / block_units, first = block * block_units;
        const int end = first + block_units < units ? first + block_units : units;
        float most = 0;
        for (int unit = first; unit < end; unit++) {
            most = fmaxf(most, largest[unit]);
        }
        factor[thread] = factor_of(Q{}, most);
        if (thread == first && scale != NULL) {
            scale[block] = scale_of(Q{}, most);
        }
    }
}

template <class S, typename Q, bool rms>
static __global__ void __launch_bounds__(THREADS)
    norm_rounding_kernel(struct rounded out, const float *x, struct multipliers multipliers,
                         int64_t rows, int width) {
    static_assert(S::V == 4, "a unit's columns lie side by side");
    const int units_most = S::R * S::G / WARP;
    static_assert(units_most <= S::G, "a thread of the row each");
    __shared__ float largest[S::rows][units_most], factor[S::rows][units_most];
    const int64_t r = row_of_thread<S>(), from = r < rows ? r : 0;
    const int mine = (int)threadIdx.x / S::G, thread = (int)threadIdx.x % S::G;
    row<S> values;
    values.load(x + from * width, width);
    normalise<S, rms>(values, multipliers, from, width);
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        float most = 0;
#pragma unroll
        for (int j = 0; j < S::V; j++) {
            bf16 narrow;
            from_float(&narrow, values.x[i][j]);
            values.x[i][j] = to_float(narrow);
            most = largest_of(most, values.x[i][j]);
        }
        most = warp_largest(most);
        if (threadIdx.x % WARP == 0) {
            largest[mine][row<S>::column(i) / UNIT] = most;
        }
    }
    barrier();
    const int units = (width + UNIT - 1) / UNIT;
    const int block_units = out.block < width ? (int)out.block / UNIT : units;
    const int blocks = (units + block_units - 1) / block_units;
    rate_units<Q>(factor[mine], r < rows ? out.scale + r * blocks : NULL, largest[mine], units,
                  block_units, thread);
    barrier();
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        const int column = row<S>::column(i);
        if (r < rows && column < width) {
            vector<Q, S::V> q;
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                q.element[j] = rounded_to(Q{}, values.x[i][j], factor[mine][column / UNIT]);
            }
            *(vector<Q, S::V> *)((Q *)out.rows + r * width + column) = q;
        }
    }
}

static struct multipliers multipliers_of(const struct norm_args *norm) {
    return {norm->mul, norm->add, norm->group, norm->eps};
}

extern "C" bool rounding_takes_norm(const struct norm_args *norm, int64_t inputs, int64_t block) {
    return is_aligned(norm->x, multipliers_of(norm), inputs) && inputs <= ROW_MAX &&
           (block == inputs || block % UNIT == 0);
}

extern "C" int rounding_norm(struct device *device, const struct rounded *out,
                             const struct norm_args *norm, int64_t first, int64_t rows) {
    struct multipliers multipliers = multipliers_of(norm);
    multipliers.group = norm->group != NULL ? norm->group + first : NULL;
    const float *x = norm->x + first * out->inputs;
    auto run = [&](auto shape, auto kernel) {
        return launch(kernel, blocks_of(rows, decltype(shape)::rows), THREADS, 0, device->stream,
                      *out, x, multipliers, rows, (int)out->inputs);
    };
    return with_vectors(out->inputs, [&](auto shape) {
        return with_8_bits(out->dtype, [&](auto type) {
            using S = decltype(shape);
            using Q = decltype(type);
            return norm->rms ? run(shape, norm_rounding_kernel<S, Q, true>)
                             : run(shape, norm_rounding_kernel<S, Q, false>);
        });
    });
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
