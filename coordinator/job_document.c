/* A resolved job as JSON, and back (job.h). Texts, images and lists of shots that videos share are
 * written once and named by their place; the places are found by address, since job_parse shares
 * them by address. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "coordinator/job.h"
#include "coordinator/plan.h"

/* 1 had no weights, lora, windows and limits, and another thing called noise: as if not given.
 * 2 had no guidance_low, sigmas, attention and end pictures: as if not given.
 * 3 had, at first, no model of text alone and no LoRA's expert, which workers then find by name.
 * 4 had, at first, no windows as short as their video. */
enum { DOCUMENT_FORMAT = 4 };

/* -- writing ---------------------------------------------------------------------------------- */

void job_put_lora(struct json_writer *writer, const struct job_lora *lora, bool named) {
    char hex[HASH_HEX_BYTES];
    hash_hex(hex, &lora->hash);
    json_begin_array(writer, NULL);
    if (named)
        json_put_text(writer, NULL, lora->spec);
    json_put_text(writer, NULL, hex);
    json_put_double(writer, NULL, lora->strength);
    if (lora->expert != JOB_EXPERT_BY_NAME)
        json_put_text(writer, NULL, job_expert_name(lora->expert));
    json_end_array(writer);
}

struct address_map {
    const void **slots; /* open addressing; `order` keeps what was added */
    int *values;
    size_t mask;
    const void **order;
    int count;
    bool failed;
};

static bool address_grow(struct address_map *map) {
    size_t size = map->slots ? 2 * (map->mask + 1) : 256;
    const void **slots = calloc(size, sizeof *slots);
    int *values = calloc(size, sizeof *values);
    const void **order = realloc(map->order, size * sizeof *order);
    if (order)
        map->order = order;
    if (!slots || !values || !order) {
        free(slots);
        free(values);
        return false;
    }
    for (int i = 0; i < map->count; i++) {
        size_t at = ((uintptr_t)order[i] >> 4) * 0x9E3779B97F4A7C15u >> 20 & (size - 1);
        while (slots[at])
            at = (at + 1) & (size - 1);
        slots[at] = order[i];
        values[at] = i;
    }
    free(map->slots);
    free(map->values);
    map->slots = slots;
    map->values = values;
    map->mask = size - 1;
    return true;
}

static int address_add(struct address_map *map, const void *address) {
    if ((!map->slots || (size_t)map->count * 2 > map->mask) && !address_grow(map)) {
        map->failed = true;
        return 0;
    }
    size_t at = ((uintptr_t)address >> 4) * 0x9E3779B97F4A7C15u >> 20 & map->mask;
    for (; map->slots[at]; at = (at + 1) & map->mask)
        if (map->slots[at] == address)
            return map->values[at];
    map->slots[at] = address;
    map->values[at] = map->count;
    map->order[map->count] = address;
    return map->count++;
}

static void address_close(struct address_map *map) {
    free(map->slots);
    free(map->values);
    free(map->order);
}

static void put_model(struct json_writer *writer, const char *key, const struct job_model *model) {
    const struct model_facts *facts = &model->facts;
    char hex[HASH_HEX_BYTES];
    hash_hex(hex, &facts->hash);
    json_begin_object(writer, key);
    json_put_text(writer, "spec", model->spec);
    json_put_text(writer, "family", facts->family);
    json_put_text(writer, "hash", hex);
    json_put_int(writer, "abilities", facts->abilities);
    json_put_int(writer, "size_multiple", facts->size_multiple);
    json_put_int(writer, "size_min", facts->size_min);
    json_put_int(writer, "size_max", facts->size_max);
    json_put_int(writer, "width", facts->width);
    json_put_int(writer, "height", facts->height);
    json_put_int(writer, "fps", facts->fps);
    json_put_int(writer, "window_frames", facts->window_frames);
    json_begin_array(writer, "overlaps");
    for (int i = 0; i < facts->overlap_count; i++)
        json_put_int(writer, NULL, facts->overlaps[i]);
    json_end_array(writer);
    json_put_text(writer, "sampler", job_sampler_name(facts->sampler));
    json_put_int(writer, "steps", facts->steps);
    json_put_double(writer, "guidance", facts->guidance);
    json_put_double(writer, "shift", facts->shift);
    json_put_int(writer, "experts", facts->experts);
    json_put_double(writer, "guidance_low", facts->guidance_low);
    json_put_int(writer, "window_step", facts->window_step);
    json_put_int(writer, "end", facts->end);
    if (facts->window_fits)
        json_put_bool(writer, "window_fits", true);
    if (facts->from_text)
        json_put_bool(writer, "from_text", true);
    json_put_int(writer, "windows", facts->windows);
    json_put_text(writer, "weights", job_weights_name(model->weights));
    json_begin_array(writer, "lora");
    for (int i = 0; i < model->lora_count; i++)
        job_put_lora(writer, &model->loras[i], true);
    json_end_array(writer);
    json_end_object(writer);
}

/* Texts, shots, images and lists of noise levels that have been named so far. */
struct tables {
    struct address_map texts, shots, images, sigmas;
    int *shot_counts, *step_counts;
    const char **image_names;
};

static bool tables_open(struct tables *tables, int videos) {
    size_t twice = 2 * (size_t)videos + 1; /* of keyframe and window, at the start and the end */
    *tables = (struct tables){0};
    tables->shot_counts = calloc((size_t)videos + 1, sizeof *tables->shot_counts);
    tables->step_counts = calloc(twice, sizeof *tables->step_counts);
    tables->image_names = calloc(twice, sizeof *tables->image_names);
    return tables->shot_counts && tables->step_counts && tables->image_names;
}

static bool tables_close(struct tables *tables) {
    bool failed = tables->texts.failed || tables->shots.failed || tables->images.failed ||
                  tables->sigmas.failed;
    free(tables->shot_counts);
    free(tables->step_counts);
    free(tables->image_names);
    address_close(&tables->texts);
    address_close(&tables->shots);
    address_close(&tables->images);
    address_close(&tables->sigmas);
    return !failed;
}

static void put_sampling(struct json_writer *writer, struct tables *tables, const char *key,
                         const struct job_sampling *sampling) {
    int list = -1;
    if (sampling->sigmas) {
        list = address_add(&tables->sigmas, sampling->sigmas);
        tables->step_counts[list] = sampling->steps;
    }
    json_begin_array(writer, key);
    json_put_text(writer, NULL, job_sampler_name(sampling->sampler));
    json_put_int(writer, NULL, sampling->steps);
    json_put_double(writer, NULL, sampling->guidance);
    json_put_double(writer, NULL, sampling->shift);
    json_put_double(writer, NULL, sampling->guidance_low);
    json_put_int(writer, NULL, list);
    json_put_int(writer, NULL, sampling->attention);
    json_end_array(writer);
}

static void put_image(struct json_writer *writer, struct tables *tables, const char *key,
                      const struct job_file *file, const char *name) {
    if (!file)
        return;
    int image = address_add(&tables->images, file);
    tables->image_names[image] = name;
    json_put_int(writer, key, image);
}

static void put_output(struct json_writer *writer, const struct job_output *output) {
    json_put_text(writer, "path", output->path);
    json_put_text(writer, "container", job_container_name(output->container));
    json_put_text(writer, "codec", job_codec_name(output->codec));
    json_begin_array(writer, "output"); /* width, height, fps, quality */
    json_put_int(writer, NULL, output->width);
    json_put_int(writer, NULL, output->height);
    json_put_int(writer, NULL, output->fps_numerator);
    json_put_int(writer, NULL, output->fps_denominator);
    json_put_int(writer, NULL, output->quality);
    json_end_array(writer);
    if (output->overwrite)
        json_put_bool(writer, "overwrite", true);
}

static void put_limits(struct json_writer *writer, const struct job_limits *limits) {
    json_begin_array(writer, "limits");
    json_put_double(writer, NULL, limits->drift);
    json_put_double(writer, NULL, limits->seam);
    json_put_int(writer, NULL, limits->redraws);
    json_end_array(writer);
}

static void put_video(struct json_writer *writer, struct tables *tables,
                      const struct job_video *video) {
    int list = address_add(&tables->shots, video->shots);
    tables->shot_counts[list] = video->shot_count;
    json_begin_object(writer, NULL);
    json_put_text(writer, "name", video->name);
    json_put_int(writer, "shots", list);
    json_put_int(writer, "negative", address_add(&tables->texts, video->negative));
    put_image(writer, tables, "image", video->image, video->image_name);
    put_image(writer, tables, "end", video->end, video->end_name);
    json_put_int(writer, "frames", video->frames);
    json_put_int(writer, "seed", (int64_t)video->seed);
    json_put_text(writer, "noise", job_noise_name(video->noise));
    json_put_text(writer, "windows", job_windows_name(video->windows));
    json_put_int(writer, "overlap", video->overlap);
    if (video->limits.drift > 0 || video->limits.seam > 0)
        put_limits(writer, &video->limits);
    put_sampling(writer, tables, "keyframe", &video->keyframe);
    put_sampling(writer, tables, "window", &video->window);
    put_output(writer, &video->output);
    json_end_object(writer);
}

/* Lists of [frames, prompt, motion]. */
static void put_shots(struct json_writer *writer, struct tables *tables) {
    json_begin_array(writer, "shots");
    for (int i = 0; i < tables->shots.count; i++) {
        const struct job_shot *list = tables->shots.order[i];
        json_begin_array(writer, NULL);
        for (int j = 0; j < tables->shot_counts[i]; j++) {
            json_begin_array(writer, NULL);
            json_put_int(writer, NULL, list[j].frames);
            json_put_int(writer, NULL, address_add(&tables->texts, list[j].prompt));
            json_put_int(writer, NULL, address_add(&tables->texts, list[j].motion));
            json_end_array(writer);
        }
        json_end_array(writer);
    }
    json_end_array(writer);
}

/* Lists of noise levels without the last, which is 0. */
static void put_sigmas(struct json_writer *writer, const struct tables *tables) {
    json_begin_array(writer, "sigmas");
    for (int i = 0; i < tables->sigmas.count; i++) {
        const double *sigmas = tables->sigmas.order[i];
        json_begin_array(writer, NULL);
        for (int k = 0; k < tables->step_counts[i]; k++)
            json_put_double(writer, NULL, sigmas[k]);
        json_end_array(writer);
    }
    json_end_array(writer);
}

static void put_images(struct json_writer *writer, const struct tables *tables) {
    json_begin_array(writer, "images");
    for (int i = 0; i < tables->images.count; i++) {
        const struct job_file *file = tables->images.order[i];
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &file->hash);
        json_begin_object(writer, NULL);
        json_put_text(writer, "name", tables->image_names[i]);
        json_put_text(writer, "path", file->path ? file->path : "");
        json_put_text(writer, "hash", hex);
        json_put_int(writer, "bytes", file->bytes);
        json_end_object(writer);
    }
    json_end_array(writer);
}

void job_write(struct buffer *out, const struct job *job) {
    struct json_writer writer = {.buffer = out};
    struct tables tables;
    bool there = tables_open(&tables, job->video_count);

    json_begin_object(&writer, NULL);
    json_put_int(&writer, "format", DOCUMENT_FORMAT);
    json_put_text(&writer, "job", job->name);
    put_model(&writer, "keyframe", &job->keyframe);
    put_model(&writer, "window", &job->window);
    json_begin_array(&writer, "videos");
    for (int i = 0; i < job->video_count && there; i++)
        put_video(&writer, &tables, &job->videos[i]);
    json_end_array(&writer);
    put_shots(&writer, &tables);
    put_images(&writer, &tables);
    put_sigmas(&writer, &tables);
    json_begin_array(&writer, "texts");
    for (int i = 0; i < tables.texts.count; i++)
        json_put_text(&writer, NULL, tables.texts.order[i]);
    json_end_array(&writer);
    json_end_object(&writer);
    if (!tables_close(&tables) || !there)
        out->failed = true;
}

/* -- reading ---------------------------------------------------------------------------------- */

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
    if (top->type != JSON_OBJECT || !load_int(&format, json_get(top, "format"), 1, DOCUMENT_FORMAT))
        return error_set(loader->error, ERR_UNSUPPORTED,
                         "the stored job has format %lld; this vidloom knows up to %d",
                         (long long)json_int(top, "format", 0), DOCUMENT_FORMAT);
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
