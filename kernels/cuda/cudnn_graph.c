#include "kernels/cuda/cudnn_graph.h"

#define CONFIGS_MAX 8 /* tried of one heuristic */

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

/* A plan of this configuration that makes do with the workspace; NULL: none. */
static cudnnBackendDescriptor_t execution(struct graph_plan *plan, cudnnHandle_t handle,
                                          cudnnBackendDescriptor_t config, size_t workspace) {
    struct graph_builder builder = {plan, true};
    int64_t bytes = 0, count = 0;
    cudnnBackendDescriptor_t out = graph_make(&builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    graph_put(&builder, out, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    graph_link(&builder, out, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    graph_finish(&builder, out);
    bool fits =
        builder.ok &&
        cudnnBackendGetAttribute(out, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                 &count, &bytes) == CUDNN_STATUS_SUCCESS &&
        bytes <= (int64_t)workspace;
    return fits ? out : NULL;
}

/* By one heuristic. What was made in vain is given back. */
static void choose(struct graph_plan *plan, cudnnHandle_t handle,
                   cudnnBackendDescriptor_t operations, cudnnBackendHeurMode_t mode,
                   size_t workspace) {
    struct graph_builder builder = {plan, true};
    const int start = plan->count;
    cudnnBackendDescriptor_t configs[CONFIGS_MAX] = {0};
    int64_t count = 0;
    cudnnBackendDescriptor_t order = graph_make(&builder, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    graph_link(&builder, order, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations);
    graph_put(&builder, order, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    graph_finish(&builder, order);
    for (int i = 0; i < CONFIGS_MAX; i++) {
        configs[i] = graph_make(&builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    }
    builder.ok = builder.ok && cudnnBackendGetAttribute(order, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX,
                                                        &count, configs) == CUDNN_STATUS_SUCCESS;
    for (int i = 0; builder.ok && i < count && plan->execution == NULL; i++) {
        plan->execution = execution(plan, handle, configs[i], workspace);
    }
    while (plan->execution == NULL && plan->count > start) {
        (void)cudnnBackendDestroyDescriptor(plan->kept[--plan->count]);
    }
}

void graph_choose(struct graph_builder *builder, cudnnHandle_t handle,
                  const cudnnBackendDescriptor_t *operations, int64_t count, size_t workspace) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    cudnnBackendDescriptor_t set = graph_make(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph_put(builder, set, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
              operations);
    graph_put(builder, set, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    graph_finish(builder, set);
    struct graph_plan *plan = builder->plan;
    for (size_t i = 0; builder->ok && plan->execution == NULL && i < sizeof modes / sizeof *modes;
         i++) {
        choose(plan, handle, set, modes[i], workspace);
    }
}

cudnnStatus_t graph_run(const struct graph_plan *plan, cudnnHandle_t handle, const int64_t *ids,
                        const void *const *data, int64_t count, void *workspace) {
    cudnnBackendDescriptor_t variant = NULL;
    struct graph_builder builder = {NULL, true};
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &variant);
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    graph_put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
              data);
    graph_put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    graph_put(&builder, variant, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
              &workspace);
    graph_finish(&builder, variant);
    status =
        builder.ok ? cudnnBackendExecute(handle, plan->execution, variant) : CUDNN_STATUS_BAD_PARAM;
    (void)cudnnBackendDestroyDescriptor(variant);
    return status;
}
