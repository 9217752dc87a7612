#include <math.h>
#include <stdlib.h>

#include "tests/parity/parity.h"

enum error_code parity_bench_open(struct parity_bench *bench, const struct parity_given *given,
                                  struct error *error) {
    return table_open(&bench->runtime, &bench->params, &bench->work, given->table, 0, given->dtype,
                      error);
}

void parity_bench_close(struct parity_bench *bench) {
    table_close(&bench->runtime);
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

void parity_measure_there(struct parity_result *result, const struct parity_bench *bench,
                          const float *there, const struct tensor *expected) {
    float *got = table_get(&bench->runtime, there, tensor_elements(expected), DTYPE_F32);
    parity_measure(result, got, expected);
    free(got);
}
