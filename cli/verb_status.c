/* vidloom status [JOB]: jobs, or the videos of one. */
#include <inttypes.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/follow.h"
#include "cli/remote.h"

struct status_values {
    struct remote_values remote;
    struct follow_values follow;
    bool watch;
};

struct report {
    struct buffer text, warnings; /* those are shown below the rows */
    bool json;
    int rows;
};

static const char *time_left(char out[32], double seconds) {
    if (seconds < 0)
        snprintf(out, 32, "-");
    else
        text_duration(out, seconds);
    return out;
}

/* -- jobs
 * ------------------------------------------------------------------------------------------ */

static void put_job_json(struct buffer *out, const struct client_job *job) {
    struct json_writer writer = {.buffer = out};
    char time[32];
    json_begin_object(&writer, NULL);
    json_put_int(&writer, "id", (int64_t)job->id);
    json_put_text(&writer, "job", job->name);
    json_put_text(&writer, "state", job_state_name(job->state));
    json_put_int(&writer, "priority", job->priority);
    json_put_text(&writer, "submitted", remote_time(time, job->submitted_ns));
    json_put_int(&writer, "videos", job->videos);
    for (int i = 0; i < VIDEO_STATE_COUNT; i++)
        json_put_int(&writer, video_state_name((enum video_state)i), job->by_state[i]);
    json_put_int(&writer, "windows", job->windows);
    json_put_int(&writer, "windows_done", job->windows_done);
    json_put_int(&writer, "frames", job->frames);
    json_put_int(&writer, "frames_done", job->frames_done);
    json_put_double(&writer, "left_s", job->seconds_left);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

static bool put_job(void *user, const struct client_job *job) {
    struct report *report = user;
    char left[32], time[32];
    if (report->json) {
        put_job_json(&report->text, job);
        return true;
    }
    if (report->rows++ == 0)
        buffer_printf(&report->text, "%4s  %-20s  %-8s  %11s  %6s  %5s  %10s  %s\n", "id", "job",
                      "state", "videos", "failed", "done", "left", "submitted (UTC)");
    double part = job->windows ? 100.0 * (double)job->windows_done / (double)job->windows : 0;
    buffer_printf(&report->text, "%4" PRIu64 "  %-20s  %-8s  %5d/%-5d  %6d  %3d %%  %10s  %s\n",
                  job->id, job->name, job_state_name(job->state), job->by_state[VIDEO_DONE],
                  job->videos, job->by_state[VIDEO_FAILED], (int)part,
                  job_state_is_final(job->state) ? "-" : time_left(left, job->seconds_left),
                  remote_time(time, job->submitted_ns));
    return true;
}

/* -- videos
 * ---------------------------------------------------------------------------------------- */

static void put_video_json(struct buffer *out, const struct client_video *video) {
    struct json_writer writer = {.buffer = out};
    char task[32];
    json_begin_object(&writer, NULL);
    json_put_int(&writer, "job", (int64_t)video->job);
    json_put_int(&writer, "video", video->video);
    json_put_text(&writer, "name", video->name);
    json_put_text(&writer, "state", video_state_name(video->state));
    json_put_text(&writer, "path", video->path);
    json_put_double(&writer, "seconds", video->length);
    json_put_int(&writer, "windows", video->windows);
    json_put_int(&writer, "windows_done", video->windows_done);
    if (video->kind < PLAN_KIND_COUNT)
        json_put_text(&writer, "task", remote_task(task, video->kind, video->index));
    json_put_int(&writer, "step", video->step);
    json_put_int(&writer, "steps", video->steps);
    json_put_text(&writer, "worker", video->worker);
    json_put_text(&writer, "class", video->class);
    json_put_double(&writer, "took_s", video->seconds);
    json_put_double(&writer, "left_s", video->seconds_left);
    quality_put_json(&writer, &video->quality, quality_past(&video->quality));
    if (video->code != ERR_OK) {
        json_put_text(&writer, "code", error_name(video->code));
        json_put_text(&writer, "error", video->detail);
    }
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

static bool put_video(void *user, const struct client_video *video) {
    struct report *report = user;
    char task[32], took[32];
    if (report->json) {
        put_video_json(&report->text, video);
        return true;
    }
    struct buffer *out = &report->text;
    if (report->rows++ == 0) {
        buffer_printf(out, "\n%-20s  %-10s  %9s  %-12s  %10s  ", "video", "state", "windows", "at",
                      "took");
        quality_put_head(out, true);
        buffer_printf(out, "%-12s  %s\n", "worker", "file or error");
    }
    buffer_printf(out, "%-20s  %-10s  %4d/%-4d  %-12s  %10s  ", video->name,
                  video_state_name(video->state), video->windows_done, video->windows,
                  remote_task(task, video->kind, video->index),
                  text_duration(took, video->seconds));
    quality_put_cells(out, &video->quality, true);
    buffer_printf(out, "%-12s  %s\n", *video->worker ? video->worker : "-",
                  video->state == VIDEO_FAILED ? video->detail : video->path);
    quality_warn(&report->warnings, video->name, &video->quality);
    return true;
}

/* -- the verb
 * --------------------------------------------------------------------------------------- */

static enum error_code report_all(struct report *report, struct client *client,
                                  struct error *error) {
    enum error_code code = client_jobs(client, put_job, report, error);
    if (code == ERR_OK && report->rows == 0 && !report->json)
        buffer_add_text(&report->text, "no jobs\n");
    return code;
}

static enum error_code report_one(struct report *report, struct client *client, const char *name,
                                  struct error *error) {
    struct client_job job;
    enum error_code code = client_find_job(client, &job, name, error);
    if (code != ERR_OK)
        return code;
    put_job(report, &job);
    report->rows = 0;
    code = client_videos(client, job.id, put_video, report, error);
    if (report->warnings.length)
        buffer_add(&report->text, report->warnings.data, report->warnings.length);
    return code;
}

static int watch(struct cli *cli, const struct status_values *values, struct client *client,
                 const char *name) {
    struct buffer again = {0};
    struct client_job job;
    struct error error = {0};
    if (client_find_job(client, &job, name, &error) != ERR_OK)
        return cli_fail(cli, &error);
    remote_watch_command(&again, cli, &values->remote, job.id);
    struct follow_request request = {.client = client,
                                     .job = job.id,
                                     .form = follow_form(&values->follow),
                                     .again = again.failed ? "vidloom status" : again.data,
                                     .goes_on = true};
    int status = follow_job(cli, &request);
    buffer_close(&again);
    return status;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct status_values *values = invocation->values;
    const char *name = invocation->argument_count ? invocation->arguments[0] : NULL;
    struct report report = {.json = values->follow.json};
    struct client *client = NULL;
    struct error error = {0};
    int status;
    if (values->watch && !name)
        return cli_fail_text(cli, ERR_USAGE,
                             "status: --watch needs a job: 'vidloom status' lists "
                             "them");
    if (remote_open(&client, &values->remote, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (values->watch)
        status = watch(cli, values, client, name);
    else if ((name ? report_one(&report, client, name, &error)
                   : report_all(&report, client, &error)) != ERR_OK)
        status = cli_fail(cli, &error);
    else
        status = cli_put(cli, &report.text);
    buffer_close(&report.text);
    buffer_close(&report.warnings);
    client_close(&client);
    return status;
}

static const struct option options[] = {
    {.letter = 'w',
     .name = "watch",
     .type = OPTION_FLAG,
     .offset = offsetof(struct status_values, watch),
     .help = "Follow the job to its end, as 'vidloom submit --wait' does."},
    REMOTE_OPTIONS(struct status_values),
    FOLLOW_OPTIONS(struct status_values),
};

static const struct verb_note examples[] = {
    {"vidloom status", "Every job: how much is done, how long it will take."},
    {"vidloom status demo", "The videos of the newest job of that name."},
    {"vidloom status --watch 12", "Follow job number 12."},
    {NULL, NULL},
};

const struct verb verb_status = {
    .name = "status",
    .group = "Talking to a coordinator",
    .summary = "show jobs, or the videos of one",
    .arguments = "[JOB]",
    .arguments_max = 1,
    .purpose =
        "Show every job that the coordinator knows; with JOB, a number or a name, that job "
        "and its videos, with the drift and the seam of the windows so far ('vidloom help run' "
        "says what they are), how often one was drawn again, and a warning where a limit "
        "stayed broken.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct status_values),
    .examples = examples,
    .exits = cli_exits_remote,
    .run = run,
};
