#include "kernels/cpu/gemm.h"

#include "kernels/cpu/cpu.h"

void gemm_widen(struct device *device, void *out, enum dtype out_dtype, const void *in,
                enum dtype dtype, int64_t count) {
    if (out_dtype == dtype) {
        memcpy(out, in, (size_t)count * dtype_bytes(dtype));
    } else {
        device->level.convert(&(struct convert_args){out, in, out_dtype, dtype}, 0, count);
    }
}

size_t gemm_packed_bytes(const struct gemm *gemm, int64_t outputs, int64_t depth) {
    int64_t columns = gemm_round_up(outputs, gemm->step);
    return (size_t)(columns * gemm_depth(gemm, depth)) * dtype_bytes(gemm->operand);
}

size_t gemm_pack_scratch(const struct gemm *gemm, int64_t depth) {
    return (size_t)((gemm->panel + 1) * (depth + 32)) * sizeof(float);
}

/* The rows where they lie, if the packer can read them there. */
static const void *rows_in_place(const struct gemm *gemm, const struct gemm_source *source,
                                 int64_t first, int64_t columns, int64_t k, enum dtype *dtype,
                                 int64_t *stride) {
    const void *rows = source->rows == NULL
                           ? NULL
                           : source->rows(source->context, first, columns, k, dtype, stride);
    bool same = *dtype == gemm->operand && source->dtype == gemm->operand;
    bool widened = *dtype == DTYPE_BF16 && gemm->operand == DTYPE_F32;
    return rows != NULL && (same || widened) ? rows : NULL;
}

void gemm_pack_columns(struct device *device, const struct gemm *gemm,
                       const struct gemm_source *source, void *out, int64_t first, int64_t columns,
                       int64_t k, int64_t count, void *scratch) {
    rows_function *convert = device->level.convert;
    int64_t depth = gemm_depth(gemm, count), stride = 0;
    enum dtype dtype = DTYPE_F32;
    const void *rows =
        depth == count ? rows_in_place(gemm, source, first, columns, k, &dtype, &stride) : NULL;
    if (rows == NULL) {
        float *row = scratch_floats(&scratch, depth);
        row[depth - 1] = 0;
        for (int64_t i = 0; i < columns; i++) {
            void *to = (char *)scratch + i * depth * (int64_t)dtype_bytes(gemm->operand);
            source->read(device, source->context, first + i, k, count, row);
            if (source->dtype != gemm->operand) { /* bf16's values, held as f32 */
                convert(&(struct convert_args){to, row, source->dtype, DTYPE_F32}, 0, count);
                convert(&(struct convert_args){row, to, DTYPE_F32, source->dtype}, 0, count);
            }
            convert(&(struct convert_args){to, row, gemm->operand, DTYPE_F32}, 0, depth);
        }
        rows = scratch;
        dtype = gemm->operand;
        stride = depth;
    }
    /* A panel's weights are keys to the packer: rows that become columns. */
    gemm->pack_keys(out, rows, dtype, stride, columns, depth);
}

struct pack_loop {
    struct device *device;
    const struct gemm *gemm;
    const struct gemm_source *source;
    char *out;
    int64_t outputs, depth, step;
};

static void pack_panel(const void *context, int64_t piece, int worker) {
    const struct pack_loop *loop = context;
    const struct gemm *gemm = loop->gemm;
    int64_t first = piece * gemm->panel, left = loop->outputs - first;
    int64_t count = left < gemm->panel ? left : gemm->panel;
    int64_t depth = gemm_depth(gemm, loop->depth), bytes = (int64_t)dtype_bytes(gemm->operand);
    for (int64_t k = 0; k < loop->depth; k += loop->step) {
        int64_t part = loop->depth - k < loop->step ? loop->depth - k : loop->step;
        int64_t at = first * depth + k * gemm_columns(gemm, first, loop->outputs);
        gemm_pack_columns(loop->device, gemm, loop->source, loop->out + at * bytes, first, count, k,
                          part, device_scratch(loop->device, worker));
    }
}

void gemm_pack(struct device *device, const struct gemm *gemm, void *out,
               const struct gemm_source *source, int64_t outputs, int64_t depth, int64_t step) {
    struct pack_loop loop = {device, gemm, source, out, outputs, depth, step};
    pool_run(device->pool, (outputs + gemm->panel - 1) / gemm->panel, pack_panel, &loop);
}
