#include "worker/model/config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "worker/model/clip.h"
#include "worker/model/describe.h"
#include "worker/model/fields.h"

/* Wan2.1's latent statistics: the default of AutoencoderKLWan. */
static const float wan21_mean[16] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                     -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                     -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
static const float wan21_deviation[16] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f,
                                          2.6052f, 2.0743f, 3.2687f, 2.1526f, 2.8652f, 1.5579f,
                                          1.6382f, 1.1253f, 2.8251f, 1.9160f};

enum error_code config_read_umt5(struct umt5_config *out, const char *folder,
                                 const struct weights *weights, struct error *error) {
    struct fields fields;
    fields_open_config(&fields, folder, weights, NAMES_UMT5, error);
    fields_must_be_text(&fields, "model_type", "umt5");
    fields_must_be_text(&fields, "feed_forward_proj", "gated-gelu");
    *out = (struct umt5_config){
        .vocabulary = fields_int(&fields, "vocab_size", FIELDS_REQUIRED, 4, 1 << 20),
        .width = fields_int(&fields, "d_model", FIELDS_REQUIRED, 1, 1 << 14),
        .head_dim = fields_int(&fields, "d_kv", FIELDS_REQUIRED, 4, 1024),
        .heads = fields_int(&fields, "num_heads", FIELDS_REQUIRED, 1, 256),
        .ffn = fields_int(&fields, "d_ff", FIELDS_REQUIRED, 1, 1 << 17),
        .layers = fields_int(&fields, "num_layers", FIELDS_REQUIRED, 1, 256),
        .buckets = fields_int(&fields, "relative_attention_num_buckets", 32, 4, 1024),
        .max_distance = fields_int(&fields, "relative_attention_max_distance", 128, 2, 1 << 20),
        .eps = fields_float(&fields, "layer_norm_epsilon", 1e-6, 0, 1),
    };
    if (fields.code == ERR_OK && (out->buckets % 4 != 0 || out->max_distance <= out->buckets / 4))
        fields.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: %d relative positions in %d buckets are not supported",
                                fields.path, out->max_distance, out->buckets);
    if (fields.code == ERR_OK && out->head_dim % 4 != 0)
        fields.code =
            error_set(error, ERR_UNSUPPORTED, "%s: 'd_kv' is %d; it must be a multiple of 4",
                      fields.path, out->head_dim);
    return fields_close(&fields);
}

/* The original layout's config.json: dim, num_heads, in_dim, …; the rest is fixed by the code
 * that it comes with. */
static void read_original_transformer(struct fields *fields, struct transformer_config *out) {
    *out = (struct transformer_config){
        .width = fields_int(fields, "dim", FIELDS_REQUIRED, 8, 1 << 14),
        .heads = fields_int(fields, "num_heads", FIELDS_REQUIRED, 1, 256),
        .in_channels = fields_int(fields, "in_dim", FIELDS_REQUIRED, 1, 256),
        .out_channels = fields_int(fields, "out_dim", FIELDS_REQUIRED, 1, 256),
        .text_width = fields_int(fields, "text_dim", 4096, 1, 1 << 14),
        .frequencies = fields_int(fields, "freq_dim", 256, 2, 1 << 12),
        .ffn = fields_int(fields, "ffn_dim", FIELDS_REQUIRED, 1, 1 << 17),
        .layers = fields_int(fields, "num_layers", FIELDS_REQUIRED, 1, 256),
        .eps = fields_float(fields, "eps", 1e-6, 0, 1),
    };
    if (fields->code == ERR_OK && out->width % out->heads != 0)
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: 'dim' %d is not a multiple of 'num_heads' %d",
                      fields->path, out->width, out->heads);
    out->head_dim = out->width / out->heads;
}

static void read_diffusers_transformer(struct fields *fields, struct transformer_config *out) {
    fields_must_be_text(fields, "_class_name", "WanTransformer3DModel");
    fields_must_be_text(fields, "qk_norm", "rms_norm_across_heads");
    fields_must_be_bool(fields, "cross_attn_norm", true);
    int patch[3] = {1, 2, 2}, patch_rank = 3;
    fields_ints(fields, "patch_size", patch, &patch_rank, 3, 1, 64);
    *out = (struct transformer_config){
        .heads = fields_int(fields, "num_attention_heads", 40, 1, 256),
        .head_dim = fields_int(fields, "attention_head_dim", 128, 8, 1024),
        .in_channels = fields_int(fields, "in_channels", 16, 1, 256),
        .out_channels = fields_int(fields, "out_channels", 16, 1, 256),
        .text_width = fields_int(fields, "text_dim", 4096, 1, 1 << 14),
        .frequencies = fields_int(fields, "freq_dim", 256, 2, 1 << 12),
        .ffn = fields_int(fields, "ffn_dim", 13824, 1, 1 << 17),
        .layers = fields_int(fields, "num_layers", 40, 1, 256),
        .image_width = fields_int(fields, "image_dim", 0, 0, 1 << 14),
        .image_rows = fields_int(fields, "pos_embed_seq_len", 0, 0, 1 << 14),
        .eps = fields_float(fields, "eps", 1e-6, 0, 1),
    };
    out->width = out->heads * out->head_dim;
    (void)fields_int(fields, "added_kv_proj_dim", out->width, out->width, out->width);
    if (fields->code == ERR_OK && out->image_width > 0 &&
        fields_get(fields, "added_kv_proj_dim") == NULL)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'image_dim' is %d, but 'added_kv_proj_dim' is null: pictures "
                                 "would be read and not used; expected %d, or neither",
                                 fields->path, out->image_width, out->width);
    if (fields->code == ERR_OK &&
        (patch_rank != 3 || patch[0] != 1 || patch[1] != 2 || patch[2] != 2))
        fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                 "%s: 'patch_size' must be [1, 2, 2]", fields->path);
}

enum error_code config_read_transformer(struct transformer_config *out, const char *folder,
                                        const struct weights *weights, struct error *error) {
    struct fields fields;
    fields_open_config(&fields, folder, weights, NAMES_TRANSFORMER, error);
    if (fields_get(&fields, "dim") != NULL)
        read_original_transformer(&fields, out);
    else
        read_diffusers_transformer(&fields, out);
    if (fields.code == ERR_OK && (out->head_dim % 4 != 0 || out->frequencies % 2 != 0))
        fields.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: a head dimension of %d with %d frequencies is not supported",
                                fields.path, out->head_dim, out->frequencies);
    return fields_close(&fields);
}

enum error_code config_read_clip(struct clip_config *out, const char *folder,
                                 const struct weights *weights, struct error *error) {
    struct fields fields;
    fields_open_config(&fields, folder, weights, NAMES_CLIP, error);
    fields_must_be_text(&fields, "model_type", "clip_vision_model");
    fields_must_be_text(&fields, "hidden_act", "gelu");
    (void)fields_int(&fields, "num_channels", 3, 3, 3);
    *out = (struct clip_config){
        .width = fields_int(&fields, "hidden_size", FIELDS_REQUIRED, 4, 1 << 14),
        .heads = fields_int(&fields, "num_attention_heads", FIELDS_REQUIRED, 1, 256),
        .ffn = fields_int(&fields, "intermediate_size", FIELDS_REQUIRED, 1, 1 << 17),
        .layers = fields_int(&fields, "num_hidden_layers", FIELDS_REQUIRED, 2, 256),
        .image_size = fields_int(&fields, "image_size", FIELDS_REQUIRED, 1, 1024),
        .patch = fields_int(&fields, "patch_size", FIELDS_REQUIRED, 1, 256),
        .eps = fields_float(&fields, "layer_norm_eps", 1e-5, 0, 1),
    };
    if (fields.code == ERR_OK &&
        (out->width % (4 * out->heads) != 0 || out->patch > out->image_size))
        fields.code =
            error_set(error, ERR_UNSUPPORTED,
                      "%s: a width of %d in %d heads with patches of %d in %d pixels is not "
                      "supported",
                      fields.path, out->width, out->heads, out->patch, out->image_size);
    out->head_dim = out->width / out->heads;
    return fields_close(&fields);
}

static void read_time_down(struct fields *fields, struct vae_config *out) {
    static const bool usual[] = {false, true, true};
    for (int i = 0; i < out->levels - 1; i++)
        out->time_down[i] = i < 3 && usual[i];
    const struct json *list = fields_get(fields, "temperal_downsample"); /* spelt so in the file */
    if (list == NULL)
        return;
    bool good = list->type == JSON_ARRAY && list->length == (size_t)(out->levels - 1);
    int n = 0;
    for (const struct json *item = good ? list->child : NULL; item != NULL; item = item->next) {
        good = good && item->type == JSON_BOOL;
        out->time_down[n++] = item->boolean;
    }
    if (!good)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'temperal_downsample' must be a list of %d booleans",
                                 fields->path, out->levels - 1);
}

static void read_statistics(struct fields *fields, struct vae_config *out) {
    int means = 16, deviations = 16;
    memcpy(out->mean, wan21_mean, sizeof wan21_mean);
    memcpy(out->deviation, wan21_deviation, sizeof wan21_deviation);
    fields_floats(fields, "latents_mean", out->mean, &means, CONFIG_CHANNELS_MAX);
    fields_floats(fields, "latents_std", out->deviation, &deviations, CONFIG_CHANNELS_MAX);
    bool good = means == out->latent_channels && deviations == out->latent_channels;
    for (int i = 0; good && i < deviations; i++)
        good = out->deviation[i] > 0;
    if (fields->code == ERR_OK && !good)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'latents_mean' and 'latents_std' must be lists of %d numbers "
                                 "('z_dim'), the latter above 0",
                                 fields->path, out->latent_channels);
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
static void check_vae_widths(struct fields *fields, const struct vae_config *config) {
    int last = config->multiple[config->levels - 1];
    int middle[] = {config->width * last, config->decoder_width * last};
    for (int i = 0; i < 2 && fields->code == ERR_OK; i++)
        if (middle[i] % 4 != 0 || middle[i] > 1024)
            fields->code =
                error_set(fields->error, ERR_UNSUPPORTED,
                          "%s: a middle of %d channels; it must be a multiple of 4 up to "
                          "1024",
                          fields->path, middle[i]);
    if (fields->code == ERR_OK && config->residual && !shortcuts_divide(config))
        fields->code = error_set(
            fields->error, ERR_UNSUPPORTED,
            "%s: 'dim_mult' leaves shortcuts ('is_residual') a part of a channel", fields->path);
    /* Without shortcuts, up-sampling halves the width, and the next level multiplies it. */
    for (int i = 1; fields->code == ERR_OK && !config->residual && i < config->levels; i++)
        if (config->decoder_width * config->multiple[i] % 2 != 0)
            fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                     "%s: level %d has an odd number of channels", fields->path, i);
}

/* A number, or an object with it under each of these keys: 224, {"height": 224, "width": 224}. */
static void must_be_size(struct fields *fields, const char *key, const char *const *inner,
                         int only) {
    const struct json *value = fields_get(fields, key);
    bool good = value == NULL || (value->type == JSON_NUMBER && value->number == only);
    if (value != NULL && value->type == JSON_OBJECT) {
        good = true;
        for (; *inner != NULL; inner++) {
            const struct json *side = json_get(value, *inner);
            good = good && side != NULL && side->type == JSON_NUMBER && side->number == only;
        }
    }
    if (!good)
        fields->code = error_set(fields->error, ERR_UNSUPPORTED,
                                 "%s: '%s' is not the image encoder's size, %d; no other is "
                                 "supported",
                                 fields->path, key, only);
}

static void must_be_floats(struct fields *fields, const char *key, const float *only) {
    float values[3] = {0};
    int count = 0;
    if (fields_get(fields, key) == NULL)
        return;
    fields_floats(fields, key, values, &count, 3);
    bool good = count == 3;
    for (int i = 0; i < 3; i++)
        good = good && fabsf(values[i] - only[i]) < 1e-6f;
    if (fields->code == ERR_OK && !good)
        fields->code =
            error_set(fields->error, ERR_UNSUPPORTED,
                      "%s: '%s' must be [%g, %g, %g]; other models are not supported", fields->path,
                      key, (double)only[0], (double)only[1], (double)only[2]);
}

enum error_code config_check_picture(const struct clip_config *config, const char *folder,
                                     struct error *error) {
    static const char name[] = "image_processor/preprocessor_config.json";
    static const char *const steps[] = {"do_resize", "do_center_crop", "do_rescale",
                                        "do_normalize"};
    static const char *const shorter[] = {"shortest_edge", NULL};
    static const char *const sides[] = {"height", "width", NULL};
    char path[FILE_PATH_BYTES];
    struct fields fields;
    enum error_code code = file_join(path, folder, name, error);
    if (code != ERR_OK || access(path, F_OK) != 0)
        return code;
    fields_open(&fields, folder, name, error);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        fields_must_be_bool(&fields, steps[i], true);
    if (fields_get(&fields, "resample") != NULL)
        (void)fields_int(&fields, "resample", 3, 3, 3); /* Pillow's bicubic */
    (void)fields_float(&fields, "rescale_factor", 1.0 / 255, 0.003921568, 0.003921570);
    must_be_size(&fields, "size", shorter, config->image_size);
    must_be_size(&fields, "crop_size", sides, config->image_size);
    must_be_floats(&fields, "image_mean", clip_pixel_mean);
    must_be_floats(&fields, "image_std", clip_pixel_deviation);
    return fields_close(&fields);
}

enum error_code config_read_vae(struct vae_config *out, const char *folder,
                                const struct weights *weights, struct error *error) {
    struct fields fields;
    enum names_component component = NAMES_VAE;
    if (weights != NULL)
        (void)describe_component(&component, weights);
    fields_open_config(&fields, folder, weights, component, error);
    fields_must_be_text(&fields, "_class_name", "AutoencoderKLWan");
    memset(out, 0, sizeof *out);
    out->residual = fields_bool(&fields, "is_residual", false);
    out->patch = fields_int(&fields, "patch_size", 1, 1, 2);
    out->space_stride = 8 * out->patch;
    out->width = fields_int(&fields, "base_dim", 96, 1, 1024);
    out->decoder_width = fields_int(&fields, "decoder_base_dim", out->width, 1, 1024);
    out->latent_channels = fields_int(&fields, "z_dim", 16, 1, CONFIG_CHANNELS_MAX);
    out->res_blocks = fields_int(&fields, "num_res_blocks", 2, 1, 8);
    const int usual[] = {1, 2, 4, 4};
    memcpy(out->multiple, usual, sizeof usual);
    out->levels = 4;
    fields_ints(&fields, "dim_mult", out->multiple, &out->levels, CONFIG_LEVELS_MAX, 1, 64);
    int none[1], attentions = 0;
    fields_ints(&fields, "attn_scales", none, &attentions, 0, 0, 0);
    int channels = 3 * out->patch * out->patch, stride = out->space_stride;
    (void)fields_int(&fields, "in_channels", 3, channels, channels);
    (void)fields_int(&fields, "out_channels", 3, channels, channels);
    (void)fields_int(&fields, "scale_factor_temporal", 4, 4, 4);
    (void)fields_int(&fields, "scale_factor_spatial", stride, stride, stride);
    if (fields.code == ERR_OK && out->levels != 4)
        fields.code =
            error_set(error, ERR_UNSUPPORTED, "%s: 'dim_mult' has %d levels; only 4 are supported",
                      fields.path, out->levels);
    if (fields.code == ERR_OK)
        read_time_down(&fields, out);
    int strides = 0;
    for (int i = 0; i < out->levels - 1; i++)
        strides += out->time_down[i];
    if (fields.code == ERR_OK && strides != 2)
        fields.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: 'temperal_downsample' must be true twice (a time stride of 4)",
                                fields.path);
    check_vae_widths(&fields, out);
    if (fields.code == ERR_OK)
        read_statistics(&fields, out);
    return fields_close(&fields);
}
