#include "worker/model/lora.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "worker/model/names.h"
#include "worker/model/numbers.h"
#include "worker/model/weights_internal.h"

#define MERGE_ROWS 256 /* of a tensor, in one product */

/* What a name's end says. */
enum kind { DOWN, UP, ALPHA, DIFF, DIFF_BIAS, DIFF_MODULATION, KINDS };

static const struct {
    const char *text;
    enum kind kind;
    const char *target; /* what follows the module in the base's name */
} suffixes[] = {
    {".lora_down.weight", DOWN, ".weight"},
    {".lora_up.weight", UP, ".weight"},
    {".lora_A.default.weight", DOWN, ".weight"},
    {".lora_B.default.weight", UP, ".weight"},
    {".lora_A.weight", DOWN, ".weight"},
    {".lora_B.weight", UP, ".weight"},
    {".lora.down.weight", DOWN, ".weight"},
    {".lora.up.weight", UP, ".weight"},
    {".lora_A", DOWN, ".weight"},
    {".lora_B", UP, ".weight"},
    {".alpha", ALPHA, ".weight"},
    {".diff", DIFF, ".weight"},
    {".diff_b", DIFF_BIAS, ".bias"},
    {".diff_m", DIFF_MODULATION, ".modulation"},
};

#define SUFFIXES (sizeof suffixes / sizeof *suffixes)

static const char *const prefixes[] = {
    "base_model.model.", "diffusion_model.", "model.", "transformer.", "unet.", NULL};

#define UNDERSCORES "lora_unet_"

/* What one file adds to one tensor. */
struct addend {
    int file;
    float strength;
    const struct tensor *part[KINDS]; /* of the file; NULL: there is none */
    struct addend *next;
};

struct touched {
    struct addend *addends; /* the last file's first */
    struct tensor merged;   /* data NULL: not yet */
    bool owned;             /* merged.data is */
    bool loose;             /* no layer uses it yet */
};

/* All in the weights' arena, but for the files and what is merged. */
struct lora {
    struct weights *file[LORA_FILES_MAX];
    int files;
    size_t count;                   /* of the weights' tensors */
    struct touched *touched;        /* [count] */
    char (*name)[WEIGHTS_NAME_MAX]; /* [count]: as the original layout has it */
    size_t bytes;
    size_t loose, passing; /* bytes of what is loose; the most with what merging took besides */
};

static int64_t rows_of(const struct tensor *tensor) {
    return tensor->rank == 0 ? 1 : tensor->dim[0];
}

static int64_t columns_of(const struct tensor *tensor) {
    int64_t rows = rows_of(tensor);
    return rows == 0 ? 0 : tensor_elements(tensor) / rows;
}

/* What open_merge takes and merge_rows touches at most; a layer has its factor once more, in its
 * own order. */
static size_t merge_bytes(const struct addend *addends, int64_t columns) {
    int64_t ranks = 0, most = 0, differences = 0;
    for (const struct addend *a = addends; a != NULL; a = a->next) {
        int64_t rank = a->part[DOWN] == NULL ? 0 : rows_of(a->part[DOWN]);
        ranks += rank;
        most = rank > most ? rank : most;
        for (int kind = DIFF; kind < KINDS; kind++)
            differences |= a->part[kind] != NULL;
    }
    int64_t scratch = most + (differences ? columns : 0);
    int64_t floats = (2 * ranks + 1) * columns + MERGE_ROWS * (2 * columns + most + scratch);
    return (size_t)floats * sizeof(float) + 2 * ARENA_ALIGN;
}

static void keep(struct lora *lora, struct touched *touched) {
    lora->loose -= touched->loose ? tensor_bytes(&touched->merged) : 0;
    touched->loose = false;
}

static void note_passing(struct lora *lora, size_t bytes) {
    lora->passing = bytes > lora->passing ? bytes : lora->passing;
}

/* What is loose when one of them goes were all there when the last was merged. */
static void release(struct lora *lora, struct touched *touched) {
    if (touched->loose)
        note_passing(lora,
                     lora->loose + merge_bytes(touched->addends, columns_of(&touched->merged)));
    keep(lora, touched);
    if (touched->owned) {
        free((void *)(uintptr_t)touched->merged.data);
        lora->bytes -= tensor_bytes(&touched->merged);
    }
    touched->merged = (struct tensor){.data = NULL};
    touched->owned = false;
}

void lora_close(struct lora *lora) {
    for (size_t i = 0; lora != NULL && i < lora->count; i++)
        release(lora, &lora->touched[i]);
    for (int i = 0; lora != NULL && i < lora->files; i++)
        weights_close(&lora->file[i]);
}

static enum error_code create(struct weights *weights, struct error *error) {
    struct lora *lora = arena_zalloc(&weights->arena, sizeof *lora);
    if (lora == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory for a LoRA", weights->path);
    size_t count = weights->count;
    lora->touched = arena_zalloc(&weights->arena, count * sizeof *lora->touched);
    lora->name = arena_array(&weights->arena, count, sizeof *lora->name);
    if (lora->touched == NULL || lora->name == NULL)
        return error_set(error, ERR_MEMORY, "%s: no memory for a LoRA", weights->path);
    lora->count = count;
    for (size_t i = 0; i < count; i++)
        if (!names_to_original(lora->name[i], WEIGHTS_NAME_MAX, weights->entry[i].name,
                               NAMES_TRANSFORMER))
            return error_set(error, ERR_LIMIT, "%s: tensor '%.128s' has too long a name",
                             weights->path, weights->entry[i].name);
    weights->lora = lora;
    return ERR_OK;
}

/* -- names ----------------------------------------------------------------------------------- */

/* Equal, where b's dots may be underscores in a. */
static bool same_underscored(const char *a, size_t length, const char *b, const char *b_end) {
    size_t b_length = strlen(b), end = strlen(b_end);
    if (b_length != length + end || strcmp(b + length, b_end) != 0)
        return false;
    for (size_t i = 0; i < length; i++)
        if (a[i] != (b[i] == '.' ? '_' : b[i]))
            return false;
    return true;
}

static size_t find_underscored(const struct weights *weights, const char *module, size_t length,
                               const char *target) {
    const struct lora *lora = weights->lora;
    size_t i = 0;
    while (i < lora->count && !same_underscored(module, length, lora->name[i], target) &&
           !same_underscored(module, length, weights->entry[i].name, target))
        i++;
    return i;
}

static size_t find_dotted(const struct lora *lora, const char *module, size_t length,
                          const char *target) {
    char name[2 * WEIGHTS_NAME_MAX], original[WEIGHTS_NAME_MAX];
    (void)snprintf(name, sizeof name, "%.*s%s", (int)length, module, target);
    size_t i = 0;
    if (!names_to_original(original, sizeof original, name, NAMES_TRANSFORMER))
        return lora->count;
    while (i < lora->count && strcmp(lora->name[i], original) != 0)
        i++;
    return i;
}

/* The row of `suffixes` that a name ends with; SUFFIXES when it is none. */
static size_t suffix_of(const char *name) {
    size_t length = strlen(name), row = 0;
    for (; row < SUFFIXES; row++) {
        size_t end = strlen(suffixes[row].text);
        if (length > end && strcmp(name + length - end, suffixes[row].text) == 0)
            break;
    }
    return row;
}

/* The tensor that a name of the file is for, and what it says of it. */
static enum error_code find_target(size_t *out, enum kind *kind, const struct weights *weights,
                                   const char *name, const char *path, struct error *error) {
    size_t length = strlen(name), row = suffix_of(name);
    if (row == SUFFIXES)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: tensor '%.128s' is none that a LoRA has: expected a name that ends "
                         "in .lora_down.weight, .lora_up.weight, .lora_A.weight, .lora_B.weight, "
                         ".alpha, .diff, .diff_b or .diff_m",
                         path, name);
    const char *module = name, *stop = name + length - strlen(suffixes[row].text);
    for (const char *const *prefix = prefixes; *prefix != NULL;) {
        size_t bytes = strlen(*prefix);
        bool there = bytes < (size_t)(stop - module) && strncmp(module, *prefix, bytes) == 0;
        module += there ? bytes : 0;
        prefix = there ? prefixes : prefix + 1; /* they come one after the other, too */
    }
    length = (size_t)(stop - module);
    *kind = suffixes[row].kind;
    bool flat = strncmp(module, UNDERSCORES, strlen(UNDERSCORES)) == 0;
    if (flat && length > strlen(UNDERSCORES))
        *out = find_underscored(weights, module + strlen(UNDERSCORES), length - strlen(UNDERSCORES),
                                suffixes[row].target);
    else
        *out = find_dotted(weights->lora, module, length, suffixes[row].target);
    if (*out == weights->lora->count && *kind == DIFF) /* of a parameter without ".weight" */
        *out = find_dotted(weights->lora, module, length, "");
    if (*out == weights->lora->count)
        return error_set(error, ERR_SHAPE,
                         "%s: '%.128s' is for '%.*s%s', which %s does not have: the LoRA is made "
                         "for another model",
                         path, name, (int)length, module, suffixes[row].target, weights->path);
    return ERR_OK;
}

/* -- adding ---------------------------------------------------------------------------------- */

static enum error_code take_tensor(struct weights *weights, int file, float strength, size_t index,
                                   struct error *error) {
    struct lora *lora = weights->lora;
    const struct weights *from = lora->file[file];
    const char *name = weights_name(from, index), *path = weights_path(from);
    const struct tensor *tensor = weights_tensor(from, index);
    size_t target = 0;
    enum kind kind = KINDS;
    enum error_code code = find_target(&target, &kind, weights, name, path, error);
    if (code != ERR_OK)
        return code;
    if (!numbers_are_float(tensor))
        return error_set(error, ERR_FORMAT, "%s: tensor '%.128s' is of type %s; expected floats",
                         path, name, dtype_name(tensor->dtype));
    struct touched *touched = &lora->touched[target];
    struct addend *addend = touched->addends;
    if (addend == NULL || addend->file != file) {
        addend = arena_zalloc(&weights->arena, sizeof *addend);
        if (addend == NULL)
            return error_set(error, ERR_MEMORY, "%s: no memory for a LoRA", path);
        *addend = (struct addend){.file = file, .strength = strength, .next = touched->addends};
        touched->addends = addend;
    }
    if (addend->part[kind] != NULL)
        return error_set(error, ERR_FORMAT, "%s: two tensors for '%s': '%.128s' is the second",
                         path, lora->name[target], name);
    addend->part[kind] = tensor;
    return ERR_OK;
}

/* The parts of what one file adds to one tensor fit it and each other. */
static enum error_code check_addend(const struct weights *weights, size_t index, const char *path,
                                    struct error *error) {
    const struct tensor *base = &weights->entry[index].tensor;
    const char *name = weights->lora->name[index];
    const struct addend *addend = weights->lora->touched[index].addends;
    const struct tensor *down = addend->part[DOWN], *up = addend->part[UP],
                        *alpha = addend->part[ALPHA];
    if ((down == NULL) != (up == NULL) || (alpha != NULL && down == NULL))
        return error_set(error, ERR_FORMAT, "%s: of '%s' only one half is there", path, name);
    if (alpha != NULL && tensor_elements(alpha) != 1)
        return error_set(error, ERR_FORMAT, "%s: the alpha of '%s' must be one number", path, name);
    float number = 1;
    if (alpha != NULL)
        numbers_to_float(&number, alpha, 0, 1);
    if (!isfinite(number))
        return error_set(error, ERR_FORMAT, "%s: the alpha of '%s' is %g: the file is damaged",
                         path, name, (double)number);
    if (down != NULL && columns_of(up) != rows_of(down))
        return error_set(error, ERR_FORMAT,
                         "%s: of '%s' up is [%lld,%lld] and down [%lld,%lld]: their ranks differ, "
                         "the file is damaged",
                         path, name, (long long)rows_of(up), (long long)columns_of(up),
                         (long long)rows_of(down), (long long)columns_of(down));
    int64_t out = rows_of(base), in = columns_of(base);
    if (down != NULL && (rows_of(down) < 1 || columns_of(down) != in || rows_of(up) != out))
        return error_set(error, ERR_SHAPE,
                         "%s: '%s' is [%lld,%lld] in the model, but up and down are [%lld,%lld] "
                         "and [%lld,%lld]: the LoRA is made for another model",
                         path, name, (long long)out, (long long)in, (long long)rows_of(up),
                         (long long)columns_of(up), (long long)rows_of(down),
                         (long long)columns_of(down));
    for (int kind = DIFF; kind < KINDS; kind++)
        if (addend->part[kind] != NULL &&
            tensor_elements(addend->part[kind]) != tensor_elements(base))
            return error_set(error, ERR_SHAPE,
                             "%s: '%s' has %lld elements in the model, but its difference %lld: "
                             "the LoRA is made for another model",
                             path, name, (long long)tensor_elements(base),
                             (long long)tensor_elements(addend->part[kind]));
    return ERR_OK;
}

enum error_code lora_add(struct weights *weights, const char *path, float strength,
                         struct error *error) {
    enum error_code code = weights->lora == NULL ? create(weights, error) : ERR_OK;
    if (code != ERR_OK)
        return code;
    struct lora *lora = weights->lora;
    if (lora->files == LORA_FILES_MAX)
        return error_set(error, ERR_LIMIT, "%s: more than %d LoRA files", path, LORA_FILES_MAX);
    int file = lora->files;
    code = weights_open(&lora->file[file], path, error);
    if (code != ERR_OK)
        return code;
    lora->files++;
    const struct weights *from = lora->file[file];
    if (from->count == 0 || from->count > KINDS * lora->count)
        return error_set(error, ERR_SHAPE, "%s: %zu tensors for a model of %zu", path, from->count,
                         lora->count);
    for (size_t i = 0; i < from->count && code == ERR_OK; i++)
        code = take_tensor(weights, file, strength, i, error);
    for (size_t i = 0; i < lora->count && code == ERR_OK; i++)
        if (lora->touched[i].addends != NULL && lora->touched[i].addends->file == file)
            code = check_addend(weights, i, path, error);
    return code;
}

/* The place of the first number that is none; `count`: all are. */
static int64_t find_broken(const float *values, int64_t count) {
    int64_t i = 0;
    while (i < count && isfinite(values[i]))
        i++;
    return i;
}

enum error_code lora_check_finite(const char *path, struct error *error) {
    enum { CHUNK = 4096 };
    float values[CHUNK];
    struct weights *weights;
    enum error_code code = weights_open(&weights, path, error);
    if (code != ERR_OK)
        return code;
    for (size_t i = 0; i < weights_count(weights) && code == ERR_OK; i++) {
        const struct tensor *tensor = weights_tensor(weights, i);
        int64_t elements = numbers_are_float(tensor) ? tensor_elements(tensor) : 0;
        for (int64_t at = 0; at < elements && code == ERR_OK; at += CHUNK) {
            int64_t count = elements - at < CHUNK ? elements - at : CHUNK;
            numbers_to_float(values, tensor, at, count);
            int64_t good = find_broken(values, count);
            if (good < count)
                code = error_set(
                    error, ERR_FORMAT, "%s: element %lld of '%.128s' is %g: the file is damaged",
                    path, (long long)(at + good), weights_name(weights, i), (double)values[good]);
        }
    }
    weights_close(&weights);
    return code;
}

bool lora_describe(struct lora_summary *out, const struct weights *weights) {
    *out = (struct lora_summary){0};
    for (size_t i = 0; i < weights_count(weights); i++) {
        const char *name = weights_name(weights, i);
        const struct tensor *tensor = weights_tensor(weights, i);
        size_t row = suffix_of(name);
        if (row == SUFFIXES)
            return false;
        out->differences += suffixes[row].kind >= DIFF;
        if (suffixes[row].kind != DOWN)
            continue;
        int rank = (int)rows_of(tensor);
        out->rank_min = out->pairs == 0 || rank < out->rank_min ? rank : out->rank_min;
        out->rank_max = rank > out->rank_max ? rank : out->rank_max;
        out->pairs++;
        if (strstr(name, "self_attn") != NULL || strstr(name, "attn1") != NULL)
            out->width = columns_of(tensor);
    }
    return out->pairs + out->differences > 0;
}

size_t lora_bytes(const struct weights *weights) {
    return weights->lora == NULL ? 0 : weights->lora->bytes;
}

size_t lora_passing(const struct weights *weights) {
    return weights == NULL || weights->lora == NULL ? 0 : weights->lora->passing;
}

/* -- merging --------------------------------------------------------------------------------- */

/* strength·alpha/r·down, transposed: the weights [in,r] of a product that gives rows of the sum. */
struct factor {
    const struct tensor *up;
    int64_t rank;
    float *down;
    struct linear *linear;
    struct factor *next;
};

struct merge {
    struct runtime *runtime;
    const struct weights *weights; /* of the sum */
    const char *name;              /* of the base in them, for errors */
    const struct tensor *base;
    const struct addend *addends;
    struct factor *factors;
    int64_t columns, rank_max;
    struct arena device;
    float *sum, *up;       /* device: [MERGE_ROWS,columns], [MERGE_ROWS,rank_max] */
    float *host, *scratch; /* as large as either */
    struct error *error;
};

static enum error_code open_factor(struct merge *m, const struct addend *addend) {
    const struct tensor *down = addend->part[DOWN];
    int64_t rank = rows_of(down);
    size_t elements = (size_t)tensor_elements(down);
    struct factor *factor = calloc(1, sizeof *factor);
    float *row = malloc((size_t)m->columns * sizeof *row);
    if (factor != NULL) {
        *factor = (struct factor){.up = addend->part[UP], .rank = rank, .next = m->factors};
        factor->down = malloc(elements * sizeof *factor->down);
        m->factors = factor;
    }
    if (factor == NULL || row == NULL || factor->down == NULL) {
        free(row);
        return error_set(m->error, ERR_MEMORY, "no memory to merge a LoRA");
    }
    float alpha = (float)rank;
    if (addend->part[ALPHA] != NULL)
        numbers_to_float(&alpha, addend->part[ALPHA], 0, 1);
    float scale = addend->strength * (alpha / (float)rank);
    for (int64_t r = 0; r < rank; r++) {
        numbers_to_float(row, down, r * m->columns, m->columns);
        for (int64_t i = 0; i < m->columns; i++)
            factor->down[i * rank + r] = scale * row[i];
    }
    free(row);
    m->rank_max = rank > m->rank_max ? rank : m->rank_max;
    const struct tensor matrix = {
        .data = factor->down, .dtype = DTYPE_F32, .rank = 2, .dim = {m->columns, rank}};
    return m->runtime->ops->linear_create(m->runtime->device, &factor->linear,
                                          (const struct tensor *const[]){&matrix}, NULL, 1,
                                          DTYPE_F32, m->error);
}

static enum error_code open_merge(struct merge *m) {
    enum error_code code = ERR_OK;
    for (const struct addend *a = m->addends; a != NULL && code == ERR_OK; a = a->next)
        if (a->part[DOWN] != NULL)
            code = open_factor(m, a);
    size_t sum = (size_t)(MERGE_ROWS * m->columns), up = (size_t)(MERGE_ROWS * m->rank_max);
    if (code == ERR_OK && sum == 0)
        code = error_set(m->error, ERR_SHAPE, "a LoRA adds to a tensor without elements");
    if (code == ERR_OK)
        code = m->runtime->ops->arena_open(m->runtime->device, &m->device,
                                           (sum + up) * sizeof(float) + 2 * ARENA_ALIGN, m->error);
    if (code != ERR_OK)
        return code;
    m->sum = arena_alloc(&m->device, sum * sizeof(float));
    m->up = arena_alloc(&m->device, up * sizeof(float));
    m->host = malloc((sum > up ? sum : up) * sizeof(float));
    m->scratch = malloc((sum > up ? sum : up) * sizeof(float));
    if (m->sum == NULL || m->up == NULL || m->host == NULL || m->scratch == NULL)
        return error_set(m->error, ERR_MEMORY, "no memory to merge a LoRA");
    return ERR_OK;
}

static void close_merge(struct merge *m) {
    while (m->factors != NULL) {
        struct factor *next = m->factors->next;
        if (m->factors->linear != NULL)
            m->runtime->ops->linear_close(m->runtime->device, &m->factors->linear);
        free(m->factors->down);
        free(m->factors);
        m->factors = next;
    }
    arena_close(&m->device);
    free(m->host);
    free(m->scratch);
}

/* m->host = rows first..first+rows of the sum. */
static void merge_rows(struct merge *m, int64_t first, int64_t rows) {
    const struct ops *ops = m->runtime->ops;
    struct device *device = m->runtime->device;
    int64_t at = first * m->columns, count = rows * m->columns;
    size_t bytes = (size_t)count * sizeof(float);
    numbers_to_float(m->host, m->base, at, count);
    for (const struct addend *a = m->addends; a != NULL; a = a->next) {
        for (int kind = DIFF; kind < KINDS; kind++) {
            if (a->part[kind] == NULL)
                continue;
            numbers_to_float(m->scratch, a->part[kind], at, count);
            for (int64_t i = 0; i < count; i++)
                m->host[i] += a->strength * m->scratch[i];
        }
    }
    if (m->factors == NULL)
        return;
    const struct linear_epilogue add = {.accumulate = true, .out_dtype = DTYPE_F32};
    ops->upload(device, m->sum, m->host, bytes);
    for (const struct factor *f = m->factors; f != NULL; f = f->next) {
        numbers_to_float(m->scratch, f->up, first * f->rank, rows * f->rank);
        ops->upload(device, m->up, m->scratch, (size_t)(rows * f->rank) * sizeof(float));
        ops->linear(device, m->sum, m->up, f->linear, rows, &add);
    }
    ops->download(device, m->host, m->sum, bytes);
}

/* Of files whose numbers are: what a strength, an alpha and two factors multiply to, or the weight
 * itself. Found here, it is told with names; later it is a picture that is wrong somewhere. */
static enum error_code check_sum(struct merge *m, int64_t first, int64_t rows) {
    int64_t at = first * m->columns, count = rows * m->columns;
    int64_t broken = find_broken(m->host, count);
    if (broken == count)
        return ERR_OK;
    numbers_to_float(m->scratch, m->base, at, count);
    if (find_broken(m->scratch, count) <= broken)
        return error_set(
            m->error, ERR_FORMAT, "%s: element %lld of '%.128s' is %g: the weights are damaged",
            m->weights->path, (long long)(at + broken), m->name, (double)m->scratch[broken]);
    return error_set(m->error, ERR_FORMAT,
                     "%s%s: added with strength %g, element %lld of '%.128s' becomes %g: the LoRA "
                     "is damaged, or too strong",
                     weights_path(m->weights->lora->file[m->addends->file]),
                     m->addends->next == NULL ? "" : ", or a LoRA before it",
                     (double)m->addends->strength, (long long)(at + broken), m->name,
                     (double)m->host[broken]);
}

static enum error_code merge(void *out, enum dtype dtype, struct merge *m) {
    enum error_code code = open_merge(m);
    int64_t rows = rows_of(m->base);
    for (int64_t first = 0; first < rows && code == ERR_OK; first += MERGE_ROWS) {
        int64_t take = rows - first < MERGE_ROWS ? rows - first : MERGE_ROWS;
        merge_rows(m, first, take);
        code = check_sum(m, first, take);
        /* The pages that were read are not used again: the sum is. */
        weights_give_back(m->weights);
        for (int i = 0; i < m->weights->lora->files; i++)
            weights_give_back(m->weights->lora->file[i]);
        for (int64_t i = 0; i < take * m->columns; i++)
            float_store(out, dtype, first * m->columns + i, m->host[i]);
    }
    if (code == ERR_OK)
        code = m->runtime->ops->status(m->runtime->device, m->error);
    close_merge(m);
    return code;
}

static size_t index_of(const struct weights *weights, const struct tensor *tensor) {
    const char *entry = (const char *)tensor - offsetof(struct weights_entry, tensor);
    return (size_t)((const struct weights_entry *)entry - weights->entry);
}

void lora_keep(const struct weights *weights, const struct tensor *tensor) {
    struct lora *lora = weights != NULL ? weights->lora : NULL;
    if (lora != NULL && tensor != NULL)
        keep(lora, &lora->touched[index_of(weights, tensor)]);
}

void lora_release(const struct weights *weights, const struct tensor *tensor) {
    struct lora *lora = weights != NULL ? weights->lora : NULL;
    for (size_t i = 0; lora != NULL && tensor == NULL && i < lora->count; i++)
        release(lora, &lora->touched[i]);
    if (lora != NULL && tensor != NULL)
        release(lora, &lora->touched[index_of(weights, tensor)]);
}

/* Where a sum is that is only measured: not in the file, and not read. */
static const uint8_t elsewhere;

enum error_code lora_merge(const struct tensor **out, const struct weights *weights,
                           const struct tensor *tensor, struct runtime *runtime, enum dtype dtype,
                           struct error *error) {
    struct lora *lora = weights->lora;
    size_t index = index_of(weights, tensor);
    *out = tensor;
    if (lora == NULL || lora->touched[index].addends == NULL)
        return ERR_OK;
    struct touched *touched = &lora->touched[index];
    *out = &touched->merged;
    if (touched->merged.data != NULL && touched->merged.dtype == dtype)
        return ERR_OK;
    assert(touched->merged.data == NULL); /* a tensor is of one layer */
    touched->merged = *tensor;
    touched->merged.dtype = dtype;
    touched->merged.scale = NULL;
    size_t bytes = tensor_bytes(&touched->merged);
    lora->bytes += bytes;
    touched->loose = true;
    lora->loose += bytes;
    note_passing(lora, merge_bytes(touched->addends, columns_of(tensor)));
    touched->merged.data = runtime->params->measuring ? &elsewhere : NULL;
    if (runtime->params->measuring)
        return ERR_OK;
    void *sum = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (sum == NULL)
        return error_set(error, ERR_MEMORY, "no memory to merge LoRAs: %zu bytes", bytes);
    struct merge m = {.runtime = runtime,
                      .weights = weights,
                      .name = lora->name[index],
                      .base = tensor,
                      .addends = touched->addends,
                      .columns = columns_of(tensor),
                      .error = error};
    enum error_code code = merge(sum, dtype, &m);
    if (code == ERR_OK) {
        touched->merged.data = sum;
        touched->owned = true;
    } else {
        free(sum);
    }
    return code;
}
