/* Latents to frames, a few at a time. */
#include <stdlib.h>

#include "worker/model/task.h"

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

enum error_code decode_body(struct parts *parts, struct runtime *runtime, void *argument,
                            struct error *error) {
    const struct decode_task *task = argument;
    struct vae_stream stream;
    vae_stream_open(&stream, parts->vae, runtime, false, task->latent_frames,
                    task->height / task->space_stride, task->width / task->space_stride, 0);
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
    struct decode_task task = {latents, latent_frames, width, height, model->info.space_stride,
                               sink,    user};
    return model_run(model, decode_body, &task, error);
}
