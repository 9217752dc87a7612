/* Recovery: from the ledger to a scheduler that knows what was promised; part files that nobody
 * will ever write again are removed. */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/grow.h"
#include "coordinator/output.h"
#include "coordinator/server_internal.h"

/* -- look-ups for the scheduler ---------------------------------------------------------------- */

static bool find_result(void *user, struct task_result *out, const struct hash *key,
                        const char *class) {
    struct server *server = user;
    bool found = false;
    struct error error;
    if (ledger_find_result(server->ledger, out, &found, key, class, &error) != ERR_OK) {
        server_fail(server, &error);
        return false;
    }
    return found;
}

bool server_find_publication(struct server *server, struct ledger_publication *out,
                             const char *path) {
    bool found = false;
    struct error error;
    if (ledger_find_publication(server->ledger, out, &found, path, &server->texts, &error) !=
        ERR_OK) {
        server_fail(server, &error);
        return false;
    }
    return found;
}

static bool is_published(void *user, const char *path, const struct hash *key) {
    struct ledger_publication found;
    return server_find_publication(user, &found, path) && found.done &&
           hash_equal(&found.key, key) && output_is_there(path, found.bytes);
}

/* -- submissions ------------------------------------------------------------------------------- */

uint64_t server_known(const struct server *server, const char *submission) {
    for (size_t i = 0; i < server->known_count; i++)
        if (strcmp(server->known[i].key, submission) == 0)
            return server->known[i].job;
    return 0;
}

bool server_remember(struct server *server, const char *submission, uint64_t job) {
    struct known_submission *known =
        grow(server->known, &server->known_capacity, server->known_count, sizeof *known);
    if (!known)
        return false;
    server->known = known;
    struct known_submission *entry = &server->known[server->known_count++];
    snprintf(entry->key, sizeof entry->key, "%s", submission);
    entry->job = job;
    return true;
}

/* -- rows -------------------------------------------------------------------------------------- */

struct recovery {
    struct server *server;
    struct name_list pending; /* staged paths that interrupted publications still need */
};

static enum error_code restore_job(void *user, const struct ledger_job *row, struct error *error) {
    struct server *server = ((struct recovery *)user)->server;
    struct job *job = NULL;
    enum error_code code = job_load(&job, row->document, row->document_length, error);
    if (code == ERR_OK)
        code = scheduler_restore_job(server->scheduler, &job, row, error);
    job_close(&job);
    if (code == ERR_OK && !server_remember(server, row->submission, row->id))
        code = error_set(error, ERR_MEMORY, "no memory for the table of submissions");
    if (code == ERR_OK && !job_state_is_final(row->state))
        server->had_work = true;
    return code == ERR_OK ? code : error_prefix(error, "job %llu: ", (unsigned long long)row->id);
}

static enum error_code restore_video(void *user, const struct ledger_video *row,
                                     struct error *error) {
    return scheduler_restore_video(((struct recovery *)user)->server->scheduler, row, error);
}

static enum error_code restore_publication(void *user, const struct ledger_publication *row,
                                           struct error *error) {
    struct recovery *recovery = user;
    if (!names_add(&recovery->pending, row->staged))
        return error_set(error, ERR_MEMORY, "no memory for the interrupted publications");
    return scheduler_restore_publication(recovery->server->scheduler, row, error);
}

/* -- part files of dead epochs ----------------------------------------------------------------- */

/* Remove from one folder every part file of an epoch before this coordinator's, whose final name is
 * one of `finals` and which no interrupted publication needs. */
static void sweep_folder(struct server *server, const char *folder, const struct name_list *finals,
                         const struct name_list *pending) {
    DIR *stream = opendir(folder);
    if (!stream)
        return;
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        char path[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
        uint64_t epoch;
        struct error error;
        if (entry->d_name[0] != '.' || file_join(path, folder, entry->d_name, NULL) != ERR_OK ||
            !publish_staged_epoch(&epoch, final, path) ||
            epoch >> 32 >= ledger_leader(server->ledger) || !names_has(finals, final) ||
            names_has(pending, path))
            continue;
        if (file_remove_tree(path, &error) != ERR_OK)
            log_line(server->config.log, LOG_WARNING, "coordinator", "%s", error.detail);
        else
            log_line(server->config.log, LOG_INFO, "coordinator", "removed part=%s", path);
    }
    closedir(stream);
}

static bool collect_outputs(struct server *server, struct name_list *finals) {
    bool good = true;
    for (int place = 0; place < scheduler_job_count(server->scheduler); place++) {
        struct job_status status;
        uint64_t id = scheduler_job_at(server->scheduler, place);
        if (!scheduler_job_status(server->scheduler, id, &status) || status.state == JOB_DONE)
            continue;
        for (int i = 0; i < status.job->video_count && good; i++) {
            char path[FILE_PATH_BYTES];
            good =
                server_output_path(server, path, &status.job->videos[i].output, NULL) != ERR_OK ||
                names_add(finals, path);
        }
    }
    names_sort(finals);
    return good;
}

/* Finals are sorted, so those of one folder are neighbours, but for those of its sub-folders. */
static void sweep_parts(struct server *server, struct name_list *pending) {
    struct name_list finals = {0};
    char last[FILE_PATH_BYTES] = "";
    names_sort(pending);
    if (collect_outputs(server, &finals)) {
        for (size_t i = 0; i < finals.count; i++) {
            char folder[FILE_PATH_BYTES];
            server_folder_of(folder, finals.names[i]);
            if (strcmp(folder, last) != 0)
                sweep_folder(server, folder, &finals, pending);
            memcpy(last, folder, sizeof last);
        }
    }
    names_close(&finals);
}

/* -- life -------------------------------------------------------------------------------------- */

static enum error_code open_scheduler(struct server *server, struct error *error) {
    const struct scheduler_config config = {
        .leader = ledger_leader(server->ledger),
        .lease_ns = server->config.lease_ns,
        .worker_ns = server->config.worker_ns,
        .output_root = server->root,
        .user = server,
        .find_result = find_result,
        .is_published = is_published,
    };
    return scheduler_open(&server->scheduler, &config, error);
}

enum error_code server_recover(struct server *server, struct error *error) {
    struct recovery recovery = {.server = server};
    const struct ledger_visitor visitor = {
        .user = &recovery,
        .job = restore_job,
        .video = restore_video,
        .publication = restore_publication,
    };
    enum error_code code = open_scheduler(server, error);
    if (code == ERR_OK)
        code = ledger_load(server->ledger, &visitor, error);
    if (code == ERR_OK)
        sweep_parts(server, &recovery.pending);
    names_close(&recovery.pending);
    return code;
}
