/* The models that a worker has open: opened when a task first needs one, kept until another needs
 * the room. One thread. */
#ifndef VIDLOOM_WORKER_MODELS_H
#define VIDLOOM_WORKER_MODELS_H

#include "base/error.h"
#include "base/hash.h"
#include "kernels/ops.h"
#include "worker/model/model.h"

struct models;

struct models_config {
    const struct ops *ops;
    struct device *device; /* outlives the models */
    const char *folder;    /* where a bare name such as "pocket" is looked up */
    enum dtype dtype;      /* compute type */
    int open_max;          /* 0: 4. The one used longest ago is closed to make room. */
};

MUST_CHECK enum error_code models_open(struct models **out, const struct models_config *config,
                                       struct error *error);
void models_close(struct models **models); /* NULL is fine */

/* The model that `spec` (a bare name, or a path) names, with `stage` open. Belongs to `models`;
 * valid until the next models_get. A model whose hash is not `hash` is ERR_MISSING: the job was
 * planned with other weights than this worker has. */
MUST_CHECK enum error_code models_get(struct models *models, struct model **out, const char *spec,
                                      const struct hash *hash, enum model_stage stage,
                                      struct error *error);

/* Where `spec` is: a bare name is a folder in `folder`, anything with a slash is a path. */
MUST_CHECK enum error_code models_path(char out[4096], const char *folder, const char *spec,
                                       struct error *error);

#endif
