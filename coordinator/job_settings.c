/* One layer of settings as it is written, and layers put one over another. */
#include "coordinator/job_reader.h"

#include <stddef.h>
#include <string.h>

/* -- shots ------------------------------------------------------------------------------------ */

static enum error_code read_shot(struct reader *reader, struct shot *out, const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE, "a shot, {seconds, prompt, motion}");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_SHOT, "a shot");
    const struct yaml *seconds = yaml_get(node, "seconds");
    const struct yaml *prompt = yaml_get(node, "prompt"), *motion = yaml_get(node, "motion");
    struct setting number = {0};
    if (!code && !seconds)
        return job_fail(reader, job_place(reader, node), ERR_USAGE, "a shot needs seconds");
    if (!code)
        code = job_read_number(reader, &number, seconds, 0, true, LIMIT_SECONDS, "seconds");
    if (!code && prompt)
        code = job_read_text(reader, &out->prompt, prompt, false);
    if (!code && motion)
        code = job_read_text(reader, &out->motion, motion, true);
    out->seconds = number.number;
    return code;
}

static enum error_code read_shots(struct reader *reader, struct settings *out,
                                  const struct yaml *node) {
    if (node->type != YAML_SEQUENCE || !node->length)
        return job_wrong(reader, node, ERR_USAGE,
                         "a list of shots, each {seconds, prompt, motion}");
    if (node->length > LIMIT_SHOTS)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "shots: %zu of them; at most %d", node->length, LIMIT_SHOTS);
    struct shot *shots = arena_array(&reader->scratch, node->length, sizeof *shots);
    if (!shots)
        return job_no_memory(reader);
    memset(shots, 0, node->length * sizeof *shots);
    int count = 0;
    for (const struct yaml *item = node->child; item; item = item->next, count++) {
        enum error_code code = read_shot(reader, &shots[count], item);
        if (code)
            return code;
    }
    out->shots = shots;
    out->shot_count = count;
    out->shots_at = job_place_of_key(reader, node);
    return ERR_OK;
}

/* -- a layer ---------------------------------------------------------------------------------- */

enum kind { INTEGER, NUMBER_ABOVE, TEXT, TEXT_OR_EMPTY, NAME, FILE_NAME, WORD, FLAG };

/* Every key of one value: what it reads, where to, its bounds, and what is expected in words. */
static const struct row {
    const char *key;
    enum kind kind;
    size_t at; /* in struct settings */
    double least, most;
    enum job_words words;
    const char *what;
} rows[] = {
    {"name", NAME, offsetof(struct settings, name), .what = ""},
    {"prompt", TEXT, offsetof(struct settings, prompt), .what = ""},
    {"motion", TEXT_OR_EMPTY, offsetof(struct settings, motion), .what = ""},
    {"negative", TEXT_OR_EMPTY, offsetof(struct settings, negative), .what = ""},
    {"image", FILE_NAME, offsetof(struct settings, image), .what = "the name of an image file"},
    {"end_image", FILE_NAME, offsetof(struct settings, end_image),
     .what = "the name of an image file"},
    {"seconds", NUMBER_ABOVE, offsetof(struct settings, seconds), 0, LIMIT_SECONDS,
     .what = "seconds"},
    {"frames", INTEGER, offsetof(struct settings, frames), 1, LIMIT_FRAMES, .what = "frames"},
    {"seed", INTEGER, offsetof(struct settings, seed), 0, 0x1p63, .what = "a seed"},
    {"noise", WORD, offsetof(struct settings, noise), .words = JOB_VALUES_NOISE,
     .what = "a generator of noise"},
};
static const struct row limit_rows[] = {
    {"drift", NUMBER_ABOVE, offsetof(struct settings, drift), 0, 1, .what = "a measure of drift"},
    {"seam", NUMBER_ABOVE, offsetof(struct settings, seam), 0, 1, .what = "a measure of the seam"},
    {"redraws", INTEGER, offsetof(struct settings, redraws), 0, LIMIT_REDRAWS,
     .what = "a number of redraws"},
};
static const struct row output_rows[] = {
    {"path", FILE_NAME, offsetof(struct settings, path),
     .what = "a path, e.g. \"out/{job}-{video}.mp4\""},
    {"codec", WORD, offsetof(struct settings, codec), .words = JOB_VALUES_CODEC, .what = "a codec"},
    {"quality", INTEGER, offsetof(struct settings, quality), 0, LIMIT_QUALITY,
     .what = "a quality (0 is the best)"},
    {"overwrite", FLAG, offsetof(struct settings, overwrite), .what = ""},
};
enum {
    ROWS = sizeof rows / sizeof rows[0],
    LIMIT_ROWS = sizeof limit_rows / sizeof limit_rows[0],
    OUTPUT_ROWS = sizeof output_rows / sizeof output_rows[0]
};

static struct setting *setting_at(struct settings *settings, const struct row *row) {
    return (struct setting *)((char *)settings + row->at);
}

static enum error_code read_row(struct reader *reader, struct settings *settings,
                                const struct row *row, const struct yaml *node) {
    struct setting *out = setting_at(settings, row);
    switch (row->kind) {
    case INTEGER:
        return job_read_integer(reader, out, node, (int64_t)row->least,
                                row->most < 0x1p63 ? (int64_t)row->most : INT64_MAX, row->what);
    case NUMBER_ABOVE:
        return job_read_number(reader, out, node, row->least, true, row->most, row->what);
    case TEXT:
    case TEXT_OR_EMPTY:
        return job_read_text(reader, out, node, row->kind == TEXT_OR_EMPTY);
    case NAME:
        return job_read_name(reader, out, node);
    case FILE_NAME:
        return job_read_file_name(reader, out, node, row->what);
    case WORD:
        return job_read_word(reader, out, node, row->words, row->what);
    case FLAG:
        return job_read_flag(reader, out, node);
    }
    return ERR_INTERNAL;
}

static const struct row *row_find(const struct row *list, int count, const char *key) {
    for (int i = 0; i < count; i++)
        if (!strcmp(list[i].key, key))
            return &list[i];
    return NULL;
}

enum error_code job_read_output(struct reader *reader, struct settings *out,
                                const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE,
                         "a mapping, e.g. {path: \"out/{job}-{video}.mp4\", size: 160x96}");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_OUTPUT, "output");
    for (const struct yaml *child = node->child; child && !code; child = child->next) {
        const struct row *row = row_find(output_rows, OUTPUT_ROWS, child->key);
        if (row)
            code = read_row(reader, out, row, child);
        else if (!strcmp(child->key, "size"))
            code = job_read_size(reader, out, child);
        else
            code = job_read_fps(reader, out, child);
    }
    return code;
}

static enum error_code read_limits(struct reader *reader, struct settings *out,
                                   const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE,
                         "a mapping, e.g. {drift: 0.15, seam: 0.05, redraws: 2}");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_LIMITS, "limits");
    for (const struct yaml *child = node->child; child && !code; child = child->next)
        code = read_row(reader, out, row_find(limit_rows, LIMIT_ROWS, child->key), child);
    return code;
}

enum error_code job_read_settings(struct reader *reader, struct settings *out,
                                  const struct yaml *node) {
    enum error_code code = ERR_OK;
    out->at = job_place(reader, node);
    for (const struct yaml *child = node->child; child && !code; child = child->next) {
        const struct row *row = row_find(rows, ROWS, child->key);
        if (row)
            code = read_row(reader, out, row, child);
        else if (job_is_sampling_key(child->key))
            code = job_read_sampling_key(reader, out, child);
        else if (!strcmp(child->key, "keyframe") || !strcmp(child->key, "window"))
            code = job_read_stage(reader, out, child);
        else if (!strcmp(child->key, "seeds"))
            code = job_read_seeds(reader, out, child);
        else if (!strcmp(child->key, "windows"))
            code = job_read_windows(reader, out, child);
        else if (!strcmp(child->key, "limits"))
            code = read_limits(reader, out, child);
        else if (!strcmp(child->key, "shots"))
            code = read_shots(reader, out, child);
        else if (!strcmp(child->key, "output"))
            code = job_read_output(reader, out, child);
    }
    if (!code && out->seed.set && out->seeds)
        code = job_fail(reader, out->seeds_at, ERR_USAGE,
                        "seeds: there is a seed too; give one of the two");
    if (!code && out->seconds.set && out->frames.set)
        code = job_fail(reader, out->frames.at, ERR_USAGE,
                        "frames: there are seconds too; give one of the two");
    return code;
}

/* -- layers ----------------------------------------------------------------------------------- */

static void lay_rows(struct settings *out, const struct settings *layer, const struct row *list,
                     int count) {
    for (int i = 0; i < count; i++) {
        const struct setting *given = (const struct setting *)((const char *)layer + list[i].at);
        if (given->set)
            *setting_at(out, &list[i]) = *given;
    }
}

void job_settings_lay(struct settings *out, const struct settings *layer) {
    if (layer->seeds || layer->seed.set) {
        out->seed.set = false;
        out->seeds = layer->seeds;
        out->seed_ranges = layer->seed_ranges;
        out->seeds_at = layer->seeds_at;
    }
    if (layer->seconds.set || layer->frames.set || layer->shots)
        out->seconds.set = out->frames.set = false;
    if (layer->shots) {
        out->shots = layer->shots;
        out->shot_count = layer->shot_count;
        out->shots_at = layer->shots_at;
    }
    if (layer->width.set) {
        out->width = layer->width;
        out->height = layer->height;
    }
    if (layer->fps_numerator.set) {
        out->fps_numerator = layer->fps_numerator;
        out->fps_denominator = layer->fps_denominator;
    }
    if (layer->windows.set) {
        out->windows = layer->windows;
        out->overlap = layer->overlap;
    }
    job_lay_sampling(out, layer);
    lay_rows(out, layer, rows, ROWS);
    lay_rows(out, layer, limit_rows, LIMIT_ROWS);
    lay_rows(out, layer, output_rows, OUTPUT_ROWS);
}
