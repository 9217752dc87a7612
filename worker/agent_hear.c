#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/agent_internal.h"

#define SHORTEST_NS (20 * CLOCK_MS) /* of a heartbeat or lease that the coordinator may name */

_Static_assert((int)WORK_TEXT == vidloom_KIND_TEXT && (int)WORK_KEYFRAME == vidloom_KIND_KEYFRAME &&
                   (int)WORK_IMAGE == vidloom_KIND_IMAGE &&
                   (int)WORK_WINDOW == vidloom_KIND_WINDOW &&
                   (int)WORK_DECODE == vidloom_KIND_DECODE && (int)WORK_MUX == vidloom_KIND_MUX,
               "kinds have the same numbers on the wire");

/* A new session has none of the old leases. */
static void begin_session(struct agent *agent, uint64_t session) {
    if (agent->session) {
        compute_forget_all(agent->compute);
        agent_forget_results(agent);
    }
    agent->session = session;
    log_line(agent->config.log, LOG_INFO, "worker", "joined session=%" PRIu64 " device=%s", session,
             agent->device.name);
}

/* False: not yet, because a piece of an older session is still being stopped; or never. */
static bool use_store(struct agent *agent, const char *folder) {
    struct error error;
    if (agent->config.store || (*folder && strcmp(folder, agent->store) == 0))
        return true;
    if (*folder && compute_held(agent->compute) > 0)
        return false;
    enum error_code code =
        *folder ? compute_set_store(agent->compute, folder, &error)
                : error_set(&error, ERR_USAGE,
                            "the coordinator names no store; name its folder with --store");
    if (code != ERR_OK) {
        agent_give_up(agent, &error);
        return false;
    }
    snprintf(agent->store, sizeof agent->store, "%s", folder);
    return true;
}

static int64_t at_least(int64_t milliseconds) {
    int64_t ns = milliseconds * CLOCK_MS;
    return ns > SHORTEST_NS ? ns : SHORTEST_NS;
}

static void on_welcome(struct agent *agent, const vidloom_Welcome *welcome, int64_t now) {
    if (!welcome->session)
        return;
    if (welcome->session != agent->session)
        begin_session(agent, welcome->session);
    agent->heartbeat_ns = at_least(welcome->heartbeat_ms);
    agent->lease_ns = at_least(welcome->lease_ms);
    agent->hello_pause_ns = HELLO_NS;
    agent->joined = use_store(agent, welcome->store);
    if (!agent->joined && !agent->broken)
        return;
    agent_say_request(agent);
    agent->request_ns = now + agent->heartbeat_ns;
    agent->renew_ns = now;
}

static char *copy_text(const void *text, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

/* NULL: no memory. */
static struct work *work_of_lease(const vidloom_Lease *lease) {
    struct work *work = work_new((int)lease->inputs.count);
    if (!work)
        return NULL;
    work->key = message_hash(lease->key);
    work->epoch = lease->epoch;
    work->kind = (enum work_kind)lease->kind;
    work->parameters = copy_text(lease->parameters.bytes, lease->parameters.length);
    work->parameters_length = lease->parameters.length;
    for (size_t i = 0; i < lease->inputs.count; i++) {
        const vidloom_Artifact *input = &lease->inputs.items[i];
        snprintf(work->inputs[i].name, sizeof work->inputs[i].name, "%s", input->name);
        work->inputs[i].hash = message_hash(input->hash);
        work->inputs[i].size = input->size;
    }
    bool whole = work->parameters != NULL;
    if (lease->file_path[0]) {
        work->image_path = copy_text(lease->file_path, strlen(lease->file_path));
        work->image_hash = message_hash(lease->file_hash);
        whole = whole && work->image_path;
    }
    if (lease->staged[0]) {
        work->staged = copy_text(lease->staged, strlen(lease->staged));
        whole = whole && work->staged;
    }
    snprintf(work->class, sizeof work->class, "%s", lease->class);
    if (!whole) {
        work_free(work);
        return NULL;
    }
    return work;
}

static void on_lease(struct agent *agent, const vidloom_Lease *lease, int64_t now) {
    if (!agent->session || !lease->epoch)
        return; /* no coordinator does that */
    struct work *work = work_of_lease(lease);
    if (!work) {
        /* Not answered: it runs out and is given to another. */
        log_line(agent->config.log, LOG_ERROR, "worker", "no memory for a lease");
        return;
    }
    char key[HASH_HEX_BYTES];
    hash_hex(key, &work->key);
    log_line(agent->config.log, LOG_DEBUG, "worker", "lease task=%.12s kind=%d index=%u job=%s/%s",
             key, (int)work->kind, (unsigned)lease->index, lease->job_name, lease->video_name);
    if (agent_is_leaving(agent)) { /* it was on its way when we said: no more */
        work->code = error_set(&work->error, ERR_INTERRUPTED, "the worker is leaving");
        agent_add_result(agent, work, now);
        return;
    }
    compute_add(agent->compute, work);
}

static void drop_result(struct agent *agent, uint64_t epoch) {
    for (struct work **place = &agent->results; *place; place = &(*place)->next) {
        struct work *work = *place;
        if (work->epoch != epoch)
            continue;
        *place = work->next;
        work_free(work);
        return;
    }
}

static void on_revoke(struct agent *agent, uint64_t epoch) {
    compute_forget(agent->compute, epoch);
    drop_result(agent, epoch);
}

static void on_drain(struct agent *agent, bool now_too) {
    agent->draining = true;
    if (!now_too)
        return;
    agent->dismissed = true;
    compute_stop(agent->compute);
}

static void on_refused(struct agent *agent, const vidloom_Refused *refused, int64_t now) {
    enum error_code code = message_code(refused->code);
    if (code == ERR_STALE) { /* it does not know us any more */
        if (agent->joined) {
            agent->joined = false;
            agent->hello_ns = now;
            agent->hello_pause_ns = HELLO_NS;
        }
        return;
    }
    log_line(agent->config.log, LOG_WARNING, "worker", "refused: %s", refused->detail);
    if (!agent->joined && error_class_of(code) == ERROR_CLASS_FAIL_JOB) {
        struct error error;
        error_set(&error, code, "the coordinator refuses this worker: %s", refused->detail);
        agent_give_up(agent, &error);
    }
}

static void on_message(struct agent *agent, int64_t now) {
    const vidloom_Envelope *envelope = &agent->in.envelope;
    agent->heard_ns = now;
    switch (envelope->which_body) {
    case vidloom_Envelope_welcome_tag:
        on_welcome(agent, &envelope->body.welcome, now);
        break;
    case vidloom_Envelope_lease_tag:
        on_lease(agent, &envelope->body.lease, now);
        break;
    case vidloom_Envelope_revoke_tag:
        on_revoke(agent, envelope->body.revoke.epoch);
        break;
    case vidloom_Envelope_drain_tag:
        on_drain(agent, envelope->body.drain.now);
        break;
    case vidloom_Envelope_result_known_tag:
        drop_result(agent, envelope->body.result_known.epoch);
        break;
    case vidloom_Envelope_refused_tag:
        on_refused(agent, &envelope->body.refused, now);
        break;
    case vidloom_Envelope_heartbeat_tag:
        break;
    default:
        log_line(agent->config.log, LOG_WARNING, "worker", "a coordinator does not say %s",
                 message_name(envelope->which_body));
    }
}

void agent_hear(struct agent *agent, int64_t now) {
    struct endpoint_frame frame;
    while (endpoint_receive(agent->endpoint, &frame)) {
        struct error error;
        if (message_decode(&agent->in, frame.bytes, frame.length, &error) == ERR_OK)
            on_message(agent, now);
        else
            log_line(agent->config.log, LOG_WARNING, "worker", "message dropped: %s", error.detail);
    }
}
