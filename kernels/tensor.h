/* Element types and a view of a tensor: what a weight file holds and what an operation reads. */
#ifndef VIDLOOM_KERNELS_TENSOR_H
#define VIDLOOM_KERNELS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#define TENSOR_RANK_MAX 6

enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_F64,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_U8,
    DTYPE_COUNT
};

/* Contiguous, row-major, dimensions in PyTorch's order. Does not own `data`. */
struct tensor {
    const void *data;
    enum dtype dtype;
    int rank;
    int64_t dim[TENSOR_RANK_MAX];
};

size_t dtype_bytes(enum dtype dtype);
const char *dtype_name(enum dtype dtype); /* safetensors' names: "F32", "BF16", … */
int64_t tensor_elements(const struct tensor *tensor);

#endif
