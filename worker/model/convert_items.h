/* The tensors of one component under another layout's names and shapes. */
#ifndef VIDLOOM_WORKER_MODEL_CONVERT_ITEMS_H
#define VIDLOOM_WORKER_MODEL_CONVERT_ITEMS_H

#include "base/arena.h"
#include "worker/model/convert.h"
#include "worker/model/names.h"
#include "worker/model/safetensors.h"
#include "worker/model/weights.h"

/* Items in order of the weights' names; names are in the arena. Left out is what no layout needs
 * twice or at all: an alias of the embedding, a tokenizer in a tensor, CLIP's text half.
 * Errors: ERR_UNSUPPORTED (blocks without a type), ERR_MISSING (q, k, v that are not whole),
 * ERR_LIMIT. */
MUST_CHECK enum error_code convert_items(struct safetensors_item **out, size_t *count,
                                         struct arena *arena, const struct weights *weights,
                                         enum names_component component,
                                         const struct convert_options *options,
                                         struct error *error);

#endif
