/* What a job will take: tasks, memory and arithmetic of every stage, and time. Nothing is run but,
 * where no earlier job tells the speed, one matrix product of a few milliseconds. */
#ifndef VIDLOOM_CLI_ESTIMATE_H
#define VIDLOOM_CLI_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/job_source.h"
#include "coordinator/job.h"
#include "coordinator/ledger.h"
#include "coordinator/plan.h"
#include "kernels/ops.h"

/* Distinct (model, stage, size, frames) of a job that are planned exactly. */
#define ESTIMATE_COSTS_MAX 64

enum estimate_row {
    ESTIMATE_TEXT,
    ESTIMATE_KEYFRAME_TEXT, /* of the keyframe's model, where it is another than the windows' */
    ESTIMATE_KEYFRAME,
    ESTIMATE_IMAGE,
    ESTIMATE_WINDOW,
    ESTIMATE_DECODE,
    ESTIMATE_MUX,
    ESTIMATE_ROWS
};

struct estimate_stage {
    enum plan_kind kind;
    const struct job_model *model; /* of the job; NULL: none is needed */
    int64_t tasks;
    struct model_cost cost; /* the largest of the job's sizes */
    double flops;           /* all tasks */
    double seconds;         /* of one task, measured earlier; 0: not known */
};

struct estimate {
    struct estimate_stage stages[ESTIMATE_ROWS]; /* those without tasks are not there */
    int64_t videos, windows, tasks, frames;
    double video_seconds;    /* length of all videos */
    double seconds;          /* that the job will take on this machine */
    bool measured;           /* from an earlier job; else from the arithmetic */
    double flops_per_second; /* that was reckoned with; 0 when measured */
    /* One worker that does everything: weights at once, the largest work; together within the
     * memory that there is. */
    size_t weight_bytes, work_bytes;
};

/* The worker that is reckoned with. */
struct estimate_worker {
    const struct ops *ops; /* of its device: each table holds weights in its own way */
    int index;             /* of the device */
    enum dtype dtype;      /* that it computes in */
    size_t memory;         /* that it may take; 0: no limit */
};

/* Count tasks and plan memory and arithmetic. The device is not looked at. Errors: plan_count's and
 * model_plan's. */
MUST_CHECK enum error_code estimate_job(struct estimate *out, const struct job *job,
                                        const struct job_source *source,
                                        const struct estimate_worker *worker, struct error *error);

/* Set the times from the latest job in the ledger that used the same model and size and ran on
 * devices of this class (worker/device_class.h); leaves the estimate alone when there is none. */
MUST_CHECK enum error_code estimate_from_ledger(struct estimate *estimate, const struct job *job,
                                                struct ledger *ledger, const char *class,
                                                struct error *error);

/* Set the times from the arithmetic, at the rate of a matrix product of the worker's device, which
 * is open, measured here and now. */
MUST_CHECK enum error_code estimate_from_arithmetic(struct estimate *estimate,
                                                    const struct job *job,
                                                    const struct estimate_worker *worker,
                                                    struct device *device, struct error *error);

/* Floating point operations a second of one matrix product, as large as can be timed well in about
 * `seconds`. */
MUST_CHECK enum error_code estimate_rate(double *out, const struct ops *ops, struct device *device,
                                         enum dtype dtype, double seconds, struct error *error);

#endif
