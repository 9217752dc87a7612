/* What the tests of models share: a runtime on the CPU or another table, reference tensors,
 * comparison. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_MODEL_TEST_H
#define VIDLOOM_TESTS_WORKER_MODEL_MODEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/worker/model/test_table.h"
#include "worker/model/parts.h"

#define RANDOM_WAN "tests/vectors/random_wan"
#define POCKET     "models/pocket"

/* A folder's parts on a device. */
struct bench {
    struct runtime runtime;
    struct arena params, work;
    struct parts parts;
};

/* The table of every bench from now on: "--table cuda:0" taken out of the arguments. */
void bench_choose(int *count, char **arguments);
void bench_start(struct bench *bench, enum dtype dtype); /* without parts */
void bench_open(struct bench *bench, const char *folder, enum dtype dtype);
void bench_close(struct bench *bench);

/* ok(code, error): fails the test with the error's text. */
void ok(enum error_code code, const struct error *error);

/* A folder of the tests' own, as a group's set-up and tear-down, and the path of something in it.
 */
int scratch_make(void **state);
int scratch_remove(void **state);
const char *scratch_path(char out[FILE_PATH_BYTES], const char *name);

/* A line of /proc/self/status ("VmRSS:", "VmHWM:", "RssFile:"), in bytes; 0 where there is no such
 * file or line. */
double process_bytes(const char *field);

/* A tensor of a reference file; fails the test when it is not there. */
const struct tensor *reference(const struct weights *file, const char *format, ...)
    PRINTF_LIKE(2, 3);

/* ‖got - expected‖ / ‖expected‖, in double. */
double relative_error(const float *got, const float *expected, int64_t count);

/* Fails when the error is above the bound of the type: 1e-4 in f32, 1e-2 in bf16. Prints it. */
void close_enough(const char *what, const float *got, const struct tensor *expected,
                  enum dtype dtype);

/* The same for numbers that are in the bench's memory, in the bench's type. */
void near_enough(const struct bench *bench, const char *what, const float *there,
                 const struct tensor *expected);

/* Elements of a compute type as floats (malloc). */
float *widened(const void *x, int64_t count, enum dtype dtype);
/* [C,T,H,W] from [T,H,W,C] and back (malloc). */
float *channels_first(const float *x, int64_t channels, int64_t pixels);
float *channels_last(const float *x, int64_t channels, int64_t pixels);
/* One pass of the first expert: velocity, latents, condition and image are in the bench's memory,
 * the first two [Cout,frames,height,width]; the text is the host's. `image` may be NULL. */
struct pass {
    int64_t frames, height, width;
    const float *latents, *condition, *text, *image;
    int text_rows, text_length, image_rows;
    struct transformer_time time;
};
void run_pass(struct bench *bench, const struct denoiser *denoiser, float *velocity,
              const struct pass *pass);

/* A copy in the compute type in the work arena. */
void *narrowed(struct bench *bench, const float *x, int64_t count);

#endif
