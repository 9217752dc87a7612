/* An index: which of several files holds each tensor. */
#include <string.h>

#include "base/file.h"
#include "worker/model/weights_internal.h"

#define INDEX_BYTES_MAX (64u << 20)

/* The file that `name` is by the index, added when it is new. */
static enum error_code add_shard(struct weights *weights, const char *name, struct error *error) {
    char path[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    if (!file_name_is_plain(name))
        return error_set(error, ERR_FORMAT, "%s: '%.64s' is no plain file name", weights->path,
                         name);
    const char *slash = strrchr(weights->path, '/');
    size_t length = slash == NULL ? 1 : (size_t)(slash - weights->path);
    memcpy(folder, slash == NULL ? "." : weights->path, length);
    folder[length] = 0;
    enum error_code code = file_join(path, folder, name, error);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < weights->file_count; i++)
        if (strcmp(weights->file[i].name, path) == 0)
            return ERR_OK;
    code = weights_add_path(weights, path, error);
    if (code == ERR_MISSING)
        return error_prefix(error, "%s names a shard that is not there: ", weights->path);
    return code;
}

enum error_code weights_read_index(struct weights *weights, const struct json **map,
                                   struct error *error) {
    const char *path = weights->path;
    const struct json *root;
    char *text;
    size_t length;
    enum error_code code = file_read(&text, &length, &weights->arena, path, INDEX_BYTES_MAX, error);
    if (code != ERR_OK)
        return code;
    code = json_parse(&root, &weights->arena, text, length, error);
    if (code != ERR_OK)
        return error_prefix(error, "%s:", path);
    *map = root->type == JSON_OBJECT ? json_get(root, "weight_map") : NULL;
    if (*map == NULL || (*map)->type != JSON_OBJECT || (*map)->length == 0)
        return error_set(error, ERR_FORMAT, "%s: expected a mapping 'weight_map'", path);
    if ((*map)->length > WEIGHTS_TENSORS_MAX)
        return weights_too_many(error, path);
    for (const struct json *item = (*map)->child; item != NULL && code == ERR_OK; item = item->next)
        code = item->type == JSON_STRING
                   ? add_shard(weights, item->string, error)
                   : error_set(error, ERR_FORMAT, "%s: '%.128s' must name a file", path, item->key);
    return code;
}

enum error_code weights_check_index(const struct weights *weights, const struct json *map,
                                    struct error *error) {
    bool named[WEIGHTS_TENSORS_MAX] = {false};
    for (const struct json *item = map->child; item != NULL; item = item->next) {
        const struct weights_entry *entry = weights_entry_find(weights, item->key);
        const char *name = entry == NULL ? NULL : strrchr(weights->file[entry->file].name, '/') + 1;
        if (name == NULL || strcmp(name, item->string) != 0)
            return error_set(error, ERR_FORMAT, "%s: tensor '%.128s' is not in %s", weights->path,
                             item->key, item->string);
        named[entry - weights->entry] = true;
    }
    for (size_t i = 0; i < weights->count; i++)
        if (!named[i])
            return error_set(error, ERR_FORMAT, "%s does not name tensor '%.128s' of %s",
                             weights->path, weights->entry[i].name,
                             weights->file[weights->entry[i].file].name);
    return ERR_OK;
}
