/* A real agent against a scripted coordinator: what it says, what it repeats, what it drops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/worker/agent/scripted.h"

#define STEPS_MANY 1000 /* more than a test waits for */

enum { A = 101, B = 102, C = 103, TEXT = 100 };

/* Joined, and the text's rows are in the store. */
static struct scripted *open_joined(const char *address, vidloom_Artifact *text) {
    struct scripted *s = scripted_open(address);
    scripted_start(s);
    scripted_join_session(s);
    scripted_lease_text(s, TEXT);
    const vidloom_Result *result = scripted_expect_result(s, TEXT);
    assert_int_equal(result->code, ERR_OK);
    assert_int_equal(result->outputs_count, 1);
    *text = result->outputs[0];
    scripted_known(s, TEXT, ERR_OK);
    return s;
}

/* A runs, and B waits behind it. */
static struct scripted *open_busy(const char *address) {
    vidloom_Artifact text;
    struct scripted *s = open_joined(address, &text);
    scripted_lease_long(s, A, &text, STEPS_MANY);
    scripted_lease_image(s, B);
    scripted_expect_progress(s, A, 1);
    return s;
}

/* Another piece of work goes through; a result of another epoch would fail. */
static void works(struct scripted *s, uint64_t epoch) {
    scripted_lease_image(s, epoch);
    const vidloom_Result *result = scripted_expect_result(s, epoch);
    assert_int_equal(result->code, ERR_OK);
    assert_string_equal(result->outputs[0].name, "frames");
    scripted_known(s, epoch, ERR_OK);
}

/* -- the way of a lease ------------------------------------------------------------------------ */

static void full_circle(const char *address) {
    struct scripted *s = scripted_open(address);
    scripted_start(s);
    const vidloom_Hello *hello = &scripted_expect(s, vidloom_Envelope_hello_tag)->body.hello;
    assert_string_equal(hello->name, "tester");
    assert_string_not_equal(hello->class, "");
    assert_string_equal(hello->program, VIDLOOM_VERSION);
    assert_int_equal(hello->kinds, 63);
    assert_int_equal(hello->threads, 1);
    assert_true(hello->nonce != 0);
    scripted_welcome(s);
    assert_int_equal(scripted_expect(s, vidloom_Envelope_request_work_tag)->body.request_work.slots,
                     2);
    scripted_lease_text(s, TEXT);
    const vidloom_Result *result = scripted_expect_result(s, TEXT);
    assert_int_equal(result->code, ERR_OK);
    assert_string_equal(result->outputs[0].name, "rows");

    struct store *store;
    struct error error;
    char path[FILE_PATH_BYTES];
    const struct hash hash = message_hash(result->outputs[0].hash);
    assert_int_equal(store_open(&store, s->store, &error), ERR_OK);
    assert_int_equal(store_find(store, path, &hash, result->outputs[0].size, true, &error), ERR_OK);
    store_close(&store);
    scripted_known(s, TEXT, ERR_OK);
    works(s, A);
    scripted_close(s);
}

static void inproc(void **state) {
    full_circle("inproc://workers");
}

static void loopback(void **state) {
    full_circle("tcp://127.0.0.1:*");
}

static void repeats_a_result_until_known(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("tcp://127.0.0.1:*", &text);
    scripted_lease_image(s, A);
    scripted_expect_result(s, A);
    scripted_expect_result(s, A);
    scripted_expect_result(s, A);
    scripted_lease_image(s, B);
    while (scripted_expect(s, vidloom_Envelope_result_tag)->body.result.epoch != B) {
    }
    scripted_known(s, A, ERR_STALE);
    scripted_known(s, 77, ERR_OK); /* of nobody */
    while (scripted_expect(s, vidloom_Envelope_result_tag)->body.result.epoch != B) {
    }
    scripted_expect_result(s, B); /* alone from here on */
    scripted_expect_result(s, B);
    scripted_close(s);
}

static void reports_steps(void **state) {
    struct scripted *s = open_busy("inproc://workers");
    scripted_expect_progress(s, A, 2);
    const vidloom_Progress *progress =
        &scripted_expect(s, vidloom_Envelope_progress_tag)->body.progress;
    if (progress->epoch == A) {
        assert_int_equal(progress->steps, STEPS_MANY);
        assert_true(progress->fraction > 0 && progress->fraction < 1);
    }
    scripted_close(s);
}

/* Leases that wait are renewed, and one whose stage says nothing yet. */
static void renews_what_waits(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("inproc://workers", &text);
    s->lease_ms = 800; /* shorter than four heartbeats: the lease counts */
    scripted_welcome(s);
    scripted_lease_long(s, A, &text, STEPS_MANY);
    scripted_lease_image(s, B);
    scripted_lease_image(s, C);
    for (int i = 0; i < 3; i++) {
        scripted_expect_progress(s, A, 0);
        scripted_expect_progress(s, B, 0);
        scripted_expect_progress(s, C, 0);
    }
    scripted_close(s);
}

static void tells_what_is_missing(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("inproc://workers", &text);
    memset(text.hash, 0xab, sizeof text.hash);
    scripted_lease_long(s, A, &text, 1);
    const vidloom_Result *result = scripted_expect_result(s, A);
    assert_int_equal(result->code, ERR_MISSING);
    assert_true(result->object_missing);
    assert_memory_equal(result->object, text.hash, sizeof text.hash);
    assert_string_not_equal(result->detail, "");
    scripted_known(s, A, ERR_OK);
    works(s, B);
    scripted_close(s);
}

/* -- revoked ----------------------------------------------------------------------------------- */

static void revoked_while_it_runs(void **state) {
    struct scripted *s = open_busy("tcp://127.0.0.1:*");
    scripted_revoke(s, A);
    assert_int_equal(scripted_expect_result(s, B)->code, ERR_OK); /* and nothing of A */
    scripted_known(s, B, ERR_OK);
    works(s, C);
    scripted_close(s);
}

static void revoked_while_it_waits(void **state) {
    struct scripted *s = open_busy("inproc://workers");
    scripted_revoke(s, B);
    scripted_revoke(s, 0); /* nobody's: not "all" */
    scripted_expect_progress(s, A, 2);
    scripted_lease_image(s, C);
    scripted_revoke(s, A);
    assert_int_equal(scripted_expect_result(s, C)->code, ERR_OK);
    scripted_close(s);
}

static void revoked_when_it_was_done(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("inproc://workers", &text);
    scripted_lease_image(s, A);
    scripted_expect_result(s, A);
    scripted_revoke(s, A);
    scripted_lease_image(s, B);
    while (scripted_expect(s, vidloom_Envelope_result_tag)->body.result.epoch != B) {
    }
    scripted_expect_result(s, B);
    scripted_close(s);
}

/* -- sessions ---------------------------------------------------------------------------------- */

static void known_again(void **state) {
    struct scripted *s = open_busy("tcp://127.0.0.1:*");
    scripted_refuse(s, ERR_STALE, "who are you?");
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_welcome(s); /* the session it had: everything goes on */
    scripted_expect_progress(s, A, 2);
    scripted_expect_progress(s, B, 0);
    scripted_close(s);
}

static void new_session(void **state) {
    struct scripted *s = open_busy("tcp://127.0.0.1:*");
    scripted_refuse(s, ERR_STALE, "who are you?");
    scripted_expect(s, vidloom_Envelope_hello_tag);
    s->session++;
    scripted_welcome(s);
    scripted_expect(s, vidloom_Envelope_request_work_tag);
    works(s, C); /* and nothing of A and B */
    scripted_close(s);
}

/* The new coordinator has another store: not before the old work has stopped. */
static void new_session_with_another_store(void **state) {
    struct scripted *s = open_busy("inproc://workers");
    scripted_refuse(s, ERR_STALE, "who are you?");
    scripted_expect(s, vidloom_Envelope_hello_tag);
    s->session++;
    snprintf(s->store, sizeof s->store, "%s/other", s->folder);
    scripted_welcome(s);
    scripted_expect(s, vidloom_Envelope_request_work_tag); /* hello again before, maybe */
    scripted_lease_image(s, C);
    const vidloom_Result *result = scripted_expect_result(s, C);
    struct hash hash = message_hash(result->outputs[0].hash);
    uint64_t size = result->outputs[0].size;
    struct store *store;
    struct error error;
    char path[FILE_PATH_BYTES];
    assert_int_equal(store_open(&store, s->store, &error), ERR_OK);
    assert_int_equal(store_find(store, path, &hash, size, true, &error), ERR_OK);
    store_close(&store);
    scripted_close(s);
}

static void silence(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("tcp://127.0.0.1:*", &text);
    s->heartbeat_ms = 100;
    scripted_welcome(s);
    scripted_lease_long(s, A, &text, STEPS_MANY);
    scripted_expect_progress(s, A, 1);
    s->mute = true;
    uint64_t nonce = scripted_expect(s, vidloom_Envelope_hello_tag)->body.hello.nonce;
    for (int i = 0; i < 2; i++)
        assert_int_equal(scripted_hear(s)->which_body, vidloom_Envelope_hello_tag);
    assert_true(s->in.envelope.body.hello.nonce == nonce);
    s->mute = false;
    s->heartbeat_ms = 1000;
    scripted_welcome(s);
    scripted_expect_progress(s, A, 2); /* its lease had not run out */
    scripted_close(s);
}

/* Longer than the lease: the work is stopped, and handed back when there is someone again. */
static void long_silence(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("inproc://workers", &text);
    s->heartbeat_ms = 50;
    s->lease_ms = 100;
    scripted_welcome(s);
    scripted_lease_long(s, A, &text, STEPS_MANY);
    s->mute = true;
    for (int hellos = 0; hellos < 3;)
        hellos += scripted_hear(s)->which_body == vidloom_Envelope_hello_tag;
    s->mute = false;
    s->heartbeat_ms = 1000;
    s->lease_ms = 30000;
    scripted_welcome(s);
    assert_int_equal(scripted_expect_result(s, A)->code, ERR_INTERRUPTED);
    scripted_known(s, A, ERR_STALE);
    works(s, B);
    scripted_close(s);
}

/* With nothing to say to each other, the coordinator is asked for a sign of life. */
static void idle(void **state) {
    vidloom_Artifact text;
    struct scripted *s = open_joined("tcp://127.0.0.1:*", &text);
    s->heartbeat_ms = 200;
    scripted_welcome(s);
    for (int i = 0; i < 5; i++)
        scripted_expect(s, vidloom_Envelope_heartbeat_tag);
    scripted_close(s);
}

/* -- leaving ----------------------------------------------------------------------------------- */

/* What was begun is finished, what waits is handed back, and no more is asked for. */
static void finishes_and_leaves(struct scripted *s) {
    bool asked = false, handed_back = false, finished = false, left = false;
    scripted_pace(false);
    while (!left) {
        const vidloom_Envelope *in = scripted_hear(s);
        if (in->which_body == vidloom_Envelope_request_work_tag)
            asked |= in->body.request_work.slots == 0;
        left = in->which_body == vidloom_Envelope_bye_tag;
        if (in->which_body != vidloom_Envelope_result_tag)
            continue;
        const vidloom_Result *result = &in->body.result;
        finished |= result->epoch == A && result->code == ERR_OK;
        handed_back |= result->epoch != A && result->code == ERR_INTERRUPTED;
        scripted_known(s, result->epoch, ERR_OK);
    }
    assert_true(asked && handed_back && finished);
    int counts[64] = {0};
    scripted_drive_to_end(s, counts);
    assert_int_equal(scripted_join(s), ERR_OK);
    scripted_close(s);
}

static struct scripted *open_busy_for_a_while(const char *address) {
    vidloom_Artifact text;
    struct scripted *s = open_joined(address, &text);
    scripted_lease_long(s, A, &text, STEPS_MANY);
    scripted_expect_progress(s, A, 1);
    return s;
}

static void drained(void **state) {
    struct scripted *s = open_busy_for_a_while("tcp://127.0.0.1:*");
    scripted_drain(s, false);
    scripted_lease_image(s, B); /* crossed our "no more" */
    finishes_and_leaves(s);
}

static void told_to_stop(void **state) {
    struct scripted *s = open_busy_for_a_while("inproc://workers");
    atomic_store(&s->stop, true);
    scripted_lease_image(s, B);
    finishes_and_leaves(s);
}

static void stops_all_and_leaves(struct scripted *s) {
    int results = 0;
    while (results < 2) {
        const vidloom_Result *result =
            &scripted_expect(s, vidloom_Envelope_result_tag)->body.result;
        assert_int_equal(result->code, ERR_INTERRUPTED);
        scripted_known(s, result->epoch, ERR_OK);
        results++;
    }
    int counts[64] = {0};
    scripted_drive_to_end(s, counts);
    assert_int_equal(counts[vidloom_Envelope_bye_tag], 1);
    assert_int_equal(scripted_join(s), ERR_OK);
    scripted_close(s);
}

static void drained_at_once(void **state) {
    struct scripted *s = open_busy("tcp://127.0.0.1:*");
    scripted_drain(s, true);
    stops_all_and_leaves(s);
}

static void canceled(void **state) {
    struct scripted *s = open_busy("inproc://workers");
    atomic_store(&s->cancel, true);
    stops_all_and_leaves(s);
}

/* Another has come with its name, and has its place: it must not take it back. */
static void replaced(void **state) {
    struct scripted *s = open_busy("tcp://127.0.0.1:*");
    int counts[64] = {0};
    scripted_drain(s, true);
    scripted_refuse(s, ERR_STALE, "who are you?");
    scripted_drive_to_end(s, counts);
    assert_int_equal(counts[vidloom_Envelope_hello_tag], 0);
    assert_int_equal(counts[vidloom_Envelope_bye_tag], 0);
    assert_int_equal(scripted_join(s), ERR_OK);
    scripted_close(s);
}

/* -- what goes wrong --------------------------------------------------------------------------- */

static void nobody_there(void **state) {
    static const char *const addresses[] = {"tcp://127.0.0.1:*", "inproc://workers"};
    for (int i = 0; i < 2; i++) {
        struct scripted *s = scripted_open(addresses[i]);
        char address[ENDPOINT_ADDRESS_BYTES];
        snprintf(address, sizeof address, "%s", endpoint_address(s->router));
        if (i == 1)
            snprintf(address, sizeof address, "inproc://elsewhere");
        endpoint_close(&s->router);
        const struct endpoint_config endpoint = {.context = s->context, .role = ENDPOINT_ROUTER};
        assert_int_equal(endpoint_open(&s->router, &endpoint, NULL), ERR_OK);
        s->config.address = address;
        s->config.connect_timeout_ms = 50;
        scripted_start(s);
        assert_int_equal(scripted_join(s), ERR_NETWORK);
        assert_non_null(strstr(s->error.detail, address));
        assert_non_null(strstr(s->error.detail, "vidloom coordinator"));
        scripted_close(s);
    }
}

static void stopped_before_anyone_answers(void **state) {
    struct scripted *s = scripted_open("tcp://127.0.0.1:*");
    scripted_start(s);
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_expect(s, vidloom_Envelope_hello_tag);
    atomic_store(&s->stop, true);
    assert_int_equal(scripted_join(s), ERR_OK);
    scripted_close(s);
}

static void not_wanted(void **state) {
    struct scripted *s = scripted_open("inproc://workers");
    s->mute = true;
    scripted_start(s);
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_refuse(s, ERR_MEMORY, "later, perhaps"); /* worth another try */
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_refuse(s, ERR_STALE, "say hello"); /* it does */
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_refuse(s, ERR_USAGE, "a worker needs a name");
    assert_int_equal(scripted_join(s), ERR_USAGE);
    assert_non_null(strstr(s->error.detail, "a worker needs a name"));
    scripted_close(s);
}

static void no_store(void **state) {
    struct scripted *s = scripted_open("inproc://workers");
    scripted_start(s);
    scripted_expect(s, vidloom_Envelope_hello_tag);
    s->store[0] = '\0';
    scripted_welcome(s);
    assert_int_equal(scripted_join(s), ERR_USAGE);
    assert_non_null(strstr(s->error.detail, "--store"));
    scripted_close(s);
}

static void nonsense(void **state) {
    struct scripted *s = scripted_open("tcp://127.0.0.1:*");
    static const uint8_t noise[] = {0xff, 0, 0x80, 7, 0x55, 0xaa};
    struct error error;
    scripted_start(s);
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_lease_image(s, A); /* before the welcome: nobody's */
    for (size_t length = 0; length <= sizeof noise; length++)
        assert_int_equal(endpoint_send(s->router, s->peer, noise, length, &error), ERR_OK);
    uint64_t session = s->session;
    s->session = 0;
    scripted_welcome(s);
    s->session = session;
    message_begin(&s->out, vidloom_Envelope_done_tag); /* to clients */
    scripted_say(s);
    message_begin(&s->out, vidloom_Envelope_bye_tag); /* of workers */
    scripted_say(s);
    scripted_welcome(s);
    assert_int_equal(scripted_expect(s, vidloom_Envelope_request_work_tag)->body.request_work.slots,
                     2);
    scripted_lease_image(s, 0);
    message_begin(&s->out, vidloom_Envelope_done_tag);
    assert_int_equal(message_encode(&s->frame, &s->out, &error), ERR_OK);
    assert_int_equal(endpoint_send(s->router, s->peer, s->frame.data, s->frame.length - 1, &error),
                     ERR_OK);
    works(s, B);
    scripted_close(s);
}

/* The table of a device that is lost in the middle of a task. */
static enum error_code lost_device(struct device *device, struct error *error) {
    return error_set(error, ERR_DEVICE, "the device is lost");
}

static void device_fails(void **state) {
    struct scripted *s = scripted_open("inproc://workers");
    s->ops.status = lost_device;
    scripted_start(s);
    scripted_join_session(s);
    scripted_lease_text(s, A);
    scripted_lease_image(s, B);
    const vidloom_Result *result = scripted_expect_result(s, A);
    assert_int_equal(result->code, ERR_DEVICE);
    assert_string_equal(result->detail, "the device is lost");
    scripted_known(s, A, ERR_OK);
    assert_int_equal(scripted_expect_result(s, B)->code, ERR_INTERRUPTED);
    scripted_known(s, B, ERR_OK);
    int counts[64] = {0};
    scripted_drive_to_end(s, counts);
    assert_int_equal(counts[vidloom_Envelope_bye_tag], 1);
    assert_int_equal(scripted_join(s), ERR_DEVICE);
    assert_string_equal(s->error.detail, "the device is lost");
    scripted_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inproc),
        cmocka_unit_test(loopback),
        cmocka_unit_test(repeats_a_result_until_known),
        cmocka_unit_test(reports_steps),
        cmocka_unit_test(renews_what_waits),
        cmocka_unit_test(tells_what_is_missing),
        cmocka_unit_test(revoked_while_it_runs),
        cmocka_unit_test(revoked_while_it_waits),
        cmocka_unit_test(revoked_when_it_was_done),
        cmocka_unit_test(known_again),
        cmocka_unit_test(new_session),
        cmocka_unit_test(new_session_with_another_store),
        cmocka_unit_test(silence),
        cmocka_unit_test(long_silence),
        cmocka_unit_test(idle),
        cmocka_unit_test(drained),
        cmocka_unit_test(told_to_stop),
        cmocka_unit_test(drained_at_once),
        cmocka_unit_test(canceled),
        cmocka_unit_test(replaced),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(stopped_before_anyone_answers),
        cmocka_unit_test(not_wanted),
        cmocka_unit_test(no_store),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(device_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
