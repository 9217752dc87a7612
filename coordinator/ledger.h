/* The ledger: what must survive. Jobs, videos that are not as they began, results, attempts,
 * publications, events; nothing else is state. Tasks are not rows: a job's document, its videos and
 * the results found by key are enough to go on.
 *
 * The scheduler says what to write as records; ledger_apply writes a batch of them in one
 * transaction, all or none, and returns when they are on the disk. The edge gathers events for a
 * few milliseconds, applies the scheduler's records in one batch, and only then sends anything:
 * acknowledge after commit, never before.
 *
 * `struct ledger` is a table of functions, so that one core serves SQLite, PostgreSQL and the
 * simulation's memory. One thread.
 *
 * POWER LOSS (ledger_sqlite*.c). WAL with synchronous=FULL: a commit returns after fsync of the
 * log, so what was acknowledged survives a power cut, provided that the disk honours fsync. One
 * connection writes and checkpoints, and a lock file keeps a second coordinator out. Local disk
 * only: SQLite's locks and shared memory are not to be trusted over NFS.
 *
 * A FULL DISK. ledger_apply gives ERR_FULL and nothing of the batch is written; the ledger stays
 * open and the same batch may be applied again later. The edge then refuses new jobs, keeps
 * renewing the leases that run, and tries again: nothing is lost. Any other failure of ledger_apply
 * leaves open whether the batch is on disk (an fsync that failed cannot be asked again): the edge
 * must stop, and a restart reads what is there. */
#ifndef VIDLOOM_COORDINATOR_LEDGER_H
#define VIDLOOM_COORDINATOR_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "coordinator/limits.h"
#include "coordinator/plan.h"

struct ledger;

/* Stored as these numbers: only ever add at the end. */
enum job_state {
    JOB_RUNNING,  /* or waiting for workers */
    JOB_PAUSED,   /* no new leases */
    JOB_CANCELED, /* final, but for retry */
    JOB_DONE,     /* every video published */
    JOB_FAILED,   /* every video has ended, at least one without a file */
    JOB_STATE_COUNT
};
enum video_state {
    VIDEO_WAITING,
    VIDEO_RUNNING,    /* its class is chosen; tasks under way */
    VIDEO_PUBLISHING, /* staged; the rename is due */
    VIDEO_DONE,
    VIDEO_FAILED,
    VIDEO_CANCELED,
    VIDEO_STATE_COUNT
};
const char *job_state_name(enum job_state state);
const char *video_state_name(enum video_state state);
bool job_state_is_final(enum job_state state);
bool video_state_is_final(enum video_state state);

/* -- records ---------------------------------------------------------------------------------- */

enum ledger_record_kind {
    LEDGER_JOB,         /* insert a job */
    LEDGER_JOB_STATE,   /* its state */
    LEDGER_VIDEO,       /* insert or replace a video's row; without one a video is waiting */
    LEDGER_RESULT,      /* insert or replace */
    LEDGER_RESULT_GONE, /* an artifact of it was lost */
    LEDGER_ATTEMPT,     /* append */
    LEDGER_PUBLICATION, /* insert or replace by path */
    LEDGER_EVENT,       /* append: what `vidloom logs` shows */
};

struct ledger_job {
    uint64_t id;
    const char *name;
    const char *yaml, *document; /* as submitted; resolved (job_write) */
    size_t yaml_length, document_length;
    const char *submission; /* the client's idempotency key, "" for none; unique otherwise */
    enum job_state state;
    int priority;
    int64_t submitted_ns; /* wall clock */
};
struct ledger_video {
    uint64_t job;
    int video; /* index in the job */
    enum video_state state;
    const char *class; /* pinned device class; "" when none */
    enum error_code code;
    const char *detail; /* why it failed; "" otherwise */
    double seconds;     /* of work, all its tasks' */
    double drift, seam; /* the greatest of its windows' */
    int redraws;        /* windows that were drawn again, each time counted */
};
struct ledger_result {
    struct hash key;
    const char *class;
    uint64_t job; /* that it was made for: removed with it by ledger_collect */
    struct task_result result;
};
struct ledger_attempt {
    uint64_t job;
    int video, task;
    struct hash key;
    enum plan_kind kind;
    int index;
    uint64_t epoch;
    const char *worker, *class;
    enum error_code code; /* ERR_OK: it succeeded */
    const char *detail;
    double seconds;  /* from lease to outcome */
    int64_t wall_ns; /* of the outcome */
    bool measured;   /* a decode that succeeded: */
    struct measures measures;
};
struct ledger_publication {
    const char *path;   /* final */
    const char *staged; /* the part file, beside it */
    uint64_t job;
    int video;
    struct hash key;  /* of the mux task */
    struct hash hash; /* of the file */
    int64_t bytes;
    bool done; /* false: intended, the rename may or may not have happened */
    /* Read only: an earlier file at `path` was this ledger's too, so that it may be replaced. False
     * with !done: whatever is there is a stranger's, unless it is this very file. */
    bool replaces;
};
struct ledger_event {
    uint64_t job; /* 0: none */
    int video;    /* -1: none */
    const char *text;
    int64_t wall_ns;
};

struct ledger_record {
    enum ledger_record_kind kind;
    union {
        struct ledger_job job; /* LEDGER_JOB_STATE uses id and state alone */
        struct ledger_video video;
        struct ledger_result result; /* LEDGER_RESULT_GONE uses key and class alone */
        struct ledger_attempt attempt;
        struct ledger_publication publication;
        struct ledger_event event;
    };
};

/* -- the door --------------------------------------------------------------------------------- */

/* Called for each row; pointers are valid during the call. An error ends the reading and is
 * returned. Only the callbacks that are there are called. */
struct ledger_visitor {
    void *user;
    enum error_code (*job)(void *user, const struct ledger_job *job, struct error *error);
    enum error_code (*video)(void *user, const struct ledger_video *video, struct error *error);
    enum error_code (*publication)(void *user, const struct ledger_publication *publication,
                                   struct error *error);
    enum error_code (*attempt)(void *user, const struct ledger_attempt *attempt,
                               struct error *error);
    enum error_code (*event)(void *user, uint64_t sequence, const struct ledger_event *event,
                             struct error *error);
};

/* Open or make `folder`/ledger.db, and take `folder`/lock until close. The folder must be there.
 * Errors: ERR_BUSY (another coordinator; names its process), ERR_FORMAT (the file is no ledger, or
 * damaged: says which and what to do), ERR_UNSUPPORTED (written by a newer vidloom), ERR_FULL,
 * ERR_IO, ERR_DENIED, ERR_MISSING. */
MUST_CHECK enum error_code ledger_sqlite_open(struct ledger **out, const char *folder,
                                              struct error *error);
void ledger_close(struct ledger **ledger); /* NULL is fine */

/* Counts openings: 1 for the first. Already on disk when open returns, so a lease epoch that starts
 * with it (scheduler_config.leader) is above every one given out before. */
uint64_t ledger_leader(const struct ledger *ledger);

/* All or none, durable on return. Errors: ERR_FULL (nothing written, may be tried again), ERR_BUSY
 * (a job with this submission key is there), ERR_IO, ERR_FORMAT (stop). */
MUST_CHECK enum error_code ledger_apply(struct ledger *ledger, const struct ledger_record *records,
                                        size_t count, struct error *error);

/* Everything that a restart needs, in this order: jobs by id, whatever their state; rows of videos;
 * publications that are intended but not done. */
MUST_CHECK enum error_code ledger_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                                       struct error *error);

/* *found false, and ERR_OK, when there is none. */
MUST_CHECK enum error_code ledger_find_result(struct ledger *ledger, struct task_result *out,
                                              bool *found, const struct hash *key,
                                              const char *class, struct error *error);
/* The publication at `path`, done or not. Its texts are written into `texts` (the caller's, emptied
 * first) and live as long as it. */
MUST_CHECK enum error_code ledger_find_publication(struct ledger *ledger,
                                                   struct ledger_publication *out, bool *found,
                                                   const char *path, struct buffer *texts,
                                                   struct error *error);
/* The job's attempts (of one video; -1: of all), oldest first, the last `limit` of them; and events
 * with a sequence above `after` (of one job; 0: of all), oldest first, at most `limit`. */
MUST_CHECK enum error_code ledger_read_attempts(struct ledger *ledger,
                                                const struct ledger_visitor *visitor, uint64_t job,
                                                int video, int limit, struct error *error);
MUST_CHECK enum error_code ledger_read_events(struct ledger *ledger,
                                              const struct ledger_visitor *visitor, uint64_t job,
                                              uint64_t after, int limit, struct error *error);

/* Forget the results that were made for `job`, but those that `keep` asks for, and name every
 * object that no result refers to any more: the store may remove those (a crash in between leaves
 * objects that nothing names, which only costs space). */
MUST_CHECK enum error_code ledger_collect(struct ledger *ledger, uint64_t job,
                                          bool (*keep)(void *user, const struct hash *key,
                                                       const char *class),
                                          void (*removed)(void *user, const struct hash *object),
                                          void *user, struct error *error);

/* -- for implementations ---------------------------------------------------------------------- */

struct ledger_table {
    void (*close)(struct ledger *ledger);
    enum error_code (*apply)(struct ledger *, const struct ledger_record *, size_t, struct error *);
    enum error_code (*load)(struct ledger *, const struct ledger_visitor *, struct error *);
    enum error_code (*find_result)(struct ledger *, struct task_result *, bool *,
                                   const struct hash *, const char *, struct error *);
    enum error_code (*find_publication)(struct ledger *, struct ledger_publication *, bool *,
                                        const char *, struct buffer *, struct error *);
    enum error_code (*read_attempts)(struct ledger *, const struct ledger_visitor *, uint64_t, int,
                                     int, struct error *);
    enum error_code (*read_events)(struct ledger *, const struct ledger_visitor *, uint64_t,
                                   uint64_t, int, struct error *);
    enum error_code (*collect)(struct ledger *, uint64_t,
                               bool (*keep)(void *, const struct hash *, const char *),
                               void (*removed)(void *, const struct hash *), void *,
                               struct error *);
};
struct ledger { /* the first member of every implementation's struct */
    const struct ledger_table *table;
    uint64_t leader;
};

#endif
