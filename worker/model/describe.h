/* What the shapes of a component's tensors say of it, in the words of a diffusers config.json: for
 * a folder or a file that has none, and for writing one. What shapes cannot say (a head's width, an
 * epsilon, the statistics of latents) is as the published models have it. */
#ifndef VIDLOOM_WORKER_MODEL_DESCRIBE_H
#define VIDLOOM_WORKER_MODEL_DESCRIBE_H

#include "base/buffer.h"
#include "base/error.h"
#include "worker/model/names.h"
#include "worker/model/weights.h"

/* Which component the tensors are; false when none. Any layout, names as component_open gives them.
 */
bool describe_component(enum names_component *out, const struct weights *weights);

/* What a transformer is made for, as the original layout's model_type says it: "t2v", "i2v",
 * "flf2v", "ti2v"; NULL when its channels are of none. */
const char *describe_transformer(const struct weights *weights);

/* Whether a transformer reads a picture through CLIP. */
bool describe_has_image_branch(const struct weights *weights);

/* "Wan2.1-T2V-1.3B", "umT5-XXL": which published model the sizes are of; NULL when of none. */
const char *describe_published(const struct weights *weights);

struct transformer_config;

/* config.json's text. `known` says of a transformer what shapes do not: its heads and epsilon;
 * NULL: the published ones'. Errors: ERR_UNSUPPORTED (a tensor that the component has is missing,
 * or a size is none that was published), ERR_MEMORY. */
MUST_CHECK enum error_code describe_config(struct buffer *out, const struct weights *weights,
                                           enum names_component component,
                                           const struct transformer_config *known,
                                           struct error *error);

#endif
