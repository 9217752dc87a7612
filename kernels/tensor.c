#include "kernels/tensor.h"

#include <assert.h>

static const struct {
    size_t bytes; /* of a block */
    int block;    /* elements of it */
    const char *name;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {4, 1, "F32"},         [DTYPE_BF16] = {2, 1, "BF16"},
    [DTYPE_F16] = {2, 1, "F16"},         [DTYPE_F64] = {8, 1, "F64"},
    [DTYPE_I64] = {8, 1, "I64"},         [DTYPE_I32] = {4, 1, "I32"},
    [DTYPE_U8] = {1, 1, "U8"},           [DTYPE_F8_E4M3] = {1, 1, "F8_E4M3"},
    [DTYPE_F8_E5M2] = {1, 1, "F8_E5M2"}, [DTYPE_Q8_0] = {34, 32, "Q8_0"},
    [DTYPE_Q4_0] = {18, 32, "Q4_0"},     [DTYPE_Q4_K] = {144, 256, "Q4_K"},
    [DTYPE_Q5_K] = {176, 256, "Q5_K"},   [DTYPE_Q6_K] = {210, 256, "Q6_K"},
    [DTYPE_I8] = {1, 1, "I8"},
};

size_t dtype_bytes(enum dtype dtype) {
    assert((unsigned)dtype < DTYPE_COUNT && dtypes[dtype].block == 1);
    return dtypes[dtype].bytes;
}

int dtype_block(enum dtype dtype) {
    assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].block;
}

size_t dtype_align(enum dtype dtype) {
    assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].block == 1 ? dtypes[dtype].bytes : 1;
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

size_t tensor_bytes(const struct tensor *tensor) {
    size_t block = (size_t)dtypes[tensor->dtype].block;
    return (size_t)tensor_elements(tensor) / block * dtypes[tensor->dtype].bytes;
}
