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

#include "kernels/cuda/tuning.h"

#define GRAPH_DESCRIPTORS_MAX 80 /* of a graph, its heuristic and the configurations tried */

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
/* The card that plans are for. */
struct graph_card {
    cudnnHandle_t handle;                /* NULL: it is not there, and nothing is run; then */
    cudnnBackendDescriptor_t properties; /* are what is known of it */
};

/* Operations, as one graph. */
cudnnBackendDescriptor_t graph_of(struct graph_builder *builder, const struct graph_card *card,
                                  const cudnnBackendDescriptor_t *operations, int64_t count);

/* The first plan for it, by a heuristic's order of expected speed, that makes do with `workspace`
 * bytes: sets plan->execution, where there is one. The heuristics: CUDNN_HEUR_MODE_A, and
 * CUDNN_HEUR_MODE_FALLBACK, for what nothing else can do; a convolution takes it tens of times as
 * long. An algorithm of cuDNN's is an engine and the values of its knobs; *chosen is the plan's,
 * where it is asked for; zeros: it cannot be written down. */
void graph_choose(struct graph_builder *builder, const struct graph_card *card,
                  cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode, size_t workspace,
                  struct tuning_algorithm *chosen);
/* What mode A proposes, in that order, at most `most`, but for what a compiler would make at
 * run time; how many. */
int graph_propose(const struct graph_card *card, cudnnBackendDescriptor_t graph,
                  struct tuning_algorithm *out, int most);
/* The plan of an algorithm: sets plan->execution; false: there is none, or it wants more memory. */
bool graph_make_plan(struct graph_builder *builder, const struct graph_card *card,
                     cudnnBackendDescriptor_t graph, size_t workspace,
                     const struct tuning_algorithm *algorithm);

/* Queue it on the handle's stream. */
cudnnStatus_t graph_run(const struct graph_plan *plan, cudnnHandle_t handle, const int64_t *ids,
                        const void *const *data, int64_t count, void *workspace);

/* -- convolve.c ---------------------------------------------------------------------------------
 */
struct conv;
struct conv_args;
struct conv_shape;
struct device;
const struct graph_card *convolve_card(struct device *device);
/* Queue a convolution by a plan of its graph. */
cudnnStatus_t convolve_by(struct device *device, const struct graph_plan *plan,
                          const struct conv *conv, const struct conv_args *args);

/* -- convolve_trial.c ---------------------------------------------------------------------------
 */
/* The fastest of the algorithms whose bits are the first one's, for a graph of convolve.c's; of the
 * args the sizes count, and whether there is a residual. 0 where the first takes so little time
 * that nothing can be gained; -1: they were not measured, because there is no memory to do it in,
 * or operations are being recorded. Waits. */
int convolve_fastest(struct device *device, cudnnBackendDescriptor_t graph,
                     const struct conv_shape *shape, const struct conv_args *args,
                     const struct tuning_algorithm *algorithms, int count);

#endif
