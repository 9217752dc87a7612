#include "worker/model/convert_items.h"

#include <stdio.h>
#include <string.h>

#include "worker/model/convert_quantise.h"
#include "worker/model/numbers.h"

#define QKV 3

struct items {
    struct safetensors_item *item;
    size_t count;
    struct arena *arena;
    const struct weights *weights;
    enum names_component component;
    const struct convert_options *options;
    bool original; /* the weights' own layout */
    struct error *error;
};

/* Computed in f32, whatever the model's type: never made narrower. */
static bool stays_as_it_is(const char *name, const struct tensor *tensor) {
    static const char *const exact[] = {
        "modulation",   "scale_shift_table", "time_embed",         "time_proj",
        "gamma",        "pos_embed",         "position_embedding", "relative_attention_bias",
        "cls_embedding"};
    bool found = tensor->rank < 2 || !numbers_are_float(tensor);
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        found = found || strstr(name, exact[i]) != NULL;
    return found && dtype_block(tensor->dtype) == 1;
}

static bool left_out(const struct items *items, const char *name) {
    static const char *const useless[] = {"spiece_model", "textual.",           "log_scale",
                                          "visual.head",  "visual_projection.", "text_model.",
                                          "logit_scale"};
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++)
        if (strncmp(name, useless[i], strlen(useless[i])) == 0)
            return true;
    return strcmp(name, "encoder.embed_tokens.weight") == 0 &&
           weights_find(items->weights, "shared.weight") != NULL;
}

/* `name` with its one `from` put as `to`; false when it has none or it does not fit. */
static bool replace(char out[WEIGHTS_NAME_MAX], const char *name, const char *from,
                    const char *to) {
    const char *at = strstr(name, from);
    if (at == NULL)
        return false;
    int length =
        snprintf(out, WEIGHTS_NAME_MAX, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
    return length > 0 && length < WEIGHTS_NAME_MAX;
}

static bool target_name(const struct items *items, char out[WEIGHTS_NAME_MAX], const char *name) {
    bool to_original = items->options->layout == CONVERT_ORIGINAL;
    if (items->original == to_original)
        return snprintf(out, WEIGHTS_NAME_MAX, "%s", name) < WEIGHTS_NAME_MAX;
    return to_original ? names_to_original(out, WEIGHTS_NAME_MAX, name, items->component)
                       : names_to_diffusers(out, WEIGHTS_NAME_MAX, name, items->component);
}

/* CLIP's embeddings have leading dimensions of 1 in the original layout. */
static void fit_shape(const struct items *items, struct tensor *shape, const char *target) {
    bool to_original = items->options->layout == CONVERT_ORIGINAL;
    int rank = shape->rank;
    if (items->component != NAMES_CLIP || items->original == to_original)
        return;
    if (strstr(target, to_original ? "cls_embedding" : "class_embedding") != NULL)
        rank = to_original ? 3 : 1;
    else if (strstr(target, to_original ? "pos_embedding" : "position_embedding") != NULL)
        rank = to_original ? 3 : 2;
    while (shape->rank > rank && shape->dim[0] == 1) {
        memmove(shape->dim, shape->dim + 1, (TENSOR_RANK_MAX - 1) * sizeof *shape->dim);
        shape->rank--;
    }
    while (shape->rank < rank) {
        memmove(shape->dim + 1, shape->dim, (TENSOR_RANK_MAX - 1) * sizeof *shape->dim);
        shape->dim[0] = 1;
        shape->rank++;
    }
}

/* The item at the end of the list becomes data, and the one after it its scales. */
static enum error_code add_scales(struct items *items, const struct tensor *source) {
    struct safetensors_item *data = &items->item[items->count], *scales = data + 1;
    char name[WEIGHTS_NAME_MAX];
    int length = snprintf(name, sizeof name, "%s_scale", data->name);
    if (source->scale == NULL || items->options->typed) {
        convert_quantise(data, scales, items->options);
    } else { /* both as they are */
        int64_t columns = (source->dim[1] + source->scale_columns - 1) / source->scale_columns;
        *scales = (struct safetensors_item){.sources = 1};
        scales->source[0] = (struct tensor){
            .data = source->scale, .dtype = DTYPE_F32, .rank = 2, .dim = {source->dim[0], columns}};
        scales->shape = scales->source[0];
        data->source[0].scale = NULL;
    }
    scales->name =
        length < WEIGHTS_NAME_MAX ? arena_strdup(items->arena, name, (size_t)length) : NULL;
    if (scales->name == NULL)
        return error_set(items->error, ERR_LIMIT, "'%.128s' is too long a name", data->name);
    items->count += 2;
    return ERR_OK;
}

/* The type to write; *quantised: in blocks with scales. */
static enum dtype target_type(const struct items *items, bool *quantised, const char *target,
                              const struct tensor *source) {
    const struct convert_options *options = items->options;
    bool narrow = options->dtype == DTYPE_I8 || options->dtype == DTYPE_F8_E4M3;
    bool blocks = dtype_block(source->dtype) > 1 || source->scale != NULL;
    *quantised = options->typed ? narrow && convert_is_quantisable(target, source)
                                : source->scale != NULL && source->scale_rows == 1;
    if (options->typed && narrow) /* what is not quantised has no blocks either */
        return blocks ? DTYPE_BF16 : source->dtype;
    return options->typed && !stays_as_it_is(target, source) ? options->dtype : source->dtype;
}

static enum error_code add(struct items *items, const char *target, const struct tensor *sources,
                           int count) {
    struct safetensors_item *item = &items->item[items->count];
    bool quantised;
    *item = (struct safetensors_item){.shape = sources[0], .sources = count};
    item->name = arena_strdup(items->arena, target, strlen(target));
    if (item->name == NULL)
        return error_set(items->error, ERR_LIMIT, "%s: too many tensors",
                         weights_path(items->weights));
    item->shape.data = NULL;
    item->shape.scale = NULL;
    item->shape.dim[0] *= count > 1 ? count : 1;
    item->shape.dtype = target_type(items, &quantised, target, &sources[0]);
    fit_shape(items, &item->shape, target);
    for (int i = 0; i < count; i++)
        item->source[i] = sources[i];
    if (quantised && count == 1)
        return add_scales(items, &sources[0]);
    bool kept = sources[0].scale != NULL && item->shape.dtype == sources[0].dtype;
    if (kept || dtype_block(item->shape.dtype) > 1)
        return error_set(items->error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' is of type %s%s: choose a type to convert to",
                         weights_path(items->weights), target, dtype_name(item->shape.dtype),
                         kept ? " with a scale" : ", which safetensors does not have");
    items->count++;
    return ERR_OK;
}

/* One tensor of CLIP's q, k and v to three. */
static enum error_code split(struct items *items, const char *target, const struct tensor *all) {
    static const char *const names[QKV] = {"q_proj", "k_proj", "v_proj"};
    enum error_code code = ERR_OK;
    struct tensor part = *all;
    part.dim[0] = all->dim[0] / QKV;
    for (int i = 0; i < QKV && code == ERR_OK; i++) {
        char name[WEIGHTS_NAME_MAX];
        part.data = (const char *)all->data + (size_t)i * tensor_bytes(&part);
        code = replace(name, target, "to_qkv", names[i])
                   ? add(items, name, &part, 1)
                   : error_set(items->error, ERR_LIMIT, "'%.128s' is too long a name", target);
    }
    return code;
}

/* And three to one; `name` is q's. */
static enum error_code join(struct items *items, const char *name) {
    static const char *const names[QKV] = {"q_proj", "k_proj", "v_proj"};
    struct tensor parts[QKV];
    char other[WEIGHTS_NAME_MAX], target[WEIGHTS_NAME_MAX];
    for (int i = 0; i < QKV; i++) {
        const struct tensor *part =
            replace(other, name, "q_proj", names[i]) ? weights_find(items->weights, other) : NULL;
        if (part == NULL || part->dtype != weights_find(items->weights, name)->dtype)
            return error_set(items->error, ERR_MISSING, "%s: '%.128s' is not whole with k and v",
                             weights_path(items->weights), name);
        parts[i] = *part;
    }
    if (!replace(other, name, "q_proj", "to_qkv") || !target_name(items, target, other))
        return error_set(items->error, ERR_LIMIT, "'%.128s' is too long a name", name);
    return add(items, target, parts, QKV);
}

static enum error_code add_one(struct items *items, size_t index) {
    const char *name = weights_name(items->weights, index);
    const struct tensor *tensor = weights_tensor(items->weights, index);
    char target[WEIGHTS_NAME_MAX];
    bool clip = items->component == NAMES_CLIP;
    bool other = items->original != (items->options->layout == CONVERT_ORIGINAL);
    if (left_out(items, name))
        return ERR_OK;
    if (clip && other && strstr(name, ".self_attn.q_proj.") != NULL)
        return join(items, name);
    if (clip && other &&
        (strstr(name, ".self_attn.k_proj.") != NULL || strstr(name, ".self_attn.v_proj.") != NULL))
        return ERR_OK;
    if (!target_name(items, target, name))
        return error_set(items->error, ERR_LIMIT, "'%.128s' is too long a name", name);
    if (clip && other && strstr(name, ".attn.to_qkv.") != NULL && tensor->dim[0] % QKV == 0)
        return split(items, target, tensor);
    return add(items, target, tensor, 1);
}

enum error_code convert_items(struct safetensors_item **out, size_t *count, struct arena *arena,
                              const struct weights *weights, enum names_component component,
                              const struct convert_options *options, struct error *error) {
    struct items items = {.arena = arena,
                          .weights = weights,
                          .component = component,
                          .options = options,
                          .error = error};
    items.original = weights_find(weights, names_original_mark(component)) != NULL;
    items.item = arena_array(arena, QKV * weights_count(weights), sizeof *items.item);
    enum error_code code = items.item != NULL ? ERR_OK
                                              : error_set(error, ERR_LIMIT, "%s: too many tensors",
                                                          weights_path(weights));
    for (size_t i = 0; i < weights_count(weights) && code == ERR_OK; i++)
        code = add_one(&items, i);
    *out = items.item;
    *count = items.count;
    return code;
}
