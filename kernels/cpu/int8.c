#include "kernels/cpu/int8.h"

#include <assert.h>
#include <math.h>

#define INPUTS_MAX 65536 /* sums fit i32; rows fit scratch memory */
#define BLOCK_MIN  32

bool int8_suits(const struct tensor *part, int count, enum dtype dtype) {
    int64_t inputs = part->dim[1], block = part->scale_columns;
    for (int i = 0; i < count; i++) {
        if (part[i].dtype != DTYPE_I8 || part[i].scale_columns != block) {
            return false;
        }
    }
    bool whole = block >= inputs, units = block % 4 == 0 && block >= BLOCK_MIN;
    return dtype == DTYPE_BF16 && inputs % 4 == 0 && inputs <= INPUTS_MAX && (whole || units);
}

static int64_t block_of(const struct linear *linear) {
    return at_most(linear->part->scale_columns, linear->inputs);
}

static int64_t block_count(const struct linear *linear) {
    return (linear->inputs + block_of(linear) - 1) / block_of(linear);
}

static float scale_of(const struct linear *linear, int64_t n, int64_t block) {
    const struct tensor *part = linear_part(linear, &n);
    return part->scale[n / part->scale_rows * block_count(linear) + block];
}

/* -- the definition ---------------------------------------------------------------------------- */

static float quantise_plain(int8_t *out, const void *x, int64_t at, int64_t count) {
    float largest = 0;
    for (int64_t k = 0; k < count; k++) {
        float magnitude = fabsf(float_load(x, DTYPE_BF16, at + k));
        largest = magnitude > largest ? magnitude : largest;
    }
    float factor = largest > INT8_LEAST ? 127 / largest : 0;
    for (int64_t k = 0; k < count; k++) {
        float y = rintf(float_load(x, DTYPE_BF16, at + k) * factor);
        out[k] = y >= -128 && y <= 127 ? (int8_t)y : -128;
    }
    return largest > INT8_LEAST ? largest / 127 : 0;
}

static void plain_row(const struct linear_args *args, int64_t m) {
    const struct linear *linear = args->linear;
    int64_t inputs = linear->inputs, block = block_of(linear), blocks = block_count(linear);
    int8_t q[INPUTS_MAX];
    float scale[INPUTS_MAX / BLOCK_MIN];
    for (int64_t b = 0; b < blocks; b++) {
        int64_t k = b * block;
        scale[b] = quantise_plain(q + k, args->in, m * inputs + k, at_most(block, inputs - k));
    }
    for (int64_t n = 0; n < linear->outputs; n++) {
        int64_t row = n;
        const struct tensor *part = linear_part(linear, &row);
        const int8_t *w = (const int8_t *)part->data + row * inputs;
        float y = 0;
        for (int64_t b = 0; b < blocks; b++) {
            int32_t sum = 0;
            for (int64_t k = b * block; k < inputs && k < (b + 1) * block; k++) {
                sum += q[k] * w[k];
            }
            y = fmaf((float)sum, scale[b] * scale_of(linear, n, b), y);
        }
        linear_finish_plain(args, m, n, &y, 1);
    }
}

void int8_linear_plain(const void *args_pointer, int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m++) {
        plain_row(args_pointer, m);
    }
}

/* -- over an instruction set's products -------------------------------------------------------- */

#define ROWS    1024 /* of a piece, at most: for so many a panel is packed */
#define COLUMNS 1536 /* for so many a row is quantised */
#define PIECES  4    /* at least, where there are panels for them: threads get equal shares */
#define DEPTH   2048 /* of a panel that is packed at a time, about: 128 KiB */

struct int8_loop {
    struct device *device;
    const struct linear_args *args;
    const struct int8_products *products;
    struct gemm_finish finish;
    int64_t block, blocks; /* columns that share a scale */
    int64_t row_parts, panel_parts, panels;
};

/* Rows of a piece, and what has been packed of the panel in hand. */
struct int8_piece {
    uint8_t *rows;     /* [rows, inputs] */
    float *row_scale;  /* [rows, blocks] */
    float *sums;       /* [rows, columns] */
    int32_t *products; /* [tile rows, columns] */
    uint8_t *panel;    /* some blocks */
    int32_t *offset;   /* [those blocks, columns] */
    float *column_scale;
    char *scratch; /* [columns, a block] */
};

static void quantise_rows(const struct int8_loop *loop, const struct int8_piece *piece,
                          int64_t first, int64_t rows) {
    int64_t inputs = loop->args->linear->inputs;
    for (int64_t r = 0; r < rows; r++) {
        const char *x = element(loop->args->in, DTYPE_BF16, (first + r) * inputs);
        for (int64_t b = 0; b < loop->blocks; b++) {
            int64_t k = b * loop->block;
            piece->row_scale[r * loop->blocks + b] =
                loop->products->quantise(piece->rows + r * inputs + k, element(x, DTYPE_BF16, k),
                                         at_most(loop->block, inputs - k));
        }
    }
}

/* Of block b of `count` columns from `column` on. */
static void read_scales(float *out, const struct linear *linear, int64_t column, int64_t count,
                        int64_t b) {
    int64_t row = column, blocks = block_count(linear);
    const struct tensor *part = linear_part(linear, &row);
    if (part->scale_rows == 1 && row + count <= part->dim[0]) {
        for (int64_t n = 0; n < count; n++) {
            out[n] = part->scale[(row + n) * blocks + b];
        }
        return;
    }
    for (int64_t n = 0; n < count; n++) {
        out[n] = scale_of(linear, column + n, b);
    }
}

/* Block b of the panel at `column`, as the i-th of those that are packed. */
static void pack_block(const struct int8_loop *loop, const struct int8_piece *piece, int64_t column,
                       int64_t b, int64_t i) {
    const struct linear *linear = loop->args->linear;
    const struct gemm *gemm = loop->args->gemm;
    int columns = gemm_columns(gemm, column, linear->outputs);
    int64_t count = at_most(gemm->panel, linear->outputs - column), k = b * loop->block;
    int64_t depth = at_most(loop->block, linear->inputs - k);
    float *scale = piece->column_scale + i * columns;
    memset(scale, 0, (size_t)columns * sizeof *scale);
    read_scales(scale, linear, column, count, b);
    int64_t stride = linear->inputs, row = column;
    const struct tensor *part = linear_part(linear, &row);
    const char *rows = (const char *)part->data + row * stride + k;
    if (row + count > part->dim[0]) { /* of two tensors */
        for (int64_t n = 0; n < count; n++) {
            row = column + n;
            part = linear_part(linear, &row);
            memcpy(piece->scratch + n * depth, (const char *)part->data + row * linear->inputs + k,
                   (size_t)depth);
        }
        rows = piece->scratch;
        stride = depth;
    }
    /* Units of four bytes are packed like floats. */
    uint8_t *panel = piece->panel + i * columns * loop->block;
    loop->device->level.gemm_f32->pack_keys(panel, rows, DTYPE_F32, stride / 4, count, depth / 4);
    loop->products->offsets(piece->offset + i * columns, panel, columns, depth);
}

static void run_panel(const struct int8_loop *loop, const struct int8_piece *piece, int64_t first,
                      int64_t rows, int64_t column) {
    const struct linear *linear = loop->args->linear;
    const struct gemm *gemm = loop->args->gemm;
    int columns = gemm_columns(gemm, column, linear->outputs);
    int64_t tiles = (rows + gemm_rows(gemm, columns) - 1) / gemm_rows(gemm, columns);
    int64_t step = DEPTH / loop->block > 1 ? DEPTH / loop->block : 1;
    for (int64_t b = 0; b < loop->blocks; b += step) {
        int64_t count = at_most(step, loop->blocks - b);
        for (int64_t i = 0; i < count; i++) {
            pack_block(loop, piece, column, b + i, i);
        }
        for (int64_t t = 0; t < tiles; t++) {
            int64_t r = part_begin(rows, tiles, t);
            int tile_rows = (int)(part_begin(rows, tiles, t + 1) - r);
            float *sums = piece->sums + r * columns;
            for (int64_t i = 0; i < count; i++) {
                int64_t k = (b + i) * loop->block;
                const void *a = piece->rows + r * linear->inputs + k;
                const void *panel = piece->panel + i * columns * loop->block;
                loop->products->tile((float *)(void *)piece->products, columns, &a, linear->inputs,
                                     &panel, tile_rows, columns, 1,
                                     at_most(loop->block, linear->inputs - k), false);
                loop->products->fold(sums, piece->products, piece->offset + i * columns,
                                     piece->row_scale + r * loop->blocks + b + i, loop->blocks,
                                     piece->column_scale + i * columns, tile_rows, columns,
                                     b + i == 0);
            }
            if (b + count == loop->blocks) {
                gemm->finish(&loop->finish, sums, columns, first + r, column, tile_rows,
                             at_most(columns, linear->outputs - column));
            }
        }
    }
}

static void int8_piece(const void *context, int64_t index, int worker) {
    const struct int8_loop *loop = context;
    const struct linear *linear = loop->args->linear;
    /* Threads that run beside each other read the same weights. */
    int64_t row_part = index % loop->row_parts, panel_part = index / loop->row_parts;
    int64_t first = part_begin(loop->args->rows, loop->row_parts, row_part);
    int64_t rows = part_begin(loop->args->rows, loop->row_parts, row_part + 1) - first;
    int64_t packed = loop->block > DEPTH ? loop->block : DEPTH;
    int64_t blocks = packed / loop->block;
    void *scratch = device_scratch(loop->device, worker);
    struct int8_piece piece = {
        .rows = (uint8_t *)scratch_floats(&scratch, rows * linear->inputs / 4 + 1),
        .row_scale = scratch_floats(&scratch, rows * loop->blocks),
        .sums = scratch_floats(&scratch, rows * GEMM_PANEL_MAX),
        .products = (int32_t *)(void *)scratch_floats(&scratch, GEMM_ROWS_MAX * GEMM_PANEL_MAX),
        .panel = (uint8_t *)scratch_floats(&scratch, packed * GEMM_PANEL_MAX / 4),
        .offset = (int32_t *)(void *)scratch_floats(&scratch, blocks * GEMM_PANEL_MAX),
        .column_scale = scratch_floats(&scratch, blocks * GEMM_PANEL_MAX),
    };
    piece.scratch = scratch;
    quantise_rows(loop, &piece, first, rows);
    int64_t last = part_begin(loop->panels, loop->panel_parts, panel_part + 1);
    for (int64_t p = part_begin(loop->panels, loop->panel_parts, panel_part); p < last; p++) {
        run_panel(loop, &piece, first, rows, p * loop->args->gemm->panel);
    }
}

/* Rows of a piece fit scratch memory, and leave room for panels. */
static int64_t rows_of(const struct linear *linear) {
    return at_most(ROWS, (int64_t)(SCRATCH_BYTES * 3 / 4) / linear->inputs);
}

void int8_linear(struct device *device, const struct linear_args *args) {
    if (device->failed || args->rows == 0) {
        return;
    }
    const struct linear *linear = args->linear;
    struct int8_loop loop = {
        .device = device,
        .args = args,
        .products = device->level.int8,
        .finish = linear_finish(args),
        .block = block_of(linear),
        .blocks = block_count(linear),
        .panels = (linear->outputs + args->gemm->panel - 1) / args->gemm->panel,
    };
    int64_t rows = rows_of(linear), widest = COLUMNS / args->gemm->panel;
    loop.row_parts = (args->rows + rows - 1) / rows;
    loop.panel_parts = (loop.panels + widest - 1) / widest;
    int64_t wanted = (PIECES + loop.row_parts - 1) / loop.row_parts;
    if (loop.panel_parts < wanted) {
        loop.panel_parts = at_most(wanted, loop.panels);
    }
    pool_run(device->pool, loop.row_parts * loop.panel_parts, int8_piece, &loop);
}
