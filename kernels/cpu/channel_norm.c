#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

void channel_norm_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct channel_norm_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = r * args->channels;
        double squares = 0;
        for (int64_t i = 0; i < args->channels; i++) {
            double x = float_load(args->x, args->dtype, row + i);
            squares += x * x;
        }
        float scale = (float)(sqrt((double)args->channels) / fmax(sqrt(squares), 1e-12));
        for (int64_t i = 0; i < args->channels; i++) {
            float y = float_load(args->x, args->dtype, row + i) * scale * args->gamma[i];
            float_store(args->out, args->dtype, row + i, activation_plain(y, args->activation));
        }
    }
}

void cpu_channel_norm(struct device *device, void *out, const void *x, const float *gamma,
                      int64_t rows, int64_t channels, enum activation activation,
                      enum dtype dtype) {
    assert(rows >= 0 && channels > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    assert(activation == ACTIVATION_NONE || activation == ACTIVATION_SILU);
    struct channel_norm_args args = {out, x, gamma, channels, activation, dtype};
    device_rows(device, device->level.channel_norm, &args, rows, channels);
}
