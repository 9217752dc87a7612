/* Sums of arrays, and plain bytes. */
#include <assert.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/float.h"

void combine_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct combine_args *args = args_pointer;
    for (int64_t i = begin; i < end; i++) {
        float sum = args->coefficient[0] * args->x[0][i];
        for (int term = 1; term < args->terms; term++) {
            sum += args->coefficient[term] * args->x[term][i];
        }
        args->out[i] = sum;
    }
}

void cpu_combine(struct device *device, float *out, const float *const *x, const float *coefficient,
                 int terms, int64_t count) {
    assert(count >= 0 && terms >= 1 && terms <= OPS_COMBINE_MAX);
    struct combine_args args = {.out = out, .terms = terms};
    for (int i = 0; i < terms; i++) {
        args.x[i] = x[i];
        args.coefficient[i] = coefficient[i];
    }
    device_rows(device, device->level.combine, &args, count, 1);
}

struct add_args {
    uint16_t *out;
    const uint16_t *a, *b;
};

static void add_bf16(const void *args_pointer, int64_t begin, int64_t end) {
    const struct add_args *args = args_pointer;
    for (int64_t i = begin; i < end; i++)
        args->out[i] = bf16_from_float(bf16_to_float(args->a[i]) + bf16_to_float(args->b[i]));
}

void cpu_add(struct device *device, void *out, const void *a, const void *b, int64_t count,
             enum dtype dtype) {
    if (dtype == DTYPE_F32) {
        cpu_combine(device, out, (const float *const[]){a, b}, (const float[]){1, 1}, 2, count);
        return;
    }
    const struct add_args args = {out, a, b};
    device_rows(device, add_bf16, &args, count, 1);
}

static void copy_bytes(const void *args_pointer, int64_t begin, int64_t end) {
    const struct bytes_args *args = args_pointer;
    memcpy((uint8_t *)args->out + begin, (const uint8_t *)args->x + begin, (size_t)(end - begin));
}

static void zero_bytes(const void *args_pointer, int64_t begin, int64_t end) {
    const struct bytes_args *args = args_pointer;
    memset((uint8_t *)args->out + begin, 0, (size_t)(end - begin));
}

void cpu_copy(struct device *device, void *out, const void *x, size_t bytes) {
    struct bytes_args args = {out, x};
    device_rows(device, copy_bytes, &args, (int64_t)bytes, 1);
}

void cpu_zero(struct device *device, void *out, size_t bytes) {
    struct bytes_args args = {out, NULL};
    device_rows(device, zero_bytes, &args, (int64_t)bytes, 1);
}
