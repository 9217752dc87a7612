/* A graph's plan: which of cuDNN's kernels runs it, and running it.
 *
 * An algorithm in words: the engine's number (from 1) and how many knobs there are; then two knobs
 * a word, each as its type in eight bits and its value, which may be negative, in twenty-four. */
#include "kernels/cuda/cudnn_graph.h"

#include <string.h>

#define CONFIGS_MAX   8  /* of one heuristic, of which the first plan is made */
#define PROPOSALS_MAX 48 /* that are looked at; an H100 has up to 36 for a convolution */
#define KNOBS_MAX     (2 * (TUNING_WORDS - 1))
#define VALUE_BITS    24
#define VALUE_MASK    ((1U << VALUE_BITS) - 1)
#define VALUE_MAX     ((1 << (VALUE_BITS - 1)) - 1) /* the least is one further from 0 */

static int64_t get(cudnnBackendDescriptor_t from, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t most, void *out) {
    int64_t count = 0;
    return cudnnBackendGetAttribute(from, name, type, most, &count, out) == CUDNN_STATUS_SUCCESS
               ? count
               : -1;
}

/* What was made since there were `count`. */
static void give_back(struct graph_plan *plan, int count) {
    while (plan->count > count) {
        (void)cudnnBackendDestroyDescriptor(plan->kept[--plan->count]);
    }
}

cudnnBackendDescriptor_t graph_of(struct graph_builder *builder, const struct graph_card *card,
                                  const cudnnBackendDescriptor_t *operations, int64_t count) {
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph_put(builder, out, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
              operations);
    if (card->handle != NULL) {
        graph_put(builder, out, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1,
                  &card->handle);
    }
    graph_finish(builder, out);
    return out;
}

/* A plan of this configuration that makes do with the workspace; NULL: none. */
static cudnnBackendDescriptor_t execution(struct graph_builder *builder,
                                          const struct graph_card *card,
                                          cudnnBackendDescriptor_t config, size_t workspace) {
    int64_t bytes = 0;
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    graph_link(builder, out, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (card->handle != NULL) {
        graph_put(builder, out, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                  &card->handle);
    } else {
        graph_link(builder, out, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, card->properties);
    }
    graph_finish(builder, out);
    bool fits =
        builder->ok &&
        get(out, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes) == 1 &&
        bytes <= (int64_t)workspace;
    return fits ? out : NULL;
}

/* -- algorithms in words ----------------------------------------------------------------------- */

static cudnnBackendDescriptor_t engine_of(struct graph_builder *builder,
                                          cudnnBackendDescriptor_t config) {
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    builder->ok = builder->ok && get(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &out) == 1;
    return out;
}

static bool put_knob(struct tuning_algorithm *out, int64_t i, cudnnBackendDescriptor_t knob) {
    cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
    int64_t value = -1;
    if (get(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type) != 1 ||
        get(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value) != 1 ||
        (int)type < 0 || (int)type > 255 || value < -VALUE_MAX - 1 || value > VALUE_MAX) {
        return false;
    }
    const uint32_t both = (uint32_t)type << VALUE_BITS | ((uint32_t)value & VALUE_MASK);
    out->word[1 + i / 2] |= (uint64_t)both << 32 * (i % 2);
    return true;
}

/* Zeros: it cannot be written down. */
static struct tuning_algorithm words_of(cudnnBackendDescriptor_t config) {
    struct graph_plan own = {0};
    struct graph_builder builder = {&own, true};
    struct tuning_algorithm out = {{0}};
    cudnnBackendDescriptor_t engine = engine_of(&builder, config), knobs[KNOBS_MAX + 1];
    int64_t number = -1, count = -1;
    for (int i = 0; i <= KNOBS_MAX; i++) {
        knobs[i] = graph_make(&builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    }
    if (builder.ok) {
        (void)get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number);
        count = get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                    KNOBS_MAX + 1, knobs);
    }
    bool good = number >= 0 && number < INT32_MAX && count >= 0 && count <= KNOBS_MAX;
    out.word[0] = ((uint64_t)number + 1) << 32 | (uint64_t)count;
    for (int64_t i = 0; i < count && good; i++) {
        good = put_knob(&out, i, knobs[i]);
    }
    graph_plan_free(&own);
    return good ? out : (struct tuning_algorithm){{0}};
}

static cudnnBackendDescriptor_t knob_of(struct graph_builder *builder,
                                        const struct tuning_algorithm *algorithm, int i) {
    const uint32_t both = (uint32_t)(algorithm->word[1 + i / 2] >> 32 * (i % 2));
    const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)(both >> VALUE_BITS);
    const int64_t bits = both & VALUE_MASK, value = bits > VALUE_MAX ? bits - VALUE_MASK - 1 : bits;
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    graph_put(builder, out, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    graph_put(builder, out, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
    graph_finish(builder, out);
    return out;
}

static cudnnBackendDescriptor_t config_of(struct graph_builder *builder,
                                          const struct graph_card *card,
                                          cudnnBackendDescriptor_t graph,
                                          const struct tuning_algorithm *algorithm) {
    const int64_t number = (int64_t)(algorithm->word[0] >> 32) - 1;
    const int64_t count = (int64_t)(algorithm->word[0] & UINT32_MAX);
    cudnnBackendDescriptor_t knobs[KNOBS_MAX];
    builder->ok = builder->ok && number >= 0 && count <= KNOBS_MAX;
    cudnnBackendDescriptor_t engine = graph_make(builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    graph_link(builder, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    graph_put(builder, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number);
    if (card->handle == NULL) {
        graph_link(builder, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, card->properties);
    }
    graph_finish(builder, engine);
    for (int i = 0; builder->ok && i < count; i++) {
        knobs[i] = knob_of(builder, algorithm, i);
    }
    cudnnBackendDescriptor_t out = graph_make(builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    graph_link(builder, out, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (count > 0) {
        graph_put(builder, out, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                  count, knobs);
    }
    graph_finish(builder, out);
    return out;
}

bool graph_make_plan(struct graph_builder *builder, const struct graph_card *card,
                     cudnnBackendDescriptor_t graph, size_t workspace,
                     const struct tuning_algorithm *algorithm) {
    struct graph_builder own = {builder->plan, builder->ok};
    const int start = builder->plan->count;
    cudnnBackendDescriptor_t config = config_of(&own, card, graph, algorithm);
    cudnnBackendDescriptor_t made = execution(&own, card, config, workspace);
    if (made == NULL) {
        give_back(builder->plan, start);
        return false;
    }
    builder->plan->execution = made;
    return true;
}

/* -- a heuristic's proposals --------------------------------------------------------------------
 */

/* Of one heuristic, in its order; how many. */
static int64_t configs_of(struct graph_builder *builder, const struct graph_card *card,
                          cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                          cudnnBackendDescriptor_t *configs, int most) {
    cudnnBackendDescriptor_t order = graph_make(builder, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    graph_link(builder, order, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    graph_put(builder, order, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (card->handle == NULL) {
        graph_link(builder, order, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, card->properties);
    }
    graph_finish(builder, order);
    for (int i = 0; i < most; i++) {
        configs[i] = graph_make(builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    }
    const int64_t count = builder->ok ? get(order, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, most, configs)
                                      : 0;
    return count < most ? count : most;
}

void graph_choose(struct graph_builder *builder, const struct graph_card *card,
                  cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode, size_t workspace,
                  struct tuning_algorithm *chosen) {
    struct graph_plan *plan = builder->plan;
    struct graph_builder own = {plan, builder->ok};
    const int start = plan->count;
    cudnnBackendDescriptor_t configs[CONFIGS_MAX] = {0};
    if (chosen != NULL) {
        memset(chosen, 0, sizeof *chosen);
    }
    const int64_t count = configs_of(&own, card, graph, mode, configs, CONFIGS_MAX);
    for (int64_t i = 0; i < count && plan->execution == NULL; i++) {
        own.ok = true;
        plan->execution = execution(&own, card, configs[i], workspace);
        if (plan->execution != NULL && chosen != NULL) {
            *chosen = words_of(configs[i]);
        }
    }
    if (plan->execution == NULL) { /* it was made in vain */
        give_back(plan, start);
    }
}

static bool runs_a_compiler(cudnnBackendDescriptor_t config) {
    struct graph_plan own = {0};
    struct graph_builder builder = {&own, true};
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = engine_of(&builder, config);
    const int64_t count = builder.ok
                              ? get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                    CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, notes)
                              : -1;
    bool out = count < 0; /* who knows */
    for (int64_t i = 0; i < count && i < CUDNN_BEHAVIOR_NOTE_TYPE_COUNT; i++) {
        out = out || notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    }
    graph_plan_free(&own);
    return out;
}

int graph_propose(const struct graph_card *card, cudnnBackendDescriptor_t graph,
                  struct tuning_algorithm *out, int most) {
    struct graph_plan own = {0};
    struct graph_builder builder = {&own, true};
    cudnnBackendDescriptor_t configs[PROPOSALS_MAX];
    const int64_t count =
        configs_of(&builder, card, graph, CUDNN_HEUR_MODE_A, configs, PROPOSALS_MAX);
    int found = 0;
    for (int64_t i = 0; i < count && found < most; i++) {
        if (!runs_a_compiler(configs[i])) {
            out[found] = words_of(configs[i]);
            found += out[found].word[0] != 0;
        }
    }
    graph_plan_free(&own);
    return found;
}

/* -- running ----------------------------------------------------------------------------------- */

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
