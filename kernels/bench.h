/* Speed of the matrix products, measured beside oneDNN alone on the same shapes in the same run, so
 * that the share holds on a machine that others use too. */
#ifndef VIDLOOM_KERNELS_BENCH_H
#define VIDLOOM_KERNELS_BENCH_H

#include "kernels/ops.h"

#define BENCH_ROWS_MAX 96

struct bench_row {
    const char *name;  /* "linear", "conv", "attention": ours; "onednn matmul", "onednn conv" */
    char shape[64];    /* "4096x8960x1536"; "16-3 3x3x3 4x96x160" */
    const char *dtype; /* "F32", "BF16", "U8", "I8" */
    double seconds;    /* median of one call */
    double gflops;     /* a multiply-add is 2; convolutions at full kernel */
    double reference;  /* GFLOP/s it is compared with: oneDNN on this shape (for int8 weights, in
                          bf16), or, for attention, oneDNN's matrix product 4096x8960x1536 of this
                          type; 0: not to be had */
    double share;      /* of it, the median of pairs; 0: no reference */
};

struct bench_config {
    int threads;    /* of ours; oneDNN takes what OpenMP gives it. 0: one a core */
    double seconds; /* to spend on one measurement, about; 0: 0.5 */
    bool quick;     /* leave out the large shapes: a few seconds in all */
};

/* Fill rows[0..*count). Errors: ERR_MEMORY. */
MUST_CHECK enum error_code bench_run(struct bench_row rows[BENCH_ROWS_MAX], int *count,
                                     const struct bench_config *config, struct error *error);

#endif
