/* One safetensors file: 8 bytes of header length (little endian), a JSON header, and data. Ranges
 * of tensors begin at 0, leave no hole, do not overlap, and end where the file ends. */
#include <stdlib.h>
#include <string.h>

#include "worker/model/weights_internal.h"

struct entry {
    const char *name;
    struct tensor tensor;
    uint64_t begin, end; /* bytes of the file's data */
};

static bool dtype_from_name(enum dtype *out, const char *name) {
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtype_block((enum dtype)i) == 1 && strcmp(dtype_name((enum dtype)i), name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

/* Shape to rank, dimensions and bytes. */
static enum error_code read_shape(struct entry *entry, uint64_t *bytes, const struct json *shape,
                                  const struct weights_file *file, struct error *error) {
    if (shape == NULL || shape->type != JSON_ARRAY)
        return weights_bad(error, file, entry->name, "'shape' must be a list of whole numbers");
    if (shape->length > TENSOR_RANK_MAX)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' has %zu dimensions; at most %d are supported",
                         file->name, entry->name, shape->length, TENSOR_RANK_MAX);
    *bytes = dtype_bytes(entry->tensor.dtype);
    for (const struct json *dim = shape->child; dim != NULL; dim = dim->next) {
        if (dim->type != JSON_NUMBER || !dim->is_integer || dim->integer < 0)
            return weights_bad(error, file, entry->name, "'shape' must be a list of whole numbers");
        if (__builtin_mul_overflow(*bytes, (uint64_t)dim->integer, bytes) || *bytes > INT64_MAX)
            return weights_bad(error, file, entry->name, "the shape's size does not fit 63 bits");
        entry->tensor.dim[entry->tensor.rank++] = dim->integer;
    }
    return ERR_OK;
}

static enum error_code read_entry(struct entry *entry, const struct json *node,
                                  const struct weights_file *file, struct error *error) {
    entry->name = node->key;
    if (node->type != JSON_OBJECT)
        return weights_bad(error, file, node->key, "expected {dtype, shape, data_offsets}");
    for (const struct json *key = node->child; key != NULL; key = key->next) {
        if (strcmp(key->key, "dtype") != 0 && strcmp(key->key, "shape") != 0 &&
            strcmp(key->key, "data_offsets") != 0)
            return error_set(error, ERR_FORMAT,
                             "%s: tensor '%.128s' has an unknown key '%.64s'; expected dtype, "
                             "shape and data_offsets",
                             file->name, node->key, key->key);
    }
    const char *dtype = json_text(node, "dtype", NULL);
    if (dtype == NULL)
        return weights_bad(error, file, node->key, "'dtype' is missing");
    if (!dtype_from_name(&entry->tensor.dtype, dtype))
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' is of type '%.32s'; supported are F32, BF16, F16, "
                         "F64, F8_E4M3, F8_E5M2, I64, I32 and U8",
                         file->name, node->key, dtype);
    const struct json *offsets = json_get(node, "data_offsets");
    if (offsets == NULL || offsets->type != JSON_ARRAY || offsets->length != 2 ||
        !offsets->child->is_integer || !offsets->child->next->is_integer ||
        offsets->child->integer < 0 || offsets->child->next->integer < offsets->child->integer)
        return weights_bad(error, file, node->key,
                           "'data_offsets' must be [begin, end], begin <= end");
    entry->begin = (uint64_t)offsets->child->integer;
    entry->end = (uint64_t)offsets->child->next->integer;
    uint64_t bytes = 0;
    enum error_code code = read_shape(entry, &bytes, json_get(node, "shape"), file, error);
    if (code != ERR_OK)
        return code;
    if (entry->end - entry->begin != bytes)
        return error_set(error, ERR_FORMAT,
                         "%s: tensor '%.128s' takes %llu bytes by its shape and type, but "
                         "data_offsets give it %llu",
                         file->name, node->key, (unsigned long long)bytes,
                         (unsigned long long)(entry->end - entry->begin));
    return ERR_OK;
}

static int by_offset(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Ranges in order cover the data from 0 to its end exactly. Points the tensors at their data. */
static enum error_code place_entries(struct entry *entry, size_t count,
                                     const struct weights_file *file, struct error *error) {
    const uint8_t *data = file->bytes + file->header;
    uint64_t size = file->size - file->header, at = 0;
    qsort(entry, count, sizeof *entry, by_offset);
    for (size_t i = 0; i < count; i++) {
        if (entry[i].begin != at)
            return weights_bad(error, file, entry[i].name,
                               entry[i].begin < at ? "its data overlaps another tensor's"
                                                   : "there is a hole before its data");
        if (entry[i].end > size)
            return error_set(error, ERR_FORMAT,
                             "%s: tensor '%.128s' ends at byte %llu of the data, but the file has "
                             "%llu: it was cut short; copy it again",
                             file->name, entry[i].name, (unsigned long long)entry[i].end,
                             (unsigned long long)size);
        entry[i].tensor.data = data + entry[i].begin;
        at = entry[i].end;
    }
    if (at != size)
        return error_set(error, ERR_FORMAT, "%s: %llu bytes after the last tensor belong to none",
                         file->name, (unsigned long long)(size - at));
    return ERR_OK;
}

static enum error_code check_metadata(const struct json *node, const struct weights_file *file,
                                      struct error *error) {
    if (node->type != JSON_OBJECT)
        return weights_bad(error, file, NULL, "'__metadata__' must be a mapping of texts");
    for (const struct json *item = node->child; item != NULL; item = item->next)
        if (item->type != JSON_STRING)
            return weights_bad(error, file, NULL, "'__metadata__' must be a mapping of texts");
    return ERR_OK;
}

static enum error_code measure_header(struct weights_file *file, struct error *error) {
    if (file->size < 8)
        return error_set(error, ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                         file->name, file->size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | file->bytes[i];
    if (length > WEIGHTS_HEADER_MAX)
        return error_set(error, ERR_LIMIT,
                         "%s: the header says it has %llu bytes; at most %u are read: is this a "
                         "safetensors file?",
                         file->name, (unsigned long long)length, WEIGHTS_HEADER_MAX);
    if (length > file->size - 8)
        return error_set(error, ERR_FORMAT,
                         "%s: the header says it has %llu bytes, but only %zu follow: the file was "
                         "cut short",
                         file->name, (unsigned long long)length, file->size - 8);
    file->header = 8 + (size_t)length;
    return ERR_OK;
}

enum error_code safetensors_read(struct weights *weights, int index, struct error *error) {
    struct weights_file *file = &weights->file[index];
    const struct json *root;
    enum error_code code = measure_header(file, error);
    if (code != ERR_OK)
        return code;
    code =
        json_parse(&root, &weights->arena, (const char *)file->bytes + 8, file->header - 8, error);
    if (code != ERR_OK)
        return error_prefix(error, "%s: header: ", file->name);
    if (root->type != JSON_OBJECT)
        return weights_bad(error, file, NULL, "the header must be a JSON object");
    if (root->length > WEIGHTS_TENSORS_MAX + 1) /* __metadata__ */
        return weights_too_many(error, file->name);
    struct entry *entry = arena_zalloc(&weights->arena, root->length * sizeof *entry);
    if (entry == NULL)
        return error_set(error, ERR_LIMIT, "%s: too many tensors", file->name);
    size_t count = 0;
    for (const struct json *node = root->child; node != NULL && code == ERR_OK; node = node->next) {
        if (strcmp(node->key, "__metadata__") == 0)
            code = check_metadata(node, file, error);
        else
            code = read_entry(&entry[count++], node, file, error);
    }
    if (code == ERR_OK)
        code = place_entries(entry, count, file, error);
    for (size_t i = 0; i < count && code == ERR_OK; i++)
        code = weights_add(weights, entry[i].name, &entry[i].tensor, index, error);
    return code;
}
