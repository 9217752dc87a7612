#include "tests/coordinator/server_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/coordinator/server_check.h"

extern char **environ;

/* libzmq orders its threads by means that ThreadSanitizer does not see from outside. */
#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "ignore_noninstrumented_modules=1";
}
#endif

/* -- the model -------------------------------------------------------------------------------- */

static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    bool experts = strcmp(spec, "experts") == 0;
    if (!experts && strcmp(spec, "fake") != 0)
        return error_set(error, ERR_MISSING, "there is no model '%s'", spec);
    *out = (struct model_facts){
        .family = "fake",
        .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME | MODEL_CAN_WINDOW | MODEL_CAN_VAE,
        .size_multiple = 16,
        .size_min = 16,
        .size_max = 256,
        .width = 64,
        .height = 32,
        .fps = 8,
        .window_frames = 9,
        .overlaps = {1},
        .overlap_count = 1,
        .sampler = JOB_SAMPLER_EULER,
        .steps = 2,
        .guidance = 1,
        .shift = 1,
        .experts = experts ? 2 : 1,
    };
    hash_of(&out->hash, spec, strlen(spec));
    return ERR_OK;
}

static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    (void)user, (void)arena, (void)error;
    *out = (struct job_file){.path = ""};
    hash_of(&out->hash, spec, strlen(spec));
    return ERR_OK;
}

static enum job_expert lora_expert(void *user, bool *unclear, const char *spec) {
    (void)user;
    *unclear = strncmp(spec, "low-", 4) == 0;
    return JOB_EXPERT_BOTH;
}

struct job_resolver world_resolver(void) {
    return (struct job_resolver){
        .read_model = read_model, .find_lora = find_lora, .lora_expert = lora_expert};
}

/* -- the world -------------------------------------------------------------------------------- */

void world_make(struct world *world, bool tcp) {
    struct error error;
    *world = (struct world){0};
    snprintf(world->folder, sizeof world->folder, "/tmp/vidloom-server-XXXXXX");
    check(mkdtemp(world->folder) != NULL);
    check_ok(endpoint_context_open(&world->context, &error), &error);
    world->worker_endpoint[0] = tcp ? "tcp://127.0.0.1:*" : "inproc://workers";
    world->client_endpoint[0] = tcp ? "tcp://127.0.0.1:*" : "inproc://clients";
    world->config = (struct server_config){
        .worker_endpoints = world->worker_endpoint,
        .worker_endpoint_count = 1,
        .client_endpoints = world->client_endpoint,
        .client_endpoint_count = 1,
        .context = world->context,
        .resolver = world_resolver(),
        .stop = &world->stop,
    };
}

void world_destroy(struct world *world) {
    struct error error;
    endpoint_context_close(&world->context);
    check_ok(file_remove_tree(world->folder, &error), &error);
}

static char *in_world(const struct world *world, char out[FILE_PATH_BYTES], const char *name) {
    snprintf(out, FILE_PATH_BYTES, "%s/%s", world->folder, name);
    return out;
}

static void *serve(void *argument) {
    struct world *world = argument;
    struct error error;
    world->outcome = server_run(world->server, &error);
    if (world->outcome != ERR_OK)
        fprintf(stderr, "server_run: %s\n", error.detail);
    server_counts(world->server, &world->counts);
    return NULL;
}

void world_connect(struct world *world) {
    struct error error;
    const struct client_config config = {
        .address = world->client_address, .context = world->context, .timeout_ns = 60 * CLOCK_S};
    check_ok(client_open(&world->client, &config, &error), &error);
}

void world_serve(struct world *world) {
    struct error error;
    char state[FILE_PATH_BYTES];
    world->config.state = in_world(world, state, "state");
    if (!world->config.output_root)
        world->config.output_root = world->folder;
    world->stop = false;
    check_ok(server_open(&world->server, &world->config, &error), &error);
    snprintf(world->worker_address, sizeof world->worker_address, "%s",
             server_worker_address(world->server, 0));
    snprintf(world->client_address, sizeof world->client_address, "%s",
             server_client_address(world->server, 0));
    check(pthread_create(&world->thread, NULL, serve, world) == 0);
    world_connect(world);
}

void world_join(struct world *world) {
    check(pthread_join(world->thread, NULL) == 0);
    client_close(&world->client);
    server_close(&world->server);
}

void world_stop(struct world *world) {
    world->stop = true;
    world_join(world);
    check(world->outcome == ERR_OK);
}

/* -- another process -------------------------------------------------------------------------- */

/* The child writes its two addresses, a line each, to descriptor 3, then serves. */
int world_child(int argc, char **argv) {
    struct world world = {0};
    struct error error;
    char state[FILE_PATH_BYTES];
    snprintf(world.folder, sizeof world.folder, "%s", argv[2]);
    world.worker_endpoint[0] = argv[3];
    world.client_endpoint[0] = argv[4];
    world.config = (struct server_config){
        .state = in_world(&world, state, "state"),
        .output_root = world.folder,
        .worker_endpoints = world.worker_endpoint,
        .worker_endpoint_count = 1,
        .client_endpoints = world.client_endpoint,
        .client_endpoint_count = 1,
        .resolver = world_resolver(),
        .worker_ns = 5 * CLOCK_S,
    };
    if (server_open(&world.server, &world.config, &error) != ERR_OK) {
        fprintf(stderr, "child: %s\n", error.detail);
        return 1;
    }
    dprintf(3, "%s\n%s\n", server_worker_address(world.server, 0),
            server_client_address(world.server, 0));
    return server_run(world.server, &error) == ERR_OK ? 0 : 1;
}

static void read_line(int file, char *out, size_t bytes) {
    size_t length = 0;
    char byte;
    while (read(file, &byte, 1) == 1 && byte != '\n' && length < bytes - 1)
        out[length++] = byte;
    out[length] = '\0';
    check(length > 0);
}

pid_t world_spawn(struct world *world) {
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    char *arguments[] = {"server",
                         "--serve",
                         world->folder,
                         *world->worker_address ? world->worker_address : "tcp://127.0.0.1:*",
                         *world->client_address ? world->client_address : "tcp://127.0.0.1:*",
                         NULL};
    check(pipe(ends) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 3);
    check(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    /* The second time they are the same, and workers may be reading them. */
    char lines[2][ENDPOINT_ADDRESS_BYTES];
    read_line(ends[0], lines[0], sizeof lines[0]);
    read_line(ends[0], lines[1], sizeof lines[1]);
    if (*world->worker_address == '\0') {
        memcpy(world->worker_address, lines[0], sizeof lines[0]);
        memcpy(world->client_address, lines[1], sizeof lines[1]);
    }
    close(ends[0]);
    return child;
}

void world_kill(pid_t child) {
    int status;
    kill(child, SIGKILL);
    check(waitpid(child, &status, 0) == child);
}

/* -- files ------------------------------------------------------------------------------------ */

const char *world_write(struct world *world, const char *name, const char *text) {
    static _Thread_local char path[FILE_PATH_BYTES];
    char folder[FILE_PATH_BYTES];
    struct error error;
    in_world(world, path, name);
    memcpy(folder, path, sizeof folder);
    *strrchr(folder, '/') = '\0';
    check_ok(file_make_folders(folder, &error), &error);
    check_ok(file_write(path, text, strlen(text), false, &error), &error);
    return path;
}

bool world_has(const struct world *world, const char *name) {
    char path[FILE_PATH_BYTES];
    struct stat status;
    return lstat(in_world(world, path, name), &status) == 0;
}

static int count_files(const char *path, const char *suffix) {
    DIR *folder = opendir(path);
    int count = 0;
    for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
        char below[FILE_PATH_BYTES];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            file_join(below, path, entry->d_name, NULL) != ERR_OK || lstat(below, &status) != 0)
            continue;
        size_t length = strlen(entry->d_name), tail = strlen(suffix);
        if (S_ISDIR(status.st_mode))
            count += count_files(below, suffix);
        else
            count += length >= tail && strcmp(entry->d_name + length - tail, suffix) == 0;
    }
    if (folder)
        closedir(folder);
    return count;
}

int world_count(const struct world *world, const char *name, const char *suffix) {
    char path[FILE_PATH_BYTES];
    return count_files(in_world(world, path, name), suffix);
}

/* -- jobs ------------------------------------------------------------------------------------- */

uint64_t world_submit(struct world *world, const char *yaml) {
    struct error error;
    struct client_submitted submitted;
    const struct client_submission submission = {.path = world_write(world, "job.yaml", yaml)};
    check_ok(client_submit(world->client, &submitted, &submission, &error), &error);
    return submitted.job;
}

enum job_state world_follow(struct world *world, uint64_t job) {
    struct error error;
    struct client_job last;
    const struct client_follower follower = {0};
    check_ok(client_follow(world->client, &last, job, &follower, &error), &error);
    return last.state;
}

/* -- a worker --------------------------------------------------------------------------------- */

struct fake_state {
    struct fake *fake;
    struct endpoint *endpoint;
    struct message *in;
    vidloom_Envelope *out;
    struct buffer frame;
    char store[FILE_PATH_BYTES];
    vidloom_Envelope *results; /* under way: repeated until they are known */
    int64_t *due;              /* when to send; 0: free */
    bool *held;
    bool welcomed;
    int64_t said; /* something, last */
};
enum { FAKE_RESULTS = 8 };

static void say(struct fake_state *state, vidloom_Envelope *envelope) {
    struct error error;
    check_ok(message_encode(&state->frame, envelope, &error), &error);
    (void)!endpoint_send(state->endpoint, 0, state->frame.data, state->frame.length, NULL);
    state->said = clock_monotonic_ns();
}

static void say_hello(struct fake_state *state) {
    message_begin(state->out, vidloom_Envelope_hello_tag);
    vidloom_Hello *hello = &state->out->body.hello;
    message_set_text(hello->name, sizeof hello->name, state->fake->name);
    message_set_text(hello->class, sizeof hello->class, "cpu-fake");
    hello->kinds = PLAN_KINDS_ALL;
    hello->nonce = (uint64_t)(uintptr_t)state->fake;
    say(state, state->out);
}

static void say_request(struct fake_state *state) {
    message_begin(state->out, vidloom_Envelope_request_work_tag);
    state->out->body.request_work.slots = (uint32_t)state->fake->slots;
    say(state, state->out);
}

/* An artifact whose bytes follow from the task and its name. */
static void make_output(struct fake_state *state, vidloom_Result *result, const char *name,
                        const char *staged) {
    char hex[HASH_HEX_BYTES], text[256], path[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    struct hash key = message_hash(result->key), hash;
    struct error error;
    vidloom_Artifact *out = &result->outputs[result->outputs_count++];
    hash_hex(hex, &key);
    int length = snprintf(text, sizeof text, "%s of %s\n", name, hex);
    hash_of(&hash, text, (size_t)length);
    message_set_text(out->name, sizeof out->name, name);
    message_set_hash(out->hash, &hash);
    out->size = (uint64_t)length;
    hash_hex(hex, &hash);
    snprintf(folder, sizeof folder, "%.3900s/objects/%.2s", state->store, hex);
    snprintf(path, sizeof path, "%.4000s/%s", folder, hex);
    if (!staged)
        check_ok(file_make_folders(folder, &error), &error);
    (void)!file_write(staged ? staged : path, text, (size_t)length, false, NULL);
}

static void do_task(struct fake_state *state, const vidloom_Lease *lease) {
    int at = 0;
    while (at < FAKE_RESULTS && state->due[at])
        at++;
    check(at < FAKE_RESULTS);
    vidloom_Envelope *envelope = &state->results[at];
    message_begin(envelope, vidloom_Envelope_result_tag);
    vidloom_Result *result = &envelope->body.result;
    memcpy(result->key, lease->key, sizeof result->key);
    result->epoch = lease->epoch;
    result->code = (uint32_t)state->fake->fail;
    if (state->fake->fail == ERR_OK) {
        if (lease->kind == vidloom_KIND_TEXT)
            make_output(state, result, "rows", NULL);
        else if (lease->kind == vidloom_KIND_WINDOW)
            make_output(state, result, "latents", NULL);
        else if (lease->kind == vidloom_KIND_MUX)
            make_output(state, result, "file", lease->staged);
        else
            make_output(state, result, "frames", NULL);
        if (lease->kind == vidloom_KIND_DECODE)
            make_output(state, result, "segment", NULL);
        result->has_measures = lease->kind == vidloom_KIND_DECODE;
    } else {
        message_set_text(result->detail, sizeof result->detail, "told to fail");
    }
    state->due[at] = clock_monotonic_ns() + state->fake->delay_ms * CLOCK_MS + 1;
    if (state->fake->hold_kind == (int)lease->kind && !state->fake->holding &&
        !state->fake->release) {
        state->held[at] = true;
        state->fake->holding = true;
    }
}

static void forget(struct fake_state *state, uint64_t epoch) {
    for (int i = 0; i < FAKE_RESULTS; i++)
        if (state->due[i] && state->results[i].body.result.epoch == epoch)
            state->due[i] = 0, state->held[i] = false;
}

static void hear(struct fake_state *state) {
    const vidloom_Envelope *in = &state->in->envelope;
    switch (in->which_body) {
    case vidloom_Envelope_welcome_tag:
        snprintf(state->store, sizeof state->store, "%s", in->body.welcome.store);
        state->welcomed = true;
        say_request(state);
        break;
    case vidloom_Envelope_lease_tag:
        state->fake->leases++;
        do_task(state, &in->body.lease);
        break;
    case vidloom_Envelope_result_known_tag:
        if (in->body.result_known.code == ERR_OK)
            state->fake->known++;
        else
            state->fake->stale++;
        forget(state, in->body.result_known.epoch);
        break;
    case vidloom_Envelope_refused_tag:
        state->fake->refused++;
        state->welcomed = false;
        break;
    case vidloom_Envelope_revoke_tag:
        if (!state->fake->holding)
            forget(state, in->body.revoke.epoch);
        break;
    default:
        break;
    }
}

static void report(struct fake_state *state) {
    int64_t now = clock_monotonic_ns();
    for (int i = 0; i < FAKE_RESULTS; i++) {
        if (!state->due[i] || state->due[i] > now || (state->held[i] && !state->fake->release))
            continue;
        say(state, &state->results[i]);
        state->due[i] = now + CLOCK_S; /* again, until it is known */
    }
}

static void *work(void *argument) {
    struct fake *fake = argument;
    struct error error;
    struct fake_state state = {.fake = fake};
    struct endpoint_frame frame;
    const struct endpoint_config config = {.context = fake->world->context,
                                           .role = ENDPOINT_DEALER};
    state.in = calloc(1, sizeof *state.in);
    state.out = calloc(1, sizeof *state.out);
    state.results = calloc(FAKE_RESULTS, sizeof *state.results);
    state.due = calloc(FAKE_RESULTS, sizeof *state.due);
    state.held = calloc(FAKE_RESULTS, sizeof *state.held);
    check_ok(endpoint_open(&state.endpoint, &config, &error), &error);
    check_ok(endpoint_connect(state.endpoint, fake->world->worker_address, &error), &error);
    while (!fake->stop && !fake->vanish) {
        int64_t silent = clock_monotonic_ns() - state.said;
        if (!state.welcomed && silent > 100 * CLOCK_MS)
            say_hello(&state);
        else if (silent > 300 * CLOCK_MS)
            say_request(&state);
        report(&state);
        check_ok(endpoint_wait(&state.endpoint, 1, 5, false, &error), &error);
        while (endpoint_receive(state.endpoint, &frame)) {
            check_ok(message_decode(state.in, frame.bytes, frame.length, &error), &error);
            hear(&state);
        }
    }
    if (fake->stop) {
        message_begin(state.out, vidloom_Envelope_bye_tag);
        say(&state, state.out);
        struct timespec moment = {.tv_nsec = 20 * CLOCK_MS};
        nanosleep(&moment, NULL); /* closing throws away what was not sent */
    }
    endpoint_close(&state.endpoint);
    buffer_close(&state.frame);
    free(state.in);
    free(state.out);
    free(state.results);
    free(state.due);
    free(state.held);
    return NULL;
}

/* The caller has set what it wants different after zeroing; slots 0 is 1. */
void fake_start(struct fake *fake, struct world *world, const char *name) {
    fake->world = world;
    snprintf(fake->name, sizeof fake->name, "%s", name);
    if (fake->slots == 0)
        fake->slots = 1;
    check(pthread_create(&fake->thread, NULL, work, fake) == 0);
}

void fake_stop(struct fake *fake) {
    fake->stop = true;
    check(pthread_join(fake->thread, NULL) == 0);
}
