/* One value of the job file. */
#include "coordinator/job_reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

enum error_code job_read_integer(struct reader *reader, struct setting *out,
                                 const struct yaml *node, int64_t least, int64_t most,
                                 const char *what) {
    char expected[160];
    snprintf(expected, sizeof expected, "%s, a whole number from %lld to %lld", what,
             (long long)least, (long long)most);
    int64_t value;
    if (node->type != YAML_SCALAR || node->quoted || !text_to_int(node->text, &value))
        return job_wrong(reader, node, ERR_USAGE, expected);
    if (value < least || value > most)
        return job_wrong(reader, node, ERR_LIMIT, expected);
    *out = (struct setting){.set = true, .integer = value, .at = job_place(reader, node)};
    return ERR_OK;
}

enum error_code job_read_number(struct reader *reader, struct setting *out, const struct yaml *node,
                                double least, bool above, double most, const char *what) {
    char expected[160];
    snprintf(expected, sizeof expected, "%s, a number %s %g, at most %g", what,
             above ? "above" : "of at least", least, most);
    double value;
    if (node->type != YAML_SCALAR || node->quoted || !text_to_double(node->text, &value) ||
        !isfinite(value))
        return job_wrong(reader, node, ERR_USAGE, expected);
    if (value < least || (above && value <= least) || value > most)
        return job_wrong(reader, node, ERR_LIMIT, expected);
    *out = (struct setting){.set = true, .number = value, .at = job_place(reader, node)};
    return ERR_OK;
}

enum error_code job_read_word(struct reader *reader, struct setting *out, const struct yaml *node,
                              enum job_words words, const char *what) {
    const char *const *list = job_words(words);
    if (node->type == YAML_SCALAR)
        for (int i = 0; list[i]; i++)
            if (!strcmp(list[i], node->text)) {
                *out = (struct setting){.set = true, .integer = i, .at = job_place(reader, node)};
                return ERR_OK;
            }
    char expected[256];
    int used = snprintf(expected, sizeof expected, "%s, one of ", what);
    for (int i = 0; list[i] && used < (int)sizeof expected; i++)
        used += snprintf(expected + used, sizeof expected - (size_t)used, "%s%s", i ? ", " : "",
                         list[i]);
    const char *near =
        node->type == YAML_SCALAR && node->length ? text_nearest(node->text, list) : NULL;
    if (near) {
        char found[96];
        return job_fail(reader, job_place(reader, node), ERR_USAGE,
                        "%s: expected %s, found %s; did you mean \"%s\"?", node->key, expected,
                        job_describe(found, node), near);
    }
    return job_wrong(reader, node, ERR_USAGE, expected);
}

enum error_code job_read_flag(struct reader *reader, struct setting *out, const struct yaml *node) {
    bool yes = node->type == YAML_SCALAR && !node->quoted && !strcmp(node->text, "true");
    bool no = node->type == YAML_SCALAR && !node->quoted && !strcmp(node->text, "false");
    if (!yes && !no)
        return job_wrong(reader, node, ERR_USAGE, "true or false");
    *out = (struct setting){.set = true, .integer = yes, .at = job_place(reader, node)};
    return ERR_OK;
}

/* Prompts and the like. `empty`: whether "" is one. Space around is taken off. */
enum error_code job_read_text(struct reader *reader, struct setting *out, const struct yaml *node,
                              bool empty) {
    if (node->type != YAML_SCALAR || (!node->quoted && !node->length && !(empty && !reader->typed)))
        return job_wrong(reader, node, ERR_USAGE, "text");
    double number;
    if (reader->typed && !node->quoted &&
        (text_to_double(node->text, &number) || !strcmp(node->text, "true") ||
         !strcmp(node->text, "false") || !strcmp(node->text, "null") || !strcmp(node->text, "~")))
        return job_wrong(reader, node, ERR_USAGE, "text (put it in quotes if it is meant as one)");
    size_t where, from = 0, to = node->length;
    if (!text_is_utf8(node->text, node->length, &where))
        return job_fail(reader, job_place(reader, node), ERR_USAGE,
                        "%s: byte %zu is not UTF-8 text", node->key, where + 1);
    while (from < to && strchr(" \t\r\n", node->text[from]))
        from++;
    while (to > from && strchr(" \t\r\n", node->text[to - 1]))
        to--;
    if (to - from > LIMIT_PROMPT_BYTES)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "%s: a text of %zu bytes; at most %d", node->key, to - from,
                        LIMIT_PROMPT_BYTES);
    if (from == to && !empty)
        return job_wrong(reader, node, ERR_USAGE, "text that is not empty");
    const char *text = arena_strdup(&reader->scratch, node->text + from, to - from);
    *out = (struct setting){.set = true, .text = text, .at = job_place(reader, node)};
    return text ? ERR_OK : job_no_memory(reader);
}

enum error_code job_read_name(struct reader *reader, struct setting *out, const struct yaml *node) {
    if (node->type != YAML_SCALAR || !file_name_is_plain(node->text))
        return job_wrong(
            reader, node, ERR_USAGE,
            "a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that does not start "
            "with '.' or '-'");
    *out = (struct setting){.set = true, .text = node->text, .at = job_place(reader, node)};
    return ERR_OK;
}

/* The name of a file or model. */
enum error_code job_read_file_name(struct reader *reader, struct setting *out,
                                   const struct yaml *node, const char *expected) {
    if (node->type != YAML_SCALAR || !node->length)
        return job_wrong(reader, node, ERR_USAGE, expected);
    if (node->length >= LIMIT_PATH_BYTES)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "%s: a name of %zu bytes; at most %d", node->key, node->length,
                        LIMIT_PATH_BYTES - 1);
    for (size_t i = 0; i < node->length; i++)
        if ((unsigned char)node->text[i] < ' ')
            return job_wrong(reader, node, ERR_USAGE, "a name without control characters");
    *out = (struct setting){.set = true, .text = node->text, .at = job_place(reader, node)};
    return ERR_OK;
}

/* -- pairs ------------------------------------------------------------------------------------ */

/* "1..8", "160x96", "30000/1001": two whole numbers around a mark. */
static bool read_pair(int64_t *left, int64_t *right, const char *text, const char *mark) {
    char first[24];
    const char *at = strstr(text, mark);
    if (!at || (size_t)(at - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(at - text));
    first[at - text] = '\0';
    return text_to_int(first, left) && text_to_int(at + strlen(mark), right);
}

static const char seed_expected[] =
    "a seed (0 to 9223372036854775807), a range as 1..8, or a list of those";

static enum error_code read_seed_item(struct reader *reader, struct seed_range *out,
                                      const struct yaml *node, const char *key) {
    char found[96];
    int64_t first = -1, last = -1;
    /* A range may be in quotes: in JSON it has to be. */
    if (node->type == YAML_SCALAR && !read_pair(&first, &last, node->text, "..") && !node->quoted)
        first = last = text_to_int(node->text, &first) ? first : -1;
    if (first < 0 || last < 0)
        return job_fail(reader, job_place(reader, node), ERR_USAGE, "%s: expected %s, found %s",
                        key, seed_expected, job_describe(found, node));
    if (last < first)
        return job_fail(reader, job_place(reader, node), ERR_USAGE,
                        "%s: the range %s ends before it begins; write %lld..%lld", key, node->text,
                        (long long)last, (long long)first);
    if (last - first >= LIMIT_VIDEOS)
        return job_fail(
            reader, job_place(reader, node), ERR_LIMIT,
            "%s: the range %s has more than %d seeds, the most videos that a job may have", key,
            node->text, LIMIT_VIDEOS);
    *out = (struct seed_range){first, last, job_place(reader, node)};
    return ERR_OK;
}

static int compare_ranges(const void *a, const void *b) {
    const struct seed_range *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

enum error_code job_read_seeds(struct reader *reader, struct settings *out,
                               const struct yaml *node) {
    int count = node->type == YAML_SEQUENCE ? (int)node->length : 1;
    if (node->type == YAML_MAPPING || count == 0)
        return job_wrong(reader, node, ERR_USAGE, seed_expected);
    if (count > LIMIT_VIDEOS)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "seeds: a list of %d; at most %d", count, LIMIT_VIDEOS);
    struct seed_range *ranges = arena_array(&reader->scratch, (size_t)count, sizeof *ranges);
    struct seed_range *sorted = arena_array(&reader->scratch, (size_t)count, sizeof *sorted);
    if (!ranges || !sorted)
        return job_no_memory(reader);
    int64_t total = 0;
    const struct yaml *item = node->type == YAML_SEQUENCE ? node->child : node;
    for (int i = 0; i < count; i++, item = item->next) {
        enum error_code code = read_seed_item(reader, &ranges[i], item, "seeds");
        if (code)
            return code;
        total += ranges[i].last - ranges[i].first + 1;
    }
    if (total > LIMIT_VIDEOS)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "seeds: %lld seeds, more than the %d videos that a job may have",
                        (long long)total, LIMIT_VIDEOS);
    memcpy(sorted, ranges, (size_t)count * sizeof *ranges);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_ranges);
    for (int i = 1; i < count; i++)
        if (sorted[i].first <= sorted[i - 1].last)
            return job_fail(reader, sorted[i].at, ERR_USAGE, "seeds: seed %lld is there twice",
                            (long long)sorted[i].first);
    out->seeds = ranges;
    out->seed_ranges = count;
    out->seeds_at = job_place_of_key(reader, node);
    return ERR_OK;
}

enum error_code job_read_size(struct reader *reader, struct settings *out,
                              const struct yaml *node) {
    int64_t width, height;
    bool is_size;
    if (node->type == YAML_SEQUENCE && node->length == 2) {
        const struct yaml *first = node->child, *second = node->child->next;
        is_size = first->type == YAML_SCALAR && second->type == YAML_SCALAR && !first->quoted &&
                  !second->quoted && text_to_int(first->text, &width) &&
                  text_to_int(second->text, &height);
    } else {
        is_size = node->type == YAML_SCALAR && read_pair(&width, &height, node->text, "x");
    }
    if (!is_size)
        return job_wrong(reader, node, ERR_USAGE, "a size in pixels, as 160x96 or [160, 96]");
    if (width < 1 || height < 1 || width > LIMIT_SIDE || height > LIMIT_SIDE)
        return job_fail(reader, job_place(reader, node), ERR_LIMIT,
                        "size: sides are from 1 to %d pixels, found %lldx%lld", LIMIT_SIDE,
                        (long long)width, (long long)height);
    struct place at = job_place(reader, node);
    out->width = (struct setting){.set = true, .integer = width, .at = at};
    out->height = (struct setting){.set = true, .integer = height, .at = at};
    return ERR_OK;
}

enum error_code job_read_windows(struct reader *reader, struct settings *out,
                                 const struct yaml *node) {
    static const char overlap[] = "overlap ";
    int64_t frames = 0;
    enum job_windows rule = JOB_WINDOWS_MODEL;
    const char *text = node->type == YAML_SCALAR ? node->text : "";
    if (!strcmp(text, "last_frame"))
        rule = JOB_WINDOWS_LAST_FRAME;
    else if (!strcmp(text, "prefix"))
        rule = JOB_WINDOWS_PREFIX;
    else if (!strncmp(text, overlap, sizeof overlap - 1) &&
             text_to_int(text + sizeof overlap - 1, &frames) && frames > 0 && frames < LIMIT_FRAMES)
        rule = JOB_WINDOWS_OVERLAP;
    else
        return job_wrong(reader, node, ERR_USAGE,
                         "how windows go on: last_frame, overlap N (a number of frames) or prefix");
    struct place at = job_place(reader, node);
    out->windows = (struct setting){.set = true, .integer = rule, .at = at};
    out->overlap = (struct setting){.set = true, .integer = frames, .at = at};
    return ERR_OK;
}

/* A decimal as thousandths; false when it is not one. */
static bool read_thousandths(int64_t *out, const char *text) {
    double value;
    if (!text_to_double(text, &value) || !isfinite(value))
        return false;
    *out = 0; /* out of range */
    if (value <= 0 || value > LIMIT_FPS)
        return true;
    *out = llround(value * 1000);
    return fabs((double)*out - value * 1000) <= 1e-6;
}

enum error_code job_read_fps(struct reader *reader, struct settings *out, const struct yaml *node) {
    static const char expected[] = "frames a second from 1 to 240, as 16, 12.5 or 30000/1001";
    int64_t numerator = 0, denominator = 1000;
    bool fraction = node->type == YAML_SCALAR && strchr(node->text, '/');
    if (node->type != YAML_SCALAR || (node->quoted && !fraction) ||
        !(fraction ? read_pair(&numerator, &denominator, node->text, "/")
                   : read_thousandths(&numerator, node->text)))
        return job_wrong(reader, node, ERR_USAGE, expected);
    if (denominator < 1 || denominator > 1000000 || numerator < denominator ||
        numerator > denominator * LIMIT_FPS)
        return job_wrong(reader, node, ERR_LIMIT, expected);
    int64_t a = numerator, b = denominator;
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    struct place at = job_place(reader, node);
    if (denominator / a > LIMIT_FPS_DENOMINATOR)
        return job_fail(reader, at, ERR_LIMIT, "fps: a fraction of 1/%lld; at most 1/%d",
                        (long long)(denominator / a), LIMIT_FPS_DENOMINATOR);
    out->fps_numerator = (struct setting){.set = true, .integer = numerator / a, .at = at};
    out->fps_denominator = (struct setting){.set = true, .integer = denominator / a, .at = at};
    return ERR_OK;
}
