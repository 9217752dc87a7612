/* Videos, from their start to their end, and the jobs that end with them. */
#include "coordinator/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

struct video_entry *active_entry(const struct active *active) {
    return &active->job->videos[active->video];
}

void video_set_state(struct job_entry *job, int video, enum video_state state) {
    job->by_state[job->videos[video].state]--;
    job->by_state[state]++;
    job->videos[video].state = (uint8_t)state;
}

void video_record(struct scheduler *self, const struct job_entry *job, int video) {
    const struct video_entry *entry = &job->videos[video];
    struct ledger_record *record = record_add(self, LEDGER_VIDEO);
    if (record)
        record->video =
            (struct ledger_video){.job = job->id,
                                  .video = video,
                                  .state = (enum video_state)entry->state,
                                  .class = action_text(self, class_name(self, entry->class)),
                                  .code = entry->code,
                                  .detail = action_text(self, entry->detail),
                                  .seconds = entry->seconds,
                                  .drift = entry->drift,
                                  .seam = entry->seam,
                                  .redraws = entry->redraws};
}

void active_close(struct scheduler *self, struct active *active) {
    for (int i = 0; i < active->plan->task_count; i++) {
        if (active->nodes[i])
            node_leave(self, active->nodes[i], active, i);
    }
    if (active->previous)
        active->previous->next = active->next;
    else
        self->first_active = active->next;
    if (active->next)
        active->next->previous = active->previous;
    else
        self->last_active = active->previous;
    self->active_tasks -= active->plan->task_count;
    active_entry(active)->active = NULL;
    plan_close(&active->plan);
    free(active->nodes);
    free(active);
}

void job_set_state(struct scheduler *self, struct job_entry *job, enum job_state state) {
    job->state = state;
    struct ledger_record *record = record_add(self, LEDGER_JOB_STATE);
    if (record) {
        record->job.id = job->id;
        record->job.state = state;
    }
    event_add(self, job->id, -1, "job %s: %s", job->job->name, job_state_name(state));
    news_add(self, job->id, -1, state, ERR_OK, NULL);
}

void job_check_end(struct scheduler *self, struct job_entry *job) {
    if (job_state_is_final(job->state))
        return;
    int ended =
        job->by_state[VIDEO_DONE] + job->by_state[VIDEO_FAILED] + job->by_state[VIDEO_CANCELED];
    if (ended == job->job->video_count)
        job_set_state(self, job, ended == job->by_state[VIDEO_DONE] ? JOB_DONE : JOB_FAILED);
}

void video_leave(struct scheduler *self, struct job_entry *job, int video, enum video_state state,
                 enum error_code code, const char *detail) {
    struct video_entry *entry = &job->videos[video];
    char *kept = detail && *detail ? strdup(detail) : NULL; /* detail may be the old one */
    if (entry->active)
        active_close(self, entry->active);
    free(entry->detail);
    entry->detail = kept;
    entry->code = code;
    video_set_state(job, video, state);
    video_record(self, job, video);
    if (state == VIDEO_WAITING) {
        if (video < job->first_pending)
            job->first_pending = video;
        return;
    }
    event_add(self, job->id, video, "video %s: %s%s%s", job->job->videos[video].name,
              video_state_name(state), kept ? ": " : "", kept ? kept : "");
    news_add(self, job->id, video, (int)state, code, kept);
    job_check_end(self, job);
}

bool video_is_pending(const struct video_entry *entry) {
    return (entry->state == VIDEO_WAITING || entry->state == VIDEO_RUNNING) && !entry->active;
}

/* Whether the file that the plan ends with is there already. */
static bool is_published(const struct scheduler *self, const struct plan *plan) {
    if (!self->config.is_published)
        return false;
    char *path = video_final_path(self, plan->video);
    bool published = path && self->config.is_published(self->config.user, path,
                                                       &plan->tasks[plan->task_count - 1].key);
    free(path);
    return published;
}

/* Takes the plan over, whatever it returns. NULL: no memory. */
static struct active *active_open(struct scheduler *self, struct job_entry *job, int video,
                                  struct plan *plan) {
    struct active *active = calloc(1, sizeof *active);
    struct node **nodes = calloc((size_t)plan->task_count, sizeof(struct node *));
    if (!active || !nodes) {
        free(active);
        free(nodes);
        plan_close(&plan);
        return NULL;
    }
    *active = (struct active){.job = job,
                              .video = video,
                              .plan = plan,
                              .nodes = nodes,
                              .cursor = plan->first,
                              .previous = self->last_active};
    if (self->last_active)
        self->last_active->next = active;
    else
        self->first_active = active;
    self->last_active = active;
    self->active_tasks += plan->task_count;
    active_entry(active)->active = active;
    return active;
}

void video_start(struct scheduler *self, struct job_entry *job, int video, int class) {
    struct video_entry *entry = &job->videos[video];
    struct error error = {0};
    struct plan *plan;
    enum error_code code = plan_open(&plan, job->job, &job->job->videos[video], &error);
    if (code == ERR_MEMORY) {
        self->actions->failed = true;
        return;
    }
    if (code) {
        video_leave(self, job, video, VIDEO_FAILED, code, error.detail);
        return;
    }
    if (is_published(self, plan)) {
        plan_close(&plan);
        video_leave(self, job, video, VIDEO_DONE, ERR_OK, NULL);
        return;
    }
    struct active *active = active_open(self, job, video, plan);
    bool anew = entry->state != VIDEO_RUNNING || entry->class != class;
    entry->drift = entry->seam = 0;
    entry->redraws = 0;
    entry->class = class;
    for (int i = 0; active && i < plan->task_count; i++) {
        active->nodes[i] = node_take(self, &plan->tasks[i], class);
        if (!active->nodes[i] || !node_add_user(active->nodes[i], active, i)) {
            active_close(self, active);
            active = NULL;
        }
    }
    if (!active) {
        self->actions->failed = true;
        return;
    }
    active_advance(active);
    if (anew) {
        video_set_state(job, video, VIDEO_RUNNING);
        video_record(self, job, video);
        news_add(self, job->id, video, VIDEO_RUNNING, ERR_OK, NULL);
    }
}
