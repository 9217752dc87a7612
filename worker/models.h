/* The models that a worker has open: opened when a task first needs one, kept until another needs
 * the room. One with LoRAs, or with its weights held in another type, is a model of its own.
 * One thread. */
#ifndef VIDLOOM_WORKER_MODELS_H
#define VIDLOOM_WORKER_MODELS_H

#include "base/error.h"
#include "base/hash.h"
#include "kernels/ops.h"
#include "worker/model/model.h"

#define MODELS_LORAS_MAX 16 /* of one model */

struct models;

struct models_config {
    const struct ops *ops;
    struct device *device; /* outlives the models */
    const char *folder;    /* where bare names are looked up: "pocket", "style.safetensors" */
    enum dtype dtype;      /* compute type */
    /* Bytes that the weights of all that is open and the work of a task may take; 0: no limit. Half
     * of it is for weights. A model of which not even that much would fit with its blocks streamed
     * is opened in parts, each for the stages of a task. Where not all that is open fits, what was
     * used longest ago gives back what it can bring in again from its files, and is closed only if
     * that is too little: so what alternates stays open. What is too large even alone is read from
     * its files as model.h says, and `streaming` is told. */
    size_t memory;
    stream_notice streaming; /* may be NULL */
    /* Told of a folder before it is opened, and for which stages; may be NULL. */
    void (*opening)(void *user, const char *folder, int stages);
    void *user;
    /* 0: 4; 12 where a device has weights of its own (ops_wants.uploads), on which a model is
     * opened in parts beside each other; 16 where there is a limit. The one used longest ago is
     * closed. */
    int open_max;
};

MUST_CHECK enum error_code models_open(struct models **out, const struct models_config *config,
                                       struct error *error);
void models_close(struct models **models); /* NULL is fine */
/* A task was ERR_MEMORY: close everything, and from now on open models in parts; or, if that was
 * not what was wrong, hold nothing beside what this kind of task needs when one runs. False where
 * neither can help: there is no limit, or it is so already. */
bool models_shed(struct models *models);

struct models_lora {
    const char *spec;
    struct hash hash; /* of the file */
    float strength;
    enum lora_expert expert;
};
/* Specs are bare names in the folder of models, or paths: what has a slash. */
struct models_request {
    const char *spec;
    struct hash hash;
    int stages;         /* enum model_stage, or-ed: what will be asked of the model */
    enum dtype weights; /* what matrices are held in: model_options.weights */
    struct models_lora loras[MODELS_LORAS_MAX]; /* in the order in which they are added */
    int lora_count;
};

/* The model that is asked for, with its stages open. Belongs to `models`; valid until the next
 * models_get. A model or a LoRA whose hash is not the one asked for is ERR_MISSING: the job was
 * planned with other files than this worker has. */
MUST_CHECK enum error_code models_get(struct models *models, struct model **out,
                                      const struct models_request *request, struct error *error);

#endif
