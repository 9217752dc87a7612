/* Names of both layouts, and every way in which a folder can contradict itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "tests/worker/model/holes.h"
#include "tests/worker/model/model_test.h"
#include "tests/worker/model/small_model.h"
#include "worker/model/missing.h"
#include "worker/model/names.h"
#include "worker/model/safetensors.h"

static void expect_name(enum names_component component, const char *diffusers,
                        const char *original) {
    char out[256];
    assert_true(names_to_original(out, sizeof out, diffusers, component));
    assert_string_equal(out, original);
}

static void original_names(void **state) {
    const enum names_component t = NAMES_TRANSFORMER, u = NAMES_UMT5, v = NAMES_VAE;
    expect_name(t, "patch_embedding.weight", "patch_embedding.weight");
    expect_name(t, "condition_embedder.text_embedder.linear_1.bias", "text_embedding.0.bias");
    expect_name(t, "condition_embedder.time_embedder.linear_2.weight", "time_embedding.2.weight");
    expect_name(t, "condition_embedder.time_proj.weight", "time_projection.1.weight");
    expect_name(t, "blocks.12.scale_shift_table", "blocks.12.modulation");
    expect_name(t, "scale_shift_table", "head.modulation");
    expect_name(t, "blocks.3.attn1.to_q.weight", "blocks.3.self_attn.q.weight");
    expect_name(t, "blocks.3.attn1.norm_k.weight", "blocks.3.self_attn.norm_k.weight");
    expect_name(t, "blocks.3.attn2.to_out.0.bias", "blocks.3.cross_attn.o.bias");
    expect_name(t, "blocks.3.attn2.add_k_proj.bias", "blocks.3.cross_attn.k_img.bias");
    expect_name(t, "blocks.3.norm2.weight", "blocks.3.norm3.weight");
    expect_name(t, "blocks.3.ffn.net.0.proj.weight", "blocks.3.ffn.0.weight");
    expect_name(t, "blocks.3.ffn.net.2.weight", "blocks.3.ffn.2.weight");
    expect_name(t, "proj_out.bias", "head.head.bias");
    expect_name(u, "shared.weight", "token_embedding.weight");
    expect_name(u, "encoder.final_layer_norm.weight", "norm.weight");
    expect_name(u, "encoder.block.7.layer.0.SelfAttention.q.weight", "blocks.7.attn.q.weight");
    expect_name(u, "encoder.block.7.layer.0.SelfAttention.relative_attention_bias.weight",
                "blocks.7.pos_embedding.embedding.weight");
    expect_name(u, "encoder.block.7.layer.0.layer_norm.weight", "blocks.7.norm1.weight");
    expect_name(u, "encoder.block.7.layer.1.layer_norm.weight", "blocks.7.norm2.weight");
    expect_name(u, "encoder.block.7.layer.1.DenseReluDense.wi_0.weight",
                "blocks.7.ffn.gate.0.weight");
    expect_name(u, "encoder.block.7.layer.1.DenseReluDense.wo.weight", "blocks.7.ffn.fc2.weight");
    expect_name(v, "quant_conv.weight", "conv1.weight");
    expect_name(v, "post_quant_conv.bias", "conv2.bias");
    expect_name(v, "encoder.conv_in.weight", "encoder.conv1.weight");
    expect_name(v, "decoder.conv_out.weight", "decoder.head.2.weight");
    expect_name(v, "decoder.norm_out.gamma", "decoder.head.0.gamma");
    expect_name(v, "encoder.down_blocks.5.resample.1.weight",
                "encoder.downsamples.5.resample.1.weight");
    expect_name(v, "encoder.down_blocks.5.time_conv.bias", "encoder.downsamples.5.time_conv.bias");
    expect_name(v, "encoder.down_blocks.3.conv_shortcut.weight",
                "encoder.downsamples.3.shortcut.weight");
    expect_name(v, "encoder.mid_block.resnets.1.conv2.weight",
                "encoder.middle.2.residual.6.weight");
    expect_name(v, "decoder.mid_block.attentions.0.to_qkv.weight",
                "decoder.middle.1.to_qkv.weight");
    expect_name(v, "decoder.up_blocks.2.resnets.1.norm2.gamma",
                "decoder.upsamples.9.residual.3.gamma");
    expect_name(v, "decoder.up_blocks.1.upsamplers.0.resample.1.weight",
                "decoder.upsamples.7.resample.1.weight");
    const enum names_component r = NAMES_VAE_RESIDUAL;
    expect_name(r, "encoder.down_blocks.3.resnets.1.conv_shortcut.weight",
                "encoder.downsamples.3.downsamples.1.shortcut.weight");
    expect_name(r, "encoder.down_blocks.1.downsampler.time_conv.bias",
                "encoder.downsamples.1.downsamples.2.time_conv.bias");
    expect_name(r, "decoder.up_blocks.2.resnets.0.norm1.gamma",
                "decoder.upsamples.2.upsamples.0.residual.0.gamma");
    expect_name(r, "decoder.up_blocks.2.upsampler.resample.1.weight",
                "decoder.upsamples.2.upsamples.3.resample.1.weight");
    expect_name(r, "decoder.mid_block.resnets.1.conv1.bias", "decoder.middle.2.residual.2.bias");
    char small[8];
    assert_false(names_to_original(small, sizeof small, "blocks.3.norm2.weight", t));
}

/* Every tensor of the published Wan2.2 VAE: lines of layout, name, dimensions. The name that each
 * diffusers one becomes is there, with the same dimensions. */
static void wan22_vae_names(void **state) {
    (void)state;
    static char lines[512][256];
    FILE *file = fopen("tests/worker/model/vectors/wan22_vae.txt", "r");
    assert_non_null(file);
    int count = 0, found = 0, asked = 0;
    while (count < 512 && fgets(lines[count], sizeof lines[count], file) != NULL)
        count++;
    assert_int_equal(fclose(file), 0);
    for (int i = 0; i < count && strncmp(lines[i], "vae ", 4) == 0; i++) {
        char *name = lines[i] + 4, *end = strchr(name, ' '), original[256], line[512];
        assert_non_null(end);
        *end = 0;
        assert_true(names_to_original(original, sizeof original, name, NAMES_VAE_RESIDUAL));
        (void)snprintf(line, sizeof line, "original %s %s", original, end + 1);
        for (int k = i + 1; k < count; k++)
            found += strcmp(lines[k], line) == 0;
        if (found != ++asked)
            fail_msg("%s is not %s", name, original);
    }
    assert_int_equal(asked, 196);
    assert_int_equal(count, 2 * asked);
}

/* A component's weights under their original names hold all that the diffusers ones do. */
static struct weights *renamed(const char *folder, const char *name,
                               enum names_component component) {
    char path[FILE_PATH_BYTES], *names[512];
    struct tensor tensors[512];
    struct weights *from, *to;
    struct error error = {0};
    ok(file_join(path, RANDOM_WAN, name, &error), &error);
    ok(weights_open(&from, path, &error), &error);
    size_t count = weights_count(from);
    assert_true(count <= 512);
    for (size_t i = 0; i < count; i++) {
        char out[256];
        char back[256];
        assert_true(names_to_original(out, sizeof out, weights_name(from, i), component));
        assert_true(names_to_diffusers(back, sizeof back, out, component));
        assert_string_equal(back, weights_name(from, i));
        names[i] = strdup(out);
        tensors[i] = *weights_tensor(from, i);
    }
    ok(file_join(path, folder, "original", &error), &error);
    ok(file_make_folders(path, &error), &error);
    ok(file_join(path, folder, "original/renamed.safetensors", &error), &error);
    ok(safetensors_write(path, tensors, (const char *const *)names, count, &error), &error);
    ok(weights_open(&to, path, &error), &error); /* so the names are unique */
    assert_int_equal(weights_count(to), count);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    weights_close(&from);
    return to;
}

static void original_layout(void **state) {
    const char *folder = *state;
    struct bench bench;
    struct error error = {0};
    int64_t elements;
    bench_open(&bench, RANDOM_WAN, DTYPE_F32);
    struct weights *file = renamed(folder, "text_encoder/model.safetensors", NAMES_UMT5);
    struct umt5 *umt5;
    ok(umt5_open(&umt5, &bench.runtime, file, &bench.parts.umt5_config, &elements, &error), &error);
    umt5_close(&bench.runtime, &umt5);
    weights_close(&file);

    file = renamed(folder, "window/diffusion_pytorch_model.safetensors", NAMES_TRANSFORMER);
    struct transformer_config config, diffusers = bench.parts.window->config;
    struct transformer *transformer;
    char path[FILE_PATH_BYTES];
    static const char original[] = "{\"dim\": 72, \"ffn_dim\": 152, \"freq_dim\": 32, "
                                   "\"in_dim\": 36, \"model_type\": \"i2v\", \"num_heads\": 3, "
                                   "\"num_layers\": 2, \"out_dim\": 16, \"text_dim\": 40, "
                                   "\"text_len\": 64, \"eps\": 1e-06}";
    ok(file_join(path, folder, "original", &error), &error);
    ok(file_make_folders(path, &error), &error);
    ok(file_join(path, folder, "original/config.json", &error), &error);
    ok(file_write(path, original, sizeof original - 1, false, &error), &error);
    ok(file_join(path, folder, "original", &error), &error);
    ok(config_read_transformer(&config, path, NULL, &error), &error);
    assert_memory_equal(&config, &diffusers, sizeof config);
    ok(transformer_open(&transformer, &bench.runtime, file, &config, &elements, &error), &error);
    transformer_close(&bench.runtime, &transformer);
    weights_close(&file);

    file = renamed(folder, "vae/diffusion_pytorch_model.safetensors", NAMES_VAE);
    assert_non_null(weights_find(file, "decoder.upsamples.14.residual.6.weight"));
    struct vae *vae;
    ok(vae_open(&vae, &bench.runtime, file, &bench.parts.vae_config, &elements, &error), &error);
    vae_close(&bench.runtime, &vae);
    weights_close(&file);
    bench_close(&bench);
}

/* -- damaged folders -------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to, const char *name) {
    char path[FILE_PATH_BYTES], *bytes;
    struct arena arena;
    struct error error = {0};
    size_t length;
    ok(arena_open(&arena, 1 << 24, &error), &error);
    ok(file_join(path, from, name, &error), &error);
    ok(file_read(&bytes, &length, &arena, path, 1 << 23, &error), &error);
    ok(file_join(path, to, name, &error), &error);
    ok(file_write(path, bytes, length, false, &error), &error);
    arena_close(&arena);
}

static const char *const files[] = {"model_index.json",
                                    "scheduler/scheduler_config.json",
                                    "tokenizer/tokenizer_config.json",
                                    "tokenizer/spiece.model",
                                    "text_encoder/config.json",
                                    "text_encoder/model.safetensors",
                                    "keyframe/config.json",
                                    "keyframe/diffusion_pytorch_model.safetensors",
                                    "window/config.json",
                                    "window/diffusion_pytorch_model.safetensors",
                                    "vae/config.json",
                                    "vae/diffusion_pytorch_model.safetensors"};

static int make_copy(void **state) {
    static char folder[64];
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    (void)snprintf(folder, sizeof folder, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    static const char *const folders[] = {"scheduler", "tokenizer", "text_encoder",
                                          "keyframe",  "window",    "vae"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        ok(file_join(path, folder, folders[i], &error), &error);
        ok(file_make_folders(path, &error), &error);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        copy_file(RANDOM_WAN, folder, files[i]);
    *state = folder;
    return 0;
}

static int remove_copy(void **state) {
    return file_remove_tree(*state, NULL) == ERR_OK ? 0 : -1;
}

/* The folder with `from` replaced by `to` in one file gives this error. */
static void expect(const char *folder, const char *name, const char *from, const char *to,
                   enum error_code expected, const char *why) {
    char path[FILE_PATH_BYTES], *text;
    struct arena arena;
    struct error error = {0};
    size_t length;
    ok(arena_open(&arena, 1 << 20, &error), &error);
    ok(file_join(path, folder, name, &error), &error);
    ok(file_read(&text, &length, &arena, path, 1 << 18, &error), &error);
    const char *at = strstr(text, from);
    if (at == NULL)
        fail_msg("%s has no %s", name, from);
    struct buffer changed = {0};
    buffer_add(&changed, text, (size_t)(at - text));
    buffer_add_text(&changed, to);
    buffer_add_text(&changed, at + strlen(from));
    ok(file_write(path, changed.data, changed.length, false, &error), &error);
    struct model_info info;
    enum error_code code = model_read_info(&info, folder, &error);
    if (code != expected || (why != NULL && strstr(error.detail, why) == NULL))
        fail_msg("%s with %s gave %s: %s", name, to, error_name(code), error.detail);
    buffer_close(&changed);
    copy_file(RANDOM_WAN, folder, name);
    arena_close(&arena);
}

static void contradictions(void **state) {
    const char *d = *state;
    const char *index = "model_index.json", *keyframe = "keyframe/config.json";
    expect(d, index, "WanWindowPipeline", "FluxPipeline", ERR_UNSUPPORTED, "FluxPipeline");
    expect(d, index, "latent_zeros", "other", ERR_UNSUPPORTED, "window_condition");
    expect(d, index, "\"window_frames\": 17", "\"window_frames\": 18", ERR_FORMAT, "4n+1");
    expect(d, index, "\"window_frames\": 17,", "", ERR_FORMAT, "window_frames");
    expect(d, index, "\"width\": 160", "\"width\": 161", ERR_FORMAT, "multiples of 16");
    expect(d, index, "\"fps\": 16", "\"fps\": 1e99", ERR_FORMAT, "fps");
    expect(d, index, "{", "[", ERR_FORMAT, "model_index.json:");
    expect(d, keyframe, "\"num_layers\": 2", "\"num_layers\": 3", ERR_MISSING, "blocks.2.");
    expect(d, keyframe, "\"num_layers\": 2", "\"num_layers\": 1", ERR_SHAPE, "same model");
    expect(d, keyframe, "\"num_layers\": 2", "\"num_layers\": -2", ERR_FORMAT, "num_layers");
    expect(d, keyframe, "\"num_layers\": 2", "\"num_layers\": \"2\"", ERR_FORMAT, "num_layers");
    expect(d, keyframe, "\"ffn_dim\": 152", "\"ffn_dim\": 153", ERR_SHAPE, "[152,72]");
    expect(d, keyframe, "\"in_channels\": 16", "\"in_channels\": 20", ERR_SHAPE, "[72,20,1,2,2]");
    expect(d, keyframe, "\"text_dim\": 40", "\"text_dim\": 48", ERR_SHAPE, "text_embedder");
    expect(d, keyframe, "\"image_dim\": null,\n  \"added_kv_proj_dim\": null",
           "\"image_dim\": 1280, \"added_kv_proj_dim\": 72", ERR_MISSING, "image_embedder");
    expect(d, keyframe, "\"image_dim\": null", "\"image_dim\": 1280", ERR_FORMAT,
           "'added_kv_proj_dim' is null");
    expect(d, keyframe, "\"rms_norm_across_heads\"", "null", ERR_UNSUPPORTED, "'qk_norm' is null");
    expect(d, keyframe, "rms_norm_across_heads", "other", ERR_UNSUPPORTED, "qk_norm");
    expect(d, keyframe, "\"cross_attn_norm\": true", "\"cross_attn_norm\": false", ERR_UNSUPPORTED,
           "cross_attn_norm");
    expect(d, "text_encoder/config.json", "\"umt5\"", "\"bert\"", ERR_UNSUPPORTED, "bert");
    expect(d, "text_encoder/config.json", "\"d_ff\": 56", "\"d_ff\": 60", ERR_SHAPE, "wi_0");
    expect(d, "vae/config.json", "\"is_residual\": false", "\"is_residual\": true", ERR_MISSING,
           "down_blocks.0.resnets.0.");
    expect(d, "vae/config.json", "\"patch_size\": null", "\"patch_size\": 2", ERR_FORMAT,
           "in_channels");
    expect(d, "vae/config.json", "\"patch_size\": null", "\"patch_size\": 4", ERR_FORMAT, "1 to 2");
    expect(d, "vae/config.json", "\"base_dim\": 8", "\"base_dim\": 512", ERR_UNSUPPORTED, "middle");
    expect(d, "vae/config.json", "\"is_residual\": false", "\"is_residual\": 1", ERR_FORMAT,
           "true");
    expect(d, "vae/config.json", "\"z_dim\": 16", "\"z_dim\": 8", ERR_FORMAT, "latents_mean");
    expect(d, "vae/config.json", "\"base_dim\": 8", "\"base_dim\": 16", ERR_SHAPE, "conv_in");
    expect(d, "vae/config.json", "2.8184", "0", ERR_FORMAT, "above 0");
    expect(d, "scheduler/scheduler_config.json", "FlowMatchEuler", "DDIM", ERR_UNSUPPORTED, "DDIM");
    expect(d, "scheduler/scheduler_config.json", "\"FlowMatchEulerDiscreteScheduler\"",
           "\"UniPCMultistepScheduler\", \"solver_order\": 3", ERR_FORMAT, "must be 2 here");
    expect(d, "scheduler/scheduler_config.json", "\"num_inference_steps\": 3",
           "\"num_inference_steps\": 3, \"sigmas\": [1, 0.5, 0]", ERR_FORMAT, "2 steps");
    expect(d, "scheduler/scheduler_config.json", "\"num_inference_steps\": 3",
           "\"num_inference_steps\": 2, \"sigmas\": [1, 1.5, 0]", ERR_FORMAT, "fall");
    expect(d, "tokenizer/tokenizer_config.json", "64", "1e400", ERR_FORMAT, NULL);
}

/* The folder with this scheduler: what it is understood as. */
static enum error_code with_scheduler(struct model_info *out, const char *folder, const char *text,
                                      struct error *error) {
    write_text(folder, "scheduler/scheduler_config.json", text);
    enum error_code code = model_read_info(out, folder, error);
    copy_file(RANDOM_WAN, folder, "scheduler/scheduler_config.json");
    return code;
}

#define UNIPC                                                                                      \
    "{\"_class_name\": \"UniPCMultistepScheduler\", \"prediction_type\": \"flow_prediction\", "    \
    "\"use_flow_sigmas\": true"
#define EULER "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\""

/* Keys of a class are read by that class; what is left out is its own default. */
static void schedulers(void **state) {
    static const struct {
        const char *text;
        enum sampler sampler;
        float shift;
    } good[] = {
        {UNIPC "}", SAMPLER_UNIPC, 1},
        {UNIPC ", \"flow_shift\": 8, \"shift\": 3}", SAMPLER_UNIPC, 8},
        {UNIPC ", \"flow_shift\": null, \"shift_terminal\": null, \"disable_corrector\": []}",
         SAMPLER_UNIPC, 1},
        {EULER "}", SAMPLER_EULER, 1},
        {EULER ", \"flow_shift\": 8, \"shift\": 3}", SAMPLER_EULER, 3},
        {EULER ", \"flow_shift\": 8}", SAMPLER_EULER, 1},
        {EULER ", \"shift\": 5, \"stochastic_sampling\": true}", SAMPLER_RENOISE, 5},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"prediction_type\": "
         "\"flow_prediction\", \"use_flow_sigmas\": true, \"flow_shift\": 2}",
         SAMPLER_DPMPP, 2},
    };
    static const struct {
        const char *text, *key;
    } bad[] = {
        {UNIPC ", \"use_karras_sigmas\": true}", "'use_karras_sigmas'"},
        {UNIPC ", \"use_exponential_sigmas\": true}", "'use_exponential_sigmas'"},
        {UNIPC ", \"use_beta_sigmas\": true}", "'use_beta_sigmas'"},
        {UNIPC ", \"thresholding\": true}", "'thresholding'"},
        {UNIPC ", \"use_dynamic_shifting\": true}", "'use_dynamic_shifting'"},
        {UNIPC ", \"final_sigmas_type\": \"sigma_min\"}", "'sigma_min'"},
        {UNIPC ", \"shift_terminal\": 0.1}", "'shift_terminal'"},
        {UNIPC ", \"disable_corrector\": [0]}", "'disable_corrector'"},
        {UNIPC ", \"lower_order_final\": false}", "'lower_order_final'"},
        {UNIPC ", \"solver_p\": {}}", "'solver_p'"},
        {EULER ", \"invert_sigmas\": true}", "'invert_sigmas'"},
        {EULER ", \"use_karras_sigmas\": true}", "'use_karras_sigmas'"},
        {"{\"_class_name\": \"UniPCMultistepScheduler\", \"use_flow_sigmas\": true}",
         "'prediction_type' is missing, which means 'epsilon'"},
        {"{\"_class_name\": \"UniPCMultistepScheduler\", \"prediction_type\": "
         "\"flow_prediction\"}",
         "'use_flow_sigmas' is missing, which means false"},
    };
    struct model_info info;
    struct error error = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        print_message("%s\n", good[i].text);
        ok(with_scheduler(&info, *state, good[i].text, &error), &error);
        assert_int_equal(info.sampler, good[i].sampler);
        assert_true(info.shift == good[i].shift);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum error_code code = with_scheduler(&info, *state, bad[i].text, &error);
        if (code != ERR_UNSUPPORTED || strstr(error.detail, bad[i].key) == NULL)
            fail_msg("%s gave %s: %s", bad[i].text, error_name(code), error.detail);
    }
}

/* A second transformer is not left out silently. */
static void second_expert(void **state) {
    static const char index[] = "{\"_class_name\": \"WanPipeline\", \"boundary_ratio\": null}";
    char here[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct model_config config;
    struct error error = {0};
    ok(file_join(here, *state, "second", &error), &error);
    ok(file_join(path, here, "transformer_2", &error), &error);
    ok(file_make_folders(path, &error), &error);
    write_text(here, "model_index.json", index);
    assert_int_equal(config_read_model(&config, here, &error), ERR_MISSING); /* no scheduler */
    write_text(here, "transformer_2/diffusion_pytorch_model.safetensors", "");
    assert_int_equal(config_read_model(&config, here, &error), ERR_FORMAT);
    assert_non_null(strstr(error.detail, "'boundary_ratio'"));
}

/* Whether there is an image branch, the tensors say, not model_type. */
static void image_branch(void **state) {
    static const char text[] = "{\"dim\": 128, \"ffn_dim\": 64, \"freq_dim\": 256, \"in_dim\": 36, "
                               "\"model_type\": \"i2v\", \"num_heads\": 4, \"num_layers\": 2, "
                               "\"out_dim\": 16, \"text_dim\": 64, \"eps\": 1e-06}";
    static struct small_model m;
    char here[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct model_config config;
    struct error error = {0};
    ok(file_join(here, *state, "i2v", &error), &error);
    ok(file_make_folders(here, &error), &error);
    ok(file_join(path, here, "diffusion_pytorch_model.safetensors", &error), &error);
    write_text(here, "config.json", text);
    ok(config_read_model(&config, here, &error), &error);
    assert_true(config.image_encoder); /* as published, where there is nothing to ask */
    assert_true(config.scheduler.shift == 5 && config.scheduler.shift_small == 3);
    for (int image = 0; image < 2; image++) {
        small_transformer(&m, 36, image);
        if (image)
            small_put(&m, "img_emb.proj.0.weight", DIMS(16));
        small_write(&m, path);
        ok(config_read_model(&config, here, &error), &error);
        assert_int_equal(config.image_encoder, image);
    }
}

static void missing_files(void **state) {
    const char *folder = *state;
    struct model_info info;
    struct error error = {0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[FILE_PATH_BYTES];
        ok(file_join(path, folder, files[i], &error), &error);
        assert_int_equal(unlink(path), 0);
        enum error_code code = model_read_info(&info, folder, &error);
        if (code != ERR_MISSING ||
            strstr(error.detail,
                   strrchr(files[i], '/') != NULL ? strrchr(files[i], '/') + 1 : files[i]) == NULL)
            fail_msg("without %s: %s: %s", files[i], error_name(code), error.detail);
        copy_file(RANDOM_WAN, folder, files[i]);
    }
    assert_int_equal(model_read_info(&info, "/nowhere", &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, "/nowhere"));
    ok(model_read_info(&info, folder, &error), &error);
    assert_true(info.window_fixed);
}

/* All that is not there is listed at once, shards too. */
static void lists_what_is_missing(void **state) {
    static const char folder[] = "tests/parity/golden/t2v-a14b"; /* whole but for text and VAE */
    static const char index[] =
        "{\"weight_map\": {\"a\": \"x-1.safetensors\", \"b\": \"x-2.safetensors\", "
        "\"c\": \"x-1.safetensors\", \"d\": \"x-3.safetensors\", \"e\": \"../x\"}}";
    static const char *const lines[] = {
        "scheduler: scheduler/scheduler_config.json\n",
        "transformer: x-1.safetensors, which",
        "transformer: x-3.safetensors, which",
        "transformer_2: ",
        "text_encoder: ",
        "tokenizer: ",
        "vae: ",
    };
    char here[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct error error = {0};
    struct buffer list = {0};
    assert_int_equal(missing_list(&list, *state), 0);
    assert_int_equal(missing_list(&list, "/nowhere"), 0);
    assert_int_equal(missing_list(&list, folder), 3);
    buffer_close(&list);
    ok(file_join(here, *state, "partly", &error), &error);
    ok(file_join(path, here, "transformer", &error), &error);
    ok(file_make_folders(path, &error), &error);
    copy_file(folder, here, "model_index.json");
    write_text(here, "transformer/diffusion_pytorch_model.safetensors.index.json", index);
    write_text(here, "transformer/x-2.safetensors", "");
    assert_int_equal(missing_list(&list, here), (int)(sizeof lines / sizeof *lines));
    const char *at = list.data;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strncmp(at, lines[i], strlen(lines[i])) != 0)
            fail_msg("expected '%s' at '%s'", lines[i], at);
        at = strchr(at, '\n') + 1;
    }
    buffer_close(&list);
    ok(file_remove_tree(here, &error), &error);
}

/* What a picture's preparation may say: what is done, as it is said by old and new files. */
static void pictures(void **state) {
    static const char good[] =
        "{\"do_resize\": true, \"resample\": 3, \"size\": {\"shortest_edge\": "
        "224}, \"crop_size\": 224, \"rescale_factor\": "
        "0.00392156862745098, \"image_std\": [0.26862954, 0.26130258, "
        "0.27577711], \"do_center_crop\": true}";
    static const struct {
        const char *from, *to, *said;
    } bad[] = {
        {"\"do_resize\": true", "\"do_resize\": false", "do_resize"},
        {"\"resample\": 3", "\"resample\": 2", "resample"},
        {"\"crop_size\": 224", "\"crop_size\": 256", "crop_size"},
        {"\"crop_size\": 224", "\"crop_size\": {\"height\": 224}", "crop_size"},
        {"{\"shortest_edge\": 224}", "{\"shortest_edge\": 336}", "'size'"},
        {"0.26862954", "0.5", "image_std"},
        {", 0.27577711", "", "image_std"},
        {"0.00392156862745098", "1", "rescale_factor"},
    };
    static const char file[] = "image_processor/preprocessor_config.json";
    const struct clip_config clip = {.image_size = 224};
    const char *folder = *state;
    char path[FILE_PATH_BYTES], text[1024];
    struct error error = {0};
    ok(config_check_picture(&clip, folder, &error), &error); /* there is none */
    ok(file_join(path, folder, "image_processor", &error), &error);
    ok(file_make_folders(path, &error), &error);
    write_text(folder, file, good);
    ok(config_check_picture(&clip, folder, &error), &error);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *at = strstr(good, bad[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, bad[i].to,
                       at + strlen(bad[i].from));
        write_text(folder, file, text);
        assert_int_not_equal(config_check_picture(&clip, folder, &error), ERR_OK);
        if (strstr(error.detail, bad[i].said) == NULL)
            fail_msg("%s: %s", bad[i].to, error.detail);
    }
    ok(file_remove_tree(path, &error), &error);
}

/* The same content elsewhere has the same hash; another weight or setting has another. */
static void fingerprints(void **state) {
    const char *folder = *state;
    struct model_info here, there;
    struct error error = {0};
    ok(model_read_info(&here, RANDOM_WAN, &error), &error);
    ok(model_read_info(&there, folder, &error), &error);
    assert_memory_equal(&here.hash, &there.hash, sizeof here.hash);
    char path[FILE_PATH_BYTES];
    ok(file_join(path, folder, "vae/diffusion_pytorch_model.safetensors", &error), &error);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc(0x55, file), 0x55);
    assert_int_equal(fclose(file), 0);
    ok(model_read_info(&there, folder, &error), &error);
    assert_memory_not_equal(&here.hash, &there.hash, sizeof here.hash);
    copy_file(RANDOM_WAN, folder, "vae/diffusion_pytorch_model.safetensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(original_names),
        cmocka_unit_test(wan22_vae_names),
        cmocka_unit_test(original_layout),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(schedulers),
        cmocka_unit_test(second_expert),
        cmocka_unit_test(image_branch),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(lists_what_is_missing),
        cmocka_unit_test(pictures),
        cmocka_unit_test(fingerprints),
    };
    return cmocka_run_group_tests(tests, make_copy, remove_copy);
}
