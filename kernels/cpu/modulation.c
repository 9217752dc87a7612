#include <assert.h>

#include "kernels/cpu/cpu.h"

void modulation_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct modulation_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        int64_t group = r / args->chunks, chunk = r % args->chunks;
        const float *table = args->table + chunk * args->width;
        int64_t e_row = group * args->e_chunks + (args->e_chunks == 1 ? 0 : chunk);
        const float *e = args->e + e_row * args->width;
        float one = args->scale_mask >> chunk & 1 ? 1 : 0;
        for (int64_t i = 0; i < args->width; i++) {
            args->out[r * args->width + i] = table[i] + e[i] + one;
        }
    }
}

void cpu_modulation(struct device *device, float *out, const float *table, const float *e,
                    int64_t groups, int chunks, int e_chunks, int64_t width, uint32_t scale_mask) {
    assert(groups >= 0 && chunks > 0 && chunks <= 32 && width > 0);
    assert(e_chunks == chunks || e_chunks == 1);
    struct modulation_args args = {out, table, e, chunks, e_chunks, width, scale_mask};
    device_rows(device, device->level.modulation, &args, groups * chunks, width);
}
