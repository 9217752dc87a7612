/* A worker: asks a coordinator for work, does it, reports.
 *
 * Two threads. The *network* thread (the caller of agent_run) owns the socket: hello, heartbeats,
 * leases in, progress and results out. The *compute* thread owns the device, the models and the
 * store, and runs one task at a time. They meet in one queue each way, under one lock; the network
 * thread is woken by the compute thread through the endpoint's wake-up.
 *
 * Losing the coordinator is not an error: the worker says hello again, with pauses that double up
 * to 32 s. The running task goes on for as long as its lease would last, and is then stopped, as it
 * will be given to another. In the same session everything is taken up where it was; a new session
 * has none of the old leases, so their work is dropped.
 *
 * Leaving (stop, drain) finishes the task at hand and hands back those that wait. A worker that is
 * drained at once stops all, and never says hello again: another may have come with its name. */
#ifndef VIDLOOM_WORKER_AGENT_H
#define VIDLOOM_WORKER_AGENT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "proto/endpoint.h"

struct agent;

struct agent_config {
    const char *name;                 /* for people; e.g. the host's name and a number */
    const char *address;              /* of the coordinator's worker endpoint */
    struct endpoint_context *context; /* shared with the coordinator when it is inproc */
    const char *models;               /* folder with models */
    const char *store;                /* the store's folder; NULL: the one the coordinator names */
    const struct ops *ops;
    struct device_config device;
    enum dtype dtype;          /* compute type: DTYPE_BF16 or DTYPE_F32 */
    size_t memory;             /* bytes that weights and work may take: models.h; 0: no limit */
    unsigned kinds;            /* task kinds to take: bits 1 << enum work_kind; 0: all */
    struct log *log;           /* may be NULL */
    const atomic_bool *stop;   /* finish the task at hand, say bye, return */
    const atomic_bool *cancel; /* stop the task at hand as well; may be NULL */
    /* Give up when no coordinator has answered for so long: ERR_NETWORK. 0: never. */
    int connect_timeout_ms;
};

/* Opens the device and the store's folder if it is named; does not wait for the coordinator.
 * Errors: ERR_DEVICE, ERR_MEMORY, ERR_NETWORK (the address cannot be used), ERR_USAGE. */
MUST_CHECK enum error_code agent_open(struct agent **out, const struct agent_config *config,
                                      struct error *error);
/* Serve until `stop`, or until the coordinator drains this worker (ERR_OK), or until a task has
 * shown that this worker cannot go on (its error). */
MUST_CHECK enum error_code agent_run(struct agent *agent, struct error *error);
void agent_close(struct agent **owner); /* NULL is fine */

#endif
