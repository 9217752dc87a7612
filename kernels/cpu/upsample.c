/* Copies of whole pixels: twice the size in space, twice the frames in time. */
#include <assert.h>

#include "kernels/cpu/cpu.h"

static void upsample_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct upsample_args *args = args_pointer;
    size_t bytes = args->pixel_bytes, row_bytes = (size_t)args->width * bytes;
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *in = (const uint8_t *)args->x + (size_t)r * row_bytes;
        uint8_t *out = (uint8_t *)args->out + (size_t)r * 4 * row_bytes;
        for (int64_t i = 0; i < args->width; i++) {
            memcpy(out + (size_t)i * 2 * bytes, in + (size_t)i * bytes, bytes);
            memcpy(out + (size_t)i * 2 * bytes + bytes, in + (size_t)i * bytes, bytes);
        }
        memcpy(out + 2 * row_bytes, out, 2 * row_bytes);
    }
}

void cpu_upsample(struct device *device, void *out, const void *x, int64_t frames, int64_t height,
                  int64_t width, int64_t channels, enum dtype dtype) {
    assert(frames >= 0 && height >= 0 && width >= 0 && channels > 0);
    struct upsample_args args = {out, x, width, (size_t)channels * dtype_bytes(dtype)};
    device_rows(device, upsample_rows, &args, frames * height, 4 * width * channels);
}

static void interleave_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct interleave_args *args = args_pointer;
    size_t half = args->half_bytes;
    for (int64_t r = begin; r < end; r++) {
        int64_t frame = r / args->pixels, pixel = r % args->pixels;
        const uint8_t *in = (const uint8_t *)args->x + (size_t)r * 2 * half;
        uint8_t *even = (uint8_t *)args->out + (size_t)(2 * frame * args->pixels + pixel) * half;
        memcpy(even, in, half);
        memcpy(even + (size_t)args->pixels * half, in + half, half);
    }
}

void cpu_interleave_frames(struct device *device, void *out, const void *x, int64_t frames,
                           int64_t pixels, int64_t channels, enum dtype dtype) {
    assert(frames >= 0 && pixels >= 0 && channels > 0);
    struct interleave_args args = {out, x, pixels, (size_t)channels * dtype_bytes(dtype)};
    device_rows(device, interleave_rows, &args, frames * pixels, 2 * channels);
}
