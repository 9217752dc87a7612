#include "worker/models.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define OPEN_DEFAULT     4
#define OPEN_LIMIT       16
#define SMALL_PARAMETERS 100000000 /* 200 MB in bf16 */

/* A file that is merged into a model. */
struct merged {
    char path[FILE_PATH_BYTES];
    struct hash hash;
    float strength;
    enum lora_expert expert;
};

/* What makes two opened models the same one. */
struct identity {
    char path[FILE_PATH_BYTES];
    enum dtype weights;
    struct merged loras[MODELS_LORAS_MAX];
    int lora_count;
};

struct entry {
    struct identity identity;
    struct model *model; /* NULL: it could not be opened, or was closed to make room */
    int stages;
    size_t bytes;  /* of weights; counted where there is a limit */
    uint64_t used; /* value of `clock` at the last use */
};

struct models {
    struct models_config config;
    struct entry entries[OPEN_LIMIT];
    struct identity wanted; /* by the request at hand */
    int count;
    uint64_t clock;
    bool frugal; /* what one task needs and no more */
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

/* -- which one ----------------------------------------------------------------------------------
 */

static enum error_code find_path(char out[FILE_PATH_BYTES], const struct models *models,
                                 const char *spec, struct error *error) {
    if (!strchr(spec, '/'))
        return file_join(out, models->config.folder, spec, error);
    if (strlen(spec) >= FILE_PATH_BYTES)
        return error_set(error, ERR_LIMIT, "the path of a model or LoRA is longer than %d bytes",
                         FILE_PATH_BYTES - 1);
    memcpy(out, spec, strlen(spec) + 1);
    return ERR_OK;
}

static enum error_code identify(struct identity *out, const struct models *models,
                                const struct models_request *request, struct error *error) {
    *out = (struct identity){.weights = request->weights, .lora_count = request->lora_count};
    enum error_code code = find_path(out->path, models, request->spec, error);
    for (int i = 0; i < request->lora_count && code == ERR_OK; i++) {
        const struct models_lora *lora = &request->loras[i];
        out->loras[i].hash = lora->hash;
        out->loras[i].strength = lora->strength;
        out->loras[i].expert = lora->expert;
        code = find_path(out->loras[i].path, models, lora->spec, error);
    }
    return code;
}

static bool same_loras(const struct identity *a, const struct identity *b) {
    if (a->lora_count != b->lora_count)
        return false;
    for (int i = 0; i < a->lora_count; i++)
        if (strcmp(a->loras[i].path, b->loras[i].path) != 0 ||
            !hash_equal(&a->loras[i].hash, &b->loras[i].hash) ||
            a->loras[i].strength != b->loras[i].strength ||
            a->loras[i].expert != b->loras[i].expert)
            return false;
    return true;
}

/* Whether what is asked of `stages` comes out alike: LoRAs are of the transformers, and the VAE has
 * no matrices. */
static bool is_alike(const struct identity *a, const struct identity *b, int stages) {
    return strcmp(a->path, b->path) == 0 && (stages == STAGE_VAE || a->weights == b->weights) &&
           ((stages & (STAGE_KEYFRAME | STAGE_WINDOW)) == 0 || same_loras(a, b));
}

static bool has_stages(const struct models *models, const struct entry *entry, int stages) {
    return entry->model && (entry->stages & stages) == stages &&
           (!models->frugal || entry->stages == stages);
}

/* The open model that can do it, else the entry that it is to be opened in; NULL: there is none. */
static struct entry *entry_find(struct models *models, int stages) {
    const struct identity *wanted = &models->wanted;
    struct entry *same = NULL;
    for (int i = 0; i < models->count; i++) {
        struct entry *entry = &models->entries[i];
        if (has_stages(models, entry, stages) && is_alike(&entry->identity, wanted, stages))
            return entry;
        if (is_alike(&entry->identity, wanted, -1))
            same = entry;
    }
    return same;
}

/* The model used longest ago but for `kept`, of those that are open if `open`; NULL: none. */
static struct entry *entry_oldest(struct models *models, const struct entry *kept, bool open) {
    struct entry *oldest = NULL;
    for (int i = 0; i < models->count; i++) {
        struct entry *entry = &models->entries[i];
        if (entry != kept && (entry->model || !open) && (!oldest || entry->used < oldest->used))
            oldest = entry;
    }
    return oldest;
}

static void entry_close(struct entry *entry) {
    model_close(&entry->model);
    entry->stages = 0;
    entry->bytes = 0;
}

/* A new place, or that of the model used longest ago. */
static struct entry *entry_make(struct models *models) {
    struct entry *entry = models->count < models->config.open_max
                              ? &models->entries[models->count++]
                              : entry_oldest(models, NULL, false);
    entry_close(entry);
    *entry = (struct entry){.identity = models->wanted};
    return entry;
}

/* -- opening ------------------------------------------------------------------------------------
 */

static enum error_code differs(const char *path, const char *what, const struct hash *found,
                               const struct hash *wanted, struct error *error) {
    char have[HASH_HEX_BYTES], want[HASH_HEX_BYTES];
    hash_hex(have, found);
    hash_hex(want, wanted);
    return error_set(
        error, ERR_MISSING,
        "%s: this worker's %s the hash %.16s, the job was planned with %.16s; give both "
        "the same files",
        path, what, have, want);
}

static enum error_code check_loras(const struct identity *identity, struct error *error) {
    for (int i = 0; i < identity->lora_count; i++) {
        const struct merged *lora = &identity->loras[i];
        struct hash found;
        enum error_code code = hash_of_file(&found, lora->path, error);
        if (code != ERR_OK)
            return error_prefix(error, "lora: ");
        if (!hash_equal(&found, &lora->hash))
            return differs(lora->path, "LoRA has", &found, &lora->hash, error);
    }
    return ERR_OK;
}

static size_t bytes_open(const struct models *models) {
    size_t sum = 0;
    for (int i = 0; i < models->count; i++)
        sum += models->entries[i].bytes;
    return sum;
}

bool models_shed(struct models *models) {
    bool helps = models->config.memory > 0 && !models->frugal;
    models->frugal = helps || models->frugal;
    for (int i = 0; i < models->count && helps; i++)
        entry_close(&models->entries[i]);
    return helps;
}

/* Half of the limit for weights, the rest for work: fewer stages if they do not fit by themselves,
 * then fewer other models. The entry is closed. */
static enum error_code make_room(struct models *models, struct entry *entry,
                                 struct model_options *options, int stages, struct error *error) {
    size_t limit = models->config.memory, bytes = 0;
    if (limit == 0)
        return ERR_OK;
    size_t room = models->frugal ? 0 : limit / 2;
    enum error_code code = model_measure(&bytes, entry->identity.path, options, error);
    if (code == ERR_OK && bytes > room && options->stages != stages) {
        options->stages = stages;
        code = model_measure(&bytes, entry->identity.path, options, error);
    }
    if (code != ERR_OK)
        return code;
    bytes = bytes < limit ? bytes : limit;
    struct entry *oldest;
    while (bytes + bytes_open(models) > room && (oldest = entry_oldest(models, entry, true)))
        entry_close(oldest);
    options->memory = limit - bytes_open(models);
    entry->bytes = bytes;
    return ERR_OK;
}

/* Open with the stages it had and the new ones: a worker that only decodes never maps a
 * transformer. A small family is opened whole, once, rather than again for every stage. */
static enum error_code entry_open(struct models *models, struct entry *entry, int stages,
                                  struct error *error) {
    struct model_info info;
    struct model_lora loras[MODELS_LORAS_MAX];
    const struct identity *identity = &entry->identity;
    struct device_info device;
    models->config.ops->device_info(models->config.device, &device);
    struct model_options options = {.stages = entry->stages | stages,
                                    .dtype = models->config.dtype,
                                    .weights = identity->weights,
                                    .info = &info,
                                    .streaming = models->config.streaming,
                                    .user = models->config.user,
                                    .like = models->config.ops,
                                    .like_index = device.index,
                                    .loras = loras,
                                    .lora_count = identity->lora_count};
    entry_close(entry);
    for (int i = 0; i < identity->lora_count; i++)
        loras[i] = (struct model_lora){identity->loras[i].path, identity->loras[i].strength,
                                       identity->loras[i].expert};
    enum error_code code = model_read_info(&info, identity->path, error);
    if (code == ERR_OK)
        code = check_loras(identity, error);
    if (code != ERR_OK)
        return code;
    /* But LoRAs may be for one of its transformers alone. */
    if (info.parameters <= SMALL_PARAMETERS && identity->lora_count == 0)
        options.stages = info.stages;
    code = make_room(models, entry, &options, stages, error);
    if (code == ERR_OK)
        code = model_open(&entry->model, models->config.ops, models->config.device, identity->path,
                          &options, error);
    if (code == ERR_OK)
        entry->stages = options.stages;
    else
        entry_close(entry);
    return code;
}

enum error_code models_get(struct models *models, struct model **out,
                           const struct models_request *request, struct error *error) {
    enum error_code code = identify(&models->wanted, models, request, error);
    if (code != ERR_OK)
        return code;
    struct entry *entry = entry_find(models, request->stages);
    if (!entry)
        entry = entry_make(models);
    entry->used = ++models->clock;
    bool ready = has_stages(models, entry, request->stages);
    /* The files may have been replaced since it was opened. */
    if (!ready || !hash_equal(&model_get_info(entry->model)->hash, &request->hash))
        code = entry_open(models, entry, request->stages, error);
    if (code != ERR_OK)
        return code;
    const struct hash *found = &model_get_info(entry->model)->hash;
    if (!hash_equal(found, &request->hash))
        return differs(entry->identity.path, "weights have", found, &request->hash, error);
    *out = entry->model;
    return ERR_OK;
}
