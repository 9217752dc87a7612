/* mux: segments to the file that will be published, at the staged path that the lease names.
 * Nothing goes into the store; the result tells the file's hash and size. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "worker/stage.h"

/* The job's provenance as one line of JSON, with the device class at its end. */
static enum error_code write_provenance(struct buffer *out, const struct stage_task *task,
                                        struct error *error) {
    const struct json *provenance = json_get(task->parameters, "provenance");
    if (!provenance || provenance->type != JSON_OBJECT)
        return error_set(error, ERR_FORMAT,
                         "the lease's parameter \"provenance\" is not an object");
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    for (const struct json *member = provenance->child; member; member = member->next)
        json_put(&writer, member->key, member);
    json_put_text(&writer, "device", task->class);
    json_end_object(&writer);
    return out->failed ? error_set(error, ERR_MEMORY, "no memory for the provenance") : ERR_OK;
}

/* Paths of all segments, in order. */
static enum error_code find_segments(const char ***out, struct stage_context *context,
                                     const struct stage_task *task, struct stage_result *result,
                                     struct error *error) {
    const char **paths = arena_array(&context->arena, (size_t)task->input_count, sizeof *paths);
    if (!paths || task->input_count == 0)
        return error_set(error, ERR_FORMAT, "the lease of a mux task names no segments");
    for (int i = 0; i < task->input_count; i++) {
        char path[FILE_PATH_BYTES];
        if (strcmp(task->inputs[i].name, "segment") != 0)
            return error_set(error, ERR_FORMAT, "the lease of a mux task has an input \"%s\"",
                             task->inputs[i].name);
        enum error_code code = stage_canceled(task, error);
        if (code == ERR_OK)
            code = stage_artifact_path(path, context, &task->inputs[i], result, error);
        if (code != ERR_OK)
            return code;
        paths[i] = arena_strdup(&context->arena, path, strlen(path));
        if (!paths[i])
            return error_set(error, ERR_MEMORY, "no room for %d paths", task->input_count);
    }
    *out = paths;
    return ERR_OK;
}

enum error_code stage_mux(struct stage_context *context, const struct stage_task *task,
                          struct stage_result *result, struct error *error) {
    struct media_spec spec;
    enum media_container container;
    const char *container_name, *title, **segments;
    struct buffer provenance = {0};
    enum error_code code = stage_media_spec(&spec, task, error);
    if (code == ERR_OK)
        code = stage_string(&container_name, task, "container", error);
    if (code == ERR_OK)
        code = stage_string(&title, task, "title", error);
    if (code != ERR_OK)
        return code;
    if (!media_container_from_name(&container, container_name))
        return error_set(error, ERR_UNSUPPORTED, "this worker knows no container \"%s\"",
                         container_name);
    if (!task->staged)
        return error_set(error, ERR_FORMAT, "the lease of a mux task names no path");
    code = find_segments(&segments, context, task, result, error);
    if (code == ERR_OK)
        code = write_provenance(&provenance, task, error);
    if (code == ERR_OK) {
        const struct media_tag tags[] = {{"title", title}, {"vidloom", provenance.data}};
        code =
            media_join(task->staged, container, &spec, segments, task->input_count, tags, 2, error);
    }
    buffer_close(&provenance);
    if (code == ERR_MISSING && !result->object_missing) { /* removed since it was looked for? */
        struct error again;
        (void)!find_segments(&segments, context, task, result, &again);
    }
    if (code != ERR_OK)
        return code;
    struct stage_artifact *output = &result->outputs[result->output_count++];
    snprintf(output->name, sizeof output->name, "file");
    return hash_of_tree(&output->hash, &output->size, task->staged, error);
}
