/* Every stage on a tiny random model: right outputs, the same again, stopped half way, artifacts
 * that are gone or damaged, models that are others. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/worker/media/png.h"
#include "tests/worker/stages/support.h"

static void must(enum error_code code, const struct error *error) {
    if (code != ERR_OK)
        fail_msg("%s: %s", error_name(code), error->detail);
}

/* -- outputs ----------------------------------------------------------------------------------- */

static void has_tensor(struct chain *chain, const struct stage_artifact *output, const char *name,
                       enum dtype dtype, int rank, const int64_t *dims) {
    struct weights *file;
    struct error error = {0};
    assert_string_equal(output->name, name);
    must(weights_open(&file, output_path(chain, output), &error), &error);
    const struct tensor *tensor = weights_find(file, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->rank, rank);
    for (int i = 0; i < rank; i++)
        assert_int_equal(tensor->dim[i], dims[i]);
    weights_close(&file);
}

static void outputs(void **state) {
    struct chain *chain = *state;
    struct media_info info;
    struct error error = {0};
    const struct stage_artifact *text = &chain->text_result.outputs[0];
    struct weights *file;
    must(weights_open(&file, output_path(chain, text), &error), &error);
    int64_t rows = weights_find(file, "rows")->dim[0];
    weights_close(&file);
    assert_in_range(rows, 2, 64);
    has_tensor(chain, text, "rows", DTYPE_F32, 2, (int64_t[]){rows, 40});
    has_tensor(chain, &chain->keyframe_result.outputs[0], "frames", DTYPE_U8, 4,
               (int64_t[]){1, HEIGHT, WIDTH, 3});
    for (int k = 0; k < 2; k++) {
        assert_int_equal(chain->window_result[k].output_count, 1);
        has_tensor(chain, &chain->window_result[k].outputs[0], "latents", DTYPE_F32, 4,
                   (int64_t[]){16, 5, HEIGHT / 8, WIDTH / 8});
    }
    assert_int_equal(chain->decode_result[0].output_count, 2);
    has_tensor(chain, &chain->decode_result[0].outputs[1], "frames", DTYPE_U8, 4,
               (int64_t[]){5, HEIGHT, WIDTH, 3});
    assert_true(chain->decode_result[0].measured && chain->decode_result[1].measured);
    assert_int_equal(chain->decode_result[1].output_count, 1);
    assert_string_equal(chain->decode_result[1].outputs[0].name, "segment");
    must(media_read_info(&info, output_path(chain, &chain->decode_result[1].outputs[0]), &error),
         &error);
    assert_string_equal(info.codec, "ffv1");
    assert_int_equal(info.width, WIDTH);
    media_info_close(&info);
}

static void same_outputs(struct chain *chain, const struct task *task,
                         const struct stage_result *first) {
    struct stage_result again;
    task_must(chain, task, &again);
    assert_int_equal(again.output_count, first->output_count);
    for (int i = 0; i < first->output_count; i++) {
        assert_string_equal(again.outputs[i].name, first->outputs[i].name);
        assert_memory_equal(&again.outputs[i].hash, &first->outputs[i].hash, HASH_BYTES);
        assert_int_equal(again.outputs[i].size, first->outputs[i].size);
    }
}

static void the_same_again(void **state) {
    struct chain *chain = *state;
    same_outputs(chain, &chain->text, &chain->text_result);
    same_outputs(chain, &chain->keyframe, &chain->keyframe_result);
    same_outputs(chain, &chain->window[1], &chain->window_result[1]);
    same_outputs(chain, &chain->decode[0], &chain->decode_result[0]);
    assert_memory_not_equal(&chain->window_result[0].outputs[0].hash,
                            &chain->window_result[1].outputs[0].hash, HASH_BYTES);
}

/* Guidance 1 needs no negative text; other seeds and streams are other pictures. */
static void parameters_count(void **state) {
    struct chain *chain = *state;
    static const char *const changes[][2] = {
        {"seed", "8"}, {"stream", "9"}, {"guidance", "1"}, {"steps", "2"}, {"shift", "2.5"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct task task = chain->window[0];
        struct stage_result result;
        task_change(&task, changes[i][0], changes[i][1]);
        if (strcmp(changes[i][0], "guidance") == 0)
            snprintf(task.inputs[1].name, sizeof task.inputs[1].name, "ignored");
        task_must(chain, &task, &result);
        if (hash_equal(&result.outputs[0].hash, &chain->window_result[0].outputs[0].hash))
            fail_msg("%s makes no difference", changes[i][0]);
    }
}

/* Noise levels instead of those that steps and shift make. */
static void noise_levels(void **state) {
    struct chain *chain = *state;
    struct task task = chain->window[0];
    struct stage_result levels, others;
    task_add(&task, "\"sigmas\":[1,0.9,0.2,0]");
    task_must(chain, &task, &levels);
    assert_false(hash_equal(&levels.outputs[0].hash, &chain->window_result[0].outputs[0].hash));
    same_outputs(chain, &task, &levels);
    task_change(&task, "shift", "1"); /* which is read by nobody then */
    same_outputs(chain, &task, &levels);
    task_add(&task, "\"attention\":\"8bit\""); /* of heads of 16: not done */
    same_outputs(chain, &task, &levels);
    task_change(&task, "sigmas", "[1,0.9,0.3,0]");
    task_must(chain, &task, &others);
    assert_false(hash_equal(&levels.outputs[0].hash, &others.outputs[0].hash));
}

/* The tail that a decode yields is the end of what it decodes, whatever it keeps. */
static void tails(void **state) {
    struct chain *chain = *state;
    struct task task = chain->decode[0];
    struct stage_result result;
    task_change(&task, "keep", "1");
    task_must(chain, &task, &result);
    assert_memory_equal(&result.outputs[1].hash, &chain->decode_result[0].outputs[1].hash,
                        HASH_BYTES);
    task_change(&task, "tail", "0");
    task_must(chain, &task, &result);
    assert_int_equal(result.output_count, 1);
}

/* The new frames follow those that were before them: others before, another segment. */
static void seams(void **state) {
    struct chain *chain = *state;
    struct task task = chain->decode[1];
    struct stage_result tail, result;
    same_outputs(chain, &task, &chain->decode_result[1]);
    task_change(&task, "tail", "5");
    task_must(chain, &task, &tail);
    task = chain->decode[1];
    task.input_count--; /* "before" */
    task_input(&task, "before", &tail.outputs[1]);
    task_must(chain, &task, &result);
    assert_false(hash_equal(&result.outputs[0].hash, &chain->decode_result[1].outputs[0].hash));
}

/* -- from text alone --------------------------------------------------------------------------- */

/* A text-to-video model: a golden transformer and a golden VAE of one width. */
static const char *model_of_text(const struct chain *chain) {
    static const char *const parts[][2] = {
        {"tests/parity/golden/t2v/transformer", "t2v/transformer"},
        {"tests/parity/golden/t2v/scheduler", "t2v/scheduler"},
        {"tests/parity/golden/t2v/model_index.json", "t2v/model_index.json"},
        {"tests/parity/golden/i2v/vae", "t2v/vae"}};
    const char *folder = chain_path(chain, "t2v");
    assert_int_equal(mkdir(folder, 0700), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *there = realpath(parts[i][0], NULL);
        assert_non_null(there);
        assert_int_equal(symlink(there, chain_path(chain, parts[i][1])), 0);
        free(there);
    }
    return chain_path(chain, "t2v");
}

static struct task task_of_text(stage_function stage, const char *folder, const char *rest) {
    struct task task = {.stage = stage};
    struct model_info info;
    struct error error = {0};
    char hash[HASH_HEX_BYTES];
    must(model_read_info(&info, folder, &error), &error);
    hash_hex(hash, &info.hash);
    snprintf(task.parameters, sizeof task.parameters,
             "{\"model\":\"%s\",\"model_hash\":\"%s\",\"width\":48,\"height\":32,%s}", folder, hash,
             rest);
    return task;
}

/* Rows as that model's text encoder would make. */
static struct stage_artifact some_rows(struct chain *chain) {
    static const float rows[3][24] = {{1}, {0, 1}, {0, 0, 1}};
    const struct tensor tensor = {.data = rows, .dtype = DTYPE_F32, .rank = 2, .dim = {3, 24}};
    const struct stage_task task = {.epoch = 5};
    struct stage_result result = {.output_count = 0};
    struct error error = {0};
    must(stage_put_tensor(&chain->context, &task, "rows", &tensor, &result, &error), &error);
    return result.outputs[0];
}

/* A model that makes windows from text: one of nine frames, measured against its own first. */
static void from_text(void **state) {
    struct chain *chain = *state;
    const struct stage_artifact text = some_rows(chain);
    const char *folder = model_of_text(chain);
    struct stage_result window_result, decode_result;
    struct task window =
        task_of_text(stage_window, folder,
                     "\"frames\":9,\"tail\":0,\"rule\":\"text\",\"index\":0,\"seed\":7,"
                     "\"stream\":1,\"noise\":\"vidloom\",\"sampler\":\"euler\",\"steps\":2,"
                     "\"guidance\":1,\"shift\":3");
    struct task decode =
        task_of_text(stage_decode, folder,
                     "\"frames\":9,\"drop\":0,\"keep\":7,\"tail\":0,\"codec\":\"ffv1\","
                     "\"quality\":-1,\"fps\":[16,1]");
    task_input(&window, "text", &text);
    task_must(chain, &window, &window_result);
    has_tensor(chain, &window_result.outputs[0], "latents", DTYPE_F32, 4,
               (int64_t[]){16, 3, HEIGHT / 8, WIDTH / 8});
    same_outputs(chain, &window, &window_result);
    task_input(&decode, "latents", &window_result.outputs[0]);
    task_must(chain, &decode, &decode_result);
    assert_int_equal(decode_result.output_count, 1);
    assert_true(decode_result.measured && decode_result.measures.seam == 0);

    struct task changed = window;
    task_change(&changed, "tail", "1");
    task_refused(chain, &changed, ERR_FORMAT, "tail");
    task_change(&changed, "rule", "\"model\"");
    task_refused(chain, &changed, ERR_FORMAT, "\"tail\"");
    task_input(&changed, "tail", &chain->keyframe_result.outputs[0]);
    task_refused(chain, &changed, ERR_UNSUPPORTED, "from text alone");
    changed = chain->window[0]; /* a model that cannot */
    task_change(&changed, "rule", "\"text\"");
    task_change(&changed, "tail", "0");
    task_refused(chain, &changed, ERR_UNSUPPORTED, "this model cannot");
    changed = decode; /* nothing before frames that are dropped */
    task_change(&changed, "drop", "5");
    task_change(&changed, "keep", "4");
    task_refused(chain, &changed, ERR_FORMAT, "start");
}

/* -- mux --------------------------------------------------------------------------------------- */

static void mux_one(struct chain *chain, const char *name, const char *container) {
    struct task task = chain->mux;
    struct stage_result result;
    struct media_info info;
    struct error error = {0};
    struct hash hash;
    uint64_t bytes;
    task.staged = chain_path(chain, name);
    task_change(&task, "container", container);
    task_must(chain, &task, &result);
    assert_int_equal(result.output_count, 1);
    assert_string_equal(result.outputs[0].name, "file");
    must(hash_of_tree(&hash, &bytes, task.staged, &error), &error);
    assert_memory_equal(&hash, &result.outputs[0].hash, HASH_BYTES);
    assert_int_equal(bytes, result.outputs[0].size);
    must(media_read_info(&info, task.staged, &error), &error);
    assert_int_equal(info.frames, 26);
    assert_string_equal(info.provenance,
                        "{\"vidloom\":\"1\",\"prompt\":\"a \\\"red\\\" balloon\",\"seed\":7,"
                        "\"shots\":[{\"frames\":26}],\"device\":\"test-class\"}");
    media_info_close(&info);
}

static void mux_to_a_file(void **state) {
    struct chain *chain = *state;
    mux_one(chain, "first.part", "\"mkv\"");
    mux_one(chain, "second.part", "\"mkv\"");
    struct hash a, b;
    struct error error;
    must(hash_of_file(&a, chain_path(chain, "first.part"), &error), &error);
    must(hash_of_file(&b, chain_path(chain, "second.part"), &error), &error);
    assert_memory_equal(&a, &b, HASH_BYTES);
}

static void mux_is_stopped(void **state) {
    struct chain *chain = *state;
    atomic_bool cancel = true;
    struct task task = chain->mux;
    task.staged = chain_path(chain, "stopped.part");
    task.cancel = &cancel;
    task_refused(chain, &task, ERR_INTERRUPTED, "stopped");
    assert_int_equal(access(task.staged, F_OK), -1);
}

/* -- image ------------------------------------------------------------------------------------- */

static struct task image_task(struct chain *chain, const char *name) {
    static uint8_t rgb[40 * 60 * 3];
    struct task task = {.stage = stage_image, .parameters = "{\"width\":48,\"height\":32}"};
    struct error error = {0};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7);
    task.image_path = chain_path(chain, name);
    write_png(task.image_path, rgb, 60, 40);
    must(hash_of_file(&task.image_hash, task.image_path, &error), &error);
    return task;
}

static void image(void **state) {
    struct chain *chain = *state;
    struct task task = image_task(chain, "picture.png");
    struct stage_result result;
    task_must(chain, &task, &result);
    has_tensor(chain, &result.outputs[0], "frames", DTYPE_U8, 4, (int64_t[]){1, HEIGHT, WIDTH, 3});
    same_outputs(chain, &task, &result);
    struct task window = chain->window[0]; /* a window can start from it */
    window.input_count = 2;
    task_input(&window, "tail", &result.outputs[0]);
    task_must(chain, &window, &result);
}

static void image_that_changed(void **state) {
    struct chain *chain = *state;
    struct task task = image_task(chain, "changed.png");
    FILE *file = fopen(task.image_path, "ab");
    assert_non_null(file);
    assert_int_equal(fputc(0, file), 0);
    assert_int_equal(fclose(file), 0);
    task_refused(chain, &task, ERR_USAGE, "submit the job again");
    assert_int_equal(unlink(task.image_path), 0);
    task_refused(chain, &task, ERR_MISSING, "changed.png");
    task.image_path = NULL;
    task_refused(chain, &task, ERR_FORMAT, "names no file");
    struct error error;
    task = image_task(chain, "text.png");
    must(file_write(task.image_path, "no picture", 10, false, &error), &error);
    must(hash_of_file(&task.image_hash, task.image_path, &error), &error);
    task_refused(chain, &task, ERR_FORMAT, "text.png");
}

/* -- stopped half way ------------------------------------------------------------------------- */

struct watcher {
    int calls, stop_at;
    atomic_bool cancel;
};

static void watch(void *user, int step, int steps) {
    struct watcher *watcher = user;
    assert_in_range(step, 1, steps);
    if (++watcher->calls == watcher->stop_at)
        atomic_store(&watcher->cancel, true);
}

static int staging_files(const struct chain *chain) {
    struct store *store;
    struct error error;
    int removed;
    must(store_open(&store, chain_path(chain, "store"), &error), &error);
    must(store_sweep_older(store, &removed, INT64_MAX, &error), &error);
    store_close(&store);
    return removed;
}

static void stopped_half_way(void **state) {
    struct chain *chain = *state;
    const struct task *const tasks[] = {&chain->keyframe, &chain->window[1], &chain->decode[0]};
    for (size_t i = 0; i < 3; i++) {
        const int stop_at = tasks[i]->stage == stage_decode ? 1 : 2;
        struct watcher watcher = {.stop_at = stop_at};
        struct task task = *tasks[i];
        task.progress = watch;
        task.user = &watcher;
        task.cancel = &watcher.cancel;
        task_refused(chain, &task, ERR_INTERRUPTED, "");
        assert_int_equal(watcher.calls, stop_at);
        assert_int_equal(staging_files(chain), 0);
        watcher = (struct watcher){.stop_at = -1};
        struct stage_result result;
        task_must(chain, &task, &result);
        assert_true(watcher.calls >= stop_at);
    }
}

/* -- objects that are gone --------------------------------------------------------------------- */

static void misses(struct chain *chain, const struct task *task, const struct hash *object) {
    struct stage_result result;
    struct error error = {0};
    assert_int_equal(task_run(chain, task, &result, &error), ERR_MISSING);
    assert_true(result.object_missing);
    assert_memory_equal(&result.object, object, HASH_BYTES);
}

/* The input `at` of the task is removed, made again, damaged, and made again. */
static void lose_input(struct chain *chain, struct task task, int at, const struct task *maker) {
    const struct stage_artifact lost = task.inputs[at];
    struct stage_result result;
    char path[FILE_PATH_BYTES];
    assert_int_equal(unlink(output_path(chain, &lost)), 0);
    misses(chain, &task, &lost.hash);
    task_must(chain, maker, &result);
    task_must(chain, &task, &result);
    snprintf(path, sizeof path, "%s", output_path(chain, &lost));
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_int_equal(pwrite(descriptor, "damage", 6, (off_t)lost.size - 6), 6);
    assert_int_equal(close(descriptor), 0);
    misses(chain, &task, &lost.hash);
    assert_int_equal(access(path, F_OK), -1); /* so that it is made again, not found again */
    task_must(chain, maker, &result);
    task_must(chain, &task, &result);
    task.inputs[at].size++;
    misses(chain, &task, &lost.hash);
    task_must(chain, maker, &result);
}

static void objects_that_are_gone(void **state) {
    struct chain *chain = *state;
    struct task mux = chain->mux;
    mux.staged = chain_path(chain, "lost.part");
    lose_input(chain, chain->keyframe, 0, &chain->text);
    lose_input(chain, chain->window[0], 2, &chain->keyframe);
    lose_input(chain, chain->window[1], 2, &chain->decode[0]);
    lose_input(chain, chain->decode[1], 0, &chain->window[1]);
    lose_input(chain, mux, 1, &chain->decode[1]);
}

/* -- models ------------------------------------------------------------------------------------ */

static void other_models(void **state) {
    struct chain *chain = *state;
    struct task task = chain->text;
    task_change(&task, "model_hash",
                "\"00000000000000000000000000000000000000000000000000000000000000ff\"");
    task_refused(chain, &task, ERR_MISSING, "give both the same files");
    task_change(&task, "model_hash", "\"ff\"");
    task_refused(chain, &task, ERR_FORMAT, "model_hash");
    task = chain->text;
    task_change(&task, "model", "\"no_such_model\"");
    task_refused(chain, &task, ERR_MISSING, "no_such_model");
    task_change(&task, "model", "\"tests/vectors/random_wan\""); /* a path is one */
    same_outputs(chain, &task, &chain->text_result);
    same_outputs(chain, &chain->text, &chain->text_result);
}

/* More models than may be open at once: the oldest goes, and comes back when it is needed. */
static void many_models(void **state) {
    struct chain *chain = *state;
    static const char *const specs[] = {
        "\"./tests/vectors/random_wan\"", "\"tests/./vectors/random_wan\"",
        "\"tests/vectors/./random_wan\"", "\"././tests/vectors/random_wan\"",
        "\"./tests/./vectors/random_wan\""};
    for (size_t i = 0; i < 2 * sizeof specs / sizeof *specs; i++) {
        struct task task = chain->text;
        task_change(&task, "model", specs[i % 5]);
        same_outputs(chain, &task, &chain->text_result);
    }
    same_outputs(chain, &chain->decode[1], &chain->decode_result[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs),
        cmocka_unit_test(the_same_again),
        cmocka_unit_test(parameters_count),
        cmocka_unit_test(noise_levels),
        cmocka_unit_test(tails),
        cmocka_unit_test(seams),
        cmocka_unit_test(from_text),
        cmocka_unit_test(mux_to_a_file),
        cmocka_unit_test(mux_is_stopped),
        cmocka_unit_test(image),
        cmocka_unit_test(image_that_changed),
        cmocka_unit_test(stopped_half_way),
        cmocka_unit_test(objects_that_are_gone),
        cmocka_unit_test(other_models),
        cmocka_unit_test(many_models),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
