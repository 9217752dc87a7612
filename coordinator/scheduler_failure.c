/* A task that went wrong: tried elsewhere, later, or given up. */
#include "coordinator/scheduler_internal.h"

#include <stdio.h>

uint64_t worker_name_hash(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash;
}

bool node_avoids(const struct node *node, const struct worker *worker) {
    for (int i = 0; i < node->avoid_count; i++)
        if (node->avoid[i] == worker->name_hash)
            return true;
    return false;
}

bool node_has_elsewhere(const struct scheduler *self, const struct node *node) {
    for (int i = 0; i < self->worker_count; i++) {
        const struct worker *worker = self->workers[i];
        if (worker->class == node->class && worker_takes_leases(worker) &&
            (worker->kinds & PLAN_KIND_BIT(node->kind)) && !node_avoids(node, worker))
            return true;
    }
    return false;
}

static void node_back_off(struct scheduler *self, struct node *node, const struct worker *worker,
                          int failures) {
    int shift = failures > 6 ? 6 : failures > 0 ? failures - 1 : 0;
    node->not_before = self->core + (self->config.backoff_ns << shift);
    if (!node_avoids(node, worker) && node->avoid_count < AVOID_MAX)
        node->avoid[node->avoid_count++] = worker->name_hash;
}

/* Every video that wants the task fails. */
static void node_fail(struct scheduler *self, struct node *node, enum error_code code,
                      const char *detail) {
    int index = node->users[0].active->plan->tasks[node->users[0].task].index;
    char reason[ERROR_DETAIL_BYTES];
    if (node->kind == PLAN_WINDOW || node->kind == PLAN_DECODE)
        (void)snprintf(reason, sizeof reason, "%s %d: %s", plan_kind_name(node->kind), index,
                       detail && *detail ? detail : error_sentence(code));
    else
        (void)snprintf(reason, sizeof reason, "%s: %s", plan_kind_name(node->kind),
                       detail && *detail ? detail : error_sentence(code));
    /* The last user's going frees the node. One video may use it at two places. */
    for (bool last = false; !last;) {
        struct active *active = node->users[0].active;
        last = true;
        for (int i = 1; i < node->user_count && last; i++)
            last = node->users[i].active == active;
        video_leave(self, active->job, active->video, VIDEO_FAILED, code, reason);
    }
}

void node_failed_once(struct scheduler *self, struct node *node, struct worker *worker,
                      enum error_code code, const char *detail) {
    enum error_class class = error_class_of(code);
    node->attempts++;
    worker->failed++;
    if (class == ERROR_CLASS_STOP_WORKER)
        worker->stopped = true;
    node_back_off(self, node, worker, node->attempts);
    bool hopeless = class == ERROR_CLASS_FAIL_JOB;
    if (code == ERR_MISSING || code == ERR_DENIED || code == ERR_UNSUPPORTED)
        hopeless = !node_has_elsewhere(self, node);
    if (hopeless || node->attempts >= self->config.attempts_max)
        node_fail(self, node, code, detail);
}

void node_died_once(struct scheduler *self, struct node *node, struct worker *worker) {
    char detail[LIMIT_WORKER_BYTES + 160];
    node->deaths++;
    node_back_off(self, node, worker, node->deaths);
    if (node->deaths >= self->config.deaths_max) {
        (void)snprintf(detail, sizeof detail,
                       "%d workers were lost while they worked on it, the last one was %s",
                       node->deaths, worker->name);
        node_fail(self, node, ERR_NETWORK, detail);
    }
}
