#include "worker/model/describe.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "worker/model/config.h"

#define HEAD_DIM      128 /* of every published transformer */
#define CLIP_HEAD_DIM 80
#define MAX_DISTANCE  128

/* Wan2.2's latents; those of Wan2.1 are the default of the class. Source:
 * W22:wan/modules/vae2_2.py. */
static const double wan22_mean[48] = {
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174,  0.1838,  0.1557,  -0.1382, 0.0542,
    0.2813,  0.0891,  0.1570,  -0.0098, 0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109,
    0.2665,  -0.2108, -0.2158, 0.2502,  -0.2055, -0.0322, 0.1109,  0.1567,  -0.0729, 0.0899,
    -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,  0.0723,  -0.2839, -0.2083, -0.0520, 0.3748,
    0.0152,  0.1957,  0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667};
static const double wan22_deviation[48] = {
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744};

struct shapes {
    const struct weights *weights;
    enum names_component component;
    struct json_writer writer;
    enum error_code code; /* the first error sticks */
    struct error *error;
};

/* A tensor by its diffusers name, in either layout. */
static const struct tensor *find(const struct weights *weights, enum names_component component,
                                 const char *name) {
    char original[WEIGHTS_NAME_MAX];
    const struct tensor *tensor = weights_find(weights, name);
    if (tensor == NULL && names_to_original(original, sizeof original, name, component))
        tensor = weights_find(weights, original);
    return tensor;
}

/* Axis `axis` of a tensor that must be there. */
static int64_t dim_of(struct shapes *s, const char *name, int axis) {
    const struct tensor *tensor = find(s->weights, s->component, name);
    if (s->code != ERR_OK)
        return 0;
    if (tensor == NULL || axis >= tensor->rank)
        s->code = error_set(s->error, ERR_UNSUPPORTED,
                            "%s: it has no tensor '%s' to tell its sizes from, and no config.json",
                            weights_path(s->weights), name);
    return s->code == ERR_OK ? tensor->dim[axis] : 0;
}

/* How many tensors there are from before + "0" + after up. */
static int64_t count_layers(const struct shapes *s, const char *before, const char *after) {
    char name[128];
    int64_t layers = -1;
    do {
        layers++;
        (void)snprintf(name, sizeof name, "%s%d%s", before, (int)layers, after);
    } while (layers < 1024 && find(s->weights, s->component, name) != NULL);
    return layers;
}

static int64_t heads_of(struct shapes *s, int64_t width, int64_t head_dim) {
    if (s->code == ERR_OK && (width == 0 || width % head_dim != 0))
        s->code = error_set(s->error, ERR_UNSUPPORTED,
                            "%s: a width of %lld is no number of heads of %lld; a config.json "
                            "beside it can say how many there are",
                            weights_path(s->weights), (long long)width, (long long)head_dim);
    return width / head_dim;
}

static void put_ints(struct shapes *s, const char *key, const int *values, int count) {
    json_begin_array(&s->writer, key);
    for (int i = 0; i < count; i++)
        json_put_int(&s->writer, NULL, values[i]);
    json_end_array(&s->writer);
}

static void put_doubles(struct shapes *s, const char *key, const double *values, int count) {
    json_begin_array(&s->writer, key);
    for (int i = 0; i < count; i++)
        json_put_double(&s->writer, NULL, values[i]);
    json_end_array(&s->writer);
}

/* -- components ------------------------------------------------------------------------------ */

static void put_umt5(struct shapes *s) {
    struct json_writer *w = &s->writer;
    int64_t heads =
        dim_of(s, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 1);
    int64_t inner = dim_of(s, "encoder.block.0.layer.0.SelfAttention.q.weight", 0);
    json_put_text(w, "model_type", "umt5");
    json_put_int(w, "vocab_size", dim_of(s, "shared.weight", 0));
    json_put_int(w, "d_model", dim_of(s, "shared.weight", 1));
    json_put_int(w, "d_kv", heads > 0 ? inner / heads : 0);
    json_put_int(w, "num_heads", heads);
    json_put_int(w, "d_ff", dim_of(s, "encoder.block.0.layer.1.DenseReluDense.wo.weight", 1));
    json_put_int(w, "num_layers", count_layers(s, "encoder.block.", ".layer.0.layer_norm.weight"));
    json_put_int(
        w, "relative_attention_num_buckets",
        dim_of(s, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0));
    json_put_int(w, "relative_attention_max_distance", MAX_DISTANCE);
    json_put_text(w, "feed_forward_proj", "gated-gelu");
    json_put_double(w, "layer_norm_epsilon", 1e-6);
}

static void put_transformer(struct shapes *s, const struct transformer_config *known) {
    static const int patch[] = {1, 2, 2};
    struct json_writer *w = &s->writer;
    int64_t width = dim_of(s, "patch_embedding.weight", 0);
    int head_dim = known == NULL ? HEAD_DIM : known->head_dim;
    const struct tensor *image =
        find(s->weights, s->component, "condition_embedder.image_embedder.norm1.weight");
    const struct tensor *position =
        find(s->weights, s->component, "condition_embedder.image_embedder.pos_embed");
    json_put_text(w, "_class_name", "WanTransformer3DModel");
    put_ints(s, "patch_size", patch, 3);
    json_put_int(w, "num_attention_heads", heads_of(s, width, head_dim));
    json_put_int(w, "attention_head_dim", head_dim);
    json_put_int(w, "in_channels", dim_of(s, "patch_embedding.weight", 1));
    json_put_int(w, "out_channels", dim_of(s, "proj_out.weight", 0) / 4);
    json_put_int(w, "text_dim", dim_of(s, "condition_embedder.text_embedder.linear_1.weight", 1));
    json_put_int(w, "freq_dim", dim_of(s, "condition_embedder.time_embedder.linear_1.weight", 1));
    json_put_int(w, "ffn_dim", dim_of(s, "blocks.0.ffn.net.0.proj.weight", 0));
    json_put_int(w, "num_layers", count_layers(s, "blocks.", ".scale_shift_table"));
    json_put_bool(w, "cross_attn_norm", true);
    json_put_text(w, "qk_norm", "rms_norm_across_heads");
    json_put_float(w, "eps", known == NULL ? 1e-6F : known->eps);
    json_put_int(w, "rope_max_seq_len", 1024);
    if (image != NULL && image->rank == 1) {
        json_put_int(w, "image_dim", image->dim[0]);
        json_put_int(w, "added_kv_proj_dim", width);
    }
    if (position != NULL && position->rank == 3)
        json_put_int(w, "pos_embed_seq_len", position->dim[1]);
}

static void put_vae(struct shapes *s) {
    static const int multiples[] = {1, 2, 4, 4};
    struct json_writer *w = &s->writer;
    int64_t channels = dim_of(s, "post_quant_conv.weight", 0);
    int64_t middle = dim_of(s, "decoder.conv_in.weight", 0);
    int64_t pixels = dim_of(s, "encoder.conv_in.weight", 1);
    json_put_text(w, "_class_name", "AutoencoderKLWan");
    json_put_int(w, "base_dim", dim_of(s, "encoder.conv_in.weight", 0));
    json_put_int(w, "decoder_base_dim", middle / multiples[3]);
    json_put_int(w, "z_dim", channels);
    put_ints(s, "dim_mult", multiples, 4);
    json_put_int(w, "num_res_blocks", 2);
    put_ints(s, "attn_scales", NULL, 0);
    json_begin_array(w, "temperal_downsample"); /* spelt so in the class */
    json_put_bool(w, NULL, false);
    json_put_bool(w, NULL, true);
    json_put_bool(w, NULL, true);
    json_end_array(w);
    if (s->component != NAMES_VAE_RESIDUAL)
        return;
    json_put_bool(w, "is_residual", true);
    json_put_int(w, "in_channels", pixels);
    json_put_int(w, "out_channels", pixels);
    json_put_int(w, "patch_size", 2);
    json_put_int(w, "scale_factor_spatial", 16);
    json_put_int(w, "scale_factor_temporal", 4);
    if (channels != 48 && s->code == ERR_OK)
        s->code = error_set(s->error, ERR_UNSUPPORTED,
                            "%s: %lld latent channels; the statistics of 48 are known, others "
                            "must be in a config.json",
                            weights_path(s->weights), (long long)channels);
    put_doubles(s, "latents_mean", wan22_mean, 48);
    put_doubles(s, "latents_std", wan22_deviation, 48);
}

static void put_clip(struct shapes *s) {
    struct json_writer *w = &s->writer;
    int64_t width = dim_of(s, "vision_model.embeddings.patch_embedding.weight", 0);
    int64_t patch = dim_of(s, "vision_model.embeddings.patch_embedding.weight", 2), side = 1;
    const struct tensor *position =
        find(s->weights, s->component, "vision_model.embeddings.position_embedding.weight");
    int64_t tokens = position == NULL || position->rank < 2 ? 0 : position->dim[position->rank - 2];
    while (side < 1024 && side * side + 1 < tokens)
        side++;
    json_put_text(w, "model_type", "clip_vision_model");
    json_put_int(w, "hidden_size", width);
    json_put_int(w, "num_attention_heads", heads_of(s, width, CLIP_HEAD_DIM));
    json_put_int(w, "intermediate_size",
                 dim_of(s, "vision_model.encoder.layers.0.mlp.fc1.weight", 0));
    json_put_int(w, "num_hidden_layers",
                 count_layers(s, "vision_model.encoder.layers.", ".layer_norm1.weight"));
    json_put_int(w, "image_size", side * patch);
    json_put_int(w, "patch_size", patch);
    json_put_text(w, "hidden_act", "gelu");
    json_put_double(w, "layer_norm_eps", 1e-5);
}

bool describe_component(enum names_component *out, const struct weights *weights) {
    static const struct {
        enum names_component component;
        const char *name; /* diffusers */
    } marks[] = {
        {NAMES_UMT5, "encoder.block.0.layer.0.SelfAttention.q.weight"},
        {NAMES_TRANSFORMER, "condition_embedder.time_proj.weight"},
        {NAMES_VAE_RESIDUAL, "decoder.up_blocks.0.resnets.0.norm1.gamma"},
        {NAMES_VAE, "decoder.up_blocks.0.resnets.0.norm1.gamma"},
        {NAMES_CLIP, "vision_model.embeddings.class_embedding"},
    };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (find(weights, marks[i].component, marks[i].name) == NULL)
            continue;
        *out = marks[i].component;
        /* Both VAEs have this one in the diffusers layout; one of them sees pixels in patches. */
        if (*out == NAMES_VAE_RESIDUAL || *out == NAMES_VAE) {
            const struct tensor *first = find(weights, *out, "encoder.conv_in.weight");
            *out = first != NULL && first->rank == 5 && first->dim[1] == 12 ? NAMES_VAE_RESIDUAL
                                                                            : NAMES_VAE;
        }
        return true;
    }
    return false;
}

const char *describe_transformer(const struct weights *weights) {
    const struct tensor *patch = find(weights, NAMES_TRANSFORMER, "patch_embedding.weight");
    const struct tensor *head = find(weights, NAMES_TRANSFORMER, "proj_out.weight");
    if (patch == NULL || patch->rank != 5 || head == NULL || head->rank != 2)
        return NULL;
    int64_t in = patch->dim[1], out = head->dim[0] / 4;
    if (in == out)
        return in == 48 ? "ti2v" : "t2v";
    if (in != 2 * out + 4)
        return NULL;
    bool two =
        find(weights, NAMES_TRANSFORMER, "condition_embedder.image_embedder.pos_embed") != NULL;
    return two ? "flf2v" : "i2v";
}

bool describe_has_image_branch(const struct weights *weights) {
    return find(weights, NAMES_TRANSFORMER, "condition_embedder.image_embedder.norm1.weight") !=
           NULL;
}

const char *describe_published(const struct weights *weights) {
    static const struct {
        enum names_component component;
        const char *name; /* of the tensor whose first dimension tells */
        int64_t size;
        const char *type; /* of a transformer */
        bool image;       /* with the CLIP branch */
        const char *model;
    } models[] = {
        {NAMES_TRANSFORMER, "patch_embedding.weight", 1536, "t2v", false, "Wan2.1-T2V-1.3B"},
        {NAMES_TRANSFORMER, "patch_embedding.weight", 5120, "t2v", false,
         "Wan2.1-T2V-14B, or an expert of Wan2.2-T2V-A14B"},
        {NAMES_TRANSFORMER, "patch_embedding.weight", 5120, "i2v", true, "Wan2.1-I2V-14B"},
        {NAMES_TRANSFORMER, "patch_embedding.weight", 5120, "flf2v", true, "Wan2.1-FLF2V-14B"},
        {NAMES_TRANSFORMER, "patch_embedding.weight", 5120, "i2v", false,
         "an expert of Wan2.2-I2V-A14B"},
        {NAMES_TRANSFORMER, "patch_embedding.weight", 3072, "ti2v", false, "Wan2.2-TI2V-5B"},
        {NAMES_UMT5, "shared.weight", 256384, NULL, false, "umT5-XXL"},
        {NAMES_VAE, "encoder.conv_in.weight", 96, NULL, false, "Wan2.1's VAE"},
        {NAMES_VAE_RESIDUAL, "encoder.conv_in.weight", 160, NULL, false, "Wan2.2's VAE"},
        {NAMES_CLIP, "vision_model.embeddings.patch_embedding.weight", 1280, NULL, false,
         "CLIP ViT-H/14"},
    };
    enum names_component component;
    if (!describe_component(&component, weights))
        return NULL;
    const char *type = component == NAMES_TRANSFORMER ? describe_transformer(weights) : NULL;
    bool image = find(weights, component, "condition_embedder.image_embedder.norm1.weight") != NULL;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct tensor *tensor = find(weights, component, models[i].name);
        if (models[i].component != component || models[i].image != image || tensor == NULL ||
            tensor->rank == 0 || tensor->dim[0] != models[i].size ||
            (type == NULL) != (models[i].type == NULL))
            continue;
        if (type == NULL || strcmp(type, models[i].type) == 0)
            return models[i].model;
    }
    return NULL;
}

enum error_code describe_config(struct buffer *out, const struct weights *weights,
                                enum names_component component,
                                const struct transformer_config *known, struct error *error) {
    struct shapes s = {
        .weights = weights, .component = component, .writer = {.buffer = out}, .error = error};
    json_begin_object(&s.writer, NULL);
    if (component == NAMES_UMT5)
        put_umt5(&s);
    else if (component == NAMES_TRANSFORMER)
        put_transformer(&s, known);
    else if (component == NAMES_CLIP)
        put_clip(&s);
    else
        put_vae(&s);
    json_end_object(&s.writer);
    if (s.code == ERR_OK && out->failed)
        s.code = error_set(error, ERR_MEMORY, "no memory for a configuration");
    return s.code;
}
