/* out[M,N] = epilogue(in[M,K] · Wᵀ + b). */
#include "kernels/cpu/linear.h"

#include <assert.h>
#include <stdlib.h>

/* The plain layout is [K,N] f32, rounded to the compute type. */
size_t linear_bytes(const struct cpu_level *level, int64_t outputs, int64_t inputs,
                    enum dtype dtype) {
    const struct gemm *gemm = level_gemm(level, dtype);
    size_t weight = gemm != NULL ? gemm_packed_bytes(gemm, outputs, inputs)
                                 : (size_t)outputs * (size_t)inputs * sizeof(float);
    return weight + (size_t)outputs * sizeof(float);
}

void weight_free(struct device *device, void *weight, float *bias, size_t bytes) {
    free(weight);
    free(bias);
    device->weight_bytes -= bytes;
}

void *weight_alloc(size_t bytes) {
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
}

void cpu_linear_close(struct device *device, struct linear **linear) {
    if (*linear != NULL) {
        weight_free(device, (*linear)->weight, (*linear)->bias, (*linear)->bytes);
        free(*linear);
        *linear = NULL;
    }
}

struct stack {
    const struct tensor *const *tensors;
    int64_t inputs;
};

/* Element (row, column) of the stacked matrix: the reader that packing calls. */
static void stack_row(const void *context, int64_t row, float *out) {
    const struct stack *stack = context;
    int i = 0;
    while (row >= stack->tensors[i]->dim[0]) {
        row -= stack->tensors[i++]->dim[0];
    }
    float_row(out, stack->tensors[i]->data, stack->tensors[i]->dtype, row * stack->inputs,
              stack->inputs);
}

enum error_code cpu_linear_create(struct device *device, struct linear **out,
                                  const struct tensor *const *weights,
                                  const struct tensor *const *biases, int count, enum dtype dtype,
                                  struct error *error) {
    assert(count > 0 && weights[0]->rank == 2 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    int64_t outputs = 0, inputs = weights[0]->dim[1];
    for (int i = 0; i < count; i++) {
        assert(weights[i]->rank == 2 && weights[i]->dim[1] == inputs);
        assert((biases == NULL || biases[i] == NULL) == (biases == NULL || biases[0] == NULL));
        outputs += weights[i]->dim[0];
    }
    const struct gemm *gemm = level_gemm(&device->level, dtype);
    if (gemm != NULL && !linear_fits(gemm, inputs)) {
        return error_set(error, ERR_LIMIT, "a linear layer with %lld inputs is too wide",
                         (long long)inputs);
    }
    size_t bytes = linear_bytes(&device->level, outputs, inputs, dtype);
    size_t bias_bytes = (size_t)outputs * sizeof(float);
    struct linear *linear = malloc(sizeof *linear);
    void *weight = weight_alloc(bytes - bias_bytes);
    float *bias = weight_alloc(bias_bytes);
    float *row = malloc((size_t)inputs * sizeof *row);
    if (linear == NULL || weight == NULL || bias == NULL || row == NULL) {
        free(linear);
        free(weight);
        free(bias);
        free(row);
        return error_set(error, ERR_MEMORY, "no memory for a linear layer's weights (%zu bytes)",
                         bytes);
    }
    *linear = (struct linear){.outputs = outputs,
                              .inputs = inputs,
                              .dtype = dtype,
                              .weight = weight,
                              .bias = bias,
                              .bytes = bytes};
    struct stack stack = {weights, inputs};
    if (gemm != NULL) {
        gemm_pack(device, gemm, weight, outputs, inputs, dtype, stack_row, &stack);
    } else {
        for (int64_t n = 0; n < outputs; n++) {
            stack_row(&stack, n, row);
            for (int64_t k = 0; k < inputs; k++) {
                ((float *)weight)[k * outputs + n] = float_round(dtype, row[k]);
            }
        }
    }
    free(row);
    int64_t n = 0;
    for (int i = 0; i < count; i++) {
        for (int64_t j = 0; j < weights[i]->dim[0]; j++) {
            bias[n++] = biases != NULL && biases[i] != NULL
                            ? float_load(biases[i]->data, biases[i]->dtype, j)
                            : 0;
        }
    }
    device->weight_bytes += bytes;
    *out = linear;
    return ERR_OK;
}

/* -- the definition ---------------------------------------------------------------------------- */

#define DEPTH_BLOCK 64 /* partial sums: keeps f32 rounding small over long rows */

static void linear_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct linear_args *args = args_pointer;
    const struct linear *linear = args->linear;
    const struct linear_epilogue *epilogue = args->epilogue;
    int64_t outputs = linear->outputs, inputs = linear->inputs;
    for (int64_t m = begin; m < end; m++) {
        for (int64_t first = 0; first < outputs; first += PLAIN_COLUMNS) {
            int64_t columns = outputs - first < PLAIN_COLUMNS ? outputs - first : PLAIN_COLUMNS;
            float sum[PLAIN_COLUMNS] = {0};
            for (int64_t k = 0; k < inputs; k += DEPTH_BLOCK) {
                float part[PLAIN_COLUMNS] = {0};
                for (int64_t j = k; j < inputs && j < k + DEPTH_BLOCK; j++) {
                    float x = float_load(args->in, linear->dtype, m * inputs + j);
                    const float *w = (const float *)linear->weight + j * outputs + first;
                    for (int64_t n = 0; n < columns; n++) {
                        part[n] += x * w[n];
                    }
                }
                for (int64_t n = 0; n < columns; n++) {
                    sum[n] += part[n];
                }
            }
            const float *gate = epilogue->gate;
            if (gate != NULL) {
                gate += (epilogue->group != NULL ? epilogue->group[m] : 0) * outputs + first;
            }
            for (int64_t n = 0; n < columns; n++) {
                float y = activation_plain(sum[n] + linear->bias[first + n], epilogue->activation);
                if (gate != NULL) {
                    y *= gate[n];
                }
                int64_t at = m * outputs + first + n;
                if (epilogue->accumulate) {
                    ((float *)args->out)[at] += y;
                } else {
                    float_store(args->out, epilogue->out_dtype, at, y);
                }
            }
        }
    }
}

void cpu_linear(struct device *device, void *out, const void *in, const struct linear *linear,
                int64_t rows, const struct linear_epilogue *epilogue) {
    static const struct linear_epilogue none = {.out_dtype = DTYPE_F32};
    if (epilogue == NULL) {
        epilogue = &none;
    }
    assert(rows >= 0);
    assert(epilogue->out_dtype == DTYPE_F32 || epilogue->out_dtype == linear->dtype);
    assert(!epilogue->accumulate || epilogue->out_dtype == DTYPE_F32);
    struct linear_args args = {out,  in,       linear,
                               rows, epilogue, level_gemm(&device->level, linear->dtype)};
    if (args.gemm != NULL) {
        linear_gemm(device, &args);
    } else {
        device_rows(device, linear_plain, &args, rows, linear->outputs * linear->inputs / 8 + 1);
    }
}
