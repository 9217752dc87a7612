/* The transformers that share the steps of a request: one, or two experts of the same shape, the
 * first for high noise and the second for low (Wan2.2 A14B).
 *
 * Where memory is short one expert is held at a time: the one that is asked for is read again, and
 * the other is given back before. One thread at a time. */
#ifndef VIDLOOM_WORKER_MODEL_DENOISER_H
#define VIDLOOM_WORKER_MODEL_DENOISER_H

#include "worker/model/transformer.h"

struct expert {
    struct weights *file;
    struct transformer *transformer; /* NULL: not held now */
};

struct denoiser {
    struct denoiser_config source;
    struct transformer_config config; /* of each expert */
    struct expert expert[CONFIG_EXPERTS_MAX];
    bool alone;                       /* one expert is held at a time */
    size_t params_mark;               /* of the params arena, before the experts */
    size_t params_second, params_end; /* of the second expert */
    size_t made_mark;                 /* of the memory of weights that are made, likewise */
    int64_t elements;                 /* in all experts */
    size_t second_bytes;              /* of weights: what holding the second expert takes */
};

/* Open the experts of `source` in a model's folder; their files stay open. alone: only the first of
 * two. What is opened after this on the same params arena would be lost when experts are exchanged,
 * so a denoiser that is alone is opened last.
 * Errors: of files and configurations; ERR_SHAPE when two experts differ in shape. */
MUST_CHECK enum error_code denoiser_open(struct denoiser *denoiser, struct runtime *runtime,
                                         const char *folder, const struct denoiser_config *source,
                                         bool alone, struct error *error);
void denoiser_close(struct denoiser *denoiser, struct runtime *runtime);

/* Which expert is for a time, 0..1000. */
int denoiser_choose(const struct denoiser *denoiser, float time);
/* Hold this expert. The runtime is the real one that it was opened on. */
MUST_CHECK enum error_code denoiser_hold(struct denoiser *denoiser, struct runtime *runtime,
                                         int expert, struct error *error);
/* From now on one expert at a time; false: it is so already, or there is one only. */
bool denoiser_part(struct denoiser *denoiser, struct runtime *runtime);
/* This expert; when measuring, any that is held, since they are alike. */
const struct transformer *denoiser_transformer(const struct denoiser *denoiser,
                                               const struct runtime *runtime, int expert);

#endif
