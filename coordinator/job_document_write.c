/* A resolved job as JSON (job.h). Texts, images and lists of shots that videos share are written
 * once and named by their place; the places are found by address, since job_parse shares them by
 * address. */
#include <stdlib.h>

#include "base/json.h"
#include "coordinator/job_document.h"

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
    json_put_int(&writer, "format", JOB_DOCUMENT_FORMAT);
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
