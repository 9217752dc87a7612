#include "coordinator/ledger.h"

static const char *const job_states[JOB_STATE_COUNT] = {"running", "paused", "canceled", "done",
                                                        "failed"};
static const char *const video_states[VIDEO_STATE_COUNT] = {"waiting", "running", "publishing",
                                                            "done",    "failed",  "canceled"};

const char *job_state_name(enum job_state state) {
    return (unsigned)state < JOB_STATE_COUNT ? job_states[state] : "unknown";
}
const char *video_state_name(enum video_state state) {
    return (unsigned)state < VIDEO_STATE_COUNT ? video_states[state] : "unknown";
}
bool job_state_is_final(enum job_state state) {
    return state == JOB_CANCELED || state == JOB_DONE || state == JOB_FAILED;
}
bool video_state_is_final(enum video_state state) {
    return state == VIDEO_DONE || state == VIDEO_FAILED || state == VIDEO_CANCELED;
}

void ledger_close(struct ledger **ledger) {
    if (!*ledger)
        return;
    (*ledger)->table->close(*ledger);
    *ledger = NULL;
}

uint64_t ledger_leader(const struct ledger *ledger) {
    return ledger->leader;
}

enum error_code ledger_apply(struct ledger *ledger, const struct ledger_record *records,
                             size_t count, struct error *error) {
    return count ? ledger->table->apply(ledger, records, count, error) : ERR_OK;
}

enum error_code ledger_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                            struct error *error) {
    return ledger->table->load(ledger, visitor, error);
}

enum error_code ledger_find_result(struct ledger *ledger, struct task_result *out, bool *found,
                                   const struct hash *key, const char *class, struct error *error) {
    *found = false;
    return ledger->table->find_result(ledger, out, found, key, class, error);
}

enum error_code ledger_find_publication(struct ledger *ledger, struct ledger_publication *out,
                                        bool *found, const char *path, struct buffer *texts,
                                        struct error *error) {
    *found = false;
    return ledger->table->find_publication(ledger, out, found, path, texts, error);
}

enum error_code ledger_read_attempts(struct ledger *ledger, const struct ledger_visitor *visitor,
                                     uint64_t job, int video, int limit, struct error *error) {
    return ledger->table->read_attempts(ledger, visitor, job, video, limit, error);
}

enum error_code ledger_read_events(struct ledger *ledger, const struct ledger_visitor *visitor,
                                   uint64_t job, uint64_t after, int limit, struct error *error) {
    return ledger->table->read_events(ledger, visitor, job, after, limit, error);
}

enum error_code ledger_collect(struct ledger *ledger, uint64_t job,
                               bool (*keep)(void *user, const struct hash *key, const char *class),
                               void (*removed)(void *user, const struct hash *object), void *user,
                               struct error *error) {
    return ledger->table->collect(ledger, job, keep, removed, user, error);
}
