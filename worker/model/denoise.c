/* Noise to latents: the steps of a keyframe and of a window. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/task.h"

struct extent extent_of(const struct model_info *info, const struct model_size *size) {
    struct extent e = {.channels = info->latent_channels};
    e.frames = (size->frames - 1) / info->time_stride + 1;
    e.height = size->height / info->space_stride;
    e.width = size->width / info->space_stride;
    e.plane = e.height * e.width;
    e.count = e.channels * e.frames * e.plane;
    return e;
}

/* What every step of a request reads and writes, on the device. */
struct denoise {
    const struct denoise_request *request;
    struct runtime *runtime;
    struct denoiser *denoiser;
    struct extent extent;
    float *x, *velocity, *other; /* latents; other: the negative's velocity */
    struct condition condition;
    struct transformer_grid grid;
    uint8_t *group;                     /* [tokens]: 1 where a latent is given; NULL: none is */
    float guidance[CONFIG_EXPERTS_MAX]; /* of each expert */
    int expert;                         /* whose contexts are open; -1: none */
    size_t contexts;                    /* where they begin in work memory */
    struct transformer_context positive, negative, image;
    int text_length;
};

/* Whether any step takes two passes. */
static bool is_guided(const struct denoise *d) {
    return d->guidance[0] != 1 || (d->denoiser->source.experts > 1 && d->guidance[1] != 1);
}

/* Tokens of the frames that are given are told time 0. */
static enum error_code mark_prefix(struct denoise *d, struct error *error) {
    int64_t given = d->condition.prefix_frames * (d->grid.tokens / d->grid.frames);
    d->group = work_alloc(d->runtime, d->grid.tokens, DTYPE_U8);
    uint8_t *host = calloc((size_t)d->grid.tokens, 1);
    if (host == NULL)
        return error_set(error, ERR_MEMORY, "no memory for %lld tokens", (long long)d->grid.tokens);
    memset(host, 1, (size_t)given);
    d->runtime->ops->upload(d->runtime->device, d->group, host, (size_t)d->grid.tokens);
    free(host);
    return ERR_OK;
}

/* All but the contexts of an expert. */
static enum error_code prepare(struct denoise *d, struct parts *parts, struct runtime *runtime,
                               const struct denoise_task *task, struct error *error) {
    const struct denoise_request *request = task->request;
    *d = (struct denoise){.request = request,
                          .runtime = runtime,
                          .denoiser = task->window ? parts->window : parts->keyframe,
                          .extent = extent_of(task->info, &request->size),
                          .text_length = task->info->text_length,
                          .expert = -1};
    const struct extent *e = &d->extent;
    runtime->attention8 = request->attention8;
    d->guidance[0] = request->guidance;
    d->guidance[1] = request->guidance_low == 0 ? request->guidance : request->guidance_low;
    d->x = work_floats(runtime, e->count);
    d->velocity = work_floats(runtime, e->count);
    d->other = is_guided(d) ? work_floats(runtime, e->count) : NULL;
    enum error_code code = condition_open(&d->condition, parts, runtime, task, e, error);
    if (code == ERR_OK)
        code = transformer_grid_open(&d->grid, denoiser_transformer(d->denoiser, runtime, 0),
                                     runtime, e->frames, e->height, e->width, error);
    if (code == ERR_OK && d->condition.prefix != NULL)
        code = mark_prefix(d, error);
    return code;
}

/* Texts and image as the expert of this time attends to them, the expert itself held. */
static enum error_code enter_expert(struct denoise *d, float time, struct error *error) {
    struct runtime *runtime = d->runtime;
    const struct denoise_request *request = d->request;
    int expert = denoiser_choose(d->denoiser, time);
    if (expert == d->expert)
        return ERR_OK;
    if (d->expert < 0)
        d->contexts = runtime->work->used;
    arena_reset(runtime->work, d->contexts);
    d->expert = expert;
    if (!runtime->work->measuring) {
        enum error_code code = denoiser_hold(d->denoiser, runtime, expert, error);
        if (code != ERR_OK)
            return code;
    }
    const struct transformer *transformer = denoiser_transformer(d->denoiser, runtime, expert);
    transformer_text_open(&d->positive, transformer, runtime, &d->grid, request->positive.rows,
                          request->positive.count, d->text_length);
    if (d->other != NULL)
        transformer_text_open(&d->negative, transformer, runtime, &d->grid, request->negative.rows,
                              request->negative.count, d->text_length);
    if (d->condition.image != NULL)
        transformer_image_open(&d->image, transformer, runtime, &d->grid, d->condition.image,
                               d->condition.image_rows);
    return ERR_OK;
}

/* Put the latents that are given back over what a step made of them. */
static void impose_prefix(struct denoise *d) {
    const struct extent *e = &d->extent;
    const struct condition *condition = &d->condition;
    int64_t given = condition->prefix_frames * e->plane;
    for (int64_t c = 0; condition->prefix != NULL && c < e->channels; c++)
        d->runtime->ops->copy(d->runtime->device, d->x + c * e->frames * e->plane,
                              condition->prefix + c * given, (size_t)given * sizeof *d->x);
}

static void forward(struct denoise *d, float *velocity, const struct transformer_context *text,
                    float time) {
    const struct transformer_input input = {
        .latents = d->x,
        .condition = d->condition.channels,
        .grid = &d->grid,
        .text = text,
        .image = d->condition.image != NULL ? &d->image : NULL,
        .time = {.value = {time, 0}, .count = d->group != NULL ? 2 : 1, .group = d->group}};
    transformer_forward(denoiser_transformer(d->denoiser, d->runtime, d->expert), d->runtime,
                        velocity, &input);
}

static enum error_code run_step(struct denoise *d, struct sampler_run *sampler,
                                struct error *error) {
    float time = sampler->schedule->time[sampler->step];
    enum error_code code = enter_expert(d, time, error);
    if (code != ERR_OK)
        return code;
    float guidance = d->guidance[d->expert];
    forward(d, d->velocity, &d->positive, time);
    if (guidance != 1) {
        forward(d, d->other, &d->negative, time);
        d->runtime->ops->combine(d->runtime->device, d->velocity,
                                 (const float *const[]){d->other, d->velocity},
                                 (const float[]){1 - guidance, guidance}, 2, d->extent.count);
    }
    sampler_step(sampler, d->x, d->velocity);
    impose_prefix(d);
    return d->runtime->ops->status(d->runtime->device, error);
}

/* The noise of the first level. */
static void start(struct denoise *d, struct sampler_run *sampler, struct noise_source *noise,
                  const struct denoise_task *task) {
    struct runtime *runtime = d->runtime;
    size_t count = (size_t)d->extent.count;
    sampler_start(sampler, &task->schedule, runtime, d->extent.count, noise, task->latents);
    if (!runtime->work->measuring)
        noise_draw(noise, task->latents, count);
    runtime->ops->upload(runtime->device, d->x, task->latents, count * sizeof *d->x);
    sampler_scale_noise(sampler, d->x);
    impose_prefix(d);
}

enum error_code denoise_body(struct parts *parts, struct runtime *runtime, void *argument,
                             struct error *error) {
    struct denoise_task *task = argument;
    const struct denoise_request *request = task->request;
    bool dry = runtime->work->measuring;
    struct denoise d;
    struct sampler_run sampler;
    struct noise_source noise = {
        .noise = request->noise, .seed = request->seed, .stream = request->stream};
    enum error_code code = prepare(&d, parts, runtime, task, error);
    if (code != ERR_OK)
        return code;
    start(&d, &sampler, &noise, task);
    int steps = dry ? 1 : request->steps; /* every step takes the same */
    double before = runtime->flops;
    for (int i = 0; i < steps; i++) {
        if (!dry && request->cancel != NULL && atomic_load(request->cancel))
            return error_set(error, ERR_INTERRUPTED, "stopped before step %d of %d", i + 1, steps);
        code = run_step(&d, &sampler, error);
        if (code != ERR_OK)
            return code;
        if (!dry && request->progress != NULL)
            request->progress(request->user, i + 1, steps);
    }
    if (dry) {
        runtime->flops_step = runtime->flops - before;
        runtime->flops += runtime->flops_step * (request->steps - 1);
    } else {
        runtime->ops->download(runtime->device, task->latents, d.x,
                               (size_t)d.extent.count * sizeof *d.x);
    }
    return ERR_OK;
}

/* -- the door -------------------------------------------------------------------------------- */

static enum error_code check_text(const struct model *model, const struct model_text *text,
                                  const char *which, struct error *error) {
    if (text->rows == NULL || text->count < 1 || text->count > model->info.text_length)
        return error_set(error, ERR_SHAPE, "the %s text has %d rows; expected 1 to %d", which,
                         text->rows == NULL ? 0 : text->count, model->info.text_length);
    return ERR_OK;
}

static enum error_code denoise(struct model *model, struct denoise_task *task,
                               struct error *error) {
    const struct denoise_request *request = task->request;
    struct denoiser *denoiser = task->window ? model->parts.window : model->parts.keyframe;
    bool guided =
        request->guidance != 1 ||
        (denoiser->source.experts > 1 && request->guidance_low != 0 && request->guidance_low != 1);
    task->info = &model->info;
    enum error_code code = model_check_size(&model->info, &request->size, error);
    if (code == ERR_OK)
        code = check_text(model, &request->positive, "positive", error);
    if (code == ERR_OK && guided)
        code = check_text(model, &request->negative, "negative", error);
    if (code == ERR_OK)
        code = schedule_make(&task->schedule, &model->parts.config.scheduler, request->sampler,
                             request->steps, request->shift, request->sigmas, error);
    if (code == ERR_OK) /* one must be held to plan with */
        code = denoiser_hold(denoiser, &model->runtime,
                             denoiser_choose(denoiser, task->schedule.time[0]), error);
    return code == ERR_OK ? model_run(model, denoise_body, task, error) : code;
}

enum error_code model_keyframe(struct model *model, float *latents,
                               const struct denoise_request *request, struct error *error) {
    if (model->parts.keyframe == NULL)
        return error_set(error, ERR_UNSUPPORTED,
                         "the model was opened without a text-to-video transformer");
    if (request->size.frames != 1)
        return error_set(error, ERR_SHAPE, "a keyframe is one frame, not %d", request->size.frames);
    struct denoise_task task = {.request = request, .latents = latents};
    return denoise(model, &task, error);
}

static bool is_overlap(const struct model_info *info, int frames) {
    for (int i = 0; i < info->overlap_count; i++)
        if (info->overlaps[i] == frames)
            return true;
    return false;
}

/* What the model can start a window from and end it in. */
static enum error_code check_source(const struct model_info *info,
                                    const struct window_source *source, int frames,
                                    struct error *error) {
    static const char *const rules[] = {"the model's own rule", "a last frame",
                                        "several overlapping frames", "prefix latents"};
    if (source->tail_frames == 0)
        return info->window_from_text && source->end == NULL && source->rule == WINDOW_RULE_MODEL
                   ? ERR_OK
                   : error_set(error, ERR_UNSUPPORTED,
                               "a window without frames to start with is made from the text alone, "
                               "which %s",
                               info->window_from_text ? "takes no rule and no end frame"
                                                      : "this model cannot");
    if (info->window_rules == 0)
        return error_set(
            error, ERR_UNSUPPORTED,
            "this model makes windows from text alone; an image-to-video model continues "
            "from frames");
    if ((info->window_rules >> source->rule & 1) == 0)
        return error_set(error, ERR_UNSUPPORTED, "this model cannot continue a window from %s",
                         rules[source->rule]);
    if (!is_overlap(info, source->tail_frames) || source->tail_frames >= frames ||
        (source->rule == WINDOW_RULE_LAST_FRAME && source->tail_frames != 1))
        return error_set(error, ERR_SHAPE,
                         "a window of %d frames cannot start with %d of them by %s: this model "
                         "continues from %d%s%.0d",
                         frames, source->tail_frames, rules[source->rule], info->overlaps[0],
                         info->overlap_count > 1 ? " or " : "", info->overlaps[1]);
    if (source->end != NULL ? info->window_end == WINDOW_END_NONE
                            : info->window_end == WINDOW_END_MUST)
        return error_set(error, ERR_UNSUPPORTED, "this model %s",
                         source->end != NULL
                             ? "cannot end a window in a given frame"
                             : "makes a window between two frames: it needs its last "
                               "one too");
    return ERR_OK;
}

enum error_code model_window(struct model *model, float *latents,
                             const struct window_source *source,
                             const struct denoise_request *request, struct error *error) {
    if (model->parts.window == NULL)
        return error_set(error, ERR_UNSUPPORTED,
                         "the model was opened without a transformer for windows");
    enum error_code code = check_source(&model->info, source, request->size.frames, error);
    if (code != ERR_OK)
        return code;
    struct denoise_task task = {
        .request = request, .source = *source, .window = true, .latents = latents};
    return denoise(model, &task, error);
}
