#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan_internal.h"

static const char *const kind_names[PLAN_KIND_COUNT] = {"text",   "keyframe", "image",
                                                        "window", "decode",   "mux"};

const char *plan_kind_name(enum plan_kind kind) {
    return kind < PLAN_KIND_COUNT ? kind_names[kind] : "unknown";
}

/* -- frames ----------------------------------------------------------------------------------- */

int plan_overlap(const struct model_facts *facts) {
    int largest = 0;
    for (int i = 0; i < facts->overlap_count && i < 4; i++)
        if (facts->overlaps[i] > largest && facts->overlaps[i] < facts->window_frames)
            largest = facts->overlaps[i];
    return largest;
}

int64_t plan_windows(int64_t frames, int window_frames, int overlap) {
    int step = window_frames - overlap;
    if (step < 1)
        return 0;
    if (frames <= window_frames)
        return 1;
    return (frames - overlap + step - 1) / step;
}

int64_t plan_last_window(int64_t frames, int window_frames, int overlap) {
    return frames - (plan_windows(frames, window_frames, overlap) - 1) * (window_frames - overlap);
}

/* The least number of frames that a window of the whole video can have: at least one that is not
 * given. */
static int whole_window(const struct job_video *video, const struct model_facts *facts) {
    int64_t frames = video->frames == 1 && !facts->from_text ? 2 : video->frames;
    int64_t step = facts->window_step, whole = (frames - 1 + step - 1) / step * step + 1;
    return (int)(whole < facts->window_frames ? whole : facts->window_frames);
}

enum error_code plan_count(struct plan_counts *out, const struct job *job,
                           const struct job_video *video, struct error *error) {
    const struct model_facts *facts = &job->window.facts;
    int overlap = video->overlap;
    int64_t windows = plan_windows(video->frames, facts->window_frames, overlap);
    *out = (struct plan_counts){0};
    if (windows < 1 || windows > LIMIT_WINDOWS || (windows > 1 && !overlap))
        return error_set(
            error, ERR_LIMIT,
            "video %s: %lld frames take %lld windows of %d frames with %d overlapping; "
            "at most %d",
            video->name, (long long)video->frames, (long long)windows, facts->window_frames,
            overlap, LIMIT_WINDOWS);
    struct texts *texts = plan_texts_open(job, video, windows, overlap);
    if (!texts)
        return error_set(error, ERR_MEMORY, "video %s: no memory for its plan", video->name);
    out->texts = texts->count;
    for (int i = 0; i < texts->count; i++)
        out->keyframe_texts += !plan_same_model(texts->model[i], &job->window);
    plan_texts_close(texts);
    out->windows = (int)windows;
    out->first = out->texts + (video->end ? 1 : 0);
    out->chain = out->first + (facts->from_text ? 0 : 1);
    out->tasks = out->chain + 2 * out->windows + 1;
    out->overlap = overlap;
    out->window_frames = facts->window_frames;
    out->last_frames = facts->window_frames;
    if (video->end)
        out->last_frames = (int)plan_last_window(video->frames, facts->window_frames, overlap);
    else if (facts->from_text || (facts->window_fits && windows == 1))
        out->last_frames = whole_window(video, facts);
    out->computed = (windows - 1) * facts->window_frames + out->last_frames;
    out->frames = video->frames;
    out->keyframe = !video->image && !facts->from_text;
    out->steps = windows * video->window.steps + (out->keyframe ? video->keyframe.steps : 0);
    out->kinds = PLAN_KIND_BIT(PLAN_TEXT) | PLAN_KIND_BIT(PLAN_WINDOW) |
                 PLAN_KIND_BIT(PLAN_DECODE) | PLAN_KIND_BIT(PLAN_MUX) |
                 (out->keyframe ? PLAN_KIND_BIT(PLAN_KEYFRAME) : 0) |
                 (video->image || video->end ? PLAN_KIND_BIT(PLAN_IMAGE) : 0);
    return ERR_OK;
}

/* Room for all that a plan's tasks point to. */
static size_t plan_bytes(const struct plan_counts *counts, const struct texts *texts,
                         const struct job *job, const struct job_video *video) {
    size_t text_bytes = 0, spec_bytes = 6 * (strlen(job->keyframe.spec) + strlen(job->window.spec));
    for (int i = 0; i < texts->count; i++)
        text_bytes += 8 * strlen(texts->text[i]) + 1024;
    /* Escapes make a text at most six times as long; provenance repeats the shots' texts. */
    for (int i = 0; i < video->shot_count; i++)
        text_bytes += 6 * (strlen(video->shots[i].prompt) + strlen(video->shots[i].motion)) + 128;
    text_bytes += 6 * strlen(video->negative) + 16 * LIMIT_PATH_BYTES;
    for (int i = 0; i < job->keyframe.lora_count; i++)
        spec_bytes += 6 * strlen(job->keyframe.loras[i].spec) + 256;
    for (int i = 0; i < job->window.lora_count; i++)
        spec_bytes += 6 * strlen(job->window.loras[i].spec) + 256;
    bool listed = video->keyframe.sigmas || video->window.sigmas;
    size_t levels = listed ? (size_t)LIMIT_STEP_LIST * 64 : 0; /* provenance has two such lists */
    return (size_t)counts->tasks * (sizeof(struct plan_task) + 1024 + levels + spec_bytes +
                                    6 * sizeof(struct plan_input)) +
           (size_t)counts->windows + text_bytes + (64u << 10);
}

/* The plan with these draws; NULL: the first of every window. */
static enum error_code open_drawn(struct plan **out, const struct job *job,
                                  const struct job_video *video, const uint8_t *draws,
                                  struct error *error) {
    struct plan_counts counts;
    *out = NULL;
    enum error_code code = plan_count(&counts, job, video, error);
    if (code)
        return code;
    struct texts *texts = plan_texts_open(job, video, counts.windows, counts.overlap);
    struct plan *plan = calloc(1, sizeof *plan);
    struct arena *kept = calloc(1, sizeof *kept);
    struct planner planner = {.plan = plan, .counts = &counts, .texts = texts};
    code = texts && plan && kept
               ? arena_open(&planner.arena, plan_bytes(&counts, texts, job, video), error)
               : ERR_MEMORY;
    if (!code) {
        *plan = (struct plan){.job = job,
                              .video = video,
                              .task_count = counts.tasks,
                              .first = counts.first,
                              .chain = counts.chain,
                              .window_count = counts.windows};
        plan->tasks = arena_array(&planner.arena, (size_t)counts.tasks, sizeof *plan->tasks);
        plan->draws = arena_array(&planner.arena, (size_t)counts.windows, sizeof *plan->draws);
        planner.inputs =
            arena_array(&planner.arena, 5 * (size_t)counts.tasks, sizeof *planner.inputs);
        planner.next = plan->tasks;
        code = plan->tasks && plan->draws && planner.inputs ? ERR_OK : ERR_MEMORY;
    }
    if (!code) {
        memset(plan->draws, 0, (size_t)counts.windows);
        if (draws)
            memcpy(plan->draws, draws, (size_t)counts.windows);
        plan_tasks(&planner);
        code = planner.failed ? ERR_MEMORY : ERR_OK;
    }
    buffer_close(&planner.body);
    plan_texts_close(texts);
    if (code) {
        arena_close(&planner.arena);
        free(kept);
        free(plan);
        return error_set(error, code, "video %s: no memory for its plan of %d tasks", video->name,
                         counts.tasks);
    }
    *kept = planner.arena;
    plan->memory = kept;
    *out = plan;
    return ERR_OK;
}

enum error_code plan_open(struct plan **out, const struct job *job, const struct job_video *video,
                          struct error *error) {
    return open_drawn(out, job, video, NULL, error);
}

enum error_code plan_redraw(struct plan **plan, int window, int draw, struct error *error) {
    struct plan *old = *plan, *drawn;
    int mux = old->task_count - 1;
    uint8_t before = old->draws[window];
    old->draws[window] = (uint8_t)draw;
    enum error_code code = open_drawn(&drawn, old->job, old->video, old->draws, error);
    old->draws[window] = before;
    if (code)
        return code;
    drawn->tasks[mux].key = old->tasks[mux].key;
    plan_close(plan);
    *plan = drawn;
    return ERR_OK;
}

void plan_close(struct plan **plan) {
    if (!*plan)
        return;
    arena_close((*plan)->memory);
    free((*plan)->memory);
    free(*plan);
    *plan = NULL;
}

const struct task_output *task_result_find(const struct task_result *result, const char *name) {
    for (int i = 0; i < result->output_count; i++)
        if (!strcmp(result->outputs[i].name, name))
            return &result->outputs[i];
    return NULL;
}

double measures_drift(const struct measures *measures) {
    return fmax(fabs(measures->colour), fmax(fabs(measures->luminance), fabs(measures->sharpness)));
}

double measures_excess(const struct measures *measures, const struct job_limits *limits) {
    double drift = limits->drift > 0 ? measures_drift(measures) / limits->drift - 1 : 0;
    double seam = limits->seam > 0 ? measures->seam / limits->seam - 1 : 0;
    return fmax(0, fmax(drift, seam));
}
