#include <assert.h>

#include "kernels/cpu/cpu.h"

void convert_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct convert_args *args = args_pointer;
    for (int64_t i = begin; i < end; i++) {
        float_store(args->out, args->out_dtype, i, float_load(args->x, args->dtype, i));
    }
}

void cpu_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                 enum dtype dtype, int64_t count) {
    /* f32, bf16 and f16 come first. */
    assert(count >= 0 && out_dtype <= DTYPE_F16 && dtype_block(dtype) == 1);
    if (out_dtype == dtype) {
        cpu_copy(device, out, x, (size_t)count * dtype_bytes(dtype));
        return;
    }
    struct convert_args args = {out, x, out_dtype, dtype};
    device_rows(device, device->level.convert, &args, count, 1);
}
