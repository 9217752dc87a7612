/* A graph's plan: which of cuDNN's kernels runs it, and running it. */
#include "kernels/cuda/cudnn_graph.h"

#define CONFIGS_MAX 8 /* tried of one heuristic */

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
    for (int i = 0; builder.ok && i < count && i < CONFIGS_MAX && plan->execution == NULL; i++) {
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
