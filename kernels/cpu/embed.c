#include <assert.h>

#include "kernels/cpu/cpu.h"

static void embed_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct embed_args *args = args_pointer;
    int64_t width = args->table->dim[1];
    for (int64_t r = begin; r < end; r++) {
        assert(args->ids[r] >= 0 && args->ids[r] < args->table->dim[0]);
        float_row(args->out + r * width, args->table->data, args->table->dtype,
                  args->ids[r] * width, width);
    }
}

void cpu_embed(struct device *device, float *out, const struct tensor *table,
               const int32_t *host_ids, int64_t count) {
    assert(count >= 0 && table->rank == 2);
    struct embed_args args = {out, table, host_ids};
    device_rows(device, embed_rows, &args, count, table->dim[1]);
}
