#include "kernels/bench_peak.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "kernels/cpu/onednn.h"

#define CALLS 3

struct bench_peak {
    struct onednn *onednn;
    double flops;
};

static enum error_code open_kind(struct bench_peak *peak, enum bench_peak_kind kind,
                                 struct error *error) {
    if (kind == BENCH_MATMUL) {
        peak->flops = 2.0 * 4096 * 8960 * 1536;
        return onednn_matmul(&peak->onednn, 4096, 8960, 1536, DTYPE_BF16, error);
    }
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, 96, 96};
    peak->flops = 2.0 * 27 * 96 * 96 * 4 * 128 * 128;
    return onednn_conv(&peak->onednn, &shape, 4 + 2, 128, 128, DTYPE_BF16, true, error);
}

enum error_code bench_peak_open(struct bench_peak **out, enum bench_peak_kind kind,
                                struct error *error) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return error_set(error, ERR_MEMORY, "no memory to measure the machine");
    }
    enum error_code code = open_kind(*out, kind, error);
    if (code != ERR_OK) {
        bench_peak_close(out);
    }
    return code;
}

void bench_peak_close(struct bench_peak **peak) {
    if (*peak != NULL) {
        onednn_close(&(*peak)->onednn);
        free(*peak);
        *peak = NULL;
    }
}

enum error_code bench_peak_run(double *gflops, struct bench_peak *peak, struct error *error) {
    enum error_code code = onednn_run(peak->onednn, error); /* warms up */
    int64_t before = clock_monotonic_ns();
    for (int i = 0; i < CALLS && code == ERR_OK; i++) {
        code = onednn_run(peak->onednn, error);
    }
    *gflops = peak->flops * CALLS / (double)(clock_monotonic_ns() - before);
    /* OpenMP's threads spin for a while after their work: let them fall asleep. */
    nanosleep(&(struct timespec){.tv_nsec = 20 * CLOCK_MS}, NULL);
    return code;
}
