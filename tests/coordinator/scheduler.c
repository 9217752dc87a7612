/* The scheduler's decisions, one at a time; faults in all their combinations are
 * tests/simulation's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "coordinator/scheduler.h"
#include "fake.h"

struct bench {
    struct scheduler *scheduler;
    struct scheduler_actions actions;
    struct error error;
    int64_t now;
    bool published; /* what is_published says */
    double drift;   /* what decodes are measured to be */
};

static bool is_published(void *user, const char *path, const struct hash *key) {
    return ((struct bench *)user)->published;
}

static void bench_open(struct bench *bench) {
    *bench = (struct bench){.now = CLOCK_S};
    struct scheduler_config config = {
        .leader = 3, .output_root = "/root", .user = bench, .is_published = is_published};
    assert_int_equal(scheduler_open(&bench->scheduler, &config, &bench->error), ERR_OK);
    scheduler_start(bench->scheduler, bench->now, &bench->actions);
}
static void bench_close(struct bench *bench) {
    scheduler_close(&bench->scheduler);
    scheduler_actions_close(&bench->actions);
}

static uint64_t submit(struct bench *bench, const char *yaml, int priority) {
    struct job *job = fake_job(yaml);
    struct scheduler_submission submission = {
        .priority = priority, .document = "{}", .document_length = 2};
    uint64_t id = 0;
    assert_int_equal(scheduler_add_job(bench->scheduler, &id, &job, &submission, bench->now,
                                       &bench->actions, &bench->error),
                     ERR_OK);
    assert_null(job);
    return id;
}

static void worker(struct bench *bench, uint64_t id, const char *class, unsigned kinds, int slots) {
    char name[16];
    snprintf(name, sizeof name, "w%d", (int)id);
    assert_int_equal(scheduler_worker_hello(bench->scheduler, id, name, class, kinds, bench->now,
                                            &bench->actions, &bench->error),
                     ERR_OK);
    scheduler_worker_request(bench->scheduler, id, slots, bench->now, &bench->actions);
}

/* The only lease among the actions, which are cleared. The texts are copied. */
static char lease_parameters[4096], lease_staged[256];
static int take(struct bench *bench, struct lease *out) {
    int count = 0;
    *out = (struct lease){0};
    for (size_t i = 0; i < bench->actions.count; i++)
        if (bench->actions.items[i].kind == ACTION_LEASE) {
            *out = bench->actions.items[i].lease;
            snprintf(lease_parameters, sizeof lease_parameters, "%s", out->parameters);
            snprintf(lease_staged, sizeof lease_staged, "%s", out->staged ? out->staged : "");
            count++;
        }
    scheduler_actions_clear(&bench->actions);
    return count;
}
static int count_actions(const struct bench *bench, enum scheduler_action_kind kind) {
    int count = 0;
    for (size_t i = 0; i < bench->actions.count; i++)
        count += bench->actions.items[i].kind == kind;
    return count;
}

static void finish(struct bench *bench, const struct lease *lease, enum error_code code) {
    static const char *const names[PLAN_KIND_COUNT] = {"rows",    "frames",  "frames",
                                                       "latents", "segment", "file"};
    struct scheduler_outcome outcome = {
        .epoch = lease->epoch, .key = lease->key, .code = code, .detail = "as asked"};
    outcome.result.output_count = 2;
    snprintf(outcome.result.outputs[0].name, LIMIT_OUTPUT_NAME, "%s", names[lease->kind]);
    snprintf(outcome.result.outputs[1].name, LIMIT_OUTPUT_NAME, "frames");
    outcome.result.outputs[0].hash = outcome.result.outputs[1].hash = lease->key;
    outcome.result.measured = lease->kind == PLAN_DECODE;
    outcome.result.measures.colour = bench->drift;
    scheduler_worker_result(bench->scheduler, lease->worker, &outcome, bench->now, &bench->actions);
}

static void test_chain(void **state) {
    struct bench bench;
    struct lease lease;
    bench_open(&bench);
    uint64_t id =
        submit(&bench, "job: j\nmodel: pocket\nvideos: [{name: v, prompt: a, seconds: 2}]", 0);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    static const enum plan_kind order[] = {PLAN_TEXT,   PLAN_KEYFRAME, PLAN_WINDOW,
                                           PLAN_DECODE, PLAN_WINDOW,   PLAN_DECODE,
                                           PLAN_WINDOW, PLAN_DECODE,   PLAN_MUX};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(take(&bench, &lease), 1);
        assert_int_equal(lease.kind, order[i]);
        assert_int_equal(lease.epoch, (UINT64_C(3) << 32) + (uint64_t)i + 1);
        struct video_status status;
        assert_true(scheduler_video_status(bench.scheduler, id, 0, &status));
        assert_int_equal(status.kind, order[i]);
        assert_int_equal(status.windows, 3);
        assert_int_equal(status.windows_done, i < 4 ? 0 : i < 6 ? 1 : i < 8 ? 2 : 3);
        assert_string_equal(status.worker, "w1");
        bench.now += CLOCK_S;
        if (i < 8)
            finish(&bench, &lease, ERR_OK);
    }
    assert_string_equal(lease_staged, "/root/out/.j-v.mp4.12884901897.part");
    assert_int_equal(lease.input_count, 3);
    struct job_status job;
    assert_true(scheduler_job_status(bench.scheduler, id, &job));
    assert_int_equal(job.windows_done, 3);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(count_actions(&bench, ACTION_PUBLISH), 1);
    assert_false(scheduler_is_idle(bench.scheduler));
    for (size_t i = 0; i < bench.actions.count; i++)
        if (bench.actions.items[i].kind == ACTION_PUBLISH)
            assert_string_equal(bench.actions.items[i].publish.publication.path,
                                "/root/out/j-v.mp4");
    scheduler_actions_clear(&bench.actions);
    /* Said again, it is acknowledged again. */
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(bench.actions.count, 1);
    assert_int_equal(bench.actions.items[0].worker.code, ERR_OK);
    scheduler_published(bench.scheduler, id, 0, ERR_OK, "", 0, bench.now, &bench.actions);
    assert_int_equal(count_actions(&bench, ACTION_JOB), 1);
    assert_true(scheduler_is_idle(bench.scheduler));
    bench_close(&bench);
}

/* Two videos want the same text: one lease; both go on from its result. Two workers, two chains. */
static void test_sharing(void **state) {
    struct bench bench;
    struct lease lease, other;
    bench_open(&bench);
    submit(&bench, "model: pocket\nvideos: [{prompt: a, seconds: 1, seeds: 1..5}]", 0);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.kind, PLAN_TEXT);
    worker(&bench, 2, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &other), 0);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(take(&bench, &other), 2);
    assert_int_equal(other.kind, PLAN_KEYFRAME);
    bench_close(&bench);
}

static void test_order(void **state) {
    struct bench bench;
    struct lease lease;
    bench_open(&bench);
    submit(&bench, "job: low\nmodel: pocket\nvideos: [{prompt: a, seconds: 1}]", 0);
    submit(&bench, "job: high\nmodel: pocket\nvideos: [{prompt: b, seconds: 1}]", 5);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.job, 2);
    bench_close(&bench);
}

/* Elsewhere first, after a pause; the same worker when it is the only one; then no more. */
static void test_retries(void **state) {
    struct bench bench;
    struct lease lease;
    bench_open(&bench);
    uint64_t id = submit(&bench, "model: pocket\nvideos: [{prompt: a, seconds: 1}]", 0);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    take(&bench, &lease);
    finish(&bench, &lease, ERR_MEMORY);
    assert_int_equal(take(&bench, &lease), 0);
    worker(&bench, 2, "c", PLAN_KINDS_ALL, 1);
    bench.now += 2 * CLOCK_S;
    scheduler_tick(bench.scheduler, 0, bench.now, &bench.actions);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.worker, 2);
    finish(&bench, &lease, ERR_MEMORY);
    scheduler_worker_bye(bench.scheduler, 2, bench.now, &bench.actions);
    bench.now += 4 * CLOCK_S;
    scheduler_tick(bench.scheduler, 0, bench.now, &bench.actions);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.worker, 1);
    finish(&bench, &lease, ERR_MEMORY);
    struct video_status status;
    assert_true(scheduler_video_status(bench.scheduler, id, 0, &status));
    assert_int_equal(status.state, VIDEO_FAILED);
    assert_string_equal(status.detail, "text: as asked");
    scheduler_actions_clear(&bench.actions);
    assert_int_equal(scheduler_control_job(bench.scheduler, id, CONTROL_RETRY, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_OK);
    assert_int_equal(take(&bench, &lease), 1);
    /* A mistake in the input is not tried again. */
    finish(&bench, &lease, ERR_FORMAT);
    assert_true(scheduler_video_status(bench.scheduler, id, 0, &status));
    assert_int_equal(status.state, VIDEO_FAILED);
    bench_close(&bench);
}

/* A video starts only where its whole chain can be made, and stays in one class. */
static void test_classes(void **state) {
    struct bench bench;
    struct lease lease;
    unsigned heavy = PLAN_KIND_BIT(PLAN_KEYFRAME) | PLAN_KIND_BIT(PLAN_WINDOW);
    bench_open(&bench);
    submit(&bench, "model: pocket\nvideos: [{prompt: a, seconds: 1}]", 0);
    worker(&bench, 1, "gpu", heavy, 1);
    worker(&bench, 2, "other", PLAN_KINDS_ALL & ~heavy, 1);
    assert_int_equal(take(&bench, &lease), 0);
    worker(&bench, 3, "gpu", PLAN_KINDS_ALL & ~heavy, 1);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.worker, 3);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.worker, 1);
    assert_non_null(strstr(lease_parameters, "\"stream\":0"));
    bench_close(&bench);
}

static void test_controls(void **state) {
    struct bench bench;
    struct lease lease, next;
    bench_open(&bench);
    uint64_t id = submit(&bench, "model: pocket\nvideos: [{prompt: a, seconds: 1}]", 0);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    take(&bench, &lease);
    /* Paused: what runs is finished, nothing new begins. */
    assert_int_equal(scheduler_control_job(bench.scheduler, id, CONTROL_PAUSE, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_OK);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(take(&bench, &next), 0);
    assert_int_equal(scheduler_control_job(bench.scheduler, id, CONTROL_RESUME, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_OK);
    assert_int_equal(take(&bench, &lease), 1);
    /* Drained: no more; the lease is handed back without blame. */
    assert_int_equal(scheduler_drain_worker(bench.scheduler, "w1", true, bench.now, &bench.actions,
                                            &bench.error),
                     ERR_OK);
    assert_int_equal(count_actions(&bench, ACTION_REVOKE), 1);
    assert_int_equal(take(&bench, &next), 0);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(bench.actions.items[0].worker.code, ERR_STALE);
    worker(&bench, 2, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &lease), 1);
    /* Canceled: revoked; the job has ended. */
    assert_int_equal(scheduler_control_job(bench.scheduler, id, CONTROL_CANCEL, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_OK);
    assert_int_equal(count_actions(&bench, ACTION_REVOKE), 1);
    assert_true(scheduler_is_idle(bench.scheduler));
    assert_int_equal(scheduler_control_job(bench.scheduler, id, CONTROL_PAUSE, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_USAGE);
    assert_string_equal(bench.error.detail, "job 1 (job) is canceled: there is nothing to pause");
    assert_int_equal(scheduler_control_job(bench.scheduler, 99, CONTROL_PAUSE, bench.now,
                                           &bench.actions, &bench.error),
                     ERR_MISSING);
    assert_int_equal(scheduler_forget_job(bench.scheduler, id, &bench.error), ERR_OK);
    assert_int_equal(scheduler_job_count(bench.scheduler), 0);
    bench_close(&bench);
}

/* What this ledger has published already is done without work. */
static void test_published_before(void **state) {
    struct bench bench;
    struct lease lease;
    bench_open(&bench);
    bench.published = true;
    submit(&bench, "model: pocket\nvideos: [{prompt: a, seconds: 1, seeds: 1..3}]", 0);
    worker(&bench, 1, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &lease), 0);
    assert_true(scheduler_is_idle(bench.scheduler));
    bench_close(&bench);
}

static void test_submission_key(void **state) {
    struct bench bench;
    bench_open(&bench);
    uint64_t ids[2];
    for (int i = 0; i < 2; i++) {
        struct job *job = fake_job("model: pocket\nvideos: [{prompt: a, seconds: 1}]");
        struct scheduler_submission submission = {.submission = "once"};
        assert_int_equal(scheduler_add_job(bench.scheduler, &ids[i], &job, &submission, bench.now,
                                           &bench.actions, &bench.error),
                         ERR_OK);
    }
    assert_int_equal(ids[0], ids[1]);
    assert_int_equal(scheduler_job_count(bench.scheduler), 1);
    bench_close(&bench);
}

/* A number in the lease's parameters. */
static long long parameter(const char *key) {
    const char *at = strstr(lease_parameters, key);
    assert_non_null(at);
    return strtoll(at + strlen(key), NULL, 10);
}

/* The event that tells of measures past the limits, among the actions; "" when there is none. */
static const char *told_past(const struct bench *bench) {
    for (size_t i = 0; i < bench->actions.count; i++) {
        const struct scheduler_action *action = &bench->actions.items[i];
        if (action->kind == ACTION_RECORD && action->record.kind == LEDGER_EVENT &&
            strstr(action->record.event.text, "past the limits"))
            return action->record.event.text;
    }
    return "";
}

/* Text and keyframe, then the given draws of the first window; then the lease that follows them. */
static char told_last[512]; /* of the last draw */
static void draw_windows(struct bench *bench, struct lease *lease, const double *drifts,
                         int count) {
    submit(bench,
           "job: j\nmodel: pocket\nvideos: [{name: v, prompt: a, frames: 29,"
           " limits: {drift: 0.2, redraws: 2}}]",
           0);
    worker(bench, 1, "c", PLAN_KINDS_ALL, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(take(bench, lease), 1);
        finish(bench, lease, ERR_OK);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(take(bench, lease), 1);
        assert_int_equal(lease->kind, PLAN_WINDOW);
        assert_int_equal(lease->index, 0);
        assert_true(parameter("\"stream\":") == ((long long)i << 32 | 1));
        finish(bench, lease, ERR_OK);
        assert_int_equal(take(bench, lease), 1);
        assert_int_equal(lease->kind, PLAN_DECODE);
        bench->drift = drifts[i];
        finish(bench, lease, ERR_OK);
        snprintf(told_last, sizeof told_last, "%s", told_past(bench));
    }
    assert_int_equal(take(bench, lease), 1);
}

static void test_redraws(void **state) {
    struct bench bench;
    struct lease lease;
    struct video_status status;
    /* Within the limit at the second draw: the next window goes on from it. */
    bench_open(&bench);
    draw_windows(&bench, &lease, (const double[]){0.3, 0.1}, 2);
    assert_int_equal(lease.kind, PLAN_WINDOW);
    assert_int_equal(lease.index, 1);
    assert_true(parameter("\"stream\":") == 2);
    assert_true(scheduler_video_status(bench.scheduler, 1, 0, &status));
    assert_int_equal(status.redraws, 1);
    assert_true(status.drift == 0.1);
    assert_string_equal(told_last, "");
    bench_close(&bench);
    /* Past it every time: the second was the best. This ledger remembers nothing, so it is made
     * again, and not judged again. */
    bench_open(&bench);
    draw_windows(&bench, &lease, (const double[]){0.5, 0.25, 0.25}, 3);
    assert_non_null(strstr(told_last, "window 0: drift 0.2500"));
    assert_non_null(strstr(told_last, "after 2 redraws: draw 2, the least past them, is taken"));
    assert_int_equal(lease.kind, PLAN_WINDOW);
    assert_int_equal(lease.index, 0);
    assert_true(parameter("\"stream\":") == ((long long)1 << 32 | 1));
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(take(&bench, &lease), 1);
    finish(&bench, &lease, ERR_OK);
    assert_int_equal(take(&bench, &lease), 1);
    assert_int_equal(lease.kind, PLAN_WINDOW);
    assert_int_equal(lease.index, 1);
    assert_true(scheduler_video_status(bench.scheduler, 1, 0, &status));
    assert_int_equal(status.redraws, 2);
    assert_true(status.drift == 0.25);
    bench_close(&bench);
}

/* Ten thousand videos with a hundred workers: time does not grow with their product, and only what
 * is worked on is in memory. */
static void test_many(void **state) {
    struct bench bench;
    struct buffer yaml = {0};
    struct lease lease;
    bench_open(&bench);
    buffer_add_text(&yaml, "model: pocket\nvideos:\n");
    for (int i = 0; i < 10000; i++)
        buffer_printf(&yaml, "  - {prompt: p%d, seconds: 10}\n", i);
    submit(&bench, yaml.data, 0);
    for (uint64_t i = 1; i <= 100; i++)
        worker(&bench, i, "c", PLAN_KINDS_ALL, 1);
    assert_int_equal(take(&bench, &lease), 100);
    int64_t start = clock_monotonic_ns();
    for (int i = 0; i < 5000; i++) {
        finish(&bench, &lease, ERR_OK);
        if (lease.kind == PLAN_MUX) {
            scheduler_published(bench.scheduler, lease.job, lease.video, ERR_OK, "", 0, bench.now,
                                &bench.actions);
        }
        assert_int_equal(take(&bench, &lease), 1);
    }
    print_message("%.0f results a second through the core, 10,000 videos, 100 workers\n",
                  5000 / ((double)(clock_monotonic_ns() - start) / 1e9));
    buffer_close(&yaml);
    bench_close(&bench);
}

/* A shot that does nothing is said in the job's log. */
static void test_notes(void **state) {
    struct bench bench;
    bench_open(&bench);
    (void)submit(
        &bench,
        "model: pocket\nvideos: [{name: a, prompt: p, seconds: 1}, {name: b, prompt: p, shots: "
        "[{seconds: 0.25}, {seconds: 0.25}, {seconds: 1}]}]",
        0);
    int told = 0;
    for (size_t i = 0; i < bench.actions.count; i++) {
        const struct scheduler_action *action = &bench.actions.items[i];
        if (action->kind == ACTION_RECORD && action->record.kind == LEDGER_EVENT &&
            action->record.event.video == 1) {
            assert_non_null(strstr(action->record.event.text, "video b: shot 2 of 3, "));
            told++;
        }
    }
    assert_int_equal(told, 1);
    bench_close(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_published_before),
        cmocka_unit_test(test_submission_key),
        cmocka_unit_test(test_redraws),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
