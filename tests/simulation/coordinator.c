#include "tests/coordinator/ledger_memory.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

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

/* Quiet worlds try once; lossy ones without end, so that nothing may fail there; wild ones as
 * usual.
 */
static struct scheduler_config config_of(struct world *world) {
    int attempts = world->mode == QUIET ? 1 : world->mode == LOSSY ? 1000 : 3;
    return (struct scheduler_config){
        .leader = ledger_leader(world->ledger),
        .lease_ns = (world->mode == QUIET ? 60 : 10) * CLOCK_S,
        .worker_ns = (world->mode == QUIET ? 60 : 12) * CLOCK_S,
        .attempts_max = attempts,
        .deaths_max = attempts,
        .class_absent_ns = 20 * CLOCK_S,
        .output_root = "root",
        .user = world,
        .find_result = find_result,
        .is_published = is_published,
    };
}

static void check_acknowledged(struct world *world) {
    for (int i = 0; i < JOBS; i++) {
        uint64_t id = world->jobs[i].id;
        struct job_status status;
        SIM_CHECK(world, !id || scheduler_job_status(world->scheduler, id, &status),
                  "job %d was acknowledged and is lost", i);
    }
}

void restart(struct world *world) {
    struct error error = {0};
    scheduler_close(&world->scheduler);
    scheduler_actions_clear(&world->actions);
    ledger_memory_reopen(world->ledger);
    world->restarts++;
    world->accepted.count = 0;
    say(world, "-- coordinator starts, leader %llu",
        (unsigned long long)ledger_leader(world->ledger));
    struct scheduler_config config = config_of(world);
    struct ledger_visitor visitor = {
        .user = world, .job = load_job, .video = load_video, .publication = load_publication};
    enum error_code code = scheduler_open(&world->scheduler, &config, &error);
    if (!code)
        code = ledger_load(world->ledger, &visitor, &error);
    SIM_CHECK(world, !code, "restart: %s", error.detail);
    scheduler_start(world->scheduler, world->now, &world->actions);
    check_acknowledged(world);
}

/* -- committing, and carrying out ------------------------------------------------------------- */

/* A video's mux has the same segments whenever it is given out on a class. */
static void check_segments(struct world *world, const struct lease *lease) {
    static const struct hash none;
    struct hash_state state;
    struct hash all;
    int class = strcmp(lease->class, sim_classes[0]) != 0;
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

static void carry_out_record(struct world *world, const struct ledger_record *record) {
    if (record->kind == LEDGER_EVENT)
        say(world, "event: %s", record->event.text);
    if (record->kind == LEDGER_ATTEMPT && !record->attempt.code) {
        uint64_t epoch = record->attempt.epoch;
        SIM_CHECK(world, epochs_have(&world->reported, epoch),
                  "a lease is done that no worker has reported");
        epochs_add(world, &world->accepted, epoch);
    }
}

static void send_to_session(struct world *world, struct message *message) {
    for (int i = 0; i < WORKERS; i++)
        if (world->workers[i].session == message->session)
            message->worker = i;
    send_message(world, message);
}

static void carry_out_lease(struct world *world, const struct lease *lease) {
    struct message message = {.kind = FROM_LEASE,
                              .session = lease->worker,
                              .work = {.held = true,
                                       .epoch = lease->epoch,
                                       .kind = lease->kind,
                                       .key = lease->key,
                                       .job = lease->job,
                                       .video = lease->video,
                                       .has_tail = !strstr(lease->parameters, "\"tail\":0")}};
    struct work *work = &message.work;
    world->leases++;
    SIM_CHECK(world, lease->epoch > world->last_epoch, "an epoch is given out twice");
    world->last_epoch = lease->epoch;
    snprintf(work->staged, sizeof work->staged, "%s", lease->staged ? lease->staged : "");
    if (lease->kind == PLAN_MUX)
        check_segments(world, lease);
    SIM_CHECK(world, lease->input_count <= 80, "too many inputs");
    for (int i = 0; i < lease->input_count; i++)
        work->inputs[work->input_count++] = lease->inputs[i].object.hash;
    send_to_session(world, &message);
}

static void carry_out_answer(struct world *world, const struct scheduler_action *action) {
    bool is_reply = action->kind == ACTION_REPLY;
    struct message message = {.kind = is_reply ? FROM_REPLY : FROM_REVOKE,
                              .session = action->worker.worker,
                              .epoch = action->worker.epoch,
                              .code = action->worker.code};
    if (is_reply && message.code == ERR_STALE) {
        world->refused++;
        SIM_CHECK(world, !epochs_have(&world->accepted, message.epoch),
                  "a result was accepted, and refused when repeated");
    }
    send_to_session(world, &message);
}

/* The staged file takes its final name. */
static enum error_code rename_staged(struct world *world, const struct ledger_publication *row) {
    const struct sim_file *staged = find_file(world, row->staged);
    const struct sim_file *final = find_file(world, row->path);
    if (!staged)
        return final && hash_equal(&final->hash, &row->hash) ? ERR_OK : ERR_MISSING;
    struct sim_file file = *staged;
    SIM_CHECK(world, hash_equal(&file.hash, &row->hash), "the staged file is not the one accepted");
    struct sim_job *job = NULL;
    for (int i = 0; i < JOBS; i++)
        if (world->jobs[i].submitted == row->job)
            job = &world->jobs[i];
    if (job)
        job->published[row->video]++;
    remove_file(world, row->staged);
    put_file(world, row->path, &file.hash, file.epoch);
    world->published++;
    say(world, "published %s", row->path);
    return ERR_OK;
}

/* False: the coordinator has died between the rename and what follows. */
static bool carry_out_publish(struct world *world, const struct ledger_publication *row) {
    enum error_code code = rename_staged(world, row);
    if (!world->calm && code == ERR_OK && roll(&world->dice, 30) == 0) {
        say(world, "killed after a rename");
        return false;
    }
    scheduler_published(world->scheduler, row->job, row->video, code, "", 0, world->now,
                        &world->actions);
    return true;
}

static bool carry_out_one(struct world *world, const struct scheduler_action *action) {
    switch (action->kind) {
    case ACTION_RECORD:
        carry_out_record(world, &action->record);
        break;
    case ACTION_LEASE:
        carry_out_lease(world, &action->lease);
        break;
    case ACTION_REVOKE:
    case ACTION_REPLY:
        carry_out_answer(world, action);
        break;
    case ACTION_PUBLISH:
        return carry_out_publish(world, &action->publish.publication);
    case ACTION_REMOVE_STAGED:
        remove_file(world, action->path);
        break;
    case ACTION_VIDEO:
        SIM_CHECK(world, action->news.state != VIDEO_FAILED || *action->news.detail,
                  "a video failed without a reason");
        break;
    case ACTION_JOB:
        break;
    }
    return true;
}

static void commit(struct world *world, const struct scheduler_actions *actions) {
    struct ledger_record *records = malloc(actions->count * sizeof *records);
    struct error error = {0};
    size_t count = 0;
    assert_non_null(records);
    for (size_t i = 0; i < actions->count; i++)
        if (actions->items[i].kind == ACTION_RECORD)
            records[count++] = actions->items[i].record;
    enum error_code code = ledger_apply(world->ledger, records, count, &error);
    SIM_CHECK(world, !code, "commit: %s", error.detail);
    free(records);
}

bool carry_out(struct world *world) {
    struct scheduler_actions *actions = &world->actions;
    bool alive = true;
    /* What carrying out brings about (scheduler_published) adds further actions. */
    while (actions->count && alive) {
        SIM_CHECK(world, !actions->failed, "no memory");
        if (!world->calm && roll(&world->dice, 400) == 0) {
            say(world, "killed before a commit");
            return false;
        }
        /* The disk is full: nothing is carried out, and what comes is added to the batch. */
        if (!world->calm && roll(&world->dice, 60) == 0)
            return true;
        commit(world, actions);
        struct scheduler_actions batch = *actions;
        *actions = (struct scheduler_actions){0};
        for (size_t i = 0; i < batch.count && alive; i++) {
            alive = world->calm || roll(&world->dice, 600) != 0;
            if (alive)
                alive = carry_out_one(world, &batch.items[i]);
            else
                say(world, "killed between two actions");
        }
        scheduler_actions_close(&batch);
    }
    return alive;
}

/* -- messages --------------------------------------------------------------------------------- */

void deliver_up(struct world *world, const struct message *message) {
    struct scheduler *scheduler = world->scheduler;
    struct scheduler_actions *actions = &world->actions;
    struct error error;
    const struct sim_worker *worker = &world->workers[message->worker];
    switch (message->kind) {
    case TO_HELLO: {
        char name[16];
        snprintf(name, sizeof name, "w%d", message->worker);
        enum error_code code =
            scheduler_worker_hello(scheduler, message->session, name, sim_classes[worker->class],
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
