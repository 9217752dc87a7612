/* Paths of outputs and objects, and lists of names. The one place in coordinator/ that knows the
 * layout of the store (worker/store/store.h owns it): objects/ab/<64 hex>. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "coordinator/server_internal.h"

enum error_code server_output_path(const struct server *server, char out[FILE_PATH_BYTES],
                                   const struct job_output *output, struct error *error) {
    if (output->path[0] != '/')
        return file_join(out, server->root, output->path, error);
    size_t length = strlen(output->path);
    if (length >= FILE_PATH_BYTES)
        return file_too_long(output->path, error);
    memcpy(out, output->path, length + 1);
    return ERR_OK;
}

void server_folder_of(char out[FILE_PATH_BYTES], const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    memcpy(out, slash ? path : ".", slash ? length : 1);
    out[slash ? length : 1] = '\0';
}

void server_remove_object(void *user, const struct hash *object) {
    struct server *server = user;
    char hex[HASH_HEX_BYTES], name[HASH_HEX_BYTES + 16], path[FILE_PATH_BYTES];
    hash_hex(hex, object);
    snprintf(name, sizeof name, "objects/%.2s/%s", hex, hex);
    if (file_join(path, server->store, name, NULL) == ERR_OK && unlink(path) == 0)
        server->removed_objects++;
}

/* -- lists of names ---------------------------------------------------------------------------- */

bool names_add(struct name_list *list, const char *name) {
    char **names = grow(list->names, &list->capacity, list->count, sizeof *names);
    if (!names)
        return false;
    list->names = names;
    char *copy = strdup(name);
    if (copy)
        list->names[list->count++] = copy;
    return copy != NULL;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void names_sort(struct name_list *list) {
    if (list->count)
        qsort(list->names, list->count, sizeof *list->names, compare_names);
}

bool names_has(const struct name_list *list, const char *name) {
    return list->count &&
           bsearch(&name, list->names, list->count, sizeof *list->names, compare_names);
}

/* Those in "a/b" are neighbours, from the place on where "a/b/" would be. */
static bool has_below(const struct name_list *list, const char *path) {
    size_t low = 0, high = list->count, length = strlen(path);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(list->names[middle], path, length);
        if (order < 0 || (order == 0 && (unsigned char)list->names[middle][length] < '/'))
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->count && list->names[low][length] == '/' &&
           strncmp(list->names[low], path, length) == 0;
}

bool names_meet(const struct name_list *list, const char *path) {
    char outer[FILE_PATH_BYTES];
    snprintf(outer, sizeof outer, "%s", path);
    for (; *outer; *strrchr(outer, '/') = '\0')
        if (names_has(list, outer))
            return true;
    return has_below(list, path);
}

void names_close(struct name_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (struct name_list){0};
}
