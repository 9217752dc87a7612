/* keyframe: text to the first image, decoded: [1,H,W,3] u8. */
#include <string.h>

#include "worker/stage.h"

static enum error_code keep_frame(void *user, const uint8_t *rgb, int count, struct error *error) {
    struct tensor *frame = user;
    if (count != 1)
        return error_set(error, ERR_INTERNAL, "a keyframe decoded to %d frames", count);
    memcpy((void *)(uintptr_t)frame->data, rgb, (size_t)tensor_elements(frame));
    return ERR_OK;
}

enum error_code stage_keyframe(struct stage_context *context, const struct stage_task *task,
                               struct stage_result *result, struct error *error) {
    struct model *model;
    enum error_code code = stage_model(&model, context, task, STAGE_KEYFRAME | STAGE_VAE, error);
    if (code != ERR_OK)
        return code;
    const struct model_info *info = model_get_info(model);
    struct stage_denoise denoise;
    code = stage_denoise_open(&denoise, context, task, info, result, error);
    if (code != ERR_OK)
        return code;

    const struct model_size size = denoise.request.size;
    size_t latents_count = (size_t)info->latent_channels *
                           (size_t)(size.width / info->space_stride) *
                           (size_t)(size.height / info->space_stride);
    float *latents = arena_array(&context->arena, latents_count, sizeof *latents);
    void *rgb = arena_array(&context->arena, (size_t)size.width * (size_t)size.height, 3);
    struct tensor frame = {
        .data = rgb, .dtype = DTYPE_U8, .rank = 4, .dim = {1, size.height, size.width, 3}};
    if (!latents || !rgb)
        code = error_set(error, ERR_MEMORY, "no room for a keyframe of %dx%d", size.width,
                         size.height);
    if (code == ERR_OK)
        code = model_keyframe(model, latents, &denoise.request, error);
    if (code == ERR_OK)
        code = stage_finite(latents, latents_count, "the keyframe's latents", error);
    if (code == ERR_OK)
        code = model_decode(model, latents, 1, size.width, size.height,
                            &(struct frame_sink){.frames = keep_frame, .user = &frame}, error);
    if (code == ERR_OK)
        code = stage_put_tensor(context, task, "frames", &frame, result, error);
    stage_denoise_close(&denoise);
    return code;
}
