/* The scheduler: who does what next. Pure: no clock, no I/O, one thread. Every call is an event
 * with the time `now`; what is to be done about it is appended to a list of actions.
 *
 *     scheduler_xxx(scheduler, …, now, actions);   // as many events as there are at the moment
 *     ledger_apply(records of actions);            // one commit; on failure see ledger.h
 *     carry out the other actions, in order;       // send, rename, remove
 *     scheduler_actions_clear(actions);
 *
 * Nothing that an action says may be done before every record that came before it is committed. A
 * coordinator that dies in between has promised nothing.
 *
 * VIDEOS are started in order of (priority, submission, place in the job), no more of them than
 * keep the connected workers busy: a video is a chain, so n workers work on n videos. Started ones
 * come first. Only started videos have their tasks in memory.
 *
 * TASKS that are equal (same key, same class) are one task, whichever videos want it. A task is
 * tried at most `attempts_max` times, elsewhere first and after a pause that doubles; an error that
 * trying again cannot help (ERROR_CLASS_FAIL_JOB) ends it at once, unless it may be the worker's
 * machine (ERR_MISSING, ERR_DENIED, ERR_UNSUPPORTED) and another worker is there. A task that
 * `deaths_max` workers died with is given up. Then every video that wants it fails, with the
 * reason; the others go on. Counts are not kept over a restart: it forgives.
 *
 * CLASSES. Workers of one class promise equal bytes for the task kinds that they both serve. The
 * first task of a video pins it to its worker's class, if the workers of that class together serve
 * every kind that the video needs; results are stored under (key, class), so no file mixes classes.
 * A video whose class has had no worker for `class_absent_ns` is pinned anew, from the start.
 *
 * LEASES carry an epoch, unique for ever: leader << 32 | counter. A worker keeps its lease by
 * reporting progress within lease_ns. A result is accepted if the lease with its epoch is there and
 * is for that key and worker; a repeated one is acknowledged again; any other is ERR_STALE.
 *
 * TIME that passed while nobody looked (a suspended machine, a clock that jumped) does not count:
 * between two events at most `gap_max_ns` do. So a jump expires nothing.
 *
 * PUBLISHING. A mux lease names a staged path beside the final one; its result makes a publication
 * record (intended), then ACTION_PUBLISH, then scheduler_published makes it done. After a restart
 * intended ones are asked for again, so ACTION_PUBLISH must be done in this way:
 *   - `staged` is there: sync it, rename it to the final name (over a file that is there only if
 *     `overwrite`, or if the ledger's row says `replaces`; else ERR_USAGE), sync the folder;
 * ERR_OK;
 *   - else the final file is there with the size and hash named: ERR_OK;
 *   - else ERR_MISSING: the file is muxed again.
 * Part files of leases that a crash ended (.NAME.*.part) may be removed after a publication.
 *
 * A worker that reports ERROR_CLASS_STOP_WORKER gets no more leases; when none is left that may
 * take any, nothing happens until one comes: `vidloom run` must end then. */
#ifndef VIDLOOM_COORDINATOR_SCHEDULER_H
#define VIDLOOM_COORDINATOR_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "coordinator/job.h"
#include "coordinator/ledger.h"
#include "coordinator/plan.h"

struct scheduler;

struct scheduler_config {
    uint64_t leader;         /* ledger_leader(): below 2^31 */
    int64_t lease_ns;        /* 0: 30 s. A worker reports progress at least three times in it. */
    int64_t worker_ns;       /* 0: 30 s. Silence after which a worker is lost. */
    int64_t gap_max_ns;      /* 0: 5 s. The edge ticks at least once a second. */
    int64_t backoff_ns;      /* 0: 1 s. Pause after the first failure; doubles, up to 64 times it */
    int64_t class_absent_ns; /* 0: 60 s */
    int attempts_max;        /* 0: 3 */
    int deaths_max;          /* 0: 3 */
    const char *output_root; /* put in front of relative output paths; NULL or "": nothing */
    /* Look-ups in what is committed; may be NULL: nothing is there. They must not change anything.
     * Called with `user`. */
    void *user;
    bool (*find_result)(void *user, struct task_result *out, const struct hash *key,
                        const char *class);
    /* Whether this ledger has published `path` from the mux task `key` and the file is still there.
     */
    bool (*is_published)(void *user, const char *path, const struct hash *key);
};

/* -- actions ---------------------------------------------------------------------------------- */

struct lease_input {
    const char *name;          /* "text", "tail", … as in plan.h */
    struct task_output object; /* what to read from the store */
};
struct lease {
    uint64_t worker;
    uint64_t epoch;
    int64_t lease_ns; /* how long it holds without progress */
    enum plan_kind kind;
    int index;
    struct hash key;
    const char *class;
    uint64_t job; /* one of those that want it */
    int video;
    const char *job_name, *video_name;
    const char *parameters; /* plan.h */
    size_t parameters_length;
    const struct lease_input *inputs;
    int input_count;
    const struct job_file *file;   /* image tasks; else NULL */
    const struct job_model *model; /* NULL for image and mux */
    const char *staged;            /* mux: the path to write; else NULL */
    int steps;                     /* for progress; 0 where there are none */
};

enum scheduler_action_kind {
    ACTION_RECORD,        /* commit it */
    ACTION_LEASE,         /* send it. If it cannot be sent: scheduler_worker_lost */
    ACTION_REVOKE,        /* tell `worker` to stop working on `epoch` */
    ACTION_REPLY,         /* answer to a result: worker, epoch, code (ERR_OK, ERR_STALE) */
    ACTION_PUBLISH,       /* see above; then scheduler_published */
    ACTION_REMOVE_STAGED, /* remove `path` (a part file or folder), if it is there */
    ACTION_VIDEO,         /* tell who follows: job, video, state, code, text (detail) */
    ACTION_JOB,           /* the same for a job. When final: ledger_collect it if DONE */
};
struct scheduler_action {
    enum scheduler_action_kind kind;
    union {
        struct ledger_record record;
        struct lease lease;
        struct {
            uint64_t worker, epoch;
            enum error_code code;
        } worker; /* REVOKE, REPLY */
        struct {
            struct ledger_publication publication;
            bool overwrite;
        } publish;
        const char *path; /* REMOVE_STAGED */
        struct {
            uint64_t job;
            int video; /* -1 for ACTION_JOB */
            int state; /* enum video_state or job_state */
            enum error_code code;
            const char *detail; /* "" or why */
        } news;                 /* VIDEO, JOB */
    };
};
/* Zero it before first use. Everything that items point to lives until the next clear. */
struct scheduler_actions {
    struct scheduler_action *items;
    size_t count, capacity;
    void *texts;
    bool failed; /* memory ran out: the edge must stop; what is committed is consistent */
};
void scheduler_actions_clear(struct scheduler_actions *actions);
void scheduler_actions_close(struct scheduler_actions *actions);

/* -- life ------------------------------------------------------------------------------------- */

MUST_CHECK enum error_code
scheduler_open(struct scheduler **out, const struct scheduler_config *config, struct error *error);
void scheduler_close(struct scheduler **scheduler); /* NULL is fine */

/* After a restart, with what ledger_load gives: jobs in order, then videos, then publications; then
 * scheduler_start once, which asks for what was interrupted. The job is taken over (and *job
 * cleared) on success. Errors: ERR_FORMAT (rows that contradict each other), ERR_MEMORY, ERR_LIMIT.
 */
MUST_CHECK enum error_code scheduler_restore_job(struct scheduler *self, struct job **job,
                                                 const struct ledger_job *row, struct error *error);
MUST_CHECK enum error_code scheduler_restore_video(struct scheduler *self,
                                                   const struct ledger_video *row,
                                                   struct error *error);
MUST_CHECK enum error_code scheduler_restore_publication(struct scheduler *self,
                                                         const struct ledger_publication *row,
                                                         struct error *error);
void scheduler_start(struct scheduler *self, int64_t now, struct scheduler_actions *actions);

/* -- events: jobs ----------------------------------------------------------------------------- */

struct scheduler_submission {
    const char *yaml, *document; /* for the ledger */
    size_t yaml_length, document_length;
    const char *submission; /* idempotency key: a job that has it is answered with its id again */
    int priority;           /* higher first */
    int64_t wall_ns;
};
/* The job is taken over (and *job cleared; closed if its submission was known). *id is its number.
 */
MUST_CHECK enum error_code scheduler_add_job(struct scheduler *self, uint64_t *id, struct job **job,
                                             const struct scheduler_submission *submission,
                                             int64_t now, struct scheduler_actions *actions,
                                             struct error *error);

enum scheduler_control {
    CONTROL_PAUSE, /* no new leases; what runs is finished */
    CONTROL_RESUME,
    CONTROL_CANCEL, /* what runs for it alone is revoked; published files stay */
    CONTROL_RETRY,  /* failed and canceled videos wait again, counts forgotten */
};
/* Errors: ERR_MISSING (no such job), ERR_USAGE (does not apply in this state: says why). */
MUST_CHECK enum error_code scheduler_control_job(struct scheduler *self, uint64_t id,
                                                 enum scheduler_control control, int64_t now,
                                                 struct scheduler_actions *actions,
                                                 struct error *error);
/* Drop a job that has ended from memory (its rows stay). ERR_MISSING, ERR_USAGE. */
MUST_CHECK enum error_code scheduler_forget_job(struct scheduler *self, uint64_t id,
                                                struct error *error);

/* The outcome of ACTION_PUBLISH. */
void scheduler_published(struct scheduler *self, uint64_t id, int video, enum error_code code,
                         const char *detail, int64_t wall_ns, int64_t now,
                         struct scheduler_actions *actions);

/* -- events: workers -------------------------------------------------------------------------- */

/* `id` is the edge's number for a session, never used again after bye or lost. A hello of a
 * known session changes nothing but its kinds. Errors: ERR_LIMIT, ERR_USAGE (no class), ERR_MEMORY.
 */
MUST_CHECK enum error_code scheduler_worker_hello(struct scheduler *self, uint64_t id,
                                                  const char *name, const char *class,
                                                  unsigned kinds, int64_t now,
                                                  struct scheduler_actions *actions,
                                                  struct error *error);
/* It is ready to hold up to `slots` leases at once, until it says otherwise; leases follow as
 * actions now or later. 0: no more. Repeating it changes nothing. Unknown workers: nothing happens.
 */
void scheduler_worker_request(struct scheduler *self, uint64_t id, int slots, int64_t now,
                              struct scheduler_actions *actions);
/* Anything was heard of it. */
void scheduler_worker_alive(struct scheduler *self, uint64_t id, int64_t now);
/* Renews the lease; revokes one that is not held. fraction 0…1 of the task. */
void scheduler_worker_progress(struct scheduler *self, uint64_t id, uint64_t epoch, int step,
                               double fraction, int64_t now, struct scheduler_actions *actions);

struct scheduler_outcome {
    uint64_t epoch;
    struct hash key;
    enum error_code code; /* ERR_OK; ERR_INTERRUPTED: handed back, no blame */
    const char *detail;
    struct task_result result; /* ERR_OK */
    /* An input object was not in the store, or was corrupt (code ERR_MISSING): the task that made
     * it is done again, nobody is blamed. */
    bool object_missing;
    struct hash object;
    /* Of work, as the worker measured them: without the time that the lease waited in its queue. 0,
     * or more than the lease is old: not known, the lease's age counts. */
    double seconds;
    int64_t wall_ns;
};
void scheduler_worker_result(struct scheduler *self, uint64_t id,
                             const struct scheduler_outcome *outcome, int64_t now,
                             struct scheduler_actions *actions);
void scheduler_worker_bye(struct scheduler *self, uint64_t id, int64_t now,
                          struct scheduler_actions *actions); /* planned: no blame */
void scheduler_worker_lost(struct scheduler *self, uint64_t id, int64_t wall_ns, int64_t now,
                           struct scheduler_actions *actions);
/* No more leases for it (and, when `now_too`, the ones it has are revoked). ERR_MISSING. */
MUST_CHECK enum error_code scheduler_drain_worker(struct scheduler *self, const char *name,
                                                  bool now_too, int64_t now,
                                                  struct scheduler_actions *actions,
                                                  struct error *error);

/* Time passes: expired leases, lost workers, pauses that end. At least once a second. */
void scheduler_tick(struct scheduler *self, int64_t wall_ns, int64_t now,
                    struct scheduler_actions *actions);

/* -- questions -------------------------------------------------------------------------------- */

struct job_status {
    uint64_t id;
    const struct job *job;
    enum job_state state;
    int priority;
    int64_t submitted_ns;
    int videos, by_state[VIDEO_STATE_COUNT];
    int64_t windows, windows_done; /* of all videos; published ones count whole */
    int64_t frames, frames_done;
    double seconds_left; /* from measured times and the workers at it; -1: not known yet */
};
struct video_status {
    enum video_state state;
    const char *class; /* "" when not pinned */
    enum error_code code;
    const char *detail; /* "" or why it failed */
    int windows, windows_done;
    enum plan_kind kind; /* what runs now; PLAN_KIND_COUNT: nothing */
    int index, step, steps;
    int attempt;         /* from 1; of the running task */
    const char *worker;  /* "" when nothing runs */
    double seconds;      /* of work so far */
    double seconds_left; /* -1: not known */
    double drift, seam;  /* the greatest of its windows so far: plan.h, MEASURES */
    int redraws;         /* windows drawn again so far */
};
struct worker_status {
    uint64_t id;
    const char *name, *class;
    unsigned kinds;
    int slots, leases;
    bool draining, stopped; /* stopped: reported ERROR_CLASS_STOP_WORKER */
    int64_t done, failed;
    double seconds_silent;
    uint64_t job; /* what it works on: the first of its leases; 0: nothing */
    int video;
    enum plan_kind kind;
    int index;
};
/* Pointers live until the next event. NULL, false: there is no such thing. A job's status adds up
 * all of its videos; who asks often and needs only the job asks for that. */
const struct job *scheduler_job(const struct scheduler *self, uint64_t id);
bool scheduler_job_status(const struct scheduler *self, uint64_t id, struct job_status *out);
bool scheduler_video_status(const struct scheduler *self, uint64_t id, int video,
                            struct video_status *out);
/* By place, 0 … count-1, in order of submission / hello. */
int scheduler_job_count(const struct scheduler *self);
uint64_t scheduler_job_at(const struct scheduler *self, int place);
int scheduler_worker_count(const struct scheduler *self);
bool scheduler_worker_at(const struct scheduler *self, int place, int64_t now,
                         struct worker_status *out);
/* Whether a task that is in memory has this result: for ledger_collect's `keep`. */
bool scheduler_uses(const struct scheduler *self, const struct hash *key, const char *class);
/* Nothing runs, nothing waits, every job has ended: `vidloom run` is done. */
bool scheduler_is_idle(const struct scheduler *self);

#endif
