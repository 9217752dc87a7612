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
    /* Narrow floats of weight files. */
    DTYPE_F8_E4M3, /* no infinities; the largest is 448 */
    DTYPE_F8_E5M2,
    DTYPE_I8,
    /* Blocks of GGUF files, along a row, whose length is a multiple of the block's:
     * kernels/blocks.h has their layouts. */
    DTYPE_Q8_0,
    DTYPE_Q4_0,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_COUNT
};

/* Contiguous, row-major, dimensions in PyTorch's order. Does not own `data` and `scale`.
 *
 * A matrix [N,K] may have scales, each of a block of `scale_rows` rows and `scale_columns` columns:
 * [⌈N/scale_rows⌉, ⌈K/scale_columns⌉] f32, row-major. Element (n,k) is then
 * data[n,k] · scale[n/scale_rows, k/scale_columns]. I8 has them always, F8 often. */
struct tensor {
    const void *data;
    enum dtype dtype;
    int rank;
    int64_t dim[TENSOR_RANK_MAX];
    const float *scale; /* NULL: 1 */
    int64_t scale_rows, scale_columns;
};

#ifdef __cplusplus
extern "C" {
#endif

size_t dtype_bytes(enum dtype dtype);     /* of an element; not of a type in blocks */
int dtype_block(enum dtype dtype);        /* elements of a block; 1 of a type without blocks */
size_t dtype_align(enum dtype dtype);     /* of data; blocks are read byte by byte */
const char *dtype_name(enum dtype dtype); /* safetensors' names: "F32", "BF16", …; GGUF's: "Q4_K" */
int64_t tensor_elements(const struct tensor *tensor);
size_t tensor_bytes(const struct tensor *tensor); /* of data, whatever the type */

#ifdef __cplusplus
}
#endif

#endif
