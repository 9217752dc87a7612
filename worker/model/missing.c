#include "worker/model/missing.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "worker/model/components.h"
#include "worker/model/config.h"
#include "worker/model/describe.h"

#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define INDEX_ARENA     ((size_t)1 << 30) /* address space for what is parsed of it */

struct list {
    struct buffer *out;
    const char *folder;
    int lines;
};

static void add(struct list *list, const char *component, const char *what) {
    buffer_printf(list->out, "%s: %s\n", component, what);
    list->lines++;
}

static bool is_there(const char *folder, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, folder, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

/* The map's items are by tensor: a shard is looked for where it is named first. */
static bool is_named_before(const struct json *map, const struct json *item) {
    for (const struct json *other = map->child; other != item; other = other->next)
        if (other->type == JSON_STRING && strcmp(other->string, item->string) == 0)
            return true;
    return false;
}

static void add_shards(struct list *list, const char *component, const char *index) {
    char folder[FILE_PATH_BYTES], what[FILE_PATH_BYTES + 64];
    struct arena arena;
    const struct json *root, *map = NULL;
    char *text;
    size_t length;
    (void)snprintf(folder, sizeof folder, "%s", index);
    *strrchr(folder, '/') = 0; /* file_join has put one there */
    if (arena_open(&arena, INDEX_ARENA, NULL) != ERR_OK)
        return;
    if (file_read(&text, &length, &arena, index, INDEX_BYTES_MAX, NULL) == ERR_OK &&
        json_parse(&root, &arena, text, length, NULL) == ERR_OK && root->type == JSON_OBJECT)
        map = json_get(root, "weight_map");
    if (map != NULL && map->length > WEIGHTS_TENSORS_MAX) /* opening it says so */
        map = NULL;
    const struct json *before = NULL; /* the one looked at last: tensors of a shard come together */
    for (const struct json *item = map != NULL ? map->child : NULL; item; item = item->next) {
        if (item->type != JSON_STRING || !file_name_is_plain(item->string) ||
            (before != NULL && strcmp(before->string, item->string) == 0))
            continue;
        before = item;
        if (is_there(folder, item->string) || is_named_before(map, item))
            continue;
        (void)snprintf(what, sizeof what, "%s, which %s names", item->string, index);
        add(list, component, what);
    }
    arena_close(&arena);
}

static void add_component(struct list *list, const char *component) {
    char path[FILE_PATH_BYTES];
    struct weights *weights = NULL;
    struct error error = {0};
    if (component_find(path, list->folder, component)) {
        if (text_ends_with(path, ".json"))
            add_shards(list, component, path);
    } else if (component_open(&weights, list->folder, component, &error) == ERR_MISSING) {
        (void)component_missing(list->folder, component, &error);
        add(list, component, error.detail);
    }
    weights_close(&weights);
}

static void add_denoiser(struct list *list, const struct denoiser_config *denoiser) {
    for (int i = 0; i < denoiser->experts; i++)
        add_component(list, denoiser->folder[i]);
}

static bool has_image_branch(const char *folder, const char *component) {
    struct weights *weights;
    struct error ignored;
    if (component_open(&weights, folder, component, &ignored) != ERR_OK)
        return false;
    bool has = describe_has_image_branch(weights);
    weights_close(&weights);
    return has;
}

static void add_tokenizer(struct list *list) {
    char json[96], pieces[96];
    const char *tokenizer = component_tokenizer(list->folder);
    (void)snprintf(json, sizeof json, "%s/tokenizer.json", tokenizer);
    (void)snprintf(pieces, sizeof pieces, "%s/spiece.model", tokenizer);
    if (!is_there(list->folder, json) && !is_there(list->folder, pieces))
        add(list, "tokenizer",
            "neither tokenizer.json nor spiece.model in tokenizer/ or "
            "google/umt5-xxl/");
}

int missing_list(struct buffer *out, const char *folder) {
    static const char scheduler[] = "scheduler/scheduler_config.json";
    struct list list = {.out = out, .folder = folder};
    struct model_config config;
    struct error error = {0};
    enum error_code code = config_read_model(&config, folder, &error);
    if (code != ERR_OK && config.window.experts == 0 && config.keyframe.experts == 0)
        return 0;
    if (is_there(folder, "model_index.json") && !is_there(folder, scheduler))
        add(&list, "scheduler", scheduler);
    const struct denoiser_config *keyframe = &config.keyframe, *window = &config.window;
    add_denoiser(&list, keyframe);
    if (strcmp(keyframe->folder[0], window->folder[0]) != 0)
        add_denoiser(&list, window);
    if (config.image_encoder ||
        (window->experts > 0 && has_image_branch(folder, window->folder[0])))
        add_component(&list, "image_encoder");
    add_component(&list, "text_encoder");
    add_tokenizer(&list);
    add_component(&list, "vae");
    return list.lines;
}
