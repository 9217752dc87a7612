/* bf16 convolutions by cuDNN's graphs: convolution, + bias, + residual in one kernel. cuDNN is
 * called from here alone.
 *
 * Tensors are described in cuDNN's order, N C T H W, with the strides of our layout, [T,H,W,C]. A
 * plan belongs to a layer and an input size; it is made when first met (tens of milliseconds) and
 * kept until the layer is closed. Zeros before and after an axis may differ, so causal and
 * asymmetric padding need no copies. */
#include <cudnn.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"

#define DESCRIPTORS_MAX 20 /* of a graph and the heuristic */
#define CONFIGS_MAX     8  /* tried of one heuristic */

enum tensor_id { ID_X = 1, ID_W, ID_BIAS, ID_RESIDUAL, ID_OUT, ID_CONVOLVED, ID_BIASED };

struct plan {
    struct plan *next;
    const struct conv *conv;
    struct conv_args args; /* its sizes; the pointers are not compared */
    bool residual;
    bool there;
    cudnnBackendDescriptor_t kept[DESCRIPTORS_MAX + 2 * CONFIGS_MAX]; /* in order of making */
    int count;
    cudnnBackendDescriptor_t execution; /* one of the above */
};

struct convolve {
    cudnnHandle_t handle;
    struct plan *plans;
};

enum error_code convolve_open(struct device *device, struct error *error) {
    device->convolve = calloc(1, sizeof *device->convolve);
    if (device->convolve == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for cuDNN's plans");
    }
    cudnnStatus_t status = cudnnCreate(&device->convolve->handle);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = cudnnSetStream(device->convolve->handle, device->stream);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return error_set(error, ERR_DEVICE, "GPU %d: cuDNN cannot be used: %s", device->index,
                         cudnnGetErrorString(status));
    }
    return ERR_OK;
}

static void plan_free(struct plan *plan) {
    while (plan->count > 0) {
        (void)cudnnBackendDestroyDescriptor(plan->kept[--plan->count]);
    }
    free(plan);
}

void convolve_forget(struct device *device, const struct conv *conv) {
    struct plan **link = device->convolve != NULL ? &device->convolve->plans : NULL;
    while (link != NULL && *link != NULL) {
        struct plan *plan = *link;
        if (conv == NULL || plan->conv == conv) {
            *link = plan->next;
            plan_free(plan);
        } else {
            link = &plan->next;
        }
    }
}

void convolve_close(struct device *device) {
    if (device->convolve != NULL) {
        convolve_forget(device, NULL);
        if (device->convolve->handle != NULL) {
            (void)cudnnDestroy(device->convolve->handle);
        }
        free(device->convolve);
        device->convolve = NULL;
    }
}

/* -- building: the first failure sticks in `ok` ------------------------------------------------ */

struct builder {
    struct plan *plan;
    bool ok;
};

static cudnnBackendDescriptor_t make(struct builder *builder, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t out = NULL;
    struct plan *plan = builder->plan;
    const int room = (int)(sizeof plan->kept / sizeof *plan->kept);
    builder->ok = builder->ok && plan->count < room &&
                  cudnnBackendCreateDescriptor(type, &out) == CUDNN_STATUS_SUCCESS;
    if (builder->ok) {
        plan->kept[plan->count++] = out;
    }
    return out;
}

static void put(struct builder *builder, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values) {
    builder->ok = builder->ok && cudnnBackendSetAttribute(descriptor, name, type, count, values) ==
                                     CUDNN_STATUS_SUCCESS;
}

static void finish(struct builder *builder, cudnnBackendDescriptor_t descriptor) {
    builder->ok = builder->ok && cudnnBackendFinalize(descriptor) == CUDNN_STATUS_SUCCESS;
}

/* dim is N C T H W; the channels are innermost in memory. */
static cudnnBackendDescriptor_t tensor(struct builder *builder, int64_t id, cudnnDataType_t type,
                                       const int64_t dim[5], bool is_virtual) {
    const int64_t stride[5] = {dim[1] * dim[2] * dim[3] * dim[4], 1, dim[1] * dim[3] * dim[4],
                               dim[1] * dim[4], dim[1]};
    const int64_t alignment = 16;
    cudnnBackendDescriptor_t out = make(builder, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    put(builder, out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    put(builder, out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 5, dim);
    put(builder, out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 5, stride);
    put(builder, out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    put(builder, out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    put(builder, out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finish(builder, out);
    return out;
}

static cudnnBackendDescriptor_t convolution(struct builder *builder, cudnnBackendDescriptor_t x,
                                            cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y) {
    const struct conv_shape *shape = &builder->plan->conv->shape;
    const struct conv_args *args = &builder->plan->args;
    const int64_t spatial = 3, dilation[] = {1, 1, 1},
                  stride[] = {shape->stride_t, shape->stride_h, shape->stride_w},
                  before[] = {args->history_frames, args->pad_top, args->pad_left},
                  after[] = {0, args->pad_bottom, args->pad_right};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t filter = make(builder, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 3, dilation);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 3, stride);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 3, before);
    put(builder, filter, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 3, after);
    finish(builder, filter);
    cudnnBackendDescriptor_t out =
        make(builder, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &filter);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &x);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &w);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &y);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    finish(builder, out);
    return out;
}

static cudnnBackendDescriptor_t sum(struct builder *builder, cudnnBackendDescriptor_t x,
                                    cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t add = make(builder, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    put(builder, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    put(builder, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    finish(builder, add);
    cudnnBackendDescriptor_t out = make(builder, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    put(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        1, &add);
    put(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    put(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b);
    put(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    finish(builder, out);
    return out;
}

static cudnnBackendDescriptor_t graph(struct builder *builder, cudnnHandle_t handle) {
    const struct conv_shape *shape = &builder->plan->conv->shape;
    const struct conv_args *args = &builder->plan->args;
    const int64_t channels = shape->in_channels, outputs = shape->out_channels;
    const int64_t height = args->height + args->pad_top + args->pad_bottom;
    const int64_t width = args->width + args->pad_left + args->pad_right;
    const int64_t in[] = {1, channels, args->frames, args->height, args->width},
                  filter[] = {outputs, channels, shape->kernel_t, shape->kernel_h, shape->kernel_w},
                  bias[] = {1, outputs, 1, 1, 1},
                  out[] = {
                      1, outputs,
                      (args->history_frames + args->frames - shape->kernel_t) / shape->stride_t + 1,
                      (height - shape->kernel_h) / shape->stride_h + 1,
                      (width - shape->kernel_w) / shape->stride_w + 1};
    const bool residual = builder->plan->residual;
    cudnnBackendDescriptor_t x = tensor(builder, ID_X, CUDNN_DATA_BFLOAT16, in, false);
    cudnnBackendDescriptor_t w = tensor(builder, ID_W, CUDNN_DATA_BFLOAT16, filter, false);
    cudnnBackendDescriptor_t b = tensor(builder, ID_BIAS, CUDNN_DATA_FLOAT, bias, false);
    cudnnBackendDescriptor_t y = tensor(builder, ID_OUT, CUDNN_DATA_BFLOAT16, out, false);
    cudnnBackendDescriptor_t convolved = tensor(builder, ID_CONVOLVED, CUDNN_DATA_FLOAT, out, true);
    cudnnBackendDescriptor_t operations[3];
    int64_t count = 0;
    operations[count++] = convolution(builder, x, w, convolved);
    if (residual) {
        cudnnBackendDescriptor_t biased = tensor(builder, ID_BIASED, CUDNN_DATA_FLOAT, out, true);
        cudnnBackendDescriptor_t r = tensor(builder, ID_RESIDUAL, CUDNN_DATA_BFLOAT16, out, false);
        operations[count++] = sum(builder, convolved, b, biased);
        operations[count++] = sum(builder, biased, r, y);
    } else {
        operations[count++] = sum(builder, convolved, b, y);
    }
    cudnnBackendDescriptor_t set = make(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    put(builder, set, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
        operations);
    put(builder, set, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    finish(builder, set);
    return set;
}

/* A plan of this configuration that makes do with the workspace; NULL: none. */
static cudnnBackendDescriptor_t execution(struct plan *plan, cudnnHandle_t handle,
                                          cudnnBackendDescriptor_t config) {
    struct builder builder = {plan, true};
    int64_t workspace = 0, count = 0;
    cudnnBackendDescriptor_t out = make(&builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    put(&builder, out, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    put(&builder, out, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &config);
    finish(&builder, out);
    bool fits =
        builder.ok &&
        cudnnBackendGetAttribute(out, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                 &count, &workspace) == CUDNN_STATUS_SUCCESS &&
        workspace <= (int64_t)WORKSPACE_BYTES;
    return fits ? out : NULL;
}

/* The first configuration, by the mode's order of expected speed, of which a plan can be made. */
static bool choose(struct plan *plan, cudnnHandle_t handle, cudnnBackendDescriptor_t operations,
                   cudnnBackendHeurMode_t mode) {
    struct builder builder = {plan, true};
    const int start = plan->count;
    cudnnBackendDescriptor_t configs[CONFIGS_MAX] = {0};
    int64_t count = 0;
    cudnnBackendDescriptor_t order = make(&builder, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    put(&builder, order, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &operations);
    put(&builder, order, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finish(&builder, order);
    for (int i = 0; i < CONFIGS_MAX; i++) {
        configs[i] = make(&builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    }
    builder.ok = builder.ok && cudnnBackendGetAttribute(order, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX,
                                                        &count, configs) == CUDNN_STATUS_SUCCESS;
    for (int i = 0; builder.ok && i < count && plan->execution == NULL; i++) {
        plan->execution = execution(plan, handle, configs[i]);
    }
    while (plan->execution == NULL && plan->count > start) {
        (void)cudnnBackendDestroyDescriptor(plan->kept[--plan->count]);
    }
    return plan->execution != NULL;
}

static struct plan *plan_make(struct convolve *convolve, const struct conv *conv,
                              const struct conv_args *args) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    struct plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    plan->conv = conv;
    plan->args = *args;
    plan->residual = args->residual != NULL;
    struct builder builder = {plan, true};
    cudnnBackendDescriptor_t operations = graph(&builder, convolve->handle);
    for (size_t i = 0; builder.ok && !plan->there && i < sizeof modes / sizeof *modes; i++) {
        plan->there = choose(plan, convolve->handle, operations, modes[i]);
    }
    plan->next = convolve->plans;
    convolve->plans = plan;
    return plan;
}

static bool same_size(const struct conv_args *a, const struct conv_args *b) {
    return a->frames == b->frames && a->history_frames == b->history_frames &&
           a->height == b->height && a->width == b->width && a->pad_top == b->pad_top &&
           a->pad_bottom == b->pad_bottom && a->pad_left == b->pad_left &&
           a->pad_right == b->pad_right;
}

static struct plan *plan_of(struct convolve *convolve, const struct conv *conv,
                            const struct conv_args *args) {
    for (struct plan *plan = convolve->plans; plan != NULL; plan = plan->next) {
        if (plan->conv == conv && plan->residual == (args->residual != NULL) &&
            same_size(&plan->args, args)) {
            return plan;
        }
    }
    return plan_make(convolve, conv, args);
}

size_t convolve_version(void) {
    return cudnnGetVersion();
}

bool convolve_run(struct device *device, const struct conv *conv, const struct conv_args *args) {
    struct convolve *convolve = device->convolve;
    if (((uintptr_t)args->in | (uintptr_t)args->out | (uintptr_t)args->residual) % 16 != 0) {
        return false;
    }
    struct plan *plan = plan_of(convolve, conv, args);
    if (plan == NULL || !plan->there) {
        return false;
    }
    cudnnBackendDescriptor_t variant = NULL;
    const int64_t id[] = {ID_X, ID_W, ID_BIAS, ID_OUT, ID_RESIDUAL};
    const void *data[] = {args->in, conv->weight, conv->bias, args->out, args->residual};
    const int64_t count = plan->residual ? 5 : 4;
    struct builder builder = {plan, true};
    builder.ok = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &variant) ==
                 CUDNN_STATUS_SUCCESS;
    put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, id);
    put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
        &device->workspace);
    finish(&builder, variant);
    cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM;
    if (builder.ok) {
        status = cudnnBackendExecute(convolve->handle, plan->execution, variant);
    }
    if (variant != NULL) {
        (void)cudnnBackendDestroyDescriptor(variant);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        device_fail(device, ERR_DEVICE, "cuDNN, convolution %dx%dx%d, %d to %d channels: %s",
                    conv->shape.kernel_t, conv->shape.kernel_h, conv->shape.kernel_w,
                    conv->shape.in_channels, conv->shape.out_channels, cudnnGetErrorString(status));
    }
    return true;
}
