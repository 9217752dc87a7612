/* Norms over rows: layer_norm, rms_norm, the two with rows of 8 bits, qk_norm_rope, channel_norm
 * (kernels/ops.h has the formulas).
 *
 * G threads hold one row in registers, in V-element accesses: it is read once and written once, and
 * the sums are taken over registers. Part of a warp does a short row (the VAE's channels), a warp a
 * longer one, a block of 128 those that a warp's registers do not hold. The more elements a thread
 * has, the fewer instructions a byte: an SM has some seven for each byte that memory brings.
 * Bytes moved: a row in, a row out; the multipliers come from the caches.
 * Speed: 0.90 to 0.99 of an H100's copy (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/rounding.cuh"

#define THREADS 128

template <int group, int vector, int repeats> struct row_shape {
    static const int G = group, V = vector, R = repeats;
    static const int rows = THREADS / group;          /* of a block */
    static const int most = group * vector * repeats; /* elements of a row */
    static_assert((group & (group - 1)) == 0 && (group <= WARP || group == THREADS),
                  "a row belongs to a part of a warp, or to the block");
};

typedef row_shape<32, 4, 3> short_row;
typedef row_shape<32, 4, 12> warp_row;
typedef row_shape<THREADS, 4, 12> block_row;
typedef row_shape<THREADS, 1, 48> any_row; /* where vectors are not aligned */

#define ROW_MAX (block_row::most)
static_assert(any_row::most == ROW_MAX, "as wide");

/* The smallest shape that holds a row, four elements at a time. */
template <typename Function> static cudaError_t with_vectors(int64_t width, Function function) {
    assert(width <= ROW_MAX);
    if (width <= short_row::most) {
        return function(short_row());
    }
    return width <= warp_row::most ? function(warp_row()) : function(block_row());
}

/* `vector`: four elements at a time are aligned. */
template <typename Function>
static cudaError_t with_shape(int64_t width, bool vector, Function function) {
    assert(width <= ROW_MAX);
    return vector ? with_vectors(width, function) : function(any_row());
}

/* This thread's part of a row. Elements past the width are zero. */
template <class S> struct row {
    float x[S::R][S::V];

    static const int STEP = S::G * S::V; /* columns from one access to the next */

    static __device__ __forceinline__ int first(void) {
        return (int)threadIdx.x % S::G * S::V;
    }
    static __device__ __forceinline__ int column(int repeat) {
        return first() + repeat * STEP;
    }
    template <typename T> __device__ __forceinline__ void load(const T *in, int width) {
        in += first();
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
                load_vector<T, S::V>(x[i], in + i * STEP);
            } else {
#pragma unroll
                for (int j = 0; j < S::V; j++) {
                    x[i][j] = 0;
                }
            }
        }
    }
    template <typename T> __device__ __forceinline__ void store(T *out, int width) const {
        out += first();
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
                store_packed<T, S::V>(out + i * STEP, x[i]);
            }
        }
    }
    __device__ __forceinline__ float sum(void) const {
        float part[S::V] = {};
#pragma unroll
        for (int i = 0; i < S::R; i++) {
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                part[j] += x[i][j];
            }
        }
        return sum_of(part);
    }
    __device__ __forceinline__ float squares(void) const {
        float part[S::V] = {};
#pragma unroll
        for (int i = 0; i < S::R; i++) {
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                part[j] = fmaf(x[i][j], x[i][j], part[j]);
            }
        }
        return sum_of(part);
    }
    __device__ __forceinline__ void subtract(float mean, int width) {
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
#pragma unroll
                for (int j = 0; j < S::V; j++) {
                    x[i][j] -= mean;
                }
            }
        }
    }
    /* x = x·scale ⊙ mul + add; NULL only where the template says so. */
    template <bool muls, bool adds>
    __device__ __forceinline__ void multiply(float scale, const float *mul, const float *add,
                                             int width) {
        mul = muls ? mul + first() : NULL;
        add = adds ? add + first() : NULL;
#pragma unroll
        for (int i = 0; i < S::R; i++) {
            if (column(i) < width) {
                float m[S::V], a[S::V];
                if (muls) {
                    load_vector<float, S::V>(m, mul + i * STEP);
                }
                if (adds) {
                    load_vector<float, S::V>(a, add + i * STEP);
                }
#pragma unroll
                for (int j = 0; j < S::V; j++) {
                    float y = x[i][j] * scale;
                    x[i][j] = muls && adds ? fmaf(y, m[j], a[j])
                              : muls       ? y * m[j]
                              : adds       ? y + a[j]
                                           : y;
                }
            }
        }
    }

  private:
    static __device__ __forceinline__ float sum_of(const float part[S::V]) {
        float out = part[0];
#pragma unroll
        for (int j = 1; j < S::V; j++) {
            out += part[j];
        }
        return out;
    }
};

/* The sum over the threads of a row, on all of them. Every thread of the block calls it. */
template <class S> static __device__ __forceinline__ float row_sum(float x) {
#pragma unroll
    for (int lanes = (S::G < WARP ? S::G : WARP) / 2; lanes > 0; lanes /= 2) {
        x += shuffle_xor(x, lanes);
    }
    if (S::G <= WARP) {
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
    float eps, share; /* 1/width */
};

/* values = (values - mean)·rsqrt(variance + eps) ⊙ mul + add of row r; RMS: without mean and add.
 * Every thread of the block calls it. */
template <class S, bool rms>
static __device__ __forceinline__ void normalise(row<S> &values, const struct multipliers &m,
                                                 int64_t r, int width) {
    if (!rms) {
        /* Divided, so that a row of equal elements has a variance of exactly 0. */
        values.subtract(row_sum<S>(values.sum()) / (float)width, width);
    }
    const float squares = row_sum<S>(values.squares());
    const float scale = inverse_root_fast(fmaf(squares, m.share, m.eps));
    const int64_t offset = m.group != NULL ? (int64_t)m.group[r] * width : 0;
    const bool adds = !rms && m.add != NULL;
    if (m.mul != NULL && adds) {
        values.template multiply<true, true>(scale, m.mul + offset, m.add + offset, width);
    } else if (m.mul != NULL) {
        values.template multiply<true, false>(scale, m.mul + offset, NULL, width);
    } else if (adds) {
        values.template multiply<false, true>(scale, NULL, m.add + offset, width);
    } else {
        values.template multiply<false, false>(scale, NULL, NULL, width);
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
    norm_rows<false>(device, out, x, {mul, add, group, eps, 1 / (float)width}, rows, width, dtype,
                     "layer_norm");
}

extern "C" void cuda_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                              int64_t rows, int64_t width, float eps, enum dtype dtype) {
    norm_rows<true>(device, out, x, {weight, NULL, NULL, eps, 1 / (float)width}, rows, width, dtype,
                    "rms_norm");
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
        for (int j = 0; j < S::V; j += 2) {
            const uint32_t both = pack(bf16{}, values.x[i][j], values.x[i][j + 1]);
            values.x[i][j] = to_float(bf16{(uint16_t)both});
            values.x[i][j + 1] = to_float(bf16{(uint16_t)(both >> 16)});
            most = largest_of(largest_of(most, values.x[i][j]), values.x[i][j + 1]);
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
            *(uint32_t *)((Q *)out.rows + r * width + column) =
                rounded_four(Q{}, values.x[i], factor[mine][column / UNIT]);
        }
    }
}

static struct multipliers multipliers_of(const struct norm_args *norm, int64_t width) {
    return {norm->mul, norm->add, norm->group, norm->eps, 1 / (float)width};
}

extern "C" bool rounding_takes_norm(const struct norm_args *norm, int64_t inputs, int64_t block) {
    return is_aligned(norm->x, multipliers_of(norm, inputs), inputs) && inputs <= ROW_MAX &&
           (block == inputs || block % UNIT == 0);
}

extern "C" int rounding_norm(struct device *device, const struct rounded *out,
                             const struct norm_args *norm, int64_t first, int64_t rows) {
    struct multipliers multipliers = multipliers_of(norm, out->inputs);
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

/* Angles of pairs of columns: NULL, or [rows,head_dim/2]. */
struct angles {
    const float *cosine, *sine;
    int head_dim;
};

/* Row r, rotated. A vector's columns belong to one head. `same`: so do they in every access, at the
 * same place. */
template <class S, bool same>
static __device__ __forceinline__ void rotate(row<S> &values, const struct angles &angles,
                                              int64_t r, int width) {
    const int PAIRS = S::V / 2, head_dim = angles.head_dim, step = row<S>::STEP % head_dim;
    const float *cosine = angles.cosine + r * (head_dim / 2);
    const float *sine = angles.sine + r * (head_dim / 2);
    int of_head = row<S>::first() % head_dim; /* column */
    float c[PAIRS], s[PAIRS];
#pragma unroll
    for (int i = 0; i < S::R; i++) {
        if (row<S>::column(i) < width) {
            if (i == 0 || !same) {
                load_vector<float, PAIRS>(c, cosine + of_head / 2);
                load_vector<float, PAIRS>(s, sine + of_head / 2);
            }
#pragma unroll
            for (int j = 0; j < PAIRS; j++) {
                const float a = values.x[i][2 * j], b = values.x[i][2 * j + 1];
                values.x[i][2 * j] = fmaf(a, c[j], -b * s[j]);
                values.x[i][2 * j + 1] = fmaf(a, s[j], b * c[j]);
            }
        }
        of_head += step;
        of_head -= of_head >= head_dim ? head_dim : 0;
    }
}

template <class S, typename T, bool same>
static __global__ void __launch_bounds__(THREADS)
    qk_norm_rope_kernel(T *x, int64_t stride, const float *weight, struct angles angles,
                        int64_t rows, int width, float eps) {
    const int64_t r = row_of_thread<S>();
    const bool there = r < rows;
    row<S> values;
    T *in = x + (there ? r : 0) * stride;
    values.load(in, width);
    const float squares = row_sum<S>(values.squares());
    if (there) {
        const float scale = inverse_root_fast(squares / (float)width + eps);
        values.template multiply<true, false>(scale, weight, NULL, width);
        if (angles.cosine != NULL) {
            rotate<S, same>(values, angles, r, width);
        }
        values.store(in, width);
    }
}

/* Pairs, or vectors of eight that do not straddle heads. */
typedef row_shape<THREADS, 2, 24> pair_row;
typedef row_shape<32, 8, 6> warp_row_of_eights;
typedef row_shape<THREADS, 8, 6> block_row_of_eights;

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
        const struct angles angles = {cosine, sine, head_dim};
        auto run = [&](auto shape) {
            using S = decltype(shape);
            assert(width <= S::most);
            auto kernel = row<S>::STEP % head_dim == 0 ? qk_norm_rope_kernel<S, T, true>
                                                       : qk_norm_rope_kernel<S, T, false>;
            return launch(kernel, blocks_of(rows, S::rows), THREADS, 0, device->stream, (T *)x,
                          stride, weight, angles, rows, (int)width, eps);
        };
        bool eights = head_dim % 8 == 0 && stride % 8 == 0 && vectors_at<8>((T *)x) &&
                      vectors_at<8>(weight) && vectors_at<4>(cosine) && vectors_at<4>(sine);
        if (!eights) {
            assert(stride % 2 == 0 && vectors_at<2>((T *)x) && vectors_at<2>(weight));
            return run(pair_row());
        }
        return width <= warp_row_of_eights::most ? run(warp_row_of_eights())
                                                 : run(block_row_of_eights());
    });
    device_noted(device, code, "qk_norm_rope");
}

template <class S, typename T, bool silu>
static __global__ void __launch_bounds__(THREADS)
    channel_norm_kernel(T *out, const T *x, const float *gamma, int64_t rows, int channels,
                        float root) {
    const int64_t r = row_of_thread<S>();
    const bool there = r < rows;
    row<S> values;
    values.load(x + (there ? r : 0) * channels, channels);
    const float squares = row_sum<S>(values.squares());
    if (!there) {
        return;
    }
    const float scale = root * inverse_root_fast(fmaxf(squares, 1e-24f));
    values.template multiply<true, false>(scale, gamma, NULL, channels);
#pragma unroll
    for (int i = 0; silu && i < S::R; i++) {
        if (row<S>::column(i) < channels) {
#pragma unroll
            for (int j = 0; j < S::V; j++) {
                const float y = values.x[i][j];
                values.x[i][j] = sizeof(T) == 2 ? silu_fast(y) : activation_of(y, ACTIVATION_SILU);
            }
        }
    }
    values.store(out + r * channels, channels);
}

/* So many threads for a row that each has the better part of four vectors of eight. */
template <typename Function> static cudaError_t with_channels(int64_t channels, Function function) {
    if (channels <= row_shape<4, 8, 4>::most) {
        return function(row_shape<4, 8, 4>());
    }
    if (channels <= row_shape<8, 8, 4>::most) {
        return function(row_shape<8, 8, 4>());
    }
    if (channels <= row_shape<16, 8, 4>::most) {
        return function(row_shape<16, 8, 4>());
    }
    return channels <= row_shape<32, 8, 4>::most ? function(row_shape<32, 8, 4>())
                                                 : function(block_row_of_eights());
}

extern "C" void cuda_channel_norm(struct device *device, void *out, const void *x,
                                  const float *gamma, int64_t rows, int64_t channels,
                                  enum activation activation, enum dtype dtype) {
    assert(rows >= 0 && channels > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    assert(activation == ACTIVATION_NONE || activation == ACTIVATION_SILU);
    assert(channels <= ROW_MAX);
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    const float root = (float)sqrt((double)channels);
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        auto run = [&](auto shape, auto kernel) {
            return launch(kernel, blocks_of(rows, decltype(shape)::rows), THREADS, 0,
                          device->stream, (T *)out, (const T *)x, gamma, rows, (int)channels, root);
        };
        auto by_activation = [&](auto shape) {
            using S = decltype(shape);
            return activation == ACTIVATION_SILU ? run(shape, channel_norm_kernel<S, T, true>)
                                                 : run(shape, channel_norm_kernel<S, T, false>);
        };
        bool eights = channels % 8 == 0 && vectors_at<8>((T *)out) && vectors_at<8>((T *)x) &&
                      vectors_at<8>(gamma);
        return eights ? with_channels(channels, by_activation) : by_activation(any_row());
    });
    device_noted(device, code, "channel_norm");
}
