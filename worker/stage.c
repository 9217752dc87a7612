#include "worker/stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "worker/model/safetensors.h"

enum error_code stage_int(int64_t *out, const struct stage_task *task, const char *key, int64_t min,
                          int64_t max, struct error *error) {
    const struct json *value = json_get(task->parameters, key);
    if (!value || value->type != JSON_NUMBER || !value->is_integer || value->integer < min ||
        value->integer > max)
        return error_set(error, ERR_FORMAT,
                         "the lease's parameter \"%s\" is not an integer from %lld to %lld", key,
                         (long long)min, (long long)max);
    *out = value->integer;
    return ERR_OK;
}

enum error_code stage_double(double *out, const struct stage_task *task, const char *key,
                             double min, double max, struct error *error) {
    const struct json *value = json_get(task->parameters, key);
    if (!value || value->type != JSON_NUMBER || !(value->number >= min && value->number <= max))
        return error_set(error, ERR_FORMAT,
                         "the lease's parameter \"%s\" is not a number from %g to %g", key, min,
                         max);
    *out = value->number;
    return ERR_OK;
}

enum error_code stage_canceled(const struct stage_task *task, struct error *error) {
    if (task->cancel && atomic_load(task->cancel))
        return error_set(error, ERR_INTERRUPTED, "the task was stopped");
    return ERR_OK;
}

enum error_code stage_string(const char **out, const struct stage_task *task, const char *key,
                             struct error *error) {
    const struct json *value = json_get(task->parameters, key);
    if (!value || value->type != JSON_STRING)
        return error_set(error, ERR_FORMAT, "the lease's parameter \"%s\" is not a text", key);
    *out = value->string;
    return ERR_OK;
}

enum error_code stage_word(int *out, const struct stage_task *task, const char *key,
                           const char *const *words, struct error *error) {
    const char *word;
    enum error_code code = stage_string(&word, task, key, error);
    if (code != ERR_OK)
        return code;
    for (*out = 0; words[*out]; ++*out)
        if (strcmp(words[*out], word) == 0)
            return ERR_OK;
    return error_set(error, ERR_UNSUPPORTED, "this worker knows no %s \"%s\"", key, word);
}

/* -- models
 * ---------------------------------------------------------------------------------------- */

static enum error_code read_weights(struct models_request *out, const struct stage_task *task,
                                    struct error *error) {
    static const char *const words[] = {"bf16", "int8", "fp8", NULL};
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_I8, DTYPE_F8_E4M3};
    int word;
    if (!json_get(task->parameters, "weights"))
        return ERR_OK;
    enum error_code code = stage_word(&word, task, "weights", words, error);
    if (code == ERR_OK)
        out->weights = types[word];
    return code;
}

/* One [hash,strength], perhaps with an expert, and the name of its file. */
static bool read_lora(struct models_lora *out, const struct json *lora, const struct json *file) {
    static const char *const experts[] = {
        [LORA_HIGH] = "high", [LORA_LOW] = "low", [LORA_BOTH] = "both"};
    if (lora->type != JSON_ARRAY || lora->length < 2 || lora->length > 3 ||
        file->type != JSON_STRING || lora->child->type != JSON_STRING ||
        lora->child->next->type != JSON_NUMBER || !hash_from_hex(&out->hash, lora->child->string))
        return false;
    out->spec = file->string;
    out->strength = (float)lora->child->next->number;
    const struct json *expert = lora->child->next->next;
    for (int i = LORA_HIGH; expert && expert->type == JSON_STRING && i <= LORA_BOTH; i++)
        if (strcmp(expert->string, experts[i]) == 0)
            out->expert = (enum lora_expert)i;
    return isfinite(out->strength) && (!expert || out->expert != LORA_BY_NAME);
}

static enum error_code read_loras(struct models_request *out, const struct stage_task *task,
                                  struct error *error) {
    const struct json *loras = json_get(task->parameters, "lora");
    const struct json *files = json_get(task->parameters, "lora_files");
    if (!loras && !files)
        return ERR_OK;
    bool good = loras && files && loras->type == JSON_ARRAY && files->type == JSON_ARRAY &&
                loras->length == files->length && loras->length <= MODELS_LORAS_MAX;
    const struct json *file = good ? files->child : NULL;
    for (const struct json *lora = good ? loras->child : NULL; lora && good; lora = lora->next) {
        good = read_lora(&out->loras[out->lora_count++], lora, file);
        file = file->next;
    }
    return good ? ERR_OK
                : error_set(error, ERR_FORMAT,
                            "the lease's parameters \"lora\" and \"lora_files\" are not as many "
                            "[hash,strength] (and \"high\", \"low\" or \"both\") and names, at "
                            "most %d",
                            MODELS_LORAS_MAX);
}

enum error_code stage_model(struct model **out, struct stage_context *context,
                            const struct stage_task *task, int stages, struct error *error) {
    const char *hex;
    struct models_request request = {.stages = stages};
    enum error_code code = stage_string(&request.spec, task, "model", error);
    if (code == ERR_OK)
        code = stage_string(&hex, task, "model_hash", error);
    if (code != ERR_OK)
        return code;
    if (!hash_from_hex(&request.hash, hex))
        return error_set(error, ERR_FORMAT, "the lease's parameter \"model_hash\" is no hash");
    code = read_weights(&request, task, error);
    if (code == ERR_OK)
        code = read_loras(&request, task, error);
    if (code == ERR_OK)
        code = models_get(context->models, out, &request, error);
    if (code == ERR_OK)
        model_set_cancel(*out, task->cancel);
    return code;
}

enum error_code stage_media_spec(struct media_spec *out, const struct stage_task *task,
                                 struct error *error) {
    const char *codec;
    int64_t width, height, quality;
    enum error_code code = stage_string(&codec, task, "codec", error);
    if (code == ERR_OK)
        code = stage_int(&width, task, "width", 1, 1 << 14, error);
    if (code == ERR_OK)
        code = stage_int(&height, task, "height", 1, 1 << 14, error);
    if (code == ERR_OK)
        code = stage_int(&quality, task, "quality", -1, 63, error);
    if (code != ERR_OK)
        return code;
    const struct json *fps = json_get(task->parameters, "fps");
    if (!fps || fps->type != JSON_ARRAY || fps->length != 2 || !fps->child->is_integer ||
        !fps->child->next->is_integer || fps->child->integer < 1 || fps->child->integer > 1000000 ||
        fps->child->next->integer < 1 || fps->child->next->integer > 1000000)
        return error_set(error, ERR_FORMAT,
                         "the lease's parameter \"fps\" is not [numerator,denominator]");
    *out = (struct media_spec){.width = (int)width,
                               .height = (int)height,
                               .fps_numerator = (int)fps->child->integer,
                               .fps_denominator = (int)fps->child->next->integer,
                               .quality = (int)quality};
    if (!media_codec_from_name(&out->codec, codec))
        return error_set(error, ERR_UNSUPPORTED, "this worker knows no codec \"%s\"", codec);
    return ERR_OK;
}

/* -- inputs
 * ---------------------------------------------------------------------------------------- */

void stage_object_missing(const struct stage_artifact *artifact, struct stage_result *result) {
    result->object_missing = true;
    result->object = artifact->hash;
}

enum error_code stage_artifact_path(char path[FILE_PATH_BYTES], struct stage_context *context,
                                    const struct stage_artifact *artifact,
                                    struct stage_result *result, struct error *error) {
    enum error_code code =
        store_find(context->store, path, &artifact->hash, artifact->size, true, error);
    if (code == ERR_MISSING)
        stage_object_missing(artifact, result);
    return code;
}

static const struct stage_artifact *find_input(const struct stage_task *task, const char *name) {
    for (int i = 0; i < task->input_count; i++)
        if (strcmp(task->inputs[i].name, name) == 0)
            return &task->inputs[i];
    return NULL;
}

bool stage_has_input(const struct stage_task *task, const char *name) {
    return find_input(task, name) != NULL;
}

enum error_code stage_tensor(struct weights **file, const struct tensor **out,
                             struct stage_context *context, const struct stage_task *task,
                             const char *input, const char *name, enum dtype dtype, int rank,
                             const int64_t *dims, struct stage_result *result,
                             struct error *error) {
    char path[FILE_PATH_BYTES];
    const struct stage_artifact *artifact = find_input(task, input);
    if (!artifact)
        return error_set(error, ERR_FORMAT, "the lease has no input \"%s\"", input);
    enum error_code code = stage_artifact_path(path, context, artifact, result, error);
    if (code == ERR_OK && (code = weights_open(file, path, error)) == ERR_MISSING)
        stage_object_missing(artifact, result); /* removed in this moment */
    if (code != ERR_OK)
        return code;
    const struct tensor *tensor = weights_find(*file, name);
    bool fits = tensor && tensor->dtype == dtype && tensor->rank == rank;
    for (int i = 0; fits && i < rank; i++)
        fits = dims[i] == -1 || tensor->dim[i] == dims[i];
    if (!fits) {
        weights_close(file);
        return error_set(error, ERR_SHAPE,
                         "the input \"%s\" holds no tensor \"%s\" of the type and shape that the "
                         "task needs",
                         input, name);
    }
    *out = tensor;
    return ERR_OK;
}

/* -- outputs
 * --------------------------------------------------------------------------------------- */

enum error_code stage_put_file(struct stage_context *context, const char *name, const char *staged,
                               struct stage_result *result, struct error *error) {
    struct stage_artifact *output = &result->outputs[result->output_count];
    snprintf(output->name, sizeof output->name, "%s", name);
    enum error_code code =
        store_commit(context->store, &output->hash, &output->size, staged, error);
    if (code == ERR_OK)
        result->output_count++;
    else if (code == ERR_MISSING) /* swept from under us: no input's fault, so not ERR_MISSING */
        error->code = code = ERR_IO;
    return code;
}

enum error_code stage_put_tensor(struct stage_context *context, const struct stage_task *task,
                                 const char *name, const struct tensor *tensor,
                                 struct stage_result *result, struct error *error) {
    char staged[FILE_PATH_BYTES];
    enum error_code code = store_begin(context->store, staged, &task->key, task->epoch, error);
    if (code != ERR_OK)
        return code;
    code = safetensors_write(staged, tensor, &name, 1, error);
    if (code != ERR_OK) {
        store_abandon(context->store, staged);
        return code;
    }
    return stage_put_file(context, name, staged, result, error);
}

enum error_code stage_finite(const float *values, size_t count, const char *what,
                             struct error *error) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return error_set(
                error, ERR_FORMAT,
                "%s: value %zu of %zu is not a finite number: the model's weights are "
                "damaged, or too large for the type that is computed in; compare "
                "'vidloom inspect MODEL' with where they came from, or try --dtype f32",
                what, i + 1, count);
    return ERR_OK;
}

/* -- denoising
 * ------------------------------------------------------------------------------------- */

static enum error_code read_text(struct weights **file, struct model_text *out,
                                 struct stage_context *context, const struct stage_task *task,
                                 const char *input, const struct model_info *info,
                                 struct stage_result *result, struct error *error) {
    const int64_t dims[] = {-1, info->text_width};
    const struct tensor *rows;
    enum error_code code =
        stage_tensor(file, &rows, context, task, input, "rows", DTYPE_F32, 2, dims, result, error);
    if (code != ERR_OK)
        return code;
    if (rows->dim[0] > info->text_length) {
        weights_close(file);
        return error_set(error, ERR_SHAPE, "the input \"%s\" has %lld rows, the model takes %d",
                         input, (long long)rows->dim[0], info->text_length);
    }
    out->rows = rows->data;
    out->count = (int)rows->dim[0];
    return ERR_OK;
}

/* What leases need not have: the guidance of a second expert, attention in 8 bits, and noise
 * levels. `sigmas` has room. */
static enum error_code read_levels(struct denoise_request *request, float *sigmas,
                                   const struct stage_task *task, struct error *error) {
    static const char *const attentions[] = {"exact", "8bit", NULL};
    const struct json *list = json_get(task->parameters, "sigmas");
    double low = 0;
    enum error_code code = ERR_OK;
    if (json_get(task->parameters, "guidance_low"))
        code = stage_double(&low, task, "guidance_low", 0, 100, error);
    request->guidance_low = (float)low;
    int attention = 0;
    if (code == ERR_OK && json_get(task->parameters, "attention"))
        code = stage_word(&attention, task, "attention", attentions, error);
    request->attention8 = attention == 1;
    if (code != ERR_OK || !list)
        return code;
    if (list->type != JSON_ARRAY || list->length != (size_t)request->steps + 1 ||
        list->length > STAGE_SIGMAS_MAX)
        return error_set(error, ERR_FORMAT,
                         "the lease's parameter \"sigmas\" is not a list of %d noise levels, at "
                         "most %d",
                         request->steps + 1, STAGE_SIGMAS_MAX);
    int count = 0;
    for (const struct json *item = list->child; item; item = item->next) {
        if (item->type != JSON_NUMBER)
            return error_set(error, ERR_FORMAT,
                             "the lease's parameter \"sigmas\" has something that is no number");
        sigmas[count++] = (float)item->number;
    }
    request->sigmas = sigmas; /* whether they fall, the sampler looks */
    return ERR_OK;
}

static enum error_code read_request(struct denoise_request *request, const struct stage_task *task,
                                    struct error *error) {
    static const char *const samplers[] = {"euler", "unipc", "renoise", "dpmpp", NULL};
    static const char *const noises[] = {"vidloom", "torch", NULL};
    int64_t width, height, seed, stream, steps;
    double guidance, shift;
    int sampler, noise;
    enum error_code code;
    if ((code = stage_int(&width, task, "width", 1, 1 << 14, error)) != ERR_OK ||
        (code = stage_int(&height, task, "height", 1, 1 << 14, error)) != ERR_OK ||
        (code = stage_int(&seed, task, "seed", 0, INT64_MAX, error)) != ERR_OK ||
        (code = stage_int(&stream, task, "stream", 0, INT64_MAX, error)) != ERR_OK ||
        (code = stage_int(&steps, task, "steps", 1, 1000, error)) != ERR_OK ||
        (code = stage_double(&guidance, task, "guidance", 0, 100, error)) != ERR_OK ||
        (code = stage_double(&shift, task, "shift", 0, 100, error)) != ERR_OK ||
        (code = stage_word(&noise, task, "noise", noises, error)) != ERR_OK ||
        (code = stage_word(&sampler, task, "sampler", samplers, error)) != ERR_OK)
        return code;
    request->size = (struct model_size){(int)width, (int)height, 1};
    request->sampler = (enum sampler)sampler;
    request->noise = (enum noise)noise;
    request->steps = (int)steps;
    request->guidance = (float)guidance;
    request->shift = (float)shift;
    request->seed = (uint64_t)seed;
    request->stream = (uint64_t)stream;
    return ERR_OK;
}

enum error_code stage_denoise_open(struct stage_denoise *out, struct stage_context *context,
                                   const struct stage_task *task, const struct model_info *info,
                                   struct stage_result *result, struct error *error) {
    memset(out, 0, sizeof *out);
    struct denoise_request *request = &out->request;
    request->progress = task->progress;
    request->user = task->user;
    request->cancel = task->cancel;
    enum error_code code = read_request(request, task, error);
    if (code == ERR_OK)
        code = read_levels(request, out->sigmas, task, error);
    bool guided =
        request->guidance != 1 || (request->guidance_low != 0 && request->guidance_low != 1);
    if (code == ERR_OK)
        code = read_text(&out->positive, &request->positive, context, task, "text", info, result,
                         error);
    if (code == ERR_OK && guided)
        code = read_text(&out->negative, &request->negative, context, task, "negative", info,
                         result, error);
    if (code != ERR_OK)
        stage_denoise_close(out);
    return code;
}

void stage_denoise_close(struct stage_denoise *denoise) {
    weights_close(&denoise->positive);
    weights_close(&denoise->negative);
}
