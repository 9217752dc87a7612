/* A case of the comparison with the reference: read, run by us, measured. */
#ifndef VIDLOOM_TESTS_PARITY_PARITY_H
#define VIDLOOM_TESTS_PARITY_PARITY_H

#include "worker/model/parts.h"
#include "worker/model/weights.h"

#define PARITY_SUFFIX ".safetensors"

struct parity_result {
    double error, bound;             /* ‖ours - theirs‖ / ‖theirs‖ */
    double decibels, decibels_least; /* of a trajectory: peak signal to noise; 0: not asked for */
};

/* `folder` is the model's, `tensors` the case's. The bound may be changed. */
typedef enum error_code parity_case(struct parity_result *result, const char *folder,
                                    const struct weights *tensors, enum dtype dtype,
                                    struct error *error);

parity_case parity_text, parity_clip, parity_transformer, parity_trajectory, parity_decode,
    parity_encode;

/* A component on the CPU with room to work. */
struct parity_bench {
    struct runtime runtime;
    struct arena params, work;
};

MUST_CHECK enum error_code parity_bench_open(struct parity_bench *bench, enum dtype dtype,
                                             struct error *error);
void parity_bench_close(struct parity_bench *bench);

/* A tensor of the case, or NULL; of one that must be there, with ERR_MISSING. */
const struct tensor *parity_find(const struct weights *tensors, const char *name);
MUST_CHECK enum error_code parity_need(const struct tensor **out, const struct weights *tensors,
                                       const char *name, struct error *error);
double parity_number(const struct weights *tensors, const char *name, int index, double fallback);

/* Measure `got` against a tensor. */
void parity_measure(struct parity_result *result, const float *got, const struct tensor *expected);

#endif
