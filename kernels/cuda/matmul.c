/* bf16 and f8 products by cuBLASLt. cuBLASLt is called from here alone.
 *
 * cuBLASLt's matrices are column-major, so what is [M,N] row-major here is N x M there: it computes
 * Dᵀ = W · inᵀ, with W [N,K] read as K x N and transposed, which is the layout its fastest kernels
 * take, and the only one for f8. The bias runs along D's rows, that is along N; so do the weights'
 * scales, A's; those of the activations are B's.
 *
 * f8 is summed without CUBLASLT_MATMUL_DESC_FAST_ACCUM: with it Hopper's tensor cores keep 14 bits
 * of a sum over the whole depth, which over 13,824 columns may cost as much as f8 itself. */
#include <assert.h>
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/tuning.h"

#define PLANS_MAX 512

#define TUNED_FLOPS 1e7 /* products from here on are worth measuring */
#define RUNS        3   /* of a candidate, timed together */

struct shape {
    int64_t outputs, inputs, rows, out_stride;
    enum dtype out_dtype;
    bool f8, scaled; /* operands; each row and column of the product by its scale */
    bool bias, gelu, accumulate;
    uint32_t in_alignment, out_alignment; /* bytes */
};

/* A product of one shape: made once, kept. */
struct plan {
    struct plan *next;
    struct shape shape;
    bool there; /* cuBLASLt has an algorithm */
    /* What may be tried where that does not run, in the heuristic's order; none where all were. */
    cublasLtMatmulAlgo_t others[TUNING_TRIALS_MAX];
    int others_count;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

struct matmul {
    cublasLtHandle_t handle;
    struct tuning *tuning;
    cudaEvent_t begin, end;
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
    struct matmul *matmul = device->matmul;
    cublasStatus_t status = cublasLtCreate(&matmul->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return error_set(error, ERR_DEVICE, "GPU %d: cuBLASLt cannot be used: %s", device->index,
                         cublasLtGetStatusString(status));
    }
    cudaError_t code = cudaEventCreate(&matmul->begin);
    if (code == cudaSuccess) {
        code = cudaEventCreate(&matmul->end);
    }
    if (code != cudaSuccess) {
        return error_set(error, ERR_DEVICE, "GPU %d: no events: %s", device->index,
                         cudaGetErrorString(code));
    }
    char machine[DEVICE_LINE_BYTES];
    device_line(machine, device, "cuBLASLt", matmul_version());
    return tuning_open(&matmul->tuning, device->cache, "products", machine, error);
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
        struct matmul *matmul = device->matmul;
        plans_free(matmul);
        tuning_close(&matmul->tuning);
        if (matmul->begin != NULL) {
            (void)cudaEventDestroy(matmul->begin);
        }
        if (matmul->end != NULL) {
            (void)cudaEventDestroy(matmul->end);
        }
        if (matmul->handle != NULL) {
            (void)cublasLtDestroy(matmul->handle);
        }
        free(matmul);
        device->matmul = NULL;
    }
}

static bool set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                const void *value, size_t bytes) {
    return cublasLtMatmulDescSetAttribute(operation, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

/* A scale for each row of A's and for each of B's. Version 12.9 has them. */
static bool describe_scales(const struct plan *plan) {
#if CUBLAS_VER_MAJOR * 100 + CUBLAS_VER_MINOR >= 1209
    const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return set(plan->operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode) &&
           set(plan->operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode);
#else
    (void)plan;
    return false;
#endif
}

static bool describe(struct plan *plan) {
    const struct shape *shape = &plan->shape;
    const cudaDataType_t in = shape->f8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    const cudaDataType_t out = shape->out_dtype == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    const cudaDataType_t bias = shape->f8 ? CUDA_R_16BF : out;
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
            set(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof bias)) &&
           (!shape->scaled || describe_scales(plan)) &&
           cublasLtMatrixLayoutCreate(&plan->a, in, k, n, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->b, in, k, m, (int64_t)k) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->d, out, n, m, shape->out_stride) ==
               CUBLAS_STATUS_SUCCESS;
}

/* -- which algorithm --------------------------------------------------------------------------- */

/* What the heuristic proposes, best first; how many. */
static int propose(struct matmul *matmul, const struct plan *plan,
                   cublasLtMatmulHeuristicResult_t results[TUNING_TRIALS_MAX]) {
    cublasLtMatmulPreference_t preference = NULL;
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t weights = 256, in = plan->shape.in_alignment, out = plan->shape.out_alignment;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } wanted[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &weights, sizeof weights},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &in, sizeof in},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out, sizeof out},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out, sizeof out},
    };
    bool good = cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; good && i < sizeof wanted / sizeof *wanted; i++) {
        good =
            cublasLtMatmulPreferenceSetAttribute(preference, wanted[i].attribute, wanted[i].value,
                                                 wanted[i].bytes) == CUBLAS_STATUS_SUCCESS;
    }
    int found = 0, usable = 0;
    if (good && cublasLtMatmulAlgoGetHeuristic(matmul->handle, plan->operation, plan->a, plan->b,
                                               plan->d, plan->d, preference, TUNING_TRIALS_MAX,
                                               results, &found) != CUBLAS_STATUS_SUCCESS) {
        found = 0;
    }
    (void)cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < found; i++) {
        if (results[i].state == CUBLAS_STATUS_SUCCESS) {
            results[usable++] = results[i];
        }
    }
    return usable;
}

/* A product that is measured, on memory of its own, weights and bias too: of real ones all may be
 * zeros, of which every algorithm gives the same bits. */
struct trial {
    struct device *device;
    struct linear linear;
    const struct plan *plan;
    const cublasLtMatmulHeuristicResult_t *candidates;
    void *in, *out;
    const float *in_scale; /* behind `in`; NULL: none */
};

/* What differs between the products of a plan: where the bias and the scales are. */
static bool point(const struct plan *plan, const struct linear *linear, const float *in_scale) {
    const struct shape *shape = &plan->shape;
    const void *bias =
        shape->out_dtype == DTYPE_F32 && !shape->f8 ? linear->bias : linear->bias_narrow;
    const void *scale = linear->scale, *of_rows = in_scale;
    return (!shape->bias ||
            set(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)) &&
           (!shape->scaled ||
            (set(plan->operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &scale, sizeof scale) &&
             set(plan->operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &of_rows, sizeof of_rows)));
}

static cublasStatus_t multiply(struct device *device, void *out, const void *in,
                               const float *in_scale, const struct linear *linear,
                               const struct plan *plan, const cublasLtMatmulAlgo_t *algorithm) {
    const float one = 1, beta = plan->shape.accumulate ? 1 : 0;
    if (!point(plan, linear, in_scale)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return cublasLtMatmul(device->matmul->handle, plan->operation, &one, linear->weight, plan->a,
                          in, plan->b, &beta, out, plan->d, out, plan->d, algorithm,
                          device->workspace, WORKSPACE_BYTES, device->stream);
}

/* Rows of the result from all over it, so that every tile of every kernel is among them: as many as
 * staging memory holds. */
static bool digest_of(const struct trial *trial, uint64_t *digest) {
    struct device *device = trial->device;
    const struct shape *shape = &trial->plan->shape;
    size_t row = (size_t)shape->outputs * dtype_bytes(shape->out_dtype);
    size_t pitch = (size_t)shape->out_stride * dtype_bytes(shape->out_dtype);
    int64_t room = (int64_t)(STAGING_BYTES / row);
    int64_t step = room > 0 ? (shape->rows + room - 1) / room : 0;
    if (step == 0) {
        return false;
    }
    int64_t count = (shape->rows + step - 1) / step;
    if (cudaMemcpy2DAsync(device->staging, row, trial->out, pitch * (size_t)step, row,
                          (size_t)count, cudaMemcpyDeviceToHost, device->stream) != cudaSuccess ||
        cudaStreamSynchronize(device->stream) != cudaSuccess) {
        return false;
    }
    const uint16_t *word = device->staging; /* every row is a whole number of them */
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < row * (size_t)count / sizeof *word; i++) {
        sum = (sum ^ word[i]) * 0x100000001b3u;
    }
    *digest = sum;
    return true;
}

static bool run_trial(void *context, int index, float *time, uint64_t *digest) {
    const struct trial *trial = context;
    struct device *device = trial->device;
    const struct matmul *matmul = device->matmul;
    const cublasLtMatmulAlgo_t *algorithm = &trial->candidates[index].algo;
    const struct shape *shape = &trial->plan->shape;
    size_t bytes = (size_t)(shape->rows * shape->out_stride) * dtype_bytes(shape->out_dtype);
    if (cudaMemsetAsync(trial->out, 0, bytes, device->stream) != cudaSuccess) { /* to add to */
        return false;
    }
    /* The first run is not timed: it loads the kernel. */
    for (int i = 0; i <= RUNS; i++) {
        if ((i == 1 && cudaEventRecord(matmul->begin, device->stream) != cudaSuccess) ||
            multiply(device, trial->out, trial->in, trial->in_scale, &trial->linear, trial->plan,
                     algorithm) != CUBLAS_STATUS_SUCCESS) {
            return false;
        }
    }
    return cudaEventRecord(matmul->end, device->stream) == cudaSuccess &&
           cudaEventSynchronize(matmul->end) == cudaSuccess &&
           cudaEventElapsedTime(time, matmul->begin, matmul->end) == cudaSuccess &&
           digest_of(trial, digest);
}

/* Random numbers, the same ones again and again: -1..1 (f8: -2..2), no two of a row's neighbours
 * alike; behind them 1e-2, for scales and a bias. */
static bool fill(struct device *device, void *out, size_t bytes, size_t scales, bool f8) {
    uint16_t *element = device->staging;
    uint32_t random = 1;
    for (size_t i = 0; i < STAGING_BYTES / sizeof *element; i++) {
        random = random * 1664525u + 1013904223u;
        /* An exponent of 2^-4..2^-1 and seven bits of fraction, of either sign; f8: two of any. */
        element[i] = (uint16_t)(f8 ? random >> 16 & 0xbfbf
                                   : (random >> 16 & 0x807f) | (123 + (random >> 29 & 3)) << 7);
    }
    for (size_t at = 0; at < bytes; at += STAGING_BYTES) {
        size_t count = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        if (cudaMemcpyAsync((uint8_t *)out + at, device->staging, count, cudaMemcpyHostToDevice,
                            device->stream) != cudaSuccess) {
            return false;
        }
    }
    return cudaMemsetAsync((uint8_t *)out + bytes, 0x3c, scales, device->stream) == cudaSuccess &&
           cudaStreamSynchronize(device->stream) == cudaSuccess;
}

static size_t whole_lines(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* The fastest candidate in *best (-1: none works). False: there is no memory to try them in. */
static bool measure(struct device *device, const struct linear *linear, const struct plan *plan,
                    const cublasLtMatmulHeuristicResult_t *candidates, int count, int *best) {
    const struct shape *shape = &plan->shape;
    const size_t each = shape->f8 ? 1 : sizeof(uint16_t);
    const size_t in_bytes = (size_t)(shape->rows * shape->inputs) * each;
    const size_t scale_bytes = shape->scaled ? (size_t)shape->rows * sizeof(float) : 0;
    const size_t weight_bytes = whole_lines((size_t)(shape->outputs * shape->inputs) * each);
    const size_t column_bytes = (size_t)shape->outputs * sizeof(float);
    const size_t out_bytes =
        (size_t)(shape->rows * shape->out_stride) * dtype_bytes(shape->out_dtype);
    struct trial trial = {device, *linear, plan, candidates, NULL, NULL, NULL};
    bool tried = false;
    trial.linear.weight = NULL;
    if (!graphs_recording(device) &&
        cudaStreamSynchronize(device->stream) == cudaSuccess && /* staging is in use until then */
        cudaMalloc(&trial.in, in_bytes + scale_bytes) == cudaSuccess &&
        cudaMalloc(&trial.linear.weight, weight_bytes + column_bytes) == cudaSuccess &&
        cudaMalloc(&trial.out, out_bytes) == cudaSuccess &&
        fill(device, trial.in, in_bytes, scale_bytes, shape->f8) &&
        fill(device, trial.linear.weight, weight_bytes, column_bytes, shape->f8)) {
        float *columns = (float *)(void *)((uint8_t *)trial.linear.weight + weight_bytes);
        trial.linear.scale = trial.linear.bias = columns;
        trial.linear.bias_narrow = columns;
        trial.in_scale =
            shape->scaled ? (const float *)(void *)((uint8_t *)trial.in + in_bytes) : NULL;
        *best = tuning_choose(count, run_trial, &trial);
        tried = true;
    }
    (void)cudaFree(trial.in);
    (void)cudaFree(trial.linear.weight);
    (void)cudaFree(trial.out);
    (void)cudaGetLastError();
    return tried;
}

static struct tuning_product product_of(const struct shape *shape) {
    return (struct tuning_product){.outputs = shape->outputs,
                                   .inputs = shape->inputs,
                                   .rows = shape->rows,
                                   .type = (uint32_t)shape->out_dtype | (shape->f8 ? 0x100U : 0U) |
                                           (shape->scaled ? 0x200U : 0U),
                                   .epilogue = (shape->gelu   ? 2U
                                                : shape->bias ? 1U
                                                              : 0U) |
                                               (shape->accumulate ? 4U : 0U) |
                                               (shape->out_stride != shape->outputs ? 8U : 0U),
                                   .in_alignment = shape->in_alignment,
                                   .out_alignment = shape->out_alignment};
}

/* What was measured before, if the library still takes it. */
static bool recall(struct matmul *matmul, struct plan *plan) {
    const struct tuning_product product = product_of(&plan->shape);
    struct tuning_algorithm known;
    cublasLtMatmulHeuristicResult_t result;
    if (!tuning_find(matmul->tuning, &product, &known)) {
        return false;
    }
    static_assert(sizeof known == sizeof plan->algorithm, "an algorithm's words");
    memcpy(&plan->algorithm, &known, sizeof known);
    return cublasLtMatmulAlgoCheck(matmul->handle, plan->operation, plan->a, plan->b, plan->d,
                                   plan->d, &plan->algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= WORKSPACE_BYTES;
}

/* The heuristic's first choice that works, or a faster one that gives the same bits: results are
 * the same for a shape on a card and library, whatever was measured. */
static bool choose(struct device *device, struct plan *plan, const struct linear *linear) {
    struct matmul *matmul = device->matmul;
    const struct shape *shape = &plan->shape;
    cublasLtMatmulHeuristicResult_t candidates[TUNING_TRIALS_MAX];
    bool large =
        2.0 * (double)shape->rows * (double)shape->outputs * (double)shape->inputs >= TUNED_FLOPS;
    if (large && recall(matmul, plan)) {
        return true;
    }
    int count = propose(matmul, plan, candidates);
    if (count == 0) {
        return false;
    }
    int best = 0;
    const bool tried = large && measure(device, linear, plan, candidates, count, &best);
    if (best < 0) {
        return false;
    }
    plan->algorithm = candidates[best].algo;
    for (int i = 1; i < count && !tried; i++) {
        plan->others[plan->others_count++] = candidates[i].algo;
    }
    if (tried) {
        const struct tuning_product product = product_of(shape);
        struct tuning_algorithm chosen;
        memcpy(&chosen, &plan->algorithm, sizeof chosen);
        tuning_add(matmul->tuning, &product, &chosen);
    }
    return true;
}

static bool equal(const struct shape *a, const struct shape *b) {
    return a->outputs == b->outputs && a->inputs == b->inputs && a->rows == b->rows &&
           a->out_stride == b->out_stride && a->out_dtype == b->out_dtype && a->f8 == b->f8 &&
           a->scaled == b->scaled && a->bias == b->bias && a->gelu == b->gelu &&
           a->accumulate == b->accumulate && a->in_alignment == b->in_alignment &&
           a->out_alignment == b->out_alignment;
}

static uint32_t alignment_of(const void *pointer) {
    uintptr_t bits = (uintptr_t)pointer | 256;
    return (uint32_t)(bits & -bits);
}

static struct shape shape_of(const struct matmul_args *args) {
    return (struct shape){.outputs = args->linear->outputs,
                          .inputs = args->linear->inputs,
                          .rows = args->rows,
                          .out_stride =
                              args->out_stride > 0 ? args->out_stride : args->linear->outputs,
                          .out_dtype = args->out_dtype,
                          .f8 = args->linear->stored == DTYPE_F8_E4M3,
                          .scaled = args->in_scale != NULL,
                          .bias = args->bias,
                          .gelu = args->gelu,
                          .accumulate = args->accumulate,
                          .in_alignment = alignment_of(args->in),
                          .out_alignment = alignment_of(args->out)};
}

/* NULL: no memory. */
static struct plan *plan_of(struct device *device, const struct matmul_args *args) {
    struct matmul *matmul = device->matmul;
    const struct shape shape = shape_of(args);
    for (struct plan *plan = matmul->plans; plan != NULL; plan = plan->next) {
        if (equal(&plan->shape, &shape)) {
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
    plan->shape = shape;
    plan->there = describe(plan) && point(plan, args->linear, args->in_scale) &&
                  choose(device, plan, args->linear);
    plan->next = matmul->plans;
    matmul->plans = plan;
    matmul->count++;
    return plan;
}

bool matmul_has(struct device *device, const struct matmul_args *args) {
    const struct plan *plan = plan_of(device, args);
    return plan != NULL && plan->there;
}

/* Its algorithm, or, where the heuristic was wrong and nothing was queued, the next one that runs:
 * the one that measuring would have found first, so that results do not depend on whether there was
 * memory to measure in. */
static cublasStatus_t multiply_by_plan(struct device *device, const struct matmul_args *args,
                                       struct plan *plan) {
    cublasStatus_t status =
        multiply(device, args->out, args->in, args->in_scale, args->linear, plan, &plan->algorithm);
    for (int i = 0; i < plan->others_count && status == CUBLAS_STATUS_NOT_SUPPORTED; i++) {
        plan->algorithm = plan->others[i];
        status = multiply(device, args->out, args->in, args->in_scale, args->linear, plan,
                          &plan->algorithm);
    }
    plan->others_count = status == CUBLAS_STATUS_SUCCESS ? 0 : plan->others_count;
    return status;
}

bool matmul_run(struct device *device, const struct matmul_args *args) {
    struct plan *plan = plan_of(device, args);
    if (plan == NULL || !plan->there) {
        return false;
    }
    cublasStatus_t status = multiply_by_plan(device, args, plan);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
        plan->there = false;
        return false;
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        device_fail(device, ERR_DEVICE, "cuBLASLt, %lldx%lldx%lld: %s", (long long)args->rows,
                    (long long)args->linear->outputs, (long long)args->linear->inputs,
                    cublasLtGetStatusString(status));
    }
    return true;
}
