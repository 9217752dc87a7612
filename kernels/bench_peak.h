/* What this machine reaches at most: oneDNN alone on one large matrix product and on one large
 * convolution, measured in turns with what is compared with it. */
#ifndef VIDLOOM_KERNELS_BENCH_PEAK_H
#define VIDLOOM_KERNELS_BENCH_PEAK_H

#include "base/error.h"
#include "kernels/tensor.h"

struct bench_peak;

enum bench_peak_kind {
    BENCH_MATMUL, /* 4096x8960x1536 bf16 */
    BENCH_CONV,   /* 96-96 3x3x3 over 4x128x128 bf16, channels last */
};

/* ERR_UNSUPPORTED: built without oneDNN, or it cannot do it. */
MUST_CHECK enum error_code bench_peak_open(struct bench_peak **out, enum bench_peak_kind kind,
                                           struct error *error);
void bench_peak_close(struct bench_peak **peak);
/* GFLOP/s of some calls now: about a second. */
MUST_CHECK enum error_code bench_peak_run(double *gflops, struct bench_peak *peak,
                                          struct error *error);

#endif
