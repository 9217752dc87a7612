/* Steps of a transformer under a limit of memory, in seconds and in what the process takes:
 *
 *     stream_measure FOLDER MIB WIDTH HEIGHT FRAMES STEPS
 *
 * FOLDER as random_folder makes it; MIB 0: no limit. The last line is the same for every limit. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "tests/worker/model/model_test.h"

static double process_mib(const char *field) {
    return process_bytes(field) / (1 << 20);
}

struct times {
    int64_t start, last;
};

static void show_step(void *user, int step, int steps) {
    struct times *times = user;
    int64_t now = clock_monotonic_ns();
    printf("step %d of %d: %.2f s; %.0f MiB now, %.0f at most\n", step, steps,
           (double)(now - times->last) / 1e9, process_mib("VmRSS:"), process_mib("VmHWM:"));
    times->last = now;
}

static void show_cost(void *user, const struct stream_cost *cost) {
    printf("%.2f of %.2f GB are read in every pass; samples came at %.2f GB/s: %.1f s a pass\n",
           (double)cost->pass_bytes / 1e9, (double)cost->bytes / 1e9, cost->bytes_per_second / 1e9,
           (double)cost->pass_bytes / cost->bytes_per_second);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        (void)fprintf(stderr, "usage: stream_measure FOLDER MIB WIDTH HEIGHT FRAMES STEPS\n");
        return 2;
    }
    int number[5];
    for (int i = 0; i < 5; i++)
        number[i] = (int)strtol(argv[i + 2], NULL, 10);
    struct error error = {0};
    struct device *device;
    struct model *model;
    struct times times = {.start = clock_monotonic_ns()};
    const struct device_config config = {.threads = 0};
    const struct model_options options = {.stages = STAGE_WINDOW,
                                          .dtype = DTYPE_BF16,
                                          .memory = (size_t)number[0] << 20,
                                          .streaming = show_cost};
    setvbuf(stdout, NULL, _IOLBF, 0);
    ok(ops_cpu()->device_open(&device, &config, &error), &error);
    ok(model_open(&model, ops_cpu(), device, argv[1], &options, &error), &error);
    times.last = clock_monotonic_ns();
    printf("opened in %.2f s; %.0f MiB\n", (double)(times.last - times.start) / 1e9,
           process_mib("VmRSS:"));
    const struct model_info *info = model_get_info(model);
    float *rows = calloc((size_t)64 * (size_t)info->text_width, sizeof *rows);
    size_t count =
        (size_t)info->latent_channels * (size_t)((number[3] - 1) / info->time_stride + 1) *
        (size_t)(number[1] / info->space_stride) * (size_t)(number[2] / info->space_stride);
    float *latents = calloc(count, sizeof *latents);
    assert_true(rows != NULL && latents != NULL);
    const struct denoise_request request = {.size = {number[1], number[2], number[3]},
                                            .positive = {rows, 64},
                                            .sampler = SAMPLER_EULER,
                                            .steps = number[4],
                                            .guidance = 1,
                                            .shift = 5,
                                            .progress = show_step,
                                            .user = &times};
    const struct window_source text = {.tail_frames = 0};
    ok(model_window(model, latents, &text, &request, &error), &error);
    struct hash_state state;
    struct hash hash;
    char hex[HASH_HEX_BYTES];
    hash_start(&state);
    hash_add(&state, latents, count * sizeof *latents);
    hash_finish(&state, &hash);
    hash_hex(hex, &hash);
    printf("latents %.32s\n", hex);
    model_close(&model);
    ops_cpu()->device_close(&device);
    free(rows);
    free(latents);
    return 0;
}
