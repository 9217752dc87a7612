#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

float activation_plain(float x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_SILU:
        return x / (1 + expf(-x));
    case ACTIVATION_GELU_TANH: /* sqrt(2/pi) */
        return 0.5f * x * (1 + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case ACTIVATION_GELU_ERF: /* 1/sqrt(2) */
        return 0.5f * x * (1 + erff(x * 0.7071067811865476f));
    }
    return x;
}

void activate_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct activate_args *args = args_pointer;
    for (int64_t i = begin; i < end; i++) {
        args->out[i] = activation_plain(args->x[i], args->activation);
    }
}

void cpu_activate(struct device *device, float *out, const float *x, int64_t count,
                  enum activation activation) {
    assert(count >= 0);
    struct activate_args args = {out, x, activation};
    device_rows(device, device->level.activate, &args, count, 1);
}
