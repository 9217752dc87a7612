/* The SQLite ledger's insides, shared by ledger_sqlite*.c only, the only callers of SQLite. See
 * ledger.h for what is promised.
 *
 *   ledger_sqlite.c             opening: lock, schema, settings
 *   ledger_sqlite_statements.c  every statement; binding, columns, errors
 *   ledger_sqlite_write.c       records to rows; forgetting results
 *   ledger_sqlite_read.c        rows to a visitor
 *
 * One connection, so that nothing but this code writes or checkpoints (SQLite before 3.51.3 can
 * damage a WAL file when two connections do at once). Every write is BEGIN IMMEDIATE … COMMIT: a
 * read that turns into a write would be refused as busy whatever the timeout. Statements are
 * prepared once. Signed 64-bit columns hold unsigned numbers bit by bit. */
#ifndef VIDLOOM_COORDINATOR_LEDGER_SQLITE_INTERNAL_H
#define VIDLOOM_COORDINATOR_LEDGER_SQLITE_INTERNAL_H

#include <sqlite3.h>

#include "base/file.h"
#include "coordinator/ledger.h"

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

struct ledger_sqlite {
    struct ledger ledger;
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    char path[FILE_PATH_BYTES];
    int lock;
};

/* -- ledger_sqlite_statements.c --------------------------------------------------------------- */

extern const char *const sqlite_statements[STATEMENT_COUNT];

/* An SQLite result as an error of ours; `doing` says at what. */
enum error_code sqlite_error(const struct ledger_sqlite *self, int result, const char *doing,
                             struct error *error);
enum error_code sqlite_damaged(const struct ledger_sqlite *self, const char *table,
                               struct error *error);

/* The statement, ready for its parameters. */
sqlite3_stmt *sqlite_use(struct ledger_sqlite *self, enum statement which);
/* Run a statement that gives no rows. */
int sqlite_run(struct ledger_sqlite *self, enum statement which);

int bind_text(sqlite3_stmt *statement, int at, const char *text);
int bind_hash(sqlite3_stmt *statement, int at, const struct hash *hash);
/* "" for NULL. */
const char *column_text(sqlite3_stmt *statement, int at);
/* False: it is no hash. */
bool column_hash(struct hash *out, sqlite3_stmt *statement, int at);

/* A result's outputs as one blob: see the schema. */
enum { OUTPUT_BYTES = 16 + 32 + 8 };
enum { MEASURES_BYTES = 4 * 8 };
void bind_measures(sqlite3_stmt *statement, int at, const struct measures *measures);
/* False: NULL, or nothing that bind_measures writes. */
bool column_measures(struct measures *out, sqlite3_stmt *statement, int at);
int outputs_pack(uint8_t out[LIMIT_OUTPUTS * OUTPUT_BYTES], const struct task_result *result);
bool outputs_unpack(struct task_result *result, const uint8_t *bytes, int length);

/* -- ledger_sqlite_write.c -------------------------------------------------------------------- */

enum error_code sqlite_apply(struct ledger *ledger, const struct ledger_record *records,
                             size_t count, struct error *error);
enum error_code sqlite_collect(struct ledger *ledger, uint64_t job,
                               bool (*keep)(void *, const struct hash *, const char *),
                               void (*removed)(void *, const struct hash *), void *user,
                               struct error *error);

/* -- ledger_sqlite_read.c --------------------------------------------------------------------- */

/* The result's row; an SQLite result. */
int sqlite_get_result(struct ledger_sqlite *self, struct task_result *out, bool *found,
                      const struct hash *key, const char *class);
enum error_code sqlite_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                            struct error *error);
enum error_code sqlite_read_attempts(struct ledger *ledger, const struct ledger_visitor *visitor,
                                     uint64_t job, int video, int limit, struct error *error);
enum error_code sqlite_read_events(struct ledger *ledger, const struct ledger_visitor *visitor,
                                   uint64_t job, uint64_t after, int limit, struct error *error);
enum error_code sqlite_find_result(struct ledger *ledger, struct task_result *out, bool *found,
                                   const struct hash *key, const char *class, struct error *error);
enum error_code sqlite_find_publication(struct ledger *ledger, struct ledger_publication *out,
                                        bool *found, const char *path, struct buffer *texts,
                                        struct error *error);

#endif
