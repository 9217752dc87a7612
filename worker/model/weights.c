#include "worker/model/weights.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "worker/model/weights_internal.h"

/* JSON nodes take this many bytes a header byte at most; a header of real tensors takes about 8. */
#define NODE_BYTES_PER_HEADER_BYTE 24

enum error_code weights_bad(struct error *error, const struct weights_file *file, const char *name,
                            const char *what) {
    if (name == NULL)
        return error_set(error, ERR_FORMAT, "%s: %s", file->name, what);
    return error_set(error, ERR_FORMAT, "%s: tensor '%.128s': %s", file->name, name, what);
}

enum error_code weights_too_many(struct error *error, const char *path) {
    return error_set(error, ERR_LIMIT,
                     "%s: more than %d tensors; no model that is known has as many", path,
                     WEIGHTS_TENSORS_MAX);
}

enum error_code weights_both(struct error *error, const char *path, const char *index) {
    return error_set(error, ERR_USAGE,
                     "%s is whole, and %s names shards of the same: leave one of them there", path,
                     index);
}

enum error_code weights_add(struct weights *weights, const char *name, const struct tensor *tensor,
                            int file, struct error *error) {
    if (name[0] == 0 || strlen(name) > WEIGHTS_NAME_MAX)
        return weights_bad(error, &weights->file[file], name, "the name must have 1 to 512 bytes");
    if (weights->count == WEIGHTS_TENSORS_MAX)
        return weights_too_many(error, weights->file[file].name);
    if (weights->count == weights->room) {
        size_t room = weights->room == 0 ? 256 : 2 * weights->room;
        struct weights_entry *entry = arena_array(&weights->arena, room, sizeof *entry);
        if (entry == NULL)
            return error_set(error, ERR_LIMIT, "%s: too many tensors", weights->file[file].name);
        if (weights->count > 0)
            memcpy(entry, weights->entry, weights->count * sizeof *entry);
        weights->entry = entry;
        weights->room = room;
    }
    weights->entry[weights->count++] =
        (struct weights_entry){.name = name, .tensor = *tensor, .file = file};
    return ERR_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct weights_entry *)a)->name, ((const struct weights_entry *)b)->name);
}

static bool is_aligned(const struct tensor *tensor) {
    return (uintptr_t)tensor->data % dtype_align(tensor->dtype) == 0;
}

/* The formats do not promise alignment; our kernels want it. Well-made files need no copy. */
static enum error_code align_tensors(struct weights *weights, struct error *error) {
    size_t bytes = 0;
    for (size_t i = 0; i < weights->count; i++)
        if (!is_aligned(&weights->entry[i].tensor))
            bytes += (tensor_bytes(&weights->entry[i].tensor) + 63) / 64 * 64;
    if (bytes == 0)
        return ERR_OK;
    uint8_t *at = weights->aligned = aligned_alloc(64, bytes);
    if (at == NULL)
        return error_set(error, ERR_MEMORY, "%s: %zu bytes to align tensors", weights->path, bytes);
    for (size_t i = 0; i < weights->count; i++) {
        struct tensor *tensor = &weights->entry[i].tensor;
        size_t size = tensor_bytes(tensor);
        if (!is_aligned(tensor)) {
            memcpy(at, tensor->data, size);
            tensor->data = at;
            at += (size + 63) / 64 * 64;
        }
    }
    return ERR_OK;
}

enum error_code weights_sort(struct weights *weights, struct error *error) {
    if (weights->count > 0)
        qsort(weights->entry, weights->count, sizeof *weights->entry, by_name);
    for (size_t i = 1; i < weights->count; i++) {
        const struct weights_entry *a = &weights->entry[i - 1], *b = &weights->entry[i];
        if (strcmp(a->name, b->name) == 0)
            return error_set(error, ERR_FORMAT, "tensor '%.128s' is in %s and in %s", a->name,
                             weights->file[a->file].name, weights->file[b->file].name);
    }
    return ERR_OK;
}

static enum error_code finish(struct weights *weights, struct error *error) {
    enum error_code code = weights_sort(weights, error);
    return code == ERR_OK ? align_tensors(weights, error) : code;
}

/* By its first bytes. */
static enum error_code read_file(struct weights *weights, int index, struct error *error) {
    const struct weights_file *file = &weights->file[index];
    static const uint8_t old_torch[] = {0x80, 0x02, 0x8a, 0x0a}; /* a pickle of torch's magic */
    if (index == 0)
        weights->format = pth_is(file)    ? WEIGHTS_PTH
                          : gguf_is(file) ? WEIGHTS_GGUF
                                          : WEIGHTS_SAFETENSORS;
    if (pth_is(file))
        return pth_read(weights, index, error);
    if (gguf_is(file))
        return gguf_read(weights, index, error);
    if (file->size >= sizeof old_torch && memcmp(file->bytes, old_torch, sizeof old_torch) == 0)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: the format that torch.save wrote before 1.6; load and save it with a "
                         "newer torch, or as safetensors",
                         file->name);
    return safetensors_read(weights, index, error);
}

static enum error_code map_file(struct weights_file *file, struct error *error) {
    int fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno(error, errno, "%s", file->name);
    struct stat stat;
    enum error_code code = ERR_OK;
    if (fstat(fd, &stat) != 0) {
        code = error_set_errno(error, errno, "%s", file->name);
    } else if (!S_ISREG(stat.st_mode)) {
        code = error_set(error, ERR_USAGE, "%s: not a regular file; expected weights", file->name);
    } else if (stat.st_size < 8) {
        code = error_set(error, ERR_FORMAT, "%s: %lld bytes are too few for a weight file",
                         file->name, (long long)stat.st_size);
    } else {
        void *bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (bytes == MAP_FAILED) {
            code = error_set_errno(error, errno, "%s: mapping it", file->name);
        } else {
            file->bytes = bytes;
            file->size = (size_t)stat.st_size;
            file->mapped = true;
        }
    }
    close(fd);
    return code;
}

enum error_code weights_add_path(struct weights *weights, const char *path, struct error *error) {
    if (weights->file_count == WEIGHTS_FILES_MAX)
        return error_set(error, ERR_LIMIT, "%s: more than %d files", weights->path,
                         WEIGHTS_FILES_MAX);
    int index = weights->file_count++;
    struct weights_file *file = &weights->file[index];
    file->name = arena_strdup(&weights->arena, path, strlen(path));
    if (file->name == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory for its name", path);
    enum error_code code = map_file(file, error);
    return code == ERR_OK ? read_file(weights, index, error) : code;
}

/* Room for the JSON of headers; address space, committed as it is used. */
static enum error_code create(struct weights **out, const char *path, struct error *error) {
    struct weights *weights = *out = calloc(1, sizeof *weights);
    if (weights == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory", path);
    enum error_code code =
        arena_open(&weights->arena, (size_t)WEIGHTS_HEADER_MAX * NODE_BYTES_PER_HEADER_BYTE, error);
    if (code == ERR_OK) {
        weights->path = arena_strdup(&weights->arena, path, strlen(path));
        weights->file =
            arena_zalloc(&weights->arena, (size_t)WEIGHTS_FILES_MAX * sizeof *weights->file);
        if (weights->path == NULL || weights->file == NULL)
            code = error_set(error, ERR_MEMORY, "%s: no memory", path);
    }
    if (code != ERR_OK)
        weights_close(out);
    return code;
}

enum error_code weights_open_memory(struct weights **out, const void *bytes, size_t length,
                                    const char *name, struct error *error) {
    enum error_code code = create(out, name, error);
    if (code != ERR_OK)
        return code;
    struct weights *weights = *out;
    weights->file_count = 1;
    weights->file[0] = (struct weights_file){.name = weights->path, .bytes = bytes, .size = length};
    code = read_file(weights, 0, error);
    if (code == ERR_OK)
        code = finish(weights, error);
    if (code == ERR_OK)
        code = weights_attach_scales(weights, error);
    if (code != ERR_OK)
        weights_close(out);
    return code;
}

enum error_code weights_open(struct weights **out, const char *path, struct error *error) {
    enum error_code code = create(out, path, error);
    if (code != ERR_OK)
        return code;
    struct weights *weights = *out;
    const struct json *map = NULL;
    bool index = text_ends_with(path, ".json");
    code = index ? weights_read_index(weights, &map, error)
                 : weights_add_path(weights, weights->path, error);
    if (code == ERR_OK)
        code = finish(weights, error);
    if (code == ERR_OK && index)
        code = weights_check_index(weights, map, error);
    if (code == ERR_OK)
        code = weights_attach_scales(weights, error);
    if (code != ERR_OK)
        weights_close(out);
    return code;
}

enum error_code weights_open_folder(struct weights **out, const char *folder, const char *stem,
                                    struct error *error) {
    *out = NULL;
    char name[128], path[FILE_PATH_BYTES], index[FILE_PATH_BYTES];
    (void)snprintf(name, sizeof name, "%s.safetensors", stem);
    enum error_code code = file_join(path, folder, name, error);
    (void)snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    if (code == ERR_OK)
        code = file_join(index, folder, name, error);
    if (code != ERR_OK)
        return code;
    bool whole = access(path, F_OK) == 0, sharded = access(index, F_OK) == 0;
    if (whole && sharded)
        return weights_both(error, path, index);
    return weights_open(out, sharded ? index : path, error);
}

void weights_close(struct weights **weights) {
    if (*weights == NULL)
        return;
    lora_close((*weights)->lora);
    const struct weights_file *file = (*weights)->file;
    for (int i = 0; file != NULL && i < (*weights)->file_count; i++)
        if (file[i].mapped)
            munmap((void *)(uintptr_t)file[i].bytes, file[i].size);
    free((*weights)->aligned);
    arena_close(&(*weights)->arena);
    free(*weights);
    *weights = NULL;
}

/* The first entry whose name is not before `name`. */
static size_t lower_bound(const struct weights *weights, const char *name) {
    size_t low = 0, high = weights->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(weights->entry[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *weights_select(struct weights *weights, const char *const *prefixes) {
    for (; *prefixes != NULL; prefixes++) {
        size_t length = strlen(*prefixes), first = lower_bound(weights, *prefixes), end = first;
        while (end < weights->count && strncmp(weights->entry[end].name, *prefixes, length) == 0)
            end++;
        if (end == first)
            continue;
        weights->entry += first;
        weights->count = weights->room = end - first;
        for (size_t i = 0; i < weights->count; i++)
            weights->entry[i].name += length;
        return *prefixes;
    }
    return NULL;
}

const struct weights_entry *weights_entry_find(const struct weights *weights, const char *name) {
    size_t at = lower_bound(weights, name);
    bool there = at < weights->count && strcmp(weights->entry[at].name, name) == 0;
    return there ? &weights->entry[at] : NULL;
}

const struct tensor *weights_find(const struct weights *weights, const char *name) {
    const struct weights_entry *entry = weights_entry_find(weights, name);
    return entry == NULL ? NULL : &entry->tensor;
}

size_t weights_count(const struct weights *weights) {
    return weights->count;
}

const char *weights_name(const struct weights *weights, size_t index) {
    assert(index < weights->count);
    return weights->entry[index].name;
}

const struct tensor *weights_tensor(const struct weights *weights, size_t index) {
    assert(index < weights->count);
    return &weights->entry[index].tensor;
}

const char *weights_path(const struct weights *weights) {
    return weights->path;
}

enum weights_format weights_format(const struct weights *weights) {
    return weights->format;
}

const char *weights_format_name(enum weights_format format) {
    static const char *const names[] = {"safetensors", "pth", "gguf"};
    return names[format];
}

bool weights_are_mapped(const struct weights *weights, const void *data) {
    const uint8_t *at = data;
    for (int i = 0; i < weights->file_count; i++) {
        const struct weights_file *file = &weights->file[i];
        if (file->mapped && at >= file->bytes && at < file->bytes + file->size)
            return true;
    }
    return false;
}

void weights_give_back(const struct weights *weights) {
    for (int i = 0; i < weights->file_count; i++)
        if (weights->file[i].mapped)
            (void)madvise((void *)(uintptr_t)weights->file[i].bytes, weights->file[i].size,
                          MADV_DONTNEED);
}

int weights_shards(const struct weights *weights) {
    return weights->file_count;
}

const uint8_t *weights_shard(const struct weights *weights, int index, size_t *size,
                             size_t *header) {
    assert(index >= 0 && index < weights->file_count);
    *size = weights->file[index].size;
    *header = weights->file[index].header;
    return weights->file[index].bytes;
}
