/* Workers: their messages become events of the scheduler; its actions become messages. */
#include <math.h>
#include <string.h>

#include "coordinator/server_internal.h"

_Static_assert((int)PLAN_TEXT == vidloom_KIND_TEXT && (int)PLAN_KEYFRAME == vidloom_KIND_KEYFRAME &&
                   (int)PLAN_IMAGE == vidloom_KIND_IMAGE &&
                   (int)PLAN_WINDOW == vidloom_KIND_WINDOW &&
                   (int)PLAN_DECODE == vidloom_KIND_DECODE && (int)PLAN_MUX == vidloom_KIND_MUX,
               "kinds have the same numbers on the wire");

/* -- to a worker ------------------------------------------------------------------------------- */

static void begin(struct server *server, pb_size_t body) {
    message_begin(server->out, body);
}

/* A worker that does not take what it must know is lost. */
static void send_or_lose(struct server *server, struct session *session) {
    if (!server_send(server, server->workers, session->peer))
        session->unreachable = true;
}

static void refuse_peer(struct server *server, uint64_t peer, enum error_code code,
                        const char *detail) {
    server->counts.refused++;
    begin(server, vidloom_Envelope_refused_tag);
    server->out->body.refused.code = (uint32_t)code;
    message_set_text(server->out->body.refused.detail, sizeof server->out->body.refused.detail,
                     detail);
    server_send(server, server->workers, peer);
}

static void welcome(struct server *server, const struct session *session) {
    int64_t lease = server->config.lease_ns ? server->config.lease_ns : SERVER_LEASE_NS;
    int64_t silence = server->config.worker_ns ? server->config.worker_ns : SERVER_WORKER_NS;
    begin(server, vidloom_Envelope_welcome_tag);
    vidloom_Welcome *out = &server->out->body.welcome;
    out->session = session->id;
    out->lease_ms = (uint32_t)(lease / CLOCK_MS);
    out->heartbeat_ms = (uint32_t)(silence / 6 / CLOCK_MS) + 1;
    message_set_text(out->store, sizeof out->store, server->store);
    server_send(server, server->workers, session->peer);
}

static void fill_lease(struct server *server, const struct lease *lease) {
    begin(server, vidloom_Envelope_lease_tag);
    vidloom_Lease *out = &server->out->body.lease;
    message_set_hash(out->key, &lease->key);
    out->epoch = lease->epoch;
    out->lease_ms = (uint32_t)(lease->lease_ns / CLOCK_MS);
    out->kind = (vidloom_Kind)lease->kind;
    out->index = (uint32_t)lease->index;
    out->job = lease->job;
    out->video = (uint32_t)lease->video;
    out->steps = (uint32_t)lease->steps;
    message_set_text(out->job_name, sizeof out->job_name, lease->job_name);
    message_set_text(out->video_name, sizeof out->video_name, lease->video_name);
    message_set_text(out->class, sizeof out->class, lease->class);
    if (lease->staged)
        message_set_text(out->staged, sizeof out->staged, lease->staged);
    if (lease->file) {
        message_set_text(out->file_path, sizeof out->file_path, lease->file->path);
        message_set_hash(out->file_hash, &lease->file->hash);
        out->file_size = (uint64_t)lease->file->bytes;
    }
    out->parameters.bytes = lease->parameters;
    out->parameters.length = lease->parameters_length;
    int count = lease->input_count < PROTO_INPUTS_MAX ? lease->input_count : PROTO_INPUTS_MAX;
    for (int i = 0; i < count; i++) {
        vidloom_Artifact *input = &server->inputs[i];
        message_set_text(input->name, sizeof input->name, lease->inputs[i].name);
        message_set_hash(input->hash, &lease->inputs[i].object.hash);
        input->size = (uint64_t)lease->inputs[i].object.bytes;
    }
    out->inputs.items = server->inputs;
    out->inputs.count = (size_t)count;
}

void server_send_lease(struct server *server, const struct lease *lease) {
    struct session *session = session_of_id(server, lease->worker);
    if (!session)
        return; /* lost in this turn: the scheduler was told */
    const struct held held = {lease->epoch, lease->key, lease->job, lease->video};
    fill_lease(server, lease);
    if (session_hold(session, &held))
        send_or_lose(server, session);
    else
        session->unreachable = true;
    server_touch(server, lease->job, lease->video);
}

void server_send_revoke(struct server *server, uint64_t worker, uint64_t epoch) {
    struct session *session = session_of_id(server, worker);
    if (!session)
        return;
    const struct held *held = session_find_held(session, epoch);
    begin(server, vidloom_Envelope_revoke_tag);
    server->out->body.revoke.epoch = epoch;
    if (held) {
        message_set_hash(server->out->body.revoke.key, &held->key);
        server_touch(server, held->job, held->video);
    }
    session_drop_held(session, epoch);
    send_or_lose(server, session);
}

void server_send_reply(struct server *server, uint64_t worker, uint64_t epoch,
                       enum error_code code) {
    struct session *session = session_of_id(server, worker);
    if (!session)
        return;
    const struct held *held = session_find_held(session, epoch);
    if (held)
        server_touch(server, held->job, held->video);
    session_drop_held(session, epoch);
    begin(server, vidloom_Envelope_result_known_tag);
    server->out->body.result_known.epoch = epoch;
    server->out->body.result_known.code = (uint32_t)code;
    if (!server_send(server, server->workers, session->peer))
        server->counts.unsent++; /* the worker repeats the result */
}

static void drain_session(struct server *server, const struct session *session, bool now_too) {
    begin(server, vidloom_Envelope_drain_tag);
    server->out->body.drain.now = now_too;
    server_send(server, server->workers, session->peer);
}

void server_send_drain(struct server *server, const char *name, bool now_too) {
    struct session *session = session_of_name(server, name);
    if (session)
        drain_session(server, session, now_too);
}

static void lose(struct server *server, struct session *session, const char *why) {
    log_line(server->config.log, LOG_WARNING, "coordinator", "worker=%s lost: %s", session->name,
             why);
    scheduler_worker_lost(server->scheduler, session->id, server->wall, server->now,
                          &server->actions);
    session_remove(server, session);
}

void server_lose_unreachable(struct server *server) {
    for (int i = 0; i < server->session_count; i++)
        if (server->sessions[i]->unreachable)
            lose(server, server->sessions[i--], "it takes no messages");
}

void server_dismiss_workers(struct server *server) {
    for (int i = 0; i < server->session_count; i++)
        refuse_peer(server, server->sessions[i]->peer, ERR_STALE,
                    "the coordinator stops; say hello to the next one");
}

/* -- from a worker ----------------------------------------------------------------------------- */

/* The session of this run of the worker: the one it has, or a new one. */
static struct session *find_or_add(struct server *server, uint64_t peer,
                                   const vidloom_Hello *hello) {
    struct session *session = session_of_nonce(server, hello->nonce);
    struct session *here = session_of_peer(server, peer);
    if (here && here != session)
        lose(server, here, "another worker speaks on its connection");
    if (session) {
        session->peer = peer; /* it has connected again */
        return session;
    }
    struct session *namesake = session_of_name(server, hello->name);
    if (namesake) {
        drain_session(server, namesake, true);
        lose(server, namesake, "another worker has come with its name");
    }
    return session_add(server, peer, hello->nonce);
}

static void on_hello(struct server *server, uint64_t peer, const vidloom_Hello *hello) {
    struct error error;
    if (*hello->name == '\0') {
        refuse_peer(server, peer, ERR_USAGE, "a worker needs a name");
        return;
    }
    struct session *session = find_or_add(server, peer, hello);
    if (!session) {
        refuse_peer(server, peer, ERR_MEMORY, "the coordinator has no memory for a session");
        return;
    }
    message_set_text(session->name, sizeof session->name, hello->name);
    message_set_text(session->device, sizeof session->device, hello->device);
    enum error_code code = scheduler_worker_hello(server->scheduler, session->id, session->name,
                                                  hello->class, hello->kinds & PLAN_KINDS_ALL,
                                                  server->now, &server->actions, &error);
    if (code != ERR_OK) {
        refuse_peer(server, peer, code, error.detail);
        session_remove(server, session);
        return;
    }
    log_line(server->config.log, LOG_INFO, "coordinator", "worker=%s class=%s device=%s hello",
             session->name, hello->class, session->device);
    welcome(server, session);
}

static void on_progress(struct server *server, const struct session *session,
                        const vidloom_Progress *progress) {
    const struct held *held = session_find_held(session, progress->epoch);
    double fraction = isfinite(progress->fraction) ? progress->fraction : 0;
    fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    if (held)
        server_touch(server, held->job, held->video);
    scheduler_worker_progress(server->scheduler, session->id, progress->epoch,
                              progress->step > INT32_MAX ? INT32_MAX : (int)progress->step,
                              fraction, server->now, &server->actions);
}

/* False: more than a task can yield. */
static bool read_outputs(struct task_result *out, const vidloom_Result *result) {
    if (result->outputs_count > LIMIT_OUTPUTS)
        return false;
    out->output_count = (int)result->outputs_count;
    for (int i = 0; i < out->output_count; i++) {
        const vidloom_Artifact *from = &result->outputs[i];
        struct task_output *to = &out->outputs[i];
        if (strlen(from->name) >= sizeof to->name || from->size > INT64_MAX)
            return false;
        memset(to->name, 0, sizeof to->name);
        memcpy(to->name, from->name, strlen(from->name));
        to->hash = message_hash(from->hash);
        to->bytes = (int64_t)from->size;
    }
    return true;
}

static void read_measures(struct task_result *out, const vidloom_Result *result) {
    const vidloom_Measures *in = &result->measures;
    out->measured = result->has_measures;
    out->measures = (struct measures){.colour = in->colour,
                                      .luminance = in->luminance,
                                      .sharpness = in->sharpness,
                                      .seam = in->seam};
}

static void on_result(struct server *server, const struct session *session,
                      const vidloom_Result *result) {
    struct scheduler_outcome outcome = {
        .epoch = result->epoch,
        .key = message_hash(result->key),
        .code = message_code(result->code),
        .detail = result->detail,
        .object_missing = result->object_missing,
        .object = message_hash(result->object),
        .seconds = (double)result->milliseconds / 1e3,
        .wall_ns = server->wall,
    };
    read_measures(&outcome.result, result);
    if (!read_outputs(&outcome.result, result)) {
        outcome.code = ERR_INTERNAL;
        outcome.detail = "the worker's result has outputs that no task yields";
        outcome.result = (struct task_result){0};
    }
    if (outcome.code != ERR_OK)
        log_line(server->config.log, LOG_WARNING, "coordinator", "worker=%s epoch=%llu %s: %s",
                 session->name, (unsigned long long)outcome.epoch, error_name(outcome.code),
                 outcome.detail);
    scheduler_worker_result(server->scheduler, session->id, &outcome, server->now,
                            &server->actions);
}

static void on_bye(struct server *server, struct session *session) {
    log_line(server->config.log, LOG_INFO, "coordinator", "worker=%s bye", session->name);
    scheduler_worker_bye(server->scheduler, session->id, server->now, &server->actions);
    session_remove(server, session);
}

void server_worker_message(struct server *server, uint64_t peer) {
    const vidloom_Envelope *in = &server->in->envelope;
    if (in->which_body == vidloom_Envelope_hello_tag) {
        on_hello(server, peer, &in->body.hello);
        return;
    }
    struct session *session = session_of_peer(server, peer);
    if (!session) {
        if (in->which_body != vidloom_Envelope_bye_tag)
            refuse_peer(server, peer, ERR_STALE, "this coordinator does not know you: say hello");
        return;
    }
    scheduler_worker_alive(server->scheduler, session->id, server->now);
    switch (in->which_body) {
    case vidloom_Envelope_request_work_tag: {
        uint32_t slots = in->body.request_work.slots;
        scheduler_worker_request(server->scheduler, session->id,
                                 slots > LIMIT_SLOTS ? LIMIT_SLOTS : (int)slots, server->now,
                                 &server->actions);
        break;
    }
    case vidloom_Envelope_progress_tag:
        on_progress(server, session, &in->body.progress);
        break;
    case vidloom_Envelope_result_tag:
        on_result(server, session, &in->body.result);
        break;
    case vidloom_Envelope_heartbeat_tag:
        begin(server, vidloom_Envelope_heartbeat_tag);
        server_send(server, server->workers, peer);
        break;
    case vidloom_Envelope_bye_tag:
        on_bye(server, session);
        break;
    default:
        refuse_peer(server, peer, ERR_USAGE, "this is not for a worker to say");
        break;
    }
}
