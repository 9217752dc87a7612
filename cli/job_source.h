/* A job file on this machine's disk: the resolver that coordinator/job.h asks for, with models read
 * by worker/model. Used by run, submit and check. One thread. */
#ifndef VIDLOOM_CLI_JOB_SOURCE_H
#define VIDLOOM_CLI_JOB_SOURCE_H

#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "coordinator/job.h"
#include "coordinator/output.h"
#include "worker/model/model.h"

#define JOB_SOURCE_MODELS_MAX 16

struct job_source {
    const char *models;           /* folder of models */
    char folder[FILE_PATH_BYTES]; /* of the job file; names in it are relative to this */
    char state[FILE_PATH_BYTES];  /* absolute: no output goes there */
    struct output_places places;
    const char *text;
    size_t length;
    struct {
        char spec[LIMIT_PATH_BYTES + 1];
        char folder[FILE_PATH_BYTES];
        struct model_info info;
        struct model_facts facts;
    } known[JOB_SOURCE_MODELS_MAX]; /* models read so far: each is read once */
    int known_count;
};

/* The folder of models: `given` if not NULL, else the first there is of ./models and the ones
 * beside and above the program. Never fails: without any it is "models", which the errors then
 * name. */
void models_folder(char out[FILE_PATH_BYTES], const char *given);

/* The folder of the model that a job calls `spec`: a name is looked for in `models`, what has a '/'
 * in it is a path. ERR_MISSING says which models there are. */
MUST_CHECK enum error_code model_folder(char out[FILE_PATH_BYTES], const char *models,
                                        const char *spec, struct error *error);

/* Whether it is a picture that can be decoded. Errors: media_read_image's. */
MUST_CHECK enum error_code job_source_check_image(const char *path, struct error *error);

/* Read the job file at `path` and resolve it, for a run in the current folder that keeps its state
 * in `state`. The source stays valid for asking after its models. Errors: those of job_parse and
 * file_read. */
MUST_CHECK enum error_code job_source_open(struct job **out, struct job_source *source,
                                           const char *path, const char *models, const char *state,
                                           struct arena *arena, struct error *error);

/* Tell of what is not wrong but may not be meant: every job_next_warning. */
void job_source_warn(FILE *to, const struct job *job);
/* The same of a key that does nothing on this device: `attention: 8bit` where the model's heads,
 * the device or the compute type have no such attention. */
void job_source_warn_device(FILE *to, const struct job_source *source, const struct job *job,
                            const struct ops *ops, int index, enum dtype dtype);

/* The resolver alone, for a coordinator: `source` with `models` set, otherwise zero or from
 * job_source_open; used in one thread at a time, and lives as long as the resolver is used. */
void job_source_resolver(struct job_resolver *out, struct job_source *source);

/* How the model is opened: its LoRAs and the type of its weights. `loras` and `paths` are what *out
 * points into; the other options are the caller's. */
MUST_CHECK enum error_code job_source_options(struct model_options *out,
                                              struct model_lora loras[LIMIT_LORAS],
                                              char paths[LIMIT_LORAS][FILE_PATH_BYTES],
                                              const struct job_source *source,
                                              const struct job_model *model, struct error *error);

/* What was read of a model of the job; NULL for a spec that the job does not have. */
const struct model_info *job_source_model(const struct job_source *source, const char *spec,
                                          const char **folder);

#endif
