/* cuDNN for the emulated machine: graphs of the backend API as kernels/cuda describes them, run by
 * plain loops over the dimensions and strides that the descriptors give. Knows a convolution with
 * sums behind it, and attention. Odd numbers of channels have no plan, so that what is left over is
 * tested as well; nor have f16's heads.
 *
 * Its algorithms, by the heuristic's order: one that makes no plan, one whose plan wants more
 * memory than anybody has, one that will do; a faster one that gives the same; the fastest that was
 * compiled before, whose results are others; and one that is compiled when it is asked for. */
#include <cudnn.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "tests/kernels/emulated/runtime.h"

#define ATTRIBUTES_MAX 16
#define BYTES_MAX      (16 * sizeof(void *))

struct attribute {
    cudnnBackendAttributeName_t name;
    int64_t count;
    uint8_t bytes[BYTES_MAX];
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finished;
    int count;
    struct attribute attribute[ATTRIBUTES_MAX];
};

size_t cudnnGetVersion(void) {
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUCCESS ? "success" : "failure";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    static char one;
    *handle = (cudnnHandle_t)(void *)&one;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    (void)handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    (void)handle, (void)stream;
    return CUDNN_STATUS_SUCCESS;
}

/* -- descriptors ------------------------------------------------------------------------------ */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out) {
    struct descriptor *descriptor = calloc(1, sizeof *descriptor);
    if (descriptor == NULL) {
        return CUDNN_STATUS_ALLOC_FAILED;
    }
    descriptor->type = type;
    *out = descriptor;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    free(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

static size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 4; /* enumerations and floats */
    }
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t pointer,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *values) {
    struct descriptor *descriptor = pointer;
    size_t bytes = (size_t)count * size_of(type);
    if (descriptor->finished || descriptor->count == ATTRIBUTES_MAX || bytes > BYTES_MAX) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    struct attribute *attribute = &descriptor->attribute[descriptor->count++];
    attribute->name = name;
    attribute->count = count;
    memcpy(attribute->bytes, values, bytes);
    return CUDNN_STATUS_SUCCESS;
}

static const struct attribute *attribute_of(const struct descriptor *descriptor,
                                            cudnnBackendAttributeName_t name) {
    for (int i = 0; i < descriptor->count; i++) {
        if (descriptor->attribute[i].name == name) {
            return &descriptor->attribute[i];
        }
    }
    abort(); /* it was not set, and cuDNN would refuse */
}

static const struct descriptor *link_of(const struct descriptor *descriptor,
                                        cudnnBackendAttributeName_t name, int index) {
    const struct descriptor *out;
    memcpy(&out, attribute_of(descriptor, name)->bytes + (size_t)index * sizeof out, sizeof out);
    return out;
}

static int64_t number_of(const struct descriptor *descriptor, cudnnBackendAttributeName_t name,
                         int index) {
    int64_t out;
    memcpy(&out, attribute_of(descriptor, name)->bytes + (size_t)index * sizeof out, sizeof out);
    return out;
}

static bool flag_of(const struct descriptor *descriptor, cudnnBackendAttributeName_t name) {
    return attribute_of(descriptor, name)->bytes[0] != 0;
}

/* -- plans ------------------------------------------------------------------------------------ */

enum { REFUSED, LARGE, GOOD, SAME, OTHER, COMPILED, ALGORITHMS };

static const float times[ALGORITHMS] = {0, 0, 5, 3, 1, 1};

/* An algorithm's knobs: the first says once more which it is. */
enum { KNOBS = 3 };
static const struct {
    cudnnBackendKnobType_t type;
    int64_t value;
} knobs[KNOBS] = {{CUDNN_KNOB_TYPE_TILE_SIZE, 40},
                  {CUDNN_KNOB_TYPE_SPLIT_K_BUF, -1},
                  {CUDNN_KNOB_TYPE_SWAP_AB, 0}};

static int64_t knob_value(int i, int64_t algorithm) {
    return knobs[i].value + (i == 0 ? algorithm : 0);
}

static bool has(const struct descriptor *descriptor, cudnnBackendAttributeName_t name) {
    for (int i = 0; i < descriptor->count; i++) {
        if (descriptor->attribute[i].name == name) {
            return true;
        }
    }
    return false;
}

/* Of a configuration: the heuristic's have what an engine has. */
static const struct descriptor *engine_of(const struct descriptor *config) {
    return has(config, CUDNN_ATTR_ENGINECFG_ENGINE)
               ? link_of(config, CUDNN_ATTR_ENGINECFG_ENGINE, 0)
               : config;
}

static int64_t algorithm_of(const struct descriptor *config) {
    return number_of(engine_of(config), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, 0);
}

static const struct descriptor *config_of(const struct descriptor *plan) {
    return link_of(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
}

static const struct descriptor *graph_of(const struct descriptor *plan) {
    return link_of(engine_of(config_of(plan)), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, 0);
}

/* Of the caller's making: the knobs are all there, and their values the engine's. */
static bool is_whole(const struct descriptor *config) {
    if (attribute_of(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)->count != KNOBS) {
        return false;
    }
    bool whole = true;
    for (int i = 0; i < KNOBS; i++) {
        const struct descriptor *knob = link_of(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, i);
        cudnnBackendKnobType_t type;
        memcpy(&type, attribute_of(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)->bytes, sizeof type);
        whole = whole && type == knobs[i].type &&
                number_of(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, 0) ==
                    knob_value(i, algorithm_of(config));
    }
    return whole;
}

static const struct descriptor *operation_of(const struct descriptor *graph, int index) {
    return link_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, index);
}

static int64_t dim_of(const struct descriptor *tensor, int axis) {
    return number_of(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, axis);
}

static cudnnDataType_t type_of(const struct descriptor *tensor) {
    cudnnDataType_t type;
    memcpy(&type, attribute_of(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE)->bytes, sizeof type);
    return type;
}

/* What cuDNN has compiled kernels for: all sums of the result's type, between the operations f32,
 * and the one that is a number for each channel last. */
static bool sums_are_compiled(const struct descriptor *graph) {
    int64_t operations = attribute_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)->count;
    for (int i = 1; i < operations; i++) {
        const struct descriptor *sum = operation_of(graph, i);
        const struct descriptor *x = link_of(sum, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, 0);
        const struct descriptor *b = link_of(sum, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, 0);
        bool last = i + 1 == operations, bias = dim_of(b, 2) * dim_of(b, 3) * dim_of(b, 4) == 1;
        bool pixel = dim_of(x, 2) * dim_of(x, 3) * dim_of(x, 4) == 1;
        if (type_of(x) != CUDNN_DATA_FLOAT || type_of(b) != CUDNN_DATA_BFLOAT16 ||
            (bias != last && !pixel)) {
            return false;
        }
    }
    return true;
}

static bool has_plan(const struct descriptor *graph) {
    const struct descriptor *first = operation_of(graph, 0);
    if (first->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) {
        return type_of(link_of(first, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, 0)) ==
               CUDNN_DATA_BFLOAT16;
    }
    return sums_are_compiled(graph) &&
           dim_of(link_of(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, 0), 1) % 2 == 0;
}

static uint64_t plans;

uint64_t emulated_plans(void) {
    return plans;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t pointer) {
    struct descriptor *descriptor = pointer;
    bool made = true;
    descriptor->finished = true;
    if (descriptor->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        const int64_t algorithm = algorithm_of(config_of(descriptor));
        made = algorithm != REFUSED && has_plan(graph_of(descriptor));
        plans += made && algorithm != LARGE;
    } else if (descriptor->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR) {
        const int64_t number = number_of(descriptor, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, 0);
        made = number >= 0 && number < ALGORITHMS;
    } else if (descriptor->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) {
        made = is_whole(descriptor);
    }
    return made ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

/* Results of six channels are widened in a workspace, of more than two frames in more than there
 * is.
 */
static bool widens(const struct descriptor *graph) {
    const struct descriptor *first = operation_of(graph, 0);
    if (first->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) {
        return false;
    }
    const struct descriptor *y = link_of(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, 0);
    return dim_of(y, 1) == 6 && dim_of(y, 2) > 2;
}

static void put_number(struct descriptor *out, cudnnBackendAttributeName_t name, int64_t number) {
    (void)cudnnBackendSetAttribute(out, name, CUDNN_TYPE_INT64, 1, &number);
}

static void put_engine(struct descriptor *out, const struct descriptor *graph, int64_t algorithm) {
    (void)cudnnBackendSetAttribute(out, CUDNN_ATTR_ENGINE_OPERATION_GRAPH,
                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    put_number(out, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, algorithm);
}

/* What descriptors that the caller has made are filled with; how many there would be. */
static int64_t fill(const struct descriptor *from, cudnnBackendAttributeName_t name,
                    struct descriptor **out, int64_t wanted) {
    int64_t count = 0;
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        for (; count < ALGORITHMS && count < wanted; count++) {
            put_engine(out[count], link_of(from, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 0), count);
        }
        return count;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        put_engine(out[0], link_of(engine_of(from), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, 0),
                   algorithm_of(from));
        return 1;
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        for (int i = 0; i < KNOBS && i < wanted; i++) {
            (void)cudnnBackendSetAttribute(out[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                           CUDNN_TYPE_KNOB_TYPE, 1, &knobs[i].type);
            put_number(out[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE,
                       knob_value(i, algorithm_of(from)));
        }
        return KNOBS;
    default:
        return -1;
    }
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t pointer,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted,
                                       int64_t *count, void *values) {
    const struct descriptor *descriptor = pointer;
    *count = 1;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        *count = fill(descriptor, name, values, wanted);
        return *count >= 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        const bool large =
            algorithm_of(config_of(descriptor)) == LARGE || widens(graph_of(descriptor));
        *(int64_t *)values = large ? INT64_MAX : 0;
    } else if (name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) {
        *count = number_of(descriptor, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, 0) == COMPILED;
        *(cudnnBackendBehaviorNote_t *)values = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    } else {
        memcpy(values, attribute_of(descriptor, name)->bytes, size_of(type));
    }
    return CUDNN_STATUS_SUCCESS;
}

/* -- running ---------------------------------------------------------------------------------- */

#define TENSORS_MAX 8

/* By value, as a launch has it. */
struct view {
    void *data;
    enum dtype dtype;
    int64_t dim[5], stride[5];
};

/* The memory that a variant pack has for a tensor; NULL: none, as of one between operations. */
static void *data_of(const struct descriptor *tensor, const struct descriptor *variant) {
    const struct attribute *ids = attribute_of(variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    int64_t id = number_of(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    for (int i = 0; i < ids->count; i++) {
        if (number_of(variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i) == id) {
            return (void *)(uintptr_t)link_of(variant, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
        }
    }
    return NULL;
}

static struct view view_of(const struct descriptor *tensor, const struct descriptor *variant) {
    struct view out = {.data = data_of(tensor, variant)};
    out.dtype = type_of(tensor) == CUDNN_DATA_FLOAT ? DTYPE_F32 : DTYPE_BF16;
    int64_t rank = attribute_of(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS)->count;
    for (int i = 0; i < rank; i++) {
        out.dim[i] = dim_of(tensor, i);
        out.stride[i] = number_of(tensor, CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    bool inside = flag_of(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    if ((out.data == NULL) != inside || (uintptr_t)out.data % 16 != 0) {
        if (!flag_of(tensor, CUDNN_ATTR_TENSOR_IS_BY_VALUE)) {
            abort(); /* no memory for a tensor, or memory that is not aligned as was said */
        }
    }
    return out;
}

static double at(const struct view *v, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e) {
    int64_t index = a * v->stride[0] + b * v->stride[1] + c * v->stride[2] + d * v->stride[3] +
                    e * v->stride[4];
    return (double)float_load(v->data, v->dtype, index);
}

struct convolution {
    struct view x, w, y, add[2];
    bool other; /* results */
    int adds;
    int64_t stride[3], before[3];
};

static double window(const struct convolution *c, int64_t k, int64_t t, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t n = 0; n < c->w.dim[1]; n++) {
        for (int64_t a = 0; a < c->w.dim[2]; a++) {
            for (int64_t b = 0; b < c->w.dim[3]; b++) {
                for (int64_t d = 0; d < c->w.dim[4]; d++) {
                    int64_t xt = t * c->stride[0] + a - c->before[0];
                    int64_t xi = i * c->stride[1] + b - c->before[1];
                    int64_t xj = j * c->stride[2] + d - c->before[2];
                    if (xt >= 0 && xt < c->x.dim[2] && xi >= 0 && xi < c->x.dim[3] && xj >= 0 &&
                        xj < c->x.dim[4]) {
                        sum += at(&c->x, 0, n, xt, xi, xj) * at(&c->w, k, n, a, b, d);
                    }
                }
            }
        }
    }
    return sum;
}

static void run_convolution(void *context) {
    const struct convolution *c = context;
    for (int64_t t = 0; t < c->y.dim[2]; t++) {
        for (int64_t i = 0; i < c->y.dim[3]; i++) {
            for (int64_t j = 0; j < c->y.dim[4]; j++) {
                for (int64_t k = 0; k < c->y.dim[1]; k++) {
                    double sum = window(c, k, t, i, j);
                    for (int n = 0; n < c->adds; n++) {
                        const struct view *v = &c->add[n];
                        bool bias = v->dim[2] * v->dim[3] * v->dim[4] == 1;
                        sum += bias ? at(v, 0, k, 0, 0, 0) : at(v, 0, k, t, i, j);
                    }
                    int64_t index = k * c->y.stride[1] + t * c->y.stride[2] + i * c->y.stride[3] +
                                    j * c->y.stride[4];
                    float_store(c->y.data, c->y.dtype, index, (float)sum * (c->other ? 1.5f : 1));
                }
            }
        }
    }
}

static void queue_convolution(const struct descriptor *graph, const struct descriptor *variant,
                              int64_t algorithm) {
    const struct descriptor *first = operation_of(graph, 0), *last = first;
    const struct descriptor *filter =
        link_of(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, 0);
    struct convolution c = {
        .x = view_of(link_of(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, 0), variant),
        .w = view_of(link_of(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, 0), variant),
        .other = algorithm == OTHER};
    int64_t operations = attribute_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)->count;
    for (int i = 1; i < operations; i++) {
        last = operation_of(graph, i);
        c.add[c.adds++] = view_of(link_of(last, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, 0), variant);
    }
    c.y = view_of(link_of(last, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, 0), variant);
    for (int i = 0; i < 3; i++) {
        c.stride[i] = number_of(filter, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        c.before[i] = number_of(filter, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        int64_t after = number_of(filter, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
        int64_t length = c.before[i] + c.x.dim[2 + i] + after;
        if ((length - c.w.dim[2 + i]) / c.stride[i] + 1 != c.y.dim[2 + i]) {
            abort(); /* sizes that do not meet */
        }
    }
    emulated_queue(run_convolution, &c, sizeof c);
}

struct attention {
    struct view q, k, v, out;
    float scale;
};

static void run_attention(void *context) {
    const struct attention *a = context;
    double *weight = malloc((size_t)a->k.dim[2] * sizeof *weight);
    if (weight == NULL) {
        abort();
    }
    for (int64_t unit = 0; unit < a->q.dim[1] * a->q.dim[2]; unit++) {
        int64_t head = unit / a->q.dim[2], i = unit % a->q.dim[2];
        double max = -INFINITY, total = 0;
        for (int64_t j = 0; j < a->k.dim[2]; j++) {
            weight[j] = 0;
            for (int64_t e = 0; e < a->q.dim[3]; e++) {
                weight[j] += at(&a->q, 0, head, i, e, 0) * at(&a->k, 0, head, j, e, 0);
            }
            weight[j] *= (double)a->scale;
            max = fmax(max, weight[j]);
        }
        for (int64_t j = 0; j < a->k.dim[2]; j++) {
            weight[j] = exp(weight[j] - max);
            total += weight[j];
        }
        for (int64_t e = 0; e < a->q.dim[3]; e++) {
            double sum = 0;
            for (int64_t j = 0; j < a->k.dim[2]; j++) {
                sum += weight[j] * at(&a->v, 0, head, j, e, 0);
            }
            float_store(a->out.data, a->out.dtype,
                        head * a->out.stride[1] + i * a->out.stride[2] + e * a->out.stride[3],
                        (float)(sum / total));
        }
    }
    free(weight);
}

static void queue_attention(const struct descriptor *operation, const struct descriptor *variant) {
    struct attention a = {
        .q = view_of(link_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, 0), variant),
        .k = view_of(link_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, 0), variant),
        .v = view_of(link_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, 0), variant),
        .out = view_of(link_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, 0), variant)};
    const struct descriptor *scale = link_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, 0);
    if (!flag_of(scale, CUDNN_ATTR_TENSOR_IS_BY_VALUE)) {
        abort();
    }
    a.scale = *(const float *)data_of(scale, variant);
    emulated_queue(run_attention, &a, sizeof a);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant) {
    const struct descriptor *graph = graph_of(plan), *first = operation_of(graph, 0);
    (void)handle;
    if (first->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) {
        queue_attention(first, variant);
    } else {
        const int64_t algorithm = algorithm_of(config_of(plan));
        emulated_clock_add(times[algorithm]);
        queue_convolution(graph, variant, algorithm);
    }
    return CUDNN_STATUS_SUCCESS;
}
