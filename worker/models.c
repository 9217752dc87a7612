#include "worker/models.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define OPEN_DEFAULT     4
#define OPEN_PARTS       3 /* texts, keyframes, windows: of a model that is opened in parts */
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
    struct model_bytes bytes; /* counted where there is a limit */
    bool resting;             /* what lies in files is not in memory */
    uint64_t used;            /* value of `clock` at the last use */
};

struct models {
    struct models_config config;
    struct entry entries[OPEN_LIMIT];
    struct identity wanted; /* by the request at hand */
    int stages;             /* likewise */
    uint64_t clock;
    bool parted;    /* no model is opened for more than a task's stages */
    unsigned alone; /* 1 << stages, or-ed: nothing is open beside what such a task needs */
};

enum error_code models_open(struct models **out, const struct models_config *config,
                            struct error *error) {
    struct models *models = calloc(1, sizeof *models);
    if (!models)
        return error_set(error, ERR_MEMORY, "no memory for the list of models");
    models->config = *config;
    if (models->config.open_max <= 0 || models->config.open_max > OPEN_LIMIT)
        models->config.open_max = config->memory > 0           ? OPEN_LIMIT
                                  : config->ops->wants.uploads ? OPEN_PARTS * OPEN_DEFAULT
                                                               : OPEN_DEFAULT;
    *out = models;
    return ERR_OK;
}

void models_close(struct models **models) {
    if (!*models)
        return;
    for (int i = 0; i < (*models)->config.open_max; i++)
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

/* Whether such tasks get their model with nothing beside it. */
static bool goes_alone(const struct models *models) {
    return (models->alone >> models->stages & 1) != 0;
}

static bool has_stages(const struct models *models, const struct entry *entry) {
    int stages = models->stages;
    return entry->model && (entry->stages & stages) == stages &&
           (!goes_alone(models) || entry->stages == stages);
}

/* Of the open models that can do it the one that was used last; NULL: there is none. */
static struct entry *entry_find(struct models *models) {
    struct entry *found = NULL;
    for (int i = 0; i < models->config.open_max; i++) {
        struct entry *entry = &models->entries[i];
        if (has_stages(models, entry) &&
            is_alike(&entry->identity, &models->wanted, models->stages) &&
            (!found || entry->used > found->used))
            found = entry;
    }
    return found;
}

static void entry_close(struct entry *entry) {
    model_close(&entry->model);
    *entry = (struct entry){.identity = entry->identity, .used = entry->used};
}

/* A place that is free, or that of the model used longest ago, which is closed. */
static struct entry *entry_make(struct models *models) {
    struct entry *entry = &models->entries[0];
    for (int i = 1; i < models->config.open_max && entry->model; i++)
        if (!models->entries[i].model || models->entries[i].used < entry->used)
            entry = &models->entries[i];
    entry_close(entry);
    *entry = (struct entry){.identity = models->wanted};
    return entry;
}

/* -- memory -------------------------------------------------------------------------------------
 */

/* Bytes that an open model holds while it is not used. */
static size_t bytes_held(const struct entry *entry) {
    return entry->resting ? entry->bytes.fixed : entry->bytes.all;
}

static size_t bytes_beside(const struct models *models, const struct entry *but) {
    size_t sum = 0;
    for (int i = 0; i < models->config.open_max; i++)
        if (&models->entries[i] != but && models->entries[i].model)
            sum += bytes_held(&models->entries[i]);
    return sum;
}

/* The open model used longest ago but for `kept`, of those that can rest if `awake`; NULL: none. */
static struct entry *entry_oldest(struct models *models, const struct entry *kept, bool awake) {
    struct entry *oldest = NULL;
    for (int i = 0; i < models->config.open_max; i++) {
        struct entry *entry = &models->entries[i];
        if (entry == kept || !entry->model ||
            (awake && (entry->resting || entry->bytes.all == entry->bytes.fixed)))
            continue;
        if (!oldest || entry->used < oldest->used)
            oldest = entry;
    }
    return oldest;
}

/* Half of the limit for weights, the rest for work: the others rest where they do not fit beside
 * all of this one's, and are closed where they do not beside what it holds at least. */
static void make_room(struct models *models, struct entry *entry) {
    size_t room = goes_alone(models) ? 0 : models->config.memory / 2;
    struct entry *oldest;
    while (entry->bytes.all + bytes_beside(models, entry) > room &&
           (oldest = entry_oldest(models, entry, true)) != NULL) {
        model_rest(oldest->model);
        oldest->resting = true;
    }
    while (entry->bytes.least + bytes_beside(models, entry) > room &&
           (oldest = entry_oldest(models, entry, false)) != NULL)
        entry_close(oldest);
    entry->resting = false;
}

/* What is left to an entry beside which room was made. */
static size_t bytes_left(const struct models *models, const struct entry *entry) {
    return models->config.memory - bytes_beside(models, entry);
}

bool models_shed(struct models *models) {
    const struct entry *last = NULL;
    for (int i = 0; i < models->config.open_max; i++)
        if (models->entries[i].model && models->entries[i].used == models->clock)
            last = &models->entries[i];
    bool whole = !models->parted && last && last->stages != models->stages;
    if (models->config.memory == 0 || (!whole && goes_alone(models)))
        return false;
    if (whole)
        models->parted = true;
    else
        models->alone |= 1u << models->stages;
    for (int i = 0; i < models->config.open_max; i++)
        entry_close(&models->entries[i]);
    return true;
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

/* The stages that are open of the same model, and the wanted ones. */
static int stages_together(const struct models *models) {
    int stages = models->stages;
    for (int i = 0; i < models->config.open_max; i++)
        if (models->entries[i].model && is_alike(&models->entries[i].identity, &models->wanted, -1))
            stages |= models->entries[i].stages;
    return stages;
}

/* Whether all that the folder can do would fit, streamed. Not where a LoRA is for one of its
 * transformers alone. */
static bool fits_whole(const struct models *models, const struct model_info *info,
                       const struct model_options *options) {
    struct model_options whole = *options;
    struct model_bytes bytes;
    struct error ignored;
    whole.stages = info->stages;
    return model_measure(&bytes, models->wanted.path, &whole, &ignored) == ERR_OK &&
           bytes.least <= models->config.memory / 2;
}

/* Stages of the same transformer are opened with it: they take nothing. */
static void add_free_stages(const struct models *models, struct model_options *options,
                            const struct model_info *info, const struct model_bytes *bytes) {
    static const int transformers[] = {STAGE_KEYFRAME, STAGE_WINDOW};
    for (int i = 0; i < 2; i++) {
        struct model_options more = *options;
        struct model_bytes sum;
        struct error ignored;
        more.stages |= transformers[i];
        if ((info->stages & transformers[i]) != 0 &&
            model_measure(&sum, models->wanted.path, &more, &ignored) == ERR_OK &&
            sum.all == bytes->all)
            options->stages = more.stages;
    }
}

/* Whether what is open of a model is opened again, as one with what it lacks: where that takes no
 * more than mapping files, or fits a limit that parts would share worse. Otherwise what is open
 * stays, and what it lacks comes beside it: 11 GB of text encoder go to a card once, not again with
 * the transformer and again with the VAE. */
static bool goes_together(const struct models *models, const struct model_info *info,
                          const struct model_options *options, bool small) {
    if (models->config.memory == 0)
        return small || !models->config.ops->wants.uploads;
    return !goes_alone(models) && !models->parted && fits_whole(models, info, options);
}

/* With what it has already and the new ones: a worker that only decodes never maps a transformer. A
 * small family is opened whole, once, rather than again for every stage; but LoRAs may be for one
 * of its transformers alone. */
static enum error_code choose_stages(const struct models *models, struct model_options *options,
                                     struct model_bytes *bytes, const struct model_info *info,
                                     struct error *error) {
    bool small = info->parameters <= SMALL_PARAMETERS && options->lora_count == 0;
    bool together = goes_together(models, info, options, small);
    if (together)
        options->stages = small ? info->stages : stages_together(models);
    if (together && models->config.memory == 0)
        return ERR_OK;
    enum error_code code = model_measure(bytes, models->wanted.path, options, error);
    if (code == ERR_OK && options->stages == models->stages && !goes_alone(models))
        add_free_stages(models, options, info, bytes);
    return code;
}

/* What is opened anew with other stages. */
static void close_covered(struct models *models, int stages) {
    for (int i = 0; i < models->config.open_max; i++) {
        struct entry *entry = &models->entries[i];
        if (entry->model && (entry->stages & ~stages) == 0 &&
            is_alike(&entry->identity, &models->wanted, -1))
            entry_close(entry);
    }
}

static enum error_code entry_open(struct models *models, struct entry *entry, struct error *error) {
    struct model_info info;
    struct model_lora loras[MODELS_LORAS_MAX];
    const struct identity *identity = &entry->identity;
    const struct models_config *config = &models->config;
    struct device_info device;
    config->ops->device_info(config->device, &device);
    struct model_options options = {.stages = models->stages,
                                    .dtype = config->dtype,
                                    .weights = identity->weights,
                                    .info = &info,
                                    .streaming = config->streaming,
                                    .user = config->user,
                                    .like = config->ops,
                                    .like_index = device.index,
                                    .loras = loras,
                                    .lora_count = identity->lora_count};
    for (int i = 0; i < identity->lora_count; i++)
        loras[i] = (struct model_lora){identity->loras[i].path, identity->loras[i].strength,
                                       identity->loras[i].expert};
    enum error_code code = model_read_info(&info, identity->path, error);
    if (code == ERR_OK)
        code = check_loras(identity, error);
    if (code == ERR_OK)
        code = choose_stages(models, &options, &entry->bytes, &info, error);
    if (code != ERR_OK)
        return code;
    close_covered(models, options.stages);
    if (config->memory > 0) {
        make_room(models, entry);
        options.memory = bytes_left(models, entry);
    }
    if (config->opening)
        config->opening(config->user, identity->path, options.stages);
    code = model_open(&entry->model, config->ops, config->device, identity->path, &options, error);
    entry->stages = code == ERR_OK ? options.stages : 0;
    return code;
}

enum error_code models_get(struct models *models, struct model **out,
                           const struct models_request *request, struct error *error) {
    enum error_code code = identify(&models->wanted, models, request, error);
    if (code != ERR_OK)
        return code;
    models->stages = request->stages;
    struct entry *entry = entry_find(models);
    /* The files may have been replaced since it was opened. */
    if (entry && !hash_equal(&model_get_info(entry->model)->hash, &request->hash)) {
        entry_close(entry);
        entry = NULL;
    }
    bool ready = entry != NULL;
    if (!ready)
        entry = entry_make(models);
    entry->used = ++models->clock;
    if (!ready)
        code = entry_open(models, entry, error);
    if (code != ERR_OK)
        return code;
    const struct hash *found = &model_get_info(entry->model)->hash;
    if (!hash_equal(found, &request->hash))
        return differs(entry->identity.path, "weights have", found, &request->hash, error);
    if (ready && models->config.memory > 0) {
        make_room(models, entry);
        model_set_memory(entry->model, bytes_left(models, entry));
    }
    *out = entry->model;
    return ERR_OK;
}
