/* vidloom logs [JOB]: what happened. */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/json.h"
#include "cli/interrupt.h"
#include "cli/remote.h"

struct logs_values {
    struct remote_values remote;
    bool json, follow, attempts;
    int64_t limit;
};

struct report {
    struct buffer text;
    bool json;
    uint64_t last; /* highest sequence shown */
    int rows;
};

static void put_measures(struct json_writer *writer, const struct measures *measures) {
    json_put_double(writer, "drift", measures_drift(measures));
    json_put_double(writer, "colour", measures->colour);
    json_put_double(writer, "luminance", measures->luminance);
    json_put_double(writer, "sharpness", measures->sharpness);
    json_put_double(writer, "seam", measures->seam);
}

static void put_json(struct buffer *out, const struct client_log *log) {
    struct json_writer writer = {.buffer = out};
    char text[32];
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "time", remote_time(text, log->wall_ns));
    json_put_text(&writer, "event", log->attempt ? "attempt" : "event");
    if (log->job)
        json_put_int(&writer, "job", (int64_t)log->job);
    if (log->video >= 0)
        json_put_int(&writer, "video", log->video);
    if (log->attempt) {
        json_put_text(&writer, "task", remote_task(text, log->kind, log->index));
        json_put_text(&writer, "code", error_name(log->code));
        json_put_double(&writer, "took_s", log->seconds);
        json_put_text(&writer, "worker", log->worker);
        json_put_text(&writer, "class", log->class);
    }
    if (log->measured)
        put_measures(&writer, &log->measures);
    json_put_text(&writer, "text", log->text);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

static bool put_log(void *user, const struct client_log *log) {
    struct report *report = user;
    struct buffer *out = &report->text;
    char text[32];
    report->rows++;
    if (log->sequence > report->last)
        report->last = log->sequence;
    if (report->json) {
        put_json(out, log);
        return true;
    }
    buffer_printf(out, "%s", remote_time(text, log->wall_ns));
    if (log->job)
        buffer_printf(out, "  job %" PRIu64, log->job);
    if (log->video >= 0)
        buffer_printf(out, " video %d", log->video + 1);
    if (log->attempt)
        buffer_printf(out, "  %s %s on %s after %.2f s", remote_task(text, log->kind, log->index),
                      log->code == ERR_OK ? "done" : error_name(log->code), log->worker,
                      log->seconds);
    if (log->measured)
        buffer_printf(out,
                      "  drift %.3f (colour %.3f, luminance %+.3f, sharpness %+.3f), seam %.3f",
                      measures_drift(&log->measures), log->measures.colour, log->measures.luminance,
                      log->measures.sharpness, log->measures.seam);
    if (*log->text)
        buffer_printf(out, "  %s", log->text);
    buffer_add_text(out, "\n");
    return true;
}

/* Ask, show, wait a second, ask for what came since; until Ctrl-C. */
static int show_logs(struct cli *cli, const struct logs_values *values, struct client *client,
                     struct client_log_query *query) {
    struct report report = {.json = values->json};
    struct error error = {0};
    for (;;) {
        int rows = report.rows;
        if (client_logs(client, query, put_log, &report, &error) != ERR_OK) {
            buffer_close(&report.text);
            if (error.code == ERR_INTERRUPTED && values->follow)
                return 0; /* this is how following ends */
            return cli_fail(cli, &error);
        }
        if (rows == 0 && report.rows == 0 && !values->follow && !values->json)
            buffer_add_text(&report.text, "nothing has happened\n");
        int status = cli_put(cli, &report.text);
        if (status != 0 || !values->follow)
            return status;
        query->after = report.last;
        query->attempts = false;
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        if (interrupt_asked())
            return 0;
    }
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct logs_values *values = invocation->values;
    struct client_log_query query = {
        .video = -1, .attempts = values->attempts, .limit = (int)values->limit};
    struct client *client = NULL;
    struct client_job job;
    struct error error = {0};
    int status;
    if (values->attempts && invocation->argument_count == 0)
        return cli_fail_text(cli, ERR_USAGE,
                             "logs: --attempts needs a job: 'vidloom status' lists "
                             "them");
    if (remote_open(&client, &values->remote, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (invocation->argument_count &&
        client_find_job(client, &job, invocation->arguments[0], &error) != ERR_OK) {
        status = cli_fail(cli, &error);
    } else {
        query.job = invocation->argument_count ? job.id : 0;
        status = show_logs(cli, values, client, &query);
    }
    client_close(&client);
    return status;
}

static const struct option options[] = {
    {.letter = 'f',
     .name = "follow",
     .type = OPTION_FLAG,
     .offset = offsetof(struct logs_values, follow),
     .help = "Go on showing what happens, until Ctrl-C."},
    {.letter = 'a',
     .name = "attempts",
     .type = OPTION_FLAG,
     .offset = offsetof(struct logs_values, attempts),
     .help = "Show every attempt at every task of the job, too."},
    {.letter = 'n',
     .name = "limit",
     .value = "N",
     .type = OPTION_INT,
     .offset = offsetof(struct logs_values, limit),
     .min = 1,
     .max = 1000000,
     .fallback = "1000",
     .help = "Show at most so many lines of each sort."},
    REMOTE_OPTIONS(struct logs_values),
    REMOTE_JSON_OPTION(struct logs_values),
};

static const struct verb_note examples[] = {
    {"vidloom logs demo", "What happened to the newest job of that name."},
    {"vidloom logs --attempts demo", "With every task: where it ran, how long it took, why it "
                                     "failed."},
    {"vidloom logs --follow", "What happens now, of all jobs."},
    {NULL, NULL},
};

const struct verb verb_logs = {
    .name = "logs",
    .group = "Talking to a coordinator",
    .summary = "show what happened",
    .arguments = "[JOB]",
    .arguments_max = 1,
    .purpose = "Show what happened, oldest first: jobs and videos that began, ended and failed, "
               "tasks that were tried again, windows past the job's limits of drift and seam and "
               "what became of them. Times are UTC.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct logs_values),
    .examples = examples,
    .exits = cli_exits_remote,
    .run = run,
};
