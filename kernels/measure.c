/* The table that computes nothing: model code run over it and a measuring arena asks for the memory
 * it will need, and no more happens. Weights are counted as the CPU's table would hold them, or as
 * kernels/cuda does (tests/kernels/tables.c holds the two together). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/f8.h"

static enum error_code measure_probe(int index, struct error *error) {
    return ERR_OK;
}

static bool measure_multiplies_f8(int index) {
    return false;
}

static bool measure_attends_narrow(int index, int64_t head_dim) {
    return false;
}

static bool measure_attends_by_library(struct device *device, const struct attention_args *args) {
    return false;
}

static enum error_code measure_open(struct device **out, const struct device_config *config,
                                    struct error *error) {
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a device");
    }
    enum error_code code =
        cpu_level_choose(&device->level, config != NULL ? config->isa : NULL, error);
    if (code != ERR_OK) {
        free(device);
        return code;
    }
    device->in_place = config != NULL && config->in_place > 0 ? config->in_place : IN_PLACE_DEFAULT;
    device->as_gpu = config != NULL && config->like != NULL && config->like != ops_cpu();
    device->gpu_f8 = device->as_gpu && config->like->multiplies_f8(config->index);
    *out = device;
    return ERR_OK;
}

static void measure_close(struct device **device) {
    free(*device);
    *device = NULL;
}

static void measure_info(struct device *device, struct device_info *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "measuring, %s", device->level.name);
    snprintf(out->class, sizeof out->class, "measure");
}

static enum error_code measure_status(struct device *device, struct error *error) {
    return ERR_OK;
}

static enum error_code measure_arena_open(struct device *device, struct arena *out, size_t bytes,
                                          struct error *error) {
    arena_open_measuring(out);
    return ERR_OK;
}

/* Host memory is real. */
static enum error_code measure_staging_open(struct device *device, struct arena *out, size_t bytes,
                                            struct error *error) {
    return arena_open(out, bytes, error);
}

static void measure_upload(struct device *device, void *out, const void *in, size_t bytes) {}

static void measure_download(struct device *device, void *host, const void *in, size_t bytes) {
    memset(host, 0, bytes); /* host memory is real, and what is read there must be defined */
}

static enum error_code measure_download_end(struct device *device, const void *host,
                                            struct error *error) {
    return ERR_OK;
}

static void measure_repeat(struct device *device, const void *key, size_t bytes,
                           bool (*queue)(void *context), void *context) {
    (void)queue(context);
}

static size_t measure_weight_bytes(struct device *device) {
    return device->weight_bytes;
}

static size_t measure_mapped_bytes(struct device *device) {
    return device->mapped_bytes;
}

static size_t measure_weight_bytes_least(struct device *device) {
    size_t buffers = WEIGHTS_MOVE_BUFFERS * device->moving_most;
    size_t there = buffers < device->moving_bytes ? buffers : device->moving_bytes;
    return device->weight_bytes - device->moving_bytes + there;
}

static void measure_limit_weights(struct device *device, size_t bytes) {}

/* -- what a GPU holds: rows of the compute type or of int8, biases in f32 and for bf16 in bf16 too
 * -- */

/* Columns that share a scale, where the layer stays int8; else 0. */
static int64_t gpu_int8_block(const struct linear *linear, const struct tensor *const *weights,
                              int count) {
    int64_t block = weights[0]->scale_columns;
    for (int i = 0; i < count; i++) {
        if (weights[i]->dtype != DTYPE_I8 || weights[i]->scale_columns != block) {
            return 0;
        }
    }
    block = block < linear->inputs ? block : linear->inputs;
    bool suits = linear->dtype == DTYPE_BF16 && linear->inputs % 16 == 0 &&
                 linear->outputs % 2 == 0 && linear->inputs <= 65536 &&
                 (block == linear->inputs || block % 128 == 0);
    return suits ? block : 0;
}

/* In all, and of it the matrix. `f8`: weights of F8_E4M3 stay so. */
static size_t gpu_linear_bytes(size_t *matrix, const struct linear *linear,
                               const struct tensor *const *weights, int count, bool f8) {
    size_t outputs = (size_t)linear->outputs, inputs = (size_t)linear->inputs;
    int64_t block = gpu_int8_block(linear, weights, count);
    *matrix = outputs * inputs * (block > 0 || f8 ? 1 : dtype_bytes(linear->dtype));
    if (block > 0) {
        size_t blocks = (size_t)((linear->inputs + block - 1) / block);
        return outputs * (inputs + (blocks + 1) * sizeof(float));
    }
    if (f8) {
        return outputs * (inputs + 2 * sizeof(float) + sizeof(uint16_t));
    }
    size_t narrow = linear->dtype == DTYPE_BF16 ? sizeof(uint16_t) : 0;
    return outputs * (inputs * dtype_bytes(linear->dtype) + sizeof(float) + narrow);
}

static size_t gpu_conv_bytes(const struct conv_shape *shape, enum dtype dtype) {
    size_t taps = (size_t)shape->kernel_t * (size_t)shape->kernel_h * (size_t)shape->kernel_w;
    return (size_t)shape->out_channels * (taps * (size_t)shape->in_channels + 1) *
           dtype_bytes(dtype);
}

static enum error_code measure_linear_create(struct device *device, struct linear **out,
                                             const struct tensor *const *weights,
                                             const struct tensor *const *biases, int count,
                                             enum dtype dtype, struct error *error) {
    enum error_code code = linear_describe(device, out, weights, count, dtype, error);
    if (code == ERR_OK && device->as_gpu) {
        struct linear *linear = *out;
        device->weight_bytes -= linear->bytes;
        device->mapped_bytes -= linear->mapped;
        linear->mapped = 0;
        linear->bytes = gpu_linear_bytes(&linear->moving, linear, weights, count,
                                         device->gpu_f8 && f8_suits(weights, count, dtype));
        device->weight_bytes += linear->bytes;
        if (linear->moving < WEIGHTS_MOVE_LEAST) {
            linear->moving = 0;
        }
        device->moving_bytes += linear->moving;
        device->moving_most =
            linear->moving > device->moving_most ? linear->moving : device->moving_most;
    }
    return code;
}

static void measure_linear_close(struct device *device, struct linear **linear) {
    device->moving_bytes -= *linear != NULL ? (*linear)->moving : 0;
    cpu_linear_close(device, linear);
}

static enum error_code measure_conv_create(struct device *device, struct conv **out,
                                           const struct conv_shape *shape,
                                           const struct tensor *weight, const struct tensor *bias,
                                           enum dtype dtype, struct error *error) {
    struct conv *conv = calloc(1, sizeof *conv);
    if (conv == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a convolution");
    }
    conv->shape = *shape;
    conv->dtype = dtype;
    conv->bytes =
        device->as_gpu ? gpu_conv_bytes(shape, dtype) : conv_bytes(&device->level, shape, dtype);
    device->weight_bytes += conv->bytes;
    *out = conv;
    return ERR_OK;
}

static void measure_linear(struct device *device, void *out, const void *in,
                           const struct linear *linear, int64_t rows,
                           const struct linear_epilogue *epilogue) {}

static void measure_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                                const struct linear *linear, int64_t rows,
                                const struct linear_epilogue *epilogue) {}

static void measure_attention(struct device *device, const struct attention_args *args) {}

static void measure_conv(struct device *device, const struct conv *conv,
                         const struct conv_args *args) {}

static void measure_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                               const float *add, const uint8_t *group, int64_t rows, int64_t width,
                               float eps, enum dtype dtype) {}

static void measure_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                             int64_t rows, int64_t width, float eps, enum dtype dtype) {}

static void measure_qk_norm_rope(struct device *device, void *x, int64_t stride,
                                 const float *weight, const float *cosine, const float *sine,
                                 int64_t rows, int heads, int head_dim, float eps,
                                 enum dtype dtype) {}

static void measure_channel_norm(struct device *device, void *out, const void *x,
                                 const float *gamma, int64_t rows, int64_t channels,
                                 enum activation activation, enum dtype dtype) {}

static void measure_activate(struct device *device, float *out, const float *x, int64_t count,
                             enum activation activation) {}

static void measure_gelu_gate(struct device *device, void *out, const void *x, int64_t rows,
                              int64_t width, enum dtype dtype) {}

static void measure_modulation(struct device *device, float *out, const float *table,
                               const float *e, int64_t groups, int chunks, int e_chunks,
                               int64_t width, uint32_t scale_mask) {}

static void measure_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                            enum dtype dtype, int64_t count) {}

static void measure_add(struct device *device, void *out, const void *a, const void *b,
                        int64_t count, enum dtype dtype) {}

static void measure_combine(struct device *device, float *out, const float *const *x,
                            const float *coefficient, int terms, int64_t count) {}

static void measure_zero(struct device *device, void *out, size_t bytes) {}

static void measure_embed(struct device *device, float *out, const struct tensor *table,
                          const int32_t *host_ids, int64_t count) {}

static void measure_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                             const float *latents, int channels, int64_t frames, int64_t height,
                             int64_t width, enum dtype dtype) {}

static void measure_unpatchify(struct device *device, float *latents, const float *tokens,
                               int channels, int64_t frames, int64_t height, int64_t width) {}

static void measure_to_channels_last(struct device *device, void *out, const float *x,
                                     const float *mul, const float *add, int channels,
                                     int64_t pixels, enum dtype dtype) {}

static void measure_to_channels_first(struct device *device, float *out, const void *x,
                                      const float *mul, const float *add, int channels,
                                      int row_channels, int64_t pixels, enum dtype dtype) {}

static void measure_upsample(struct device *device, void *out, const void *x, int64_t frames,
                             int64_t height, int64_t width, int64_t channels, enum dtype dtype) {}

static void measure_interleave_frames(struct device *device, void *out, const void *x,
                                      int64_t frames, int64_t pixels, int64_t channels,
                                      enum dtype dtype) {}

static void measure_fold(struct device *device, const struct fold_args *args) {}

static void measure_from_pixels(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                                enum dtype dtype) {}

static void measure_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                              enum dtype dtype) {}

static void measure_to_nv12(struct device *device, const struct nv12_args *args) {}

static void *measure_context(struct device *device) {
    return NULL;
}

static void measure_conv_close(struct device *device, struct conv **conv) {
    if (*conv != NULL) {
        device->weight_bytes -= (*conv)->bytes;
        free(*conv);
        *conv = NULL;
    }
}

const struct ops *ops_measure(void) {
    static const struct ops table = {
        .name = "measure",
        .device_probe = measure_probe,
        .multiplies_f8 = measure_multiplies_f8,
        .attends_narrow = measure_attends_narrow,
        .device_open = measure_open,
        .device_close = measure_close,
        .device_info = measure_info,
        .status = measure_status,
        .arena_open = measure_arena_open,
        .upload = measure_upload,
        .download = measure_download,
        .staging_open = measure_staging_open,
        .download_begin = measure_download,
        .download_end = measure_download_end,
        .repeat = measure_repeat,
        .weight_bytes = measure_weight_bytes,
        .mapped_bytes = measure_mapped_bytes,
        .weight_bytes_least = measure_weight_bytes_least,
        .limit_weights = measure_limit_weights,
        .linear_create = measure_linear_create,
        .linear_close = measure_linear_close,
        .conv_create = measure_conv_create,
        .conv_close = measure_conv_close,
        .linear = measure_linear,
        .norm_linear = measure_norm_linear,
        .attention = measure_attention,
        .attends_by_library = measure_attends_by_library,
        .conv = measure_conv,
        .layer_norm = measure_layer_norm,
        .rms_norm = measure_rms_norm,
        .qk_norm_rope = measure_qk_norm_rope,
        .channel_norm = measure_channel_norm,
        .activate = measure_activate,
        .gelu_gate = measure_gelu_gate,
        .modulation = measure_modulation,
        .convert = measure_convert,
        .add = measure_add,
        .combine = measure_combine,
        .copy = measure_upload,
        .zero = measure_zero,
        .embed = measure_embed,
        .patchify = measure_patchify,
        .unpatchify = measure_unpatchify,
        .to_channels_last = measure_to_channels_last,
        .to_channels_first = measure_to_channels_first,
        .upsample = measure_upsample,
        .interleave_frames = measure_interleave_frames,
        .fold = measure_fold,
        .unfold = measure_fold,
        .from_pixels = measure_from_pixels,
        .to_pixels = measure_to_pixels,
        .to_nv12 = measure_to_nv12,
        .context = measure_context,
        .wants = CPU_WANTS,
    };
    return &table;
}
