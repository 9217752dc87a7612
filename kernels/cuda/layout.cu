/* Operations that move elements: patchify and back, channels first and last, upsample,
 * interleave_frames. Each element is read once and written once (upsample: four times).
 * Compiled without contraction, so that x·mul+add equals the plain C one to the bit.
 * Speed: the upsample 0.89 of an H100's copy (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

#define THREADS 256
#define GRID    8192

static unsigned grid_of(int64_t count) {
    int64_t blocks = blocks_of(count, THREADS);
    return (unsigned)(blocks < GRID ? blocks : GRID);
}

/* A latent video [C,T,H,W] and where element i of it, in that order, lies among the tokens. */
struct latent {
    int channels;
    int64_t frames, height, width;

    __device__ __forceinline__ void place(int64_t i, int64_t *token, int *channel, int *k) const {
        int64_t x = i % width, y = i / width % height, t = i / width / height % frames;
        *channel = (int)(i / width / height / frames);
        *token = (t * (height / 2) + y / 2) * (width / 2) + x / 2;
        *k = (int)(y % 2 * 2 + x % 2);
    }
};

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    patchify_kernel(T *out, int64_t row_stride, int64_t first, const float *in, struct latent shape,
                    int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS) {
        int64_t token;
        int channel, k;
        shape.place(i, &token, &channel, &k);
        from_float(&out[token * row_stride + first + channel * 4 + k], in[i]);
    }
}

extern "C" void cuda_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                              const float *latents, int channels, int64_t frames, int64_t height,
                              int64_t width, enum dtype dtype) {
    assert(channels > 0 && frames >= 0 && height % 2 == 0 && width % 2 == 0);
    assert(first >= 0 && first + 4 * channels <= row_stride);
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    int64_t count = channels * frames * height * width;
    if (count == 0 || !device_ready(device)) {
        return;
    }
    struct latent shape = {channels, frames, height, width};
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(patchify_kernel<T>, grid_of(count), THREADS, 0, device->stream, (T *)out,
                      row_stride, first, latents, shape, count);
    });
    device_noted(device, code, "patchify");
}

static __global__ void __launch_bounds__(THREADS)
    unpatchify_kernel(float *out, const float *tokens, struct latent shape, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS) {
        int64_t token;
        int channel, k;
        shape.place(i, &token, &channel, &k);
        out[i] = tokens[(token * 4 + k) * shape.channels + channel];
    }
}

extern "C" void cuda_unpatchify(struct device *device, float *latents, const float *tokens,
                                int channels, int64_t frames, int64_t height, int64_t width) {
    assert(channels > 0 && frames >= 0 && height % 2 == 0 && width % 2 == 0);
    int64_t count = channels * frames * height * width;
    if (count > 0 && device_ready(device)) {
        struct latent shape = {channels, frames, height, width};
        device_noted(device,
                     launch(unpatchify_kernel, grid_of(count), THREADS, 0, device->stream, latents,
                            tokens, shape, count),
                     "unpatchify");
    }
}

/* A tile of TILE pixels by TILE channels through shared memory, so that both sides are read and
 * written along their rows. 256 threads, 8 rows of 32. One column more: no bank conflicts. */
#define TILE      32
#define TILE_ROWS (THREADS / TILE)

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    to_channels_last_kernel(T *out, const float *x, const float *mul, const float *add,
                            int channels, int64_t pixels) {
    __shared__ float tile[TILE][TILE + 1]; /* [channel][pixel] */
    int column = (int)threadIdx.x % TILE, row = (int)threadIdx.x / TILE;
    int64_t pixel = (int64_t)blockIdx.x * TILE;
    int channel = (int)blockIdx.y * TILE;
    for (int i = row; i < TILE; i += TILE_ROWS) {
        int c = channel + i;
        if (c < channels && pixel + column < pixels) {
            float m = mul != NULL ? mul[c] : 1, a = add != NULL ? add[c] : 0;
            tile[i][column] = x[c * pixels + pixel + column] * m + a;
        }
    }
    barrier();
    for (int i = row; i < TILE; i += TILE_ROWS) {
        if (channel + column < channels && pixel + i < pixels) {
            from_float(&out[(pixel + i) * channels + channel + column], tile[column][i]);
        }
    }
}

extern "C" void cuda_to_channels_last(struct device *device, void *out, const float *x,
                                      const float *mul, const float *add, int channels,
                                      int64_t pixels, enum dtype dtype) {
    assert(channels > 0 && pixels >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    if (pixels == 0 || !device_ready(device)) {
        return;
    }
    dim3 grid((unsigned)blocks_of(pixels, TILE), (unsigned)blocks_of(channels, TILE));
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(to_channels_last_kernel<T>, grid, THREADS, 0, device->stream, (T *)out, x,
                      mul, add, channels, pixels);
    });
    device_noted(device, code, "to_channels_last");
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    to_channels_first_kernel(float *out, const T *x, const float *mul, const float *add,
                             int channels, int row_channels, int64_t pixels) {
    __shared__ float tile[TILE][TILE + 1]; /* [pixel][channel] */
    int column = (int)threadIdx.x % TILE, row = (int)threadIdx.x / TILE;
    int64_t pixel = (int64_t)blockIdx.x * TILE;
    int channel = (int)blockIdx.y * TILE;
    for (int i = row; i < TILE; i += TILE_ROWS) {
        if (channel + column < channels && pixel + i < pixels) {
            tile[i][column] = to_float(x[(pixel + i) * row_channels + channel + column]);
        }
    }
    barrier();
    for (int i = row; i < TILE; i += TILE_ROWS) {
        int c = channel + i;
        if (c < channels && pixel + column < pixels) {
            float m = mul != NULL ? mul[c] : 1, a = add != NULL ? add[c] : 0;
            out[c * pixels + pixel + column] = tile[column][i] * m + a;
        }
    }
}

extern "C" void cuda_to_channels_first(struct device *device, float *out, const void *x,
                                       const float *mul, const float *add, int channels,
                                       int row_channels, int64_t pixels, enum dtype dtype) {
    assert(channels > 0 && row_channels >= channels && pixels >= 0);
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    if (pixels == 0 || !device_ready(device)) {
        return;
    }
    dim3 grid((unsigned)blocks_of(pixels, TILE), (unsigned)blocks_of(channels, TILE));
    cudaError_t code = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        return launch(to_channels_first_kernel<T>, grid, THREADS, 0, device->stream, out,
                      (const T *)x, mul, add, channels, row_channels, pixels);
    });
    device_noted(device, code, "to_channels_first");
}

/* Units of 16 bytes where a pixel is made of them, else of 2. */
template <typename Unit>
static __global__ void __launch_bounds__(THREADS)
    upsample_kernel(Unit *out, const Unit *x, int64_t width, int64_t units, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS) {
        int64_t unit = i % units, column = i / units % width, line = i / units / width;
        Unit value = x[i];
        Unit *at = out + (4 * line * width + 2 * column) * units + unit;
        at[0] = value;
        at[units] = value;
        at[2 * width * units] = value;
        at[(2 * width + 1) * units] = value;
    }
}

typedef vector<uint32_t, 4> unit16;

extern "C" void cuda_upsample(struct device *device, void *out, const void *x, int64_t frames,
                              int64_t height, int64_t width, int64_t channels, enum dtype dtype) {
    assert(frames >= 0 && height >= 0 && width >= 0 && channels > 0);
    int64_t bytes = channels * (int64_t)dtype_bytes(dtype), pixels = frames * height * width;
    if (pixels == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code;
    if (bytes % 16 == 0 && aligned_to(x, 16) && aligned_to(out, 16)) {
        int64_t units = bytes / 16;
        code = launch(upsample_kernel<unit16>, grid_of(pixels * units), THREADS, 0, device->stream,
                      (unit16 *)out, (const unit16 *)x, width, units, pixels * units);
    } else {
        int64_t units = bytes / 2;
        code =
            launch(upsample_kernel<uint16_t>, grid_of(pixels * units), THREADS, 0, device->stream,
                   (uint16_t *)out, (const uint16_t *)x, width, units, pixels * units);
    }
    device_noted(device, code, "upsample");
}

template <typename Unit>
static __global__ void __launch_bounds__(THREADS)
    interleave_kernel(Unit *out, const Unit *x, int64_t pixels, int64_t units, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS) {
        int64_t unit = i % units, half = i / units % 2, r = i / units / 2;
        int64_t frame = r / pixels, pixel = r % pixels;
        out[((2 * frame + half) * pixels + pixel) * units + unit] = x[i];
    }
}

extern "C" void cuda_interleave_frames(struct device *device, void *out, const void *x,
                                       int64_t frames, int64_t pixels, int64_t channels,
                                       enum dtype dtype) {
    assert(frames >= 0 && pixels >= 0 && channels > 0);
    int64_t bytes = channels * (int64_t)dtype_bytes(dtype), rows = 2 * frames * pixels;
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    cudaError_t code;
    if (bytes % 16 == 0 && aligned_to(x, 16) && aligned_to(out, 16)) {
        int64_t units = bytes / 16;
        code = launch(interleave_kernel<unit16>, grid_of(rows * units), THREADS, 0, device->stream,
                      (unit16 *)out, (const unit16 *)x, pixels, units, rows * units);
    } else {
        int64_t units = bytes / 2;
        code =
            launch(interleave_kernel<uint16_t>, grid_of(rows * units), THREADS, 0, device->stream,
                   (uint16_t *)out, (const uint16_t *)x, pixels, units, rows * units);
    }
    device_noted(device, code, "interleave_frames");
}

#define CELLS_MAX 64

/* Where the values of a coarse pixel lie on the fine side: the fine pixels of its block, its cells,
 * are so far from the first one. Worked out once a block of threads; divisions are dear. */
struct cells {
    int64_t first[CELLS_MAX]; /* elements */
    int frame[CELLS_MAX];
};

/* By the whole block, before a barrier. */
static __device__ __forceinline__ void cells_fill(struct cells *out, const struct fold_args &a,
                                                  int cells) {
    const int s = (int)a.factor_s;
    for (int cell = (int)threadIdx.x; cell < cells; cell += THREADS) {
        const int i = cell % (s * s), down = a.columns_first ? i % s : i / s;
        const int right = a.columns_first ? i / s : i % s;
        out->frame[cell] = cell / (s * s);
        out->first[cell] =
            ((out->frame[cell] * a.height + down) * a.width + right) * (int64_t)a.channels;
    }
}

/* A coarse pixel: its first fine frame, of which those below 0 lack, and its first element. */
struct coarse {
    int frame;
    int64_t first;
};

static __device__ __forceinline__ struct coarse coarse_of(const struct fold_args &a, int64_t row) {
    const int64_t s = a.factor_s, width = a.width / s, height = a.height / s;
    const int64_t lack = (a.frames + a.factor_t - 1) / a.factor_t * a.factor_t - a.frames;
    const int64_t frame = row / width / height * a.factor_t - lack;
    const int64_t y = row / width % height * s, x = row % width * s;
    return {(int)frame, ((frame * a.height + y) * a.width + x) * a.channels};
}

template <typename T>
static __device__ __forceinline__ void put(const struct fold_args &a, int64_t at, float value) {
    T *out = (T *)a.out + at;
    from_float(out, a.accumulate ? to_float(*out) + value : value);
}

/* `lanes` threads do a coarse pixel; each of its values is the mean of `share` fine ones. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    fold_kernel(struct fold_args a, int share, int count, int lanes, int64_t rows) {
    __shared__ struct cells cells;
    cells_fill(&cells, a, count);
    barrier();
    const int64_t row = (int64_t)blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    if (row >= rows) {
        return;
    }
    const struct coarse coarse = coarse_of(a, row);
    const float part = 1 / (float)share;
    for (int d = (int)threadIdx.x % lanes; d < a.folded; d += lanes) {
        float sum = 0;
        for (int index = d * share; index < (d + 1) * share; index++) {
            const int channel = index / count, cell = index % count;
            if (coarse.frame + cells.frame[cell] >= 0) {
                sum += to_float(((const T *)a.x)[coarse.first + cells.first[cell] + channel]);
            }
        }
        put<T>(a, row * a.folded + d, sum * part);
    }
}

/* `lanes` threads do the channels of a fine pixel. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    unfold_kernel(struct fold_args a, int share, int count, int lanes, int64_t rows) {
    __shared__ struct cells cells;
    cells_fill(&cells, a, count);
    barrier();
    const int64_t pixel = (int64_t)blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    const int64_t row = pixel / count;
    const int cell = (int)(pixel % count);
    if (row >= rows) {
        return;
    }
    const struct coarse coarse = coarse_of(a, row);
    if (coarse.frame + cells.frame[cell] < 0) {
        return;
    }
    const T *x = (const T *)a.x + row * a.folded;
    const int64_t at = coarse.first + cells.first[cell];
    for (int channel = (int)threadIdx.x % lanes; channel < a.channels; channel += lanes) {
        put<T>(a, at + channel, to_float(x[(channel * count + cell) / share]));
    }
}

static void fold_either(struct device *device, const struct fold_args *args, bool back) {
    const int64_t s = args->factor_s, cells = args->factor_t * s * s;
    assert(args->dtype == DTYPE_F32 || args->dtype == DTYPE_BF16);
    assert(cells >= 1 && cells <= CELLS_MAX && args->channels * cells % args->folded == 0);
    assert(args->frames >= 0 && args->height % s == 0 && args->width % s == 0);
    const int64_t frames = (args->frames + args->factor_t - 1) / args->factor_t;
    const int64_t rows = frames * (args->height / s) * (args->width / s);
    const int share = (int)(args->channels * cells / args->folded);
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    const int64_t values = back ? args->channels : args->folded;
    int lanes = 1;
    while (lanes < values && lanes < THREADS) {
        lanes *= 2;
    }
    const int64_t pixels = back ? rows * cells : rows;
    const unsigned grid = (unsigned)blocks_of(pixels, THREADS / lanes);
    cudaError_t code = with_type(args->dtype, [&](auto type) {
        using T = decltype(type);
        auto kernel = back ? unfold_kernel<T> : fold_kernel<T>;
        return launch(kernel, grid, THREADS, 0, device->stream, *args, share, (int)cells, lanes,
                      rows);
    });
    device_noted(device, code, back ? "unfold" : "fold");
}

extern "C" void cuda_fold(struct device *device, const struct fold_args *args) {
    fold_either(device, args, false);
}

extern "C" void cuda_unfold(struct device *device, const struct fold_args *args) {
    fold_either(device, args, true);
}
