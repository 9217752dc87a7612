#include "cli/bench_wan.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/bench_peak.h"
#include "worker/model/transformer.h"
#include "worker/model/vae.h"

/* Of the transformer's 30 equal layers, so many are run; a step's time is scaled by arithmetic. */
#define LAYERS_TIMED 2
#define LAYERS       30

#define TEXT_LENGTH 512
#define TEXT_ROWS   77 /* of a prompt of some length */
#define CHANNELS    16 /* of latents */

#define SAMPLES 3

static const struct transformer_config transformer_config = {.heads = 12,
                                                             .head_dim = 128,
                                                             .width = 1536,
                                                             .in_channels = CHANNELS,
                                                             .out_channels = CHANNELS,
                                                             .text_width = 4096,
                                                             .frequencies = 256,
                                                             .ffn = 8960,
                                                             .layers = LAYERS_TIMED,
                                                             .eps = 1e-6f};

/* One model opened on one table, and what a run of it needs. */
struct subject {
    struct runtime runtime;
    struct arena params, work;
    struct transformer *transformer;
    struct vae *vae;
    int64_t frames, height, width; /* latents */
    float *latents;                /* host */
    int64_t voxels;                /* made by the last run */
    int64_t ns;                    /* that it took, without its preparations */
};

typedef enum error_code run_function(struct subject *subject, struct error *error);

static float *random_floats(int64_t count) {
    float *out = malloc((size_t)count * sizeof *out);
    uint32_t state = 1;
    for (int64_t i = 0; out != NULL && i < count; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return out;
}

/* -- the step ---------------------------------------------------------------------------------- */

static enum error_code run_step(struct subject *s, struct error *error) {
    struct runtime *runtime = &s->runtime;
    struct transformer_grid grid;
    struct transformer_context text;
    int64_t count = CHANNELS * s->frames * s->height * s->width;
    enum error_code code = transformer_grid_open(&grid, s->transformer, runtime, s->frames,
                                                 s->height, s->width, error);
    if (code != ERR_OK)
        return code;
    transformer_text_open(&text, s->transformer, runtime, &grid, s->latents, TEXT_ROWS,
                          TEXT_LENGTH);
    float *latents = work_floats(runtime, count), *velocity = work_floats(runtime, count);
    runtime->ops->upload(runtime->device, latents, s->latents, (size_t)count * sizeof *latents);
    code = runtime->ops->status(runtime->device, error);
    int64_t before = clock_monotonic_ns();
    runtime->flops = 0;
    transformer_forward(s->transformer, runtime, velocity,
                        &(struct transformer_input){.latents = latents,
                                                    .grid = &grid,
                                                    .text = &text,
                                                    .time = {.value = {500}, .count = 1}});
    if (code == ERR_OK)
        code = runtime->ops->status(runtime->device, error);
    s->ns = clock_monotonic_ns() - before;
    arena_reset(runtime->work, 0);
    return code;
}

/* -- the decoder ------------------------------------------------------------------------------- */

static struct vae_config decoder_config(void) {
    struct vae_config config = {.width = 96,
                                .decoder_width = 96,
                                .latent_channels = CHANNELS,
                                .levels = 4,
                                .multiple = {1, 2, 4, 4},
                                .res_blocks = 2,
                                .time_down = {false, true, true},
                                .patch = 1,
                                .space_stride = 8};
    for (int i = 0; i < CHANNELS; i++)
        config.deviation[i] = 1;
    return config;
}

static enum error_code run_decode(struct subject *s, struct error *error) {
    struct vae_stream stream;
    int64_t before = clock_monotonic_ns(), count = 0;
    s->runtime.flops = 0;
    s->voxels = 0;
    vae_stream_open(&stream, s->vae, &s->runtime, false, s->frames, s->height, s->width, 0);
    while (vae_decode_next(&stream, s->latents, &count) != NULL)
        s->voxels += count * 8 * s->height * 8 * s->width;
    enum error_code code = s->runtime.ops->status(s->runtime.device, error);
    s->ns = clock_monotonic_ns() - before;
    arena_reset(&s->work, 0);
    return code;
}

/* -- both -------------------------------------------------------------------------------------- */

static enum error_code open_model(struct subject *s, bool decoder, struct error *error) {
    struct vae_config config = decoder_config();
    return decoder ? vae_open(&s->vae, &s->runtime, NULL, &config, NULL, error)
                   : transformer_open(&s->transformer, &s->runtime, NULL, &transformer_config, NULL,
                                      error);
}

static void subject_close(struct subject *s) {
    if (s->runtime.device != NULL) {
        transformer_close(&s->runtime, &s->transformer);
        vae_close(&s->runtime, &s->vae);
        s->runtime.ops->device_close(&s->runtime.device);
    }
    arena_close(&s->params);
    arena_close(&s->work);
    free(s->latents);
    memset(s, 0, sizeof *s);
}

/* Sizes are asked of the measuring table first, as the worker does. */
static enum error_code subject_open(struct subject *s, const struct device_config *device,
                                    const struct subject *like, bool decoder, struct error *error) {
    struct subject plan = *like;
    *s = *like;
    plan.runtime.ops = ops_measure();
    plan.runtime.params = &plan.params;
    plan.runtime.work = &plan.work;
    arena_open_measuring(&plan.params);
    arena_open_measuring(&plan.work);
    plan.latents = random_floats((int64_t)TEXT_LENGTH * transformer_config.text_width +
                                 CHANNELS * like->frames * like->height * like->width);
    if (plan.latents == NULL)
        return error_set(error, ERR_MEMORY, "no memory for latents");
    enum error_code code = plan.runtime.ops->device_open(&plan.runtime.device, device, error);
    if (code == ERR_OK)
        code = open_model(&plan, decoder, error);
    if (code == ERR_OK)
        code = (decoder ? run_decode : run_step)(&plan, error);
    size_t params = plan.params.peak, work = plan.work.peak;
    s->latents = plan.latents;
    plan.latents = NULL;
    subject_close(&plan);
    s->runtime.ops = ops_cpu();
    s->runtime.params = &s->params;
    s->runtime.work = &s->work;
    if (code == ERR_OK)
        code = arena_open(&s->params, params, error);
    if (code == ERR_OK)
        code = arena_open(&s->work, work, error);
    if (code == ERR_OK)
        code = s->runtime.ops->device_open(&s->runtime.device, device, error);
    return code == ERR_OK ? open_model(s, decoder, error) : code;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of GFLOP/s and of the share of the peak, which is measured before and after each run. */
static enum error_code measure(double *gflops, double *share, struct subject *s, run_function *run,
                               enum bench_peak_kind kind, struct error *error) {
    struct bench_peak *peak = NULL;
    double rate[SAMPLES], part[SAMPLES] = {0}, before = 0, after = 0;
    bool there = bench_peak_open(&peak, kind, error) == ERR_OK;
    enum error_code code = run(s, error); /* warms up */
    if (code == ERR_OK && there)
        code = bench_peak_run(&before, peak, error);
    for (int i = 0; i < SAMPLES && code == ERR_OK; i++) {
        code = run(s, error);
        rate[i] = s->runtime.flops / (double)s->ns;
        if (code == ERR_OK && there)
            code = bench_peak_run(&after, peak, error);
        part[i] = there ? rate[i] / ((before + after) / 2) : -1;
        before = after;
    }
    bench_peak_close(&peak);
    if (code != ERR_OK)
        return code;
    qsort(rate, SAMPLES, sizeof *rate, by_value);
    qsort(part, SAMPLES, sizeof *part, by_value);
    *gflops = rate[SAMPLES / 2];
    *share = part[SAMPLES / 2];
    return ERR_OK;
}

static enum error_code bench_step(struct report *report, const struct device_config *device,
                                  enum dtype narrow, bool quick, struct error *error) {
    struct subject s, like = {.runtime = {.dtype = DTYPE_BF16, .narrow = narrow},
                              .frames = quick ? 1 : 2,
                              .height = 60,
                              .width = 104};
    double gflops = 0, share = 0;
    enum error_code code = subject_open(&s, device, &like, false, error);
    if (code == ERR_OK)
        code = measure(&gflops, &share, &s, run_step, BENCH_MATMUL, error);
    if (code == ERR_OK) {
        double whole = s.runtime.flops / LAYERS_TIMED * LAYERS; /* the ends' are less than 1 % */
        struct report_row *row =
            report_add(report, whole / gflops * 1e-9, "s",
                       "Wan2.1 1.3B, a step of %lld tokens, %s (%d of %d layers timed)",
                       (long long)(s.frames * s.height * s.width / 4),
                       narrow == DTYPE_I8 ? "int8" : "bf16", LAYERS_TIMED, LAYERS);
        if (row) {
            row->lower_better = true;
            row->share = share;
        }
    }
    subject_close(&s);
    return code;
}

static enum error_code bench_decode(struct report *report, const struct device_config *device,
                                    bool quick, struct error *error) {
    int64_t side = quick ? 8 : 16;
    struct subject s, like = {
                          .runtime = {.dtype = DTYPE_BF16},
                          .frames = 3,
                          .height = side,
                          .width = side,
                      };
    double gflops = 0, share = 0;
    enum error_code code = subject_open(&s, device, &like, true, error);
    if (code == ERR_OK)
        code = measure(&gflops, &share, &s, run_decode, BENCH_CONV, error);
    if (code == ERR_OK) {
        struct report_row *row =
            report_add(report, (double)s.voxels * gflops / s.runtime.flops * 1e6, "kvoxels/s",
                       "Wan2.1 VAE, decode 9 frames of %lldx%lld, bf16", (long long)side * 8,
                       (long long)side * 8);
        if (row)
            row->share = share;
    }
    subject_close(&s);
    return code;
}

enum error_code bench_wan(struct report *report, const struct device_config *device, bool quick,
                          struct error *error) {
    enum error_code code = bench_step(report, device, DTYPE_F32, quick, error);
    if (code == ERR_OK)
        code = bench_step(report, device, DTYPE_I8, quick, error);
    return code == ERR_OK ? bench_decode(report, device, quick, error) : code;
}
