/* Weight files built and damaged in memory. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_WEIGHTS_TEST_H
#define VIDLOOM_TESTS_WORKER_MODEL_WEIGHTS_TEST_H

#include "tests/worker/model/model_test.h"

/* Opening these bytes gives this code, with `why` (may be NULL) in the error's text. */
void expect_bytes(const void *bytes, size_t length, enum error_code expected, const char *why);

/* Every seventh bit of the first `header` bytes and of the last `tail` turned, and every cut:
 * opening ends, what is handed out lies inside the bytes, and a cut file is refused. */
void damage(const char *path, size_t header, size_t tail);

/* The same names, shapes, types and bytes. */
void same_weights(const char *got, const char *expected);

#endif
