/* The table that a test program runs on, and the way of numbers to its memory and back. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_TEST_TABLE_H
#define VIDLOOM_TESTS_WORKER_MODEL_TEST_TABLE_H

#include "worker/model/runtime.h"

/* "--table NAME[:INDEX]" taken out of the arguments: a backend beside the program, "cuda:0"; "cpu"
 * where there is none. */
const char *table_argument(int *count, char **arguments);

/* A device of the table, with room for parameters and for work. threads: of a CPU; 0: one a core.
 * Errors: ops_find's and the device's. */
MUST_CHECK enum error_code table_open(struct runtime *out, struct arena *params, struct arena *work,
                                      const char *table, int threads, enum dtype dtype,
                                      struct error *error);
/* Arenas, then device; what is zeroed is fine. */
void table_close(struct runtime *runtime);

/* A copy in work memory. */
void *table_put(struct runtime *runtime, const void *host, size_t bytes);
float *table_put_floats(struct runtime *runtime, const float *host, int64_t count);
/* A copy as floats (malloc). */
float *table_get(const struct runtime *runtime, const void *there, int64_t count, enum dtype dtype);

#endif
