/* Descriptions of tensors for the copy engine (compute capability 9.0). The driver makes them; its
 * function is asked for by name, so that no library of the driver need be linked. */
#include <cuda.h>
#include <stdint.h>

#include "kernels/cuda/backend.h"

typedef CUresult encode_function(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                 const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                 const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

bool tensor_map(struct CUtensorMap_st *out, const void *data, enum dtype dtype, int head_dim,
                int heads, int64_t length, int64_t stride, int rows) {
    union {
        void *pointer;
        encode_function *function;
    } encode = {NULL};
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode.pointer, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess || length > INT32_MAX) {
        return false;
    }
    const cuuint64_t bytes = dtype_bytes(dtype);
    const cuuint64_t dim[] = {(cuuint64_t)head_dim, (cuuint64_t)heads, (cuuint64_t)length};
    const cuuint64_t strides[] = {(cuuint64_t)head_dim * bytes, (cuuint64_t)stride * bytes};
    const cuuint32_t box[] = {(cuuint32_t)(128 / bytes), 1, (cuuint32_t)rows}, step[] = {1, 1, 1};
    const CUtensorMapDataType type = dtype == DTYPE_BF16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                     : dtype == DTYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                          : CU_TENSOR_MAP_DATA_TYPE_UINT8;
    return encode.function(out, type, 3, (void *)(uintptr_t)data, dim, strides, box, step,
                           CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
