#include "kernels/tensor.h"

#include <assert.h>

static const struct {
    size_t bytes;
    const char *name;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {4, "F32"}, [DTYPE_BF16] = {2, "BF16"}, [DTYPE_F16] = {2, "F16"},
    [DTYPE_F64] = {8, "F64"}, [DTYPE_I64] = {8, "I64"},   [DTYPE_I32] = {4, "I32"},
    [DTYPE_U8] = {1, "U8"},
};

size_t dtype_bytes(enum dtype dtype) {
    assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].bytes;
}

const char *dtype_name(enum dtype dtype) {
    return (unsigned)dtype < DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

int64_t tensor_elements(const struct tensor *tensor) {
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++) {
        elements *= tensor->dim[i];
    }
    return elements;
}
