#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

void layer_norm_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct layer_norm_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + r * args->width;
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < args->width; i++) {
            sum += x[i];
        }
        double mean = sum / (double)args->width;
        for (int64_t i = 0; i < args->width; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        float shift = (float)mean;
        float scale = (float)(1 / sqrt(squares / (double)args->width + (double)args->eps));
        int64_t offset = args->group != NULL ? args->group[r] * args->width : 0;
        for (int64_t i = 0; i < args->width; i++) {
            float mul = args->mul != NULL ? args->mul[offset + i] : 1;
            float add = args->add != NULL ? args->add[offset + i] : 0;
            float_store(args->out, args->dtype, r * args->width + i,
                        (x[i] - shift) * scale * mul + add);
        }
    }
}

void cpu_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                    const float *add, const uint8_t *group, int64_t rows, int64_t width, float eps,
                    enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct layer_norm_args args = {out, x, mul, add, group, width, eps, dtype};
    device_rows(device, device->level.layer_norm, &args, rows, width);
}
