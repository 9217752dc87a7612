/* What a worker brings: a result, a failure, or that an input is lost. */
#include "coordinator/scheduler_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* What a result of this task must hold; the name of what it lacks, or NULL. */
static const char *result_lacks(const struct lease_entry *lease, const struct task_result *result) {
    static const char *const names[PLAN_KIND_COUNT] = {"rows",    "frames",  "frames",
                                                       "latents", "segment", "file"};
    if (result->output_count < 0 || result->output_count > LIMIT_OUTPUTS)
        return "outputs";
    for (int i = 0; i < result->output_count; i++)
        if (!memchr(result->outputs[i].name, 0, LIMIT_OUTPUT_NAME) || result->outputs[i].bytes < 0)
            return "outputs";
    if (!task_result_find(result, names[lease->node->kind]))
        return names[lease->node->kind];
    if (lease->node->kind == PLAN_DECODE) {
        const struct measures *m = &result->measures;
        if (!result->measured || !(m->colour >= 0 && m->colour <= 1) ||
            !(fabs(m->luminance) <= 1) || !(fabs(m->sharpness) <= 1) ||
            !(m->seam >= 0 && m->seam <= 1))
            return "measures";
        /* Every decode but the last is followed by a window that starts from its tail. */
        const struct user *user = &lease->node->users[0];
        if (user->task + 2 < user->active->plan->task_count && !task_result_find(result, "frames"))
            return "frames";
    }
    return NULL;
}

/* Results of the last epochs, so that one said again is not taken for a stale one. */
static void remember(struct scheduler *self, uint64_t epoch) {
    self->accepted[self->accepted_at] = epoch;
    self->accepted_at = (self->accepted_at + 1) % EPOCHS_KEPT;
}

static bool is_remembered(const struct scheduler *self, uint64_t epoch) {
    bool found = false;
    for (int i = 0; i < EPOCHS_KEPT && epoch; i++)
        found |= self->accepted[i] == epoch;
    return found;
}

static double work_seconds(const struct scheduler *self, const struct lease_entry *lease,
                           const struct scheduler_outcome *outcome) {
    double age = (double)(self->core - lease->granted) / (double)CLOCK_S;
    return outcome->seconds > 0 && outcome->seconds < age ? outcome->seconds : age;
}

static void accept_result(struct scheduler *self, struct lease_entry *lease,
                          const struct scheduler_outcome *outcome) {
    struct node *node = lease->node;
    struct worker *worker = lease->worker;
    struct job_entry *job = id_map_get(&self->jobs_by_id, lease->job);
    double seconds = work_seconds(self, lease, outcome);
    worker->done++;
    attempt_add(self, lease, ERR_OK, NULL, &outcome->result);
    if (job) {
        job->kind_seconds[node->kind] += seconds;
        job->kind_count[node->kind]++;
    }
    for (int i = 0; i < node->user_count; i++)
        active_entry(node->users[i].active)->seconds += seconds / node->user_count;
    if (node->kind == PLAN_MUX) {
        struct active *active = node->users[0].active;
        struct job_entry *owner = active->job;
        int video = active->video;
        const struct task_output *file = task_result_find(&outcome->result, "file");
        video_publish(self, owner, video, lease, file);
        lease_end(self, lease, false);
        active_close(self, owner->videos[video].active);
        return;
    }
    struct ledger_record *record = record_add(self, LEDGER_RESULT);
    if (record)
        record->result =
            (struct ledger_result){.key = node->key,
                                   .class = action_text(self, class_name(self, node->class)),
                                   .job = lease->job,
                                   .result = outcome->result};
    node->found = false;
    lease_end(self, lease, false);
    node_done(self, node, &outcome->result);
}

/* An input of the leased task was not in the store: the task that made it is done again. */
static bool input_lost(struct scheduler *self, struct lease_entry *lease,
                       const struct hash *object) {
    const struct user *user = &lease->node->users[0];
    const struct plan_task *task = &user->active->plan->tasks[user->task];
    for (int i = 0; i < task->input_count; i++) {
        struct node *input = user->active->nodes[task->inputs[i].task];
        const struct task_output *output =
            input->state == NODE_DONE ? task_result_find(&input->result, task->inputs[i].output)
                                      : NULL;
        if (input->state == NODE_DONE && output && !hash_equal(&output->hash, object))
            continue;
        if (input->state != NODE_DONE)
            continue;
        if (++input->losses > LOSSES_MAX)
            return false;
        event_add(self, lease->job, lease->video,
                  "%s %d: its artifact is gone from the store; it is "
                  "made again",
                  plan_kind_name(input->kind), task->inputs[i].task);
        uint64_t job = lease->job;
        lease_end(self, lease, true);
        node_undone(self, input, job);
        return true;
    }
    /* Already being made again, since another task missed it too? Then this one just waits. */
    for (int i = 0; i < task->input_count; i++)
        if (user->active->nodes[task->inputs[i].task]->state != NODE_DONE) {
            lease_end(self, lease, true);
            return true;
        }
    return false;
}

static void attempt_failed(struct scheduler *self, struct lease_entry *lease,
                           const struct scheduler_outcome *outcome, enum error_code code,
                           const char *detail) {
    struct node *node = lease->node;
    struct worker *worker = lease->worker;
    attempt_add(self, lease, code, detail, NULL);
    event_add(self, lease->job, lease->video, "%s %d: %s on worker %s: %s",
              plan_kind_name(node->kind), lease->index, error_name(code), worker->name, detail);
    if (outcome->object_missing && input_lost(self, lease, &outcome->object))
        return;
    lease_end(self, lease, true);
    node_failed_once(self, node, worker, code, detail);
}

void scheduler_worker_result(struct scheduler *self, uint64_t id,
                             const struct scheduler_outcome *outcome, int64_t now,
                             struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    scheduler_tell_wall(self, outcome->wall_ns);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    struct lease_entry *lease = id_map_get(&self->leases, outcome->epoch);
    if (worker)
        worker->seen = self->core;
    if (!worker || !lease || lease->worker != worker ||
        !hash_equal(&lease->node->key, &outcome->key)) {
        worker_action(self, ACTION_REPLY, id, outcome->epoch,
                      is_remembered(self, outcome->epoch) ? ERR_OK : ERR_STALE);
        return;
    }
    enum error_code code =
        (unsigned)outcome->code < ERROR_CODE_COUNT ? outcome->code : ERR_INTERNAL;
    const char *detail = outcome->detail ? outcome->detail : "";
    const char *lacking = code ? NULL : result_lacks(lease, &outcome->result);
    char lacks[80];
    if (lacking) {
        code = ERR_INTERNAL;
        (void)snprintf(lacks, sizeof lacks, "the worker's result has no \"%s\"", lacking);
        detail = lacks;
    }
    /* An answer to the failure of a lease, too, is that it was understood. */
    worker_action(self, ACTION_REPLY, id, outcome->epoch, ERR_OK);
    remember(self, lease->epoch);
    if (code == ERR_OK)
        accept_result(self, lease, outcome);
    else if (code == ERR_INTERRUPTED || code == ERR_STALE)
        lease_end(self, lease, true);
    else
        attempt_failed(self, lease, outcome, code, detail);
    scheduler_give(self);
}
