#include "kernels/quantise.h"

#include <assert.h>
#include <math.h>

#include "kernels/cpu/float.h"

#define F8_MAX 448.0f

int64_t quantise_scales(int64_t outputs, int64_t inputs) {
    return outputs * ((inputs + QUANTISE_COLUMNS - 1) / QUANTISE_COLUMNS);
}

static float quantise_block(uint8_t *data, const float *x, int64_t count, enum dtype dtype) {
    float largest = 0, limit = dtype == DTYPE_I8 ? 127 : F8_MAX;
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        largest = magnitude > largest && magnitude <= 3e38f ? magnitude : largest;
    }
    if (largest < 1e-30f) { /* its reciprocal would not be finite */
        memset(data, 0, (size_t)count);
        return 0;
    }
    float factor = limit / largest;
    for (int64_t i = 0; i < count; i++) {
        float y = x[i] * factor;
        y = y > limit ? limit : y >= -limit ? y : -limit; /* NaN too */
        data[i] = dtype == DTYPE_I8 ? (uint8_t)(int8_t)rintf(y) : f8_e4m3_from_float(y);
    }
    return largest / limit;
}

void quantise(struct tensor *out, void *data, float *scale, const struct tensor *in,
              enum dtype dtype) {
    assert(in->rank == 2 && in->scale == NULL);
    assert(dtype == DTYPE_I8 || dtype == DTYPE_F8_E4M3);
    float row[QUANTISE_COLUMNS];
    int64_t inputs = in->dim[1];
    *out = (struct tensor){.data = data,
                           .dtype = dtype,
                           .rank = 2,
                           .dim = {in->dim[0], inputs},
                           .scale = scale,
                           .scale_rows = 1,
                           .scale_columns = QUANTISE_COLUMNS};
    for (int64_t n = 0; n < in->dim[0]; n++) {
        for (int64_t k = 0; k < inputs; k += QUANTISE_COLUMNS) {
            int64_t count = inputs - k < QUANTISE_COLUMNS ? inputs - k : QUANTISE_COLUMNS;
            float_row(row, in->data, in->dtype, n * inputs + k, count);
            *scale++ = quantise_block((uint8_t *)data + n * inputs + k, row, count, dtype);
        }
    }
}
