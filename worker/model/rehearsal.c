#include "worker/model/rehearsal.h"

#include <stdlib.h>

#include "base/clock.h"
#include "worker/model/task.h"

#define TEXT_LENGTH 512
#define TEXT_WIDTH  4096
#define TEXT_ROWS   77 /* of a prompt of some length */
#define CHANNELS    16 /* of latents */

static struct transformer_config transformer_config(int layers) {
    return (struct transformer_config){.heads = 12,
                                       .head_dim = 128,
                                       .width = 1536,
                                       .in_channels = CHANNELS,
                                       .out_channels = CHANNELS,
                                       .text_width = TEXT_WIDTH,
                                       .frequencies = 256,
                                       .ffn = 8960,
                                       .layers = layers,
                                       .eps = 1e-6f};
}

static struct vae_config decoder_config(void) {
    struct vae_config config = {.width = 96,
                                .decoder_width = 96,
                                .latent_channels = CHANNELS,
                                .levels = 4,
                                .multiple = {1, 2, 4, 4},
                                .res_blocks = 2,
                                .time_down = {false, true, true},
                                .patch = 1,
                                .space_stride = 8};
    for (int i = 0; i < CHANNELS; i++)
        config.deviation[i] = 1;
    return config;
}

static float *random_floats(int64_t count) {
    float *out = malloc((size_t)count * sizeof *out);
    uint32_t state = 1;
    for (int64_t i = 0; out != NULL && i < count; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return out;
}

/* -- runs ------------------------------------------------------------------------------------- */

static void take_steps(struct rehearsal *r, int steps, float *latents, float *velocity,
                       const struct transformer_grid *grid,
                       const struct transformer_context *text) {
    struct runtime *runtime = &r->runtime;
    int64_t count = CHANNELS * r->frames * r->height * r->width;
    for (int i = 0; i < steps; i++) {
        const struct transformer_input input = {
            .latents = latents,
            .grid = grid,
            .text = text,
            .time = {.value = {1000 - 1000.0f * (float)i / (float)steps}, .count = 1}};
        transformer_forward(r->transformer, runtime, velocity, &input);
        runtime->ops->combine(runtime->device, latents, (const float *const[]){latents, velocity},
                              (const float[]){1, -1 / (float)steps}, 2, count);
    }
}

enum error_code rehearsal_steps(struct rehearsal *r, int steps, struct error *error) {
    struct runtime *runtime = &r->runtime;
    struct transformer_grid grid;
    struct transformer_context text;
    int64_t count = CHANNELS * r->frames * r->height * r->width;
    enum error_code code = transformer_grid_open(&grid, r->transformer, runtime, r->frames,
                                                 r->height, r->width, error);
    if (code != ERR_OK)
        return code;
    transformer_text_open(&text, r->transformer, runtime, &grid, r->latents, TEXT_ROWS,
                          TEXT_LENGTH);
    float *latents = work_floats(runtime, count), *velocity = work_floats(runtime, count);
    runtime->ops->upload(runtime->device, latents, r->latents, (size_t)count * sizeof *latents);
    code = runtime->ops->status(runtime->device, error);
    int64_t before = clock_monotonic_ns();
    runtime->flops = 0;
    take_steps(r, steps, latents, velocity, &grid, &text);
    if (code == ERR_OK)
        code = runtime->ops->status(runtime->device, error);
    r->ns = clock_monotonic_ns() - before;
    arena_reset(runtime->work, 0);
    return code;
}

static enum error_code count_pixels(void *user, const uint8_t *rgb, int count,
                                    struct error *error) {
    struct rehearsal *r = user;
    r->voxels += 64 * r->height * r->width * count;
    return ERR_OK;
}

enum error_code rehearsal_decode(struct rehearsal *r, struct error *error) {
    struct parts parts = {.vae = r->vae};
    const struct frame_sink sink = {.frames = count_pixels, .user = r};
    struct decode_task task = {.latents = r->latents,
                               .latent_frames = (int)r->frames,
                               .width = 8 * (int)r->width,
                               .height = 8 * (int)r->height,
                               .space_stride = 8,
                               .sink = &sink};
    r->runtime.flops = 0;
    r->voxels = 0;
    int64_t before = clock_monotonic_ns();
    enum error_code code = decode_body(&parts, &r->runtime, &task, error);
    enum error_code status =
        r->runtime.ops->status(r->runtime.device, code == ERR_OK ? error : NULL);
    r->ns = clock_monotonic_ns() - before;
    arena_reset(&r->work, 0);
    return code == ERR_OK ? status : code;
}

/* -- opening ---------------------------------------------------------------------------------- */

/* Without memory or weights. */
static enum error_code begin(struct rehearsal *r, const struct rehearsal_config *config,
                             const struct ops *ops, struct error *error) {
    int64_t texts = (int64_t)TEXT_LENGTH * TEXT_WIDTH;
    *r = (struct rehearsal){
        .frames = config->frames, .height = config->height, .width = config->width};
    r->runtime = (struct runtime){.ops = ops,
                                  .dtype = DTYPE_BF16,
                                  .wants = config->ops->wants,
                                  .narrow = config->narrow,
                                  .attention8 = config->attention8,
                                  .params = &r->params,
                                  .made = &r->made,
                                  .work = &r->work};
    r->latents = random_floats(texts + CHANNELS * r->frames * r->height * r->width);
    if (r->latents == NULL)
        return error_set(error, ERR_MEMORY, "no memory for latents");
    return ops->device_open(&r->runtime.device, &config->device, error);
}

static enum error_code open_model(struct rehearsal *r, const struct rehearsal_config *config,
                                  struct error *error) {
    struct vae_config decoder = decoder_config();
    struct transformer_config transformer = transformer_config(config->layers);
    return config->decoder
               ? vae_open(&r->vae, &r->runtime, NULL, &decoder, NULL, error)
               : transformer_open(&r->transformer, &r->runtime, NULL, &transformer, NULL, error);
}

/* The same on the table that computes nothing: what it takes of params, made and work. */
static enum error_code plan(size_t bytes[3], const struct rehearsal_config *config,
                            struct error *error) {
    struct rehearsal r;
    enum error_code code = begin(&r, config, ops_measure(), error);
    arena_open_measuring(&r.params);
    arena_open_measuring(&r.made);
    arena_open_measuring(&r.work);
    if (code == ERR_OK)
        code = open_model(&r, config, error);
    if (code == ERR_OK)
        code = config->decoder ? rehearsal_decode(&r, error) : rehearsal_steps(&r, 1, error);
    bytes[0] = r.params.peak;
    bytes[1] = r.made.peak;
    bytes[2] = r.work.peak;
    rehearsal_close(&r);
    return code;
}

enum error_code rehearsal_open(struct rehearsal *r, const struct rehearsal_config *config,
                               struct error *error) {
    size_t bytes[3];
    *r = (struct rehearsal){.ns = 0};
    enum error_code code = plan(bytes, config, error);
    if (code == ERR_OK)
        code = begin(r, config, config->ops, error);
    if (code == ERR_OK)
        code = config->ops->arena_open(r->runtime.device, &r->params, bytes[0], error);
    if (code == ERR_OK)
        code = arena_open(&r->made, bytes[1], error);
    if (code == ERR_OK)
        code = config->ops->arena_open(r->runtime.device, &r->work, bytes[2], error);
    return code == ERR_OK ? open_model(r, config, error) : code;
}

void rehearsal_close(struct rehearsal *r) {
    if (r->runtime.device != NULL) {
        transformer_close(&r->runtime, &r->transformer);
        vae_close(&r->runtime, &r->vae);
    }
    arena_close(&r->params);
    arena_close(&r->work);
    if (r->runtime.device != NULL)
        r->runtime.ops->device_close(&r->runtime.device);
    arena_close(&r->made);
    free(r->latents);
    *r = (struct rehearsal){.ns = 0};
}
