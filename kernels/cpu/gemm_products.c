/* Linear layers and convolutions over struct gemm.
 *
 * Both are one shape of work: rows (tokens, or the pixels of some output lines) by a range of
 * panels, whose depth is a batch of blocks: the whole of K for a linear layer, one (kt,kh) pair of
 * kw·Cin contiguous elements for a convolution, since channels come last. Where a panel's depth is
 * more than the second-level cache should hold, sums wait in scratch memory between parts. */
#include <assert.h>

#include "kernels/cpu/linear.h"

#define BATCH_MAX 64

/* Half of a megabyte of second-level cache for panels, a quarter for sums, the rest for rows. */
#define PANEL_BYTES (256 << 10)

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

static const char *element(const void *base, enum dtype dtype, int64_t at) {
    return (const char *)base + at * (int64_t)dtype_bytes(dtype);
}

/* -- linear ------------------------------------------------------------------------------------ */

#define LINEAR_ROWS    192 /* of a piece: a multiple of every tile's rows */
#define LINEAR_COLUMNS 256

/* Of a row that is summed at a stretch: 128 KiB of a panel of 64 columns; and partial sums keep
 * f32's rounding errors within the tolerance over long rows. */
#define DEPTH_BYTES 2048

struct linear_loop {
    struct device *device;
    const struct linear_args *args;
    struct gemm_finish finish;
    int64_t row_parts, panel_parts, panels;
    bool widen; /* rows must be copied: another type, or an odd number of bf16 */
};

static void widen(struct device *device, void *out, enum dtype out_dtype, const void *in,
                  enum dtype dtype, int64_t count) {
    if (out_dtype == dtype) {
        memcpy(out, in, (size_t)count * dtype_bytes(dtype));
    } else {
        struct convert_args args = {out, in, out_dtype, dtype};
        device->level.convert(&args, 0, count);
    }
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

    void *scratch = device_scratch(loop->device, worker);
    float *sums = scratch_floats(&scratch, LINEAR_ROWS * GEMM_PANEL_MAX);
    const void *in = element(args->in, linear->dtype, first * linear->inputs);
    if (loop->widen) {
        char *wide = scratch;
        size_t row_bytes = (size_t)depth * dtype_bytes(gemm->operand);
        for (int64_t r = 0; r < rows; r++) {
            char *row = wide + (size_t)r * row_bytes;
            memset(row + row_bytes - sizeof(float), 0, sizeof(float));
            widen(loop->device, row, gemm->operand, element(in, linear->dtype, r * linear->inputs),
                  linear->dtype, linear->inputs);
        }
        in = wide;
    }

    const int64_t step = DEPTH_BYTES / (int64_t)dtype_bytes(gemm->operand);
    int64_t last_panel = part_begin(loop->panels, loop->panel_parts, panel_part + 1);
    for (int64_t p = part_begin(loop->panels, loop->panel_parts, panel_part); p < last_panel; p++) {
        int64_t column = p * gemm->panel;
        int columns = gemm_columns(gemm, column, outputs);
        int64_t tiles = (rows + gemm_rows(gemm, columns) - 1) / gemm_rows(gemm, columns);
        for (int64_t k = 0; k < depth; k += step) {
            int64_t part = at_most(step, depth - k);
            const void *panel =
                element(linear->weight, gemm->operand, column * depth + k * columns);
            for (int64_t t = 0; t < tiles; t++) {
                int64_t r = part_begin(rows, tiles, t);
                int tile_rows = (int)(part_begin(rows, tiles, t + 1) - r);
                const void *a = element(in, gemm->operand, r * depth + k);
                float *c = sums + r * columns;
                gemm->tile(c, columns, &a, depth, panel, tile_rows, columns, 1, part, k > 0);
                if (k + part == depth) {
                    gemm->finish(&loop->finish, c, columns, first + r, column, tile_rows,
                                 at_most(columns, outputs - column));
                }
            }
        }
    }
}

void linear_gemm(struct device *device, const struct linear_args *args) {
    if (device->failed || args->rows == 0) {
        return;
    }
    const struct linear *linear = args->linear;
    const struct linear_epilogue *epilogue = args->epilogue;
    const struct gemm *gemm = args->gemm;
    struct linear_loop loop = {
        .device = device,
        .args = args,
        .finish = {.out = args->out,
                   .out_dtype = epilogue->out_dtype,
                   .stride = linear->outputs,
                   .bias = linear->bias,
                   .activation = epilogue->activation,
                   .gate = epilogue->gate,
                   .group = epilogue->group,
                   .accumulate = epilogue->accumulate},
        .row_parts = (args->rows + LINEAR_ROWS - 1) / LINEAR_ROWS,
        .panels = (linear->outputs + gemm->panel - 1) / gemm->panel,
        .widen =
            gemm->operand != linear->dtype || gemm_depth(gemm, linear->inputs) != linear->inputs,
    };
    int64_t widest = LINEAR_COLUMNS / gemm->panel;
    loop.panel_parts = (loop.panels + widest - 1) / widest;
    assert((size_t)(LINEAR_ROWS * (gemm_depth(gemm, linear->inputs) + GEMM_PANEL_MAX)) * 4 <=
           SCRATCH_BYTES);
    pool_run(device->pool, loop.row_parts * loop.panel_parts, linear_piece, &loop);
}

/* -- convolution ------------------------------------------------------------------------------- */

#define CONV_COLUMNS 256

struct conv_loop {
    struct device *device;
    const struct conv_call *call;
    struct gemm_finish finish;
    bool direct;                   /* rows are read where they are */
    int64_t in_height, in_width;   /* of the input, as the loop sees it */
    int64_t out_height, out_width; /* a 1x1 kernel sees a frame as one long line */
    int64_t channels;              /* of the rows: padded to whole units */
    int64_t line_parts, panel_parts, panels;
};

/* Input lines first_line.. of frame t, with their zeros around them, in the operand type. */
static void copy_lines(const struct conv_loop *loop, void *out, int64_t frame, int64_t first_line,
                       int64_t lines) {
    const struct conv_args *args = &loop->call->args;
    const struct conv *conv = loop->call->conv;
    enum dtype operand = loop->call->gemm->operand;
    int64_t bytes = (int64_t)dtype_bytes(operand), channels = loop->channels;
    int64_t inputs = conv->shape.in_channels;
    int64_t width = args->pad_left + loop->in_width + args->pad_right;
    char *to = out;
    for (int64_t line = first_line; line < first_line + lines; line++) {
        int64_t y = line - args->pad_top;
        if (y < 0 || y >= loop->in_height) {
            memset(to, 0, (size_t)(width * channels * bytes));
            to += width * channels * bytes;
            continue;
        }
        const void *from =
            element(args->in, conv->dtype, (frame * loop->in_height + y) * loop->in_width * inputs);
        memset(to, 0, (size_t)(args->pad_left * channels * bytes));
        to += args->pad_left * channels * bytes;
        if (channels == inputs) {
            widen(loop->device, to, operand, from, conv->dtype, loop->in_width * inputs);
        } else { /* an odd number of bf16: one zero each */
            for (int64_t x = 0; x < loop->in_width; x++) {
                memcpy(to + x * channels * bytes, element(from, conv->dtype, x * inputs),
                       (size_t)(inputs * bytes));
                memset(to + (x * channels + inputs) * bytes, 0, (size_t)bytes);
            }
        }
        to += loop->in_width * channels * bytes;
        memset(to, 0, (size_t)(args->pad_right * channels * bytes));
        to += args->pad_right * channels * bytes;
    }
}

static void conv_piece(const void *context, int64_t piece, int worker) {
    const struct conv_loop *loop = context;
    const struct conv_call *call = loop->call;
    const struct conv_args *args = &call->args;
    const struct conv_shape *shape = &call->conv->shape;
    const struct gemm *gemm = call->gemm;
    int64_t panel_part = piece % loop->panel_parts, part = piece / loop->panel_parts;
    int64_t line_part = part % loop->line_parts, frame = part / loop->line_parts;
    int64_t first = part_begin(loop->out_height, loop->line_parts, line_part);
    int64_t lines = part_begin(loop->out_height, loop->line_parts, line_part + 1) - first;
    int64_t pixels = lines * loop->out_width;
    int64_t outputs = shape->out_channels;

    /* The input lines under these output lines: line l of tap kt at rows[kt] + l·line. */
    void *scratch = device_scratch(loop->device, worker);
    float *sums = scratch_floats(&scratch, pixels * GEMM_PANEL_MAX);
    int64_t line = (args->pad_left + loop->in_width + args->pad_right) * loop->channels;
    int64_t in_first = first * shape->stride_h;
    int64_t in_lines = (lines - 1) * shape->stride_h + shape->kernel_h;
    const void *rows[BATCH_MAX];
    for (int kt = 0; kt < shape->kernel_t; kt++) {
        int64_t in_frame = frame * shape->stride_t + kt;
        if (loop->direct) {
            rows[kt] =
                element(args->in, gemm->operand, (in_frame * loop->in_height + in_first) * line);
        } else {
            void *copy =
                (char *)scratch + kt * in_lines * line * (int64_t)dtype_bytes(gemm->operand);
            copy_lines(loop, copy, in_frame, in_first, in_lines);
            rows[kt] = copy;
        }
    }

    int64_t block = shape->kernel_w * loop->channels, batch = shape->kernel_t * shape->kernel_h;
    int64_t stride = shape->stride_w * loop->channels;
    int64_t last_panel = part_begin(loop->panels, loop->panel_parts, panel_part + 1);
    for (int64_t p = part_begin(loop->panels, loop->panel_parts, panel_part); p < last_panel; p++) {
        int64_t column = p * gemm->panel;
        int columns = gemm_columns(gemm, column, outputs);
        int64_t tile_most = gemm_rows(gemm, columns);
        int64_t tiles = (loop->out_width + tile_most - 1) / tile_most;
        const void *panel = element(call->conv->weight, gemm->operand, column * batch * block);
        int64_t block_bytes = block * columns * (int64_t)dtype_bytes(gemm->operand);
        int64_t step = PANEL_BYTES / block_bytes;
        step = step < 1 ? 1 : step;
        for (int64_t b = 0; b < batch; b += step) {
            int64_t blocks = at_most(step, batch - b);
            for (int64_t tile = 0; tile < lines * tiles; tile++) {
                int64_t y = tile / tiles, x = part_begin(loop->out_width, tiles, tile % tiles);
                int count = (int)(part_begin(loop->out_width, tiles, tile % tiles + 1) - x);
                const void *a[BATCH_MAX];
                for (int64_t i = 0; i < blocks; i++) {
                    int64_t kt = (b + i) / shape->kernel_h, kh = (b + i) % shape->kernel_h;
                    a[i] = element(rows[kt], gemm->operand,
                                   (y * shape->stride_h + kh) * line + x * stride);
                }
                int64_t pixel = y * loop->out_width + x;
                /* One part: the sums need not outlive the tile, and stay in the nearest cache. */
                float *c = step >= batch ? sums : sums + pixel * columns;
                gemm->tile(c, columns, a, stride, panel, count, columns, (int)blocks, block, b > 0);
                if (b + blocks == batch) {
                    int64_t row = (frame * loop->out_height + first) * loop->out_width + pixel;
                    gemm->finish(&loop->finish, c, columns, row, column, count,
                                 at_most(columns, outputs - column));
                }
            }
            panel = (const char *)panel + blocks * block_bytes;
        }
    }
}

void conv_gemm(struct device *device, const struct conv_call *call) {
    const struct conv_args *args = &call->args;
    const struct conv *conv = call->conv;
    const struct conv_shape *shape = &conv->shape;
    const struct gemm *gemm = call->gemm;
    if (device->failed || call->out_frames == 0) {
        return;
    }
    struct conv_loop loop = {
        .device = device,
        .call = call,
        .finish = {.out = args->out,
                   .out_dtype = conv->dtype,
                   .stride = shape->out_channels,
                   .bias = conv->bias,
                   .residual = args->residual},
        .in_height = args->height,
        .in_width = args->width,
        .out_height = call->out_height,
        .out_width = call->out_width,
        .channels = gemm_depth(gemm, shape->in_channels),
        .panels = (shape->out_channels + gemm->panel - 1) / gemm->panel,
    };
    int64_t padding = args->pad_top + args->pad_bottom + args->pad_left + args->pad_right;
    loop.direct =
        padding == 0 && gemm->operand == conv->dtype && loop.channels == shape->in_channels;
    int64_t area = call->out_height * call->out_width;
    int64_t line_most = 1; /* output lines of a piece */
    if (shape->kernel_h == 1 && shape->kernel_w == 1 && shape->stride_h == 1 &&
        shape->stride_w == 1 && padding == 0) {
        /* Frames of one pixel a line would be as right; lines of 64 pixels make whole tiles. */
        int64_t width = 1;
        while (width < 192 && area % (width * 2) == 0) {
            width *= 2;
        }
        loop.in_width = loop.out_width = width;
        loop.in_height = loop.out_height = area / width;
    }
    /* Fewer lines where sums wait in scratch memory, and so few that the copy fits it. */
    int64_t batch = shape->kernel_t * shape->kernel_h, block = shape->kernel_w * loop.channels;
    assert(batch <= BATCH_MAX);
    int64_t panel_bytes = batch * block *
                          at_most(gemm->panel, round_up(shape->out_channels, gemm->step)) *
                          (int64_t)dtype_bytes(gemm->operand);
    int64_t pixels = panel_bytes <= PANEL_BYTES ? 2048 : 512;
    line_most = pixels / loop.out_width > 1 ? pixels / loop.out_width : 1;
    loop.line_parts = (loop.out_height + line_most - 1) / line_most;
    int64_t widest = CONV_COLUMNS / gemm->panel;
    loop.panel_parts = (loop.panels + widest - 1) / widest;
    int64_t line_bytes = (args->pad_left + loop.in_width + args->pad_right) * loop.channels *
                         (int64_t)dtype_bytes(gemm->operand);
    int64_t lines = round_up(loop.out_height, loop.line_parts) / loop.line_parts;
    int64_t copy_bytes =
        shape->kernel_t * ((lines - 1) * shape->stride_h + shape->kernel_h) * line_bytes;
    if ((size_t)(lines * loop.out_width * GEMM_PANEL_MAX * 4 + copy_bytes + 4096) > SCRATCH_BYTES) {
        device_fail(device, ERR_LIMIT, "a convolution's lines are too long for scratch memory");
        return;
    }
    pool_run(device->pool, call->out_frames * loop.line_parts * loop.panel_parts, conv_piece,
             &loop);
}
