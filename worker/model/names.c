#include "worker/model/names.h"

#include <string.h>

/* A run of whole dotted parts and what it is in the original layout. Rows are tried in order at
 * every part of a name; the first that fits replaces its run. */
struct row {
    const char *diffusers, *original;
};

static const struct row umt5_rows[] = {
    {"shared.weight", "token_embedding.weight"},
    {"encoder.final_layer_norm", "norm"},
    {"encoder.block", "blocks"},
    {"layer.0.layer_norm", "norm1"},
    {"layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"},
    {"layer.0.SelfAttention", "attn"},
    {"layer.1.layer_norm", "norm2"},
    {"layer.1.DenseReluDense.wi_0", "ffn.gate.0"},
    {"layer.1.DenseReluDense.wi_1", "ffn.fc1"},
    {"layer.1.DenseReluDense.wo", "ffn.fc2"},
    {NULL, NULL},
};

static const struct row transformer_rows[] = {
    {"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
    {"condition_embedder.text_embedder.linear_2", "text_embedding.2"},
    {"condition_embedder.time_embedder.linear_1", "time_embedding.0"},
    {"condition_embedder.time_embedder.linear_2", "time_embedding.2"},
    {"condition_embedder.time_proj", "time_projection.1"},
    {"condition_embedder.image_embedder.norm1", "img_emb.proj.0"},
    {"condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"},
    {"condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"},
    {"condition_embedder.image_embedder.norm2", "img_emb.proj.4"},
    {"condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"},
    {"attn1", "self_attn"},
    {"attn2", "cross_attn"},
    {"to_q", "q"},
    {"to_k", "k"},
    {"to_v", "v"},
    {"to_out.0", "o"},
    {"add_k_proj", "k_img"},
    {"add_v_proj", "v_img"},
    {"norm_added_k", "norm_k_img"},
    {"norm2", "norm3"}, /* the numbers swap; the other norms have no parameters */
    {"ffn.net.0.proj", "ffn.0"},
    {"ffn.net.2", "ffn.2"},
    {"proj_out", "head.head"},
    {NULL, NULL},
};

/* Of the published shape: two residual blocks a level in the encoder, three in the decoder. Wan2.1
 * numbers them through, Wan2.2 by level. */
static const struct row vae_rows[] = {
    {"quant_conv", "conv1"},
    {"post_quant_conv", "conv2"},
    {"conv_in", "conv1"},
    {"norm_out", "head.0"},
    {"conv_out", "head.2"},
    {"mid_block.resnets.0", "middle.0"},
    {"mid_block.attentions.0", "middle.1"},
    {"mid_block.resnets.1", "middle.2"},
    {"down_blocks", "downsamples"},
    {"up_blocks.0.resnets.0", "upsamples.0"},
    {"up_blocks.0.resnets.1", "upsamples.1"},
    {"up_blocks.0.resnets.2", "upsamples.2"},
    {"up_blocks.0.upsamplers.0", "upsamples.3"},
    {"up_blocks.1.resnets.0", "upsamples.4"},
    {"up_blocks.1.resnets.1", "upsamples.5"},
    {"up_blocks.1.resnets.2", "upsamples.6"},
    {"up_blocks.1.upsamplers.0", "upsamples.7"},
    {"up_blocks.2.resnets.0", "upsamples.8"},
    {"up_blocks.2.resnets.1", "upsamples.9"},
    {"up_blocks.2.resnets.2", "upsamples.10"},
    {"up_blocks.2.upsamplers.0", "upsamples.11"},
    {"up_blocks.3.resnets.0", "upsamples.12"},
    {"up_blocks.3.resnets.1", "upsamples.13"},
    {"up_blocks.3.resnets.2", "upsamples.14"},
    {"norm1", "residual.0"},
    {"conv1", "residual.2"},
    {"norm2", "residual.3"},
    {"conv2", "residual.6"},
    {"conv_shortcut", "shortcut"},
    {NULL, NULL},
};

static const struct row residual_vae_rows[] = {
    {"quant_conv", "conv1"},
    {"post_quant_conv", "conv2"},
    {"conv_in", "conv1"},
    {"norm_out", "head.0"},
    {"conv_out", "head.2"},
    {"mid_block.resnets.0", "middle.0"},
    {"mid_block.attentions.0", "middle.1"},
    {"mid_block.resnets.1", "middle.2"},
    {"down_blocks.0.resnets", "downsamples.0.downsamples"},
    {"down_blocks.1.resnets", "downsamples.1.downsamples"},
    {"down_blocks.2.resnets", "downsamples.2.downsamples"},
    {"down_blocks.3.resnets", "downsamples.3.downsamples"},
    {"down_blocks", "downsamples"},
    {"downsampler", "downsamples.2"},
    {"up_blocks.0.resnets", "upsamples.0.upsamples"},
    {"up_blocks.1.resnets", "upsamples.1.upsamples"},
    {"up_blocks.2.resnets", "upsamples.2.upsamples"},
    {"up_blocks.3.resnets", "upsamples.3.upsamples"},
    {"up_blocks", "upsamples"},
    {"upsampler", "upsamples.3"},
    {"norm1", "residual.0"},
    {"conv1", "residual.2"},
    {"norm2", "residual.3"},
    {"conv2", "residual.6"},
    {"conv_shortcut", "shortcut"},
    {NULL, NULL},
};

/* q, k and v are one tensor there, so that the loader asks for to_qkv by itself. */
static const struct row clip_rows[] = {
    {"vision_model.embeddings.class_embedding", "visual.cls_embedding"},
    {"vision_model.embeddings.position_embedding.weight", "visual.pos_embedding"},
    {"vision_model.embeddings", "visual"},
    {"vision_model.pre_layrnorm", "visual.pre_norm"}, /* spelt so */
    {"vision_model.encoder.layers", "visual.transformer"},
    {"layer_norm1", "norm1"},
    {"layer_norm2", "norm2"},
    {"self_attn.out_proj", "attn.proj"},
    {"self_attn", "attn"},
    {"mlp.fc1", "mlp.0"},
    {"mlp.fc2", "mlp.2"},
    {NULL, NULL},
};

static const struct row *rows_of(enum names_component component) {
    switch (component) {
    case NAMES_UMT5:
        return umt5_rows;
    case NAMES_TRANSFORMER:
        return transformer_rows;
    case NAMES_CLIP:
        return clip_rows;
    case NAMES_VAE_RESIDUAL:
        return residual_vae_rows;
    default:
        return vae_rows;
    }
}

const char *names_original_mark(enum names_component component) {
    switch (component) {
    case NAMES_UMT5:
        return "token_embedding.weight";
    case NAMES_TRANSFORMER:
        return "time_projection.1.weight";
    case NAMES_CLIP:
        return "visual.cls_embedding";
    case NAMES_VAE_RESIDUAL:
        return "decoder.upsamples.0.upsamples.0.residual.0.gamma";
    default:
        return "decoder.upsamples.0.residual.0.gamma";
    }
}

/* Bytes of `text` that the run takes, 0 when it does not begin with it as whole parts. */
static size_t fits(const char *text, const char *run) {
    size_t length = strlen(run);
    if (strncmp(text, run, length) != 0 || (text[length] != '.' && text[length] != 0))
        return 0;
    return length;
}

bool names_to_original(char *out, size_t bytes, const char *name, enum names_component component) {
    size_t used = 0;
    if (component == NAMES_TRANSFORMER && strstr(name, "scale_shift_table") != NULL) {
        /* The one name that means two things: of a block, and of the head. */
        name = strncmp(name, "blocks.", 7) == 0 ? name : "head.scale_shift_table";
    }
    while (*name != 0) {
        const char *text = NULL;
        size_t taken = 0;
        for (const struct row *row = rows_of(component); row->diffusers != NULL && taken == 0;
             row++) {
            taken = fits(name, row->diffusers);
            text = row->original;
        }
        if (taken == 0 && fits(name, "scale_shift_table") != 0) {
            taken = strlen("scale_shift_table");
            text = "modulation";
        }
        if (taken == 0) {
            taken = strcspn(name, ".");
            text = name;
        }
        size_t length = text == name ? taken : strlen(text);
        if (used + length + 2 > bytes)
            return false;
        memcpy(out + used, text, length);
        used += length;
        name += taken;
        if (*name == '.')
            out[used++] = *name++;
    }
    out[used] = 0;
    return true;
}

/* The row whose original run is the longest at `name`; a row of the whole model only at its start.
 */
static const struct row *row_of_original(const char *name, bool first,
                                         enum names_component component) {
    const struct row *best = NULL;
    size_t longest = 0;
    for (const struct row *row = rows_of(component); row->diffusers != NULL; row++) {
        size_t taken = fits(name, row->original);
        if (strstr(row->diffusers, "quant_conv") != NULL && !first)
            continue;
        if (taken > longest) {
            longest = taken;
            best = row;
        }
    }
    return best;
}

/* Of Wan2.2's VAE the last of a level's numbers is its resampling: "down_blocks.0.resnets.2". */
static void name_resamplers(char *name) {
    static const struct row last[] = {{".downsampler", ".resnets.2."},
                                      {".upsampler", ".resnets.3."}};
    for (size_t i = 0; i < 2; i++) {
        bool side = strstr(name, i == 0 ? "down_blocks" : "up_blocks") != NULL;
        char *at = side ? strstr(name, last[i].original) : NULL;
        if (at == NULL)
            continue;
        size_t to = strlen(last[i].diffusers), from = strlen(last[i].original) - 1;
        memmove(at + to, at + from, strlen(at + from) + 1);
        memcpy(at, last[i].diffusers, to);
    }
}

bool names_to_diffusers(char *out, size_t bytes, const char *name, enum names_component component) {
    const char *start = name;
    size_t used = 0;
    if (component == NAMES_TRANSFORMER && strcmp(name, "head.modulation") == 0)
        name = "modulation";
    while (*name != 0) {
        const struct row *row = row_of_original(name, name == start, component);
        const char *text = row != NULL ? row->diffusers : name;
        size_t taken = row != NULL ? strlen(row->original) : strcspn(name, ".");
        if (component == NAMES_TRANSFORMER && row == NULL && fits(name, "modulation") != 0)
            text = "scale_shift_table";
        size_t length = text == name ? taken : strlen(text);
        if (used + length + 2 > bytes)
            return false;
        memcpy(out + used, text, length);
        used += length;
        name += taken;
        if (*name == '.')
            out[used++] = *name++;
    }
    out[used] = 0;
    if (component == NAMES_VAE_RESIDUAL && used + 8 < bytes)
        name_resamplers(out);
    return true;
}
