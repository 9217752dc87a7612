/* What a task will take, by running it on the table that computes nothing. */
#include "worker/model/task.h"

/* Arithmetic with the model's own settings; memory for the most that any can take: the longest
 * text, guidance, the sampler with the most state, the longest tail. */
static enum error_code plan_denoise(struct measured *measured, const struct model_info *info,
                                    bool window, const struct model_size *size,
                                    struct error *error) {
    static const uint8_t some_frame; /* its address says "there is one"; it is not read */
    const struct model_text longest = {.count = info->text_length - 1};
    struct denoise_request request = {.size = *size,
                                      .positive = longest,
                                      .negative = longest,
                                      .steps = info->steps,
                                      .guidance = 2,
                                      .shift = info->shift};
    struct denoise_task task = {.request = &request, .info = info, .window = window};
    for (int i = 0; window && info->window_rules != 0 && i < info->overlap_count; i++)
        if (info->overlaps[i] > task.source.tail_frames && info->overlaps[i] < size->frames)
            task.source.tail_frames = info->overlaps[i];
    if (task.source.tail_frames > 0)
        task.source.tail = &some_frame;
    if (task.source.tail_frames > 0 && info->window_end != WINDOW_END_NONE)
        task.source.end = &some_frame;
    enum error_code code = schedule_make(&task.schedule, &measured->parts.config.scheduler,
                                         SAMPLER_UNIPC, info->steps, info->shift, NULL, error);
    if (code == ERR_OK)
        code = denoise_body(&measured->parts, &measured->runtime, &task, error);
    arena_reset(&measured->work, 0);
    measured->runtime.flops = 0;
    request.guidance = info->guidance;
    return code == ERR_OK ? denoise_body(&measured->parts, &measured->runtime, &task, error) : code;
}

static enum error_code plan_decode(struct measured *measured, const struct model_info *info,
                                   const struct model_size *size, struct error *error) {
    struct decode_task decode = {.latent_frames = (size->frames - 1) / info->time_stride + 1,
                                 .space_stride = info->space_stride,
                                 .width = size->width,
                                 .height = size->height};
    return decode_body(&measured->parts, &measured->runtime, &decode, error);
}

static enum error_code plan_body(struct measured *measured, enum model_stage stage,
                                 const struct model_size *size, struct error *error) {
    struct parts *parts = &measured->parts;
    const struct model_config *config = &parts->config;
    struct model_info info;
    model_fill_info(&info, parts);
    if (stage == STAGE_TEXT) {
        struct text_task text = {.count = config->text_length};
        return text_body(parts, &measured->runtime, &text, error);
    }
    enum error_code code = model_check_size(&info, size, error);
    if (code != ERR_OK)
        return code;
    if (stage == STAGE_VAE)
        return plan_decode(measured, &info, size, error);
    code = plan_denoise(measured, &info, stage == STAGE_WINDOW, size, error);
    if (code != ERR_OK || stage != STAGE_KEYFRAME || (parts->stages & STAGE_VAE) == 0)
        return code;
    arena_reset(&measured->work, 0);
    return plan_decode(measured, &info, size, error);
}

enum error_code model_measure(struct model_bytes *out, const char *folder,
                              const struct model_options *options, struct error *error) {
    struct measured measured;
    enum error_code code = measured_open(&measured, folder, options, error);
    if (code != ERR_OK)
        return code;
    size_t fixed = measured_fixed(&measured);
    *out = (struct model_bytes){.all = measured_weights(&measured),
                                .fixed = fixed,
                                .least = fixed + streamer_least(measured.runtime.streamer)};
    measured_close(&measured);
    return ERR_OK;
}

/* The work, and how the weights are held beside it: streamed, it takes a little less. */
static enum error_code plan_holding(struct holding *holding, struct measured *measured,
                                    enum model_stage stage, const struct model_size *size,
                                    const struct model_options *options, struct error *error) {
    enum error_code code = plan_body(measured, stage, size, error);
    if (code == ERR_OK)
        code = measured_hold(holding, measured, options, measured->work.peak, error);
    if (code != ERR_OK || !holding->streaming)
        return code;
    measured->runtime.streaming = true;
    arena_reset(&measured->work, 0);
    measured->work.peak = 0;
    measured->runtime.flops = 0;
    code = plan_body(measured, stage, size, error);
    return code == ERR_OK ? measured_hold(holding, measured, options, measured->work.peak, error)
                          : code;
}

/* What a task of the stage opens: a keyframe's decodes its frame. A folder without a VAE is still
 * planned for the rest. */
static int stages_opened(const char *folder, enum model_stage stage) {
    struct model_config config;
    struct error ignored; /* the opening fails for the same */
    bool decodes = stage == STAGE_KEYFRAME &&
                   config_read_model(&config, folder, &ignored) == ERR_OK &&
                   (parts_stages(folder, &config) & STAGE_VAE) != 0;
    return (int)stage | (decodes ? STAGE_VAE : 0);
}

enum error_code model_plan(struct model_cost *out, const char *folder, enum model_stage stage,
                           const struct model_size *size, const struct model_options *options,
                           struct error *error) {
    struct measured measured;
    struct holding holding = {0};
    struct model_options only = *options;
    only.stages = stages_opened(folder, stage);
    enum error_code code = measured_open(&measured, folder, &only, error);
    if (code != ERR_OK)
        return code;
    code = plan_holding(&holding, &measured, stage, size, &only, error);
    struct model_info info;
    model_fill_info(&info, &measured.parts);
    int passes = info.guidance != 1 ? 2 : 1;
    int forwards = measured.runtime.flops_step > 0 ? info.steps * passes : 0;
    *out = (struct model_cost){
        .weight_bytes = measured_weights(&measured),
        .weight_bytes_least = measured_least(&measured),
        .held_bytes = holding.bytes,
        .read_bytes =
            holding.bytes_reread + holding.bytes_pass * (size_t)(forwards > 0 ? forwards : 1),
        .work_bytes = holding.work,
        .flops = measured.runtime.flops,
        .flops_forward = measured.runtime.flops_step / passes,
        .forwards = forwards,
    };
    measured_close(&measured);
    return code;
}
