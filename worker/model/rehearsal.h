/* Wan2.1's arithmetic without its files: a transformer or a decoder with random weights, on any
 * table, for benchmarks. */
#ifndef VIDLOOM_WORKER_MODEL_REHEARSAL_H
#define VIDLOOM_WORKER_MODEL_REHEARSAL_H

#include "worker/model/transformer.h"
#include "worker/model/vae.h"

struct rehearsal {
    struct runtime runtime; /* .flops: of the last run */
    struct arena params, made, work;
    struct transformer *transformer;
    struct vae *vae;
    int64_t frames, height, width; /* latents */
    float *latents;                /* host */
    int64_t voxels;                /* made by the last decode */
    int64_t ns;                    /* that the last run took, without its preparations */
};

struct rehearsal_config {
    const struct ops *ops;
    struct device_config device;
    bool decoder;                  /* the VAE's; else the 1.3B transformer */
    int layers;                    /* of the transformer's 30 */
    enum dtype narrow;             /* as in struct runtime */
    bool attention8;               /* likewise */
    int64_t frames, height, width; /* latents */
};

/* Memory is asked of the measuring table first, as the worker does. Where it stays, as the runtime
 * points into it; to be closed after a failure, too. Errors: the device's; ERR_MEMORY. */
MUST_CHECK enum error_code rehearsal_open(struct rehearsal *rehearsal,
                                          const struct rehearsal_config *config,
                                          struct error *error);
void rehearsal_close(struct rehearsal *rehearsal); /* a zeroed one is fine */

/* `steps` passes of the transformer with what Euler's sampler adds, from a text of 77 rows. */
MUST_CHECK enum error_code rehearsal_steps(struct rehearsal *rehearsal, int steps,
                                           struct error *error);
/* All latents to pixels on the host. */
MUST_CHECK enum error_code rehearsal_decode(struct rehearsal *rehearsal, struct error *error);

#endif
