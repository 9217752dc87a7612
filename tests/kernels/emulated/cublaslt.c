/* cuBLASLt for the emulated machine: what kernels/cuda/matmul.c calls, by plain loops over
 * column-major matrices as the library's manual has them. It takes of f8 what the manual's tables
 * say it does and no more: E4M3 of both, A transposed, whole units of 16 bytes, results in bf16 or
 * f32 with a bias in bf16, from compute capability 8.9 on; a scale for each row and column on 9.0
 * alone.
 *
 * Its algorithms: the first choice; a faster one that gives the same; the fastest, whose results
 * are others; one that fails. For 7n+3 rows the one that fails is proposed first. */
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
    cudaDataType_t bias_type;           /* -1: the result's */
    const float *a_scale, *b_scale;     /* NULL: 1 */
    int32_t a_scale_mode, b_scale_mode; /* cublasLtMatmulMatrixScale_t */
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
    const struct operation none = {.trans_a = CUBLAS_OP_N,
                                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                                   .bias_type = (cudaDataType_t)-1};
    *out = made(&none, sizeof none, sizeof **out);
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    free(operation);
    return CUBLAS_STATUS_SUCCESS;
}

/* A value of another size is not the attribute's. */
static cublasStatus_t assign(void *out, size_t wanted, const void *value, size_t bytes) {
    if (bytes != wanted) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(out, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    struct operation *o = (struct operation *)(void *)desc;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return assign(&o->trans_a, sizeof o->trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return assign(&o->epilogue, sizeof o->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return assign(&o->bias, sizeof o->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return assign(&o->bias_type, sizeof o->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
        return assign(&o->a_scale, sizeof o->a_scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
        return assign(&o->b_scale, sizeof o->b_scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
        return assign(&o->a_scale_mode, sizeof o->a_scale_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
        return assign(&o->b_scale_mode, sizeof o->b_scale_mode, value, bytes);
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

static size_t bytes_of(cudaDataType_t type) {
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1;
}

static bool is_whole(const struct layout *x) {
    return x->rows * bytes_of(x->type) % 16 == 0 &&
           (uint64_t)x->stride * bytes_of(x->type) % 16 == 0;
}

static bool takes_f8(const struct operation *o, const struct layout *a, const struct layout *b,
                     const struct layout *d) {
    const bool biased = o->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    const bool vectors = o->a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return emulated_capability() >= 89 && a->type == CUDA_R_8F_E4M3 && b->type == CUDA_R_8F_E4M3 &&
           (d->type == CUDA_R_16BF || d->type == CUDA_R_32F) && is_whole(a) && is_whole(b) &&
           is_whole(d) && d->rows % 16 == 0 &&
           (!biased || o->bias_type == CUDA_R_16BF ||
            (o->bias_type == (cudaDataType_t)-1 && d->type == CUDA_R_16BF)) &&
           o->a_scale_mode == o->b_scale_mode &&
           (vectors ? emulated_capability() == 90 && o->a_scale != NULL && o->b_scale != NULL
                    : o->a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
}

/* What is promised about a product: matrices that meet, and of bf16 an even depth, so that what is
 * left over is tested as well. */
static bool suits(const struct operation *o, const struct layout *a, const struct layout *b,
                  const struct layout *d) {
    const bool wide = a->type == CUDA_R_16BF && b->type == CUDA_R_16BF && a->rows % 2 == 0 &&
                      o->a_scale_mode == 0 && o->b_scale_mode == 0 && o->a_scale == NULL &&
                      o->b_scale == NULL;
    return o->trans_a == CUBLAS_OP_T && a->rows == b->rows && a->columns == d->rows &&
           b->columns == d->columns && (wide || takes_f8(o, a, b, d));
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
    const struct layout *out = (void *)d;
    const int skip = out->columns % 7 == 3 ? FAILING : 0;
    for (; *found < ALGORITHMS && *found < wanted; ++*found) {
        results[*found] = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS};
        results[*found].algo.data[0] = (uint64_t)((*found + skip) % ALGORITHMS);
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

/* Of element (n,m) of D. */
static double scale_of(const struct operation *o, uint64_t n, uint64_t m) {
    const bool vectors = o->a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return (o->a_scale != NULL ? (double)o->a_scale[vectors ? n : 0] : 1) *
           (o->b_scale != NULL ? (double)o->b_scale[vectors ? m : 0] : 1);
}

/* Columns of a matrix as f32, without what lies between them; the caller's to free. */
static float *wide(const void *data, const struct layout *x) {
    const enum dtype type = x->type == CUDA_R_8F_E4M3 ? DTYPE_F8_E4M3 : DTYPE_BF16;
    float *out = calloc(x->rows * x->columns, sizeof *out);
    if (out == NULL) {
        abort();
    }
    for (uint64_t i = 0; i < x->columns; i++) {
        float_row(out + i * x->rows, data, type, (int64_t)i * x->stride, (int64_t)x->rows);
    }
    return out;
}

static double dot(const float *a, const float *b, uint64_t count) {
    double sum = 0;
    for (uint64_t k = 0; k < count; k++) {
        sum += (double)a[k] * (double)b[k];
    }
    return sum;
}

static void multiply(void *context) {
    const struct product *p = context;
    float *a = wide(p->a_data, &p->a), *b = wide(p->b_data, &p->b);
    for (uint64_t m = 0; m < p->d.columns; m++) {
        for (uint64_t n = 0; n < p->d.rows; n++) {
            double sum = dot(a + n * p->a.rows, b + m * p->b.rows, p->a.rows);
            const enum dtype type = p->d.type == CUDA_R_32F ? DTYPE_F32 : DTYPE_BF16;
            const int64_t at = (int64_t)(m * (uint64_t)p->d.stride + n);
            sum = finish(&p->operation, sum * scale_of(&p->operation, n, m), n) *
                  (p->other ? 1.5 : 1);
            sum += p->accumulate ? (double)float_load(p->d_data, type, at) : 0;
            float_store(p->d_data, type, at, (float)sum);
        }
    }
    free(a);
    free(b);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a_data, cublasLtMatrixLayout_t a,
                              const void *b_data, cublasLtMatrixLayout_t b, const void *beta,
                              const void *c_data, cublasLtMatrixLayout_t c, void *d_data,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    (void)handle, (void)workspace_bytes, (void)stream;
    struct product product = {.a_data = a_data, .b_data = b_data, .d_data = d_data};
    memcpy(&product.operation, operation, sizeof product.operation);
    memcpy(&product.a, a, sizeof product.a);
    memcpy(&product.b, b, sizeof product.b);
    memcpy(&product.d, d, sizeof product.d);
    product.other = algorithm->data[0] == OTHER;
    product.accumulate = *(const float *)beta == 1;
    bool adds = product.accumulate && c_data == d_data && c == d &&
                product.operation.epilogue != CUBLASLT_EPILOGUE_GELU_BIAS;
    const uintptr_t pointers = (uintptr_t)a_data | (uintptr_t)b_data | (uintptr_t)d_data |
                               (uintptr_t)product.operation.a_scale |
                               (uintptr_t)product.operation.b_scale;
    if (!suits(&product.operation, &product.a, &product.b, &product.d) ||
        (uintptr_t)workspace % 256 != 0 ||
        (product.a.type == CUDA_R_8F_E4M3 && pointers % 16 != 0)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (*(const float *)alpha != 1 || (*(const float *)beta != 0 && !adds) ||
        algorithm->data[0] >= FAILING) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    emulated_clock_add(times[algorithm->data[0]]);
    emulated_queue(multiply, &product, sizeof product);
    return CUBLAS_STATUS_SUCCESS;
}
