/* Writing safetensors files: the worker's own artifacts, and converted weights. Reading is
 * weights.h's. */
#ifndef VIDLOOM_WORKER_MODEL_SAFETENSORS_H
#define VIDLOOM_WORKER_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "kernels/tensor.h"

/* Write tensors to `path`, whole or not at all, not synced. names are unique and plain text. */
MUST_CHECK enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                             const char *const *names, size_t count,
                                             struct error *error);

#define SAFETENSORS_SOURCES_MAX 3

/* A tensor that is made while it is written: its sources, one after the other along the first
 * dimension, in `shape`'s type. What has that type already is copied to the bit; other floats are
 * rounded to nearest even. */
struct safetensors_item {
    const char *name;
    struct tensor shape; /* without data */
    struct tensor source[SAFETENSORS_SOURCES_MAX];
    int sources;
    /* Writes a source instead of the above; false, with errno, when it failed. NULL: the above. */
    bool (*put)(FILE *file, const struct safetensors_item *item, const struct tensor *source);
    const void *context; /* put's */
};

/* Write a file as large as it gets, a piece at a time. A failure leaves a part of it behind: the
 * caller writes into a folder of its own and renames that. */
MUST_CHECK enum error_code safetensors_stream(const char *path,
                                              const struct safetensors_item *items, size_t count,
                                              struct error *error);

#endif
