/* Settings to videos: what a video's layers say together, checked against its models, once for each
 * of its seeds. */
#include "coordinator/job_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan.h"

static const char *get_video_name(const struct reader *reader, uint32_t index) {
    return reader->videos[index].name;
}
static const char *get_video_path(const struct reader *reader, uint32_t index) {
    return reader->outputs[index].path;
}
static const char *get_image_name(const struct reader *reader, uint32_t index) {
    return reader->file_names[index];
}

/* -- images ----------------------------------------------------------------------------------- */

static bool images_have_room(struct reader *reader) {
    if (reader->file_count < reader->file_capacity)
        return true;
    int capacity = reader->file_capacity ? 2 * reader->file_capacity : 16;
    const char **names = realloc(reader->file_names, (size_t)capacity * sizeof *names);
    if (names)
        reader->file_names = names;
    struct job_file *files = realloc(reader->files, (size_t)capacity * sizeof *files);
    if (files)
        reader->files = files;
    if (names && files)
        reader->file_capacity = capacity;
    return names && files;
}

/* The image's index + 1: the files move as they grow, so that it stands for the address until the
 * job is whole. */
static enum error_code find_image(struct reader *reader, const struct job_file **out,
                                  const char **name, const struct setting *image, const char *key) {
    if (!images_have_room(reader))
        return job_no_memory(reader);
    uint32_t index = UINT32_MAX;
    reader->file_names[reader->file_count] = job_keep(reader, image->text);
    if (!reader->file_names[reader->file_count])
        return job_no_memory(reader);
    enum error_code code = job_name_set_add(reader, &reader->images, get_image_name, image->text,
                                            (uint32_t)reader->file_count, &index);
    if (code)
        return code;
    if (index == UINT32_MAX) {
        struct job_file *file = &reader->files[index = (uint32_t)reader->file_count];
        *file = (struct job_file){0};
        if (!reader->resolver->find_image)
            return job_fail(reader, image->at, ERR_UNSUPPORTED, "%s: images cannot be read here",
                            key);
        code = reader->resolver->find_image(reader->resolver->user, file, &reader->job->arena,
                                            image->text, reader->error);
        if (code)
            return error_prefix(reader->error, "%s:%d:%d: %s: ", image->at.file, image->at.line,
                                image->at.column, key);
        reader->file_count++;
    }
    *out = (const struct job_file *)(uintptr_t)(index + 1);
    *name = reader->file_names[index];
    return ERR_OK;
}

/* The picture that the video ends in. */
static enum error_code find_end(struct reader *reader, struct job_video *video,
                                const struct settings *settings, struct place at) {
    const struct job_model *model = &reader->job->window;
    enum job_end end = model->facts.end;
    if (!settings->end_image.set && end == JOB_END_MUST)
        return job_fail(reader, at, ERR_USAGE,
                        "model: %s makes a window between two pictures; give the video an "
                        "end_image, or name another model",
                        model->spec);
    if (!settings->end_image.set)
        return ERR_OK;
    if (end == JOB_END_NONE)
        return job_fail(reader, settings->end_image.at, ERR_UNSUPPORTED,
                        "end_image: model %s cannot end a window in a given picture", model->spec);
    return find_image(reader, &video->end, &video->end_name, &settings->end_image, "end_image");
}

/* -- what the models can make ----------------------------------------------------------------- */

static int nearest_side(const struct model_facts *facts, int64_t side) {
    int multiple = facts->size_multiple > 0 ? facts->size_multiple : 1;
    int64_t least = (facts->size_min + multiple - 1) / multiple * multiple;
    int64_t most = facts->size_max / multiple * multiple;
    int64_t near = (side + multiple / 2) / multiple * multiple;
    return (int)(near < least ? least : near > most ? most : near);
}

static enum error_code check_size(struct reader *reader, const struct job_model *model,
                                  const struct job_output *output, struct place at) {
    const struct model_facts *facts = &model->facts;
    int width = nearest_side(facts, output->width), height = nearest_side(facts, output->height);
    if (width == output->width && height == output->height)
        return ERR_OK;
    return job_fail(reader, at, ERR_SHAPE,
                    "size: model %s cannot make %dx%d; its sides are multiples of %d from %d to %d "
                    "pixels, the nearest is %dx%d",
                    model->spec, output->width, output->height, facts->size_multiple,
                    facts->size_min, facts->size_max, width, height);
}

/* Whether the window model makes the size, and who makes the first frame. */
static enum error_code check_models(struct reader *reader, struct job_video *video,
                                    const struct settings *settings, struct place at) {
    const struct job *job = reader->job;
    struct place size_at = settings->width.set ? settings->width.at : at;
    enum error_code code = check_size(reader, &job->window, &video->output, size_at);
    if (!code)
        code = find_end(reader, video, settings, at);
    if (code)
        return code;
    if (job->window.facts.from_text)
        return settings->image.set ? job_no_keyframe(reader, settings->image.at, "image") : ERR_OK;
    if (settings->image.set)
        return find_image(reader, &video->image, &video->image_name, &settings->image, "image");
    code = job_check_ability(reader, &job->keyframe, at,
                             MODEL_CAN_KEYFRAME | MODEL_CAN_TEXT | MODEL_CAN_VAE,
                             "make a keyframe; give the videos an image, or name a model that can");
    return code ? code : check_size(reader, &job->keyframe, &video->output, size_at);
}

/* -- adding ----------------------------------------------------------------------------------- */

/* A mux lease carries all texts of a video. Measured once an entry: its seeds differ by names and
 * numbers alone, for which the bound leaves room. */
static enum error_code check_provenance(struct reader *reader, const struct job_video *video,
                                        const char *name, struct place at) {
    struct job_video measured = *video;
    const struct job_file some = {.bytes = 0}; /* every hash is as long; ours are indices yet */
    struct buffer text = {0};
    measured.name = name;
    measured.image = video->image ? &some : NULL;
    measured.end = video->end ? &some : NULL;
    plan_mux_body(&text, reader->job, &measured);
    size_t length = text.length;
    bool failed = text.failed;
    buffer_close(&text);
    if (failed)
        return job_no_memory(reader);
    if (length > LIMIT_PARAMETERS_BYTES)
        return job_fail(reader, at, ERR_LIMIT,
                        "%sthe texts that the finished file names take %zu bytes; at most %u: "
                        "shorten them, or make several videos of it",
                        video->shot_count > 1 ? "shots: " : "", length, LIMIT_PARAMETERS_BYTES);
    return ERR_OK;
}

static bool videos_have_room(struct reader *reader) {
    if (reader->count < reader->capacity)
        return true;
    int capacity = reader->capacity ? 2 * reader->capacity : 64;
    struct job_video *videos = realloc(reader->videos, (size_t)capacity * sizeof *videos);
    if (videos)
        reader->videos = videos;
    struct place *places = realloc(reader->places, (size_t)capacity * sizeof *places);
    if (places)
        reader->places = places;
    struct output_at *outputs = realloc(reader->outputs, (size_t)capacity * sizeof *outputs);
    if (outputs)
        reader->outputs = outputs;
    if (videos && places && outputs)
        reader->capacity = capacity;
    return videos && places && outputs;
}

/* The place that the video's path means, where there is somebody who knows. */
static enum error_code find_output(struct reader *reader, const struct job_video *video,
                                   struct place at) {
    struct output_at *output = &reader->outputs[reader->count];
    char found[FILE_PATH_BYTES];
    *output = (struct output_at){.path = video->output.path, .at = at};
    if (!reader->resolver->find_output)
        return ERR_OK;
    if (reader->resolver->find_output(reader->resolver->user, found, &video->output,
                                      reader->error) != ERR_OK)
        return error_prefix(reader->error, "%s:%d:%d: path: ", at.file, at.line, at.column);
    output->path = job_keep(reader, found);
    return output->path ? ERR_OK : job_no_memory(reader);
}

/* No two videos share a name or a path. */
static enum error_code check_distinct(struct reader *reader, const struct job_video *video,
                                      struct place at, struct place path_at) {
    uint32_t there = UINT32_MAX, own = (uint32_t)reader->count;
    enum error_code code =
        job_name_set_add(reader, &reader->names, get_video_name, video->name, own, &there);
    if (code)
        return code;
    if (there != UINT32_MAX) {
        struct place other = reader->places[there];
        return job_fail(reader, at, ERR_USAGE,
                        "two videos are called \"%s\"; the other is at %s:%d:%d", video->name,
                        other.file, other.line, other.column);
    }
    code = job_name_set_add(reader, &reader->paths, get_video_path, reader->outputs[own].path, own,
                            &there);
    if (code)
        return code;
    if (there != UINT32_MAX)
        return job_fail(reader, path_at, ERR_USAGE,
                        "path: videos \"%s\" and \"%s\" would both be written to %s; put {video} "
                        "into the path",
                        reader->videos[there].name, video->name, video->output.path);
    return ERR_OK;
}

enum error_code job_check_nesting(struct reader *reader) {
    for (int i = 0; i < reader->count; i++) {
        char outer[FILE_PATH_BYTES];
        snprintf(outer, sizeof outer, "%s", reader->outputs[i].path);
        for (char *slash = strrchr(outer, '/'); slash && slash > outer;
             slash = strrchr(outer, '/')) {
            *slash = '\0';
            uint32_t there = job_name_set_find(reader, &reader->paths, get_video_path, outer);
            if (there != UINT32_MAX)
                return job_fail(reader, reader->outputs[i].at, ERR_USAGE,
                                "path: video \"%s\" would be written into %s, which is where video "
                                "\"%s\" goes",
                                reader->videos[i].name, reader->videos[there].output.path,
                                reader->videos[there].name);
        }
    }
    return ERR_OK;
}

static enum error_code add_one(struct reader *reader, const struct job_video *video,
                               const struct settings *settings, struct place at, const char *name,
                               uint64_t seed) {
    if (strlen(name) > LIMIT_NAME_BYTES)
        return job_fail(reader, at, ERR_LIMIT, "name: \"%s\" has more than %d bytes", name,
                        LIMIT_NAME_BYTES);
    if (reader->count == LIMIT_VIDEOS)
        return job_fail(reader, at, ERR_LIMIT, "more than %d videos in one job", LIMIT_VIDEOS);
    if (!videos_have_room(reader))
        return job_no_memory(reader);
    struct job_video *put = &reader->videos[reader->count];
    *put = *video;
    put->seed = seed;
    put->name = job_keep(reader, name);
    reader->places[reader->count] = at;
    if (!put->name)
        return job_no_memory(reader);
    enum error_code code = job_fill_path(reader, &put->output, settings, at, name, seed);
    struct place path_at = settings->path.set ? settings->path.at : at;
    if (!code)
        code = find_output(reader, put, path_at);
    if (!code)
        code = check_distinct(reader, put, at, path_at);
    if (!code)
        reader->count++;
    return code;
}

static enum error_code add_seeds(struct reader *reader, const struct job_video *video,
                                 const struct settings *settings, struct place at,
                                 const char *name) {
    if (!settings->seeds)
        return add_one(reader, video, settings, at, name, (uint64_t)settings->seed.integer);
    for (int i = 0; i < settings->seed_ranges; i++)
        for (int64_t seed = settings->seeds[i].first;; seed++) {
            char with_seed[LIMIT_NAME_BYTES + 64];
            snprintf(with_seed, sizeof with_seed, "%s-s%lld", name, (long long)seed);
            enum error_code code = add_one(reader, video, settings, at, with_seed, (uint64_t)seed);
            if (code)
                return code;
            if (seed == settings->seeds[i].last)
                break;
        }
    return ERR_OK;
}

enum error_code job_add_video(struct reader *reader, const struct settings *own,
                              const struct settings *entry, const char *name) {
    const struct job *job = reader->job;
    struct place at = own->name.set ? own->name.at : own->at;
    struct settings settings = reader->top_output;
    job_settings_lay(&settings, &reader->defaults);
    if (entry)
        job_settings_lay(&settings, entry);
    job_settings_lay(&settings, own);

    struct job_video video = {
        .noise = (enum job_noise)settings.noise.integer,
        .limits = {.drift = settings.drift.number,
                   .seam = settings.seam.number,
                   .redraws = (int)settings.redraws.integer},
        .negative = settings.negative.set ? job_keep(reader, settings.negative.text) : "",
    };
    if (!video.negative)
        return job_no_memory(reader);
    job_fill_output(&video.output, &settings, &job->window.facts);
    enum error_code code = check_models(reader, &video, &settings, at);
    if (!code)
        code = job_fill_sampling(reader, &video, &settings);
    if (!code)
        code = job_fill_windows(reader, &video, &settings);
    if (!code)
        code = job_fill_length(reader, &video, &settings, at);
    if (!code)
        code = check_provenance(reader, &video, name, settings.shots ? settings.shots_at : at);
    return code ? code : add_seeds(reader, &video, &settings, at, name);
}
