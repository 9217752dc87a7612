/* The Wan diffusion transformer: text-to-video and image-to-video forms, latents in, velocity out.
 *
 * A request has three lifetimes of work memory, innermost last:
 *   transformer_grid   rotary tables of one latent size
 *   transformer_text   keys and values of one text for every layer; they do not depend on time
 *   transformer_step   one forward
 * Each takes from the runtime's work arena and stays until the caller resets it; a forward gives
 * its own memory back.
 *
 * Source: diffusers, transformer_wan.py. One thread at a time. */
#ifndef VIDLOOM_WORKER_MODEL_TRANSFORMER_H
#define VIDLOOM_WORKER_MODEL_TRANSFORMER_H

#include "worker/model/config.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

struct transformer;

MUST_CHECK enum error_code transformer_open(struct transformer **out, struct runtime *runtime,
                                            const struct weights *file,
                                            const struct transformer_config *config,
                                            int64_t *elements, struct error *error);
void transformer_close(struct runtime *runtime, struct transformer **transformer);
const struct transformer_config *transformer_get_config(const struct transformer *transformer);

struct transformer_grid {
    int64_t frames, height, width; /* latents */
    int64_t tokens;                /* frames · height/2 · width/2 */
    const float *cosine, *sine;    /* [tokens, head_dim/2] device */
};

/* height and width are even. */
MUST_CHECK enum error_code transformer_grid_open(struct transformer_grid *grid,
                                                 const struct transformer *transformer,
                                                 struct runtime *runtime, int64_t frames,
                                                 int64_t height, int64_t width,
                                                 struct error *error);

struct transformer_text {
    const void *kv;    /* [layers][rows][2·width] compute type: k normed, then v */
    const float *bias; /* [rows] of the logits, device; NULL: zeros */
    int64_t rows;
};

/* rows [count,text_width] f32 (host). The reference pads them with zero rows to `text_length` and
 * attends to the padding: its rows are all the same, so one row whose logit has ln(how many) added
 * is the same softmax. */
void transformer_text_open(struct transformer_text *text, const struct transformer *transformer,
                           struct runtime *runtime, const float *rows, int count, int text_length);

#define TRANSFORMER_TIMES_MAX 2 /* given and generated frames of TI2V */

/* The time of tokens, 0..1000. */
struct transformer_time {
    float value[TRANSFORMER_TIMES_MAX];
    int count;
    const uint8_t *group; /* [tokens] device: which value; NULL: all value[0] */
};

/* velocity [Cout,T,h,w] = model(latents ‖ condition, time, text). latents [Cout,T,h,w] f32 noisy;
 * condition [Cin-Cout,T,h,w] f32 (mask, then condition latents), or NULL when Cin = Cout. Device.
 * velocity may not be one of the inputs. */
void transformer_forward(const struct transformer *transformer, struct runtime *runtime,
                         float *velocity, const float *latents, const float *condition,
                         const struct transformer_grid *grid, const struct transformer_text *text,
                         const struct transformer_time *time);

#endif
