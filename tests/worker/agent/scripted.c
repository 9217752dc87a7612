#include "tests/worker/agent/scripted.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "tests/worker/media/png.h"
#include "worker/model/model.h"

#define HANG_NS (60 * CLOCK_S)
#define LOOK_MS 10
#define STEP_US 10000

static void must(enum error_code code, const struct error *error) {
    if (code != ERR_OK)
        fail_msg("%s: %s", error_name(code), error->detail);
}

/* -- pace -------------------------------------------------------------------------------------- */

/* Of the one agent that runs; operations have no place for a test's own data. */
static atomic_bool pace_slow;

void scripted_pace(bool slow) {
    atomic_store(&pace_slow, slow);
}

/* Called after every step. */
static enum error_code paced_status(struct device *device, struct error *error) {
    if (atomic_load(&pace_slow))
        usleep(STEP_US);
    return ops_cpu()->status(device, error);
}

/* -- life -------------------------------------------------------------------------------------- */

struct scripted *scripted_open(const char *address) {
    struct scripted *s = calloc(1, sizeof *s);
    struct error error = {0};
    struct model_info info;
    assert_non_null(s);
    snprintf(s->folder, sizeof s->folder, "/tmp/vidloom-agent-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    snprintf(s->store, sizeof s->store, "%s/store", s->folder);
    must(model_read_info(&info, "tests/vectors/random_wan", &error), &error);
    hash_hex(s->model_hash, &info.hash);
    must(endpoint_context_open(&s->context, &error), &error);
    const struct endpoint_config endpoint = {.context = s->context, .role = ENDPOINT_ROUTER};
    must(endpoint_open(&s->router, &endpoint, &error), &error);
    must(endpoint_bind(s->router, address, &error), &error);
    s->session = 11;
    s->heartbeat_ms = 1000;
    s->lease_ms = 30000;
    s->ops = *ops_cpu();
    s->ops.status = paced_status;
    scripted_pace(true);
    s->config = (struct agent_config){.name = "tester",
                                      .address = endpoint_address(s->router),
                                      .context = s->context,
                                      .models = "tests/vectors",
                                      .ops = &s->ops,
                                      .device = {.threads = 1},
                                      .dtype = DTYPE_F32,
                                      .stop = &s->stop,
                                      .cancel = &s->cancel};
    return s;
}

static void *run_agent(void *user) {
    struct scripted *s = user;
    s->code = agent_run(s->agent, &s->error);
    atomic_store(&s->over, true);
    endpoint_wake(s->router);
    return NULL;
}

void scripted_start(struct scripted *s) {
    struct error error = {0};
    pthread_t *thread = malloc(sizeof *thread);
    assert_non_null(thread);
    s->thread = thread;
    must(agent_open(&s->agent, &s->config, &error), &error);
    assert_int_equal(pthread_create(thread, NULL, run_agent, s), 0);
    s->running = true;
}

enum error_code scripted_join(struct scripted *s) {
    assert_int_equal(pthread_join(*(pthread_t *)s->thread, NULL), 0);
    s->running = false;
    return s->code;
}

void scripted_close(struct scripted *s) {
    struct error error;
    atomic_store(&s->stop, true);
    atomic_store(&s->cancel, true);
    if (s->running) {
        int counts[64] = {0};
        scripted_drive_to_end(s, counts);
        must(scripted_join(s), &s->error);
    }
    agent_close(&s->agent);
    endpoint_close(&s->router);
    endpoint_context_close(&s->context);
    buffer_close(&s->frame);
    must(file_remove_tree(s->folder, &error), &error);
    free(s->thread);
    free(s);
}

/* -- saying ------------------------------------------------------------------------------------ */

void scripted_say(struct scripted *s) {
    struct error error = {0};
    must(message_encode(&s->frame, &s->out, &error), &error);
    enum error_code code =
        endpoint_send(s->router, s->peer, s->frame.data, s->frame.length, &error);
    if (code != ERR_NETWORK) /* it has left */
        must(code, &error);
}

void scripted_welcome(struct scripted *s) {
    message_begin(&s->out, vidloom_Envelope_welcome_tag);
    vidloom_Welcome *welcome = &s->out.body.welcome;
    welcome->session = s->session;
    welcome->lease_ms = s->lease_ms;
    welcome->heartbeat_ms = s->heartbeat_ms;
    message_set_text(welcome->store, sizeof welcome->store, s->store);
    scripted_say(s);
}

void scripted_known(struct scripted *s, uint64_t epoch, enum error_code code) {
    message_begin(&s->out, vidloom_Envelope_result_known_tag);
    s->out.body.result_known.epoch = epoch;
    s->out.body.result_known.code = (uint32_t)code;
    scripted_say(s);
}

void scripted_revoke(struct scripted *s, uint64_t epoch) {
    message_begin(&s->out, vidloom_Envelope_revoke_tag);
    s->out.body.revoke.epoch = epoch;
    scripted_say(s);
}

void scripted_drain(struct scripted *s, bool now_too) {
    message_begin(&s->out, vidloom_Envelope_drain_tag);
    s->out.body.drain.now = now_too;
    scripted_say(s);
}

void scripted_refuse(struct scripted *s, enum error_code code, const char *detail) {
    message_begin(&s->out, vidloom_Envelope_refused_tag);
    s->out.body.refused.code = (uint32_t)code;
    message_set_text(s->out.body.refused.detail, sizeof s->out.body.refused.detail, detail);
    scripted_say(s);
}

void scripted_join_session(struct scripted *s) {
    scripted_expect(s, vidloom_Envelope_hello_tag);
    scripted_welcome(s);
    assert_int_equal(scripted_expect(s, vidloom_Envelope_request_work_tag)->body.request_work.slots,
                     2);
}

/* -- leases ------------------------------------------------------------------------------------ */

static vidloom_Lease *begin_lease(struct scripted *s, uint64_t epoch, vidloom_Kind kind,
                                  const char *parameters) {
    message_begin(&s->out, vidloom_Envelope_lease_tag);
    vidloom_Lease *lease = &s->out.body.lease;
    lease->epoch = epoch;
    lease->kind = kind;
    lease->lease_ms = s->lease_ms;
    memset(lease->key, (int)(epoch & 127), sizeof lease->key);
    message_set_text(lease->class, sizeof lease->class, "test");
    lease->parameters.bytes = parameters;
    lease->parameters.length = strlen(parameters);
    return lease;
}

void scripted_lease_image(struct scripted *s, uint64_t epoch) {
    static const uint8_t rgb[16 * 16 * 3] = {200, 100};
    vidloom_Lease *lease =
        begin_lease(s, epoch, vidloom_KIND_IMAGE, "{\"width\":32,\"height\":16}");
    struct error error = {0};
    struct hash hash;
    snprintf(lease->file_path, sizeof lease->file_path, "%s/picture.png", s->folder);
    write_png(lease->file_path, rgb, 16, 16);
    must(hash_of_file(&hash, lease->file_path, &error), &error);
    message_set_hash(lease->file_hash, &hash);
    scripted_say(s);
}

void scripted_lease_text(struct scripted *s, uint64_t epoch) {
    char parameters[512];
    snprintf(parameters, sizeof parameters,
             "{\"model\":\"random_wan\",\"model_hash\":\"%s\",\"text\":\"a balloon\"}",
             s->model_hash);
    begin_lease(s, epoch, vidloom_KIND_TEXT, parameters);
    scripted_say(s);
}

void scripted_lease_long(struct scripted *s, uint64_t epoch, const vidloom_Artifact *text,
                         int steps) {
    char parameters[512];
    vidloom_Artifact input = *text;
    snprintf(parameters, sizeof parameters,
             "{\"model\":\"random_wan\",\"model_hash\":\"%s\",\"width\":48,\"height\":32,"
             "\"seed\":7,\"stream\":0,\"noise\":\"vidloom\",\"sampler\":\"euler\",\"steps\":%d,"
             "\"guidance\":1,"
             "\"shift\":3}",
             s->model_hash, steps);
    vidloom_Lease *lease = begin_lease(s, epoch, vidloom_KIND_KEYFRAME, parameters);
    message_set_text(input.name, sizeof input.name, "text");
    lease->inputs.items = &input;
    lease->inputs.count = 1;
    lease->steps = (uint32_t)steps;
    scripted_say(s);
}

/* -- hearing ----------------------------------------------------------------------------------- */

/* False: nothing came within a moment. */
static bool hear_once(struct scripted *s) {
    struct endpoint_frame frame;
    struct error error = {0};
    if (!endpoint_receive(s->router, &frame)) {
        must(endpoint_wait(&s->router, 1, LOOK_MS, false, &error), &error);
        if (!endpoint_receive(s->router, &frame))
            return false;
    }
    s->peer = frame.peer;
    must(message_decode(&s->in, frame.bytes, frame.length, &error), &error);
    assert_true(message_senders(s->in.envelope.which_body) & MESSAGE_WORKER);
    if (s->in.envelope.which_body == vidloom_Envelope_heartbeat_tag && !s->mute) {
        message_begin(&s->out, vidloom_Envelope_heartbeat_tag);
        scripted_say(s);
    }
    return true;
}

const vidloom_Envelope *scripted_hear(struct scripted *s) {
    int64_t end = clock_monotonic_ns() + HANG_NS;
    while (!hear_once(s))
        if (clock_monotonic_ns() > end)
            fail_msg("the agent says nothing");
    return &s->in.envelope;
}

const vidloom_Envelope *scripted_expect(struct scripted *s, pb_size_t body) {
    int64_t end = clock_monotonic_ns() + HANG_NS;
    for (;;) {
        const vidloom_Envelope *in = scripted_hear(s);
        if (in->which_body == body)
            return in;
        if (in->which_body == vidloom_Envelope_hello_tag && !s->mute)
            scripted_welcome(s); /* the machine was slow, and we were taken for dead */
        if (in->which_body == vidloom_Envelope_result_tag)
            fail_msg("a result of epoch %llu (%s) instead of %s",
                     (unsigned long long)in->body.result.epoch, in->body.result.detail,
                     message_name(body));
        if (clock_monotonic_ns() > end)
            fail_msg("the agent does not say %s", message_name(body));
    }
}

const vidloom_Result *scripted_expect_result(struct scripted *s, uint64_t epoch) {
    const vidloom_Result *result = &scripted_expect(s, vidloom_Envelope_result_tag)->body.result;
    if (result->epoch != epoch)
        fail_msg("expected the result of epoch %llu, got %llu", (unsigned long long)epoch,
                 (unsigned long long)result->epoch);
    for (size_t i = 0; i < sizeof result->key; i++)
        assert_int_equal(result->key[i], epoch & 127);
    return result;
}

void scripted_expect_progress(struct scripted *s, uint64_t epoch, uint32_t step) {
    const vidloom_Progress *progress;
    do {
        progress = &scripted_expect(s, vidloom_Envelope_progress_tag)->body.progress;
        assert_in_range(progress->step, 0, progress->steps);
    } while (progress->epoch != epoch || progress->step < step);
}

void scripted_drive_to_end(struct scripted *s, int counts[64]) {
    int64_t end = clock_monotonic_ns() + HANG_NS;
    bool was_over;
    do {
        was_over = atomic_load(&s->over);
        while (hear_once(s)) {
            assert_in_range(s->in.envelope.which_body, 1, 63);
            counts[s->in.envelope.which_body]++;
            if (counts[vidloom_Envelope_bye_tag])
                scripted_refuse(s, ERR_STALE, "who are you?");
            if (s->in.envelope.which_body == vidloom_Envelope_result_tag)
                scripted_known(s, s->in.envelope.body.result.epoch, ERR_OK);
        }
        if (clock_monotonic_ns() > end)
            fail_msg("the agent does not end");
    } while (!was_over);
}
