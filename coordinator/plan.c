#include "coordinator/plan.h"

#include <math.h>
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

/* The least number of frames, `frames` or more, that a window can have. */
static int whole_window(int64_t frames, const struct model_facts *facts) {
    int64_t step = facts->window_step, whole = (frames - 1 + step - 1) / step * step + 1;
    return (int)(whole < facts->window_frames ? whole : facts->window_frames);
}

/* The shot in which frame `at` of the video lies. */
static int shot_at(const struct job_video *video, int64_t at) {
    int shot = 0;
    int64_t end = video->shots[0].frames;
    while (shot + 1 < video->shot_count && at >= end)
        end += video->shots[++shot].frames;
    return shot;
}

/* -- texts ------------------------------------------------------------------------------------ */

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
    if (!video->image && !facts->from_text) {
        texts->keyframe = text_add(texts, strdup(video->shots[0].prompt), &job->keyframe);
        if (job_sampling_is_guided(&video->keyframe))
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
    if (job_sampling_is_guided(&video->window))
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
    struct texts *texts = texts_open(job, video, windows, overlap);
    if (!texts)
        return error_set(error, ERR_MEMORY, "video %s: no memory for its plan", video->name);
    out->texts = texts->count;
    for (int i = 0; i < texts->count; i++)
        out->keyframe_texts += !same_model(texts->model[i], &job->window);
    texts_close(texts);
    out->windows = (int)windows;
    out->first = out->texts + (video->end ? 1 : 0);
    out->chain = out->first + (facts->from_text ? 0 : 1);
    out->tasks = out->chain + 2 * out->windows + 1;
    out->overlap = overlap;
    out->window_frames = facts->window_frames;
    out->last_frames = facts->window_frames;
    if (video->end)
        out->last_frames = (int)plan_last_window(video->frames, facts->window_frames, overlap);
    else if (facts->from_text)
        out->last_frames = whole_window(video->frames, facts);
    out->frames = video->frames;
    out->keyframe = !video->image && !facts->from_text;
    out->steps = windows * video->window.steps + (out->keyframe ? video->keyframe.steps : 0);
    out->kinds = PLAN_KIND_BIT(PLAN_TEXT) | PLAN_KIND_BIT(PLAN_WINDOW) |
                 PLAN_KIND_BIT(PLAN_DECODE) | PLAN_KIND_BIT(PLAN_MUX) |
                 (out->keyframe ? PLAN_KIND_BIT(PLAN_KEYFRAME) : 0) |
                 (video->image || video->end ? PLAN_KIND_BIT(PLAN_IMAGE) : 0);
    return ERR_OK;
}

/* -- tasks ------------------------------------------------------------------------------------ */

struct planner {
    struct plan *plan;
    const struct plan_counts *counts;
    const struct texts *texts;
    struct plan_task *next; /* to be planned */
    struct arena arena;
    struct plan_input *inputs; /* all tasks', one after another */
    int input_count;
    struct buffer body; /* parameters without braces and without the model */
    bool failed;
};

static void add_input(struct planner *planner, struct plan_task *task, int from, const char *name,
                      const char *output) {
    if (!task->input_count)
        task->inputs = &planner->inputs[planner->input_count];
    planner->inputs[planner->input_count++] = (struct plan_input){from, name, output};
    task->input_count++;
}

/* Where a worker finds the model: not part of the key. */
static void put_places(struct buffer *text, const struct plan_task *task) {
    char hex[HASH_HEX_BYTES];
    struct json_writer writer = {.buffer = text};
    hash_hex(hex, &task->model->facts.hash);
    json_put_text(&writer, "model", task->model->spec);
    json_put_text(&writer, "model_hash", hex);
    if (task->model->lora_count && task->steps) {
        json_begin_array(&writer, "lora_files");
        for (int i = 0; i < task->model->lora_count; i++)
            json_put_text(&writer, NULL, task->model->loras[i].spec);
        json_end_array(&writer);
    }
}

static void make_key(struct planner *planner, struct plan_task *task) {
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

/* Parameters and key of the task whose body has been written; the next one is due. */
static void finish_task(struct planner *planner, struct plan_task *task) {
    struct buffer text = {0};
    buffer_add_text(&text, "{");
    if (task->model)
        put_places(&text, task);
    if (task->model && planner->body.length)
        buffer_add_text(&text, ",");
    if (planner->body.length)
        buffer_add(&text, planner->body.data, planner->body.length);
    buffer_add_text(&text, "}");
    if (!text.failed && !planner->body.failed)
        task->parameters = arena_strdup(&planner->arena, text.data, text.length);
    task->parameters_length = text.length;
    buffer_close(&text);
    if (!task->parameters)
        planner->failed = true;
    else
        make_key(planner, task);
    planner->next = task + 1;
}

static void put_size(struct json_writer *writer, const struct job_output *output) {
    json_put_int(writer, "width", output->width);
    json_put_int(writer, "height", output->height);
}

static void put_sampling(struct json_writer *writer, const struct job_sampling *sampling) {
    json_put_text(writer, "sampler", job_sampler_name(sampling->sampler));
    json_put_int(writer, "steps", sampling->steps);
    json_put_double(writer, "guidance", sampling->guidance);
    if (sampling->guidance_low != 0)
        json_put_double(writer, "guidance_low", sampling->guidance_low);
    json_put_double(writer, "shift", sampling->shift);
    if (sampling->attention != JOB_ATTENTION_EXACT)
        json_put_text(writer, "attention", job_attention_name(sampling->attention));
    if (!sampling->sigmas)
        return;
    json_begin_array(writer, "sigmas");
    for (int i = 0; i <= sampling->steps; i++)
        json_put_double(writer, NULL, sampling->sigmas[i]);
    json_end_array(writer);
}

/* What is done to the model's weights. */
static void put_weights(struct json_writer *writer, const struct job_model *model) {
    if (model->weights != JOB_WEIGHTS_FILE)
        json_put_text(writer, "weights", job_weights_name(model->weights));
}

static void put_loras(struct json_writer *writer, const struct job_model *model) {
    if (!model->lora_count)
        return;
    json_begin_array(writer, "lora");
    for (int i = 0; i < model->lora_count; i++) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &model->loras[i].hash);
        json_begin_array(writer, NULL);
        json_put_text(writer, NULL, hex);
        json_put_double(writer, NULL, model->loras[i].strength);
        if (model->loras[i].expert != JOB_EXPERT_BY_NAME)
            json_put_text(writer, NULL, job_expert_name(model->loras[i].expert));
        json_end_array(writer);
    }
    json_end_array(writer);
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
    put_weights(writer, model);
    put_loras(writer, model);
    json_end_object(writer);
}

static void put_shots(struct json_writer *writer, const struct job_video *video) {
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

static void put_limits(struct json_writer *writer, const struct job_limits *limits) {
    json_begin_object(writer, "limits");
    json_put_double(writer, "drift", limits->drift);
    json_put_double(writer, "seam", limits->seam);
    json_put_int(writer, "redraws", limits->redraws);
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
    if (video->shot_count > 1)
        put_shots(writer, video);
    json_put_int(writer, "seed", (int64_t)video->seed);
    json_put_text(writer, "noise", job_noise_name(video->noise));
    if (video->limits.redraws)
        put_limits(writer, &video->limits);
    if (video->image) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &video->image->hash);
        json_put_text(writer, "image", hex);
    } else if (!job->window.facts.from_text) {
        put_stage(writer, "keyframe", &job->keyframe, &video->keyframe);
    }
    if (video->end) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &video->end->hash);
        json_put_text(writer, "end_image", hex);
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

static struct plan_task *start_task(struct planner *planner, struct json_writer *writer,
                                    const struct plan_task *as) {
    struct plan_task *task = planner->next;
    *task = *as;
    planner->body.length = 0;
    *writer = (struct json_writer){.buffer = &planner->body};
    return task;
}

static int place_of(const struct planner *planner, const struct plan_task *task) {
    return (int)(task - planner->plan->tasks);
}

/* torch.randn has seeds but no streams. */
static void put_noise(struct json_writer *writer, const struct job_video *video, int window,
                      int draw) {
    uint64_t seed = video->seed, stream = (uint64_t)draw << 32 | (uint64_t)(window + 1);
    if (video->noise == JOB_NOISE_TORCH && window > 0)
        seed += (uint64_t)window;
    if (video->noise == JOB_NOISE_TORCH)
        seed += (uint64_t)draw * LIMIT_WINDOWS;
    json_put_int(writer, "seed", (int64_t)(seed & INT64_MAX));
    json_put_int(writer, "stream", (int64_t)stream);
    json_put_text(writer, "noise", job_noise_name(video->noise));
}

static void plan_texts(struct planner *planner) {
    struct json_writer writer;
    for (int i = 0; i < planner->texts->count; i++) {
        const struct job_model *model = planner->texts->model[i];
        struct plan_task *task = start_task(
            planner, &writer, &(struct plan_task){.kind = PLAN_TEXT, .index = i, .model = model});
        json_put_text(&writer, "text", planner->texts->text[i]);
        put_weights(&writer, model);
        finish_task(planner, task);
    }
}

/* The picture that the last window ends in. */
static void plan_end(struct planner *planner) {
    const struct job_video *video = planner->plan->video;
    struct json_writer writer;
    struct plan_task *task = start_task(
        planner, &writer, &(struct plan_task){.kind = PLAN_IMAGE, .index = 1, .file = video->end});
    put_size(&writer, &video->output);
    finish_task(planner, task);
}

/* The first frame; returns its place. */
static int plan_start(struct planner *planner) {
    const struct job_video *video = planner->plan->video;
    const struct job_model *model = &planner->plan->job->keyframe;
    struct json_writer writer;
    struct plan_task *task;
    if (video->image) {
        task = start_task(planner, &writer,
                          &(struct plan_task){.kind = PLAN_IMAGE, .file = video->image});
        put_size(&writer, &video->output);
    } else {
        task =
            start_task(planner, &writer,
                       &(struct plan_task){
                           .kind = PLAN_KEYFRAME, .model = model, .steps = video->keyframe.steps});
        put_size(&writer, &video->output);
        put_noise(&writer, video, -1, 0);
        put_sampling(&writer, &video->keyframe);
        put_weights(&writer, model);
        put_loras(&writer, model);
        add_input(planner, task, planner->texts->keyframe, "text", "rows");
        if (planner->texts->keyframe_negative >= 0)
            add_input(planner, task, planner->texts->keyframe_negative, "negative", "rows");
    }
    finish_task(planner, task);
    return place_of(planner, task);
}

static int frames_of(const struct planner *planner, int k) {
    const struct plan_counts *counts = planner->counts;
    return k + 1 == counts->windows ? counts->last_frames : counts->window_frames;
}

/* Window k, whose first new frame is `first` of the video, from what the task at `before` yields;
 * -1: from text alone. */
static int plan_window(struct planner *planner, int k, int64_t first, int before) {
    const struct job_video *video = planner->plan->video;
    const struct job_model *model = &planner->plan->job->window;
    struct json_writer writer;
    struct plan_task *task = start_task(
        planner, &writer,
        &(struct plan_task){
            .kind = PLAN_WINDOW, .index = k, .model = model, .steps = video->window.steps});
    put_size(&writer, &video->output);
    json_put_int(&writer, "frames", frames_of(planner, k));
    json_put_int(&writer, "tail", before < 0 ? 0 : k ? planner->counts->overlap : 1);
    json_put_text(&writer, "rule", before < 0 ? "text" : job_windows_name(video->windows));
    json_put_int(&writer, "index", k);
    put_noise(&writer, video, k, planner->plan->draws[k]);
    put_sampling(&writer, &video->window);
    put_weights(&writer, model);
    put_loras(&writer, model);
    add_input(planner, task, planner->texts->shot[shot_at(video, first)], "text", "rows");
    if (planner->texts->window_negative >= 0)
        add_input(planner, task, planner->texts->window_negative, "negative", "rows");
    if (before >= 0)
        add_input(planner, task, before, "tail", "frames");
    if (video->end && k + 1 == planner->counts->windows)
        add_input(planner, task, planner->counts->first - 1, "end", "frames");
    finish_task(planner, task);
    return place_of(planner, task);
}

/* Decode k of the window at `window`, measured against the frames of the tasks at `start`, if it
 * is one, and `before`. */
static int plan_decode(struct planner *planner, int k, int64_t keep, int window, int start,
                       int before) {
    const struct job_video *video = planner->plan->video;
    bool last = k + 1 == planner->counts->windows;
    struct json_writer writer;
    struct plan_task *task =
        start_task(planner, &writer,
                   &(struct plan_task){.kind = PLAN_DECODE,
                                       .index = k,
                                       .model = &planner->plan->job->window,
                                       .drop = k ? planner->counts->overlap : 0,
                                       .keep = keep});
    put_size(&writer, &video->output);
    json_put_int(&writer, "frames", frames_of(planner, k));
    json_put_int(&writer, "drop", task->drop);
    json_put_int(&writer, "keep", keep);
    json_put_int(&writer, "tail", last ? 0 : planner->counts->overlap);
    json_put_text(&writer, "codec", job_codec_name(video->output.codec));
    json_put_int(&writer, "quality", video->output.quality);
    put_fps(&writer, &video->output);
    add_input(planner, task, window, "latents", "latents");
    if (start >= 0)
        add_input(planner, task, start, "start", "frames");
    if (k)
        add_input(planner, task, before, "before", "frames");
    finish_task(planner, task);
    return place_of(planner, task);
}

static void plan_tasks(struct planner *planner) {
    const struct plan_counts *counts = planner->counts;
    const struct job_video *video = planner->plan->video;
    plan_texts(planner);
    if (video->end)
        plan_end(planner);
    int start = counts->chain > counts->first ? plan_start(planner) : -1, before = start;
    int64_t done = 0;
    for (int k = 0; k < counts->windows; k++) {
        int64_t keep = k + 1 == counts->windows ? video->frames - done
                                                : counts->window_frames - (k ? counts->overlap : 0);
        int window = plan_window(planner, k, done, before);
        before = plan_decode(planner, k, keep, window, start, before);
        done += keep;
    }
    struct json_writer writer;
    struct plan_task *task = start_task(planner, &writer, &(struct plan_task){.kind = PLAN_MUX});
    plan_mux_body(&planner->body, planner->plan->job, video);
    for (int k = 0; k < counts->windows; k++)
        add_input(planner, task, counts->chain + 1 + 2 * k, "segment", "segment");
    finish_task(planner, task);
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
    struct texts *texts = texts_open(job, video, counts.windows, counts.overlap);
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
    texts_close(texts);
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
