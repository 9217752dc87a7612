/* cuDNN's graphs, as plain C builds them through the backend API: descriptors are made, given their
 * attributes and finished, one after another; the first failure sticks. cuDNN is called from
 * cudnn_graph.c, cudnn_plan.c and the two files that describe graphs, convolve.c and
 * attention_cudnn.c. */
#ifndef VIDLOOM_KERNELS_CUDA_CUDNN_GRAPH_H
#define VIDLOOM_KERNELS_CUDA_CUDNN_GRAPH_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAPH_DESCRIPTORS_MAX 36 /* of a graph, its heuristic and the configurations tried */

/* A graph that can be run. */
struct graph_plan {
    cudnnBackendDescriptor_t kept[GRAPH_DESCRIPTORS_MAX]; /* in order of making */
    int count;
    cudnnBackendDescriptor_t execution; /* one of them; NULL: cuDNN has nothing for this graph */
};

void graph_plan_free(struct graph_plan *plan);

struct graph_builder {
    struct graph_plan *plan;
    bool ok;
};

cudnnBackendDescriptor_t graph_make(struct graph_builder *builder,
                                    cudnnBackendDescriptorType_t type);
void graph_put(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor,
               cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
               const void *values);
/* An attribute that is one other descriptor. */
void graph_link(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t other);
void graph_finish(struct graph_builder *builder, cudnnBackendDescriptor_t descriptor);

enum graph_place {
    GRAPH_IN_MEMORY, /* on the card, aligned to 16 bytes */
    GRAPH_VIRTUAL,   /* between operations of one kernel */
    GRAPH_BY_VALUE   /* on the host, read when the graph is run */
};
cudnnBackendDescriptor_t graph_tensor(struct graph_builder *builder, int64_t id,
                                      cudnnDataType_t type, int rank, const int64_t *dim,
                                      const int64_t *stride, enum graph_place place);

/* -- cudnn_plan.c -------------------------------------------------------------------------------
 */
/* The first plan for these operations, by the heuristics' order of expected speed, that makes do
 * with `workspace` bytes. Sets plan->execution. */
void graph_choose(struct graph_builder *builder, cudnnHandle_t handle,
                  const cudnnBackendDescriptor_t *operations, int64_t count, size_t workspace);

/* Queue it on the handle's stream. */
cudnnStatus_t graph_run(const struct graph_plan *plan, cudnnHandle_t handle, const int64_t *ids,
                        const void *const *data, int64_t count, void *workspace);

/* -- convolve.c ---------------------------------------------------------------------------------
 */
struct device;
cudnnHandle_t convolve_handle(struct device *device);

#endif
