/* softmax(scale · q kᵀ) v by cuDNN's fused attention: what ours is compared with, where a caller
 * asks for it (attention_args.library). bf16 and f16, no bias; cuDNN 9.13.1 or newer.
 *
 * Tensors are described in cuDNN's order, batch, heads, tokens, elements; any distance between
 * tokens will do. A plan belongs to the lengths and distances: made when first met, kept. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/cudnn_graph.h"

#define VERSION_LEAST 91301
#define PLANS_MAX     16

enum tensor_id { ID_Q = 1, ID_K, ID_V, ID_OUT, ID_SCALE };

/* What a plan depends on: no padding. */
struct attention_shape {
    int64_t q_length, k_length, heads, head_dim, dtype;
    int64_t q_stride, k_stride, v_stride, out_stride;
};

struct attention_plan {
    struct attention_plan *next;
    struct attention_shape shape;
    struct graph_plan graph;
};

struct attention_plans {
    struct attention_plan *first;
    int count;
};

static void forget(struct attention_plans *plans) {
    while (plans->first != NULL) {
        struct attention_plan *plan = plans->first;
        plans->first = plan->next;
        graph_plan_free(&plan->graph);
        free(plan);
    }
    plans->count = 0;
}

void attention_cudnn_close(struct device *device) {
    if (device->attention_plans != NULL) {
        forget(device->attention_plans);
        free(device->attention_plans);
        device->attention_plans = NULL;
    }
}

static void describe(struct graph_builder *builder, const struct graph_card *card,
                     const struct attention_shape *s) {
    const cudnnDataType_t type = s->dtype == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    const int64_t queries[] = {1, s->heads, s->q_length, s->head_dim};
    const int64_t keys[] = {1, s->heads, s->k_length, s->head_dim}, one[] = {1, 1, 1, 1};
    const struct {
        int64_t id, length, stride;
        const int64_t *dim;
        cudnnBackendAttributeName_t name;
    } tensors[] = {
        {ID_Q, s->q_length, s->q_stride, queries, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC},
        {ID_K, s->k_length, s->k_stride, keys, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC},
        {ID_V, s->k_length, s->v_stride, keys, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC},
        {ID_OUT, s->q_length, s->out_stride, queries, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC}};
    cudnnBackendDescriptor_t made[4];
    for (int i = 0; i < 4; i++) {
        const int64_t stride[] = {tensors[i].length * tensors[i].stride, s->head_dim,
                                  tensors[i].stride, 1};
        made[i] =
            graph_tensor(builder, tensors[i].id, type, 4, tensors[i].dim, stride, GRAPH_IN_MEMORY);
    }
    cudnnBackendDescriptor_t scale =
        graph_tensor(builder, ID_SCALE, CUDNN_DATA_FLOAT, 4, one, one, GRAPH_BY_VALUE);
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    for (int i = 0; i < 4; i++) {
        graph_link(builder, out, tensors[i].name, made[i]);
    }
    graph_link(builder, out, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    graph_finish(builder, out);
    cudnnBackendDescriptor_t graph = graph_of(builder, card, &out, 1);
    graph_choose(builder, card, graph, CUDNN_HEUR_MODE_A, WORKSPACE_BYTES, NULL);
    if (builder->plan->execution == NULL) {
        graph_choose(builder, card, graph, CUDNN_HEUR_MODE_FALLBACK, WORKSPACE_BYTES, NULL);
    }
}

static struct attention_plan *plan_of(struct device *device, const struct attention_shape *shape) {
    if (device->attention_plans == NULL) {
        device->attention_plans = calloc(1, sizeof *device->attention_plans);
    }
    struct attention_plans *plans = device->attention_plans;
    if (plans == NULL) {
        return NULL;
    }
    for (struct attention_plan *plan = plans->first; plan != NULL; plan = plan->next) {
        if (memcmp(&plan->shape, shape, sizeof *shape) == 0) {
            return plan;
        }
    }
    if (plans->count == PLANS_MAX) {
        (void)cudaStreamSynchronize(device->stream);
        forget(plans);
    }
    struct attention_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    plan->shape = *shape;
    struct graph_builder builder = {&plan->graph, true};
    describe(&builder, convolve_card(device), shape);
    plan->next = plans->first;
    plans->first = plan;
    plans->count++;
    return plan;
}

/* NULL: cuDNN has none. */
static const struct attention_plan *plan_for(struct device *device,
                                             const struct attention_args *args) {
    const struct attention_shape shape = {args->q_length, args->k_length,       args->heads,
                                          args->head_dim, (int64_t)args->dtype, args->q_stride,
                                          args->k_stride, args->v_stride,       args->out_stride};
    uintptr_t bits =
        (uintptr_t)args->q | (uintptr_t)args->k | (uintptr_t)args->v | (uintptr_t)args->out;
    int64_t strides = args->q_stride | args->k_stride | args->v_stride | args->out_stride;
    if (!args->library || args->key_bias != NULL || args->bias != NULL ||
        (args->dtype != DTYPE_BF16 && args->dtype != DTYPE_F16) || bits % 16 != 0 ||
        strides % 8 != 0 || args->head_dim % 8 != 0 || cudnnGetVersion() < VERSION_LEAST) {
        return NULL;
    }
    const struct attention_plan *plan = plan_of(device, &shape);
    return plan != NULL && plan->graph.execution != NULL ? plan : NULL;
}

bool attention_cudnn_suits(struct device *device, const struct attention_args *args) {
    return device_ready(device) && plan_for(device, args) != NULL;
}

bool attention_cudnn(struct device *device, const struct attention_args *args) {
    const struct attention_plan *plan = plan_for(device, args);
    if (plan == NULL) {
        return false;
    }
    const int64_t ids[] = {ID_Q, ID_K, ID_V, ID_OUT, ID_SCALE};
    const void *const data[] = {args->q, args->k, args->v, args->out, &args->scale};
    cudnnStatus_t status =
        graph_run(&plan->graph, convolve_card(device)->handle, ids, data, 5, device->workspace);
    if (status != CUDNN_STATUS_SUCCESS) {
        device_fail(device, ERR_DEVICE, "cuDNN, attention of %d heads of %d: %s", args->heads,
                    args->head_dim, cudnnGetErrorString(status));
    }
    return true;
}
