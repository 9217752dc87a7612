/* The scheduler's life. See scheduler.h for what it promises, scheduler_internal.h for its parts.
 */
#include "coordinator/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum error_code scheduler_open(struct scheduler **out, const struct scheduler_config *config,
                               struct error *error) {
    *out = NULL;
    struct scheduler *self = calloc(1, sizeof *self);
    if (!self)
        return error_set(error, ERR_MEMORY, "no memory for the scheduler");
    self->config = *config;
    struct scheduler_config *mine = &self->config;
    mine->lease_ns = mine->lease_ns ? mine->lease_ns : 30 * CLOCK_S;
    mine->worker_ns = mine->worker_ns ? mine->worker_ns : 30 * CLOCK_S;
    mine->gap_max_ns = mine->gap_max_ns ? mine->gap_max_ns : 5 * CLOCK_S;
    mine->backoff_ns = mine->backoff_ns ? mine->backoff_ns : CLOCK_S;
    mine->class_absent_ns = mine->class_absent_ns ? mine->class_absent_ns : 60 * CLOCK_S;
    mine->attempts_max = mine->attempts_max ? mine->attempts_max : 3;
    mine->deaths_max = mine->deaths_max ? mine->deaths_max : 3;
    self->output_root = strdup(config->output_root ? config->output_root : "");
    mine->output_root = NULL;
    if (!self->output_root) {
        scheduler_close(&self);
        return error_set(error, ERR_MEMORY, "no memory for the scheduler");
    }
    if (config->leader >= UINT64_C(1) << 31) {
        scheduler_close(&self);
        return error_set(
            error, ERR_LIMIT,
            "the ledger was opened %llu times, the most is 2^31 - 1: start a new one in "
            "another state folder",
            (unsigned long long)config->leader);
    }
    *out = self;
    return ERR_OK;
}

void job_close_entry(struct scheduler *self, struct job_entry *job) {
    for (int i = 0; job->videos && i < job->job->video_count; i++) {
        publishing_close(self, &job->videos[i]);
        free(job->videos[i].detail);
    }
    free(job->videos);
    job_close(&job->job);
    free(job);
}

void scheduler_close(struct scheduler **scheduler) {
    struct scheduler *self = *scheduler;
    if (!self)
        return;
    struct scheduler_actions ignored = {0};
    self->actions = &ignored;
    while (self->first_active)
        active_close(self, self->first_active);
    scheduler_actions_close(&ignored);
    for (int i = 0; i < self->worker_count; i++)
        free(self->workers[i]);
    for (int i = 0; i < self->job_count; i++)
        job_close_entry(self, self->jobs[i]);
    restored_close(self);
    free(self->workers);
    free(self->jobs);
    free(self->classes);
    free(self->buckets);
    free(self->output_root);
    id_map_close(&self->jobs_by_id);
    id_map_close(&self->workers_by_id);
    id_map_close(&self->leases);
    free(self);
    *scheduler = NULL;
}
