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
#define SAMPLES       256

struct yardstick {
    struct filter filter;
    struct conv_args args;
    double gflops[SAMPLES];
    int count;
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
}

static void yardstick_take(struct yardstick *yard, struct runtime *runtime) {
    double flops = 2.0 * 27 * YARD_CHANNELS * YARD_CHANNELS * YARD_FRAMES * YARD_SIDE * YARD_SIDE;
    for (int i = 0; i < 5 && yard->count < SAMPLES; i++) {
        clock_t start = clock();
        runtime->ops->conv(runtime->device, yard->filter.conv, &yard->args);
        yard->gflops[yard->count++] = flops / seconds_since(start) * 1e-9;
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

static size_t planned(const struct vae *vae, const struct runtime *runtime, int64_t frames,
                      int64_t height, int64_t width, bool encode) {
    struct runtime dry = *runtime;
    struct arena work;
    struct vae_stream stream;
    arena_open_measuring(&work);
    dry.ops = ops_measure();
    dry.work = &work;
    vae_stream_open(&stream, vae, &dry, encode, frames, height, width, 0);
    size_t peak = work.peak;
    arena_close(&work);
    return peak;
}

int main(int count, char **arguments) {
    if (count < 5) {
        (void)fprintf(stderr,
                      "usage: vae_measure FOLDER HEIGHT WIDTH LATENTS [f32|bf16] [encode]\n");
        return 2;
    }
    struct error error = {0};
    struct bench bench;
    enum dtype dtype = count > 5 && strcmp(arguments[5], "f32") == 0 ? DTYPE_F32 : DTYPE_BF16;
    bool encode = count > 6;
    bench_start(&bench, dtype);
    struct runtime *runtime = &bench.runtime;
    struct parts *parts = &bench.parts;
    ok(weights_open_folder(&parts->file[PART_VAE], arguments[1], "diffusion_pytorch_model", &error),
       &error);
    ok(config_read_vae(&parts->vae_config, arguments[1], &error), &error);
    ok(vae_open(&parts->vae, runtime, parts->file[PART_VAE], &parts->vae_config, NULL, &error),
       &error);
    int stride = parts->vae_config.space_stride, channels = parts->vae_config.latent_channels;
    int64_t pixel_height = strtol(arguments[2], NULL, 10),
            pixel_width = strtol(arguments[3], NULL, 10);
    int64_t height = pixel_height / stride, width = pixel_width / stride;
    int64_t frames = strtol(arguments[4], NULL, 10), latent = height * width * channels;
    printf("planned for %lld, 6 and 81 frames: %.1f, %.1f, %.1f MB\n", (long long)(4 * frames - 3),
           (double)planned(parts->vae, runtime, frames, height, width, encode) / 1e6,
           (double)planned(parts->vae, runtime, 2, height, width, encode) / 1e6,
           (double)planned(parts->vae, runtime, 21, height, width, encode) / 1e6);
    struct yardstick yard;
    yardstick_open(&yard, runtime);
    yardstick_take(&yard, runtime);
    size_t before = runtime->work->used;
    double rate[SAMPLES], share[SAMPLES];
    int chunks = 0;
    if (encode) {
        float *out = work_floats(runtime, frames * latent);
        int64_t elements = (4 * frames - 3) * pixel_height * pixel_width * 3;
        void *pixels = work_alloc(runtime, elements, dtype);
        runtime->ops->zero(runtime->device, pixels, (size_t)elements * dtype_bytes(dtype));
        runtime->flops = 0;
        clock_t start = clock();
        vae_encode(parts->vae, runtime, out, pixels, 4 * frames - 3, frames, height, width, 0);
        double seconds = seconds_since(start);
        rate[chunks] = runtime->flops / seconds * 1e-9;
        printf("encode: %.2f s, %.0f GFLOP, %.0f GFLOP/s\n", seconds, runtime->flops * 1e-9,
               rate[0]);
        chunks++;
        yardstick_take(&yard, runtime);
        share[0] = rate[0] / median(yard.gflops, yard.count);
    } else {
        float *latents = calloc((size_t)(frames * latent), sizeof *latents);
        assert_non_null(latents);
        for (int64_t i = 0; i < frames * latent; i++)
            latents[i] = (float)((i * 7919) % 2003 - 1001) / 600;
        struct vae_stream stream;
        vae_stream_open(&stream, parts->vae, runtime, false, frames, height, width, 0);
        int64_t some;
        for (;;) {
            runtime->flops = 0;
            clock_t start = clock();
            if (vae_decode_next(&stream, latents, &some) == NULL)
                break;
            double seconds = seconds_since(start);
            yard.count = 0;
            yardstick_take(&yard, runtime);
            double yards = median(yard.gflops, yard.count);
            rate[chunks] = runtime->flops / seconds * 1e-9;
            share[chunks] = rate[chunks] / yards;
            printf("%lld frames: %.2f s, %.0f GFLOP, %.0f GFLOP/s, yardstick %.0f, %.0f %%, %.2f M "
                   "pixels/s\n",
                   (long long)some, seconds, runtime->flops * 1e-9, rate[chunks], yards,
                   100 * share[chunks],
                   (double)(some * pixel_height * pixel_width) / seconds * 1e-6);
            (void)fflush(stdout);
            chunks++;
        }
        free(latents);
        printf("measured peak %.1f MB\n", (double)(runtime->work->peak - before) / 1e6);
    }
    printf("median %.0f GFLOP/s, %.0f %% of the yardstick\n", median(rate, chunks),
           100 * median(share, chunks));
    filter_close(runtime, &yard.filter);
    bench_close(&bench);
    return 0;
}
