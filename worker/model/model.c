#include "worker/model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/random.h"
#include "base/text.h"
#include "worker/model/fingerprint.h"
#include "worker/model/parts.h"
#include "worker/model/sampler.h"
#include "worker/model/text_clean.h"

#define SIZE_MULTIPLE 16 /* VAE stride 8 and patches of 2 */
#define SIZE_MIN      16 /* pixels */
#define SIZE_MAX_SIDE 4096
#define FRAMES_MAX    1025
#define SPACE_STRIDE  8
#define TIME_STRIDE   4
#define MASK_CHANNELS 4

struct model {
    struct parts parts;
    struct model_info info;
    struct runtime runtime;
    struct arena params, work;
    size_t work_peak; /* over arenas that were since replaced, too */
};

/* -- description ----------------------------------------------------------------------------- */

static void fill_info(struct model_info *out, const struct parts *parts) {
    const struct model_config *config = &parts->config;
    memset(out, 0, sizeof *out);
    (void)snprintf(out->family, sizeof out->family, "%s", config->family);
    out->parameters = parts->elements;
    out->stages = parts->stages;
    out->latent_channels = parts->vae != NULL        ? parts->vae_config.latent_channels
                           : parts->window != NULL   ? parts->window_config.out_channels
                           : parts->keyframe != NULL ? parts->keyframe_config.out_channels
                                                     : 0;
    out->time_stride = TIME_STRIDE;
    out->space_stride = SPACE_STRIDE;
    out->size_multiple = SIZE_MULTIPLE;
    out->size_min = SIZE_MIN;
    out->size_max = SIZE_MAX_SIDE;
    out->width = config->width;
    out->height = config->height;
    out->fps = config->fps;
    out->window_frames = config->window_frames;
    memcpy(out->overlaps, config->overlaps, sizeof out->overlaps);
    out->overlap_count = config->overlap_count;
    out->text_length = config->text_length;
    out->text_width = parts->umt5 != NULL       ? parts->umt5_config.width
                      : parts->keyframe != NULL ? parts->keyframe_config.text_width
                                                : parts->window_config.text_width;
    out->sampler = config->scheduler.sampler;
    out->steps = config->scheduler.steps;
    out->guidance = config->scheduler.guidance;
    out->shift = config->scheduler.shift;
}

static enum error_code take_fingerprint(struct hash *out, const struct parts *parts,
                                        const char *folder, struct error *error) {
    char configs[2][64];
    (void)snprintf(configs[0], sizeof configs[0], "%s/config.json", parts->config.keyframe);
    (void)snprintf(configs[1], sizeof configs[1], "%s/config.json", parts->config.window);
    const char *const names[] = {"model_index.json",
                                 "scheduler/scheduler_config.json",
                                 "tokenizer/tokenizer_config.json",
                                 "tokenizer/spiece.model",
                                 "text_encoder/config.json",
                                 "vae/config.json",
                                 configs[0],
                                 configs[1],
                                 NULL};
    return fingerprint(out, folder, names, (const struct safetensors *const *)parts->file,
                       PART_COUNT, error);
}

/* A model on the measuring table. */
struct measured {
    struct runtime runtime;
    struct arena params, work;
    struct parts parts;
};

static enum error_code measured_open(struct measured *measured, const char *folder, int stages,
                                     enum dtype dtype, struct error *error) {
    memset(measured, 0, sizeof *measured);
    measured->runtime = (struct runtime){
        .ops = ops_measure(), .dtype = dtype, .params = &measured->params, .work = &measured->work};
    arena_open_measuring(&measured->params);
    arena_open_measuring(&measured->work);
    const struct device_config config = {0};
    enum error_code code =
        measured->runtime.ops->device_open(&measured->runtime.device, &config, error);
    if (code == ERR_OK)
        code = parts_open(&measured->parts, &measured->runtime, folder, stages, error);
    if (code != ERR_OK && measured->runtime.device != NULL)
        measured->runtime.ops->device_close(&measured->runtime.device);
    return code;
}

static void measured_close(struct measured *measured) {
    parts_close(&measured->parts, &measured->runtime);
    measured->runtime.ops->device_close(&measured->runtime.device);
    arena_close(&measured->params);
    arena_close(&measured->work);
}

enum error_code model_read_info(struct model_info *out, const char *folder, struct error *error) {
    struct measured measured;
    enum error_code code = measured_open(&measured, folder, -1, DTYPE_BF16, error);
    if (code != ERR_OK)
        return code;
    fill_info(out, &measured.parts);
    code = take_fingerprint(&out->hash, &measured.parts, folder, error);
    measured_close(&measured);
    return code;
}

const struct model_info *model_get_info(const struct model *model) {
    return &model->info;
}

size_t model_work_peak(const struct model *model) {
    return model->work_peak > model->work.peak ? model->work_peak : model->work.peak;
}

enum error_code model_check_size(const struct model_info *info, const struct model_size *size,
                                 struct error *error) {
    const int sides[] = {size->width, size->height};
    for (int i = 0; i < 2; i++)
        if (sides[i] < info->size_min || sides[i] > info->size_max ||
            sides[i] % info->size_multiple != 0)
            return error_set(error, ERR_SHAPE,
                             "%dx%d: width and height must be multiples of %d from %d to %d; this "
                             "model is made for %dx%d",
                             size->width, size->height, info->size_multiple, info->size_min,
                             info->size_max, info->width, info->height);
    if (size->frames < 1 || size->frames > FRAMES_MAX || (size->frames - 1) % TIME_STRIDE != 0)
        return error_set(error, ERR_SHAPE,
                         "%d frames: a window has %d·n+1, at most %d; this model is made for %d",
                         size->frames, TIME_STRIDE, FRAMES_MAX, info->window_frames);
    return ERR_OK;
}

/* -- opening --------------------------------------------------------------------------------- */

static enum error_code open_parts(struct model *model, const char *folder, int stages,
                                  struct error *error) {
    struct measured measured;
    enum error_code code = measured_open(&measured, folder, stages, model->runtime.dtype, error);
    if (code != ERR_OK)
        return code;
    size_t params = measured.params.peak;
    measured_close(&measured);
    code = model->runtime.ops->arena_open(model->runtime.device, &model->params, params, error);
    if (code == ERR_OK)
        code = parts_open(&model->parts, &model->runtime, folder, stages, error);
    if (code == ERR_OK)
        code = model->runtime.ops->status(model->runtime.device, error);
    return code;
}

enum error_code model_open(struct model **out, const struct ops *ops, struct device *device,
                           const char *folder, int stages, enum dtype dtype, struct error *error) {
    *out = NULL;
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a model");
    model->runtime = (struct runtime){.ops = ops,
                                      .device = device,
                                      .dtype = dtype,
                                      .params = &model->params,
                                      .work = &model->work};
    /* Of the whole folder, whatever is opened of it: the hash must not depend on the stages. */
    enum error_code code = model_read_info(&model->info, folder, error);
    if (code == ERR_OK)
        code = open_parts(model, folder, stages, error);
    if (code != ERR_OK)
        model_close(&model);
    *out = model;
    return code;
}

void model_close(struct model **model) {
    if (*model == NULL)
        return;
    parts_close(&(*model)->parts, &(*model)->runtime);
    arena_close(&(*model)->params);
    arena_close(&(*model)->work);
    free(*model);
    *model = NULL;
}

/* -- running and planning -------------------------------------------------------------------- */

/* A task's body: the same for the real and the measuring runtime. Host buffers of a task are not
 * touched when measuring. */
typedef enum error_code task_body(struct parts *parts, struct runtime *runtime, void *request,
                                  struct error *error);

/* Work memory of a task, by running it on the table that computes nothing. */
static enum error_code measure_task(size_t *bytes, const struct model *model, task_body *body,
                                    void *request, struct error *error) {
    struct arena work;
    arena_open_measuring(&work);
    struct runtime dry = model->runtime;
    dry.ops = ops_measure();
    dry.work = &work;
    struct parts parts = model->parts; /* its weights are not looked at */
    enum error_code code = body(&parts, &dry, request, error);
    *bytes = work.peak;
    arena_close(&work);
    return code;
}

/* Make room, refuse if there is none, run. */
static enum error_code run_task(struct model *model, task_body *body, void *request,
                                struct error *error) {
    size_t bytes;
    enum error_code code = measure_task(&bytes, model, body, request, error);
    if (code == ERR_OK && bytes > model->work.capacity) {
        model->work_peak = model_work_peak(model);
        arena_close(&model->work);
        code = model->runtime.ops->arena_open(model->runtime.device, &model->work, bytes, error);
    }
    if (code != ERR_OK)
        return code;
    arena_reset(&model->work, 0);
    code = body(&model->parts, &model->runtime, request, error);
    enum error_code status =
        model->runtime.ops->status(model->runtime.device, code == ERR_OK ? error : NULL);
    arena_reset(&model->work, 0);
    return code != ERR_OK ? code : status;
}

/* -- text ------------------------------------------------------------------------------------ */

struct text_request {
    float *rows;
    const int32_t *ids;
    int count;
};

static enum error_code text_task(struct parts *parts, struct runtime *runtime, void *request,
                                 struct error *error) {
    struct text_request *text = request;
    return umt5_encode(parts->umt5, runtime, text->rows, text->ids, text->count, error);
}

enum error_code model_encode_text(struct model *model, float *rows, int *count, const char *text,
                                  struct error *error) {
    if (model->parts.umt5 == NULL || model->parts.tokenizer == NULL)
        return error_set(error, ERR_UNSUPPORTED, "the model was opened without its text encoder");
    struct buffer clean = {0};
    int32_t *ids = calloc((size_t)model->info.text_length, sizeof *ids);
    enum error_code code = ids == NULL ? error_set(error, ERR_MEMORY, "no memory for a text")
                                       : text_clean(&clean, text, error);
    if (code == ERR_OK)
        code = tokenizer_encode(model->parts.tokenizer, ids, count, model->info.text_length,
                                clean.data, clean.length, error);
    if (code == ERR_OK) {
        struct text_request request = {rows, ids, *count};
        code = run_task(model, text_task, &request, error);
    }
    buffer_close(&clean);
    free(ids);
    return code;
}

/* -- denoising ------------------------------------------------------------------------------- */

struct denoise_task {
    const struct denoise_request *request;
    float *latents;      /* host, out; holds the noise before */
    const uint8_t *tail; /* host; NULL: a keyframe */
    int tail_frames;
    int text_length;
    struct schedule schedule;
    enum window_condition condition;
};

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

static enum error_code denoise_body(struct parts *parts, struct runtime *runtime, void *argument,
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
    return code == ERR_OK ? run_task(model, denoise_body, task, error) : code;
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

/* -- decoding -------------------------------------------------------------------------------- */

struct decode_task {
    const float *latents;
    int latent_frames, width, height;
    frame_sink sink;
    void *user;
};

/* Download a chunk's pixels and hand them over. */
static enum error_code emit(struct runtime *runtime, const struct decode_task *task,
                            const void *pixels, int64_t frames, struct error *error) {
    int64_t elements = frames * task->height * task->width * 3;
    size_t mark = runtime->work->used;
    uint8_t *rgb = work_alloc(runtime, elements, DTYPE_U8);
    runtime->ops->to_pixels(runtime->device, rgb, pixels, elements, runtime->dtype);
    arena_reset(runtime->work, mark);
    if (runtime->work->measuring || task->sink == NULL)
        return ERR_OK;
    enum error_code code = runtime->ops->status(runtime->device, error);
    uint8_t *host = code == ERR_OK ? malloc((size_t)elements) : NULL;
    if (code == ERR_OK && host == NULL)
        code = error_set(error, ERR_MEMORY, "no memory for %lld frames", (long long)frames);
    if (code == ERR_OK) {
        runtime->ops->download(runtime->device, host, rgb, (size_t)elements);
        code = task->sink(task->user, host, (int)frames, error);
    }
    free(host);
    return code;
}

static enum error_code decode_body(struct parts *parts, struct runtime *runtime, void *argument,
                                   struct error *error) {
    const struct decode_task *task = argument;
    struct vae_stream stream;
    vae_stream_open(&stream, parts->vae, runtime, false, task->latent_frames,
                    task->height / SPACE_STRIDE, task->width / SPACE_STRIDE, 0);
    int64_t frames;
    const void *pixels = vae_decode_next(&stream, task->latents, &frames);
    enum error_code code = ERR_OK;
    while (pixels != NULL && code == ERR_OK) {
        code = emit(runtime, task, pixels, frames, error);
        if (code == ERR_OK)
            pixels = vae_decode_next(&stream, task->latents, &frames);
    }
    return code;
}

enum error_code model_decode(struct model *model, const float *latents, int latent_frames,
                             int width, int height, frame_sink sink, void *user,
                             struct error *error) {
    const struct model_size size = {width, height, 1};
    if (model->parts.vae == NULL)
        return error_set(error, ERR_UNSUPPORTED, "the model was opened without its VAE");
    enum error_code code = model_check_size(&model->info, &size, error);
    if (code != ERR_OK)
        return code;
    if (latent_frames < 1)
        return error_set(error, ERR_SHAPE, "%d latent frames; expected at least 1", latent_frames);
    struct decode_task task = {latents, latent_frames, width, height, sink, user};
    return run_task(model, decode_body, &task, error);
}

/* -- planning -------------------------------------------------------------------------------- */

/* Arithmetic with the model's own settings; memory for the most that any can take: the longest
 * text, guidance, the sampler with the most state. */
static enum error_code plan_denoise(struct measured *measured, const struct model_info *info,
                                    bool window, const struct model_size *size,
                                    struct error *error) {
    static const uint8_t some_tail; /* its address says "there is one"; it is not read */
    const struct model_config *config = &measured->parts.config;
    const struct model_text longest = {.count = config->text_length - 1};
    struct denoise_request request = {.size = *size,
                                      .positive = longest,
                                      .negative = longest,
                                      .steps = info->steps,
                                      .guidance = 2,
                                      .shift = info->shift};
    struct denoise_task task = {.request = &request,
                                .tail = window ? &some_tail : NULL,
                                .text_length = config->text_length,
                                .condition = config->condition};
    for (int i = 0; i < info->overlap_count; i++)
        if (info->overlaps[i] > task.tail_frames && info->overlaps[i] < size->frames)
            task.tail_frames = info->overlaps[i];
    enum error_code code = schedule_make(&task.schedule, &config->scheduler, SAMPLER_UNIPC,
                                         info->steps, info->shift, error);
    if (code == ERR_OK)
        code = denoise_body(&measured->parts, &measured->runtime, &task, error);
    arena_reset(&measured->work, 0);
    measured->runtime.flops = 0;
    request.guidance = info->guidance;
    return code == ERR_OK ? denoise_body(&measured->parts, &measured->runtime, &task, error) : code;
}

static enum error_code plan_body(struct measured *measured, enum model_stage stage,
                                 const struct model_size *size, struct error *error) {
    struct parts *parts = &measured->parts;
    const struct model_config *config = &parts->config;
    struct model_info info;
    fill_info(&info, parts);
    if (stage == STAGE_TEXT) {
        struct text_request text = {.count = config->text_length};
        return text_task(parts, &measured->runtime, &text, error);
    }
    enum error_code code = model_check_size(&info, size, error);
    if (code != ERR_OK)
        return code;
    if (stage == STAGE_VAE) {
        struct decode_task decode = {.latent_frames = (size->frames - 1) / TIME_STRIDE + 1,
                                     .width = size->width,
                                     .height = size->height};
        return decode_body(parts, &measured->runtime, &decode, error);
    }
    return plan_denoise(measured, &info, stage == STAGE_WINDOW, size, error);
}

enum error_code model_plan(struct model_cost *out, const char *folder, enum model_stage stage,
                           const struct model_size *size, enum dtype dtype, struct error *error) {
    struct measured measured;
    enum error_code code = measured_open(&measured, folder, (int)stage, dtype, error);
    if (code != ERR_OK)
        return code;
    code = plan_body(&measured, stage, size, error);
    struct model_info info;
    fill_info(&info, &measured.parts);
    int passes = info.guidance != 1 ? 2 : 1;
    *out = (struct model_cost){
        .weight_bytes =
            measured.params.peak + measured.runtime.ops->weight_bytes(measured.runtime.device),
        .work_bytes = measured.work.peak,
        .flops = measured.runtime.flops,
        .flops_forward = measured.runtime.flops_step / passes,
        .forwards = measured.runtime.flops_step > 0 ? info.steps * passes : 0,
    };
    measured_close(&measured);
    return code;
}
