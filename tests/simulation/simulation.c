/* The scheduler under a seeded simulation of faults.
 *
 * A world of a ledger (what is committed), files (staged and final), a network (messages that are
 * lost, repeated, delayed and so reordered), workers (that work, fail, stall, die, lie, come back
 * from the dead), and a coordinator (the scheduler and its uncommitted batch), which is killed and
 * rebuilt from the ledger at any moment, between any two actions. The clock jumps. The ledger's
 * disk is full now and then. After a while the faults end, and the world must come to rest.
 *
 * What must hold, at every moment:
 *   - a final file is whole, of the right task, and published while its video says so;
 *   - the results of stale leases are refused: what is committed is what the lease that was current
 *     has made;
 *   - a job that was acknowledged is there after every restart.
 *   - a video's mux has the same segments whenever it is given out, on one class: which draws of
 * its windows are taken depends on nothing but what they were measured to be;
 *   - no epoch is given out twice, and a result that was accepted is acknowledged when repeated.
 * And at the end: every video is published, once, or has failed with a reason, or was canceled;
 * every job has ended; nothing is leased.
 *
 * A quarter of the seeds are quiet: the coordinator is killed, the clock jumps, objects vanish, the
 * ledger is full, but workers and network do their part. Then one attempt must do, and nothing may
 * fail. Another quarter have a bad network too, and there, too, everything must be made in the end.
 *
 * (seed, code) reproduces a history: nothing here looks at a clock or an address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "coordinator/scheduler.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS_BY_DEFAULT = 4000 }; /* these are five times as slow */
#else
enum { SEEDS_BY_DEFAULT = 20000 };
#endif

enum {
    WORKERS = 6,
    WORKS = 6, /* leases that a worker can hold: more than it asks for, since a revocation may come
                  after the lease that takes its place */
    MESSAGES = 256,
    FILES = 512,
    JOBS = 4,
    STEPS = 500,        /* events while faults happen */
    STEPS_CALM = 60000, /* events until the world must be at rest */
};

/* -- dice ----------------------------------------------------------------------------------------
 */

struct dice {
    uint64_t seed, at;
};

static uint32_t roll(struct dice *dice, uint32_t bound) {
    return random_below(bound, dice->seed, 7, dice->at++);
}

/* -- the world -----------------------------------------------------------------------------------
 */

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
    struct hash lost[64]; /* objects that have vanished from the store */
    int lost_count;
    struct sim_job jobs[JOBS];
    struct job *templates[JOBS];
    char *documents[JOBS];
    uint64_t last_epoch;
    struct epochs reported; /* by workers, as done */
    struct epochs accepted; /* by this coordinator, since it started */
    int restarts, leases, refused, published, failures;
};

static const char *const classes[2] = {"cpu-a", "gpu-b"};

#define SIM_CHECK(world, condition, ...)                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "seed %llu: ", (unsigned long long)(world)->dice.seed);                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static void say(const struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
static void say(const struct world *world, const char *format, ...) {
    if (!world->loud)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%8.3f ", (double)world->now / 1e9);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

static void epochs_add(struct world *world, struct epochs *epochs, uint64_t epoch) {
    SIM_CHECK(world, epochs->count < EPOCHS, "too many epochs");
    epochs->items[epochs->count++] = epoch;
}
static bool epochs_have(const struct epochs *epochs, uint64_t epoch) {
    for (int i = epochs->count; i > 0; i--)
        if (epochs->items[i - 1] == epoch)
            return true;
    return false;
}

/* -- what the store and the file system would say --------------------------------------------- */

/* The artifact that a task makes on a class: honest workers always make this one. */
static void artifact(struct hash *out, const struct hash *key, int class, const char *name) {
    struct hash_state state;
    hash_start(&state);
    hash_add(&state, key->bytes, HASH_BYTES);
    hash_add_u64(&state, (uint64_t) class);
    hash_add_text(&state, name);
    hash_finish(&state, out);
}

static bool is_lost(const struct world *world, const struct hash *object) {
    for (int i = 0; i < world->lost_count; i++)
        if (hash_equal(&world->lost[i], object))
            return true;
    return false;
}

static void found_again(struct world *world, const struct hash *object) {
    for (int i = 0; i < world->lost_count; i++)
        if (hash_equal(&world->lost[i], object)) {
            world->lost[i] = world->lost[--world->lost_count];
            return;
        }
}

static struct sim_file *find_file(struct world *world, const char *path) {
    for (int i = 0; i < world->file_count; i++)
        if (!strcmp(world->files[i].path, path))
            return &world->files[i];
    return NULL;
}

static void put_file(struct world *world, const char *path, const struct hash *hash,
                     uint64_t epoch) {
    struct sim_file *file = find_file(world, path);
    if (!file) {
        SIM_CHECK(world, world->file_count < FILES, "too many files are left over");
        file = &world->files[world->file_count++];
    }
    snprintf(file->path, sizeof file->path, "%s", path);
    file->hash = *hash;
    file->epoch = epoch;
}

static void remove_file(struct world *world, const char *path) {
    struct sim_file *file = find_file(world, path);
    if (file)
        *file = world->files[--world->file_count];
}

static bool find_result(void *user, struct task_result *out, const struct hash *key,
                        const char *class) {
    struct world *world = user;
    bool found = false;
    return ledger_find_result(world->ledger, out, &found, key, class, NULL) == ERR_OK && found;
}

static bool is_published(void *user, const char *path, const struct hash *key) {
    struct world *world = user;
    struct ledger_publication row;
    struct buffer texts = {0};
    bool found = false;
    bool is = ledger_find_publication(world->ledger, &row, &found, path, &texts, NULL) == ERR_OK &&
              found && row.done && hash_equal(&row.key, key) && find_file(world, path);
    buffer_close(&texts);
    return is;
}

/* -- network ---------------------------------------------------------------------------------- */

static void send_message(struct world *world, const struct message *message) {
    int copies = 1;
    if (!world->calm && world->mode != QUIET) {
        uint32_t fate = roll(&world->dice, 100);
        copies = fate < 4 ? 0 : fate < 8 ? 2 : 1;
    }
    for (int copy = 0; copy < copies; copy++)
        for (int i = 0; i < MESSAGES; i++)
            if (!world->messages[i].there) {
                world->messages[i] = *message;
                world->messages[i].there = true;
                int64_t delay = roll(&world->dice, 20);
                if (!world->calm && world->mode != QUIET && roll(&world->dice, 50) == 0)
                    delay = roll(&world->dice, 60000); /* up to a minute: past any lease */
                world->messages[i].at = world->now + delay * CLOCK_MS;
                break;
            }
}

/* -- the coordinator -------------------------------------------------------------------------- */

static enum error_code load_job(void *user, const struct ledger_job *row, struct error *error) {
    struct world *world = user;
    struct job *job;
    enum error_code code = job_load(&job, row->document, row->document_length, error);
    if (!code)
        code = scheduler_restore_job(world->scheduler, &job, row, error);
    return code;
}
static enum error_code load_video(void *user, const struct ledger_video *row, struct error *error) {
    return scheduler_restore_video(((struct world *)user)->scheduler, row, error);
}
static enum error_code load_publication(void *user, const struct ledger_publication *row,
                                        struct error *error) {
    return scheduler_restore_publication(((struct world *)user)->scheduler, row, error);
}

static void restart(struct world *world) {
    struct error error = {0};
    scheduler_close(&world->scheduler);
    scheduler_actions_clear(&world->actions);
    ledger_memory_reopen(world->ledger);
    world->restarts++;
    world->accepted.count = 0;
    say(world, "-- coordinator starts, leader %llu",
        (unsigned long long)ledger_leader(world->ledger));
    struct scheduler_config config = {
        .leader = ledger_leader(world->ledger),
        .lease_ns = (world->mode == QUIET ? 60 : 10) * CLOCK_S,
        .worker_ns = (world->mode == QUIET ? 60 : 12) * CLOCK_S,
        .attempts_max = world->mode == QUIET   ? 1
                        : world->mode == LOSSY ? 1000
                                               : 3,
        .deaths_max = world->mode == QUIET   ? 1
                      : world->mode == LOSSY ? 1000
                                             : 3,
        .class_absent_ns = 20 * CLOCK_S,
        .output_root = "root",
        .user = world,
        .find_result = find_result,
        .is_published = is_published,
    };
    struct ledger_visitor visitor = {
        .user = world, .job = load_job, .video = load_video, .publication = load_publication};
    enum error_code code = scheduler_open(&world->scheduler, &config, &error);
    if (!code)
        code = ledger_load(world->ledger, &visitor, &error);
    SIM_CHECK(world, !code, "restart: %s", error.detail);
    scheduler_start(world->scheduler, world->now, &world->actions);
    /* What was acknowledged is there. */
    for (int i = 0; i < JOBS; i++) {
        struct job_status status;
        SIM_CHECK(world,
                  !world->jobs[i].id ||
                      scheduler_job_status(world->scheduler, world->jobs[i].id, &status),
                  "job %d was acknowledged and is lost", i);
    }
}

static void check_segments(struct world *world, const struct lease *lease) {
    static const struct hash none;
    struct hash_state state;
    struct hash all;
    int class = strcmp(lease->class, classes[0]) != 0;
    hash_start(&state);
    for (int i = 0; i < lease->input_count; i++)
        hash_add(&state, lease->inputs[i].object.hash.bytes, HASH_BYTES);
    hash_finish(&state, &all);
    for (int i = 0; i < JOBS; i++) {
        struct hash *known = &world->jobs[i].segments[lease->video][class];
        if (world->jobs[i].submitted != lease->job)
            continue;
        SIM_CHECK(world, hash_equal(known, &none) || hash_equal(known, &all),
                  "video %d of job %llu is muxed from other segments than before", lease->video,
                  (unsigned long long)lease->job);
        *known = all;
    }
}

/* Commit, then carry out; killed in between, now and then. False: the coordinator has died. */
static bool carry_out(struct world *world) {
    struct scheduler_actions *actions = &world->actions;
    /* What carrying out brings about (scheduler_published) adds further actions. */
    while (actions->count) {
        SIM_CHECK(world, !actions->failed, "no memory");
        if (!world->calm && roll(&world->dice, 400) == 0) {
            say(world, "killed before a commit");
            return false;
        }
        /* The disk is full: nothing is carried out, and what comes is added to the batch. */
        if (!world->calm && roll(&world->dice, 60) == 0)
            return true;
        struct ledger_record *records = malloc(actions->count * sizeof *records);
        size_t count = 0;
        for (size_t i = 0; i < actions->count; i++)
            if (actions->items[i].kind == ACTION_RECORD)
                records[count++] = actions->items[i].record;
        struct error error = {0};
        enum error_code code = ledger_apply(world->ledger, records, count, &error);
        SIM_CHECK(world, !code, "commit: %s", error.detail);
        free(records);
        struct scheduler_actions batch = *actions;
        *actions = (struct scheduler_actions){0};
        bool alive = true;
        for (size_t i = 0; i < batch.count && alive; i++) {
            const struct scheduler_action *action = &batch.items[i];
            if (!world->calm && roll(&world->dice, 600) == 0) {
                say(world, "killed between two actions");
                alive = false;
                break;
            }
            switch (action->kind) {
            case ACTION_RECORD:
                if (action->record.kind == LEDGER_EVENT)
                    say(world, "event: %s", action->record.event.text);
                if (action->record.kind == LEDGER_ATTEMPT && !action->record.attempt.code) {
                    uint64_t epoch = action->record.attempt.epoch;
                    SIM_CHECK(world, epochs_have(&world->reported, epoch),
                              "a lease is done that no worker has reported");
                    epochs_add(world, &world->accepted, epoch);
                }
                break;
            case ACTION_LEASE: {
                const struct lease *lease = &action->lease;
                struct message message = {.kind = FROM_LEASE, .session = lease->worker};
                struct work *work = &message.work;
                world->leases++;
                SIM_CHECK(world, lease->epoch > world->last_epoch, "an epoch is given out twice");
                world->last_epoch = lease->epoch;
                work->held = true;
                work->epoch = lease->epoch;
                work->kind = lease->kind;
                work->key = lease->key;
                work->job = lease->job;
                work->video = lease->video;
                work->has_tail = strstr(lease->parameters, "\"tail\":0") == NULL;
                snprintf(work->staged, sizeof work->staged, "%s",
                         lease->staged ? lease->staged : "");
                if (lease->kind == PLAN_MUX)
                    check_segments(world, lease);
                SIM_CHECK(world, lease->input_count <= 80, "too many inputs");
                for (int j = 0; j < lease->input_count; j++)
                    work->inputs[work->input_count++] = lease->inputs[j].object.hash;
                for (int j = 0; j < WORKERS; j++)
                    if (world->workers[j].session == lease->worker)
                        message.worker = j;
                send_message(world, &message);
                break;
            }
            case ACTION_REVOKE:
            case ACTION_REPLY: {
                struct message message = {.kind = action->kind == ACTION_REVOKE ? FROM_REVOKE
                                                                                : FROM_REPLY,
                                          .session = action->worker.worker,
                                          .epoch = action->worker.epoch,
                                          .code = action->worker.code};
                for (int j = 0; j < WORKERS; j++)
                    if (world->workers[j].session == action->worker.worker)
                        message.worker = j;
                if (action->kind == ACTION_REPLY && action->worker.code == ERR_STALE) {
                    world->refused++;
                    SIM_CHECK(world, !epochs_have(&world->accepted, action->worker.epoch),
                              "a result was accepted, and refused when repeated");
                }
                send_message(world, &message);
                break;
            }
            case ACTION_PUBLISH: {
                const struct ledger_publication *row = &action->publish.publication;
                struct sim_file *staged = find_file(world, row->staged);
                struct sim_file *final = find_file(world, row->path);
                enum error_code outcome = ERR_MISSING;
                if (staged) {
                    struct hash hash = staged->hash;
                    uint64_t epoch = staged->epoch;
                    SIM_CHECK(world, hash_equal(&hash, &row->hash),
                              "the staged file is not the one accepted");
                    struct sim_job *job = NULL;
                    for (int j = 0; j < JOBS; j++)
                        if (world->jobs[j].submitted == row->job)
                            job = &world->jobs[j];
                    if (job)
                        job->published[row->video]++;
                    remove_file(world, row->staged);
                    put_file(world, row->path, &hash, epoch);
                    world->published++;
                    outcome = ERR_OK;
                    say(world, "published %s", row->path);
                } else if (final && hash_equal(&final->hash, &row->hash)) {
                    outcome = ERR_OK;
                }
                if (!world->calm && outcome == ERR_OK && roll(&world->dice, 30) == 0) {
                    say(world, "killed after a rename");
                    alive = false;
                    break;
                }
                scheduler_published(world->scheduler, row->job, row->video, outcome, "", 0,
                                    world->now, actions);
                break;
            }
            case ACTION_REMOVE_STAGED:
                remove_file(world, action->path);
                break;
            case ACTION_VIDEO:
                if (video_state_is_final((enum video_state)action->news.state) &&
                    action->news.state == VIDEO_FAILED)
                    SIM_CHECK(world, *action->news.detail, "a video failed without a reason");
                break;
            case ACTION_JOB:
                break;
            }
        }
        scheduler_actions_close(&batch);
        if (!alive)
            return false;
    }
    return true;
}

/* A message arrives at the coordinator. */
static void deliver_up(struct world *world, const struct message *message) {
    struct scheduler *scheduler = world->scheduler;
    struct scheduler_actions *actions = &world->actions;
    struct error error;
    const struct sim_worker *worker = &world->workers[message->worker];
    switch (message->kind) {
    case TO_HELLO: {
        char name[16];
        snprintf(name, sizeof name, "w%d", message->worker);
        enum error_code code =
            scheduler_worker_hello(scheduler, message->session, name, classes[worker->class],
                                   worker->kinds, world->now, actions, &error);
        SIM_CHECK(world, !code, "hello: %s", error.detail);
        break;
    }
    case TO_REQUEST:
        scheduler_worker_request(scheduler, message->session, message->slots, world->now, actions);
        break;
    case TO_PROGRESS:
        scheduler_worker_progress(scheduler, message->session, message->epoch, 1, 0.5, world->now,
                                  actions);
        break;
    case TO_RESULT:
        if (!message->outcome.code && !epochs_have(&world->reported, message->outcome.epoch))
            epochs_add(world, &world->reported, message->outcome.epoch);
        scheduler_worker_result(scheduler, message->session, &message->outcome, world->now,
                                actions);
        break;
    default:
        scheduler_worker_bye(scheduler, message->session, world->now, actions);
    }
}

/* -- workers ---------------------------------------------------------------------------------- */

static void deliver_down(struct world *world, const struct message *message) {
    struct sim_worker *worker = &world->workers[message->worker];
    if (!worker->alive || worker->session != message->session)
        return;
    for (int i = 0; i < WORKS; i++) {
        struct work *work = &worker->works[i];
        if (message->kind == FROM_LEASE) {
            if (work->held && work->epoch == message->work.epoch)
                return; /* a repetition */
            if (work->held && work->epoch >> 32 < message->work.epoch >> 32) {
                remove_file(world, work->staged); /* of a coordinator that is gone */
                work->held = false;
            }
        } else if (work->held && work->epoch == message->epoch) {
            if (message->kind == FROM_REVOKE || message->code == ERR_STALE)
                remove_file(world, work->staged);
            work->held = false;
            return;
        }
    }
    for (int i = 0; i < WORKS && message->kind == FROM_LEASE; i++)
        if (!worker->works[i].held) {
            worker->works[i] = message->work;
            worker->works[i].left = 1 + (int)roll(&world->dice, 3);
            return;
        }
}

static void worker_result(struct world *world, int index, struct work *work) {
    struct sim_worker *worker = &world->workers[index];
    struct message message = {
        .kind = TO_RESULT, .worker = index, .session = worker->session, .epoch = work->epoch};
    struct scheduler_outcome *outcome = &message.outcome;
    static const char *const names[PLAN_KIND_COUNT] = {"rows",    "frames",  "frames",
                                                       "latents", "segment", "file"};
    outcome->epoch = work->epoch;
    outcome->key = work->key;
    for (int i = 0; i < work->input_count; i++)
        if (is_lost(world, &work->inputs[i])) {
            outcome->code = ERR_MISSING;
            outcome->detail = "an object is gone";
            outcome->object_missing = true;
            outcome->object = work->inputs[i];
            send_message(world, &message);
            return;
        }
    if (!world->calm && world->mode == WILD && roll(&world->dice, 12) == 0) {
        static const enum error_code codes[] = {ERR_MEMORY,      ERR_IO,     ERR_FULL,   ERR_DEVICE,
                                                ERR_INTERRUPTED, ERR_FORMAT, ERR_MISSING};
        outcome->code = codes[roll(&world->dice, 7)];
        outcome->detail = "a simulated failure";
        world->failures++;
        if (error_class_of(outcome->code) == ERROR_CLASS_STOP_WORKER)
            worker->alive = false; /* and comes back as a new session */
        send_message(world, &message);
        return;
    }
    int class = worker->class;
    outcome->result.output_count = 1;
    struct task_output *output = &outcome->result.outputs[0];
    snprintf(output->name, sizeof output->name, "%s", names[work->kind]);
    artifact(&output->hash, &work->key, class, output->name);
    output->bytes = 1000;
    found_again(world, &output->hash);
    if (work->kind == PLAN_DECODE) {
        outcome->result.measured = true;
        outcome->result.measures.colour = work->key.bytes[class] / 255.0;
        outcome->result.measures.seam = work->key.bytes[2] / 255.0;
    }
    if (work->kind == PLAN_DECODE && work->has_tail) {
        outcome->result.output_count = 2;
        output++;
        snprintf(output->name, sizeof output->name, "frames");
        artifact(&output->hash, &work->key, class, "frames");
        output->bytes = 1000;
        found_again(world, &output->hash);
    }
    if (work->kind == PLAN_MUX) {
        /* Files differ by epoch here, so that publishing another one than was accepted shows. */
        struct hash_state state;
        hash_start(&state);
        hash_add_u64(&state, work->epoch);
        hash_finish(&state, &outcome->result.outputs[0].hash);
        put_file(world, work->staged, &outcome->result.outputs[0].hash, work->epoch);
    }
    if (!world->calm && world->mode == WILD && roll(&world->dice, 200) == 0)
        outcome->result.output_count = 0; /* a liar */
    send_message(world, &message);
}

/* One worker's turn. */
static void worker_turn(struct world *world, int index) {
    struct sim_worker *worker = &world->workers[index];
    if (world->calm && world->class_gone && worker->class == 1) {
        worker->alive = false;
        return;
    }
    if (!worker->alive) {
        if (world->calm || roll(&world->dice, 8) == 0) {
            memset(worker->works, 0, sizeof worker->works);
            worker->alive = true;
            worker->broken = false;
            worker->session = ++world->next_session;
            worker->said = 0;
            say(world, "worker %d starts, session %llu", index,
                (unsigned long long)worker->session);
        }
        return;
    }
    if (!world->calm && world->mode == WILD) {
        uint32_t fate = roll(&world->dice, 200);
        if (fate < 3) { /* kill -9: nothing is said; files stay as they are */
            say(world, "worker %d dies", index);
            worker->alive = false;
            if (roll(&world->dice, 2))
                scheduler_worker_lost(world->scheduler, worker->session, 0, world->now,
                                      &world->actions);
            return;
        }
        if (fate < 5) {
            struct message message = {.kind = TO_BYE, .worker = index, .session = worker->session};
            say(world, "worker %d says bye", index);
            send_message(world, &message);
            worker->alive = false;
            return;
        }
        if (fate < 7)
            worker->broken = !worker->broken; /* stalls, or comes back from the dead */
    } else if (worker->broken) {
        worker->alive = false; /* someone restarts it */
        scheduler_worker_lost(world->scheduler, worker->session, 0, world->now, &world->actions);
        return;
    }
    if (worker->broken)
        return;
    /* Now and then it says who it is and what it can take; that also finds a coordinator that has
     * restarted and knows it no more. */
    if (world->now - worker->said > 2 * CLOCK_S || !worker->said) {
        struct message hello = {.kind = TO_HELLO, .worker = index, .session = worker->session};
        send_message(world, &hello);
        struct message request = {.kind = TO_REQUEST,
                                  .worker = index,
                                  .session = worker->session,
                                  .slots = worker->slots};
        send_message(world, &request);
        worker->said = world->now ? world->now : 1;
    }
    for (int i = 0; i < WORKS; i++) {
        struct work *work = &worker->works[i];
        if (!work->held)
            continue;
        if (work->left > 0) {
            work->left--;
            struct message progress = {.kind = TO_PROGRESS,
                                       .worker = index,
                                       .session = worker->session,
                                       .epoch = work->epoch};
            send_message(world, &progress);
        } else {
            worker_result(world, index, work); /* and again, until it is answered */
            work->left = 4;
        }
    }
}

/* -- jobs
 * -------------------------------------------------------------------------------------------------
 */

static enum error_code sim_model(void *user, struct model_facts *out, const char *spec,
                                 struct error *error) {
    *out = (struct model_facts){.family = "pocket",
                                .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME |
                                             MODEL_CAN_WINDOW | MODEL_CAN_VAE,
                                .size_multiple = 16,
                                .size_min = 64,
                                .size_max = 512,
                                .width = 160,
                                .height = 96,
                                .fps = 16,
                                .window_frames = 17,
                                .overlaps = {1, 5},
                                .overlap_count = 2,
                                .sampler = JOB_SAMPLER_EULER,
                                .steps = 4,
                                .guidance = 1,
                                .shift = 3};
    hash_of(&out->hash, spec, strlen(spec));
    return ERR_OK;
}

/* The same texts and seeds now and then, so that tasks and whole chains are shared. */
static void make_job(struct world *world, int index) {
    struct buffer text = {0};
    struct error error = {0};
    struct job_resolver resolver = {.read_model = sim_model};
    int videos = 1 + (int)roll(&world->dice, 4);
    buffer_printf(&text, "job: j%d\nmodel: pocket\nvideos:\n", index);
    for (int i = 0; i < videos; i++)
        buffer_printf(&text,
                      "  - {name: v%d, prompt: a p%u, seed: %u, frames: %u, guidance: %u, "
                      "limits: {drift: 0.5, seam: 0.7, redraws: %u}}\n",
                      i, roll(&world->dice, 2), roll(&world->dice, 2), 1 + roll(&world->dice, 60),
                      1 + roll(&world->dice, 2), roll(&world->dice, 4));
    enum error_code code =
        job_parse(&world->templates[index], "j.yaml", text.data, text.length, &resolver, &error);
    SIM_CHECK(world, !code, "job: %s", error.detail);
    buffer_close(&text);
    struct buffer document = {0};
    job_write(&document, world->templates[index]);
    world->documents[index] = buffer_take(&document);
    world->jobs[index].videos = videos;
    snprintf(world->jobs[index].submission, sizeof world->jobs[index].submission, "s%d", index);
}

/* A client submits, and again until it is acknowledged; then pauses, cancels, retries. */
static bool client_turn(struct world *world) {
    int index = (int)roll(&world->dice, JOBS);
    struct sim_job *job = &world->jobs[index];
    struct error error = {0};
    if (!job->id) {
        struct job *copy;
        size_t length = strlen(world->documents[index]);
        enum error_code code = job_load(&copy, world->documents[index], length, &error);
        SIM_CHECK(world, !code, "document: %s", error.detail);
        struct scheduler_submission submission = {.document = world->documents[index],
                                                  .document_length = length,
                                                  .submission = job->submission,
                                                  .priority = (int)roll(&world->dice, 2)};
        uint64_t id = 0;
        code = scheduler_add_job(world->scheduler, &id, &copy, &submission, world->now,
                                 &world->actions, &error);
        SIM_CHECK(world, !code, "submit: %s", error.detail);
        for (int i = 0; i < JOBS; i++) /* a number that was never committed is given again */
            if (world->jobs[i].submitted == id)
                world->jobs[i].submitted = 0;
        job->submitted = id;
        if (!carry_out(world))
            return false;
        /* Acknowledged after the commit, if that was possible, and if the answer arrives. */
        if (!world->actions.count && (world->calm || roll(&world->dice, 4))) {
            job->id = id; /* the acknowledgement arrived */
            say(world, "job %d is %llu", index, (unsigned long long)id);
        }
        return true;
    }
    static const enum scheduler_control controls[] = {CONTROL_PAUSE, CONTROL_RESUME, CONTROL_CANCEL,
                                                      CONTROL_RETRY};
    enum scheduler_control control = controls[roll(&world->dice, 4)];
    if (world->calm)
        control = CONTROL_RESUME;
    else if (control == CONTROL_CANCEL && roll(&world->dice, 4))
        return true;
    enum error_code code = scheduler_control_job(world->scheduler, job->id, control, world->now,
                                                 &world->actions, &error);
    SIM_CHECK(world, code == ERR_OK || code == ERR_USAGE, "control: %s", error.detail);
    return true;
}

/* -- a history -------------------------------------------------------------------------------- */

static bool at_rest(struct world *world) {
    for (int i = 0; i < JOBS; i++)
        if (!world->jobs[i].id)
            return false;
    return scheduler_is_idle(world->scheduler);
}

static void check_end(struct world *world) {
    for (int i = 0; i < JOBS; i++) {
        struct job_status status;
        SIM_CHECK(world, scheduler_job_status(world->scheduler, world->jobs[i].id, &status),
                  "job %d is gone", i);
        SIM_CHECK(world, job_state_is_final(status.state), "job %d has not ended", i);
        SIM_CHECK(world, status.videos == world->jobs[i].videos, "job %d has other videos", i);
        for (int video = 0; video < status.videos; video++) {
            struct video_status at;
            char path[256];
            SIM_CHECK(world,
                      scheduler_video_status(world->scheduler, world->jobs[i].id, video, &at),
                      "no video %d", video);
            SIM_CHECK(world, video_state_is_final(at.state), "job %d video %d: %s", i, video,
                      video_state_name(at.state));
            snprintf(path, sizeof path, "root/%s", status.job->videos[video].output.path);
            const struct sim_file *file = find_file(world, path);
            if (at.state == VIDEO_DONE) {
                SIM_CHECK(world, file, "job %d video %d is done and has no file", i, video);
                SIM_CHECK(world, world->jobs[i].published[video] == 1,
                          "job %d video %d was published %d times", i, video,
                          world->jobs[i].published[video]);
            } else {
                SIM_CHECK(world, at.state != VIDEO_FAILED || world->mode == WILD,
                          "job %d video %d failed without need: %s", i, video, at.detail);
                SIM_CHECK(world, at.state != VIDEO_FAILED || *at.detail,
                          "job %d video %d failed without a reason", i, video);
                SIM_CHECK(world, !file, "job %d video %d is %s and has a file", i, video,
                          video_state_name(at.state));
            }
        }
    }
}

static void run_seed(uint64_t seed, bool loud) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    assert_non_null(world);
    world->dice.seed = seed;
    world->loud = loud;
    world->now = CLOCK_S;
    world->mode = seed % 4 == 0 ? QUIET : seed % 4 == 1 ? LOSSY : WILD;
    assert_int_equal(ledger_memory_open(&world->ledger, &error), ERR_OK);
    for (int i = 0; i < JOBS; i++)
        make_job(world, i);
    bool two_classes = roll(&world->dice, 4) == 0;
    world->class_gone = two_classes && world->mode == WILD && roll(&world->dice, 2);
    for (int i = 0; i < WORKERS; i++) {
        struct sim_worker *worker = &world->workers[i];
        worker->class = two_classes ? i % 2 : 0;
        worker->slots = 1 + (int)roll(&world->dice, 2);
        /* Some do all, some denoise only, some do the rest. Two of each class do all. */
        uint32_t shape = i < 4 ? 0 : roll(&world->dice, 3);
        unsigned heavy = PLAN_KIND_BIT(PLAN_KEYFRAME) | PLAN_KIND_BIT(PLAN_WINDOW);
        worker->kinds = shape == 0 ? PLAN_KINDS_ALL : shape == 1 ? heavy : PLAN_KINDS_ALL & ~heavy;
    }
    restart(world);
    int step = 0;
    for (; step < STEPS + STEPS_CALM; step++) {
        bool alive = true;
        world->calm = step >= STEPS;
        if (world->calm && at_rest(world))
            break;
        /* Time goes on; now and then it jumps by up to a day. */
        world->now += (int64_t)roll(&world->dice, 200) * CLOCK_MS;
        if (!world->calm && roll(&world->dice, 300) == 0)
            world->now += (int64_t)roll(&world->dice, 86400) * CLOCK_S;
        uint32_t what = roll(&world->dice, 100);
        if (what < 45) {
            worker_turn(world, (int)roll(&world->dice, WORKERS));
        } else if (what < 55) {
            scheduler_tick(world->scheduler, world->now, world->now, &world->actions);
        } else if (what < 58) {
            alive = client_turn(world);
        } else if (what == 58 && !world->calm) {
            alive = roll(&world->dice, 3) != 0;
        } else if (what == 59 && !world->calm && world->lost_count < 64) {
            /* An object vanishes: one that some worker is about to read, or the last one used. */
            const struct work *work = &world->workers[roll(&world->dice, WORKERS)].works[0];
            if (work->input_count)
                world->lost[world->lost_count++] =
                    work->inputs[roll(&world->dice, (uint32_t)work->input_count)];
        }
        /* What has arrived, in any order. */
        for (int i = 0; i < MESSAGES && alive; i++) {
            struct message *message = &world->messages[i];
            if (!message->there || message->at > world->now)
                continue;
            message->there = false;
            struct message copy = *message;
            if (copy.kind >= FROM_LEASE)
                deliver_down(world, &copy);
            else
                deliver_up(world, &copy);
            /* The edge gathers several events before it commits. */
            if (roll(&world->dice, 3))
                alive = carry_out(world);
        }
        if (alive)
            alive = carry_out(world);
        if (!alive) {
            /* Connections are gone with it: nothing from before can arrive as from this session. */
            restart(world);
            for (int i = 0; i < WORKERS; i++)
                world->workers[i].said = 0;
        }
    }
    if (!at_rest(world)) {
        for (int i = 0; i < JOBS; i++) {
            struct job_status status;
            if (!scheduler_job_status(world->scheduler, world->jobs[i].id, &status))
                continue;
            for (int video = 0; video < status.videos; video++) {
                struct video_status at;
                (void)scheduler_video_status(world->scheduler, status.id, video, &at);
                fprintf(stderr, "job %d (%s) video %d: %s %s window %d/%d %s\n", i,
                        job_state_name(status.state), video, video_state_name(at.state), at.class,
                        at.windows_done, at.windows, at.worker);
            }
        }
        SIM_CHECK(world, false, "the world does not come to rest");
    }
    check_end(world);
    if (loud)
        fprintf(stderr,
                "seed %llu: %d steps, %d restarts, %d leases, %d refused, %d failures, %d "
                "published\n",
                (unsigned long long)seed, step, world->restarts, world->leases, world->refused,
                world->failures, world->published);
    scheduler_close(&world->scheduler);
    scheduler_actions_close(&world->actions);
    ledger_close(&world->ledger);
    for (int i = 0; i < JOBS; i++) {
        job_close(&world->templates[i]);
        free(world->documents[i]);
    }
    free(world);
}

struct options {
    uint64_t first, count;
    bool loud;
};

static void test_faults(void **state) {
    const struct options *options = *state;
    for (uint64_t i = 0; i < options->count; i++)
        run_seed(options->first + i, options->loud);
}

int main(int argc, char **argv) {
    const char *seeds = getenv("SEEDS");
    struct options options = {.first = 1,
                              .count = seeds ? strtoull(seeds, NULL, 10) : SEEDS_BY_DEFAULT};
    if (argc > 1)
        options = (struct options){.first = strtoull(argv[1], NULL, 10), .count = 1, .loud = true};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_faults, &options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
