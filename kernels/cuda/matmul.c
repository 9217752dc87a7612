/* bf16 products by cuBLASLt. cuBLASLt is called from here alone.
 *
 * cuBLASLt's matrices are column-major, so what is [M,N] row-major here is N x M there: it computes
 * Dᵀ = W · inᵀ, with W [N,K] read as K x N and transposed, which is the layout its fastest kernels
 * take. The bias runs along D's rows, that is along N. */
#include <cublasLt.h>
#include <stdlib.h>

#include "kernels/cuda/backend.h"

#define PLANS_MAX 512

struct shape {
    int64_t outputs, inputs, rows;
    enum dtype out_dtype;
    bool bias, gelu;
    uint32_t in_alignment, out_alignment; /* bytes */
};

/* A product of one shape: made once, kept. */
struct plan {
    struct plan *next;
    struct shape shape;
    bool there; /* cuBLASLt has an algorithm */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

struct matmul {
    cublasLtHandle_t handle;
    struct plan *plans;
    int count;
};

size_t matmul_version(void) {
    return cublasLtGetVersion();
}

enum error_code matmul_open(struct device *device, struct error *error) {
    device->matmul = calloc(1, sizeof *device->matmul);
    if (device->matmul == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for cuBLASLt's plans");
    }
    cublasStatus_t status = cublasLtCreate(&device->matmul->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return error_set(error, ERR_DEVICE, "GPU %d: cuBLASLt cannot be used: %s", device->index,
                         cublasLtGetStatusString(status));
    }
    return ERR_OK;
}

static void plans_free(struct matmul *matmul) {
    while (matmul->plans != NULL) {
        struct plan *plan = matmul->plans;
        matmul->plans = plan->next;
        (void)cublasLtMatrixLayoutDestroy(plan->a);
        (void)cublasLtMatrixLayoutDestroy(plan->b);
        (void)cublasLtMatrixLayoutDestroy(plan->d);
        (void)cublasLtMatmulDescDestroy(plan->operation);
        free(plan);
    }
    matmul->count = 0;
}

void matmul_close(struct device *device) {
    if (device->matmul != NULL) {
        plans_free(device->matmul);
        if (device->matmul->handle != NULL) {
            (void)cublasLtDestroy(device->matmul->handle);
        }
        free(device->matmul);
        device->matmul = NULL;
    }
}

static bool set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                const void *value, size_t bytes) {
    return cublasLtMatmulDescSetAttribute(operation, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool describe(struct plan *plan) {
    const struct shape *shape = &plan->shape;
    const cudaDataType_t out = shape->out_dtype == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = shape->gelu   ? CUBLASLT_EPILOGUE_GELU_BIAS
                                        : shape->bias ? CUBLASLT_EPILOGUE_BIAS
                                                      : CUBLASLT_EPILOGUE_DEFAULT;
    const uint64_t n = (uint64_t)shape->outputs, k = (uint64_t)shape->inputs,
                   m = (uint64_t)shape->rows;
    return cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           set(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) &&
           set(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           (!shape->bias ||
            set(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out)) &&
           cublasLtMatrixLayoutCreate(&plan->a, CUDA_R_16BF, k, n, (int64_t)k) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->b, CUDA_R_16BF, k, m, (int64_t)k) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->d, out, n, m, (int64_t)n) == CUBLAS_STATUS_SUCCESS;
}

/* The heuristic's first choice: the same for a shape on a card and library, so that results are. */
static bool choose(struct matmul *matmul, struct plan *plan) {
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t weights = 256, in = plan->shape.in_alignment, out = plan->shape.out_alignment;
    int found = 0;
    bool chosen =
        cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace,
                                             sizeof workspace) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                             &weights, sizeof weights) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                             &in, sizeof in) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                             &out, sizeof out) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                                             &out, sizeof out) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulAlgoGetHeuristic(matmul->handle, plan->operation, plan->a, plan->b, plan->d,
                                       plan->d, preference, 1, &result,
                                       &found) == CUBLAS_STATUS_SUCCESS &&
        found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
    if (chosen) {
        plan->algorithm = result.algo;
    }
    (void)cublasLtMatmulPreferenceDestroy(preference);
    return chosen;
}

static bool equal(const struct shape *a, const struct shape *b) {
    return a->outputs == b->outputs && a->inputs == b->inputs && a->rows == b->rows &&
           a->out_dtype == b->out_dtype && a->bias == b->bias && a->gelu == b->gelu &&
           a->in_alignment == b->in_alignment && a->out_alignment == b->out_alignment;
}

static struct plan *plan_of(struct matmul *matmul, const struct shape *shape) {
    for (struct plan *plan = matmul->plans; plan != NULL; plan = plan->next) {
        if (equal(&plan->shape, shape)) {
            return plan;
        }
    }
    if (matmul->count == PLANS_MAX) {
        plans_free(matmul); /* nothing queued needs them any more: the host's side is done */
    }
    struct plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    plan->shape = *shape;
    plan->there = describe(plan) && choose(matmul, plan);
    plan->next = matmul->plans;
    matmul->plans = plan;
    matmul->count++;
    return plan;
}

static uint32_t alignment_of(const void *pointer) {
    uintptr_t bits = (uintptr_t)pointer | 256;
    return (uint32_t)(bits & -bits);
}

bool matmul_run(struct device *device, void *out, enum dtype out_dtype, const void *in,
                const struct linear *linear, int64_t rows, bool bias, bool gelu) {
    struct matmul *matmul = device->matmul;
    const struct shape shape = {linear->outputs,  linear->inputs,   rows, out_dtype, bias, gelu,
                                alignment_of(in), alignment_of(out)};
    struct plan *plan = plan_of(matmul, &shape);
    if (plan == NULL || !plan->there) {
        return false;
    }
    const void *values = out_dtype == DTYPE_F32 ? linear->bias : linear->bias_narrow;
    const float one = 1, zero = 0;
    if (bias && !set(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &values, sizeof values)) {
        return false;
    }
    cublasStatus_t status =
        cublasLtMatmul(matmul->handle, plan->operation, &one, linear->weight, plan->a, in, plan->b,
                       &zero, out, plan->d, out, plan->d, &plan->algorithm, device->workspace,
                       WORKSPACE_BYTES, device->stream);
    if (status != CUBLAS_STATUS_SUCCESS) {
        device_fail(device, ERR_DEVICE, "cuBLASLt, %lldx%lldx%lld: %s", (long long)rows,
                    (long long)linear->outputs, (long long)linear->inputs,
                    cublasLtGetStatusString(status));
    }
    return true;
}
