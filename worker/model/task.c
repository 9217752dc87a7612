#include "worker/model/task.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static size_t at_most(size_t a, size_t b) {
    return a < b ? a : b;
}

enum error_code measured_open(struct measured *measured, const char *folder,
                              const struct model_options *options, struct error *error) {
    memset(measured, 0, sizeof *measured);
    const struct ops *like = options->like != NULL ? options->like : ops_cpu();
    measured->runtime = (struct runtime){.ops = ops_measure(),
                                         .dtype = options->dtype,
                                         .wants = like->wants,
                                         .narrow = options->weights,
                                         .params = &measured->params,
                                         .made = &measured->made,
                                         .work = &measured->work};
    arena_open_measuring(&measured->params);
    arena_open_measuring(&measured->made);
    arena_open_measuring(&measured->work);
    const struct device_config config = {.like = options->like, .index = options->like_index};
    enum error_code code = streamer_open(&measured->runtime.streamer, error);
    if (code == ERR_OK)
        code = measured->runtime.ops->device_open(&measured->runtime.device, &config, error);
    if (code == ERR_OK)
        code = parts_open(&measured->parts, &measured->runtime, folder, options, false, error);
    if (code != ERR_OK && measured->runtime.device != NULL)
        measured->runtime.ops->device_close(&measured->runtime.device);
    if (code != ERR_OK)
        streamer_close(&measured->runtime.streamer);
    return code;
}

void measured_close(struct measured *measured) {
    parts_close(&measured->parts, &measured->runtime);
    streamer_close(&measured->runtime.streamer);
    measured->runtime.ops->device_close(&measured->runtime.device);
    arena_close(&measured->params);
    arena_close(&measured->made);
    arena_close(&measured->work);
}

/* Weights that are made are among those used in place: only small ones are copied from there. */
size_t measured_weights(const struct measured *measured) {
    const struct runtime *runtime = &measured->runtime;
    return measured->params.peak + runtime->ops->weight_bytes(runtime->device) +
           runtime->ops->mapped_bytes(runtime->device);
}

size_t measured_fixed(const struct measured *measured) {
    return measured_weights(measured) - streamer_bytes(measured->runtime.streamer);
}

size_t measured_giving(const struct measured *measured) {
    const struct runtime *runtime = &measured->runtime;
    return runtime->ops->weight_bytes(runtime->device) -
           runtime->ops->weight_bytes_least(runtime->device);
}

/* What gives way is rather that than closed: it comes back from the host's memory, not a file. */
size_t measured_least(const struct measured *measured) {
    size_t giving = measured_giving(measured);
    return measured_fixed(measured) - (giving > 0 ? giving : measured_second_expert(measured)) +
           streamer_least(measured->runtime.streamer);
}

size_t measured_second_expert(const struct measured *measured) {
    const struct parts *parts = &measured->parts;
    return parts->denoisers[0].second_bytes + parts->denoisers[1].second_bytes;
}

/* "wan2.1 (transformer, VAE)": what of the folder is opened. */
static const char *name_parts(char out[128], const struct parts *parts) {
    const bool transformer = parts->keyframe != NULL || parts->window != NULL;
    const char *const names[] = {
        parts->umt5 != NULL ? "text encoder" : NULL, parts->clip != NULL ? "image encoder" : NULL,
        transformer ? "transformer" : NULL, parts->vae != NULL ? "VAE" : NULL};
    int used = snprintf(out, 128, "%.32s", parts->config.family);
    const char *before = " (";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i] == NULL)
            continue;
        used += snprintf(out + used, 128 - (size_t)used, "%s%s", before, names[i]);
        before = ", ";
    }
    if (*before == ',')
        (void)snprintf(out + used, 128 - (size_t)used, ")");
    return out;
}

static enum error_code too_little(const struct measured *measured,
                                  const struct model_options *options, size_t work,
                                  struct error *error) {
    char least[32], held[32], worked[32], allowed[32], what[128];
    size_t weights = measured_least(measured);
    bool second = measured_second_expert(measured) > 0 && measured_giving(measured) == 0;
    (void)text_bytes(held, weights);
    (void)text_bytes(allowed, options->memory);
    (void)name_parts(what, &measured->parts);
    if (work == 0)
        return error_set(
            error, ERR_MEMORY, "the weights of %s in %s take %s at least%s; %s are allowed", what,
            dtype_name(options->dtype), held, second ? " with one expert at a time" : "", allowed);
    return error_set(
        error, ERR_MEMORY,
        "the tasks of %s in %s take %s at least, %s of weights%s and %s of work; %s are "
        "allowed",
        what, dtype_name(options->dtype), text_bytes(least, weights + work), held,
        second ? " with one expert at a time" : "", text_bytes(worked, work), allowed);
}

/* Nothing is read before it is known how it will be held. */
enum error_code measured_hold(struct holding *out, const struct measured *measured,
                              const struct model_options *options, size_t work,
                              struct error *error) {
    size_t all = measured_weights(measured), second = measured_second_expert(measured);
    size_t streams = streamer_bytes(measured->runtime.streamer);
    size_t streamed = streamer_least(measured->runtime.streamer), memory = options->memory;
    size_t passing = parts_passing(&measured->parts), task = work;
    work = task > passing ? task : passing;
    *out = (struct holding){.bytes = all, .work = work};
    if (memory == 0 || all + work <= memory)
        return ERR_OK;
    if (measured_giving(measured) > 0) {
        if (measured_least(measured) + work > memory)
            return too_little(measured, options, work, error);
        out->bytes = memory - work;
        return ERR_OK;
    }
    /* Both experts are read in every request: the one at the boundary, the other for the next. */
    size_t fixed = all - streams;
    if (fixed + streamed + work > memory) {
        work = second > 0 ? task + passing : work; /* merged again beside the task's */
        *out = (struct holding){.alone = true, .bytes_reread = 2 * second, .work = work};
        fixed -= second;
    }
    if (fixed + streamed + work > memory)
        return too_little(measured, options, work, error);
    out->streaming = fixed + streams + work > memory;
    if (out->streaming)
        out->bytes_pass = streamer_pass_bytes(measured->runtime.streamer, memory - fixed - work);
    if (out->streaming && out->bytes_pass == 0) /* each fits, but one after the other */
        out->bytes_reread += streams;
    out->bytes = at_most(fixed + streams, memory - work);
    return ERR_OK;
}

/* Work memory of a task, by running it on the table that computes nothing. */
static enum error_code measure_work(size_t *bytes, const struct model *model, task_body *body,
                                    void *request, struct error *error) {
    struct arena work;
    arena_open_measuring(&work);
    struct runtime dry = model->runtime;
    dry.ops = ops_measure();
    dry.work = &work;
    dry.cancel = NULL;
    struct parts parts = model->parts; /* its weights are not looked at */
    enum error_code code = body(&parts, &dry, request, error);
    *bytes = work.peak;
    arena_close(&work);
    return code;
}

/* Of two experts one at a time from now on; false: that brings nothing. */
static bool part_experts(struct model *model) {
    bool parted = false;
    size_t before = runtime_weights(&model->runtime);
    for (int i = 0; i < 2; i++)
        parted |= denoiser_part(&model->parts.denoisers[i], &model->runtime);
    model->fixed -= before - runtime_weights(&model->runtime);
    return parted;
}

/* Bytes that stay whatever is streamed or gives way, or come beside a task's work when experts are
 * exchanged. */
static size_t fixed_bytes(const struct model *model) {
    bool alone = model->parts.denoisers[0].alone || model->parts.denoisers[1].alone;
    return model->fixed - model->giving + model->params.used + (alone ? model->passing : 0);
}

/* With the weights streamed where not all fit beside the work. */
static enum error_code measure_task(size_t *bytes, struct model *model, task_body *body,
                                    void *request, struct error *error) {
    size_t streams = streamer_bytes(model->runtime.streamer);
    size_t least = streamer_least(model->runtime.streamer);
    model->runtime.streaming = false;
    enum error_code code = measure_work(bytes, model, body, request, error);
    if (code != ERR_OK || model->memory == 0)
        return code;
    model->runtime.streaming =
        model->giving == 0 && fixed_bytes(model) + streams + *bytes > model->memory;
    if (model->runtime.streaming)
        code = measure_work(bytes, model, body, request, error);
    if (code != ERR_OK || fixed_bytes(model) + least + *bytes <= model->memory)
        return code;
    if (model->giving == 0 && part_experts(model) &&
        fixed_bytes(model) + least + *bytes <= model->memory)
        return ERR_OK;
    char needed[32], weights[32], allowed[32];
    return error_set(error, ERR_MEMORY,
                     "the task takes %s of memory, %s of it for weights that are streamed as far "
                     "as they can be; %s are allowed",
                     text_bytes(needed, fixed_bytes(model) + least + *bytes),
                     text_bytes(weights, fixed_bytes(model) + least),
                     text_bytes(allowed, model->memory));
}

static enum error_code make_room(struct model *model, size_t bytes, struct error *error) {
    bool streaming = model->runtime.streaming;
    if (model->memory > 0)
        model->runtime.ops->limit_weights(model->runtime.device, model->others + model->memory -
                                                                     model->params.used - bytes);
    if (bytes > model->work.capacity || (streaming && bytes < model->work.capacity)) {
        model->work_peak = model_work_peak(model);
        arena_close(&model->work);
        enum error_code code =
            model->runtime.ops->arena_open(model->runtime.device, &model->work, bytes, error);
        if (code != ERR_OK)
            return code;
    }
    streamer_set_limit(model->runtime.streamer,
                       streaming ? model->memory - fixed_bytes(model) - bytes : 0);
    return ERR_OK;
}

enum error_code model_run(struct model *model, task_body *body, void *request,
                          struct error *error) {
    size_t bytes;
    enum error_code code = measure_task(&bytes, model, body, request, error);
    if (code == ERR_OK)
        code = make_room(model, bytes, error);
    if (code != ERR_OK)
        return code;
    arena_reset(&model->work, 0);
    code = body(&model->parts, &model->runtime, request, error);
    enum error_code status =
        model->runtime.ops->status(model->runtime.device, code == ERR_OK ? error : NULL);
    arena_reset(&model->work, 0);
    if (code == ERR_OK && status == ERR_OK && run_is_stopped(&model->runtime))
        return error_set(error, ERR_INTERRUPTED, "stopped on the way");
    return code != ERR_OK ? code : status;
}
