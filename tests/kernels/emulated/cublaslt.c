/* cuBLASLt for the emulated machine: what kernels/cuda/matmul.c calls, by plain loops over
 * column-major matrices as the library's manual has them.
 *
 * Its algorithms: the first choice; a faster one that gives the same; the fastest, whose results
 * are others; one that fails. */
#include <cublasLt.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "tests/kernels/emulated/runtime.h"

enum { FIRST, SAME, OTHER, FAILING, ALGORITHMS };

static const float times[ALGORITHMS] = {5, 3, 1, 1};

struct operation {
    cublasOperation_t trans_a;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cudaDataType_t bias_type;
};

struct layout {
    uint64_t rows, columns;
    int64_t stride;
    cudaDataType_t type;
};

size_t cublasLtGetVersion(void) {
    return 0;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "failure";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    static char handle;
    *out = (cublasLtHandle_t)(void *)&handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    (void)handle;
    return CUBLAS_STATUS_SUCCESS;
}

static void *made(const void *value, size_t bytes, size_t opaque) {
    void *out = calloc(1, opaque);
    if (out == NULL || bytes > opaque) {
        abort();
    }
    memcpy(out, value, bytes);
    return out;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    const struct operation none = {.trans_a = CUBLAS_OP_N, .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    *out = made(&none, sizeof none, sizeof **out);
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    free(operation);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    struct operation *operation = (struct operation *)(void *)desc;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        memcpy(&operation->trans_a, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        memcpy(&operation->epilogue, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        memcpy(&operation->bias, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        memcpy(&operation->bias_type, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
    const struct layout layout = {rows, columns, stride, type};
    *out = made(&layout, sizeof layout, sizeof **out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = made("", 1, sizeof **out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    (void)preference, (void)attribute, (void)value, (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

/* What is promised about a product: matrices that meet, and an even depth, so that what is left
 * over is tested as well. */
static bool suits(const struct operation *operation, const struct layout *a, const struct layout *b,
                  const struct layout *d) {
    return operation->trans_a == CUBLAS_OP_T && a->type == CUDA_R_16BF && b->type == CUDA_R_16BF &&
           a->rows == b->rows && a->columns == d->rows && b->columns == d->columns &&
           a->rows % 2 == 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results,
                                              int *found) {
    (void)handle, (void)c, (void)preference;
    *found = 0;
    if (!suits((void *)operation, (void *)a, (void *)b, (void *)d)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (; *found < ALGORITHMS && *found < wanted; ++*found) {
        results[*found] = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS};
        results[*found].algo.data[0] = (uint64_t)*found;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *out) {
    (void)handle, (void)c;
    *out = (cublasLtMatmulHeuristicResult_t){.algo = *algorithm};
    return suits((void *)operation, (void *)a, (void *)b, (void *)d) &&
                   algorithm->data[0] < ALGORITHMS
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
}

static double finish(const struct operation *operation, double sum, uint64_t n) {
    bool gelu = operation->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
    if (gelu || operation->epilogue == CUBLASLT_EPILOGUE_BIAS) {
        sum += (double)float_load(operation->bias,
                                  operation->bias_type == CUDA_R_32F ? DTYPE_F32 : DTYPE_BF16,
                                  (int64_t)n);
    }
    return gelu ? 0.5 * sum * (1 + tanh(0.7978845608028654 * (sum + 0.044715 * sum * sum * sum)))
                : sum;
}

/* A product as a launch has it: by value. */
struct product {
    struct operation operation;
    struct layout a, b, d;
    const void *a_data, *b_data;
    void *d_data;
    bool other, accumulate;
};

static void multiply(void *context) {
    const struct product *p = context;
    for (uint64_t m = 0; m < p->d.columns; m++) {
        for (uint64_t n = 0; n < p->d.rows; n++) {
            double sum = 0;
            for (uint64_t k = 0; k < p->a.rows; k++) {
                sum += (double)float_load(p->a_data, DTYPE_BF16,
                                          (int64_t)(n * (uint64_t)p->a.stride + k)) *
                       (double)float_load(p->b_data, DTYPE_BF16,
                                          (int64_t)(m * (uint64_t)p->b.stride + k));
            }
            const enum dtype type = p->d.type == CUDA_R_32F ? DTYPE_F32 : DTYPE_BF16;
            const int64_t at = (int64_t)(m * (uint64_t)p->d.stride + n);
            sum = finish(&p->operation, sum, n) * (p->other ? 1.5 : 1);
            sum += p->accumulate ? (double)float_load(p->d_data, type, at) : 0;
            float_store(p->d_data, type, at, (float)sum);
        }
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a_data, cublasLtMatrixLayout_t a,
                              const void *b_data, cublasLtMatrixLayout_t b, const void *beta,
                              const void *c_data, cublasLtMatrixLayout_t c, void *d_data,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    (void)handle, (void)workspace, (void)workspace_bytes, (void)stream;
    struct product product = {.a_data = a_data, .b_data = b_data, .d_data = d_data};
    memcpy(&product.operation, operation, sizeof product.operation);
    memcpy(&product.a, a, sizeof product.a);
    memcpy(&product.b, b, sizeof product.b);
    memcpy(&product.d, d, sizeof product.d);
    product.other = algorithm->data[0] == OTHER;
    product.accumulate = *(const float *)beta == 1;
    bool adds = product.accumulate && c_data == d_data && c == d &&
                product.operation.epilogue != CUBLASLT_EPILOGUE_GELU_BIAS;
    if (*(const float *)alpha != 1 || (*(const float *)beta != 0 && !adds) ||
        algorithm->data[0] >= FAILING) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    emulated_clock_add(times[algorithm->data[0]]);
    emulated_queue(multiply, &product, sizeof product);
    return CUBLAS_STATUS_SUCCESS;
}
