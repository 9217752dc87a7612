/* Linear layers over struct gemm: a piece is some rows by some panels. A panel's columns are packed
 * already, or in scratch memory now, a part of their depth at a time, for all rows of the piece. */
#include "kernels/cpu/linear.h"

#define ROWS          192 /* of a piece: a multiple of every tile's rows */
#define ROWS_IN_PLACE 768 /* where panels are packed for each piece */
#define COLUMNS       256

/* Of a row that is summed at a stretch: 128 KiB of a panel of 64 columns; and partial sums keep
 * f32's rounding errors within the tolerance over long rows. */
#define DEPTH_BYTES 2048

struct linear_loop {
    struct device *device;
    const struct linear_args *args;
    struct gemm_finish finish;
    struct gemm_source source;
    int64_t row_parts, panel_parts, panels;
    bool widen; /* rows must be copied: another type, or an odd number of bf16 */
};

int64_t linear_step(const struct gemm *gemm) {
    return DEPTH_BYTES / (int64_t)dtype_bytes(gemm->operand);
}

/* Rows in the operand's type, an odd number of bf16 made even with a zero. */
static const void *widen_rows(const struct linear_loop *loop, const void *in, int64_t rows,
                              void *out) {
    const struct linear *linear = loop->args->linear;
    const struct gemm *gemm = loop->args->gemm;
    int64_t bytes = gemm_depth(gemm, linear->inputs) * (int64_t)dtype_bytes(gemm->operand);
    for (int64_t r = 0; r < rows; r++) {
        char *row = (char *)out + r * bytes;
        memset(row + bytes - sizeof(float), 0, sizeof(float));
        gemm_widen(loop->device, row, gemm->operand, element(in, linear->dtype, r * linear->inputs),
                   linear->dtype, linear->inputs);
    }
    return out;
}

static void linear_piece(const void *context, int64_t piece, int worker) {
    const struct linear_loop *loop = context;
    const struct linear_args *args = loop->args;
    const struct linear *linear = args->linear;
    const struct gemm *gemm = args->gemm;
    int64_t depth = gemm_depth(gemm, linear->inputs), outputs = linear->outputs;
    int64_t row_part = piece / loop->panel_parts, panel_part = piece % loop->panel_parts;
    int64_t first = part_begin(args->rows, loop->row_parts, row_part);
    int64_t rows = part_begin(args->rows, loop->row_parts, row_part + 1) - first;
    const int64_t step = linear_step(gemm);

    void *scratch = device_scratch(loop->device, worker);
    float *sums = scratch_floats(&scratch, rows * GEMM_PANEL_MAX);
    void *packed = scratch_floats(&scratch, step * GEMM_PANEL_MAX);
    const void *in = element(args->in, linear->dtype, first * linear->inputs);
    if (loop->widen) {
        in = widen_rows(loop, in, rows, scratch);
        (void)scratch_floats(&scratch, rows * depth);
    }

    int64_t last_panel = part_begin(loop->panels, loop->panel_parts, panel_part + 1);
    for (int64_t p = part_begin(loop->panels, loop->panel_parts, panel_part); p < last_panel; p++) {
        int64_t column = p * gemm->panel, count = at_most(gemm->panel, outputs - column);
        int columns = gemm_columns(gemm, column, outputs);
        int64_t tiles = (rows + gemm_rows(gemm, columns) - 1) / gemm_rows(gemm, columns);
        for (int64_t k = 0; k < depth; k += step) {
            int64_t part = at_most(step, depth - k);
            const void *panel = packed;
            if (linear->weight != NULL) {
                panel = element(linear->weight, gemm->operand, column * depth + k * columns);
            } else {
                gemm_pack_columns(loop->device, gemm, &loop->source, packed, column, count, k,
                                  at_most(step, linear->inputs - k), scratch);
            }
            for (int64_t t = 0; t < tiles; t++) {
                int64_t r = part_begin(rows, tiles, t);
                int tile_rows = (int)(part_begin(rows, tiles, t + 1) - r);
                const void *a = element(in, gemm->operand, r * depth + k);
                float *c = sums + r * columns;
                gemm->tile(c, columns, &a, depth, &panel, tile_rows, columns, 1, part, k > 0);
                if (k + part == depth) {
                    gemm->finish(&loop->finish, c, columns, first + r, column, tile_rows, count);
                }
            }
        }
    }
}

bool linear_fits(const struct gemm *gemm, int64_t inputs) {
    int64_t step = linear_step(gemm);
    int64_t elements = ROWS * gemm_depth(gemm, inputs) + (ROWS_IN_PLACE + step) * GEMM_PANEL_MAX;
    return (size_t)elements * sizeof(float) + gemm_pack_scratch(gemm, step) <= SCRATCH_BYTES;
}

struct gemm_finish linear_finish(const struct linear_args *args) {
    const struct linear_epilogue *epilogue = args->epilogue;
    return (struct gemm_finish){.out = args->out,
                                .out_dtype = epilogue->out_dtype,
                                .stride = args->linear->outputs,
                                .bias = args->linear->bias,
                                .activation = epilogue->activation,
                                .gate = epilogue->gate,
                                .group = epilogue->group,
                                .accumulate = epilogue->accumulate};
}

void linear_gemm(struct device *device, const struct linear_args *args) {
    if (device->failed || args->rows == 0) {
        return;
    }
    const struct linear *linear = args->linear;
    const struct gemm *gemm = args->gemm;
    struct linear_loop loop = {
        .device = device,
        .args = args,
        .finish = linear_finish(args),
        .source = linear_source(linear),
        .panels = (linear->outputs + gemm->panel - 1) / gemm->panel,
        .widen =
            gemm->operand != linear->dtype || gemm_depth(gemm, linear->inputs) != linear->inputs,
    };
    int64_t widest = COLUMNS / gemm->panel;
    int64_t rows = linear->weight != NULL || loop.widen ? ROWS : ROWS_IN_PLACE;
    loop.row_parts = (args->rows + rows - 1) / rows;
    loop.panel_parts = (loop.panels + widest - 1) / widest;
    pool_run(device->pool, loop.row_parts * loop.panel_parts, linear_piece, &loop);
}
