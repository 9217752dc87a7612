/* The server and its client, whole, over inproc and TCP, with workers that compute nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "tests/coordinator/server_check.h"
#include "tests/coordinator/server_world.h"

#define HEADER                                                                                     \
    "model: fake\n"                                                                                \
    "output: {path: \"out/{job}-{video}.mkv\", size: 64x32, fps: 8, codec: ffv1}\n"                \
    "defaults: {seconds: 3, seed: 1, steps: 2}\n"

static const char demo[] = "job: demo\n" HEADER "videos:\n"
                           "  - {name: one, prompt: a red ball, motion: it rises}\n"
                           "  - {name: two, prompt: a blue ball, motion: it rises, seconds: 8}\n"
                           "  - {name: three, prompt: a red ball, motion: it falls}\n";
static const char single[] = "job: single\n" HEADER "videos:\n"
                             "  - {name: one, prompt: a red ball}\n";

static void open_world(struct world *world) {
    world_make(world, false);
    world_serve(world);
}

static void close_world(struct world *world) {
    world_stop(world);
    world_destroy(world);
}

static void rest(int milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * (long)CLOCK_MS};
    nanosleep(&time, NULL);
}

static void wait_for(atomic_bool *flag) {
    for (int i = 0; i < 6000 && !*flag; i++)
        rest(10);
    assert_true(*flag);
}

static enum job_state state_of(struct world *world, uint64_t job) {
    struct client_job found;
    struct error error;
    check_ok(client_job(world->client, &found, job, &error), &error);
    return found.state;
}

/* Every file of the job is there and holds what its plan says; nothing else is in its folder. */
static void check_published(struct world *world, const char *yaml) {
    struct error error;
    struct job *job = NULL;
    const struct job_resolver resolver = world_resolver();
    check_ok(job_parse(&job, "job.yaml", yaml, strlen(yaml), &resolver, &error), &error);
    for (int i = 0; i < job->video_count; i++) {
        struct plan *plan = NULL;
        char hex[HASH_HEX_BYTES], wanted[256], path[FILE_PATH_BYTES], found[256] = "";
        check_ok(plan_open(&plan, job, &job->videos[i], &error), &error);
        hash_hex(hex, &plan->tasks[plan->task_count - 1].key);
        plan_close(&plan);
        snprintf(wanted, sizeof wanted, "file of %s\n", hex);
        snprintf(path, sizeof path, "%s/%s", world->folder, job->videos[i].output.path);
        int file = open(path, O_RDONLY);
        assert_true(file >= 0);
        assert_true(read(file, found, sizeof found - 1) > 0);
        close(file);
        assert_string_equal(found, wanted);
    }
    job_close(&job);
    assert_int_equal(world_count(world, "out", ".part"), 0);
}

/* -- whole jobs ------------------------------------------------------------------------------- */

static bool count_visits(void *user, const struct client_video *video) {
    *(int *)user += video->state == VIDEO_DONE;
    return true;
}

static bool count_logs(void *user, const struct client_log *log) {
    ((int *)user)[log->attempt]++;
    return true;
}

static void whole_job(bool tcp) {
    struct world world;
    struct fake workers[2] = {{.hold_kind = -1}, {.hold_kind = -1}};
    struct error error;
    int done = 0, logs[2] = {0};
    world_make(&world, tcp);
    world_serve(&world);
    fake_start(&workers[0], &world, "a");
    fake_start(&workers[1], &world, "b");
    uint64_t job = world_submit(&world, demo);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    check_published(&world, demo);
    assert_int_equal(world_count(&world, "state/store/objects", ""), 0);
    check_ok(client_videos(world.client, job, count_visits, &done, &error), &error);
    assert_int_equal(done, 3);
    const struct client_log_query query = {.job = job, .video = -1, .attempts = true};
    check_ok(client_logs(world.client, &query, count_logs, logs, &error), &error);
    assert_true(logs[0] > 0 && logs[1] > 10);
    /* The same again is the same, and done. */
    assert_true(world_submit(&world, demo) == job);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    fake_stop(&workers[0]);
    fake_stop(&workers[1]);
    world_stop(&world);
    assert_true(world.counts.published == 3 && world.counts.malformed == 0);
    world_destroy(&world);
}

static void whole_job_inproc(void **state) {
    whole_job(false);
}
static void whole_job_tcp(void **state) {
    whole_job(true);
}

static void ends_when_idle(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = -1};
    world_make(&world, false);
    world.config.exit_when_idle = true;
    world_serve(&world);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, single);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    world_join(&world);
    assert_int_equal(world.outcome, ERR_OK);
    fake_stop(&worker);
    world_destroy(&world);
}

/* A list of prompts and an image travel by hash. */
static void files_are_uploaded(void **state) {
    static const char yaml[] = "job: files\n" HEADER "videos:\n  - {file: lists/prompts.txt}\n"
                               "  - {name: pic, prompt: x, image: first.png}\n";
    struct world world;
    struct fake worker = {.hold_kind = -1};
    struct error error;
    static char big[300000];
    memset(big, 'p', sizeof big - 1);
    world_make(&world, true);
    world_serve(&world);
    world_write(&world, "lists/prompts.txt", "a cat\na dog\n");
    world_write(&world, "first.png", big);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, yaml);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    assert_int_equal(world_count(&world, "out", ".mkv"), 3);
    unlink(world_write(&world, "first.png", ""));
    struct client_submitted submitted;
    const struct client_submission again = {.path = world_write(&world, "again.yaml", yaml)};
    assert_int_equal(client_submit(world.client, &submitted, &again, &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, "again.yaml:"));
    fake_stop(&worker);
    close_world(&world);
}

/* -- kills ------------------------------------------------------------------------------------ */

static void killed_and_resumed(void **state) {
    enum { KILLS = 8 };
    struct world world;
    struct fake workers[2] = {{.hold_kind = -1, .delay_ms = 60}, {.hold_kind = -1, .delay_ms = 60}};
    int midway = 0;
    world_make(&world, true);
    pid_t child = world_spawn(&world);
    world_connect(&world);
    fake_start(&workers[0], &world, "a");
    fake_start(&workers[1], &world, "b");
    uint64_t job = world_submit(&world, demo);
    for (int i = 0; i < KILLS; i++) {
        rest((int)random_below(250, 7, 0, (uint64_t)i));
        midway += state_of(&world, job) == JOB_RUNNING;
        world_kill(child);
        child = world_spawn(&world);
    }
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    assert_true(midway >= KILLS / 2);
    check_published(&world, demo);
    assert_true(world_submit(&world, demo) == job);
    fake_stop(&workers[0]);
    fake_stop(&workers[1]);
    client_close(&world.client);
    world_kill(child);
    world_destroy(&world);
}

static void part_of_dead_epoch_is_removed(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = PLAN_MUX};
    open_world(&world);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, single);
    wait_for(&worker.holding);
    assert_int_equal(world_count(&world, "out", ".part"), 1);
    world_write(&world, "out/.foreign.mkv.1.part", "not ours");
    worker.vanish = true;
    fake_stop(&worker);
    world_stop(&world);
    world_serve(&world);
    assert_int_equal(world_count(&world, "out", ".part"), 1); /* the foreign one */
    assert_true(world_has(&world, "out/.foreign.mkv.1.part"));
    struct fake other = {.hold_kind = -1};
    fake_start(&other, &world, "b");
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    fake_stop(&other);
    close_world(&world);
}

static void late_result_is_refused(void **state) {
    struct world world;
    struct fake slow = {.hold_kind = PLAN_MUX}, other = {.hold_kind = -1};
    world_make(&world, true);
    world.config.lease_ns = 300 * CLOCK_MS;
    world_serve(&world);
    fake_start(&slow, &world, "slow");
    uint64_t job = world_submit(&world, single);
    wait_for(&slow.holding);
    fake_start(&other, &world, "other");
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    slow.release = true;
    for (int i = 0; i < 500 && slow.stale == 0; i++)
        rest(10);
    assert_true(slow.stale > 0);
    check_published(&world, single);
    fake_stop(&slow);
    fake_stop(&other);
    world_stop(&world);
    assert_true(world.counts.published == 1);
    world_destroy(&world);
}

/* -- files of others -------------------------------------------------------------------------- */

static void foreign_file_is_kept(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = PLAN_MUX};
    struct error error;
    struct client_submitted submitted;
    open_world(&world);
    world_write(&world, "out/single-one.mkv", "mine");
    const struct client_submission submission = {.path = world_write(&world, "j.yaml", single)};
    assert_int_equal(client_submit(world.client, &submitted, &submission, &error), ERR_DENIED);
    assert_non_null(strstr(error.detail, "single-one.mkv"));
    unlink(world_write(&world, "out/single-one.mkv", ""));
    /* It comes while the work is under way. */
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, single);
    wait_for(&worker.holding);
    world_write(&world, "out/single-one.mkv", "mine");
    worker.release = true;
    assert_int_equal(world_follow(&world, job), JOB_FAILED);
    assert_int_equal(world_count(&world, "out", ".part"), 0);
    unlink(world_write(&world, "out/single-one.mkv", ""));
    check_ok(client_control(world.client, job, CONTROL_RETRY, &error), &error);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    check_published(&world, single);
    fake_stop(&worker);
    close_world(&world);
}

static void refuse_job(struct world *world, const char *yaml, enum error_code code,
                       const char *why) {
    struct error error;
    struct client_submitted submitted;
    const struct client_submission submission = {.path = world_write(world, "bad.yaml", yaml)};
    assert_int_equal(client_submit(world->client, &submitted, &submission, &error), code);
    assert_non_null(strstr(error.detail, why));
}

static enum error_code no_picture(const char *path, struct error *error) {
    return error_set(error, ERR_FORMAT, "%s is no picture", path);
}

/* What the client can see is told by the client; what only the model's owner knows, by it alone. */
static void client_and_server_agree(void **state) {
    static const char shots[] =
        "job: s\nmodel: fake\noutput: {path: out/s.mkv, codec: ffv1}\n"
        "videos:\n  - {name: a, prompt: a, frames: 16, shots: [{seconds: 1}, "
        "{seconds: 1}]}\n";
    static const char image[] = "job: i\n" HEADER "videos:\n"
                                "  - {name: a, prompt: a, image: i.png}\n";
    struct world world;
    struct error error;
    struct client_submitted submitted;
    open_world(&world);
    world_submit(&world, shots); /* 8 frames a second, which the client does not know */
    world_write(&world, "i.png", "text");
    const struct client_submission submission = {.path = world_write(&world, "i.yaml", image),
                                                 .check_image = no_picture};
    assert_int_equal(client_submit(world.client, &submitted, &submission, &error), ERR_FORMAT);
    assert_non_null(strstr(error.detail, "i.yaml:6:33: image: "));
    close_world(&world);
}

/* What may not be meant is told at submission, in the words that job_next_warning has: the client
 * has no model to know it by. */
static void warnings_are_told(void **state) {
    static const char yaml[] =
        "job: w\nmodel: %s\nlora:\n"
        "  - {file: low-poly.safetensors, strength: 0.5}\n  - {file: b.safetensors}\n"
        "  - {file: low-c.safetensors%s}\n  - {file: low-poly.safetensors}\n"
        "output: {path: \"out/{video}%d.mkv\", size: 64x32, fps: 8, codec: ffv1}\n"
        "videos:\n  - {name: a, prompt: a, seconds: 1}\n";
    const struct job_resolver resolver = world_resolver();
    struct world world;
    struct error error;
    struct job *job;
    char text[1024];
    open_world(&world);
    for (int i = 0; i < 2;
         i++) { /* of a model that has no experts to choose from, and one that has */
        struct client_submitted submitted;
        struct job_warning warning = {.lora = 0};
        (void)snprintf(text, sizeof text, yaml, i ? "experts" : "fake", i ? ", expert: both" : "",
                       i);
        const struct client_submission submission = {.path = world_write(&world, "w.yaml", text)};
        check_ok(client_submit(world.client, &submitted, &submission, &error), &error);
        assert_int_equal(submitted.warning_count, i);
        check_ok(job_parse(&job, "w.yaml", text, strlen(text), &resolver, &error), &error);
        assert_int_equal(job_next_warning(&warning, job), i == 1);
        if (i == 1)
            assert_string_equal(submitted.warnings[0], warning.text);
        assert_false(job_next_warning(&warning, job));
        job_close(&job);
    }
    close_world(&world);
}

/* What a plan leaves out, likewise: shots in which no window begins. */
static void notes_are_told(void **state) {
    static const char yaml[] =
        "job: n\nmodel: fake\n"
        "output: {path: \"out/{video}.mkv\", size: 64x32, fps: 8, codec: ffv1}\n"
        "videos:\n  - {name: a, prompt: a, seconds: 1}\n"
        "  - {name: b, prompt: a, shots: [{seconds: 0.25}, {seconds: 0.125}, {seconds: 0.125}]}\n";
    const struct job_resolver resolver = world_resolver();
    struct world world;
    struct error error;
    struct job *job;
    struct client_submitted submitted;
    struct plan_note note = {0};
    char expected[PROTO_TEXT_BYTES];
    open_world(&world);
    const struct client_submission submission = {.path = world_write(&world, "n.yaml", yaml)};
    check_ok(client_submit(world.client, &submitted, &submission, &error), &error);
    check_ok(job_parse(&job, "n.yaml", yaml, strlen(yaml), &resolver, &error), &error);
    for (int i = 0; i < 2; i++) {
        assert_true(plan_next_note(&note, job));
        (void)snprintf(expected, sizeof expected, "video b: %s", note.text);
        assert_true(i < submitted.note_count);
        assert_string_equal(submitted.notes[i], expected);
    }
    assert_int_equal(submitted.note_count, 2);
    job_close(&job);
    close_world(&world);
}

/* Paths that name one place, and places that no output may go to: told at submission. */
static void places_of_outputs(void **state) {
    static const char two[] = "job: two\n" HEADER "videos:\n"
                              "  - {name: a, prompt: a, output: {path: out/x.mkv}}\n"
                              "  - {name: b, prompt: b, output: {path: %s/%s/x.mkv}}\n";
    static const char pictures[] = "job: p\n" HEADER "videos:\n"
                                   "  - {name: a, prompt: a, output: {path: %s, codec: png, "
                                   "overwrite: true}}\n";
    struct world world;
    char yaml[1024], link[FILE_PATH_BYTES];
    open_world(&world);
    snprintf(yaml, sizeof yaml, two, world.folder, "out");
    refuse_job(&world, yaml, ERR_USAGE, "bad.yaml:7:41: path: videos \"a\" and \"b\" would both");
    world_write(&world, "out/other", "");
    snprintf(link, sizeof link, "%s/link", world.folder);
    assert_int_equal(symlink("out", link), 0);
    snprintf(yaml, sizeof yaml, two, world.folder, "link");
    refuse_job(&world, yaml, ERR_USAGE, "would both be written");
    snprintf(yaml, sizeof yaml, two, world.folder, "state/store");
    refuse_job(&world, yaml, ERR_USAGE, "keeps its own state");
    world_write(&world, "photos/holiday.jpg", "mine");
    snprintf(yaml, sizeof yaml, pictures, "photos/");
    refuse_job(&world, yaml, ERR_DENIED, "bad.yaml:6:41: path: ");
    assert_true(world_has(&world, "photos/holiday.jpg"));
    close_world(&world);
}

/* What has become of a published file is looked at before any work. */
static void foreign_file_in_own_place(void **state) {
    static const char changed[] = "job: single\n" HEADER "videos:\n"
                                  "  - {name: one, prompt: a green ball}\n";
    struct world world;
    struct fake worker = {.hold_kind = -1};
    open_world(&world);
    fake_start(&worker, &world, "a");
    assert_int_equal(world_follow(&world, world_submit(&world, single)), JOB_DONE);
    unlink(world_write(&world, "out/single-one.mkv", "somebody else's"));
    world_write(&world, "out/single-one.mkv", "somebody else's");
    refuse_job(&world, single, ERR_DENIED, "single-one.mkv");
    refuse_job(&world, changed, ERR_DENIED, "single-one.mkv");
    unlink(world_write(&world, "out/single-one.mkv", ""));
    world_write(&world, "out/single-one.mkv/notes", "mine");
    refuse_job(&world, single, ERR_DENIED, "a folder");
    fake_stop(&worker);
    close_world(&world);
}

/* A changed job may replace what this ledger has published, and only that. */
static void changed_job_replaces_its_own(void **state) {
    static const char changed[] = "job: single\n" HEADER "videos:\n"
                                  "  - {name: one, prompt: a green ball}\n";
    struct world world;
    struct fake worker = {.hold_kind = -1};
    open_world(&world);
    fake_start(&worker, &world, "a");
    uint64_t first = world_submit(&world, single);
    assert_int_equal(world_follow(&world, first), JOB_DONE);
    uint64_t second = world_submit(&world, changed);
    assert_true(second != first);
    assert_int_equal(world_follow(&world, second), JOB_DONE);
    check_published(&world, changed);
    fake_stop(&worker);
    close_world(&world);
}

static void removed_file_is_made_again(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = -1};
    open_world(&world);
    fake_start(&worker, &world, "a");
    assert_int_equal(world_follow(&world, world_submit(&world, demo)), JOB_DONE);
    unlink(world_write(&world, "out/demo-two.mkv", ""));
    assert_int_equal(world_follow(&world, world_submit(&world, demo)), JOB_DONE);
    check_published(&world, demo);
    fake_stop(&worker);
    close_world(&world);
}

static void one_server_a_state_folder(void **state) {
    struct world world;
    struct server *second = NULL;
    struct error error;
    open_world(&world);
    assert_int_equal(server_open(&second, &world.config, &error), ERR_BUSY);
    assert_null(second);
    close_world(&world);
}

/* -- control ---------------------------------------------------------------------------------- */

static void controls(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = -1};
    struct error error;
    struct client_job found;
    open_world(&world);
    uint64_t job = world_submit(&world, demo);
    check_ok(client_control(world.client, job, CONTROL_PAUSE, &error), &error);
    assert_int_equal(state_of(&world, job), JOB_PAUSED);
    fake_start(&worker, &world, "a");
    rest(300);
    assert_int_equal(worker.leases, 0);
    check_ok(client_control(world.client, job, CONTROL_CANCEL, &error), &error);
    assert_int_equal(world_follow(&world, job), JOB_CANCELED);
    assert_int_equal(client_control(world.client, job, CONTROL_PAUSE, &error), ERR_USAGE);
    check_ok(client_control(world.client, job, CONTROL_RETRY, &error), &error);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    check_published(&world, demo);
    check_ok(client_find_job(world.client, &found, "demo", &error), &error);
    assert_true(found.id == job);
    check_ok(client_find_job(world.client, &found, "#1", &error), &error);
    assert_int_equal(client_find_job(world.client, &found, "nothing", &error), ERR_MISSING);
    assert_int_equal(client_control(world.client, 99, CONTROL_PAUSE, &error), ERR_MISSING);
    assert_int_equal(client_drain(world.client, "nobody", false, &error), ERR_MISSING);
    check_ok(client_drain(world.client, "a", false, &error), &error);
    fake_stop(&worker);
    close_world(&world);
}

/* Paused or failed jobs go on when their document is submitted again. */
static void submitting_again_revives(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = -1, .fail = ERR_FORMAT};
    struct error error;
    open_world(&world);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, single);
    assert_int_equal(world_follow(&world, job), JOB_FAILED);
    fake_stop(&worker);
    assert_true(world_submit(&world, single) == job);
    check_ok(client_control(world.client, job, CONTROL_PAUSE, &error), &error);
    assert_true(world_submit(&world, single) == job);
    struct fake better = {.hold_kind = -1};
    fake_start(&better, &world, "b");
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    fake_stop(&better);
    close_world(&world);
}

static void colliding_jobs(void **state) {
    static const char changed[] = "job: single\n" HEADER "videos:\n"
                                  "  - {name: one, prompt: a green ball}\n";
    struct world world;
    struct error error;
    struct client_submitted submitted;
    open_world(&world);
    uint64_t first = world_submit(&world, single);
    const struct client_submission submission = {.path = world_write(&world, "c.yaml", changed)};
    assert_int_equal(client_submit(world.client, &submitted, &submission, &error), ERR_BUSY);
    world_stop(&world);
    world.config.supersede = true;
    world_serve(&world);
    uint64_t second = world_submit(&world, changed);
    assert_true(second != first);
    assert_int_equal(state_of(&world, first), JOB_CANCELED);
    close_world(&world);
}

static void no_coordinator(void **state) {
    struct client *client = NULL;
    struct client_job job;
    struct error error;
    const struct client_config config = {.address = "tcp://127.0.0.1:9",
                                         .timeout_ns = 300 * CLOCK_MS};
    check_ok(client_open(&client, &config, &error), &error);
    assert_int_equal(client_job(client, &job, 1, &error), ERR_NETWORK);
    client_close(&client);
}

/* -- hostile peers ---------------------------------------------------------------------------- */

static void storm(struct world *world, const char *address) {
    struct endpoint *endpoint = NULL;
    struct error error;
    const struct endpoint_config config = {.context = world->context, .role = ENDPOINT_DEALER};
    struct endpoint *endpoints[1];
    struct endpoint_frame frame;
    check_ok(endpoint_open(&endpoint, &config, &error), &error);
    check_ok(endpoint_connect(endpoint, address, &error), &error);
    endpoints[0] = endpoint;
    for (uint64_t i = 0; i < 3000;) {
        uint32_t words[64];
        for (uint32_t w = 0; w < 16; w++)
            random_block(words + 4 * w, 5, i, w);
        if (i % 2) /* the beginning of an envelope: version 1, then noise */
            words[0] = (words[0] & 0xffff0000u) | 0x0108u;
        if (endpoint_send(endpoint, 0, words, words[1] % sizeof words, NULL) == ERR_OK)
            i++;
        else
            check_ok(endpoint_wait(endpoints, 1, 10, true, &error), &error);
        while (endpoint_receive(endpoint, &frame)) {
        }
    }
    endpoint_close(&endpoint);
}

static void malformed_frames(void **state) {
    struct world world;
    struct fake worker = {.hold_kind = -1};
    world_make(&world, true);
    world_serve(&world);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, demo);
    storm(&world, world.worker_address);
    storm(&world, world.client_address);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    check_published(&world, demo);
    fake_stop(&worker);
    world_stop(&world);
    assert_true(world.counts.malformed > 1000);
    world_destroy(&world);
}

/* -- many, and full --------------------------------------------------------------------------- */

static void many_videos(void **state) {
    struct world world;
    struct error error;
    struct buffer yaml = {0};
    int waiting = 0;
    buffer_add_text(&yaml, "job: many\n" HEADER "videos:\n");
    for (int i = 0; i < 10000; i++)
        buffer_printf(&yaml, "  - {name: v%d, prompt: ball number %d}\n", i, i);
    open_world(&world);
    int64_t start = clock_monotonic_ns();
    uint64_t job = world_submit(&world, yaml.data);
    int64_t submitted = clock_monotonic_ns();
    check_ok(client_videos(world.client, job, count_visits, &waiting, &error), &error);
    int64_t listed = clock_monotonic_ns();
    world_stop(&world);
    int64_t stopped = clock_monotonic_ns();
    world_serve(&world);
    print_message("10000 videos: submitted in %.2f s, listed in %.2f s, taken up in %.2f s\n",
                  (double)(submitted - start) / CLOCK_S, (double)(listed - submitted) / CLOCK_S,
                  (double)(clock_monotonic_ns() - stopped) / CLOCK_S);
    assert_int_equal(state_of(&world, job), JOB_RUNNING);
    world_stop(&world);
    buffer_close(&yaml);
    world_destroy(&world);
}

/* Bytes until the disk is full, in folder/state/junk. */
static void fill_disk(const struct world *world) {
    char path[FILE_PATH_BYTES];
    static char block[65536];
    snprintf(path, sizeof path, "%s/state/junk", world->folder);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    check(file >= 0);
    for (size_t size = sizeof block; size >= 512; size /= 2)
        while (write(file, block, size) == (ssize_t)size) {
        }
    close(file);
}

static void full_disk(void **state) {
    static const char other[] = "job: other\n" HEADER "videos:\n  - {name: x, prompt: y}\n";
    struct world world;
    struct error error;
    struct client_submitted submitted;
    struct fake worker = {.hold_kind = PLAN_KEYFRAME};
    char path[FILE_PATH_BYTES];
    world_make(&world, false);
    snprintf(path, sizeof path, "%s/state", world.folder);
    check_ok(file_make_folders(path, &error), &error);
    if (mount("tmpfs", path, "tmpfs", 0, "size=64m") != 0) {
        world_destroy(&world);
        print_message("SKIPPED full_disk: cannot mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
    char store[FILE_PATH_BYTES];
    snprintf(store, sizeof store, "%s/store", world.folder);
    world.config.store = store;
    world_serve(&world);
    fake_start(&worker, &world, "a");
    uint64_t job = world_submit(&world, single);
    wait_for(&worker.holding);
    const struct client_submission submission = {.path = world_write(&world, "o.yaml", other)};
    fill_disk(&world);
    int known = worker.known;
    worker.release = true;
    rest(1500);
    assert_int_equal(worker.known, known); /* nothing is acknowledged */
    assert_int_equal(client_submit(world.client, &submitted, &submission, &error), ERR_FULL);
    assert_int_equal(state_of(&world, job), JOB_RUNNING);
    snprintf(path, sizeof path, "%s/state/junk", world.folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(world_follow(&world, job), JOB_DONE);
    check_published(&world, single);
    assert_int_equal(world_follow(&world, world_submit(&world, other)), JOB_DONE);
    fake_stop(&worker);
    world_stop(&world);
    assert_true(world.counts.full > 0);
    snprintf(path, sizeof path, "%s/state", world.folder);
    assert_int_equal(umount(path), 0);
    world_destroy(&world);
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "--serve") == 0)
        return world_child(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_job_inproc),
        cmocka_unit_test(whole_job_tcp),
        cmocka_unit_test(ends_when_idle),
        cmocka_unit_test(files_are_uploaded),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(part_of_dead_epoch_is_removed),
        cmocka_unit_test(late_result_is_refused),
        cmocka_unit_test(foreign_file_is_kept),
        cmocka_unit_test(client_and_server_agree),
        cmocka_unit_test(warnings_are_told),
        cmocka_unit_test(notes_are_told),
        cmocka_unit_test(places_of_outputs),
        cmocka_unit_test(foreign_file_in_own_place),
        cmocka_unit_test(changed_job_replaces_its_own),
        cmocka_unit_test(removed_file_is_made_again),
        cmocka_unit_test(one_server_a_state_folder),
        cmocka_unit_test(controls),
        cmocka_unit_test(submitting_again_revives),
        cmocka_unit_test(colliding_jobs),
        cmocka_unit_test(no_coordinator),
        cmocka_unit_test(malformed_frames),
        cmocka_unit_test(many_videos),
        cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
