/* LoRA files: what they add to a transformer's weights, W + strength·(alpha/r)·up·down.
 *
 * A file is read as any weights are (weights.h), under the names that trainers give: of the
 * original or the diffusers layout, after any of the usual prefixes, with dots or (kohya's)
 * underscores, with up and down under five pairs of suffixes, `.alpha`, and `.diff`, `.diff_b`,
 * `.diff_m`, which add to a weight, a bias, a modulation as they are. A name that is none of these,
 * a pair that is not whole, a target that the model does not have or of another shape is refused:
 * nothing is left out silently.
 *
 * Adding checks; the sum is made when a layer takes its weights (lora_merge), in f32, before they
 * are rounded to what the layer computes in. Only tensors that a file touches are copied. */
#ifndef VIDLOOM_WORKER_MODEL_LORA_H
#define VIDLOOM_WORKER_MODEL_LORA_H

#include "base/error.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

#define LORA_FILES_MAX 16 /* of one transformer */

/* Let the file at `path`, times `strength`, be added to a transformer's weights, besides those
 * added before. After weights_select, before the weights are used. Errors: as weights_open;
 * ERR_UNSUPPORTED (a name that no trainer gives), ERR_FORMAT (half a pair, a type), ERR_SHAPE (made
 * for another model: says what was expected), ERR_LIMIT. */
MUST_CHECK enum error_code lora_add(struct weights *weights, const char *path, float strength,
                                    struct error *error);

/* Whether every number of the file is one. Reads all of it: for check, which reads it anyway.
 * Errors: as weights_open; ERR_FORMAT (not finite: says where). */
MUST_CHECK enum error_code lora_check_finite(const char *path, struct error *error);

/* What a LoRA file is by itself. */
struct lora_summary {
    int pairs, rank_min, rank_max; /* up and down; ranks 0 without pairs */
    int differences;               /* .diff, .diff_b, .diff_m */
    int64_t width;                 /* of the model, by its self-attention; 0: not to be told */
};
/* False when a name is none that a LoRA has. */
bool lora_describe(struct lora_summary *out, const struct weights *weights);

/* The bytes that merging has taken and not given back, or, on a measuring runtime, will take. */
size_t lora_bytes(const struct weights *weights);

/* *out: the tensor of `weights` with all that was added to it, rounded once, to `dtype` (F32 or
 * BF16); the tensor itself where nothing was. Lives until the weights are closed. On a measuring
 * runtime its data is not there. Errors: ERR_FORMAT where the sum is not finite (says which file is
 * at fault), ERR_MEMORY, the device's. */
MUST_CHECK enum error_code lora_merge(const struct tensor **out, const struct weights *weights,
                                      const struct tensor *tensor, struct runtime *runtime,
                                      enum dtype dtype, struct error *error);
/* Merging takes memory for a while, and so does what it makes where a layer copies it and it is
 * released. A layer that uses it where it lies says so by lora_keep: then it is of the weights. The
 * most bytes that were taken for a while at once; counted on a measuring runtime, too. `weights`
 * NULL is fine. */
size_t lora_passing(const struct weights *weights);
void lora_keep(const struct weights *weights, const struct tensor *tensor);
/* Give back what merging made of `tensor`; of every tensor where it is NULL. No layer may use it
 * any more; merged again, it is made again. `weights` NULL is fine. */
void lora_release(const struct weights *weights, const struct tensor *tensor);

#endif
