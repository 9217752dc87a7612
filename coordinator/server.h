/* The server: the coordinator's edge. One thread owns the sockets, the ledger, the clock and the
 * folders, and drives the pure scheduler (scheduler.h).
 *
 * One turn of server_run:
 *   1. wait for messages, then gather what arrives within 3 ms or until there is no more;
 *   2. decode each message, check who sent it, make it a scheduler event (or answer a question);
 *   3. one ledger_apply of every record that came out of it;
 *   4. hand what is to be published to a thread (hash, sync, rename, sync the folder), whose
 *      results are events of later turns: a busy disk holds no answer up;
 *   5. send replies and leases.
 * So nothing is acknowledged that is not on the disk. A turn whose commit meets a full disk is kept
 * and tried again every half second: meanwhile workers keep their leases and nothing is sent that
 * promises anything; a new job is refused with ERR_FULL. Any other failure of the ledger ends
 * server_run with its error, and the next start reads what is there.
 *
 * PEERS. A peer is its DEALER's routing id. Workers come in at worker endpoints, clients at client
 * endpoints; a message at the wrong one is refused. What is malformed, oversized or out of turn is
 * dropped and counted, never fatal. A peer that does not read loses its messages, not our memory: a
 * worker that a lease cannot be sent to is lost.
 *
 * SUBMISSION. A client uploads what its job file names by content hash, in chunks, then submits the
 * job file's text with a manifest (name → hash). The job reader runs here, over those uploads. A
 * job is known by the hash of its resolved document: the same document again is the same job, which
 * is resumed if it was paused, retried if it had failed or was canceled; so a client that got no
 * answer just asks again. A changed document is a new job, and its unchanged tasks find their
 * results.
 *
 * FILES under `state`, and nothing else is written there:
 *   lock, ledger.db*      ledger.h
 *   uploads/<hex>         prompt lists and images by content hash; <hex>.part while they arrive.
 *                         Kept while an unfinished job names it, else removed after an hour, or
 *                         earlier when there are too many (SERVER_UPLOAD_* in server_uploads.h)
 *   store/                artifacts (worker/store/ has the layout: objects/ab/<hex>, staging/).
 *                         The server only ever removes: objects that no unfinished video needs,
 *                         once a job is done.
 * Beside published files lie `.NAME.<epoch>.part`, which the scheduler names and tells to remove;
 * at open, those of dead epochs beside the outputs of unfinished videos are removed. */
#ifndef VIDLOOM_COORDINATOR_SERVER_H
#define VIDLOOM_COORDINATOR_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "coordinator/job.h"

#define SERVER_ENDPOINTS_MAX 8 /* of each kind */

struct server;
struct endpoint_context; /* proto/endpoint.h */

/* Everything that is pointed to must live until server_close. */
struct server_config {
    const char *state; /* folder, made if it is not there */
    const char *store; /* folder of artifacts; NULL: state/store */
    /* In front of relative output paths; NULL: the current folder at server_open. */
    const char *output_root;

    /* Where to listen: "inproc://NAME", "tcp://127.0.0.1:7310", "tcp://127.0.0.1:*" (any free port,
     * see server_address). Either count may be 0. Beyond loopback: ERR_UNSUPPORTED, without keys.
     */
    const char *const *worker_endpoints;
    int worker_endpoint_count;
    const char *const *client_endpoints;
    int client_endpoint_count;
    /* The ZeroMQ context that inproc peers share; stays the caller's. NULL: a context of our own.
     */
    struct endpoint_context *context;

    int64_t lease_ns;  /* 0: 30 s. Without progress for so long, a lease is given to another. */
    int64_t worker_ns; /* 0: 30 s. Silence after which a worker is lost. */

    /* Only read_model and find_lora are asked, in the server's thread. Files come by upload alone,
     * or a client could have any file of this machine read by naming it. */
    struct job_resolver resolver;

    /* A new job whose outputs collide with those of an unfinished older one of the same name: the
     * older is canceled. False: the new one is refused. */
    bool supersede;
    bool overwrite;          /* replace foreign files at output paths, whatever the jobs say */
    struct log *log;         /* may be NULL */
    const atomic_bool *stop; /* may be NULL; set by a signal handler or another thread */
    /* server_run ends when every job has ended, but not before one was submitted or taken up from
     * the ledger. Clients get the last news first. */
    bool exit_when_idle;
};

/* Take the lock, open the ledger, rebuild the scheduler from it, remove part files of dead epochs,
 * finish interrupted publications, bind. Errors: ledger_sqlite_open's (ERR_BUSY: another
 * coordinator has this state folder; names its process), ERR_USAGE (an endpoint that is not one),
 * ERR_BUSY, ERR_NETWORK (cannot bind: says which and why), ERR_UNSUPPORTED, ERR_FORMAT, ERR_MEMORY,
 * ERR_IO. */
MUST_CHECK enum error_code server_open(struct server **out, const struct server_config *config,
                                       struct error *error);

/* Serve until *stop, or idle (exit_when_idle): ERR_OK. Workers are told that the coordinator goes
 * away (as if they were not known: they say hello to the next one); everything acknowledged is
 * committed. Looks at *stop at least every 100 ms. May be called from another thread than
 * server_open, one after the other. Errors: the ledger's, ERR_MEMORY, ERR_NETWORK. */
MUST_CHECK enum error_code server_run(struct server *server, struct error *error);

void server_close(struct server **out); /* NULL is fine; gives back the lock */

/* The address bound for endpoint `index` of its kind, as a peer would connect to it. */
const char *server_worker_address(const struct server *server, int index);
const char *server_client_address(const struct server *server, int index);

/* For metrics and tests. Read it from the server's thread, or after server_run. */
struct server_counts {
    uint64_t received, malformed; /* messages */
    uint64_t refused;             /* messages: not known, not allowed, out of turn */
    uint64_t unsent;              /* messages that their peer did not take */
    uint64_t commits, records;
    uint64_t full; /* commits that met a full disk */
    uint64_t published;
};
void server_counts(const struct server *server, struct server_counts *out);

#endif
