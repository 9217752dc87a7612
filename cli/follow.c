/* Following a job: the client's news into progress, and the table at the end. */
#include "cli/follow.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/interrupt.h"

struct follow {
    const struct follow_request *request;
    struct progress_view *view;
    struct progress_video *videos; /* names, paths and errors are ours */
    int count;
    bool *known; /* [count]: the video's first news came */
    int known_count;
    int made;               /* videos that are done and were not when this program began */
    int64_t started, ended; /* monotonic ns */
    double done_at_start;
    bool began; /* done_at_start is set */
    bool failed_memory;
    bool short_of_memory; /* a video failed as a worker may not take enough */
    struct client_job job;
};

const char *const follow_forms[] = {"auto", "bar", "lines", NULL};

enum progress_form follow_form(const struct follow_values *values) {
    if (values->json)
        return PROGRESS_JSON;
    return values->quiet ? PROGRESS_QUIET : (enum progress_form)values->progress;
}

/* -- news ------------------------------------------------------------------------------------- */

static bool make_room(struct follow *follow, int index) {
    if (index < follow->count)
        return true;
    int count = index + 1 > 2 * follow->count ? index + 1 : 2 * follow->count;
    struct progress_video *videos = realloc(follow->videos, (size_t)count * sizeof *follow->videos);
    if (videos)
        follow->videos = videos;
    bool *known = realloc(follow->known, (size_t)count * sizeof *follow->known);
    if (known)
        follow->known = known;
    if (!videos || !known)
        return false;
    size_t more = (size_t)(count - follow->count);
    memset(videos + follow->count, 0, more * sizeof *videos);
    memset(known + follow->count, 0, more * sizeof *known);
    follow->count = count;
    return true;
}

static bool keep_text(const char **member, const char *text) {
    if (*member && strcmp(*member, text) == 0)
        return true;
    char *copy = strdup(text);
    if (!copy)
        return false;
    free((char *)*member);
    *member = copy;
    return true;
}

static enum progress_phase phase_of(enum video_state state) {
    switch (state) {
    case VIDEO_RUNNING:
    case VIDEO_PUBLISHING:
        return PHASE_RUNNING;
    case VIDEO_DONE:
        return PHASE_DONE;
    case VIDEO_FAILED:
        return PHASE_FAILED;
    case VIDEO_CANCELED:
        return PHASE_CANCELED;
    default:
        return PHASE_WAITING;
    }
}

static bool on_video(void *user, const struct client_video *news) {
    struct follow *follow = user;
    if (news->video < 0 || news->video >= LIMIT_VIDEOS || !make_room(follow, news->video)) {
        follow->failed_memory = true;
        return false;
    }
    struct progress_video *video = &follow->videos[news->video];
    if (!keep_text(&video->name, news->name) || !keep_text(&video->path, news->path) ||
        !keep_text(&video->error, news->detail)) {
        follow->failed_memory = true;
        return false;
    }
    follow->short_of_memory |= news->state == VIDEO_FAILED && news->code == ERR_MEMORY;
    video->phase = phase_of(news->state);
    if (!follow->known[news->video])
        video->before = video_state_is_final(news->state);
    video->stage = news->kind < PLAN_KIND_COUNT ? plan_kind_name(news->kind) : "";
    video->windows = news->windows;
    video->windows_done = news->windows_done;
    video->step = news->step;
    video->steps = news->steps;
    video->seconds = news->length;
    video->took = news->seconds;
    video->quality = news->quality;
    follow->known_count += !follow->known[news->video];
    follow->known[news->video] = true;
    return true;
}

static struct progress state_of(const struct follow *follow) {
    return (struct progress){
        .job = follow->job.name,
        .videos = follow->videos,
        .count = follow->known_count,
        .elapsed = (double)(clock_monotonic_ns() - follow->started) / 1e9,
        .done_at_start = follow->done_at_start,
        .paused = follow->job.state == JOB_PAUSED,
    };
}

static bool on_job(void *user, const struct client_job *job) {
    struct follow *follow = user;
    follow->job = *job;
    struct progress state = state_of(follow);
    if (!follow->began) {
        follow->done_at_start = state.done_at_start = progress_done(&state);
        follow->began = true;
    }
    progress_show(follow->view, &state, clock_monotonic_ns());
    return true;
}

static void close_follow(struct follow *follow) {
    progress_close(&follow->view);
    for (int i = 0; i < follow->count; i++) {
        free((char *)follow->videos[i].name);
        free((char *)follow->videos[i].path);
        free((char *)follow->videos[i].error);
    }
    free(follow->videos);
    free(follow->known);
}

/* -- the end
 * --------------------------------------------------------------------------------------- */

static void pace(char out[48], double seconds, double took) {
    if (took <= 0)
        snprintf(out, 48, "-");
    else if (seconds >= took)
        snprintf(out, 48, "%.2f times faster", seconds / took);
    else
        snprintf(out, 48, "%.2f times slower", took / seconds);
}

static int widest_name(const struct follow *follow) {
    int width = 5;
    for (int i = 0; i < follow->known_count; i++) {
        int length = (int)strlen(follow->videos[i].name);
        width = length > width ? length : width;
    }
    return width < 40 ? width : 40;
}

/* Of the whole job: the greatest, and the sum of redraws. It has no limits of its own; *past is
 * what any video is past. */
static struct quality sum_quality(const struct follow *follow, unsigned *past) {
    struct quality sum = {0};
    *past = 0;
    for (int i = 0; i < follow->known_count; i++) {
        const struct quality *quality = &follow->videos[i].quality;
        sum.drift = fmax(sum.drift, quality->drift);
        sum.seam = fmax(sum.seam, quality->seam);
        sum.redraws += quality->redraws;
        *past |= quality_past(quality);
    }
    return sum;
}

/* Where the files are, how long each is and took, how that compares with real time, and what the
 * windows were measured to be. */
static void put_table(struct buffer *out, struct follow *follow) {
    int width = widest_name(follow);
    double seconds = 0, took = 0;
    char length[32], work[32], speed[48];
    unsigned past;
    bool redraws = sum_quality(follow, &past).redraws > 0;
    buffer_printf(out, "%-*s  %10s  %10s  %-19s  ", width, "video", "length", "took",
                  "than real time");
    quality_put_head(out, redraws);
    buffer_add_text(out, "file\n");
    for (int i = 0; i < follow->known_count; i++) {
        const struct progress_video *video = &follow->videos[i];
        bool done = video->phase == PHASE_DONE;
        pace(speed, video->seconds, done ? video->took : 0);
        buffer_printf(out, "%-*s  %10s  %10s  %-19s  ", width, video->name,
                      text_duration(length, video->seconds), text_duration(work, video->took),
                      speed);
        quality_put_cells(out, &video->quality, redraws);
        buffer_printf(out, "%s\n", done ? video->path : progress_phase_name(video->phase));
        follow->made += done && !video->before;
        seconds += done ? video->seconds : 0;
        took += done ? video->took : 0;
    }
    /* Work done at the same time counts once, where this program saw all of it. */
    if (follow->made == follow->known_count)
        took = (double)(follow->ended - follow->started) / 1e9;
    pace(speed, seconds, took);
    buffer_printf(out, "%-*s  %10s  %10s  %s\n", width, "total", text_duration(length, seconds),
                  text_duration(work, took), speed);
}

static void put_job_json(struct buffer *out, const struct follow *follow) {
    struct json_writer writer = {.buffer = out};
    const struct client_job *job = &follow->job;
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "event", "job");
    json_put_text(&writer, "job", job->name);
    json_put_int(&writer, "id", (int64_t)job->id);
    json_put_text(&writer, "state", job_state_name(job->state));
    json_put_int(&writer, "videos", job->videos);
    json_put_int(&writer, "done", job->by_state[VIDEO_DONE]);
    json_put_int(&writer, "failed", job->by_state[VIDEO_FAILED]);
    json_put_double(&writer, "elapsed_s", (double)(clock_monotonic_ns() - follow->started) / 1e9);
    unsigned past;
    struct quality quality = sum_quality(follow, &past);
    quality_put_json(&writer, &quality, past);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

/* The videos are there all the same, so this does not change the exit status. */
static void say_past_limits(struct cli *cli, const struct follow *follow) {
    struct buffer text = {0};
    for (int i = 0; i < follow->known_count; i++)
        quality_warn(&text, follow->videos[i].name, &follow->videos[i].quality);
    if (text.length)
        fputs(text.data, cli->err);
    buffer_close(&text);
}

static const char *first_error(const struct follow *follow) {
    for (int i = 0; i < follow->known_count; i++)
        if (follow->videos[i].phase == PHASE_FAILED)
            return follow->videos[i].error;
    return "no reason was given";
}

/* A line of its own, whole: a command that is cut would do something else. */
static void say_again(struct cli *cli, const struct follow *follow, const char *what) {
    fprintf(cli->err, "to %s: %s\n", what, follow->request->again);
}

static int say_end(struct cli *cli, struct follow *follow) {
    const struct client_job *job = &follow->job;
    struct buffer text = {0};
    if (follow->request->form == PROGRESS_JSON)
        put_job_json(&text, follow);
    else if (follow->request->form != PROGRESS_QUIET)
        put_table(&text, follow);
    int status = cli_put(cli, &text);
    if (follow->request->form != PROGRESS_QUIET)
        say_past_limits(cli, follow);
    if (status != 0 || job->state == JOB_DONE)
        return status;
    if (job->state == JOB_CANCELED)
        cli_fail_text(cli, ERR_INTERNAL, "job %s was canceled: %d of %d videos are there",
                      job->name, job->by_state[VIDEO_DONE], job->videos);
    else
        cli_fail_text(cli, ERR_INTERNAL, "%d of %d videos failed, the first with: %s",
                      job->by_state[VIDEO_FAILED], job->videos, first_error(follow));
    if (job->state != JOB_CANCELED && follow->short_of_memory)
        fputs("to try them again: as before, but with more memory for the worker (--memory), or "
              "smaller videos; the same again fails again\n",
              cli->err);
    else
        say_again(cli, follow, job->state == JOB_CANCELED ? "go on with it" : "try them again");
    return 1;
}

static int say_interrupted(struct cli *cli, const struct follow *follow) {
    bool goes_on = follow->request->goes_on;
    int status = cli_fail_text(cli, ERR_INTERRUPTED, "%s",
                               goes_on ? "interrupted; the job goes on"
                                       : "interrupted: stopping, and what is done is kept; once "
                                         "more stops at once");
    say_again(cli, follow, goes_on ? "follow it again" : "go on from there");
    return status;
}

int follow_job(struct cli *cli, const struct follow_request *request) {
    struct follow follow = {.request = request, .started = clock_monotonic_ns()};
    struct client_follower follower = {&follow, on_video, on_job};
    struct error error = {0};
    int status;
    enum error_code code = progress_open(&follow.view, request->form, cli->out, cli->err, &error);
    if (code != ERR_OK)
        return cli_fail(cli, &error);
    code = client_follow(request->client, &follow.job, request->job, &follower, &error);
    if (code == ERR_OK && follow.failed_memory)
        code = error_set(&error, ERR_MEMORY, "no memory to follow the job");
    if (code == ERR_OK)
        on_job(&follow, &follow.job);
    follow.ended = clock_monotonic_ns();
    progress_close(&follow.view);
    if (code == ERR_OK)
        status = say_end(cli, &follow);
    else if (request->failed && atomic_load(request->failed))
        status = cli_fail(cli, request->failure);
    else if (code == ERR_INTERRUPTED || interrupt_asked())
        status = say_interrupted(cli, &follow);
    else
        status = cli_fail(cli, &error);
    close_follow(&follow);
    return status;
}
