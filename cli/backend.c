#include "cli/backend.h"

#include <stdio.h>
#include <string.h>

const char *const backend_dtypes[] = {"bf16", "f32", NULL};
const char *const backend_log_levels[] = {"error", "warning", "info", "debug", "none", NULL};

#define GPUS "cuda" /* the backend that auto and all look for */

static bool has(const struct backend_devices *devices, const struct ops *ops, int index) {
    for (int i = 0; i < devices->count; i++)
        if (devices->items[i].ops == ops && devices->items[i].index == index)
            return true;
    return false;
}

static enum error_code add(struct backend_devices *out, const struct ops *ops, int index,
                           struct error *error) {
    if (out->count == BACKEND_DEVICES_MAX)
        return error_set(error, ERR_LIMIT, "more than %d devices", BACKEND_DEVICES_MAX);
    struct backend_device *device = &out->items[out->count++];
    *device = (struct backend_device){.ops = ops, .index = index};
    if (ops == ops_cpu())
        snprintf(device->name, sizeof device->name, "cpu");
    else
        snprintf(device->name, sizeof device->name, "%.16s:%d", ops->name, index);
    return ERR_OK;
}

/* Every GPU that can be used. None: the reason, of the first of them where there is one. */
static enum error_code add_gpus(struct backend_devices *out, struct error *error) {
    const struct ops *ops;
    struct error reason, later;
    enum error_code code = ops_load(&ops, GPUS, &reason), probed;
    for (int i = 0; code == ERR_OK && out->count < BACKEND_DEVICES_MAX; i++) {
        probed = ops->device_probe(i, i == 0 ? &reason : &later);
        if (probed == ERR_OK)
            code = add(out, ops, i, error);
        if (probed == ERR_MISSING)
            break;
    }
    if (out->count > 0)
        return code;
    *error = reason;
    return reason.code;
}

/* One name of a list: "cpu", "cuda:1". */
static enum error_code add_named(struct backend_devices *out, const char *name,
                                 struct error *error) {
    const struct ops *ops;
    int index;
    enum error_code code = ops_find(&ops, &index, name, error);
    if (code == ERR_OK)
        code = ops->device_probe(index, error);
    if (code == ERR_OK && has(out, ops, index))
        return error_set(error, ERR_USAGE, "%s is there twice", name);
    return code == ERR_OK ? add(out, ops, index, error) : code;
}

static enum error_code add_list(struct backend_devices *out, const char *text,
                                struct error *error) {
    char name[64];
    enum error_code code = ERR_OK;
    do {
        size_t length = strcspn(text, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), text);
        code = add_named(out, name, error);
        text += length;
    } while (code == ERR_OK && *text++ == ',');
    return code;
}

/* Whatever failed but the list's own mistakes: what to do instead. */
static enum error_code advise(const char *text, struct error *error) {
    struct error found = *error;
    if (found.code == ERR_USAGE || found.code == ERR_LIMIT)
        return error_prefix(error, "--device %.64s: ", text);
    return error_set(error, found.code, "--device %.64s: %.800s; --device cpu needs no GPU", text,
                     found.detail);
}

enum error_code backend_find(struct backend_devices *out, const char *text, struct error *error) {
    *out = (struct backend_devices){.count = 0};
    if (strcmp(text, "auto") != 0) {
        enum error_code code =
            strcmp(text, "all") == 0 ? add_gpus(out, error) : add_list(out, text, error);
        return code == ERR_OK ? code : advise(text, error);
    }
    struct error reason;
    if (add_gpus(out, &reason) == ERR_OK)
        return ERR_OK;
    /* A machine without the shared object is one that was not meant to have a GPU. */
    const struct ops *ignored;
    struct error unheard;
    if (ops_load(&ignored, GPUS, &unheard) != ERR_MISSING)
        snprintf(out->note, sizeof out->note, "%s", reason.detail);
    return add(out, ops_cpu(), 0, error);
}

enum dtype backend_dtype(const struct backend_values *values) {
    return values->dtype == 1 ? DTYPE_F32 : DTYPE_BF16;
}

enum error_code backend_log(struct log **out, struct cli *cli, int level, struct error *error) {
    *out = NULL;
    if (!backend_log_levels[level + 1]) /* the last: none */
        return ERR_OK;
    return log_open(out, cli->err, (enum log_level)level, error);
}
