/* From a muxed file to a published one. */
#include "coordinator/scheduler_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_texts(struct ledger_publication *publication) {
    free((char *)publication->path);
    free((char *)publication->staged);
}

/* The same with texts that live as long as the actions. */
static struct ledger_publication for_actions(struct scheduler *self,
                                             const struct ledger_publication *publication) {
    struct ledger_publication copy = *publication;
    copy.path = action_text(self, publication->path);
    copy.staged = action_text(self, publication->staged);
    return copy;
}

void publishing_close(struct scheduler *self, struct video_entry *entry) {
    if (!entry->publishing)
        return;
    free_texts(&entry->publishing->publication);
    free(entry->publishing);
    entry->publishing = NULL;
    self->publishing_count--;
}

void publish_action(struct scheduler *self, const struct job_entry *job, int video) {
    const struct publishing *publishing = job->videos[video].publishing;
    struct scheduler_action *action = action_add(self, ACTION_PUBLISH);
    if (!action)
        return;
    action->publish.publication = for_actions(self, &publishing->publication);
    action->publish.overwrite = job->job->videos[video].output.overwrite;
}

void video_publish(struct scheduler *self, struct job_entry *job, int video,
                   const struct lease_entry *lease, const struct task_output *file) {
    struct video_entry *entry = &job->videos[video];
    struct publishing *publishing = calloc(1, sizeof *publishing);
    char *path = video_final_path(self, &job->job->videos[video]);
    char *staged = strdup(lease->staged);
    if (!publishing || !path || !staged) {
        free(publishing);
        free(path);
        free(staged);
        self->actions->failed = true;
        return;
    }
    publishing->publication = (struct ledger_publication){.path = path,
                                                          .staged = staged,
                                                          .job = job->id,
                                                          .video = video,
                                                          .key = lease->node->key,
                                                          .hash = file->hash,
                                                          .bytes = file->bytes};
    entry->publishing = publishing;
    self->publishing_count++;
    struct ledger_record *record = record_add(self, LEDGER_PUBLICATION);
    if (record)
        record->publication = for_actions(self, &publishing->publication);
    video_set_state(job, video, VIDEO_PUBLISHING);
    video_record(self, job, video);
    publish_action(self, job, video);
    news_add(self, job->id, video, VIDEO_PUBLISHING, ERR_OK, NULL);
}

void scheduler_published(struct scheduler *self, uint64_t id, int video, enum error_code code,
                         const char *detail, int64_t wall_ns, int64_t now,
                         struct scheduler_actions *actions) {
    scheduler_begin(self, now, actions);
    scheduler_tell_wall(self, wall_ns);
    struct job_entry *job = id_map_get(&self->jobs_by_id, id);
    if (!job || video < 0 || video >= job->job->video_count || !job->videos[video].publishing)
        return;
    struct video_entry *entry = &job->videos[video];
    if (code == ERR_OK) {
        struct ledger_record *record = record_add(self, LEDGER_PUBLICATION);
        if (record) {
            record->publication = for_actions(self, &entry->publishing->publication);
            record->publication.done = true;
        }
        publishing_close(self, entry);
        video_leave(self, job, video, VIDEO_DONE, ERR_OK, NULL);
    } else {
        char reason[ERROR_DETAIL_BYTES];
        (void)snprintf(reason, sizeof reason, "publish: %s",
                       detail && *detail ? detail : error_sentence(code));
        struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
        if (action)
            action->path = action_text(self, entry->publishing->publication.staged);
        publishing_close(self, entry);
        bool hopeless = error_class_of(code) == ERROR_CLASS_FAIL_JOB && code != ERR_MISSING;
        if (job->state == JOB_CANCELED) {
            video_leave(self, job, video, VIDEO_CANCELED, ERR_OK, NULL);
        } else if (hopeless || ++entry->publish_failures >= self->config.attempts_max) {
            video_leave(self, job, video, VIDEO_FAILED, code, reason);
        } else {
            entry->not_before =
                self->core + (self->config.backoff_ns << (entry->publish_failures - 1));
            event_add(self, job->id, video, "video %s: %s; trying again",
                      job->job->videos[video].name, reason);
            video_leave(self, job, video, VIDEO_WAITING, ERR_OK, NULL);
        }
    }
    scheduler_give(self);
}

bool copy_publication(struct ledger_publication *out, const struct ledger_publication *in) {
    *out = *in;
    out->path = strdup(in->path);
    out->staged = strdup(in->staged);
    if (out->path && out->staged)
        return true;
    free_texts(out);
    return false;
}

enum error_code scheduler_restore_publication(struct scheduler *self,
                                              const struct ledger_publication *row,
                                              struct error *error) {
    struct ledger_publication *rows =
        realloc(self->restored, (size_t)(self->restored_count + 1) * sizeof *rows);
    if (rows)
        self->restored = rows;
    if (!rows || !copy_publication(&rows[self->restored_count], row))
        return error_set(error, ERR_MEMORY, "no memory for a publication");
    self->restored_count++;
    return ERR_OK;
}

void restored_close(struct scheduler *self) {
    for (int i = 0; i < self->restored_count; i++)
        free_texts(&self->restored[i]);
    free(self->restored);
    self->restored = NULL;
    self->restored_count = 0;
}
