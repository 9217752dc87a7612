/* Models as leases ask for them: with LoRAs, with weights of another type, within little memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/worker/stages/support.h"
#include "worker/model/safetensors.h"

#define MODEL "tests/vectors/random_wan"
#define RANK  2

static void must(enum error_code code, const struct error *error) {
    if (code != ERR_OK)
        fail_msg("%s: %s", error_name(code), error->detail);
}

/* A LoRA of one layer, of random numbers by this seed, in the scratch folder. */
struct lora {
    char path[256];
    char hash[HASH_HEX_BYTES];
};
static void write_lora(struct lora *out, struct chain *chain, const char *name, const char *layer,
                       int64_t width, uint64_t seed) {
    struct error error = {0};
    struct hash hash;
    char names[2][128];
    float *values[2];
    struct tensor parts[2] = {{.rank = 2, .dim = {RANK, width}}, {.rank = 2, .dim = {width, RANK}}};
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], "diffusion_model.%s.lora_%c.weight", layer, 'A' + i);
        values[i] = malloc((size_t)(RANK * width) * sizeof *values[i]);
        assert_non_null(values[i]);
        random_normal(values[i], (size_t)(RANK * width), seed, (uint64_t)i, 0);
        parts[i].data = values[i];
    }
    snprintf(out->path, sizeof out->path, "%s", chain_path(chain, name));
    must(safetensors_write(out->path, parts, (const char *const[]){names[0], names[1]}, 2, &error),
         &error);
    must(hash_of_file(&hash, out->path, &error), &error);
    hash_hex(out->hash, &hash);
    free(values[0]);
    free(values[1]);
}

static int64_t width_of(const char *part, const char *name) {
    char path[256];
    struct weights *weights;
    struct error error = {0};
    snprintf(path, sizeof path, MODEL "/%s/diffusion_pytorch_model.safetensors", part);
    must(weights_open(&weights, path, &error), &error);
    int64_t width = weights_find(weights, name)->dim[0];
    weights_close(&weights);
    return width;
}

static void with_lora(struct task *out, const struct task *task, const struct lora *lora,
                      double strength) {
    char members[1024];
    *out = *task;
    snprintf(members, sizeof members, "\"lora\":[[\"%s\",%g]],\"lora_files\":[\"%s\"]", lora->hash,
             strength, lora->path);
    task_add(out, members);
}

static bool gives(struct chain *chain, const struct task *task, const struct stage_result *other) {
    struct stage_result result;
    task_must(chain, task, &result);
    return hash_equal(&result.outputs[0].hash, &other->outputs[0].hash);
}

/* -- LoRAs ------------------------------------------------------------------------------------- */

static void loras(void **state) {
    struct chain *chain = *state;
    struct lora lora, second;
    struct task task;
    struct stage_result once, twice;
    int64_t width = width_of("window", "blocks.0.attn1.to_q.weight");
    write_lora(&lora, chain, "style.safetensors", "blocks.0.self_attn.q", width, 1);
    write_lora(&second, chain, "second.safetensors", "blocks.1.self_attn.v", width, 2);
    with_lora(&task, &chain->window[0], &lora, 0);
    assert_true(gives(chain, &task, &chain->window_result[0]));
    with_lora(&task, &chain->window[0], &lora, 1);
    task_must(chain, &task, &once);
    assert_false(hash_equal(&once.outputs[0].hash, &chain->window_result[0].outputs[0].hash));
    with_lora(&task, &chain->window[0], &lora, -0.5);
    assert_false(gives(chain, &task, &once));
    task = chain->window[0];
    char members[1024];
    snprintf(members, sizeof members,
             "\"lora\":[[\"%s\",1],[\"%s\",1]],\"lora_files\":[\"%s\",\"%s\"]", lora.hash,
             second.hash, lora.path, second.path);
    task_add(&task, members);
    task_must(chain, &task, &twice);
    assert_false(hash_equal(&once.outputs[0].hash, &twice.outputs[0].hash));
    /* None of it stays in what is asked for without. */
    with_lora(&task, &chain->window[0], &lora, 1);
    assert_true(gives(chain, &task, &once));
    assert_true(gives(chain, &chain->window[0], &chain->window_result[0]));
    assert_true(gives(chain, &chain->decode[0], &chain->decode_result[0]));
    assert_true(gives(chain, &chain->text, &chain->text_result));
}

/* A bare name is a file beside the models. */
static void lora_by_name(void **state) {
    struct chain *chain = *state;
    struct lora lora;
    struct task task;
    write_lora(&lora, chain, "bare.safetensors", "blocks.0.self_attn.q",
               width_of("window", "blocks.0.attn1.to_q.weight"), 1);
    snprintf(lora.path, sizeof lora.path, "bare.safetensors");
    with_lora(&task, &chain->window[0], &lora, 1);
    task_refused(chain, &task, ERR_MISSING, "tests/vectors/bare.safetensors");
}

static void loras_that_are_not(void **state) {
    struct chain *chain = *state;
    struct lora lora, other;
    struct task task;
    int64_t width = width_of("window", "blocks.0.attn1.to_q.weight");
    write_lora(&lora, chain, "lora.safetensors", "blocks.0.self_attn.q", width, 1);
    other = lora;
    other.hash[0] = (char)(other.hash[0] == '0' ? '1' : '0');
    with_lora(&task, &chain->window[0], &other, 1);
    task_refused(chain, &task, ERR_MISSING, "lora.safetensors: this worker's LoRA has");
    with_lora(&task, &chain->window[0], &lora, 1);
    struct stage_result before;
    task_must(chain, &task, &before);
    /* Written anew: the lease of before does not take it, one with its hash does. */
    write_lora(&lora, chain, "lora.safetensors", "blocks.0.self_attn.q", width, 3);
    with_lora(&task, &chain->window[0], &lora, 1);
    assert_false(gives(chain, &task, &before));
    write_lora(&lora, chain, "wide.safetensors", "blocks.0.self_attn.q", width + 8, 1);
    with_lora(&task, &chain->window[0], &lora, 1);
    task_refused(chain, &task, ERR_SHAPE, "another model");
    write_lora(&lora, chain, "odd.safetensors", "blocks.0.self_attn.q.dora_scale", width, 1);
    with_lora(&task, &chain->window[0], &lora, 1);
    task_refused(chain, &task, ERR_SHAPE, "another model");
    snprintf(lora.path, sizeof lora.path, "./no.safetensors");
    with_lora(&task, &chain->window[0], &lora, 1);
    task_refused(chain, &task, ERR_MISSING, "no.safetensors");
    assert_true(gives(chain, &chain->window[0], &chain->window_result[0]));
}

static void malformed(void **state) {
    struct chain *chain = *state;
#define HASH "\"00000000000000000000000000000000000000000000000000000000000000ff\""
    static const char *const bad[] = {
        "\"lora\":[[" HASH ",1]]",
        "\"lora_files\":[\"a\"]",
        "\"lora\":[[" HASH ",1]],\"lora_files\":[]",
        "\"lora\":[[" HASH ",1]],\"lora_files\":[1]",
        "\"lora\":[[" HASH "]],\"lora_files\":[\"a\"]",
        "\"lora\":[[" HASH ",\"1\"]],\"lora_files\":[\"a\"]",
        "\"lora\":[[" HASH ",1e60]],\"lora_files\":[\"a\"]",
        "\"lora\":[[\"ff\",1]],\"lora_files\":[\"a\"]",
        "\"lora\":" HASH ",\"lora_files\":\"a\"",
        "\"lora\":[1],\"lora_files\":[\"a\"]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct task changed = chain->window[0];
        task_add(&changed, bad[i]);
        task_refused(chain, &changed, ERR_FORMAT, "lora_files");
    }
    struct task task = chain->text;
    task_add(&task, "\"weights\":\"int4\"");
    task_refused(chain, &task, ERR_UNSUPPORTED, "weights");
    task_change(&task, "weights", "8");
    task_refused(chain, &task, ERR_FORMAT, "weights");
}

/* -- weights ----------------------------------------------------------------------------------- */

static void held_in_another_type(void **state) {
    static const char *const types[] = {"\"bf16\"", "\"int8\"", "\"fp8\""};
    struct chain *chain = *state;
    const struct task *tasks[] = {&chain->text, &chain->window[0]};
    const struct stage_result *results[] = {&chain->text_result, &chain->window_result[0]};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            struct task task = *tasks[i];
            struct stage_result result;
            char members[64];
            snprintf(members, sizeof members, "\"weights\":%s", types[k]);
            task_add(&task, members);
            task_must(chain, &task, &result);
            /* The file's are bf16. */
            assert_int_equal(gives(chain, &task, results[i]), k == 0);
            assert_true(gives(chain, &task, &result));
        }
    assert_true(gives(chain, &chain->decode[0], &chain->decode_result[0]));
}

/* -- memory ------------------------------------------------------------------------------------ */

/* Two models, one of them in other types, open within what one takes with its work: either makes
 * room for the other, and nothing comes out otherwise. */
static void little_memory(void **state) {
    struct chain *chain = *state;
    struct error error = {0};
    struct models *models, *before = chain->context.models;
    struct task window = chain->window[0];
    struct model_cost cost; /* of the decode, which takes most */
    struct model_bytes bytes;
    const struct model_options options = {.stages = -1, .dtype = DTYPE_F32};
    must(model_measure(&bytes, MODEL, &options, &error), &error);
    const size_t all = bytes.all;
    must(model_plan(&cost, MODEL, STAGE_VAE, &(struct model_size){48, 32, 17}, &options, &error),
         &error);
    struct models_config config = {.ops = ops_cpu(),
                                   .device = chain->device,
                                   .folder = "tests/vectors",
                                   .dtype = DTYPE_F32,
                                   .memory = all + cost.work_bytes};
    assert_true(config.memory < 2 * all);
    must(models_open(&models, &config, &error), &error);
    chain->context.models = models;
    size_t others = ops_cpu()->weight_bytes(chain->device);
    task_add(&window, "\"weights\":\"bf16\""); /* the file's */
    for (int i = 0; i < 2; i++) {
        assert_true(gives(chain, &chain->text, &chain->text_result));
        assert_true(gives(chain, &chain->window[0], &chain->window_result[0]));
        assert_true(ops_cpu()->weight_bytes(chain->device) - others <= all);
        assert_true(gives(chain, &window, &chain->window_result[0]));
        assert_true(ops_cpu()->weight_bytes(chain->device) - others <= all);
        assert_true(gives(chain, &chain->keyframe, &chain->keyframe_result));
        assert_true(gives(chain, &chain->decode[0], &chain->decode_result[0]));
    }
    /* What one task needs and no more: a decode does not go on beside a transformer. */
    assert_true(models_shed(models));
    assert_true(models_shed(models));
    assert_false(models_shed(models));
    assert_int_equal(ops_cpu()->weight_bytes(chain->device), others);
    assert_true(gives(chain, &window, &chain->window_result[0]));
    size_t with_transformer = ops_cpu()->weight_bytes(chain->device);
    assert_true(gives(chain, &chain->decode[0], &chain->decode_result[0]));
    assert_true(ops_cpu()->weight_bytes(chain->device) < with_transformer);
    models_close(&models);
    assert_false(models_shed(before)); /* without a limit there is nothing to gain */
    config.memory = 1000;
    must(models_open(&models, &config, &error), &error);
    chain->context.models = models;
    task_refused(chain, &chain->window[0], ERR_MEMORY, "are allowed");
    models_close(&models);
    chain->context.models = before;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loras),         cmocka_unit_test(lora_by_name),
        cmocka_unit_test(malformed),     cmocka_unit_test(loras_that_are_not),
        cmocka_unit_test(little_memory), cmocka_unit_test(held_in_another_type),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
