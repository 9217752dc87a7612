#include <math.h>
#include <string.h>

#include "tests/parity/parity.h"

#define ROOM ((size_t)16 << 30) /* address space */

enum error_code parity_bench_open(struct parity_bench *bench, enum dtype dtype,
                                  struct error *error) {
    memset(bench, 0, sizeof *bench);
    bench->runtime = (struct runtime){
        .ops = ops_cpu(), .dtype = dtype, .params = &bench->params, .work = &bench->work};
    const struct device_config config = {0};
    enum error_code code = bench->runtime.ops->device_open(&bench->runtime.device, &config, error);
    if (code == ERR_OK)
        code = arena_open(&bench->params, ROOM, error);
    if (code == ERR_OK)
        code = arena_open(&bench->work, ROOM, error);
    return code;
}

void parity_bench_close(struct parity_bench *bench) {
    if (bench->runtime.device != NULL)
        bench->runtime.ops->device_close(&bench->runtime.device);
    arena_close(&bench->params);
    arena_close(&bench->work);
}

const struct tensor *parity_find(const struct weights *tensors, const char *name) {
    return weights_find(tensors, name);
}

enum error_code parity_need(const struct tensor **out, const struct weights *tensors,
                            const char *name, struct error *error) {
    *out = weights_find(tensors, name);
    return *out != NULL ? ERR_OK : error_set(error, ERR_MISSING, "the case has no '%s'", name);
}

double parity_number(const struct weights *tensors, const char *name, int index, double fallback) {
    const struct tensor *tensor = weights_find(tensors, name);
    if (tensor == NULL || index >= tensor_elements(tensor))
        return fallback;
    if (tensor->dtype == DTYPE_I32)
        return ((const int32_t *)tensor->data)[index];
    return (double)((const float *)tensor->data)[index];
}

void parity_measure(struct parity_result *result, const float *got, const struct tensor *expected) {
    const float *want = expected->data;
    int64_t count = tensor_elements(expected);
    double difference = 0, size = 0, low = (double)want[0], high = low;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)got[i] - (double)want[i];
        difference += d * d;
        size += (double)want[i] * (double)want[i];
        low = fmin(low, (double)want[i]);
        high = fmax(high, (double)want[i]);
    }
    result->error = isfinite(difference) ? sqrt(difference / (size > 0 ? size : 1)) : INFINITY;
    if (result->decibels_least > 0) {
        double mean = difference / (double)count;
        result->decibels =
            isfinite(mean) ? 10 * log10((high - low) * (high - low) / (mean + 1e-30)) : -INFINITY;
    }
}
