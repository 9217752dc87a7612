#include "worker/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "proto/message.h"
#include "worker/compute.h"

/* Leases to hold at once: one runs, the next is here when it ends, so the device never waits for
 * the coordinator's commit. */
#define SLOTS 2
/* A step that takes longer than this is taken for a hang: its lease is not renewed any more. The
 * slowest known step, 14B at 720p on two CPU cores, is split into calls far below it. */
#define STALL_NS     (30 * 60 * CLOCK_S)
#define RESEND_NS    (2 * CLOCK_S)
#define PROGRESS_NS  (200 * CLOCK_MS)
#define HELLO_NS     (500 * CLOCK_MS)
#define HELLO_MAX_NS (32 * CLOCK_S)
#define HEARTBEAT_NS (2 * CLOCK_S) /* until the coordinator has said */
#define WAIT_MS      100
#define FAREWELL_NS  (3 * CLOCK_S) /* for the last results to be acknowledged */

struct agent {
    struct agent_config config;
    struct compute *compute;
    struct endpoint *endpoint;
    struct device_info device;
    uint64_t nonce;

    uint64_t session; /* 0: not welcomed yet */
    bool joined;      /* false: saying hello */
    int64_t heard_ns, said_ns, hello_ns, hello_pause_ns;
    int64_t heartbeat_ns, lease_ns;

    struct compute_progress progress; /* as last reported */
    int64_t progress_ns;              /* when it was reported */
    int64_t moved_ns;                 /* when the device last made progress */

    struct work *results; /* sent, not yet acknowledged; in order */
    int64_t resend_ns;

    bool draining;
    int64_t farewell_ns; /* when leaving began; 0: not leaving */
    bool broken;         /* a task has shown that this worker cannot go on */
    struct error broken_error;

    vidloom_Envelope out;
    struct buffer frame;
    struct message in;
};

/* -- saying -------------------------------------------------------------------------------------
 */

/* True when it was queued. What was not is said again later: every message here is repeated until
 * it has had its effect. */
static bool say(struct agent *agent, int64_t now) {
    struct error error;
    enum error_code code = message_encode(&agent->frame, &agent->out, &error);
    if (code == ERR_OK)
        code = endpoint_send(agent->endpoint, 0, agent->frame.data, agent->frame.length, &error);
    if (code == ERR_OK)
        agent->said_ns = now;
    else if (code != ERR_BUSY)
        log_line(agent->config.log, LOG_WARNING, "worker", "%s not sent: %s",
                 message_name(agent->out.which_body), error.detail);
    return code == ERR_OK;
}

static void say_hello(struct agent *agent, int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_hello_tag);
    vidloom_Hello *hello = &agent->out.body.hello;
    message_set_text(hello->name, sizeof hello->name, agent->config.name);
    message_set_text(hello->class, sizeof hello->class, agent->device.class);
    message_set_text(hello->device, sizeof hello->device, agent->device.name);
    message_set_text(hello->program, sizeof hello->program, VIDLOOM_VERSION);
    hello->threads = (uint32_t)agent->device.threads;
    hello->memory = agent->device.memory;
    hello->kinds = agent->config.kinds ? agent->config.kinds : (1u << WORK_KIND_COUNT) - 1;
    hello->nonce = agent->nonce;
    say(agent, now);
    agent->hello_ns = now + agent->hello_pause_ns;
    agent->hello_pause_ns *= 2;
    if (agent->hello_pause_ns > HELLO_MAX_NS)
        agent->hello_pause_ns = HELLO_MAX_NS;
}

static bool wants_work(const struct agent *agent) {
    return !agent->draining && !agent->broken && !agent->farewell_ns;
}

static void say_request(struct agent *agent, int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_request_work_tag);
    agent->out.body.request_work.slots = wants_work(agent) ? SLOTS : 0;
    say(agent, now);
}

static void say_result(struct agent *agent, const struct work *work, int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_result_tag);
    vidloom_Result *result = &agent->out.body.result;
    message_set_hash(result->key, &work->key);
    result->epoch = work->epoch;
    result->code = (uint32_t)work->code;
    if (work->code != ERR_OK)
        message_set_text(result->detail, sizeof result->detail, work->error.detail);
    result->outputs_count = (pb_size_t)work->result.output_count;
    for (int i = 0; i < work->result.output_count; i++) {
        const struct stage_artifact *output = &work->result.outputs[i];
        message_set_text(result->outputs[i].name, sizeof result->outputs[i].name, output->name);
        message_set_hash(result->outputs[i].hash, &output->hash);
        result->outputs[i].size = output->size;
    }
    result->object_missing = work->result.object_missing;
    message_set_hash(result->object, &work->result.object);
    result->milliseconds = (uint64_t)(work->seconds * 1e3);
    say(agent, now);
}

/* Renews the lease: at every step, and as long as a step has not taken unreasonably long. */
static void say_progress(struct agent *agent, const struct compute_progress *progress,
                         int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_progress_tag);
    vidloom_Progress *body = &agent->out.body.progress;
    message_set_hash(body->key, &progress->key);
    body->epoch = progress->epoch;
    body->step = (uint32_t)progress->step;
    body->steps = (uint32_t)progress->steps;
    body->fraction = progress->steps > 0 ? (double)progress->step / progress->steps : 0;
    if (say(agent, now)) {
        agent->progress = *progress;
        agent->progress_ns = now;
    }
}

/* -- hearing ------------------------------------------------------------------------------------
 */

static void forget_results(struct agent *agent) {
    while (agent->results) {
        struct work *next = agent->results->next;
        work_free(agent->results);
        agent->results = next;
    }
}

/* A new session has none of the old leases. */
static void on_welcome(struct agent *agent, const vidloom_Welcome *welcome, int64_t now) {
    struct error error;
    if (welcome->session != agent->session) {
        if (agent->session) {
            compute_stop(agent->compute, 0);
            forget_results(agent);
        }
        log_line(agent->config.log, LOG_INFO, "worker", "joined session=%" PRIu64 " device=%s",
                 welcome->session, agent->device.name);
    }
    agent->session = welcome->session;
    agent->heartbeat_ns = welcome->heartbeat_ms * CLOCK_MS;
    agent->lease_ns = welcome->lease_ms * CLOCK_MS;
    agent->hello_pause_ns = HELLO_NS;
    if (!agent->config.store && !agent->joined && compute_held(agent->compute) == 0) {
        enum error_code code = compute_set_store(agent->compute, welcome->store, &error);
        if (code != ERR_OK) {
            agent->broken = true;
            agent->broken_error = error;
            return;
        }
    }
    agent->joined = true;
    say_request(agent, now);
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
    agent->moved_ns = now;
    compute_add(agent->compute, work);
}

static void on_result_known(struct agent *agent, const vidloom_ResultKnown *known) {
    for (struct work **place = &agent->results; *place; place = &(*place)->next) {
        struct work *work = *place;
        if (work->epoch != known->epoch)
            continue;
        *place = work->next;
        work_free(work);
        return;
    }
}

static void on_refused(struct agent *agent, const vidloom_Refused *refused, int64_t now) {
    enum error_code code = message_code(refused->code);
    if (code == ERR_STALE) { /* it does not know us any more */
        agent->joined = false;
        agent->hello_ns = now;
        return;
    }
    log_line(agent->config.log, LOG_WARNING, "worker", "refused: %s", refused->detail);
    if (!agent->joined && error_class_of(code) == ERROR_CLASS_FAIL_JOB) {
        agent->broken = true;
        error_set(&agent->broken_error, code, "the coordinator refuses this worker: %s",
                  refused->detail);
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
        compute_stop(agent->compute, envelope->body.revoke.epoch);
        break;
    case vidloom_Envelope_drain_tag:
        agent->draining = true;
        if (envelope->body.drain.now)
            compute_stop(agent->compute, 0);
        break;
    case vidloom_Envelope_result_known_tag:
        on_result_known(agent, &envelope->body.result_known);
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

static void hear(struct agent *agent, int64_t now) {
    struct endpoint_frame frame;
    while (endpoint_receive(agent->endpoint, &frame)) {
        struct error error;
        if (message_decode(&agent->in, frame.bytes, frame.length, &error) == ERR_OK)
            on_message(agent, now);
        else
            log_line(agent->config.log, LOG_WARNING, "worker", "message dropped: %s", error.detail);
    }
}

/* -- the loop ------------------------------------------------------------------------------------
 */

/* What the compute thread has finished goes to the end of the list and out. */
static void collect_results(struct agent *agent, int64_t now) {
    struct work *work;
    while ((work = compute_take(agent->compute)) != NULL) {
        struct work **end = &agent->results;
        while (*end)
            end = &(*end)->next;
        *end = work;
        if (work->code != ERR_OK)
            log_line(agent->config.log, LOG_WARNING, "worker", "task kind=%d failed: %s",
                     (int)work->kind, work->error.detail);
        if (error_class_of(work->code) == ERROR_CLASS_STOP_WORKER) {
            agent->broken = true;
            agent->broken_error = work->error;
        }
        agent->moved_ns = now;
        if (agent->joined)
            say_result(agent, work, now);
        agent->resend_ns = now + RESEND_NS;
    }
}

static void keep_lease(struct agent *agent, int64_t now) {
    struct compute_progress progress;
    compute_get_progress(agent->compute, &progress);
    if (!progress.epoch)
        return;
    bool moved = progress.epoch != agent->progress.epoch || progress.step != agent->progress.step;
    if (moved)
        agent->moved_ns = now;
    bool due = now - agent->progress_ns >= (moved ? PROGRESS_NS : agent->heartbeat_ns);
    if (due && now - agent->moved_ns < STALL_NS)
        say_progress(agent, &progress, now);
}

static void keep_session(struct agent *agent, int64_t now) {
    int64_t silent = now - agent->heard_ns;
    if (agent->joined && silent > 3 * agent->heartbeat_ns) {
        log_line(agent->config.log, LOG_WARNING, "worker", "the coordinator is silent");
        agent->joined = false;
        agent->hello_ns = now;
        agent->hello_pause_ns = HELLO_NS;
    }
    if (!agent->joined) {
        if (agent->session && silent > agent->lease_ns)
            compute_stop(agent->compute, 0); /* its lease has been given to another by now */
        if (now >= agent->hello_ns)
            say_hello(agent, now);
        return;
    }
    if (agent->results && now >= agent->resend_ns) {
        for (const struct work *work = agent->results; work; work = work->next)
            say_result(agent, work, now);
        agent->resend_ns = now + RESEND_NS;
    }
    if (now - agent->said_ns >= agent->heartbeat_ns)
        say_request(agent, now);
    keep_lease(agent, now);
}

static bool is_set(const atomic_bool *flag) {
    return flag && atomic_load(flag);
}

/* True when everything that was begun is over, or nobody is there to tell. */
static bool may_leave(struct agent *agent, int64_t now) {
    bool leaving = agent->draining || agent->broken || is_set(agent->config.stop) ||
                   is_set(agent->config.cancel);
    if (!leaving)
        return false;
    if (!agent->farewell_ns) {
        agent->farewell_ns = now;
        if (agent->joined)
            say_request(agent, now); /* no more, please */
    }
    if (is_set(agent->config.cancel))
        compute_stop(agent->compute, 0);
    if (compute_held(agent->compute) > 0) {
        agent->farewell_ns = now;
        return false;
    }
    return !agent->results || !agent->joined || now - agent->farewell_ns > FAREWELL_NS;
}

static enum error_code check_connection(const struct agent *agent, int64_t now,
                                        struct error *error) {
    int64_t limit = agent->config.connect_timeout_ms * CLOCK_MS;
    if (!limit || agent->joined || now - agent->heard_ns < limit)
        return ERR_OK;
    return error_set(error, ERR_NETWORK,
                     "no coordinator answers at %s; start one with `vidloom coordinator`, or name "
                     "its address with --coordinator",
                     agent->config.address);
}

enum error_code agent_run(struct agent *agent, struct error *error) {
    int64_t now = clock_monotonic_ns();
    agent->heard_ns = agent->hello_ns = now;
    while (!may_leave(agent, now)) {
        enum error_code code = check_connection(agent, now, error);
        if (code == ERR_OK)
            code = endpoint_wait(&agent->endpoint, 1, WAIT_MS, false, error);
        if (code != ERR_OK)
            return code;
        now = clock_monotonic_ns();
        hear(agent, now);
        collect_results(agent, now);
        keep_session(agent, now);
    }
    if (agent->joined) {
        message_begin(&agent->out, vidloom_Envelope_bye_tag);
        say(agent, now);
    }
    if (agent->broken) {
        *error = agent->broken_error;
        return error->code;
    }
    return ERR_OK;
}

/* -- life ----------------------------------------------------------------------------------------
 */

static void wake(void *user) {
    struct agent *agent = user;
    endpoint_wake(agent->endpoint);
}

static enum error_code open_parts(struct agent *agent, struct error *error) {
    const struct agent_config *config = &agent->config;
    struct endpoint_config endpoint = {.context = config->context, .role = ENDPOINT_DEALER};
    enum error_code code = endpoint_open(&agent->endpoint, &endpoint, error);
    if (code == ERR_OK)
        code = endpoint_connect(agent->endpoint, config->address, error);
    if (code != ERR_OK)
        return code;
    struct compute_config compute = {.ops = config->ops,
                                     .device = config->device,
                                     .dtype = config->dtype,
                                     .models = config->models,
                                     .wake = wake,
                                     .user = agent};
    code = compute_open(&agent->compute, &compute, error);
    if (code != ERR_OK)
        return code;
    compute_device_info(agent->compute, &agent->device);
    return config->store ? compute_set_store(agent->compute, config->store, error) : ERR_OK;
}

enum error_code agent_open(struct agent **out, const struct agent_config *config,
                           struct error *error) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return error_set(error, ERR_MEMORY, "no memory for a worker");
    agent->config = *config;
    agent->heartbeat_ns = HEARTBEAT_NS;
    agent->hello_pause_ns = HELLO_NS;
    enum error_code code = ERR_OK;
    if (getrandom(&agent->nonce, sizeof agent->nonce, 0) != sizeof agent->nonce)
        code = error_set(error, ERR_INTERNAL, "the system gives no random numbers");
    if (code == ERR_OK)
        code = open_parts(agent, error);
    if (code != ERR_OK)
        agent_close(&agent);
    *out = agent;
    return code;
}

void agent_close(struct agent **out) {
    struct agent *agent = *out;
    if (!agent)
        return;
    compute_close(&agent->compute); /* before the endpoint, which it wakes */
    forget_results(agent);
    endpoint_close(&agent->endpoint);
    buffer_close(&agent->frame);
    free(agent);
    *out = NULL;
}
