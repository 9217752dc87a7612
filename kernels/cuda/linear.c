/* Linear layers and convolutions: their weights on the device, and who multiplies. bf16 goes to
 * cuBLASLt and cuDNN, f8 to cuBLASLt, int8 to int8.cu, what those cannot do and f32 to product.cu.
 */
#include <assert.h>
#include <stdlib.h>

#include "kernels/cpu/float.h"
#include "kernels/cuda/backend.h"
#include "kernels/f8.h"
#include "kernels/join.h"
#include "kernels/narrow.h"

/* -- weights ----------------------------------------------------------------------------------- */

struct stack {
    const struct tensor *const *tensors;
    int64_t inputs;
    int count;
};

/* Row `row` of tensors stacked along the output; a bias is a stack of rows of one. */
static const void *stack_row(const void *context, int64_t row, enum dtype dtype, float *out) {
    const struct stack *stack = context;
    int i = 0;
    while (row >= stack->tensors[i]->dim[0]) {
        row -= stack->tensors[i++]->dim[0];
    }
    const struct tensor *tensor = stack->tensors[i];
    if (tensor->dtype == dtype && tensor->scale == NULL) {
        return (const uint8_t *)tensor->data + (size_t)(row * stack->inputs) * dtype_bytes(dtype);
    }
    float_row(out, tensor->data, tensor->dtype, row * stack->inputs, stack->inputs);
    if (tensor->scale != NULL) {
        int64_t columns = (stack->inputs + tensor->scale_columns - 1) / tensor->scale_columns;
        const float *scale = tensor->scale + row / tensor->scale_rows * columns;
        for (int64_t k = 0; k < stack->inputs; k++) {
            out[k] *= scale[k / tensor->scale_columns];
        }
    }
    return NULL;
}

static const void *zero_row(const void *context, int64_t row, enum dtype dtype, float *out) {
    (void)context, (void)row, (void)dtype;
    *out = 0;
    return NULL;
}

/* Every waiting failure of the device as this function's own. */
static enum error_code created(struct device *device, struct error *error) {
    if (!device->failed) {
        return ERR_OK;
    }
    device->failed = false;
    return error_set(error, device->failure.code, "%s", device->failure.detail);
}

size_t linear_weight_bytes(const struct linear *linear) {
    return (size_t)linear->outputs * (size_t)linear->inputs * dtype_bytes(linear->stored);
}

static int64_t scale_blocks(const struct linear *linear) {
    return linear->block > 0 ? (linear->inputs + linear->block - 1) / linear->block : 0;
}

void cuda_linear_close(struct device *device, struct linear **pointer) {
    struct linear *linear = *pointer;
    if (linear != NULL) {
        size_t outputs = (size_t)linear->outputs;
        residence_remove(device, linear);
        weight_free(device, linear->weight, linear_weight_bytes(linear));
        weight_free(device, linear->scale, outputs * (size_t)scale_blocks(linear) * sizeof(float));
        weight_free(device, linear->bias, outputs * sizeof(float));
        weight_free(device, linear->bias_narrow, outputs * sizeof(uint16_t));
        free(linear);
        *pointer = NULL;
    }
}

#define INT8_INPUTS_MAX 65536 /* sums fit i32 */

/* Columns that share a scale, where the tensors are int8 and what int8.cu takes; else 0. */
static int64_t int8_block(const struct tensor *const *weights, int count, int64_t outputs,
                          enum dtype dtype) {
    int64_t inputs = weights[0]->dim[1], block = weights[0]->scale_columns;
    for (int i = 0; i < count; i++) {
        if (weights[i]->dtype != DTYPE_I8 || weights[i]->scale_columns != block) {
            return 0;
        }
    }
    block = block < inputs ? block : inputs;
    bool suits = dtype == DTYPE_BF16 && inputs % 16 == 0 && outputs % 2 == 0 &&
                 inputs <= INT8_INPUTS_MAX && (block == inputs || block % 128 == 0);
    return suits ? block : 0;
}

/* What the weights are on this device, and the columns that share a scale. */
static void choose_type(const struct device *device, struct linear *linear,
                        const struct tensor *const *weights, int count) {
    linear->stored = linear->dtype;
    if (device->capability >= F8_CAPABILITY && f8_suits(weights, count, linear->dtype)) {
        linear->stored = DTYPE_F8_E4M3;
        linear->block = linear->inputs;
        return;
    }
    linear->block = int8_block(weights, count, linear->outputs, linear->dtype);
    if (linear->block > 0) {
        linear->stored = DTYPE_I8;
    }
}

static bool take_memory(struct device *device, struct linear *linear, struct error *error) {
    size_t outputs = (size_t)linear->outputs;
    linear->weight = weight_alloc(device, linear_weight_bytes(linear), error);
    linear->bias =
        linear->weight != NULL ? weight_alloc(device, outputs * sizeof(float), error) : NULL;
    bool good = linear->bias != NULL;
    if (good && linear->block > 0) {
        linear->scale =
            weight_alloc(device, outputs * (size_t)scale_blocks(linear) * sizeof(float), error);
        good = linear->scale != NULL;
    }
    if (good && (linear->stored == DTYPE_BF16 || linear->stored == DTYPE_F8_E4M3)) {
        linear->bias_narrow = weight_alloc(device, outputs * sizeof(uint16_t), error);
        good = linear->bias_narrow != NULL;
    }
    return good;
}

/* Scales of block `row` of the stacked tensors. */
static const void *scale_row(const void *context, int64_t row, enum dtype dtype, float *out) {
    const struct stack *stack = context;
    (void)dtype;
    for (int i = 0; i < stack->count; i++) {
        const struct tensor *tensor = stack->tensors[i];
        const bool scaled = tensor->scale != NULL;
        const int64_t columns = scaled ? tensor->scale_columns : stack->inputs;
        const int64_t blocks = (stack->inputs + columns - 1) / columns;
        for (int64_t n = 0; n < tensor->dim[0]; n++) {
            *out++ = scaled ? tensor->scale[n / tensor->scale_rows * blocks + row] : 1;
        }
    }
    return NULL;
}

static void upload_8_bits(struct device *device, const struct linear *linear,
                          const struct stack *stack) {
    uint8_t *out = linear->weight;
    for (int i = 0; i < stack->count && device_ready(device); i++) {
        size_t bytes = tensor_bytes(stack->tensors[i]);
        (void)device_noted(device,
                           cudaMemcpyAsync(out, stack->tensors[i]->data, bytes,
                                           cudaMemcpyHostToDevice, device->stream),
                           "weights");
        out += bytes;
    }
    weight_upload(device, linear->scale, DTYPE_F32, scale_blocks(linear), linear->outputs,
                  scale_row, stack);
}

static void upload_linear(struct device *device, const struct linear *linear,
                          const struct tensor *const *weights, const struct tensor *const *biases,
                          int count) {
    const struct stack weight = {weights, linear->inputs, count}, bias = {biases, 1, count};
    weight_row *bias_row = biases != NULL && biases[0] != NULL ? stack_row : zero_row;
    if (linear->block > 0) {
        upload_8_bits(device, linear, &weight);
    } else {
        weight_upload(device, linear->weight, linear->dtype, linear->outputs, linear->inputs,
                      stack_row, &weight);
    }
    weight_upload(device, linear->bias, DTYPE_F32, linear->outputs, 1, bias_row, &bias);
    if (linear->bias_narrow != NULL) {
        weight_upload(device, linear->bias_narrow, DTYPE_BF16, linear->outputs, 1, bias_row, &bias);
    }
}

enum error_code cuda_linear_create(struct device *device, struct linear **out,
                                   const struct tensor *const *weights,
                                   const struct tensor *const *biases, int count, enum dtype dtype,
                                   struct error *error) {
    assert(count > 0 && weights[0]->rank == 2 && (dtype == DTYPE_F32 || dtype == DTYPE_BF16));
    struct linear *linear = calloc(1, sizeof *linear);
    if (linear == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a layer");
    }
    linear->inputs = weights[0]->dim[1];
    linear->dtype = dtype;
    for (int i = 0; i < count; i++) {
        assert(weights[i]->rank == 2 && weights[i]->dim[1] == linear->inputs);
        linear->outputs += weights[i]->dim[0];
    }
    choose_type(device, linear, weights, count);
    if (!take_memory(device, linear, error)) {
        cuda_linear_close(device, &linear);
        return ERR_MEMORY;
    }
    upload_linear(device, linear, weights, biases, count);
    enum error_code code = created(device, error);
    if (code != ERR_OK) {
        cuda_linear_close(device, &linear);
        return code;
    }
    residence_add(device, linear);
    *out = linear;
    return ERR_OK;
}

static int64_t filter_inputs(const struct conv_shape *shape) {
    return (int64_t)shape->kernel_t * shape->kernel_h * shape->kernel_w * shape->in_channels;
}

void cuda_conv_close(struct device *device, struct conv **pointer) {
    struct conv *conv = *pointer;
    if (conv != NULL) {
        size_t outputs = (size_t)conv->shape.out_channels;
        weight_free(device, conv->weight,
                    outputs * (size_t)filter_inputs(&conv->shape) * dtype_bytes(conv->dtype));
        weight_free(device, conv->bias, outputs * dtype_bytes(conv->dtype));
        free(conv);
        *pointer = NULL;
    }
}

struct filter {
    const struct tensor *tensor;
    int64_t taps, channels;
};

/* [tap, channel] of output channel `row`; PyTorch has [channel, tap]. */
static const void *filter_row(const void *context, int64_t row, enum dtype dtype, float *out) {
    const struct filter *filter = context;
    (void)dtype;
    for (int64_t tap = 0; tap < filter->taps; tap++) {
        for (int64_t c = 0; c < filter->channels; c++) {
            int64_t at = (row * filter->channels + c) * filter->taps + tap;
            out[tap * filter->channels + c] =
                float_load(filter->tensor->data, filter->tensor->dtype, at);
        }
    }
    return NULL;
}

enum error_code cuda_conv_create(struct device *device, struct conv **out,
                                 const struct conv_shape *shape, const struct tensor *weight,
                                 const struct tensor *bias, enum dtype dtype, struct error *error) {
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    int64_t inputs = filter_inputs(shape);
    assert(tensor_elements(weight) == inputs * shape->out_channels);
    assert(bias == NULL || tensor_elements(bias) == shape->out_channels);
    struct conv *conv = calloc(1, sizeof *conv);
    if (conv == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a convolution");
    }
    conv->shape = *shape;
    conv->dtype = dtype;
    size_t outputs = (size_t)shape->out_channels;
    conv->weight = weight_alloc(device, outputs * (size_t)inputs * dtype_bytes(dtype), error);
    conv->bias =
        conv->weight != NULL ? weight_alloc(device, outputs * dtype_bytes(dtype), error) : NULL;
    if (conv->bias == NULL) {
        cuda_conv_close(device, &conv);
        return ERR_MEMORY;
    }
    struct filter filter = {weight, inputs / shape->in_channels, shape->in_channels};
    struct stack biases = {&bias, 1, 1};
    weight_upload(device, conv->weight, dtype, shape->out_channels, inputs, filter_row, &filter);
    weight_upload(device, conv->bias, dtype, shape->out_channels, 1,
                  bias != NULL ? stack_row : zero_row, &biases);
    enum error_code code = created(device, error);
    if (code != ERR_OK) {
        cuda_conv_close(device, &conv);
        return code;
    }
    *out = conv;
    return ERR_OK;
}

/* -- products ---------------------------------------------------------------------------------- */

/* Whether cuBLASLt's way out can be this one. */
static bool library_ends(const struct linear_epilogue *epilogue) {
    return epilogue->gate == NULL &&
           (epilogue->activation == ACTIVATION_NONE ||
            (epilogue->activation == ACTIVATION_GELU_TANH && !epilogue->accumulate));
}

static struct matmul_args with_library_end(void *out, const void *in, const struct linear *linear,
                                           int64_t rows, const struct linear_epilogue *epilogue) {
    return (struct matmul_args){.out = out,
                                .out_dtype = epilogue->out_dtype,
                                .in = in,
                                .linear = linear,
                                .rows = rows,
                                .bias = true,
                                .gelu = epilogue->activation == ACTIVATION_GELU_TANH,
                                .accumulate = epilogue->accumulate};
}

#define TILE_ROWS 128 /* of a block of threads, in cuBLASLt's large kernels and in ours */

/* Rows of a piece, at most `most` (what scratch memory holds), so that all pieces together take the
 * fewest waves of tiles over the card: a wave that is half empty takes as long as a full one. */
static int64_t piece_of(const struct device *device, int64_t rows, int64_t most, int64_t outputs,
                        int64_t tile_columns) {
    const int64_t columns = (outputs + tile_columns - 1) / tile_columns;
    const int64_t all = (rows + TILE_ROWS - 1) / TILE_ROWS, at_most = most / TILE_ROWS;
    const int64_t processors = device->processors;
    if (at_most == 0 || rows <= most) {
        return rows < most ? rows : most;
    }
    int64_t best = at_most, fewest = INT64_MAX;
    for (int64_t tiles = at_most; tiles >= (at_most + 1) / 2; tiles--) {
        int64_t rest = all % tiles * columns;
        int64_t waves = all / tiles * ((tiles * columns + processors - 1) / processors) +
                        (rest + processors - 1) / processors;
        if (waves < fewest) {
            fewest = waves;
            best = tiles;
        }
    }
    return best * TILE_ROWS;
}

/* What cuBLASLt's kernels for large products take. */
static int64_t tile_columns_of(const struct device *device) {
    return device->capability >= 90 ? 256 : 128;
}

/* Rows in pieces whose products fit scratch memory, each finished while it is in the cache. */
static bool linear_by_pieces(struct device *device, void *out, const void *in,
                             const struct linear *linear, int64_t rows,
                             const struct linear_epilogue *epilogue) {
    const int64_t most = (int64_t)(SCRATCH_BYTES / sizeof(float)) / linear->outputs;
    const int64_t piece = piece_of(device, rows, most, linear->outputs, tile_columns_of(device));
    if (piece == 0) {
        return false;
    }
    for (int64_t first = 0; first < rows; first += piece) {
        int64_t count = rows - first < piece ? rows - first : piece;
        const uint8_t *from = (const uint8_t *)in + first * linear->inputs * 2;
        const struct matmul_args sums = {.out = device->scratch,
                                         .out_dtype = DTYPE_F32,
                                         .in = from,
                                         .linear = linear,
                                         .rows = count};
        if (!matmul_run(device, &sums)) {
            assert(first == 0 || device->failed || count < piece);
            struct linear_epilogue rest = *epilogue;
            size_t skip = (size_t)(first * linear->outputs) * dtype_bytes(epilogue->out_dtype);
            rest.group = epilogue->group != NULL ? epilogue->group + first : NULL;
            (void)device_noted(
                device,
                product_linear(device, (uint8_t *)out + skip, from, linear, rows - first, &rest),
                "linear");
            return true;
        }
        (void)device_noted(
            device,
            product_finish(device, out, device->scratch, NULL, linear, first, count, epilogue),
            "linear's way out");
    }
    return true;
}

/* Outputs of a part whose weights fit scratch memory, all parts alike; 0: there are none such. */
static int64_t gated_part(const struct linear *linear) {
    const int64_t bytes = linear->inputs * 2 + (int64_t)sizeof(float);
    const int64_t most = (int64_t)SCRATCH_BYTES / bytes;
    for (int64_t parts = 1; parts <= 16; parts++) {
        int64_t part = linear->outputs / parts;
        /* 64: every part of a row begins as aligned as the row. */
        if (linear->outputs % parts == 0 && part <= most && (parts == 1 || part % 64 == 0)) {
            return part;
        }
    }
    return 0;
}

/* cuBLASLt multiplies by no gate, but where one holds for all rows, the weights can be multiplied
 * by it beforehand: with more rows than inputs that costs less than to go over the sums again. Its
 * rounding of the weights is that of a result in bf16, which is what models are trained with. */
static bool linear_gated(struct device *device, void *out, const void *in,
                         const struct linear *linear, int64_t rows,
                         const struct linear_epilogue *epilogue) {
    struct linear_epilogue rest = *epilogue;
    rest.gate = NULL;
    const int64_t part = gated_part(linear);
    if (epilogue->gate == NULL || epilogue->group != NULL ||
        epilogue->activation != ACTIVATION_NONE || epilogue->out_dtype != DTYPE_F32 ||
        rows < linear->inputs || linear->inputs % 8 != 0 || part == 0) {
        return false;
    }
    uint8_t *weight = device->scratch;
    struct linear gated = *linear;
    gated.outputs = part;
    gated.weight = weight;
    gated.bias = (float *)(void *)(weight + part * linear->inputs * 2);
    for (int64_t first = 0; first < linear->outputs; first += part) {
        struct matmul_args args = with_library_end((float *)out + first, in, &gated, rows, &rest);
        args.out_stride = linear->outputs;
        if (!device_noted(
                device,
                product_gated(device, weight, gated.bias, linear, epilogue->gate, first, part),
                "a gate in a layer's weights")) {
            return true; /* the device has failed: there is nothing to do instead */
        }
        if (!matmul_run(device, &args)) { /* of parts that are alike, the first says it for all */
            assert(first == 0);
            return false;
        }
    }
    return true;
}

/* What a product in 8 bits is given: bf16 rows, or a norm of f32 rows. */
struct source {
    const void *in;
    const struct norm_args *norm; /* NULL: `in` */
};

static bool round_piece(struct device *device, const struct rounded *out,
                        const struct source *source, int64_t first, int64_t rows) {
    const uint8_t *in = source->in;
    return device_noted(device,
                        source->norm != NULL
                            ? rounding_norm(device, out, source->norm, first, rows)
                            : rounding_rows(device, out, in + first * out->inputs * 2, rows),
                        "rounding to 8 bits");
}

/* Rows in pieces that are rounded into scratch memory and multiplied while the cache holds them. */
static void linear_int8(struct device *device, void *out, const struct source *source,
                        const struct linear *linear, int64_t rows,
                        const struct linear_epilogue *epilogue) {
    const int64_t inputs = linear->inputs, blocks = scale_blocks(linear);
    const int64_t most = (int64_t)SCRATCH_BYTES / (inputs + blocks * (int64_t)sizeof(float));
    const int64_t piece =
        piece_of(device, rows, most, linear->outputs, device->capability == 90 ? 192 : 128);
    float *scale = (float *)(void *)((uint8_t *)device->scratch + piece * inputs);
    const struct rounded rounded = {device->scratch, scale, inputs, linear->block, DTYPE_I8};
    assert(piece > 0);
    for (int64_t first = 0; first < rows; first += piece) {
        int64_t count = rows - first < piece ? rows - first : piece;
        if (!round_piece(device, &rounded, source, first, count)) {
            return;
        }
        if (!int8_sm90(device, out, device->scratch, scale, linear, first, count, epilogue)) {
            (void)device_noted(
                device,
                int8_sm80(device, out, device->scratch, scale, linear, first, count, epilogue),
                "linear in int8");
        }
    }
}

/* Scratch memory of a layer in f8: rows, and their sums where they are not written at once. */
struct f8_room {
    int64_t piece; /* rows */
    struct rounded rounded;
    float *sums; /* [piece, outputs]; NULL: none */
};

static struct f8_room f8_room(const struct device *device, const struct linear *linear,
                              int64_t rows, bool sums) {
    const int64_t inputs = linear->inputs, of_sums = sums ? linear->outputs : 0;
    const int64_t most =
        (int64_t)SCRATCH_BYTES / (inputs + (1 + of_sums) * (int64_t)sizeof(float)) / 16 * 16;
    int64_t piece = piece_of(device, rows, most, linear->outputs, tile_columns_of(device));
    piece = (piece + 15) / 16 * 16; /* the parts of scratch memory are aligned */
    assert(piece > 0);
    float *scale = (float *)(void *)((uint8_t *)device->scratch + piece * inputs);
    return (struct f8_room){piece,
                            {device->scratch, scale, inputs, inputs, DTYPE_F8_E4M3},
                            sums ? scale + piece : NULL};
}

/* Scales and way out by cuBLASLt. */
static bool f8_at_once(struct device *device, void *out, const struct f8_room *room,
                       const struct linear *linear, int64_t first, int64_t rows,
                       const struct linear_epilogue *epilogue) {
    size_t skip = (size_t)(first * linear->outputs) * dtype_bytes(epilogue->out_dtype);
    struct matmul_args args =
        with_library_end((uint8_t *)out + skip, room->rounded.rows, linear, rows, epilogue);
    args.in_scale = room->rounded.scale;
    return matmul_run(device, &args);
}

/* Only the sums by cuBLASLt. */
static bool f8_by_sums(struct device *device, void *out, const struct f8_room *room,
                       const struct linear *linear, int64_t first, int64_t rows,
                       const struct linear_epilogue *epilogue) {
    const struct matmul_args args = {.out = room->sums,
                                     .out_dtype = DTYPE_F32,
                                     .in = room->rounded.rows,
                                     .linear = linear,
                                     .rows = rows};
    if (!matmul_run(device, &args)) {
        return false;
    }
    (void)device_noted(
        device,
        product_finish(device, out, room->sums, room->rounded.scale, linear, first, rows, epilogue),
        "way out of a layer in f8");
    return true;
}

/* As linear_int8. cuBLASLt has a scale for each row and column on Hopper; elsewhere, and where the
 * way out is not the library's, it is given no scales, and they are part of the way out. */
static void linear_f8(struct device *device, void *out, const struct source *source,
                      const struct linear *linear, int64_t rows,
                      const struct linear_epilogue *epilogue) {
    struct f8_room room = f8_room(device, linear, rows, false);
    struct matmul_args whole = with_library_end(out, room.rounded.rows, linear,
                                                rows < room.piece ? rows : room.piece, epilogue);
    whole.in_scale = room.rounded.scale;
    const bool at_once =
        device->capability == 90 && library_ends(epilogue) && matmul_has(device, &whole);
    if (!at_once) {
        room = f8_room(device, linear, rows, true);
    }
    for (int64_t first = 0; first < rows; first += room.piece) {
        int64_t count = rows - first < room.piece ? rows - first : room.piece;
        if (!round_piece(device, &room.rounded, source, first, count)) {
            return;
        }
        if (!(at_once ? f8_at_once(device, out, &room, linear, first, count, epilogue)
                      : f8_by_sums(device, out, &room, linear, first, count, epilogue))) {
            (void)device_noted(
                device, product_f8(device, out, &room.rounded, linear, first, count, epilogue),
                "linear in f8");
        }
    }
}

static void linear_bf16(struct device *device, void *out, const void *in,
                        const struct linear *linear, int64_t rows,
                        const struct linear_epilogue *epilogue) {
    const struct matmul_args whole = with_library_end(out, in, linear, rows, epilogue);
    if (!(library_ends(epilogue) && matmul_run(device, &whole)) &&
        !linear_gated(device, out, in, linear, rows, epilogue) &&
        !linear_by_pieces(device, out, in, linear, rows, epilogue)) {
        (void)device_noted(device, product_linear(device, out, in, linear, rows, epilogue),
                           "linear");
    }
}

/* By whoever has a kernel for it. */
static void multiply(struct device *device, void *out, const struct source *source,
                     const struct linear *linear, int64_t rows,
                     const struct linear_epilogue *epilogue) {
    switch (linear->stored) {
    case DTYPE_I8:
        linear_int8(device, out, source, linear, rows, epilogue);
        break;
    case DTYPE_F8_E4M3:
        linear_f8(device, out, source, linear, rows, epilogue);
        break;
    case DTYPE_BF16:
        linear_bf16(device, out, source->in, linear, rows, epilogue);
        break;
    default:
        (void)device_noted(device, product_linear(device, out, source->in, linear, rows, epilogue),
                           "linear");
    }
}

static void linear_of(struct device *device, void *out, const struct source *source,
                      const struct linear *linear, int64_t rows,
                      const struct linear_epilogue *epilogue) {
    static const struct linear_epilogue none = {.out_dtype = DTYPE_F32};
    if (epilogue == NULL) {
        epilogue = &none;
    }
    assert(rows >= 0);
    assert(epilogue->out_dtype == DTYPE_F32 || epilogue->out_dtype == linear->dtype);
    assert(!epilogue->accumulate || epilogue->out_dtype == DTYPE_F32);
    if (rows == 0 || !device_ready(device)) {
        return;
    }
    struct linear *own = (struct linear *)(uintptr_t)linear; /* where it is may change */
    struct linear there = *linear;
    there.weight = (void *)(uintptr_t)residence_enter(device, own);
    multiply(device, out, source, &there, rows, epilogue);
    residence_leave(device, own);
}

void cuda_linear(struct device *device, void *out, const void *in, const struct linear *linear,
                 int64_t rows, const struct linear_epilogue *epilogue) {
    linear_of(device, out, &(struct source){.in = in}, linear, rows, epilogue);
}

void cuda_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                      const struct linear *linear, int64_t rows,
                      const struct linear_epilogue *epilogue) {
    const int64_t inputs = linear->inputs;
    assert(!norm->rms || (norm->add == NULL && norm->group == NULL));
    struct source source = {.norm = norm};
    if (linear->block == 0 || !rounding_takes_norm(norm, inputs, linear->block)) {
        source = (struct source){.in = norm->rows};
        if (norm->rms) {
            cuda_rms_norm(device, norm->rows, norm->x, norm->mul, rows, inputs, norm->eps,
                          linear->dtype);
        } else {
            cuda_layer_norm(device, norm->rows, norm->x, norm->mul, norm->add, norm->group, rows,
                            inputs, norm->eps, linear->dtype);
        }
    }
    linear_of(device, out, &source, linear, rows, epilogue);
}

static bool append(struct device *device, uint8_t *out, const void *in, size_t bytes) {
    return device_noted(
        device, cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, device->stream), "conv");
}

/* The frames of the output that see no history, from the input where it is. */
static void convolve_rest(struct device *device, const struct conv *conv,
                          const struct conv_args *args, const struct conv_join *join) {
    const struct conv_args rest =
        convolve_part(conv, args, join->seeing, join->outputs - join->seeing);
    if (!convolve_run(device, conv, &rest)) {
        (void)device_noted(device, product_conv(device, conv, &rest), "conv");
    }
}

/* cuDNN takes one input. History that lies right before the input is part of it; other history is
 * joined with as many frames of the input as it is convolved with, and the rest of the input is
 * convolved where it is. False: nothing was queued. */
static bool convolve(struct device *device, const struct conv *conv, const struct conv_args *args) {
    const struct conv_join join = conv_join(&conv->shape, args, conv->dtype);
    struct conv_args head = *args;
    head.history = NULL;
    if (conv_follows(&conv->shape, args, conv->dtype)) {
        head.history_frames = 0;
        head.in = args->history;
        head.frames += args->history_frames;
        return convolve_run(device, conv, &head);
    }
    if (join.bytes == 0) {
        return convolve_run(device, conv, args);
    }
    const size_t before =
        (size_t)args->history_frames * (join.bytes / (size_t)join.frames); /* of history */
    head.history_frames = 0;
    uint8_t *joined = args->joined;
    if (joined == NULL) {
        return false;
    }
    head.frames = join.frames;
    head.in = joined;
    if (!append(device, joined, args->history, before) ||
        !append(device, joined + before, args->in, join.bytes - before)) {
        return true; /* the device has failed: there is nothing to do instead */
    }
    if (!convolve_run(device, conv, &head)) {
        return false;
    }
    if (join.seeing < join.outputs) {
        convolve_rest(device, conv, args, &join);
    }
    return true;
}

void cuda_conv(struct device *device, const struct conv *conv, const struct conv_args *args) {
    const struct conv_shape *shape = &conv->shape;
    assert(args->history_frames >= 0 && args->history_frames < shape->kernel_t);
    assert(args->history_frames + args->frames >= shape->kernel_t);
    assert(args->pad_top >= 0 && args->pad_bottom >= 0);
    assert(args->pad_left >= 0 && args->pad_right >= 0);
    assert(args->height + args->pad_top + args->pad_bottom >= shape->kernel_h);
    assert(args->width + args->pad_left + args->pad_right >= shape->kernel_w);
    (void)shape;
    if (!device_ready(device)) {
        return;
    }
    if (conv->dtype == DTYPE_BF16 && convolve(device, conv, args)) {
        return;
    }
    (void)device_noted(device, product_conv(device, conv, args), "conv");
}

/* Inputs that tensor cores in 8 bits can read by chunks of 16 bytes. */
static bool attends_in_8_bits(const struct attention_args *args) {
    bool aligned = ((uintptr_t)args->q | (uintptr_t)args->k | (uintptr_t)args->v) % 16 == 0 &&
                   (uintptr_t)args->out % 4 == 0;
    bool strides = args->q_stride % 8 == 0 && args->k_stride % 8 == 0 && args->v_stride % 8 == 0 &&
                   args->out_stride % 2 == 0;
    return args->narrow != NULL && narrow_suits(args) && args->head_dim == NARROW_HEAD_DIM &&
           aligned && strides;
}

static void attention8(struct device *device, const struct attention_args *args) {
    const struct narrow_layout layout = narrow_layout(args);
    if (device_noted(device, attention8_prepare(device, args, &layout), "attention in 8 bits") &&
        !attention8_sm90(device, args, &layout)) {
        (void)device_noted(device, attention8_sm80(device, args, &layout), "attention in 8 bits");
    }
}

void cuda_attention(struct device *device, const struct attention_args *args) {
    int64_t width = (int64_t)args->heads * args->head_dim;
    (void)width;
    assert(args->heads > 0 && args->head_dim > 0 && args->head_dim <= 1024);
    assert(args->head_dim % 4 == 0 && args->q_length >= 0 && args->k_length > 0);
    assert(args->q_stride >= width && args->k_stride >= width && args->v_stride >= width);
    assert(args->out_stride >= width);
    if (!device_ready(device) || args->q_length == 0) {
        return;
    }
    if (attends_in_8_bits(args)) {
        attention8(device, args);
    } else if (!attention_cudnn(device, args) && !attention_sm90(device, args) &&
               !attention_sm80(device, args) && !attention_wide(device, args)) {
        attention_any(device, args);
    }
}
