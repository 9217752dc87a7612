/* Noise to latents: the steps of a keyframe and of a window. */
#include <stdlib.h>

#include "base/random.h"
#include "worker/model/task.h"

#define SPACE_STRIDE  8
#define TIME_STRIDE   4
#define MASK_CHANNELS 4

/* The latents' size. */
struct extent {
    int64_t channels, frames, height, width, plane, count;
};

static struct extent extent_of(const struct model_size *size, int channels) {
    struct extent e = {.channels = channels};
    e.frames = (size->frames - 1) / TIME_STRIDE + 1;
    e.height = size->height / SPACE_STRIDE;
    e.width = size->width / SPACE_STRIDE;
    e.plane = e.height * e.width;
    e.count = e.channels * e.frames * e.plane;
    return e;
}

/* mask[j][f] is 1 where pixel frame 4(f-1)+1+j is given, the first pixel frame counting for all
 * four of latent frame 0: with 4n+1 given frames, the first n+1 latent frames. */
static enum error_code fill_mask(struct runtime *runtime, float *mask, const struct extent *e,
                                 int given, struct error *error) {
    const struct ops *ops = runtime->ops;
    float *ones = malloc((size_t)e->plane * sizeof *ones);
    if (ones == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a mask");
    for (int64_t i = 0; i < e->plane; i++)
        ones[i] = 1;
    ops->zero(runtime->device, mask, (size_t)(MASK_CHANNELS * e->frames * e->plane) * sizeof *mask);
    for (int j = 0; j < MASK_CHANNELS; j++)
        for (int64_t f = 0; f < e->frames; f++)
            if (f == 0 ? given > 0 : TIME_STRIDE * (f - 1) + 1 + j < given)
                ops->upload(runtime->device, mask + (j * e->frames + f) * e->plane, ones,
                            (size_t)e->plane * sizeof *ones);
    free(ones);
    return ERR_OK;
}

/* Mask and condition latents [4+C,T,h,w]: the given frames, encoded. */
static enum error_code make_condition(struct parts *parts, struct runtime *runtime,
                                      float *condition, const struct denoise_task *task,
                                      const struct extent *e, struct error *error) {
    const struct ops *ops = runtime->ops;
    const struct model_size *size = &task->request->size;
    float *latents = condition + MASK_CHANNELS * e->frames * e->plane;
    int64_t elements = (int64_t)task->tail_frames * size->height * size->width * 3;
    size_t mark = runtime->work->used;
    uint8_t *rgb = work_alloc(runtime, elements, DTYPE_U8);
    void *pixels = work_alloc(runtime, elements, runtime->dtype);
    ops->upload(runtime->device, rgb, task->tail, (size_t)elements);
    ops->from_pixels(runtime->device, pixels, rgb, elements, runtime->dtype);
    if (task->condition == WINDOW_GREY_FRAMES) {
        vae_encode(parts->vae, runtime, latents, pixels, task->tail_frames, e->frames, e->height,
                   e->width, 0);
    } else {
        int64_t given = (task->tail_frames - 1) / TIME_STRIDE + 1;
        float *alone = work_floats(runtime, e->channels * given * e->plane);
        vae_encode(parts->vae, runtime, alone, pixels, task->tail_frames, given, e->height,
                   e->width, 0);
        ops->zero(runtime->device, latents, (size_t)e->count * sizeof *latents);
        for (int64_t c = 0; c < e->channels; c++)
            ops->copy(runtime->device, latents + c * e->frames * e->plane,
                      alone + c * given * e->plane, (size_t)(given * e->plane) * sizeof *alone);
    }
    arena_reset(runtime->work, mark);
    return fill_mask(runtime, condition, e, task->tail_frames, error);
}

/* What every step of a request reads and writes, on the device. */
struct denoise {
    const struct transformer *transformer;
    struct transformer_grid grid;
    struct transformer_text positive, negative;
    bool guided;
    float *x, *velocity, *other; /* latents; other: the negative's velocity */
    const float *condition;
};

static enum error_code prepare(struct denoise *d, struct parts *parts, struct runtime *runtime,
                               const struct denoise_task *task, const struct extent *e,
                               struct error *error) {
    const struct denoise_request *request = task->request;
    d->transformer = task->tail != NULL ? parts->window : parts->keyframe;
    d->guided = request->guidance != 1;
    d->x = work_floats(runtime, e->count);
    d->velocity = work_floats(runtime, e->count);
    d->other = d->guided ? work_floats(runtime, e->count) : NULL;
    enum error_code code = transformer_grid_open(&d->grid, d->transformer, runtime, e->frames,
                                                 e->height, e->width, error);
    if (code != ERR_OK)
        return code;
    transformer_text_open(&d->positive, d->transformer, runtime, request->positive.rows,
                          request->positive.count, task->text_length);
    if (d->guided)
        transformer_text_open(&d->negative, d->transformer, runtime, request->negative.rows,
                              request->negative.count, task->text_length);
    if (task->tail == NULL)
        return ERR_OK;
    float *condition = work_floats(runtime, (MASK_CHANNELS + e->channels) * e->frames * e->plane);
    d->condition = condition;
    return make_condition(parts, runtime, condition, task, e, error);
}

static void run_step(struct denoise *d, struct runtime *runtime, struct sampler_run *sampler,
                     float guidance) {
    const struct transformer_time time = {.value = {sampler->schedule->time[sampler->step]},
                                          .count = 1};
    transformer_forward(d->transformer, runtime, d->velocity, d->x, d->condition, &d->grid,
                        &d->positive, &time);
    if (d->guided) {
        transformer_forward(d->transformer, runtime, d->other, d->x, d->condition, &d->grid,
                            &d->negative, &time);
        runtime->ops->combine(runtime->device, d->velocity,
                              (const float *const[]){d->other, d->velocity},
                              (const float[]){1 - guidance, guidance}, 2, sampler->count);
    }
    sampler_step(sampler, d->x, d->velocity);
}

enum error_code denoise_body(struct parts *parts, struct runtime *runtime, void *argument,
                             struct error *error) {
    struct denoise_task *task = argument;
    const struct denoise_request *request = task->request;
    bool dry = runtime->work->measuring;
    struct extent e =
        extent_of(&request->size, parts->vae != NULL ? parts->vae_config.latent_channels
                                                     : parts->keyframe_config.out_channels);
    struct denoise d = {0};
    enum error_code code = prepare(&d, parts, runtime, task, &e, error);
    if (code != ERR_OK)
        return code;
    struct sampler_run sampler;
    sampler_start(&sampler, &task->schedule, runtime, e.count, request->seed, request->stream,
                  task->latents);
    if (!dry)
        random_normal(task->latents, (size_t)e.count, request->seed, request->stream, 0);
    runtime->ops->upload(runtime->device, d.x, task->latents, (size_t)e.count * sizeof *d.x);
    int steps = dry ? 1 : request->steps; /* every step takes the same */
    double before = runtime->flops;
    for (int i = 0; i < steps; i++) {
        if (!dry && request->cancel != NULL && atomic_load(request->cancel))
            return error_set(error, ERR_INTERRUPTED, "stopped before step %d of %d", i + 1, steps);
        run_step(&d, runtime, &sampler, request->guidance);
        code = runtime->ops->status(runtime->device, error);
        if (code != ERR_OK)
            return code;
        if (!dry && request->progress != NULL)
            request->progress(request->user, i + 1, steps);
    }
    if (dry) {
        runtime->flops_step = runtime->flops - before;
        runtime->flops += runtime->flops_step * (request->steps - 1);
    } else {
        runtime->ops->download(runtime->device, task->latents, d.x, (size_t)e.count * sizeof *d.x);
    }
    return ERR_OK;
}

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
    task->text_length = model->info.text_length;
    task->condition = model->parts.config.condition;
    enum error_code code = model_check_size(&model->info, &request->size, error);
    if (code == ERR_OK)
        code = check_text(model, &request->positive, "positive", error);
    if (code == ERR_OK && request->guidance != 1)
        code = check_text(model, &request->negative, "negative", error);
    if (code == ERR_OK)
        code = schedule_make(&task->schedule, &model->parts.config.scheduler, request->sampler,
                             request->steps, request->shift, error);
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

enum error_code model_window(struct model *model, float *latents, const uint8_t *tail,
                             int tail_frames, const struct denoise_request *request,
                             struct error *error) {
    if (model->parts.window == NULL)
        return error_set(error, ERR_UNSUPPORTED,
                         "the model was opened without an image-to-video transformer");
    if (!is_overlap(&model->info, tail_frames) || tail_frames >= request->size.frames)
        return error_set(error, ERR_SHAPE,
                         "a window of %d frames cannot start with %d of them: this model continues "
                         "from %d%s%.0d",
                         request->size.frames, tail_frames, model->info.overlaps[0],
                         model->info.overlap_count > 1 ? " or " : "", model->info.overlaps[1]);
    struct denoise_task task = {
        .request = request, .latents = latents, .tail = tail, .tail_frames = tail_frames};
    return denoise(model, &task, error);
}
