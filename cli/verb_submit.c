/* vidloom submit JOB.yaml: hand a job to a coordinator. */
#include <inttypes.h>

#include "base/json.h"
#include "cli/follow.h"
#include "cli/job_source.h"
#include "cli/remote.h"

struct submit_values {
    struct remote_values remote;
    struct follow_values follow;
    bool wait;
    int64_t priority;
};

static int say_submitted(struct cli *cli, const struct submit_values *values, const char *path,
                         const struct client_submitted *submitted) {
    struct buffer text = {0};
    for (int i = 0; i < submitted->warning_count && !values->follow.quiet; i++)
        (void)fprintf(cli->err, "warning: %s\n", submitted->warnings[i]);
    for (int i = 0; i < submitted->note_count && !values->follow.quiet; i++)
        (void)fprintf(cli->err, "note: %s\n", submitted->notes[i]);
    if (values->follow.json) {
        struct json_writer writer = {.buffer = &text};
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "event", "submitted");
        json_put_int(&writer, "id", (int64_t)submitted->job);
        json_put_int(&writer, "videos", submitted->videos);
        json_put_bool(&writer, "known", submitted->known);
        json_end_object(&writer);
        buffer_add_text(&text, "\n");
    } else if (!values->follow.quiet) {
        buffer_printf(&text, "job %" PRIu64 ": %d videos%s\n", submitted->job, submitted->videos,
                      submitted->known ? ", known to the coordinator already" : "");
        if (!values->wait)
            buffer_printf(&text, "'vidloom status %" PRIu64 "' shows how it goes.\n",
                          submitted->job);
    }
    return cli_put(cli, &text);
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct submit_values *values = invocation->values;
    const char *path = invocation->arguments[0];
    struct client_submission submission = {
        .path = path, .priority = (int)values->priority, .check_image = job_source_check_image};
    struct client_submitted submitted;
    struct client *client = NULL;
    struct error error = {0};
    int status;
    if (remote_open(&client, &values->remote, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (client_submit(client, &submitted, &submission, &error) != ERR_OK)
        status = cli_fail(cli, &error);
    else
        status = say_submitted(cli, values, path, &submitted);
    if (status == 0 && values->wait) {
        struct buffer again = {0};
        remote_watch_command(&again, cli, &values->remote, submitted.job);
        struct follow_request request = {.client = client,
                                         .job = submitted.job,
                                         .form = follow_form(&values->follow),
                                         .again = again.failed ? "vidloom status" : again.data,
                                         .goes_on = true};
        status = follow_job(cli, &request);
        buffer_close(&again);
    }
    client_close(&client);
    return status;
}

static const struct option options[] = {
    {.letter = 'w',
     .name = "wait",
     .type = OPTION_FLAG,
     .offset = offsetof(struct submit_values, wait),
     .help = "Follow the job to its end; the exit status is then the job's."},
    {.letter = 'p',
     .name = "priority",
     .value = "N",
     .type = OPTION_INT,
     .offset = offsetof(struct submit_values, priority),
     .min = -1000,
     .max = 1000,
     .fallback = "0",
     .help = "Jobs of a higher priority go first."},
    REMOTE_OPTIONS(struct submit_values),
    FOLLOW_OPTIONS(struct submit_values),
};

static const struct verb_note examples[] = {
    {"vidloom submit job.yaml", "Hand it over and come back at once."},
    {"vidloom submit --wait job.yaml", "Hand it over and show its progress."},
    {"vidloom submit -c tcp://127.0.0.1:9000 job.yaml", "To a coordinator elsewhere."},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "The coordinator has the job; with --wait: every video is there."},
    {"1", "With --wait: a video failed or the job was canceled. Else the coordinator could not "
          "take it."},
    {"2", "The command line or the job file is wrong."},
    {"3", "The coordinator cannot be reached."},
    {"130", "Interrupted; a job that was handed over goes on."},
    {NULL, NULL},
};

const struct verb verb_submit = {
    .name = "submit",
    .group = "Talking to a coordinator",
    .summary = "hand a job to a coordinator",
    .arguments = "JOB.yaml",
    .arguments_min = 1,
    .arguments_max = 1,
    .purpose = "Hand a job file, with the prompt lists and images that it names, to a coordinator. "
               "Once this says so, the job is on the coordinator's disk and is not lost, whatever "
               "happens. Submitting the same job again is safe: it stays one job, and one that "
               "failed or was canceled is tried again.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct submit_values),
    .examples = examples,
    .exits = exits,
    .run = run,
};
