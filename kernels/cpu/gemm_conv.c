/* Convolutions over struct gemm: rows are the pixels of some output lines, and a panel's depth is a
 * batch of blocks, one (kt,kh) pair of kw·Cin contiguous elements each, since channels come last.
 * Where a panel's depth is more than the second-level cache should hold, sums wait in scratch
 * memory between parts. */
#include <assert.h>

#include "kernels/cpu/linear.h"

#define BATCH_MAX  64
#define FRAMES_MAX 96 /* of the input, under one piece */

/* Of a second-level cache of 1 MiB: a quarter for panels; sums and rows take as much each. */
#define PANEL_BYTES (256 << 10)

#define CONV_COLUMNS 256

/* Multiply-adds of a piece, about: 0.1 ms of one core. */
#define CONV_WORK (24 << 20)

/* Pixels for which a panel is fetched from memory, at the least. */
#define CONV_PIXELS_MIN 128

struct conv_loop {
    struct device *device;
    const struct conv_call *call;
    struct gemm_finish finish;
    bool direct;                   /* rows are read where they are */
    int64_t in_height, in_width;   /* of the input, as the loop sees it */
    int64_t out_height, out_width; /* a 1x1 kernel sees a frame as a few long lines */
    int64_t channels;              /* of the rows: padded to whole units */
    int64_t line;                  /* elements of an input line, zeros included */
    int64_t frame_parts, line_parts, panel_parts, panels;
};

/* The output lines of one piece, and the input lines under them. */
struct conv_lines {
    int64_t frame, frames;      /* of the output */
    int64_t first, lines;       /* of each frame */
    const char *in[FRAMES_MAX]; /* first input line of each input frame; NULL: zeros */
    float *sums;                /* a tile, or all sums of a panel */
};

/* Input lines first_line.. of a frame, with their zeros around them, in the operand type. */
static void copy_lines(const struct conv_loop *loop, void *out, const void *frame,
                       int64_t first_line, int64_t lines) {
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
            to += width * channels * bytes; /* never read */
            continue;
        }
        const void *from = element(frame, conv->dtype, y * loop->in_width * inputs);
        memset(to, 0, (size_t)(args->pad_left * channels * bytes));
        to += args->pad_left * channels * bytes;
        if (channels == inputs) {
            gemm_widen(loop->device, to, operand, from, conv->dtype, loop->in_width * inputs);
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

/* One panel of output channels for all lines of a piece. */
static void conv_panel(const struct conv_loop *loop, const struct conv_lines *lines,
                       int64_t column) {
    const struct conv_shape *shape = &loop->call->conv->shape;
    const struct gemm *gemm = loop->call->gemm;
    int64_t bytes = (int64_t)dtype_bytes(gemm->operand), outputs = shape->out_channels;
    int64_t block = shape->kernel_w * loop->channels, batch = shape->kernel_t * shape->kernel_h;
    int64_t stride = shape->stride_w * loop->channels;
    int columns = gemm_columns(gemm, column, outputs);
    int64_t tile_most = gemm_rows(gemm, columns);
    int64_t tiles = (loop->out_width + tile_most - 1) / tile_most;
    const char *panel = element(loop->call->conv->weight, gemm->operand, column * batch * block);
    int64_t block_bytes = block * columns * bytes;
    int64_t step = PANEL_BYTES / block_bytes > 1 ? PANEL_BYTES / block_bytes : 1;
    for (int64_t b = 0; b < batch; b += step, panel += step * block_bytes) {
        int64_t blocks = at_most(step, batch - b);
        for (int64_t l = 0; l < lines->frames * lines->lines; l++) {
            int64_t t = l / lines->lines, y = l % lines->lines;
            int64_t line = y * shape->stride_h; /* of the piece's input lines */
            int64_t above = lines->first * shape->stride_h - loop->call->args.pad_top;
            /* Lines of zeros beyond the image, or before the first frame, add nothing; all blocks
             * may be such lines. */
            const char *base[BATCH_MAX];
            const void *column_block[BATCH_MAX];
            int used = 0;
            for (int64_t i = 0; i < blocks; i++) {
                int64_t kt = (b + i) / shape->kernel_h, kh = (b + i) % shape->kernel_h;
                const char *in = lines->in[t * shape->stride_t + kt];
                if (in != NULL && above + line + kh >= 0 && above + line + kh < loop->in_height) {
                    base[used] = in + (line + kh) * loop->line * bytes;
                    column_block[used++] = panel + i * block_bytes;
                }
            }
            int64_t row =
                ((lines->frame + t) * loop->out_height + lines->first + y) * loop->out_width;
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t x = part_begin(loop->out_width, tiles, tile);
                int count = (int)(part_begin(loop->out_width, tiles, tile + 1) - x);
                const void *a[BATCH_MAX];
                for (int i = 0; i < used; i++) {
                    a[i] = base[i] + x * stride * bytes;
                }
                /* One part: the sums need not outlive the tile, and stay in the nearest cache. */
                float *c = lines->sums + (step < batch ? (l * loop->out_width + x) * columns : 0);
                gemm->tile(c, columns, a, stride, column_block, count, columns, used, block, b > 0);
                if (b + blocks == batch) {
                    gemm->finish(&loop->finish, c, columns, row + x, column, count,
                                 at_most(columns, outputs - column));
                }
            }
        }
    }
}

static void conv_piece(const void *context, int64_t piece, int worker) {
    const struct conv_loop *loop = context;
    const struct conv_call *call = loop->call;
    const struct conv_shape *shape = &call->conv->shape;
    enum dtype operand = call->gemm->operand;
    int64_t panel_part = piece % loop->panel_parts, part = piece / loop->panel_parts;
    int64_t line_part = part % loop->line_parts, frame_part = part / loop->line_parts;
    struct conv_lines lines = {
        .frame = part_begin(call->out_frames, loop->frame_parts, frame_part),
        .first = part_begin(loop->out_height, loop->line_parts, line_part),
    };
    lines.frames = part_begin(call->out_frames, loop->frame_parts, frame_part + 1) - lines.frame;
    lines.lines = part_begin(loop->out_height, loop->line_parts, line_part + 1) - lines.first;

    void *scratch = device_scratch(loop->device, worker);
    lines.sums =
        scratch_floats(&scratch, lines.frames * lines.lines * loop->out_width * GEMM_PANEL_MAX);
    int64_t in_frame = lines.frame * shape->stride_t, in_first = lines.first * shape->stride_h;
    int64_t in_frames = (lines.frames - 1) * shape->stride_t + shape->kernel_t;
    int64_t in_lines = (lines.lines - 1) * shape->stride_h + shape->kernel_h;
    for (int64_t t = 0; t < in_frames; t++) {
        const void *frame = conv_frame(call, in_frame + t);
        lines.in[t] = frame;
        if (frame != NULL && loop->direct) {
            lines.in[t] = element(frame, operand, in_first * loop->line);
        } else if (frame != NULL) {
            lines.in[t] = scratch;
            copy_lines(loop, scratch, frame, in_first, in_lines);
            scratch = (char *)scratch + in_lines * loop->line * (int64_t)dtype_bytes(operand);
        }
    }

    int64_t last_panel = part_begin(loop->panels, loop->panel_parts, panel_part + 1);
    for (int64_t p = part_begin(loop->panels, loop->panel_parts, panel_part); p < last_panel; p++) {
        conv_panel(loop, &lines, p * call->gemm->panel);
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
    if (shape->kernel_h == 1 && shape->kernel_w == 1 && shape->stride_h == 1 &&
        shape->stride_w == 1 && padding == 0) {
        int64_t width = at_most(area, 256); /* the longest line that divides a frame */
        while (area % width != 0) {
            width--;
        }
        loop.in_width = loop.out_width = width;
        loop.in_height = loop.out_height = area / width;
    }
    loop.line = (args->pad_left + loop.in_width + args->pad_right) * loop.channels;
    int64_t batch = shape->kernel_t * shape->kernel_h, block = shape->kernel_w * loop.channels;
    int64_t bytes = (int64_t)dtype_bytes(gemm->operand);
    assert(batch <= BATCH_MAX && 3 * shape->stride_t + shape->kernel_t <= FRAMES_MAX);

    /* Deep kernels: a panel a piece; their lines are copied for each, which costs 2 %. */
    int64_t panel = at_most(gemm->panel, gemm_round_up(shape->out_channels, gemm->step));
    int64_t widest = CONV_WORK / (batch * block * panel * CONV_PIXELS_MIN);
    widest = at_most(widest > 1 ? widest : 1, CONV_COLUMNS / gemm->panel);
    loop.panel_parts = (loop.panels + widest - 1) / widest;
    /* Pixels of a piece; fewer where sums of a whole panel wait in scratch memory. */
    bool whole = batch * block * panel * bytes <= PANEL_BYTES;
    int64_t pixels = CONV_WORK / (batch * block * panel * at_most(widest, loop.panels));
    pixels = pixels > CONV_PIXELS_MIN ? pixels : CONV_PIXELS_MIN;
    pixels = at_most(pixels, whole ? 4096 : 512);
    /* A few frames together share the frames that they look back on. */
    int64_t frames = whole && shape->kernel_t > 1 && !loop.direct ? 4 : 1;
    frames = at_most(frames, pixels > loop.out_width ? pixels / loop.out_width : 1);
    loop.frame_parts = (call->out_frames + frames - 1) / frames;
    int64_t lines = pixels / (loop.out_width * frames);
    lines = lines > 1 ? lines : 1;
    loop.line_parts = (loop.out_height + lines - 1) / lines;

    int64_t copy_bytes = ((frames - 1) * shape->stride_t + shape->kernel_t) *
                         ((lines - 1) * shape->stride_h + shape->kernel_h) * loop.line * bytes;
    int64_t sum_bytes = frames * lines * loop.out_width * GEMM_PANEL_MAX * (int64_t)sizeof(float);
    if (!loop.direct && (size_t)(copy_bytes + sum_bytes + 4096) > SCRATCH_BYTES) {
        device_fail(device, ERR_LIMIT, "a convolution's lines are too long for scratch memory");
        return;
    }
    pool_run(device->pool, loop.frame_parts * loop.line_parts * loop.panel_parts, conv_piece,
             &loop);
}
