/* Every statement, and what goes in and out of one. */
#include <errno.h>
#include <string.h>

#include "coordinator/ledger_sqlite_internal.h"

const char *const sqlite_statements[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [INSERT_JOB] = "INSERT INTO jobs VALUES(?,?,?,?,?,?,?,?)",
    [SET_JOB_STATE] = "UPDATE jobs SET state=?2 WHERE id=?1",
    [PUT_VIDEO] = "INSERT OR REPLACE INTO videos VALUES(?,?,?,?,?,?,?,?,?,?)",
    [PUT_RESULT] = "INSERT INTO results VALUES(?,?,?,?,?)",
    [DROP_RESULT] = "DELETE FROM results WHERE key=? AND class=?",
    [GET_RESULT] = "SELECT outputs,measures FROM results WHERE key=? AND class=?",
    [ADD_USE] = "INSERT INTO objects VALUES(?,1) ON CONFLICT(hash) DO UPDATE SET uses=uses+1",
    [DROP_USE] = "UPDATE objects SET uses=uses-1 WHERE hash=?",
    [DROP_OBJECT] = "DELETE FROM objects WHERE hash=? AND uses<=0",
    [INSERT_ATTEMPT] = "INSERT INTO attempts VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
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
    [LIST_VIDEOS] =
        "SELECT job,video,state,class,code,detail,seconds,drift,seam,redraws FROM videos"
        " ORDER BY job,video",
    [LIST_PUBLICATIONS] = "SELECT path,staged,job,video,key,hash,bytes,done FROM publications"
                          " WHERE done<>1 ORDER BY path",
    [LIST_ATTEMPTS] =
        "SELECT job,video,task,key,kind,item,epoch,worker,class,code,detail,seconds,"
        "wall,measures FROM (SELECT * FROM attempts WHERE job=?1 AND (?2<0 OR video=?2)"
        " ORDER BY id DESC LIMIT ?3) ORDER BY id",
    [LIST_EVENTS] = "SELECT id,job,video,text,wall FROM events WHERE id>?2 AND (?1=0 OR job=?1)"
                    " ORDER BY id LIMIT ?3",
    [LIST_RESULTS] = "SELECT key,class,outputs FROM results WHERE job=? ORDER BY key",
};

/* -- errors ----------------------------------------------------------------------------------- */

enum error_code sqlite_error(const struct ledger_sqlite *self, int result, const char *doing,
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

enum error_code sqlite_damaged(const struct ledger_sqlite *self, const char *table,
                               struct error *error) {
    return error_set(error, ERR_FORMAT, "%s: the ledger is damaged: a row of %s makes no sense",
                     self->path, table);
}

/* -- in and out ------------------------------------------------------------------------------- */

sqlite3_stmt *sqlite_use(struct ledger_sqlite *self, enum statement which) {
    sqlite3_stmt *statement = self->statements[which];
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return statement;
}

/* Run a statement that gives no rows. */
int sqlite_run(struct ledger_sqlite *self, enum statement which) {
    int result = sqlite3_step(self->statements[which]);
    sqlite3_reset(self->statements[which]);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

int bind_text(sqlite3_stmt *statement, int at, const char *text) {
    return sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_STATIC);
}
int bind_hash(sqlite3_stmt *statement, int at, const struct hash *hash) {
    return sqlite3_bind_blob(statement, at, hash->bytes, HASH_BYTES, SQLITE_STATIC);
}
const char *column_text(sqlite3_stmt *statement, int at) {
    const unsigned char *text = sqlite3_column_text(statement, at);
    return text ? (const char *)text : "";
}
bool column_hash(struct hash *out, sqlite3_stmt *statement, int at) {
    const void *bytes = sqlite3_column_blob(statement, at);
    if (!bytes || sqlite3_column_bytes(statement, at) != HASH_BYTES)
        return false;
    memcpy(out->bytes, bytes, HASH_BYTES);
    return true;
}

int outputs_pack(uint8_t out[LIMIT_OUTPUTS * OUTPUT_BYTES], const struct task_result *result) {
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

bool outputs_unpack(struct task_result *result, const uint8_t *bytes, int length) {
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

void bind_measures(sqlite3_stmt *statement, int at, const struct measures *measures) {
    const double values[] = {measures->colour, measures->luminance, measures->sharpness,
                             measures->seam};
    uint8_t bytes[MEASURES_BYTES];
    for (int i = 0; i < MEASURES_BYTES; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i / 8], sizeof bits);
        bytes[i] = (uint8_t)(bits >> 8 * (i % 8));
    }
    sqlite3_bind_blob(statement, at, bytes, MEASURES_BYTES, SQLITE_TRANSIENT);
}

bool column_measures(struct measures *out, sqlite3_stmt *statement, int at) {
    const uint8_t *bytes = sqlite3_column_blob(statement, at);
    double values[4];
    if (!bytes || sqlite3_column_bytes(statement, at) != MEASURES_BYTES)
        return false;
    for (int i = 0; i < 4; i++) {
        uint64_t bits = 0;
        for (int byte = 0; byte < 8; byte++)
            bits |= (uint64_t)bytes[8 * i + byte] << 8 * byte;
        memcpy(&values[i], &bits, sizeof bits);
    }
    *out = (struct measures){values[0], values[1], values[2], values[3]};
    return true;
}
