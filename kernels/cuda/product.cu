/* Products that work for every shape and type, without a library: out[m,n] = Σ in(m,k)·W[n,k],
 * where in(m,k) is a row of a matrix (linear) or the k-th input of a convolution's window (implicit
 * GEMM). f32 layers always go this way: cuBLASLt sums a long row in one go, and would miss the 1e-6
 * that f32 promises. For bf16 and f8 it is what is left where cuBLASLt or cuDNN has no kernel.
 *
 * A block computes TILE_M x TILE_N outputs, a thread 4x4 of them; operands pass through shared
 * memory in f32, DEPTH of K at a time. Sums restart every DEPTH_BLOCK of K, as in plain C: rounding
 * stays small over long rows. FLOPs bound; no tensor cores. Speed: not measured by itself. */
#include <assert.h>

#include "kernels/cuda/linear_out.cuh"

#define THREADS     256
#define TILE_M      64
#define TILE_N      64
#define DEPTH       16
#define DEPTH_BLOCK 64
static_assert(TILE_M * TILE_N == THREADS * 16, "a thread has 4x4 outputs");
static_assert(TILE_M * DEPTH == THREADS * 4 && TILE_N * DEPTH == THREADS * 4, "and loads 4+4");

/* Rows of a matrix. */
template <typename T> struct matrix_rows {
    const T *in;
    int64_t inputs;

    __device__ __forceinline__ float operator()(int64_t m, int64_t k) const {
        return to_float(in[m * inputs + k]);
    }
};

/* Windows of [T,H,W,Cin], k = tap*Cin + channel; zeros around H and W, and history (NULL: zeros)
 * before T. */
template <typename T> struct windows {
    const T *in, *history;
    int history_frames;
    struct conv_shape shape;
    int64_t height, width, out_height, out_width;
    int pad_top, pad_left;

    __device__ __forceinline__ float operator()(int64_t m, int64_t k) const {
        int64_t channel = k % shape.in_channels, tap = k / shape.in_channels;
        int64_t x = m % out_width, y = m / out_width % out_height, t = m / out_width / out_height;
        int64_t it = t * shape.stride_t + tap / shape.kernel_w / shape.kernel_h;
        int64_t iy = y * shape.stride_h + tap / shape.kernel_w % shape.kernel_h - pad_top;
        int64_t ix = x * shape.stride_w + tap % shape.kernel_w - pad_left;
        if (iy < 0 || iy >= height || ix < 0 || ix >= width) {
            return 0;
        }
        int64_t at = (iy * width + ix) * shape.in_channels + channel;
        int64_t frame = height * width * shape.in_channels;
        if (it < history_frames) {
            return history != NULL ? to_float(history[it * frame + at]) : 0;
        }
        return to_float(in[(it - history_frames) * frame + at]);
    }
};

/* The way out of sums of rows in f8: scaled, as rows first.. of the whole. row NULL: no scales. */
template <typename Out> struct scaled_out {
    linear_out<Out> out;
    const float *row, *column;
    int64_t first;

    __device__ __forceinline__ void operator()(int64_t m, int64_t n, float sum) const {
        out(first + m, n, row != NULL ? sum * (row[m] * column[n]) : sum);
    }
    template <int V>
    __device__ __forceinline__ void several(int64_t m, int64_t n, const float sum[V]) const {
        float scaled[V];
#pragma unroll
        for (int i = 0; i < V; i++) {
            scaled[i] = row != NULL ? sum[i] * (row[m] * column[n + i]) : sum[i];
        }
        out.template several<V>(first + m, n, scaled);
    }
};

/* The way out of a convolution. */
template <typename T> struct conv_out {
    T *out;
    const T *residual, *bias;
    int64_t outputs;

    __device__ __forceinline__ void operator()(int64_t m, int64_t n, float sum) const {
        float y = sum;
        if (residual != NULL) {
            y += to_float(residual[m * outputs + n]);
        }
        y += to_float(bias[n]);
        from_float(&out[m * outputs + n], y);
    }
};

template <typename T, class In, class Out>
static __global__ void __launch_bounds__(THREADS)
    product_kernel(In in, const T *weight, Out out, int64_t rows, int64_t outputs, int64_t inputs) {
    __shared__ float a[DEPTH][TILE_M + 4], b[DEPTH][TILE_N + 4];
    int64_t m0 = (int64_t)blockIdx.x * TILE_M, n0 = (int64_t)blockIdx.y * TILE_N;
    int tm = (int)threadIdx.x / 16 * 4, tn = (int)threadIdx.x % 16 * 4;
    float sum[4][4] = {}, part[4][4] = {};
    for (int64_t k0 = 0; k0 < inputs; k0 += DEPTH) {
        int k = (int)threadIdx.x % DEPTH;
        for (int i = (int)threadIdx.x / DEPTH; i < TILE_M; i += THREADS / DEPTH) {
            bool there = k0 + k < inputs;
            a[k][i] = there && m0 + i < rows ? in(m0 + i, k0 + k) : 0;
            b[k][i] = there && n0 + i < outputs ? to_float(weight[(n0 + i) * inputs + k0 + k]) : 0;
        }
        barrier();
#pragma unroll
        for (int j = 0; j < DEPTH; j++) {
#pragma unroll
            for (int m = 0; m < 4; m++) {
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    part[m][n] += a[j][tm + m] * b[j][tn + n];
                }
            }
        }
        barrier();
        if ((k0 + DEPTH) % DEPTH_BLOCK == 0 || k0 + DEPTH >= inputs) {
#pragma unroll
            for (int i = 0; i < 16; i++) {
                sum[i / 4][i % 4] += part[i / 4][i % 4];
                part[i / 4][i % 4] = 0;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        int64_t m = m0 + tm + i / 4, n = n0 + tn + i % 4;
        if (m < rows && n < outputs) {
            out(m, n, sum[i / 4][i % 4]);
        }
    }
}

extern "C" int product_linear(struct device *device, void *out, const void *in,
                              const struct linear *linear, int64_t rows,
                              const struct linear_epilogue *epilogue) {
    dim3 grid((unsigned)blocks_of(rows, TILE_M), (unsigned)blocks_of(linear->outputs, TILE_N));
    return with_type(linear->dtype, [&](auto type) {
        return with_type(epilogue->out_dtype, [&](auto out_type) {
            using T = decltype(type);
            using Out = decltype(out_type);
            struct matrix_rows<T> rows_in = {
                (const T *)in, linear->inputs
            };
            return launch(product_kernel<T, matrix_rows<T>, linear_out<Out>>, grid, THREADS, 0,
                          device->stream, rows_in, (const T *)linear->weight,
                          way_out<Out>(out, linear, epilogue), rows, linear->outputs,
                          linear->inputs);
        });
    });
}

extern "C" int product_conv(struct device *device, const struct conv *conv,
                            const struct conv_args *args) {
    const struct conv_shape *shape = &conv->shape;
    const struct volume_size size = convolve_size(shape, args);
    const int64_t height = size.height, width = size.width, rows = size.frames * height * width;
    int64_t inputs =
        (int64_t)shape->kernel_t * shape->kernel_h * shape->kernel_w * shape->in_channels;
    dim3 grid((unsigned)blocks_of(rows, TILE_M), (unsigned)blocks_of(shape->out_channels, TILE_N));
    return with_type(conv->dtype, [&](auto type) {
        using T = decltype(type);
        struct windows<T> in = {
            (const T *)args->in, (const T *)args->history, args->history_frames,
                *shape, args->height, args->width, height, width, args->pad_top, args->pad_left
        };
        struct conv_out<T> out = {
            (T *)args->out, (const T *)args->residual, (const T *)conv->bias, shape->out_channels
        };
        return launch(product_kernel<T, windows<T>, conv_out<T>>, grid, THREADS, 0, device->stream,
                      in, (const T *)conv->weight, out, rows, (int64_t)shape->out_channels, inputs);
    });
}

extern "C" int product_f8(struct device *device, void *out, const struct rounded *in,
                          const struct linear *linear, int64_t first, int64_t rows,
                          const struct linear_epilogue *epilogue) {
    dim3 grid((unsigned)blocks_of(rows, TILE_M), (unsigned)blocks_of(linear->outputs, TILE_N));
    return with_type(epilogue->out_dtype, [&](auto out_type) {
        using Out = decltype(out_type);
        struct matrix_rows<f8_e4m3> rows_in = {
            (const f8_e4m3 *)in->rows, linear->inputs
        };
        struct scaled_out<Out> end = {
            way_out<Out>(out, linear, epilogue), in->scale, linear->scale, first
        };
        return launch(product_kernel<f8_e4m3, matrix_rows<f8_e4m3>, scaled_out<Out>>, grid, THREADS,
                      0, device->stream, rows_in, (const f8_e4m3 *)linear->weight, end, rows,
                      linear->outputs, linear->inputs);
    });
}

#define FINISH_THREADS 128

/* V columns a thread. Grid: rows, parts of a row. */
template <typename Out, int V>
static __global__ void __launch_bounds__(FINISH_THREADS)
    finish_kernel(scaled_out<Out> end, const float *product) {
    const int64_t m = blockIdx.x, outputs = end.out.outputs;
    const int64_t n = ((int64_t)blockIdx.y * FINISH_THREADS + threadIdx.x) * V;
    if (n < outputs) {
        float sum[V];
        load_vector<float, V>(sum, product + m * outputs + n);
        end.template several<V>(m, n, sum);
    }
}

extern "C" int product_finish(struct device *device, void *out, const float *product,
                              const float *in_scale, const struct linear *linear, int64_t first,
                              int64_t rows, const struct linear_epilogue *epilogue) {
    return with_type(epilogue->out_dtype, [&](auto out_type) {
        using Out = decltype(out_type);
        const struct scaled_out<Out> end = {
            way_out<Out>(out, linear, epilogue), in_scale, linear->scale, first
        };
        auto run = [&](auto kernel, int64_t vectors) {
            dim3 grid((unsigned)rows, (unsigned)blocks_of(vectors, FINISH_THREADS));
            return launch(kernel, grid, FINISH_THREADS, 0, device->stream, end, product);
        };
        return end.out.template takes_vectors<4>() && vectors_at<4>(product)
                   ? run(finish_kernel<Out, 4>, linear->outputs / 4)
                   : run(finish_kernel<Out, 1>, linear->outputs);
    });
}

#define GATED_THREADS 128

/* Grid: outputs. */
static __global__ void __launch_bounds__(GATED_THREADS)
    gated_kernel(bf16 *weight, float *bias, const bf16 *from, const float *from_bias,
                 const float *gate, int64_t inputs) {
    const int64_t n = blockIdx.x;
    const float g = gate[n];
    for (int64_t k = (int64_t)threadIdx.x * 8; k < inputs; k += GATED_THREADS * 8) {
        float x[8];
        load_vector<bf16, 8>(x, from + n * inputs + k);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            x[i] *= g;
        }
        store_packed<bf16, 8>(weight + n * inputs + k, x);
    }
    if (threadIdx.x == 0) {
        bias[n] = from_bias[n] * g;
    }
}

extern "C" int product_gated(struct device *device, void *weight, float *bias,
                             const struct linear *linear, const float *gate, int64_t first,
                             int64_t count) {
    return launch(gated_kernel, (unsigned)count, GATED_THREADS, 0, device->stream, (bf16 *)weight,
                  bias, (const bf16 *)linear->weight + first * linear->inputs, linear->bias + first,
                  gate + first, linear->inputs);
}
