#include "kernels/nv12.h"

#include <assert.h>

#include "kernels/cpu/cpu.h"

static void block_rows(const void *args, int64_t begin, int64_t end) {
    nv12_rows(args, begin, end);
}

void cpu_to_nv12(struct device *device, const struct nv12_args *args) {
    assert(args->height >= 0 && args->height % 2 == 0 && args->width % 2 == 0);
    device_rows(device, block_rows, args, args->height / 2, 100 * args->width);
}
