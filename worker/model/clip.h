/* The CLIP vision tower (ViT) that Wan2.1's image-to-video models look at pictures with: a picture
 * to one row for itself and one for each patch, after all blocks but the last, not normed.
 *
 * Source: transformers, modeling_clip.py and image_processing_pil_clip.py; diffusers,
 * pipeline_wan_i2v.py, encode_image. One thread at a time. */
#ifndef VIDLOOM_WORKER_MODEL_CLIP_H
#define VIDLOOM_WORKER_MODEL_CLIP_H

#include "worker/model/config.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

struct clip;

MUST_CHECK enum error_code clip_open(struct clip **out, struct runtime *runtime,
                                     const struct weights *file, const struct clip_config *config,
                                     int64_t *elements, struct error *error);
void clip_close(struct runtime *runtime, struct clip **clip);

/* 1 + (image_size/patch)². */
int64_t clip_rows(const struct clip_config *config);

/* What a picture's channels, 0 to 1, are normalised by. */
extern const float clip_pixel_mean[3], clip_pixel_deviation[3];

/* rows [clip_rows,width] f32 (device) of a picture [height,width,3] u8 (host; not looked at when
 * measuring). Work memory is given back. Errors: ERR_MEMORY. */
MUST_CHECK enum error_code clip_encode(const struct clip *clip, struct runtime *runtime,
                                       float *rows, const uint8_t *rgb, int height, int width,
                                       struct error *error);

/* The picture as the tower takes it: out [image_size,image_size,3] u8. Its shorter side becomes
 * image_size by Pillow's bicubic filter, to the bit; then the middle is cut out. Pure, host. */
MUST_CHECK enum error_code clip_fit_picture(uint8_t *out, int image_size, const uint8_t *rgb,
                                            int height, int width, struct error *error);

#endif
