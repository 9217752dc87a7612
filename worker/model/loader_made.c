/* Tensors that no file has: random ones, and narrower copies. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/cpu/float.h"
#include "kernels/quantise.h"
#include "worker/model/loader.h"
#include "worker/model/numbers.h"

static struct tensor *make(struct loader *loader, size_t bytes) {
    size_t most = sizeof loader->made / sizeof *loader->made;
    struct tensor *out = &loader->made[(size_t)loader->made_count++ % most];
    *out = (struct tensor){.data = arena_alloc(runtime_made(loader->runtime), bytes)};
    if (out->data != NULL)
        return out;
    loader->code =
        error_set(loader->error, ERR_MEMORY, "no memory for %zu bytes of weights", bytes);
    return NULL;
}

/* Evenly spread, with the variance that keeps that of a layer's input. */
const struct tensor *loader_invent(struct loader *loader, int rank, const int64_t *dim) {
    if (loader->code != ERR_OK)
        return NULL;
    struct tensor shape = {.dtype = DTYPE_BF16, .rank = rank};
    for (int i = 0; i < rank; i++)
        shape.dim[i] = dim[i];
    int64_t elements = tensor_elements(&shape);
    struct tensor *out = make(loader, tensor_bytes(&shape));
    if (out == NULL)
        return NULL;
    shape.data = out->data;
    *out = shape;
    loader->elements += elements;
    if (loader->runtime->params->measuring)
        return out;
    float most = sqrtf(3.0f / (float)(rank > 1 ? elements / dim[0] : 12));
    uint32_t state = (uint32_t)loader->elements;
    for (int64_t i = 0; i < elements; i++) {
        state = state * 1664525 + 1013904223;
        ((bf16 *)shape.data)[i] = bf16_from_float((float)(int32_t)state * 0x1p-31f * most);
    }
    return out;
}

/* A row at a time, so that it takes no room for all of it. */
static const struct tensor *make_bf16(struct loader *loader, const struct tensor *tensor) {
    int64_t columns = tensor->dim[1];
    struct tensor *out = make(loader, (size_t)tensor_elements(tensor) * sizeof(bf16));
    float *row = malloc((size_t)columns * sizeof *row);
    if (out == NULL || row == NULL) {
        free(row);
        loader->code = error_set(loader->error, ERR_MEMORY, "no memory for bf16 weights");
        return NULL;
    }
    for (int64_t n = 0; !loader->runtime->params->measuring && n < tensor->dim[0]; n++) {
        numbers_to_float(row, tensor, n * columns, columns);
        for (int64_t k = 0; k < columns; k++)
            ((bf16 *)out->data)[n * columns + k] = bf16_from_float(row[k]);
    }
    free(row);
    const void *data = out->data;
    *out = *tensor;
    out->data = data;
    out->dtype = DTYPE_BF16;
    out->scale = NULL;
    return out;
}

const struct tensor *loader_narrow(struct loader *loader, const struct tensor *tensor,
                                   enum dtype dtype) {
    if (loader->code != ERR_OK || tensor == NULL || tensor->dtype == dtype ||
        (dtype != DTYPE_BF16 && tensor->dtype > DTYPE_F64))
        return tensor; /* narrow already */
    assert(tensor->rank == 2);
    if (dtype == DTYPE_BF16)
        return make_bf16(loader, tensor);
    int64_t scales = quantise_scales(tensor->dim[0], tensor->dim[1], dtype);
    struct tensor *out = make(loader, (size_t)tensor_elements(tensor));
    float *scale = arena_array(runtime_made(loader->runtime), (size_t)scales, sizeof *scale);
    if (out == NULL || scale == NULL) {
        loader->code = error_set(loader->error, ERR_MEMORY, "no memory for narrower weights");
        return NULL;
    }
    void *data = (void *)out->data;
    if (!loader->runtime->params->measuring) {
        quantise(out, data, scale, tensor, dtype);
        return out;
    }
    *out = *tensor;
    out->data = data;
    out->dtype = dtype;
    out->scale = scale;
    out->scale_rows = 1;
    out->scale_columns = quantise_columns(tensor->dim[1], dtype);
    return out;
}
