#include "kernels/cuda/cudnn_graph.h"

void graph_plan_free(struct graph_plan *plan) {
    while (plan->count > 0) {
        (void)cudnnBackendDestroyDescriptor(plan->kept[--plan->count]);
    }
    plan->execution = NULL;
}

cudnnBackendDescriptor_t graph_make(struct graph_builder *builder,
                                    cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t out = NULL;
    struct graph_plan *plan = builder->plan;
    builder->ok = builder->ok && plan->count < GRAPH_DESCRIPTORS_MAX &&
                  cudnnBackendCreateDescriptor(type, &out) == CUDNN_STATUS_SUCCESS;
    if (builder->ok) {
        plan->kept[plan->count++] = out;
    }
    return out;
}

void graph_put(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor,
               cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
               const void *values) {
    builder->ok = builder->ok && cudnnBackendSetAttribute(descriptor, name, type, count, values) ==
                                     CUDNN_STATUS_SUCCESS;
}

void graph_link(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t other) {
    graph_put(builder, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

void graph_finish(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor) {
    builder->ok = builder->ok && cudnnBackendFinalize(descriptor) == CUDNN_STATUS_SUCCESS;
}

cudnnBackendDescriptor_t graph_tensor(struct graph_builder *builder, int64_t id,
                                      cudnnDataType_t type, int rank, const int64_t *dim,
                                      const int64_t *stride, enum graph_place place) {
    const int64_t alignment = 16;
    const bool is_virtual = place == GRAPH_VIRTUAL, by_value = place == GRAPH_BY_VALUE;
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, rank, dim);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, rank, stride);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    graph_put(builder, out, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    graph_finish(builder, out);
    return out;
}
