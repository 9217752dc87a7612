/* A coordinator and workers in this process, over ZeroMQ inproc: what makes `vidloom run` the same
 * program as `vidloom coordinator`, `vidloom worker` and `vidloom submit --wait`. */
#ifndef VIDLOOM_CLI_LOCAL_H
#define VIDLOOM_CLI_LOCAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/backend.h"
#include "cli/client.h"

struct local;

struct local_config {
    const char *state;  /* folder of ledger and store */
    const char *models; /* folder of models */
    const struct job_resolver *resolver;
    const struct backend_devices *devices; /* outlive it */
    int workers;                           /* on each device */
    int threads; /* of each worker on a CPU; 0: the machine's cores shared among them */
    enum dtype dtype;
    size_t memory; /* of each worker; 0: no limit */
    bool overwrite;
    struct log *log; /* may be NULL */
    /* Set when the coordinator or the last worker has failed: whoever waits for news looks at it.
     */
    void (*failed)(void);
};

/* Open the ledger and start the coordinator's thread; no worker works yet.
 * Errors: server_open's, ERR_MEMORY. */
MUST_CHECK enum error_code local_open(struct local **out, const struct local_config *config,
                                      struct error *error);
/* A client of this coordinator; closed before local_close. */
MUST_CHECK enum error_code local_connect(struct local *local, struct client **out,
                                         const atomic_bool *cancel, struct error *error);
/* Start the workers. Errors: crew_open's. */
MUST_CHECK enum error_code local_start_workers(struct local *local, struct error *error);

/* Whether a part has failed, and then, but not before, why. */
const atomic_bool *local_has_failed(const struct local *local);
const struct error *local_failure(const struct local *local);

/* Stop the workers (what they are at is handed back), then the coordinator; wait for both. NULL is
 * fine. */
void local_close(struct local **out);

#endif
