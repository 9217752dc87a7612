/* The world of the simulation: what its parts share. simulation.c says what it is for.
 *
 * One thread. Every choice is rolled from the world's dice, so a seed is a history: the order of
 * the rolls is part of it. What must not be ends the test (SIM_CHECK). */
#ifndef VIDLOOM_TESTS_SIMULATION_WORLD_H
#define VIDLOOM_TESTS_SIMULATION_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "coordinator/scheduler.h"

enum {
    WORKERS = 6,
    WORKS = 6, /* leases that a worker can hold: more than it asks for, since a revocation may come
                  after the lease that takes its place */
    MESSAGES = 256,
    FILES = 512,
    JOBS = 4,
    LOST = 64,
    STEPS = 500,        /* events while faults happen */
    STEPS_CALM = 60000, /* events until the world must be at rest */
};

struct dice {
    uint64_t seed, at;
};

enum message_kind {
    TO_HELLO,
    TO_REQUEST,
    TO_PROGRESS,
    TO_RESULT,
    TO_BYE,
    FROM_LEASE,
    FROM_REVOKE,
    FROM_REPLY
};

/* A lease as the worker keeps it. */
struct work {
    bool held;
    uint64_t epoch;
    enum plan_kind kind;
    struct hash key;
    uint64_t job;
    int video;
    bool has_tail;
    char staged[256];
    struct hash inputs[80];
    int input_count;
    int left; /* turns until it is done */
};

struct message {
    bool there;
    enum message_kind kind;
    int worker;       /* index */
    uint64_t session; /* of the worker when it was sent, or is sent to */
    int64_t at;       /* when it arrives */
    uint64_t epoch;
    int slots;
    struct work work;
    struct scheduler_outcome outcome;
    enum error_code code;
};

struct sim_worker {
    bool alive, broken; /* broken: never tells its progress (a stall) */
    uint64_t session;   /* 0: not said hello to this coordinator */
    int class, slots;
    unsigned kinds;
    struct work works[WORKS];
    int64_t said; /* when it last said hello or asked */
};

struct sim_file {
    char path[256];
    struct hash hash;
    uint64_t epoch;
};

struct sim_job {
    uint64_t id;        /* 0: not acknowledged yet */
    uint64_t submitted; /* its number, whether or not anyone was told */
    int videos;
    char submission[16];
    bool canceled, seen_final[8];
    int published[8];
    struct hash segments[8][2]; /* of each video's mux, on each class; zeros: none yet */
};

enum mode { QUIET, LOSSY, WILD };

enum { EPOCHS = 4096 };

struct epochs {
    uint64_t items[EPOCHS];
    int count;
};

struct world {
    struct dice dice;
    bool calm, loud;
    bool class_gone; /* in the calm, the second class has no worker any more */
    enum mode mode;
    int64_t now;
    struct ledger *ledger;
    struct scheduler *scheduler;
    struct scheduler_actions actions;
    uint64_t next_session;
    struct sim_worker workers[WORKERS];
    struct message messages[MESSAGES];
    struct sim_file files[FILES];
    int file_count;
    struct hash lost[LOST]; /* objects that have vanished from the store */
    int lost_count;
    struct sim_job jobs[JOBS];
    struct job *templates[JOBS];
    char *documents[JOBS];
    uint64_t last_epoch;
    struct epochs reported; /* by workers, as done */
    struct epochs accepted; /* by this coordinator, since it started */
    int restarts, leases, refused, published, failures;
};

extern const char *const sim_classes[2];

#define SIM_CHECK(world, condition, ...)                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "seed %llu: ", (unsigned long long)(world)->dice.seed);                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* -- world.c: dice, the log, the store, the file system, the network -------------------------- */

uint32_t roll(struct dice *dice, uint32_t bound);                               /* 0 to bound - 1 */
void say(const struct world *world, const char *format, ...) PRINTF_LIKE(2, 3); /* if loud */

void epochs_add(struct world *world, struct epochs *epochs, uint64_t epoch);
bool epochs_have(const struct epochs *epochs, uint64_t epoch);

/* The artifact that a task makes on a class: honest workers always make this one. */
void artifact(struct hash *out, const struct hash *key, int class, const char *name);
/* Objects that have vanished from the store, until someone makes them again. */
bool is_lost(const struct world *world, const struct hash *object);
void found_again(struct world *world, const struct hash *object);

struct sim_file *find_file(struct world *world, const char *path); /* NULL: there is none */
void put_file(struct world *world, const char *path, const struct hash *hash, uint64_t epoch);
void remove_file(struct world *world, const char *path); /* nothing, where there is none */

/* Lost, doubled or late, as the mode says. */
void send_message(struct world *world, const struct message *message);

/* -- coordinator.c: the scheduler and its edge ------------------------------------------------ */

/* Rebuilds the scheduler from what is committed. */
void restart(struct world *world);
/* Commit, then carry out; killed in between, now and then. False: the coordinator has died. */
bool carry_out(struct world *world);
/* A message arrives at the coordinator. */
void deliver_up(struct world *world, const struct message *message);

/* -- workers.c -------------------------------------------------------------------------------- */

/* A message arrives at a worker. */
void deliver_down(struct world *world, const struct message *message);
/* One worker's turn: it starts, dies, stalls, or goes on with its work. */
void worker_turn(struct world *world, int index);

/* -- client.c --------------------------------------------------------------------------------- */

/* The same texts and seeds now and then, so that tasks and whole chains are shared. */
void make_job(struct world *world, int index);
/* A client submits, and again until it is acknowledged; then pauses, cancels, retries. False: the
 * coordinator has died. */
bool client_turn(struct world *world);

#endif
