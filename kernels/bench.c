#include "kernels/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "kernels/cpu/onednn.h"
#include "kernels/quantise.h"

#define SAMPLES 11

#define ARENA_BYTES ((size_t)1 << 30) /* the largest shape takes a quarter */

/* One thing to measure: ours through the table, or one of oneDNN's. */
struct subject {
    enum error_code (*run)(struct subject *subject, struct error *error);
    struct onednn *onednn; /* NULL: not there */
    struct bench *bench;
    struct linear *linear;
    struct conv *conv;
    struct linear_epilogue epilogue;
    struct conv_args conv_args;
    struct attention_args attention_args;
    void *out;
    const void *in;
    int64_t rows;
    double flops;
    int calls;              /* of one sample */
    double sample[SAMPLES]; /* seconds of a call, turn by turn */
};

struct bench {
    const struct bench_config *config;
    const struct ops *ops;
    struct device *device;
    struct bench_row *rows;
    int count;
    struct arena arena; /* operands of the shape in hand */
};

static void *block_of(struct bench *bench, int64_t elements, enum dtype dtype) {
    void *out = arena_alloc(&bench->arena, (size_t)elements * dtype_bytes(dtype));
    if (out == NULL) {
        return NULL;
    }
    uint32_t state = 1;
    uint16_t *half = out; /* 0.008 to 0.03, of either sign, in bf16 and in f32 */
    for (size_t i = 0; i < (size_t)elements * dtype_bytes(dtype) / 2; i++) {
        state = state * 1664525 + 1013904223;
        half[i] = (uint16_t)(0x3c00 + (state >> 24) + (state >> 8 & 0x8000));
    }
    return out;
}

static enum error_code run_onednn(struct subject *subject, struct error *error) {
    return onednn_run(subject->onednn, error);
}

static enum error_code run_linear(struct subject *s, struct error *error) {
    s->bench->ops->linear(s->bench->device, s->out, s->in, s->linear, s->rows, &s->epilogue);
    return s->bench->ops->status(s->bench->device, error);
}

static enum error_code run_conv(struct subject *s, struct error *error) {
    s->bench->ops->conv(s->bench->device, s->conv, &s->conv_args);
    return s->bench->ops->status(s->bench->device, error);
}

static enum error_code run_attention(struct subject *s, struct error *error) {
    s->bench->ops->attention(s->bench->device, &s->attention_args);
    return s->bench->ops->status(s->bench->device, error);
}

/* oneDNN's OpenMP threads spin for a while after their work: let them fall asleep. */
static void settle(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20 * CLOCK_MS}, NULL);
}

static enum error_code sample(struct subject *subject, int index, struct error *error) {
    settle();
    int64_t before = clock_monotonic_ns();
    for (int i = 0; i < subject->calls; i++) {
        enum error_code code = subject->run(subject, error);
        if (code != ERR_OK) {
            return code;
        }
    }
    subject->sample[index] =
        (double)(clock_monotonic_ns() - before) / (double)CLOCK_S / subject->calls;
    return ERR_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double samples[SAMPLES]) {
    double sorted[SAMPLES];
    memcpy(sorted, samples, sizeof sorted);
    qsort(sorted, SAMPLES, sizeof *sorted, by_value);
    return sorted[SAMPLES / 2];
}

static double rate(const struct subject *subject) {
    return subject->flops / median(subject->sample) * 1e-9;
}

/* Samples of all subjects in turn, so that a disturbance falls on all alike. */
static enum error_code measure(struct bench *bench, struct subject *const *subjects, int count,
                               struct error *error) {
    double budget = bench->config->seconds > 0 ? bench->config->seconds : 0.5;
    for (int i = 0; i < count; i++) {
        subjects[i]->calls = 1;
        enum error_code code = sample(subjects[i], 0, error); /* warms up */
        if (code == ERR_OK) {
            code = sample(subjects[i], 0, error);
        }
        if (code != ERR_OK) {
            return code;
        }
        double calls = budget / SAMPLES / subjects[i]->sample[0];
        subjects[i]->calls = calls < 1 ? 1 : calls > 10000 ? 10000 : (int)calls;
    }
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < count; i++) {
            enum error_code code = sample(subjects[i], s, error);
            if (code != ERR_OK) {
                return code;
            }
        }
    }
    return ERR_OK;
}

static struct bench_row *add_row(struct bench *bench, const char *name, const char *shape,
                                 enum dtype dtype, const struct subject *subject) {
    if (bench->count == BENCH_ROWS_MAX)
        abort(); /* the tables below have outgrown it */
    struct bench_row *row = &bench->rows[bench->count++];
    *row = (struct bench_row){.name = name, .dtype = dtype_name(dtype)};
    snprintf(row->shape, sizeof row->shape, "%s", shape);
    row->seconds = median(subject->sample);
    row->gflops = rate(subject);
    return row;
}

/* The share is the median over the turns: what disturbs a turn disturbs both sides of it. */
static void set_reference(struct bench_row *row, const struct subject *ours,
                          const struct subject *theirs) {
    double share[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        share[i] = ours->flops / ours->sample[i] / (theirs->flops / theirs->sample[i]);
    }
    row->reference = rate(theirs);
    row->share = median(share);
}

static enum error_code bench_linear(struct bench *bench, int64_t m, int64_t n, int64_t k,
                                    enum dtype dtype, struct error *error) {
    char shape[64];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    struct subject theirs = {.run = run_onednn, .bench = bench, .flops = flops};
    struct subject ours = {.run = run_linear, .bench = bench, .flops = flops, .rows = m};
    struct subject *subjects[2];
    int count = 0;
    enum error_code code = onednn_matmul(&theirs.onednn, m, n, k, dtype, NULL);
    if (code == ERR_OK) {
        subjects[count++] = &theirs;
    }
    code = ERR_OK;
    if (dtype != DTYPE_U8) { /* bench_int8 measures ours */
        void *weight = block_of(bench, n * k, dtype);
        ours.in = block_of(bench, m * k, dtype);
        ours.out = block_of(bench, m * n, dtype);
        ours.epilogue.out_dtype = dtype;
        struct tensor tensor = {.data = weight, .dtype = dtype, .rank = 2, .dim = {n, k}};
        code = weight == NULL || ours.in == NULL || ours.out == NULL
                   ? error_set(error, ERR_MEMORY, "no memory to measure %s", shape)
                   : bench->ops->linear_create(bench->device, &ours.linear,
                                               &(const struct tensor *){&tensor}, NULL, 1, dtype,
                                               error);
        subjects[count++] = &ours;
    }
    if (code == ERR_OK) {
        code = measure(bench, subjects, count, error);
    }
    if (code == ERR_OK && theirs.onednn != NULL) {
        add_row(bench, "onednn matmul", shape, dtype, &theirs);
    }
    if (code == ERR_OK && dtype != DTYPE_U8) {
        struct bench_row *row = add_row(bench, "linear", shape, dtype, &ours);
        if (theirs.onednn != NULL) {
            set_reference(row, &ours, &theirs);
        }
    }
    onednn_close(&theirs.onednn);
    bench->ops->linear_close(bench->device, &ours.linear);
    arena_reset(&bench->arena, 0);
    return code;
}

/* Weights int8 in blocks, activations bf16 on both ends, beside oneDNN's bf16. */
static enum error_code bench_int8(struct bench *bench, int64_t m, int64_t n, int64_t k,
                                  struct error *error) {
    char shape[64];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    struct subject theirs = {.run = run_onednn, .bench = bench, .flops = flops};
    struct subject ours = {.run = run_linear, .bench = bench, .flops = flops, .rows = m};
    ours.epilogue.out_dtype = DTYPE_BF16;
    struct tensor wide = {.dtype = DTYPE_BF16, .rank = 2, .dim = {n, k}}, tensor = wide;
    wide.data = block_of(bench, n * k, DTYPE_BF16);
    void *data = arena_alloc(&bench->arena, (size_t)(n * k));
    float *scale =
        arena_array(&bench->arena, (size_t)quantise_scales(n, k, DTYPE_I8), sizeof *scale);
    ours.in = block_of(bench, m * k, DTYPE_BF16);
    ours.out = block_of(bench, m * n, DTYPE_BF16);
    enum error_code code = ERR_OK;
    if (wide.data == NULL || data == NULL || scale == NULL || ours.in == NULL || ours.out == NULL) {
        code = error_set(error, ERR_MEMORY, "no memory to measure %s", shape);
    } else {
        quantise(&tensor, data, scale, &wide, DTYPE_I8);
        code = bench->ops->linear_create(bench->device, &ours.linear,
                                         &(const struct tensor *){&tensor}, NULL, 1, DTYPE_BF16,
                                         error);
    }
    bool there = onednn_matmul(&theirs.onednn, m, n, k, DTYPE_BF16, NULL) == ERR_OK;
    struct subject *subjects[2] = {&ours, &theirs};
    if (code == ERR_OK) {
        code = measure(bench, subjects, there ? 2 : 1, error);
    }
    if (code == ERR_OK) {
        struct bench_row *row = add_row(bench, "linear, int8 weights", shape, DTYPE_I8, &ours);
        if (there) {
            set_reference(row, &ours, &theirs);
        }
    }
    onednn_close(&theirs.onednn);
    bench->ops->linear_close(bench->device, &ours.linear);
    arena_reset(&bench->arena, 0);
    return code;
}

static enum error_code bench_conv(struct bench *bench, int in, int out, int64_t t, int64_t h,
                                  int64_t w, enum dtype dtype, struct error *error) {
    char name[64];
    snprintf(name, sizeof name, "%d-%d 3x3x3 %lldx%lldx%lld", in, out, (long long)t, (long long)h,
             (long long)w);
    struct conv_shape shape = {3, 3, 3, 1, 1, 1, in, out};
    double flops = 2.0 * 27 * in * out * (double)(t * h * w);
    struct subject any = {.run = run_onednn, .bench = bench, .flops = flops}, last = any;
    struct subject ours = {.run = run_conv, .bench = bench, .flops = flops};
    struct subject *subjects[3];
    int count = 0;
    if (onednn_conv(&any.onednn, &shape, t + 2, h, w, dtype, false, NULL) == ERR_OK) {
        subjects[count++] = &any;
    }
    if (onednn_conv(&last.onednn, &shape, t + 2, h, w, dtype, true, NULL) == ERR_OK) {
        subjects[count++] = &last;
    }
    subjects[count++] = &ours;
    void *weight = block_of(bench, (int64_t)27 * in * out, dtype);
    ours.conv_args = (struct conv_args){.in = block_of(bench, (t + 2) * h * w * in, dtype),
                                        .out = block_of(bench, t * h * w * out, dtype),
                                        .frames = t + 2,
                                        .height = h,
                                        .width = w,
                                        .pad_top = 1,
                                        .pad_bottom = 1,
                                        .pad_left = 1,
                                        .pad_right = 1};
    struct tensor tensor = {.data = weight, .dtype = dtype, .rank = 5, .dim = {out, in, 3, 3, 3}};
    enum error_code code = weight == NULL || ours.conv_args.in == NULL || ours.conv_args.out == NULL
                               ? error_set(error, ERR_MEMORY, "no memory to measure %s", name)
                               : bench->ops->conv_create(bench->device, &ours.conv, &shape, &tensor,
                                                         NULL, dtype, error);
    if (code == ERR_OK) {
        code = measure(bench, subjects, count, error);
    }
    if (code == ERR_OK && any.onednn != NULL) {
        add_row(bench, "onednn conv, any layout", name, dtype, &any);
    }
    if (code == ERR_OK && last.onednn != NULL) {
        add_row(bench, "onednn conv, channels last", name, dtype, &last);
    }
    if (code == ERR_OK) {
        struct bench_row *row = add_row(bench, "conv", name, dtype, &ours);
        bool last_is_best = last.onednn != NULL && (any.onednn == NULL || rate(&last) > rate(&any));
        if (last_is_best || any.onednn != NULL) {
            set_reference(row, &ours, last_is_best ? &last : &any);
        }
    }
    onednn_close(&any.onednn);
    onednn_close(&last.onednn);
    bench->ops->conv_close(bench->device, &ours.conv);
    arena_reset(&bench->arena, 0);
    return code;
}

static enum error_code bench_attention(struct bench *bench, int64_t q, int64_t k, int heads,
                                       int head_dim, enum dtype dtype, struct error *error) {
    char shape[64];
    snprintf(shape, sizeof shape, "%lldx%lld, %d heads of %d", (long long)q, (long long)k, heads,
             head_dim);
    int64_t width = (int64_t)heads * head_dim;
    double flops = 4.0 * (double)q * (double)k * (double)width;
    struct subject ours = {.run = run_attention, .bench = bench, .flops = flops};
    ours.attention_args = (struct attention_args){.q = block_of(bench, q * width, dtype),
                                                  .k = block_of(bench, k * width, dtype),
                                                  .v = block_of(bench, k * width, dtype),
                                                  .out = block_of(bench, q * width, dtype),
                                                  .q_stride = width,
                                                  .k_stride = width,
                                                  .v_stride = width,
                                                  .out_stride = width,
                                                  .q_length = q,
                                                  .k_length = k,
                                                  .heads = heads,
                                                  .head_dim = head_dim,
                                                  .scale = 0.1f,
                                                  .dtype = dtype};
    /* The product that it is compared with, in the same turns. */
    int64_t m = bench->config->quick ? 300 : 4096, n = bench->config->quick ? 1024 : 8960;
    int64_t depth = bench->config->quick ? 256 : 1536;
    struct subject theirs = {
        .run = run_onednn, .bench = bench, .flops = 2.0 * (double)m * (double)n * (double)depth};
    struct subject *subjects[2] = {&ours, &theirs};
    enum error_code code = ERR_OK;
    if (ours.attention_args.q == NULL || ours.attention_args.k == NULL ||
        ours.attention_args.v == NULL || ours.attention_args.out == NULL) {
        code = error_set(error, ERR_MEMORY, "no memory to measure %s", shape);
    }
    bool there = onednn_matmul(&theirs.onednn, m, n, depth, dtype, NULL) == ERR_OK;
    if (code == ERR_OK) {
        code = measure(bench, subjects, there ? 2 : 1, error);
    }
    if (code == ERR_OK) {
        struct bench_row *row = add_row(bench, "attention", shape, dtype, &ours);
        if (there) {
            set_reference(row, &ours, &theirs);
        }
    }
    onednn_close(&theirs.onednn);
    arena_reset(&bench->arena, 0);
    return code;
}

enum error_code bench_run(struct bench_row rows[BENCH_ROWS_MAX], int *count,
                          const struct bench_config *config, struct error *error) {
    static const struct {
        int64_t rows, outputs, inputs;
        enum dtype dtype;
    } products[] = {
        {300, 768, 256, DTYPE_BF16},    {300, 1024, 256, DTYPE_BF16},
        {300, 256, 1024, DTYPE_BF16},   {300, 1024, 256, DTYPE_F32},
        {4096, 8960, 1536, DTYPE_F32},  {4096, 8960, 1536, DTYPE_BF16},
        {4096, 8960, 1536, DTYPE_U8},   {4096, 1536, 8960, DTYPE_BF16},
        {4096, 1536, 1536, DTYPE_BF16},
    };
    static const int64_t narrow[][3] = {
        {2048, 1536, 1536}, {2048, 4608, 1536}, {2048, 8960, 1536}, {2048, 1536, 8960}};
    static const struct {
        int in, out;
        int64_t t, h, w;
        enum dtype dtype;
    } convs[] = {
        {16, 16, 4, 96, 160, DTYPE_BF16},  {16, 3, 4, 96, 160, DTYPE_BF16},
        {32, 32, 4, 48, 80, DTYPE_BF16},   {64, 64, 2, 24, 40, DTYPE_BF16},
        {128, 128, 1, 12, 20, DTYPE_BF16}, {16, 16, 4, 96, 160, DTYPE_F32},
        {96, 96, 4, 128, 128, DTYPE_BF16}, {384, 384, 2, 64, 64, DTYPE_BF16},
    };
    static const struct {
        int64_t q, k;
        int heads, head_dim;
        enum dtype dtype;
    } attentions[] = {
        {300, 300, 4, 64, DTYPE_BF16},     {240, 240, 1, 128, DTYPE_BF16},
        {4096, 4096, 12, 128, DTYPE_BF16}, {4096, 512, 12, 128, DTYPE_BF16},
        {4096, 4096, 12, 128, DTYPE_F32},
    };
    struct bench bench = {.config = config, .ops = ops_cpu(), .rows = rows};
    struct device_config device = {.threads = config->threads};
    enum error_code code = bench.ops->device_open(&bench.device, &device, error);
    if (code == ERR_OK) {
        code = arena_open(&bench.arena, ARENA_BYTES, error);
    }
    for (size_t i = 0; code == ERR_OK && i < sizeof products / sizeof *products; i++) {
        if (!config->quick || products[i].rows < 1000) {
            code = bench_linear(&bench, products[i].rows, products[i].outputs, products[i].inputs,
                                products[i].dtype, error);
        }
    }
    for (size_t i = 0; !config->quick && code == ERR_OK && i < sizeof narrow / sizeof *narrow;
         i++) {
        code = bench_int8(&bench, narrow[i][0], narrow[i][1], narrow[i][2], error);
    }
    for (size_t i = 0; code == ERR_OK && i < sizeof convs / sizeof *convs; i++) {
        if (!config->quick || convs[i].h * convs[i].in < 3000) {
            code = bench_conv(&bench, convs[i].in, convs[i].out, convs[i].t, convs[i].h, convs[i].w,
                              convs[i].dtype, error);
        }
    }
    for (size_t i = 0; code == ERR_OK && i < sizeof attentions / sizeof *attentions; i++) {
        if (!config->quick || attentions[i].q < 1000) {
            code = bench_attention(&bench, attentions[i].q, attentions[i].k, attentions[i].heads,
                                   attentions[i].head_dim, attentions[i].dtype, error);
        }
    }
    if (bench.device != NULL) {
        bench.ops->device_close(&bench.device);
    }
    arena_close(&bench.arena);
    *count = bench.count;
    return code;
}
