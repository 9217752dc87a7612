#include "kernels/cpu/gemm.h"

#include <string.h>

#include "kernels/cpu/cpu.h"

size_t gemm_packed_bytes(const struct gemm *gemm, int64_t outputs, int64_t depth) {
    int64_t columns = gemm_round_up(outputs, gemm->step);
    return (size_t)(columns * gemm_depth(gemm, depth)) * dtype_bytes(gemm->operand);
}

struct pack_loop {
    struct device *device;
    const struct gemm *gemm;
    char *out;
    int64_t outputs, depth;
    enum dtype dtype;
    gemm_row *read;
    const void *context;
};

/* A panel's weights are keys to the packer: rows that become columns. */
static void pack_panel(const void *context, int64_t piece, int worker) {
    const struct pack_loop *loop = context;
    const struct gemm *gemm = loop->gemm;
    int64_t first = piece * gemm->panel, left = loop->outputs - first;
    int64_t count = left < gemm->panel ? left : gemm->panel;
    int64_t depth = gemm_depth(gemm, loop->depth), bytes = (int64_t)dtype_bytes(gemm->operand);
    void *scratch = device_scratch(loop->device, worker);
    float *row = scratch_floats(&scratch, depth);
    char *rows = scratch;
    for (int64_t i = 0; i < count; i++) {
        char *to = rows + i * depth * bytes;
        memset(row, 0, (size_t)depth * sizeof *row);
        loop->read(loop->context, first + i, row);
        if (gemm->operand == DTYPE_F32) {
            for (int64_t k = 0; k < depth; k++) {
                row[k] = float_round(loop->dtype, row[k]);
            }
            memcpy(to, row, (size_t)(depth * bytes));
        } else {
            struct convert_args convert = {to, row, gemm->operand, DTYPE_F32};
            loop->device->level.convert(&convert, 0, depth);
        }
    }
    gemm->pack_keys(loop->out + first * depth * bytes, rows, gemm->operand, depth, count, depth);
}

bool gemm_packable(const struct gemm *gemm, int64_t depth) {
    return (size_t)((gemm->panel + 1) * (depth + 32)) * sizeof(float) <= SCRATCH_BYTES;
}

void gemm_pack(struct device *device, const struct gemm *gemm, void *out, int64_t outputs,
               int64_t depth, enum dtype dtype, gemm_row *read, const void *context) {
    struct pack_loop loop = {device, gemm, out, outputs, depth, dtype, read, context};
    pool_run(device->pool, (outputs + gemm->panel - 1) / gemm->panel, pack_panel, &loop);
}
