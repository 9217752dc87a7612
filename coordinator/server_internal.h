/* The server's insides, shared by server*.c only. See server.h for what it promises.
 *
 *   server.c           life, the loop, sending
 *   server_recover.c   from the ledger to a scheduler; part files of dead epochs
 *   server_commit.c    one turn's end: commit, publish, leases, answers
 *   server_submit.c    a submission: uploads, the job reader, checks of output paths
 *   server_worker.c    workers: their messages to events, actions to messages
 *   server_session.c   who is connected, and what they hold
 *   server_client.c    clients: submissions and orders
 *   server_report.c    clients: pages of jobs, videos, workers, logs
 *   server_changes.c   which videos changed when, for clients that follow
 *   server_files.c     paths of outputs and objects
 *   server_uploads.c, server_publish.c, server_publisher.c   files, without a struct server */
#ifndef VIDLOOM_COORDINATOR_SERVER_INTERNAL_H
#define VIDLOOM_COORDINATOR_SERVER_INTERNAL_H

#include "base/clock.h"
#include "base/file.h"
#include "coordinator/ledger.h"
#include "coordinator/scheduler.h"
#include "coordinator/server.h"
#include "coordinator/server_publish.h"
#include "coordinator/server_uploads.h"
#include "proto/endpoint.h"
#include "proto/message.h"

#define SERVER_GATHER_NS      (3 * CLOCK_MS)   /* messages that came by then share a commit */
#define SERVER_LOOK_MS        100              /* at *stop, at least this often */
#define SERVER_PUBLISHING_MS  5                /* while something is being published */
#define SERVER_TICK_NS        (250 * CLOCK_MS) /* of the scheduler */
#define SERVER_FULL_RETRY_NS  (500 * CLOCK_MS)
#define SERVER_SWEEP_NS       (60 * CLOCK_S)   /* of uploads */
#define SERVER_LAST_NEWS_NS   (500 * CLOCK_MS) /* clients are answered so long after the last job */
#define SERVER_PARTING_MS     20
#define SERVER_WORKER_NS      (30 * CLOCK_S) /* defaults */
#define SERVER_LEASE_NS       (30 * CLOCK_S)
#define SERVER_ANSWERS_BYTES  (64u << 20)         /* held until a commit; more are dropped */
#define SERVER_REQUEST_BYTES  (UINT64_C(1) << 30) /* of memory, reserved, for one submission */
#define SERVER_MANIFEST_BYTES (16u << 20)

struct name_list {
    char **names;
    size_t count, capacity;
};

/* A lease that a worker has: its message said the key, a revocation must say it again. */
struct held {
    uint64_t epoch;
    struct hash key;
    uint64_t job;
    int video;
};
struct session {
    uint64_t id; /* the scheduler's number of the worker */
    uint64_t peer;
    uint64_t nonce;
    char name[LIMIT_WORKER_BYTES], device[PROTO_DEVICE_BYTES];
    struct held *held;
    int held_count;
    size_t held_capacity;
    bool unreachable; /* lost at the end of this round */
};
/* An answer that waits for the commit. */
struct answer {
    uint64_t peer;
    char *bytes;
    size_t length;
};
struct known_submission {
    char key[LIMIT_SUBMISSION];
    uint64_t job;
};
/* Revisions of a job's videos: server_changes.c. */
struct job_changes {
    uint64_t job;
    uint64_t *revisions;
    int count;
};

struct server {
    struct server_config config;
    char state[FILE_PATH_BYTES], store[FILE_PATH_BYTES], root[FILE_PATH_BYTES];

    struct endpoint_context *context; /* config.context or own_context */
    struct endpoint_context *own_context;
    struct endpoint *workers, *clients; /* NULL when there is nothing to bind */
    char worker_addresses[SERVER_ENDPOINTS_MAX][ENDPOINT_ADDRESS_BYTES];
    char client_addresses[SERVER_ENDPOINTS_MAX][ENDPOINT_ADDRESS_BYTES];
    struct message *in;       /* the message in hand */
    vidloom_Envelope *out;    /* the one being made */
    vidloom_Artifact *inputs; /* of a lease being made */
    struct buffer frame;      /* and its bytes */
    struct arena arena;       /* for one request */

    struct ledger *ledger;
    struct scheduler *scheduler;
    struct uploads *uploads;
    struct publisher *publisher;
    struct buffer texts; /* of server_find_publication */

    /* The turn. */
    int64_t now, wall; /* monotonic, since 1970; ns */
    struct scheduler_actions actions, spare;
    size_t committed; /* that many of `actions` are on disk */
    struct ledger_record *records;
    size_t record_capacity;
    struct answer *answers;
    size_t answer_count, answer_capacity, answer_bytes;
    bool full, recovering;
    int64_t retry_at, tick_at, sweep_at, idle_since;
    struct error failure; /* code ERR_OK: none. It ends server_run. */

    struct session **sessions;
    int session_count;
    size_t session_capacity;
    uint64_t last_session;
    struct known_submission *known;
    size_t known_count, known_capacity;
    struct job_changes *changes; /* by job */
    size_t change_count, change_capacity;
    uint64_t revision, first_revision;

    bool had_work; /* a job was submitted or taken up */
    uint64_t removed_objects;
    struct server_counts counts;
};

/* -- server.c */
/* The first failure is kept. */
void server_fail(struct server *server, const struct error *error);
/* Send server->out now. False: it was not taken. */
bool server_send(struct server *server, struct endpoint *endpoint, uint64_t peer);
/* Queue server->out for a client, until the turn is committed. `promise` false: while the disk is
 * full it goes at once. */
void server_answer(struct server *server, uint64_t peer, bool promise);
void server_send_answers(struct server *server);

/* -- server_recover.c */
MUST_CHECK enum error_code server_recover(struct server *server, struct error *error);
/* Texts of *out live until the next call. A failing ledger is server_fail, and false. */
bool server_find_publication(struct server *server, struct ledger_publication *out,
                             const char *path);
uint64_t server_known(const struct server *server, const char *submission); /* 0: not known */
bool server_remember(struct server *server, const char *submission, uint64_t job);

/* -- server_commit.c */
/* Commit the records of server->actions. ERR_FULL: nothing is written, they stay. */
MUST_CHECK enum error_code server_apply(struct server *server, struct error *error);
/* Commit and carry out until nothing is left; a full disk is ERR_OK with server->full. */
MUST_CHECK enum error_code server_flush(struct server *server, struct error *error);
MUST_CHECK enum error_code server_control(struct server *server, uint64_t job,
                                          enum scheduler_control control, struct error *error);
/* Tell the scheduler what has been published. */
void server_take_published(struct server *server);
/* Take what concerns a job that is not in the ledger out of server->actions. */
void server_drop_actions_of(struct server *server, uint64_t job);

/* -- server_submit.c */
struct submission_file {
    const char *name; /* as in the job file */
    struct hash hash;
};
struct submission {
    const char *name; /* of the job file, for errors */
    const char *yaml;
    size_t yaml_length;
    struct submission_file *files; /* sorted by server_submit */
    size_t file_count;
    const char *key; /* the client's idempotency key; "": the document's hash */
    int priority;
};
struct submitted {
    uint64_t job;
    int videos;
    bool known;
    int warning_count;
    char warnings[PROTO_WARNINGS_MAX][PROTO_TEXT_BYTES];
    int note_count;
    char notes[PROTO_NOTES_MAX][PROTO_TEXT_BYTES];
};
MUST_CHECK enum error_code server_submit(struct server *server, struct submitted *out,
                                         struct submission *submission, struct error *error);

/* -- server_session.c */
struct session *session_of_peer(const struct server *server, uint64_t peer);
struct session *session_of_id(const struct server *server, uint64_t id);
struct session *session_of_nonce(const struct server *server, uint64_t nonce);
struct session *session_of_name(const struct server *server, const char *name);
struct session *session_add(struct server *server, uint64_t peer,
                            uint64_t nonce); /* NULL: memory */
void session_remove(struct server *server, struct session *session);
bool session_hold(struct session *session, const struct held *held);
const struct held *session_find_held(const struct session *session, uint64_t epoch);
void session_drop_held(struct session *session, uint64_t epoch);
void sessions_close(struct server *server);

/* -- server_worker.c */
void server_worker_message(struct server *server, uint64_t peer); /* server->in */
void server_send_lease(struct server *server, const struct lease *lease);
void server_send_revoke(struct server *server, uint64_t worker, uint64_t epoch);
void server_send_reply(struct server *server, uint64_t worker, uint64_t epoch,
                       enum error_code code);
void server_send_drain(struct server *server, const char *name, bool now_too);
/* Workers that something could not be sent to. */
void server_lose_unreachable(struct server *server);
/* The coordinator goes away. */
void server_dismiss_workers(struct server *server);

/* -- server_client.c, server_report.c */
void server_client_message(struct server *server, uint64_t peer); /* server->in */
void server_refuse(struct server *server, uint64_t peer, const struct error *error);
/* Fill server->out. */
MUST_CHECK enum error_code report_jobs(struct server *server, const vidloom_GetJobs *asked,
                                       struct error *error);
MUST_CHECK enum error_code report_videos(struct server *server, const vidloom_GetVideos *asked,
                                         struct error *error);
void report_workers(struct server *server, const vidloom_GetWorkers *asked);
MUST_CHECK enum error_code report_log(struct server *server, const vidloom_GetLog *asked,
                                      struct error *error);

/* -- server_changes.c */
void server_touch(struct server *server, uint64_t job, int video);
uint64_t server_revision_of(const struct server *server, uint64_t job, int video);
void changes_close(struct server *server);

/* -- server_files.c */
MUST_CHECK enum error_code server_output_path(const struct server *server,
                                              char out[FILE_PATH_BYTES],
                                              const struct job_output *output, struct error *error);
void server_folder_of(char out[FILE_PATH_BYTES], const char *path);
void server_remove_object(void *user, const struct hash *object); /* for ledger_collect */
bool names_add(struct name_list *list, const char *name);         /* false: memory */
void names_sort(struct name_list *list);
bool names_has(const struct name_list *list, const char *name); /* sorted */
/* Whether a path of the sorted list is `path`, in it, or what it is in; all are absolute. */
bool names_meet(const struct name_list *list, const char *path);
void names_close(struct name_list *list);

#endif
