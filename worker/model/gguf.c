/* One GGUF file, version 2 or 3, little endian: magic, version, counts; metadata (key, type,
 * value); of each tensor name, dimensions (fastest first), type and offset; then, aligned, the
 * data, one tensor after the other. Of the metadata only the alignment and
 * "comfy.gguf.orig_shape.NAME" matter here: the shape of a tensor that was flattened because the
 * format once had four dimensions.
 *
 * Source: ggml's docs/gguf.md; city96/ComfyUI-GGUF for the latter key. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "worker/model/weights_internal.h"

#define KEYS_MAX      4096
#define ALIGNMENT     32
#define ALIGNMENT_MAX 65536
#define KEY_BYTES_MAX 1024
#define SHAPE_KEY     "comfy.gguf.orig_shape."

enum value_type {
    VALUE_U8,
    VALUE_I8,
    VALUE_U16,
    VALUE_I16,
    VALUE_U32,
    VALUE_I32,
    VALUE_F32,
    VALUE_BOOL,
    VALUE_TEXT,
    VALUE_ARRAY,
    VALUE_U64,
    VALUE_I64,
    VALUE_F64,
    VALUE_COUNT
};

/* Bytes; 0: not of a fixed size. */
static const size_t value_bytes[VALUE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const struct {
    uint32_t id;
    enum dtype dtype;
} types[] = {{0, DTYPE_F32},   {1, DTYPE_F16},   {2, DTYPE_Q4_0},  {8, DTYPE_Q8_0},
             {12, DTYPE_Q4_K}, {13, DTYPE_Q5_K}, {14, DTYPE_Q6_K}, {26, DTYPE_I32},
             {27, DTYPE_I64},  {28, DTYPE_F64},  {30, DTYPE_BF16}};

struct shape {
    const char *name; /* in the file, not ended by a NUL */
    size_t name_bytes;
    int rank;
    int64_t dim[TENSOR_RANK_MAX];
    struct shape *next;
};

struct reader {
    struct weights *weights;
    struct weights_file *file;
    int index;
    size_t at;
    uint64_t alignment;
    struct shape *shapes; /* that the metadata gives */
    enum error_code code; /* the first error sticks */
    struct error *error;
};

static void wrong(struct reader *r, const char *what) {
    if (r->code == ERR_OK)
        r->code = error_set(r->error, ERR_FORMAT, "%s: byte %zu of its GGUF header: %s",
                            r->file->name, r->at, what);
}

static const uint8_t *take(struct reader *r, uint64_t bytes) {
    if (r->code == ERR_OK && bytes > r->file->size - r->at)
        wrong(r, "it ends here: the file was cut short; copy it again");
    if (r->code != ERR_OK)
        return NULL;
    r->at += (size_t)bytes;
    return r->file->bytes + r->at - bytes;
}

static uint64_t take_number(struct reader *r, size_t bytes) {
    const uint8_t *from = take(r, bytes);
    uint64_t value = 0;
    while (from != NULL && bytes-- > 0)
        value = value << 8 | from[bytes];
    return value;
}

/* A text in the file, not ended; NULL after an error. */
static const char *take_text(struct reader *r, size_t *length, uint64_t max) {
    uint64_t bytes = take_number(r, 8);
    if (bytes > max)
        wrong(r, "a text that is too long");
    *length = (size_t)bytes;
    return (const char *)take(r, bytes);
}

/* -- metadata -------------------------------------------------------------------------------- */

static void read_alignment(struct reader *r, enum value_type type) {
    if (type != VALUE_U32) {
        wrong(r, "'general.alignment' must be a u32");
        return;
    }
    r->alignment = take_number(r, 4);
    if (r->alignment == 0 || r->alignment > ALIGNMENT_MAX ||
        (r->alignment & (r->alignment - 1)) != 0)
        wrong(r, "'general.alignment' must be a power of two, at most 65536");
}

static void read_original_shape(struct reader *r, enum value_type type, const char *name,
                                size_t name_bytes) {
    uint64_t item = type == VALUE_ARRAY ? take_number(r, 4) : VALUE_COUNT;
    uint64_t rank = item == VALUE_I32 ? take_number(r, 8) : 0;
    if (rank < 1 || rank > TENSOR_RANK_MAX) {
        wrong(r, "an original shape must be an array of 1 to 6 i32");
        return;
    }
    struct shape *shape = arena_zalloc(&r->weights->arena, sizeof *shape);
    if (shape == NULL) {
        wrong(r, "too much metadata");
        return;
    }
    shape->name = name;
    shape->name_bytes = name_bytes;
    shape->rank = (int)rank;
    for (int i = 0; i < shape->rank; i++) {
        shape->dim[i] = (int32_t)(uint32_t)take_number(r, 4);
        if (shape->dim[i] < 0)
            wrong(r, "a negative dimension");
    }
    shape->next = r->shapes;
    r->shapes = shape;
}

static void skip_values(struct reader *r, uint64_t type, uint64_t count) {
    size_t length;
    if (type >= VALUE_COUNT || type == VALUE_ARRAY) {
        wrong(r, "a type that is none");
    } else if (type == VALUE_TEXT) {
        for (uint64_t i = 0; i < count && r->code == ERR_OK; i++)
            (void)take_text(r, &length, UINT64_MAX);
    } else if (count > r->file->size / value_bytes[type]) {
        wrong(r, "an array longer than the file");
    } else {
        (void)take(r, count * value_bytes[type]);
    }
}

static void read_key(struct reader *r) {
    static const char prefix[] = SHAPE_KEY, alignment[] = "general.alignment";
    size_t length;
    const char *key = take_text(r, &length, KEY_BYTES_MAX);
    uint64_t type = take_number(r, 4);
    if (key == NULL || r->code != ERR_OK)
        return;
    if (length == strlen(alignment) && memcmp(key, alignment, length) == 0) {
        read_alignment(r, (enum value_type)type);
    } else if (length > strlen(prefix) && memcmp(key, prefix, strlen(prefix)) == 0) {
        read_original_shape(r, (enum value_type)type, key + strlen(prefix),
                            length - strlen(prefix));
    } else if (type == VALUE_ARRAY) {
        uint64_t item = take_number(r, 4);
        skip_values(r, item, take_number(r, 8));
    } else {
        skip_values(r, type, 1);
    }
}

/* -- tensors --------------------------------------------------------------------------------- */

/* Of what is not read, as files and their names call it. */
static const struct {
    uint32_t id;
    const char *name;
} other_types[] = {{3, "Q4_1"},   {6, "Q5_0"},    {7, "Q5_1"},     {9, "Q8_1"},    {10, "Q2_K"},
                   {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
                   {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},   {22, "IQ2_S"},  {23, "IQ4_XS"},
                   {24, "I8"},    {25, "I16"},    {29, "IQ1_M"},   {34, "TQ1_0"},  {35, "TQ2_0"},
                   {39, "MXFP4"}};

static void refuse_type(struct reader *r, const char *name, uint32_t id) {
    char number[32];
    (void)snprintf(number, sizeof number, "GGUF's type %u", (unsigned)id);
    const char *type = number;
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++)
        if (other_types[i].id == id)
            type = other_types[i].name;
    if (r->code == ERR_OK)
        r->code = error_set(r->error, ERR_UNSUPPORTED,
                            "%s: tensor '%.128s' is of %s; read are F32, F16, BF16, Q8_0, Q4_0, "
                            "Q4_K, Q5_K and Q6_K: take a file whose name has one of these",
                            r->file->name, name, type);
}

static void read_dimensions(struct reader *r, struct tensor *tensor) {
    uint64_t rank = take_number(r, 4), elements = 1;
    if (r->code == ERR_OK && (rank < 1 || rank > TENSOR_RANK_MAX))
        wrong(r, "a tensor must have 1 to 6 dimensions");
    for (uint64_t i = 0; i < rank && r->code == ERR_OK; i++) {
        uint64_t dim = take_number(r, 8);
        if (__builtin_mul_overflow(elements, dim, &elements) || elements > INT64_MAX / 8)
            wrong(r, "a shape whose size does not fit 63 bits");
        tensor->dim[rank - 1 - i] = (int64_t)dim;
    }
    tensor->rank = (int)rank;
}

static void use_original_shape(struct reader *r, struct tensor *tensor, const char *name) {
    const struct shape *shape = r->shapes;
    size_t length = strlen(name);
    while (shape != NULL && (shape->name_bytes != length || memcmp(shape->name, name, length) != 0))
        shape = shape->next;
    if (shape == NULL)
        return;
    int64_t elements = tensor_elements(tensor), product = 1;
    for (int i = 0; i < shape->rank; i++)
        if (__builtin_mul_overflow(product, shape->dim[i], &product))
            product = -1;
    if (product != elements) {
        wrong(r, "a tensor's original shape has another number of elements");
        return;
    }
    tensor->rank = shape->rank;
    memcpy(tensor->dim, shape->dim, sizeof tensor->dim);
}

/* *end: where the tensor before ends, counted from the data's begin; then where this one does. */
static void read_tensor(struct reader *r, struct tensor *tensor, const char **kept, uint64_t *end) {
    size_t length, type = 0;
    const char *name = take_text(r, &length, WEIGHTS_NAME_MAX);
    if (name == NULL)
        return;
    if (memchr(name, 0, length) != NULL || !text_is_utf8(name, length, NULL))
        wrong(r, "a name that is no UTF-8, or has a zero byte");
    *kept = arena_strdup(&r->weights->arena, name, length);
    if (*kept == NULL)
        wrong(r, "too many tensors");
    read_dimensions(r, tensor);
    uint32_t id = (uint32_t)take_number(r, 4);
    uint64_t offset = take_number(r, 8);
    while (type < sizeof types / sizeof *types && types[type].id != id)
        type++;
    if (type == sizeof types / sizeof *types)
        refuse_type(r, *kept, id);
    if (r->code != ERR_OK)
        return;
    tensor->dtype = types[type].dtype;
    if (tensor->dim[tensor->rank - 1] % dtype_block(tensor->dtype) != 0)
        wrong(r, "a tensor's rows are no whole number of blocks");
    uint64_t begin = (*end + r->alignment - 1) / r->alignment * r->alignment;
    if (offset != begin)
        wrong(r, "a tensor does not begin where the one before it ends");
    *end = begin + tensor_bytes(tensor);
    tensor->data = NULL;
    if (r->code == ERR_OK)
        use_original_shape(r, tensor, *kept);
    if (*end > r->file->size)
        wrong(r, "a tensor leaves the file: it was cut short; copy it again");
}

static void read_tensors(struct reader *r, uint64_t count) {
    struct tensor *tensor = arena_zalloc(&r->weights->arena, (size_t)count * sizeof *tensor);
    const char **name = arena_array(&r->weights->arena, (size_t)count, sizeof *name);
    uint64_t end = 0;
    if (tensor == NULL || name == NULL)
        wrong(r, "too many tensors");
    for (uint64_t i = 0; i < count && r->code == ERR_OK; i++)
        read_tensor(r, &tensor[i], &name[i], &end);
    if (r->code != ERR_OK)
        return;
    uint64_t data = (r->at + r->alignment - 1) / r->alignment * r->alignment, at = data;
    if (data > r->file->size || end > r->file->size - data) {
        wrong(r, "its tensors leave the file: it was cut short; copy it again");
        return;
    }
    r->file->header = (size_t)data;
    for (uint64_t i = 0; i < count && r->code == ERR_OK; i++) {
        at = (at + r->alignment - 1) / r->alignment * r->alignment;
        tensor[i].data = r->file->bytes + at;
        at += tensor_bytes(&tensor[i]);
        r->code = weights_add(r->weights, name[i], &tensor[i], r->index, r->error);
    }
}

bool gguf_is(const struct weights_file *file) {
    return file->size >= 4 && memcmp(file->bytes, "GGUF", 4) == 0;
}

enum error_code gguf_read(struct weights *weights, int index, struct error *error) {
    struct reader r = {.weights = weights,
                       .file = &weights->file[index],
                       .index = index,
                       .alignment = ALIGNMENT,
                       .error = error};
    (void)take(&r, 4);
    uint64_t version = take_number(&r, 4), tensors = take_number(&r, 8), keys = take_number(&r, 8);
    if (r.code == ERR_OK && version != 2 && version != 3)
        r.code = error_set(error, ERR_UNSUPPORTED,
                           "%s: GGUF version %llu; versions 2 and 3, little endian, are read",
                           r.file->name, (unsigned long long)version);
    if (r.code == ERR_OK && (tensors > WEIGHTS_TENSORS_MAX || keys > KEYS_MAX))
        r.code = error_set(
            error, ERR_LIMIT,
            "%s: its GGUF header says %llu tensors and %llu keys; at most %d of each", r.file->name,
            (unsigned long long)tensors, (unsigned long long)keys, WEIGHTS_TENSORS_MAX);
    for (uint64_t i = 0; i < keys && r.code == ERR_OK; i++)
        read_key(&r);
    if (r.code == ERR_OK)
        read_tensors(&r, tensors);
    return r.code;
}
