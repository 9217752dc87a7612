/* window: text and the tail of what was before, to latents [C,T,h,w] f32. */
#include "worker/stage.h"

/* How the window goes on from its tail. */
static enum error_code read_rule(enum window_rule *out, const struct stage_task *task,
                                 struct error *error) {
    static const char *const rules[] = {"model", "last_frame", "overlap", "prefix", NULL};
    int rule;
    enum error_code code = stage_word(&rule, task, "rule", rules, error);
    if (code == ERR_OK)
        *out = (enum window_rule)rule;
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
    int64_t tail_frames, frames;
    struct stage_denoise denoise;
    enum window_rule rule;
    struct weights *tail_file = NULL, *end_file = NULL;
    const struct tensor *tail;
    struct window_source source = {.tail_frames = 0};
    enum error_code code = stage_int(&tail_frames, task, "tail", 1, 1 << 12, error);
    if (code == ERR_OK)
        code = stage_int(&frames, task, "frames", 1, 1 << 12, error);
    if (code == ERR_OK)
        code = read_rule(&rule, task, error);
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
    const int64_t tail_dims[] = {tail_frames, size.height, size.width, 3};
    if (code == ERR_OK)
        code = stage_tensor(&tail_file, &tail, context, task, "tail", "frames", DTYPE_U8, 4,
                            tail_dims, result, error);
    if (code == ERR_OK)
        source = (struct window_source){
            .rule = rule, .tail = tail->data, .tail_frames = (int)tail_frames};
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
