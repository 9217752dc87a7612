/* What a window starts from: frames encoded beside the noise or as its first latents, the mask that
 * says which they are, and what the image encoder sees. */
#include <stdlib.h>
#include <string.h>

#include "worker/model/task.h"

#define TIME_STRIDE   4
#define MASK_CHANNELS 4

/* mask[j][f] is 1 where pixel frame 4(f-1)+1+j is given, the first pixel frame counting for all
 * four of latent frame 0: with 4n+1 given frames, the first n+1 latent frames; and of the last
 * latent frame, where the window's last frame is given too, its last channel. */
static enum error_code fill_mask(struct runtime *runtime, float *mask, const struct extent *e,
                                 int given, bool end, struct error *error) {
    const struct ops *ops = runtime->ops;
    int64_t last = TIME_STRIDE * (e->frames - 1);
    float *ones = malloc((size_t)e->plane * sizeof *ones);
    if (ones == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a mask");
    for (int64_t i = 0; i < e->plane; i++)
        ones[i] = 1;
    ops->zero(runtime->device, mask, (size_t)(MASK_CHANNELS * e->frames * e->plane) * sizeof *mask);
    for (int j = 0; j < MASK_CHANNELS; j++)
        for (int64_t f = 0; f < e->frames; f++) {
            int64_t frame = f == 0 ? 0 : TIME_STRIDE * (f - 1) + 1 + j;
            if (frame < given || (end && frame == last))
                ops->upload(runtime->device, mask + (j * e->frames + f) * e->plane, ones,
                            (size_t)e->plane * sizeof *ones);
        }
    free(ones);
    return ERR_OK;
}

/* The frames that are given as pixels [*count,H,W,3] of the compute type in work memory: those of
 * the tail; with an end frame, of the whole window, grey between them. */
static void *upload_frames(struct runtime *runtime, const struct denoise_task *task,
                           int64_t *count) {
    const struct ops *ops = runtime->ops;
    const struct window_source *source = &task->source;
    const struct model_size *size = &task->request->size;
    int64_t frame = (int64_t)size->height * size->width * 3, given = source->tail_frames * frame;
    *count = source->end != NULL ? size->frames : source->tail_frames;
    uint8_t *pixels = work_alloc(runtime, *count * frame, runtime->dtype);
    size_t bytes = dtype_bytes(runtime->dtype), mark = runtime->work->used;
    uint8_t *rgb = work_alloc(runtime, given, DTYPE_U8);
    ops->upload(runtime->device, rgb, source->tail, (size_t)given);
    ops->from_pixels(runtime->device, pixels, rgb, given, runtime->dtype);
    if (source->end != NULL) {
        uint8_t *end = pixels + (size_t)((*count - 1) * frame) * bytes;
        ops->zero(runtime->device, pixels + (size_t)given * bytes,
                  (size_t)((*count - 1) * frame - given) * bytes);
        ops->upload(runtime->device, rgb, source->end, (size_t)frame);
        ops->from_pixels(runtime->device, end, rgb, frame, runtime->dtype);
    }
    arena_reset(runtime->work, mark);
    return pixels;
}

/* Mask and latents [4+C,T,h,w] of the frames, and of grey or nothing where none is given. */
static enum error_code make_channels(float *channels, struct parts *parts, struct runtime *runtime,
                                     const struct denoise_task *task, const struct extent *e,
                                     struct error *error) {
    const struct ops *ops = runtime->ops;
    float *latents = channels + MASK_CHANNELS * e->frames * e->plane;
    size_t mark = runtime->work->used;
    int64_t count;
    void *pixels = upload_frames(runtime, task, &count);
    if (parts->config.condition == WINDOW_GREY_FRAMES) {
        vae_encode(parts->vae, runtime, latents, pixels, count, e->frames, e->height, e->width, 0);
    } else {
        int64_t given = (count - 1) / TIME_STRIDE + 1;
        float *alone = work_floats(runtime, e->channels * given * e->plane);
        vae_encode(parts->vae, runtime, alone, pixels, count, given, e->height, e->width, 0);
        ops->zero(runtime->device, latents, (size_t)e->count * sizeof *latents);
        for (int64_t c = 0; c < e->channels; c++)
            ops->copy(runtime->device, latents + c * e->frames * e->plane,
                      alone + c * given * e->plane, (size_t)(given * e->plane) * sizeof *alone);
    }
    arena_reset(runtime->work, mark);
    return fill_mask(runtime, channels, e, task->source.tail_frames, task->source.end != NULL,
                     error);
}

static void make_prefix(struct condition *condition, struct parts *parts, struct runtime *runtime,
                        const struct denoise_task *task, const struct extent *e) {
    int64_t count;
    condition->prefix_frames = (task->source.tail_frames - 1) / TIME_STRIDE + 1;
    condition->prefix = work_floats(runtime, e->channels * condition->prefix_frames * e->plane);
    size_t mark = runtime->work->used;
    void *pixels = upload_frames(runtime, task, &count);
    vae_encode(parts->vae, runtime, condition->prefix, pixels, count, condition->prefix_frames,
               e->height, e->width, 0);
    arena_reset(runtime->work, mark);
}

/* The window's first frame, and the last one below it where it is given. */
static enum error_code make_image(struct condition *condition, struct parts *parts,
                                  struct runtime *runtime, const struct denoise_task *task,
                                  struct error *error) {
    const struct model_size *size = &task->request->size;
    const struct window_source *source = &task->source;
    int64_t rows = clip_rows(&parts->clip_config);
    condition->image_rows = source->end != NULL ? 2 * rows : rows;
    condition->image = work_floats(runtime, condition->image_rows * parts->clip_config.width);
    enum error_code code = clip_encode(parts->clip, runtime, condition->image, source->tail,
                                       size->height, size->width, error);
    if (code == ERR_OK && source->end != NULL)
        code = clip_encode(parts->clip, runtime, condition->image + rows * parts->clip_config.width,
                           source->end, size->height, size->width, error);
    return code;
}

enum error_code condition_open(struct condition *condition, struct parts *parts,
                               struct runtime *runtime, const struct denoise_task *task,
                               const struct extent *extent, struct error *error) {
    *condition = (struct condition){.channels = NULL};
    if (!task->window || task->source.tail_frames == 0)
        return ERR_OK;
    if (parts->config.condition == WINDOW_PREFIX) {
        make_prefix(condition, parts, runtime, task, extent);
        return ERR_OK;
    }
    condition->channels =
        work_floats(runtime, (MASK_CHANNELS + extent->channels) * extent->frames * extent->plane);
    enum error_code code = make_channels(condition->channels, parts, runtime, task, extent, error);
    if (code == ERR_OK && parts->window->config.image_width > 0)
        code = make_image(condition, parts, runtime, task, error);
    return code;
}
