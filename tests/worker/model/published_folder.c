#include "tests/worker/model/published_folder.h"

#include <stdio.h>

#include "base/file.h"
#include "tests/worker/model/holes.h"

#define WAN21 "tests/worker/model/vectors/wan21_t2v_1.3b.txt" /* its text encoder and VAE, too */
#define WAN22 "tests/worker/model/vectors/wan22_vae.txt"

#define PIPELINE(class)       "{\"_class_name\": \"" class "\"}"
#define PIPELINE_OF(class, s) "{\"_class_name\": \"" class "\", " s "}"
#define ALL_STAGES            (STAGE_TEXT | STAGE_KEYFRAME | STAGE_WINDOW | STAGE_VAE)
#define NO_KEYFRAME           (STAGE_TEXT | STAGE_WINDOW | STAGE_VAE)
#define LAST                  (1u << WINDOW_RULE_LAST_FRAME)
#define SEVERAL               (LAST | 1u << WINDOW_RULE_OVERLAP)

const struct published published_models[] = {
    {"T2V-1.3B", PIPELINE("WanPipeline"), 1536, 8960, 12, 30, 16, 16, NO_CLIP, 1,
     INT64_C(1418996800), "wan2.1", ALL_STAGES, 0, WINDOW_END_NONE, true, 50, 832, 480},
    {"T2V-14B", PIPELINE("WanPipeline"), 5120, 13824, 40, 40, 16, 16, NO_CLIP, 1,
     INT64_C(14288491584), "wan2.1", ALL_STAGES, 0, WINDOW_END_NONE, true, 50, 832, 480},
    {"I2V-14B", PIPELINE("WanImageToVideoPipeline"), 5120, 13824, 40, 40, 36, 16, ONE_PICTURE, 1,
     INT64_C(16394878784), "wan2.1", NO_KEYFRAME, SEVERAL, WINDOW_END_NONE, false, 40, 832, 480},
    {"FLF2V-14B", PIPELINE("WanImageToVideoPipeline"), 5120, 13824, 40, 40, 36, 16, TWO_PICTURES, 1,
     INT64_C(16395536704), "wan2.1", NO_KEYFRAME, LAST, WINDOW_END_MUST, false, 50, 1280, 720},
    {"TI2V-5B", PIPELINE_OF("WanPipeline", "\"expand_timesteps\": true"), 3072, 14336, 24, 30, 48,
     48, NO_CLIP, 1, INT64_C(4999787712), "wan2.2", ALL_STAGES, LAST | 1u << WINDOW_RULE_PREFIX,
     WINDOW_END_NONE, true, 50, 1280, 704},
    {"T2V-A14B", PIPELINE_OF("WanPipeline", "\"boundary_ratio\": 0.875"), 5120, 13824, 40, 40, 16,
     16, NO_CLIP, 2, 2 * INT64_C(14288491584), "wan2.2", ALL_STAGES, 0, WINDOW_END_NONE, true, 40,
     832, 480},
    {"I2V-A14B", PIPELINE_OF("WanImageToVideoPipeline", "\"boundary_ratio\": 0.9"), 5120, 13824, 40,
     40, 36, 16, NO_CLIP, 2, 2 * INT64_C(14288901184), "wan2.2", NO_KEYFRAME, SEVERAL,
     WINDOW_END_MAY, false, 40, 832, 480},
    {.name = NULL},
};

static void write_clip(const char *folder) {
    static const char *const projections[] = {"self_attn.q_proj", "self_attn.k_proj",
                                              "self_attn.v_proj", "self_attn.out_proj"};
    static const char *const norms[] = {"layer_norm1.weight", "layer_norm1.bias",
                                        "layer_norm2.weight", "layer_norm2.bias"};
    struct holes holes;
    holes_start(&holes);
    holes_add(&holes, "vision_model.embeddings.patch_embedding.weight",
              (const int64_t[]){1280, 3, 14, 14, 0});
    holes_vector(&holes, "vision_model.", "embeddings.class_embedding", 1280);
    holes_add(&holes, "vision_model.embeddings.position_embedding.weight",
              (const int64_t[]){257, 1280, 0});
    holes_vector(&holes, "vision_model.", "pre_layrnorm.weight", 1280);
    holes_vector(&holes, "vision_model.", "pre_layrnorm.bias", 1280);
    for (int i = 0; i < 32; i++) {
        char prefix[64];
        (void)snprintf(prefix, sizeof prefix, "vision_model.encoder.layers.%d.", i);
        for (int j = 0; j < 4; j++) {
            holes_layer(&holes, prefix, projections[j], 1280, 1280);
            holes_vector(&holes, prefix, norms[j], 1280);
        }
        holes_layer(&holes, prefix, "mlp.fc1", 5120, 1280);
        holes_layer(&holes, prefix, "mlp.fc2", 1280, 5120);
    }
    holes_vector(&holes, "vision_model.", "post_layernorm.weight", 1280);
    holes_vector(&holes, "vision_model.", "post_layernorm.bias", 1280);
    holes_finish(&holes, folder, "image_encoder/model.safetensors");
    write_text(folder, "image_encoder/config.json",
               "{\"model_type\": \"clip_vision_model\", \"hidden_act\": \"gelu\", "
               "\"hidden_size\": 1280, \"intermediate_size\": 5120, \"num_attention_heads\": 16, "
               "\"num_hidden_layers\": 32, \"image_size\": 224, \"patch_size\": 14}");
}

static void write_transformers(const struct published *p, const char *folder) {
    static const char *const folders[] = {"transformer", "transformer_2"};
    char config[512], image[128] = "";
    if (p->clip != NO_CLIP)
        (void)snprintf(
            image, sizeof image,
            ", \"image_dim\": 1280, \"added_kv_proj_dim\": %d, \"pos_embed_seq_len\": %s", p->width,
            p->clip == TWO_PICTURES ? "514" : "null");
    (void)snprintf(config, sizeof config,
                   "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": %d, "
                   "\"ffn_dim\": %d, \"num_layers\": %d, \"in_channels\": %d, "
                   "\"out_channels\": %d%s}",
                   p->heads, p->ffn, p->layers, p->in, p->out, image);
    const struct transformer_config shape = {.width = p->width,
                                             .ffn = p->ffn,
                                             .layers = p->layers,
                                             .in_channels = p->in,
                                             .out_channels = p->out,
                                             .text_width = 4096,
                                             .frequencies = 256,
                                             .image_width = p->clip != NO_CLIP ? 1280 : 0,
                                             .image_rows = p->clip == TWO_PICTURES ? 514 : 0};
    for (int i = 0; i < p->experts && i < 2; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s/config.json", folders[i]);
        write_text(folder, name, config);
        (void)snprintf(name, sizeof name, "%s/diffusion_pytorch_model.safetensors", folders[i]);
        holes_transformer(&shape, folder, name);
    }
}

static void write_vae22_config(const char *folder) {
    struct buffer text = {0};
    buffer_add_text(&text, "{\"_class_name\": \"AutoencoderKLWan\", \"is_residual\": true, "
                           "\"patch_size\": 2, \"in_channels\": 12, \"out_channels\": 12, "
                           "\"scale_factor_spatial\": 16, \"base_dim\": 160, "
                           "\"decoder_base_dim\": 256, \"z_dim\": 48");
    static const char *const lists[] = {"latents_mean", "latents_std"};
    for (int i = 0; i < 2; i++) {
        buffer_printf(&text, ", \"%s\": [1", lists[i]);
        for (int c = 1; c < 48; c++)
            buffer_add_text(&text, ", 1");
        buffer_add_text(&text, "]");
    }
    buffer_add_text(&text, "}");
    buffer_add(&text, "", 1);
    write_text(folder, "vae/config.json", text.data);
    buffer_close(&text);
}

void published_make(const char *folder, const struct published *p) {
    static const char *const folders[] = {"scheduler",    "tokenizer",     "text_encoder",
                                          "transformer",  "transformer_2", "vae",
                                          "image_encoder"};
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        ok(file_join(path, folder, folders[i], &error), &error);
        ok(file_make_folders(path, &error), &error);
    }
    write_text(folder, "model_index.json", p->index);
    write_text(folder, "tokenizer/tokenizer_config.json", "{\"model_max_length\": 1e30}");
    write_text(folder, "tokenizer/spiece.model", "not looked at");
    write_text(folder, "scheduler/scheduler_config.json",
               "{\"_class_name\": \"UniPCMultistepScheduler\", \"flow_shift\": 3.0, "
               "\"prediction_type\": \"flow_prediction\", \"use_flow_sigmas\": true}");
    write_text(folder, "text_encoder/config.json",
               "{\"model_type\": \"umt5\", \"vocab_size\": 256384, \"d_model\": 4096, "
               "\"d_kv\": 64, \"d_ff\": 10240, \"num_layers\": 24, \"num_heads\": 64}");
    holes_from_list(WAN21, "text_encoder", folder, "text_encoder/model.safetensors");
    if (p->in == 48)
        write_vae22_config(folder);
    else
        write_text(folder, "vae/config.json", "{\"_class_name\": \"AutoencoderKLWan\"}");
    holes_from_list(p->in == 48 ? WAN22 : WAN21, "vae", folder,
                    "vae/diffusion_pytorch_model.safetensors");
    write_transformers(p, folder);
    if (p->clip != NO_CLIP)
        write_clip(folder);
}
