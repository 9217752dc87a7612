/* An open model from the inside, and how its tasks run: planned, given room, run.
 *
 * A task is a body that runs alike on the real device and on the measuring table, where it touches
 * no host buffer of its request. Running one plans it first, so that it is refused before it starts
 * when there is no room. One file a kind of task: text.c, denoise.c, decode.c; plan.c runs them
 * dry. */
#ifndef VIDLOOM_WORKER_MODEL_TASK_H
#define VIDLOOM_WORKER_MODEL_TASK_H

#include "worker/model/model.h"
#include "worker/model/parts.h"
#include "worker/model/sampler.h"

struct model {
    struct parts parts;
    struct model_info info;
    struct runtime runtime;
    struct arena params, made, work;
    size_t work_peak; /* over arenas that were since replaced, too */
    size_t memory;    /* for weights and work; 0: no limit */
    size_t fixed;     /* bytes of weights that are neither in streams nor in params */
    size_t giving;    /* of them, on a GPU: what need not be there at once */
    size_t others;    /* bytes of weights that were on the device before */
    size_t passing;   /* that merging LoRAs takes for a while */
};

/* What the configuration says of the folder; all but the hash. */
void model_fill_info(struct model_info *out, const struct parts *parts);

/* A model on the measuring table. */
struct measured {
    struct runtime runtime;
    struct arena params, made, work;
    struct parts parts;
};

MUST_CHECK enum error_code measured_open(struct measured *measured, const char *folder,
                                         const struct model_options *options, struct error *error);
void measured_close(struct measured *measured);
size_t measured_weights(const struct measured *measured); /* bytes, parameters included */
/* Of them those that are not in streams, those that can give way on a GPU, and those of second
 * experts; and all that must be in memory at once with one expert at a time and the rest streamed,
 * or given way. */
size_t measured_fixed(const struct measured *measured);
size_t measured_giving(const struct measured *measured);
size_t measured_second_expert(const struct measured *measured);
size_t measured_least(const struct measured *measured);

/* How weights are held within options->memory. */
struct holding {
    bool alone;          /* of two experts, one at a time */
    bool streaming;      /* not all streams fit */
    size_t work;         /* bytes beside them, of a task or while LoRAs are merged */
    size_t bytes;        /* at once */
    size_t bytes_reread; /* for one task */
    size_t bytes_pass;   /* for every pass of it besides */
};
/* Beside so much work, with what merging takes: at opening before it, of one expert at a time
 * beside it. ERR_MEMORY: in no way; says what they take. */
MUST_CHECK enum error_code measured_hold(struct holding *out, const struct measured *measured,
                                         const struct model_options *options, size_t work,
                                         struct error *error);

typedef enum error_code task_body(struct parts *parts, struct runtime *runtime, void *request,
                                  struct error *error);

/* Make room, refuse if there is none, run. Weights that do not fit beside the task's work are
 * streamed. */
MUST_CHECK enum error_code model_run(struct model *model, task_body *body, void *request,
                                     struct error *error);

/* -- the bodies and what they take ----------------------------------------------------------- */

struct text_task {
    float *rows;
    const int32_t *ids;
    int count;
};

struct denoise_task {
    const struct denoise_request *request;
    const struct model_info *info;
    struct window_source source; /* of a window */
    bool window;                 /* else a keyframe */
    float *latents;              /* host, out; holds the noise before */
    struct schedule schedule;
};

/* The size of a request's latents. */
struct extent {
    int64_t channels, frames, height, width, plane, count;
};

struct extent extent_of(const struct model_info *info, const struct model_size *size);

/* The bytes that denoising adds to a request's work memory: what a window starts from. */
struct condition {
    float *channels;       /* [4+C,T,h,w] beside the noise: mask and latents; NULL: none */
    float *prefix;         /* [C,prefix_frames,h,w] latents that are given; NULL: none */
    int64_t prefix_frames; /* latent frames */
    float *image;          /* [image_rows,image_width] of the image encoder; NULL: none */
    int64_t image_rows;
};

MUST_CHECK enum error_code condition_open(struct condition *condition, struct parts *parts,
                                          struct runtime *runtime, const struct denoise_task *task,
                                          const struct extent *extent, struct error *error);

struct decode_task {
    const float *latents;
    int latent_frames, width, height;
    int space_stride;
    const struct frame_sink *sink; /* NULL: nobody wants them */
};

task_body text_body, denoise_body, decode_body;

#endif
