#include "worker/model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/fingerprint.h"
#include "worker/model/task.h"

#define SIZE_MULTIPLE 16 /* VAE stride 8 and patches of 2 */
#define SIZE_MIN      16 /* pixels */
#define SIZE_MAX_SIDE 4096
#define FRAMES_MAX    1025
#define SPACE_STRIDE  8
#define TIME_STRIDE   4

/* -- description ----------------------------------------------------------------------------- */

void model_fill_info(struct model_info *out, const struct parts *parts) {
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
                                 "tokenizer/tokenizer.json",
                                 "text_encoder/config.json",
                                 "vae/config.json",
                                 configs[0],
                                 configs[1],
                                 NULL};
    return fingerprint(out, folder, names, (const struct weights *const *)parts->file, PART_COUNT,
                       error);
}

enum error_code model_read_info(struct model_info *out, const char *folder, struct error *error) {
    struct measured measured;
    enum error_code code = measured_open(&measured, folder, -1, DTYPE_BF16, error);
    if (code != ERR_OK)
        return code;
    model_fill_info(out, &measured.parts);
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
