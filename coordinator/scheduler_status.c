/* Questions. */
#include "coordinator/scheduler_internal.h"

#include <string.h>

#include "base/clock.h"

static double mean_seconds(const struct job_entry *job, enum plan_kind kind) {
    return job->kind_count[kind] ? job->kind_seconds[kind] / (double)job->kind_count[kind] : 0;
}

/* What one more window takes, decoded; -1 when none has been measured. */
static double window_seconds(const struct job_entry *job) {
    if (!job->kind_count[PLAN_WINDOW])
        return -1;
    return mean_seconds(job, PLAN_WINDOW) + mean_seconds(job, PLAN_DECODE);
}

static void video_windows(const struct job_entry *job, int video, int *windows, int *done) {
    const struct model_facts *facts = &job->job->window.facts;
    const struct video_entry *entry = &job->videos[video];
    *windows = (int)plan_windows(job->job->videos[video].frames, facts->window_frames,
                                 job->job->videos[video].overlap);
    *done = 0;
    if (entry->state == VIDEO_DONE || entry->state == VIDEO_PUBLISHING)
        *done = *windows;
    else if (entry->active && entry->active->cursor > entry->active->plan->chain)
        *done = (entry->active->cursor - entry->active->plan->chain) / 2;
}

const struct job *scheduler_job(const struct scheduler *self, uint64_t id) {
    const struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    return job ? job->job : NULL;
}

bool scheduler_job_status(const struct scheduler *self, uint64_t id, struct job_status *out) {
    const struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    if (!job)
        return false;
    *out = (struct job_status){.id = id,
                               .job = job->job,
                               .state = job->state,
                               .priority = job->priority,
                               .submitted_ns = job->submitted_ns,
                               .videos = job->job->video_count};
    memcpy(out->by_state, job->by_state, sizeof out->by_state);
    double left = 0;
    for (int i = 0; i < job->job->video_count; i++) {
        int windows, done;
        video_windows(job, i, &windows, &done);
        out->windows += windows;
        out->windows_done += done;
        out->frames += job->job->videos[i].frames;
        out->frames_done += done == windows ? job->job->videos[i].frames
                                            : job->job->videos[i].frames * done / windows;
        if (!video_state_is_final((enum video_state)job->videos[i].state))
            left += windows - done;
    }
    double each = window_seconds(job);
    int parallel = job->leases > 1 ? job->leases : 1;
    out->seconds_left = left == 0 ? 0 : each < 0 ? -1 : left * each / parallel;
    return true;
}

bool scheduler_video_status(const struct scheduler *self, uint64_t id, int video,
                            struct video_status *out) {
    const struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    if (!job || video < 0 || video >= job->job->video_count)
        return false;
    const struct video_entry *entry = &job->videos[video];
    *out = (struct video_status){.state = (enum video_state)entry->state,
                                 .class = class_name(self, entry->class),
                                 .code = entry->code,
                                 .detail = entry->detail ? entry->detail : "",
                                 .kind = PLAN_KIND_COUNT,
                                 .worker = "",
                                 .seconds = entry->seconds,
                                 .drift = entry->drift,
                                 .seam = entry->seam,
                                 .redraws = entry->redraws};
    video_windows(job, video, &out->windows, &out->windows_done);
    const struct active *active = entry->active;
    double part = 0;
    if (active) {
        const struct node *node = active->nodes[active->cursor];
        int at = active->cursor;
        for (int i = 0; !node->lease && i < active->plan->first; i++) {
            node = active->nodes[i];
            at = i;
        }
        if (node->lease) {
            out->kind = node->kind;
            out->index = active->plan->tasks[at].index;
            out->step = node->lease->step;
            out->steps = node->lease->steps;
            out->attempt = node->attempts + node->deaths + 1;
            out->worker = node->lease->worker->name;
            if (node->kind == PLAN_WINDOW)
                part = node->lease->fraction * mean_seconds(job, PLAN_WINDOW);
            else if (node->kind == PLAN_DECODE)
                part = mean_seconds(job, PLAN_WINDOW) +
                       node->lease->fraction * mean_seconds(job, PLAN_DECODE);
        }
    }
    double each = window_seconds(job), left = (out->windows - out->windows_done) * each - part;
    out->seconds_left = video_state_is_final(out->state) ? 0 : each < 0 ? -1 : left > 0 ? left : 0;
    return true;
}

int scheduler_job_count(const struct scheduler *self) {
    return self->job_count;
}

uint64_t scheduler_job_at(const struct scheduler *self, int place) {
    return place >= 0 && place < self->job_count ? self->jobs[place]->id : 0;
}

int scheduler_worker_count(const struct scheduler *self) {
    return self->worker_count;
}

bool scheduler_worker_at(const struct scheduler *self, int place, int64_t now,
                         struct worker_status *out) {
    if (place < 0 || place >= self->worker_count)
        return false;
    const struct worker *worker = self->workers[place];
    int64_t since = now - self->last_now;
    *out = (struct worker_status){
        .id = worker->id,
        .name = worker->name,
        .class = class_name(self, worker->class),
        .kinds = worker->kinds,
        .slots = worker->slots,
        .leases = worker->held,
        .draining = worker->draining,
        .stopped = worker->stopped,
        .done = worker->done,
        .failed = worker->failed,
        .seconds_silent =
            (double)(self->core - worker->seen + (since > 0 ? since : 0)) / (double)CLOCK_S,
        .kind = PLAN_KIND_COUNT,
    };
    const struct lease_entry *oldest = worker->leases;
    while (oldest && oldest->next)
        oldest = oldest->next;
    if (oldest) {
        out->job = oldest->job;
        out->video = oldest->video;
        out->kind = oldest->node->kind;
        out->index = oldest->index;
    }
    return true;
}

bool scheduler_uses(const struct scheduler *self, const struct hash *key, const char *class) {
    int at = class_find(self, class);
    return at >= 0 && node_find(self, key, at);
}

bool scheduler_is_idle(const struct scheduler *self) {
    if (self->leases.count || self->publishing_count)
        return false;
    for (int i = 0; i < self->job_count; i++)
        if (!job_state_is_final(self->jobs[i]->state))
            return false;
    return true;
}
