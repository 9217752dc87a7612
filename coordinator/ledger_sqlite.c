/* The SQLite ledger, opened: its lock, its schema, its settings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "coordinator/ledger_sqlite_internal.h"

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
    /* 1 → 2: what windows were measured to be: NULL, or four doubles, little endian, in the order
     * of struct measures. */
    "ALTER TABLE results ADD COLUMN measures BLOB;"
    "ALTER TABLE attempts ADD COLUMN measures BLOB;"
    "ALTER TABLE videos ADD COLUMN drift REAL NOT NULL DEFAULT 0;"
    "ALTER TABLE videos ADD COLUMN seam REAL NOT NULL DEFAULT 0;"
    "ALTER TABLE videos ADD COLUMN redraws INTEGER NOT NULL DEFAULT 0;",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof migrations[0] };

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

/* A file that is not ours must be refused before anything of it is changed. */
static enum error_code open_file(struct ledger_sqlite *self, struct error *error) {
    struct stat info;
    int64_t pages;
    int result =
        sqlite3_open_v2(self->path, &self->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (!result) {
        sqlite3_extended_result_codes(self->database, 1);
        sqlite3_busy_timeout(self->database, 0);
        if (!stat(self->path, &info) && info.st_size > 0)
            result = pragma_number(self->database, "PRAGMA schema_version", &pages);
    }
    return result ? sqlite_error(self, result, "opening it", error) : ERR_OK;
}

static enum error_code apply_settings(struct ledger_sqlite *self, struct error *error) {
    /* EXCLUSIVE: no other process can even read, and no shared memory is needed. */
    static const char settings[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
                                   "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF;"
                                   "PRAGMA wal_autocheckpoint=1000; PRAGMA trusted_schema=OFF;"
                                   "PRAGMA cell_size_check=ON;";
    int64_t synchronous = 0;
    int result = sqlite3_exec(self->database, settings, NULL, NULL, NULL);
    if (!result)
        result = pragma_number(self->database, "PRAGMA synchronous", &synchronous);
    if (result)
        return sqlite_error(self, result, "opening it", error);
    if (synchronous != 2)
        return error_set(error, ERR_IO, "%s: the ledger cannot be made durable", self->path);
    return ERR_OK;
}

/* quick_check reads every page: a minute a hundred gigabytes; ledgers have megabytes. */
static enum error_code check_pages(struct ledger_sqlite *self, struct error *error) {
    sqlite3_stmt *statement = NULL;
    enum error_code code = ERR_OK;
    int result = sqlite3_prepare_v2(self->database, "PRAGMA quick_check(1)", -1, &statement, NULL);
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
    return code || !result ? code : sqlite_error(self, result, "opening it", error);
}

static enum error_code prepare_statements(struct ledger_sqlite *self, struct error *error) {
    int result = SQLITE_OK;
    for (int i = 0; i < STATEMENT_COUNT && !result; i++)
        result = sqlite3_prepare_v3(self->database, sqlite_statements[i], -1,
                                    SQLITE_PREPARE_PERSISTENT, &self->statements[i], NULL);
    return result ? sqlite_error(self, result, "opening it", error) : ERR_OK;
}

static enum error_code count_opening(struct ledger_sqlite *self, struct error *error) {
    static const char count[] = "BEGIN IMMEDIATE; UPDATE meta SET value=value+1 WHERE key='leader';"
                                "COMMIT";
    int64_t leader = 0;
    int result = sqlite3_exec(self->database, count, NULL, NULL, NULL);
    if (!result)
        result =
            pragma_number(self->database, "SELECT value FROM meta WHERE key='leader'", &leader);
    self->ledger.leader = (uint64_t)leader;
    return result ? sqlite_error(self, result, "opening it", error) : ERR_OK;
}

static enum error_code open_database(struct ledger_sqlite *self, struct error *error) {
    enum error_code code = open_file(self, error);
    if (!code)
        code = migrate(self, error);
    if (!code)
        code = apply_settings(self, error);
    if (!code)
        code = check_pages(self, error);
    if (!code)
        code = prepare_statements(self, error);
    return code ? code : count_opening(self, error);
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
