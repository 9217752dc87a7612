#include "worker/agent.h"

#include <stdlib.h>
#include <sys/random.h>

#include "worker/agent_internal.h"

/* A step that takes longer than this is taken for a hang: no lease is renewed or asked for until
 * the device goes on. Nothing known comes near it: loading 14B from a slow disk takes minutes. */
#define STALL_NS     (30 * 60 * CLOCK_S)
#define PROGRESS_NS  (200 * CLOCK_MS)
#define HEARTBEAT_NS (2 * CLOCK_S) /* until the coordinator has said */
#define WAIT_MS      100
#define FAREWELL_NS  (3 * CLOCK_S) /* for the last results to be acknowledged */
#define BYE_NS       (300 * CLOCK_MS)
#define HELD_MAX     64 /* leases told of in one round of renewals */

void agent_forget_results(struct agent *agent) {
    while (agent->results) {
        struct work *next = agent->results->next;
        work_free(agent->results);
        agent->results = next;
    }
}

void agent_give_up(struct agent *agent, const struct error *error) {
    if (agent->broken)
        return;
    agent->broken = true;
    agent->broken_error = *error;
}

void agent_add_result(struct agent *agent, struct work *work, int64_t now) {
    if (!agent->results)
        agent->resend_ns = now + RESEND_NS;
    struct work **end = &agent->results;
    while (*end)
        end = &(*end)->next;
    *end = work;
    if (agent->joined)
        agent_say_result(agent, work);
}

static void collect_results(struct agent *agent, int64_t now) {
    struct work *work;
    while ((work = compute_take(agent->compute)) != NULL) {
        agent->moved_ns = now;
        if (error_class_of(work->code) == ERROR_CLASS_STOP_WORKER)
            agent_give_up(agent, &work->error);
        if (work->forgotten) {
            work_free(work);
            continue;
        }
        if (work->code != ERR_OK)
            log_line(agent->config.log, work->code == ERR_INTERRUPTED ? LOG_INFO : LOG_WARNING,
                     "worker", "task kind=%d failed: %s", (int)work->kind, work->error.detail);
        agent_add_result(agent, work, now);
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
            agent_say_progress(agent, &held[i], now);
    if (due)
        agent->renew_ns = now + renewal_ns(agent);
}

static void seek(struct agent *agent, int64_t now) {
    if (agent->session && now - agent->heard_ns > agent->lease_ns)
        compute_stop(agent->compute); /* it has been given to another by now */
    if (now >= agent->hello_ns && !agent->dismissed)
        agent_say_hello(agent, now);
}

/* A request is not answered, so that a coordinator with nothing to say is asked for a sign. */
static void keep_contact(struct agent *agent, int64_t now) {
    if (now < agent->request_ns)
        return;
    agent->request_ns = now + agent->heartbeat_ns;
    agent_say_request(agent);
    if (now - agent->heard_ns >= agent->heartbeat_ns / 2)
        agent_say_plain(agent, vidloom_Envelope_heartbeat_tag);
}

static void repeat_results(struct agent *agent, int64_t now) {
    if (!agent->results || now < agent->resend_ns)
        return;
    for (const struct work *work = agent->results; work; work = work->next)
        agent_say_result(agent, work);
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
    if (!agent_is_leaving(agent))
        return false;
    if (!agent->leaving) {
        agent->leaving = true;
        agent->farewell_ns = now;
        if (compute_held(agent->compute) > 0)
            log_line(agent->config.log, LOG_INFO, "worker", "leaves when its task is %s",
                     agent_flag_is_set(agent->config.cancel) ? "stopped" : "done");
        if (agent->joined)
            agent_say_request(agent); /* no more, please */
    }
    if (agent->broken || agent_flag_is_set(agent->config.cancel))
        compute_stop(agent->compute);
    else
        compute_stop_waiting(agent->compute);
    if (compute_held(agent->compute) > 0) {
        agent->farewell_ns = now;
        return false;
    }
    if (!agent->results || now - agent->farewell_ns > FAREWELL_NS)
        return true;
    return !agent->joined && (agent->dismissed || agent_flag_is_set(agent->config.cancel));
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
    agent_say_plain(agent, vidloom_Envelope_bye_tag);
    agent_say_plain(agent, vidloom_Envelope_heartbeat_tag);
    int64_t now = clock_monotonic_ns(), end = now + BYE_NS;
    while (agent->joined && now < end) {
        int left_ms = (int)((end - now) / CLOCK_MS) + 1;
        if (endpoint_wait(&agent->endpoint, 1, left_ms, false, &error) != ERR_OK)
            return;
        now = clock_monotonic_ns();
        agent_hear(agent, now);
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
        agent_hear(agent, now);
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
    agent_forget_results(agent);
    endpoint_close(&agent->endpoint);
    buffer_close(&agent->frame);
    free(agent);
    *owner = NULL;
}
