/* What torch.save writes: a ZIP of NAME/data.pkl, a pickle of a dict of tensors, and
 * NAME/data/<key>, the bytes of each storage. Several tensors may share one. */
#include <stdio.h>
#include <string.h>

#include "worker/model/pickle.h"
#include "worker/model/weights_internal.h"
#include "worker/model/zip.h"

#define PICKLE_BYTES_MAX  ((uint64_t)16 << 20)
#define PICKLE_ARENA      ((size_t)512 << 20) /* address space */
#define FOLDER_MAX        256                 /* bytes of NAME */
#define KEY_MAX           64                  /* bytes of a storage's key */
#define REBUILD           "torch._utils _rebuild_tensor_v2"
#define REBUILD_TYPED     "torch._utils _rebuild_tensor_v3" /* of types that no storage has */
#define BYTES             "torch.storage UntypedStorage"
#define REBUILD_PARAMETER "torch._utils _rebuild_parameter"

static const struct {
    const char *global;
    enum dtype dtype;
} storages[] = {
    {"torch FloatStorage", DTYPE_F32}, {"torch BFloat16Storage", DTYPE_BF16},
    {"torch HalfStorage", DTYPE_F16},  {"torch DoubleStorage", DTYPE_F64},
    {"torch LongStorage", DTYPE_I64},  {"torch IntStorage", DTYPE_I32},
    {"torch ByteStorage", DTYPE_U8},
};

#define STORAGES (sizeof storages / sizeof *storages)

static const struct {
    const char *global;
    enum dtype dtype;
} types[] = {{"torch float8_e4m3fn", DTYPE_F8_E4M3}, {"torch float8_e5m2", DTYPE_F8_E5M2}};

#define TYPES (sizeof types / sizeof *types)

/* Where checkpoints of a training keep the model's own state dict, in order of preference. */
static const char *const nested[] = {
    "state_dict", "model_state_dict", "generator_ema", "generator", "ema", "model", "module", NULL};

struct reader {
    struct weights *weights;
    struct weights_file *file;
    int index;
    struct zip zip;
    char folder[FOLDER_MAX];
    struct error *error;
};

/* -- one tensor ------------------------------------------------------------------------------ */

static enum error_code bad(const struct reader *reader, const char *name, const char *what) {
    return weights_bad(reader->error, reader->file, name, what);
}

static bool is(const struct pickle_value *value, enum pickle_type type) {
    return value != NULL && value->type == type;
}

/* The type of a tensor that says it beside a storage of bytes. */
static enum error_code find_type(const struct reader *reader, const char *name,
                                 const struct pickle_value *type, enum dtype *dtype) {
    for (size_t i = 0; i < TYPES; i++)
        if (is(type, PICKLE_GLOBAL) && strcmp(types[i].global, type->text) == 0) {
            *dtype = types[i].dtype;
            return ERR_OK;
        }
    return bad(reader, name, "its type is none");
}

/* A storage's class says the type, but for one of bytes: there the tensor has. */
static bool find_class(enum dtype *dtype, const char *class, bool typed) {
    for (size_t i = 0; i < STORAGES && !typed; i++)
        if (strcmp(storages[i].global, class) == 0) {
            *dtype = storages[i].dtype;
            return true;
        }
    return typed && strcmp(class, BYTES) == 0;
}

/* ('storage', class, key, device, elements) to the storage's bytes. */
static enum error_code find_storage(const struct reader *reader, const char *name,
                                    const struct pickle_value *outside, bool typed,
                                    enum dtype *dtype, int64_t *elements, const uint8_t **bytes) {
    const struct pickle_value *tuple = is(outside, PICKLE_OUTSIDE) ? pickle_item(outside, 0) : NULL;
    if (!is(tuple, PICKLE_TUPLE) || tuple->length != 5)
        return bad(reader, name, "its storage is no ('storage', class, key, device, elements)");
    const struct pickle_value *tag = pickle_item(tuple, 0), *class = pickle_item(tuple, 1),
                              *key = pickle_item(tuple, 2), *count = pickle_item(tuple, 4);
    if (!is(tag, PICKLE_TEXT) || strcmp(tag->text, "storage") != 0 || !is(class, PICKLE_GLOBAL) ||
        !is(key, PICKLE_TEXT) || key->length > KEY_MAX || !is(count, PICKLE_INT))
        return bad(reader, name, "its storage is no ('storage', class, key, device, elements)");
    if (!find_class(dtype, class->text, typed))
        return bad(reader, name, "its storage's class is none of its kind");
    *elements = count->integer;
    char path[FOLDER_MAX + KEY_MAX + 8];
    (void)snprintf(path, sizeof path, "%sdata/%s", reader->folder, key->text);
    const struct zip_member *member = zip_find(&reader->zip, path);
    if (member == NULL)
        return error_set(reader->error, ERR_MISSING, "%s: tensor '%.128s': '%s' is not in the file",
                         reader->file->name, name, path);
    uint64_t size;
    if (*elements < 0 || __builtin_mul_overflow((uint64_t)*elements, dtype_bytes(*dtype), &size) ||
        size != member->end - member->begin)
        return error_set(reader->error, ERR_FORMAT,
                         "%s: tensor '%.128s': its storage has %lld elements of %s, but '%s' %llu "
                         "bytes",
                         reader->file->name, name, (long long)*elements, dtype_name(*dtype), path,
                         (unsigned long long)(member->end - member->begin));
    *bytes = reader->file->bytes + member->begin;
    return ERR_OK;
}

/* The shape, and that elements lie one after the other in its order: torch also keeps views. */
static enum error_code read_shape(const struct reader *reader, const char *name,
                                  struct tensor *tensor, const struct pickle_value *size,
                                  const struct pickle_value *stride) {
    if (!is(size, PICKLE_TUPLE) || !is(stride, PICKLE_TUPLE) || size->length != stride->length)
        return bad(reader, name, "size and stride must be tuples of one length");
    if (size->length > TENSOR_RANK_MAX)
        return error_set(reader->error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' has %zu dimensions; at most %d are supported",
                         reader->file->name, name, size->length, TENSOR_RANK_MAX);
    tensor->rank = (int)size->length;
    int64_t elements = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        const struct pickle_value *dim = pickle_item(size, (size_t)i),
                                  *step = pickle_item(stride, (size_t)i);
        if (!is(dim, PICKLE_INT) || !is(step, PICKLE_INT) || dim->integer < 0)
            return bad(reader, name, "size and stride must be whole numbers");
        if (dim->integer > 1 && step->integer != elements)
            return error_set(reader->error, ERR_UNSUPPORTED,
                             "%s: tensor '%.128s' is a view whose elements are not in order; save "
                             "it with .contiguous()",
                             reader->file->name, name);
        tensor->dim[i] = dim->integer;
        if (__builtin_mul_overflow(elements, dim->integer, &elements) || elements > INT64_MAX / 8)
            return bad(reader, name, "the shape's size does not fit 63 bits");
    }
    return ERR_OK;
}

/* The metadata that a tensor may have last: numbers whose sign or imaginary part torch would change
 * when it computes with them are not what the bytes say. */
static enum error_code check_metadata(const struct reader *reader, const char *name,
                                      const struct pickle_value *metadata) {
    static const struct {
        const char *key, *what, *call;
    } bits[] = {{"neg", "negative", "resolve_neg"}, {"conj", "conjugate", "resolve_conj"}};
    for (size_t i = 0; i < sizeof bits / sizeof *bits && is(metadata, PICKLE_DICT); i++) {
        const struct pickle_value *bit = pickle_get(metadata, bits[i].key);
        if (is(bit, PICKLE_BOOL) && bit->integer != 0)
            return error_set(reader->error, ERR_UNSUPPORTED,
                             "%s: tensor '%.128s' has torch's %s bit, so its numbers are not as "
                             "they are stored; save it with .%s()",
                             reader->file->name, name, bits[i].what, bits[i].call);
    }
    return ERR_OK;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
 * _rebuild_tensor_v3(…, hooks, dtype[, metadata]), of a storage of bytes */
static enum error_code add_tensor(const struct reader *reader, const char *name,
                                  const struct pickle_value *call) {
    struct tensor tensor = {0};
    int64_t elements = 0;
    const uint8_t *bytes = NULL;
    if (strcmp(call->text, REBUILD_PARAMETER) == 0 && is(pickle_item(call, 0), PICKLE_CALL))
        call = pickle_item(call, 0);
    const struct pickle_value *offset = pickle_item(call, 1);
    bool typed = strcmp(call->text, REBUILD_TYPED) == 0;
    size_t least = typed ? 7 : 6;
    if ((strcmp(call->text, REBUILD) != 0 && !typed) || call->length < least ||
        call->length > least + 1 || !is(offset, PICKLE_INT))
        return bad(reader, name, "expected a call of _rebuild_tensor_v2 or _v3");
    enum error_code code = check_metadata(reader, name, pickle_item(call, least));
    if (code == ERR_OK && typed)
        code = find_type(reader, name, pickle_item(call, 6), &tensor.dtype);
    if (code == ERR_OK)
        code = find_storage(reader, name, pickle_item(call, 0), typed, &tensor.dtype, &elements,
                            &bytes);
    if (code == ERR_OK)
        code = read_shape(reader, name, &tensor, pickle_item(call, 2), pickle_item(call, 3));
    if (code != ERR_OK)
        return code;
    int64_t count = tensor_elements(&tensor);
    if (offset->integer < 0 || offset->integer > elements || count > elements - offset->integer)
        return bad(reader, name, "it ends past the end of its storage");
    tensor.data = bytes + (size_t)offset->integer * dtype_bytes(tensor.dtype);
    const char *kept = arena_strdup(&reader->weights->arena, name, strlen(name));
    if (kept == NULL)
        return error_set(reader->error, ERR_LIMIT, "%s: too many tensors", reader->file->name);
    return weights_add(reader->weights, kept, &tensor, reader->index, reader->error);
}

/* -- the file -------------------------------------------------------------------------------- */

static bool has_tensors(const struct pickle_value *dict) {
    for (const struct pickle_item *item = dict->first; item != NULL; item = item->next->next)
        if (is(item->next->value, PICKLE_CALL))
            return true;
    return false;
}

/* The root itself, or what it keeps under one of the usual keys. */
static enum error_code state_dict(const struct reader *reader, const struct pickle_value **out,
                                  const struct pickle_value *root) {
    if (root->type == PICKLE_DICT && has_tensors(root)) {
        *out = root;
        return ERR_OK;
    }
    for (const char *const *key = nested; root->type == PICKLE_DICT && *key != NULL; key++) {
        const struct pickle_value *inner = pickle_get(root, *key);
        if (is(inner, PICKLE_DICT) && has_tensors(inner)) {
            *out = inner;
            return ERR_OK;
        }
    }
    return error_set(reader->error, ERR_UNSUPPORTED,
                     "%s: expected a dict of tensors, or one under 'state_dict', 'generator_ema', "
                     "'model' or the like",
                     reader->file->name);
}

static enum error_code add_tensors(const struct reader *reader, const struct pickle_value *root) {
    const struct pickle_value *dict = NULL;
    enum error_code code = state_dict(reader, &dict, root);
    if (code != ERR_OK)
        return code;
    for (const struct pickle_item *item = dict->first; item != NULL && code == ERR_OK;
         item = item->next->next) {
        const struct pickle_value *value = item->next->value;
        if (!is(item->value, PICKLE_TEXT))
            return bad(reader, NULL, "a state dict's keys must be texts");
        if (!is(value, PICKLE_CALL))
            return bad(reader, item->value->text, "expected a tensor");
        code = add_tensor(reader, item->value->text, value);
    }
    return code;
}

/* The one folder that everything is in, from the one data.pkl; and the order of bytes. */
static enum error_code find_pickle(struct reader *reader, const struct zip_member **out) {
    static const char name[] = "data.pkl";
    *out = NULL;
    for (size_t i = 0; i < reader->zip.count; i++) {
        const struct zip_member *member = &reader->zip.member[i];
        const char *slash = strrchr(member->name, '/');
        if (strcmp(slash == NULL ? member->name : slash + 1, name) != 0)
            continue;
        if (*out != NULL)
            return bad(reader, NULL, "it has two data.pkl");
        *out = member;
    }
    size_t length = *out == NULL ? 0 : strlen((*out)->name) - strlen(name);
    if (*out == NULL || length >= sizeof reader->folder)
        return bad(reader, NULL, "a ZIP without data.pkl: expected what torch.save writes");
    memcpy(reader->folder, (*out)->name, length);
    reader->folder[length] = 0;
    char path[FOLDER_MAX + 16];
    (void)snprintf(path, sizeof path, "%sbyteorder", reader->folder);
    const struct zip_member *order = zip_find(&reader->zip, path);
    if (order != NULL && (order->end - order->begin != strlen("little") ||
                          memcmp(reader->file->bytes + order->begin, "little", 6) != 0))
        return error_set(reader->error, ERR_UNSUPPORTED,
                         "%s: saved on a big-endian machine; only little-endian files are read",
                         reader->file->name);
    return ERR_OK;
}

static enum error_code read_pickle(struct reader *reader, struct arena *arena) {
    const struct zip_member *member;
    const struct pickle_value *root;
    const char *globals[5 + STORAGES + TYPES + 1] = {REBUILD, REBUILD_TYPED, REBUILD_PARAMETER,
                                                     BYTES, "collections OrderedDict"};
    for (size_t i = 0; i < STORAGES; i++)
        globals[5 + i] = storages[i].global;
    for (size_t i = 0; i < TYPES; i++)
        globals[5 + STORAGES + i] = types[i].global;
    enum error_code code =
        zip_read(&reader->zip, arena, reader->file->bytes, reader->file->size, reader->error);
    if (code != ERR_OK)
        return error_prefix(reader->error, "%s: ", reader->file->name);
    code = find_pickle(reader, &member);
    if (code != ERR_OK)
        return code;
    if (member->end - member->begin > PICKLE_BYTES_MAX)
        return error_set(reader->error, ERR_LIMIT, "%s: data.pkl has %llu bytes; at most %llu",
                         reader->file->name, (unsigned long long)(member->end - member->begin),
                         (unsigned long long)PICKLE_BYTES_MAX);
    if (!zip_is_whole(member, reader->file->bytes))
        return bad(reader, NULL, "data.pkl is not what it was when it was written; copy it again");
    reader->file->header = (size_t)member->end;
    code = pickle_read(&root, arena, reader->file->bytes + member->begin,
                       (size_t)(member->end - member->begin), globals, reader->error);
    if (code != ERR_OK)
        return error_prefix(reader->error, "%s: ", reader->file->name);
    return add_tensors(reader, root);
}

bool pth_is(const struct weights_file *file) {
    return zip_is(file->bytes, file->size);
}

enum error_code pth_read(struct weights *weights, int index, struct error *error) {
    struct reader reader = {
        .weights = weights, .file = &weights->file[index], .index = index, .error = error};
    struct arena arena;
    enum error_code code = arena_open(&arena, PICKLE_ARENA, error);
    if (code != ERR_OK)
        return code;
    code = read_pickle(&reader, &arena);
    arena_close(&arena);
    return code;
}
