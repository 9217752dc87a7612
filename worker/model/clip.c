#include "worker/model/clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/loader.h"

/* Of every CLIP model of OpenAI's and LAION's. */
const float clip_pixel_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
const float clip_pixel_deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};

struct layer_weights {
    const float *norm1_mul, *norm1_add, *norm2_mul, *norm2_add;
    struct layer qkv, out, ffn_in, ffn_out;
};

struct clip {
    struct clip_config config;
    struct layer patch;
    const float *class, *position; /* [width], [rows,width] */
    const float *norm_mul, *norm_add;
    struct layer_weights *layer; /* [layers-1]: the last one's output is not asked for */
    struct stream *stream;       /* a block a layer */
};

int64_t clip_rows(const struct clip_config *config) {
    int64_t side = config->image_size / config->patch;
    return 1 + side * side;
}

/* -- weights --------------------------------------------------------------------------------- */

/* Newer files of the diffusers layout leave the prefix out. */
static const char *root_of(const struct weights *file) {
    return weights_find(file, "embeddings.class_embedding") != NULL ? "" : "vision_model.";
}

static void load_layer(struct loader *loader, struct layer_weights *layer,
                       const struct clip_config *config, int index) {
    static const char *const apart[] = {"q_proj", "k_proj", "v_proj"}, *const packed[] = {"to_qkv"};
    static const char *const out[] = {"out_proj"}, *const fc1[] = {"fc1"}, *const fc2[] = {"fc2"};
    int64_t width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    const char *root = root_of(loader->file);
    loader_enter(loader, "%sencoder.layers.%d.", root, index);
    layer->norm1_mul = loader_vector(loader, "layer_norm1.weight", width);
    layer->norm1_add = loader_vector(loader, "layer_norm1.bias", width);
    layer->norm2_mul = loader_vector(loader, "layer_norm2.weight", width);
    layer->norm2_add = loader_vector(loader, "layer_norm2.bias", width);
    loader_enter(loader, "%sencoder.layers.%d.self_attn.", root, index);
    if (loader->original)
        loader_linear(loader, &layer->qkv, packed, 1, width, 3 * width, true, dtype);
    else
        loader_linear(loader, &layer->qkv, apart, 3, width, width, true, dtype);
    loader_linear(loader, &layer->out, out, 1, width, width, true, dtype);
    loader_enter(loader, "%sencoder.layers.%d.mlp.", root, index);
    loader_linear(loader, &layer->ffn_in, fc1, 1, width, config->ffn, true, dtype);
    loader_linear(loader, &layer->ffn_out, fc2, 1, config->ffn, width, true, dtype);
}

static void load_ends(struct loader *loader, struct clip *clip) {
    const struct clip_config *config = &clip->config;
    const int64_t patch[] = {config->width, 3, config->patch, config->patch};
    loader_enter(loader, "%sembeddings.", root_of(loader->file));
    loader_patch(loader, &clip->patch, "patch_embedding", 4, patch, false, loader->runtime->dtype);
    clip->class = loader_vector(loader, "class_embedding", config->width);
    clip->position =
        loader_vector(loader, "position_embedding.weight", clip_rows(config) * config->width);
    loader_enter(loader, "%s", root_of(loader->file));
    clip->norm_mul = loader_vector(loader, "pre_layrnorm.weight", config->width);
    clip->norm_add = loader_vector(loader, "pre_layrnorm.bias", config->width);
}

enum error_code clip_open(struct clip **out, struct runtime *runtime, const struct weights *file,
                          const struct clip_config *config, int64_t *elements,
                          struct error *error) {
    /* What comes after the output, and the text tower, of either layout. */
    char last[3][64];
    int end = config->layers - 1;
    (void)snprintf(last[0], sizeof last[0], "vision_model.encoder.layers.%d.", end);
    (void)snprintf(last[1], sizeof last[1], "encoder.layers.%d.", end);
    (void)snprintf(last[2], sizeof last[2], "visual.transformer.%d.", end);
    const char *const ignored[] = {"vision_model.post_layernorm.",
                                   "vision_model.embeddings.position_ids",
                                   "post_layernorm.",
                                   "embeddings.position_ids",
                                   "visual_projection.",
                                   "visual.post_norm.",
                                   "visual.head",
                                   "textual.",
                                   "log_scale",
                                   last[0],
                                   last[1],
                                   last[2],
                                   NULL};
    *out = NULL;
    struct clip *clip = calloc(1, sizeof *clip);
    if (clip != NULL)
        clip->layer = calloc((size_t)config->layers, sizeof *clip->layer);
    if (clip == NULL || clip->layer == NULL) {
        free(clip);
        return error_set(error, ERR_MEMORY, "no memory for an image encoder");
    }
    clip->config = *config;
    struct loader loader;
    loader_start(&loader, runtime, file, NAMES_CLIP, error);
    loader_stream(&loader, &clip->stream, config->layers);
    load_ends(&loader, clip);
    for (int i = 0; i < config->layers - 1; i++) {
        loader_block(&loader, i);
        load_layer(&loader, &clip->layer[i], config, i);
    }
    enum error_code code = loader_finish(&loader, ignored);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        clip_close(runtime, &clip);
    *out = clip;
    return code;
}

void clip_close(struct runtime *runtime, struct clip **clip) {
    if (*clip == NULL)
        return;
    layer_close(runtime, &(*clip)->patch);
    for (int i = 0; i < (*clip)->config.layers - 1; i++) {
        struct layer_weights *layer = &(*clip)->layer[i];
        layer_close(runtime, &layer->qkv);
        layer_close(runtime, &layer->out);
        layer_close(runtime, &layer->ffn_in);
        layer_close(runtime, &layer->ffn_out);
    }
    stream_close(&(*clip)->stream);
    free((*clip)->layer);
    free(*clip);
    *clip = NULL;
}

/* -- running --------------------------------------------------------------------------------- */

/* Rows of a picture's patches [(y,x), (channel,row,column)], scaled to 0..1 and normalised. */
static enum error_code fill_patches(float *out, const struct clip_config *config,
                                    const uint8_t *rgb, int height, int width,
                                    struct error *error) {
    int size = config->image_size, patch = config->patch, side = size / patch;
    uint8_t *fit = malloc(3 * (size_t)size * (size_t)size);
    enum error_code code =
        fit == NULL ? error_set(error, ERR_MEMORY, "no memory for a picture of %dx%d", size, size)
                    : clip_fit_picture(fit, size, rgb, height, width, error);
    for (int p = 0; code == ERR_OK && p < side * side; p++)
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < patch * patch; i++) {
                int y = p / side * patch + i / patch, x = p % side * patch + i % patch;
                float value = (float)fit[((size_t)y * (size_t)size + (size_t)x) * 3 + (size_t)c];
                value /= 255.0f;
                *out++ = (value - clip_pixel_mean[c]) / clip_pixel_deviation[c];
            }
    free(fit);
    return code;
}

/* x = norm(position + [class; patches]). */
static enum error_code embed(const struct clip *clip, struct runtime *runtime, float *x,
                             const uint8_t *rgb, int height, int width, struct error *error) {
    const struct ops *ops = runtime->ops;
    const struct clip_config *config = &clip->config;
    int64_t rows = clip_rows(config), columns = clip->patch.in, patches = (rows - 1) * columns;
    float *host = malloc((size_t)patches * sizeof *host);
    if (host == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a picture's patches");
    enum error_code code = ERR_OK;
    if (!runtime->work->measuring)
        code = fill_patches(host, config, rgb, height, width, error);
    if (code == ERR_OK) {
        float *exact = work_floats(runtime, patches),
              *sum = work_floats(runtime, rows * config->width);
        void *in = work_alloc(runtime, patches, runtime->dtype);
        ops->upload(runtime->device, exact, host, (size_t)patches * sizeof *exact);
        ops->convert(runtime->device, in, runtime->dtype, exact, DTYPE_F32, patches);
        ops->copy(runtime->device, sum, clip->position,
                  (size_t)(rows * config->width) * sizeof *sum);
        ops->combine(runtime->device, sum, (const float *const[]){sum, clip->class},
                     (const float[]){1, 1}, 2, config->width);
        run_linear(runtime, sum + config->width, in, &clip->patch, rows - 1,
                   &(struct linear_epilogue){.accumulate = true, .out_dtype = DTYPE_F32});
        ops->layer_norm(runtime->device, x, sum, clip->norm_mul, clip->norm_add, NULL, rows,
                        config->width, config->eps, DTYPE_F32);
    }
    free(host);
    return code;
}

/* What one layer works in. */
struct scratch {
    float *x; /* [rows,width] the residual stream */
    void *in, *wide;
    int64_t rows;
};

static struct norm_args norm_of(const struct clip *clip, const struct scratch *s, const float *mul,
                                const float *add) {
    return (struct norm_args){
        .x = s->x, .mul = mul, .add = add, .eps = clip->config.eps, .rows = s->in};
}

static void attend(const struct clip *clip, struct runtime *runtime,
                   const struct layer_weights *layer, const struct scratch *s) {
    const struct clip_config *config = &clip->config;
    int64_t width = config->width;
    size_t part = (size_t)width * dtype_bytes(runtime->dtype);
    const uint8_t *q = s->wide;
    const struct norm_args norm = norm_of(clip, s, layer->norm1_mul, layer->norm1_add);
    run_norm_linear(runtime, s->wide, &norm, &layer->qkv, s->rows,
                    &(struct linear_epilogue){.out_dtype = runtime->dtype});
    run_attention(runtime, &(struct attention_args){.q = q,
                                                    .k = q + part,
                                                    .v = q + 2 * part,
                                                    .out = s->in,
                                                    .q_stride = 3 * width,
                                                    .k_stride = 3 * width,
                                                    .v_stride = 3 * width,
                                                    .out_stride = width,
                                                    .q_length = s->rows,
                                                    .k_length = s->rows,
                                                    .heads = config->heads,
                                                    .head_dim = config->head_dim,
                                                    .scale = 1 / sqrtf((float)config->head_dim),
                                                    .dtype = runtime->dtype});
    run_linear(runtime, s->x, s->in, &layer->out, s->rows,
               &(struct linear_epilogue){.accumulate = true, .out_dtype = DTYPE_F32});
}

static void feed_forward(const struct clip *clip, struct runtime *runtime,
                         const struct layer_weights *layer, const struct scratch *s) {
    const struct norm_args norm = norm_of(clip, s, layer->norm2_mul, layer->norm2_add);
    run_norm_linear(
        runtime, s->wide, &norm, &layer->ffn_in, s->rows,
        &(struct linear_epilogue){.activation = ACTIVATION_GELU_ERF, .out_dtype = runtime->dtype});
    run_linear(runtime, s->x, s->wide, &layer->ffn_out, s->rows,
               &(struct linear_epilogue){.accumulate = true, .out_dtype = DTYPE_F32});
}

enum error_code clip_encode(const struct clip *clip, struct runtime *runtime, float *rows,
                            const uint8_t *rgb, int height, int width, struct error *error) {
    const struct clip_config *config = &clip->config;
    struct scratch s = {.x = rows, .rows = clip_rows(config)};
    int64_t wide = config->ffn > 3 * config->width ? config->ffn : 3 * config->width;
    size_t mark = runtime->work->used;
    enum error_code code = embed(clip, runtime, s.x, rgb, height, width, error);
    arena_reset(runtime->work, mark);
    if (code != ERR_OK)
        return code;
    s.in = work_alloc(runtime, s.rows * config->width, runtime->dtype);
    s.wide = work_alloc(runtime, s.rows * wide, runtime->dtype);
    for (int i = 0; i < config->layers - 1; i++) {
        run_block(runtime, clip->stream, i);
        attend(clip, runtime, &clip->layer[i], &s);
        feed_forward(clip, runtime, &clip->layer[i], &s);
    }
    arena_reset(runtime->work, mark);
    return runtime->ops->status(runtime->device, error);
}
