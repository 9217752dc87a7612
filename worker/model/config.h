/* What the JSON files of a model folder say, as plain structs with every field checked.
 *
 * Read: model_index.json, <component>/config.json (diffusers layout, or the original layout's
 * config.json of a transformer), tokenizer/tokenizer_config.json, scheduler/scheduler_config.json.
 * A field that is absent takes the default of the class that the file names; one that has a value
 * which this runtime does not implement is refused by name, never ignored.
 *
 * Errors: ERR_MISSING (a file), ERR_FORMAT (not JSON; a field of the wrong type or out of range),
 * ERR_UNSUPPORTED (a class or a setting). Any thread. */
#ifndef VIDLOOM_WORKER_MODEL_CONFIG_H
#define VIDLOOM_WORKER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"

#define CONFIG_LEVELS_MAX   6    /* of the VAE */
#define CONFIG_CHANNELS_MAX 64   /* of latents */
#define CONFIG_SIGMAS_MAX   1001 /* of a fixed schedule, the last 0 included */

struct umt5_config {
    int vocabulary, width, head_dim, heads, ffn, layers;
    int buckets, max_distance; /* of relative positions */
    float eps;
};

struct transformer_config {
    int heads, head_dim, width; /* width = heads * head_dim */
    int in_channels, out_channels;
    int text_width, frequencies, ffn, layers;
    int image_width; /* of the CLIP rows that the image branch reads; 0: there is none. The original
                        layout's file does not say: transformer_complete_config looks at the tensors
                      */
    int image_rows;  /* of the image branch's positions (FLF2V: 514); 0: it has none */
    float eps;
};

struct clip_config {
    int width, heads, head_dim, ffn, layers; /* width = heads * head_dim */
    int image_size, patch;                   /* pixels a side */
    float eps;
};

struct vae_config {
    int width, decoder_width; /* channels of the outermost level */
    int latent_channels;
    int levels, multiple[CONFIG_LEVELS_MAX];
    int res_blocks;
    bool time_down[CONFIG_LEVELS_MAX]; /* of levels - 1 */
    bool residual;                     /* Wan2.2: a shortcut around every level */
    int patch;                         /* pixels a side that are one of the outermost level: 1, 2 */
    int space_stride;                  /* pixels a side of a latent: 8·patch */
    float mean[CONFIG_CHANNELS_MAX], deviation[CONFIG_CHANNELS_MAX];
};

struct scheduler_config {
    enum sampler sampler;
    int steps;
    float shift, guidance, guidance_low; /* the last of the second expert */
    float shift_small;                   /* of at most MODEL_SMALL pixels; 0: shift */
    int sigma_count;                     /* 0: the schedule is computed from steps and shift */
    float sigma[CONFIG_SIGMAS_MAX];
};

/* How the latents after the given frames of a window are conditioned. */
enum window_condition {
    WINDOW_GREY_FRAMES,  /* Wan2.1, 2.2: grey frames are encoded with the given ones */
    WINDOW_LATENT_ZEROS, /* the pocket family: given frames are encoded alone, then zeros */
    WINDOW_PREFIX,       /* TI2V: given frames are encoded alone and are the first latents */
};

#define CONFIG_EXPERTS_MAX 2

/* The transformers that share the steps of a request: one, or one for high noise and one for low.
 */
struct denoiser_config {
    char folder[CONFIG_EXPERTS_MAX][32]; /* of each; "": there is none */
    int experts;
    float boundary;                 /* the second from times below boundary·1000 */
    const struct model_lora *loras; /* what is added to them: parts_open puts it in */
    int lora_count;
};

struct model_config {
    char family[32];
    struct denoiser_config keyframe, window; /* may be the same; experts 0: there is none */
    bool image_encoder;                      /* CLIP */
    enum window_condition condition;
    int width, height, fps, window_frames;
    bool window_fixed; /* made for windows of that length alone: its index says so */
    int overlaps[4], overlap_count;
    int text_length;
    struct scheduler_config scheduler;
};

MUST_CHECK enum error_code config_read_model(struct model_config *out, const char *folder,
                                             struct error *error);
/* Of one component, from folder/config.json or, where there is none, from the shapes of its weights
 * (NULL: it must be there). */
MUST_CHECK enum error_code config_read_umt5(struct umt5_config *out, const char *folder,
                                            const struct weights *weights, struct error *error);
MUST_CHECK enum error_code config_read_transformer(struct transformer_config *out,
                                                   const char *folder,
                                                   const struct weights *weights,
                                                   struct error *error);
MUST_CHECK enum error_code config_read_clip(struct clip_config *out, const char *folder,
                                            const struct weights *weights, struct error *error);
/* image_processor/preprocessor_config.json of a model folder, where it has one, must say what
 * clip_encode does with a picture: ERR_UNSUPPORTED. */
MUST_CHECK enum error_code config_check_picture(const struct clip_config *config,
                                                const char *folder, struct error *error);
MUST_CHECK enum error_code config_read_vae(struct vae_config *out, const char *folder,
                                           const struct weights *weights, struct error *error);

#endif
