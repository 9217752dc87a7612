/* A model folder, opened: text, keyframe, window, decode. What the stages of a worker call; needs
 * neither ZeroMQ nor FFmpeg.
 *
 * A folder is the published layout (diffusers or original) or the pocket family's: see
 * worker/model/MODEL.md for every tensor name, constant and rule.
 *
 * One thread at a time per model. Weights are memory-mapped for as long as the model is open.
 * Buffers marked host are the caller's. All sizes are in pixels, latents, or frames as named. */
#ifndef VIDLOOM_WORKER_MODEL_MODEL_H
#define VIDLOOM_WORKER_MODEL_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "kernels/ops.h"

struct model;

enum model_stage { STAGE_TEXT = 1, STAGE_KEYFRAME = 2, STAGE_WINDOW = 4, STAGE_VAE = 8 };

enum sampler { SAMPLER_EULER, SAMPLER_UNIPC, SAMPLER_RENOISE };

struct model_info {
    char family[32];  /* "pocket", "wan2.1", "wan2.2" */
    struct hash hash; /* of every weight and configuration file that is used */
    int64_t parameters;
    int stages;                     /* enum model_stage, or-ed: what the folder can do */
    int latent_channels;            /* 16 */
    int time_stride, space_stride;  /* of the VAE: 4 and 8 */
    int size_multiple;              /* width and height must be multiples of this: 16 */
    int size_min, size_max;         /* pixels a side */
    int width, height, fps;         /* the ones it was trained for */
    int window_frames;              /* frames a window yields: 17; 4n+1 */
    int overlaps[4], overlap_count; /* numbers of tail frames it can continue from: 1, 5 */
    int text_length, text_width;    /* rows that text is padded to; their width */
    enum sampler sampler;           /* defaults of its scheduler */
    int steps;
    float guidance, shift;
};

/* Read configuration and tensor headers only: fast, no weights touched. For check and inspect.
 * Errors: ERR_MISSING (names the file), ERR_FORMAT, ERR_SHAPE (names the tensor, its shape and the
 * one expected), ERR_UNSUPPORTED (what was recognised and what not). */
MUST_CHECK enum error_code model_read_info(struct model_info *out, const char *folder,
                                           struct error *error);

/* Open `stages` of the folder on a device. dtype is the compute type. */
MUST_CHECK enum error_code model_open(struct model **out, const struct ops *ops,
                                      struct device *device, const char *folder, int stages,
                                      enum dtype dtype, struct error *error);
void model_close(struct model **model);
const struct model_info *model_get_info(const struct model *model);
/* The most work memory that a task has taken since the model was opened. */
size_t model_work_peak(const struct model *model);

struct model_size {
    int width, height; /* pixels */
    int frames;        /* of one window; 1 for a keyframe */
};
/* Whether the model can make this size; the error says which sizes it can. Pure. */
MUST_CHECK enum error_code model_check_size(const struct model_info *info,
                                            const struct model_size *size, struct error *error);

/* Bytes and arithmetic that one task will take beside the weights, by running its code on the
 * measuring table. */
struct model_cost {
    size_t weight_bytes, work_bytes;
    double flops;         /* keyframe, window: with the model's own number of steps and guidance */
    double flops_forward; /* keyframe, window: one pass of the transformer */
    int forwards;         /* passes that `flops` has: a step takes two with guidance, else one */
};
MUST_CHECK enum error_code model_plan(struct model_cost *out, const char *folder,
                                      enum model_stage stage, const struct model_size *size,
                                      enum dtype dtype, struct error *error);

/* Text to embeddings: rows[0..*count) of info.text_width f32 (host, room for info.text_length).
 * The text is cleaned and cut as the reference does; the cut keeps </s>. */
MUST_CHECK enum error_code model_encode_text(struct model *model, float *rows, int *count,
                                             const char *text, struct error *error);

struct model_text {
    const float *rows; /* [count, text_width] f32, host */
    int count;
};

struct denoise_request {
    struct model_size size;
    struct model_text positive, negative; /* negative is read only if guidance != 1 */
    enum sampler sampler;
    int steps;
    float guidance, shift;
    uint64_t seed, stream; /* noise element i is random_normal(seed, stream, i) over [C,T,h,w] */
    /* Called after every step; may be NULL. */
    void (*progress)(void *user, int step, int steps);
    void *user;
    const atomic_bool *cancel; /* looked at before every step: ERR_INTERRUPTED; may be NULL */
};

/* latents [C,1,H/8,W/8] f32 host, normalised. */
MUST_CHECK enum error_code model_keyframe(struct model *model, float *latents,
                                          const struct denoise_request *request,
                                          struct error *error);
/* tail: the `tail_frames` (one of info.overlaps) RGB frames [o,H,W,3] u8 host that the window
 * starts with. latents [C,T,H/8,W/8] f32 host with T = (frames-1)/4+1; its first frames re-make the
 * tail. */
MUST_CHECK enum error_code model_window(struct model *model, float *latents, const uint8_t *tail,
                                        int tail_frames, const struct denoise_request *request,
                                        struct error *error);

/* Latents to frames, in order, a few at a time: sink gets [count,H,W,3] u8 (host, valid during the
 * call). Memory does not depend on `latent_frames`. A sink's error ends the decode and is
 * returned. */
typedef enum error_code (*frame_sink)(void *user, const uint8_t *rgb, int count,
                                      struct error *error);
MUST_CHECK enum error_code model_decode(struct model *model, const float *latents,
                                        int latent_frames, int width, int height, frame_sink sink,
                                        void *user, struct error *error);

#endif
