/* Life of the server, its loop, and sending. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/grow.h"
#include "coordinator/server_internal.h"

void server_fail(struct server *server, const struct error *error) {
    if (server->failure.code == ERR_OK)
        server->failure = *error;
}

/* -- sending ----------------------------------------------------------------------------------- */

static bool encode(struct server *server) {
    struct error error;
    if (message_encode(&server->frame, server->out, &error) == ERR_OK)
        return true;
    log_line(server->config.log, LOG_ERROR, "coordinator", "cannot say %s: %s",
             message_name(server->out->which_body), error.detail);
    return false;
}

bool server_send(struct server *server, struct endpoint *endpoint, uint64_t peer) {
    if (endpoint && encode(server) &&
        endpoint_send(endpoint, peer, server->frame.data, server->frame.length, NULL) == ERR_OK)
        return true;
    server->counts.unsent++;
    return false;
}

static bool queue_answer(struct server *server, uint64_t peer) {
    if (!encode(server) || server->answer_bytes + server->frame.length > SERVER_ANSWERS_BYTES)
        return false;
    struct answer *answers =
        grow(server->answers, &server->answer_capacity, server->answer_count, sizeof *answers);
    if (!answers)
        return false;
    server->answers = answers;
    char *copy = malloc(server->frame.length + 1);
    if (!copy)
        return false;
    memcpy(copy, server->frame.data, server->frame.length);
    server->answer_bytes += server->frame.length;
    server->answers[server->answer_count++] =
        (struct answer){.peer = peer, .bytes = copy, .length = server->frame.length};
    return true;
}

void server_answer(struct server *server, uint64_t peer, bool promise) {
    if (server->full && !promise)
        server_send(server, server->clients, peer);
    else if (!queue_answer(server, peer))
        server->counts.unsent++; /* the client asks again */
}

void server_send_answers(struct server *server) {
    for (size_t i = 0; i < server->answer_count; i++) {
        struct answer *answer = &server->answers[i];
        if (endpoint_send(server->clients, answer->peer, answer->bytes, answer->length, NULL) !=
            ERR_OK)
            server->counts.unsent++;
        free(answer->bytes);
    }
    server->answer_count = server->answer_bytes = 0;
}

/* -- receiving --------------------------------------------------------------------------------- */

static void look_at_clock(struct server *server) {
    server->now = clock_monotonic_ns();
    server->wall = clock_wall_ns();
}

/* Another version of a client is told so; what is malformed gets no answer. */
static void on_undecodable(struct server *server, struct endpoint *endpoint, uint64_t peer,
                           const struct error *error) {
    server->counts.malformed++;
    if (error->code == ERR_UNSUPPORTED && endpoint == server->clients &&
        server->in->envelope.request)
        server_refuse(server, peer, error);
}

static void on_frame(struct server *server, struct endpoint *endpoint,
                     const struct endpoint_frame *frame) {
    struct error error;
    server->counts.received++;
    if (message_decode(server->in, frame->bytes, frame->length, &error) != ERR_OK) {
        on_undecodable(server, endpoint, frame->peer, &error);
        return;
    }
    unsigned senders = message_senders(server->in->envelope.which_body);
    bool worker = endpoint == server->workers;
    if (!(senders & (worker ? MESSAGE_WORKER : MESSAGE_CLIENT)) ||
        (!worker && server->in->envelope.request == 0)) {
        server->counts.refused++;
        return;
    }
    if (worker)
        server_worker_message(server, frame->peer);
    else
        server_client_message(server, frame->peer);
}

/* One message of each endpoint by turns, so that neither starves the other. */
static bool receive_round(struct server *server) {
    struct endpoint_frame frame;
    bool any = false;
    if (server->workers && endpoint_receive(server->workers, &frame)) {
        on_frame(server, server->workers, &frame);
        any = true;
    }
    if (server->clients && endpoint_receive(server->clients, &frame)) {
        on_frame(server, server->clients, &frame);
        any = true;
    }
    return any;
}

static void gather(struct server *server) {
    int64_t until = server->now + SERVER_GATHER_NS;
    while (server->failure.code == ERR_OK && receive_round(server)) {
        look_at_clock(server);
        if (server->now >= until)
            break;
    }
}

/* -- time -------------------------------------------------------------------------------------- */

static bool scheduler_has(const struct server *server, uint64_t worker) {
    for (int i = 0; i < scheduler_worker_count(server->scheduler); i++) {
        struct worker_status status;
        if (scheduler_worker_at(server->scheduler, i, server->now, &status) && status.id == worker)
            return true;
    }
    return false;
}

/* The scheduler loses workers that are silent, and says so to nobody. */
static void drop_silent_sessions(struct server *server) {
    if (server->session_count <= scheduler_worker_count(server->scheduler))
        return;
    for (int i = 0; i < server->session_count; i++) {
        struct session *session = server->sessions[i];
        if (scheduler_has(server, session->id))
            continue;
        log_line(server->config.log, LOG_WARNING, "coordinator", "worker=%s lost: silent",
                 session->name);
        session_remove(server, session);
        i--;
    }
}

static void sweep_uploads(struct server *server) {
    struct hash *kept = NULL;
    size_t count = 0, capacity = 0;
    for (int place = 0; place < scheduler_job_count(server->scheduler); place++) {
        struct job_status status;
        uint64_t id = scheduler_job_at(server->scheduler, place);
        if (!scheduler_job_status(server->scheduler, id, &status) || status.state == JOB_DONE)
            continue;
        for (int i = 0; i < 2 * status.job->video_count; i++) {
            const struct job_video *video = &status.job->videos[i / 2];
            const struct job_file *image = i % 2 ? video->end : video->image;
            if (!image)
                continue;
            struct hash *larger = grow(kept, &capacity, count, sizeof *kept);
            if (!larger) {
                free(kept);
                return;
            }
            kept = larger;
            kept[count++] = image->hash;
        }
    }
    if (count)
        qsort(kept, count, sizeof *kept, uploads_compare);
    uploads_sweep(server->uploads, kept, count,
                  server->wall - (uploads_crowded(server->uploads) ? SERVER_UPLOAD_SHORT_NS
                                                                   : SERVER_UPLOAD_AGE_NS));
    free(kept);
}

static void pass_time(struct server *server) {
    if (server->now >= server->tick_at) {
        scheduler_tick(server->scheduler, server->wall, server->now, &server->actions);
        drop_silent_sessions(server);
        server->tick_at = server->now + SERVER_TICK_NS;
    }
    if (server->now >= server->sweep_at) {
        sweep_uploads(server);
        server->sweep_at = server->now + SERVER_SWEEP_NS;
    }
}

static bool is_over(struct server *server) {
    if (server->config.stop && atomic_load(server->config.stop))
        return true;
    if (!server->config.exit_when_idle || !server->had_work || server->full ||
        !scheduler_is_idle(server->scheduler)) {
        server->idle_since = 0;
        return false;
    }
    if (server->idle_since == 0)
        server->idle_since = server->now;
    return server->now - server->idle_since >= SERVER_LAST_NEWS_NS;
}

/* -- the loop ---------------------------------------------------------------------------------- */

static enum error_code turn(struct server *server, struct error *error) {
    struct endpoint *endpoints[2];
    size_t count = 0;
    if (server->workers)
        endpoints[count++] = server->workers;
    if (server->clients)
        endpoints[count++] = server->clients;
    int wait_ms = publisher_is_busy(server->publisher) ? SERVER_PUBLISHING_MS : SERVER_LOOK_MS;
    enum error_code code = endpoint_wait(endpoints, count, wait_ms, false, error);
    if (code != ERR_OK)
        return code;
    look_at_clock(server);
    gather(server);
    server_take_published(server);
    pass_time(server);
    if (server->full && server->now < server->retry_at)
        return ERR_OK;
    return server_flush(server, error);
}

enum error_code server_run(struct server *server, struct error *error) {
    enum error_code code = ERR_OK;
    look_at_clock(server);
    while (code == ERR_OK && !is_over(server))
        code = turn(server, error);
    server_dismiss_workers(server);
    /* Closing throws away what is not sent yet: the last news, and that we go. */
    const struct timespec moment = {.tv_nsec = SERVER_PARTING_MS * CLOCK_MS};
    nanosleep(&moment, NULL);
    log_line(
        server->config.log, code == ERR_OK ? LOG_INFO : LOG_ERROR, "coordinator",
        "stops messages=%llu malformed=%llu commits=%llu published=%llu%s%s",
        (unsigned long long)server->counts.received, (unsigned long long)server->counts.malformed,
        (unsigned long long)server->counts.commits, (unsigned long long)server->counts.published,
        code == ERR_OK ? "" : " error=", code == ERR_OK ? "" : error->detail);
    return code;
}

void server_counts(const struct server *server, struct server_counts *out) {
    *out = server->counts;
    if (server->workers)
        out->malformed += endpoint_dropped(server->workers);
    if (server->clients)
        out->malformed += endpoint_dropped(server->clients);
}

/* -- life -------------------------------------------------------------------------------------- */

static enum error_code set_folders(struct server *server, struct error *error) {
    const struct server_config *config = &server->config;
    char here[FILE_PATH_BYTES];
    if (!getcwd(here, sizeof here))
        return error_set_errno(error, errno, "cannot tell the current folder");
    /* Absolute, as workers get these paths and may be elsewhere. */
    const char *root = config->output_root && *config->output_root ? config->output_root : here;
    enum error_code code = config->state[0] == '/'
                               ? file_join(server->state, "/", config->state + 1, error)
                               : file_join(server->state, here, config->state, error);
    if (code == ERR_OK)
        code = root[0] == '/' ? file_join(server->root, "/", root + 1, error)
                              : file_join(server->root, here, root, error);
    if (code == ERR_OK)
        code = !config->store            ? file_join(server->store, server->state, "store", error)
               : config->store[0] == '/' ? file_join(server->store, "/", config->store + 1, error)
                                         : file_join(server->store, here, config->store, error);
    if (code == ERR_OK)
        code = file_make_folders(server->state, error);
    return code == ERR_OK ? file_make_folders(server->store, error) : code;
}

static enum error_code open_state(struct server *server, struct error *error) {
    char uploads[FILE_PATH_BYTES];
    enum error_code code = set_folders(server, error);
    if (code == ERR_OK)
        code = ledger_sqlite_open(&server->ledger, server->state, error);
    if (code == ERR_OK)
        code = file_join(uploads, server->state, "uploads", error);
    if (code == ERR_OK)
        code = uploads_open(&server->uploads, uploads, error);
    if (code == ERR_OK)
        code = server_recover(server, error);
    if (code != ERR_OK)
        return code;
    server->recovering = true;
    scheduler_start(server->scheduler, server->now, &server->actions);
    code = server_flush(server, error);
    server->recovering = server->full;
    return code;
}

static enum error_code bind_all(struct server *server, struct endpoint **out,
                                char (*bound)[ENDPOINT_ADDRESS_BYTES], const char *const *addresses,
                                int count, struct error *error) {
    const struct endpoint_config config = {.context = server->context, .role = ENDPOINT_ROUTER};
    if (count == 0)
        return ERR_OK;
    if (count > SERVER_ENDPOINTS_MAX)
        return error_set(error, ERR_LIMIT, "%d addresses to listen at; at most %d", count,
                         SERVER_ENDPOINTS_MAX);
    enum error_code code = endpoint_open(out, &config, error);
    for (int i = 0; i < count && code == ERR_OK; i++) {
        code = endpoint_bind(*out, addresses[i], error);
        if (code == ERR_OK)
            snprintf(bound[i], ENDPOINT_ADDRESS_BYTES, "%s", endpoint_address(*out));
    }
    return code;
}

static enum error_code open_sockets(struct server *server, struct error *error) {
    const struct server_config *config = &server->config;
    enum error_code code = ERR_OK;
    if (!config->context)
        code = endpoint_context_open(&server->own_context, error);
    server->context = config->context ? config->context : server->own_context;
    if (code == ERR_OK)
        code = bind_all(server, &server->workers, server->worker_addresses,
                        config->worker_endpoints, config->worker_endpoint_count, error);
    if (code == ERR_OK)
        code = bind_all(server, &server->clients, server->client_addresses,
                        config->client_endpoints, config->client_endpoint_count, error);
    return code;
}

static enum error_code open_buffers(struct server *server, struct error *error) {
    server->in = calloc(1, sizeof *server->in);
    server->out = calloc(1, sizeof *server->out);
    server->inputs = calloc(PROTO_INPUTS_MAX, sizeof *server->inputs);
    if (!server->in || !server->out || !server->inputs)
        return error_set(error, ERR_MEMORY, "no memory for messages");
    return arena_open(&server->arena, SERVER_REQUEST_BYTES, error);
}

enum error_code server_open(struct server **out, const struct server_config *config,
                            struct error *error) {
    struct server *server = calloc(1, sizeof *server);
    if (!server)
        return error_set(error, ERR_MEMORY, "no memory for the coordinator");
    server->config = *config;
    look_at_clock(server);
    server->revision = server->first_revision = (uint64_t)server->wall;
    enum error_code code = open_buffers(server, error);
    if (code == ERR_OK)
        code = publisher_open(&server->publisher, error);
    if (code == ERR_OK)
        code = open_state(server, error);
    if (code == ERR_OK)
        code = open_sockets(server, error);
    if (code != ERR_OK) {
        server_close(&server);
        return code;
    }
    log_line(config->log, LOG_INFO, "coordinator", "state=%s jobs=%d leader=%llu", server->state,
             scheduler_job_count(server->scheduler),
             (unsigned long long)ledger_leader(server->ledger));
    *out = server;
    return ERR_OK;
}

static void free_answers(struct server *server) {
    for (size_t i = 0; i < server->answer_count; i++)
        free(server->answers[i].bytes);
    free(server->answers);
}

void server_close(struct server **out) {
    struct server *server = *out;
    if (!server)
        return;
    publisher_close(&server->publisher);
    endpoint_close(&server->workers);
    endpoint_close(&server->clients);
    endpoint_context_close(&server->own_context);
    scheduler_actions_close(&server->actions);
    scheduler_actions_close(&server->spare);
    scheduler_close(&server->scheduler);
    uploads_close(&server->uploads);
    ledger_close(&server->ledger);
    sessions_close(server);
    changes_close(server);
    free_answers(server);
    free(server->known);
    free(server->records);
    free(server->in);
    free(server->out);
    free(server->inputs);
    buffer_close(&server->frame);
    buffer_close(&server->texts);
    arena_close(&server->arena);
    free(server);
    *out = NULL;
}

const char *server_worker_address(const struct server *server, int index) {
    return server->worker_addresses[index];
}

const char *server_client_address(const struct server *server, int index) {
    return server->client_addresses[index];
}
