/* A resolved job from its JSON (job.h). What the ledger keeps may be damaged or of an older
 * program: everything is checked as if a stranger had written it. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "coordinator/job_document.h"
#include "coordinator/plan.h"

struct loader {
    struct job *job;
    struct arena scratch;
    const char **texts;
    int text_count;
    const struct job_shot **shots;
    int *shot_counts;
    int shot_list_count;
    struct job_file *files;
    const char **file_names;
    int file_count;
    const double **sigmas;
    int *step_counts;
    int sigma_list_count;
    struct error *error;
};

static enum error_code damaged(struct loader *loader, const char *what) {
    return error_set(loader->error, ERR_FORMAT, "the stored job is damaged: %s", what);
}

static char *load_text(struct loader *loader, const struct json *node) {
    if (!node || node->type != JSON_STRING)
        return NULL;
    return arena_strdup(&loader->job->arena, node->string, node->length);
}

/* A child that must be a number from `least` to `most`. */
static bool load_int(int64_t *out, const struct json *node, int64_t least, int64_t most) {
    if (!node || node->type != JSON_NUMBER || !node->is_integer || node->integer < least ||
        node->integer > most)
        return false;
    *out = node->integer;
    return true;
}

static bool load_word(int *out, const struct json *node, const char *const *words) {
    if (!node || node->type != JSON_STRING)
        return false;
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], node->string)) {
            *out = i;
            return true;
        }
    return false;
}

/* The member that is one of `count` words; `out` stays as it is where there is none. */
static bool load_named(int *out, const struct json *object, const char *key,
                       const char *(*name_of)(int), int count) {
    const struct json *node = json_get(object, key);
    if (!node || node->type == JSON_NUMBER)
        return true;
    for (int i = 0; i < count && node->type == JSON_STRING; i++)
        if (!strcmp(node->string, name_of(i))) {
            *out = i;
            return true;
        }
    return false;
}

static const char *noise_name(int noise) {
    return job_noise_name((enum job_noise)noise);
}
static const char *weights_name(int weights) {
    return job_weights_name((enum job_weights)weights);
}
static const char *windows_name(int windows) {
    return job_windows_name((enum job_windows)windows);
}
static const char *container_name(int container) {
    return job_container_name((enum job_container)container);
}

/* guidance_low, the place of a list of noise levels or -1, attention. */
static bool load_levels(struct job_sampling *out, const struct loader *loader,
                        const struct json *node) {
    int64_t list, attention = JOB_ATTENTION_EXACT;
    const struct json *last = node->next->next;
    if (node->type != JSON_NUMBER ||
        !load_int(&list, node->next, -1, loader->sigma_list_count - 1) ||
        (last && !load_int(&attention, last, 0, JOB_ATTENTION_COUNT - 1)))
        return false;
    out->guidance_low = node->number;
    out->attention = (enum job_attention)attention;
    if (list < 0)
        return true;
    out->sigmas = loader->sigmas[list];
    return out->steps == loader->step_counts[list];
}

static bool load_sampling(struct job_sampling *out, const struct loader *loader,
                          const struct json *node) {
    int64_t steps;
    int sampler;
    if (!node || node->type != JSON_ARRAY || node->length < 4 || node->length > 7)
        return false;
    bool levels = node->length > 5;
    node = node->child;
    if (!load_word(&sampler, node, job_words(JOB_VALUES_SAMPLER)) ||
        !load_int(&steps, node->next, 0, LIMIT_STEPS) || node->next->next->type != JSON_NUMBER ||
        node->next->next->next->type != JSON_NUMBER)
        return false;
    *out = (struct job_sampling){.sampler = (enum job_sampler)sampler,
                                 .steps = (int)steps,
                                 .guidance = node->next->next->number,
                                 .shift = node->next->next->next->number};
    return !levels || load_levels(out, loader, node->next->next->next->next);
}

static enum error_code load_overlaps(struct loader *loader, struct model_facts *facts,
                                     const struct json *node) {
    const struct json *overlaps = json_get(node, "overlaps");
    if (!overlaps || overlaps->type != JSON_ARRAY || overlaps->length > 4)
        return damaged(loader, "overlaps");
    for (const struct json *item = overlaps->child; item; item = item->next) {
        int64_t overlap;
        if (!load_int(&overlap, item, 1, 1 << 20))
            return damaged(loader, "overlaps");
        facts->overlaps[facts->overlap_count++] = (int)overlap;
    }
    return ERR_OK;
}

static enum error_code load_model(struct loader *loader, struct job_model *out,
                                  const struct json *node) {
    struct model_facts *facts = &out->facts;
    int64_t value[8];
    static const char *const keys[8] = {"abilities", "size_multiple", "size_min",      "size_max",
                                        "width",     "height",        "window_frames", "steps"};
    int64_t fps;
    int sampler;
    if (!node || node->type != JSON_OBJECT)
        return damaged(loader, "no model");
    for (int i = 0; i < 8; i++)
        if (!load_int(&value[i], json_get(node, keys[i]), 0, 1 << 24))
            return damaged(loader, keys[i]);
    const char *family = json_text(node, "family", ""), *hash = json_text(node, "hash", "");
    out->spec = load_text(loader, json_get(node, "spec"));
    if (!out->spec || strlen(family) >= sizeof facts->family ||
        !hash_from_hex(&facts->hash, hash) || !load_int(&fps, json_get(node, "fps"), 0, 1 << 20) ||
        !load_word(&sampler, json_get(node, "sampler"), job_words(JOB_VALUES_SAMPLER)))
        return damaged(loader, "model");
    memcpy(facts->family, family, strlen(family) + 1);
    facts->abilities = (int)value[0];
    facts->size_multiple = (int)value[1];
    facts->size_min = (int)value[2];
    facts->size_max = (int)value[3];
    facts->width = (int)value[4];
    facts->height = (int)value[5];
    facts->window_frames = (int)value[6];
    facts->steps = (int)value[7];
    facts->fps = (int)fps;
    facts->sampler = (enum job_sampler)sampler;
    facts->guidance = json_double(node, "guidance", 1);
    facts->shift = json_double(node, "shift", 1);
    facts->experts = (int)json_int(node, "experts", 1);
    facts->guidance_low = json_double(node, "guidance_low", 0);
    facts->window_step = (int)json_int(node, "window_step", 1);
    facts->end = (enum job_end)json_int(node, "end", JOB_END_NONE);
    facts->from_text = json_bool(node, "from_text", false);
    facts->window_fits = json_bool(node, "window_fits", false);
    if ((facts->from_text || facts->window_fits) && facts->window_step < 1)
        return damaged(loader, "window_step");
    return load_overlaps(loader, facts, node);
}

static bool load_lora(struct loader *loader, struct job_lora *out, const struct json *item) {
    if (item->type != JSON_ARRAY || item->length < 3 || item->length > 4)
        return false;
    const struct json *hash = item->child->next, *strength = hash->next, *expert = strength->next;
    out->spec = load_text(loader, item->child);
    out->strength = strength->number;
    if (!out->spec || hash->type != JSON_STRING || !hash_from_hex(&out->hash, hash->string) ||
        strength->type != JSON_NUMBER)
        return false;
    const char *const *words = job_words(JOB_VALUES_EXPERT);
    for (int i = 0; expert && expert->type == JSON_STRING && words[i]; i++)
        if (strcmp(expert->string, words[i]) == 0)
            out->expert = (enum job_expert)(i + 1);
    return !expert || out->expert != JOB_EXPERT_BY_NAME;
}

/* What is done to the model's weights. */
static enum error_code load_weights(struct loader *loader, struct job_model *out,
                                    const struct json *node) {
    const struct json *loras = json_get(node, "lora");
    int weights = JOB_WEIGHTS_FILE;
    int64_t windows = 0;
    if (!load_named(&weights, node, "weights", weights_name, JOB_WEIGHTS_COUNT) ||
        (json_get(node, "windows") &&
         !load_int(&windows, json_get(node, "windows"), 0, (1 << JOB_WINDOWS_COUNT) - 1)))
        return damaged(loader, "weights");
    out->weights = (enum job_weights)weights;
    out->facts.windows = (unsigned)windows;
    if (!loras)
        return ERR_OK;
    if (loras->type != JSON_ARRAY || loras->length > LIMIT_LORAS)
        return damaged(loader, "lora");
    for (const struct json *item = loras->child; item; item = item->next)
        if (!load_lora(loader, &out->loras[out->lora_count++], item))
            return damaged(loader, "lora");
    return ERR_OK;
}

static enum error_code load_sigmas(struct loader *loader, const struct json *lists) {
    if (!lists)
        return ERR_OK;
    if (lists->type != JSON_ARRAY)
        return damaged(loader, "sigmas");
    loader->sigmas = arena_array(&loader->scratch, lists->length, sizeof *loader->sigmas);
    loader->step_counts = arena_array(&loader->scratch, lists->length, sizeof(int));
    if (!loader->sigmas || !loader->step_counts)
        return error_set(loader->error, ERR_MEMORY, "no memory for a stored job");
    for (const struct json *list = lists->child; list; list = list->next) {
        if (list->type != JSON_ARRAY || !list->length || list->length > LIMIT_STEP_LIST)
            return damaged(loader, "sigmas");
        double *made = arena_array(&loader->job->arena, list->length + 1, sizeof *made);
        if (!made)
            return error_set(loader->error, ERR_MEMORY, "no memory for a stored job");
        int count = 0;
        for (const struct json *item = list->child; item; item = item->next) {
            if (item->type != JSON_NUMBER || !(item->number > 0 && item->number <= 1))
                return damaged(loader, "a noise level");
            made[count++] = item->number;
        }
        made[count] = 0;
        loader->step_counts[loader->sigma_list_count] = count;
        loader->sigmas[loader->sigma_list_count++] = made;
    }
    return ERR_OK;
}

static enum error_code load_tables(struct loader *loader, const struct json *top) {
    struct arena *arena = &loader->job->arena;
    const struct json *texts = json_get(top, "texts"), *shots = json_get(top, "shots"),
                      *images = json_get(top, "images");
    if (!texts || texts->type != JSON_ARRAY || !shots || shots->type != JSON_ARRAY || !images ||
        images->type != JSON_ARRAY)
        return damaged(loader, "a table is missing");
    loader->texts = arena_array(&loader->scratch, texts->length, sizeof *loader->texts);
    loader->shots = arena_array(&loader->scratch, shots->length, sizeof(void *));
    loader->shot_counts = arena_array(&loader->scratch, shots->length, sizeof(int));
    loader->file_names = arena_array(&loader->scratch, images->length, sizeof(void *));
    loader->files = arena_array(arena, images->length, sizeof *loader->files);
    if (!loader->texts || !loader->shots || !loader->shot_counts || !loader->files ||
        !loader->file_names)
        return error_set(loader->error, ERR_MEMORY, "no memory for a stored job");
    for (const struct json *item = texts->child; item; item = item->next)
        if (!(loader->texts[loader->text_count++] = load_text(loader, item)))
            return damaged(loader, "texts");
    for (const struct json *list = shots->child; list; list = list->next) {
        if (list->type != JSON_ARRAY || !list->length || list->length > LIMIT_SHOTS)
            return damaged(loader, "shots");
        struct job_shot *made = arena_array(arena, list->length, sizeof *made);
        if (!made)
            return error_set(loader->error, ERR_MEMORY, "no memory for a stored job");
        int count = 0;
        for (const struct json *item = list->child; item; item = item->next, count++) {
            int64_t frames, prompt, motion;
            if (item->type != JSON_ARRAY || item->length != 3 ||
                !load_int(&frames, item->child, 1, LIMIT_FRAMES) ||
                !load_int(&prompt, item->child->next, 0, loader->text_count - 1) ||
                !load_int(&motion, item->child->next->next, 0, loader->text_count - 1))
                return damaged(loader, "a shot");
            made[count] = (struct job_shot){frames, loader->texts[prompt], loader->texts[motion]};
        }
        loader->shot_counts[loader->shot_list_count] = count;
        loader->shots[loader->shot_list_count++] = made;
    }
    for (const struct json *item = images->child; item; item = item->next) {
        struct job_file *file = &loader->files[loader->file_count];
        *file = (struct job_file){0};
        if (item->type != JSON_OBJECT || !hash_from_hex(&file->hash, json_text(item, "hash", "")) ||
            !load_int(&file->bytes, json_get(item, "bytes"), 0, INT64_MAX) ||
            !(file->path = load_text(loader, json_get(item, "path"))) ||
            !(loader->file_names[loader->file_count] = load_text(loader, json_get(item, "name"))))
            return damaged(loader, "an image");
        loader->file_count++;
    }
    return load_sigmas(loader, json_get(top, "sigmas"));
}

static enum error_code load_output(struct loader *loader, struct job_output *out,
                                   const struct json *node) {
    int64_t numbers[5];
    int codec, container = JOB_CONTAINER_COUNT;
    const struct json *output = json_get(node, "output");
    if (!load_word(&codec, json_get(node, "codec"), job_words(JOB_VALUES_CODEC)) ||
        !load_named(&container, node, "container", container_name, JOB_CONTAINER_COUNT) ||
        container == JOB_CONTAINER_COUNT ||
        !(out->path = load_text(loader, json_get(node, "path"))) || !output ||
        output->type != JSON_ARRAY || output->length != 5)
        return damaged(loader, "an output");
    const struct json *item = output->child;
    for (int i = 0; i < 5; i++, item = item->next)
        if (!load_int(&numbers[i], item, i < 4 ? 1 : -1, 1 << 24))
            return damaged(loader, "an output");
    out->container = (enum job_container)container;
    out->codec = (enum job_codec)codec;
    out->width = (int)numbers[0];
    out->height = (int)numbers[1];
    out->fps_numerator = (int)numbers[2];
    out->fps_denominator = (int)numbers[3];
    out->quality = (int)numbers[4];
    out->overwrite = json_bool(node, "overwrite", false);
    return ERR_OK;
}

/* Noise, windows, limits. */
static enum error_code load_manner(struct loader *loader, struct job_video *out,
                                   const struct json *node) {
    const struct json *limits = json_get(node, "limits"), *overlap_node = json_get(node, "overlap");
    int noise = JOB_NOISE_VIDLOOM, windows = JOB_WINDOWS_MODEL;
    int64_t overlap = plan_overlap(&loader->job->window.facts), redraws = 0;
    if (!load_named(&noise, node, "noise", noise_name, JOB_NOISE_COUNT) ||
        !load_named(&windows, node, "windows", windows_name, JOB_WINDOWS_COUNT) ||
        (overlap_node && !load_int(&overlap, overlap_node, 0, 1 << 20)))
        return damaged(loader, "a video");
    out->noise = (enum job_noise)noise;
    out->windows = (enum job_windows)windows;
    out->overlap = (int)overlap;
    if (!limits)
        return ERR_OK;
    if (limits->type != JSON_ARRAY || limits->length != 3 || limits->child->type != JSON_NUMBER ||
        limits->child->next->type != JSON_NUMBER ||
        !load_int(&redraws, limits->child->next->next, 0, LIMIT_REDRAWS))
        return damaged(loader, "limits");
    out->limits = (struct job_limits){.drift = limits->child->number,
                                      .seam = limits->child->next->number,
                                      .redraws = (int)redraws};
    return ERR_OK;
}

static bool load_image(const struct job_file **out, const char **name, const struct loader *loader,
                       const struct json *node) {
    int64_t image;
    if (!node)
        return true;
    if (!load_int(&image, node, 0, loader->file_count - 1))
        return false;
    *out = &loader->files[image];
    *name = loader->file_names[image];
    return true;
}

static enum error_code load_video(struct loader *loader, struct job_video *out,
                                  const struct json *node) {
    int64_t list, negative, seed, sum = 0;
    *out = (struct job_video){0};
    if (node->type != JSON_OBJECT ||
        !load_int(&list, json_get(node, "shots"), 0, loader->shot_list_count - 1) ||
        !load_int(&negative, json_get(node, "negative"), 0, loader->text_count - 1) ||
        !load_int(&out->frames, json_get(node, "frames"), 1, LIMIT_FRAMES) ||
        !load_int(&seed, json_get(node, "seed"), 0, INT64_MAX) ||
        !load_sampling(&out->keyframe, loader, json_get(node, "keyframe")) ||
        !load_sampling(&out->window, loader, json_get(node, "window")) ||
        !(out->name = load_text(loader, json_get(node, "name"))) ||
        !load_image(&out->image, &out->image_name, loader, json_get(node, "image")) ||
        !load_image(&out->end, &out->end_name, loader, json_get(node, "end")))
        return damaged(loader, "a video");
    out->shots = loader->shots[list];
    out->shot_count = loader->shot_counts[list];
    for (int i = 0; i < out->shot_count; i++)
        sum += out->shots[i].frames;
    if (sum != out->frames)
        return damaged(loader, "shots that do not add up");
    out->negative = loader->texts[negative];
    out->seed = (uint64_t)seed;
    enum error_code code = load_output(loader, &out->output, node);
    return code ? code : load_manner(loader, out, node);
}

static enum error_code load_top(struct loader *loader, const char *text, size_t length) {
    struct job *job = loader->job;
    const struct json *top;
    enum error_code code = json_parse(&top, &loader->scratch, text, length, loader->error);
    if (code)
        return error_prefix(loader->error, "the stored job is damaged: ");
    int64_t format;
    if (top->type != JSON_OBJECT ||
        !load_int(&format, json_get(top, "format"), 1, JOB_DOCUMENT_FORMAT))
        return error_set(loader->error, ERR_UNSUPPORTED,
                         "the stored job has format %lld; this vidloom knows up to %d",
                         (long long)json_int(top, "format", 0), JOB_DOCUMENT_FORMAT);
    job->name = load_text(loader, json_get(top, "job"));
    if (!job->name)
        return damaged(loader, "no name");
    code = load_model(loader, &job->keyframe, json_get(top, "keyframe"));
    if (!code)
        code = load_weights(loader, &job->keyframe, json_get(top, "keyframe"));
    if (!code)
        code = load_model(loader, &job->window, json_get(top, "window"));
    if (!code)
        code = load_weights(loader, &job->window, json_get(top, "window"));
    if (!code)
        code = load_tables(loader, top);
    if (code)
        return code;
    const struct json *videos = json_get(top, "videos");
    if (!videos || videos->type != JSON_ARRAY || videos->length > LIMIT_VIDEOS)
        return damaged(loader, "no videos");
    struct job_video *made = arena_array(&job->arena, videos->length, sizeof *made);
    if (!made)
        return error_set(loader->error, ERR_MEMORY, "no memory for a stored job");
    for (const struct json *item = videos->child; item && !code; item = item->next)
        code = load_video(loader, &made[job->video_count++], item);
    job->videos = made;
    return code;
}

enum error_code job_load(struct job **out, const char *text, size_t length, struct error *error) {
    *out = NULL;
    if (length > LIMIT_DOCUMENT_BYTES)
        return error_set(error, ERR_LIMIT, "a stored job of %zu bytes; at most %u", length,
                         LIMIT_DOCUMENT_BYTES);
    struct loader loader = {.error = error, .job = calloc(1, sizeof *loader.job)};
    if (!loader.job)
        return error_set(error, ERR_MEMORY, "no memory for a stored job");
    enum error_code code = arena_open(&loader.job->arena, LIMIT_JOB_BYTES, error);
    if (!code)
        code = arena_open(&loader.scratch, 4 * LIMIT_JOB_BYTES, error);
    if (!code)
        code = load_top(&loader, text, length);
    arena_close(&loader.scratch);
    if (code) {
        job_close(&loader.job);
        return code;
    }
    *out = loader.job;
    return ERR_OK;
}
