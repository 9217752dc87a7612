/* vidloom cancel, pause, resume, retry JOB…; drain WORKER…: one word each to the coordinator. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "cli/remote.h"

struct control_values {
    struct remote_values remote;
    bool json;
};
struct drain_values {
    struct remote_values remote;
    bool json, now;
};

/* What each verb asks for and says when it was done. */
static const struct {
    const struct verb *verb;
    enum scheduler_control control;
    const char *done;
} controls[] = {
    {&verb_cancel, CONTROL_CANCEL, "canceled"},
    {&verb_pause, CONTROL_PAUSE, "paused"},
    {&verb_resume, CONTROL_RESUME, "resumed"},
    {&verb_retry, CONTROL_RETRY, "tried again"},
};

static void put_done(struct buffer *out, bool json, const char *what, const char *name, uint64_t id,
                     const char *done) {
    struct json_writer writer = {.buffer = out};
    if (!json && id)
        buffer_printf(out, "%s %" PRIu64 " (%s): %s\n", what, id, name, done);
    else if (!json)
        buffer_printf(out, "%s %s: %s\n", what, name, done);
    if (!json)
        return;
    json_begin_object(&writer, NULL);
    json_put_text(&writer, what, name);
    if (id)
        json_put_int(&writer, "id", (int64_t)id);
    json_put_text(&writer, "event", done);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

/* What is wrong with one argument does not keep the others back; a coordinator that is gone does.
 */
static bool goes_on(enum error_code code) {
    return code != ERR_NETWORK && code != ERR_INTERRUPTED && code != ERR_FULL;
}

/* One order for each argument. The first failure's status counts; each is told. */
static int order_all(struct cli *cli, const struct invocation *invocation,
                     const struct remote_values *remote,
                     enum error_code (*order)(struct client *client, struct buffer *text,
                                              const struct invocation *invocation,
                                              const char *argument, struct error *error)) {
    struct client *client = NULL;
    struct error error = {0};
    enum error_code code = remote_open(&client, remote, &error);
    int status = code == ERR_OK ? 0 : cli_fail(cli, &error);
    for (int i = 0; client && i < invocation->argument_count && goes_on(code); i++) {
        struct buffer text = {0};
        code = order(client, &text, invocation, invocation->arguments[i], &error);
        int one = code == ERR_OK ? cli_put(cli, &text) : cli_fail(cli, &error);
        status = status ? status : one;
        buffer_close(&text);
    }
    client_close(&client);
    return status;
}

static enum error_code order_control(struct client *client, struct buffer *text,
                                     const struct invocation *invocation, const char *argument,
                                     struct error *error) {
    const struct control_values *values = invocation->values;
    struct client_job job;
    size_t at = 0;
    while (controls[at].verb != invocation->verb)
        at++;
    enum error_code code = client_find_job(client, &job, argument, error);
    if (code == ERR_OK)
        code = client_control(client, job.id, controls[at].control, error);
    if (code == ERR_OK)
        put_done(text, values->json, "job", job.name, job.id, controls[at].done);
    return code;
}

static int run_control(struct cli *cli, const struct invocation *invocation) {
    const struct control_values *values = invocation->values;
    return order_all(cli, invocation, &values->remote, order_control);
}

static enum error_code order_drain(struct client *client, struct buffer *text,
                                   const struct invocation *invocation, const char *argument,
                                   struct error *error) {
    const struct drain_values *values = invocation->values;
    enum error_code code = client_drain(client, argument, values->now, error);
    if (code == ERR_OK)
        put_done(text, values->json, "worker", argument, 0, "draining");
    return code;
}

static int run_drain(struct cli *cli, const struct invocation *invocation) {
    const struct drain_values *values = invocation->values;
    return order_all(cli, invocation, &values->remote, order_drain);
}

static const struct option control_options[] = {
    REMOTE_OPTIONS(struct control_values),
    REMOTE_JSON_OPTION(struct control_values),
};

static const struct option drain_options[] = {
    {.name = "now",
     .type = OPTION_FLAG,
     .offset = offsetof(struct drain_values, now),
     .help = "Take from it what it works on, too; another worker does that again."},
    REMOTE_OPTIONS(struct drain_values),
    REMOTE_JSON_OPTION(struct drain_values),
};

#define CONTROL_VERB(word, shown, text, notes)                                                     \
    {                                                                                              \
        .name = (word), .group = "Talking to a coordinator", .summary = (shown),                   \
        .arguments = "JOB...", .arguments_min = 1, .arguments_max = VERB_ARGUMENTS_MAX,            \
        .purpose = (text), .options = control_options,                                             \
        .option_count = sizeof control_options / sizeof *control_options,                          \
        .values_bytes = sizeof(struct control_values), .examples = (notes),                        \
        .exits = cli_exits_remote, .run = run_control                                              \
    }

static const struct verb_note cancel_examples[] = {
    {"vidloom cancel demo", "End the newest job of that name."},
    {"vidloom cancel 12 13", "End jobs 12 and 13."},
    {NULL, NULL},
};
static const struct verb_note pause_examples[] = {
    {"vidloom pause demo", "Let others go first; 'vidloom resume demo' goes on."}, {NULL, NULL}};
static const struct verb_note resume_examples[] = {
    {"vidloom resume demo", "Go on with a job that was paused."}, {NULL, NULL}};
static const struct verb_note retry_examples[] = {
    {"vidloom retry demo", "Try the videos of the job that failed or were canceled again."},
    {NULL, NULL}};
static const struct verb_note drain_examples[] = {
    {"vidloom drain node7", "Take a worker out of service; it ends when its task is done."},
    {NULL, NULL}};

const struct verb verb_cancel =
    CONTROL_VERB("cancel", "end a job",
                 "End jobs, by number or name. What runs for them is stopped; files that are "
                 "published stay, and 'vidloom retry' goes on from what is done.",
                 cancel_examples);
const struct verb verb_pause =
    CONTROL_VERB("pause", "hold a job",
                 "Hold jobs, by number or name: what runs is finished, nothing new is begun until "
                 "'vidloom resume'.",
                 pause_examples);
const struct verb verb_resume =
    CONTROL_VERB("resume", "go on with a held job",
                 "Go on with jobs that were held, by number or name.", resume_examples);
const struct verb verb_retry =
    CONTROL_VERB("retry", "try again what failed",
                 "Try the failed and canceled videos of jobs again, by number or name. What is "
                 "done is not done again.",
                 retry_examples);

const struct verb verb_drain = {
    .name = "drain",
    .group = "Talking to a coordinator",
    .summary = "take a worker out of service",
    .arguments = "WORKER...",
    .arguments_min = 1,
    .arguments_max = VERB_ARGUMENTS_MAX,
    .purpose = "Give no more work to workers, by name ('vidloom workers' lists them). Each ends "
               "when its task is done; nothing is lost.",
    .options = drain_options,
    .option_count = sizeof drain_options / sizeof *drain_options,
    .values_bytes = sizeof(struct drain_values),
    .examples = drain_examples,
    .exits = cli_exits_remote,
    .run = run_drain,
};
