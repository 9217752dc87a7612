/* Latents to frames, a few at a time. */
#include <stdlib.h>

#include "worker/model/task.h"

#define PICTURES_MAX 4 /* of a latent frame */

/* Chunks on their way to the sink: while it has one, the device makes the next. */
struct chunks {
    struct runtime *runtime;
    const struct decode_task *task;
    struct vae_stream stream;
    struct arena staging; /* host: two chunks */
    size_t chunk_bytes;   /* the most that one takes */
    int64_t frames[2];    /* of each; 0: none is on its way there */
};

static uint8_t *staging_of(const struct chunks *chunks, int which) {
    return chunks->staging.base + (size_t)which * chunks->chunk_bytes;
}

/* Queue the frames of a chunk for where else they are wanted. */
static enum error_code place_planes(const struct chunks *chunks, const uint8_t *rgb, int64_t frames,
                                    struct error *error) {
    struct runtime *runtime = chunks->runtime;
    const struct decode_task *task = chunks->task;
    struct nv12_args args = {.rgb = rgb, .height = task->height, .width = task->width};
    if (task->sink->planes == NULL)
        return ERR_OK;
    for (int64_t i = 0; i < frames; i++, args.rgb += args.height * args.width * 3) {
        enum error_code code = task->sink->planes(task->sink->user, &args.out, error);
        if (code != ERR_OK)
            return code;
        if (args.out.luma != NULL)
            runtime->ops->to_nv12(runtime->device, &args);
    }
    return ERR_OK;
}

/* Queue the next chunk and the download of its pixels. */
static enum error_code begin(struct chunks *chunks, int which, struct error *error) {
    struct runtime *runtime = chunks->runtime;
    const struct decode_task *task = chunks->task;
    int64_t frames;
    const void *pixels = vae_decode_next(&chunks->stream, task->latents, &frames);
    chunks->frames[which] = pixels != NULL ? frames : 0;
    if (pixels == NULL)
        return ERR_OK;
    int64_t elements = frames * task->height * task->width * 3;
    size_t mark = runtime->work->used;
    uint8_t *rgb = work_alloc(runtime, elements, DTYPE_U8);
    runtime->ops->to_pixels(runtime->device, rgb, pixels, elements, runtime->dtype);
    arena_reset(runtime->work, mark);
    if (runtime->work->measuring || task->sink == NULL)
        return ERR_OK;
    if (chunks->staging.base == NULL) { /* no chunk is larger than the first two */
        chunks->chunk_bytes =
            (size_t)(PICTURES_MAX * chunks->stream.chunk) * (size_t)(elements / frames);
        enum error_code code = runtime->ops->staging_open(runtime->device, &chunks->staging,
                                                          2 * chunks->chunk_bytes, error);
        if (code != ERR_OK)
            return code;
    }
    enum error_code code = place_planes(chunks, rgb, frames, error);
    if (code == ERR_OK)
        runtime->ops->download_begin(runtime->device, staging_of(chunks, which), rgb,
                                     (size_t)elements);
    return code;
}

/* Wait for a chunk's pixels and hand them over. */
static enum error_code finish(struct chunks *chunks, int which, struct error *error) {
    struct runtime *runtime = chunks->runtime;
    const struct decode_task *task = chunks->task;
    if (runtime->work->measuring || task->sink == NULL)
        return ERR_OK;
    const uint8_t *rgb = staging_of(chunks, which);
    enum error_code code = runtime->ops->download_end(runtime->device, rgb, error);
    if (code != ERR_OK)
        return code;
    return task->sink->frames(task->sink->user, rgb, (int)chunks->frames[which], error);
}

enum error_code decode_body(struct parts *parts, struct runtime *runtime, void *argument,
                            struct error *error) {
    const struct decode_task *task = argument;
    struct chunks chunks = {.runtime = runtime, .task = task};
    vae_stream_open(&chunks.stream, parts->vae, runtime, false, task->latent_frames,
                    task->height / task->space_stride, task->width / task->space_stride, 0);
    enum error_code code = begin(&chunks, 0, error);
    for (int which = 0; code == ERR_OK && chunks.frames[which] > 0; which = 1 - which) {
        code = begin(&chunks, 1 - which, error);
        if (code == ERR_OK)
            code = finish(&chunks, which, error);
    }
    if (chunks.staging.base != NULL) { /* nothing may be on its way to it */
        enum error_code status =
            runtime->ops->status(runtime->device, code == ERR_OK ? error : NULL);
        code = code == ERR_OK ? status : code;
    }
    arena_close(&chunks.staging);
    return code;
}

enum error_code model_decode(struct model *model, const float *latents, int latent_frames,
                             int width, int height, const struct frame_sink *sink,
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
                               sink};
    return model_run(model, decode_body, &task, error);
}
