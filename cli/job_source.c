/* Job files, images and models on this machine's disk. */
#include "cli/job_source.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/yaml.h"
#include "kernels/narrow.h"
#include "worker/media/media.h"
#include "worker/model/lora.h"
#include "worker/stage.h"

#define MODELS_LISTED   32
#define STEP_LISTS_MAX  16
#define IMAGE_BYTES_MAX (64 << 20)

/* -- models ----------------------------------------------------------------------------------- */

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

void models_folder(char out[FILE_PATH_BYTES], const char *given) {
    static const char *const beside[] = {"../models", "../../models", "../share/vidloom/models"};
    char program[PATH_MAX];
    snprintf(out, FILE_PATH_BYTES, "%s", given ? given : "models");
    if (given || is_folder(out))
        return;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return;
    program[length] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char candidate[FILE_PATH_BYTES];
        if (snprintf(candidate, sizeof candidate, "%.4000s/%s", program, beside[i]) > 0 &&
            is_folder(candidate)) {
            memcpy(out, candidate, sizeof candidate);
            return;
        }
    }
}

static int list_folders(char names[][NAME_MAX + 1], int most, const char *folder) {
    int count = 0;
    DIR *stream = opendir(folder);
    if (!stream)
        return 0;
    for (struct dirent *entry = readdir(stream); entry && count < most; entry = readdir(stream)) {
        char path[FILE_PATH_BYTES];
        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%.3800s/%s", folder, entry->d_name) < 0 ||
            !is_folder(path))
            continue;
        snprintf(names[count++], NAME_MAX + 1, "%s", entry->d_name);
    }
    closedir(stream);
    return count;
}

static enum error_code no_such_model(const char *models, const char *spec, struct error *error) {
    char names[MODELS_LISTED][NAME_MAX + 1];
    const char *candidates[MODELS_LISTED + 1] = {0};
    int count = list_folders(names, MODELS_LISTED, models);
    for (int i = 0; i < count; i++)
        candidates[i] = names[i];
    const char *nearest = text_nearest(spec, candidates);
    if (nearest)
        return error_set(error, ERR_MISSING,
                         "there is no model '%.128s' in %.256s: did you mean "
                         "'%.128s'?",
                         spec, models, nearest);
    if (count == 0)
        return error_set(error, ERR_MISSING,
                         "there is no model '%.128s': the folder of models "
                         "%.256s is not there or empty; --models DIR names another",
                         spec, models);
    return error_set(error, ERR_MISSING,
                     "there is no model '%.128s' in %.256s; there is '%.128s'%s", spec, models,
                     names[0], count > 1 ? " and others" : "");
}

enum error_code model_folder(char out[FILE_PATH_BYTES], const char *models, const char *spec,
                             struct error *error) {
    bool is_path = strchr(spec, '/') != NULL;
    if (is_path && snprintf(out, FILE_PATH_BYTES, "%s", spec) >= FILE_PATH_BYTES)
        return file_too_long(spec, error);
    if (!is_path && file_join(out, models, spec, error) != ERR_OK)
        return error->code;
    if (is_folder(out))
        return ERR_OK;
    if (is_path)
        return error_set(error, ERR_MISSING, "there is no model folder %.512s", spec);
    return no_such_model(models, spec, error);
}

/* The two headers name the same things twice, as coordinator and worker do not know each other. */
_Static_assert(MODEL_CAN_TEXT == (int)STAGE_TEXT && MODEL_CAN_KEYFRAME == (int)STAGE_KEYFRAME &&
                   MODEL_CAN_WINDOW == (int)STAGE_WINDOW && MODEL_CAN_VAE == (int)STAGE_VAE,
               "abilities are stages");
_Static_assert(JOB_WINDOWS_MODEL == (int)WINDOW_RULE_MODEL &&
                   JOB_WINDOWS_LAST_FRAME == (int)WINDOW_RULE_LAST_FRAME &&
                   JOB_WINDOWS_OVERLAP == (int)WINDOW_RULE_OVERLAP &&
                   JOB_WINDOWS_PREFIX == (int)WINDOW_RULE_PREFIX,
               "rules of windows have the same numbers");
_Static_assert(JOB_NOISE_VIDLOOM == (int)NOISE_VIDLOOM && JOB_NOISE_TORCH == (int)NOISE_TORCH,
               "generators have the same numbers");
_Static_assert(JOB_SAMPLER_EULER == (int)SAMPLER_EULER && JOB_SAMPLER_UNIPC == (int)SAMPLER_UNIPC &&
                   JOB_SAMPLER_RENOISE == (int)SAMPLER_RENOISE &&
                   JOB_SAMPLER_DPMPP == (int)SAMPLER_DPMPP,
               "samplers have the same numbers");

_Static_assert(LIMIT_LORAS <= MODELS_LORAS_MAX && LIMIT_STEP_LIST < STAGE_SIGMAS_MAX,
               "a worker takes what a job may say");
_Static_assert(JOB_END_NONE == (int)WINDOW_END_NONE && JOB_END_MAY == (int)WINDOW_END_MAY &&
                   JOB_END_MUST == (int)WINDOW_END_MUST,
               "ends of windows have the same numbers");

static void facts_from_info(struct model_facts *out, const struct model_info *info) {
    bool from_text = info->window_from_text && info->window_rules == 0;
    *out = (struct model_facts){
        .hash = info->hash,
        .abilities = info->stages,
        .size_multiple = info->size_multiple,
        .size_min = info->size_min,
        .size_max = info->size_max,
        .width = info->width,
        .height = info->height,
        .fps = info->fps,
        .window_frames = info->window_frames,
        .window_step = info->time_stride,
        .window_fits = !info->window_fixed,
        .end = (enum job_end)info->window_end,
        .from_text = from_text,
        .overlap_count = from_text ? 0 : info->overlap_count,
        .windows = info->window_rules | 1u << JOB_WINDOWS_MODEL,
        .sampler = (enum job_sampler)info->sampler,
        .steps = info->steps,
        .guidance = (double)info->guidance,
        .shift = (double)info->shift,
        .shift_small = (double)info->shift_small,
        .small = MODEL_SMALL,
        .experts = info->experts,
        .guidance_low = (double)info->guidance_low,
    };
    memcpy(out->family, info->family, sizeof out->family);
    memcpy(out->overlaps, info->overlaps, sizeof out->overlaps);
}

static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    struct job_source *source = user;
    for (int i = 0; i < source->known_count; i++) {
        if (strcmp(source->known[i].spec, spec) == 0) {
            *out = source->known[i].facts;
            return ERR_OK;
        }
    }
    if (source->known_count == JOB_SOURCE_MODELS_MAX)
        return error_set(error, ERR_LIMIT, "more than %d models in one job", JOB_SOURCE_MODELS_MAX);
    int at = source->known_count, pieces;
    snprintf(source->known[at].spec, sizeof source->known[at].spec, "%s", spec);
    enum error_code code = model_folder(source->known[at].folder, source->models, spec, error);
    if (code == ERR_OK)
        code = model_read_info(&source->known[at].info, source->known[at].folder, error);
    if (code == ERR_OK)
        code = model_check_tokenizer(&pieces, &source->known[at].info, source->known[at].folder,
                                     error);
    if (code != ERR_OK)
        return code;
    facts_from_info(&source->known[at].facts, &source->known[at].info);
    *out = source->known[at].facts;
    source->known_count++;
    return ERR_OK;
}

/* By configuration and headers, those of the LoRAs too. */
static enum error_code check_model(void *user, const struct job_model *model, int ability,
                                   struct error *error) {
    const struct job_source *source = user;
    char paths[LIMIT_LORAS][FILE_PATH_BYTES];
    struct model_lora loras[LIMIT_LORAS];
    struct model_options options;
    const char *folder = NULL;
    struct model_bytes bytes;
    if (!job_source_model(source, model->spec, &folder))
        return error_set(error, ERR_INTERNAL, "no model %.128s in this job", model->spec);
    enum error_code code = job_source_options(&options, loras, paths, source, model, error);
    options.stages = ability;
    options.dtype = DTYPE_BF16;
    return code == ERR_OK ? model_measure(&bytes, folder, &options, error) : code;
}

static enum error_code find_steps(void *user, struct job_step_list *out, const char *name,
                                  struct error *error) {
    (void)user;
    const struct step_list *list = step_list_find(name);
    if (list) {
        *out = (struct job_step_list){.sampler = (enum job_sampler)list->sampler,
                                      .steps = list->steps};
        for (int i = 0; i <= list->steps; i++)
            out->sigmas[i] = (double)list->sigmas[i];
        return ERR_OK;
    }
    char names[256] = "";
    const char *candidates[STEP_LISTS_MAX + 1] = {0};
    size_t used = 0;
    int count = 0;
    for (list = step_lists(); list->name && count < STEP_LISTS_MAX; list++) {
        candidates[count++] = list->name;
        used += (size_t)snprintf(names + used, sizeof names - used, ", %s", list->name);
    }
    const char *nearest = text_nearest(name, candidates);
    return error_set(error, ERR_USAGE,
                     "expected a whole number from 1 to %d, or a published list%s, found "
                     "\"%.64s\"%s%s%s",
                     LIMIT_STEPS, names, name, nearest ? "; did you mean \"" : "",
                     nearest ? nearest : "", nearest ? "\"?" : "");
}

const struct model_info *job_source_model(const struct job_source *source, const char *spec,
                                          const char **folder) {
    for (int i = 0; i < source->known_count; i++) {
        if (strcmp(source->known[i].spec, spec) == 0) {
            *folder = source->known[i].folder;
            return &source->known[i].info;
        }
    }
    return NULL;
}

/* -- files ------------------------------------------------------------------------------------ */

static enum error_code path_of(char out[FILE_PATH_BYTES], const struct job_source *source,
                               const char *name, struct error *error) {
    if (name[0] != '/')
        return file_join(out, source->folder, name, error);
    if (snprintf(out, FILE_PATH_BYTES, "%s", name) >= FILE_PATH_BYTES)
        return file_too_long(name, error);
    return ERR_OK;
}

static enum error_code read_file(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error) {
    char path[FILE_PATH_BYTES];
    enum error_code code = path_of(path, user, name, error);
    return code != ERR_OK ? code : file_read(out, length, arena, path, bytes_max, error);
}

enum error_code job_source_check_image(const char *path, struct error *error) {
    uint8_t *pixels;
    enum error_code code = media_read_image(&pixels, path, 16, 16, error);
    if (code == ERR_OK)
        free(pixels);
    return code;
}

static enum error_code find_image(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error) {
    char path[FILE_PATH_BYTES], absolute[PATH_MAX];
    struct stat status;
    enum error_code code = path_of(path, user, name, error);
    if (code != ERR_OK)
        return code;
    if (!realpath(path, absolute) || stat(absolute, &status) != 0)
        return error_set_errno(error, errno, "image %.512s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, ERR_USAGE, "image %.512s is %s, not a file", path,
                         S_ISDIR(status.st_mode) ? "a folder" : "a device");
    if (status.st_size > IMAGE_BYTES_MAX)
        return error_set(error, ERR_LIMIT, "image %.512s has %lld bytes; expected at most %d", path,
                         (long long)status.st_size, IMAGE_BYTES_MAX);
    /* Looked into here, so that a mistake is told before anything is begun. */
    code = job_source_check_image(path, error);
    if (code != ERR_OK)
        return code;
    out->bytes = status.st_size;
    out->path = arena_strdup(arena, absolute, strlen(absolute));
    if (!out->path)
        return error_set(error, ERR_MEMORY, "no memory for the name of %.512s", path);
    return hash_of_file(&out->hash, absolute, error);
}

/* As models: a name is looked for in their folder, anything with a '/' is a path. */
static enum error_code lora_path(char out[FILE_PATH_BYTES], const struct job_source *source,
                                 const char *spec, struct error *error) {
    return strchr(spec, '/')
               ? file_join(out, spec[0] == '/' ? "/" : ".", spec + (spec[0] == '/'), error)
               : file_join(out, source->models, spec, error);
}

enum error_code job_source_options(struct model_options *out, struct model_lora loras[LIMIT_LORAS],
                                   char paths[LIMIT_LORAS][FILE_PATH_BYTES],
                                   const struct job_source *source, const struct job_model *model,
                                   struct error *error) {
    static const enum dtype types[JOB_WEIGHTS_COUNT] = {[JOB_WEIGHTS_FILE] = DTYPE_F32,
                                                        [JOB_WEIGHTS_BF16] = DTYPE_BF16,
                                                        [JOB_WEIGHTS_INT8] = DTYPE_I8,
                                                        [JOB_WEIGHTS_FP8] = DTYPE_F8_E4M3};
    static const enum lora_expert experts[JOB_EXPERT_COUNT] = {[JOB_EXPERT_BY_NAME] = LORA_BY_NAME,
                                                               [JOB_EXPERT_HIGH] = LORA_HIGH,
                                                               [JOB_EXPERT_LOW] = LORA_LOW,
                                                               [JOB_EXPERT_BOTH] = LORA_BOTH};
    *out = (struct model_options){
        .weights = types[model->weights], .loras = loras, .lora_count = model->lora_count};
    enum error_code code = ERR_OK;
    for (int i = 0; i < model->lora_count && code == ERR_OK; i++) {
        code = lora_path(paths[i], source, model->loras[i].spec, error);
        loras[i] = (struct model_lora){paths[i], (float)model->loras[i].strength,
                                       experts[model->loras[i].expert]};
    }
    return code;
}

static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    static const char extension[] = ".safetensors";
    const struct job_source *source = user;
    char path[FILE_PATH_BYTES];
    struct stat status;
    size_t length = strlen(spec);
    if (length <= sizeof extension - 1 ||
        strcmp(spec + length - (sizeof extension - 1), extension) != 0)
        return error_set(error, ERR_UNSUPPORTED, "%.512s: expected a name that ends with %s", spec,
                         extension);
    enum error_code code = lora_path(path, source, spec, error);
    if (code != ERR_OK)
        return code;
    if (stat(path, &status) != 0)
        return error_set_errno(error, errno, "LoRA %.512s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, ERR_USAGE, "LoRA %.512s is %s, not a file", path,
                         S_ISDIR(status.st_mode) ? "a folder" : "a device");
    out->bytes = status.st_size;
    out->path = arena_strdup(arena, path, strlen(path));
    if (!out->path)
        return error_set(error, ERR_MEMORY, "no memory for the name of %.512s", path);
    code = lora_check_finite(path, error);
    return code == ERR_OK ? hash_of_file(&out->hash, path, error) : code;
}

static enum job_expert lora_expert(void *user, bool *unclear, const char *spec) {
    static const enum job_expert experts[] = {
        [LORA_HIGH] = JOB_EXPERT_HIGH, [LORA_LOW] = JOB_EXPERT_LOW, [LORA_BOTH] = JOB_EXPERT_BOTH};
    const struct model_lora lora = {.path = spec};
    (void)user;
    *unclear = model_lora_is_unclear(&lora);
    return experts[model_lora_expert(&lora)];
}

static enum error_code find_output(void *user, char out[FILE_PATH_BYTES],
                                   const struct job_output *output, struct error *error) {
    struct job_source *source = user;
    bool folder = output->container == JOB_CONTAINER_FOLDER;
    enum error_code code = output_place(&source->places, out, output->path, error);
    if (code != ERR_OK)
        return code;
    if (output_is_inside(out, source->state))
        return error_set(error, ERR_USAGE,
                         "%.512s is in the folder where vidloom keeps its own state; choose "
                         "another path",
                         output->path);
    /* Whether a folder of pictures is ours, only the ledger knows. */
    return folder && !output->overwrite ? ERR_OK : output_may_replace(out, folder, error);
}

void job_source_resolver(struct job_resolver *out, struct job_source *source) {
    *out = (struct job_resolver){.user = source,
                                 .read_file = read_file,
                                 .find_image = find_image,
                                 .find_lora = find_lora,
                                 .lora_expert = lora_expert,
                                 .read_model = read_model,
                                 .check_model = check_model,
                                 .find_steps = find_steps,
                                 .find_output = find_output};
}

enum error_code job_source_open(struct job **out, struct job_source *source, const char *path,
                                const char *models, const char *state, struct arena *arena,
                                struct error *error) {
    char *text;
    struct job_resolver resolver;
    memset(source, 0, sizeof *source);
    job_source_resolver(&resolver, source);
    source->models = models;
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + (slash == path) : 0;
    if (folder >= sizeof source->folder)
        return file_too_long(path, error);
    snprintf(source->folder, sizeof source->folder, "%.*s", slash ? (int)folder : 1,
             slash ? path : ".");
    enum error_code code = ERR_OK;
    if (!realpath(state, source->state))
        code = output_place(&source->places, source->state, state, error);
    if (code == ERR_OK)
        code = file_read(&text, &source->length, arena, path, YAML_BYTES_MAX, error);
    if (code == ERR_DENIED) /* as if it were not there: the command line is wrong */
        code = error->code = ERR_USAGE;
    if (code != ERR_OK)
        return code;
    source->text = text;
    return job_parse(out, path, text, source->length, &resolver, error);
}

void job_source_warn(FILE *to, const struct job *job) {
    struct job_warning warning = {.lora = 0};
    while (job_next_warning(&warning, job))
        (void)fprintf(to, "warning: %s\n", warning.text);
}

/* Whether a video asks for it: of its keyframe, or of its windows. */
static bool asks_for_8bit(const struct job *job, bool keyframe) {
    for (int i = 0; i < job->video_count; i++) {
        const struct job_video *video = &job->videos[i];
        bool made = !keyframe || (video->image == NULL && !job->window.facts.from_text);
        const struct job_sampling *sampling = keyframe ? &video->keyframe : &video->window;
        if (made && sampling->attention == JOB_ATTENTION_8BIT)
            return true;
    }
    return false;
}

void job_source_warn_device(FILE *to, const struct job_source *source, const struct job *job,
                            const struct ops *ops, int index, enum dtype dtype) {
    const struct job_model *models[] = {&job->window, &job->keyframe};
    for (int i = 0; i < 2; i++) {
        const char *folder;
        const struct model_info *info = job_source_model(source, models[i]->spec, &folder);
        if (!info || !asks_for_8bit(job, i == 1))
            continue;
        if (dtype == DTYPE_BF16 && ops->attends_narrow(index, info->head_width))
            continue;
        (void)fprintf(to,
                      "warning: attention: 8bit has no effect with model %s: ", models[i]->spec);
        if (dtype != DTYPE_BF16)
            (void)fputs("it is of bf16, and --dtype f32 computes all in f32\n", to);
        else if (!ops->attends_narrow(index, NARROW_HEAD_DIM))
            (void)fprintf(to, "device %s has no int8 products for it\n", ops->name);
        else
            (void)fprintf(to, "its heads have %d channels, which device %s computes exactly\n",
                          info->head_width, ops->name);
        if (strcmp(models[0]->spec, models[1]->spec) == 0)
            return;
    }
}
