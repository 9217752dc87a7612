/* Between channels first (latents at rest) and channels last (inside the VAE). */
#include <assert.h>

#include "kernels/cpu/cpu.h"

void to_channels_last_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct channels_args *args = args_pointer;
    const float *x = args->x;
    for (int64_t p = begin; p < end; p++) {
        for (int c = 0; c < args->channels; c++) {
            float mul = args->mul != NULL ? args->mul[c] : 1;
            float add = args->add != NULL ? args->add[c] : 0;
            float_store(args->out, args->dtype, p * args->channels + c,
                        x[c * args->pixels + p] * mul + add);
        }
    }
}

void cpu_to_channels_last(struct device *device, void *out, const float *x, const float *mul,
                          const float *add, int channels, int64_t pixels, enum dtype dtype) {
    assert(channels > 0 && pixels >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct channels_args args = {out, x, mul, add, channels, channels, pixels, dtype};
    device_rows(device, device->level.to_channels_last, &args, pixels, channels);
}

void to_channels_first_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct channels_args *args = args_pointer;
    float *out = args->out;
    for (int c = 0; c < args->channels; c++) {
        float mul = args->mul != NULL ? args->mul[c] : 1;
        float add = args->add != NULL ? args->add[c] : 0;
        for (int64_t p = begin; p < end; p++) {
            out[c * args->pixels + p] =
                float_load(args->x, args->dtype, p * args->row_channels + c) * mul + add;
        }
    }
}

void cpu_to_channels_first(struct device *device, float *out, const void *x, const float *mul,
                           const float *add, int channels, int row_channels, int64_t pixels,
                           enum dtype dtype) {
    assert(channels > 0 && row_channels >= channels && pixels >= 0);
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    struct channels_args args = {out, x, mul, add, channels, row_channels, pixels, dtype};
    device_rows(device, device->level.to_channels_first, &args, pixels, channels);
}
