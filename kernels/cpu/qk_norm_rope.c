#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

void qk_norm_rope_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct qk_norm_rope_args *args = args_pointer;
    int64_t width = (int64_t)args->heads * args->head_dim, half = args->head_dim / 2;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = r * args->stride;
        double squares = 0;
        for (int64_t i = 0; i < width; i++) {
            double x = float_load(args->x, args->dtype, row + i);
            squares += x * x;
        }
        float scale = (float)(1 / sqrt(squares / (double)width + (double)args->eps));
        for (int64_t i = 0; i < width; i += 2) {
            float a = float_load(args->x, args->dtype, row + i) * scale * args->weight[i];
            float b = float_load(args->x, args->dtype, row + i + 1) * scale * args->weight[i + 1];
            float c = 1, s = 0;
            if (args->cosine != NULL) {
                int64_t angle = r * half + i % args->head_dim / 2;
                c = args->cosine[angle];
                s = args->sine[angle];
            }
            float_store(args->x, args->dtype, row + i, a * c - b * s);
            float_store(args->x, args->dtype, row + i + 1, a * s + b * c);
        }
    }
}

void cpu_qk_norm_rope(struct device *device, void *x, int64_t stride, const float *weight,
                      const float *cosine, const float *sine, int64_t rows, int heads, int head_dim,
                      float eps, enum dtype dtype) {
    assert(rows >= 0 && heads > 0 && head_dim > 0 && head_dim % 2 == 0);
    assert(stride >= (int64_t)heads * head_dim && (cosine == NULL) == (sine == NULL));
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    struct qk_norm_rope_args args = {x, stride, weight, cosine, sine, heads, head_dim, eps, dtype};
    device_rows(device, device->level.qk_norm_rope, &args, rows, (int64_t)heads * head_dim);
}
