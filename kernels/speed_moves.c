/* What only moves bytes, beside a large copy. */
#include "kernels/speed_internal.h"

struct move {
    void *out;
    const void *x, *y;
    const float *a, *b;
    int64_t rows, width;
    const struct speed_sizes *sizes;
    int heads;
};

static void run_copy(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->copy(s->device, m->out, m->x, (size_t)m->rows);
}

static void measure_copy(struct speed *s) {
    size_t bytes = s->sizes->copy_bytes;
    struct move m = {.x = speed_operand(s, (int64_t)(bytes / 4), DTYPE_F32, 1),
                     .out = speed_room(s, bytes),
                     .rows = (int64_t)bytes};
    double seconds = speed_seconds(s, run_copy, &m);
    speed_put(s, "copy", 2.0 * (double)bytes / seconds * 1e-9, "GB/s", NULL, "a copy of %zu MiB",
              bytes >> 20);
    speed_reset(s);
}

static void run_layer_norm(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->layer_norm(s->device, m->out, m->x, m->a, m->b, NULL, m->rows, m->width, 1e-6f,
                       DTYPE_BF16);
}

static void run_qk_norm_rope(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->qk_norm_rope(s->device, m->out, 3 * m->width, m->a + m->rows * 64, m->a, m->b, m->rows,
                         m->heads, 128, 1e-6f, DTYPE_BF16);
}

static void run_convert(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->convert(s->device, m->out, DTYPE_BF16, m->x, DTYPE_F32, m->rows * m->width);
}

static void run_add(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->add(s->device, m->out, m->x, m->y, m->rows * m->width, DTYPE_BF16);
}

static void run_combine(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->combine(s->device, m->out, (const float *const[]){m->x, m->y},
                    (const float[]){0.5f, -0.25f}, 2, m->rows * m->width);
}

static void run_channel_norm(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->channel_norm(s->device, m->out, m->x, m->a, m->rows, m->width, ACTIVATION_SILU,
                         DTYPE_BF16);
}

static void run_upsample(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->upsample(s->device, m->out, m->x, m->sizes->frames, m->sizes->height / 2,
                     m->sizes->width / 2, m->width, DTYPE_BF16);
}

static void run_to_pixels(struct speed *s, const void *args) {
    const struct move *m = args;
    s->ops->to_pixels(s->device, m->out, m->x, m->rows * m->width, DTYPE_BF16);
}

/* The room of all of them in turn; the widest takes 12 bytes an element and four outputs. */
static void measure_moves(struct speed *s) {
    const struct speed_sizes *z = s->sizes;
    const int64_t tokens = z->tokens, d = z->shapes[0].width;
    const int64_t pixels = z->frames * z->height * z->width, half = pixels / 4;
    const struct {
        const char *key, *what;
        speed_call *run;
        int64_t rows, width, out; /* elements: rows x width in, `out` out */
        enum dtype in_dtype, out_dtype;
        double bytes;
    } moves[] = {
        {"layer_norm", "layer norm and modulation, f32 to bf16", run_layer_norm, tokens, d,
         tokens * d, DTYPE_F32, DTYPE_BF16, 6.0 * (double)(tokens * d)},
        {"qk_norm_rope", "RMS norm and rotation of q, bf16", run_qk_norm_rope, tokens, d,
         3 * tokens * d, DTYPE_BF16, DTYPE_BF16,
         4.0 * (double)(tokens * d) + 512.0 * (double)tokens},
        {"convert", "f32 to bf16", run_convert, tokens, d, tokens * d, DTYPE_F32, DTYPE_BF16,
         6.0 * (double)(tokens * d)},
        {"add", "sum, bf16", run_add, tokens, d, tokens * d, DTYPE_BF16, DTYPE_BF16,
         6.0 * (double)(tokens * d)},
        {"combine", "sum of two, f32", run_combine, tokens, d, tokens * d, DTYPE_F32, DTYPE_F32,
         12.0 * (double)(tokens * d)},
        {"channel_norm", "RMS norm over 96 channels and SiLU, bf16", run_channel_norm, pixels, 96,
         pixels * 96, DTYPE_BF16, DTYPE_BF16, 4.0 * (double)(pixels * 96)},
        {"upsample", "upsample of 192 channels, bf16", run_upsample, half, 192, 4 * half * 192,
         DTYPE_BF16, DTYPE_BF16, 10.0 * (double)(half * 192)},
        {"to_pixels", "bf16 to pixels", run_to_pixels, pixels, 60, pixels * 60, DTYPE_BF16,
         DTYPE_U8, 3.0 * (double)(pixels * 60)},
    };
    double bytes = 0, seconds = 0;
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
        int64_t count = moves[i].rows * moves[i].width;
        struct move m = {.x = speed_operand(s, count, moves[i].in_dtype, 1),
                         .y = speed_operand(s, count, moves[i].in_dtype, 2),
                         .a = speed_operand(s, tokens * 64 + d, DTYPE_F32, 3),
                         .b = speed_operand(s, tokens * 64 + d, DTYPE_F32, 4),
                         .rows = moves[i].rows,
                         .width = moves[i].width,
                         .sizes = z,
                         .heads = (int)z->shapes[0].heads};
        /* In place, some of them: their room is random too. */
        m.out = moves[i].out_dtype == DTYPE_U8
                    ? speed_room(s, (size_t)moves[i].out)
                    : speed_operand(s, moves[i].out, moves[i].out_dtype, 5);
        double took = speed_seconds(s, moves[i].run, &m);
        speed_put(s, moves[i].key, moves[i].bytes / took * 1e-9, "GB/s", NULL, "%s, %lld x %lld",
                  moves[i].what, (long long)moves[i].rows, (long long)moves[i].width);
        bytes += moves[i].bytes;
        seconds += took;
        speed_reset(s);
    }
    speed_put(s, "elementwise", bytes / seconds * 1e-9, "GB/s", NULL,
              "elementwise kernels, all of these");
}

void speed_moves(struct speed *s) {
    measure_copy(s);
    measure_moves(s);
}
