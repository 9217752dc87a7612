/* Reports: pages of jobs, videos, workers and logs, into server->out. */
#include <string.h>

#include "coordinator/server_internal.h"

#define ATTEMPTS_MAX     10000 /* told of a job: the last ones */
#define ATTEMPTS_DEFAULT 1000

/* -- jobs -------------------------------------------------------------------------------------- */

static void fill_job(vidloom_Job *out, const struct job_status *status) {
    *out = (vidloom_Job){
        .job = status->id,
        .state = (uint32_t)status->state,
        .priority = status->priority,
        .submitted_ns = status->submitted_ns,
        .videos = (uint32_t)status->videos,
        .by_state_count = VIDEO_STATE_COUNT,
        .windows = (uint64_t)status->windows,
        .windows_done = (uint64_t)status->windows_done,
        .frames = (uint64_t)status->frames,
        .frames_done = (uint64_t)status->frames_done,
        .seconds_left = status->seconds_left,
    };
    message_set_text(out->name, sizeof out->name, status->job->name);
    for (int i = 0; i < VIDEO_STATE_COUNT; i++)
        out->by_state[i] = (uint32_t)status->by_state[i];
}

static uint64_t newest_of_name(const struct server *server, const char *name) {
    for (int place = scheduler_job_count(server->scheduler) - 1; place >= 0; place--) {
        uint64_t id = scheduler_job_at(server->scheduler, place);
        const struct job *job = scheduler_job(server->scheduler, id);
        if (job && strcmp(job->name, name) == 0)
            return id;
    }
    return 0;
}

static enum error_code no_such_job(uint64_t job, const char *name, struct error *error) {
    if (*name)
        return error_set(error, ERR_MISSING,
                         "there is no job called '%s'; 'vidloom status' shows all", name);
    return error_set(error, ERR_MISSING, "there is no job %llu; 'vidloom status' shows all",
                     (unsigned long long)job);
}

enum error_code report_jobs(struct server *server, const vidloom_GetJobs *asked,
                            struct error *error) {
    struct job_status status;
    message_begin(server->out, vidloom_Envelope_job_page_tag);
    vidloom_JobPage *page = &server->out->body.job_page;
    if (asked->job || *asked->name) {
        uint64_t id = asked->job ? asked->job : newest_of_name(server, asked->name);
        if (!scheduler_job_status(server->scheduler, id, &status))
            return no_such_job(asked->job, asked->job ? "" : asked->name, error);
        fill_job(&page->jobs[page->jobs_count++], &status);
        return ERR_OK;
    }
    for (int place = 0; place < scheduler_job_count(server->scheduler); place++) {
        uint64_t id = scheduler_job_at(server->scheduler, place);
        if (id <= asked->after)
            continue;
        if (page->jobs_count == PROTO_JOBS_PAGE) {
            page->next = page->jobs[PROTO_JOBS_PAGE - 1].job;
            break;
        }
        if (scheduler_job_status(server->scheduler, id, &status))
            fill_job(&page->jobs[page->jobs_count++], &status);
    }
    return ERR_OK;
}

/* -- videos ------------------------------------------------------------------------------------ */

static void fill_video(vidloom_Video *out, const struct job *job, int index,
                       const struct video_status *status) {
    const struct job_video *video = &job->videos[index];
    bool running = status->kind < PLAN_KIND_COUNT;
    *out = (vidloom_Video){
        .video = (uint32_t)index,
        .state = (uint32_t)status->state,
        .code = (uint32_t)status->code,
        .length =
            (double)video->frames * video->output.fps_denominator / video->output.fps_numerator,
        .windows = (uint32_t)status->windows,
        .windows_done = (uint32_t)status->windows_done,
        .attempt = running ? (uint32_t)(status->attempt > 0 ? status->attempt : 1) : 0,
        .kind = running ? (vidloom_Kind)status->kind : vidloom_KIND_TEXT,
        .index = (uint32_t)status->index,
        .step = (uint32_t)status->step,
        .steps = (uint32_t)status->steps,
        .seconds = status->seconds,
        .seconds_left = status->seconds_left,
        .drift = status->drift,
        .seam = status->seam,
        .redraws = (uint32_t)status->redraws,
        .drift_limit = video->limits.drift,
        .seam_limit = video->limits.seam,
    };
    message_set_text(out->name, sizeof out->name, video->name);
    message_set_text(out->path, sizeof out->path, video->output.path);
    message_set_text(out->detail, sizeof out->detail, status->detail);
    message_set_text(out->worker, sizeof out->worker, status->worker);
    message_set_text(out->class, sizeof out->class, status->class);
}

enum error_code report_videos(struct server *server, const vidloom_GetVideos *asked,
                              struct error *error) {
    const struct job *job = scheduler_job(server->scheduler, asked->job);
    if (!job)
        return no_such_job(asked->job, "", error);
    message_begin(server->out, vidloom_Envelope_video_page_tag);
    vidloom_VideoPage *page = &server->out->body.video_page;
    page->job = asked->job;
    page->revision = server->revision;
    bool all = asked->revision < server->first_revision || asked->revision > server->revision;
    for (uint32_t i = asked->first; i < (uint32_t)job->video_count; i++) {
        struct video_status status;
        if (!all && server_revision_of(server, asked->job, (int)i) <= asked->revision)
            continue;
        if (page->videos_count == PROTO_VIDEOS_PAGE) {
            page->next = i;
            break;
        }
        if (scheduler_video_status(server->scheduler, asked->job, (int)i, &status))
            fill_video(&page->videos[page->videos_count++], job, (int)i, &status);
    }
    return ERR_OK;
}

/* -- workers ----------------------------------------------------------------------------------- */

static void fill_worker(struct server *server, vidloom_Worker *out,
                        const struct worker_status *status) {
    const struct session *session = session_of_id(server, status->id);
    bool working = status->job != 0;
    *out = (vidloom_Worker){
        .kinds = status->kinds,
        .slots = (uint32_t)status->slots,
        .leases = (uint32_t)status->leases,
        .draining = status->draining,
        .stopped = status->stopped,
        .done = (uint64_t)status->done,
        .failed = (uint64_t)status->failed,
        .seconds_silent = status->seconds_silent,
        .job = status->job,
        .video = working ? (uint32_t)status->video : 0,
        .kind = working ? (vidloom_Kind)status->kind : vidloom_KIND_TEXT,
        .index = working ? (uint32_t)status->index : 0,
    };
    message_set_text(out->name, sizeof out->name, status->name);
    message_set_text(out->class, sizeof out->class, status->class);
    message_set_text(out->device, sizeof out->device, session ? session->device : "");
}

void report_workers(struct server *server, const vidloom_GetWorkers *asked) {
    message_begin(server->out, vidloom_Envelope_worker_page_tag);
    vidloom_WorkerPage *page = &server->out->body.worker_page;
    int count = scheduler_worker_count(server->scheduler);
    for (uint32_t i = asked->first; i < (uint32_t)count; i++) {
        struct worker_status status;
        if (page->workers_count == PROTO_WORKERS_PAGE) {
            page->next = i;
            break;
        }
        if (scheduler_worker_at(server->scheduler, (int)i, server->now, &status))
            fill_worker(server, &page->workers[page->workers_count++], &status);
    }
}

/* -- logs -------------------------------------------------------------------------------------- */

struct log_report {
    vidloom_LogPage *page;
    const vidloom_GetLog *asked;
    uint64_t seen; /* rows, those left out too */
    uint64_t last; /* sequence */
    uint64_t skip; /* attempts of earlier pages */
    size_t page_max;
};

static enum error_code add_event(void *user, uint64_t sequence, const struct ledger_event *event,
                                 struct error *error) {
    struct log_report *report = user;
    report->seen++;
    report->last = sequence;
    if (report->asked->has_video && event->video != (int)report->asked->video)
        return ERR_OK;
    vidloom_LogEntry *out = &report->page->entries[report->page->entries_count++];
    *out = (vidloom_LogEntry){
        .sequence = sequence,
        .wall_ns = event->wall_ns,
        .job = event->job,
        .has_video = event->video >= 0,
        .video = event->video >= 0 ? (uint32_t)event->video : 0,
    };
    message_set_text(out->text, sizeof out->text, event->text);
    return ERR_OK;
}

/* Events come in sequence; those of other videos are passed over, a page at a time. */
static enum error_code report_events(struct server *server, struct log_report *report,
                                     struct error *error) {
    const struct ledger_visitor visitor = {.user = report, .event = add_event};
    report->last = report->asked->after;
    for (;;) {
        uint64_t before = report->seen;
        size_t room = report->page_max - report->page->entries_count;
        if (room == 0) {
            report->page->next = report->last;
            return ERR_OK;
        }
        enum error_code code = ledger_read_events(server->ledger, &visitor, report->asked->job,
                                                  report->last, (int)room, error);
        if (code != ERR_OK || report->seen - before < room)
            return code;
    }
}

static enum error_code add_attempt(void *user, const struct ledger_attempt *attempt,
                                   struct error *error) {
    struct log_report *report = user;
    if (report->seen++ < report->skip)
        return ERR_OK;
    if (report->page->entries_count == report->page_max) {
        report->page->next = report->skip + report->page_max;
        return ERR_OK;
    }
    vidloom_LogEntry *out = &report->page->entries[report->page->entries_count++];
    *out = (vidloom_LogEntry){
        .wall_ns = attempt->wall_ns,
        .job = attempt->job,
        .has_video = true,
        .video = (uint32_t)attempt->video,
        .attempt = true,
        .kind = (vidloom_Kind)attempt->kind,
        .index = (uint32_t)attempt->index,
        .code = (uint32_t)attempt->code,
        .seconds = attempt->seconds,
        .has_measures = attempt->measured,
        .measures = {.colour = attempt->measures.colour,
                     .luminance = attempt->measures.luminance,
                     .sharpness = attempt->measures.sharpness,
                     .seam = attempt->measures.seam},
    };
    message_set_text(out->worker, sizeof out->worker, attempt->worker);
    message_set_text(out->class, sizeof out->class, attempt->class);
    message_set_text(out->text, sizeof out->text, attempt->detail);
    return ERR_OK;
}

static enum error_code report_attempts(struct server *server, struct log_report *report,
                                       struct error *error) {
    const struct ledger_visitor visitor = {.user = report, .attempt = add_attempt};
    uint32_t limit = report->asked->limit ? report->asked->limit : ATTEMPTS_DEFAULT;
    report->skip = report->asked->after;
    report->page_max = PROTO_LOG_PAGE;
    return ledger_read_attempts(server->ledger, &visitor, report->asked->job,
                                report->asked->has_video ? (int)report->asked->video : -1,
                                (int)(limit < ATTEMPTS_MAX ? limit : ATTEMPTS_MAX), error);
}

enum error_code report_log(struct server *server, const vidloom_GetLog *asked,
                           struct error *error) {
    struct job_status status;
    if (asked->job && !scheduler_job_status(server->scheduler, asked->job, &status))
        return no_such_job(asked->job, "", error);
    if (asked->has_video && asked->job && asked->video >= (uint32_t)status.videos)
        return error_set(error, ERR_MISSING, "job %llu has %d videos",
                         (unsigned long long)asked->job, status.videos);
    message_begin(server->out, vidloom_Envelope_log_page_tag);
    struct log_report report = {
        .page = &server->out->body.log_page,
        .asked = asked,
        .page_max = asked->limit && asked->limit < PROTO_LOG_PAGE ? asked->limit : PROTO_LOG_PAGE,
    };
    return asked->attempts ? report_attempts(server, &report, error)
                           : report_events(server, &report, error);
}
