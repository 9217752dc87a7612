/* One layout to the other and back is the same to the bit; a model converted is the same model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "tests/worker/model/small_model.h"
#include "tests/worker/model/weights_test.h"
#include "worker/model/components.h"
#include "worker/model/config.h"
#include "worker/model/convert.h"
#include "worker/model/numbers.h"
#include "worker/model/safetensors.h"

#define VECTORS    "tests/vectors/weights"
#define CLIP       "tests/parity/golden/clip"
#define GOLDEN_I2V "tests/parity/golden/i2v"

static void write_text(const char *name, const char *text) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    ok(file_write(scratch_path(path, name), text, strlen(text), false, &error), &error);
}

static void finish(struct small_model *m, const char *name) {
    char path[FILE_PATH_BYTES];
    small_write(m, scratch_path(path, name));
}

static void make_dir(const char *name) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    ok(file_make_folders(scratch_path(path, name), &error), &error);
}

/* Two experts of the original layout and a text encoder. */
static void make_original(void) {
    static struct small_model m;
    static const char config[] =
        "{\"model_type\": \"t2v\", \"dim\": 128, \"ffn_dim\": 64, \"freq_dim\": 256, \"in_dim\": "
        "16, \"out_dim\": 16, \"num_heads\": 4, \"num_layers\": 2, \"text_dim\": 64, "
        "\"text_len\": 512, \"eps\": 1e-06}";
    make_dir("o/high_noise_model");
    make_dir("o/low_noise_model");
    make_dir("o/google/umt5-xxl");
    small_transformer(&m, 16, false);
    finish(&m, "o/high_noise_model/diffusion_pytorch_model.safetensors");
    small_transformer(&m, 16, false);
    finish(&m, "o/low_noise_model/diffusion_pytorch_model.safetensors");
    small_umt5(&m);
    finish(&m, "o/models_t5_umt5-xxl-enc-bf16.safetensors");
    write_text("o/high_noise_model/config.json", config);
    write_text("o/low_noise_model/config.json", config);
    write_text("o/google/umt5-xxl/spiece.model", "pieces");
}

static void same(const char *a, const char *b) {
    char x[FILE_PATH_BYTES], y[FILE_PATH_BYTES];
    same_weights(scratch_path(x, a), scratch_path(y, b));
}

static bool is_file(const char *name) {
    char path[FILE_PATH_BYTES];
    return access(scratch_path(path, name), F_OK) == 0;
}

static void convert(const char *out, const char *in, struct convert_options options) {
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    struct error error = {0};
    ok(convert_folder(scratch_path(a, out), scratch_path(b, in), &options, &error), &error);
    assert_false(is_file("d.part"));
}

static void there_and_back(void **state) {
    struct error error = {0};
    struct model_info before, middle, after;
    char path[FILE_PATH_BYTES];
    make_original();
    convert("d", "o", (struct convert_options){.layout = CONVERT_DIFFUSERS, .shard_bytes = 400000});
    assert_true(is_file("d/transformer/diffusion_pytorch_model.safetensors.index.json"));
    assert_true(is_file("d/transformer_2/config.json"));
    assert_true(is_file("d/text_encoder/model.safetensors"));
    assert_true(is_file("d/tokenizer/spiece.model"));
    convert("b", "d", (struct convert_options){.layout = CONVERT_ORIGINAL});
    same("b/high_noise_model/diffusion_pytorch_model.safetensors",
         "o/high_noise_model/diffusion_pytorch_model.safetensors");
    same("b/low_noise_model/diffusion_pytorch_model.safetensors",
         "o/low_noise_model/diffusion_pytorch_model.safetensors");
    same("b/models_t5_umt5-xxl-enc-bf16.safetensors", "o/models_t5_umt5-xxl-enc-bf16.safetensors");
    ok(model_read_info(&before, scratch_path(path, "o"), &error), &error);
    ok(model_read_info(&middle, scratch_path(path, "d"), &error), &error);
    ok(model_read_info(&after, scratch_path(path, "b"), &error), &error);
    assert_int_equal(before.parameters, middle.parameters);
    assert_int_equal(before.parameters, after.parameters);
    assert_int_equal(before.experts, 2);
    assert_int_equal(middle.experts, 2);
    assert_true(before.boundary == middle.boundary && before.shift == middle.shift);
    assert_int_equal(before.stages, middle.stages);
}

/* Each kind of component by itself. */
static void files_there_and_back(void **state) {
    static const char *const files[] = {
        RANDOM_WAN "/vae/diffusion_pytorch_model.safetensors",
        RANDOM_WAN "/text_encoder/model.safetensors",
        RANDOM_WAN "/window/diffusion_pytorch_model.safetensors",
        "tests/worker/model/vectors/wan22_vae/diffusion_pytorch_model.safetensors",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char there[FILE_PATH_BYTES], back[FILE_PATH_BYTES];
        struct convert_options options = {.layout = CONVERT_ORIGINAL};
        struct error error = {0};
        print_message("%s\n", files[i]);
        ok(convert_file(scratch_path(there, "there"), files[i], &options, &error), &error);
        options.layout = CONVERT_DIFFUSERS;
        ok(convert_file(scratch_path(back, "back"), there, &options, &error), &error);
        same_weights(back, files[i]);
        assert_int_equal(unlink(there), 0);
        assert_int_equal(unlink(back), 0);
    }
}

/* Rows of the stacked tensor are those of one of the three, to the bit. */
static void is_part(const struct weights *stacked, const struct weights *apart, const char *letter,
                    const char *what, int index) {
    char name[96];
    (void)snprintf(name, sizeof name, "encoder.layers.0.self_attn.%s_proj.%s", letter, what);
    const struct tensor *part = weights_find(apart, name);
    (void)snprintf(name, sizeof name, "visual.transformer.0.attn.to_qkv.%s", what);
    const struct tensor *whole = weights_find(stacked, name);
    assert_true(part != NULL && whole != NULL && whole->dtype == part->dtype);
    assert_int_equal(whole->dim[0], 3 * part->dim[0]);
    size_t bytes = tensor_bytes(part);
    assert_memory_equal((const uint8_t *)whole->data + (size_t)index * bytes, part->data, bytes);
}

/* Rows of a picture by a weight file. */
static float *encode(const char *file, const uint8_t *rgb, int side, int64_t *count) {
    struct bench bench;
    struct weights *weights;
    struct clip_config config;
    struct clip *clip;
    struct error error = {0};
    bench_start(&bench, DTYPE_F32);
    ok(weights_open(&weights, file, &error), &error);
    ok(config_read_clip(&config, CLIP, NULL, &error), &error);
    ok(clip_open(&clip, &bench.runtime, weights, &config, NULL, &error), &error);
    *count = clip_rows(&config) * config.width;
    float *rows = work_floats(&bench.runtime, *count);
    ok(clip_encode(clip, &bench.runtime, rows, rgb, side, side, &error), &error);
    float *out = widened(rows, *count, DTYPE_F32);
    clip_close(&bench.runtime, &clip);
    weights_close(&weights);
    bench_close(&bench);
    return out;
}

/* q, k and v are one tensor in the original layout, three in the other. */
static void clip_is_stacked(void **state) {
    static const char *const letters[] = {"q", "k", "v"};
    static uint8_t rgb[64 * 64 * 3];
    const struct convert_options original = {.layout = CONVERT_ORIGINAL};
    const struct convert_options diffusers = {.layout = CONVERT_DIFFUSERS};
    char there[FILE_PATH_BYTES], back[FILE_PATH_BYTES], there_again[FILE_PATH_BYTES];
    struct weights *apart, *stacked;
    struct error error = {0};
    int64_t count, again;
    ok(convert_file(scratch_path(there, "there"), CLIP "/model.safetensors", &original, &error),
       &error);
    ok(convert_file(scratch_path(back, "back"), there, &diffusers, &error), &error);
    ok(convert_file(scratch_path(there_again, "again"), back, &original, &error), &error);
    same_weights(there_again, there);
    ok(weights_open(&apart, CLIP "/model.safetensors", &error), &error);
    ok(weights_open(&stacked, there, &error), &error);
    for (int i = 0; i < 3; i++) {
        is_part(stacked, apart, letters[i], "weight", i);
        is_part(stacked, apart, letters[i], "bias", i);
    }
    weights_close(&apart);
    weights_close(&stacked);
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7 % 251);
    float *a = encode(CLIP "/model.safetensors", rgb, 64, &count);
    const char *const converted[] = {there, back};
    for (int i = 0; i < 2; i++) {
        float *b = encode(converted[i], rgb, 64, &again);
        assert_int_equal(count, again);
        assert_memory_equal(a, b, (size_t)count * sizeof *a);
        free(b);
        assert_int_equal(unlink(converted[i]), 0);
    }
    assert_int_equal(unlink(there_again), 0);
    free(a);
}

/* An image-to-video model's folder there and back, with all that diffusers wants to read a picture.
 */
static void image_to_video(void **state) {
    char there[FILE_PATH_BYTES], back[FILE_PATH_BYTES];
    struct convert_options options = {.layout = CONVERT_ORIGINAL};
    struct error error = {0};
    struct model_info before, middle, after;
    struct arena arena;
    char *config;
    size_t length;
    ok(arena_open(&arena, 1 << 21, &error), &error);
    ok(convert_folder(scratch_path(there, "i"), GOLDEN_I2V, &options, &error), &error);
    make_dir("i/image_encoder"); /* of no published number of heads */
    ok(file_read(&config, &length, &arena, GOLDEN_I2V "/image_encoder/config.json", 1 << 20,
                 &error),
       &error);
    write_text("i/image_encoder/config.json", config);
    arena_close(&arena);
    options.layout = CONVERT_DIFFUSERS;
    ok(convert_folder(scratch_path(back, "j"), there, &options, &error), &error);
    assert_true(is_file("j/image_processor/preprocessor_config.json"));
    ok(model_read_info(&before, GOLDEN_I2V, &error), &error);
    ok(model_read_info(&middle, there, &error), &error);
    ok(model_read_info(&after, back, &error), &error);
    assert_int_equal(before.parameters, middle.parameters);
    assert_int_equal(before.parameters, after.parameters);
    assert_true(before.shift == 3 && middle.shift == 3 && after.shift == 3);
    static const char *const vaes[] = {"i/vae", "j/vae"}; /* with statistics of its own */
    for (int i = 0; i < 2; i++) {
        struct vae_config vae;
        ok(config_read_vae(&vae, scratch_path(there, vaes[i]), NULL, &error), &error);
        assert_true(vae.mean[0] == -0.15F);
    }
}

/* Every component cut into shards is found by its index, as large text encoders are cut; what is
 * published, the .pth file, goes before it. */
static void original_in_shards(void **state) {
    static const struct {
        const char *component, *stem;
    } parts[] = {
        {"transformer", "diffusion_pytorch_model"},
        {"text_encoder", "models_t5_umt5-xxl-enc-bf16"},
        {"image_encoder", "models_clip_open-clip-xlm-roberta-large-vit-huge-14"},
        {"vae", "Wan2.1_VAE"},
    };
    static struct small_model m;
    char whole[FILE_PATH_BYTES], cut[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    char name[FILE_PATH_BYTES + 128];
    struct convert_options options = {.layout = CONVERT_ORIGINAL};
    struct model_info info, expected;
    struct error error = {0};
    ok(convert_folder(scratch_path(whole, "w"), GOLDEN_I2V, &options, &error), &error);
    small_umt5(&m);
    finish(&m, "w/models_t5_umt5-xxl-enc-bf16.safetensors");
    options.shard_bytes = 20000;
    ok(convert_folder(scratch_path(cut, "x"), whole, &options, &error), &error);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        print_message("%s\n", parts[i].component);
        (void)snprintf(name, sizeof name, "x/%s.safetensors.index.json", parts[i].stem);
        assert_true(is_file(name));
        assert_true(component_find(path, cut, parts[i].component));
        assert_string_equal(strrchr(path, '/') + 1, name + 2);
        (void)snprintf(name, sizeof name, "%s/%s.safetensors", whole, parts[i].stem);
        same_weights(path, name);
    }
    convert("ox", "o", (struct convert_options){.layout = CONVERT_ORIGINAL, .shard_bytes = 20000});
    ok(model_read_info(&expected, scratch_path(path, "o"), &error), &error);
    ok(model_read_info(&info, scratch_path(path, "ox"), &error), &error);
    assert_int_equal(info.parameters, expected.parameters);
    assert_int_equal(info.stages, expected.stages);
    for (size_t i = 1; i < sizeof parts / sizeof *parts; i++) {
        (void)snprintf(name, sizeof name, "x/%s.pth", parts[i].stem);
        write_text(name, "published");
        assert_true(component_find(path, cut, parts[i].component));
        assert_string_equal(strrchr(path, '/') + 1, name + 2);
    }
}

/* `from` in a file becomes `to`. */
static void replace(const char *name, const char *from, const char *to) {
    char path[FILE_PATH_BYTES], *text;
    struct arena arena;
    struct buffer changed = {0};
    struct error error = {0};
    size_t length;
    ok(arena_open(&arena, 1 << 21, &error), &error);
    ok(file_read(&text, &length, &arena, scratch_path(path, name), 1 << 20, &error), &error);
    const char *at = strstr(text, from);
    if (at == NULL)
        fail_msg("%s has no %s: %s", name, from, text);
    buffer_add(&changed, text, (size_t)(at - text));
    buffer_add_text(&changed, to);
    buffer_add_text(&changed, at + strlen(from));
    write_text(name, changed.data);
    buffer_close(&changed);
    arena_close(&arena);
}

/* Another schedule, boundary and epsilon than the published ones, there and back. */
static void settings_there_and_back(void **state) {
    static const char schedule[] =
        "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"shift\": 8, "
        "\"stochastic_sampling\": true, \"num_inference_steps\": 4, \"guidance_scale\": 1}";
    static const char *const folders[] = {"sd", "so", "sb", "sc"};
    char path[FILE_PATH_BYTES], name[64];
    struct transformer_config config;
    struct model_info info;
    struct error error = {0};
    convert("sd", "o", (struct convert_options){.layout = CONVERT_DIFFUSERS});
    write_text("sd/scheduler/scheduler_config.json", schedule);
    replace("sd/model_index.json", "\"boundary_ratio\":0.875", "\"boundary_ratio\":0.9");
    replace("sd/transformer/config.json", "\"eps\":1e-06", "\"eps\":1e-05");
    replace("sd/transformer_2/config.json", "\"eps\":1e-06", "\"eps\":1e-05");
    convert("so", "sd", (struct convert_options){.layout = CONVERT_ORIGINAL});
    convert("sb", "so", (struct convert_options){.layout = CONVERT_DIFFUSERS});
    convert("sc", "sb", (struct convert_options){.layout = CONVERT_DIFFUSERS});
    for (int i = 0; i < 4; i++) {
        ok(model_read_info(&info, scratch_path(path, folders[i]), &error), &error);
        assert_int_equal(info.sampler, SAMPLER_RENOISE);
        assert_int_equal(info.steps, 4);
        assert_true(info.guidance == 1 && info.guidance_low == 1 && info.shift == 8);
        assert_true(info.boundary == 0.9F);
        (void)snprintf(name, sizeof name, "%s/%s", folders[i],
                       i == 1 ? "low_noise_model" : "transformer_2");
        ok(config_read_transformer(&config, scratch_path(path, name), NULL, &error), &error);
        assert_true(config.eps == 1e-5F);
    }
    replace("sb/model_index.json", "\"boundary_ratio\":0.9,", "");
}

static void types(void **state) {
    char path[FILE_PATH_BYTES];
    struct weights *from, *to;
    struct error error = {0};
    convert(
        "t", "o",
        (struct convert_options){.layout = CONVERT_ORIGINAL, .typed = true, .dtype = DTYPE_BF16});
    ok(weights_open(&from,
                    scratch_path(path, "o/high_noise_model/diffusion_pytorch_model.safetensors"),
                    &error),
       &error);
    ok(weights_open(&to,
                    scratch_path(path, "t/high_noise_model/diffusion_pytorch_model.safetensors"),
                    &error),
       &error);
    const struct tensor *a = weights_find(from, "blocks.1.self_attn.q.weight"),
                        *b = weights_find(to, "blocks.1.self_attn.q.weight");
    assert_int_equal(b->dtype, DTYPE_BF16);
    float *x = widened(a->data, 128 * 128, DTYPE_F32), *y = widened(b->data, 128 * 128, DTYPE_BF16);
    double worst = 0;
    for (int i = 0; i < 128 * 128; i++) {
        double d = fabs((double)x[i] - (double)y[i]) / fabs((double)x[i]);
        worst = d > worst ? d : worst;
    }
    assert_true(worst > 0 && worst <= 1.0 / 256);
    assert_int_equal(weights_find(to, "blocks.1.modulation")->dtype, DTYPE_F32);
    assert_int_equal(weights_find(to, "time_projection.1.weight")->dtype, DTYPE_F32);
    assert_int_equal(weights_find(to, "blocks.0.ffn.0.bias")->dtype, DTYPE_F32);
    free(x);
    free(y);
    weights_close(&from);
    weights_close(&to);
}

static double worst_error;

static void take_error(void *user, const char *name, double error) {
    *(int *)user += 1;
    worst_error = error > worst_error ? error : worst_error;
}

/* In blocks with scales: near, small, read back as one tensor, kept to the bit by another layout,
 * and widened again by a type. */
static void quantised(void **state) {
    static const struct {
        enum dtype dtype;
        double bound;
    } types[] = {{DTYPE_I8, 1e-2}, {DTYPE_F8_E4M3, 4e-2}};
    char path[FILE_PATH_BYTES], wide[FILE_PATH_BYTES];
    struct error error = {0};
    for (size_t i = 0; i < 2; i++) {
        int matrices = 0;
        worst_error = 0;
        convert("q", "o",
                (struct convert_options){.layout = CONVERT_ORIGINAL,
                                         .typed = true,
                                         .dtype = types[i].dtype,
                                         .quantised = take_error,
                                         .user = &matrices});
        assert_int_equal(matrices, 2 * 2 * 10 + 2 * 7); /* experts, layers; the text encoder */
        assert_true(worst_error > 0 && worst_error < types[i].bound);
        struct weights *weights, *exact;
        static const char name[] = "high_noise_model/diffusion_pytorch_model.safetensors";
        (void)snprintf(wide, sizeof wide, "q/%s", name);
        ok(weights_open(&weights, scratch_path(path, wide), &error), &error);
        (void)snprintf(wide, sizeof wide, "o/%s", name);
        ok(weights_open(&exact, scratch_path(path, wide), &error), &error);
        assert_int_equal(weights_count(weights), weights_count(exact));
        const struct tensor *tensor = weights_find(weights, "blocks.0.ffn.0.weight");
        assert_int_equal(tensor->dtype, types[i].dtype);
        assert_non_null(tensor->scale);
        assert_int_equal(weights_find(weights, "head.head.weight")->dtype, DTYPE_F32);
        float got[64 * 128];
        numbers_to_float(got, tensor, 0, 64 * 128);
        double difference =
            relative_error(got, weights_find(exact, "blocks.0.ffn.0.weight")->data, 64 * 128);
        assert_true(difference > 0 && difference <= worst_error + 1e-9);
        weights_close(&weights);
        weights_close(&exact);

        convert("qd", "q", (struct convert_options){.layout = CONVERT_DIFFUSERS});
        convert("qb", "qd", (struct convert_options){.layout = CONVERT_ORIGINAL});
        same("qb/models_t5_umt5-xxl-enc-bf16.safetensors",
             "q/models_t5_umt5-xxl-enc-bf16.safetensors");
        convert("qw", "q",
                (struct convert_options){
                    .layout = CONVERT_ORIGINAL, .typed = true, .dtype = DTYPE_F32});
        (void)snprintf(wide, sizeof wide, "qw/%s", name);
        ok(weights_open(&weights, scratch_path(path, wide), &error), &error);
        assert_memory_equal(weights_find(weights, "blocks.0.ffn.0.weight")->data, got, sizeof got);
        weights_close(&weights);
        static const char *const made[] = {"q", "qd", "qb", "qw"};
        for (size_t k = 0; k < 4; k++)
            ok(file_remove_tree(scratch_path(path, made[k]), &error), &error);
    }
}

/* Scales as other programs keep them, and scales that do not fit. */
static void other_scales(void **state) {
    static const uint8_t eights[4 * 8] = {0x38, 0x40, 0xb8}; /* 1, 2, -1 in e4m3 */
    static const float two[] = {2, 2, 2, 2, 2, 2, 2, 2};
    const struct tensor matrix = {.data = eights, .dtype = DTYPE_F8_E4M3, .rank = 2, .dim = {4, 8}};
    struct tensor scale = {.data = two, .dtype = DTYPE_F32, .rank = 1, .dim = {1}};
    const struct tensor mark = {.data = eights, .dtype = DTYPE_F8_E4M3, .rank = 1, .dim = {2}};
    const struct tensor tensors[] = {matrix, scale, scale, mark};
    static const char *const names[] = {"a.weight", "a.scale_weight", "a.scale_input",
                                        "scaled_fp8"};
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    struct weights *weights;
    float got[3];
    ok(safetensors_write(scratch_path(path, "s.safetensors"), tensors, names, 4, &error), &error);
    ok(weights_open(&weights, path, &error), &error);
    assert_int_equal(weights_count(weights), 1);
    numbers_to_float(got, weights_find(weights, "a.weight"), 0, 3);
    assert_true(got[0] == 2 && got[1] == 4 && got[2] == -2);
    weights_close(&weights);
    static const int64_t shapes[][2] = {{3, 1}, {4, 3}, {8, 1}, {4, 0}};
    for (size_t i = 0; i < 4; i++) {
        scale.rank = 2;
        memcpy(scale.dim, shapes[i], sizeof shapes[i]);
        float many[16] = {0};
        scale.data = many;
        const struct tensor bad[] = {matrix, scale};
        ok(safetensors_write(scratch_path(path, "s.safetensors"), bad,
                             (const char *const[]){"a.weight", "a.weight_scale"}, 2, &error),
           &error);
        assert_int_equal(weights_open(&weights, path, &error), ERR_FORMAT);
        assert_non_null(strstr(error.detail, "a.weight_scale"));
    }
}

/* Files as they are repackaged, without a configuration: the same transformer. */
static void repackaged(void **state) {
    static struct small_model m;
    struct error error = {0};
    struct model_info info;
    char path[FILE_PATH_BYTES];
    make_dir("r/diffusion_models");
    make_dir("r/text_encoders");
    make_dir("r/tokenizer");
    small_transformer(&m, 16, false);
    for (int i = 0; i < m.count; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s", m.name[i]);
        (void)snprintf(m.name[i], sizeof m.name[i], "model.diffusion_model.%s", name);
    }
    finish(&m, "r/diffusion_models/wan2.1_t2v.safetensors");
    small_umt5(&m);
    finish(&m, "r/text_encoders/umt5_xxl_fp16.safetensors");
    write_text("r/tokenizer/spiece.model", "pieces");
    ok(model_read_info(&info, scratch_path(path, "r"), &error), &error);
    assert_string_equal(info.family, "wan2.1");
    assert_int_equal(info.stages & (STAGE_TEXT | STAGE_KEYFRAME), STAGE_TEXT | STAGE_KEYFRAME);
    small_umt5(&m);
    finish(&m, "r/text_encoders/umt5_xxl_fp8.safetensors");
    struct weights *weights;
    assert_int_equal(component_open(&weights, path, "text_encoder", &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "umt5_xxl_fp16"));
    assert_non_null(strstr(error.detail, "umt5_xxl_fp8"));
    assert_int_equal(component_open(&weights, path, "vae", &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, "Wan2.1_VAE.pth"));
}

static void refusals(void **state) {
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    struct error error = {0};
    struct convert_options options = {.layout = CONVERT_ORIGINAL};
    assert_int_equal(convert_folder(scratch_path(a, "d"), scratch_path(b, "o"), &options, &error),
                     ERR_USAGE);
    assert_non_null(strstr(error.detail, "already"));
    assert_int_equal(convert_folder(scratch_path(a, "p"), RANDOM_WAN, &options, &error),
                     ERR_UNSUPPORTED);
    assert_false(is_file("p"));
    assert_false(is_file("p.part"));
    assert_int_equal(
        convert_file(scratch_path(a, "f.safetensors"), VECTORS "/state.pth", &options, &error),
        ERR_UNSUPPORTED);
    assert_int_equal(convert_file(scratch_path(a, "f.safetensors"), "/nowhere", &options, &error),
                     ERR_MISSING);
    assert_false(is_file("f.safetensors"));
    ok(convert_file(scratch_path(a, "f.safetensors"),
                    scratch_path(b, "r/diffusion_models/wan2.1_t2v.safetensors"), &options, &error),
       &error);
    struct weights *weights;
    ok(weights_open(&weights, a, &error), &error);
    assert_non_null(weights_find(weights, "blocks.0.self_attn.q.weight"));
    weights_close(&weights);
}

/* What is at the name that conversions are written at is the user's as long as nobody says
 * otherwise. */
static void leaves_what_is_there(void **state) {
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    struct error error = {0};
    struct convert_options options = {.layout = CONVERT_DIFFUSERS};
    make_dir("mine.part");
    write_text("mine.part/diary", "dear");
    assert_int_equal(
        convert_folder(scratch_path(a, "mine"), scratch_path(b, "o"), &options, &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "mine.part is there already"));
    assert_true(is_file("mine.part/diary"));
    write_text("f.part", "mine too");
    assert_int_equal(
        convert_file(scratch_path(a, "f"), scratch_path(b, "f.safetensors"), &options, &error),
        ERR_USAGE);
    assert_non_null(strstr(error.detail, "f.part is there already"));
    assert_true(is_file("f.part"));
    assert_false(is_file("mine"));
    assert_false(is_file("f"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(files_there_and_back),
        cmocka_unit_test(clip_is_stacked),
        cmocka_unit_test(image_to_video),
        cmocka_unit_test(original_in_shards),
        cmocka_unit_test(settings_there_and_back),
        cmocka_unit_test(types),
        cmocka_unit_test(quantised),
        cmocka_unit_test(other_scales),
        cmocka_unit_test(repackaged),
        cmocka_unit_test(refusals),
        cmocka_unit_test(leaves_what_is_there),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
