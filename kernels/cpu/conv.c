/* Convolution over [T,H,W,C]; zeros around H and W, history before T. */
#include <assert.h>
#include <stdlib.h>

#include "kernels/cpu/linear.h"

static int64_t taps(const struct conv_shape *shape) {
    return (int64_t)shape->kernel_t * shape->kernel_h * shape->kernel_w;
}

size_t conv_bytes(const struct cpu_level *level, const struct conv_shape *shape, enum dtype dtype) {
    const struct gemm *gemm = level_gemm(level, dtype);
    int64_t channels = shape->in_channels;
    size_t weight =
        gemm != NULL
            ? gemm_packed_bytes(gemm, shape->out_channels, taps(shape) * gemm_depth(gemm, channels))
            : (size_t)(taps(shape) * channels * shape->out_channels) * sizeof(float);
    return weight + (size_t)shape->out_channels * sizeof(float);
}

void cpu_conv_close(struct device *device, struct conv **conv) {
    if (*conv != NULL) {
        device->weight_bytes -= (*conv)->bytes;
        free((*conv)->weight);
        free((*conv)->bias);
        free(*conv);
        *conv = NULL;
    }
}

struct filter {
    const struct tensor *tensor;
    int64_t taps, channels, padded;
};

/* Row n: [tap, padded channel] of output channel n; PyTorch has [channel, tap]. */
static void filter_row(struct device *device, const void *context, int64_t n, int64_t k,
                       int64_t count, float *out) {
    const struct filter *filter = context;
    assert(k == 0 && count == filter->taps * filter->padded);
    for (int64_t tap = 0; tap < filter->taps; tap++) {
        for (int64_t c = 0; c < filter->padded; c++) {
            int64_t at = (n * filter->channels + c) * filter->taps + tap;
            out[tap * filter->padded + c] =
                c < filter->channels ? float_load(filter->tensor->data, filter->tensor->dtype, at)
                                     : 0;
        }
    }
}

enum error_code cpu_conv_create(struct device *device, struct conv **out,
                                const struct conv_shape *shape, const struct tensor *weight,
                                const struct tensor *bias, enum dtype dtype, struct error *error) {
    assert(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    assert(tensor_elements(weight) == taps(shape) * shape->in_channels * shape->out_channels);
    assert(weight->dim[0] == shape->out_channels && weight->dim[1] == shape->in_channels);
    assert(bias == NULL || tensor_elements(bias) == shape->out_channels);
    size_t bytes = conv_bytes(&device->level, shape, dtype);
    size_t bias_bytes = (size_t)shape->out_channels * sizeof(float);
    const struct gemm *gemm = level_gemm(&device->level, dtype);
    struct filter filter = {weight, taps(shape), shape->in_channels, shape->in_channels};
    if (gemm != NULL) {
        filter.padded = gemm_depth(gemm, shape->in_channels);
    }
    int64_t depth = filter.taps * filter.padded;
    if (gemm != NULL && gemm_pack_scratch(gemm, depth) > SCRATCH_BYTES) {
        return error_set(error, ERR_LIMIT, "a convolution of %lld weights a channel is too large",
                         (long long)depth);
    }
    struct conv *conv = malloc(sizeof *conv);
    void *packed = weight_alloc(bytes - bias_bytes);
    float *bias_copy = weight_alloc(bias_bytes);
    float *row = calloc((size_t)depth, sizeof *row);
    if (conv == NULL || packed == NULL || bias_copy == NULL || row == NULL) {
        free(conv);
        free(packed);
        free(bias_copy);
        free(row);
        return error_set(error, ERR_MEMORY, "no memory for a convolution's weights (%zu bytes)",
                         bytes);
    }
    *conv = (struct conv){
        .shape = *shape, .dtype = dtype, .weight = packed, .bias = bias_copy, .bytes = bytes};
    if (gemm != NULL) {
        struct gemm_source source = {.read = filter_row, .context = &filter, .dtype = dtype};
        gemm_pack(device, gemm, packed, &source, shape->out_channels, depth, depth);
    } else {
        for (int n = 0; n < shape->out_channels; n++) {
            filter_row(device, &filter, n, 0, depth, row);
            for (int64_t k = 0; k < depth; k++) {
                ((float *)packed)[k * shape->out_channels + n] = float_round(dtype, row[k]);
            }
        }
    }
    free(row);
    for (int n = 0; n < shape->out_channels; n++) {
        bias_copy[n] = bias != NULL ? float_load(bias->data, bias->dtype, n) : 0;
    }
    device->weight_bytes += bytes;
    *out = conv;
    return ERR_OK;
}

const void *conv_frame(const struct conv_call *call, int64_t frame) {
    const struct conv_args *args = &call->args;
    int64_t bytes = args->height * args->width * call->conv->shape.in_channels *
                    (int64_t)dtype_bytes(call->conv->dtype);
    if (frame >= args->history_frames) {
        return (const char *)args->in + (frame - args->history_frames) * bytes;
    }
    return args->history != NULL ? (const char *)args->history + frame * bytes : NULL;
}

/* -- the definition ---------------------------------------------------------------------------- */

static void conv_pixel(const struct conv_call *call, int64_t t, int64_t y, int64_t x) {
    const struct conv_shape *shape = &call->conv->shape;
    const struct conv_args *args = &call->args;
    enum dtype dtype = call->conv->dtype;
    int64_t outputs = shape->out_channels, inputs = shape->in_channels;
    int64_t at = ((t * call->out_height + y) * call->out_width + x) * outputs;
    for (int64_t first = 0; first < outputs; first += PLAIN_COLUMNS) {
        int64_t columns = outputs - first < PLAIN_COLUMNS ? outputs - first : PLAIN_COLUMNS;
        float sum[PLAIN_COLUMNS] = {0};
        for (int64_t tap = 0; tap < taps(shape); tap++) {
            int64_t kt = tap / shape->kernel_w / shape->kernel_h;
            int64_t kh = tap / shape->kernel_w % shape->kernel_h, kw = tap % shape->kernel_w;
            int64_t it = t * shape->stride_t + kt;
            int64_t iy = y * shape->stride_h + kh - args->pad_top;
            int64_t ix = x * shape->stride_w + kw - args->pad_left;
            if (iy < 0 || iy >= args->height || ix < 0 || ix >= args->width) {
                continue;
            }
            const void *frame = conv_frame(call, it);
            if (frame == NULL) {
                continue;
            }
            int64_t in = (iy * args->width + ix) * inputs;
            float part[PLAIN_COLUMNS] = {0};
            for (int64_t c = 0; c < inputs; c++) {
                float value = float_load(frame, dtype, in + c);
                const float *w =
                    (const float *)call->conv->weight + (tap * inputs + c) * outputs + first;
                for (int64_t n = 0; n < columns; n++) {
                    part[n] += value * w[n];
                }
            }
            for (int64_t n = 0; n < columns; n++) {
                sum[n] += part[n];
            }
        }
        for (int64_t n = 0; n < columns; n++) {
            float value = sum[n] + call->conv->bias[first + n];
            if (args->residual != NULL) {
                value += float_load(args->residual, dtype, at + first + n);
            }
            float_store(args->out, dtype, at + first + n, value);
        }
    }
}

static void conv_plain(const void *call_pointer, int64_t begin, int64_t end) {
    const struct conv_call *call = call_pointer;
    for (int64_t p = begin; p < end; p++) {
        int64_t x = p % call->out_width, y = p / call->out_width % call->out_height;
        conv_pixel(call, p / call->out_width / call->out_height, y, x);
    }
}

void cpu_conv(struct device *device, const struct conv *conv, const struct conv_args *args) {
    const struct conv_shape *shape = &conv->shape;
    int64_t height = args->height + args->pad_top + args->pad_bottom;
    int64_t width = args->width + args->pad_left + args->pad_right;
    int64_t frames = args->history_frames + args->frames;
    assert(frames >= shape->kernel_t && height >= shape->kernel_h);
    assert(args->history_frames >= 0 && args->history_frames < shape->kernel_t);
    assert(width >= shape->kernel_w && args->pad_top >= 0 && args->pad_bottom >= 0);
    assert(args->pad_left >= 0 && args->pad_right >= 0);
    struct conv_call call = {
        .conv = conv,
        .args = *args,
        .out_frames = (frames - shape->kernel_t) / shape->stride_t + 1,
        .out_height = (height - shape->kernel_h) / shape->stride_h + 1,
        .out_width = (width - shape->kernel_w) / shape->stride_w + 1,
        .gemm = level_gemm(&device->level, conv->dtype),
    };
    if (call.gemm != NULL) {
        conv_gemm(device, &call);
    } else {
        device_rows(device, conv_plain, &call, call.out_frames * call.out_height * call.out_width,
                    taps(shape) * shape->in_channels * shape->out_channels / 8 + 1);
    }
}
