/* One harness for every operation: run it in plain C, then on every level this machine has and on
 * 1, 2 and 3 threads, or, where the command line names backends ("cuda:0"), on those, into poisoned
 * memory with guards around it. All must agree with plain C within the tolerance, threads with each
 * other and a backend's second run with its first to the bit. */
#ifndef VIDLOOM_TESTS_KERNELS_SUPPORT_H
#define VIDLOOM_TESTS_KERNELS_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/float.h"
#include "kernels/ops.h"

/* The test program's arguments: backends to check instead of the CPU's levels, as
 * libvidloom_NAME.so beside the program, each NAME or NAME:INDEX. Ends the process when one cannot
 * be opened. Returns how many there are. */
int support_open(int argc, char **argv);
/* Run the tests over what was opened, then close it. */
#define support_run(argc, argv, tests)                                                             \
    (support_open((argc), (argv)), support_close(cmocka_run_group_tests((tests), NULL, NULL)))
int support_close(int failed);

/* Run the operation of `context` on `device` into `out`, which the harness poisoned. Inputs are
 * host memory: `given` turns them into the device's. */
typedef void operation(const struct ops *ops, struct device *device, void *out, void *context);

/* Where a block of random_buffer or buffer_of, or the middle of one, lies on the device that runs
 * the operation. NULL stays NULL. Only inside an operation. */
const void *given(const void *host);

/* tolerance: relative error of the whole in the 2-norm; 0: equal bytes. `name` is for messages. */
void check(const char *name, operation *run, void *context, int64_t count, enum dtype dtype,
           double tolerance);

/* The same against numbers worked out by the test, on plain C and all levels. */
void check_against(const char *name, operation *run, void *context, const double *expected,
                   int64_t count, enum dtype dtype, double tolerance);

/* The backends alone against plain C, for what only they have. */
void check_backends(const char *name, operation *run, void *context, int64_t count,
                    enum dtype dtype, double tolerance);

/* Random numbers of a fixed sequence, started anew by each test. */
void random_start(uint64_t seed);
double random_unit(void); /* -1..1 */
int64_t random_range(int64_t first, int64_t last);

/* `count` random numbers of magnitude `scale` in a block of exactly their size (so that a sanitizer
 * sees a read past the end); freed by buffers_free. */
void *random_buffer(int64_t count, enum dtype dtype, double scale);
void *buffer_of(size_t bytes); /* zeroed */
int buffers_free(void **state);

struct tensor tensor_of(const void *data, enum dtype dtype, int rank, const int64_t *dim);

#endif
