#include "coordinator/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"

#ifndef VIDLOOM_VERSION
#define VIDLOOM_VERSION "0"
#endif

static const char *const kind_names[PLAN_KIND_COUNT] = {"text",   "keyframe", "image",
                                                        "window", "decode",   "mux"};

const char *plan_kind_name(enum plan_kind kind) {
    return kind < PLAN_KIND_COUNT ? kind_names[kind] : "unknown";
}

/* -- frames --------------------------------------------------------------------------------------
 */

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

/* The shot in which frame `at` of the video lies. */
static int shot_at(const struct job_video *video, int64_t at) {
    int shot = 0;
    int64_t end = video->shots[0].frames;
    while (shot + 1 < video->shot_count && at >= end)
        end += video->shots[++shot].frames;
    return shot;
}

/* -- texts ---------------------------------------------------------------------------------------
 */

void plan_window_text(struct buffer *out, const char *prompt, const char *motion) {
    size_t length = strlen(prompt);
    if (*motion)
        while (length && (prompt[length - 1] == '.' || prompt[length - 1] == ' '))
            length--;
    buffer_add(out, prompt, length);
    if (*motion) {
        if (length)
            buffer_add_text(out, ". ");
        buffer_add_text(out, motion);
    }
}

/* The distinct texts of a video, in order of first use; which of them each thing wants. */
struct texts {
    char **text; /* room for one a shot and three more */
    const struct job_model **model;
    int count;
    int keyframe, keyframe_negative, window_negative; /* -1: none */
    int *shot;                                        /* -1: no window starts in it */
    bool failed;
};

static bool same_model(const struct job_model *a, const struct job_model *b) {
    return a == b || (hash_equal(&a->facts.hash, &b->facts.hash) && !strcmp(a->spec, b->spec));
}

static int text_add(struct texts *texts, char *text, const struct job_model *model) {
    if (!text) {
        texts->failed = true;
        return -1;
    }
    for (int i = 0; i < texts->count; i++)
        if (!strcmp(texts->text[i], text) && same_model(texts->model[i], model)) {
            free(text);
            return i;
        }
    texts->text[texts->count] = text;
    texts->model[texts->count] = model;
    return texts->count++;
}

static void texts_close(struct texts *texts) {
    for (int i = 0; texts && i < texts->count; i++)
        free(texts->text[i]);
    if (texts) {
        free(texts->text);
        free(texts->model);
        free(texts->shot);
    }
    free(texts);
}

static struct texts *texts_open(const struct job *job, const struct job_video *video,
                                int64_t windows, int overlap) {
    struct texts *texts = calloc(1, sizeof *texts);
    if (!texts)
        return NULL;
    size_t room = (size_t)video->shot_count + 3;
    texts->text = calloc(room, sizeof *texts->text);
    texts->model = calloc(room, sizeof(void *));
    texts->shot = calloc(room, sizeof *texts->shot);
    if (!texts->text || !texts->model || !texts->shot) {
        texts_close(texts);
        return NULL;
    }
    const struct model_facts *facts = &job->window.facts;
    texts->keyframe = texts->keyframe_negative = texts->window_negative = -1;
    if (!video->image) {
        texts->keyframe = text_add(texts, strdup(video->shots[0].prompt), &job->keyframe);
        if (video->keyframe.guidance != 1)
            texts->keyframe_negative = text_add(texts, strdup(video->negative), &job->keyframe);
    }
    for (int i = 0; i < video->shot_count; i++)
        texts->shot[i] = -1;
    for (int64_t k = 0; k < windows; k++) {
        int64_t first = k ? overlap + k * (facts->window_frames - overlap) : 0;
        int shot = shot_at(video, first);
        if (texts->shot[shot] >= 0)
            continue;
        struct buffer text = {0};
        plan_window_text(&text, video->shots[shot].prompt, video->shots[shot].motion);
        texts->shot[shot] = text_add(texts, buffer_take(&text), &job->window);
    }
    if (video->window.guidance != 1)
        texts->window_negative = text_add(texts, strdup(video->negative), &job->window);
    if (texts->failed) {
        texts_close(texts);
        return NULL;
    }
    return texts;
}

enum error_code plan_count(struct plan_counts *out, const struct job *job,
                           const struct job_video *video, struct error *error) {
    const struct model_facts *facts = &job->window.facts;
    int overlap = plan_overlap(facts);
    int64_t windows = plan_windows(video->frames, facts->window_frames, overlap);
    *out = (struct plan_counts){0};
    if (windows < 1 || windows > LIMIT_WINDOWS || (windows > 1 && !overlap))
        return error_set(
            error, ERR_LIMIT,
            "video %s: %lld frames take %lld windows of %d frames with %d overlapping; "
            "at most %d",
            video->name, (long long)video->frames, (long long)windows, facts->window_frames,
            overlap, LIMIT_WINDOWS);
    struct texts *texts = texts_open(job, video, windows, overlap);
    if (!texts)
        return error_set(error, ERR_MEMORY, "video %s: no memory for its plan", video->name);
    out->texts = texts->count;
    texts_close(texts);
    out->windows = (int)windows;
    out->tasks = out->texts + 1 + 2 * out->windows + 1;
    out->overlap = overlap;
    out->window_frames = facts->window_frames;
    out->frames = video->frames;
    out->steps = windows * video->window.steps + (video->image ? 0 : video->keyframe.steps);
    out->kinds = PLAN_KIND_BIT(PLAN_TEXT) | PLAN_KIND_BIT(PLAN_WINDOW) |
                 PLAN_KIND_BIT(PLAN_DECODE) | PLAN_KIND_BIT(PLAN_MUX) |
                 PLAN_KIND_BIT(video->image ? PLAN_IMAGE : PLAN_KEYFRAME);
    return ERR_OK;
}

/* -- tasks ---------------------------------------------------------------------------------------
 */

struct planner {
    struct plan *plan;
    struct arena arena;
    struct plan_input *inputs; /* all tasks', one after another */
    int input_count;
    struct buffer body; /* parameters without braces and without the model */
    bool failed;
};

static void body_start(struct planner *planner, struct json_writer *writer) {
    planner->body.length = 0;
    *writer = (struct json_writer){.buffer = &planner->body};
}

static void add_input(struct planner *planner, struct plan_task *task, int from, const char *name,
                      const char *output) {
    if (!task->input_count)
        task->inputs = &planner->inputs[planner->input_count];
    planner->inputs[planner->input_count++] = (struct plan_input){from, name, output};
    task->input_count++;
}

/* Parameters and key of the task whose body has been written. */
static void finish_task(struct planner *planner, struct plan_task *task) {
    struct buffer text = {0};
    buffer_add_text(&text, "{");
    if (task->model) {
        char hex[HASH_HEX_BYTES];
        struct json_writer writer = {.buffer = &text};
        hash_hex(hex, &task->model->facts.hash);
        json_put_text(&writer, "model", task->model->spec);
        json_put_text(&writer, "model_hash", hex);
        if (planner->body.length)
            buffer_add_text(&text, ",");
    }
    if (planner->body.length)
        buffer_add(&text, planner->body.data, planner->body.length);
    buffer_add_text(&text, "}");
    if (text.failed || planner->body.failed) {
        planner->failed = true;
        buffer_close(&text);
        return;
    }
    task->parameters = arena_strdup(&planner->arena, text.data, text.length);
    task->parameters_length = text.length;
    buffer_close(&text);
    if (!task->parameters) {
        planner->failed = true;
        return;
    }
    static const struct hash none;
    struct hash_state state;
    hash_start(&state);
    hash_add_text(&state, "vidloom-task");
    hash_add_u64(&state, PLAN_FORMAT);
    hash_add_text(&state, kind_names[task->kind]);
    hash_add(&state, task->model ? task->model->facts.hash.bytes : none.bytes, HASH_BYTES);
    hash_add_text(&state, planner->body.length ? planner->body.data : "");
    hash_add(&state, task->file ? task->file->hash.bytes : none.bytes, HASH_BYTES);
    hash_add_u64(&state, (uint64_t)task->input_count);
    for (int i = 0; i < task->input_count; i++) {
        hash_add_text(&state, task->inputs[i].name);
        hash_add(&state, planner->plan->tasks[task->inputs[i].task].key.bytes, HASH_BYTES);
    }
    hash_finish(&state, &task->key);
}

static void put_size(struct json_writer *writer, const struct job_output *output) {
    json_put_int(writer, "width", output->width);
    json_put_int(writer, "height", output->height);
}

static void put_sampling(struct json_writer *writer, const struct job_sampling *sampling) {
    json_put_text(writer, "sampler", job_sampler_name(sampling->sampler));
    json_put_int(writer, "steps", sampling->steps);
    json_put_double(writer, "guidance", sampling->guidance);
    json_put_double(writer, "shift", sampling->shift);
}

static void put_fps(struct json_writer *writer, const struct job_output *output) {
    json_begin_array(writer, "fps");
    json_put_int(writer, NULL, output->fps_numerator);
    json_put_int(writer, NULL, output->fps_denominator);
    json_end_array(writer);
}

static void put_stage(struct json_writer *writer, const char *key, const struct job_model *model,
                      const struct job_sampling *sampling) {
    char hex[HASH_HEX_BYTES];
    hash_hex(hex, &model->facts.hash);
    json_begin_object(writer, key);
    json_put_text(writer, "model", model->spec);
    json_put_text(writer, "hash", hex);
    put_sampling(writer, sampling);
    json_end_object(writer);
}

static void put_provenance(struct json_writer *writer, const struct job *job,
                           const struct job_video *video) {
    json_begin_object(writer, "provenance");
    json_put_text(writer, "vidloom", VIDLOOM_VERSION);
    json_put_text(writer, "job", job->name);
    json_put_text(writer, "video", video->name);
    json_put_text(writer, "prompt", video->shots[0].prompt);
    json_put_text(writer, "motion", video->shots[0].motion);
    json_put_text(writer, "negative", video->negative);
    if (video->shot_count > 1) {
        json_begin_array(writer, "shots");
        for (int i = 0; i < video->shot_count; i++) {
            json_begin_object(writer, NULL);
            const struct job_shot *shot = &video->shots[i], *before = &video->shots[i ? i - 1 : 0];
            json_put_int(writer, "frames", shot->frames);
            if (strcmp(shot->prompt, before->prompt) != 0)
                json_put_text(writer, "prompt", shot->prompt);
            if (strcmp(shot->motion, before->motion) != 0)
                json_put_text(writer, "motion", shot->motion);
            json_end_object(writer);
        }
        json_end_array(writer);
    }
    json_put_int(writer, "seed", (int64_t)video->seed);
    if (video->image) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &video->image->hash);
        json_put_text(writer, "image", hex);
    } else {
        put_stage(writer, "keyframe", &job->keyframe, &video->keyframe);
    }
    put_stage(writer, "window", &job->window, &video->window);
    json_end_object(writer);
}

void plan_mux_body(struct buffer *out, const struct job *job, const struct job_video *video) {
    struct json_writer writer = {.buffer = out};
    json_put_text(&writer, "container", job_container_name(video->output.container));
    json_put_text(&writer, "codec", job_codec_name(video->output.codec));
    json_put_int(&writer, "quality", video->output.quality);
    put_size(&writer, &video->output);
    put_fps(&writer, &video->output);
    json_put_int(&writer, "frames", video->frames);
    json_put_text(&writer, "title", video->name);
    put_provenance(&writer, job, video);
}

static void plan_tasks(struct planner *planner, const struct plan_counts *counts,
                       const struct texts *texts) {
    struct plan *plan = planner->plan;
    const struct job *job = plan->job;
    const struct job_video *video = plan->video;
    int frames = counts->window_frames, overlap = counts->overlap;
    struct json_writer writer;
    struct plan_task *task = plan->tasks;

    for (int i = 0; i < texts->count; i++, task++) {
        *task = (struct plan_task){.kind = PLAN_TEXT, .index = i, .model = texts->model[i]};
        body_start(planner, &writer);
        json_put_text(&writer, "text", texts->text[i]);
        finish_task(planner, task);
    }

    int start = (int)(task - plan->tasks);
    if (video->image) {
        *task = (struct plan_task){.kind = PLAN_IMAGE, .file = video->image};
        body_start(planner, &writer);
        put_size(&writer, &video->output);
    } else {
        *task = (struct plan_task){
            .kind = PLAN_KEYFRAME, .model = &job->keyframe, .steps = video->keyframe.steps};
        body_start(planner, &writer);
        put_size(&writer, &video->output);
        json_put_int(&writer, "seed", (int64_t)video->seed);
        json_put_int(&writer, "stream", 0);
        put_sampling(&writer, &video->keyframe);
        add_input(planner, task, texts->keyframe, "text", "rows");
        if (texts->keyframe_negative >= 0)
            add_input(planner, task, texts->keyframe_negative, "negative", "rows");
    }
    finish_task(planner, task);
    task++;

    int64_t done = 0;
    for (int k = 0; k < counts->windows; k++) {
        bool last = k + 1 == counts->windows;
        int tail = k ? overlap : 1;
        int64_t keep = last ? video->frames - done : frames - (k ? overlap : 0);
        int shot = shot_at(video, done);
        int before = (int)(task - plan->tasks) - 1;

        *task = (struct plan_task){
            .kind = PLAN_WINDOW, .index = k, .model = &job->window, .steps = video->window.steps};
        body_start(planner, &writer);
        put_size(&writer, &video->output);
        json_put_int(&writer, "frames", frames);
        json_put_int(&writer, "tail", tail);
        json_put_int(&writer, "index", k);
        json_put_int(&writer, "seed", (int64_t)video->seed);
        json_put_int(&writer, "stream", k + 1);
        put_sampling(&writer, &video->window);
        json_put_double(&writer, "noise", video->noise);
        add_input(planner, task, texts->shot[shot], "text", "rows");
        if (texts->window_negative >= 0)
            add_input(planner, task, texts->window_negative, "negative", "rows");
        add_input(planner, task, k ? before : start, "tail", "frames");
        finish_task(planner, task);
        task++;

        *task = (struct plan_task){.kind = PLAN_DECODE,
                                   .index = k,
                                   .model = &job->window,
                                   .drop = k ? overlap : 0,
                                   .keep = keep};
        body_start(planner, &writer);
        put_size(&writer, &video->output);
        json_put_int(&writer, "frames", frames);
        json_put_int(&writer, "drop", task->drop);
        json_put_int(&writer, "keep", keep);
        json_put_int(&writer, "tail", last ? 0 : overlap);
        json_put_text(&writer, "codec", job_codec_name(video->output.codec));
        json_put_int(&writer, "quality", video->output.quality);
        put_fps(&writer, &video->output);
        add_input(planner, task, before + 1, "latents", "latents");
        finish_task(planner, task);
        task++;
        done += keep;
    }

    *task = (struct plan_task){.kind = PLAN_MUX};
    planner->body.length = 0;
    plan_mux_body(&planner->body, job, video);
    for (int k = 0; k < counts->windows; k++)
        add_input(planner, task, start + 2 + 2 * k, "segment", "segment");
    finish_task(planner, task);
}

enum error_code plan_open(struct plan **out, const struct job *job, const struct job_video *video,
                          struct error *error) {
    struct plan_counts counts;
    *out = NULL;
    enum error_code code = plan_count(&counts, job, video, error);
    if (code)
        return code;
    struct texts *texts = texts_open(job, video, counts.windows, counts.overlap);
    struct plan *plan = calloc(1, sizeof *plan);
    struct planner planner = {.plan = plan};
    size_t text_bytes = 0;
    for (int i = 0; texts && i < texts->count; i++)
        text_bytes += 8 * strlen(texts->text[i]) + 1024;
    /* Escapes make a text at most six times as long; provenance repeats the shots' texts. */
    for (int i = 0; i < video->shot_count; i++)
        text_bytes += 6 * (strlen(video->shots[i].prompt) + strlen(video->shots[i].motion)) + 128;
    text_bytes += 6 * strlen(video->negative) + 16 * LIMIT_PATH_BYTES;
    size_t spec_bytes = 6 * (strlen(job->keyframe.spec) + strlen(job->window.spec));
    size_t tasks = (size_t)counts.tasks;
    code = arena_open(
        &planner.arena,
        tasks * (sizeof(struct plan_task) + 1024 + spec_bytes + 6 * sizeof(struct plan_input)) +
            text_bytes + (64u << 10),
        error);
    if (code)
        goto end;
    code = ERR_MEMORY;
    if (!texts || !plan)
        goto end;
    plan->job = job;
    plan->video = video;
    plan->task_count = counts.tasks;
    plan->text_count = counts.texts;
    plan->window_count = counts.windows;
    plan->tasks = arena_array(&planner.arena, tasks, sizeof *plan->tasks);
    planner.inputs = arena_array(&planner.arena, 5 * tasks, sizeof *planner.inputs);
    struct arena *kept = malloc(sizeof *kept);
    if (plan->tasks && planner.inputs && kept) {
        plan_tasks(&planner, &counts, texts);
        if (!planner.failed) {
            *kept = planner.arena;
            plan->memory = kept;
            *out = plan;
            code = ERR_OK;
        }
    }
    if (code)
        free(kept);
end:
    buffer_close(&planner.body);
    texts_close(texts);
    if (code) {
        arena_close(&planner.arena);
        free(plan);
        if (code == ERR_MEMORY)
            return error_set(error, ERR_MEMORY, "video %s: no memory for its plan of %d tasks",
                             video->name, counts.tasks);
    }
    return code;
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
