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
#include "base/log.h"
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
    bool forgotten; /* nobody wants the result: free it */
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
    size_t memory;      /* bytes; 0: no limit */
    const char *models; /* folder */
    struct log *log;    /* may be NULL */
    void (*wake)(void *user);
    void *user;
};

/* Open the device and start the thread. Errors: the device's, ERR_MEMORY. */
MUST_CHECK enum error_code compute_open(struct compute **out, const struct compute_config *config,
                                        struct error *error);
/* Stops the task at hand, drops what waits, joins the thread. NULL is fine. */
void compute_close(struct compute **owner);

void compute_device_info(const struct compute *compute, struct device_info *out);
/* Where artifacts are; to be called before the first compute_add, again when the coordinator names
 * another folder and nothing runs. */
MUST_CHECK enum error_code compute_set_store(struct compute *compute, const char *folder,
                                             struct error *error);

/* Takes it over. After a piece has shown that this worker cannot go on (ERROR_CLASS_STOP_WORKER)
 * nothing is begun any more: what waits or is added comes out with ERR_INTERRUPTED. */
void compute_add(struct compute *compute, struct work *work);
struct work *compute_take(struct compute *compute); /* a finished one, or NULL */
/* Every piece comes out of compute_take, whatever was done to it. Stopped ones have the code
 * ERR_INTERRUPTED, unless they were finished at that moment. */
void compute_stop(struct compute *compute);                   /* all */
void compute_stop_waiting(struct compute *compute);           /* all but the running one */
void compute_forget(struct compute *compute, uint64_t epoch); /* stop it, mark it forgotten */
void compute_forget_all(struct compute *compute);

struct compute_progress {
    struct hash key;
    uint64_t epoch;
    bool running;    /* else it waits */
    bool forgotten;  /* still being stopped */
    int step, steps; /* 0 of 0 until the first step */
};
/* What runs, then what waits in order. Returns how many, at most `max`. */
int compute_get_progress(struct compute *compute, struct compute_progress *out, int max);
int compute_held(struct compute *compute); /* pieces added and not taken yet */

#endif
