/* Who does what next. */
#include "coordinator/scheduler_internal.h"

/* Whether as many videos of the class are under way as its workers can be busy with. Twice that,
 * for those that wait: for a pause to end, or for a task that another video has under way. */
static bool class_is_full(const struct scheduler *self, int class) {
    int64_t room = 2;
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i]->class == class && worker_takes_leases(self->workers[i]))
            room += 2 * (int64_t)self->workers[i]->slots;
    for (const struct active *active = self->first_active; active && room > 0;
         active = active->next)
        room -= active->job->state == JOB_RUNNING && active_entry(active)->class == class;
    return room <= 0;
}

/* Start the next video that this worker's class may work on. False: there is none. */
static bool start_next(struct scheduler *self, const struct worker *worker) {
    if (class_is_full(self, worker->class))
        return false;
    unsigned kinds = class_kinds(self, worker->class);
    for (int i = 0; i < self->job_count; i++) {
        struct job_entry *job = self->jobs[i];
        if (job->state != JOB_RUNNING)
            continue;
        int count = job->job->video_count;
        while (job->first_pending < count && !video_is_pending(&job->videos[job->first_pending]))
            job->first_pending++;
        for (int video = job->first_pending; video < count; video++) {
            struct video_entry *entry = &job->videos[video];
            if (!video_is_pending(entry) || entry->not_before > self->core ||
                (entry->class >= 0 && entry->class != worker->class))
                continue;
            struct plan_counts counts;
            struct error error = {0};
            enum error_code code = plan_count(&counts, job->job, &job->job->videos[video], &error);
            if (code && code != ERR_MEMORY) {
                video_leave(self, job, video, VIDEO_FAILED, code, error.detail);
                return true;
            }
            if (code || (counts.kinds & ~kinds))
                continue;
            if (self->first_active && self->active_tasks + counts.tasks > LIMIT_ACTIVE_TASKS)
                return false;
            video_start(self, job, video, worker->class);
            return !self->actions->failed;
        }
    }
    return false;
}

enum readiness { NOT_READY, READY, FOUND, AVOIDED };

static enum readiness task_readiness(struct scheduler *self, const struct worker *worker,
                                     const struct active *active, int at) {
    struct node *node = active->nodes[at];
    const struct plan_task *task = &active->plan->tasks[at];
    if (node->state != NODE_WAITING || node->class != worker->class)
        return NOT_READY;
    /* Of a mux, everything before the cursor is done, and it is at the cursor. */
    if (task->kind != PLAN_MUX)
        for (int i = 0; i < task->input_count; i++)
            if (active->nodes[task->inputs[i].task]->state != NODE_DONE)
                return NOT_READY;
    if (!node->looked_up) {
        struct task_result result;
        node->looked_up = true;
        if (self->config.find_result &&
            self->config.find_result(self->config.user, &result, &node->key,
                                     class_name(self, node->class))) {
            node->found = true;
            node_done(self, node, &result);
            return FOUND;
        }
    }
    if (node->not_before > self->core || !(worker->kinds & PLAN_KIND_BIT(node->kind)))
        return NOT_READY;
    if (node_avoids(node, worker) && node_has_elsewhere(self, node))
        return AVOIDED;
    return READY;
}

/* Give the worker one lease. False: there is nothing for it; *avoided: only because of its past. */
static bool give_one(struct scheduler *self, struct worker *worker, bool *avoided) {
    for (struct active *active = self->first_active; active; active = active->next) {
        if (active->job->state != JOB_RUNNING || active_entry(active)->class != worker->class)
            continue;
        for (int at = 0;; at++) {
            /* All that depends on nothing, then the one place where the chain is. */
            if (at >= active->plan->first) {
                active_settle(self, active);
                at = active->cursor;
            }
            if (self->actions->failed)
                return false;
            enum readiness readiness = task_readiness(self, worker, active, at);
            if (readiness == READY) {
                lease_give(self, worker, active, at);
                return !self->actions->failed;
            }
            *avoided |= readiness == AVOIDED;
            if (at >= active->plan->first && readiness != FOUND)
                break;
        }
    }
    return false;
}

void scheduler_give(struct scheduler *self) {
    struct {
        int class;
        unsigned kinds;
    } idle[16];
    int idle_count = 0;
    for (int i = 0; i < self->worker_count && !self->actions->failed; i++) {
        struct worker *worker = self->workers[i];
        if (!worker_takes_leases(worker) || worker->held >= worker->slots)
            continue;
        bool known = false;
        for (int j = 0; j < idle_count && !known; j++)
            known = idle[j].class == worker->class && idle[j].kinds == worker->kinds;
        if (known)
            continue;
        bool avoided = false, more = true;
        while (worker->held < worker->slots && more && !self->actions->failed)
            more = give_one(self, worker, &avoided) || start_next(self, worker);
        if (!more && !avoided && idle_count < 16) {
            idle[idle_count].class = worker->class;
            idle[idle_count++].kinds = worker->kinds;
        }
    }
}
