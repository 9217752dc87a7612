#include <assert.h>

#include "kernels/cpu/cpu.h"

void gelu_gate_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct gelu_gate_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t i = 0; i < args->width; i++) {
            float gate = float_load(args->x, args->dtype, 2 * r * args->width + i);
            float x = float_load(args->x, args->dtype, (2 * r + 1) * args->width + i);
            float_store(args->out, args->dtype, r * args->width + i,
                        activation_plain(gate, ACTIVATION_GELU_TANH) * x);
        }
    }
}

void cpu_gelu_gate(struct device *device, void *out, const void *x, int64_t rows, int64_t width,
                   enum dtype dtype) {
    assert(rows >= 0 && width > 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct gelu_gate_args args = {out, x, width, dtype};
    device_rows(device, device->level.gelu_gate, &args, rows, width);
}
