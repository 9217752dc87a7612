#include "coordinator/job.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"
#include "coordinator/job_list.h"
#include "coordinator/plan.h"

/* -- words ------------------------------------------------------------------------------------ */

static const char *const codec_names[] = {"h264", "hevc",   "av1", "vp9",
                                          "ffv1", "prores", "png", NULL};
static const char *const container_names[] = {"mp4", "mkv", "webm", "mov", "folder", NULL};
static const char *const sampler_names[] = {"euler", "unipc", "renoise", NULL};

const char *job_codec_name(enum job_codec codec) {
    return codec_names[codec];
}
const char *job_container_name(enum job_container container) {
    return container_names[container];
}
const char *job_sampler_name(enum job_sampler sampler) {
    return sampler_names[sampler];
}

/* What goes into what; the first codec of a container is its default. */
static const struct {
    enum job_container container;
    enum job_codec codec;
} pairs[] = {
    {JOB_CONTAINER_MP4, JOB_CODEC_H264},   {JOB_CONTAINER_MP4, JOB_CODEC_HEVC},
    {JOB_CONTAINER_MP4, JOB_CODEC_AV1},    {JOB_CONTAINER_MP4, JOB_CODEC_VP9},
    {JOB_CONTAINER_MKV, JOB_CODEC_H264},   {JOB_CONTAINER_MKV, JOB_CODEC_HEVC},
    {JOB_CONTAINER_MKV, JOB_CODEC_AV1},    {JOB_CONTAINER_MKV, JOB_CODEC_VP9},
    {JOB_CONTAINER_MKV, JOB_CODEC_FFV1},   {JOB_CONTAINER_MKV, JOB_CODEC_PRORES},
    {JOB_CONTAINER_MKV, JOB_CODEC_PNG},    {JOB_CONTAINER_WEBM, JOB_CODEC_VP9},
    {JOB_CONTAINER_WEBM, JOB_CODEC_AV1},   {JOB_CONTAINER_MOV, JOB_CODEC_H264},
    {JOB_CONTAINER_MOV, JOB_CODEC_HEVC},   {JOB_CONTAINER_MOV, JOB_CODEC_PRORES},
    {JOB_CONTAINER_FOLDER, JOB_CODEC_PNG},
};
enum { PAIR_COUNT = sizeof pairs / sizeof pairs[0] };

static const char *const keys_top[] = {"job", "model", "output", "defaults", "videos", NULL};
static const char *const keys_model[] = {"keyframe", "window", NULL};
static const char *const keys_output[] = {"path",    "size",      "fps", "codec",
                                          "quality", "overwrite", NULL};
static const char *const keys_defaults[] = {"prompt",  "motion", "negative", "image", "seconds",
                                            "frames",  "seed",   "seeds",    "steps", "guidance",
                                            "sampler", "shift",  "noise",    "shots", NULL};
static const char *const keys_video[] = {
    "name",  "prompt",   "motion",  "negative", "image", "seconds", "frames", "seed", "seeds",
    "steps", "guidance", "sampler", "shift",    "noise", "shots",   "output", NULL};
/* `name` is put in front of the rows' generated names. */
static const char *const keys_file[] = {
    "file",  "name",  "prompt",   "motion",  "negative", "image", "seconds", "frames", "seed",
    "seeds", "steps", "guidance", "sampler", "shift",    "noise", "shots",   "output", NULL};
static const char *const keys_shot[] = {"seconds", "prompt", "motion", NULL};
/* What one field can say. */
static const char *const keys_csv[] = {"name",     "prompt",  "motion", "negative", "image",
                                       "seconds",  "frames",  "seed",   "seeds",    "steps",
                                       "guidance", "sampler", "shift",  "noise",    NULL};

const char *const *job_words(enum job_words words) {
    switch (words) {
    case JOB_KEYS_TOP:
        return keys_top;
    case JOB_KEYS_MODEL:
        return keys_model;
    case JOB_KEYS_OUTPUT:
        return keys_output;
    case JOB_KEYS_DEFAULTS:
        return keys_defaults;
    case JOB_KEYS_VIDEO:
        return keys_video;
    case JOB_KEYS_FILE:
        return keys_file;
    case JOB_KEYS_SHOT:
        return keys_shot;
    case JOB_VALUES_CODEC:
        return codec_names;
    case JOB_VALUES_SAMPLER:
        return sampler_names;
    case JOB_WORDS_COUNT:
        break;
    }
    return NULL;
}

/* -- the reader ------------------------------------------------------------------------------- */

struct place {
    const char *file;
    int line, column;
};

struct number {
    bool set;
    double value;
    struct place at;
};
struct integer {
    bool set;
    int64_t value;
    struct place at;
};
struct text {
    const char *text; /* NULL: not given */
    struct place at;
};
struct seed_range {
    int64_t first, last;
    struct place at;
};
struct shot {
    double seconds;
    struct text prompt, motion;
};

/* One layer of settings: the defaults, the entry of a prompt list, a video. A video is made of up
 * to three; the nearest one that says something wins. */
struct settings {
    struct place at;
    struct text name, prompt, motion, negative, image;
    struct number seconds, guidance, shift, noise;
    struct integer frames, steps, sampler;
    struct integer seed;
    struct seed_range *seeds; /* NULL: not given */
    int seed_ranges;
    int64_t seed_count;
    struct place seeds_at;
    struct shot *shots; /* NULL: not given */
    int shot_count;
    struct place shots_at;
    struct text path;
    struct integer width, height, fps_numerator, fps_denominator, codec, quality, overwrite;
};

/* Open addressing; values are indices + 1 of what the owner keeps. */
struct name_set {
    uint32_t *slots;
    size_t mask, count;
};

struct reader {
    const char *file; /* of what is being read now */
    bool typed;       /* false in lists where everything is text */
    const struct job_resolver *resolver;
    struct job *job;
    struct arena scratch;
    struct job_video *videos; /* malloc'ed until the end */
    struct place *places;     /* of each video */
    int count, capacity;
    struct name_set names, paths;
    struct job_file *files; /* distinct images */
    const char **file_names;
    int file_count, file_capacity;
    struct name_set images;
    int lists;
    int generated_width; /* unused digits are zeros: video-001 */
    struct settings defaults, top_output;
    const struct settings *list_layer; /* while a prompt list is read */
    int list_rows;
    struct error *error;
};

static enum error_code fail(struct reader *reader, struct place at, enum error_code code,
                            const char *format, ...) PRINTF_LIKE(4, 5);
static enum error_code fail(struct reader *reader, struct place at, enum error_code code,
                            const char *format, ...) {
    char text[ERROR_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(reader->error, code, "%s:%d:%d: %s", at.file, at.line, at.column, text);
}

static enum error_code no_memory(struct reader *reader) {
    return error_set(reader->error, ERR_MEMORY,
                     "%s: the job takes more than %llu MiB of memory, or there is none left",
                     reader->file, (unsigned long long)(LIMIT_JOB_BYTES >> 20));
}

static struct place place_of(const struct reader *reader, const struct yaml *node) {
    return (struct place){reader->file, node->line, node->column};
}
static struct place place_of_key(const struct reader *reader, const struct yaml *node) {
    return (struct place){reader->file, node->key_line, node->key_column};
}

/* "the text \"abc\"", "a list", …: what stands there. */
static const char *describe(char out[96], const struct yaml *node) {
    double number;
    if (node->type == YAML_SEQUENCE)
        return "a list";
    if (node->type == YAML_MAPPING)
        return "a mapping";
    if (!node->length)
        return node->quoted ? "an empty text" : "nothing";
    size_t shown = node->length < 48 ? node->length : 48;
    while (shown < node->length && shown && ((unsigned char)node->text[shown] & 0xC0) == 0x80)
        shown--;
    size_t line = 0;
    while (line < shown && (unsigned char)node->text[line] >= ' ')
        line++;
    snprintf(out, 96, "%s%.*s%s%s",
             !node->quoted && text_to_double(node->text, &number) ? "" : "\"", (int)line,
             node->text, line < node->length ? "…" : "",
             !node->quoted && text_to_double(node->text, &number) ? "" : "\"");
    return out;
}

static enum error_code wrong(struct reader *reader, const struct yaml *node, enum error_code code,
                             const char *expected) {
    char found[96];
    return fail(reader, place_of(reader, node), code, "%s%sexpected %s, found %s",
                node->key ? node->key : "", node->key ? ": " : "", expected, describe(found, node));
}

/* Whether every key of the mapping is among the words. */
static enum error_code check_keys(struct reader *reader, const struct yaml *mapping,
                                  const char *const *words, const char *what) {
    for (const struct yaml *child = mapping->child; child; child = child->next) {
        bool known = false;
        for (const char *const *word = words; *word && !known; word++)
            known = !strcmp(*word, child->key);
        if (known)
            continue;
        const char *near = text_nearest(child->key, words);
        if (near)
            return fail(reader, place_of_key(reader, child), ERR_USAGE,
                        "%s has no key \"%.64s\"; did you mean \"%s\"?", what, child->key, near);
        char list[512] = "";
        for (const char *const *word = words; *word; word++) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *word);
        }
        return fail(reader, place_of_key(reader, child), ERR_USAGE,
                    "%s has no key \"%.64s\"; it has: %s", what, child->key, list);
    }
    return ERR_OK;
}

/* -- values ----------------------------------------------------------------------------------- */

static enum error_code read_integer(struct reader *reader, struct integer *out,
                                    const struct yaml *node, int64_t least, int64_t most,
                                    const char *what) {
    char expected[160];
    snprintf(expected, sizeof expected, "%s, a whole number from %lld to %lld", what,
             (long long)least, (long long)most);
    int64_t value;
    if (node->type != YAML_SCALAR || node->quoted || !text_to_int(node->text, &value))
        return wrong(reader, node, ERR_USAGE, expected);
    if (value < least || value > most)
        return wrong(reader, node, ERR_LIMIT, expected);
    *out = (struct integer){true, value, place_of(reader, node)};
    return ERR_OK;
}

static enum error_code read_number(struct reader *reader, struct number *out,
                                   const struct yaml *node, double least, bool above, double most,
                                   const char *what) {
    char expected[160];
    snprintf(expected, sizeof expected, "%s, a number %s %g, at most %g", what,
             above ? "above" : "of at least", least, most);
    double value;
    if (node->type != YAML_SCALAR || node->quoted || !text_to_double(node->text, &value) ||
        !isfinite(value))
        return wrong(reader, node, ERR_USAGE, expected);
    if (value < least || (above && value <= least) || value > most)
        return wrong(reader, node, ERR_LIMIT, expected);
    *out = (struct number){true, value, place_of(reader, node)};
    return ERR_OK;
}

static enum error_code read_word(struct reader *reader, struct integer *out,
                                 const struct yaml *node, const char *const *words,
                                 const char *what) {
    if (node->type == YAML_SCALAR)
        for (int i = 0; words[i]; i++)
            if (!strcmp(words[i], node->text)) {
                *out = (struct integer){true, i, place_of(reader, node)};
                return ERR_OK;
            }
    char expected[256];
    int used = snprintf(expected, sizeof expected, "%s, one of ", what);
    for (int i = 0; words[i] && used < (int)sizeof expected; i++)
        used += snprintf(expected + used, sizeof expected - (size_t)used, "%s%s", i ? ", " : "",
                         words[i]);
    const char *near =
        node->type == YAML_SCALAR && node->length ? text_nearest(node->text, words) : NULL;
    if (near) {
        char found[96];
        return fail(reader, place_of(reader, node), ERR_USAGE,
                    "%s: expected %s, found %s; did you mean \"%s\"?", node->key, expected,
                    describe(found, node), near);
    }
    return wrong(reader, node, ERR_USAGE, expected);
}

static enum error_code read_flag(struct reader *reader, struct integer *out,
                                 const struct yaml *node) {
    bool yes = node->type == YAML_SCALAR && !node->quoted && !strcmp(node->text, "true");
    bool no = node->type == YAML_SCALAR && !node->quoted && !strcmp(node->text, "false");
    if (!yes && !no)
        return wrong(reader, node, ERR_USAGE, "true or false");
    *out = (struct integer){true, yes, place_of(reader, node)};
    return ERR_OK;
}

/* Prompts and the like. `empty`: whether "" is one. Space around is taken off. */
static enum error_code read_text(struct reader *reader, struct text *out, const struct yaml *node,
                                 bool empty) {
    if (node->type != YAML_SCALAR || (!node->quoted && !node->length && !(empty && !reader->typed)))
        return wrong(reader, node, ERR_USAGE, "text");
    double number;
    if (reader->typed && !node->quoted &&
        (text_to_double(node->text, &number) || !strcmp(node->text, "true") ||
         !strcmp(node->text, "false") || !strcmp(node->text, "null") || !strcmp(node->text, "~")))
        return wrong(reader, node, ERR_USAGE, "text (put it in quotes if it is meant as one)");
    size_t where, from = 0, to = node->length;
    if (!text_is_utf8(node->text, node->length, &where))
        return fail(reader, place_of(reader, node), ERR_USAGE, "%s: byte %zu is not UTF-8 text",
                    node->key, where + 1);
    while (from < to && strchr(" \t\r\n", node->text[from]))
        from++;
    while (to > from && strchr(" \t\r\n", node->text[to - 1]))
        to--;
    if (to - from > LIMIT_PROMPT_BYTES)
        return fail(reader, place_of(reader, node), ERR_LIMIT,
                    "%s: a text of %zu bytes; at most %d", node->key, to - from,
                    LIMIT_PROMPT_BYTES);
    if (from == to && !empty)
        return wrong(reader, node, ERR_USAGE, "text that is not empty");
    out->text = arena_strdup(&reader->scratch, node->text + from, to - from);
    out->at = place_of(reader, node);
    return out->text ? ERR_OK : no_memory(reader);
}

static enum error_code read_name(struct reader *reader, struct text *out, const struct yaml *node) {
    if (node->type != YAML_SCALAR || !file_name_is_plain(node->text))
        return wrong(reader, node, ERR_USAGE,
                     "a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that does not start "
                     "with '.' or '-'");
    out->text = node->text;
    out->at = place_of(reader, node);
    return ERR_OK;
}

/* The name of a file or model. */
static enum error_code read_file_name(struct reader *reader, struct text *out,
                                      const struct yaml *node, const char *expected) {
    if (node->type != YAML_SCALAR || !node->length)
        return wrong(reader, node, ERR_USAGE, expected);
    if (node->length >= LIMIT_PATH_BYTES)
        return fail(reader, place_of(reader, node), ERR_LIMIT,
                    "%s: a name of %zu bytes; at most %d", node->key, node->length,
                    LIMIT_PATH_BYTES - 1);
    for (size_t i = 0; i < node->length; i++)
        if ((unsigned char)node->text[i] < ' ')
            return wrong(reader, node, ERR_USAGE, "a name without control characters");
    out->text = node->text;
    out->at = place_of(reader, node);
    return ERR_OK;
}

static const char seed_expected[] =
    "a seed (0 to 9223372036854775807), a range as 1..8, or a list of those";

static enum error_code read_seed_item(struct reader *reader, struct seed_range *out,
                                      const struct yaml *node, const char *key) {
    char found[96];
    int64_t first, last;
    /* A range may be in quotes: in JSON it has to be. */
    const char *dots = node->type == YAML_SCALAR ? strstr(node->text, "..") : NULL;
    if (node->type != YAML_SCALAR || (node->quoted && !dots))
        goto wrong_seed;
    if (dots) {
        char left[24];
        size_t length = (size_t)(dots - node->text);
        if (length >= sizeof left)
            goto wrong_seed;
        memcpy(left, node->text, length);
        left[length] = '\0';
        if (!text_to_int(left, &first) || !text_to_int(dots + 2, &last))
            goto wrong_seed;
    } else {
        if (!text_to_int(node->text, &first))
            goto wrong_seed;
        last = first;
    }
    if (first < 0 || last < 0)
        goto wrong_seed;
    if (last < first)
        return fail(reader, place_of(reader, node), ERR_USAGE,
                    "%s: the range %s ends before it begins; write %lld..%lld", key, node->text,
                    (long long)last, (long long)first);
    if (last - first >= LIMIT_VIDEOS)
        return fail(reader, place_of(reader, node), ERR_LIMIT,
                    "%s: the range %s has more than %d seeds, the most videos that a job may have",
                    key, node->text, LIMIT_VIDEOS);
    *out = (struct seed_range){first, last, place_of(reader, node)};
    return ERR_OK;
wrong_seed:
    return fail(reader, place_of(reader, node), ERR_USAGE, "%s: expected %s, found %s", key,
                seed_expected, describe(found, node));
}

static int compare_ranges(const void *a, const void *b) {
    const struct seed_range *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

static enum error_code read_seeds(struct reader *reader, struct settings *out,
                                  const struct yaml *node) {
    int count = node->type == YAML_SEQUENCE ? (int)node->length : 1;
    if (node->type == YAML_MAPPING || count == 0)
        return wrong(reader, node, ERR_USAGE, seed_expected);
    if (count > LIMIT_VIDEOS)
        return fail(reader, place_of(reader, node), ERR_LIMIT, "seeds: a list of %d; at most %d",
                    count, LIMIT_VIDEOS);
    struct seed_range *ranges = arena_array(&reader->scratch, (size_t)count, sizeof *ranges);
    struct seed_range *sorted = arena_array(&reader->scratch, (size_t)count, sizeof *sorted);
    if (!ranges || !sorted)
        return no_memory(reader);
    int64_t total = 0;
    const struct yaml *item = node->type == YAML_SEQUENCE ? node->child : node;
    for (int i = 0; i < count; i++, item = item->next) {
        enum error_code code = read_seed_item(reader, &ranges[i], item, "seeds");
        if (code)
            return code;
        total += ranges[i].last - ranges[i].first + 1;
    }
    if (total > LIMIT_VIDEOS)
        return fail(reader, place_of(reader, node), ERR_LIMIT,
                    "seeds: %lld seeds, more than the %d videos that a job may have",
                    (long long)total, LIMIT_VIDEOS);
    memcpy(sorted, ranges, (size_t)count * sizeof *ranges);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_ranges);
    for (int i = 1; i < count; i++)
        if (sorted[i].first <= sorted[i - 1].last)
            return fail(reader, sorted[i].at, ERR_USAGE, "seeds: seed %lld is there twice",
                        (long long)sorted[i].first);
    out->seeds = ranges;
    out->seed_ranges = count;
    out->seed_count = total;
    out->seeds_at = place_of_key(reader, node);
    return ERR_OK;
}

static enum error_code read_shots(struct reader *reader, struct settings *out,
                                  const struct yaml *node) {
    if (node->type != YAML_SEQUENCE || !node->length)
        return wrong(reader, node, ERR_USAGE, "a list of shots, each {seconds, prompt, motion}");
    if (node->length > LIMIT_SHOTS)
        return fail(reader, place_of(reader, node), ERR_LIMIT, "shots: %zu of them; at most %d",
                    node->length, LIMIT_SHOTS);
    struct shot *shots = arena_array(&reader->scratch, node->length, sizeof *shots);
    if (!shots)
        return no_memory(reader);
    memset(shots, 0, node->length * sizeof *shots);
    int count = 0;
    for (const struct yaml *item = node->child; item; item = item->next, count++) {
        if (item->type != YAML_MAPPING)
            return wrong(reader, item, ERR_USAGE, "a shot, {seconds, prompt, motion}");
        enum error_code code = check_keys(reader, item, keys_shot, "a shot");
        const struct yaml *seconds = yaml_get(item, "seconds");
        const struct yaml *prompt = yaml_get(item, "prompt"), *motion = yaml_get(item, "motion");
        struct number number = {0};
        if (!code && !seconds)
            return fail(reader, place_of(reader, item), ERR_USAGE, "a shot needs seconds");
        if (!code)
            code = read_number(reader, &number, seconds, 0, true, LIMIT_SECONDS, "seconds");
        if (!code && prompt)
            code = read_text(reader, &shots[count].prompt, prompt, false);
        if (!code && motion)
            code = read_text(reader, &shots[count].motion, motion, true);
        if (code)
            return code;
        shots[count].seconds = number.value;
    }
    out->shots = shots;
    out->shot_count = count;
    out->shots_at = place_of_key(reader, node);
    return ERR_OK;
}

static enum error_code read_size(struct reader *reader, struct settings *out,
                                 const struct yaml *node) {
    static const char expected[] = "a size in pixels, as 160x96 or [160, 96]";
    int64_t width, height;
    if (node->type == YAML_SEQUENCE && node->length == 2) {
        const struct yaml *first = node->child, *second = node->child->next;
        if (first->type != YAML_SCALAR || second->type != YAML_SCALAR || first->quoted ||
            second->quoted || !text_to_int(first->text, &width) ||
            !text_to_int(second->text, &height))
            return wrong(reader, node, ERR_USAGE, expected);
    } else {
        char left[16];
        const char *x = node->type == YAML_SCALAR ? strchr(node->text, 'x') : NULL;
        if (!x || (size_t)(x - node->text) >= sizeof left)
            return wrong(reader, node, ERR_USAGE, expected);
        memcpy(left, node->text, (size_t)(x - node->text));
        left[x - node->text] = '\0';
        if (!text_to_int(left, &width) || !text_to_int(x + 1, &height))
            return wrong(reader, node, ERR_USAGE, expected);
    }
    if (width < 1 || height < 1 || width > LIMIT_SIDE || height > LIMIT_SIDE)
        return fail(reader, place_of(reader, node), ERR_LIMIT,
                    "size: sides are from 1 to %d pixels, found %lldx%lld", LIMIT_SIDE,
                    (long long)width, (long long)height);
    out->width = (struct integer){true, width, place_of(reader, node)};
    out->height = (struct integer){true, height, place_of(reader, node)};
    return ERR_OK;
}

static enum error_code read_fps(struct reader *reader, struct settings *out,
                                const struct yaml *node) {
    static const char expected[] =
        "frames a second above 0 and at most 240, as 16, 12.5 or 30000/1001";
    int64_t numerator = 0, denominator = 1;
    double value;
    const char *slash = node->type == YAML_SCALAR ? strchr(node->text, '/') : NULL;
    if (node->type != YAML_SCALAR || (node->quoted && !slash))
        return wrong(reader, node, ERR_USAGE, expected);
    if (slash) {
        char left[16];
        size_t length = (size_t)(slash - node->text);
        if (length >= sizeof left)
            return wrong(reader, node, ERR_USAGE, expected);
        memcpy(left, node->text, length);
        left[length] = '\0';
        if (!text_to_int(left, &numerator) || !text_to_int(slash + 1, &denominator))
            return wrong(reader, node, ERR_USAGE, expected);
    } else if (!text_to_double(node->text, &value) || !isfinite(value)) {
        return wrong(reader, node, ERR_USAGE, expected);
    } else if (value <= LIMIT_FPS && value > 0) {
        numerator = llround(value * 1000);
        denominator = 1000;
        if (fabs((double)numerator - value * 1000) > 1e-6)
            return wrong(reader, node, ERR_USAGE, expected);
    }
    if (numerator < 1 || denominator < 1 || numerator > 1000000 || denominator > 1000000 ||
        numerator > denominator * LIMIT_FPS)
        return wrong(reader, node, ERR_LIMIT, expected);
    int64_t a = numerator, b = denominator;
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    out->fps_numerator = (struct integer){true, numerator / a, place_of(reader, node)};
    out->fps_denominator = (struct integer){true, denominator / a, place_of(reader, node)};
    return ERR_OK;
}

/* -- layers ----------------------------------------------------------------------------------- */

static enum error_code read_output(struct reader *reader, struct settings *out,
                                   const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return wrong(reader, node, ERR_USAGE,
                     "a mapping, e.g. {path: \"out/{job}-{video}.mp4\", size: 160x96}");
    enum error_code code = check_keys(reader, node, keys_output, "output");
    for (const struct yaml *child = node->child; child && !code; child = child->next) {
        if (!strcmp(child->key, "path"))
            code =
                read_file_name(reader, &out->path, child, "a path, e.g. \"out/{job}-{video}.mp4\"");
        else if (!strcmp(child->key, "size"))
            code = read_size(reader, out, child);
        else if (!strcmp(child->key, "fps"))
            code = read_fps(reader, out, child);
        else if (!strcmp(child->key, "codec"))
            code = read_word(reader, &out->codec, child, codec_names, "a codec");
        else if (!strcmp(child->key, "quality"))
            code = read_integer(reader, &out->quality, child, 0, LIMIT_QUALITY,
                                "a quality (0 is the best)");
        else
            code = read_flag(reader, &out->overwrite, child);
    }
    return code;
}

/* All the keys of a mapping that was checked already. */
static enum error_code read_settings(struct reader *reader, struct settings *out,
                                     const struct yaml *node) {
    enum error_code code = ERR_OK;
    out->at = place_of(reader, node);
    for (const struct yaml *child = node->child; child && !code; child = child->next) {
        const char *key = child->key;
        if (!strcmp(key, "name"))
            code = read_name(reader, &out->name, child);
        else if (!strcmp(key, "prompt"))
            code = read_text(reader, &out->prompt, child, false);
        else if (!strcmp(key, "motion"))
            code = read_text(reader, &out->motion, child, true);
        else if (!strcmp(key, "negative"))
            code = read_text(reader, &out->negative, child, true);
        else if (!strcmp(key, "image"))
            code = read_file_name(reader, &out->image, child, "the name of an image file");
        else if (!strcmp(key, "seconds"))
            code = read_number(reader, &out->seconds, child, 0, true, LIMIT_SECONDS, "seconds");
        else if (!strcmp(key, "frames"))
            code = read_integer(reader, &out->frames, child, 1, LIMIT_FRAMES, "frames");
        else if (!strcmp(key, "seed"))
            code = read_integer(reader, &out->seed, child, 0, INT64_MAX, "a seed");
        else if (!strcmp(key, "seeds"))
            code = read_seeds(reader, out, child);
        else if (!strcmp(key, "steps"))
            code = read_integer(reader, &out->steps, child, 1, LIMIT_STEPS, "steps");
        else if (!strcmp(key, "guidance"))
            code = read_number(reader, &out->guidance, child, 0, false, LIMIT_GUIDANCE,
                               "a guidance scale");
        else if (!strcmp(key, "shift"))
            code = read_number(reader, &out->shift, child, 0, true, LIMIT_GUIDANCE, "a shift");
        else if (!strcmp(key, "noise"))
            code = read_number(reader, &out->noise, child, 0, false, 1, "a strength of noise");
        else if (!strcmp(key, "sampler"))
            code = read_word(reader, &out->sampler, child, sampler_names, "a sampler");
        else if (!strcmp(key, "shots"))
            code = read_shots(reader, out, child);
        else if (!strcmp(key, "output"))
            code = read_output(reader, out, child);
    }
    if (!code && out->seed.set && out->seeds)
        code = fail(reader, out->seeds_at, ERR_USAGE,
                    "seeds: there is a seed too; give one of the two");
    if (!code && out->seconds.set && out->frames.set)
        code = fail(reader, out->frames.at, ERR_USAGE,
                    "frames: there are seconds too; give one of the two");
    return code;
}

/* -- sets of names ---------------------------------------------------------------------------- */

static uint64_t name_hash(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash ^ hash >> 29;
}

typedef const char *(*name_of)(const struct reader *reader, uint32_t index);

/* The index that `name` has in the set, or UINT32_MAX after it was put there as `index`.
 * ERR_MEMORY. */
static enum error_code name_set_add(struct reader *reader, struct name_set *set, name_of get,
                                    const char *name, uint32_t index, uint32_t *there) {
    if (!set->slots || set->count * 2 > set->mask) {
        size_t size = set->slots ? (set->mask + 1) * 2 : 64;
        uint32_t *slots = calloc(size, sizeof *slots);
        if (!slots)
            return no_memory(reader);
        for (size_t i = 0; set->slots && i <= set->mask; i++)
            if (set->slots[i]) {
                size_t at = name_hash(get(reader, set->slots[i] - 1)) & (size - 1);
                while (slots[at])
                    at = (at + 1) & (size - 1);
                slots[at] = set->slots[i];
            }
        free(set->slots);
        set->slots = slots;
        set->mask = size - 1;
    }
    size_t at = name_hash(name) & set->mask;
    for (; set->slots[at]; at = (at + 1) & set->mask)
        if (!strcmp(get(reader, set->slots[at] - 1), name)) {
            *there = set->slots[at] - 1;
            return ERR_OK;
        }
    set->slots[at] = index + 1;
    set->count++;
    *there = UINT32_MAX;
    return ERR_OK;
}

static const char *get_video_name(const struct reader *reader, uint32_t index) {
    return reader->videos[index].name;
}
static const char *get_video_path(const struct reader *reader, uint32_t index) {
    return reader->videos[index].output.path;
}
static const char *get_image_name(const struct reader *reader, uint32_t index) {
    return reader->file_names[index];
}

/* -- one video -------------------------------------------------------------------------------- */

enum { LAYERS = 4 }; /* video, list entry, defaults, top-level output */

/* The nearest layer in which `member` was given. */
#define NEAREST(out, layers, member, given)                                                        \
    do {                                                                                           \
        for (int layer_ = 0; layer_ < LAYERS; layer_++)                                            \
            if ((layers)[layer_] && (layers)[layer_]->member given) {                              \
                (out) = (layers)[layer_]->member;                                                  \
                break;                                                                             \
            }                                                                                      \
    } while (0)

static char *keep(struct reader *reader, const char *text) {
    return text ? arena_strdup(&reader->job->arena, text, strlen(text)) : NULL;
}

static enum error_code find_image(struct reader *reader, struct job_video *video,
                                  const struct text *image) {
    if (reader->file_count == reader->file_capacity) {
        int capacity = reader->file_capacity ? 2 * reader->file_capacity : 16;
        const char **names = realloc(reader->file_names, (size_t)capacity * sizeof *names);
        if (names)
            reader->file_names = names;
        struct job_file *files = realloc(reader->files, (size_t)capacity * sizeof *files);
        if (files)
            reader->files = files;
        if (!names || !files)
            return no_memory(reader);
        reader->file_capacity = capacity;
    }
    uint32_t index = UINT32_MAX;
    reader->file_names[reader->file_count] = keep(reader, image->text);
    if (!reader->file_names[reader->file_count])
        return no_memory(reader);
    enum error_code code = name_set_add(reader, &reader->images, get_image_name, image->text,
                                        (uint32_t)reader->file_count, &index);
    if (code)
        return code;
    if (index == UINT32_MAX) {
        struct job_file *file = &reader->files[index = (uint32_t)reader->file_count];
        *file = (struct job_file){0};
        if (!reader->resolver->find_image)
            return fail(reader, image->at, ERR_UNSUPPORTED, "image: images cannot be read here");
        code = reader->resolver->find_image(reader->resolver->user, file, &reader->job->arena,
                                            image->text, reader->error);
        if (code)
            return error_prefix(reader->error, "%s:%d:%d: image: ", image->at.file, image->at.line,
                                image->at.column);
        reader->file_count++;
    }
    /* The files move as they grow: the index stands for the address until job_finish. */
    video->image = (const struct job_file *)(uintptr_t)(index + 1);
    video->image_name = reader->file_names[index];
    return ERR_OK;
}

/* `template` filled in and tidied ("a//./b" is "a/b") into out. */
static enum error_code fill_path(struct reader *reader, char out[LIMIT_PATH_BYTES],
                                 const struct text *path, const char *video, uint64_t seed) {
    static const char *const holes[] = {"job", "video", "seed", NULL};
    char raw[LIMIT_PATH_BYTES], number[24];
    size_t used = 0;
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    for (const char *at = path->text ? path->text : ""; *at;) {
        const char *put = at;
        size_t length = 1;
        if (*at == '{') {
            const char *end = strchr(at, '}');
            char hole[32] = "";
            if (end && (size_t)(end - at) <= sizeof hole) {
                memcpy(hole, at + 1, (size_t)(end - at - 1));
                hole[end - at - 1] = '\0';
            }
            put = !strcmp(hole, "job")     ? reader->job->name
                  : !strcmp(hole, "video") ? video
                  : !strcmp(hole, "seed")  ? number
                                           : NULL;
            if (!put || !end) {
                const char *near = *hole ? text_nearest(hole, holes) : NULL;
                return fail(reader, path->at, ERR_USAGE,
                            "path: {%s} cannot be filled in%s%s%s; there are {job}, {video} and "
                            "{seed}",
                            hole, near ? "; did you mean {" : "", near ? near : "",
                            near ? "}" : "");
            }
            length = strlen(put);
            at = end + 1;
        } else {
            at++;
        }
        if (used + length >= sizeof raw)
            return fail(reader, path->at, ERR_LIMIT, "path: more than %d bytes once filled in",
                        LIMIT_PATH_BYTES - 1);
        memcpy(raw + used, put, length);
        used += length;
    }
    raw[used] = '\0';
    /* Tidy, component by component. */
    size_t length = 0;
    bool absolute = raw[0] == '/', folder = used && raw[used - 1] == '/';
    if (absolute)
        out[length++] = '/';
    for (char *save = NULL, *part = strtok_r(raw, "/", &save); part;
         part = strtok_r(NULL, "/", &save)) {
        if (!strcmp(part, "."))
            continue;
        if (!strcmp(part, ".."))
            return fail(reader, path->at, ERR_USAGE,
                        "path: \"..\" is not allowed; write a path below the current folder, or an "
                        "absolute one");
        size_t bytes = strlen(part);
        if (bytes > 200) /* room for what is put around it while it is written */
            return fail(reader, path->at, ERR_LIMIT, "path: a file name of %zu bytes; at most 200",
                        bytes);
        if (length && out[length - 1] != '/')
            out[length++] = '/';
        memcpy(out + length, part, bytes);
        length += bytes;
    }
    if (!length || (absolute && length == 1))
        return fail(reader, path->at, ERR_USAGE, "path: expected the name of a file");
    out[length] = '\0';
    if (folder) {
        const char *slash = strrchr(out, '/'), *base = slash ? slash + 1 : out;
        if (strchr(base, '.'))
            return fail(reader, path->at, ERR_USAGE,
                        "path: a name with an extension, and a '/' after it; which is it?");
    }
    return ERR_OK;
}

static enum error_code choose_container(struct reader *reader, struct job_output *output,
                                        const struct integer *codec, const struct text *path) {
    const char *slash = strrchr(output->path, '/');
    const char *dot = strrchr(slash ? slash + 1 : output->path, '.');
    output->container = JOB_CONTAINER_FOLDER;
    if (dot) {
        int found = 0;
        while (found < JOB_CONTAINER_FOLDER && strcmp(dot + 1, container_names[found]) != 0)
            found++;
        if (found == JOB_CONTAINER_FOLDER)
            return fail(reader, path->at, ERR_USAGE,
                        "path: no container is called \"%s\"; expected a name that ends with .mp4, "
                        ".mkv, .webm or .mov, or one without an extension for a folder of pictures",
                        dot);
        output->container = (enum job_container)found;
    }
    char list[128] = "";
    bool first = true;
    for (int i = 0; i < PAIR_COUNT; i++) {
        if (pairs[i].container != output->container)
            continue;
        if (first && !codec->set)
            output->codec = pairs[i].codec;
        if (codec->set && pairs[i].codec == (enum job_codec)codec->value) {
            output->codec = pairs[i].codec;
            return ERR_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                 codec_names[pairs[i].codec]);
        first = false;
    }
    if (!codec->set)
        return ERR_OK;
    return fail(reader, codec->at, ERR_USAGE, "codec: %s does not go into %s, which can hold %s",
                codec_names[codec->value], dot ? dot : "a folder of pictures", list);
}

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
    return fail(reader, at, ERR_SHAPE,
                "size: model %s cannot make %dx%d; its sides are multiples of %d from %d to %d "
                "pixels, the nearest is %dx%d",
                model->spec, output->width, output->height, facts->size_multiple, facts->size_min,
                facts->size_max, width, height);
}

static enum error_code check_ability(struct reader *reader, const struct job_model *model,
                                     struct place at, int ability, const char *what) {
    if ((model->facts.abilities & ability) == ability)
        return ERR_OK;
    return fail(reader, at, ERR_UNSUPPORTED, "model: %s (%s) cannot %s", model->spec,
                model->facts.family, what);
}

static void fill_sampling(struct job_sampling *out, const struct model_facts *facts,
                          const struct settings *const *layers) {
    struct integer steps = {0}, sampler = {0};
    struct number guidance = {0}, shift = {0};
    NEAREST(steps, layers, steps, .set);
    NEAREST(sampler, layers, sampler, .set);
    NEAREST(guidance, layers, guidance, .set);
    NEAREST(shift, layers, shift, .set);
    out->steps = steps.set ? (int)steps.value : facts->steps;
    out->sampler = sampler.set ? (enum job_sampler)sampler.value : facts->sampler;
    out->guidance = guidance.set ? guidance.value : facts->guidance;
    out->shift = shift.set ? shift.value : facts->shift;
}

/* Frames until `seconds` into the video. */
static int64_t frames_at(double seconds, const struct job_output *output) {
    return llround(seconds * output->fps_numerator / output->fps_denominator);
}

/* frames and shots of the video, from what the layers say about its length. */
static enum error_code fill_length(struct reader *reader, struct job_video *video,
                                   const struct settings *const *layers, struct place at) {
    int length_layer = LAYERS, shots_layer = LAYERS;
    for (int i = LAYERS - 1; i >= 0; i--) {
        if (layers[i] && (layers[i]->seconds.set || layers[i]->frames.set))
            length_layer = i;
        if (layers[i] && layers[i]->shots)
            shots_layer = i;
    }
    const struct settings *length = length_layer < LAYERS ? layers[length_layer] : NULL;
    const struct settings *with_shots = shots_layer < LAYERS ? layers[shots_layer] : NULL;
    double sum = 0;
    for (int i = 0; with_shots && i < with_shots->shot_count; i++)
        sum += with_shots->shots[i].seconds;
    if (!length && !with_shots)
        return fail(reader, at, ERR_USAGE,
                    "the video has no length; give seconds (or frames), here or in defaults");
    if (with_shots && sum > LIMIT_SECONDS)
        return fail(reader, with_shots->shots_at, ERR_LIMIT,
                    "shots: they add up to %g seconds; at most %d", sum, LIMIT_SECONDS);
    if (with_shots && shots_layer < length_layer) {
        video->frames = frames_at(sum, &video->output);
    } else if (length->seconds.set) {
        video->frames = frames_at(length->seconds.value, &video->output);
        if (with_shots && fabs(sum - length->seconds.value) > 1e-6 * (1 + sum))
            return fail(reader, with_shots->shots_at, ERR_USAGE,
                        "shots: they add up to %g seconds, but the video has %g", sum,
                        length->seconds.value);
    } else {
        video->frames = length->frames.value;
        int64_t frames = frames_at(sum, &video->output);
        if (with_shots && frames != video->frames)
            return fail(reader, with_shots->shots_at, ERR_USAGE,
                        "shots: they add up to %g seconds (%lld frames), but the video has %lld "
                        "frames",
                        sum, (long long)frames, (long long)video->frames);
    }
    struct place where = length && length->seconds.set  ? length->seconds.at
                         : length && length->frames.set ? length->frames.at
                                                        : at;
    if (video->frames < 1)
        return fail(reader, where, ERR_USAGE,
                    "seconds: that is less than one frame at %g frames a second",
                    (double)video->output.fps_numerator / video->output.fps_denominator);
    const struct model_facts *facts = &reader->job->window.facts;
    int64_t windows = plan_windows(video->frames, facts->window_frames, plan_overlap(facts));
    if (windows > 1 && !plan_overlap(facts))
        return fail(reader, where, ERR_UNSUPPORTED,
                    "model: %s makes single windows of %d frames and cannot go on from one; the "
                    "video has %lld frames",
                    reader->job->window.spec, facts->window_frames, (long long)video->frames);
    if (windows > LIMIT_WINDOWS)
        return fail(reader, where, ERR_LIMIT,
                    "seconds: the video would take %lld windows of model %s; at most %d (%lld "
                    "frames)",
                    (long long)windows, reader->job->window.spec, LIMIT_WINDOWS,
                    (long long)LIMIT_WINDOWS * (facts->window_frames - plan_overlap(facts)) +
                        plan_overlap(facts));

    struct text prompt = {0}, motion = {0};
    NEAREST(prompt, layers, prompt, .text);
    NEAREST(motion, layers, motion, .text);
    int count = with_shots ? with_shots->shot_count : 1;
    struct job_shot *shots = arena_array(&reader->job->arena, (size_t)count, sizeof *shots);
    const char *scene = prompt.text ? keep(reader, prompt.text) : "";
    const char *moves = motion.text ? keep(reader, motion.text) : "";
    if (!shots || !scene || !moves)
        return no_memory(reader);
    int64_t before = 0;
    double seconds = 0;
    for (int i = 0; i < count; i++) {
        const struct shot *given = with_shots ? &with_shots->shots[i] : NULL;
        if (given)
            seconds += given->seconds;
        int64_t end = i + 1 == count ? video->frames : frames_at(seconds, &video->output);
        shots[i].frames = end - before;
        before = end;
        shots[i].prompt = given && given->prompt.text ? keep(reader, given->prompt.text) : scene;
        shots[i].motion = given && given->motion.text ? keep(reader, given->motion.text) : moves;
        if (!shots[i].prompt || !shots[i].motion)
            return no_memory(reader);
        if (!*shots[i].prompt)
            return fail(reader, at, ERR_USAGE, "the video has no prompt");
        if (shots[i].frames < 1)
            return fail(reader, with_shots->shots_at, ERR_USAGE,
                        "shots: shot %d lasts less than one frame", i + 1);
    }
    video->shots = shots;
    video->shot_count = count;
    return ERR_OK;
}

static enum error_code add_one(struct reader *reader, const struct job_video *video,
                               struct place at, const struct text *path,
                               const struct integer *codec) {
    if (reader->count == LIMIT_VIDEOS)
        return fail(reader, at, ERR_LIMIT, "more than %d videos in one job", LIMIT_VIDEOS);
    if (reader->count == reader->capacity) {
        int capacity = reader->capacity ? 2 * reader->capacity : 64;
        struct job_video *videos = realloc(reader->videos, (size_t)capacity * sizeof *videos);
        if (videos)
            reader->videos = videos;
        struct place *places = realloc(reader->places, (size_t)capacity * sizeof *places);
        if (places)
            reader->places = places;
        if (!videos || !places)
            return no_memory(reader);
        reader->capacity = capacity;
    }
    char filled[LIMIT_PATH_BYTES] = "";
    struct job_video *put = &reader->videos[reader->count];
    *put = *video;
    reader->places[reader->count] = at;
    enum error_code code = fill_path(reader, filled, path, video->name, video->seed);
    if (code)
        return code;
    put->output.path = keep(reader, filled);
    if (!put->output.path)
        return no_memory(reader);
    code = choose_container(reader, &put->output, codec, path);
    if (code)
        return code;
    uint32_t there = UINT32_MAX;
    code = name_set_add(reader, &reader->names, get_video_name, put->name, (uint32_t)reader->count,
                        &there);
    if (code)
        return code;
    if (there != UINT32_MAX) {
        struct place other = reader->places[there];
        return fail(reader, at, ERR_USAGE, "two videos are called \"%s\"; the other is at %s:%d:%d",
                    put->name, other.file, other.line, other.column);
    }
    code = name_set_add(reader, &reader->paths, get_video_path, filled, (uint32_t)reader->count,
                        &there);
    if (code)
        return code;
    if (there != UINT32_MAX)
        return fail(reader, path->at, ERR_USAGE,
                    "path: videos \"%s\" and \"%s\" would both be written to %s; put {video} into "
                    "the path",
                    reader->videos[there].name, put->name, filled);
    reader->count++;
    return ERR_OK;
}

/* A mux lease carries all texts of a video. Measured once an entry: its seeds differ by names and
 * numbers alone, for which the bound leaves room. */
static enum error_code check_provenance(struct reader *reader, const struct job_video *video,
                                        const char *name, struct place at) {
    struct job_video measured = *video;
    struct job_file image;
    struct buffer text = {0};
    measured.name = name;
    if (video->image) { /* an index until `finish` */
        image = reader->files[(uintptr_t)video->image - 1];
        measured.image = &image;
    }
    plan_mux_body(&text, reader->job, &measured);
    size_t length = text.length;
    bool failed = text.failed;
    buffer_close(&text);
    if (failed)
        return no_memory(reader);
    if (length > LIMIT_PARAMETERS_BYTES)
        return fail(reader, at, ERR_LIMIT,
                    "%sthe texts that the finished file names take %zu bytes; at most %u: shorten "
                    "them, or make several videos of it",
                    video->shot_count > 1 ? "shots: " : "", length, LIMIT_PARAMETERS_BYTES);
    return ERR_OK;
}

/* One entry, with its layers from near to far, as one video for each of its seeds. */
static enum error_code add_video(struct reader *reader, const struct settings *const *layers,
                                 const char *name) {
    struct job *job = reader->job;
    const struct settings *own = layers[0];
    struct place at = own->name.text ? own->name.at : own->at;
    struct job_video video = {0};
    enum error_code code;

    struct integer width = {0}, height = {0}, numerator = {0}, denominator = {0}, codec = {0},
                   quality = {0}, overwrite = {0};
    struct text path = {0}, image = {0}, negative = {0};
    struct number noise = {0};
    NEAREST(width, layers, width, .set);
    NEAREST(height, layers, height, .set);
    NEAREST(numerator, layers, fps_numerator, .set);
    NEAREST(denominator, layers, fps_denominator, .set);
    NEAREST(codec, layers, codec, .set);
    NEAREST(quality, layers, quality, .set);
    NEAREST(overwrite, layers, overwrite, .set);
    NEAREST(path, layers, path, .text);
    NEAREST(image, layers, image, .text);
    NEAREST(negative, layers, negative, .text);
    NEAREST(noise, layers, noise, .set);

    video.output.width = width.set ? (int)width.value : job->window.facts.width;
    video.output.height = height.set ? (int)height.value : job->window.facts.height;
    video.output.fps_numerator = numerator.set ? (int)numerator.value : job->window.facts.fps;
    video.output.fps_denominator = denominator.set ? (int)denominator.value : 1;
    video.output.quality = quality.set ? (int)quality.value : -1;
    video.output.overwrite = overwrite.set && overwrite.value;
    video.noise = noise.value;
    if (!path.text) {
        static const char *const paths[JOB_CODEC_COUNT] = {
            [JOB_CODEC_H264] = "out/{job}-{video}.mp4",
            [JOB_CODEC_HEVC] = "out/{job}-{video}.mp4",
            [JOB_CODEC_AV1] = "out/{job}-{video}.mp4",
            [JOB_CODEC_VP9] = "out/{job}-{video}.webm",
            [JOB_CODEC_FFV1] = "out/{job}-{video}.mkv",
            [JOB_CODEC_PRORES] = "out/{job}-{video}.mov",
            [JOB_CODEC_PNG] = "out/{job}-{video}"};
        path.text = paths[codec.set ? codec.value : JOB_CODEC_H264];
        path.at = at;
    }

    struct place size_at = width.set ? width.at : at;
    code = check_size(reader, &job->window, &video.output, size_at);
    if (code)
        return code;
    if (image.text) {
        code = find_image(reader, &video, &image);
    } else {
        code = check_ability(reader, &job->keyframe, at,
                             MODEL_CAN_KEYFRAME | MODEL_CAN_TEXT | MODEL_CAN_VAE,
                             "make a keyframe; give the videos an image, or name a model that can");
        if (!code)
            code = check_size(reader, &job->keyframe, &video.output, size_at);
    }
    if (code)
        return code;
    code = fill_length(reader, &video, layers, at);
    if (code)
        return code;
    fill_sampling(&video.keyframe, &job->keyframe.facts, layers);
    fill_sampling(&video.window, &job->window.facts, layers);
    video.negative = negative.text ? keep(reader, negative.text) : "";
    if (!video.negative)
        return no_memory(reader);

    struct place texts_at = at;
    for (int i = LAYERS; i-- > 0;)
        if (layers[i] && layers[i]->shots)
            texts_at = layers[i]->shots_at;
    code = check_provenance(reader, &video, name, texts_at);
    if (code)
        return code;

    const struct settings *seeded = NULL;
    for (int i = 0; i < LAYERS && !seeded; i++)
        if (layers[i] && (layers[i]->seed.set || layers[i]->seeds))
            seeded = layers[i];
    if (!seeded || seeded->seed.set) {
        video.seed = seeded ? (uint64_t)seeded->seed.value : 0;
        video.name = keep(reader, name);
        return video.name ? add_one(reader, &video, at, &path, &codec) : no_memory(reader);
    }
    for (int i = 0; i < seeded->seed_ranges; i++)
        for (int64_t seed = seeded->seeds[i].first;; seed++) {
            char with_seed[LIMIT_NAME_BYTES + 32];
            snprintf(with_seed, sizeof with_seed, "%s-s%lld", name, (long long)seed);
            if (strlen(with_seed) > LIMIT_NAME_BYTES)
                return fail(reader, at, ERR_LIMIT, "name: \"%s\" has more than %d bytes", with_seed,
                            LIMIT_NAME_BYTES);
            video.seed = (uint64_t)seed;
            video.name = keep(reader, with_seed);
            if (!video.name)
                return no_memory(reader);
            code = add_one(reader, &video, at, &path, &codec);
            if (code)
                return code;
            if (seed == seeded->seeds[i].last)
                break;
        }
    return ERR_OK;
}

/* -- videos ----------------------------------------------------------------------------------- */

static enum error_code add_row(void *user, const struct yaml *row, bool typed,
                               struct error *error) {
    struct reader *reader = user;
    struct settings own = {0};
    char name[LIMIT_NAME_BYTES + 32];
    reader->typed = typed;
    enum error_code code = check_keys(reader, row, keys_video, "a video");
    if (!code)
        code = read_settings(reader, &own, row);
    if (code)
        return code;
    const struct settings *entry = reader->list_layer;
    reader->list_rows++;
    if (own.name.text)
        snprintf(name, sizeof name, "%s", own.name.text);
    else if (entry->name.text)
        snprintf(name, sizeof name, "%s-%03d", entry->name.text, reader->list_rows);
    else
        snprintf(name, sizeof name, "video-%03d", reader->count + 1);
    if (strlen(name) > LIMIT_NAME_BYTES)
        return fail(reader, own.at, ERR_LIMIT, "name: \"%s\" has more than %d bytes", name,
                    LIMIT_NAME_BYTES);
    const struct settings *layers[LAYERS] = {&own, entry, &reader->defaults, &reader->top_output};
    return add_video(reader, layers, name);
}

/* {file: prompts.csv, …overrides} */
static enum error_code add_list(struct reader *reader, const struct yaml *node) {
    struct settings entry = {0};
    struct text name = {0};
    enum error_code code = check_keys(reader, node, keys_file, "an entry with a prompt list");
    if (!code)
        code = read_file_name(reader, &name, yaml_get(node, "file"), "the name of a prompt list");
    if (!code)
        code = read_settings(reader, &entry, node);
    if (code)
        return code;
    if (++reader->lists > LIMIT_PROMPT_FILES)
        return fail(reader, name.at, ERR_LIMIT, "file: more than %d prompt lists",
                    LIMIT_PROMPT_FILES);
    if (!reader->resolver->read_file)
        return fail(reader, name.at, ERR_UNSUPPORTED, "file: prompt lists cannot be read here");
    char *text = NULL;
    size_t length = 0, mark = reader->scratch.used;
    code = reader->resolver->read_file(reader->resolver->user, &text, &length, &reader->scratch,
                                       name.text, LIMIT_PROMPT_FILE_BYTES, reader->error);
    if (code)
        return error_prefix(reader->error, "%s:%d:%d: file: ", name.at.file, name.at.line,
                            name.at.column);
    const char *job_file = reader->file;
    bool typed = reader->typed;
    int before = reader->count;
    /* Errors of later entries may name a place in the list, so its name is kept. */
    const char *list_file = keep(reader, name.text);
    if (!list_file)
        return no_memory(reader);
    reader->file = list_file;
    reader->list_layer = &entry;
    reader->list_rows = 0;
    code = job_list_read(reader->file, text, length, keys_csv, &reader->scratch, add_row, reader,
                         reader->error);
    reader->file = job_file;
    reader->typed = typed;
    reader->list_layer = NULL;
    if (!code && reader->count == before)
        code = fail(reader, name.at, ERR_USAGE, "file: there is no prompt in %s", name.text);
    arena_reset(&reader->scratch, mark);
    return code;
}

static enum error_code add_entry(struct reader *reader, const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return wrong(reader, node, ERR_USAGE, "a video, e.g. {name: a, prompt: a red balloon}");
    if (yaml_get(node, "file"))
        return add_list(reader, node);
    struct settings own = {0};
    char name[LIMIT_NAME_BYTES + 32];
    size_t mark = reader->scratch.used;
    enum error_code code = check_keys(reader, node, keys_video, "a video");
    if (!code)
        code = read_settings(reader, &own, node);
    if (code)
        return code;
    if (own.name.text)
        snprintf(name, sizeof name, "%s", own.name.text);
    else
        snprintf(name, sizeof name, "video-%03d", reader->count + 1);
    const struct settings *layers[LAYERS] = {&own, NULL, &reader->defaults, &reader->top_output};
    code = add_video(reader, layers, name);
    arena_reset(&reader->scratch, mark);
    return code;
}

static enum error_code read_one_model(struct reader *reader, struct job_model *out,
                                      const struct yaml *node) {
    struct text spec = {0};
    enum error_code code =
        read_file_name(reader, &spec, node, "a model: a name under models/, or a path");
    if (code)
        return code;
    out->spec = keep(reader, spec.text);
    if (!out->spec)
        return no_memory(reader);
    code =
        reader->resolver->read_model(reader->resolver->user, &out->facts, spec.text, reader->error);
    return code ? error_prefix(reader->error, "%s:%d:%d: model: ", spec.at.file, spec.at.line,
                               spec.at.column)
                : ERR_OK;
}

static enum error_code read_models(struct reader *reader, const struct yaml *node) {
    struct job *job = reader->job;
    enum error_code code;
    const struct yaml *window = node;
    if (node->type == YAML_MAPPING) {
        code = check_keys(reader, node, keys_model, "model");
        if (code)
            return code;
        window = yaml_get(node, "window");
        const struct yaml *keyframe = yaml_get(node, "keyframe");
        if (!window)
            return fail(reader, place_of(reader, node), ERR_USAGE,
                        "model: expected {keyframe: …, window: …}, found no window");
        if (keyframe) {
            code = read_one_model(reader, &job->keyframe, keyframe);
            if (code)
                return code;
        }
    } else if (node->type == YAML_SEQUENCE) {
        return wrong(reader, node, ERR_USAGE,
                     "a model: a name under models/, a path, or {keyframe: …, window: …}");
    }
    code = read_one_model(reader, &job->window, window);
    if (code)
        return code;
    if (!job->keyframe.spec)
        job->keyframe = job->window;
    const struct model_facts *facts = &job->window.facts;
    code = check_ability(reader, &job->window, place_of(reader, window), MODEL_CAN_WINDOW,
                         "make windows (image to video)");
    if (!code)
        code = check_ability(reader, &job->window, place_of(reader, window),
                             MODEL_CAN_TEXT | MODEL_CAN_VAE, "read text and decode by itself");
    if (!code && (facts->window_frames < 1 || facts->fps < 1 || facts->size_max < facts->size_min))
        code = fail(reader, place_of(reader, window), ERR_UNSUPPORTED,
                    "model: %s does not say what it can make", job->window.spec);
    return code;
}

static enum error_code read_top(struct reader *reader, const struct yaml *top, const char *name) {
    struct job *job = reader->job;
    struct place start = {reader->file, 1, 1};
    if (top->type != YAML_MAPPING)
        return fail(reader, place_of(reader, top), ERR_USAGE,
                    "expected a job: a mapping with the keys job, model, output, defaults, videos");
    enum error_code code = check_keys(reader, top, keys_top, "a job");
    if (code)
        return code;
    const struct yaml *node = yaml_get(top, "job");
    struct text job_name = {0};
    if (node) {
        code = read_name(reader, &job_name, node);
        if (code || !job_name.text)
            return code;
        job->name = keep(reader, job_name.text);
    } else {
        /* The file's name without folders and extension; what does not fit a name is '-'. */
        const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        char made[LIMIT_NAME_BYTES + 1];
        size_t length = strcspn(base, ".");
        if (length >= sizeof made)
            length = sizeof made - 1;
        for (size_t i = 0; i < length; i++)
            made[i] =
                strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", base[i])
                    ? base[i]
                    : '-';
        made[length] = '\0';
        job->name = keep(reader, file_name_is_plain(made) ? made : "job");
    }
    if (!job->name)
        return no_memory(reader);
    node = yaml_get(top, "model");
    if (!node)
        return fail(reader, start, ERR_USAGE,
                    "the job names no model; expected e.g. model: pocket");
    code = read_models(reader, node);
    if (!code && (node = yaml_get(top, "output")))
        code = read_output(reader, &reader->top_output, node);
    if (!code && (node = yaml_get(top, "defaults"))) {
        if (node->type != YAML_MAPPING)
            return wrong(reader, node, ERR_USAGE, "a mapping, e.g. {seconds: 10, seed: 1}");
        code = check_keys(reader, node, keys_defaults, "defaults");
        if (!code)
            code = read_settings(reader, &reader->defaults, node);
    }
    if (code)
        return code;
    node = yaml_get(top, "videos");
    if (!node)
        return fail(reader, start, ERR_USAGE,
                    "the job has no videos; expected a list, or {file: prompts.txt}");
    if (node->type == YAML_MAPPING) {
        if (!yaml_get(node, "file"))
            return wrong(reader, node, ERR_USAGE,
                         "a list of videos (each starting with \"- \"), or {file: prompts.txt}");
        return add_list(reader, node);
    }
    if (node->type != YAML_SEQUENCE || !node->length)
        return wrong(reader, node, ERR_USAGE, "a list of videos, or {file: prompts.txt}");
    for (const struct yaml *child = node->child; child && !code; child = child->next)
        code = add_entry(reader, child);
    return code;
}

/* Videos and images move into the arena; indices of images become addresses. */
static enum error_code finish(struct reader *reader) {
    struct job *job = reader->job;
    size_t count = (size_t)reader->count;
    struct job_video *videos = arena_array(&job->arena, count, sizeof *videos);
    struct job_file *files = arena_array(&job->arena, (size_t)reader->file_count, sizeof *files);
    if (!videos || !files)
        return no_memory(reader);
    memcpy(videos, reader->videos, count * sizeof *videos);
    if (reader->file_count)
        memcpy(files, reader->files, (size_t)reader->file_count * sizeof *files);
    for (size_t i = 0; i < count; i++)
        if (videos[i].image)
            videos[i].image = &files[(uintptr_t)videos[i].image - 1];
    job->videos = videos;
    job->video_count = reader->count;
    return ERR_OK;
}

enum error_code job_parse(struct job **out, const char *name, const char *text, size_t length,
                          const struct job_resolver *resolver, struct error *error) {
    *out = NULL;
    struct reader reader = {.file = name, .typed = true, .resolver = resolver, .error = error};
    reader.job = calloc(1, sizeof *reader.job);
    if (!reader.job)
        return error_set(error, ERR_MEMORY, "%s: no memory", name);
    enum error_code code = arena_open(&reader.job->arena, LIMIT_JOB_BYTES, error);
    if (!code)
        code = arena_open(&reader.scratch, 2 * LIMIT_JOB_BYTES, error);
    const struct yaml *top = NULL;
    if (!code) {
        reader.file = keep(&reader, name); /* places outlive the caller's name */
        if (!reader.file)
            code = error_set(error, ERR_MEMORY, "%s: no memory", name);
    }
    if (!code)
        code = yaml_parse(&top, &reader.scratch, name, text, length, error);
    if (!code && !top)
        code = error_set(error, ERR_USAGE, "%s:1:1: the file is empty; expected a job", name);
    if (!code && top)
        code = read_top(&reader, top, name);
    if (!code)
        code = finish(&reader);
    free(reader.videos);
    free(reader.places);
    free(reader.files);
    free(reader.file_names);
    free(reader.names.slots);
    free(reader.paths.slots);
    free(reader.images.slots);
    arena_close(&reader.scratch);
    if (code) {
        job_close(&reader.job);
        return code;
    }
    *out = reader.job;
    return ERR_OK;
}

void job_close(struct job **job) {
    if (!*job)
        return;
    arena_close(&(*job)->arena);
    free(*job);
    *job = NULL;
}
