/* out[M,N] = epilogue(in[M,K] · Wᵀ + b): a layer's weights, and the definition. */
#include <assert.h>
#include <stdlib.h>

#include "kernels/cpu/int8.h"
#include "kernels/f8.h"

/* -- weights ----------------------------------------------------------------------------------- */

void *weight_alloc(size_t bytes) {
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
}

void cpu_linear_close(struct device *device, struct linear **linear_pointer) {
    struct linear *linear = *linear_pointer;
    if (linear != NULL) {
        device->weight_bytes -= linear->bytes;
        device->mapped_bytes -= linear->mapped;
        free(linear->weight);
        free(linear->bias);
        free(linear->part);
        free(linear);
        *linear_pointer = NULL;
    }
}

/* The tensor and the row of it that row n of the stacked matrix is. */
const struct tensor *linear_part(const struct linear *linear, int64_t *n) {
    const struct tensor *part = linear->part;
    while (*n >= part->dim[0]) {
        *n -= part++->dim[0];
    }
    return part;
}

static void read_row(struct device *device, const void *context, int64_t n, int64_t k,
                     int64_t count, float *out) {
    const struct linear *linear = context;
    const struct tensor *part = linear_part(linear, &n);
    if (dtype_block(part->dtype) > 1) {
        blocks_to_float(out, part->data, part->dtype, n * linear->inputs + k, count);
    } else {
        const void *from = element(part->data, part->dtype, n * linear->inputs + k);
        device->level.convert(&(struct convert_args){out, from, DTYPE_F32, part->dtype}, 0, count);
    }
    if (part->scale != NULL) {
        int64_t columns = (linear->inputs + part->scale_columns - 1) / part->scale_columns;
        const float *scale = part->scale + n / part->scale_rows * columns;
        for (int64_t i = 0; i < count; i++) {
            out[i] *= scale[(k + i) / part->scale_columns];
        }
    }
}

static const void *rows_of(const void *context, int64_t n, int64_t count, int64_t k,
                           enum dtype *dtype, int64_t *stride) {
    const struct linear *linear = context;
    const struct tensor *part = linear_part(linear, &n);
    *dtype = part->dtype;
    *stride = linear->inputs;
    bool whole = dtype_block(part->dtype) == 1 && part->scale == NULL;
    return whole && n + count <= part->dim[0]
               ? element(part->data, part->dtype, n * linear->inputs + k)
               : NULL;
}

struct gemm_source linear_source(const struct linear *linear) {
    return (struct gemm_source){read_row, rows_of, linear, linear->dtype};
}

/* The plain layout is [K,N] f32, rounded to the compute type. */
static size_t packed_bytes(const struct gemm *gemm, const struct linear *linear) {
    return gemm != NULL ? gemm_packed_bytes(gemm, linear->outputs, linear->inputs)
                        : (size_t)linear->outputs * (size_t)linear->inputs * sizeof(float);
}

enum error_code linear_describe(struct device *device, struct linear **out,
                                const struct tensor *const *weights, int count, enum dtype dtype,
                                struct error *error) {
    assert(count > 0 && weights[0]->rank == 2 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct linear *linear = calloc(1, sizeof *linear);
    struct tensor *part = malloc((size_t)count * sizeof *part);
    if (linear == NULL || part == NULL) {
        free(linear);
        free(part);
        return error_set(error, ERR_MEMORY, "no memory for a linear layer");
    }
    *linear = (struct linear){.inputs = weights[0]->dim[1], .dtype = dtype, .part = part};
    size_t mapped = 0;
    for (int i = 0; i < count; i++) {
        assert(weights[i]->rank == 2 && weights[i]->dim[1] == linear->inputs);
        part[i] = *weights[i];
        linear->outputs += part[i].dim[0];
        mapped += tensor_bytes(&part[i]);
    }
    const struct gemm *gemm = level_gemm(&device->level, dtype);
    if (gemm != NULL && !linear_fits(gemm, linear->inputs)) {
        free(linear);
        free(part);
        return error_set(error, ERR_LIMIT, "a linear layer with %lld inputs is too wide",
                         (long long)weights[0]->dim[1]);
    }
    linear->int8 = (gemm == NULL || device->level.int8 != NULL) && int8_suits(part, count, dtype);
    linear->f8 = gemm == NULL && f8_suits(weights, count, dtype);
    bool large = gemm != NULL && linear->outputs * linear->inputs >= device->in_place;
    bool in_place = large || linear->int8 || linear->f8;
    linear->bytes =
        (size_t)linear->outputs * sizeof(float) + (in_place ? 0 : packed_bytes(gemm, linear));
    linear->mapped = in_place ? mapped : 0;
    device->weight_bytes += linear->bytes;
    device->mapped_bytes += linear->mapped;
    *out = linear;
    return ERR_OK;
}

static void pack(struct device *device, struct linear *linear) {
    const struct gemm *gemm = level_gemm(&device->level, linear->dtype);
    if (gemm != NULL) {
        struct gemm_source source = linear_source(linear);
        gemm_pack(device, gemm, linear->weight, &source, linear->outputs, linear->inputs,
                  linear_step(gemm));
        return;
    }
    float row[PLAIN_COLUMNS];
    for (int64_t n = 0; n < linear->outputs; n++) {
        for (int64_t k = 0; k < linear->inputs; k += PLAIN_COLUMNS) {
            int64_t count = at_most(PLAIN_COLUMNS, linear->inputs - k);
            read_row(device, linear, n, k, count, row);
            for (int64_t i = 0; i < count; i++) {
                ((float *)linear->weight)[(k + i) * linear->outputs + n] =
                    float_round(linear->dtype, row[i]);
            }
        }
    }
}

enum error_code cpu_linear_create(struct device *device, struct linear **out,
                                  const struct tensor *const *weights,
                                  const struct tensor *const *biases, int count, enum dtype dtype,
                                  struct error *error) {
    struct linear *linear;
    enum error_code code = linear_describe(device, &linear, weights, count, dtype, error);
    if (code != ERR_OK) {
        return code;
    }
    size_t bias_bytes = (size_t)linear->outputs * sizeof(float);
    linear->bias = weight_alloc(bias_bytes);
    if (linear->mapped == 0) {
        linear->weight = weight_alloc(linear->bytes - bias_bytes);
    }
    if (linear->bias == NULL || (linear->mapped == 0 && linear->weight == NULL)) {
        code = error_set(error, ERR_MEMORY, "no memory for a linear layer's weights (%zu bytes)",
                         linear->bytes);
        cpu_linear_close(device, &linear);
        return code;
    }
    if (linear->weight != NULL) {
        pack(device, linear);
    }
    float *bias = linear->bias;
    for (int i = 0; i < count; bias += weights[i++]->dim[0]) {
        assert((biases == NULL || biases[i] == NULL) == (biases == NULL || biases[0] == NULL));
        memset(bias, 0, (size_t)weights[i]->dim[0] * sizeof *bias);
        if (biases != NULL && biases[i] != NULL) {
            float_row(bias, biases[i]->data, biases[i]->dtype, 0, weights[i]->dim[0]);
        }
    }
    *out = linear;
    return ERR_OK;
}

/* -- the definition ---------------------------------------------------------------------------- */

#define DEPTH_BLOCK 64 /* partial sums: keeps f32 rounding small over long rows */

/* The way out of columns first.. of row m, given their sums. */
void linear_finish_plain(const struct linear_args *args, int64_t m, int64_t first, const float *sum,
                         int64_t columns) {
    const struct linear_epilogue *epilogue = args->epilogue;
    int64_t outputs = args->linear->outputs;
    const float *gate = epilogue->gate;
    if (gate != NULL) {
        gate += (epilogue->group != NULL ? epilogue->group[m] : 0) * outputs + first;
    }
    for (int64_t n = 0; n < columns; n++) {
        float y = activation_plain(sum[n] + args->linear->bias[first + n], epilogue->activation);
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

static void linear_plain(const void *args_pointer, int64_t begin, int64_t end) {
    const struct linear_args *args = args_pointer;
    const struct linear *linear = args->linear;
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
            linear_finish_plain(args, m, first, sum, columns);
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
    int64_t work = linear->outputs * linear->inputs / 8 + 1;
    if (linear->int8 && args.gemm != NULL) {
        int8_linear(device, &args);
    } else if (args.gemm != NULL) {
        linear_gemm(device, &args);
    } else {
        rows_function *plain = linear->int8 ? int8_linear_plain
                               : linear->f8 ? f8_linear_plain
                                            : linear_plain;
        device_rows(device, plain, &args, rows, work);
    }
}

void cpu_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                     const struct linear *linear, int64_t rows,
                     const struct linear_epilogue *epilogue) {
    if (norm->rms) {
        assert(norm->add == NULL && norm->group == NULL);
        cpu_rms_norm(device, norm->rows, norm->x, norm->mul, rows, linear->inputs, norm->eps,
                     linear->dtype);
    } else {
        cpu_layer_norm(device, norm->rows, norm->x, norm->mul, norm->add, norm->group, rows,
                       linear->inputs, norm->eps, linear->dtype);
    }
    cpu_linear(device, out, norm->rows, linear, rows, epilogue);
}
