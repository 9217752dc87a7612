/* The scheduler's insides, shared by scheduler*.c only. See scheduler.h for what it promises.
 *
 *   scheduler.c           life
 *   scheduler_restore.c   after a restart
 *   scheduler_job.c       events of jobs
 *   scheduler_worker.c    events of workers, time
 *   scheduler_result.c    what a worker brings
 *   scheduler_publish.c   from a muxed file to a published one
 *   scheduler_give.c      who gets what next
 *   scheduler_video.c     starting and ending videos, and jobs with them
 *   scheduler_draw.c      windows drawn again
 *   scheduler_node.c      tasks, shared by videos; classes of workers
 *   scheduler_lease.c     leases
 *   scheduler_failure.c   tries, pauses, giving up
 *   scheduler_actions.c   what is to be done about an event
 *   scheduler_map.c       numbers to pointers
 *   scheduler_status.c    questions */
#ifndef VIDLOOM_COORDINATOR_SCHEDULER_INTERNAL_H
#define VIDLOOM_COORDINATOR_SCHEDULER_INTERNAL_H

#include "coordinator/scheduler.h"

enum {
    EPOCHS_KEPT = 1024, /* accepted results whose repetition is recognised */
    LOSSES_MAX = 10,    /* of one task's artifact: then the store is broken */
    AVOID_MAX = 8,      /* workers that a task is kept away from */
};

struct worker;
struct active;
struct job_entry;

struct class_entry {
    char name[LIMIT_CLASS_BYTES];
    int workers;
    int64_t absent_since; /* core time; while workers is 0 */
};

/* One user of a task: a started video and the task's place in its plan. */
struct user {
    struct active *active;
    int task;
};

enum node_state { NODE_WAITING, NODE_LEASED, NODE_DONE };

/* A task of one or more started videos. */
struct node {
    struct hash key;
    int class;
    enum node_state state;
    enum plan_kind kind;
    bool looked_up; /* in the ledger, since it last became ready */
    bool found;     /* there: what it says has been told before */
    bool private;   /* mux: not shared, not in the table */
    int attempts, deaths, losses;
    int64_t not_before;        /* core time */
    uint64_t avoid[AVOID_MAX]; /* hashes of the names of workers that it failed on */
    int avoid_count;
    struct task_result result;
    struct lease_entry *lease;
    struct user *users;
    int user_count;
    size_t user_capacity;
    struct node *next; /* in its bucket */
};

struct lease_entry {
    uint64_t epoch;
    struct node *node;
    struct worker *worker;
    int64_t deadline, granted; /* core time */
    int step, steps;
    double fraction;
    char *staged; /* mux */
    uint64_t job;
    int video, task, index;
    struct lease_entry *previous, *next; /* of its worker */
};

/* A video that has been started: its plan and tasks are in memory. */
struct active {
    struct job_entry *job;
    int video;
    struct plan *plan;
    struct node **nodes;
    int cursor; /* the chain's first task that is not done, or the decode that is judged next */
    int judged; /* windows whose draw is settled */
    int best;   /* draw of the window that is judged next, when drawn again */
    double best_excess;
    struct measures best_measures;
    struct active *previous, *next;
};

struct publishing {
    struct ledger_publication publication; /* texts are its own */
};

struct video_entry {
    uint8_t state; /* enum video_state */
    uint8_t publish_failures;
    int class; /* -1: not pinned */
    enum error_code code;
    char *detail; /* NULL: none */
    double seconds;
    double drift, seam; /* the greatest of its settled windows */
    int redraws;
    int64_t not_before;
    struct active *active;
    struct publishing *publishing;
};

struct job_entry {
    uint64_t id;
    struct job *job;
    enum job_state state;
    int priority;
    int64_t submitted_ns;
    char submission[LIMIT_SUBMISSION];
    struct video_entry *videos;
    int by_state[VIDEO_STATE_COUNT];
    int first_pending; /* no video before it is pending */
    double kind_seconds[PLAN_KIND_COUNT];
    int64_t kind_count[PLAN_KIND_COUNT];
    int leases;
};

struct worker {
    uint64_t id;
    uint64_t name_hash;
    char name[LIMIT_WORKER_BYTES];
    int class;
    unsigned kinds;
    int slots, held;
    bool draining, stopped;
    int64_t seen; /* core time */
    int64_t done, failed;
    struct lease_entry *leases;
};

/* From a number that is not 0 to a pointer; open addressing. */
struct id_map {
    uint64_t *keys;
    void **values;
    size_t mask, count;
};

struct scheduler {
    struct scheduler_config config;
    char *output_root;
    int64_t last_now, core; /* core: time that counts, see scheduler.h */
    bool clock_started;
    int64_t wall, wall_core; /* the wall clock last told, and when that was */
    uint64_t last_job;
    uint32_t last_lease;
    struct job_entry **jobs; /* by (priority, id) */
    int job_count;
    size_t job_capacity;
    struct id_map jobs_by_id, workers_by_id, leases;
    struct worker **workers; /* in order of hello */
    int worker_count;
    size_t worker_capacity;
    struct class_entry *classes;
    int class_count;
    struct active *first_active, *last_active;
    int64_t active_tasks;
    struct node **buckets;
    size_t bucket_count, node_count;
    uint64_t accepted[EPOCHS_KEPT];
    int accepted_at;
    int publishing_count;
    struct scheduler_actions *actions;   /* of the event in hand */
    struct ledger_publication *restored; /* until scheduler_start */
    int restored_count;
};

/* -- scheduler_map.c --------------------------------------------------------------------------- */

void *id_map_get(const struct id_map *map, uint64_t key);
bool id_map_put(struct id_map *map, uint64_t key, void *value);
void id_map_remove(struct id_map *map, uint64_t key);
void id_map_close(struct id_map *map);

/* -- scheduler_actions.c ----------------------------------------------------------------------- */

/* Memory and texts that live as long as the actions. alloc: NULL when there is none; the others ""
 * then; `failed` is set and the edge stops. */
void *action_alloc(struct scheduler *self, size_t bytes);
const char *action_bytes(struct scheduler *self, const char *text, size_t length);
const char *action_text(struct scheduler *self, const char *text);
/* A zeroed action, or record, at the end; NULL and `failed`: no memory. */
struct scheduler_action *action_add(struct scheduler *self, enum scheduler_action_kind kind);
struct ledger_record *record_add(struct scheduler *self, enum ledger_record_kind kind);
/* The wall clock, from what was last told of it. */
int64_t scheduler_wall(const struct scheduler *self);
void scheduler_tell_wall(struct scheduler *self, int64_t wall_ns);
/* A line for people (`logs`); job 0: of no job, video -1: of the whole job. */
void event_add(struct scheduler *self, uint64_t job, int video, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* ACTION_REVOKE, ACTION_REPLY */
void worker_action(struct scheduler *self, enum scheduler_action_kind kind, uint64_t worker,
                   uint64_t epoch, enum error_code code);
/* ACTION_VIDEO, or ACTION_JOB when video is -1. */
void news_add(struct scheduler *self, uint64_t job, int video, int state, enum error_code code,
              const char *detail);
/* First in every event: its time, and where its actions go. */
void scheduler_begin(struct scheduler *self, int64_t now, struct scheduler_actions *actions);

/* -- scheduler_node.c -------------------------------------------------------------------------- */

/* Classes by number; -1: not found, no memory. */
int class_find(const struct scheduler *self, const char *name);
int class_add(struct scheduler *self, const char *name);
const char *class_name(const struct scheduler *self, int class);
/* Every kind that the class's workers do between them. */
unsigned class_kinds(const struct scheduler *self, int class);
bool worker_takes_leases(const struct worker *worker);
struct node *node_find(const struct scheduler *self, const struct hash *key, int class);
/* The task of the class, made if it is not there. NULL: no memory. */
struct node *node_take(struct scheduler *self, const struct plan_task *task, int class);
bool node_add_user(struct node *node, struct active *active, int task);
/* The task has one user less; without any it is revoked and freed. */
void node_leave(struct scheduler *self, struct node *node, const struct active *active, int task);
/* The cursor, over what is done and settled. */
void active_advance(struct active *active);
void node_done(struct scheduler *self, struct node *node, const struct task_result *result);
/* Its artifact is gone: it has to be made again. */
void node_undone(struct scheduler *self, struct node *node, uint64_t job);

/* -- scheduler_lease.c ------------------------------------------------------------------------- */

/* The final path, malloc'ed. */
char *video_final_path(const struct scheduler *self, const struct job_video *video);
void lease_give(struct scheduler *self, struct worker *worker, struct active *active, int at);
/* The lease is no more; its node waits. */
void lease_end(struct scheduler *self, struct lease_entry *lease, bool remove_staged);
/* result: of one that succeeded, else NULL. */
void attempt_add(struct scheduler *self, const struct lease_entry *lease, enum error_code code,
                 const char *detail, const struct task_result *result);

/* -- scheduler_failure.c ----------------------------------------------------------------------- */

uint64_t worker_name_hash(const char *name);
bool node_avoids(const struct node *node, const struct worker *worker);
/* Whether a worker could take it that it has not failed on. */
bool node_has_elsewhere(const struct scheduler *self, const struct node *node);
/* An attempt failed. The lease has been ended. */
void node_failed_once(struct scheduler *self, struct node *node, struct worker *worker,
                      enum error_code code, const char *detail);
/* A worker died with it, or was never heard of again. */
void node_died_once(struct scheduler *self, struct node *node, struct worker *worker);

/* -- scheduler_video.c ------------------------------------------------------------------------- */

struct video_entry *active_entry(const struct active *active);
void video_set_state(struct job_entry *job, int video, enum video_state state);
void video_record(struct scheduler *self, const struct job_entry *job, int video);
/* Give up everything that the started video holds. Tasks that only it wanted are revoked. */
void active_close(struct scheduler *self, struct active *active);
void job_set_state(struct scheduler *self, struct job_entry *job, enum job_state state);
void job_check_end(struct scheduler *self, struct job_entry *job);
/* The video has come to an end, or goes back to waiting. */
void video_leave(struct scheduler *self, struct job_entry *job, int video, enum video_state state,
                 enum error_code code, const char *detail);
bool video_is_pending(const struct video_entry *entry);
/* Make the video's tasks; or it ends at once: published before, or a plan that cannot be made. */
void video_start(struct scheduler *self, struct job_entry *job, int video, int class);

/* -- scheduler_draw.c -------------------------------------------------------------------------- */

/* Settle the windows whose decodes are done: plan.h, DRAWS. */
void active_settle(struct scheduler *self, struct active *active);

/* -- scheduler_publish.c ----------------------------------------------------------------------- */

void publishing_close(struct scheduler *self, struct video_entry *entry);
void publish_action(struct scheduler *self, const struct job_entry *job, int video);
/* The muxed file of the lease is to be published. */
void video_publish(struct scheduler *self, struct job_entry *job, int video,
                   const struct lease_entry *lease, const struct task_output *file);
/* Texts are copied; false: no memory. */
bool copy_publication(struct ledger_publication *out, const struct ledger_publication *in);
void restored_close(struct scheduler *self);

/* -- scheduler_give.c -------------------------------------------------------------------------- */

/* Give out what can be given. Workers of equal class and abilities get equal answers, so that after
 * one of them got nothing the others need not ask. */
void scheduler_give(struct scheduler *self);

/* -- scheduler.c ------------------------------------------------------------------------------- */

void job_close_entry(struct scheduler *self, struct job_entry *job);

/* -- scheduler_job.c --------------------------------------------------------------------------- */

/* Takes the job over on success. */
MUST_CHECK enum error_code job_insert(struct scheduler *self, struct job **job,
                                      const struct ledger_job *row, struct error *error);

#endif
