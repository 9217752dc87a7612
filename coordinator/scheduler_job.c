/* Jobs: added, controlled, forgotten. */
#include "coordinator/scheduler_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

enum error_code job_insert(struct scheduler *self, struct job **job, const struct ledger_job *row,
                           struct error *error) {
    if (self->job_count >= LIMIT_JOBS)
        return error_set(error, ERR_LIMIT, "more than %d jobs in memory; forget finished ones",
                         LIMIT_JOBS);
    struct job_entry **jobs =
        grow(self->jobs, &self->job_capacity, (size_t)self->job_count, sizeof(struct job_entry *));
    if (!jobs)
        return error_set(error, ERR_MEMORY, "no memory for a job");
    self->jobs = jobs;
    struct job_entry *entry = calloc(1, sizeof *entry);
    struct video_entry *videos = calloc((size_t)(*job)->video_count + 1, sizeof *videos);
    if (!entry || !videos || !id_map_put(&self->jobs_by_id, row->id, entry)) {
        free(entry);
        free(videos);
        return error_set(error, ERR_MEMORY, "no memory for a job");
    }
    entry->id = row->id;
    entry->job = *job;
    *job = NULL;
    entry->state = row->state;
    entry->priority = row->priority;
    entry->submitted_ns = row->submitted_ns;
    (void)snprintf(entry->submission, sizeof entry->submission, "%s",
                   row->submission ? row->submission : "");
    entry->videos = videos;
    for (int i = 0; i < entry->job->video_count; i++)
        videos[i].class = -1;
    entry->by_state[VIDEO_WAITING] = entry->job->video_count;
    int at = self->job_count++;
    while (at > 0 && (self->jobs[at - 1]->priority < entry->priority ||
                      (self->jobs[at - 1]->priority == entry->priority &&
                       self->jobs[at - 1]->id > entry->id))) {
        self->jobs[at] = self->jobs[at - 1];
        at--;
    }
    self->jobs[at] = entry;
    if (row->id > self->last_job)
        self->last_job = row->id;
    return ERR_OK;
}

enum error_code scheduler_add_job(struct scheduler *self, uint64_t *id, struct job **job,
                                  const struct scheduler_submission *submission, int64_t now,
                                  struct scheduler_actions *actions, struct error *error) {
    scheduler_begin(self, now, actions);
    scheduler_tell_wall(self, submission->wall_ns);
    const char *key = submission->submission ? submission->submission : "";
    if (strlen(key) >= LIMIT_SUBMISSION)
        return error_set(error, ERR_LIMIT, "a submission key of %zu bytes; at most %d", strlen(key),
                         LIMIT_SUBMISSION - 1);
    for (int i = 0; i < self->job_count && *key; i++)
        if (!strcmp(self->jobs[i]->submission, key)) {
            *id = self->jobs[i]->id;
            job_close(job);
            return ERR_OK;
        }
    struct ledger_job row = {
        .id = self->last_job + 1,
        .name = action_text(self, (*job)->name),
        .yaml = action_bytes(self, submission->yaml ? submission->yaml : "",
                             submission->yaml ? submission->yaml_length : 0),
        .yaml_length = submission->yaml ? submission->yaml_length : 0,
        .document = action_bytes(self, submission->document ? submission->document : "",
                                 submission->document ? submission->document_length : 0),
        .document_length = submission->document ? submission->document_length : 0,
        .submission = action_text(self, key),
        .state = JOB_RUNNING,
        .priority = submission->priority,
        .submitted_ns = submission->wall_ns,
    };
    if (actions->failed)
        return error_set(error, ERR_MEMORY, "no memory for a job");
    enum error_code code = job_insert(self, job, &row, error);
    if (code)
        return code;
    *id = row.id;
    struct ledger_record *record = record_add(self, LEDGER_JOB);
    if (record)
        record->job = row;
    struct job_entry *entry = id_map_get(&self->jobs_by_id, row.id);
    event_add(self, row.id, -1, "job %s: accepted, %d video%s", entry->job->name,
              entry->job->video_count, entry->job->video_count == 1 ? "" : "s");
    struct plan_note note = {0};
    for (int i = 0; i < PLAN_NOTES_TOLD && plan_next_note(&note, entry->job); i++)
        event_add(self, row.id, note.video, "video %s: %s", entry->job->videos[note.video].name,
                  note.text);
    news_add(self, row.id, -1, JOB_RUNNING, ERR_OK, NULL);
    job_check_end(self, entry);
    scheduler_give(self);
    return ERR_OK;
}

static enum error_code does_not_apply(const struct job_entry *job, const char *verb,
                                      struct error *error) {
    return error_set(error, ERR_USAGE, "job %llu (%s) is %s: there is nothing to %s",
                     (unsigned long long)job->id, job->job->name, job_state_name(job->state), verb);
}

static enum error_code pause_job(struct scheduler *self, struct job_entry *job,
                                 struct error *error) {
    if (job->state != JOB_RUNNING && job->state != JOB_PAUSED)
        return does_not_apply(job, "pause", error);
    if (job->state == JOB_RUNNING)
        job_set_state(self, job, JOB_PAUSED);
    return ERR_OK;
}

static enum error_code resume_job(struct scheduler *self, struct job_entry *job,
                                  struct error *error) {
    if (job->state != JOB_RUNNING && job->state != JOB_PAUSED)
        return does_not_apply(job, "resume", error);
    if (job->state == JOB_PAUSED)
        job_set_state(self, job, JOB_RUNNING);
    return ERR_OK;
}

static enum error_code cancel_job(struct scheduler *self, struct job_entry *job,
                                  struct error *error) {
    if (job->state == JOB_CANCELED)
        return ERR_OK;
    if (job_state_is_final(job->state))
        return does_not_apply(job, "cancel", error);
    /* The job's state says it for all its videos: no rows. One whose rename is due ends as that
     * ends. */
    for (int i = 0; i < job->job->video_count; i++) {
        struct video_entry *entry = &job->videos[i];
        if (video_state_is_final((enum video_state)entry->state) || entry->publishing)
            continue;
        if (entry->active)
            active_close(self, entry->active);
        video_set_state(job, i, VIDEO_CANCELED);
        news_add(self, job->id, i, VIDEO_CANCELED, ERR_OK, NULL);
    }
    job_set_state(self, job, JOB_CANCELED);
    return ERR_OK;
}

static enum error_code retry_job(struct scheduler *self, struct job_entry *job,
                                 struct error *error) {
    if (!job->by_state[VIDEO_FAILED] && !job->by_state[VIDEO_CANCELED])
        return does_not_apply(job, "retry", error);
    for (int i = 0; i < job->job->video_count; i++) {
        struct video_entry *entry = &job->videos[i];
        if (entry->state != VIDEO_FAILED && entry->state != VIDEO_CANCELED)
            continue;
        entry->class = -1;
        entry->publish_failures = 0;
        entry->not_before = 0;
        video_leave(self, job, i, VIDEO_WAITING, ERR_OK, NULL);
        news_add(self, job->id, i, VIDEO_WAITING, ERR_OK, NULL);
    }
    if (job->state != JOB_PAUSED && job->state != JOB_RUNNING)
        job_set_state(self, job, JOB_RUNNING);
    return ERR_OK;
}

enum error_code scheduler_control_job(struct scheduler *self, uint64_t id,
                                      enum scheduler_control control, int64_t now,
                                      struct scheduler_actions *actions, struct error *error) {
    static enum error_code (*const controls[])(struct scheduler *, struct job_entry *,
                                               struct error *) = {
        [CONTROL_PAUSE] = pause_job,
        [CONTROL_RESUME] = resume_job,
        [CONTROL_CANCEL] = cancel_job,
        [CONTROL_RETRY] = retry_job,
    };
    scheduler_begin(self, now, actions);
    struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    if (!job)
        return error_set(error, ERR_MISSING, "there is no job %llu", (unsigned long long)id);
    enum error_code code = controls[control](self, job, error);
    if (!code)
        scheduler_give(self);
    return code;
}

enum error_code scheduler_forget_job(struct scheduler *self, uint64_t id, struct error *error) {
    struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    if (!job)
        return error_set(error, ERR_MISSING, "there is no job %llu", (unsigned long long)id);
    if (!job_state_is_final(job->state) || job->by_state[VIDEO_PUBLISHING])
        return error_set(error, ERR_USAGE, "job %llu has not ended", (unsigned long long)id);
    for (int i = 0; i < self->job_count; i++)
        if (self->jobs[i] == job) {
            memmove(&self->jobs[i], &self->jobs[i + 1],
                    (size_t)(self->job_count - i - 1) * sizeof(struct job_entry *));
            break;
        }
    self->job_count--;
    id_map_remove(&self->jobs_by_id, id);
    job_close_entry(self, job);
    return ERR_OK;
}
