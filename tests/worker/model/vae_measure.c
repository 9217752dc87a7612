/* How fast a VAE decodes or encodes, and in what memory:
 *
 *     vae_measure FOLDER HEIGHT WIDTH LATENTS [f32|bf16] [encode]
 *
 * FOLDER as in a model's vae/ (or made by tests/parity/vae.py --size full); sides in pixels.
 * Between chunks a convolution of 96 channels, 3x3x3 over 4x128x128, is timed: the yardstick of the
 * same minute on the same machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/loader.h"
#include "worker/model/vae.h"

#define YARD_CHANNELS 96
#define YARD_FRAMES   4
#define YARD_SIDE     128
#define YARD_TAKES    5
#define SAMPLES       256

struct yardstick {
    struct filter filter;
    struct conv_args args;
    double gflops[YARD_TAKES];
};

/* Of the processor, so that what else runs on the machine does not count. */
static double seconds_since(clock_t start) {
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

static void yardstick_open(struct yardstick *yard, struct runtime *runtime) {
    const int64_t channels = YARD_CHANNELS, area = YARD_SIDE * YARD_SIDE;
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, YARD_CHANNELS, YARD_CHANNELS};
    float *weight = calloc((size_t)(27 * channels * channels), sizeof *weight);
    assert_non_null(weight);
    for (int64_t i = 0; i < 27 * channels * channels; i++)
        weight[i] = (float)(i % 31 - 15) / 512;
    struct tensor tensor = {
        .data = weight, .dtype = DTYPE_F32, .rank = 5, .dim = {channels, channels, 3, 3, 3}};
    struct error error = {0};
    *yard = (struct yardstick){.filter.shape = shape};
    ok(runtime->ops->conv_create(runtime->device, &yard->filter.conv, &shape, &tensor, NULL,
                                 runtime->dtype, &error),
       &error);
    free(weight);
    yard->args = (struct conv_args){
        .out = work_alloc(runtime, YARD_FRAMES * area * channels, runtime->dtype),
        .in = work_alloc(runtime, (YARD_FRAMES + 2) * area * channels, runtime->dtype),
        .frames = YARD_FRAMES + 2,
        .height = YARD_SIDE,
        .width = YARD_SIDE,
        .pad_top = 1,
        .pad_bottom = 1,
        .pad_left = 1,
        .pad_right = 1};
    runtime->ops->zero(runtime->device, (void *)(uintptr_t)yard->args.in,
                       (size_t)((YARD_FRAMES + 2) * area * channels) * dtype_bytes(runtime->dtype));
    for (int i = 0; i < 2; i++) /* warm */
        runtime->ops->conv(runtime->device, yard->filter.conv, &yard->args);
}

static void yardstick_take(struct yardstick *yard, struct runtime *runtime) {
    double flops = 2.0 * 27 * YARD_CHANNELS * YARD_CHANNELS * YARD_FRAMES * YARD_SIDE * YARD_SIDE;
    for (int i = 0; i < YARD_TAKES; i++) {
        clock_t start = clock();
        runtime->ops->conv(runtime->device, yard->filter.conv, &yard->args);
        yard->gflops[i] = flops / seconds_since(start) * 1e-9;
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int count) {
    qsort(x, (size_t)count, sizeof *x, by_value);
    return x[count / 2];
}

struct run {
    struct bench bench;
    struct yardstick yard;
    int64_t pixel_height, pixel_width; /* of the video */
    int64_t frames, height, width;     /* of the latents */
    bool encode;
    double rate[SAMPLES], share[SAMPLES];
    int chunks;
};

static double planned(const struct run *run, int64_t frames) {
    struct runtime dry = run->bench.runtime;
    struct arena work;
    struct vae_stream stream;
    arena_open_measuring(&work);
    dry.ops = ops_measure();
    dry.work = &work;
    vae_stream_open(&stream, run->bench.parts.vae, &dry, run->encode, frames, run->height,
                    run->width, 0);
    double peak = (double)work.peak;
    arena_close(&work);
    return peak / 1e6;
}

/* What was computed since `start`, with the yardstick of the same minute. */
static void report(struct run *run, int64_t frames, clock_t start) {
    struct runtime *runtime = &run->bench.runtime;
    double seconds = seconds_since(start), flops = runtime->flops;
    double pixels = (double)(frames * run->pixel_height * run->pixel_width);
    yardstick_take(&run->yard, runtime);
    double rate = flops / seconds * 1e-9, yard = median(run->yard.gflops, YARD_TAKES);
    printf("%lld frames: %.2f s, %.0f GFLOP, %.0f GFLOP/s, %.0f %% of %.0f, %.1f k pixels/s\n",
           (long long)frames, seconds, flops * 1e-9, rate, 100 * rate / yard, yard,
           pixels / seconds * 1e-3);
    (void)fflush(stdout);
    run->rate[run->chunks] = rate;
    run->share[run->chunks++] = rate / yard;
    runtime->flops = 0;
}

static void encode(struct run *run) {
    struct runtime *runtime = &run->bench.runtime;
    int64_t frames = 4 * run->frames - 3, plane = run->height * run->width;
    int64_t elements = frames * run->pixel_height * run->pixel_width * 3;
    float *out =
        work_floats(runtime, run->frames * plane * run->bench.parts.vae_config.latent_channels);
    void *pixels = work_alloc(runtime, elements, runtime->dtype);
    runtime->ops->zero(runtime->device, pixels, (size_t)elements * dtype_bytes(runtime->dtype));
    clock_t start = clock();
    vae_encode(run->bench.parts.vae, runtime, out, pixels, frames, run->frames, run->height,
               run->width, 0);
    report(run, frames, start);
}

static void decode(struct run *run) {
    struct runtime *runtime = &run->bench.runtime;
    int64_t count = run->frames * run->height * run->width *
                    run->bench.parts.vae_config.latent_channels,
            frames;
    float *latents = malloc((size_t)count * sizeof *latents);
    assert_non_null(latents);
    for (int64_t i = 0; i < count; i++)
        latents[i] = (float)((i * 7919) % 2003 - 1001) / 600;
    struct vae_stream stream;
    vae_stream_open(&stream, run->bench.parts.vae, runtime, false, run->frames, run->height,
                    run->width, 0);
    clock_t start = clock();
    while (run->chunks < SAMPLES && vae_decode_next(&stream, latents, &frames) != NULL) {
        report(run, frames, start);
        start = clock();
    }
    free(latents);
}

static void open_run(struct run *run, const char *folder) {
    struct error error = {0};
    struct parts *parts = &run->bench.parts;
    ok(weights_open_folder(&parts->vae_file, folder, "diffusion_pytorch_model", &error), &error);
    ok(config_read_vae(&parts->vae_config, folder, NULL, &error), &error);
    ok(vae_open(&parts->vae, &run->bench.runtime, parts->vae_file, &parts->vae_config, NULL,
                &error),
       &error);
    run->height = run->pixel_height / parts->vae_config.space_stride;
    run->width = run->pixel_width / parts->vae_config.space_stride;
    yardstick_open(&run->yard, &run->bench.runtime);
}

int main(int count, char **arguments) {
    static struct run run;
    if (count < 5) {
        (void)fprintf(stderr, "usage: vae_measure FOLDER HEIGHT WIDTH LATENTS [f32|bf16] "
                              "[encode]\n");
        return 2;
    }
    run.pixel_height = strtol(arguments[2], NULL, 10);
    run.pixel_width = strtol(arguments[3], NULL, 10);
    run.frames = strtol(arguments[4], NULL, 10);
    run.encode = count > 6 && strcmp(arguments[6], "encode") == 0;
    bench_start(&run.bench, count > 5 && strcmp(arguments[5], "f32") == 0 ? DTYPE_F32 : DTYPE_BF16);
    open_run(&run, arguments[1]);
    printf("planned for 5 and 81 frames: %.1f and %.1f MB\n", planned(&run, 2), planned(&run, 21));
    (void)fflush(stdout);
    size_t before = run.bench.work.used;
    run.bench.work.peak = before;
    run.encode ? encode(&run) : decode(&run);
    printf("peak %.1f MB; median %.0f GFLOP/s, %.0f %% of the yardstick\n",
           (double)(run.bench.work.peak - before) / 1e6, median(run.rate, run.chunks),
           100 * median(run.share, run.chunks));
    filter_close(&run.bench.runtime, &run.yard.filter);
    bench_close(&run.bench);
    return 0;
}
