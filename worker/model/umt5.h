/* The umT5 text encoder: token ids to one row each.
 *
 * Source: transformers, modeling_umt5.py. The reference pads ids to the text length and masks the
 * padding, which is the same as running the real tokens alone. One thread at a time. */
#ifndef VIDLOOM_WORKER_MODEL_UMT5_H
#define VIDLOOM_WORKER_MODEL_UMT5_H

#include "worker/model/config.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

struct umt5;

MUST_CHECK enum error_code umt5_open(struct umt5 **out, struct runtime *runtime,
                                     const struct weights *file, const struct umt5_config *config,
                                     int64_t *elements, struct error *error);
void umt5_close(struct runtime *runtime, struct umt5 **umt5);

/* rows [count,width] f32 (host) of ids [count] (host), each below the vocabulary. Work memory is
 * given back. */
MUST_CHECK enum error_code umt5_encode(const struct umt5 *umt5, struct runtime *runtime,
                                       float *rows, const int32_t *ids, int count,
                                       struct error *error);

/* Bucket of the distance key - query. Pure; for tests. */
int umt5_bucket(int distance, int buckets, int max_distance);

#endif
