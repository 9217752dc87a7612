/* Workers: they come, ask, are heard of, go; and time, which tells on them. */
#include "coordinator/scheduler_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/grow.h"

enum error_code scheduler_worker_hello(struct scheduler *self, uint64_t id, const char *name,
                                       const char *class, unsigned kinds, int64_t now,
                                       struct scheduler_actions *actions, struct error *error) {
    scheduler_begin(self, now, actions);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    if (worker) {
        worker->kinds = kinds & PLAN_KINDS_ALL;
        worker->seen = self->core;
        scheduler_give(self);
        return ERR_OK;
    }
    if (!id || !class || !*class || strlen(class) >= LIMIT_CLASS_BYTES || !name ||
        strlen(name) >= LIMIT_WORKER_BYTES)
        return error_set(error, ERR_USAGE,
                         "a worker says its name and device class, each of 1 to %d bytes",
                         LIMIT_CLASS_BYTES - 1);
    if (self->worker_count >= LIMIT_WORKERS)
        return error_set(error, ERR_LIMIT, "more than %d workers", LIMIT_WORKERS);
    struct worker **workers = grow(self->workers, &self->worker_capacity,
                                   (size_t)self->worker_count, sizeof(struct worker *));
    if (!workers)
        return error_set(error, ERR_MEMORY, "no memory for a worker");
    self->workers = workers;
    worker = calloc(1, sizeof *worker);
    int class_at = class_add(self, class);
    if (!worker || class_at < 0 || !id_map_put(&self->workers_by_id, id, worker)) {
        free(worker);
        return error_set(error, ERR_MEMORY, "no memory for a worker");
    }
    worker->id = id;
    (void)snprintf(worker->name, sizeof worker->name, "%s", name);
    worker->name_hash = worker_name_hash(name);
    worker->class = class_at;
    worker->kinds = kinds & PLAN_KINDS_ALL;
    worker->seen = self->core;
    self->classes[class_at].workers++;
    self->workers[self->worker_count++] = worker;
    event_add(self, 0, -1, "worker %s: connected, class %s", name, class);
    return ERR_OK;
}

void scheduler_worker_request(struct scheduler *self, uint64_t id, int slots, int64_t now,
                              struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker->seen = self->core;
    worker->slots = slots < 0 ? 0 : slots > LIMIT_SLOTS ? LIMIT_SLOTS : slots;
    scheduler_give(self);
}

void scheduler_worker_alive(struct scheduler *self, uint64_t id, int64_t now) {
    scheduler_begin(self, now, NULL);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    if (worker)
        worker->seen = self->core;
}

void scheduler_worker_progress(struct scheduler *self, uint64_t id, uint64_t epoch, int step,
                               double fraction, int64_t now, struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    struct lease_entry *lease = id_map_get(&self->leases, epoch);
    if (worker)
        worker->seen = self->core;
    if (!worker || !lease || lease->worker != worker) {
        worker_action(self, ACTION_REVOKE, id, epoch, ERR_STALE);
        return;
    }
    lease->deadline = self->core + self->config.lease_ns;
    if (step > lease->step)
        lease->step = step < lease->steps ? step : lease->steps;
    if (fraction > lease->fraction && fraction <= 1)
        lease->fraction = fraction;
}

/* The worker is gone; `blame`: what it held counts as a death. */
static void worker_close(struct scheduler *self, struct worker *worker, bool blame) {
    struct node *nodes[LIMIT_SLOTS];
    int count = 0;
    while (worker->leases) {
        struct lease_entry *lease = worker->leases;
        if (blame) {
            attempt_add(self, lease, ERR_NETWORK, "the worker was lost", NULL);
            event_add(self, lease->job, lease->video, "%s %d: worker %s was lost",
                      plan_kind_name(lease->node->kind), lease->index, worker->name);
            nodes[count++] = lease->node;
        }
        lease_end(self, lease, true);
    }
    id_map_remove(&self->workers_by_id, worker->id);
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i] == worker) {
            memmove(&self->workers[i], &self->workers[i + 1],
                    (size_t)(self->worker_count - i - 1) * sizeof(struct worker *));
            break;
        }
    self->worker_count--;
    struct class_entry *class = &self->classes[worker->class];
    if (--class->workers == 0)
        class->absent_since = self->core;
    event_add(self, 0, -1, "worker %s: %s", worker->name, blame ? "lost" : "left");
    /* A task that fails takes its videos' other tasks along, which may be among these. */
    for (int i = 0; i < count; i++) {
        bool still = i == 0;
        for (struct active *active = self->first_active; active && !still; active = active->next)
            for (int task = 0; task < active->plan->task_count && !still; task++)
                still = active->nodes[task] == nodes[i];
        if (still)
            node_died_once(self, nodes[i], worker);
    }
    free(worker);
}

void scheduler_worker_bye(struct scheduler *self, uint64_t id, int64_t now,
                          struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker_close(self, worker, false);
    scheduler_give(self);
}

void scheduler_worker_lost(struct scheduler *self, uint64_t id, int64_t wall_ns, int64_t now,
                           struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    scheduler_tell_wall(self, wall_ns);
    struct worker *worker = id_map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker_close(self, worker, true);
    scheduler_give(self);
}

enum error_code scheduler_drain_worker(struct scheduler *self, const char *name, bool now_too,
                                       int64_t now, struct scheduler_actions *actions,
                                       struct error *error) {
    scheduler_begin(self, now, actions);
    bool found = false;
    for (int i = 0; i < self->worker_count; i++) {
        struct worker *worker = self->workers[i];
        if (strcmp(worker->name, name) != 0)
            continue;
        found = true;
        worker->draining = true;
        while (now_too && worker->leases) {
            worker_action(self, ACTION_REVOKE, worker->id, worker->leases->epoch, ERR_OK);
            lease_end(self, worker->leases, true);
        }
    }
    if (!found)
        return error_set(error, ERR_MISSING, "no worker is called %s", name);
    scheduler_give(self);
    return ERR_OK;
}

static void lease_expire(struct scheduler *self, struct lease_entry *lease) {
    struct node *node = lease->node;
    struct worker *worker = lease->worker;
    char detail[128];
    (void)snprintf(detail, sizeof detail, "worker %s reported no progress for %lld s", worker->name,
                   (long long)(self->config.lease_ns / CLOCK_S));
    attempt_add(self, lease, ERR_NETWORK, detail, NULL);
    event_add(self, lease->job, lease->video, "%s %d: %s", plan_kind_name(node->kind), lease->index,
              detail);
    worker_action(self, ACTION_REVOKE, worker->id, lease->epoch, ERR_STALE);
    lease_end(self, lease, true);
    node_failed_once(self, node, worker, ERR_NETWORK, detail);
}

static void expire_leases(struct scheduler *self, const struct worker *worker) {
    struct lease_entry *lease = worker->leases;
    while (lease) {
        if (self->core < lease->deadline) {
            lease = lease->next;
            continue;
        }
        /* Failing a task may end other leases of this worker, so look from the start. */
        lease_expire(self, lease);
        lease = worker->leases;
    }
}

/* Videos whose class has no worker any more go to one that has. */
static void unpin_videos(struct scheduler *self, int class) {
    for (int i = 0; i < self->job_count; i++) {
        struct job_entry *job = self->jobs[i];
        for (int video = 0; video < job->job->video_count && !job_state_is_final(job->state);
             video++) {
            struct video_entry *pinned = &job->videos[video];
            if (pinned->class != class ||
                (pinned->state != VIDEO_RUNNING && pinned->state != VIDEO_WAITING))
                continue;
            event_add(self, job->id, video,
                      "video %s: no worker of class %s is left; starting again elsewhere",
                      job->job->videos[video].name, class_name(self, class));
            pinned->class = -1;
            video_leave(self, job, video, VIDEO_WAITING, ERR_OK, NULL);
        }
    }
}

void scheduler_tick(struct scheduler *self, int64_t wall_ns, int64_t now,
                    struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    scheduler_tell_wall(self, wall_ns);
    for (int i = 0; i < self->worker_count;) {
        struct worker *worker = self->workers[i];
        if (self->core - worker->seen > self->config.worker_ns) {
            worker_close(self, worker, true); /* the next one has its place now */
        } else {
            expire_leases(self, worker);
            i++;
        }
    }
    for (int class = 0; class < self->class_count && self->worker_count; class ++) {
        struct class_entry *entry = &self->classes[class];
        if (entry->workers || self->core - entry->absent_since < self->config.class_absent_ns)
            continue;
        unpin_videos(self, class);
        entry->absent_since = self->core;
    }
    scheduler_give(self);
}
