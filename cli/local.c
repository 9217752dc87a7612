#include "cli/local.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cli/crew.h"
#include "coordinator/server.h"
#include "proto/endpoint.h"

#define WORKERS_ENDPOINT "inproc://vidloom-workers"
#define CLIENTS_ENDPOINT "inproc://vidloom-clients"

static const char *const worker_endpoints[] = {WORKERS_ENDPOINT};
static const char *const client_endpoints[] = {CLIENTS_ENDPOINT};

struct local {
    struct local_config config;
    struct endpoint_context *context;
    struct server *server;
    pthread_t server_thread;
    bool server_started;
    struct crew *crew;
    atomic_bool stop_agents, stop_server;
    pthread_mutex_t lock; /* guards failure until `failed` is set */
    struct error failure;
    atomic_bool failed;
};

/* -- threads ---------------------------------------------------------------------------------- */

/* The first failure counts; later ones follow from it. */
static void fail(struct local *local, const struct error *error) {
    pthread_mutex_lock(&local->lock);
    if (!atomic_load(&local->failed))
        local->failure = *error;
    atomic_store(&local->failed, true);
    pthread_mutex_unlock(&local->lock);
    local->config.failed();
}

static void *serve(void *argument) {
    struct local *local = argument;
    struct error error = {0};
    if (server_run(local->server, &error) != ERR_OK)
        fail(local, &error);
    return NULL;
}

static void workers_failed(void *user, const struct error *error) {
    struct local *local = user;
    if (!atomic_load(&local->stop_agents))
        fail(local, error);
}

/* -- life ------------------------------------------------------------------------------------- */

static enum error_code open_server(struct local *local, struct error *error) {
    const struct local_config *config = &local->config;
    struct server_config server = {
        .state = config->state,
        .worker_endpoints = worker_endpoints,
        .worker_endpoint_count = 1,
        .client_endpoints = client_endpoints,
        .client_endpoint_count = 1,
        .context = local->context,
        .resolver = *config->resolver,
        .supersede = true, /* interrupted, edited, and run again */
        .overwrite = config->overwrite,
        .log = config->log,
        .stop = &local->stop_server,
    };
    enum error_code code = server_open(&local->server, &server, error);
    if (code != ERR_OK)
        return code;
    if (pthread_create(&local->server_thread, NULL, serve, local) != 0)
        return error_set(error, ERR_MEMORY, "no thread for the coordinator");
    local->server_started = true;
    return ERR_OK;
}

enum error_code local_open(struct local **out, const struct local_config *config,
                           struct error *error) {
    struct local *local = calloc(1, sizeof *local);
    if (!local)
        return error_set(error, ERR_MEMORY, "no memory for the coordinator");
    local->config = *config;
    pthread_mutex_init(&local->lock, NULL);
    enum error_code code = endpoint_context_open(&local->context, error);
    if (code == ERR_OK)
        code = open_server(local, error);
    if (code != ERR_OK)
        local_close(&local);
    *out = local;
    return code;
}

enum error_code local_connect(struct local *local, struct client **out, const atomic_bool *cancel,
                              struct error *error) {
    struct client_config config = {
        .address = CLIENTS_ENDPOINT,
        .context = local->context,
        .timeout_ns = -1, /* it is there: a busy disk is no reason to give up */
        .cancel = cancel,
    };
    return client_open(out, &config, error);
}

enum error_code local_start_workers(struct local *local, struct error *error) {
    const struct local_config *config = &local->config;
    struct crew_config crew = {
        .agent = {.name = "local",
                  .address = WORKERS_ENDPOINT,
                  .context = local->context,
                  .models = config->models,
                  .device = {.threads = config->threads, .cache = config->state},
                  .dtype = config->dtype,
                  .memory = config->memory,
                  .log = config->log,
                  .stop = &local->stop_agents,
                  .cancel = &local->stop_agents},
        .devices = config->devices,
        .each = config->workers,
        .failed = workers_failed,
        .user = local,
    };
    return crew_open(&local->crew, &crew, error);
}

const atomic_bool *local_has_failed(const struct local *local) {
    return &local->failed;
}

const struct error *local_failure(const struct local *local) {
    return &local->failure;
}

void local_close(struct local **out) {
    struct local *local = *out;
    if (!local)
        return;
    /* Workers first: they hand back what they are at, which the coordinator must still hear. */
    atomic_store(&local->stop_agents, true);
    crew_close(&local->crew);
    atomic_store(&local->stop_server, true);
    if (local->server_started)
        pthread_join(local->server_thread, NULL);
    server_close(&local->server);
    endpoint_context_close(&local->context);
    pthread_mutex_destroy(&local->lock);
    free(local);
    *out = NULL;
}
