/* Which file of a folder is which component; names and shapes that other programs give. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/worker/model/small_model.h"
#include "worker/model/components.h"
#include "worker/model/describe.h"

/* A file of one tensor, so that it can be told from the others. */
static void put_file(const char *name, const char *tensor) {
    char path[FILE_PATH_BYTES];
    struct small_model m = {0};
    struct error error = {0};
    char *slash = strrchr((char *)(uintptr_t)scratch_path(path, name), '/');
    *slash = 0;
    ok(file_make_folders(path, &error), &error);
    small_put(&m, tensor, DIMS(2));
    small_write(&m, scratch_path(path, name));
}

static void put_index(const char *folder) {
    static const char text[] = "{\"weight_map\": {}}";
    char name[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct error error = {0};
    (void)snprintf(name, sizeof name, "%s/diffusion_pytorch_model.safetensors.index.json", folder);
    ok(file_write(scratch_path(path, name), text, sizeof text - 1, false, &error), &error);
}

static void expect(const char *inner, const char *component, const char *tensor) {
    char path[FILE_PATH_BYTES];
    struct weights *weights;
    struct error error = {0};
    ok(component_open(&weights, scratch_path(path, inner), component, &error), &error);
    if (weights_find(weights, tensor) == NULL)
        fail_msg("%s of %s is %s", component, inner, weights_path(weights));
    weights_close(&weights);
}

static void layouts(void **state) {
    static const struct {
        const char *file, *component;
    } files[] = {
        {"d/text_encoder/model.safetensors", "text_encoder"},
        {"d/image_encoder/model.safetensors", "image_encoder"},
        {"d/transformer/diffusion_pytorch_model.safetensors", "transformer"},
        {"d/transformer_2/diffusion_pytorch_model.safetensors", "transformer_2"},
        {"d/vae/diffusion_pytorch_model.safetensors", "vae"},
        {"d/keyframe/diffusion_pytorch_model.safetensors", "keyframe"},
        {"o/models_t5_umt5-xxl-enc-bf16.pth", "text_encoder"},
        {"o/models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth", "image_encoder"},
        {"o/diffusion_pytorch_model.safetensors", "transformer"},
        {"o/Wan2.1_VAE.pth", "vae"},
        {"e/high_noise_model/diffusion_pytorch_model.safetensors", "transformer"},
        {"e/low_noise_model/diffusion_pytorch_model.safetensors", "transformer_2"},
        {"e/Wan2.2_VAE.pth", "vae"},
        {"c/diffusion_models/wan2.2_t2v_high_noise_14B_fp16.safetensors", "transformer"},
        {"c/diffusion_models/wan2.2_t2v_low_noise_14B_fp16.safetensors", "transformer_2"},
        {"c/text_encoders/umt5_xxl_fp16.safetensors", "text_encoder"},
        {"c/clip_vision/clip_vision_h.safetensors", "image_encoder"},
        {"c/vae/wan_2.1_vae.safetensors", "vae"},
        {"g/Wan2.1-T2V-14B-Q4_K_M.gguf", "transformer"},
        {"g/umt5-xxl-encoder-Q8_0.gguf", "text_encoder"},
        {"g/Wan2.1_VAE.safetensors", "vae"},
        {"g/a_lora.safetensors", "nothing"},
        {"q/transformer/wan2.1-t2v-Q4_K_M.gguf", "transformer"},
        {"q/transformer_2/wan2.1-t2v-Q4_K_M.gguf", "transformer_2"},
        {"q/text_encoder/umt5-Q8_0.gguf", "text_encoder"},
        {"q/image_encoder/clip.gguf", "image_encoder"},
    };
    char tensor[32], inner[2] = "";
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(tensor, sizeof tensor, "t%zu", i);
        put_file(files[i].file, tensor);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(tensor, sizeof tensor, "t%zu", i);
        inner[0] = files[i].file[0];
        if (strcmp(files[i].component, "nothing") != 0)
            expect(inner, files[i].component, tensor);
    }
    expect("o", ".", "t8");
    expect("e", "high_noise_model", "t10");
    char path[FILE_PATH_BYTES];
    static const char *const twice[] = {"transformer", "keyframe"};
    for (size_t i = 0; i < 2; i++) { /* whole, and in shards */
        struct weights *weights;
        struct error error = {0};
        (void)snprintf(tensor, sizeof tensor, "d/%s", twice[i]);
        put_index(tensor);
        assert_int_equal(component_open(&weights, scratch_path(path, "d"), twice[i], &error),
                         ERR_USAGE);
        assert_non_null(strstr(error.detail, "diffusion_pytorch_model.safetensors.index.json"));
    }
    assert_false(component_is_there(scratch_path(path, "g"), "image_encoder"));
    assert_false(component_is_there(scratch_path(path, "g"), "transformer_2"));
    assert_true(component_is_there(scratch_path(path, "e"), "transformer_2"));
}

static void what_is_not_there(void **state) {
    char path[FILE_PATH_BYTES];
    struct weights *weights;
    struct error error = {0};
    assert_int_equal(component_open(&weights, scratch_path(path, "g"), "image_encoder", &error),
                     ERR_MISSING);
    assert_non_null(strstr(error.detail, "models_clip_"));
    assert_int_equal(component_open(&weights, scratch_path(path, "g"), "window", &error),
                     ERR_MISSING);
    put_file("g/second.gguf", "x");
    assert_int_equal(component_open(&weights, scratch_path(path, "g"), "transformer", &error),
                     ERR_USAGE);
    assert_non_null(strstr(error.detail, "second.gguf"));
    assert_non_null(strstr(error.detail, "Q4_K_M"));
    assert_null(weights);
}

/* Shards without the file that says what is in them, as a download that was cut short leaves. */
static void shards_alone(void **state) {
    static const struct {
        const char *component, *stem;
    } places[] = {{"transformer", "s/transformer/diffusion_pytorch_model"},
                  {"text_encoder", "s/text_encoder/model"},
                  {"transformer_2", "s/low_noise_model/diffusion_pytorch_model"}};
    char name[FILE_PATH_BYTES], path[FILE_PATH_BYTES], missing[FILE_PATH_BYTES];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct weights *weights;
        struct error error = {0};
        for (int shard = 1; shard < 4; shard += 2) {
            (void)snprintf(name, sizeof name, "%s-%05d-of-00004.safetensors", places[i].stem,
                           shard);
            put_file(name, "x");
        }
        (void)snprintf(missing, sizeof missing, "%s.safetensors.index.json, which says",
                       places[i].stem);
        assert_int_equal(
            component_open(&weights, scratch_path(path, "s"), places[i].component, &error),
            ERR_MISSING);
        if (strstr(error.detail, "2 of 4 shards") == NULL || strstr(error.detail, missing) == NULL)
            fail_msg("%s", error.detail);
    }
}

/* A checkpoint of everything, each under its prefix. */
static void one_for_all(void **state) {
    struct small_model m = {0};
    char path[FILE_PATH_BYTES];
    small_put(&m, "model.diffusion_model.patch_embedding.bias", DIMS(2));
    small_put(&m, "vae.conv1.bias", DIMS(2));
    small_put(&m, "text_encoders.umt5xxl.transformer.shared.weight", DIMS(2, 2));
    struct error error = {0};
    ok(file_make_folders(scratch_path(path, "a"), &error), &error);
    small_write(&m, scratch_path(path, "a/all-in-one.safetensors"));
    expect("a", "transformer", "patch_embedding.bias");
    expect("a", "vae", "conv1.bias");
    expect("a", "text_encoder", "shared.weight");
    struct weights *weights;
    assert_int_equal(component_open(&weights, scratch_path(path, "a"), "image_encoder", &error),
                     ERR_MISSING);
}

/* llama.cpp's names of umT5, and a folded convolution. */
static void other_names(void **state) {
    struct small_model m = {0};
    struct error error = {0};
    char path[FILE_PATH_BYTES];
    struct weights *weights;
    small_put(&m, "token_embd.weight", DIMS(32, 64));
    small_put(&m, "enc.output_norm.weight", DIMS(64));
    small_put(&m, "enc.blk.0.attn_q.weight", DIMS(48, 64));
    small_put(&m, "enc.blk.0.attn_rel_b.weight", DIMS(32, 4));
    small_put(&m, "enc.blk.0.attn_norm.weight", DIMS(64));
    small_put(&m, "enc.blk.0.ffn_gate.weight", DIMS(96, 64));
    small_write(&m, scratch_path(path, "llama.safetensors"));
    ok(component_open_file(&weights, scratch_path(path, "llama.safetensors"), &error), &error);
    static const char *const names[] = {
        "token_embedding.weight", "norm.weight",
        "blocks.0.attn.q.weight", "blocks.0.pos_embedding.embedding.weight",
        "blocks.0.norm1.weight",  "blocks.0.ffn.gate.0.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (weights_find(weights, names[i]) == NULL)
            fail_msg("no '%s'", names[i]);
    weights_close(&weights);
    small_put(&m, "patch_embedding.weight", DIMS(8 * 16, 1, 2, 2));
    small_put(&m, "patch_embedding.bias", DIMS(8));
    small_write(&m, scratch_path(path, "folded.safetensors"));
    ok(component_open_file(&weights, scratch_path(path, "folded.safetensors"), &error), &error);
    const struct tensor *patch = weights_find(weights, "patch_embedding.weight");
    assert_int_equal(patch->rank, 5);
    assert_memory_equal(patch->dim, ((int64_t[]){8, 16, 1, 2, 2}), 5 * sizeof(int64_t));
    weights_close(&weights);
}

/* -- what shapes say --------------------------------------------------------------------------- */

static void expect_config(const char *path, enum names_component component, const char *const *keys,
                          const int64_t *values) {
    struct weights *weights;
    struct error error = {0};
    struct buffer text = {0};
    struct arena arena;
    const struct json *root;
    enum names_component found;
    ok(component_open_file(&weights, path, &error), &error);
    assert_true(describe_component(&found, weights));
    assert_int_equal(found, component);
    ok(describe_config(&text, weights, component, NULL, &error), &error);
    ok(arena_open(&arena, 1 << 20, &error), &error);
    ok(json_parse(&root, &arena, text.data, text.length, &error), &error);
    for (; *keys != NULL; keys++, values++)
        if (json_int(root, *keys, -1) != *values)
            fail_msg("%s: %s", *keys, text.data);
    arena_close(&arena);
    buffer_close(&text);
    weights_close(&weights);
}

static void shapes(void **state) {
    struct small_model m = {0};
    char path[FILE_PATH_BYTES];
    small_transformer(&m, 36, true);
    small_write(&m, scratch_path(path, "transformer.safetensors"));
    expect_config(path, NAMES_TRANSFORMER,
                  (const char *const[]){"num_attention_heads", "in_channels", "out_channels",
                                        "text_dim", "ffn_dim", "num_layers", "freq_dim", NULL},
                  (const int64_t[]){1, 36, 16, 64, 64, 2, 256});
    small_umt5(&m);
    small_write(&m, scratch_path(path, "umt5.safetensors"));
    expect_config(path, NAMES_UMT5,
                  (const char *const[]){"vocab_size", "d_model", "d_kv", "num_heads", "d_ff",
                                        "num_layers", "relative_attention_num_buckets", NULL},
                  (const int64_t[]){32, 64, 12, 4, 96, 2, 32});
    expect_config(RANDOM_WAN "/text_encoder/model.safetensors", NAMES_UMT5,
                  (const char *const[]){"relative_attention_num_buckets", NULL},
                  (const int64_t[]){32});
    expect_config("tests/worker/model/vectors/wan22_vae/diffusion_pytorch_model.safetensors",
                  NAMES_VAE_RESIDUAL, (const char *const[]){"z_dim", "patch_size", NULL},
                  (const int64_t[]){48, 2});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts),     cmocka_unit_test(what_is_not_there),
        cmocka_unit_test(one_for_all), cmocka_unit_test(other_names),
        cmocka_unit_test(shapes),      cmocka_unit_test(shards_alone),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
