/* What a task will take, by running it on the table that computes nothing. */
#include "worker/model/task.h"

#define TIME_STRIDE 4

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
    model_fill_info(&info, parts);
    if (stage == STAGE_TEXT) {
        struct text_task text = {.count = config->text_length};
        return text_body(parts, &measured->runtime, &text, error);
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
    model_fill_info(&info, &measured.parts);
    int passes = info.guidance != 1 ? 2 : 1;
    *out = (struct model_cost){
        .weight_bytes = measured.params.peak +
                        measured.runtime.ops->weight_bytes(measured.runtime.device) +
                        measured.runtime.ops->mapped_bytes(measured.runtime.device),
        .work_bytes = measured.work.peak,
        .flops = measured.runtime.flops,
        .flops_forward = measured.runtime.flops_step / passes,
        .forwards = measured.runtime.flops_step > 0 ? info.steps * passes : 0,
    };
    measured_close(&measured);
    return code;
}
