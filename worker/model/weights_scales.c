/* Scales that files keep as tensors of their own: they become part of the matrix that they are for.
 *
 *   X.weight_scale   [N,blocks] f32: a row each, in blocks of columns (vidloom convert)
 *   X.scale_weight   one number for all of X.weight (ComfyUI's scaled fp8 files, which also mark
 *                    themselves by a tensor `scaled_fp8` and may have X.scale_input, of no use
 * here) */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "kernels/quantise.h"
#include "worker/model/weights_internal.h"

static const struct ending {
    const char *text;
    enum { BLOCKS, WHOLE, INPUT } kind;
} endings[] = {{".weight_scale", BLOCKS}, {".scale_weight", WHOLE}, {".scale_input", INPUT}};

#define MARK "scaled_fp8"

/* X.weight of "X<end>"; NULL when it is not there or of a type that has no scales. */
static struct tensor *scaled(struct weights *weights, const char *name, const char *end) {
    char base[WEIGHTS_NAME_MAX + 8];
    int module = (int)(strlen(name) - strlen(end));
    (void)snprintf(base, sizeof base, "%.*s.weight", module, name);
    const struct weights_entry *entry = weights_entry_find(weights, base);
    if (entry == NULL || (entry->tensor.dtype != DTYPE_I8 && entry->tensor.dtype != DTYPE_F8_E4M3 &&
                          entry->tensor.dtype != DTYPE_F8_E5M2))
        return NULL;
    return &weights->entry[entry - weights->entry].tensor;
}

/* How many columns a block has; 0 when so many blocks are none of a row. */
static int64_t columns_of(int64_t inputs, int64_t blocks) {
    if (blocks == (inputs + QUANTISE_COLUMNS - 1) / QUANTISE_COLUMNS)
        return QUANTISE_COLUMNS;
    return blocks > 0 && inputs % blocks == 0 ? inputs / blocks : 0;
}

static enum error_code attach(struct tensor *matrix, const struct weights *weights,
                              const struct weights_entry *entry, bool blocks, struct error *error) {
    const struct tensor *scale = &entry->tensor;
    bool fits =
        scale->dtype == DTYPE_F32 && matrix->rank == 2 && matrix->dim[0] > 0 && matrix->dim[1] > 0;
    int64_t columns = 0;
    if (fits && blocks && scale->rank == 2 && scale->dim[0] == matrix->dim[0])
        columns = columns_of(matrix->dim[1], scale->dim[1]);
    else if (fits && !blocks && tensor_elements(scale) == 1)
        columns = matrix->dim[1];
    if (columns == 0)
        return weights_bad(error, &weights->file[entry->file], entry->name,
                           "no scales of the matrix beside it: expected f32, a row of blocks for "
                           "each row, or one number");
    matrix->scale = scale->data;
    matrix->scale_rows = blocks ? 1 : matrix->dim[0];
    matrix->scale_columns = columns;
    return ERR_OK;
}

static enum error_code attach_one(struct weights *weights, struct weights_entry *entry,
                                  struct error *error) {
    entry->folded = strcmp(entry->name, MARK) == 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        if (!text_ends_with(entry->name, endings[i].text))
            continue;
        struct tensor *matrix = scaled(weights, entry->name, endings[i].text);
        entry->folded = matrix != NULL;
        if (matrix != NULL && endings[i].kind != INPUT)
            return attach(matrix, weights, entry, endings[i].kind == BLOCKS, error);
    }
    return ERR_OK;
}

enum error_code weights_attach_scales(struct weights *weights, struct error *error) {
    enum error_code code = ERR_OK;
    size_t kept = 0;
    for (size_t i = 0; i < weights->count && code == ERR_OK; i++)
        code = attach_one(weights, &weights->entry[i], error);
    /* Taken out when all are attached, since they are found by name. */
    for (size_t i = 0; i < weights->count && code == ERR_OK; i++)
        if (!weights->entry[i].folded)
            weights->entry[kept++] = weights->entry[i];
    weights->count = code == ERR_OK ? kept : weights->count;
    return code;
}
