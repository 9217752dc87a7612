#include "worker/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/file.h"
#include "proto/message.h"
#include "worker/compute.h"

/* Leases to hold at once: one runs, the next is here when it ends, so the device never waits for
 * the coordinator's commit. */
#define SLOTS 2
/* A step that takes longer than this is taken for a hang: no lease is renewed or asked for until
 * the device goes on. Nothing known comes near it: loading 14B from a slow disk takes minutes. */
#define STALL_NS     (30 * 60 * CLOCK_S)
#define RESEND_NS    (2 * CLOCK_S)
#define PROGRESS_NS  (200 * CLOCK_MS)
#define HELLO_NS     (500 * CLOCK_MS)
#define HELLO_MAX_NS (32 * CLOCK_S)
#define HEARTBEAT_NS (2 * CLOCK_S)   /* until the coordinator has said */
#define SHORTEST_NS  (20 * CLOCK_MS) /* of what it may say */
#define WAIT_MS      100
#define FAREWELL_NS  (3 * CLOCK_S) /* for the last results to be acknowledged */
#define BYE_NS       (300 * CLOCK_MS)
#define HELD_MAX     64 /* leases told of in one round of renewals */

_Static_assert((int)WORK_TEXT == vidloom_KIND_TEXT && (int)WORK_KEYFRAME == vidloom_KIND_KEYFRAME &&
                   (int)WORK_IMAGE == vidloom_KIND_IMAGE &&
                   (int)WORK_WINDOW == vidloom_KIND_WINDOW &&
                   (int)WORK_DECODE == vidloom_KIND_DECODE && (int)WORK_MUX == vidloom_KIND_MUX,
               "kinds have the same numbers on the wire");

struct agent {
    struct agent_config config;
    struct compute *compute;
    struct endpoint *endpoint;
    struct device_info device;
    uint64_t nonce;

    uint64_t session; /* 0: not welcomed yet */
    bool joined;      /* false: saying hello */
    bool
        dismissed; /* drained at once: perhaps because another has our name, so never hello again */
    char store[FILE_PATH_BYTES]; /* the folder that the coordinator named; "": none yet */
    int64_t heard_ns;
    int64_t hello_ns, hello_pause_ns; /* the next hello, the pause after it */
    int64_t request_ns, renew_ns;     /* the next request, the next renewal of all leases */
    int64_t heartbeat_ns, lease_ns;

    struct compute_progress seen; /* of the running piece */
    bool seen_said;               /* that is what the coordinator knows */
    int64_t progress_ns;          /* when progress was last said */
    int64_t moved_ns;             /* when the device last made progress */
    bool stalled;

    struct work *results; /* sent, not yet acknowledged; in order */
    int64_t resend_ns;

    bool draining;
    bool leaving;        /* the coordinator was told, as far as it can be */
    int64_t farewell_ns; /* since when nothing is at hand any more */
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
static bool say(struct agent *agent) {
    struct error error;
    enum error_code code = message_encode(&agent->frame, &agent->out, &error);
    if (code == ERR_OK)
        code = endpoint_send(agent->endpoint, 0, agent->frame.data, agent->frame.length, &error);
    if (code != ERR_OK && code != ERR_BUSY)
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
    agent->hello_ns = now + agent->hello_pause_ns;
    if (!say(agent))
        return; /* nobody is there to be spared */
    agent->hello_pause_ns *= 2;
    if (agent->hello_pause_ns > HELLO_MAX_NS)
        agent->hello_pause_ns = HELLO_MAX_NS;
}

static bool is_set(const atomic_bool *flag) {
    return flag && atomic_load(flag);
}

static bool is_leaving(const struct agent *agent) {
    return agent->draining || agent->broken || is_set(agent->config.stop) ||
           is_set(agent->config.cancel);
}

static void say_plain(struct agent *agent, pb_size_t body) {
    message_begin(&agent->out, body);
    say(agent);
}

static void say_request(struct agent *agent) {
    message_begin(&agent->out, vidloom_Envelope_request_work_tag);
    agent->out.body.request_work.slots = is_leaving(agent) || agent->stalled ? 0 : SLOTS;
    say(agent);
}

static void say_result(struct agent *agent, const struct work *work) {
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
    result->has_measures = work->result.measured;
    result->measures = (vidloom_Measures){.colour = work->result.measures.colour,
                                          .luminance = work->result.measures.luminance,
                                          .sharpness = work->result.measures.sharpness,
                                          .seam = work->result.measures.seam};
    result->object_missing = work->result.object_missing;
    message_set_hash(result->object, &work->result.object);
    result->milliseconds = (uint64_t)(work->seconds * 1e3);
    say(agent);
}

/* Renews the lease. */
static void say_progress(struct agent *agent, const struct compute_progress *progress,
                         int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_progress_tag);
    vidloom_Progress *body = &agent->out.body.progress;
    message_set_hash(body->key, &progress->key);
    body->epoch = progress->epoch;
    body->step = (uint32_t)progress->step;
    body->steps = (uint32_t)progress->steps;
    if (progress->steps > 0)
        body->fraction =
            progress->step < progress->steps ? (double)progress->step / progress->steps : 1;
    if (say(agent) && progress->running) {
        agent->seen_said = true;
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
static void begin_session(struct agent *agent, uint64_t session) {
    if (agent->session) {
        compute_forget_all(agent->compute);
        forget_results(agent);
    }
    agent->session = session;
    log_line(agent->config.log, LOG_INFO, "worker", "joined session=%" PRIu64 " device=%s", session,
             agent->device.name);
}

static void give_up(struct agent *agent, const struct error *error) {
    if (agent->broken)
        return;
    agent->broken = true;
    agent->broken_error = *error;
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
        give_up(agent, &error);
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
    say_request(agent);
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

/* To the end of the list and out; repeated until it is known. */
static void add_result(struct agent *agent, struct work *work, int64_t now) {
    if (!agent->results)
        agent->resend_ns = now + RESEND_NS;
    struct work **end = &agent->results;
    while (*end)
        end = &(*end)->next;
    *end = work;
    if (agent->joined)
        say_result(agent, work);
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
    if (is_leaving(agent)) { /* it was on its way when we said: no more */
        work->code = error_set(&work->error, ERR_INTERRUPTED, "the worker is leaving");
        add_result(agent, work, now);
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
        give_up(agent, &error);
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

static void collect_results(struct agent *agent, int64_t now) {
    struct work *work;
    while ((work = compute_take(agent->compute)) != NULL) {
        agent->moved_ns = now;
        if (error_class_of(work->code) == ERROR_CLASS_STOP_WORKER)
            give_up(agent, &work->error);
        if (work->forgotten) {
            work_free(work);
            continue;
        }
        if (work->code != ERR_OK)
            log_line(agent->config.log, work->code == ERR_INTERRUPTED ? LOG_INFO : LOG_WARNING,
                     "worker", "task kind=%d failed: %s", (int)work->kind, work->error.detail);
        add_result(agent, work, now);
    }
}

/* `running` NULL: the device has nothing to do. */
static void watch_device(struct agent *agent, const struct compute_progress *running, int64_t now) {
    if (!running) {
        agent->moved_ns = now;
    } else if (running->epoch != agent->seen.epoch || running->step != agent->seen.step) {
        agent->moved_ns = now;
        agent->seen = *running;
        agent->seen_said = false;
    }
    bool stalled = now - agent->moved_ns > STALL_NS;
    if (stalled && !agent->stalled)
        log_line(agent->config.log, LOG_WARNING, "worker", "the device makes no progress");
    agent->stalled = stalled;
}

/* A lease is renewed at least three times before it ends, one that waits as well. */
static int64_t renewal_ns(const struct agent *agent) {
    return agent->heartbeat_ns < agent->lease_ns / 4 ? agent->heartbeat_ns : agent->lease_ns / 4;
}

static void keep_leases(struct agent *agent, int64_t now) {
    struct compute_progress held[HELD_MAX];
    int count = compute_get_progress(agent->compute, held, HELD_MAX);
    watch_device(agent, count && held[0].running ? &held[0] : NULL, now);
    if (agent->stalled)
        return;
    bool due = now >= agent->renew_ns;
    bool news = !agent->seen_said && now - agent->progress_ns >= PROGRESS_NS;
    for (int i = 0; i < count; i++)
        if (!held[i].forgotten && (due || (news && held[i].running)))
            say_progress(agent, &held[i], now);
    if (due)
        agent->renew_ns = now + renewal_ns(agent);
}

static void seek(struct agent *agent, int64_t now) {
    if (agent->session && now - agent->heard_ns > agent->lease_ns)
        compute_stop(agent->compute); /* it has been given to another by now */
    if (now >= agent->hello_ns && !agent->dismissed)
        say_hello(agent, now);
}

/* A request is not answered, so that a coordinator with nothing to say is asked for a sign. */
static void keep_contact(struct agent *agent, int64_t now) {
    if (now < agent->request_ns)
        return;
    agent->request_ns = now + agent->heartbeat_ns;
    say_request(agent);
    if (now - agent->heard_ns >= agent->heartbeat_ns / 2)
        say_plain(agent, vidloom_Envelope_heartbeat_tag);
}

static void repeat_results(struct agent *agent, int64_t now) {
    if (!agent->results || now < agent->resend_ns)
        return;
    for (const struct work *work = agent->results; work; work = work->next)
        say_result(agent, work);
    agent->resend_ns = now + RESEND_NS;
}

static void keep_session(struct agent *agent, int64_t now) {
    if (agent->joined && now - agent->heard_ns > 3 * agent->heartbeat_ns) {
        log_line(agent->config.log, LOG_WARNING, "worker", "the coordinator is silent");
        agent->joined = false;
        agent->hello_ns = now;
        agent->hello_pause_ns = HELLO_NS;
    }
    if (!agent->joined) {
        seek(agent, now);
        return;
    }
    repeat_results(agent, now);
    keep_contact(agent, now);
    keep_leases(agent, now);
}

/* True when everything that was begun is over, or nobody is there to tell. */
static bool may_leave(struct agent *agent, int64_t now) {
    if (!is_leaving(agent))
        return false;
    if (!agent->leaving) {
        agent->leaving = true;
        agent->farewell_ns = now;
        if (compute_held(agent->compute) > 0)
            log_line(agent->config.log, LOG_INFO, "worker", "leaves when its task is %s",
                     is_set(agent->config.cancel) ? "stopped" : "done");
        if (agent->joined)
            say_request(agent); /* no more, please */
    }
    if (agent->broken || is_set(agent->config.cancel))
        compute_stop(agent->compute);
    else
        compute_stop_waiting(agent->compute);
    if (compute_held(agent->compute) > 0) {
        agent->farewell_ns = now;
        return false;
    }
    if (!agent->results || now - agent->farewell_ns > FAREWELL_NS)
        return true;
    return !agent->joined && (agent->dismissed || is_set(agent->config.cancel));
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

/* Closing the socket throws away what is still on its way. A bye is not answered; but the heartbeat
 * of one who has left is refused, and that shows that the bye came first. */
static void say_bye(struct agent *agent) {
    struct error error;
    if (!agent->joined)
        return;
    say_plain(agent, vidloom_Envelope_bye_tag);
    say_plain(agent, vidloom_Envelope_heartbeat_tag);
    int64_t now = clock_monotonic_ns(), end = now + BYE_NS;
    while (agent->joined && now < end) {
        int left_ms = (int)((end - now) / CLOCK_MS) + 1;
        if (endpoint_wait(&agent->endpoint, 1, left_ms, false, &error) != ERR_OK)
            return;
        now = clock_monotonic_ns();
        hear(agent, now);
    }
}

static int wait_ms(const struct agent *agent) {
    int64_t half = renewal_ns(agent) / 2 / CLOCK_MS;
    return half < 1 ? 1 : half < WAIT_MS ? (int)half : WAIT_MS;
}

enum error_code agent_run(struct agent *agent, struct error *error) {
    int64_t now = clock_monotonic_ns();
    agent->heard_ns = agent->hello_ns = agent->moved_ns = now;
    log_line(agent->config.log, LOG_INFO, "worker", "looking for the coordinator at %s",
             agent->config.address);
    while (!may_leave(agent, now)) {
        enum error_code code = check_connection(agent, now, error);
        if (code == ERR_OK)
            code = endpoint_wait(&agent->endpoint, 1, wait_ms(agent), false, error);
        if (code != ERR_OK)
            return code;
        now = clock_monotonic_ns();
        hear(agent, now);
        collect_results(agent, now);
        keep_session(agent, now);
    }
    say_bye(agent);
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
                                     .memory = config->memory,
                                     .models = config->models,
                                     .log = config->log,
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
    agent->lease_ns = 4 * HEARTBEAT_NS;
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

void agent_close(struct agent **owner) {
    struct agent *agent = *owner;
    if (!agent)
        return;
    compute_close(&agent->compute); /* before the endpoint, which it wakes */
    forget_results(agent);
    endpoint_close(&agent->endpoint);
    buffer_close(&agent->frame);
    free(agent);
    *owner = NULL;
}
