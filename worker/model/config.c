#include "worker/model/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"

#define CONFIG_BYTES_MAX (1u << 20)

/* Wan2.1's latent statistics: the default of AutoencoderKLWan. */
static const float wan21_mean[16] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                     -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                     -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
static const float wan21_deviation[16] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f,
                                          2.6052f, 2.0743f, 3.2687f, 2.1526f, 2.8652f, 1.5579f,
                                          1.6382f, 1.1253f, 2.8251f, 1.9160f};

/* One JSON object being read. The first error sticks, so that a reader is a list of fields. */
struct reader {
    struct arena arena;
    char path[FILE_PATH_BYTES];
    const struct json *root;
    enum error_code code;
    struct error *error;
};

static void open_reader(struct reader *reader, const char *folder, const char *name,
                        struct error *error) {
    memset(reader, 0, sizeof *reader);
    reader->error = error;
    reader->code = file_join(reader->path, folder, name, error);
    if (reader->code == ERR_OK)
        reader->code = arena_open(&reader->arena, 64u << 20, error);
    char *text;
    size_t length;
    if (reader->code == ERR_OK)
        reader->code =
            file_read(&text, &length, &reader->arena, reader->path, CONFIG_BYTES_MAX, error);
    if (reader->code != ERR_OK)
        return;
    reader->code = json_parse(&reader->root, &reader->arena, text, length, error);
    if (reader->code != ERR_OK)
        reader->code = error_prefix(error, "%s:", reader->path);
    else if (reader->root->type != JSON_OBJECT)
        reader->code = error_set(error, ERR_FORMAT, "%s: expected a JSON object", reader->path);
}

static enum error_code close_reader(struct reader *reader) {
    arena_close(&reader->arena);
    return reader->code;
}

/* The field, or NULL where it is absent or null, or an error came before. */
static const struct json *field(const struct reader *reader, const char *key) {
    const struct json *value = reader->code == ERR_OK ? json_get(reader->root, key) : NULL;
    return value == NULL || value->type == JSON_NULL ? NULL : value;
}

static int read_int(struct reader *reader, const char *key, int fallback, int min, int max) {
    const struct json *value = field(reader, key);
    if (value == NULL && fallback >= min)
        return fallback;
    if (reader->code != ERR_OK)
        return min;
    if (value == NULL)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: '%s' is missing; expected a whole "
                                 "number from %d to %d",
                                 reader->path, key, min, max);
    else if (value->type != JSON_NUMBER || !value->is_integer || value->integer < min ||
             value->integer > max)
        reader->code =
            error_set(reader->error, ERR_FORMAT, "%s: '%s' must be a whole number from %d to %d",
                      reader->path, key, min, max);
    return reader->code == ERR_OK ? (int)value->integer : min;
}

#define REQUIRED (-1) /* as a fallback below every minimum */

static float read_float(struct reader *reader, const char *key, double fallback, double min,
                        double max) {
    const struct json *value = field(reader, key);
    if (value == NULL)
        return (float)fallback;
    if (value->type != JSON_NUMBER || !(value->number >= min && value->number <= max)) {
        reader->code =
            error_set(reader->error, ERR_FORMAT, "%s: '%s' must be a number from %g to %g",
                      reader->path, key, min, max);
        return (float)fallback;
    }
    return (float)value->number;
}

/* A list of `min` to `max` whole numbers; *count stays and `out` too where it is absent. */
static void read_ints(struct reader *reader, const char *key, int *out, int *count, int max,
                      int low, int high) {
    const struct json *value = field(reader, key);
    if (value == NULL)
        return;
    bool good = value->type == JSON_ARRAY && value->length <= (size_t)max;
    int n = 0;
    for (const struct json *item = good ? value->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_NUMBER && item->is_integer && item->integer >= low &&
               item->integer <= high;
        out[n++] = good ? (int)item->integer : low;
    }
    *count = n;
    if (!good)
        reader->code =
            error_set(reader->error, ERR_FORMAT,
                      "%s: '%s' must be a list of at most %d whole numbers from %d to %d",
                      reader->path, key, max, low, high);
}

static void read_floats(struct reader *reader, const char *key, float *out, int *count, int max) {
    const struct json *value = field(reader, key);
    if (value == NULL)
        return;
    bool good = value->type == JSON_ARRAY && value->length <= (size_t)max;
    int n = 0;
    for (const struct json *item = good ? value->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_NUMBER;
        out[n++] = (float)item->number;
    }
    *count = n;
    if (!good)
        reader->code =
            error_set(reader->error, ERR_FORMAT, "%s: '%s' must be a list of at most %d numbers",
                      reader->path, key, max);
}

static bool read_bool(struct reader *reader, const char *key, bool fallback) {
    const struct json *value = field(reader, key);
    if (value == NULL)
        return fallback;
    if (value->type != JSON_BOOL)
        reader->code = error_set(reader->error, ERR_FORMAT, "%s: '%s' must be true or false",
                                 reader->path, key);
    return value->boolean;
}

/* A setting that only has one value here: refuse others by name. */
static void must_be_text(struct reader *reader, const char *key, const char *only) {
    const struct json *value = field(reader, key);
    if (value != NULL && (value->type != JSON_STRING || strcmp(value->string, only) != 0))
        reader->code =
            error_set(reader->error, ERR_UNSUPPORTED, "%s: '%s' is %s%s%s; only '%s' is supported",
                      reader->path, key, value->type == JSON_STRING ? "'" : "not a text",
                      value->type == JSON_STRING ? value->string : "",
                      value->type == JSON_STRING ? "'" : "", only);
}

static void must_be_bool(struct reader *reader, const char *key, bool only) {
    const struct json *value = field(reader, key);
    if (value != NULL && (value->type != JSON_BOOL || value->boolean != only))
        reader->code = error_set(reader->error, ERR_UNSUPPORTED,
                                 "%s: '%s' must be %s; other models are not "
                                 "supported",
                                 reader->path, key, only ? "true" : "false");
}

/* -- components ----------------------------------------------------------------------------- */

enum error_code config_read_umt5(struct umt5_config *out, const char *folder, struct error *error) {
    struct reader reader;
    open_reader(&reader, folder, "config.json", error);
    must_be_text(&reader, "model_type", "umt5");
    must_be_text(&reader, "feed_forward_proj", "gated-gelu");
    *out = (struct umt5_config){
        .vocabulary = read_int(&reader, "vocab_size", REQUIRED, 4, 1 << 20),
        .width = read_int(&reader, "d_model", REQUIRED, 1, 1 << 14),
        .head_dim = read_int(&reader, "d_kv", REQUIRED, 4, 1024),
        .heads = read_int(&reader, "num_heads", REQUIRED, 1, 256),
        .ffn = read_int(&reader, "d_ff", REQUIRED, 1, 1 << 17),
        .layers = read_int(&reader, "num_layers", REQUIRED, 1, 256),
        .buckets = read_int(&reader, "relative_attention_num_buckets", 32, 4, 1024),
        .max_distance = read_int(&reader, "relative_attention_max_distance", 128, 2, 1 << 20),
        .eps = read_float(&reader, "layer_norm_epsilon", 1e-6, 0, 1),
    };
    if (reader.code == ERR_OK && (out->buckets % 4 != 0 || out->max_distance <= out->buckets / 4))
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: %d relative positions in %d buckets are not supported",
                                reader.path, out->max_distance, out->buckets);
    if (reader.code == ERR_OK && out->head_dim % 4 != 0)
        reader.code =
            error_set(error, ERR_UNSUPPORTED, "%s: 'd_kv' is %d; it must be a multiple of 4",
                      reader.path, out->head_dim);
    return close_reader(&reader);
}

/* The original layout's config.json: dim, num_heads, in_dim, …; the rest is fixed by the code
 * that it comes with. */
static void read_original_transformer(struct reader *reader, struct transformer_config *out) {
    *out = (struct transformer_config){
        .width = read_int(reader, "dim", REQUIRED, 8, 1 << 14),
        .heads = read_int(reader, "num_heads", REQUIRED, 1, 256),
        .in_channels = read_int(reader, "in_dim", REQUIRED, 1, 256),
        .out_channels = read_int(reader, "out_dim", REQUIRED, 1, 256),
        .text_width = read_int(reader, "text_dim", 4096, 1, 1 << 14),
        .frequencies = read_int(reader, "freq_dim", 256, 2, 1 << 12),
        .ffn = read_int(reader, "ffn_dim", REQUIRED, 1, 1 << 17),
        .layers = read_int(reader, "num_layers", REQUIRED, 1, 256),
        .eps = read_float(reader, "eps", 1e-6, 0, 1),
    };
    if (reader->code == ERR_OK && out->width % out->heads != 0)
        reader->code =
            error_set(reader->error, ERR_FORMAT, "%s: 'dim' %d is not a multiple of 'num_heads' %d",
                      reader->path, out->width, out->heads);
    out->head_dim = out->width / out->heads;
}

static void read_diffusers_transformer(struct reader *reader, struct transformer_config *out) {
    must_be_text(reader, "_class_name", "WanTransformer3DModel");
    must_be_text(reader, "qk_norm", "rms_norm_across_heads");
    must_be_bool(reader, "cross_attn_norm", true);
    int patch[3] = {1, 2, 2}, patch_rank = 3;
    read_ints(reader, "patch_size", patch, &patch_rank, 3, 1, 64);
    *out = (struct transformer_config){
        .heads = read_int(reader, "num_attention_heads", 40, 1, 256),
        .head_dim = read_int(reader, "attention_head_dim", 128, 8, 1024),
        .in_channels = read_int(reader, "in_channels", 16, 1, 256),
        .out_channels = read_int(reader, "out_channels", 16, 1, 256),
        .text_width = read_int(reader, "text_dim", 4096, 1, 1 << 14),
        .frequencies = read_int(reader, "freq_dim", 256, 2, 1 << 12),
        .ffn = read_int(reader, "ffn_dim", 13824, 1, 1 << 17),
        .layers = read_int(reader, "num_layers", 40, 1, 256),
        .image_width = read_int(reader, "image_dim", 0, 0, 1 << 14),
        .eps = read_float(reader, "eps", 1e-6, 0, 1),
    };
    out->width = out->heads * out->head_dim;
    if (reader->code == ERR_OK &&
        (patch_rank != 3 || patch[0] != 1 || patch[1] != 2 || patch[2] != 2))
        reader->code = error_set(reader->error, ERR_UNSUPPORTED,
                                 "%s: 'patch_size' must be [1, 2, 2]", reader->path);
}

enum error_code config_read_transformer(struct transformer_config *out, const char *folder,
                                        struct error *error) {
    struct reader reader;
    open_reader(&reader, folder, "config.json", error);
    if (field(&reader, "dim") != NULL)
        read_original_transformer(&reader, out);
    else
        read_diffusers_transformer(&reader, out);
    if (reader.code == ERR_OK && (out->head_dim % 4 != 0 || out->frequencies % 2 != 0))
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: a head dimension of %d with %d frequencies is not supported",
                                reader.path, out->head_dim, out->frequencies);
    if (reader.code == ERR_OK && out->image_width != 0)
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: 'image_dim' is %d: an image-to-video model with a CLIP "
                                "branch, which is not supported yet",
                                reader.path, out->image_width);
    return close_reader(&reader);
}

static void read_time_down(struct reader *reader, struct vae_config *out) {
    static const bool usual[] = {false, true, true};
    for (int i = 0; i < out->levels - 1; i++)
        out->time_down[i] = i < 3 && usual[i];
    const struct json *list = field(reader, "temperal_downsample"); /* spelt so in the file */
    if (list == NULL)
        return;
    bool good = list->type == JSON_ARRAY && list->length == (size_t)(out->levels - 1);
    int n = 0;
    for (const struct json *item = good ? list->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_BOOL;
        out->time_down[n++] = item->boolean;
    }
    if (!good)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'temperal_downsample' must be a list of %d booleans",
                                 reader->path, out->levels - 1);
}

static void read_statistics(struct reader *reader, struct vae_config *out) {
    int means = 16, deviations = 16;
    memcpy(out->mean, wan21_mean, sizeof wan21_mean);
    memcpy(out->deviation, wan21_deviation, sizeof wan21_deviation);
    read_floats(reader, "latents_mean", out->mean, &means, CONFIG_CHANNELS_MAX);
    read_floats(reader, "latents_std", out->deviation, &deviations, CONFIG_CHANNELS_MAX);
    bool good = means == out->latent_channels && deviations == out->latent_channels;
    for (int i = 0; good && i < deviations; i++)
        good = out->deviation[i] > 0;
    if (reader->code == ERR_OK && !good)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'latents_mean' and 'latents_std' must be lists of %d numbers "
                                 "('z_dim'), the latter above 0",
                                 reader->path, out->latent_channels);
}

/* A shortcut gives each channel a whole number of others: averaged on the way down, repeated on the
 * way up. */
static bool shortcuts_divide(const struct vae_config *config) {
    int last = config->levels - 1;
    for (int i = 0; i <= last; i++) {
        int from = i == 0 ? 1 : config->multiple[i - 1];
        int factor = i == last ? 1 : config->time_down[i] ? 8 : 4;
        if (from * factor % config->multiple[i] != 0)
            return false;
    }
    for (int i = 0; i < last; i++) {
        int from = config->multiple[i == 0 ? last : last - i + 1];
        int factor = config->time_down[last - 1 - i] ? 8 : 4;
        if (config->multiple[last - i] * factor % from != 0)
            return false;
    }
    return true;
}

/* What the layers ask of the numbers of channels. */
static void check_vae_widths(struct reader *reader, const struct vae_config *config) {
    int last = config->multiple[config->levels - 1];
    int middle[] = {config->width * last, config->decoder_width * last};
    for (int i = 0; i < 2 && reader->code == ERR_OK; i++)
        if (middle[i] % 4 != 0 || middle[i] > 1024)
            reader->code =
                error_set(reader->error, ERR_UNSUPPORTED,
                          "%s: a middle of %d channels; it must be a multiple of 4 up to "
                          "1024",
                          reader->path, middle[i]);
    if (reader->code == ERR_OK && config->residual && !shortcuts_divide(config))
        reader->code = error_set(
            reader->error, ERR_UNSUPPORTED,
            "%s: 'dim_mult' leaves shortcuts ('is_residual') a part of a channel", reader->path);
    /* Without shortcuts, up-sampling halves the width, and the next level multiplies it. */
    for (int i = 1; reader->code == ERR_OK && !config->residual && i < config->levels; i++)
        if (config->decoder_width * config->multiple[i] % 2 != 0)
            reader->code = error_set(reader->error, ERR_UNSUPPORTED,
                                     "%s: level %d has an odd number of channels", reader->path, i);
}

enum error_code config_read_vae(struct vae_config *out, const char *folder, struct error *error) {
    struct reader reader;
    open_reader(&reader, folder, "config.json", error);
    must_be_text(&reader, "_class_name", "AutoencoderKLWan");
    memset(out, 0, sizeof *out);
    out->residual = read_bool(&reader, "is_residual", false);
    out->patch = read_int(&reader, "patch_size", 1, 1, 2);
    out->space_stride = 8 * out->patch;
    out->width = read_int(&reader, "base_dim", 96, 1, 1024);
    out->decoder_width = read_int(&reader, "decoder_base_dim", out->width, 1, 1024);
    out->latent_channels = read_int(&reader, "z_dim", 16, 1, CONFIG_CHANNELS_MAX);
    out->res_blocks = read_int(&reader, "num_res_blocks", 2, 1, 8);
    const int usual[] = {1, 2, 4, 4};
    memcpy(out->multiple, usual, sizeof usual);
    out->levels = 4;
    read_ints(&reader, "dim_mult", out->multiple, &out->levels, CONFIG_LEVELS_MAX, 1, 64);
    int none[1], attentions = 0;
    read_ints(&reader, "attn_scales", none, &attentions, 0, 0, 0);
    int channels = 3 * out->patch * out->patch, stride = out->space_stride;
    (void)read_int(&reader, "in_channels", 3, channels, channels);
    (void)read_int(&reader, "out_channels", 3, channels, channels);
    (void)read_int(&reader, "scale_factor_temporal", 4, 4, 4);
    (void)read_int(&reader, "scale_factor_spatial", stride, stride, stride);
    if (reader.code == ERR_OK && out->levels != 4)
        reader.code =
            error_set(error, ERR_UNSUPPORTED, "%s: 'dim_mult' has %d levels; only 4 are supported",
                      reader.path, out->levels);
    if (reader.code == ERR_OK)
        read_time_down(&reader, out);
    int strides = 0;
    for (int i = 0; i < out->levels - 1; i++)
        strides += out->time_down[i];
    if (reader.code == ERR_OK && strides != 2)
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: 'temperal_downsample' must be true twice (a time stride of 4)",
                                reader.path);
    check_vae_widths(&reader, out);
    if (reader.code == ERR_OK)
        read_statistics(&reader, out);
    return close_reader(&reader);
}

/* -- the folder ------------------------------------------------------------------------------ */

static void read_sigmas(struct reader *reader, struct scheduler_config *out) {
    read_floats(reader, "sigmas", out->sigma, &out->sigma_count, CONFIG_SIGMAS_MAX);
    if (out->sigma_count == 0)
        return;
    bool good =
        out->sigma_count >= 2 && out->sigma[0] <= 1 && out->sigma[out->sigma_count - 1] == 0;
    for (int i = 1; i < out->sigma_count; i++)
        good = good && out->sigma[i] < out->sigma[i - 1];
    if (reader->code == ERR_OK && !good)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'sigmas' must fall from at most 1 to 0", reader->path);
    if (reader->code == ERR_OK && out->steps != out->sigma_count - 1)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'num_inference_steps' is %d, but 'sigmas' are those of %d "
                                 "steps",
                                 reader->path, out->steps, out->sigma_count - 1);
}

static enum error_code read_scheduler(struct scheduler_config *out, const char *folder,
                                      struct error *error) {
    struct reader reader;
    open_reader(&reader, folder, "scheduler/scheduler_config.json", error);
    memset(out, 0, sizeof *out);
    const char *class = reader.code == ERR_OK ? json_text(reader.root, "_class_name", "") : "";
    if (strcmp(class, "UniPCMultistepScheduler") == 0) {
        out->sampler = SAMPLER_UNIPC;
        (void)read_int(&reader, "solver_order", 2, 2, 2);
        must_be_text(&reader, "solver_type", "bh2");
        must_be_bool(&reader, "predict_x0", true);
        must_be_text(&reader, "prediction_type", "flow_prediction");
        must_be_bool(&reader, "use_flow_sigmas", true);
    } else if (strcmp(class, "FlowMatchEulerDiscreteScheduler") == 0) {
        out->sampler = SAMPLER_EULER;
        must_be_bool(&reader, "use_dynamic_shifting", false);
    } else if (reader.code == ERR_OK) {
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: '_class_name' is '%s'; supported are UniPCMultistepScheduler "
                                "and FlowMatchEulerDiscreteScheduler",
                                reader.path, class);
    }
    if (field(&reader, "stochastic_sampling") != NULL &&
        json_bool(reader.root, "stochastic_sampling", false))
        out->sampler = SAMPLER_RENOISE;
    (void)read_int(&reader, "num_train_timesteps", 1000, 1000, 1000);
    out->shift = read_float(&reader, "shift", 1, 1e-3, 1e3);
    out->shift = read_float(&reader, "flow_shift", out->shift, 1e-3, 1e3);
    out->guidance = read_float(&reader, "guidance_scale", 5, 0, 100);
    out->steps = read_int(&reader, "num_inference_steps", 50, 1, CONFIG_SIGMAS_MAX - 1);
    read_sigmas(&reader, out);
    return close_reader(&reader);
}

static enum error_code read_text_length(int *out, const char *folder, struct error *error) {
    struct reader reader;
    open_reader(&reader, folder, "tokenizer/tokenizer_config.json", error);
    *out = read_int(&reader, "model_max_length", 512, 2, 4096);
    return close_reader(&reader);
}

static bool has_folder(const char *folder, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, folder, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

/* The pocket family and what is built like it. */
static void read_windowed(struct reader *reader, struct model_config *out, const char *folder) {
    (void)snprintf(out->family, sizeof out->family, "pocket");
    (void)snprintf(out->keyframe, sizeof out->keyframe,
                   has_folder(folder, "keyframe") ? "keyframe" : "");
    (void)snprintf(out->window, sizeof out->window, has_folder(folder, "window") ? "window" : "");
    must_be_text(reader, "window_condition", "latent_zeros");
    out->condition = WINDOW_LATENT_ZEROS;
    out->width = read_int(reader, "width", REQUIRED, 16, 8192);
    out->height = read_int(reader, "height", REQUIRED, 16, 8192);
    out->fps = read_int(reader, "fps", REQUIRED, 1, 240);
    out->window_frames = read_int(reader, "window_frames", REQUIRED, 5, 1025);
    read_ints(reader, "window_overlaps", out->overlaps, &out->overlap_count, 4, 1, 1024);
}

/* The published pipelines: one transformer, in transformer/. */
static void read_published(struct reader *reader, struct model_config *out, const char *class) {
    if (field(reader, "transformer_2") != NULL && field(reader, "boundary_ratio") != NULL)
        reader->code = error_set(reader->error, ERR_UNSUPPORTED,
                                 "%s: a Wan2.2 pipeline of two experts, which is not supported yet",
                                 reader->path);
    must_be_bool(reader, "expand_timesteps", false);
    (void)snprintf(out->family, sizeof out->family, "wan2.1");
    bool image = strcmp(class, "WanImageToVideoPipeline") == 0;
    (void)snprintf(image ? out->window : out->keyframe, sizeof out->window, "transformer");
    out->condition = WINDOW_GREY_FRAMES;
    out->width = 832;
    out->height = 480;
    out->fps = 16;
    out->window_frames = 81;
    out->overlaps[0] = 1;
    out->overlap_count = 1;
}

static void check_model(struct reader *reader, const struct model_config *out) {
    bool good = out->overlap_count > 0;
    for (int i = 0; i < out->overlap_count; i++)
        good = good && out->overlaps[i] % 4 == 1 && out->overlaps[i] < out->window_frames;
    if (reader->code == ERR_OK && !good)
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'window_overlaps' must be numbers 4n+1 below window_frames",
                                 reader->path);
    if (reader->code == ERR_OK && out->window_frames % 4 != 1)
        reader->code =
            error_set(reader->error, ERR_FORMAT, "%s: 'window_frames' must be 4n+1", reader->path);
    if (reader->code == ERR_OK && (out->width % 16 != 0 || out->height % 16 != 0))
        reader->code = error_set(reader->error, ERR_FORMAT,
                                 "%s: 'width' and 'height' must be multiples of 16", reader->path);
}

enum error_code config_read_model(struct model_config *out, const char *folder,
                                  struct error *error) {
    memset(out, 0, sizeof *out);
    struct reader reader;
    open_reader(&reader, folder, "model_index.json", error);
    if (reader.code == ERR_MISSING && !has_folder(folder, "."))
        reader.code = error_set(error, ERR_MISSING, "%s: there is no such model folder", folder);
    else if (reader.code == ERR_MISSING)
        reader.code = error_set(error, ERR_MISSING,
                                "%s is no model folder: it has no model_index.json", folder);
    const char *class = reader.code == ERR_OK ? json_text(reader.root, "_class_name", "") : "";
    if (strcmp(class, "WanWindowPipeline") == 0)
        read_windowed(&reader, out, folder);
    else if (strcmp(class, "WanPipeline") == 0 || strcmp(class, "WanImageToVideoPipeline") == 0)
        read_published(&reader, out, class);
    else if (reader.code == ERR_OK)
        reader.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: '_class_name' is '%s'; supported are WanWindowPipeline, "
                                "WanPipeline and WanImageToVideoPipeline",
                                reader.path, class);
    check_model(&reader, out);
    enum error_code code = close_reader(&reader);
    if (code == ERR_OK)
        code = read_scheduler(&out->scheduler, folder, error);
    if (code == ERR_OK)
        code = read_text_length(&out->text_length, folder, error);
    return code;
}
