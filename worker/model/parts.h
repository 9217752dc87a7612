/* The components of a model folder, opened together on one runtime: really, or on the measuring
 * table to check every tensor and count what it will take. */
#ifndef VIDLOOM_WORKER_MODEL_PARTS_H
#define VIDLOOM_WORKER_MODEL_PARTS_H

#include "worker/model/clip.h"
#include "worker/model/config.h"
#include "worker/model/denoiser.h"
#include "worker/model/tokenizer.h"
#include "worker/model/umt5.h"
#include "worker/model/vae.h"

struct parts {
    struct model_config config;
    struct umt5_config umt5_config;
    struct clip_config clip_config;
    struct vae_config vae_config; /* also where the VAE itself is not opened */
    struct tokenizer *tokenizer;
    struct umt5 *umt5;
    struct clip *clip;
    struct vae *vae;
    struct denoiser denoisers[2];
    struct denoiser *keyframe, *window;               /* NULL: not opened; may be the same */
    struct weights *umt5_file, *clip_file, *vae_file; /* NULL: not opened */
    int64_t elements;
    int stages; /* that are opened */
};

/* The stages that a folder has, by its folders alone. */
int parts_stages(const char *folder, const struct model_config *config);

/* Open the stages and with the LoRAs of `options` on the runtime, whose params
 * arena must be large enough or measuring. A measured opening reads no weights and no tokenizer.
 * alone: of two experts, one at a time. */
MUST_CHECK enum error_code parts_open(struct parts *parts, struct runtime *runtime,
                                      const char *folder, const struct model_options *options,
                                      bool alone, struct error *error);
/* The tokenizer, which a measured opening leaves out: parts has the text encoder, and no tokenizer
 * yet. ERR_SHAPE: it has more pieces than the text encoder. */
MUST_CHECK enum error_code parts_open_tokenizer(struct parts *parts, const char *folder,
                                                struct error *error);
void parts_close(struct parts *parts, struct runtime *runtime);

/* The weight files in the order in which they are hashed; NULL for one that is not open. Returns
 * how many. */
#define PARTS_FILES_MAX 7
int parts_files(const struct weights *out[PARTS_FILES_MAX], const struct parts *parts);

/* The most bytes that merging LoRAs takes for a while (lora.h): at opening, and, of experts that
 * are held one at a time, in every request. */
size_t parts_passing(const struct parts *parts);

/* What a denoiser makes windows from. */
bool parts_window_from_text(const struct parts *parts);
unsigned parts_window_rules(const struct parts *parts); /* 1 << enum window_rule */
enum window_end parts_window_end(const struct parts *parts);

#endif
