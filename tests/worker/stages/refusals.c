/* Parameters that a lease must not have, one at a time, and inputs that do not fit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/stages/support.h"

struct bad {
    const char *key, *value; /* JSON text */
    enum error_code code;
};

/* Each key left out, then each bad value. */
static void refuse_all(struct chain *chain, const struct task *task, const char *const *keys,
                       const struct bad *bad, size_t bad_count) {
    for (; *keys; keys++) {
        struct task changed = *task;
        task_change(&changed, *keys, NULL);
        task_refused(chain, &changed, ERR_FORMAT, *keys);
    }
    for (size_t i = 0; i < bad_count; i++) {
        struct task changed = *task;
        task_change(&changed, bad[i].key, bad[i].value);
        task_refused(chain, &changed, bad[i].code, "");
    }
}
#define REFUSE(chain, task, keys, bad)                                                             \
    refuse_all(chain, task, keys, bad, sizeof(bad) / sizeof *(bad))

static void text(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"model", "model_hash", "text", NULL};
    static const struct bad bad[] = {{"text", "7", ERR_FORMAT},
                                     {"text", "null", ERR_FORMAT},
                                     {"model", "[]", ERR_FORMAT},
                                     {"model_hash", "true", ERR_FORMAT}};
    REFUSE(chain, &chain->text, keys, bad);
}

static const struct bad sampling[] = {{"width", "0", ERR_FORMAT},
                                      {"width", "48.5", ERR_FORMAT},
                                      {"width", "40", ERR_SHAPE},
                                      {"height", "1000000", ERR_FORMAT},
                                      {"height", "\"32\"", ERR_FORMAT},
                                      {"seed", "-1", ERR_FORMAT},
                                      {"seed", "1e3", ERR_FORMAT},
                                      {"seed", "9223372036854775808", ERR_FORMAT},
                                      {"stream", "-1", ERR_FORMAT},
                                      {"steps", "0", ERR_FORMAT},
                                      {"steps", "1001", ERR_FORMAT},
                                      {"guidance", "-1", ERR_FORMAT},
                                      {"guidance", "101", ERR_FORMAT},
                                      {"guidance", "null", ERR_FORMAT},
                                      {"shift", "-0.5", ERR_FORMAT},
                                      {"shift", "1e9", ERR_FORMAT},
                                      {"noise", "\"white\"", ERR_UNSUPPORTED},
                                      {"noise", "0", ERR_FORMAT},
                                      {"sampler", "\"?\"", ERR_UNSUPPORTED},
                                      {"sampler", "1", ERR_FORMAT}};

static void keyframe(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"model",    "model_hash", "width", "height",
                                       "seed",     "stream",     "steps", "sampler",
                                       "guidance", "shift",      "noise", NULL};
    REFUSE(chain, &chain->keyframe, keys, sampling);
}

static void window(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"model",    "model_hash", "width",  "height", "seed",
                                       "stream",   "steps",      "frames", "tail",   "sampler",
                                       "guidance", "shift",      "noise",  "rule",   NULL};
    static const struct bad bad[] = {
        {"frames", "0", ERR_FORMAT}, {"frames", "4097", ERR_FORMAT},
        {"frames", "18", ERR_SHAPE}, {"tail", "0", ERR_FORMAT},
        {"tail", "2", ERR_SHAPE},    {"tail", "5", ERR_SHAPE},
        {"rule", "1", ERR_FORMAT},   {"rule", "\"sliding\"", ERR_UNSUPPORTED},
        {"height", "64", ERR_SHAPE}};
    REFUSE(chain, &chain->window[0], keys, sampling);
    REFUSE(chain, &chain->window[0], keys, bad);
}

static void levels(void **state) {
    struct chain *chain = *state;
    static const struct bad bad[] = {{"sigmas", "1", ERR_FORMAT},
                                     {"sigmas", "[1,0.5,0]", ERR_FORMAT}, /* of three steps */
                                     {"sigmas", "[1,0.5,\"0.2\",0]", ERR_FORMAT},
                                     {"sigmas", "[1,0.5,0.2,0.1]", ERR_FORMAT},
                                     {"sigmas", "[1,0.5,0.6,0]", ERR_FORMAT},
                                     {"sigmas", "[1.5,0.5,0.2,0]", ERR_FORMAT},
                                     {"attention", "8", ERR_FORMAT},
                                     {"attention", "\"4bit\"", ERR_UNSUPPORTED},
                                     {"guidance_low", "-1", ERR_FORMAT},
                                     {"guidance_low", "\"1\"", ERR_FORMAT}};
    static const char *const keys[] = {NULL};
    struct task task = chain->window[0];
    task_add(&task, "\"sigmas\":[1,0.5,0.2,0],\"guidance_low\":0,\"attention\":\"8bit\"");
    REFUSE(chain, &task, keys, bad);
    /* This model ends no window in a picture. */
    task_input(&task, "end", &chain->keyframe_result.outputs[0]);
    task_refused(chain, &task, ERR_UNSUPPORTED, "cannot end a window");
    task.inputs[3] = chain->text_result.outputs[0];
    snprintf(task.inputs[3].name, sizeof task.inputs[3].name, "end");
    task_refused(chain, &task, ERR_SHAPE, "\"end\"");
}

static void decode(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"model", "model_hash", "width", "height",  "frames", "drop",
                                       "keep",  "tail",       "codec", "quality", "fps",    NULL};
    static const struct bad bad[] = {{"frames", "16", ERR_FORMAT},
                                     {"frames", "21", ERR_SHAPE}, /* 17 are kept; 5 latents */
                                     {"drop", "-1", ERR_FORMAT},
                                     {"drop", "17", ERR_FORMAT},
                                     {"keep", "0", ERR_FORMAT},
                                     {"keep", "18", ERR_FORMAT},
                                     {"tail", "18", ERR_FORMAT},
                                     {"tail", "-1", ERR_FORMAT},
                                     {"codec", "\"x\"", ERR_UNSUPPORTED},
                                     {"codec", "\"h264_nvenc\"", ERR_UNSUPPORTED}, /* on a CPU */
                                     {"codec", "\"hevc\"", ERR_SHAPE},
                                     {"quality", "64", ERR_FORMAT},
                                     {"quality", "-2", ERR_FORMAT},
                                     {"fps", "16", ERR_FORMAT},
                                     {"fps", "[16]", ERR_FORMAT},
                                     {"fps", "[16,0]", ERR_FORMAT},
                                     {"fps", "[16,1,1]", ERR_FORMAT},
                                     {"fps", "[0.5,1]", ERR_FORMAT},
                                     {"fps", "[\"16\",1]", ERR_FORMAT},
                                     {"fps", "[1000,1]", ERR_USAGE},
                                     {"width", "64", ERR_SHAPE}};
    REFUSE(chain, &chain->decode[0], keys, bad);
}

static void mux(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"container", "codec", "quality",    "width", "height",
                                       "fps",       "title", "provenance", NULL};
    static const struct bad bad[] = {{"container", "\"avi\"", ERR_UNSUPPORTED},
                                     {"container", "\"mp4\"", ERR_USAGE}, /* of ffv1 */
                                     {"codec", "\"h264\"", ERR_FORMAT},   /* the segments are not */
                                     {"width", "64", ERR_FORMAT},
                                     {"title", "1", ERR_FORMAT},
                                     {"provenance", "[]", ERR_FORMAT},
                                     {"provenance", "\"\"", ERR_FORMAT}};
    struct task task = chain->mux;
    task.staged = chain_path(chain, "refused.part");
    REFUSE(chain, &task, keys, bad);
    task.staged = NULL;
    task_refused(chain, &task, ERR_FORMAT, "names no path");
    task.staged = chain_path(chain, "refused.part");
    task.input_count = 0;
    task_refused(chain, &task, ERR_FORMAT, "no segments");
    task_input(&task, "frames", &chain->decode_result[0].outputs[1]);
    task_refused(chain, &task, ERR_FORMAT, "\"frames\"");
    task.input_count = 0;
    task_input(&task, "segment", &chain->decode_result[0].outputs[1]); /* a tensor, not a film */
    task_refused(chain, &task, ERR_FORMAT, "");
    task = chain->mux;
    task.staged = chain_path(chain, "no/such/folder/refused.part");
    task_refused(chain, &task, ERR_MISSING, "");
}

static void image(void **state) {
    struct chain *chain = *state;
    static const char *const keys[] = {"width", "height", NULL};
    static const struct bad bad[] = {{"width", "0", ERR_FORMAT}, {"height", "99999", ERR_FORMAT}};
    struct task task = {.stage = stage_image,
                        .parameters = "{\"width\":48,\"height\":32}",
                        .image_path = "README.md"};
    REFUSE(chain, &task, keys, bad);
}

/* Not numbers in, not numbers out: told, and not made into black frames. */
static void not_finite(void **state) {
    struct chain *chain = *state;
    struct error error = {0};
    struct weights *file = NULL;
    struct stage_result made = {.output_count = 0};
    const struct stage_task maker = {.epoch = 9};
    task_must(chain, &chain->text, &chain->text_result);
    const char *path = output_path(chain, &chain->text_result.outputs[0]);
    assert_int_equal(weights_open(&file, path, &error), ERR_OK);
    struct tensor rows = *weights_find(file, "rows");
    size_t count = (size_t)tensor_elements(&rows);
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = NAN;
    rows.data = values;
    assert_int_equal(stage_put_tensor(&chain->context, &maker, "rows", &rows, &made, &error),
                     ERR_OK);
    weights_close(&file);
    free(values);
    struct task task = chain->keyframe;
    task.input_count = 0;
    task_input(&task, "text", &made.outputs[0]);
    task_input(&task, "negative", &made.outputs[0]);
    task_refused(chain, &task, ERR_FORMAT, "keyframe's latents: value 1 of ");
    task = chain->window[0];
    for (int i = 0; i < task.input_count; i++)
        if (strcmp(task.inputs[i].name, "text") == 0)
            task.inputs[i].hash = made.outputs[0].hash, task.inputs[i].size = made.outputs[0].size;
    task_refused(chain, &task, ERR_FORMAT, "window's latents: value 1 of ");
}

/* Inputs that are not there, and others in their place. */
static void inputs(void **state) {
    struct chain *chain = *state;
    struct task task = chain->keyframe;
    task.input_count = 0;
    task_refused(chain, &task, ERR_FORMAT, "\"text\"");
    task.input_count = 1;
    task_refused(chain, &task, ERR_FORMAT, "\"negative\"");
    task.input_count = 0;
    task_input(&task, "text", &chain->window_result[0].outputs[0]);
    task_refused(chain, &task, ERR_SHAPE, "\"text\"");
    task = chain->window[0];
    task.input_count = 2;
    task_refused(chain, &task, ERR_FORMAT, "\"tail\"");
    task_input(&task, "tail", &chain->text_result.outputs[0]);
    task_refused(chain, &task, ERR_SHAPE, "\"tail\"");
    task = chain->decode[0];
    task.input_count = 0;
    task_refused(chain, &task, ERR_FORMAT, "\"latents\"");
    task_input(&task, "latents", &chain->keyframe_result.outputs[0]);
    task_refused(chain, &task, ERR_SHAPE, "\"latents\"");
    task.input_count = 0;
    task_input(&task, "latents", &chain->decode_result[0].outputs[0]); /* a film */
    task_refused(chain, &task, ERR_LIMIT, "safetensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text),   cmocka_unit_test(keyframe),   cmocka_unit_test(window),
        cmocka_unit_test(decode), cmocka_unit_test(mux),        cmocka_unit_test(image),
        cmocka_unit_test(inputs), cmocka_unit_test(not_finite), cmocka_unit_test(levels),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
