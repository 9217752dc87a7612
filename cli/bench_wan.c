#include "cli/bench_wan.h"

#include <stdlib.h>

#include "kernels/bench_peak.h"
#include "worker/model/rehearsal.h"

/* Of the transformer's 30 equal layers, so many are run; a step's time is scaled by arithmetic. */
#define LAYERS_TIMED 2
#define LAYERS       30

#define SAMPLES 3

static enum error_code run(struct rehearsal *r, struct error *error) {
    return r->vae != NULL ? rehearsal_decode(r, error) : rehearsal_steps(r, 1, error);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of GFLOP/s and of the share of the peak, which is measured before and after each run. */
static enum error_code measure(double *gflops, double *share, struct rehearsal *r,
                               enum bench_peak_kind kind, struct error *error) {
    struct bench_peak *peak = NULL;
    double rate[SAMPLES], part[SAMPLES] = {0}, before = 0, after = 0;
    bool there = bench_peak_open(&peak, kind, error) == ERR_OK;
    enum error_code code = run(r, error); /* warms up */
    if (code == ERR_OK && there)
        code = bench_peak_run(&before, peak, error);
    for (int i = 0; i < SAMPLES && code == ERR_OK; i++) {
        code = run(r, error);
        rate[i] = r->runtime.flops / (double)r->ns;
        if (code == ERR_OK && there)
            code = bench_peak_run(&after, peak, error);
        part[i] = there ? rate[i] / ((before + after) / 2) : -1;
        before = after;
    }
    bench_peak_close(&peak);
    if (code != ERR_OK)
        return code;
    qsort(rate, SAMPLES, sizeof *rate, by_value);
    qsort(part, SAMPLES, sizeof *part, by_value);
    *gflops = rate[SAMPLES / 2];
    *share = part[SAMPLES / 2];
    return ERR_OK;
}

static enum error_code bench_step(struct report *report, const struct device_config *device,
                                  enum dtype narrow, bool quick, struct error *error) {
    const struct rehearsal_config config = {.ops = ops_cpu(),
                                            .device = *device,
                                            .layers = LAYERS_TIMED,
                                            .narrow = narrow,
                                            .attention8 = narrow == DTYPE_I8,
                                            .frames = quick ? 1 : 2,
                                            .height = 60,
                                            .width = 104};
    struct rehearsal s;
    double gflops = 0, share = 0;
    enum error_code code = rehearsal_open(&s, &config, error);
    if (code == ERR_OK)
        code = measure(&gflops, &share, &s, BENCH_MATMUL, error);
    if (code == ERR_OK) {
        double whole = s.runtime.flops / LAYERS_TIMED * LAYERS; /* the ends' are less than 1 % */
        struct report_row *row =
            report_add(report, whole / gflops * 1e-9, "s",
                       "Wan2.1 1.3B, a step of %lld tokens, %s (%d of %d layers timed)",
                       (long long)(s.frames * s.height * s.width / 4),
                       narrow == DTYPE_I8 ? "int8, attention too" : "bf16", LAYERS_TIMED, LAYERS);
        if (row) {
            row->lower_better = true;
            row->share = share;
        }
    }
    rehearsal_close(&s);
    return code;
}

static enum error_code bench_decode(struct report *report, const struct device_config *device,
                                    bool quick, struct error *error) {
    int64_t side = quick ? 8 : 16;
    const struct rehearsal_config config = {.ops = ops_cpu(),
                                            .device = *device,
                                            .decoder = true,
                                            .frames = 3,
                                            .height = side,
                                            .width = side};
    struct rehearsal s;
    double gflops = 0, share = 0;
    enum error_code code = rehearsal_open(&s, &config, error);
    if (code == ERR_OK)
        code = measure(&gflops, &share, &s, BENCH_CONV, error);
    if (code == ERR_OK) {
        struct report_row *row =
            report_add(report, (double)s.voxels * gflops / s.runtime.flops * 1e6, "kvoxels/s",
                       "Wan2.1 VAE, decode 9 frames of %lldx%lld, bf16", (long long)side * 8,
                       (long long)side * 8);
        if (row)
            row->share = share;
    }
    rehearsal_close(&s);
    return code;
}

enum error_code bench_wan(struct report *report, const struct device_config *device, bool quick,
                          struct error *error) {
    enum error_code code = bench_step(report, device, DTYPE_F32, quick, error);
    if (code == ERR_OK)
        code = bench_step(report, device, DTYPE_I8, quick, error);
    return code == ERR_OK ? bench_decode(report, device, quick, error) : code;
}
