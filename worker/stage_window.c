/* window: text, and where there is something before it its tail, to latents [C,T,h,w] f32. */
#include "worker/stage.h"

enum { RULE_TEXT = WINDOW_RULE_PREFIX + 1 }; /* from text alone */

/* How the window goes on, from how many frames of what was before. */
static enum error_code read_rule(struct window_source *out, const struct stage_task *task,
                                 struct error *error) {
    static const char *const rules[] = {"model", "last_frame", "overlap", "prefix", "text", NULL};
    int rule;
    int64_t tail;
    enum error_code code = stage_word(&rule, task, "rule", rules, error);
    if (code == ERR_OK)
        code = stage_int(&tail, task, "tail", rule == RULE_TEXT ? 0 : 1,
                         rule == RULE_TEXT ? 0 : 1 << 12, error);
    if (code == ERR_OK)
        *out = (struct window_source){.rule = rule == RULE_TEXT ? WINDOW_RULE_MODEL
                                                                : (enum window_rule)rule,
                                      .tail_frames = (int)tail};
    return code;
}

/* The frames that the window starts with, if it does. */
static enum error_code read_tail(struct window_source *out, struct weights **file,
                                 struct stage_context *context, const struct stage_task *task,
                                 const struct model_size *size, struct stage_result *result,
                                 struct error *error) {
    const int64_t dims[] = {out->tail_frames, size->height, size->width, 3};
    const struct tensor *tail;
    if (out->tail_frames == 0)
        return ERR_OK;
    enum error_code code = stage_tensor(file, &tail, context, task, "tail", "frames", DTYPE_U8, 4,
                                        dims, result, error);
    if (code == ERR_OK)
        out->tail = tail->data;
    return code;
}

/* The picture that the window ends in, where the lease has one. */
static enum error_code read_end(struct window_source *out, struct weights **file,
                                struct stage_context *context, const struct stage_task *task,
                                const struct model_size *size, struct stage_result *result,
                                struct error *error) {
    const int64_t dims[] = {1, size->height, size->width, 3};
    const struct tensor *end;
    if (!stage_has_input(task, "end"))
        return ERR_OK;
    enum error_code code =
        stage_tensor(file, &end, context, task, "end", "frames", DTYPE_U8, 4, dims, result, error);
    if (code == ERR_OK)
        out->end = end->data;
    return code;
}

enum error_code stage_window(struct stage_context *context, const struct stage_task *task,
                             struct stage_result *result, struct error *error) {
    struct model *model;
    int64_t frames;
    struct stage_denoise denoise;
    struct weights *tail_file = NULL, *end_file = NULL;
    struct window_source source;
    enum error_code code = stage_int(&frames, task, "frames", 1, 1 << 12, error);
    if (code == ERR_OK)
        code = read_rule(&source, task, error);
    if (code == ERR_OK)
        code = stage_model(&model, context, task, STAGE_WINDOW | STAGE_VAE, error);
    if (code != ERR_OK)
        return code;
    const struct model_info *info = model_get_info(model);
    code = stage_denoise_open(&denoise, context, task, info, result, error);
    if (code != ERR_OK)
        return code;

    denoise.request.size.frames = (int)frames;
    const struct model_size size = denoise.request.size;
    struct tensor latents = {.data = NULL,
                             .dtype = DTYPE_F32,
                             .rank = 4,
                             .dim = {info->latent_channels, (frames - 1) / info->time_stride + 1,
                                     size.height / info->space_stride,
                                     size.width / info->space_stride}};
    float *data = arena_array(&context->arena, (size_t)tensor_elements(&latents), sizeof *data);
    latents.data = data;
    if (!data)
        code = error_set(error, ERR_MEMORY, "no room for the latents of a window of %dx%dx%d",
                         size.width, size.height, size.frames);
    if (code == ERR_OK)
        code = read_tail(&source, &tail_file, context, task, &size, result, error);
    if (code == ERR_OK)
        code = read_end(&source, &end_file, context, task, &size, result, error);
    if (code == ERR_OK)
        code = model_window(model, data, &source, &denoise.request, error);
    if (code == ERR_OK)
        code = stage_finite(data, (size_t)tensor_elements(&latents), "the window's latents", error);
    if (code == ERR_OK)
        code = stage_put_tensor(context, task, "latents", &latents, result, error);
    weights_close(&tail_file);
    weights_close(&end_file);
    stage_denoise_close(&denoise);
    return code;
}
