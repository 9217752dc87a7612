#include <assert.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

void from_pixels_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct pixels_args *args = args_pointer;
    const uint8_t *rgb = args->x;
    for (int64_t i = begin; i < end; i++) {
        float_store(args->out, args->dtype, i, (float)rgb[i] / 127.5f - 1);
    }
}

void cpu_from_pixels(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                     enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct pixels_args args = {out, rgb, dtype};
    device_rows(device, device->level.from_pixels, &args, count, 1);
}

void to_pixels_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct pixels_args *args = args_pointer;
    uint8_t *rgb = args->out;
    for (int64_t i = begin; i < end; i++) {
        float x = float_load(args->x, args->dtype, i);
        x = x > -1 ? x : -1; /* NaN too */
        x = x < 1 ? x : 1;
        rgb[i] = (uint8_t)rintf((x + 1) * 127.5f);
    }
}

void cpu_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                   enum dtype dtype) {
    assert(count >= 0 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct pixels_args args = {rgb, x, dtype};
    device_rows(device, device->level.to_pixels, &args, count, 1);
}
