/* Workers in this process, each with its device and in a thread of its own. */
#ifndef VIDLOOM_CLI_CREW_H
#define VIDLOOM_CLI_CREW_H

#include "cli/backend.h"
#include "worker/agent.h"

#define CREW_MAX 64

struct crew;

struct crew_config {
    struct agent_config agent; /* what all have in common; device.threads 0: the machine's cores,
                                  shared among those that compute on the CPU */
    const struct backend_devices *devices;
    /* Workers on each device; 1 … CREW_MAX in all. Of several on a GPU the last decodes, encodes
     * and joins, and the others do the rest, where agent.kinds is 0. */
    int each;
    /* From a worker's thread, when the last that could work has failed; may be NULL. */
    void (*failed)(void *user, const struct error *error);
    void *user;
};

/* Open every device, then start the threads. One worker has the name agent.name, several have a
 * number after it. Errors: agent_open's, with the device's name; ERR_LIMIT, ERR_MEMORY. */
MUST_CHECK enum error_code crew_open(struct crew **out, const struct crew_config *config,
                                     struct error *error);
/* Until every worker has ended; the first failure of one, or ERR_OK. */
MUST_CHECK enum error_code crew_wait(struct crew *crew, struct error *error);
/* Waits as well: what makes workers end is agent.stop. NULL is fine. */
void crew_close(struct crew **out);

#endif
