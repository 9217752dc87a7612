/* The compute thread: owns the device, the models and the store's use, runs one task at a time.
 *
 * The network thread hands work in and takes it out again when it is done; a piece of work belongs
 * to whoever holds it. All functions are for the network thread; `wake` is called from the compute
 * thread, after every finished piece and every step of progress. */
#ifndef VIDLOOM_WORKER_COMPUTE_H
#define VIDLOOM_WORKER_COMPUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "worker/stage.h"

enum work_kind {
    WORK_TEXT,
    WORK_KEYFRAME,
    WORK_IMAGE,
    WORK_WINDOW,
    WORK_DECODE,
    WORK_MUX,
    WORK_KIND_COUNT
};

/* One lease. Zeroed, filled by the network thread; made and freed with work_new and work_free. */
struct work {
    struct hash key;
    uint64_t epoch;
    enum work_kind kind;
    char *parameters; /* JSON text */
    size_t parameters_length;
    struct stage_artifact *inputs;
    int input_count;
    char *image_path; /* NULL: none */
    struct hash image_hash;
    char *staged; /* NULL: none */
    char class[64];
    /* filled by the compute thread */
    enum error_code code;
    struct error error;
    struct stage_result result;
    double seconds;
    struct work *next;
};

struct work *work_new(int input_count); /* NULL: no memory */
void work_free(struct work *work);      /* NULL is fine */

struct compute;

struct compute_config {
    const struct ops *ops;
    struct device_config device;
    enum dtype dtype;
    const char *models; /* folder */
    void (*wake)(void *user);
    void *user;
};

/* Open the device and start the thread. Errors: the device's, ERR_MEMORY. */
MUST_CHECK enum error_code compute_open(struct compute **out, const struct compute_config *config,
                                        struct error *error);
/* Stops the task at hand, drops what waits, joins the thread. NULL is fine. */
void compute_close(struct compute **compute);

void compute_device_info(const struct compute *compute, struct device_info *out);
/* Where artifacts are; to be called before the first compute_add, again when the coordinator names
 * another folder and nothing runs. */
MUST_CHECK enum error_code compute_set_store(struct compute *compute, const char *folder,
                                             struct error *error);

void compute_add(struct compute *compute, struct work *work); /* takes it over */
struct work *compute_take(struct compute *compute);           /* a finished one, or NULL */
/* Stop the piece with this epoch, wherever it is; it comes out with ERR_INTERRUPTED. 0: all. */
void compute_stop(struct compute *compute, uint64_t epoch);

struct compute_progress {
    uint64_t epoch; /* 0: nothing runs */
    struct hash key;
    int step, steps; /* 0 of 0 until the first step */
};
void compute_get_progress(struct compute *compute, struct compute_progress *out);
int compute_held(struct compute *compute); /* pieces waiting or running */

#endif
