/* A video's tasks: their parameters, inputs and keys, in the form that plan.h gives. */
#include <string.h>

#include "base/json.h"
#include "coordinator/plan_internal.h"

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
    hash_add_text(&state, plan_kind_name(task->kind));
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
    for (int i = 0; i < model->lora_count; i++)
        job_put_lora(writer, &model->loras[i], false);
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
    add_input(planner, task, planner->texts->shot[plan_shot_at(video, first)], "text", "rows");
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

void plan_tasks(struct planner *planner) {
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
