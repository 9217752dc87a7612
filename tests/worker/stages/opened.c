/* How often models are opened within little memory, as a job of many windows asks for them: what
 * fits stays open, and gives the same numbers. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/model/holes.h"
#include "tests/worker/model/model_test.h"
#include "worker/models.h"

#define MIB      ((size_t)1 << 20)
#define WINDOWS  6
#define OPENINGS 32
#define SIDE     16
#define COUNT    (16 * (SIDE / 8) * (SIDE / 8))
/* What the process takes beyond what is counted: threads, tables of tensors, neighbouring pages. */
#define BESIDE (12 * MIB)

struct scene {
    const struct ops *ops; /* of the CPU, or they say that they upload */
    struct device *device;
    struct models *models;
    char folder[64]; /* of the large model: its matrices are used in their files */
    struct hash large, tiny;
    int stages[OPENINGS];
    int openings;
};

/* What a task asks for: stage_*.c. */
enum {
    TEXT = STAGE_TEXT,
    KEYFRAME = STAGE_KEYFRAME | STAGE_VAE,
    WINDOW = STAGE_WINDOW | STAGE_VAE
};
enum { DECODE = STAGE_VAE };

static void note(void *user, const char *folder, int stages) {
    struct scene *scene = user;
    assert_non_null(folder);
    assert_true(scene->openings < OPENINGS);
    scene->stages[scene->openings++] = stages;
}

static void link_from_random_wan(const char *folder, const char *name) {
    char here[PATH_MAX], target[PATH_MAX + 64], path[FILE_PATH_BYTES];
    struct error error = {0};
    assert_non_null(getcwd(here, sizeof here));
    snprintf(target, sizeof target, "%s/" RANDOM_WAN "/%s", here, name);
    ok(file_join(path, folder, name, &error), &error);
    assert_int_equal(symlink(target, path), 0);
}

static void write_transformer(const char *folder, const char *name, int channels) {
    const struct transformer_config shape = {.width = 1024,
                                             .ffn = 2048,
                                             .layers = 5,
                                             .in_channels = channels,
                                             .out_channels = 16,
                                             .text_width = 40,
                                             .frequencies = 32};
    char path[FILE_PATH_BYTES], text[320];
    struct error error = {0};
    ok(file_join(path, folder, name, &error), &error);
    ok(file_make_folders(path, &error), &error);
    write_text(path, "config.json",
               (snprintf(text, sizeof text,
                         "{\"num_attention_heads\": 8, \"attention_head_dim\": 128, "
                         "\"in_channels\": %d, \"out_channels\": 16, \"text_dim\": 40, "
                         "\"freq_dim\": 32, \"ffn_dim\": 2048, \"num_layers\": 5}",
                         channels),
                text));
    holes_transformer(&shape, path, "diffusion_pytorch_model.safetensors");
    holes_fill(path, "diffusion_pytorch_model.safetensors");
}

static struct hash hash_of_model(const char *folder) {
    struct model_info info;
    struct error error = {0};
    ok(model_read_info(&info, folder, &error), &error);
    return info.hash;
}

/* The tiny random model with transformers of 120 MB each. */
static int make_large(void **state) {
    static const char *const names[] = {"model_index.json", "scheduler", "text_encoder",
                                        "tokenizer", "vae"};
    static struct scene scene;
    struct error error = {0};
    const struct device_config config = {.threads = 2};
    snprintf(scene.folder, sizeof scene.folder, "/tmp/vidloom-opened-XXXXXX");
    assert_non_null(mkdtemp(scene.folder));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        link_from_random_wan(scene.folder, names[i]);
    write_transformer(scene.folder, "keyframe", 16);
    write_transformer(scene.folder, "window", 36);
    scene.ops = ops_cpu();
    ok(ops_cpu()->device_open(&scene.device, &config, &error), &error);
    scene.large = hash_of_model(scene.folder);
    scene.tiny = hash_of_model(RANDOM_WAN);
    *state = &scene;
    return 0;
}

static int remove_large(void **state) {
    struct scene *scene = *state;
    struct error error = {0};
    ops_cpu()->device_close(&scene->device);
    return file_remove_tree(scene->folder, &error) == ERR_OK ? 0 : -1;
}

static struct model_bytes bytes_of(const char *folder, int stages) {
    struct model_bytes bytes;
    struct error error = {0};
    ok(model_measure(&bytes, folder, &(struct model_options){.stages = stages, .dtype = DTYPE_BF16},
                     &error),
       &error);
    return bytes;
}

static void start(struct scene *scene, size_t memory) {
    struct error error = {0};
    const struct models_config config = {.ops = scene->ops,
                                         .device = scene->device,
                                         .folder = "tests/vectors",
                                         .dtype = DTYPE_BF16,
                                         .memory = memory,
                                         .opening = note,
                                         .user = scene};
    scene->openings = 0;
    ok(models_open(&scene->models, &config, &error), &error);
}

static struct model *get(struct scene *scene, const char *folder, enum dtype weights, int stages) {
    const struct models_request request = {.spec = folder,
                                           .hash = strcmp(folder, scene->folder) == 0 ? scene->large
                                                                                      : scene->tiny,
                                           .stages = stages,
                                           .weights = weights};
    struct model *model;
    struct error error = {0};
    ok(models_get(scene->models, &model, &request, &error), &error);
    return model;
}

/* A video's first tasks, then its windows, with another video's text in between. */
static void ask_as_jobs_do(struct scene *scene, const char *folder) {
    (void)get(scene, folder, DTYPE_F32, TEXT);
    (void)get(scene, folder, DTYPE_F32, KEYFRAME);
    for (int i = 0; i < WINDOWS; i++) {
        (void)get(scene, folder, DTYPE_F32, WINDOW);
        (void)get(scene, folder, DTYPE_F32, i == 2 ? TEXT : DECODE);
    }
}

/* -- one model --------------------------------------------------------------------------------- */

/* No two stages fit half of the limit, but everything does with its blocks streamed: it is opened
 * for what is asked for the first time, and never again. */
static void streams_stay_open(void **state) {
    struct scene *scene = *state;
    struct model_bytes all = bytes_of(scene->folder, -1);
    struct model_bytes window = bytes_of(scene->folder, WINDOW);
    size_t memory = 2 * (all.least + 8 * MIB);
    print_message("%.1f MB of weights, %.1f fixed, %.1f at least; %.1f allowed\n",
                  (double)all.all / 1e6, (double)all.fixed / 1e6, (double)all.least / 1e6,
                  (double)memory / 1e6);
    assert_true(memory / 2 < window.all);
    start(scene, memory);
    ask_as_jobs_do(scene, scene->folder);
    ask_as_jobs_do(scene, scene->folder);
    assert_int_equal(scene->openings, 3); /* text; and the keyframe's; and the window's */
    assert_int_equal(scene->stages[2], STAGE_TEXT | STAGE_KEYFRAME | STAGE_WINDOW | STAGE_VAE);
    models_close(&scene->models);
}

/* All of the tiny model's weights are copies, so nothing of it is streamed. What does not fit
 * together is opened in parts, and a part stays where the next one fits beside it. */
static void parts_stay_open(void **state) {
    struct scene *scene = *state;
    size_t text = bytes_of(RANDOM_WAN, TEXT).all, window = bytes_of(RANDOM_WAN, WINDOW).all;
    struct model_bytes all = bytes_of(RANDOM_WAN, -1);
    assert_int_equal(all.all, all.least);
    assert_true(text + window < all.all);
    start(scene, 2 * (text + window));
    ask_as_jobs_do(scene, "./" RANDOM_WAN);
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, TEXT);
    assert_int_equal(scene->openings, 4);
    assert_int_equal(scene->stages[2], WINDOW);
    assert_int_equal(scene->stages[3], TEXT); /* beside the window's, which is not opened again */
    models_close(&scene->models);
}

/* Where opening copies weights a part is opened once, beside what is open; elsewhere again with
 * what comes, in one model. */
static void what_is_uploaded_stays(void **state) {
    static const int together[] = {TEXT, TEXT | KEYFRAME, TEXT | KEYFRAME | WINDOW};
    static const int beside[] = {TEXT, KEYFRAME, WINDOW};
    struct scene *scene = *state;
    struct ops uploading = *ops_cpu();
    uploading.wants.uploads = true;
    for (int uploads = 0; uploads < 2; uploads++) {
        scene->ops = uploads != 0 ? &uploading : ops_cpu();
        start(scene, 0);
        ask_as_jobs_do(scene, scene->folder);
        ask_as_jobs_do(scene, scene->folder);
        assert_int_equal(scene->openings, 3);
        for (int i = 0; i < 3; i++)
            assert_int_equal(scene->stages[i], uploads != 0 ? beside[i] : together[i]);
        models_close(&scene->models);
    }
    /* A small one is opened whole, once. */
    start(scene, 0);
    ask_as_jobs_do(scene, "./" RANDOM_WAN);
    assert_int_equal(scene->openings, 1);
    models_close(&scene->models);
    scene->ops = ops_cpu();
}

/* -- several ----------------------------------------------------------------------------------- */

static void make_keyframe(struct model *model, float latents[COUNT]) {
    static const float row[40] = {1, -1, 2};
    struct error error = {0};
    const struct denoise_request request = {.size = {SIDE, SIDE, 1},
                                            .positive = {row, 1},
                                            .sampler = SAMPLER_EULER,
                                            .steps = 2,
                                            .guidance = 1,
                                            .shift = 1};
    ok(model_keyframe(model, latents, &request, &error), &error);
}

/* The same folder as two models, of which either takes more than half of the limit: the one that is
 * not used gives back its pages, both stay open, and together they keep to the limit. */
static void two_models_take_turns(void **state) {
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    struct scene *scene = *state;
    float first[2][COUNT], latents[COUNT];
    size_t memory = bytes_of(scene->folder, KEYFRAME).all + 40 * MIB;
    double before = process_bytes("RssFile:");
    start(scene, memory);
    for (int turn = 0; turn < 3; turn++)
        for (int i = 0; i < 2; i++) {
            make_keyframe(get(scene, scene->folder, types[i], KEYFRAME),
                          turn == 0 ? first[i] : latents);
            double there = process_bytes("RssFile:") - before;
            print_message("turn %d: %.1f MB of files in memory\n", turn, there / 1e6);
            assert_true(there <= (double)(memory + BESIDE));
            if (turn > 0)
                assert_memory_equal(latents, first[i], sizeof latents);
        }
    assert_int_equal(scene->openings, 2);
    models_close(&scene->models);
}

/* A task that found no room goes alone from then on, and no other does. */
static void only_what_must_goes_alone(void **state) {
    struct scene *scene = *state;
    size_t text = bytes_of(RANDOM_WAN, TEXT).all, window = bytes_of(RANDOM_WAN, WINDOW).all;
    start(scene, 2 * (text + window));
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, WINDOW);
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, DECODE);
    assert_true(models_shed(scene->models)); /* it was beside a transformer, in one model */
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, DECODE);
    assert_true(models_shed(scene->models)); /* it is alone as it is, and is to be */
    assert_false(models_shed(scene->models));
    scene->openings = 0;
    for (int i = 0; i < 3; i++) {
        (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, TEXT);
        (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, WINDOW);
    }
    assert_int_equal(scene->openings, 2);
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, DECODE);
    assert_int_equal(scene->stages[2], DECODE);
    (void)get(scene, "./" RANDOM_WAN, DTYPE_F32, TEXT); /* was closed for the decode */
    assert_int_equal(scene->openings, 4);
    models_close(&scene->models);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_uploaded_stays), cmocka_unit_test(streams_stay_open),
        cmocka_unit_test(parts_stay_open), cmocka_unit_test(two_models_take_turns),
        cmocka_unit_test(only_what_must_goes_alone)};
    return cmocka_run_group_tests(tests, make_large, remove_large);
}
