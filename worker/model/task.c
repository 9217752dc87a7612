#include "worker/model/task.h"

#include <string.h>

#include "base/text.h"

enum error_code measured_open(struct measured *measured, const char *folder,
                              const struct model_options *options, struct error *error) {
    memset(measured, 0, sizeof *measured);
    measured->runtime = (struct runtime){.ops = ops_measure(),
                                         .dtype = options->dtype,
                                         .narrow = options->weights,
                                         .params = &measured->params,
                                         .made = &measured->made,
                                         .work = &measured->work};
    arena_open_measuring(&measured->params);
    arena_open_measuring(&measured->made);
    arena_open_measuring(&measured->work);
    const struct device_config config = {0};
    enum error_code code =
        measured->runtime.ops->device_open(&measured->runtime.device, &config, error);
    if (code == ERR_OK)
        code = parts_open(&measured->parts, &measured->runtime, folder, options, false, error);
    if (code != ERR_OK && measured->runtime.device != NULL)
        measured->runtime.ops->device_close(&measured->runtime.device);
    return code;
}

void measured_close(struct measured *measured) {
    parts_close(&measured->parts, &measured->runtime);
    measured->runtime.ops->device_close(&measured->runtime.device);
    arena_close(&measured->params);
    arena_close(&measured->made);
    arena_close(&measured->work);
}

size_t measured_weights(const struct measured *measured) {
    const struct runtime *runtime = &measured->runtime;
    return measured->params.peak + measured->made.peak +
           runtime->ops->weight_bytes(runtime->device) +
           runtime->ops->mapped_bytes(runtime->device);
}

size_t measured_second_expert(const struct measured *measured) {
    const struct parts *parts = &measured->parts;
    return parts->denoisers[0].second_bytes + parts->denoisers[1].second_bytes;
}

/* Nothing is read before it is known how it will be held. */
enum error_code measured_hold(struct holding *out, const struct measured *measured,
                              const struct model_options *options, struct error *error) {
    size_t all = measured_weights(measured), second = measured_second_expert(measured);
    *out = (struct holding){.bytes = all};
    if (options->memory == 0 || all <= options->memory)
        return ERR_OK;
    /* Both are read in every request: the one at the boundary, the other for the next. */
    *out = (struct holding){.alone = true, .bytes = all - second, .bytes_reread = 2 * second};
    char needed[32], allowed[32];
    return out->bytes <= options->memory
               ? ERR_OK
               : error_set(error, ERR_MEMORY, "the weights of %s in %s take %s%s; %s are allowed",
                           measured->parts.config.family, dtype_name(options->dtype),
                           text_bytes(needed, out->bytes),
                           second > 0 ? " with one expert at a time" : "",
                           text_bytes(allowed, options->memory));
}

/* Work memory of a task, by running it on the table that computes nothing. */
static enum error_code measure_task(size_t *bytes, const struct model *model, task_body *body,
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

/* Make room, refuse if there is none, run. */
enum error_code model_run(struct model *model, task_body *body, void *request,
                          struct error *error) {
    size_t bytes;
    enum error_code code = measure_task(&bytes, model, body, request, error);
    if (code == ERR_OK && bytes > model->work.capacity) {
        model->work_peak = model_work_peak(model);
        arena_close(&model->work);
        code = model->runtime.ops->arena_open(model->runtime.device, &model->work, bytes, error);
    }
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
