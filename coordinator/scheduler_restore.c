/* From the ledger's rows to a state, after a restart. */
#include "coordinator/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

enum error_code scheduler_restore_job(struct scheduler *self, struct job **job,
                                      const struct ledger_job *row, struct error *error) {
    if (!row->id || id_map_get(&self->jobs_by_id, row->id))
        return error_set(error, ERR_FORMAT, "the ledger has job %llu twice",
                         (unsigned long long)row->id);
    enum error_code code = job_insert(self, job, row, error);
    if (code)
        return code;
    /* Videos without a row are as the end of the job says; others are told one by one. */
    struct job_entry *entry = id_map_get(&self->jobs_by_id, row->id);
    enum video_state state = row->state == JOB_CANCELED ? VIDEO_CANCELED
                             : row->state == JOB_DONE   ? VIDEO_DONE
                             : row->state == JOB_FAILED ? VIDEO_FAILED
                                                        : VIDEO_WAITING;
    for (int i = 0; i < entry->job->video_count && state != VIDEO_WAITING; i++)
        video_set_state(entry, i, state);
    return ERR_OK;
}

enum error_code scheduler_restore_video(struct scheduler *self, const struct ledger_video *row,
                                        struct error *error) {
    struct job_entry *job = id_map_get(&self->jobs_by_id, row->job);
    if (!job || row->video < 0 || row->video >= job->job->video_count)
        return error_set(error, ERR_FORMAT,
                         "the ledger has a row for video %d of job %llu, which "
                         "has none of that number",
                         row->video, (unsigned long long)row->job);
    struct video_entry *entry = &job->videos[row->video];
    enum video_state state = row->state;
    if (job->state == JOB_CANCELED && (state == VIDEO_WAITING || state == VIDEO_RUNNING))
        state = VIDEO_CANCELED;
    video_set_state(job, row->video, state);
    entry->code = row->code;
    entry->seconds = row->seconds;
    entry->drift = row->drift;
    entry->seam = row->seam;
    entry->redraws = row->redraws;
    if (*row->class && state == VIDEO_RUNNING) {
        entry->class = class_add(self, row->class);
        if (entry->class < 0)
            return error_set(error, ERR_MEMORY, "no memory for a video");
    }
    if (*row->detail) {
        entry->detail = strdup(row->detail);
        if (!entry->detail)
            return error_set(error, ERR_MEMORY, "no memory for a video");
    }
    return ERR_OK;
}

void scheduler_start(struct scheduler *self, int64_t now, struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    for (int i = 0; i < self->restored_count; i++) {
        const struct ledger_publication *row = &self->restored[i];
        struct job_entry *job = id_map_get(&self->jobs_by_id, row->job);
        if (job && row->video >= 0 && row->video < job->job->video_count &&
            job->videos[row->video].state == VIDEO_PUBLISHING &&
            !job->videos[row->video].publishing) {
            struct publishing *publishing = calloc(1, sizeof *publishing);
            if (!publishing || !copy_publication(&publishing->publication, row)) {
                free(publishing);
                actions->failed = true;
                return;
            }
            job->videos[row->video].publishing = publishing;
            self->publishing_count++;
            publish_action(self, job, row->video);
        } else {
            struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
            if (action)
                action->path = action_text(self, row->staged);
        }
    }
    restored_close(self);
    for (int i = 0; i < self->job_count; i++) {
        struct job_entry *job = self->jobs[i];
        for (int video = 0; video < job->job->video_count; video++)
            if (job->videos[video].state == VIDEO_PUBLISHING && !job->videos[video].publishing)
                video_set_state(job, video,
                                job->state == JOB_CANCELED ? VIDEO_CANCELED : VIDEO_WAITING);
        job_check_end(self, job);
    }
    scheduler_give(self);
}
