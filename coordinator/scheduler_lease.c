/* Leases: given, ended, told of. */
#include "coordinator/scheduler_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* The staged path beside the final one: folder/.NAME.<epoch>.part */
static char *staged_path(const char *path, uint64_t epoch) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t bytes = strlen(path) + 32;
    char *out = malloc(bytes);
    if (out)
        (void)snprintf(out, bytes, "%.*s.%s.%llu.part", (int)(name - path), path, name,
                       (unsigned long long)epoch);
    return out;
}

char *video_final_path(const struct scheduler *self, const struct job_video *video) {
    const char *root = self->output_root ? self->output_root : "", *path = video->output.path;
    size_t length = strlen(root), bytes = length + strlen(path) + 2;
    char *out = malloc(bytes);
    if (!out)
        return NULL;
    if (*path == '/' || !length)
        (void)snprintf(out, bytes, "%s", path);
    else
        (void)snprintf(out, bytes, "%s%s%s", root, root[length - 1] == '/' ? "" : "/", path);
    return out;
}

static void lease_action(struct scheduler *self, const struct lease_entry *entry,
                         const struct active *active, int at) {
    const struct plan_task *task = &active->plan->tasks[at];
    struct lease_input *inputs =
        action_alloc(self, ((size_t)task->input_count + 1) * sizeof *inputs);
    struct job_file *file = task->file ? action_alloc(self, sizeof *file) : NULL;
    struct job_model *model = task->model ? action_alloc(self, sizeof *model) : NULL;
    struct scheduler_action *action = action_add(self, ACTION_LEASE);
    if (!action || !inputs || self->actions->failed)
        return;
    for (int i = 0; i < task->input_count; i++) {
        const struct plan_input *input = &task->inputs[i];
        const struct task_output *output =
            task_result_find(&active->nodes[input->task]->result, input->output);
        inputs[i].name = action_text(self, input->name);
        assert(output); /* results are checked before they are accepted */
        inputs[i].object = *output;
    }
    if (file) {
        *file = *task->file;
        file->path = action_text(self, file->path);
    }
    if (model) {
        *model = *task->model;
        model->spec = action_text(self, model->spec);
    }
    action->lease = (struct lease){
        .worker = entry->worker->id,
        .epoch = entry->epoch,
        .lease_ns = self->config.lease_ns,
        .kind = task->kind,
        .index = task->index,
        .key = task->key,
        .class = action_text(self, class_name(self, entry->node->class)),
        .job = active->job->id,
        .video = active->video,
        .job_name = action_text(self, active->job->job->name),
        .video_name = action_text(self, active->plan->video->name),
        .parameters = action_bytes(self, task->parameters, task->parameters_length),
        .parameters_length = task->parameters_length,
        .inputs = inputs,
        .input_count = task->input_count,
        .file = file,
        .model = model,
        .staged = entry->staged ? action_text(self, entry->staged) : NULL,
        .steps = task->steps,
    };
}

void lease_give(struct scheduler *self, struct worker *worker, struct active *active, int at) {
    struct node *node = active->nodes[at];
    const struct plan_task *task = &active->plan->tasks[at];
    struct lease_entry *lease = calloc(1, sizeof *lease);
    if (!lease) {
        self->actions->failed = true;
        return;
    }
    lease->epoch = self->config.leader << 32 | ++self->last_lease;
    if (task->kind == PLAN_MUX) {
        char *path = video_final_path(self, active->plan->video);
        lease->staged = path ? staged_path(path, lease->epoch) : NULL;
        free(path);
        if (!lease->staged) {
            self->actions->failed = true;
            free(lease);
            return;
        }
    }
    if (!id_map_put(&self->leases, lease->epoch, lease)) {
        self->actions->failed = true;
        free(lease->staged);
        free(lease);
        return;
    }
    lease->node = node;
    lease->worker = worker;
    lease->granted = self->core;
    lease->deadline = self->core + self->config.lease_ns;
    lease->steps = task->steps;
    lease->job = active->job->id;
    lease->video = active->video;
    lease->task = at;
    lease->index = task->index;
    lease->next = worker->leases;
    if (worker->leases)
        worker->leases->previous = lease;
    worker->leases = lease;
    worker->held++;
    active->job->leases++;
    node->lease = lease;
    node->state = NODE_LEASED;
    lease_action(self, lease, active, at);
}

void lease_end(struct scheduler *self, struct lease_entry *lease, bool remove_staged) {
    struct worker *worker = lease->worker;
    if (lease->previous)
        lease->previous->next = lease->next;
    else
        worker->leases = lease->next;
    if (lease->next)
        lease->next->previous = lease->previous;
    worker->held--;
    struct job_entry *job = id_map_get(&self->jobs_by_id, lease->job);
    if (job)
        job->leases--;
    if (remove_staged && lease->staged) {
        struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
        if (action)
            action->path = action_text(self, lease->staged);
    }
    lease->node->lease = NULL;
    lease->node->state = NODE_WAITING;
    id_map_remove(&self->leases, lease->epoch);
    free(lease->staged);
    free(lease);
}

void attempt_add(struct scheduler *self, const struct lease_entry *lease, enum error_code code,
                 const char *detail, const struct task_result *result) {
    struct ledger_record *record = record_add(self, LEDGER_ATTEMPT);
    if (record)
        record->attempt = (struct ledger_attempt){
            .job = lease->job,
            .video = lease->video,
            .task = lease->task,
            .key = lease->node->key,
            .kind = lease->node->kind,
            .index = lease->index,
            .epoch = lease->epoch,
            .worker = action_text(self, lease->worker->name),
            .class = action_text(self, class_name(self, lease->node->class)),
            .code = code,
            .detail = action_text(self, detail),
            .seconds = (double)(self->core - lease->granted) / (double)CLOCK_S,
            .wall_ns = scheduler_wall(self),
            .measured = result && result->measured,
            .measures = result ? result->measures : (struct measures){0}};
}
