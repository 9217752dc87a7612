#include "world.h"

#include <string.h>

void deliver_down(struct world *world, const struct message *message) {
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

/* What a failure of `outcome` says; false: the task succeeds. */
static bool roll_failure(struct world *world, struct scheduler_outcome *outcome,
                         const struct work *work) {
    static const enum error_code codes[] = {ERR_MEMORY,      ERR_IO,     ERR_FULL,   ERR_DEVICE,
                                            ERR_INTERRUPTED, ERR_FORMAT, ERR_MISSING};
    for (int i = 0; i < work->input_count; i++)
        if (is_lost(world, &work->inputs[i])) {
            outcome->code = ERR_MISSING;
            outcome->detail = "an object is gone";
            outcome->object_missing = true;
            outcome->object = work->inputs[i];
            return true;
        }
    if (world->calm || world->mode != WILD || roll(&world->dice, 12) != 0)
        return false;
    outcome->code = codes[roll(&world->dice, 7)];
    outcome->detail = "a simulated failure";
    world->failures++;
    return true;
}

static void add_output(struct world *world, struct task_result *result, const struct work *work,
                       int class, const char *name) {
    struct task_output *output = &result->outputs[result->output_count++];
    snprintf(output->name, sizeof output->name, "%s", name);
    artifact(&output->hash, &work->key, class, name);
    output->bytes = 1000;
    found_again(world, &output->hash);
}

static void make_result(struct world *world, struct task_result *result, const struct work *work,
                        int class) {
    static const char *const names[PLAN_KIND_COUNT] = {"rows",    "frames",  "frames",
                                                       "latents", "segment", "file"};
    add_output(world, result, work, class, names[work->kind]);
    if (work->kind == PLAN_DECODE) {
        result->measured = true;
        result->measures.colour = work->key.bytes[class] / 255.0;
        result->measures.seam = work->key.bytes[2] / 255.0;
        if (work->has_tail)
            add_output(world, result, work, class, "frames");
    }
    if (work->kind == PLAN_MUX) {
        /* Files differ by epoch here, so that publishing another one than was accepted shows. */
        struct hash_state state;
        hash_start(&state);
        hash_add_u64(&state, work->epoch);
        hash_finish(&state, &result->outputs[0].hash);
        put_file(world, work->staged, &result->outputs[0].hash, work->epoch);
    }
    if (!world->calm && world->mode == WILD && roll(&world->dice, 200) == 0)
        result->output_count = 0; /* a liar */
}

static void send_result(struct world *world, int index, const struct work *work) {
    struct sim_worker *worker = &world->workers[index];
    struct message message = {.kind = TO_RESULT,
                              .worker = index,
                              .session = worker->session,
                              .epoch = work->epoch,
                              .outcome = {.epoch = work->epoch, .key = work->key}};
    if (!roll_failure(world, &message.outcome, work))
        make_result(world, &message.outcome.result, work, worker->class);
    else if (error_class_of(message.outcome.code) == ERROR_CLASS_STOP_WORKER)
        worker->alive = false; /* and comes back as a new session */
    send_message(world, &message);
}

static void start_worker(struct world *world, int index) {
    struct sim_worker *worker = &world->workers[index];
    memset(worker->works, 0, sizeof worker->works);
    worker->alive = true;
    worker->broken = false;
    worker->session = ++world->next_session;
    worker->said = 0;
    say(world, "worker %d starts, session %llu", index, (unsigned long long)worker->session);
}

/* What a worker suffers in a wild world: it dies, leaves, stalls or goes on. */
static void roll_fate(struct world *world, int index) {
    struct sim_worker *worker = &world->workers[index];
    uint32_t fate = roll(&world->dice, 200);
    if (fate < 3) { /* kill -9: nothing is said; files stay as they are */
        say(world, "worker %d dies", index);
        worker->alive = false;
        if (roll(&world->dice, 2))
            scheduler_worker_lost(world->scheduler, worker->session, 0, world->now,
                                  &world->actions);
    } else if (fate < 5) {
        struct message message = {.kind = TO_BYE, .worker = index, .session = worker->session};
        say(world, "worker %d says bye", index);
        send_message(world, &message);
        worker->alive = false;
    } else if (fate < 7) {
        worker->broken = !worker->broken; /* stalls, or comes back from the dead */
    }
}

/* Who it is and what it can take. */
static void introduce(struct world *world, int index) {
    struct sim_worker *worker = &world->workers[index];
    struct message hello = {.kind = TO_HELLO, .worker = index, .session = worker->session};
    struct message request = {
        .kind = TO_REQUEST, .worker = index, .session = worker->session, .slots = worker->slots};
    send_message(world, &hello);
    send_message(world, &request);
    worker->said = world->now ? world->now : 1;
}

static void work_on(struct world *world, int index, struct work *work) {
    struct message progress = {.kind = TO_PROGRESS,
                               .worker = index,
                               .session = world->workers[index].session,
                               .epoch = work->epoch};
    if (work->left > 0) {
        work->left--;
        send_message(world, &progress);
    } else {
        send_result(world, index, work); /* and again, until it is answered */
        work->left = 4;
    }
}

void worker_turn(struct world *world, int index) {
    struct sim_worker *worker = &world->workers[index];
    if (world->calm && world->class_gone && worker->class == 1) {
        worker->alive = false;
        return;
    }
    if (!worker->alive) {
        if (world->calm || roll(&world->dice, 8) == 0)
            start_worker(world, index);
        return;
    }
    if (!world->calm && world->mode == WILD) {
        roll_fate(world, index);
    } else if (worker->broken) {
        worker->alive = false; /* someone restarts it */
        scheduler_worker_lost(world->scheduler, worker->session, 0, world->now, &world->actions);
    }
    if (!worker->alive || worker->broken)
        return;
    /* Now and then; that also finds a coordinator that has restarted and knows it no more. */
    if (world->now - worker->said > 2 * CLOCK_S || !worker->said)
        introduce(world, index);
    for (int i = 0; i < WORKS; i++)
        if (worker->works[i].held)
            work_on(world, index, &worker->works[i]);
}
