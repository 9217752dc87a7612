#include "tests/worker/model/model_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/numbers.h"

static const char *table = "cpu"; /* that benches are opened on */

void bench_choose(int *count, char **arguments) {
    table = table_argument(count, arguments);
}

void ok(enum error_code code, const struct error *error) {
    if (code != ERR_OK)
        fail_msg("%s: %s", error_name(code), error->detail);
}

double process_bytes(const char *field) {
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtod(line + strlen(field), NULL);
    if (file != NULL)
        assert_int_equal(fclose(file), 0);
    return kib * 1024;
}

void bench_start(struct bench *bench, enum dtype dtype) {
    struct error error = {0};
    memset(bench, 0, sizeof *bench);
    ok(table_open(&bench->runtime, &bench->params, &bench->work, table, 2, dtype, &error), &error);
}

void bench_open(struct bench *bench, const char *folder, enum dtype dtype) {
    struct error error = {0};
    bench_start(bench, dtype);
    const struct model_options all = {.stages = -1, .dtype = dtype};
    ok(parts_open(&bench->parts, &bench->runtime, folder, &all, false, &error), &error);
}

void bench_close(struct bench *bench) {
    parts_close(&bench->parts, &bench->runtime);
    table_close(&bench->runtime);
}

static char scratch[64];

int scratch_make(void **state) {
    (void)snprintf(scratch, sizeof scratch, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(scratch));
    return 0;
}

int scratch_remove(void **state) {
    return file_remove_tree(scratch, NULL) == ERR_OK ? 0 : -1;
}

const char *scratch_path(char out[FILE_PATH_BYTES], const char *name) {
    struct error error = {0};
    ok(file_join(out, scratch, name, &error), &error);
    return out;
}

const struct tensor *reference(const struct weights *file, const char *format, ...) {
    char name[128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct tensor *tensor = weights_find(file, name);
    if (tensor == NULL)
        fail_msg("no reference tensor '%s'", name);
    return tensor;
}

double relative_error(const float *got, const float *expected, int64_t count) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)got[i] - (double)expected[i];
        difference += d * d;
        size += (double)expected[i] * (double)expected[i];
    }
    return isfinite(difference) ? sqrt(difference / (size > 0 ? size : 1)) : INFINITY;
}

void near_enough(const struct bench *bench, const char *what, const float *there,
                 const struct tensor *expected) {
    float *got = table_get(&bench->runtime, there, tensor_elements(expected), DTYPE_F32);
    close_enough(what, got, expected, bench->runtime.dtype);
    free(got);
}

void close_enough(const char *what, const float *got, const struct tensor *expected,
                  enum dtype dtype) {
    double error = relative_error(got, expected->data, tensor_elements(expected));
    double bound = dtype == DTYPE_F32 ? 1e-4 : 1e-2;
    print_message("%-24s %-4s %.2e (bound %.0e)\n", what, dtype_name(dtype), error, bound);
    if (!(error <= bound))
        fail_msg("%s: relative error %g", what, error);
}

float *widened(const void *x, int64_t count, enum dtype dtype) {
    struct tensor tensor = {.data = x, .dtype = dtype, .rank = 1, .dim = {count}};
    float *out = malloc((size_t)count * sizeof *out);
    assert_non_null(out);
    numbers_to_float(out, &tensor, 0, count);
    return out;
}

float *channels_first(const float *x, int64_t channels, int64_t pixels) {
    float *out = malloc((size_t)(channels * pixels) * sizeof *out);
    assert_non_null(out);
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < channels; c++)
            out[c * pixels + p] = x[p * channels + c];
    return out;
}

float *channels_last(const float *x, int64_t channels, int64_t pixels) {
    return channels_first(x, pixels, channels);
}

void *narrowed(struct bench *bench, const float *x, int64_t count) {
    float *exact = table_put_floats(&bench->runtime, x, count);
    void *out = work_alloc(&bench->runtime, count, bench->runtime.dtype);
    bench->runtime.ops->convert(bench->runtime.device, out, bench->runtime.dtype, exact, DTYPE_F32,
                                count);
    return out;
}

void run_pass(struct bench *bench, const struct denoiser *denoiser, float *velocity,
              const struct pass *pass) {
    struct runtime *runtime = &bench->runtime;
    const struct transformer *transformer = denoiser->expert[0].transformer;
    struct error error = {0};
    struct transformer_grid grid;
    struct transformer_context text, image;
    size_t mark = runtime->work->used;
    ok(transformer_grid_open(&grid, transformer, runtime, pass->frames, pass->height, pass->width,
                             &error),
       &error);
    transformer_text_open(&text, transformer, runtime, &grid, pass->text, pass->text_rows,
                          pass->text_length);
    if (pass->image != NULL)
        transformer_image_open(&image, transformer, runtime, &grid, pass->image, pass->image_rows);
    const struct transformer_input input = {.latents = pass->latents,
                                            .condition = pass->condition,
                                            .grid = &grid,
                                            .text = &text,
                                            .image = pass->image != NULL ? &image : NULL,
                                            .time = pass->time};
    transformer_forward(transformer, runtime, velocity, &input);
    ok(runtime->ops->status(runtime->device, &error), &error);
    arena_reset(runtime->work, mark);
}
