/* The noise of one request: draws one after another, whichever generator they come from. */
#ifndef VIDLOOM_WORKER_MODEL_NOISE_H
#define VIDLOOM_WORKER_MODEL_NOISE_H

#include "worker/model/model.h"
#include "worker/model/torch_noise.h"

struct noise_source {
    enum noise noise;
    uint64_t seed, stream;
    uint64_t drawn;           /* elements so far */
    struct torch_noise torch; /* seeded at the first draw */
};

void noise_draw(struct noise_source *source, float *out, size_t count);

#endif
