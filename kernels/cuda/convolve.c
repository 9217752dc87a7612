/* bf16 convolutions by cuDNN's graphs: convolution, + residual, + bias in one kernel.
 *
 * The graph is the one that cuDNN has compiled kernels for, tens for most shapes: sums in f32
 * between the operations, the bias last and of the tensors' type. With an f32 bias, or the bias
 * before the residual, it compiles a kernel at run time instead, half a second for every plan
 * (tests/kernels/cudnn_plans.c asks it).
 *
 * Tensors are described in cuDNN's order, N C T H W, with the strides of our layout, [T,H,W,C]. A
 * plan belongs to the shapes of a filter and its input, whatever the weights: it is made when first
 * met (tens of milliseconds), serves every layer of that shape, and outlives them, since a model
 * that is opened again has the same. Zeros before and after an axis may differ, so causal and
 * asymmetric padding need no copies.
 *
 * Of some thirty plans that cuDNN proposes for a large shape its first one is far from the fastest:
 * at 96 channels, 480x832, an H100 does 243 TFLOP/s by the first and 535 by the 21st. So those with
 * the first one's bits are measured, and the choice is remembered (tuning.h). Of a layer that was
 * measured at as many frames, at more or at half, with or without a residual and zeros before, it
 * is only asked whether that choice beats the first plan here too. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/cudnn_graph.h"

/* Before it, convolutions of bf16 volumes could come out wrong without a word. */
#define VERSION_LEAST 91500

enum tensor_id { ID_X = 1, ID_W, ID_BIAS, ID_RESIDUAL, ID_OUT, ID_CONVOLVED, ID_MORE };

/* A decoder meets about a hundred, at its first chunk, the others and the last. */
#define PLANS_MAX 512

#define TUNED_FLOPS    1e7 /* convolutions from here on may be worth measuring */
#define CANDIDATES_MAX 48  /* of one; an H100 has up to 36 */

struct plan {
    struct plan *next;
    struct conv_shape shape;
    struct conv_args args; /* its sizes; the pointers are not compared */
    bool residual;
    struct graph_plan graph;
};

struct convolve {
    struct graph_card card;
    struct tuning *tuning;
    struct plan *plans; /* the one that was used last comes first */
    int count;
};

enum error_code convolve_open(struct device *device, struct error *error) {
    device->convolve = calloc(1, sizeof *device->convolve);
    if (device->convolve == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for cuDNN's plans");
    }
    if (cudnnGetVersion() < VERSION_LEAST) {
        return error_set(error, ERR_DEVICE,
                         "GPU %d: cuDNN %zu.%zu is too old: 9.15 or newer is needed", device->index,
                         cudnnGetVersion() / 10000, cudnnGetVersion() / 100 % 100);
    }
    cudnnStatus_t status = cudnnCreate(&device->convolve->card.handle);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = cudnnSetStream(device->convolve->card.handle, device->stream);
    }
    if (status != CUDNN_STATUS_SUCCESS) {
        return error_set(error, ERR_DEVICE, "GPU %d: cuDNN cannot be used: %s", device->index,
                         cudnnGetErrorString(status));
    }
    char machine[DEVICE_LINE_BYTES];
    device_line(machine, device, "cuDNN", cudnnGetVersion());
    return tuning_open(&device->convolve->tuning, device->cache, "convolutions", machine, error);
}

const struct graph_card *convolve_card(struct device *device) {
    return &device->convolve->card;
}

static void plan_free(struct plan *plan) {
    graph_plan_free(&plan->graph);
    free(plan);
}

void convolve_close(struct device *device) {
    if (device->convolve != NULL) {
        while (device->convolve->plans != NULL) {
            struct plan *plan = device->convolve->plans;
            device->convolve->plans = plan->next;
            plan_free(plan);
        }
        tuning_close(&device->convolve->tuning);
        if (device->convolve->card.handle != NULL) {
            (void)cudnnDestroy(device->convolve->card.handle);
        }
        free(device->convolve);
        device->convolve = NULL;
    }
}

/* -- describing ---------------------------------------------------------------------------------
 */

/* dim is N C T H W; the channels are innermost in memory. */
static cudnnBackendDescriptor_t tensor(struct graph_builder *builder, int64_t id,
                                       cudnnDataType_t type, const int64_t dim[5],
                                       enum graph_place place) {
    const int64_t stride[5] = {dim[1] * dim[2] * dim[3] * dim[4], 1, dim[1] * dim[3] * dim[4],
                               dim[1] * dim[4], dim[1]};
    return graph_tensor(builder, id, type, 5, dim, stride, place);
}

static cudnnBackendDescriptor_t convolution(struct graph_builder *builder, const struct plan *plan,
                                            cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y) {
    const struct conv_shape *shape = &plan->shape;
    const struct conv_args *args = &plan->args;
    const int64_t spatial = 3, dilation[] = {1, 1, 1},
                  stride[] = {shape->stride_t, shape->stride_h, shape->stride_w},
                  before[] = {args->history_frames, args->pad_top, args->pad_left},
                  after[] = {0, args->pad_bottom, args->pad_right};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t filter = graph_make(builder, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1,
              &mode);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 3, dilation);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 3, stride);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 3, before);
    graph_put(builder, filter, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 3, after);
    graph_finish(builder, filter);
    cudnnBackendDescriptor_t out =
        graph_make(builder, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, filter);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    graph_put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1,
              &one);
    graph_put(builder, out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1,
              &zero);
    graph_finish(builder, out);
    return out;
}

static cudnnBackendDescriptor_t sum(struct graph_builder *builder, cudnnBackendDescriptor_t x,
                                    cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t add = graph_make(builder, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    graph_put(builder, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    graph_put(builder, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    graph_finish(builder, add);
    cudnnBackendDescriptor_t out =
        graph_make(builder, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    graph_link(builder, out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    graph_finish(builder, out);
    return out;
}

struct volume_size convolve_size(const struct conv_shape *shape, const struct conv_args *args) {
    const int64_t height = args->height + args->pad_top + args->pad_bottom;
    const int64_t width = args->width + args->pad_left + args->pad_right;
    return (struct volume_size){
        (args->history_frames + args->frames - shape->kernel_t) / shape->stride_t + 1,
        (height - shape->kernel_h) / shape->stride_h + 1,
        (width - shape->kernel_w) / shape->stride_w + 1};
}

static cudnnBackendDescriptor_t describe(struct graph_builder *builder, const struct plan *plan,
                                         const struct graph_card *card) {
    const struct conv_shape *shape = &plan->shape;
    const struct conv_args *args = &plan->args;
    const int64_t channels = shape->in_channels, outputs = shape->out_channels;
    const struct volume_size size = convolve_size(shape, args);
    const int64_t in[] = {1, channels, args->frames, args->height, args->width},
                  filter[] = {outputs, channels, shape->kernel_t, shape->kernel_h, shape->kernel_w},
                  bias[] = {1, outputs, 1, 1, 1},
                  out[] = {1, outputs, size.frames, size.height, size.width};
    cudnnBackendDescriptor_t x = tensor(builder, ID_X, CUDNN_DATA_BFLOAT16, in, GRAPH_IN_MEMORY);
    cudnnBackendDescriptor_t w =
        tensor(builder, ID_W, CUDNN_DATA_BFLOAT16, filter, GRAPH_IN_MEMORY);
    cudnnBackendDescriptor_t b =
        tensor(builder, ID_BIAS, CUDNN_DATA_BFLOAT16, bias, GRAPH_IN_MEMORY);
    cudnnBackendDescriptor_t y = tensor(builder, ID_OUT, CUDNN_DATA_BFLOAT16, out, GRAPH_IN_MEMORY);
    cudnnBackendDescriptor_t sums =
        tensor(builder, ID_CONVOLVED, CUDNN_DATA_FLOAT, out, GRAPH_VIRTUAL);
    cudnnBackendDescriptor_t operations[3];
    int64_t count = 0;
    operations[count++] = convolution(builder, plan, x, w, sums);
    if (plan->residual) {
        cudnnBackendDescriptor_t r =
            tensor(builder, ID_RESIDUAL, CUDNN_DATA_BFLOAT16, out, GRAPH_IN_MEMORY);
        cudnnBackendDescriptor_t more =
            tensor(builder, ID_MORE, CUDNN_DATA_FLOAT, out, GRAPH_VIRTUAL);
        operations[count++] = sum(builder, sums, r, more);
        sums = more;
    }
    operations[count++] = sum(builder, sums, b, y);
    return graph_of(builder, card, operations, count);
}

/* -- which of its plans -------------------------------------------------------------------------
 */

/* Numbers below 16, four bits each. False: one is larger. */
static bool pack(uint32_t *out, const int *numbers, int count) {
    bool good = true;
    *out = 0;
    for (int i = 0; i < count; i++) {
        good = good && numbers[i] >= 0 && numbers[i] < 16;
        *out |= ((uint32_t)numbers[i] & 15) << 4 * i;
    }
    return good;
}

#define ROWS_OF_FRAME 32

/* As tuning.h has it; its rows are the frames, the zeros before them and whether there is a
 * residual. False: it is not measured. */
static bool product_of(const struct plan *plan, struct tuning_product *out) {
    const struct conv_shape *s = &plan->shape;
    const struct conv_args *a = &plan->args;
    const int window[] = {s->kernel_t, s->kernel_h, s->kernel_w,
                          s->stride_t, s->stride_h, s->stride_w},
              around[] = {a->pad_top, a->pad_bottom, a->pad_left, a->pad_right};
    const struct volume_size size = convolve_size(s, a);
    const double taps = s->kernel_t * s->kernel_h * s->kernel_w;
    *out = (struct tuning_product){.outputs = s->out_channels,
                                   .inputs = s->in_channels,
                                   .rows = a->frames * ROWS_OF_FRAME + 2 * a->history_frames +
                                           (plan->residual ? 1 : 0),
                                   .in_alignment = (uint32_t)a->height,
                                   .out_alignment = (uint32_t)a->width};
    return pack(&out->type, window, 6) && pack(&out->epilogue, around, 4) &&
           2 * a->history_frames < ROWS_OF_FRAME &&
           2 * taps * s->in_channels * s->out_channels *
                   (double)(size.frames * size.height * size.width) >=
               TUNED_FLOPS;
}

static bool same_algorithm(const struct tuning_algorithm *a, const struct tuning_algorithm *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* Which of the candidates is the fastest whose bits are the first one's: the plan's by now, to
 * which the others are added. False: nothing was measured. */
static bool measure(struct device *device, const struct plan *plan, cudnnBackendDescriptor_t graph,
                    const struct tuning_product *product, struct tuning_algorithm *candidates,
                    int *best) {
    const struct convolve *convolve = device->convolve;
    struct tuning_algorithm proposals[CANDIDATES_MAX - 1];
    if (tuning_find_like(convolve->tuning, product, product->rows / 2, &candidates[1])) {
        const bool first = same_algorithm(&candidates[0], &candidates[1]);
        *best =
            first ? 0 : convolve_fastest(device, graph, &plan->shape, &plan->args, candidates, 2);
        if (first || *best != 0) {
            return *best >= 0;
        }
    }
    const int proposed = graph_propose(&convolve->card, graph, proposals, CANDIDATES_MAX - 1);
    int count = 1;
    for (int i = 0; i < proposed; i++) {
        if (!same_algorithm(&candidates[0], &proposals[i])) {
            candidates[count++] = proposals[i];
        }
    }
    *best = convolve_fastest(device, graph, &plan->shape, &plan->args, candidates, count);
    return *best >= 0;
}

/* cuDNN's first choice, or a faster one that gives the same bits: results are the same for a shape
 * on a card and library, whatever was measured. */
static void choose(struct device *device, struct plan *plan, struct graph_builder *builder,
                   cudnnBackendDescriptor_t graph) {
    struct convolve *convolve = device->convolve;
    struct tuning_algorithm candidates[CANDIDATES_MAX];
    struct tuning_product product;
    const bool large = product_of(plan, &product);
    int best;
    if (large && tuning_find(convolve->tuning, &product, &candidates[0]) &&
        graph_make_plan(builder, &convolve->card, graph, WORKSPACE_BYTES, &candidates[0])) {
        return;
    }
    graph_choose(builder, &convolve->card, graph, CUDNN_HEUR_MODE_A, WORKSPACE_BYTES,
                 &candidates[0]);
    if (plan->graph.execution == NULL && convolve_size(&plan->shape, &plan->args).frames < 2) {
        graph_choose(builder, &convolve->card, graph, CUDNN_HEUR_MODE_FALLBACK, WORKSPACE_BYTES,
                     NULL);
    } else if (large && plan->graph.execution != NULL && candidates[0].word[0] != 0 &&
               measure(device, plan, graph, &product, candidates, &best)) {
        if (best > 0 &&
            !graph_make_plan(builder, &convolve->card, graph, WORKSPACE_BYTES, &candidates[best])) {
            best = 0;
        }
        tuning_add(convolve->tuning, &product, &candidates[best]);
    }
}

/* -- plans --------------------------------------------------------------------------------------
 */

/* The one that was used the longest ago. Its kernels go with it: they may be running. */
static void forget_last(struct device *device) {
    struct plan **last = NULL;
    for (struct plan **link = &device->convolve->plans; *link != NULL; link = &(*link)->next) {
        last = link;
    }
    if (last != NULL) {
        graphs_forget(device);
        (void)cudaStreamSynchronize(device->stream);
        plan_free(*last);
        *last = NULL;
        device->convolve->count--;
    }
}

static struct plan *plan_make(struct device *device, const struct conv_shape *shape,
                              const struct conv_args *args) {
    struct convolve *convolve = device->convolve;
    struct plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    plan->shape = *shape;
    plan->args = *args;
    plan->residual = args->residual != NULL;
    struct graph_builder builder = {&plan->graph, true};
    cudnnBackendDescriptor_t graph = describe(&builder, plan, &convolve->card);
    choose(device, plan, &builder, graph);
    if (convolve->count >= PLANS_MAX && !graphs_recording(device)) {
        forget_last(device);
    }
    plan->next = convolve->plans;
    convolve->plans = plan;
    convolve->count++;
    return plan;
}

static bool same_shape(const struct conv_shape *a, const struct conv_shape *b) {
    return a->kernel_t == b->kernel_t && a->kernel_h == b->kernel_h && a->kernel_w == b->kernel_w &&
           a->stride_t == b->stride_t && a->stride_h == b->stride_h && a->stride_w == b->stride_w &&
           a->in_channels == b->in_channels && a->out_channels == b->out_channels;
}

static bool same_size(const struct conv_args *a, const struct conv_args *b) {
    return a->frames == b->frames && a->history_frames == b->history_frames &&
           a->height == b->height && a->width == b->width && a->pad_top == b->pad_top &&
           a->pad_bottom == b->pad_bottom && a->pad_left == b->pad_left &&
           a->pad_right == b->pad_right;
}

static struct plan *plan_of(struct device *device, const struct conv_shape *shape,
                            const struct conv_args *args) {
    struct convolve *convolve = device->convolve;
    for (struct plan **link = &convolve->plans; *link != NULL; link = &(*link)->next) {
        struct plan *plan = *link;
        if (plan->residual == (args->residual != NULL) && same_shape(&plan->shape, shape) &&
            same_size(&plan->args, args)) {
            *link = plan->next;
            plan->next = convolve->plans;
            convolve->plans = plan;
            return plan;
        }
    }
    return plan_make(device, shape, args);
}

size_t convolve_version(void) {
    return cudnnGetVersion();
}

struct conv_args convolve_part(const struct conv *conv, const struct conv_args *args, int64_t first,
                               int64_t count) {
    const struct conv_shape *shape = &conv->shape;
    const struct volume_size out = convolve_size(shape, args);
    const int64_t begin = first * shape->stride_t - args->history_frames; /* frame of `in` */
    const int64_t zeros = begin < 0 ? -begin : 0;
    const size_t bytes = dtype_bytes(conv->dtype);
    const size_t frame = (size_t)(args->height * args->width * shape->in_channels) * bytes;
    const size_t skip = (size_t)(first * out.height * out.width * shape->out_channels) * bytes;
    struct conv_args part = *args;
    part.history = NULL;
    part.history_frames = (int)zeros;
    part.frames = (count - 1) * shape->stride_t + shape->kernel_t - zeros;
    part.in = (const uint8_t *)args->in + (size_t)(begin + zeros) * frame;
    part.out = (uint8_t *)args->out + skip;
    part.residual = args->residual != NULL ? (const uint8_t *)args->residual + skip : NULL;
    return part;
}

/* What has no plan by itself may have one by halves: cuDNN widens results of a few channels, as the
 * last layer of a VAE has, in a workspace that grows with the frames. What its fallback would do
 * instead takes an H100 34 times as long. */
static bool run_by_halves(struct device *device, const struct conv *conv,
                          const struct conv_args *args) {
    const int64_t frames = convolve_size(&conv->shape, args).frames, half = (frames + 1) / 2;
    if (frames < 2) {
        return false;
    }
    const struct conv_args first = convolve_part(conv, args, 0, half);
    const struct conv_args rest = convolve_part(conv, args, half, frames - half);
    if (!convolve_run(device, conv, &first)) {
        return false;
    }
    if (!convolve_run(device, conv, &rest)) {
        (void)device_noted(device, product_conv(device, conv, &rest), "conv");
    }
    return true;
}

cudnnStatus_t convolve_by(struct device *device, const struct graph_plan *plan,
                          const struct conv *conv, const struct conv_args *args) {
    const int64_t id[] = {ID_X, ID_W, ID_BIAS, ID_OUT, ID_RESIDUAL};
    const void *const data[] = {args->in, conv->weight, conv->bias, args->out, args->residual};
    return graph_run(plan, device->convolve->card.handle, id, data, args->residual != NULL ? 5 : 4,
                     device->workspace);
}

bool convolve_run(struct device *device, const struct conv *conv, const struct conv_args *args) {
    if (((uintptr_t)args->in | (uintptr_t)args->out | (uintptr_t)args->residual) % 16 != 0) {
        return false;
    }
    struct plan *plan = plan_of(device, &conv->shape, args);
    if (plan == NULL || plan->graph.execution == NULL) {
        return run_by_halves(device, conv, args);
    }
    cudnnStatus_t status = convolve_by(device, &plan->graph, conv, args);
    if (status != CUDNN_STATUS_SUCCESS) {
        device_fail(device, ERR_DEVICE, "cuDNN, convolution %dx%dx%d, %d to %d channels: %s",
                    conv->shape.kernel_t, conv->shape.kernel_h, conv->shape.kernel_w,
                    conv->shape.in_channels, conv->shape.out_channels, cudnnGetErrorString(status));
    }
    return true;
}
