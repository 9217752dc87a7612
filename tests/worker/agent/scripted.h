/* A coordinator that does what a test says: a ROUTER in the test's thread, against a real agent in
 * a thread of its own. Nothing here asserts a time: waits end when what is waited for comes, or the
 * test hangs for a minute and fails. */
#ifndef VIDLOOM_TESTS_WORKER_AGENT_SCRIPTED_H
#define VIDLOOM_TESTS_WORKER_AGENT_SCRIPTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/message.h"
#include "worker/agent.h"
#include "worker/store/store.h"

struct scripted {
    char folder[64]; /* scratch */
    char store[128];
    char model_hash[HASH_HEX_BYTES];
    struct endpoint_context *context;
    struct endpoint *router;
    uint64_t peer; /* of the last message */
    uint64_t session;
    uint32_t heartbeat_ms, lease_ms;
    bool mute; /* answers nothing by itself */
    struct message in;
    vidloom_Envelope out;
    struct buffer frame;

    struct ops ops;
    struct agent_config config;
    struct agent *agent;
    atomic_bool stop, cancel, over;
    bool running;
    void *thread;
    enum error_code code; /* of agent_run */
    struct error error;
};

/* One at a time. The address: "inproc://…" or "tcp://127.0.0.1:*". */
struct scripted *scripted_open(const char *address);
void scripted_start(struct scripted *s);           /* the agent, with s->config */
enum error_code scripted_join(struct scripted *s); /* its end; what it says meanwhile is not read */
void scripted_close(struct scripted *s);           /* stops the agent if it runs */

/* A step takes at least some milliseconds (as from scripted_open on), or as long as it takes. */
void scripted_pace(bool slow);

/* -- hearing. A heartbeat is answered, and an unexpected hello welcomed, unless `mute`. */
const vidloom_Envelope *scripted_hear(struct scripted *s); /* the next message, whatever it is */
const vidloom_Envelope *scripted_expect(struct scripted *s, pb_size_t body);
const vidloom_Result *scripted_expect_result(struct scripted *s, uint64_t epoch);
/* Progress of this lease, at or beyond this step. */
void scripted_expect_progress(struct scripted *s, uint64_t epoch, uint32_t step);
/* Until the agent has returned: what it says is read, results are acknowledged, each body is
 * counted in counts[tag]. */
void scripted_drive_to_end(struct scripted *s, int counts[64]);

/* -- saying */
void scripted_say(struct scripted *s); /* s->out */
void scripted_welcome(struct scripted *s);
void scripted_known(struct scripted *s, uint64_t epoch, enum error_code code);
void scripted_revoke(struct scripted *s, uint64_t epoch);
void scripted_drain(struct scripted *s, bool now_too);
void scripted_refuse(struct scripted *s, enum error_code code, const char *detail);
/* hello, welcome, request_work with room for two. */
void scripted_join_session(struct scripted *s);

/* Leases: a short one (an image), a text, and one of many steps that needs the text's result. */
void scripted_lease_image(struct scripted *s, uint64_t epoch);
void scripted_lease_text(struct scripted *s, uint64_t epoch);
void scripted_lease_long(struct scripted *s, uint64_t epoch, const vidloom_Artifact *text,
                         int steps);

#endif
