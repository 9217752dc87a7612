#include <assert.h>

#include "kernels/cpu/cpu.h"

static void patchify_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct patchify_args *args = args_pointer;
    int64_t columns = args->width / 2, rows = args->height / 2;
    int64_t plane = args->height * args->width;
    for (int64_t token = begin; token < end; token++) {
        int64_t x = token % columns, y = token / columns % rows, t = token / columns / rows;
        for (int c = 0; c < args->channels; c++) {
            const float *in = args->in + (c * args->frames + t) * plane;
            for (int k = 0; k < 4; k++) {
                float_store(args->out, args->dtype,
                            token * args->row_stride + args->first + c * 4 + k,
                            in[(2 * y + k / 2) * args->width + 2 * x + k % 2]);
            }
        }
    }
}

void cpu_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                  const float *latents, int channels, int64_t frames, int64_t height, int64_t width,
                  enum dtype dtype) {
    assert(channels > 0 && frames >= 0 && height % 2 == 0 && width % 2 == 0);
    assert(first >= 0 && first + 4 * channels <= row_stride);
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    struct patchify_args args = {out,    latents, row_stride, first, channels,
                                 frames, height,  width,      dtype};
    device_rows(device, patchify_rows, &args, frames * (height / 2) * (width / 2), 4 * channels);
}

static void unpatchify_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct patchify_args *args = args_pointer;
    int64_t columns = args->width / 2, rows = args->height / 2;
    int64_t plane = args->height * args->width;
    float *out = args->out;
    for (int64_t token = begin; token < end; token++) {
        int64_t x = token % columns, y = token / columns % rows, t = token / columns / rows;
        const float *in = args->in + token * 4 * args->channels;
        for (int c = 0; c < args->channels; c++) {
            for (int k = 0; k < 4; k++) {
                out[(c * args->frames + t) * plane + (2 * y + k / 2) * args->width + 2 * x +
                    k % 2] = in[k * args->channels + c];
            }
        }
    }
}

void cpu_unpatchify(struct device *device, float *latents, const float *tokens, int channels,
                    int64_t frames, int64_t height, int64_t width) {
    assert(channels > 0 && frames >= 0 && height % 2 == 0 && width % 2 == 0);
    struct patchify_args args = {latents, tokens, 0, 0, channels, frames, height, width, DTYPE_F32};
    device_rows(device, unpatchify_rows, &args, frames * (height / 2) * (width / 2), 4 * channels);
}
