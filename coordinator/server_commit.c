/* The end of a turn: commit what the scheduler wants written, then do what it wants done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/server_internal.h"

/* -- ownership --------------------------------------------------------------------------------- */

/* Whether what lies at the path of an intended publication is an older work of this ledger, which
 * it may replace. Asked before the intended record takes the place of the older one. */
static bool is_own_work(struct server *server, const char *path) {
    struct ledger_publication old;
    return server_find_publication(server, &old, path) && old.done &&
           publish_is_there(path, &old.hash, old.bytes);
}

/* After a crash the older record is gone: the video that it was of is still done. */
static bool is_of_done_video(struct server *server, const struct ledger_publication *intended) {
    for (int place = 0; place < scheduler_job_count(server->scheduler); place++) {
        struct job_status status;
        uint64_t id = scheduler_job_at(server->scheduler, place);
        if (id == intended->job || !scheduler_job_status(server->scheduler, id, &status))
            continue;
        for (int i = 0; i < status.job->video_count; i++) {
            char path[FILE_PATH_BYTES];
            struct video_status video;
            if (server_output_path(server, path, &status.job->videos[i].output, NULL) == ERR_OK &&
                strcmp(path, intended->path) == 0 &&
                scheduler_video_status(server->scheduler, id, i, &video) &&
                video.state == VIDEO_DONE)
                return true;
        }
    }
    return false;
}

static void decide_ownership(struct server *server) {
    for (size_t i = server->committed; i < server->actions.count; i++) {
        struct scheduler_action *action = &server->actions.items[i];
        if (action->kind != ACTION_PUBLISH || action->publish.overwrite)
            continue;
        const struct ledger_publication *intended = &action->publish.publication;
        action->publish.overwrite = server->config.overwrite ||
                                    is_own_work(server, intended->path) ||
                                    (server->recovering && is_of_done_video(server, intended));
    }
}

/* -- commit ------------------------------------------------------------------------------------ */

static enum error_code gather_records(struct server *server, size_t *count, struct error *error) {
    size_t needed = server->actions.count - server->committed;
    if (needed > server->record_capacity) {
        struct ledger_record *records = realloc(server->records, needed * sizeof *records);
        if (!records)
            return error_set(error, ERR_MEMORY, "no memory for %zu records", needed);
        server->records = records;
        server->record_capacity = needed;
    }
    *count = 0;
    for (size_t i = server->committed; i < server->actions.count; i++)
        if (server->actions.items[i].kind == ACTION_RECORD)
            server->records[(*count)++] = server->actions.items[i].record;
    return ERR_OK;
}

static void meet_full_disk(struct server *server, const struct error *error) {
    server->counts.full++;
    server->retry_at = server->now + SERVER_FULL_RETRY_NS;
    if (!server->full)
        log_line(server->config.log, LOG_ERROR, "coordinator",
                 "%s; new jobs are refused and nothing is handed out until there is room",
                 error->detail);
    server->full = true;
}

enum error_code server_apply(struct server *server, struct error *error) {
    size_t count = 0;
    if (server->actions.failed)
        return error_set(error, ERR_MEMORY, "no memory for the scheduler's actions");
    enum error_code code = gather_records(server, &count, error);
    if (code != ERR_OK)
        return code;
    decide_ownership(server);
    if (count) {
        code = ledger_apply(server->ledger, server->records, count, error);
        if (code == ERR_FULL)
            meet_full_disk(server, error);
        if (code != ERR_OK)
            return code;
        server->counts.commits++;
        server->counts.records += count;
    }
    if (server->full)
        log_line(server->config.log, LOG_INFO, "coordinator", "there is room again on the disk");
    server->full = false;
    server->committed = server->actions.count;
    return ERR_OK;
}

/* -- carrying out ------------------------------------------------------------------------------ */

static void remove_staged(struct server *server, const char *path) {
    struct error error;
    if (file_remove_tree(path, &error) != ERR_OK)
        log_line(server->config.log, LOG_WARNING, "coordinator", "%s", error.detail);
}

/* The folder of the output was there at submission; it may have been removed since. */
static void make_folder(struct server *server, const char *staged) {
    char folder[FILE_PATH_BYTES];
    struct error error;
    server_folder_of(folder, staged);
    if (file_make_folders(folder, &error) != ERR_OK)
        log_line(server->config.log, LOG_WARNING, "coordinator", "%s", error.detail);
}

static void publish(struct server *server, const struct scheduler_action *action) {
    const struct ledger_publication *intended = &action->publish.publication;
    const struct publish order = {
        .staged = intended->staged,
        .path = intended->path,
        .hash = intended->hash,
        .bytes = intended->bytes,
        .replace = action->publish.overwrite,
    };
    struct error error;
    if (publisher_add(server->publisher, intended->job, intended->video, &order, &error) != ERR_OK)
        server_fail(server, &error);
}

void server_take_published(struct server *server) {
    struct published published;
    while (publisher_take(server->publisher, &published)) {
        bool good = published.code == ERR_OK;
        const char *detail = good ? "" : published.error.detail;
        server->counts.published += good;
        log_line(server->config.log, good ? LOG_INFO : LOG_WARNING, "coordinator",
                 "publish job=%llu video=%d path=%s%s%s", (unsigned long long)published.job,
                 published.video, published.path, good ? "" : " error=", detail);
        scheduler_published(server->scheduler, published.job, published.video, published.code,
                            detail, server->wall, server->now, &server->actions);
    }
}

static bool keep_result(void *user, const struct hash *key, const char *class) {
    return scheduler_uses(((struct server *)user)->scheduler, key, class);
}

/* Every video is published: what was made on the way is not needed any more. */
static void collect(struct server *server, uint64_t job) {
    struct error error;
    enum error_code code =
        ledger_collect(server->ledger, job, keep_result, server_remove_object, server, &error);
    if (code == ERR_FULL)
        log_line(server->config.log, LOG_WARNING, "coordinator", "%s", error.detail);
    else if (code != ERR_OK)
        server_fail(server, &error);
}

static void tell_news(struct server *server, const struct scheduler_action *action) {
    bool whole = action->kind == ACTION_JOB;
    server_touch(server, action->news.job, whole ? -1 : action->news.video);
    if (!whole && action->news.state == VIDEO_CANCELED)
        return; /* of a whole job: told together */
    log_line(server->config.log, action->news.code == ERR_OK ? LOG_INFO : LOG_WARNING,
             "coordinator", whole ? "job=%llu state=%s%s%s" : "job=%llu state=%s%s%s video=%d",
             (unsigned long long)action->news.job,
             whole ? job_state_name((enum job_state)action->news.state)
                   : video_state_name((enum video_state)action->news.state),
             *action->news.detail ? " detail=" : "", action->news.detail, action->news.video);
    if (whole && action->news.state == JOB_DONE)
        collect(server, action->news.job);
}

/* One line a job, however many videos it has. */
static void tell_canceled(struct server *server, const struct scheduler_actions *round) {
    uint64_t job = 0;
    int count = 0;
    for (size_t i = 0; i <= round->count; i++) {
        const struct scheduler_action *action = i < round->count ? &round->items[i] : NULL;
        if (action && (action->kind != ACTION_VIDEO || action->news.state != VIDEO_CANCELED))
            continue;
        if (count && (!action || action->news.job != job)) {
            log_line(server->config.log, LOG_INFO, "coordinator",
                     "job=%llu state=canceled videos=%d", (unsigned long long)job, count);
            count = 0;
        }
        job = action ? action->news.job : 0;
        count++;
    }
}

static void carry_out(struct server *server, const struct scheduler_action *action) {
    switch (action->kind) {
    case ACTION_LEASE:
        if (action->lease.staged)
            make_folder(server, action->lease.staged);
        server_send_lease(server, &action->lease);
        break;
    case ACTION_REVOKE:
        server_send_revoke(server, action->worker.worker, action->worker.epoch);
        break;
    case ACTION_REPLY:
        server_send_reply(server, action->worker.worker, action->worker.epoch, action->worker.code);
        break;
    case ACTION_REMOVE_STAGED:
        remove_staged(server, action->path);
        break;
    case ACTION_VIDEO:
    case ACTION_JOB:
        tell_news(server, action);
        break;
    case ACTION_RECORD:
    case ACTION_PUBLISH: /* after the others, as it is an event */
        break;
    }
}

/* One round: what is committed is done; doing it may bring new actions. */
static void carry_out_all(struct server *server) {
    struct scheduler_actions round = server->actions;
    server->actions = server->spare;
    server->committed = 0;
    for (size_t i = 0; i < round.count; i++)
        carry_out(server, &round.items[i]);
    tell_canceled(server, &round);
    for (size_t i = 0; i < round.count; i++)
        if (round.items[i].kind == ACTION_PUBLISH)
            publish(server, &round.items[i]);
    scheduler_actions_clear(&round);
    server->spare = round;
    server_lose_unreachable(server);
}

enum error_code server_flush(struct server *server, struct error *error) {
    if (server->full && server->actions.count == 0)
        server->full = false; /* a submission met it, and was refused: the next may fit */
    while (server->actions.count > 0 && server->failure.code == ERR_OK) {
        enum error_code code = server_apply(server, error);
        if (code == ERR_FULL)
            return ERR_OK; /* kept, and tried again */
        if (code != ERR_OK)
            return code;
        carry_out_all(server);
    }
    if (server->failure.code != ERR_OK) {
        *error = server->failure;
        return error->code;
    }
    server_send_answers(server);
    return ERR_OK;
}

enum error_code server_control(struct server *server, uint64_t job, enum scheduler_control control,
                               struct error *error) {
    return scheduler_control_job(server->scheduler, job, control, server->now, &server->actions,
                                 error);
}

/* -- a job that was not accepted --------------------------------------------------------------- */

static uint64_t job_of_record(const struct ledger_record *record) {
    switch (record->kind) {
    case LEDGER_JOB:
    case LEDGER_JOB_STATE:
        return record->job.id;
    case LEDGER_VIDEO:
        return record->video.job;
    case LEDGER_ATTEMPT:
        return record->attempt.job;
    case LEDGER_PUBLICATION:
        return record->publication.job;
    case LEDGER_EVENT:
        return record->event.job;
    case LEDGER_RESULT:
    case LEDGER_RESULT_GONE:
        break;
    }
    return 0;
}

static uint64_t job_of_action(const struct scheduler_action *action) {
    switch (action->kind) {
    case ACTION_RECORD:
        return job_of_record(&action->record);
    case ACTION_VIDEO:
    case ACTION_JOB:
        return action->news.job;
    default:
        return 0;
    }
}

void server_drop_actions_of(struct server *server, uint64_t job) {
    size_t kept = 0;
    for (size_t i = 0; i < server->actions.count; i++)
        if (job_of_action(&server->actions.items[i]) != job)
            server->actions.items[kept++] = server->actions.items[i];
    server->actions.count = kept;
}
