/* Requests and their answers. Submission is in client_submit.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/client_internal.h"

#define TIMEOUT_NS   (10 * CLOCK_S)
#define REPEAT_NS    (3 * CLOCK_S) /* a request without an answer is sent again */
#define LOOK_MS      50            /* at *cancel, at least this often */
#define FOLLOW_NS    (150 * CLOCK_MS)
#define LOGS_DEFAULT 1000
#define PAGES_AHEAD  16 /* asked for while one is awaited */

/* -- life -------------------------------------------------------------------------------------- */

enum error_code client_open(struct client **out, const struct client_config *config,
                            struct error *error) {
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return error_set(error, ERR_MEMORY, "no memory for a client");
    client->config = *config;
    client->timeout_ns = config->timeout_ns ? config->timeout_ns : TIMEOUT_NS;
    client->request = (uint64_t)clock_wall_ns();
    client->in = calloc(1, sizeof *client->in);
    client->out = calloc(1, sizeof *client->out);
    enum error_code code = ERR_OK;
    if (!client->in || !client->out)
        code = error_set(error, ERR_MEMORY, "no memory for messages");
    if (code == ERR_OK && !config->context)
        code = endpoint_context_open(&client->own_context, error);
    if (code == ERR_OK) {
        const struct endpoint_config endpoint = {
            .context = config->context ? config->context : client->own_context,
            .role = ENDPOINT_DEALER,
        };
        code = endpoint_open(&client->endpoint, &endpoint, error);
    }
    if (code == ERR_OK)
        code = endpoint_connect(client->endpoint, config->address, error);
    if (code != ERR_OK)
        client_close(&client);
    *out = client;
    return code;
}

void client_close(struct client **out) {
    struct client *client = *out;
    if (!client)
        return;
    endpoint_close(&client->endpoint);
    endpoint_context_close(&client->own_context);
    buffer_close(&client->frame);
    free(client->in);
    free(client->out);
    free(client);
    *out = NULL;
}

/* -- asking ------------------------------------------------------------------------------------ */

static bool is_canceled(const struct client *client) {
    return client->config.cancel && atomic_load(client->config.cancel);
}

static enum error_code interrupted(struct error *error) {
    return error_set(error, ERR_INTERRUPTED, "interrupted; what the coordinator has goes on there");
}

static enum error_code no_answer(const struct client *client, int64_t waited, struct error *error) {
    char text[32];
    return error_set(error, ERR_NETWORK,
                     "the coordinator at %s has not answered for %s; start one with 'vidloom "
                     "coordinator', or check the address. Jobs that it has accepted are safe",
                     client->config.address, text_duration(text, (double)waited / CLOCK_S));
}

/* Whether client->in is the answer to that request. Others are thrown away. */
static bool receive_answer(struct client *client, uint64_t request) {
    struct endpoint_frame frame;
    while (endpoint_receive(client->endpoint, &frame))
        if (message_decode(client->in, frame.bytes, frame.length, NULL) == ERR_OK &&
            client->in->envelope.request == request)
            return true;
    return false;
}

static enum error_code read_answer(const struct client *client, pb_size_t wanted,
                                   struct error *error) {
    const vidloom_Envelope *in = &client->in->envelope;
    if (in->which_body == wanted)
        return ERR_OK;
    if (in->which_body == vidloom_Envelope_refused_tag) {
        enum error_code code = message_code(in->body.refused.code);
        return error_set(error, code != ERR_OK ? code : ERR_INTERNAL, "%s",
                         in->body.refused.detail);
    }
    return error_set(error, ERR_FORMAT,
                     "the coordinator at %s answers with %s, which was not "
                     "asked for; is it another version?",
                     client->config.address, message_name(in->which_body));
}

/* The answer to client->out as number `request`, which may have been sent already. */
static enum error_code await(struct client *client, uint64_t request, bool is_sent,
                             pb_size_t wanted, int64_t patience_ns, struct error *error) {
    struct endpoint *endpoints[] = {client->endpoint};
    client->out->request = request;
    enum error_code code = message_encode(&client->frame, client->out, error);
    int64_t start = clock_monotonic_ns(), now = start, sent = is_sent ? start : 0;
    while (code == ERR_OK) {
        if (is_canceled(client))
            return interrupted(error);
        bool patient = client->timeout_ns < 0;
        if ((sent == 0 || (!patient && now - sent > REPEAT_NS)) &&
            endpoint_send(client->endpoint, 0, client->frame.data, client->frame.length, NULL) ==
                ERR_OK)
            sent = now;
        if (receive_answer(client, request))
            return read_answer(client, wanted, error);
        if (!patient && now - start > patience_ns)
            return no_answer(client, now - start, error);
        code = endpoint_wait(endpoints, 1, LOOK_MS, sent == 0, error);
        now = clock_monotonic_ns();
    }
    return code;
}

enum error_code client_ask(struct client *client, pb_size_t wanted, int64_t patience_ns,
                           struct error *error) {
    return await(client, ++client->request, false, wanted, patience_ns, error);
}

static enum error_code ask(struct client *client, pb_size_t wanted, struct error *error) {
    return client_ask(client, wanted, client->timeout_ns, error);
}

/* -- from the wire ----------------------------------------------------------------------------- */

static void copy_text(char *out, size_t bytes, const char *text) {
    message_set_text(out, bytes, text);
}

static void read_job(struct client_job *out, const vidloom_Job *in) {
    *out = (struct client_job){
        .id = in->job,
        .state = in->state < JOB_STATE_COUNT ? (enum job_state)in->state : JOB_RUNNING,
        .priority = in->priority,
        .submitted_ns = in->submitted_ns,
        .videos = (int)in->videos,
        .windows = (int64_t)in->windows,
        .windows_done = (int64_t)in->windows_done,
        .frames = (int64_t)in->frames,
        .frames_done = (int64_t)in->frames_done,
        .seconds_left = in->seconds_left,
    };
    copy_text(out->name, sizeof out->name, in->name);
    for (int i = 0; i < VIDEO_STATE_COUNT && i < in->by_state_count; i++)
        out->by_state[i] = (int)in->by_state[i];
}

static void read_video(struct client_video *out, uint64_t job, const vidloom_Video *in) {
    *out = (struct client_video){
        .job = job,
        .video = (int)in->video,
        .state = in->state < VIDEO_STATE_COUNT ? (enum video_state)in->state : VIDEO_WAITING,
        .code = message_code(in->code),
        .length = in->length,
        .windows = (int)in->windows,
        .windows_done = (int)in->windows_done,
        .kind = in->attempt ? (enum plan_kind)in->kind : PLAN_KIND_COUNT,
        .index = (int)in->index,
        .step = (int)in->step,
        .steps = (int)in->steps,
        .attempt = (int)in->attempt,
        .seconds = in->seconds,
        .seconds_left = in->seconds_left,
        .quality = {.drift = in->drift,
                    .seam = in->seam,
                    .drift_limit = in->drift_limit,
                    .seam_limit = in->seam_limit,
                    .redraws = (int)in->redraws},
    };
    copy_text(out->name, sizeof out->name, in->name);
    copy_text(out->path, sizeof out->path, in->path);
    copy_text(out->detail, sizeof out->detail, in->detail);
    copy_text(out->worker, sizeof out->worker, in->worker);
    copy_text(out->class, sizeof out->class, in->class);
}

static void read_worker(struct client_worker *out, const vidloom_Worker *in) {
    *out = (struct client_worker){
        .kinds = in->kinds,
        .slots = (int)in->slots,
        .leases = (int)in->leases,
        .draining = in->draining,
        .stopped = in->stopped,
        .done = (int64_t)in->done,
        .failed = (int64_t)in->failed,
        .seconds_silent = in->seconds_silent,
        .job = in->job,
        .video = (int)in->video,
        .kind = (enum plan_kind)in->kind,
        .index = (int)in->index,
    };
    copy_text(out->name, sizeof out->name, in->name);
    copy_text(out->class, sizeof out->class, in->class);
    copy_text(out->device, sizeof out->device, in->device);
}

static void read_log(struct client_log *out, const vidloom_LogEntry *in) {
    *out = (struct client_log){
        .sequence = in->sequence,
        .wall_ns = in->wall_ns,
        .job = in->job,
        .video = in->has_video ? (int)in->video : -1,
        .attempt = in->attempt,
        .kind = (enum plan_kind)in->kind,
        .index = (int)in->index,
        .code = message_code(in->code),
        .seconds = in->seconds,
        .measured = in->has_measures,
        .measures = {.colour = in->measures.colour,
                     .luminance = in->measures.luminance,
                     .sharpness = in->measures.sharpness,
                     .seam = in->measures.seam},
    };
    copy_text(out->worker, sizeof out->worker, in->worker);
    copy_text(out->class, sizeof out->class, in->class);
    copy_text(out->text, sizeof out->text, in->text);
}

/* Where the next page begins is further on, or 0. */
static enum error_code check_next(const struct client *client, uint64_t next, uint64_t here,
                                  struct error *error) {
    if (next == 0 || next > here)
        return ERR_OK;
    return error_set(error, ERR_FORMAT,
                     "the coordinator at %s sends pages that lead back; is it another version?",
                     client->config.address);
}

/* -- jobs -------------------------------------------------------------------------------------- */

static enum error_code ask_job(struct client *client, struct client_job *out, uint64_t job,
                               const char *name, struct error *error) {
    message_begin(client->out, vidloom_Envelope_get_jobs_tag);
    vidloom_GetJobs *asked = &client->out->body.get_jobs;
    asked->job = job;
    copy_text(asked->name, sizeof asked->name, name);
    enum error_code code = ask(client, vidloom_Envelope_job_page_tag, error);
    const vidloom_JobPage *page = &client->in->envelope.body.job_page;
    if (code == ERR_OK && page->jobs_count == 0)
        code = error_set(error, ERR_MISSING, "the coordinator at %s has no such job",
                         client->config.address);
    if (code == ERR_OK)
        read_job(out, &page->jobs[0]);
    return code;
}

enum error_code client_job(struct client *client, struct client_job *out, uint64_t job,
                           struct error *error) {
    if (job == 0)
        return error_set(error, ERR_MISSING, "jobs are numbered from 1");
    return ask_job(client, out, job, "", error);
}

enum error_code client_find_job(struct client *client, struct client_job *out, const char *name,
                                struct error *error) {
    int64_t number;
    if (*name == '\0' || strlen(name) > LIMIT_NAME_BYTES)
        return error_set(error, ERR_USAGE, "a job is named by its number or its name");
    if (text_to_int(*name == '#' ? name + 1 : name, &number) && number > 0) {
        enum error_code code = ask_job(client, out, (uint64_t)number, "", error);
        if (code != ERR_MISSING || *name == '#')
            return code;
    }
    return ask_job(client, out, 0, name, error);
}

enum error_code client_jobs(struct client *client,
                            bool (*visit)(void *user, const struct client_job *job), void *user,
                            struct error *error) {
    uint64_t after = 0;
    do {
        message_begin(client->out, vidloom_Envelope_get_jobs_tag);
        client->out->body.get_jobs.after = after;
        enum error_code code = ask(client, vidloom_Envelope_job_page_tag, error);
        if (code != ERR_OK)
            return code;
        const vidloom_JobPage *page = &client->in->envelope.body.job_page;
        for (size_t i = 0; i < page->jobs_count; i++) {
            struct client_job job;
            read_job(&job, &page->jobs[i]);
            if (!visit(user, &job))
                return ERR_OK;
        }
        code = check_next(client, page->next, after, error);
        if (code != ERR_OK)
            return code;
        after = page->next;
    } while (after);
    return ERR_OK;
}

/* -- videos, workers --------------------------------------------------------------------------- */

/* Pages of videos. Where they follow each other without gaps the next ones are asked for ahead, as
 * each would cost a round trip. */
struct pages {
    uint64_t job, after; /* those that changed after this revision */
    uint32_t first;      /* video of the next page; 0 after the last */
    uint64_t oldest;     /* request that was sent ahead for it */
    uint32_t ahead;      /* that many were */
};

static void fill_page_request(struct client *client, const struct pages *pages, uint32_t first) {
    message_begin(client->out, vidloom_Envelope_get_videos_tag);
    client->out->body.get_videos.job = pages->job;
    client->out->body.get_videos.first = first;
    client->out->body.get_videos.revision = pages->after;
}

/* One that cannot be sent now is sent when its answer is awaited. */
static void ask_ahead(struct client *client, struct pages *pages) {
    if (pages->ahead == 0)
        pages->oldest = client->request + 1;
    for (; pages->ahead < PAGES_AHEAD; pages->ahead++) {
        fill_page_request(client, pages, pages->first + pages->ahead * PROTO_VIDEOS_PAGE);
        client->out->request = ++client->request;
        if (message_encode(&client->frame, client->out, NULL) == ERR_OK)
            (void)!endpoint_send(client->endpoint, 0, client->frame.data, client->frame.length,
                                 NULL);
    }
}

/* The page is in client->in; *pages moves on to the next. */
static enum error_code next_page(struct client *client, struct pages *pages, struct error *error) {
    uint32_t first = pages->first;
    bool is_sent = pages->ahead > 0;
    uint64_t request = is_sent ? pages->oldest++ : ++client->request;
    pages->ahead -= is_sent;
    fill_page_request(client, pages, first);
    enum error_code code =
        await(client, request, is_sent, vidloom_Envelope_video_page_tag, client->timeout_ns, error);
    if (code != ERR_OK)
        return code;
    pages->first = client->in->envelope.body.video_page.next;
    code = check_next(client, pages->first, first, error);
    if (code != ERR_OK)
        return code;
    if (pages->first == first + PROTO_VIDEOS_PAGE)
        ask_ahead(client, pages);
    else
        pages->ahead = 0; /* the others are not what comes next */
    return ERR_OK;
}

/* Those that changed after *revision, which is brought up to date. *more false: visit said stop. */
static enum error_code visit_videos(struct client *client, uint64_t job, uint64_t *revision,
                                    bool (*visit)(void *user, const struct client_video *video),
                                    void *user, bool *more, struct error *error) {
    struct pages pages = {.job = job, .after = *revision};
    *more = true;
    do {
        bool begins = pages.first == 0;
        enum error_code code = next_page(client, &pages, error);
        if (code != ERR_OK)
            return code;
        const vidloom_VideoPage *page = &client->in->envelope.body.video_page;
        if (begins)
            *revision = page->revision;
        for (size_t i = 0; i < page->videos_count && *more; i++) {
            struct client_video video;
            read_video(&video, job, &page->videos[i]);
            *more = visit(user, &video);
        }
    } while (pages.first && *more);
    return ERR_OK;
}

enum error_code client_videos(struct client *client, uint64_t job,
                              bool (*visit)(void *user, const struct client_video *video),
                              void *user, struct error *error) {
    uint64_t revision = 0;
    bool more;
    return visit_videos(client, job, &revision, visit, user, &more, error);
}

enum error_code client_workers(struct client *client,
                               bool (*visit)(void *user, const struct client_worker *worker),
                               void *user, struct error *error) {
    uint32_t first = 0;
    do {
        message_begin(client->out, vidloom_Envelope_get_workers_tag);
        client->out->body.get_workers.first = first;
        enum error_code code = ask(client, vidloom_Envelope_worker_page_tag, error);
        if (code != ERR_OK)
            return code;
        const vidloom_WorkerPage *page = &client->in->envelope.body.worker_page;
        for (size_t i = 0; i < page->workers_count; i++) {
            struct client_worker worker;
            read_worker(&worker, &page->workers[i]);
            if (!visit(user, &worker))
                return ERR_OK;
        }
        code = check_next(client, page->next, first, error);
        if (code != ERR_OK)
            return code;
        first = page->next;
    } while (first);
    return ERR_OK;
}

/* -- follow ------------------------------------------------------------------------------------ */

static enum error_code pause_for(struct client *client, int64_t ns, struct error *error) {
    struct endpoint *endpoints[] = {client->endpoint};
    int64_t until = clock_monotonic_ns() + ns, now;
    while ((now = clock_monotonic_ns()) < until) {
        int64_t left = (until - now) / CLOCK_MS + 1;
        if (is_canceled(client))
            return interrupted(error);
        enum error_code code =
            endpoint_wait(endpoints, 1, left < LOOK_MS ? (int)left : LOOK_MS, false, error);
        if (code != ERR_OK)
            return code;
        receive_answer(client, 0); /* late ones: thrown away */
    }
    return ERR_OK;
}

enum error_code client_follow(struct client *client, struct client_job *out, uint64_t job,
                              const struct client_follower *follower, struct error *error) {
    struct client_job here = {0};
    uint64_t revision = 0;
    if (!out)
        out = &here;
    for (;;) {
        bool more = true;
        /* The job first: if it has ended, the videos that are told after it have too. */
        enum error_code code = client_job(client, out, job, error);
        if (code == ERR_OK && follower->video)
            code =
                visit_videos(client, job, &revision, follower->video, follower->user, &more, error);
        if (code != ERR_OK)
            return code;
        if (more && follower->job)
            more = follower->job(follower->user, out);
        if (!more || job_state_is_final(out->state))
            return ERR_OK;
        code = pause_for(client, FOLLOW_NS, error);
        if (code != ERR_OK)
            return code;
    }
}

/* -- control ----------------------------------------------------------------------------------- */

enum error_code client_control(struct client *client, uint64_t job, enum scheduler_control control,
                               struct error *error) {
    static const vidloom_Action actions[] = {
        [CONTROL_PAUSE] = vidloom_ACTION_PAUSE,
        [CONTROL_RESUME] = vidloom_ACTION_RESUME,
        [CONTROL_CANCEL] = vidloom_ACTION_CANCEL,
        [CONTROL_RETRY] = vidloom_ACTION_RETRY,
    };
    message_begin(client->out, vidloom_Envelope_control_tag);
    client->out->body.control.job = job;
    client->out->body.control.action = actions[control];
    return ask(client, vidloom_Envelope_done_tag, error);
}

enum error_code client_drain(struct client *client, const char *worker, bool now_too,
                             struct error *error) {
    if (*worker == '\0' || strlen(worker) >= LIMIT_WORKER_BYTES)
        return error_set(error, ERR_MISSING, "no worker is called '%.128s'", worker);
    message_begin(client->out, vidloom_Envelope_drain_worker_tag);
    vidloom_DrainWorker *order = &client->out->body.drain_worker;
    copy_text(order->name, sizeof order->name, worker);
    order->now = now_too;
    return ask(client, vidloom_Envelope_done_tag, error);
}

/* -- logs -------------------------------------------------------------------------------------- */

static enum error_code visit_log(struct client *client, const struct client_log_query *query,
                                 bool attempts,
                                 bool (*visit)(void *user, const struct client_log *log),
                                 void *user, bool *more, struct error *error) {
    int limit = query->limit > 0 ? query->limit : LOGS_DEFAULT, told = 0;
    uint64_t after = attempts ? 0 : query->after;
    do {
        message_begin(client->out, vidloom_Envelope_get_log_tag);
        vidloom_GetLog *asked = &client->out->body.get_log;
        asked->job = query->job;
        asked->has_video = query->video >= 0;
        asked->video = query->video >= 0 ? (uint32_t)query->video : 0;
        asked->attempts = attempts;
        asked->after = after;
        asked->limit = (uint32_t)(attempts ? limit : limit - told);
        enum error_code code = ask(client, vidloom_Envelope_log_page_tag, error);
        if (code != ERR_OK)
            return code;
        const vidloom_LogPage *page = &client->in->envelope.body.log_page;
        for (size_t i = 0; i < page->entries_count && told < limit && *more; i++, told++) {
            struct client_log log;
            read_log(&log, &page->entries[i]);
            *more = visit(user, &log);
        }
        code = check_next(client, page->next, after, error);
        if (code != ERR_OK)
            return code;
        after = page->next;
    } while (after && *more && told < limit);
    return ERR_OK;
}

enum error_code client_logs(struct client *client, const struct client_log_query *query,
                            bool (*visit)(void *user, const struct client_log *log), void *user,
                            struct error *error) {
    bool more = true;
    enum error_code code = ERR_OK;
    if (query->attempts && query->job)
        code = visit_log(client, query, true, visit, user, &more, error);
    if (code == ERR_OK && more)
        code = visit_log(client, query, false, visit, user, &more, error);
    return code;
}
