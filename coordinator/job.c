/* The job reader, from the top: see job_reader.h for its parts. */
#include "coordinator/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "coordinator/job_list.h"
#include "coordinator/job_reader.h"

/* -- entries ---------------------------------------------------------------------------------- */

enum { NAME_ROOM = LIMIT_NAME_BYTES + 32 }; /* for a name with a number put to it */

static enum error_code add_row(void *user, const struct yaml *row, bool typed,
                               struct error *error) {
    struct reader *reader = user;
    const struct settings *entry = reader->list_layer;
    struct settings own = {0};
    char name[NAME_ROOM];
    reader->typed = typed;
    enum error_code code = job_check_keys(reader, row, JOB_KEYS_VIDEO, "a video");
    if (!code)
        code = job_read_settings(reader, &own, row);
    if (code)
        return code;
    reader->list_rows++;
    if (own.name.set)
        snprintf(name, sizeof name, "%s", own.name.text);
    else if (entry->name.set)
        snprintf(name, sizeof name, "%s-%03d", entry->name.text, reader->list_rows);
    else
        snprintf(name, sizeof name, "video-%03d", reader->count + 1);
    return job_add_video(reader, &own, entry, name);
}

/* The rows of a prompt list, with `entry` as the layer behind each. */
static enum error_code add_rows(struct reader *reader, const struct settings *entry,
                                const struct setting *name, const char *text, size_t length) {
    const char *job_file = reader->file;
    bool typed = reader->typed;
    int before = reader->count;
    /* Errors of later entries may name a place in the list, so its name is kept. */
    reader->file = job_keep(reader, name->text);
    reader->list_layer = entry;
    reader->list_rows = 0;
    enum error_code code = reader->file
                               ? job_list_read(reader->file, text, length, job_words(JOB_KEYS_CSV),
                                               &reader->scratch, add_row, reader, reader->error)
                               : ERR_MEMORY;
    reader->file = job_file;
    reader->typed = typed;
    reader->list_layer = NULL;
    if (code == ERR_MEMORY)
        return job_no_memory(reader);
    if (!code && reader->count == before)
        return job_fail(reader, name->at, ERR_USAGE, "file: there is no prompt in %s", name->text);
    return code;
}

/* {file: prompts.csv, …overrides} */
static enum error_code add_list(struct reader *reader, const struct yaml *node) {
    struct settings entry = {0};
    struct setting name = {0};
    enum error_code code =
        job_check_keys(reader, node, JOB_KEYS_FILE, "an entry with a prompt list");
    if (!code)
        code =
            job_read_file_name(reader, &name, yaml_get(node, "file"), "the name of a prompt list");
    if (!code)
        code = job_read_settings(reader, &entry, node);
    if (code)
        return code;
    if (++reader->lists > LIMIT_PROMPT_FILES)
        return job_fail(reader, name.at, ERR_LIMIT, "file: more than %d prompt lists",
                        LIMIT_PROMPT_FILES);
    if (!reader->resolver->read_file)
        return job_fail(reader, name.at, ERR_UNSUPPORTED, "file: prompt lists cannot be read here");
    char *text = NULL;
    size_t length = 0, mark = reader->scratch.used;
    code = reader->resolver->read_file(reader->resolver->user, &text, &length, &reader->scratch,
                                       name.text, LIMIT_PROMPT_FILE_BYTES, reader->error);
    if (code)
        return error_prefix(reader->error, "%s:%d:%d: file: ", name.at.file, name.at.line,
                            name.at.column);
    code = add_rows(reader, &entry, &name, text, length);
    arena_reset(&reader->scratch, mark);
    return code;
}

static enum error_code add_entry(struct reader *reader, const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE, "a video, e.g. {name: a, prompt: a red balloon}");
    if (yaml_get(node, "file"))
        return add_list(reader, node);
    struct settings own = {0};
    char name[NAME_ROOM];
    size_t mark = reader->scratch.used;
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_VIDEO, "a video");
    if (!code)
        code = job_read_settings(reader, &own, node);
    if (code)
        return code;
    if (own.name.set)
        snprintf(name, sizeof name, "%s", own.name.text);
    else
        snprintf(name, sizeof name, "video-%03d", reader->count + 1);
    code = job_add_video(reader, &own, NULL, name);
    arena_reset(&reader->scratch, mark);
    return code;
}

/* -- the whole -------------------------------------------------------------------------------- */

/* The file's name without folders and extension. What does not fit a name is '-'; letters beyond
 * ASCII would all become that, so the name's hash tells such files apart. */
static void name_of_file(char made[LIMIT_NAME_BYTES + 1], const char *file) {
    static const char fits[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    size_t length = strcspn(base, "."), used = 0;
    bool foreign = false;
    for (; used < length && used < LIMIT_NAME_BYTES - 16; used++) {
        made[used] = strchr(fits, base[used]) ? base[used] : '-';
        foreign |= (unsigned char)base[used] >= 0x80;
    }
    made[used] = '\0';
    if (!file_name_is_plain(made))
        used = (size_t)snprintf(made, LIMIT_NAME_BYTES + 1, "job");
    if (foreign) {
        struct hash hash;
        char hex[HASH_HEX_BYTES];
        hash_of(&hash, base, strlen(base));
        hash_hex(hex, &hash);
        snprintf(made + used, LIMIT_NAME_BYTES + 1 - used, "-%.8s", hex);
    }
}

/* As the job says, or after its file. */
static enum error_code read_job_name(struct reader *reader, const struct yaml *node,
                                     const char *file) {
    struct setting given = {0};
    char made[LIMIT_NAME_BYTES + 1];
    if (node) {
        enum error_code code = job_read_name(reader, &given, node);
        if (code)
            return code;
    } else {
        name_of_file(made, file);
        given.text = made;
    }
    reader->job->name = job_keep(reader, given.text);
    return reader->job->name ? ERR_OK : job_no_memory(reader);
}

static enum error_code read_defaults(struct reader *reader, const struct yaml *node) {
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE, "a mapping, e.g. {seconds: 10, seed: 1}");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_DEFAULTS, "defaults");
    return code ? code : job_read_settings(reader, &reader->defaults, node);
}

static enum error_code read_videos(struct reader *reader, const struct yaml *node) {
    if (node->type == YAML_MAPPING) {
        if (!yaml_get(node, "file"))
            return job_wrong(
                reader, node, ERR_USAGE,
                "a list of videos (each starting with \"- \"), or {file: prompts.txt}");
        return add_list(reader, node);
    }
    if (node->type != YAML_SEQUENCE || !node->length)
        return job_wrong(reader, node, ERR_USAGE, "a list of videos, or {file: prompts.txt}");
    enum error_code code = ERR_OK;
    for (const struct yaml *child = node->child; child && !code; child = child->next)
        code = add_entry(reader, child);
    return code;
}

static enum error_code read_top(struct reader *reader, const struct yaml *top, const char *name) {
    struct place start = {reader->file, 1, 1};
    if (top->type != YAML_MAPPING)
        return job_fail(
            reader, job_place(reader, top), ERR_USAGE,
            "expected a job: a mapping with the keys job, model, output, defaults, videos");
    const struct yaml *model = yaml_get(top, "model"), *output = yaml_get(top, "output");
    const struct yaml *defaults = yaml_get(top, "defaults"), *videos = yaml_get(top, "videos");
    enum error_code code = job_check_keys(reader, top, JOB_KEYS_TOP, "a job");
    if (!code)
        code = read_job_name(reader, yaml_get(top, "job"), name);
    if (code)
        return code;
    if (!model)
        return job_fail(reader, start, ERR_USAGE,
                        "the job names no model; expected e.g. model: pocket");
    code = job_read_models(reader, model, yaml_get(top, "weights"), yaml_get(top, "lora"));
    if (!code && output)
        code = job_read_output(reader, &reader->top_output, output);
    if (!code && defaults)
        code = read_defaults(reader, defaults);
    if (code)
        return code;
    if (!videos)
        return job_fail(reader, start, ERR_USAGE,
                        "the job has no videos; expected a list, or {file: prompts.txt}");
    return read_videos(reader, videos);
}

/* Videos and images move into the arena; indices of images become addresses. */
static enum error_code finish(struct reader *reader) {
    struct job *job = reader->job;
    size_t count = (size_t)reader->count;
    struct job_video *videos = arena_array(&job->arena, count, sizeof *videos);
    struct job_file *files = arena_array(&job->arena, (size_t)reader->file_count, sizeof *files);
    if (!videos || !files)
        return job_no_memory(reader);
    memcpy(videos, reader->videos, count * sizeof *videos);
    if (reader->file_count)
        memcpy(files, reader->files, (size_t)reader->file_count * sizeof *files);
    for (size_t i = 0; i < count; i++) {
        if (videos[i].image)
            videos[i].image = &files[(uintptr_t)videos[i].image - 1];
        if (videos[i].end)
            videos[i].end = &files[(uintptr_t)videos[i].end - 1];
    }
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
        reader.file = job_keep(&reader, name); /* places outlive the caller's name */
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
        code = job_check_nesting(&reader);
    if (!code)
        code = finish(&reader);
    free(reader.videos);
    free(reader.places);
    free(reader.outputs);
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
