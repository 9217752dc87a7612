#include "worker/model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/components.h"
#include "worker/model/fingerprint.h"
#include "worker/model/task.h"

#define SIZE_MIN      16 /* pixels */
#define SIZE_MAX_SIDE 4096
#define FRAMES_MAX    1025
#define SPACE_STRIDE  8 /* where there is no VAE to say */
#define TIME_STRIDE   4

/* -- description ----------------------------------------------------------------------------- */

void model_fill_info(struct model_info *out, const struct parts *parts) {
    const struct model_config *config = &parts->config;
    const struct scheduler_config *scheduler = &config->scheduler;
    const struct denoiser *denoiser = parts->keyframe != NULL ? parts->keyframe : parts->window;
    int text_width = denoiser != NULL ? denoiser->config.text_width : 0;
    int channels = denoiser != NULL ? denoiser->config.out_channels : 0;
    int stride = parts->vae_config.space_stride;
    *out = (struct model_info){
        .parameters = parts->elements,
        .stages = parts->stages,
        .latent_channels = stride > 0 ? parts->vae_config.latent_channels : channels,
        .time_stride = TIME_STRIDE,
        .space_stride = stride > 0 ? stride : SPACE_STRIDE,
        .size_min = SIZE_MIN,
        .size_max = SIZE_MAX_SIDE,
        .width = config->width,
        .height = config->height,
        .fps = config->fps,
        .window_frames = config->window_frames,
        .window_fixed = config->window_fixed,
        .overlap_count = config->overlap_count,
        .window_rules = parts_window_rules(parts),
        .window_from_text = parts_window_from_text(parts),
        .window_end = parts_window_end(parts),
        .text_length = config->text_length,
        .text_width = parts->umt5 != NULL ? parts->umt5_config.width : text_width,
        .head_width = parts->window != NULL ? parts->window->config.head_dim
                      : denoiser != NULL    ? denoiser->config.head_dim
                                            : 0,
        .experts = denoiser != NULL ? denoiser->source.experts : 0,
        .boundary = denoiser != NULL ? denoiser->source.boundary : 0,
        .sampler = scheduler->sampler,
        .steps = scheduler->steps,
        .guidance = scheduler->guidance,
        .shift = scheduler->shift,
        .shift_small = scheduler->shift_small,
        .guidance_low = scheduler->guidance_low,
    };
    out->size_multiple = 2 * out->space_stride; /* patches of 2 */
    if (out->size_min < out->size_multiple)
        out->size_min = out->size_multiple;
    (void)snprintf(out->family, sizeof out->family, "%s", config->family);
    memcpy(out->overlaps, config->overlaps, sizeof out->overlaps);
    if (out->window_end == WINDOW_END_MUST) /* between two pictures there is no overlap */
        out->overlap_count = 1;
}

#define NAMES_MAX 13

static enum error_code take_fingerprint(struct hash *out, const struct parts *parts,
                                        const char *folder, struct error *error) {
    const struct denoiser_config *denoisers[] = {&parts->config.keyframe, &parts->config.window};
    char configs[4][64], tokenizer[3][64];
    static const char *const tokenizer_files[] = {"tokenizer_config.json", "spiece.model",
                                                  "tokenizer.json"};
    for (int i = 0; i < 3; i++)
        (void)snprintf(tokenizer[i], sizeof tokenizer[i], "%s/%s", component_tokenizer(folder),
                       tokenizer_files[i]);
    const char *names[NAMES_MAX] = {
        "model_index.json", "scheduler/scheduler_config.json", tokenizer[0],     tokenizer[1],
        tokenizer[2],       "text_encoder/config.json",        "vae/config.json"};
    int count = 7;
    for (int i = 0; i < 4; i++) {
        (void)snprintf(configs[i], sizeof configs[i], "%s/config.json",
                       denoisers[i % 2]->folder[i / 2]);
        if (i < 2 || denoisers[i % 2]->experts > 1)
            names[count++] = configs[i];
    }
    if (parts->clip != NULL)
        names[count++] = "image_encoder/config.json";
    const struct weights *files[PARTS_FILES_MAX];
    int file_count = parts_files(files, parts);
    return fingerprint(out, folder, names, files, file_count, error);
}

enum error_code model_read_info(struct model_info *out, const char *folder, struct error *error) {
    struct measured measured;
    const struct model_options all = {.stages = -1, .dtype = DTYPE_BF16};
    enum error_code code = measured_open(&measured, folder, &all, error);
    if (code != ERR_OK)
        return code;
    model_fill_info(out, &measured.parts);
    code = take_fingerprint(&out->hash, &measured.parts, folder, error);
    measured_close(&measured);
    return code;
}

enum error_code model_check_tokenizer(int *pieces, const struct model_info *info,
                                      const char *folder, struct error *error) {
    struct measured measured;
    const struct model_options text = {.stages = STAGE_TEXT, .dtype = DTYPE_BF16};
    *pieces = 0;
    if ((info->stages & STAGE_TEXT) == 0)
        return ERR_OK;
    enum error_code code = measured_open(&measured, folder, &text, error);
    if (code != ERR_OK)
        return code;
    code = parts_open_tokenizer(&measured.parts, folder, error);
    if (code == ERR_OK && measured.parts.tokenizer != NULL)
        *pieces = tokenizer_pieces(measured.parts.tokenizer);
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

static enum error_code open_parts(struct model *model, const char *folder,
                                  const struct model_options *options, struct error *error) {
    struct measured measured;
    struct runtime *runtime = &model->runtime;
    struct holding holding = {0};
    struct model_options own = *options;
    struct device_info device;
    runtime->ops->device_info(runtime->device, &device);
    own.like = runtime->ops;
    own.like_index = device.index;
    enum error_code code = measured_open(&measured, folder, &own, error);
    if (code != ERR_OK)
        return code;
    size_t params = measured.params.peak, made = measured.made.peak;
    size_t planned = runtime_weights(&measured.runtime), before = runtime_weights(runtime);
    model->memory = options->memory;
    model->giving = options->memory > 0 ? measured_giving(&measured) : 0;
    model->others = runtime->ops->weight_bytes(runtime->device);
    code = measured_hold(&holding, &measured, options, 0, error);
    model->passing = parts_passing(&measured.parts);
    measured_close(&measured);
    if (code == ERR_OK)
        runtime->ops->limit_weights(
            runtime->device, options->memory > 0 ? model->others + options->memory - params : 0);
    if (code == ERR_OK)
        code = runtime->ops->arena_open(runtime->device, &model->params, params, error);
    if (code == ERR_OK)
        code = arena_open(&model->made, made, error);
    if (code == ERR_OK)
        code = parts_open(&model->parts, runtime, folder, options, holding.alone, error);
    /* What has given way on the way is no longer counted. */
    model->fixed = model->giving > 0 ? planned : runtime_weights(runtime) - before;
    if (code == ERR_OK)
        code = runtime->ops->status(runtime->device, error);
    return code;
}

enum error_code model_open(struct model **out, const struct ops *ops, struct device *device,
                           const char *folder, const struct model_options *options,
                           struct error *error) {
    *out = NULL;
    assert(options->dtype == DTYPE_F32 || options->dtype == DTYPE_BF16);
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a model");
    model->runtime = (struct runtime){.ops = ops,
                                      .device = device,
                                      .dtype = options->dtype,
                                      .wants = ops->wants,
                                      .narrow = options->weights,
                                      .params = &model->params,
                                      .made = &model->made,
                                      .work = &model->work};
    /* Of the whole folder, whatever is opened of it: the hash must not depend on the stages. */
    enum error_code code = ERR_OK;
    if (options->info != NULL)
        model->info = *options->info;
    else
        code = model_read_info(&model->info, folder, error);
    if (code == ERR_OK)
        code = streamer_open(&model->runtime.streamer, error);
    if (code == ERR_OK)
        streamer_set_notice(model->runtime.streamer, options->streaming, options->user);
    if (code == ERR_OK)
        code = open_parts(model, folder, options, error);
    if (code != ERR_OK)
        model_close(&model);
    *out = model;
    return code;
}

void model_set_cancel(struct model *model, const atomic_bool *cancel) {
    model->runtime.cancel = cancel;
}

/* What other models have of the device is the rest of what all may take. */
void model_set_memory(struct model *model, size_t memory) {
    size_t sum = model->others + model->memory;
    assert(model->memory > 0 && memory > 0);
    model->others = sum > memory ? sum - memory : 0;
    model->memory = memory;
}

void model_rest(struct model *model) {
    streamer_rest(model->runtime.streamer);
}

void model_close(struct model **model) {
    if (*model == NULL)
        return;
    parts_close(&(*model)->parts, &(*model)->runtime);
    streamer_close(&(*model)->runtime.streamer);
    arena_close(&(*model)->params);
    arena_close(&(*model)->made);
    arena_close(&(*model)->work);
    free(*model);
    *model = NULL;
}
