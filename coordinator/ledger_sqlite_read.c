/* Rows to a visitor, and single rows by their key. */
#include <string.h>

#include "coordinator/ledger_sqlite_internal.h"

/* -- rows ------------------------------------------------------------------------------------- */

static enum error_code read_job(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                const struct ledger_visitor *visitor, struct error *error) {
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
        return sqlite_damaged(self, "jobs", error);
    return visitor->job(visitor->user, &row, error);
}

static enum error_code read_video(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                  const struct ledger_visitor *visitor, struct error *error) {
    int state = sqlite3_column_int(statement, 2);
    struct ledger_video row = {
        .job = (uint64_t)sqlite3_column_int64(statement, 0),
        .video = sqlite3_column_int(statement, 1),
        .state = (enum video_state)state,
        .class = column_text(statement, 3),
        .code = (enum error_code)sqlite3_column_int(statement, 4),
        .detail = column_text(statement, 5),
        .seconds = sqlite3_column_double(statement, 6),
        .drift = sqlite3_column_double(statement, 7),
        .seam = sqlite3_column_double(statement, 8),
        .redraws = sqlite3_column_int(statement, 9),
    };
    if (state < 0 || state >= VIDEO_STATE_COUNT)
        return sqlite_damaged(self, "videos", error);
    return visitor->video(visitor->user, &row, error);
}

static bool publication_of(struct ledger_publication *out, sqlite3_stmt *statement) {
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

static enum error_code read_publication(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                        const struct ledger_visitor *visitor, struct error *error) {
    struct ledger_publication row;
    if (!publication_of(&row, statement))
        return sqlite_damaged(self, "publications", error);
    return visitor->publication(visitor->user, &row, error);
}

static enum error_code read_attempt(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                    const struct ledger_visitor *visitor, struct error *error) {
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
    row.measured = column_measures(&row.measures, statement, 13);
    if (!column_hash(&row.key, statement, 3))
        return sqlite_damaged(self, "attempts", error);
    return visitor->attempt(visitor->user, &row, error);
}

static enum error_code read_event(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                  const struct ledger_visitor *visitor, struct error *error) {
    struct ledger_event row = {
        .job = (uint64_t)sqlite3_column_int64(statement, 1),
        .video = sqlite3_column_int(statement, 2),
        .text = column_text(statement, 3),
        .wall_ns = sqlite3_column_int64(statement, 4),
    };
    (void)self;
    return visitor->event(visitor->user, (uint64_t)sqlite3_column_int64(statement, 0), &row, error);
}

typedef enum error_code (*row_reader)(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                      const struct ledger_visitor *visitor, struct error *error);

static enum error_code read_rows(struct ledger_sqlite *self, sqlite3_stmt *statement,
                                 row_reader reader, const struct ledger_visitor *visitor,
                                 struct error *error) {
    int result;
    enum error_code code = ERR_OK;
    while (!code && (result = sqlite3_step(statement)) == SQLITE_ROW)
        code = reader(self, statement, visitor, error);
    if (!code && result != SQLITE_DONE)
        code = sqlite_error(self, result, "reading", error);
    sqlite3_reset(statement);
    return code;
}

/* -- the door --------------------------------------------------------------------------------- */

int sqlite_get_result(struct ledger_sqlite *self, struct task_result *out, bool *found,
                      const struct hash *key, const char *class) {
    sqlite3_stmt *statement = sqlite_use(self, GET_RESULT);
    bind_hash(statement, 1, key);
    bind_text(statement, 2, class);
    int result = sqlite3_step(statement);
    *found = false;
    if (result == SQLITE_ROW) {
        *found = outputs_unpack(out, sqlite3_column_blob(statement, 0),
                                sqlite3_column_bytes(statement, 0));
        result = *found ? SQLITE_OK : SQLITE_CORRUPT;
        out->measured = *found && column_measures(&out->measures, statement, 1);
    } else if (result == SQLITE_DONE) {
        result = SQLITE_OK;
    }
    sqlite3_reset(statement);
    return result;
}

enum error_code sqlite_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                            struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    enum error_code code = ERR_OK;
    if (visitor->job)
        code = read_rows(self, sqlite_use(self, LIST_JOBS), read_job, visitor, error);
    if (!code && visitor->video)
        code = read_rows(self, sqlite_use(self, LIST_VIDEOS), read_video, visitor, error);
    if (!code && visitor->publication)
        code =
            read_rows(self, sqlite_use(self, LIST_PUBLICATIONS), read_publication, visitor, error);
    return code;
}

enum error_code sqlite_read_attempts(struct ledger *ledger, const struct ledger_visitor *visitor,
                                     uint64_t job, int video, int limit, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = sqlite_use(self, LIST_ATTEMPTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    sqlite3_bind_int(statement, 2, video);
    sqlite3_bind_int(statement, 3, limit);
    return read_rows(self, statement, read_attempt, visitor, error);
}

enum error_code sqlite_read_events(struct ledger *ledger, const struct ledger_visitor *visitor,
                                   uint64_t job, uint64_t after, int limit, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = sqlite_use(self, LIST_EVENTS);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)job);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)after);
    sqlite3_bind_int(statement, 3, limit);
    return read_rows(self, statement, read_event, visitor, error);
}

enum error_code sqlite_find_result(struct ledger *ledger, struct task_result *out, bool *found,
                                   const struct hash *key, const char *class, struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    int result = sqlite_get_result(self, out, found, key, class);
    return result ? sqlite_error(self, result, "looking for a result", error) : ERR_OK;
}

enum error_code sqlite_find_publication(struct ledger *ledger, struct ledger_publication *out,
                                        bool *found, const char *path, struct buffer *texts,
                                        struct error *error) {
    struct ledger_sqlite *self = (struct ledger_sqlite *)ledger;
    sqlite3_stmt *statement = sqlite_use(self, GET_PUBLICATION);
    bind_text(statement, 1, path);
    int result = sqlite3_step(statement);
    enum error_code code = ERR_OK;
    if (result == SQLITE_ROW) {
        struct ledger_publication row;
        if (!publication_of(&row, statement)) {
            code = sqlite_damaged(self, "publications", error);
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
