/* The components of a model folder, opened together on one runtime: really, or on the measuring
 * table to check every tensor and count what it will take. */
#ifndef VIDLOOM_WORKER_MODEL_PARTS_H
#define VIDLOOM_WORKER_MODEL_PARTS_H

#include "worker/model/config.h"
#include "worker/model/tokenizer.h"
#include "worker/model/transformer.h"
#include "worker/model/umt5.h"
#include "worker/model/vae.h"

enum part { PART_TEXT, PART_KEYFRAME, PART_WINDOW, PART_VAE, PART_COUNT };

struct parts {
    struct model_config config;
    struct umt5_config umt5_config;
    struct transformer_config keyframe_config, window_config;
    struct vae_config vae_config;
    struct weights *file[PART_COUNT]; /* NULL: not opened */
    struct tokenizer *tokenizer;
    struct umt5 *umt5;
    struct transformer *keyframe, *window;
    struct vae *vae;
    int64_t elements;
    int stages; /* that are opened */
};

/* The stages that a folder has, by its folders alone. */
int parts_stages(const char *folder, const struct model_config *config);

/* Open `stages` (enum model_stage, or-ed; all that the folder has: -1) on the runtime, whose params
 * arena must be large enough or measuring. A measured opening reads no weights and no tokenizer. */
MUST_CHECK enum error_code parts_open(struct parts *parts, struct runtime *runtime,
                                      const char *folder, int stages, struct error *error);
void parts_close(struct parts *parts, struct runtime *runtime);

#endif
