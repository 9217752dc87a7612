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
#include <stdlib.h>

#include "tests/coordinator/ledger_memory.h"
#include "world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS_BY_DEFAULT = 1200 }; /* these are five times as slow */
#else
enum { SEEDS_BY_DEFAULT = 6000 }; /* half a minute */
#endif

/* -- its end ---------------------------------------------------------------------------------- */

static bool at_rest(struct world *world) {
    for (int i = 0; i < JOBS; i++)
        if (!world->jobs[i].id)
            return false;
    return scheduler_is_idle(world->scheduler);
}

static void check_video(struct world *world, int index, const struct job_status *status,
                        int video) {
    const struct sim_job *job = &world->jobs[index];
    struct video_status at;
    char path[256];
    SIM_CHECK(world, scheduler_video_status(world->scheduler, job->id, video, &at), "no video %d",
              video);
    SIM_CHECK(world, video_state_is_final(at.state), "job %d video %d: %s", index, video,
              video_state_name(at.state));
    snprintf(path, sizeof path, "root/%s", status->job->videos[video].output.path);
    const struct sim_file *file = find_file(world, path);
    if (at.state == VIDEO_DONE) {
        SIM_CHECK(world, file, "job %d video %d is done and has no file", index, video);
        SIM_CHECK(world, job->published[video] == 1, "job %d video %d was published %d times",
                  index, video, job->published[video]);
        return;
    }
    SIM_CHECK(world, at.state != VIDEO_FAILED || world->mode == WILD,
              "job %d video %d failed without need: %s", index, video, at.detail);
    SIM_CHECK(world, at.state != VIDEO_FAILED || *at.detail,
              "job %d video %d failed without a reason", index, video);
    SIM_CHECK(world, !file, "job %d video %d is %s and has a file", index, video,
              video_state_name(at.state));
}

static void check_end(struct world *world) {
    for (int i = 0; i < JOBS; i++) {
        struct job_status status;
        SIM_CHECK(world, scheduler_job_status(world->scheduler, world->jobs[i].id, &status),
                  "job %d is gone", i);
        SIM_CHECK(world, job_state_is_final(status.state), "job %d has not ended", i);
        SIM_CHECK(world, status.videos == world->jobs[i].videos, "job %d has other videos", i);
        for (int video = 0; video < status.videos; video++)
            check_video(world, i, &status, video);
    }
}

static void print_unrest(struct world *world) {
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
}

/* -- a history -------------------------------------------------------------------------------- */

static struct world *open_world(uint64_t seed, bool loud) {
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
    return world;
}

static void close_world(struct world *world) {
    scheduler_close(&world->scheduler);
    scheduler_actions_close(&world->actions);
    ledger_close(&world->ledger);
    for (int i = 0; i < JOBS; i++) {
        job_close(&world->templates[i]);
        free(world->documents[i]);
    }
    free(world);
}

/* An object vanishes: one that some worker is about to read, or the last one used. */
static void lose_object(struct world *world) {
    const struct work *work = &world->workers[roll(&world->dice, WORKERS)].works[0];
    if (work->input_count)
        world->lost[world->lost_count++] =
            work->inputs[roll(&world->dice, (uint32_t)work->input_count)];
}

/* Time goes on, and something happens. False: the coordinator has died. */
static bool happen(struct world *world) {
    bool alive = true;
    world->now += (int64_t)roll(&world->dice, 200) * CLOCK_MS;
    if (!world->calm && roll(&world->dice, 300) == 0) /* the clock jumps by up to a day */
        world->now += (int64_t)roll(&world->dice, 86400) * CLOCK_S;
    uint32_t what = roll(&world->dice, 100);
    if (what < 45)
        worker_turn(world, (int)roll(&world->dice, WORKERS));
    else if (what < 55)
        scheduler_tick(world->scheduler, world->now, world->now, &world->actions);
    else if (what < 58)
        alive = client_turn(world);
    else if (what == 58 && !world->calm)
        alive = roll(&world->dice, 3) != 0;
    else if (what == 59 && !world->calm && world->lost_count < LOST)
        lose_object(world);
    return alive;
}

/* What has arrived, in any order. */
static bool deliver(struct world *world) {
    bool alive = true;
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
    return alive && carry_out(world);
}

static void run_seed(uint64_t seed, bool loud) {
    struct world *world = open_world(seed, loud);
    int step = 0;
    restart(world);
    for (; step < STEPS + STEPS_CALM; step++) {
        world->calm = step >= STEPS;
        if (world->calm && at_rest(world))
            break;
        if (happen(world) && deliver(world))
            continue;
        /* Connections are gone with it: nothing from before can arrive as from this session. */
        restart(world);
        for (int i = 0; i < WORKERS; i++)
            world->workers[i].said = 0;
    }
    if (!at_rest(world)) {
        print_unrest(world);
        SIM_CHECK(world, false, "the world does not come to rest");
    }
    check_end(world);
    if (loud)
        fprintf(stderr,
                "seed %llu: %d steps, %d restarts, %d leases, %d refused, %d failures, %d "
                "published\n",
                (unsigned long long)seed, step, world->restarts, world->leases, world->refused,
                world->failures, world->published);
    close_world(world);
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
