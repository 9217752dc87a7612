#include "worker/model/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"

/* JSON nodes take this many bytes a header byte at most; a header of real tensors takes about 8. */
#define NODE_BYTES_PER_HEADER_BYTE 24
#define INDEX_BYTES_MAX            (64u << 20)

struct entry {
    const char *name;
    struct tensor tensor;
    uint64_t begin, end; /* bytes of the shard's data */
    int shard;
};

struct shard {
    const char *name;     /* for errors; in the arena */
    const uint8_t *bytes; /* header length, header, data */
    size_t size;
    size_t header_size;
    bool mapped; /* unmap it on close */
};

struct safetensors {
    struct arena arena; /* entries, names, JSON */
    const char *path;
    struct shard *shard;
    int shard_count;
    struct entry *entry; /* by name */
    size_t count;
    void *aligned; /* copies of tensors that are not aligned in their file */
};

static enum error_code bad(struct error *error, const struct shard *shard, const char *tensor,
                           const char *what) {
    if (tensor == NULL)
        return error_set(error, ERR_FORMAT, "%s: %s", shard->name, what);
    return error_set(error, ERR_FORMAT, "%s: tensor '%.128s': %s", shard->name, tensor, what);
}

static bool dtype_from_name(enum dtype *out, const char *name) {
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(dtype_name((enum dtype)i), name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

/* Shape to rank, dimensions and bytes. */
static enum error_code read_shape(struct entry *entry, uint64_t *bytes, const struct json *shape,
                                  const struct shard *shard, struct error *error) {
    if (shape == NULL || shape->type != JSON_ARRAY)
        return bad(error, shard, entry->name, "'shape' must be a list of whole numbers");
    if (shape->length > TENSOR_RANK_MAX)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' has %zu dimensions; at most %d are supported",
                         shard->name, entry->name, shape->length, TENSOR_RANK_MAX);
    *bytes = dtype_bytes(entry->tensor.dtype);
    for (const struct json *dim = shape->child; dim != NULL; dim = dim->next) {
        if (dim->type != JSON_NUMBER || !dim->is_integer || dim->integer < 0)
            return bad(error, shard, entry->name, "'shape' must be a list of whole numbers");
        if (__builtin_mul_overflow(*bytes, (uint64_t)dim->integer, bytes) || *bytes > INT64_MAX)
            return bad(error, shard, entry->name, "the shape's size does not fit 63 bits");
        entry->tensor.dim[entry->tensor.rank++] = dim->integer;
    }
    return ERR_OK;
}

static enum error_code read_entry(struct entry *entry, const struct json *node,
                                  const struct shard *shard, struct error *error) {
    entry->name = node->key;
    if (node->key[0] == 0 || strlen(node->key) > SAFETENSORS_NAME_MAX)
        return bad(error, shard, node->key, "the name must have 1 to 512 bytes");
    if (node->type != JSON_OBJECT)
        return bad(error, shard, node->key, "expected {dtype, shape, data_offsets}");
    for (const struct json *key = node->child; key != NULL; key = key->next) {
        if (strcmp(key->key, "dtype") != 0 && strcmp(key->key, "shape") != 0 &&
            strcmp(key->key, "data_offsets") != 0)
            return error_set(error, ERR_FORMAT,
                             "%s: tensor '%.128s' has an unknown key '%.64s'; expected dtype, "
                             "shape and data_offsets",
                             shard->name, node->key, key->key);
    }
    const char *dtype = json_text(node, "dtype", NULL);
    if (dtype == NULL)
        return bad(error, shard, node->key, "'dtype' is missing");
    if (!dtype_from_name(&entry->tensor.dtype, dtype))
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' is of type '%.32s'; supported are F32, BF16, F16, "
                         "F64, I64, I32 and U8",
                         shard->name, node->key, dtype);
    const struct json *offsets = json_get(node, "data_offsets");
    if (offsets == NULL || offsets->type != JSON_ARRAY || offsets->length != 2 ||
        !offsets->child->is_integer || !offsets->child->next->is_integer ||
        offsets->child->integer < 0 || offsets->child->next->integer < offsets->child->integer)
        return bad(error, shard, node->key, "'data_offsets' must be [begin, end], begin <= end");
    entry->begin = (uint64_t)offsets->child->integer;
    entry->end = (uint64_t)offsets->child->next->integer;
    uint64_t bytes = 0;
    enum error_code code = read_shape(entry, &bytes, json_get(node, "shape"), shard, error);
    if (code != ERR_OK)
        return code;
    if (entry->end - entry->begin != bytes)
        return error_set(error, ERR_FORMAT,
                         "%s: tensor '%.128s' takes %llu bytes by its shape and type, but "
                         "data_offsets give it %llu",
                         shard->name, node->key, (unsigned long long)bytes,
                         (unsigned long long)(entry->end - entry->begin));
    return ERR_OK;
}

static int by_offset(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Ranges in order cover the data from 0 to its end exactly. Points the tensors at their data. */
static enum error_code place_entries(struct entry *entry, size_t count, const struct shard *shard,
                                     struct error *error) {
    const uint8_t *data = shard->bytes + 8 + shard->header_size;
    uint64_t size = shard->size - 8 - shard->header_size, at = 0;
    qsort(entry, count, sizeof *entry, by_offset);
    for (size_t i = 0; i < count; i++) {
        if (entry[i].begin != at)
            return bad(error, shard, entry[i].name,
                       entry[i].begin < at ? "its data overlaps another tensor's"
                                           : "there is a hole before its data");
        if (entry[i].end > size)
            return error_set(error, ERR_FORMAT,
                             "%s: tensor '%.128s' ends at byte %llu of the data, but the file has "
                             "%llu: it was cut short; copy it again",
                             shard->name, entry[i].name, (unsigned long long)entry[i].end,
                             (unsigned long long)size);
        entry[i].tensor.data = data + entry[i].begin;
        at = entry[i].end;
    }
    if (at != size)
        return error_set(error, ERR_FORMAT, "%s: %llu bytes after the last tensor belong to none",
                         shard->name, (unsigned long long)(size - at));
    return ERR_OK;
}

static enum error_code check_metadata(const struct json *node, const struct shard *shard,
                                      struct error *error) {
    if (node->type != JSON_OBJECT)
        return bad(error, shard, NULL, "'__metadata__' must be a mapping of texts");
    for (const struct json *item = node->child; item != NULL; item = item->next)
        if (item->type != JSON_STRING)
            return bad(error, shard, NULL, "'__metadata__' must be a mapping of texts");
    return ERR_OK;
}

static enum error_code measure_header(struct shard *shard, struct error *error) {
    if (shard->size < 8)
        return error_set(error, ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                         shard->name, shard->size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | shard->bytes[i];
    if (length > SAFETENSORS_HEADER_MAX)
        return error_set(error, ERR_LIMIT,
                         "%s: the header says it has %llu bytes; at most %u are read: is this a "
                         "safetensors file?",
                         shard->name, (unsigned long long)length, SAFETENSORS_HEADER_MAX);
    if (length > shard->size - 8)
        return error_set(error, ERR_FORMAT,
                         "%s: the header says it has %llu bytes, but only %zu follow: the file was "
                         "cut short",
                         shard->name, (unsigned long long)length, shard->size - 8);
    shard->header_size = (size_t)length;
    return ERR_OK;
}

/* Add a shard's tensors to the file's. */
static enum error_code read_shard(struct safetensors *file, int index, struct error *error) {
    struct shard *shard = &file->shard[index];
    enum error_code code = measure_header(shard, error);
    if (code != ERR_OK)
        return code;
    const struct json *root;
    code =
        json_parse(&root, &file->arena, (const char *)shard->bytes + 8, shard->header_size, error);
    if (code != ERR_OK)
        return error_prefix(error, "%s: header: ", shard->name);
    if (root->type != JSON_OBJECT)
        return bad(error, shard, NULL, "the header must be a JSON object");
    size_t room = file->count + root->length;
    struct entry *entry = arena_array(&file->arena, room, sizeof *entry);
    if (entry == NULL)
        return error_set(error, ERR_LIMIT, "%s: too many tensors", shard->name);
    if (file->count > 0)
        memcpy(entry, file->entry, file->count * sizeof *entry);
    size_t count = file->count;
    for (const struct json *node = root->child; node != NULL; node = node->next) {
        if (strcmp(node->key, "__metadata__") == 0) {
            code = check_metadata(node, shard, error);
        } else {
            memset(&entry[count], 0, sizeof *entry);
            entry[count].shard = index;
            code = read_entry(&entry[count++], node, shard, error);
        }
        if (code != ERR_OK)
            return code;
    }
    code = place_entries(entry + file->count, count - file->count, shard, error);
    file->entry = entry;
    file->count = count;
    return code;
}

/* The format does not promise alignment; our kernels want it. Well-made files need no copy. */
static enum error_code align_tensors(struct safetensors *file, struct error *error) {
    size_t bytes = 0;
    for (size_t i = 0; i < file->count; i++) {
        struct entry *entry = &file->entry[i];
        if ((uintptr_t)entry->tensor.data % dtype_bytes(entry->tensor.dtype) != 0)
            bytes += (size_t)(entry->end - entry->begin + 63) / 64 * 64;
    }
    if (bytes == 0)
        return ERR_OK;
    uint8_t *at = file->aligned = aligned_alloc(64, bytes);
    if (at == NULL)
        return error_set(error, ERR_MEMORY, "%s: %zu bytes to align tensors", file->path, bytes);
    for (size_t i = 0; i < file->count; i++) {
        struct entry *entry = &file->entry[i];
        size_t size = (size_t)(entry->end - entry->begin);
        if ((uintptr_t)entry->tensor.data % dtype_bytes(entry->tensor.dtype) != 0) {
            memcpy(at, entry->tensor.data, size);
            entry->tensor.data = at;
            at += (size + 63) / 64 * 64;
        }
    }
    return ERR_OK;
}

static enum error_code finish(struct safetensors *file, struct error *error) {
    qsort(file->entry, file->count, sizeof *file->entry, by_name);
    for (size_t i = 1; i < file->count; i++) {
        const struct entry *a = &file->entry[i - 1], *b = &file->entry[i];
        if (strcmp(a->name, b->name) == 0)
            return error_set(error, ERR_FORMAT, "tensor '%.128s' is in %s and in %s", a->name,
                             file->shard[a->shard].name, file->shard[b->shard].name);
    }
    return align_tensors(file, error);
}

static enum error_code map_shard(struct safetensors *file, struct shard *shard, const char *path,
                                 struct error *error) {
    shard->name = arena_strdup(&file->arena, path, strlen(path));
    if (shard->name == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory for its name", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno(error, errno, "%s", path);
    struct stat stat;
    enum error_code code = ERR_OK;
    if (fstat(fd, &stat) != 0) {
        code = error_set_errno(error, errno, "%s", path);
    } else if (!S_ISREG(stat.st_mode)) {
        code = error_set(error, ERR_USAGE, "%s: not a regular file; expected safetensors", path);
    } else if (stat.st_size < 8) {
        code = error_set(error, ERR_FORMAT, "%s: %lld bytes are too few for a safetensors file",
                         path, (long long)stat.st_size);
    } else {
        void *bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (bytes == MAP_FAILED) {
            code = error_set_errno(error, errno, "%s: mapping it", path);
        } else {
            shard->bytes = bytes;
            shard->size = (size_t)stat.st_size;
            shard->mapped = true;
        }
    }
    close(fd);
    return code;
}

/* Room for the JSON of headers of `bytes` in all; address space, committed as it is used. */
static enum error_code create(struct safetensors **out, const char *path, int shards,
                              struct error *error) {
    struct safetensors *file = *out = calloc(1, sizeof *file);
    if (file == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory", path);
    enum error_code code = arena_open(
        &file->arena, (size_t)SAFETENSORS_HEADER_MAX * NODE_BYTES_PER_HEADER_BYTE, error);
    if (code == ERR_OK) {
        file->path = arena_strdup(&file->arena, path, strlen(path));
        file->shard = arena_zalloc(&file->arena, (size_t)shards * sizeof *file->shard);
        if (file->path == NULL || file->shard == NULL)
            code = error_set(error, ERR_MEMORY, "%s: no memory", path);
    }
    if (code != ERR_OK)
        safetensors_close(out);
    return code;
}

enum error_code safetensors_open_memory(struct safetensors **out, const void *bytes, size_t length,
                                        const char *name, struct error *error) {
    *out = NULL;
    struct safetensors *file;
    enum error_code code = create(&file, name, 1, error);
    if (file == NULL)
        return code;
    file->shard_count = 1;
    file->shard[0] = (struct shard){.name = file->path, .bytes = bytes, .size = length};
    code = read_shard(file, 0, error);
    if (code == ERR_OK)
        code = finish(file, error);
    if (code != ERR_OK)
        safetensors_close(&file);
    *out = file;
    return code;
}

static enum error_code open_single(struct safetensors **out, const char *path,
                                   struct error *error) {
    struct safetensors *file;
    enum error_code code = create(&file, path, 1, error);
    if (file == NULL)
        return code;
    file->shard_count = 1;
    code = map_shard(file, &file->shard[0], path, error);
    if (code == ERR_OK)
        code = read_shard(file, 0, error);
    if (code == ERR_OK)
        code = finish(file, error);
    if (code != ERR_OK)
        safetensors_close(&file);
    *out = file;
    return code;
}

/* The shard that `name` is in by the index; opened and read when it is new. */
static enum error_code add_shard(struct safetensors *file, const char *name, struct error *error) {
    char path[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    if (!file_name_is_plain(name))
        return error_set(error, ERR_FORMAT, "%s: '%.64s' is no plain file name", file->path, name);
    const char *slash = strrchr(file->path, '/');
    int length = slash == NULL ? 1 : (int)(slash - file->path);
    memcpy(folder, slash == NULL ? "." : file->path, (size_t)length);
    folder[length] = 0;
    enum error_code code = file_join(path, folder, name, error);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < file->shard_count; i++)
        if (strcmp(file->shard[i].name, path) == 0)
            return ERR_OK;
    if (file->shard_count == SAFETENSORS_SHARDS_MAX)
        return error_set(error, ERR_LIMIT, "%s: more than %d shards", file->path,
                         SAFETENSORS_SHARDS_MAX);
    int index = file->shard_count++;
    code = map_shard(file, &file->shard[index], path, error);
    if (code == ERR_MISSING)
        return error_prefix(error, "%s names a shard that is not there: ", file->path);
    return code == ERR_OK ? read_shard(file, index, error) : code;
}

/* The index and the shards name the same tensors in the same files. */
static enum error_code check_index(const struct safetensors *file, const struct json *map,
                                   struct error *error) {
    for (const struct json *item = map->child; item != NULL; item = item->next) {
        const struct entry key = {.name = item->key};
        const struct entry *entry = bsearch(&key, file->entry, file->count, sizeof key, by_name);
        const char *name = entry == NULL ? NULL : strrchr(file->shard[entry->shard].name, '/') + 1;
        if (name == NULL || strcmp(name, item->string) != 0)
            return error_set(error, ERR_FORMAT, "%s: tensor '%.128s' is not in %s", file->path,
                             item->key, item->string);
    }
    for (size_t i = 0; i < file->count; i++)
        if (json_get(map, file->entry[i].name) == NULL)
            return error_set(error, ERR_FORMAT, "%s does not name tensor '%.128s' of %s",
                             file->path, file->entry[i].name,
                             file->shard[file->entry[i].shard].name);
    return ERR_OK;
}

static enum error_code open_index(struct safetensors **out, const char *path, struct error *error) {
    struct safetensors *file;
    enum error_code code = create(&file, path, SAFETENSORS_SHARDS_MAX, error);
    if (file == NULL)
        return code;
    char *text = NULL;
    size_t length = 0;
    const struct json *root = NULL, *map = NULL;
    code = file_read(&text, &length, &file->arena, path, INDEX_BYTES_MAX, error);
    if (code == ERR_OK) {
        code = json_parse(&root, &file->arena, text, length, error);
        if (code != ERR_OK)
            code = error_prefix(error, "%s:", path);
    }
    if (code == ERR_OK) {
        map = root->type == JSON_OBJECT ? json_get(root, "weight_map") : NULL;
        if (map == NULL || map->type != JSON_OBJECT || map->length == 0)
            code = error_set(error, ERR_FORMAT, "%s: expected a mapping 'weight_map'", path);
    }
    const struct json *item = code == ERR_OK && map != NULL ? map->child : NULL;
    for (; item != NULL && code == ERR_OK; item = item->next)
        code = item->type == JSON_STRING
                   ? add_shard(file, item->string, error)
                   : error_set(error, ERR_FORMAT, "%s: '%.128s' must name a file", path, item->key);
    if (code == ERR_OK)
        code = finish(file, error);
    if (code == ERR_OK && map != NULL)
        code = check_index(file, map, error);
    if (code != ERR_OK)
        safetensors_close(&file);
    *out = file;
    return code;
}

enum error_code safetensors_open(struct safetensors **out, const char *path, struct error *error) {
    *out = NULL;
    size_t length = strlen(path);
    bool index = length > 5 && strcmp(path + length - 5, ".json") == 0;
    return index ? open_index(out, path, error) : open_single(out, path, error);
}

enum error_code safetensors_open_folder(struct safetensors **out, const char *folder,
                                        const char *stem, struct error *error) {
    *out = NULL;
    char name[128], path[FILE_PATH_BYTES], index[FILE_PATH_BYTES];
    (void)snprintf(name, sizeof name, "%s.safetensors", stem);
    enum error_code code = file_join(path, folder, name, error);
    (void)snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    if (code == ERR_OK)
        code = file_join(index, folder, name, error);
    if (code != ERR_OK)
        return code;
    if (access(path, F_OK) != 0 && access(index, F_OK) == 0)
        return safetensors_open(out, index, error);
    return safetensors_open(out, path, error);
}

void safetensors_close(struct safetensors **file) {
    if (*file == NULL)
        return;
    for (int i = 0; (*file)->shard != NULL && i < (*file)->shard_count; i++)
        if ((*file)->shard[i].mapped)
            munmap((void *)(uintptr_t)(*file)->shard[i].bytes, (*file)->shard[i].size);
    free((*file)->aligned);
    arena_close(&(*file)->arena);
    free(*file);
    *file = NULL;
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name) {
    const struct entry key = {.name = name};
    const struct entry *entry = bsearch(&key, file->entry, file->count, sizeof key, by_name);
    return entry == NULL ? NULL : &entry->tensor;
}

size_t safetensors_count(const struct safetensors *file) {
    return file->count;
}

const char *safetensors_name(const struct safetensors *file, size_t index) {
    assert(index < file->count);
    return file->entry[index].name;
}

const struct tensor *safetensors_tensor(const struct safetensors *file, size_t index) {
    assert(index < file->count);
    return &file->entry[index].tensor;
}

const char *safetensors_path(const struct safetensors *file) {
    return file->path;
}

int safetensors_shards(const struct safetensors *file) {
    return file->shard_count;
}

const uint8_t *safetensors_shard(const struct safetensors *file, int index, size_t *size,
                                 size_t *header) {
    assert(index >= 0 && index < file->shard_count);
    *size = file->shard[index].size;
    *header = 8 + file->shard[index].header_size;
    return file->shard[index].bytes;
}

static size_t tensor_bytes(const struct tensor *tensor) {
    return (size_t)tensor_elements(tensor) * dtype_bytes(tensor->dtype);
}

enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                  const char *const *names, size_t count, struct error *error) {
    struct buffer buffer = {0};
    struct json_writer writer = {.buffer = &buffer};
    uint64_t length = 0;
    buffer_add(&buffer, "\0\0\0\0\0\0\0\0", 8); /* the header's length, put in below */
    json_begin_object(&writer, NULL);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&writer, names[i]);
        json_put_text(&writer, "dtype", dtype_name(tensors[i].dtype));
        json_begin_array(&writer, "shape");
        for (int d = 0; d < tensors[i].rank; d++)
            json_put_int(&writer, NULL, tensors[i].dim[d]);
        json_end_array(&writer);
        json_begin_array(&writer, "data_offsets");
        json_put_int(&writer, NULL, (int64_t)length);
        length += tensor_bytes(&tensors[i]);
        json_put_int(&writer, NULL, (int64_t)length);
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_object(&writer);
    while (!buffer.failed && buffer.length % 8 != 0)
        buffer_add_text(&buffer, " ");
    for (int i = 0; !buffer.failed && i < 8; i++)
        buffer.data[i] = (char)((buffer.length - 8) >> (8 * i));
    for (size_t i = 0; i < count; i++)
        buffer_add(&buffer, tensors[i].data, tensor_bytes(&tensors[i]));
    enum error_code code = buffer.failed
                               ? error_set(error, ERR_MEMORY, "%s: %llu bytes to write", path,
                                           (unsigned long long)length)
                               : file_write(path, buffer.data, buffer.length, false, error);
    buffer_close(&buffer);
    return code;
}
