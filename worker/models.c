#include "worker/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define OPEN_DEFAULT     4
#define OPEN_LIMIT       16
#define SMALL_PARAMETERS 100000000 /* 200 MB in bf16 */

struct entry {
    char path[FILE_PATH_BYTES];
    struct model *model;
    int stages;
    uint64_t used; /* value of `clock` at the last use */
};

struct models {
    struct models_config config;
    struct entry entries[OPEN_LIMIT];
    int count;
    uint64_t clock;
};

enum error_code models_open(struct models **out, const struct models_config *config,
                            struct error *error) {
    struct models *models = calloc(1, sizeof *models);
    if (!models)
        return error_set(error, ERR_MEMORY, "no memory for the list of models");
    models->config = *config;
    if (models->config.open_max <= 0 || models->config.open_max > OPEN_LIMIT)
        models->config.open_max = OPEN_DEFAULT;
    *out = models;
    return ERR_OK;
}

void models_close(struct models **models) {
    if (!*models)
        return;
    for (int i = 0; i < (*models)->count; i++)
        model_close(&(*models)->entries[i].model);
    free(*models);
    *models = NULL;
}

enum error_code models_path(char out[4096], const char *folder, const char *spec,
                            struct error *error) {
    if (strchr(spec, '/')) {
        if (strlen(spec) >= FILE_PATH_BYTES)
            return error_set(error, ERR_LIMIT, "the model's path is longer than %d bytes",
                             FILE_PATH_BYTES - 1);
        memcpy(out, spec, strlen(spec) + 1);
        return ERR_OK;
    }
    return file_join(out, folder, spec, error);
}

static struct entry *entry_find(struct models *models, const char *path) {
    for (int i = 0; i < models->count; i++)
        if (strcmp(models->entries[i].path, path) == 0)
            return &models->entries[i];
    return NULL;
}

/* An empty place: a new one, or that of the model used longest ago. */
static struct entry *entry_make(struct models *models, const char *path) {
    struct entry *entry;
    if (models->count < models->config.open_max) {
        entry = &models->entries[models->count++];
    } else {
        entry = &models->entries[0];
        for (int i = 1; i < models->count; i++)
            if (models->entries[i].used < entry->used)
                entry = &models->entries[i];
        model_close(&entry->model);
    }
    memset(entry, 0, sizeof *entry);
    snprintf(entry->path, sizeof entry->path, "%s", path);
    return entry;
}

/* Open with the stages it had and the new one: a worker that only decodes never maps a
 * transformer. A small family is opened whole, once, rather than again for every stage. */
static enum error_code entry_open(struct models *models, struct entry *entry,
                                  enum model_stage stage, struct error *error) {
    struct model_info info;
    int stages = entry->stages | (int)stage;
    model_close(&entry->model);
    entry->stages = 0;
    enum error_code code = model_read_info(&info, entry->path, error);
    if (code != ERR_OK)
        return code;
    if (info.parameters <= SMALL_PARAMETERS)
        stages = info.stages;
    const struct model_options options = {.stages = stages, .dtype = models->config.dtype};
    code = model_open(&entry->model, models->config.ops, models->config.device, entry->path,
                      &options, error);
    if (code == ERR_OK)
        entry->stages = stages;
    return code;
}

/* The entry's model with the stage open. */
static enum error_code entry_ready(struct models *models, struct entry *entry,
                                   enum model_stage stage, struct error *error) {
    if (entry->model && (entry->stages & (int)stage))
        return ERR_OK;
    return entry_open(models, entry, stage, error);
}

enum error_code models_get(struct models *models, struct model **out, const char *spec,
                           const struct hash *hash, enum model_stage stage, struct error *error) {
    char path[FILE_PATH_BYTES];
    enum error_code code = models_path(path, models->config.folder, spec, error);
    if (code != ERR_OK)
        return code;
    struct entry *entry = entry_find(models, path);
    bool was_open = entry && entry->model;
    if (!entry)
        entry = entry_make(models, path);
    entry->used = ++models->clock;
    code = entry_ready(models, entry, stage, error);
    /* The files may have been replaced since it was opened. */
    if (code == ERR_OK && was_open && !hash_equal(&model_get_info(entry->model)->hash, hash))
        code = entry_open(models, entry, stage, error);
    if (code != ERR_OK)
        return code;
    const struct hash *found = &model_get_info(entry->model)->hash;
    if (!hash_equal(found, hash)) {
        char have[HASH_HEX_BYTES], want[HASH_HEX_BYTES];
        hash_hex(have, found);
        hash_hex(want, hash);
        return error_set(error, ERR_MISSING,
                         "%s: this worker's weights have the hash %.16s, the job was planned with "
                         "%.16s; give both the same files",
                         path, have, want);
    }
    *out = entry->model;
    return ERR_OK;
}
