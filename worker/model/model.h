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
#include "worker/model/stream.h"

struct model;

enum model_stage { STAGE_TEXT = 1, STAGE_KEYFRAME = 2, STAGE_WINDOW = 4, STAGE_VAE = 8 };

/* Whose numbers the starting noise is, and all that a sampler adds: random_normal of (seed,
 * stream), or torch.randn with a CPU generator of the seed, one call after another. */
enum noise { NOISE_VIDLOOM, NOISE_TORCH };

enum sampler { SAMPLER_EULER, SAMPLER_UNIPC, SAMPLER_RENOISE, SAMPLER_DPMPP };

/* How a window continues what was before it. Which of them a model can is in its info. */
enum window_rule {
    WINDOW_RULE_MODEL,      /* whichever the model has */
    WINDOW_RULE_LAST_FRAME, /* from the last frame alone */
    WINDOW_RULE_OVERLAP,    /* from 4n+1 frames, encoded with grey after them as channels beside the
                               noise; the mask marks them (Wan2.2-Animate's) */
    WINDOW_RULE_PREFIX, /* from 4n+1 frames, encoded as the first latents, held at time 0 (TI2V) */
};

/* Whether a window can be made to end in a given frame. */
enum window_end { WINDOW_END_NONE, WINDOW_END_MAY, WINDOW_END_MUST };

#define MODEL_SMALL (832 * 480) /* pixels: where Wan2.1's image-to-video takes another shift */

struct model_info {
    char family[32];  /* "pocket", "wan2.1", "wan2.2" */
    struct hash hash; /* of every weight and configuration file that is used */
    int64_t parameters;
    int stages;                    /* enum model_stage, or-ed: what the folder can do */
    int latent_channels;           /* 16, 48 */
    int time_stride, space_stride; /* of the VAE: 4 and 8, 4 and 16 */
    int size_multiple;             /* width and height must be multiples of this: 16, 32 */
    int size_min, size_max;        /* pixels a side */
    int width, height, fps;        /* the ones it was trained for */
    int window_frames;             /* frames a window yields: 17; 4n+1 */
    bool window_fixed;             /* trained for that length alone; else any shorter one will do */
    int overlaps[4], overlap_count; /* numbers of tail frames it can continue from: 1, 5 */
    unsigned window_rules;          /* 1 << enum window_rule, or-ed; 0: no windows from frames */
    bool window_from_text;          /* a window can be made from the text alone */
    enum window_end window_end;     /* FLF2V must be given its last frame */
    int text_length, text_width;    /* rows that text is padded to; their width */
    int head_width; /* channels of a head of the transformer: the windows', else the keyframe's */
    int experts;    /* transformers that share the steps of a request: 1, 2 */
    float boundary; /* of two experts: the first at times from boundary·1000 up */
    enum sampler sampler; /* defaults of its scheduler */
    int steps;
    float guidance, shift;
    float shift_small;  /* at sizes of at most MODEL_SMALL pixels; 0: as at others */
    float guidance_low; /* of the second expert, for low noise */
};

/* Read configuration and tensor headers only: fast, no weights touched. For check and inspect.
 * Errors: ERR_MISSING (names the file), ERR_FORMAT, ERR_SHAPE (names the tensor, its shape and the
 * one expected), ERR_UNSUPPORTED (what was recognised and what not). */
MUST_CHECK enum error_code model_read_info(struct model_info *out, const char *folder,
                                           struct error *error);

/* Read the tokenizer of a folder that has a text encoder, as a model that is opened will.
 * `*pieces`: how many it has; 0 where there is nothing to read, or nothing that reads it (a bare
 * build). `info`: what model_read_info has said of the folder. Errors: ERR_FORMAT, ERR_LIMIT,
 * ERR_UNSUPPORTED (none that we read), ERR_SHAPE (more pieces than the text encoder has). */
MUST_CHECK enum error_code model_check_tokenizer(int *pieces, const struct model_info *info,
                                                 const char *folder, struct error *error);

/* Which of two experts a LoRA is for. By its file's name: to the one that it says, else to both. It
 * says HighNoise, low_noise, high-noise and the like anywhere; or it has the word HIGH or LOW last,
 * in capitals of its own, or before a version, a type or what any file may be called:
 * "…_HIGH_resized", "…_low_lora_64_fp16", not "low-poly" or "low_rank". Without such words the
 * capitals H, HN and L, LN stand for them, last or before the like: "…_H", "…-LN-v2", not "H_hair";
 * with them, one for the other expert makes it say nothing: "…_low_noise_H". */
enum lora_expert { LORA_BY_NAME, LORA_HIGH, LORA_LOW, LORA_BOTH };

/* A LoRA file (lora.h) that is added to every transformer that is opened. */
struct model_lora {
    const char *path;
    float strength;
    enum lora_expert expert; /* read where the model has two */
};

/* LORA_HIGH, LORA_LOW or LORA_BOTH: what `expert` or the name comes to. */
enum lora_expert model_lora_expert(const struct model_lora *lora);

/* That it goes to both although its name has HIGH or LOW as a word, or the letters, but not so that
 * they tell ("…_h", "…_H_…_L"): somebody should say which. */
bool model_lora_is_unclear(const struct model_lora *lora);

struct model_options {
    int stages;       /* enum model_stage, or-ed; all that the folder has: -1 */
    enum dtype dtype; /* compute type: DTYPE_F32, DTYPE_BF16 */
    /* What the matrices of text encoder, image encoder and transformers are held in: BF16; I8 or
     * F8_E4M3, but those that a file keeps in 8 bits or fewer stay; 0 (F32): as the files have
     * them. Where the device has such products, what is multiplied with them is rounded to 8 bits
     * too (ops.linear_create): a forward of a transformer is then within 2 % of bf16's with I8 and
     * 5 % with F8_E4M3; otherwise only the weights are. */
    enum dtype weights;
    /* Bytes that weights and the work of a task may take together; 0: no limit. Weights that do not
     * fit and are used where they lie in their files (on the CPU: all of the large ones) are read
     * ahead of use, a block at a time, in every pass. Where they are copied, two experts that do
     * not fit together are held one at a time, and the other is read again at the boundary of every
     * request. On a GPU they give way to the host's memory instead, and come back when they are
     * used (kernels/ops.h, limit_weights). */
    size_t memory;
    /* Called when a task begins that reads weights in every pass, and it is not as it was the last
     * time; may be NULL. */
    stream_notice streaming;
    void *user; /* its */
    /* What model_read_info has just said of the folder: hashing its files once more takes most of
     * the time of an opening. NULL: read it. */
    const struct model_info *info;
    /* Planning: the table whose memory is counted; NULL: the CPU's. model_open counts its own. */
    const struct ops *like;
    int like_index;                 /* and which of its devices */
    const struct model_lora *loras; /* [lora_count], in the order in which they are added */
    int lora_count;
};

/* Open a folder on a device.
 * Errors: as model_read_info; ERR_MEMORY when the weights do not fit, with what they take at least.
 * A task may still be ERR_MEMORY, when its work does not fit beside them. */
MUST_CHECK enum error_code model_open(struct model **out, const struct ops *ops,
                                      struct device *device, const char *folder,
                                      const struct model_options *options, struct error *error);
void model_close(struct model **model);
/* From now on every task of the model looks at *cancel before every matrix product, convolution and
 * attention, and ends with ERR_INTERRUPTED soon after it is set; NULL: none does. A decode may have
 * given frames of no use to its sink by then. */
void model_set_cancel(struct model *model, const atomic_bool *cancel);
/* What weights and tasks may take together from now on, of a model that was opened with
 * options->memory: as other models come and go. Not 0. */
void model_set_memory(struct model *model, size_t memory);
/* Give back the memory of weights that are used where they lie in their files: the model stays
 * open, and its next task brings them in again. Other weights stay where they are. */
void model_rest(struct model *model);
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

/* Bytes of weights. */
struct model_bytes {
    size_t all;   /* held at once */
    size_t fixed; /* of them, what stays while the model rests (model_rest) */
    size_t least; /* in memory at once where the rest is streamed as far as it can be */
};
/* What the weights of options->stages will take, whatever options->memory says. Reads configuration
 * and headers alone, those of LoRAs too: what is wrong with them, or does not fit the model, is
 * known after it. Errors: as model_open. */
MUST_CHECK enum error_code model_measure(struct model_bytes *out, const char *folder,
                                         const struct model_options *options, struct error *error);

/* Bytes and arithmetic that one task will take beside the weights, by running its code on the
 * measuring table; or that opening takes while LoRAs are merged, where that is more. */
struct model_cost {
    size_t weight_bytes, work_bytes;
    size_t weight_bytes_least; /* in memory at once, if they are streamed as far as they can be */
    size_t held_bytes;         /* of the weights at once, with options->memory */
    size_t read_bytes;    /* read from the files again for one task, as not all are held; 0: none */
    double flops;         /* keyframe, window: with the model's own number of steps and guidance */
    double flops_forward; /* keyframe, window: one pass of the transformer */
    int forwards;         /* passes that `flops` has: a step takes two with guidance, else one */
};
/* Of a model opened with these options for this stage alone; a keyframe's with the VAE that the
 * folder has, which decodes its frame. ERR_MEMORY: it cannot be opened within options->memory. */
MUST_CHECK enum error_code model_plan(struct model_cost *out, const char *folder,
                                      enum model_stage stage, const struct model_size *size,
                                      const struct model_options *options, struct error *error);

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
    struct model_text positive, negative; /* negative is read only if a guidance is not 1 */
    enum sampler sampler;
    int steps;
    float guidance, shift;
    float guidance_low;  /* of the second expert; 0: the same */
    const float *sigmas; /* [steps+1] noise levels that fall from at most 1 to 0, instead of those
                            that the sampler makes of steps and shift; NULL: those */
    bool attention8; /* the video attends to itself in 8 bits, where the device does so: faster, and
                        some percent of every attention's result off */
    enum noise noise;
    uint64_t seed, stream; /* noise is drawn over [C,T,h,w]; torch: no stream */
    /* Called after every step; may be NULL. */
    void (*progress)(void *user, int step, int steps);
    void *user;
    const atomic_bool *cancel; /* looked at before every step: ERR_INTERRUPTED; may be NULL */
};

/* latents [C,1,H/8,W/8] f32 host, normalised. */
MUST_CHECK enum error_code model_keyframe(struct model *model, float *latents,
                                          const struct denoise_request *request,
                                          struct error *error);
/* What a window is made from beside its text; RGB u8 host. All zeros: the text alone. */
struct window_source {
    enum window_rule rule;
    const uint8_t *tail; /* [tail_frames,H,W,3]: the frames that the window starts with */
    int tail_frames;     /* one of info.overlaps */
    const uint8_t *end;  /* [1,H,W,3]: the frame that it ends with, or NULL */
};

/* latents [C,T,H/8,W/8] f32 host with T = (frames-1)/4+1; the first frames re-make the tail.
 * Errors: ERR_UNSUPPORTED (a rule, an end frame, or no tail, that this model is not made for),
 * ERR_SHAPE (tail_frames, size). */
MUST_CHECK enum error_code model_window(struct model *model, float *latents,
                                        const struct window_source *source,
                                        const struct denoise_request *request, struct error *error);

/* A published list of noise levels, for request.sampler, steps and sigmas. */
struct step_list {
    const char *name; /* "lightx2v", "self-forcing", "causvid", "causvid-4", "rcm", "rcm-i2v" */
    enum sampler sampler;
    int steps;
    float sigmas[8];
};
/* NULL when there is none of that name; step_lists: all of them, the last has a NULL name. */
const struct step_list *step_list_find(const char *name);
const struct step_list *step_lists(void);

/* Where decoded frames go. An error that it returns ends the decode. */
struct frame_sink {
    /* The next frames: [count,H,W,3] u8, host, valid during the call. */
    enum error_code (*frames)(void *user, const uint8_t *rgb, int count, struct error *error);
    /* Asked for every frame, in order, some frames ahead of `frames`: where in the device's memory
     * it is wanted too, for an encoder that takes it from there; out->luma NULL: nowhere. It is
     * there when `frames` gets it. NULL: none is wanted. */
    enum error_code (*planes)(void *user, struct nv12_planes *out, struct error *error);
    void *user;
};

/* Latents to frames, in order, a few at a time. Memory does not depend on `latent_frames`. */
MUST_CHECK enum error_code model_decode(struct model *model, const float *latents,
                                        int latent_frames, int width, int height,
                                        const struct frame_sink *sink, struct error *error);

#endif
