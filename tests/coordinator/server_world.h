/* A world for the server's tests: a folder, a server in a thread or in a process that can be
 * killed, and workers that speak the wire but compute nothing: their artifacts are made of the
 * task's key.
 *
 * What a published file must hold follows from the plan alone, so it is the same whatever happened
 * on the way. */
#ifndef VIDLOOM_TESTS_SERVER_WORLD_H
#define VIDLOOM_TESTS_SERVER_WORLD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/client.h"
#include "coordinator/server.h"
#include "proto/endpoint.h"
#include "proto/message.h"

struct world {
    char folder[256]; /* state/ and out/ are in it */
    struct server_config config;
    const char *worker_endpoint[1], *client_endpoint[1];
    char worker_address[ENDPOINT_ADDRESS_BYTES], client_address[ENDPOINT_ADDRESS_BYTES];
    struct endpoint_context *context;
    struct server *server;
    pthread_t thread;
    atomic_bool stop;
    enum error_code outcome; /* of server_run */
    struct server_counts counts;
    struct client *client;
};

/* Makes the folder and the context. `tcp`: over loopback instead of inproc. */
void world_make(struct world *world, bool tcp);
void world_destroy(struct world *world);
/* A server in a thread of this process, and a client of it. */
void world_serve(struct world *world);
void world_stop(struct world *world); /* by the stop flag */
/* Wait for a server that ends by itself. */
void world_join(struct world *world);

/* A server in another process at TCP ports that stay the same; killed by SIGKILL. */
pid_t world_spawn(struct world *world);
void world_kill(pid_t child);
/* What main does for such a process: serves until it is killed. */
int world_child(int argc, char **argv);
void world_connect(struct world *world); /* the client alone */

/* Write text to folder/name and give the path. */
const char *world_write(struct world *world, const char *name, const char *text);
bool world_has(const struct world *world, const char *name);
/* Files under folder/name whose name ends in `suffix`; all when it is "". */
int world_count(const struct world *world, const char *name, const char *suffix);

/* Submit a job file; the test fails if it is refused. */
uint64_t world_submit(struct world *world, const char *yaml);
/* Follow it to its end. */
enum job_state world_follow(struct world *world, uint64_t job);

/* -- a worker */
struct fake {
    struct world *world;
    char name[32];
    int slots;
    int delay_ms;       /* a task takes */
    atomic_bool stop;   /* says bye */
    atomic_bool vanish; /* says nothing any more, at once */
    atomic_int leases, known, stale, refused;
    /* The first lease of this kind is taken and written, but not reported until `release`. */
    int hold_kind; /* -1: none */
    atomic_bool holding, release;
    enum error_code fail; /* every task fails with it; ERR_OK: none does */
    pthread_t thread;
};
void fake_start(struct fake *fake, struct world *world, const char *name);
void fake_stop(struct fake *fake);

/* Two models, "fake" and "experts", and any LoRA; one whose name begins with "low-" is unclear. */
struct job_resolver world_resolver(void);

#endif
