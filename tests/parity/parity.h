/* A case of the comparison with the reference: read, run by us, measured. */
#ifndef VIDLOOM_TESTS_PARITY_PARITY_H
#define VIDLOOM_TESTS_PARITY_PARITY_H

#include "tests/worker/model/test_table.h"
#include "worker/model/parts.h"
#include "worker/model/weights.h"

#define PARITY_SUFFIX ".safetensors"

struct parity_result {
    double error, bound;             /* ‖ours - theirs‖ / ‖theirs‖ */
    double decibels, decibels_least; /* of a trajectory: peak signal to noise; 0: not asked for */
};

/* What a case is given. */
struct parity_given {
    const char *table;             /* to run on: "cpu", "cuda:0" */
    const char *folder;            /* the model's */
    const struct weights *tensors; /* the case's */
    enum dtype dtype;
};

/* The result's bound may be changed. */
typedef enum error_code parity_case(struct parity_result *result, const struct parity_given *given,
                                    struct error *error);

parity_case parity_text, parity_clip, parity_transformer, parity_trajectory, parity_decode,
    parity_encode;

/* A component on a device with room to work. */
struct parity_bench {
    struct runtime runtime;
    struct arena params, work;
};

MUST_CHECK enum error_code parity_bench_open(struct parity_bench *bench,
                                             const struct parity_given *given, struct error *error);
void parity_bench_close(struct parity_bench *bench);

/* A tensor of the case, or NULL; of one that must be there, with ERR_MISSING. */
const struct tensor *parity_find(const struct weights *tensors, const char *name);
MUST_CHECK enum error_code parity_need(const struct tensor **out, const struct weights *tensors,
                                       const char *name, struct error *error);
double parity_number(const struct weights *tensors, const char *name, int index, double fallback);

/* Measure `got` against a tensor; of floats that are in the bench's memory. */
void parity_measure(struct parity_result *result, const float *got, const struct tensor *expected);
void parity_measure_there(struct parity_result *result, const struct parity_bench *bench,
                          const float *there, const struct tensor *expected);

#endif
