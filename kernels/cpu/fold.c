/* Blocks of space and time into channels and back. */
#include <assert.h>

#include "kernels/cpu/cpu.h"

#define CELLS_MAX 64 /* fine pixels of a coarse one */

/* Where the fine pixels of coarse pixel `row` begin, in the order of channels; -1: before the first
 * frame. */
static int fine_cells(int64_t at[CELLS_MAX], const struct fold_args *args, int64_t row) {
    int64_t s = args->factor_s, width = args->width / s, height = args->height / s;
    int64_t x = row % width * s, y = row / width % height * s;
    int64_t coarse = (args->frames + args->factor_t - 1) / args->factor_t;
    int64_t lack = coarse * args->factor_t - args->frames;
    int count = 0;
    for (int64_t a = 0; a < args->factor_t; a++) {
        int64_t frame = row / width / height * args->factor_t + a - lack;
        for (int64_t i = 0; i < s * s; i++) {
            int64_t down = args->columns_first ? i % s : i / s;
            int64_t right = args->columns_first ? i / s : i % s;
            int64_t pixel = (frame * args->height + y + down) * args->width + x + right;
            at[count++] = frame < 0 ? -1 : pixel * args->channels;
        }
    }
    return count;
}

static inline __attribute__((always_inline)) void put(const struct fold_args *args,
                                                      enum dtype dtype, int64_t at, float value) {
    if (args->accumulate) {
        value += float_load(args->out, dtype, at);
    }
    float_store(args->out, dtype, at, value);
}

static inline __attribute__((always_inline)) void
fold_dtype(const struct fold_args *args, enum dtype dtype, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        int64_t cell[CELLS_MAX], out = row * args->folded;
        int cells = fine_cells(cell, args, row);
        int64_t group = (int64_t)args->channels * cells / args->folded, left = group;
        float sum = 0, share = 1 / (float)group;
        for (int64_t c = 0; c < args->channels; c++) {
            for (int i = 0; i < cells; i++) {
                sum += cell[i] < 0 ? 0 : float_load(args->x, dtype, cell[i] + c);
                if (--left == 0) {
                    put(args, dtype, out++, sum * share);
                    sum = 0;
                    left = group;
                }
            }
        }
    }
}

static void fold_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct fold_args *args = args_pointer;
    if (args->dtype == DTYPE_BF16) {
        fold_dtype(args, DTYPE_BF16, begin, end);
    } else {
        fold_dtype(args, DTYPE_F32, begin, end);
    }
}

static inline __attribute__((always_inline)) void
unfold_dtype(const struct fold_args *args, enum dtype dtype, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        int64_t cell[CELLS_MAX], in = row * args->folded;
        int cells = fine_cells(cell, args, row);
        int64_t repeats = (int64_t)args->channels * cells / args->folded, left = repeats;
        for (int64_t c = 0; c < args->channels; c++) {
            for (int i = 0; i < cells; i++) {
                if (cell[i] >= 0) {
                    put(args, dtype, cell[i] + c, float_load(args->x, dtype, in));
                }
                if (--left == 0) {
                    in++;
                    left = repeats;
                }
            }
        }
    }
}

static void unfold_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct fold_args *args = args_pointer;
    if (args->dtype == DTYPE_BF16) {
        unfold_dtype(args, DTYPE_BF16, begin, end);
    } else {
        unfold_dtype(args, DTYPE_F32, begin, end);
    }
}

static void run(struct device *device, rows_function *function, const struct fold_args *args) {
    int64_t s = args->factor_s, cells = args->factor_t * s * s;
    assert(args->dtype == DTYPE_F32 || args->dtype == DTYPE_BF16);
    assert(cells >= 1 && cells <= CELLS_MAX && args->channels * cells % args->folded == 0);
    assert(args->frames >= 0 && args->height % s == 0 && args->width % s == 0);
    int64_t frames = (args->frames + args->factor_t - 1) / args->factor_t;
    device_rows(device, function, args, frames * (args->height / s) * (args->width / s),
                args->channels * cells);
}

void cpu_fold(struct device *device, const struct fold_args *args) {
    run(device, fold_rows, args);
}

void cpu_unfold(struct device *device, const struct fold_args *args) {
    run(device, unfold_rows, args);
}
