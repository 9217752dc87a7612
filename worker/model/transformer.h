/* The Wan diffusion transformer: latents in, velocity out. Text-to-video and image-to-video forms,
 * with and without an image branch, with one time or with two for groups of tokens.
 *
 * A request has three lifetimes of work memory, innermost last:
 *   transformer_grid      rotary tables of one latent size
 *   transformer_context   a text or an image as the video attends to it; does not depend on time
 *   one forward
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

/* What the original layout's config.json does not say, by the tensors of its file: the image
 * branch. */
void transformer_complete_config(struct transformer_config *config, const struct weights *file);

MUST_CHECK enum error_code transformer_open(struct transformer **out, struct runtime *runtime,
                                            const struct weights *file,
                                            const struct transformer_config *config,
                                            int64_t *elements, struct error *error);
void transformer_close(struct runtime *runtime, struct transformer **transformer);
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

/* Rows that every token of the video attends to. */
struct transformer_context {
    void *embedded; /* [rows,width] compute type */
    void *kv;       /* [layers][rows][2·width] compute type: k normed, then v; NULL: made anew in
                       every forward, as the video is so long that it costs little */
    const float *bias; /* [rows] of the logits, device; NULL: zeros */
    int64_t rows;
    bool image; /* through the image branch's weights */
};

/* rows [count,text_width] f32 (host). The reference pads them with zero rows to `text_length` and
 * attends to the padding: its rows are all the same, so one row whose logit has ln(how many) added
 * is the same softmax. */
void transformer_text_open(struct transformer_context *text, const struct transformer *transformer,
                           struct runtime *runtime, const struct transformer_grid *grid,
                           const float *rows, int count, int text_length);

/* rows [count,image_width] f32 (device) of the image encoder: of one picture, or of the first and
 * the last one below each other where the model has positions for them. */
void transformer_image_open(struct transformer_context *image,
                            const struct transformer *transformer, struct runtime *runtime,
                            const struct transformer_grid *grid, const float *rows, int64_t count);

#define TRANSFORMER_TIMES_MAX 2 /* given and generated frames of TI2V */

/* The time of tokens, 0..1000. */
struct transformer_time {
    float value[TRANSFORMER_TIMES_MAX];
    int count;
    const uint8_t *group; /* [tokens] device: which value; NULL: all value[0] */
};

struct transformer_input {
    const float *latents;   /* [Cout,T,h,w] f32 noisy, device */
    const float *condition; /* [Cin-Cout,T,h,w] f32 (mask, then condition latents), device; NULL
                               when Cin = Cout */
    const struct transformer_grid *grid;
    const struct transformer_context *text, *image; /* image: NULL where there is no such branch */
    struct transformer_time time;
};

/* velocity [Cout,T,h,w] f32 (device), which may not be one of the inputs. */
void transformer_forward(const struct transformer *transformer, struct runtime *runtime,
                         float *velocity, const struct transformer_input *input);

#endif
