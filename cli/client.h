/* The client: what the verbs say to a coordinator, by the wire of proto/. The same code speaks to a
 * coordinator in this process (inproc, `vidloom run`) and to one over TCP.
 *
 * Every call sends a request and waits for its answer, asking again after a while (every request
 * may be repeated without harm), until `timeout_ns` has passed without one: ERR_NETWORK, with what
 * to do. A coordinator that restarts within that time is not noticed. A refusal is returned with
 * the coordinator's own code and words.
 *
 * Callbacks are called in the caller's thread, between messages; what they are given lives until
 * they return. A callback that returns false ends the call, which then returns ERR_OK. They must
 * not call the client. One thread at a time. */
#ifndef VIDLOOM_CLI_CLIENT_H
#define VIDLOOM_CLI_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/quality.h"
#include "coordinator/job.h"
#include "coordinator/ledger.h"
#include "coordinator/limits.h"
#include "coordinator/plan.h"
#include "coordinator/scheduler.h"
#include "proto/limits.h"

#define CLIENT_DETAIL_BYTES 512

struct client;
struct endpoint_context; /* proto/endpoint.h */

struct client_config {
    const char *address; /* a client endpoint: "tcp://127.0.0.1:7310", "inproc://NAME" */
    struct endpoint_context *context; /* needed for inproc, stays the caller's. NULL: our own */
    int64_t timeout_ns;               /* 0: 10 s. Below 0: for ever, asking once: inproc, where
                                         nothing gets lost and a failing coordinator is seen */
    /* May be NULL. Every call returns ERR_INTERRUPTED soon after it is set; the job goes on. */
    const atomic_bool *cancel;
};

/* Connects in the background: a coordinator that is not there is noticed by the first request.
 * Errors: ERR_USAGE (not an address), ERR_MEMORY. */
MUST_CHECK enum error_code client_open(struct client **out, const struct client_config *config,
                                       struct error *error);
void client_close(struct client **out); /* NULL is fine */

/* -- submit ------------------------------------------------------------------------------------ */

struct client_submission {
    const char *path; /* of the job file; the names in it are relative to its folder */
    int priority;     /* higher first; 0: usual */
    /* Whether the file is a picture that a worker can read; may be NULL: not looked at. */
    enum error_code (*check_image)(const char *path, struct error *error);
};
struct client_submitted {
    uint64_t job;
    int videos;
    bool known; /* the coordinator had it already: it is resumed or retried, if it was not done */
    int warning_count; /* what of it may not be meant (job_next_warning) */
    char warnings[PROTO_WARNINGS_MAX][PROTO_TEXT_BYTES];
    int note_count; /* what its plan leaves out (plan_next_note), with the video */
    char notes[PROTO_NOTES_MAX][PROTO_TEXT_BYTES];
};
/* Read the job file and what it names (prompt lists, images), upload what the coordinator does not
 * have, submit. Mistakes in the job file are found here first, with file:line:column; those that
 * only the model's owner can know, by the coordinator. This machine needs no model. When it returns
 * ERR_OK the job is on the coordinator's disk. When it fails, nothing was accepted; after
 * ERR_NETWORK or ERR_INTERRUPTED it may have been, and submitting again is the same job.
 * Errors: file_read's, job_parse's, ERR_FULL, ERR_LIMIT, ERR_NETWORK, ERR_INTERRUPTED. */
MUST_CHECK enum error_code client_submit(struct client *client, struct client_submitted *out,
                                         const struct client_submission *submission,
                                         struct error *error);

/* -- status ------------------------------------------------------------------------------------ */

struct client_job {
    uint64_t id;
    char name[LIMIT_NAME_BYTES + 1];
    enum job_state state;
    int priority;
    int64_t submitted_ns; /* wall clock */
    int videos, by_state[VIDEO_STATE_COUNT];
    int64_t windows, windows_done; /* of all videos */
    int64_t frames, frames_done;
    double seconds_left; /* -1: not known yet */
};
struct client_video {
    uint64_t job;
    int video; /* index in the job */
    char name[LIMIT_NAME_BYTES + 1];
    char path[LIMIT_PATH_BYTES + 1]; /* where it is or will be published, as in the job file */
    enum video_state state;
    enum error_code code; /* why it failed; ERR_OK otherwise */
    char detail[CLIENT_DETAIL_BYTES];
    double length; /* of the video, s */
    int windows, windows_done;
    enum plan_kind kind; /* what runs now; PLAN_KIND_COUNT: nothing */
    int index, step, steps;
    int attempt; /* from 1, of the running task */
    char worker[LIMIT_WORKER_BYTES], class[LIMIT_CLASS_BYTES];
    double seconds;      /* of work so far */
    double seconds_left; /* -1: not known */
    struct quality quality;
};
struct client_worker {
    char name[LIMIT_WORKER_BYTES], class[LIMIT_CLASS_BYTES];
    char device[128]; /* for people */
    unsigned kinds;   /* PLAN_KIND_BIT */
    int slots, leases;
    bool draining, stopped;
    int64_t done, failed;
    double seconds_silent;
    uint64_t job; /* what it works on; 0: nothing */
    int video;
    enum plan_kind kind;
    int index;
};

/* A job by its number ("12", "#12") or its name (the newest of that name). ERR_MISSING, ERR_USAGE
 * (neither). */
MUST_CHECK enum error_code client_find_job(struct client *client, struct client_job *out,
                                           const char *name, struct error *error);
/* ERR_MISSING: there is no such job. */
MUST_CHECK enum error_code client_job(struct client *client, struct client_job *out, uint64_t job,
                                      struct error *error);
/* Every job, in order of submission. */
MUST_CHECK enum error_code client_jobs(struct client *client,
                                       bool (*visit)(void *user, const struct client_job *job),
                                       void *user, struct error *error);
/* Every video of a job, in its order. ERR_MISSING. */
MUST_CHECK enum error_code client_videos(struct client *client, uint64_t job,
                                         bool (*visit)(void *user,
                                                       const struct client_video *video),
                                         void *user, struct error *error);
MUST_CHECK enum error_code
client_workers(struct client *client, bool (*visit)(void *user, const struct client_worker *worker),
               void *user, struct error *error);

/* -- follow ------------------------------------------------------------------------------------ */

struct client_follower {
    void *user;
    /* Every video once at the start, in order, then each that changed. May be NULL. */
    bool (*video)(void *user, const struct client_video *video);
    /* After those, and at least every half second, so that a bar can move. May be NULL. */
    bool (*job)(void *user, const struct client_job *job);
};
/* Until the job is done, failed or canceled, a callback returns false, or *cancel. *out (may be
 * NULL) is the job as it was last seen: its state says how it ended. While the coordinator does not
 * answer it goes on asking for timeout_ns, then ERR_NETWORK: the job itself goes on over there. */
MUST_CHECK enum error_code client_follow(struct client *client, struct client_job *out,
                                         uint64_t job, const struct client_follower *follower,
                                         struct error *error);

/* -- control ----------------------------------------------------------------------------------- */

/* See scheduler.h. ERR_MISSING, ERR_USAGE (does not apply in the job's state: says why), ERR_FULL.
 */
MUST_CHECK enum error_code client_control(struct client *client, uint64_t job,
                                          enum scheduler_control control, struct error *error);
/* No more leases for the worker of that name; `now_too`: what it has is taken from it. ERR_MISSING.
 */
MUST_CHECK enum error_code client_drain(struct client *client, const char *worker, bool now_too,
                                        struct error *error);

/* -- logs -------------------------------------------------------------------------------------- */

struct client_log {
    uint64_t sequence; /* of an event; 0 for an attempt */
    int64_t wall_ns;
    uint64_t job; /* 0: none */
    int video;    /* -1: none */
    bool attempt; /* what follows is there for an attempt; else only `text` */
    enum plan_kind kind;
    int index;
    enum error_code code; /* ERR_OK: it succeeded */
    double seconds;
    bool measured; /* a decode that succeeded */
    struct measures measures;
    char worker[LIMIT_WORKER_BYTES], class[LIMIT_CLASS_BYTES];
    char text[CLIENT_DETAIL_BYTES]; /* the event, or the attempt's error; may be "" */
};
struct client_log_query {
    uint64_t job;   /* 0: of all, events only */
    int video;      /* -1: of all */
    uint64_t after; /* events with a higher sequence only */
    bool attempts;  /* the attempts of the job too, before the events, oldest first */
    int limit;      /* at most so many of each; 0: 1000 */
};
MUST_CHECK enum error_code client_logs(struct client *client, const struct client_log_query *query,
                                       bool (*visit)(void *user, const struct client_log *log),
                                       void *user, struct error *error);

#endif
