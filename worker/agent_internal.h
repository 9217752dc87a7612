/* Inside the worker's network thread: agent.c is its loop and its results, agent_say.c what it
 * sends, agent_hear.c what it makes of what comes. */
#ifndef VIDLOOM_WORKER_AGENT_INTERNAL_H
#define VIDLOOM_WORKER_AGENT_INTERNAL_H

#include "base/clock.h"
#include "base/file.h"
#include "proto/message.h"
#include "worker/agent.h"
#include "worker/compute.h"

#define RESEND_NS (2 * CLOCK_S)    /* of a result that is not acknowledged */
#define HELLO_NS  (500 * CLOCK_MS) /* the first pause between hellos */

struct agent {
    struct agent_config config;
    struct compute *compute;
    struct endpoint *endpoint;
    struct device_info device;
    uint64_t nonce;

    uint64_t session; /* 0: not welcomed yet */
    bool joined;      /* false: saying hello */
    /* Drained at once: perhaps because another has our name, so never hello again. */
    bool dismissed;
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

static inline bool agent_flag_is_set(const atomic_bool *flag) {
    return flag && atomic_load(flag);
}

static inline bool agent_is_leaving(const struct agent *agent) {
    return agent->draining || agent->broken || agent_flag_is_set(agent->config.stop) ||
           agent_flag_is_set(agent->config.cancel);
}

/* What cannot be sent now is said again later: every message is repeated until it has had its
 * effect. */
void agent_say_hello(struct agent *agent, int64_t now);
void agent_say_plain(struct agent *agent, pb_size_t body); /* a message without contents */
void agent_say_request(struct agent *agent);
void agent_say_result(struct agent *agent, const struct work *work);
/* Renews the lease. */
void agent_say_progress(struct agent *agent, const struct compute_progress *progress, int64_t now);

/* All messages that are there. */
void agent_hear(struct agent *agent, int64_t now);

/* The results: one more goes to the end of the list and out, and is repeated until it is known. */
void agent_add_result(struct agent *agent, struct work *work, int64_t now);
void agent_forget_results(struct agent *agent); /* all */
/* This worker cannot go on. */
void agent_give_up(struct agent *agent, const struct error *error);

#endif
