/* The small writer of the worker's own artifacts. Reading is weights.h's. */
#ifndef VIDLOOM_WORKER_MODEL_SAFETENSORS_H
#define VIDLOOM_WORKER_MODEL_SAFETENSORS_H

#include "base/error.h"
#include "kernels/tensor.h"

/* Write tensors to `path`, whole or not at all, not synced. names are unique and plain text. */
MUST_CHECK enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                             const char *const *names, size_t count,
                                             struct error *error);

#endif
