/* Records to rows, and the forgetting of results. */
#include <stdio.h>
#include <stdlib.h>

#include "base/grow.h"
#include "coordinator/ledger_sqlite_internal.h"

/* Remove a result and count its objects down; those that nothing uses any more are named. */
static int drop_result(struct ledger_sqlite *self, const struct hash *key, const char *class,
                       void (*removed)(void *, const struct hash *), void *user) {
    struct task_result old;
    bool found;
    int result = sqlite_get_result(self, &old, &found, key, class);
    if (result || !found)
        return result;
    sqlite3_stmt *statement = sqlite_use(self, DROP_RESULT);
    bind_hash(statement, 1, key);
    bind_text(statement, 2, class);
    result = sqlite_run(self, DROP_RESULT);
    for (int i = 0; i < old.output_count && !result; i++) {
        bind_hash(sqlite_use(self, DROP_USE), 1, &old.outputs[i].hash);
        result = sqlite_run(self, DROP_USE);
        if (result)
            break;
        bind_hash(sqlite_use(self, DROP_OBJECT), 1, &old.outputs[i].hash);
        result = sqlite_run(self, DROP_OBJECT);
        if (!result && removed && sqlite3_changes(self->database))
            removed(user, &old.outputs[i].hash);
    }
    return result;
}

static int put_job(struct ledger_sqlite *self, const struct ledger_job *job) {
    sqlite3_stmt *statement = sqlite_use(self, INSERT_JOB);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job->id);
    bind_text(statement, 2, job->name);
    sqlite3_bind_blob64(statement, 3, job->yaml ? job->yaml : "", job->yaml_length, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 4, job->document ? job->document : "", job->document_length,
                        SQLITE_STATIC);
    if (job->submission && *job->submission)
        bind_text(statement, 5, job->submission);
    sqlite3_bind_int(statement, 6, (int)job->state);
    sqlite3_bind_int(statement, 7, job->priority);
    sqlite3_bind_int64(statement, 8, job->submitted_ns);
    return sqlite_run(self, INSERT_JOB);
}

static int put_job_state(struct ledger_sqlite *self, const struct ledger_job *job) {
    sqlite3_stmt *statement = sqlite_use(self, SET_JOB_STATE);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job->id);
    sqlite3_bind_int(statement, 2, (int)job->state);
    return sqlite_run(self, SET_JOB_STATE);
}

static int put_video(struct ledger_sqlite *self, const struct ledger_video *video) {
    sqlite3_stmt *statement = sqlite_use(self, PUT_VIDEO);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)video->job);
    sqlite3_bind_int(statement, 2, video->video);
    sqlite3_bind_int(statement, 3, (int)video->state);
    bind_text(statement, 4, video->class);
    sqlite3_bind_int(statement, 5, (int)video->code);
    bind_text(statement, 6, video->detail);
    sqlite3_bind_double(statement, 7, video->seconds);
    sqlite3_bind_double(statement, 8, video->drift);
    sqlite3_bind_double(statement, 9, video->seam);
    sqlite3_bind_int(statement, 10, video->redraws);
    return sqlite_run(self, PUT_VIDEO);
}

static int put_result(struct ledger_sqlite *self, const struct ledger_result *row) {
    uint8_t outputs[LIMIT_OUTPUTS * OUTPUT_BYTES];
    int result;
    /* The old one's objects are counted down after the new one's are counted up, so that an
     * object that both have is never without a use. */
    for (int i = 0; i < row->result.output_count; i++) {
        bind_hash(sqlite_use(self, ADD_USE), 1, &row->result.outputs[i].hash);
        result = sqlite_run(self, ADD_USE);
        if (result)
            return result;
    }
    result = drop_result(self, &row->key, row->class, NULL, NULL);
    if (result)
        return result;
    int bytes = outputs_pack(outputs, &row->result);
    sqlite3_stmt *statement = sqlite_use(self, PUT_RESULT);
    bind_hash(statement, 1, &row->key);
    bind_text(statement, 2, row->class);
    sqlite3_bind_int64(statement, 3, (sqlite3_int64)row->job);
    sqlite3_bind_blob(statement, 4, outputs, bytes, SQLITE_STATIC);
    if (row->result.measured)
        bind_measures(statement, 5, &row->result.measures);
    return sqlite_run(self, PUT_RESULT);
}

static int put_attempt(struct ledger_sqlite *self, const struct ledger_attempt *attempt) {
    sqlite3_stmt *statement = sqlite_use(self, INSERT_ATTEMPT);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)attempt->job);
    sqlite3_bind_int(statement, 2, attempt->video);
    sqlite3_bind_int(statement, 3, attempt->task);
    bind_hash(statement, 4, &attempt->key);
    sqlite3_bind_int(statement, 5, (int)attempt->kind);
    sqlite3_bind_int(statement, 6, attempt->index);
    sqlite3_bind_int64(statement, 7, (sqlite3_int64)attempt->epoch);
    bind_text(statement, 8, attempt->worker);
    bind_text(statement, 9, attempt->class);
    sqlite3_bind_int(statement, 10, (int)attempt->code);
    bind_text(statement, 11, attempt->detail);
    sqlite3_bind_double(statement, 12, attempt->seconds);
    sqlite3_bind_int64(statement, 13, attempt->wall_ns);
    if (attempt->measured)
        bind_measures(statement, 14, &attempt->measures);
    return sqlite_run(self, INSERT_ATTEMPT);
}

static int put_publication(struct ledger_sqlite *self, const struct ledger_publication *row) {
    sqlite3_stmt *statement = sqlite_use(self, PUT_PUBLICATION);
    bind_text(statement, 1, row->path);
    bind_text(statement, 2, row->staged);
    sqlite3_bind_int64(statement, 3, (sqlite3_int64)row->job);
    sqlite3_bind_int(statement, 4, row->video);
    bind_hash(statement, 5, &row->key);
    bind_hash(statement, 6, &row->hash);
    sqlite3_bind_int64(statement, 7, row->bytes);
    sqlite3_bind_int(statement, 8, row->done);
    return sqlite_run(self, PUT_PUBLICATION);
}

static int put_event(struct ledger_sqlite *self, const struct ledger_event *event) {
    sqlite3_stmt *statement = sqlite_use(self, INSERT_EVENT);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)event->job);
    sqlite3_bind_int(statement, 2, event->video);
    bind_text(statement, 3, event->text);
    sqlite3_bind_int64(statement, 4, event->wall_ns);
    return sqlite_run(self, INSERT_EVENT);
}

static int apply_one(struct ledger_sqlite *self, const struct ledger_record *record) {
    switch (record->kind) {
    case LEDGER_JOB:
        return put_job(self, &record->job);
    case LEDGER_JOB_STATE:
        return put_job_state(self, &record->job);
    case LEDGER_VIDEO:
        return put_video(self, &record->video);
    case LEDGER_RESULT:
        return put_result(self, &record->result);
    case LEDGER_RESULT_GONE:
        return drop_result(self, &record->result.key, record->result.class, NULL, NULL);
    case LEDGER_ATTEMPT:
        return put_attempt(self, &record->attempt);
    case LEDGER_PUBLICATION:
        return put_publication(self, &record->publication);
    case LEDGER_EVENT:
        return put_event(self, &record->event);
    }
    return SQLITE_MISUSE;
}

static void roll_back(struct ledger_sqlite *self) {
    if (!sqlite3_get_autocommit(self->database)) {
        sqlite_use(self, ROLLBACK);
        (void)sqlite_run(self, ROLLBACK);
    }
}

enum error_code sqlite_apply(struct ledger *ledger, const struct ledger_record *records,
                             size_t count, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite_use(self, BEGIN);
    int result = sqlite_run(self, BEGIN);
    if (result)
        return sqlite_error(self, result, "beginning to write", error);
    for (size_t i = 0; i < count; i++) {
        result = apply_one(self, &records[i]);
        if (!result)
            continue;
        enum error_code code;
        if ((result & 0xff) == SQLITE_CONSTRAINT && records[i].kind == LEDGER_JOB)
            code = error_set(error, ERR_BUSY,
                             "%s: a job with number %llu or submission key \"%s\" is "
                             "there already",
                             self->path, (unsigned long long)records[i].job.id,
                             records[i].job.submission ? records[i].job.submission : "");
        else
            code = sqlite_error(self, result, "writing", error);
        roll_back(self);
        return code;
    }
    sqlite_use(self, COMMIT);
    result = sqlite_run(self, COMMIT);
    if (!result)
        return ERR_OK;
    enum error_code code = sqlite_error(self, result, "committing", error);
    roll_back(self);
    return code;
}

/* -- forgetting ------------------------------------------------------------------------------- */

struct result_name {
    struct hash key;
    char class[LIMIT_CLASS_BYTES];
};
struct removals {
    struct hash *objects;
    size_t count, capacity;
    bool failed;
};

static void note_removal(void *user, const struct hash *object) {
    struct removals *removals = user;
    struct hash *objects =
        grow(removals->objects, &removals->capacity, removals->count, sizeof *objects);
    if (!objects) {
        removals->failed = true;
        return;
    }
    removals->objects = objects;
    removals->objects[removals->count++] = *object;
}

struct result_names {
    struct result_name *items;
    size_t count, capacity;
};

/* The results of the job that nobody keeps. First the names, so that nothing is written while rows
 * are read. */
static int list_results(struct ledger_sqlite *self, struct result_names *names, uint64_t job,
                        bool (*keep)(void *, const struct hash *, const char *), void *user) {
    sqlite3_stmt *statement = sqlite_use(self, LIST_RESULTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct result_name name;
        if (!column_hash(&name.key, statement, 0)) {
            result = SQLITE_CORRUPT;
            break;
        }
        (void)snprintf(name.class, sizeof name.class, "%s", column_text(statement, 1));
        if (keep && keep(user, &name.key, name.class))
            continue;
        struct result_name *grown =
            grow(names->items, &names->capacity, names->count, sizeof *grown);
        if (!grown) {
            result = SQLITE_NOMEM;
            break;
        }
        names->items = grown;
        names->items[names->count++] = name;
    }
    sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

enum error_code sqlite_collect(struct ledger *ledger, uint64_t job,
                               bool (*keep)(void *, const struct hash *, const char *),
                               void (*removed)(void *, const struct hash *), void *user,
                               struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    struct result_names names = {0};
    struct removals removals = {0};
    enum error_code code = ERR_OK;
    int result = list_results(self, &names, job, keep, user);
    if (!result) {
        sqlite_use(self, BEGIN);
        result = sqlite_run(self, BEGIN);
    }
    for (size_t i = 0; i < names.count && !result; i++)
        result =
            drop_result(self, &names.items[i].key, names.items[i].class, note_removal, &removals);
    if (!result) {
        sqlite_use(self, COMMIT);
        result = sqlite_run(self, COMMIT);
    }
    if (result) {
        code = sqlite_error(self, result, "forgetting results", error);
        roll_back(self);
    }
    for (size_t i = 0; i < removals.count && !code; i++)
        removed(user, &removals.objects[i]);
    free(removals.objects);
    free(names.items);
    return code;
}
