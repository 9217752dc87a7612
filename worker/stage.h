/* Stages: what a worker does with one task, one file a kind (stage_text.c, stage_keyframe.c,
 * stage_image.c, stage_window.c, stage_decode.c, stage_mux.c).
 *
 * A stage reads its inputs from the store, checks them, computes, and puts its outputs into the
 * store (mux writes the staged file instead). It keeps nothing between tasks except opened models
 * (worker/models.h). Stages run in the worker's one compute thread. */
#ifndef VIDLOOM_WORKER_STAGE_H
#define VIDLOOM_WORKER_STAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "kernels/ops.h"
#include "worker/measure.h"
#include "worker/media/media.h"
#include "worker/model/weights.h"
#include "worker/models.h"
#include "worker/store/store.h"

#define STAGE_NAME_BYTES  32
#define STAGE_OUTPUTS_MAX 2
#define STAGE_SIGMAS_MAX  65 /* noise levels of a lease, the last 0 included */

/* One artifact that goes in or comes out: `name` says what it is to the task ("text", "negative",
 * "frames", "latents", "segment"). */
struct stage_artifact {
    char name[STAGE_NAME_BYTES];
    struct hash hash;
    uint64_t size;
};

struct stage_task {
    struct hash key;
    uint64_t epoch;
    const struct json *parameters; /* coordinator/plan.h documents them for each kind */
    const struct stage_artifact *inputs;
    int input_count;
    const char *image_path; /* image: the user's file; NULL otherwise */
    struct hash image_hash;
    const char *staged; /* mux: where to write the file to be published; NULL otherwise */
    const char *class;  /* the device class that the lease is for */
    /* Called from the compute thread after every step of long work; may be NULL. */
    void (*progress)(void *user, int step, int steps);
    void *user;
    const atomic_bool *cancel; /* ERR_INTERRUPTED soon after it is set */
};

struct stage_result {
    struct stage_artifact outputs[STAGE_OUTPUTS_MAX];
    int output_count;
    bool measured; /* decode */
    struct measures measures;
    /* With ERR_MISSING: an input was not in the store, or was corrupt, and has to be made again. */
    bool object_missing;
    struct hash object;
};

/* What stages work with; owned by the agent, used by the compute thread alone. */
struct stage_context {
    struct store *store;
    struct models *models;
    struct arena arena; /* for one task: reset before each */
    bool gpu;           /* the device is a CUDA card: */
    struct media_card card;
};

/* Errors name what is wrong with which input or parameter. */
typedef enum error_code (*stage_function)(struct stage_context *context,
                                          const struct stage_task *task,
                                          struct stage_result *result, struct error *error);
enum error_code stage_text(struct stage_context *, const struct stage_task *, struct stage_result *,
                           struct error *);
enum error_code stage_keyframe(struct stage_context *, const struct stage_task *,
                               struct stage_result *, struct error *);
enum error_code stage_image(struct stage_context *, const struct stage_task *,
                            struct stage_result *, struct error *);
enum error_code stage_window(struct stage_context *, const struct stage_task *,
                             struct stage_result *, struct error *);
enum error_code stage_decode(struct stage_context *, const struct stage_task *,
                             struct stage_result *, struct error *);
enum error_code stage_mux(struct stage_context *, const struct stage_task *, struct stage_result *,
                          struct error *);

/* -- shared by the stages (stage.c)
 * ---------------------------------------------------------------- */

/* Parameters: present, of the type, and within bounds, or ERR_FORMAT naming the key. */
MUST_CHECK enum error_code stage_int(int64_t *out, const struct stage_task *task, const char *key,
                                     int64_t min, int64_t max, struct error *error);
MUST_CHECK enum error_code stage_double(double *out, const struct stage_task *task, const char *key,
                                        double min, double max, struct error *error);
MUST_CHECK enum error_code stage_string(const char **out, const struct stage_task *task,
                                        const char *key, struct error *error);
/* One of the words, which end with NULL; else ERR_UNSUPPORTED. */
MUST_CHECK enum error_code stage_word(int *out, const struct stage_task *task, const char *key,
                                      const char *const *words, struct error *error);
/* ERR_INTERRUPTED once the task is to be stopped. */
MUST_CHECK enum error_code stage_canceled(const struct stage_task *task, struct error *error);
/* The model that "model" and "model_hash" name, with its weights held and its LoRAs merged as
 * "weights", "lora" and "lora_files" say, and these stages (enum model_stage, or-ed) open; it heeds
 * the task's `cancel`. Valid until the next call. */
MUST_CHECK enum error_code stage_model(struct model **out, struct stage_context *context,
                                       const struct stage_task *task, int stages,
                                       struct error *error);

/* Codec, size, rate and quality, from the parameters of decode and mux. */
MUST_CHECK enum error_code stage_media_spec(struct media_spec *out, const struct stage_task *task,
                                            struct error *error);

/* An input's place in the store, checked to be there and whole. Errors: ERR_MISSING with
 * result->object_missing; others are the store's own. */
MUST_CHECK enum error_code stage_artifact_path(char path[4096], struct stage_context *context,
                                               const struct stage_artifact *artifact,
                                               struct stage_result *result, struct error *error);
bool stage_has_input(const struct stage_task *task, const char *name);
/* What ERR_MISSING with this input means to the coordinator. */
void stage_object_missing(const struct stage_artifact *artifact, struct stage_result *result);
/* The input's one tensor, called `name` in its file too, of this type; dims[i] of -1 take anything.
 * Mapped until weights_close. Errors: as stage_artifact_path; ERR_FORMAT (the lease has no such
 * input); ERR_SHAPE. */
MUST_CHECK enum error_code
stage_tensor(struct weights **file, const struct tensor **out, struct stage_context *context,
             const struct stage_task *task, const char *input, const char *name, enum dtype dtype,
             int rank, const int64_t *dims, struct stage_result *result, struct error *error);
/* Put a tensor into the store as output `name`. */
MUST_CHECK enum error_code stage_put_tensor(struct stage_context *context,
                                            const struct stage_task *task, const char *name,
                                            const struct tensor *tensor,
                                            struct stage_result *result, struct error *error);
/* Put a finished staged file into the store as output `name`. */
MUST_CHECK enum error_code stage_put_file(struct stage_context *context, const char *name,
                                          const char *staged, struct stage_result *result,
                                          struct error *error);

/* Latents as they come from denoising: numbers, or ERR_FORMAT that says what may be at fault. Else
 * they would become black frames. */
MUST_CHECK enum error_code stage_finite(const float *values, size_t count, const char *what,
                                        struct error *error);

/* The request that keyframe and window share, from the parameters and the text inputs. The text
 * files stay mapped until stage_denoise_close. */
struct stage_denoise {
    struct denoise_request request;
    float sigmas[STAGE_SIGMAS_MAX]; /* that the request may point to */
    struct weights *positive, *negative;
};
MUST_CHECK enum error_code stage_denoise_open(struct stage_denoise *out,
                                              struct stage_context *context,
                                              const struct stage_task *task,
                                              const struct model_info *info,
                                              struct stage_result *result, struct error *error);
void stage_denoise_close(struct stage_denoise *denoise);

#endif
