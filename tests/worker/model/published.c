/* The published Wan2.1-T2V-1.3B by its names and shapes alone: files of the right size with holes
 * in place of weights are read, counted and planned, with the arithmetic that the architecture
 * implies. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/worker/model/model_test.h"

#define SHAPES "tests/worker/model/vectors/wan21_t2v_1.3b.txt"

static void write_config(const char *folder, const char *name, const char *text) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    ok(file_join(path, folder, name, &error), &error);
    ok(file_write(path, text, strlen(text), false, &error), &error);
}

/* The header of the tensors of one folder, then a hole as long as their data. */
static void write_weights(const char *folder, const char *component, const char *file) {
    char path[FILE_PATH_BYTES], name[128], which[32], line[256];
    struct error error = {0};
    struct buffer header = {0};
    struct json_writer json = {.buffer = &header};
    int64_t at = 0;
    FILE *shapes = fopen(SHAPES, "r");
    assert_non_null(shapes);
    json_begin_object(&json, NULL);
    while (fgets(line, sizeof line, shapes) != NULL) {
        int end = 0;
        assert_int_equal(sscanf(line, "%31s %127s%n", which, name, &end), 2);
        if (strcmp(which, component) != 0)
            continue;
        json_begin_object(&json, name);
        json_put_text(&json, "dtype", "BF16");
        json_begin_array(&json, "shape");
        int64_t bytes = 2;
        char *next = line + end;
        for (char *from = next; *from != '\n'; from = next) {
            int64_t dim = strtoll(from, &next, 10);
            json_put_int(&json, NULL, dim);
            bytes *= dim;
        }
        json_end_array(&json);
        json_begin_array(&json, "data_offsets");
        json_put_int(&json, NULL, at);
        json_put_int(&json, NULL, at += bytes);
        json_end_array(&json);
        json_end_object(&json);
    }
    json_end_object(&json);
    assert_int_equal(fclose(shapes), 0);
    while (header.length % 8 != 0)
        buffer_add_text(&header, " ");
    uint64_t length = header.length; /* little endian, as every machine this runs on */
    ok(file_join(path, folder, file, &error), &error);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &length, sizeof length), sizeof length);
    assert_int_equal(write(fd, header.data, header.length), header.length);
    assert_int_equal(ftruncate(fd, (off_t)(8 + header.length) + at), 0);
    assert_int_equal(close(fd), 0);
    buffer_close(&header);
}

static int make_folder(void **state) {
    static char folder[64];
    static const char *const folders[] = {"scheduler", "tokenizer", "text_encoder", "transformer",
                                          "vae"};
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    (void)snprintf(folder, sizeof folder, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        ok(file_join(path, folder, folders[i], &error), &error);
        ok(file_make_folders(path, &error), &error);
    }
    write_config(folder, "model_index.json", "{\"_class_name\": \"WanPipeline\"}");
    write_config(folder, "tokenizer/tokenizer_config.json", "{\"model_max_length\": 512}");
    write_config(folder, "tokenizer/spiece.model", "not looked at");
    write_config(folder, "scheduler/scheduler_config.json",
                 "{\"_class_name\": \"UniPCMultistepScheduler\", \"flow_shift\": 3.0, "
                 "\"prediction_type\": \"flow_prediction\", \"use_flow_sigmas\": true}");
    write_config(folder, "text_encoder/config.json",
                 "{\"model_type\": \"umt5\", \"vocab_size\": 256384, \"d_model\": 4096, "
                 "\"d_kv\": 64, \"d_ff\": 10240, \"num_layers\": 24, \"num_heads\": 64}");
    write_config(folder, "transformer/config.json",
                 "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": 12, "
                 "\"ffn_dim\": 8960, \"num_layers\": 30}");
    write_config(folder, "vae/config.json", "{\"_class_name\": \"AutoencoderKLWan\"}");
    write_weights(folder, "text_encoder", "text_encoder/model.safetensors");
    write_weights(folder, "transformer", "transformer/diffusion_pytorch_model.safetensors");
    write_weights(folder, "vae", "vae/diffusion_pytorch_model.safetensors");
    *state = folder;
    return 0;
}

static int remove_folder(void **state) {
    return file_remove_tree(*state, NULL) == ERR_OK ? 0 : -1;
}

static void parameters(void **state) {
    struct model_info info;
    struct error error = {0};
    ok(model_read_info(&info, *state, &error), &error);
    assert_string_equal(info.family, "wan2.1");
    assert_int_equal(info.parameters, 1418996800 + 126892531 + 5680910336);
    assert_int_equal(info.stages, STAGE_TEXT | STAGE_KEYFRAME | STAGE_WINDOW | STAGE_VAE);
    assert_int_equal(info.text_length, 512);
    assert_int_equal(info.sampler, SAMPLER_UNIPC);
}

static struct model_cost plan(const char *folder, enum model_stage stage, int frames) {
    struct model_cost cost;
    struct error error = {0};
    const struct model_size size = {832, 480, frames};
    ok(model_plan(&cost, folder, stage, &size, DTYPE_BF16, &error), &error);
    print_message("stage %d, %d frames: %.2f GB of work, %.2f of weights, %.1f TFLOP\n", (int)stage,
                  frames, (double)cost.work_bytes / 1e9, (double)cost.weight_bytes / 1e9,
                  cost.flops / 1e12);
    return cost;
}

/* 4.8, 283 a forward (of 50 steps with guidance), and 275 TFLOP less 2.3 for the zeros before the
 * first frame, in bf16's bytes. */
static void costs(void **state) {
    struct model_cost text = plan(*state, STAGE_TEXT, 1);
    struct model_cost video = plan(*state, STAGE_KEYFRAME, 81);
    struct model_cost decode = plan(*state, STAGE_VAE, 81);
    assert_float_equal(text.flops / 1e12, 4.8, 0.05);
    assert_float_equal(video.flops / 100 / 1e12, 283, 1);
    assert_float_equal(decode.flops / 1e12, 272.7, 0.2);
    assert_true(video.weight_bytes > 2 * UINT64_C(1418996800) &&
                video.weight_bytes < 3 * UINT64_C(1000000000));
    assert_int_equal(plan(*state, STAGE_VAE, 241).work_bytes, decode.work_bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters),
        cmocka_unit_test(costs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
