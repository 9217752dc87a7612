#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

void rms_norm_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct rms_norm_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + r * args->width;
        double squares = 0;
        for (int64_t i = 0; i < args->width; i++) {
            squares += (double)x[i] * (double)x[i];
        }
        float scale = (float)(1 / sqrt(squares / (double)args->width + (double)args->eps));
        for (int64_t i = 0; i < args->width; i++) {
            float_store(args->out, args->dtype, r * args->width + i,
                        x[i] * scale * args->weight[i]);
        }
    }
}

void cpu_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                  int64_t rows, int64_t width, float eps, enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct rms_norm_args args = {out, x, weight, width, eps, dtype};
    device_rows(device, device->level.rms_norm, &args, rows, width);
}
