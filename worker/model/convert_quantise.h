/* Matrices made int8 or fp8 while they are written. */
#ifndef VIDLOOM_WORKER_MODEL_CONVERT_QUANTISE_H
#define VIDLOOM_WORKER_MODEL_CONVERT_QUANTISE_H

#include "worker/model/convert.h"
#include "worker/model/safetensors.h"

/* Whether a tensor of this name in a target layout is one that is worth it and can be. */
bool convert_is_quantisable(const char *name, const struct tensor *tensor);

/* Make of an item with one source, a matrix, that of its int8 or fp8 data, and *scales, that of its
 * scales, whose name the caller gives. `options` outlives both. */
void convert_quantise(struct safetensors_item *data, struct safetensors_item *scales,
                      const struct convert_options *options);

#endif
