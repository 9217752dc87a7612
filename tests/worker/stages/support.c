#include "tests/worker/stages/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define SAMPLING "\"sampler\":\"euler\",\"steps\":3,\"guidance\":2.5,\"shift\":3"
#define SIZE     "\"width\":48,\"height\":32"
#define CODING   "\"codec\":\"ffv1\",\"quality\":-1,\"fps\":[16,1]"

static void must(enum error_code code, const struct error *error) {
    if (code != ERR_OK)
        fail_msg("%s: %s", error_name(code), error->detail);
}

const char *chain_path(const struct chain *chain, const char *name) {
    static char paths[4][256];
    static int at;
    char *path = paths[at++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", chain->folder, name);
    return path;
}

const char *output_path(struct chain *chain, const struct stage_artifact *output) {
    static char path[FILE_PATH_BYTES];
    struct error error;
    must(store_find(chain->context.store, path, &output->hash, output->size, true, &error), &error);
    return path;
}

/* -- tasks ------------------------------------------------------------------------------------- */

void task_input(struct task *task, const char *name, const struct stage_artifact *artifact) {
    assert_true(task->input_count < INPUTS_MAX);
    struct stage_artifact *input = &task->inputs[task->input_count++];
    *input = *artifact;
    snprintf(input->name, sizeof input->name, "%s", name);
}

enum error_code task_run(struct chain *chain, const struct task *task, struct stage_result *result,
                         struct error *error) {
    const struct json *parameters;
    arena_reset(&chain->context.arena, 0);
    must(json_parse(&parameters, &chain->context.arena, task->parameters, strlen(task->parameters),
                    error),
         error);
    struct stage_task lease = {.epoch = 5,
                               .parameters = parameters,
                               .inputs = task->inputs,
                               .input_count = task->input_count,
                               .image_path = task->image_path,
                               .image_hash = task->image_hash,
                               .staged = task->staged,
                               .class = "test-class",
                               .progress = task->progress,
                               .user = task->user,
                               .cancel = task->cancel};
    hash_of(&lease.key, task->parameters, strlen(task->parameters));
    memset(result, 0, sizeof *result);
    return task->stage(&chain->context, &lease, result, error);
}

void task_must(struct chain *chain, const struct task *task, struct stage_result *result) {
    struct error error = {0};
    must(task_run(chain, task, result, &error), &error);
    assert_false(result->object_missing);
}

void task_refused(struct chain *chain, const struct task *task, enum error_code code,
                  const char *part) {
    struct stage_result result;
    struct error error = {0};
    enum error_code got = task_run(chain, task, &result, &error);
    if (got != code)
        fail_msg("expected %s, got %s: %s (parameters %s)", error_name(code), error_name(got),
                 error.detail, task->parameters);
    assert_int_equal(error.code, code);
    if (!strstr(error.detail, part))
        fail_msg("no \"%s\" in: %s", part, error.detail);
    assert_false(result.object_missing);
}

void task_change(struct task *task, const char *key, const char *value) {
    struct arena arena = {0};
    struct buffer text = {0};
    struct error error;
    const struct json *parameters, *replacement = NULL;
    bool found = false;
    must(arena_open(&arena, 1 << 20, &error), &error);
    must(json_parse(&parameters, &arena, task->parameters, strlen(task->parameters), &error),
         &error);
    if (value)
        must(json_parse(&replacement, &arena, value, strlen(value), &error), &error);
    struct json_writer writer = {.buffer = &text};
    json_begin_object(&writer, NULL);
    for (const struct json *member = parameters->child; member; member = member->next) {
        bool this = strcmp(member->key, key) == 0;
        found |= this;
        if (!this || replacement)
            json_put(&writer, member->key, this ? replacement : member);
    }
    json_end_object(&writer);
    assert_true(found && !text.failed && text.length < sizeof task->parameters);
    memcpy(task->parameters, text.data, text.length);
    task->parameters[text.length] = '\0';
    buffer_close(&text);
    arena_close(&arena);
}

void task_add(struct task *task, const char *members) {
    size_t length = strlen(task->parameters), more = strlen(members) + 2;
    assert_true(length + more < sizeof task->parameters);
    (void)snprintf(task->parameters + length - 1, more + 1, ",%s}", members);
}

/* -- the chain --------------------------------------------------------------------------------- */

static struct task task_of(const struct chain *chain, stage_function stage, const char *rest) {
    struct task task = {.stage = stage};
    snprintf(task.parameters, sizeof task.parameters,
             "{\"model\":\"random_wan\",\"model_hash\":\"%s\",%s}", chain->hash, rest);
    return task;
}

static void open_window(struct chain *chain, int k, const struct stage_artifact *tail) {
    static const char *const rest[2] = {
        SIZE
        ",\"frames\":17,\"tail\":1,\"rule\":\"model\",\"index\":0,\"seed\":7,\"stream\":1," SAMPLING
        ",\"noise\":\"vidloom\"",
        SIZE ",\"frames\":17,\"tail\":5,\"rule\":\"overlap\",\"index\":1,\"seed\":7,\"stream\":"
             "2," SAMPLING ",\"noise\":\"vidloom\"",
    };
    chain->window[k] = task_of(chain, stage_window, rest[k]);
    task_input(&chain->window[k], "text", &chain->text_result.outputs[0]);
    task_input(&chain->window[k], "negative", &chain->text_result.outputs[0]);
    task_input(&chain->window[k], "tail", tail);
    task_must(chain, &chain->window[k], &chain->window_result[k]);
}

static void open_decode(struct chain *chain, int k) {
    static const char *const rest[2] = {
        SIZE ",\"frames\":17,\"drop\":0,\"keep\":17,\"tail\":5," CODING,
        SIZE ",\"frames\":17,\"drop\":5,\"keep\":9,\"tail\":0," CODING,
    };
    chain->decode[k] = task_of(chain, stage_decode, rest[k]);
    task_input(&chain->decode[k], "latents", &chain->window_result[k].outputs[0]);
    task_input(&chain->decode[k], "start", &chain->keyframe_result.outputs[0]);
    if (k)
        task_input(&chain->decode[k], "before", &chain->decode_result[0].outputs[1]);
    task_must(chain, &chain->decode[k], &chain->decode_result[k]);
}

static void run_chain(struct chain *chain) {
    chain->text = task_of(chain, stage_text, "\"text\":\"a red balloon\"");
    task_must(chain, &chain->text, &chain->text_result);
    chain->keyframe = task_of(chain, stage_keyframe,
                              SIZE ",\"seed\":7,\"stream\":0,\"noise\":\"vidloom\"," SAMPLING);
    task_input(&chain->keyframe, "text", &chain->text_result.outputs[0]);
    task_input(&chain->keyframe, "negative", &chain->text_result.outputs[0]);
    task_must(chain, &chain->keyframe, &chain->keyframe_result);
    open_window(chain, 0, &chain->keyframe_result.outputs[0]);
    open_decode(chain, 0);
    open_window(chain, 1, &chain->decode_result[0].outputs[1]);
    open_decode(chain, 1);
    chain->mux.stage = stage_mux;
    snprintf(chain->mux.parameters, sizeof chain->mux.parameters,
             "{\"container\":\"mkv\",%s,\"width\":48,\"height\":32,\"frames\":26,"
             "\"title\":\"balloon\",\"provenance\":{\"vidloom\":\"1\",\"prompt\":\"a \\\"red\\\" "
             "balloon\",\"seed\":7,\"shots\":[{\"frames\":26}]}}",
             CODING);
    task_input(&chain->mux, "segment", &chain->decode_result[0].outputs[0]);
    task_input(&chain->mux, "segment", &chain->decode_result[1].outputs[0]);
}

int chain_setup(void **state) {
    struct chain *chain = calloc(1, sizeof *chain);
    struct error error = {0};
    struct model_info info;
    assert_non_null(chain);
    snprintf(chain->folder, sizeof chain->folder, "/tmp/vidloom-stages-XXXXXX");
    assert_non_null(mkdtemp(chain->folder));
    must(model_read_info(&info, "tests/vectors/random_wan", &error), &error);
    hash_hex(chain->hash, &info.hash);
    const struct device_config device = {.threads = 2};
    must(ops_cpu()->device_open(&chain->device, &device, &error), &error);
    const struct models_config models = {
        .ops = ops_cpu(), .device = chain->device, .folder = "tests/vectors", .dtype = DTYPE_F32};
    must(models_open(&chain->context.models, &models, &error), &error);
    must(store_open(&chain->context.store, chain_path(chain, "store"), &error), &error);
    must(arena_open(&chain->context.arena, (size_t)1 << 30, &error), &error);
    run_chain(chain);
    *state = chain;
    return 0;
}

int chain_teardown(void **state) {
    struct chain *chain = *state;
    struct error error;
    models_close(&chain->context.models);
    store_close(&chain->context.store);
    arena_close(&chain->context.arena);
    ops_cpu()->device_close(&chain->device);
    must(file_remove_tree(chain->folder, &error), &error);
    free(chain);
    return 0;
}
