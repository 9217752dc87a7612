/* The ledger in SQLite: the only place that calls it. See ledger.h for what is promised.
 *
 * One connection, so that nothing but this code writes or checkpoints (SQLite before 3.51.3 can
 * damage a WAL file when two connections do at once). Every write is BEGIN IMMEDIATE … COMMIT: a
 * read that turns into a write would be refused as busy whatever the timeout. Statements are
 * prepared once. Signed 64-bit columns hold unsigned numbers bit by bit. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/ledger.h"

/* "vidl": PRAGMA application_id of our files. */
#define APPLICATION_ID 0x7669646c
/* PRAGMA user_version. migrations[v] takes a file from version v to v+1. */
static const char *const migrations[] = {
    /* 0 → 1: an empty file to the first schema. A result's outputs are one blob of 56-byte records:
     * name (16 bytes, zero-filled), hash (32), size (8, little endian). A publication's done is 0:
     * intended; 1: done; 2: intended, in place of one that was done. */
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('leader', 0);"
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, name TEXT NOT NULL, yaml BLOB NOT NULL,"
    " document BLOB NOT NULL, submission TEXT UNIQUE, state INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, submitted INTEGER NOT NULL);"
    "CREATE TABLE videos(job INTEGER NOT NULL REFERENCES jobs(id), video INTEGER NOT NULL,"
    " state INTEGER NOT NULL, class TEXT NOT NULL, code INTEGER NOT NULL, detail TEXT NOT NULL,"
    " seconds REAL NOT NULL, PRIMARY KEY(job, video)) WITHOUT ROWID;"
    "CREATE TABLE results(key BLOB NOT NULL, class TEXT NOT NULL, job INTEGER NOT NULL,"
    " outputs BLOB NOT NULL, PRIMARY KEY(key, class)) WITHOUT ROWID;"
    "CREATE INDEX results_job ON results(job);"
    "CREATE TABLE objects(hash BLOB PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE attempts(id INTEGER PRIMARY KEY, job INTEGER NOT NULL, video INTEGER NOT NULL,"
    " task INTEGER NOT NULL, key BLOB NOT NULL, kind INTEGER NOT NULL, item INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, worker TEXT NOT NULL, class TEXT NOT NULL, code INTEGER NOT NULL,"
    " detail TEXT NOT NULL, seconds REAL NOT NULL, wall INTEGER NOT NULL);"
    "CREATE INDEX attempts_job ON attempts(job, video);"
    "CREATE TABLE publications(path TEXT PRIMARY KEY, staged TEXT NOT NULL, job INTEGER NOT NULL,"
    " video INTEGER NOT NULL, key BLOB NOT NULL, hash BLOB NOT NULL, bytes INTEGER NOT NULL,"
    " done INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX publications_open ON publications(done) WHERE done <> 1;"
    "CREATE TABLE events(id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL,"
    " video INTEGER NOT NULL, text TEXT NOT NULL, wall INTEGER NOT NULL);"
    "CREATE INDEX events_job ON events(job);",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof migrations[0], OUTPUT_BYTES = 16 + 32 + 8 };

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    INSERT_JOB,
    SET_JOB_STATE,
    PUT_VIDEO,
    PUT_RESULT,
    DROP_RESULT,
    GET_RESULT,
    ADD_USE,
    DROP_USE,
    DROP_OBJECT,
    INSERT_ATTEMPT,
    PUT_PUBLICATION,
    GET_PUBLICATION,
    INSERT_EVENT,
    LIST_JOBS,
    LIST_VIDEOS,
    LIST_PUBLICATIONS,
    LIST_ATTEMPTS,
    LIST_EVENTS,
    LIST_RESULTS,
    STATEMENT_COUNT
};
static const char *const statements[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [INSERT_JOB] = "INSERT INTO jobs VALUES(?,?,?,?,?,?,?,?)",
    [SET_JOB_STATE] = "UPDATE jobs SET state=?2 WHERE id=?1",
    [PUT_VIDEO] = "INSERT OR REPLACE INTO videos VALUES(?,?,?,?,?,?,?)",
    [PUT_RESULT] = "INSERT INTO results VALUES(?,?,?,?)",
    [DROP_RESULT] = "DELETE FROM results WHERE key=? AND class=?",
    [GET_RESULT] = "SELECT outputs FROM results WHERE key=? AND class=?",
    [ADD_USE] = "INSERT INTO objects VALUES(?,1) ON CONFLICT(hash) DO UPDATE SET uses=uses+1",
    [DROP_USE] = "UPDATE objects SET uses=uses-1 WHERE hash=?",
    [DROP_OBJECT] = "DELETE FROM objects WHERE hash=? AND uses<=0",
    [INSERT_ATTEMPT] = "INSERT INTO attempts VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_PUBLICATION] =
        "INSERT INTO publications VALUES(?,?,?,?,?,?,?,?) ON CONFLICT(path) DO UPDATE"
        " SET staged=excluded.staged,job=excluded.job,video=excluded.video,"
        "key=excluded.key,hash=excluded.hash,bytes=excluded.bytes,"
        "done=CASE WHEN excluded.done=1 THEN 1 WHEN done=0 THEN 0 ELSE 2 END",
    [GET_PUBLICATION] = "SELECT path,staged,job,video,key,hash,bytes,done FROM publications"
                        " WHERE path=?",
    [INSERT_EVENT] = "INSERT INTO events VALUES(NULL,?,?,?,?)",
    [LIST_JOBS] = "SELECT id,name,yaml,document,submission,state,priority,submitted FROM jobs"
                  " ORDER BY id",
    [LIST_VIDEOS] = "SELECT job,video,state,class,code,detail,seconds FROM videos"
                    " ORDER BY job,video",
    [LIST_PUBLICATIONS] = "SELECT path,staged,job,video,key,hash,bytes,done FROM publications"
                          " WHERE done<>1 ORDER BY path",
    [LIST_ATTEMPTS] = "SELECT job,video,task,key,kind,item,epoch,worker,class,code,detail,seconds,"
                      "wall FROM (SELECT * FROM attempts WHERE job=?1 AND (?2<0 OR video=?2)"
                      " ORDER BY id DESC LIMIT ?3) ORDER BY id",
    [LIST_EVENTS] = "SELECT id,job,video,text,wall FROM events WHERE id>?2 AND (?1=0 OR job=?1)"
                    " ORDER BY id LIMIT ?3",
    [LIST_RESULTS] = "SELECT key,class,outputs FROM results WHERE job=? ORDER BY key",
};

struct ledger_sqlite {
    struct ledger ledger;
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    char path[FILE_PATH_BYTES];
    int lock;
};

/* -- errors ----------------------------------------------------------------------------------- */

static enum error_code sqlite_error(const struct ledger_sqlite *self, int result, const char *doing,
                                    struct error *error) {
    const char *message = self->database ? sqlite3_errmsg(self->database) : sqlite3_errstr(result);
    switch (result & 0xff) {
    case SQLITE_FULL:
        return error_set(error, ERR_FULL, "%s: the disk is full (%s); free some space", self->path,
                         doing);
    case SQLITE_NOTADB:
        return error_set(error, ERR_FORMAT,
                         "%s: this is no ledger of vidloom; move it away, or name another state "
                         "folder",
                         self->path);
    case SQLITE_CORRUPT:
        return error_set(error, ERR_FORMAT,
                         "%s: the ledger is damaged (%s: %s); move it away and submit the jobs "
                         "again, or restore a copy: finished work in the store is not used without "
                         "it",
                         self->path, doing, message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(error, ERR_BUSY,
                         "%s: another program has the ledger open (%s); only the coordinator may",
                         self->path, doing);
    case SQLITE_NOMEM:
        return error_set(error, ERR_MEMORY, "%s: no memory (%s)", self->path, doing);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return error_set(error, ERR_DENIED, "%s: %s: %s", self->path, doing, message);
    case SQLITE_IOERR: {
        int system = self->database ? sqlite3_system_errno(self->database) : 0;
        if (system == ENOSPC || system == EDQUOT)
            return error_set(error, ERR_FULL, "%s: the disk is full (%s); free some space",
                             self->path, doing);
        return error_set(error, ERR_IO, "%s: %s: %s", self->path, doing, message);
    }
    default:
        return error_set(error, ERR_IO, "%s: %s: %s", self->path, doing, message);
    }
}

/* -- statements ------------------------------------------------------------------------------- */

static sqlite3_stmt *use(struct ledger_sqlite *self, enum statement which) {
    sqlite3_stmt *statement = self->statements[which];
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return statement;
}

/* Run a statement that gives no rows. */
static int run(struct ledger_sqlite *self, enum statement which) {
    int result = sqlite3_step(self->statements[which]);
    sqlite3_reset(self->statements[which]);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int bind_text(sqlite3_stmt *statement, int at, const char *text) {
    return sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_STATIC);
}
static int bind_hash(sqlite3_stmt *statement, int at, const struct hash *hash) {
    return sqlite3_bind_blob(statement, at, hash->bytes, HASH_BYTES, SQLITE_STATIC);
}
static const char *column_text(sqlite3_stmt *statement, int at) {
    const unsigned char *text = sqlite3_column_text(statement, at);
    return text ? (const char *)text : "";
}
static bool column_hash(struct hash *out, sqlite3_stmt *statement, int at) {
    const void *bytes = sqlite3_column_blob(statement, at);
    if (!bytes || sqlite3_column_bytes(statement, at) != HASH_BYTES)
        return false;
    memcpy(out->bytes, bytes, HASH_BYTES);
    return true;
}

static int outputs_pack(uint8_t out[LIMIT_OUTPUTS * OUTPUT_BYTES],
                        const struct task_result *result) {
    for (int i = 0; i < result->output_count; i++) {
        const struct task_output *output = &result->outputs[i];
        uint8_t *to = out + i * OUTPUT_BYTES;
        size_t length = strlen(output->name);
        memset(to, 0, 16);
        memcpy(to, output->name, length < 15 ? length : 15);
        memcpy(to + 16, output->hash.bytes, HASH_BYTES);
        for (int byte = 0; byte < 8; byte++)
            to[48 + byte] = (uint8_t)((uint64_t)output->bytes >> 8 * byte);
    }
    return result->output_count * OUTPUT_BYTES;
}

static bool outputs_unpack(struct task_result *result, const uint8_t *bytes, int length) {
    *result = (struct task_result){0};
    if (length < 0 || length % OUTPUT_BYTES || length / OUTPUT_BYTES > LIMIT_OUTPUTS)
        return false;
    result->output_count = length / OUTPUT_BYTES;
    for (int i = 0; i < result->output_count; i++) {
        struct task_output *output = &result->outputs[i];
        const uint8_t *from = bytes + i * OUTPUT_BYTES;
        uint64_t size = 0;
        memcpy(output->name, from, 16);
        output->name[15] = '\0';
        memcpy(output->hash.bytes, from + 16, HASH_BYTES);
        for (int byte = 0; byte < 8; byte++)
            size |= (uint64_t)from[48 + byte] << 8 * byte;
        output->bytes = (int64_t)size;
    }
    return true;
}

/* -- writing ---------------------------------------------------------------------------------- */

static int get_result(struct ledger_sqlite *self, struct task_result *out, bool *found,
                      const struct hash *key, const char *class) {
    sqlite3_stmt *statement = use(self, GET_RESULT);
    bind_hash(statement, 1, key);
    bind_text(statement, 2, class);
    int result = sqlite3_step(statement);
    *found = false;
    if (result == SQLITE_ROW) {
        *found = outputs_unpack(out, sqlite3_column_blob(statement, 0),
                                sqlite3_column_bytes(statement, 0));
        result = *found ? SQLITE_OK : SQLITE_CORRUPT;
    } else if (result == SQLITE_DONE) {
        result = SQLITE_OK;
    }
    sqlite3_reset(statement);
    return result;
}

/* Remove a result and count its objects down; those that nothing uses any more are named. */
static int drop_result(struct ledger_sqlite *self, const struct hash *key, const char *class,
                       void (*removed)(void *, const struct hash *), void *user) {
    struct task_result old;
    bool found;
    int result = get_result(self, &old, &found, key, class);
    if (result || !found)
        return result;
    sqlite3_stmt *statement = use(self, DROP_RESULT);
    bind_hash(statement, 1, key);
    bind_text(statement, 2, class);
    result = run(self, DROP_RESULT);
    for (int i = 0; i < old.output_count && !result; i++) {
        bind_hash(use(self, DROP_USE), 1, &old.outputs[i].hash);
        result = run(self, DROP_USE);
        if (result)
            break;
        bind_hash(use(self, DROP_OBJECT), 1, &old.outputs[i].hash);
        result = run(self, DROP_OBJECT);
        if (!result && removed && sqlite3_changes(self->database))
            removed(user, &old.outputs[i].hash);
    }
    return result;
}

static int apply_one(struct ledger_sqlite *self, const struct ledger_record *record) {
    sqlite3_stmt *statement;
    int result;
    switch (record->kind) {
    case LEDGER_JOB: {
        const struct ledger_job *job = &record->job;
        statement = use(self, INSERT_JOB);
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)job->id);
        bind_text(statement, 2, job->name);
        sqlite3_bind_blob64(statement, 3, job->yaml ? job->yaml : "", job->yaml_length,
                            SQLITE_STATIC);
        sqlite3_bind_blob64(statement, 4, job->document ? job->document : "", job->document_length,
                            SQLITE_STATIC);
        if (job->submission && *job->submission)
            bind_text(statement, 5, job->submission);
        sqlite3_bind_int(statement, 6, (int)job->state);
        sqlite3_bind_int(statement, 7, job->priority);
        sqlite3_bind_int64(statement, 8, job->submitted_ns);
        return run(self, INSERT_JOB);
    }
    case LEDGER_JOB_STATE:
        statement = use(self, SET_JOB_STATE);
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)record->job.id);
        sqlite3_bind_int(statement, 2, (int)record->job.state);
        return run(self, SET_JOB_STATE);
    case LEDGER_VIDEO: {
        const struct ledger_video *video = &record->video;
        statement = use(self, PUT_VIDEO);
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)video->job);
        sqlite3_bind_int(statement, 2, video->video);
        sqlite3_bind_int(statement, 3, (int)video->state);
        bind_text(statement, 4, video->class);
        sqlite3_bind_int(statement, 5, (int)video->code);
        bind_text(statement, 6, video->detail);
        sqlite3_bind_double(statement, 7, video->seconds);
        return run(self, PUT_VIDEO);
    }
    case LEDGER_RESULT: {
        const struct ledger_result *row = &record->result;
        uint8_t outputs[LIMIT_OUTPUTS * OUTPUT_BYTES];
        /* The old one's objects are counted down after the new one's are counted up, so that an
         * object that both have is never without a use. */
        for (int i = 0; i < row->result.output_count; i++) {
            bind_hash(use(self, ADD_USE), 1, &row->result.outputs[i].hash);
            result = run(self, ADD_USE);
            if (result)
                return result;
        }
        result = drop_result(self, &row->key, row->class, NULL, NULL);
        if (result)
            return result;
        int bytes = outputs_pack(outputs, &row->result);
        statement = use(self, PUT_RESULT);
        bind_hash(statement, 1, &row->key);
        bind_text(statement, 2, row->class);
        sqlite3_bind_int64(statement, 3, (sqlite3_int64)row->job);
        sqlite3_bind_blob(statement, 4, outputs, bytes, SQLITE_STATIC);
        return run(self, PUT_RESULT);
    }
    case LEDGER_RESULT_GONE:
        return drop_result(self, &record->result.key, record->result.class, NULL, NULL);
    case LEDGER_ATTEMPT: {
        const struct ledger_attempt *attempt = &record->attempt;
        statement = use(self, INSERT_ATTEMPT);
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
        return run(self, INSERT_ATTEMPT);
    }
    case LEDGER_PUBLICATION: {
        const struct ledger_publication *row = &record->publication;
        statement = use(self, PUT_PUBLICATION);
        bind_text(statement, 1, row->path);
        bind_text(statement, 2, row->staged);
        sqlite3_bind_int64(statement, 3, (sqlite3_int64)row->job);
        sqlite3_bind_int(statement, 4, row->video);
        bind_hash(statement, 5, &row->key);
        bind_hash(statement, 6, &row->hash);
        sqlite3_bind_int64(statement, 7, row->bytes);
        sqlite3_bind_int(statement, 8, row->done);
        return run(self, PUT_PUBLICATION);
    }
    case LEDGER_EVENT:
        statement = use(self, INSERT_EVENT);
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)record->event.job);
        sqlite3_bind_int(statement, 2, record->event.video);
        bind_text(statement, 3, record->event.text);
        sqlite3_bind_int64(statement, 4, record->event.wall_ns);
        return run(self, INSERT_EVENT);
    }
    return SQLITE_MISUSE;
}

static void roll_back(struct ledger_sqlite *self) {
    if (!sqlite3_get_autocommit(self->database)) {
        use(self, ROLLBACK);
        (void)run(self, ROLLBACK);
    }
}

static enum error_code sqlite_apply(struct ledger *ledger, const struct ledger_record *records,
                                    size_t count, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    use(self, BEGIN);
    int result = run(self, BEGIN);
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
    use(self, COMMIT);
    result = run(self, COMMIT);
    if (!result)
        return ERR_OK;
    enum error_code code = sqlite_error(self, result, "committing", error);
    roll_back(self);
    return code;
}

/* -- reading ---------------------------------------------------------------------------------- */

static enum error_code damaged(const struct ledger_sqlite *self, const char *what,
                               struct error *error) {
    return error_set(error, ERR_FORMAT, "%s: the ledger is damaged: a row of %s makes no sense",
                     self->path, what);
}

static bool read_publication(struct ledger_publication *out, sqlite3_stmt *statement) {
    *out = (struct ledger_publication){
        .path = column_text(statement, 0),
        .staged = column_text(statement, 1),
        .job = (uint64_t)sqlite3_column_int64(statement, 2),
        .video = sqlite3_column_int(statement, 3),
        .bytes = sqlite3_column_int64(statement, 6),
        .done = sqlite3_column_int(statement, 7) == 1,
        .replaces = sqlite3_column_int(statement, 7) != 0,
    };
    return column_hash(&out->key, statement, 4) && column_hash(&out->hash, statement, 5);
}

static enum error_code read_rows(struct ledger_sqlite *self, enum statement which,
                                 sqlite3_stmt *statement, const struct ledger_visitor *visitor,
                                 struct error *error) {
    int result;
    enum error_code code = ERR_OK;
    while (!code && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        if (which == LIST_JOBS) {
            int state = sqlite3_column_int(statement, 5);
            const char *yaml = sqlite3_column_blob(statement, 2);
            const char *document = sqlite3_column_blob(statement, 3);
            struct ledger_job row = {
                .id = (uint64_t)sqlite3_column_int64(statement, 0),
                .name = column_text(statement, 1),
                .yaml = yaml ? yaml : "",
                .yaml_length = (size_t)sqlite3_column_bytes(statement, 2),
                .document = document ? document : "",
                .document_length = (size_t)sqlite3_column_bytes(statement, 3),
                .submission = column_text(statement, 4),
                .state = (enum job_state)state,
                .priority = sqlite3_column_int(statement, 6),
                .submitted_ns = sqlite3_column_int64(statement, 7),
            };
            if (state < 0 || state >= JOB_STATE_COUNT)
                code = damaged(self, "jobs", error);
            else
                code = visitor->job(visitor->user, &row, error);
        } else if (which == LIST_VIDEOS) {
            int state = sqlite3_column_int(statement, 2);
            struct ledger_video row = {
                .job = (uint64_t)sqlite3_column_int64(statement, 0),
                .video = sqlite3_column_int(statement, 1),
                .state = (enum video_state)state,
                .class = column_text(statement, 3),
                .code = (enum error_code)sqlite3_column_int(statement, 4),
                .detail = column_text(statement, 5),
                .seconds = sqlite3_column_double(statement, 6),
            };
            if (state < 0 || state >= VIDEO_STATE_COUNT)
                code = damaged(self, "videos", error);
            else
                code = visitor->video(visitor->user, &row, error);
        } else if (which == LIST_PUBLICATIONS) {
            struct ledger_publication row;
            if (!read_publication(&row, statement))
                code = damaged(self, "publications", error);
            else
                code = visitor->publication(visitor->user, &row, error);
        } else if (which == LIST_ATTEMPTS) {
            struct ledger_attempt row = {
                .job = (uint64_t)sqlite3_column_int64(statement, 0),
                .video = sqlite3_column_int(statement, 1),
                .task = sqlite3_column_int(statement, 2),
                .kind = (enum plan_kind)sqlite3_column_int(statement, 4),
                .index = sqlite3_column_int(statement, 5),
                .epoch = (uint64_t)sqlite3_column_int64(statement, 6),
                .worker = column_text(statement, 7),
                .class = column_text(statement, 8),
                .code = (enum error_code)sqlite3_column_int(statement, 9),
                .detail = column_text(statement, 10),
                .seconds = sqlite3_column_double(statement, 11),
                .wall_ns = sqlite3_column_int64(statement, 12),
            };
            if (!column_hash(&row.key, statement, 3))
                code = damaged(self, "attempts", error);
            else
                code = visitor->attempt(visitor->user, &row, error);
        } else {
            struct ledger_event row = {
                .job = (uint64_t)sqlite3_column_int64(statement, 1),
                .video = sqlite3_column_int(statement, 2),
                .text = column_text(statement, 3),
                .wall_ns = sqlite3_column_int64(statement, 4),
            };
            code = visitor->event(visitor->user, (uint64_t)sqlite3_column_int64(statement, 0), &row,
                                  error);
        }
    }
    if (!code && result != SQLITE_DONE)
        code = sqlite_error(self, result, "reading", error);
    sqlite3_reset(statement);
    return code;
}

static enum error_code sqlite_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                                   struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    enum error_code code = ERR_OK;
    if (visitor->job)
        code = read_rows(self, LIST_JOBS, use(self, LIST_JOBS), visitor, error);
    if (!code && visitor->video)
        code = read_rows(self, LIST_VIDEOS, use(self, LIST_VIDEOS), visitor, error);
    if (!code && visitor->publication)
        code = read_rows(self, LIST_PUBLICATIONS, use(self, LIST_PUBLICATIONS), visitor, error);
    return code;
}

static enum error_code sqlite_read_attempts(struct ledger *ledger,
                                            const struct ledger_visitor *visitor, uint64_t job,
                                            int video, int limit, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = use(self, LIST_ATTEMPTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    sqlite3_bind_int(statement, 2, video);
    sqlite3_bind_int(statement, 3, limit);
    return read_rows(self, LIST_ATTEMPTS, statement, visitor, error);
}

static enum error_code sqlite_read_events(struct ledger *ledger,
                                          const struct ledger_visitor *visitor, uint64_t job,
                                          uint64_t after, int limit, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = use(self, LIST_EVENTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)after);
    sqlite3_bind_int(statement, 3, limit);
    return read_rows(self, LIST_EVENTS, statement, visitor, error);
}

static enum error_code sqlite_find_result(struct ledger *ledger, struct task_result *out,
                                          bool *found, const struct hash *key, const char *class,
                                          struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    int result = get_result(self, out, found, key, class);
    return result ? sqlite_error(self, result, "looking for a result", error) : ERR_OK;
}

static enum error_code sqlite_find_publication(struct ledger *ledger,
                                               struct ledger_publication *out, bool *found,
                                               const char *path, struct buffer *texts,
                                               struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = use(self, GET_PUBLICATION);
    bind_text(statement, 1, path);
    int result = sqlite3_step(statement);
    enum error_code code = ERR_OK;
    if (result == SQLITE_ROW) {
        struct ledger_publication row;
        if (!read_publication(&row, statement)) {
            code = damaged(self, "publications", error);
        } else {
            size_t length = strlen(row.path) + 1;
            texts->length = 0;
            buffer_add(texts, row.path, length);
            buffer_add(texts, row.staged, strlen(row.staged) + 1);
            if (texts->failed) {
                code = error_set(error, ERR_MEMORY, "%s: no memory", self->path);
            } else {
                *out = row;
                out->path = texts->data;
                out->staged = texts->data + length;
                *found = true;
            }
        }
    } else if (result != SQLITE_DONE) {
        code = sqlite_error(self, result, "looking for a publication", error);
    }
    sqlite3_reset(statement);
    return code;
}

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
    if (removals->count == removals->capacity) {
        size_t capacity = removals->capacity ? 2 * removals->capacity : 64;
        struct hash *objects = realloc(removals->objects, capacity * sizeof *objects);
        if (!objects) {
            removals->failed = true;
            return;
        }
        removals->objects = objects;
        removals->capacity = capacity;
    }
    removals->objects[removals->count++] = *object;
}

static enum error_code sqlite_collect(struct ledger *ledger, uint64_t job,
                                      bool (*keep)(void *, const struct hash *, const char *),
                                      void (*removed)(void *, const struct hash *), void *user,
                                      struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    struct result_name *names = NULL;
    struct removals removals = {0};
    size_t count = 0, capacity = 0;
    /* First the names, so that nothing is written while rows are read. */
    sqlite3_stmt *statement = use(self, LIST_RESULTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    int result;
    enum error_code code = ERR_OK;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct result_name name;
        if (!column_hash(&name.key, statement, 0)) {
            result = SQLITE_CORRUPT;
            break;
        }
        (void)snprintf(name.class, sizeof name.class, "%s", column_text(statement, 1));
        if (keep && keep(user, &name.key, name.class))
            continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            struct result_name *grown = realloc(names, capacity * sizeof *names);
            if (!grown) {
                result = SQLITE_NOMEM;
                break;
            }
            names = grown;
        }
        names[count++] = name;
    }
    sqlite3_reset(statement);
    if (result == SQLITE_DONE) {
        use(self, BEGIN);
        result = run(self, BEGIN);
        for (size_t i = 0; i < count && !result; i++)
            result = drop_result(self, &names[i].key, names[i].class, note_removal, &removals);
        if (!result) {
            use(self, COMMIT);
            result = run(self, COMMIT);
        }
    }
    if (result) {
        code = sqlite_error(self, result, "forgetting results", error);
        roll_back(self);
    }
    for (size_t i = 0; i < removals.count && !code; i++)
        removed(user, &removals.objects[i]);
    free(removals.objects);
    free(names);
    return code;
}

/* -- opening ---------------------------------------------------------------------------------- */

static void sqlite_close_ledger(struct ledger *ledger) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(self->statements[i]);
    sqlite3_close(self->database);
    if (self->lock >= 0)
        file_unlock(&self->lock);
    free(self);
}

static const struct ledger_table sqlite_table = {
    .close = sqlite_close_ledger,
    .apply = sqlite_apply,
    .load = sqlite_load,
    .find_result = sqlite_find_result,
    .find_publication = sqlite_find_publication,
    .read_attempts = sqlite_read_attempts,
    .read_events = sqlite_read_events,
    .collect = sqlite_collect,
};

static int pragma_number(sqlite3 *database, const char *text, int64_t *out) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(database, text, -1, &statement, NULL);
    if (!result) {
        result = sqlite3_step(statement);
        if (result == SQLITE_ROW) {
            *out = sqlite3_column_int64(statement, 0);
            result = SQLITE_OK;
        } else if (result == SQLITE_DONE) {
            result = SQLITE_CORRUPT;
        }
    }
    int closed = sqlite3_finalize(statement);
    return result ? result : closed;
}

/* From whatever version the file has to ours, each step in a transaction of its own. */
static enum error_code migrate(struct ledger_sqlite *self, struct error *error) {
    int64_t application = 0, version = 0, tables = 0;
    int result = pragma_number(self->database, "PRAGMA application_id", &application);
    if (!result)
        result = pragma_number(self->database, "PRAGMA user_version", &version);
    if (!result)
        result = pragma_number(self->database, "SELECT count(*) FROM sqlite_master", &tables);
    if (result)
        return sqlite_error(self, result, "reading its version", error);
    if (application != APPLICATION_ID && (tables || version || application))
        return error_set(error, ERR_FORMAT,
                         "%s: this is a database of another program; move it away, or name another "
                         "state folder",
                         self->path);
    if (version > SCHEMA_VERSION)
        return error_set(
            error, ERR_UNSUPPORTED,
            "%s: the ledger has version %lld, this vidloom knows up to %d; use the newer "
            "vidloom that wrote it",
            self->path, (long long)version, SCHEMA_VERSION);
    for (; version < SCHEMA_VERSION; version++) {
        char stamp[96];
        (void)snprintf(stamp, sizeof stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d;",
                       APPLICATION_ID, (int)version + 1);
        result = sqlite3_exec(self->database, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        if (!result)
            result = sqlite3_exec(self->database, migrations[version], NULL, NULL, NULL);
        if (!result)
            result = sqlite3_exec(self->database, stamp, NULL, NULL, NULL);
        if (!result)
            result = sqlite3_exec(self->database, "COMMIT", NULL, NULL, NULL);
        if (result) {
            enum error_code code = sqlite_error(self, result, "setting it up", error);
            (void)sqlite3_exec(self->database, "ROLLBACK", NULL, NULL, NULL);
            return code;
        }
    }
    return ERR_OK;
}

static enum error_code open_database(struct ledger_sqlite *self, struct error *error) {
    int result =
        sqlite3_open_v2(self->path, &self->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result)
        return sqlite_error(self, result, "opening it", error);
    sqlite3_extended_result_codes(self->database, 1);
    sqlite3_busy_timeout(self->database, 0);
    /* A file that is not ours must be refused before anything of it is changed. */
    enum error_code code = ERR_OK;
    struct stat info;
    if (!stat(self->path, &info) && info.st_size > 0) {
        int64_t pages;
        result = pragma_number(self->database, "PRAGMA schema_version", &pages);
        if (result)
            return sqlite_error(self, result, "opening it", error);
    }
    code = migrate(self, error);
    if (code)
        return code;
    /* EXCLUSIVE: no other process can even read, and no shared memory is needed. */
    static const char settings[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
                                   "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF;"
                                   "PRAGMA wal_autocheckpoint=1000; PRAGMA trusted_schema=OFF;"
                                   "PRAGMA cell_size_check=ON;";
    result = sqlite3_exec(self->database, settings, NULL, NULL, NULL);
    int64_t synchronous = 0;
    if (!result)
        result = pragma_number(self->database, "PRAGMA synchronous", &synchronous);
    if (!result && synchronous != 2)
        return error_set(error, ERR_IO, "%s: the ledger cannot be made durable", self->path);
    if (!result) {
        /* quick_check reads every page: a minute a hundred gigabytes; ledgers have megabytes. */
        sqlite3_stmt *statement = NULL;
        result = sqlite3_prepare_v2(self->database, "PRAGMA quick_check(1)", -1, &statement, NULL);
        if (!result && (result = sqlite3_step(statement)) == SQLITE_ROW) {
            if (strcmp(column_text(statement, 0), "ok") != 0) {
                code = error_set(error, ERR_FORMAT,
                                 "%s: the ledger is damaged (%.200s); move it away and submit the "
                                 "jobs again, or restore a copy",
                                 self->path, column_text(statement, 0));
                for (char *c = error ? error->detail : (char[]){""}; *c; c++)
                    if (*c == '\n')
                        *c = ' ';
            }
            result = SQLITE_OK;
        }
        sqlite3_finalize(statement);
    }
    if (code)
        return code;
    for (int i = 0; i < STATEMENT_COUNT && !result; i++)
        result = sqlite3_prepare_v3(self->database, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &self->statements[i], NULL);
    if (!result)
        result = sqlite3_exec(self->database,
                              "BEGIN IMMEDIATE; UPDATE meta SET value=value+1 WHERE key='leader';"
                              "COMMIT",
                              NULL, NULL, NULL);
    int64_t leader = 0;
    if (!result)
        result =
            pragma_number(self->database, "SELECT value FROM meta WHERE key='leader'", &leader);
    if (result)
        return sqlite_error(self, result, "opening it", error);
    self->ledger.leader = (uint64_t)leader;
    return ERR_OK;
}

enum error_code ledger_sqlite_open(struct ledger **out, const char *folder, struct error *error) {
    char lock[FILE_PATH_BYTES];
    *out = NULL;
    struct ledger_sqlite *self = calloc(1, sizeof *self);
    if (!self)
        return error_set(error, ERR_MEMORY, "%s: no memory for the ledger", folder);
    self->ledger.table = &sqlite_table;
    self->lock = -1;
    enum error_code code = file_join(self->path, folder, "ledger.db", error);
    if (!code)
        code = file_join(lock, folder, "lock", error);
    if (!code)
        code = file_lock(&self->lock, lock, error);
    if (code == ERR_BUSY)
        code = error_prefix(error, "another coordinator uses this ledger: ");
    if (!code)
        code = open_database(self, error);
    if (!code)
        code = file_sync_parent(self->path, error);
    if (code) {
        sqlite_close_ledger(&self->ledger);
        return code;
    }
    *out = &self->ledger;
    return ERR_OK;
}
