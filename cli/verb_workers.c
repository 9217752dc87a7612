/* vidloom workers: who works, on what. */
#include <inttypes.h>

#include "base/json.h"
#include "cli/remote.h"

struct workers_values {
    struct remote_values remote;
    bool json;
};

struct report {
    struct buffer text;
    bool json;
    int rows;
};

static const char *state_of(const struct client_worker *worker) {
    if (worker->stopped)
        return "broken";
    if (worker->draining)
        return "draining";
    return worker->leases ? "working" : "waiting";
}

static void add_kinds(struct buffer *out, unsigned kinds) {
    if (kinds == PLAN_KINDS_ALL) {
        buffer_add_text(out, "all");
        return;
    }
    for (int i = 0, shown = 0; i < PLAN_KIND_COUNT; i++)
        if (kinds & PLAN_KIND_BIT(i))
            buffer_printf(out, "%s%s", shown++ ? "," : "", plan_kind_name((enum plan_kind)i));
}

static void put_json(struct buffer *out, const struct client_worker *worker) {
    struct json_writer writer = {.buffer = out};
    char task[32];
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "worker", worker->name);
    json_put_text(&writer, "class", worker->class);
    json_put_text(&writer, "state", state_of(worker));
    json_begin_array(&writer, "kinds");
    for (int i = 0; i < PLAN_KIND_COUNT; i++)
        if (worker->kinds & PLAN_KIND_BIT(i))
            json_put_text(&writer, NULL, plan_kind_name((enum plan_kind)i));
    json_end_array(&writer);
    json_put_int(&writer, "slots", worker->slots);
    json_put_int(&writer, "leases", worker->leases);
    json_put_int(&writer, "done", worker->done);
    json_put_int(&writer, "failed", worker->failed);
    json_put_double(&writer, "silent_s", worker->seconds_silent);
    if (worker->job) {
        json_put_int(&writer, "job", (int64_t)worker->job);
        json_put_int(&writer, "video", worker->video);
        json_put_text(&writer, "task", remote_task(task, worker->kind, worker->index));
    }
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

static bool put_worker(void *user, const struct client_worker *worker) {
    struct report *report = user;
    char task[32], at[64] = "-";
    if (report->json) {
        put_json(&report->text, worker);
        return true;
    }
    if (report->rows++ == 0)
        buffer_printf(&report->text, "%-20s  %-8s  %-22s  %6s  %6s  %7s  %-26s  %s\n", "worker",
                      "state", "class", "done", "failed", "silent", "at", "tasks");
    if (worker->job)
        snprintf(at, sizeof at, "job %" PRIu64 " video %d %s", worker->job, worker->video + 1,
                 remote_task(task, worker->kind, worker->index));
    buffer_printf(&report->text, "%-20s  %-8s  %-22s  %6" PRId64 "  %6" PRId64 "  %5.1f s  %-26s  ",
                  worker->name, state_of(worker), worker->class, worker->done, worker->failed,
                  worker->seconds_silent, at);
    add_kinds(&report->text, worker->kinds);
    buffer_add_text(&report->text, "\n");
    return true;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct workers_values *values = invocation->values;
    struct report report = {.json = values->json};
    struct client *client = NULL;
    struct error error = {0};
    int status;
    if (remote_open(&client, &values->remote, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (client_workers(client, put_worker, &report, &error) != ERR_OK) {
        status = cli_fail(cli, &error);
        buffer_close(&report.text);
    } else {
        if (report.rows == 0 && !report.json)
            buffer_add_text(&report.text, "no workers: 'vidloom worker' starts one\n");
        status = cli_put(cli, &report.text);
    }
    client_close(&client);
    return status;
}

static const struct option options[] = {
    REMOTE_OPTIONS(struct workers_values),
    REMOTE_JSON_OPTION(struct workers_values),
};

static const struct verb_note examples[] = {
    {"vidloom workers", "Every worker: its device class, what it has done and is at."},
    {NULL, NULL},
};

const struct verb verb_workers = {
    .name = "workers",
    .group = "Talking to a coordinator",
    .summary = "show who works on what",
    .arguments = "",
    .purpose = "Show the workers that are connected: the class of their device, what they work on, "
               "how many tasks they have done, and for how long nothing was heard of them.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct workers_values),
    .examples = examples,
    .exits = cli_exits_remote,
    .run = run,
};
