/* Submission: a job file's text and the uploads that it names → a job in the ledger. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/text.h"
#include "coordinator/output.h"
#include "coordinator/server_internal.h"

#define FREE_BYTES_MIN  (16u << 20) /* of the ledger's disk, beside what the job takes */
#define REPETITIONS_MAX 1000        /* of a job whose published files were removed */

/* -- the reader's files ------------------------------------------------------------------------ */

struct uploaded {
    struct server *server;
    const struct submission *submission;
    struct output_places places;
    char kept[2][PATH_MAX]; /* state and store, links followed */
};

static int compare_files(const void *a, const void *b) {
    return strcmp(((const struct submission_file *)a)->name,
                  ((const struct submission_file *)b)->name);
}

static const struct submission_file *find_file(const struct uploaded *uploaded, const char *name) {
    const struct submission_file wanted = {.name = name};
    return uploaded->submission->file_count == 0
               ? NULL
               : bsearch(&wanted, uploaded->submission->files, uploaded->submission->file_count,
                         sizeof wanted, compare_files);
}

static enum error_code find_upload(struct uploaded *uploaded, char path[FILE_PATH_BYTES],
                                   int64_t *size, const struct submission_file *file,
                                   struct error *error) {
    if (uploads_find(uploaded->server->uploads, path, size, &file->hash))
        return ERR_OK;
    return error_set(error, ERR_MISSING, "%.256s was not uploaded, or too long ago; submit again",
                     file->name);
}

static enum error_code not_uploaded(const char *name, struct error *error) {
    return error_set(error, ERR_MISSING, "%.256s is not among the files sent with the job", name);
}

static enum error_code read_file(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error) {
    struct uploaded *uploaded = user;
    const struct submission_file *file = find_file(uploaded, name);
    char path[FILE_PATH_BYTES];
    int64_t size;
    if (!file)
        return not_uploaded(name, error);
    enum error_code code = find_upload(uploaded, path, &size, file, error);
    return code == ERR_OK ? file_read(out, length, arena, path, bytes_max, error) : code;
}

static enum error_code find_image(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error) {
    struct uploaded *uploaded = user;
    const struct submission_file *file = find_file(uploaded, name);
    char path[FILE_PATH_BYTES];
    if (!file)
        return not_uploaded(name, error);
    enum error_code code = find_upload(uploaded, path, &out->bytes, file, error);
    if (code != ERR_OK)
        return code;
    out->hash = file->hash;
    out->path = arena_strdup(arena, path, strlen(path));
    return out->path ? ERR_OK : error_set(error, ERR_MEMORY, "no memory for a path");
}

static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    const struct job_resolver *outer = &((struct uploaded *)user)->server->config.resolver;
    if (!outer->find_lora)
        return error_set(error, ERR_UNSUPPORTED, "this coordinator has no LoRAs");
    return outer->find_lora(outer->user, out, arena, spec, error);
}

static enum job_expert lora_expert(void *user, bool *unclear, const char *spec) {
    const struct job_resolver *outer = &((struct uploaded *)user)->server->config.resolver;
    return outer->lora_expert ? outer->lora_expert(outer->user, unclear, spec) : JOB_EXPERT_BY_NAME;
}

static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    const struct job_resolver *outer = &((struct uploaded *)user)->server->config.resolver;
    return outer->read_model(outer->user, out, spec, error);
}

/* By an outer resolver that may not know either. */
static enum error_code check_model(void *user, const struct job_model *model, int ability,
                                   struct error *error) {
    const struct job_resolver *outer = &((struct uploaded *)user)->server->config.resolver;
    return outer->check_model ? outer->check_model(outer->user, model, ability, error) : ERR_OK;
}

static enum error_code find_steps(void *user, struct job_step_list *out, const char *name,
                                  struct error *error) {
    const struct job_resolver *outer = &((struct uploaded *)user)->server->config.resolver;
    if (!outer->find_steps)
        return error_set(error, ERR_UNSUPPORTED, "this coordinator knows no lists of steps");
    return outer->find_steps(outer->user, out, name, error);
}

/* -- output paths ------------------------------------------------------------------------------ */

/* What is at the path is what this ledger has published there, or was about to. */
static bool is_ours(struct server *server, const char *path) {
    struct ledger_publication known;
    return server_find_publication(server, &known, path) &&
           (!known.done || output_is_there(path, known.bytes));
}

/* Before hours of work rather than after: whether the output may be put there. */
static enum error_code check_place(struct server *server, const char *path,
                                   const struct job_output *output, struct error *error) {
    bool folder = output->container == JOB_CONTAINER_FOLDER;
    if (output_is_free(path, folder) || is_ours(server, path))
        return ERR_OK;
    enum error_code code = output_may_replace(path, folder, error);
    if (code == ERR_OK && !output->overwrite && !server->config.overwrite)
        code = error_set(error, ERR_DENIED,
                         "%.512s is there already and is not of this coordinator's making; move it "
                         "away, or say 'overwrite: true' in the job's output",
                         path);
    return code;
}

static enum error_code find_output(void *user, char out[FILE_PATH_BYTES],
                                   const struct job_output *output, struct error *error) {
    struct uploaded *uploaded = user;
    char path[FILE_PATH_BYTES];
    enum error_code code = server_output_path(uploaded->server, path, output, error);
    if (code == ERR_OK)
        code = output_place(&uploaded->places, out, path, error);
    for (int i = 0; i < 2 && code == ERR_OK; i++)
        if (output_is_inside(out, uploaded->kept[i]))
            code = error_set(error, ERR_USAGE,
                             "%.512s is in the folder where vidloom keeps its own state; choose "
                             "another path",
                             path);
    return code == ERR_OK ? check_place(uploaded->server, path, output, error) : code;
}

/* Of a job that is new: what is there and is ours will be replaced too. */
static enum error_code check_output(struct server *server, const struct job_output *output,
                                    char last[FILE_PATH_BYTES], struct error *error) {
    char path[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    enum error_code code = server_output_path(server, path, output, error);
    if (code == ERR_OK)
        code = output_may_replace(path, output->container == JOB_CONTAINER_FOLDER, error);
    if (code != ERR_OK)
        return code;
    server_folder_of(folder, path);
    if (strcmp(folder, last) == 0)
        return ERR_OK;
    code = file_make_folders(folder, error);
    if (code == ERR_OK && access(folder, W_OK | X_OK) != 0)
        code = error_set_errno(error, errno, "cannot write into the folder %.512s", folder);
    memcpy(last, folder, FILE_PATH_BYTES);
    return code;
}

/* The unfinished job, if any, that will write to one of `taken` (places, sorted), into one, or
 * around one; 0: none. */
static uint64_t find_collision(struct server *server, const struct name_list *taken,
                               const char **path) {
    struct output_places places = {.root = server->root};
    for (int place = 0; place < scheduler_job_count(server->scheduler); place++) {
        struct job_status status;
        uint64_t id = scheduler_job_at(server->scheduler, place);
        if (!scheduler_job_status(server->scheduler, id, &status) ||
            job_state_is_final(status.state))
            continue;
        for (int i = 0; i < status.job->video_count; i++) {
            char other[FILE_PATH_BYTES];
            const char *written = status.job->videos[i].output.path;
            if (output_place(&places, other, written, NULL) == ERR_OK && names_meet(taken, other)) {
                *path = written;
                return id;
            }
        }
    }
    return 0;
}

/* Two jobs that write one file would publish whichever ends last. An older job of the same name
 * makes way if the server is told so (one user's `vidloom run` after an edit). */
static enum error_code check_collisions(struct server *server, const struct job *job,
                                        struct error *error) {
    struct output_places places = {.root = server->root};
    struct name_list taken = {0};
    enum error_code code = ERR_OK;
    const char *path = "";
    for (int i = 0; i < job->video_count && code == ERR_OK; i++) {
        char name[FILE_PATH_BYTES];
        code = output_place(&places, name, job->videos[i].output.path, error);
        if (code == ERR_OK && !names_add(&taken, name))
            code = error_set(error, ERR_MEMORY, "no memory for %d paths", job->video_count);
    }
    names_sort(&taken);
    uint64_t other;
    while (code == ERR_OK && (other = find_collision(server, &taken, &path)) != 0) {
        struct job_status status = {0};
        bool same = scheduler_job_status(server->scheduler, other, &status) &&
                    strcmp(status.job->name, job->name) == 0;
        if (!server->config.supersede || !same)
            code = error_set(error, ERR_BUSY,
                             "job %llu (%.128s) is still making %.512s; wait for it, cancel it, or "
                             "choose another output path",
                             (unsigned long long)other, status.job ? status.job->name : "", path);
        else
            code = server_control(server, other, CONTROL_CANCEL, error);
    }
    names_close(&taken);
    return code;
}

static enum error_code check_outputs(struct server *server, const struct job *job,
                                     struct error *error) {
    char last[FILE_PATH_BYTES] = "";
    enum error_code code = ERR_OK;
    for (int i = 0; i < job->video_count && code == ERR_OK; i++)
        code = check_output(server, &job->videos[i].output, last, error);
    return code == ERR_OK ? check_collisions(server, job, error) : code;
}

static bool outputs_are_there(struct server *server, const struct job *job) {
    for (int i = 0; i < job->video_count; i++) {
        char path[FILE_PATH_BYTES];
        struct ledger_publication known;
        if (server_output_path(server, path, &job->videos[i].output, NULL) != ERR_OK ||
            !server_find_publication(server, &known, path) || !output_is_there(path, known.bytes))
            return false;
    }
    return true;
}

/* -- into the ledger --------------------------------------------------------------------------- */

static enum error_code check_space(const struct server *server, size_t bytes, struct error *error) {
    struct statvfs disk;
    if (server->full)
        return error_set(error, ERR_FULL,
                         "the disk of the coordinator's state folder %.512s is full; make room, "
                         "then submit again",
                         server->state);
    if (statvfs(server->state, &disk) != 0)
        return error_set_errno(error, errno, "cannot look at %.512s", server->state);
    uint64_t there = (uint64_t)disk.f_bavail * disk.f_frsize, needed = 3 * bytes + FREE_BYTES_MIN;
    char text[2][32];
    if (there < needed)
        return error_set(error, ERR_FULL,
                         "the disk of the coordinator's state folder %.512s has %s left, and this "
                         "job needs %s there; make room, then submit again",
                         server->state, text_bytes(text[0], there), text_bytes(text[1], needed));
    return ERR_OK;
}

/* A job that is known already goes on. */
static enum error_code revive(struct server *server, uint64_t id, struct error *error) {
    struct job_status status;
    if (!scheduler_job_status(server->scheduler, id, &status))
        return ERR_OK;
    if (status.state == JOB_PAUSED)
        return server_control(server, id, CONTROL_RESUME, error);
    if (status.state == JOB_FAILED || status.state == JOB_CANCELED)
        return server_control(server, id, CONTROL_RETRY, error);
    return ERR_OK;
}

/* Nothing of a batch with this job was written: take it out of the scheduler again. */
static void forget(struct server *server, uint64_t id) {
    struct error error;
    scheduler_actions_clear(&server->actions);
    if (scheduler_control_job(server->scheduler, id, CONTROL_CANCEL, server->now, &server->actions,
                              &error) == ERR_OK)
        server_drop_actions_of(server, id);
    if (scheduler_forget_job(server->scheduler, id, &error) != ERR_OK)
        server_fail(server, &error);
}

static enum error_code add_job(struct server *server, struct submitted *out, struct job **job,
                               const struct scheduler_submission *row, struct error *error) {
    enum error_code code = check_outputs(server, *job, error);
    if (code == ERR_OK)
        code = server_flush(server, error); /* this job is a batch of its own */
    if (code == ERR_OK && server->full)
        code = check_space(server, 0, error);
    if (code == ERR_OK)
        code = scheduler_add_job(server->scheduler, &out->job, job, row, server->now,
                                 &server->actions, error);
    if (code != ERR_OK)
        return code;
    code = server_apply(server, error);
    if (code == ERR_FULL)
        forget(server, out->job);
    else if (code == ERR_OK && !server_remember(server, row->submission, out->job))
        code = error_set(error, ERR_MEMORY, "no memory for the table of submissions");
    return code;
}

/* Find the job of this document, or make it. A done job whose files have been removed since is made
 * again, as a new job. */
static enum error_code add_document(struct server *server, struct submitted *out, struct job **job,
                                    const struct scheduler_submission *unnamed, const char *hash,
                                    struct error *error) {
    char key[LIMIT_SUBMISSION];
    struct scheduler_submission row = *unnamed;
    row.submission = key;
    for (int n = 1; n <= REPETITIONS_MAX; n++) {
        struct job_status status;
        snprintf(key, sizeof key, n == 1 ? "%.58s" : "%.58s-%d", hash, n);
        out->job = server_known(server, key);
        out->known = out->job != 0;
        if (!out->known)
            return add_job(server, out, job, &row, error);
        if (!scheduler_job_status(server->scheduler, out->job, &status) ||
            status.state != JOB_DONE || outputs_are_there(server, status.job))
            return revive(server, out->job, error);
    }
    return error_set(error, ERR_LIMIT, "this job was made %d times; change its name",
                     REPETITIONS_MAX);
}

static enum error_code accept_job(struct server *server, struct submitted *out, struct job **job,
                                  const struct submission *submission, struct error *error) {
    struct buffer document = {0};
    struct hash hash;
    char key[HASH_HEX_BYTES];
    job_write(&document, *job);
    enum error_code code =
        document.failed ? error_set(error, ERR_MEMORY, "no memory for the job's document")
                        : check_space(server, document.length + submission->yaml_length, error);
    if (code == ERR_OK) {
        hash_of(&hash, document.data, document.length);
        hash_hex(key, &hash);
        const struct scheduler_submission row = {
            .yaml = submission->yaml,
            .yaml_length = submission->yaml_length,
            .document = document.data,
            .document_length = document.length,
            .priority = submission->priority,
            .wall_ns = server->wall,
        };
        code =
            add_document(server, out, job, &row, *submission->key ? submission->key : key, error);
    }
    buffer_close(&document);
    return code;
}

_Static_assert(JOB_WARNING_BYTES <= PROTO_TEXT_BYTES && 2 * LIMIT_LORAS <= PROTO_WARNINGS_MAX,
               "warnings fit their message");
_Static_assert(LIMIT_NAME_BYTES + PLAN_NOTE_BYTES + 16 <= PROTO_TEXT_BYTES &&
                   PLAN_NOTES_TOLD <= PROTO_NOTES_MAX,
               "notes fit their message");

static void take_notes(struct submitted *out, const struct job *job) {
    struct plan_note note = {0};
    while (out->note_count < PLAN_NOTES_TOLD && plan_next_note(&note, job))
        (void)snprintf(out->notes[out->note_count++], PROTO_TEXT_BYTES, "video %s: %s",
                       job->videos[note.video].name, note.text);
}

static void take_warnings(struct submitted *out, const struct job *job) {
    struct job_warning warning = {.lora = 0};
    while (job_next_warning(&warning, job))
        memcpy(out->warnings[out->warning_count++], warning.text, sizeof warning.text);
}

enum error_code server_submit(struct server *server, struct submitted *out,
                              struct submission *submission, struct error *error) {
    struct uploaded uploaded = {
        .server = server, .submission = submission, .places = {.root = server->root}};
    const struct job_resolver resolver = {
        .user = &uploaded,
        .read_file = read_file,
        .find_image = find_image,
        .find_lora = find_lora,
        .lora_expert = lora_expert,
        .read_model = read_model,
        .check_model = check_model,
        .find_steps = find_steps,
        .find_output = find_output,
    };
    struct job *job = NULL;
    if (!realpath(server->state, uploaded.kept[0]) || !realpath(server->store, uploaded.kept[1]))
        return error_set_errno(error, errno, "cannot look at the state folder %.512s",
                               server->state);
    if (submission->file_count)
        qsort(submission->files, submission->file_count, sizeof *submission->files, compare_files);
    enum error_code code = server->full ? check_space(server, 0, error) : ERR_OK;
    if (code == ERR_OK)
        code = job_parse(&job, submission->name, submission->yaml, submission->yaml_length,
                         &resolver, error);
    if (code == ERR_OK) {
        out->videos = job->video_count;
        take_warnings(out, job);
        take_notes(out, job);
        code = accept_job(server, out, &job, submission, error);
    }
    job_close(&job);
    return code;
}
