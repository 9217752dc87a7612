/* Elements of weight files as floats on the host. */
#ifndef VIDLOOM_WORKER_MODEL_NUMBERS_H
#define VIDLOOM_WORKER_MODEL_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tensor.h"

/* I8 is, when it has scales. */
bool numbers_are_float(const struct tensor *tensor);

/* out[i] = element first + i of a tensor of any float type, in blocks or not, scales applied. */
void numbers_to_float(float *out, const struct tensor *tensor, int64_t first, int64_t count);

#endif
