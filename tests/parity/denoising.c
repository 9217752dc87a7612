/* One pass of a transformer, and whole requests through the door. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/parity/parity.h"
#include "worker/model/model.h"

/* -- a pass ---------------------------------------------------------------------------------- */

static enum error_code run_pass(struct parity_result *result, struct parity_bench *bench,
                                const struct denoiser *denoiser, int expert,
                                const struct weights *tensors, struct error *error) {
    struct runtime *runtime = &bench->runtime;
    const struct transformer *transformer = denoiser->expert[expert].transformer;
    const struct transformer_config *config = &denoiser->config;
    const struct tensor *latents, *text, *velocity, *rows = parity_find(tensors, "image");
    struct transformer_grid grid;
    struct transformer_context words, image;
    enum error_code code = parity_need(&latents, tensors, "latents", error);
    if (code == ERR_OK)
        code = parity_need(&text, tensors, "text", error);
    if (code == ERR_OK)
        code = parity_need(&velocity, tensors, "velocity", error);
    if (code == ERR_OK)
        code = transformer_grid_open(&grid, transformer, runtime, latents->dim[1], latents->dim[2],
                                     latents->dim[3], error);
    if (code != ERR_OK)
        return code;
    transformer_text_open(&words, transformer, runtime, &grid, text->data, (int)text->dim[0],
                          (int)parity_number(tensors, "text_length", 0, 512));
    if (rows != NULL)
        transformer_image_open(&image, transformer, runtime, &grid,
                               table_put_floats(runtime, rows->data, tensor_elements(rows)),
                               rows->dim[0]);
    int64_t plane = latents->dim[1] * latents->dim[2] * latents->dim[3];
    bool conditioned = config->in_channels > config->out_channels;
    int given = (int)parity_number(tensors, "prefix_frames", 0, 0);
    uint8_t *group = malloc((size_t)grid.tokens);
    if (group == NULL)
        return error_set(error, ERR_MEMORY, "no memory for %lld tokens", (long long)grid.tokens);
    for (int64_t i = 0; i < grid.tokens; i++)
        group[i] = i / (grid.tokens / grid.frames) < given;
    const float *in = table_put_floats(runtime, latents->data, tensor_elements(latents));
    const struct transformer_input input = {
        .latents = in,
        .condition = conditioned ? in + config->out_channels * plane : NULL,
        .grid = &grid,
        .text = &words,
        .image = rows != NULL ? &image : NULL,
        .time = {.value = {(float)parity_number(tensors, "time", 0, 0), 0},
                 .count = given > 0 ? 2 : 1,
                 .group = table_put(runtime, group, (size_t)grid.tokens)}};
    free(group);
    float *out = work_floats(runtime, tensor_elements(velocity));
    transformer_forward(transformer, runtime, out, &input);
    code = runtime->ops->status(runtime->device, error);
    parity_measure_there(result, bench, out, velocity);
    return code;
}

#define LORAS_MAX 4

struct loras {
    char path[LORAS_MAX][FILE_PATH_BYTES];
    struct model_lora lora[LORAS_MAX];
    int count;
};

/* lora_files: names with a NUL after each, of files in the model's loras/; lora_strengths. */
static enum error_code read_loras(struct loras *out, const struct parity_given *given,
                                  struct error *error) {
    const struct tensor *files = parity_find(given->tensors, "lora_files");
    const char *name = files != NULL ? files->data : NULL, *end = name;
    enum error_code code = ERR_OK;
    out->count = 0;
    if (files != NULL)
        end += tensor_elements(files);
    if (files != NULL && (files->dtype != DTYPE_U8 || name == end || end[-1] != 0))
        return error_set(error, ERR_FORMAT, "the case's names of LoRA files do not end");
    for (; name != end && code == ERR_OK; name += strlen(name) + 1) {
        int i = out->count++;
        char folder[FILE_PATH_BYTES];
        if (i == LORAS_MAX)
            return error_set(error, ERR_LIMIT, "a case of more than %d LoRAs", LORAS_MAX);
        code = file_join(folder, given->folder, "loras", error);
        if (code == ERR_OK)
            code = file_join(out->path[i], folder, name, error);
        out->lora[i] = (struct model_lora){
            .path = out->path[i],
            .strength = (float)parity_number(given->tensors, "lora_strengths", i, 1)};
    }
    return code;
}

enum error_code parity_transformer(struct parity_result *result, const struct parity_given *given,
                                   struct error *error) {
    struct parity_bench bench;
    struct model_config config;
    struct denoiser denoiser = {.alone = false};
    struct loras loras;
    enum error_code code = parity_bench_open(&bench, given, error);
    if (code == ERR_OK)
        code = config_read_model(&config, given->folder, error);
    if (code == ERR_OK)
        code = read_loras(&loras, given, error);
    if (code == ERR_OK) {
        config.window.loras = loras.lora;
        config.window.lora_count = loras.count;
    }
    if (code == ERR_OK)
        code =
            denoiser_open(&denoiser, &bench.runtime, given->folder, &config.window, false, error);
    if (code == ERR_OK) {
        int expert = (int)parity_number(given->tensors, "expert", 0, 0);
        code = run_pass(result, &bench, &denoiser, expert, given->tensors, error);
    }
    denoiser_close(&denoiser, &bench.runtime);
    parity_bench_close(&bench);
    return code;
}

/* -- a request ------------------------------------------------------------------------------- */

/* What diffusers' pipeline was asked. settings: sampler, steps, guidance, guidance_low, shift. */
static void read_request(struct denoise_request *request, struct window_source *source,
                         const struct weights *tensors) {
    const struct tensor *positive = parity_find(tensors, "positive");
    const struct tensor *negative = parity_find(tensors, "negative");
    const struct tensor *sigmas = parity_find(tensors, "sigmas");
    const struct tensor *tail = parity_find(tensors, "tail"), *end = parity_find(tensors, "end");
    *request =
        (struct denoise_request){.size = {(int)parity_number(tensors, "size", 0, 0),
                                          (int)parity_number(tensors, "size", 1, 0),
                                          (int)parity_number(tensors, "size", 2, 0)},
                                 .positive = {positive->data, (int)positive->dim[0]},
                                 .negative = {negative->data, (int)negative->dim[0]},
                                 .sampler = (enum sampler)parity_number(tensors, "settings", 0, 0),
                                 .steps = (int)parity_number(tensors, "settings", 1, 0),
                                 .guidance = (float)parity_number(tensors, "settings", 2, 0),
                                 .guidance_low = (float)parity_number(tensors, "settings", 3, 0),
                                 .shift = (float)parity_number(tensors, "settings", 4, 0),
                                 .sigmas = sigmas != NULL ? sigmas->data : NULL,
                                 .seed = (uint64_t)parity_number(tensors, "seed", 0, 0),
                                 .stream = (uint64_t)parity_number(tensors, "seed", 1, 0)};
    *source = (struct window_source){.tail = tail != NULL ? tail->data : NULL,
                                     .tail_frames = tail != NULL ? (int)tail->dim[0] : 0,
                                     .end = end != NULL ? end->data : NULL};
}

static enum error_code run_request(struct parity_result *result, struct model *model,
                                   const struct weights *tensors, struct error *error) {
    static const char *const needed[] = {"settings", "size", "positive", "negative", "latents"};
    const struct tensor *latents = NULL;
    struct denoise_request request;
    struct window_source source;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        enum error_code code = parity_need(&latents, tensors, needed[i], error);
        if (code != ERR_OK)
            return code;
    }
    read_request(&request, &source, tensors);
    float *got = malloc((size_t)tensor_elements(latents) * sizeof *got);
    if (got == NULL)
        return error_set(error, ERR_MEMORY, "no memory");
    enum error_code code = request.size.frames == 1
                               ? model_keyframe(model, got, &request, error)
                               : model_window(model, got, &source, &request, error);
    if (code == ERR_OK)
        parity_measure(result, got, latents);
    free(got);
    return code;
}

/* Errors add up over steps, so that in bf16 a trajectory is held to its peak signal to noise. */
enum error_code parity_trajectory(struct parity_result *result, const struct parity_given *given,
                                  struct error *error) {
    const struct ops *ops = NULL;
    struct device_config config = {0};
    const struct model_options options = {.stages = -1, .dtype = given->dtype};
    struct device *device = NULL;
    struct model *model = NULL;
    result->decibels_least = 40;
    if (given->dtype == DTYPE_BF16)
        result->bound = 1;
    enum error_code code = ops_find(&ops, &config.index, given->table, error);
    if (code == ERR_OK)
        code = ops->device_open(&device, &config, error);
    if (code == ERR_OK)
        code = model_open(&model, ops, device, given->folder, &options, error);
    if (code == ERR_OK)
        code = run_request(result, model, given->tensors, error);
    model_close(&model);
    if (device != NULL)
        ops->device_close(&device);
    return code;
}
