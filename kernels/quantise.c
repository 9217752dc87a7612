#include "kernels/quantise.h"

#include <assert.h>
#include <math.h>

#include "kernels/cpu/float.h"
#include "kernels/f8.h"

int64_t quantise_columns(int64_t inputs, enum dtype dtype) {
    return dtype == DTYPE_F8_E4M3 ? inputs : QUANTISE_COLUMNS;
}

int64_t quantise_scales(int64_t outputs, int64_t inputs, enum dtype dtype) {
    int64_t columns = quantise_columns(inputs, dtype);
    return outputs * ((inputs + columns - 1) / columns);
}

#define PIECE 256 /* elements that are read at a time */

static float largest_of(const struct tensor *in, int64_t at, int64_t count) {
    float x[PIECE], largest = 0;
    for (int64_t k = 0; k < count; k += PIECE) {
        int64_t some = count - k < PIECE ? count - k : PIECE;
        float_row(x, in->data, in->dtype, at + k, some);
        for (int64_t i = 0; i < some; i++) {
            float magnitude = fabsf(x[i]);
            largest = magnitude > largest && magnitude <= 3e38f ? magnitude : largest;
        }
    }
    return largest;
}

static float quantise_block(uint8_t *data, const struct tensor *in, int64_t at, int64_t count,
                            enum dtype dtype) {
    float x[PIECE], limit = dtype == DTYPE_I8 ? 127 : F8_MAX, largest = largest_of(in, at, count);
    if (largest < 1e-30f) { /* its reciprocal would not be finite */
        memset(data, 0, (size_t)count);
        return 0;
    }
    float factor = limit / largest;
    for (int64_t k = 0; k < count; k += PIECE) {
        int64_t some = count - k < PIECE ? count - k : PIECE;
        float_row(x, in->data, in->dtype, at + k, some);
        for (int64_t i = 0; i < some; i++) {
            float y = x[i] * factor;
            y = y > limit ? limit : y >= -limit ? y : -limit; /* NaN too */
            data[k + i] = dtype == DTYPE_I8 ? (uint8_t)(int8_t)rintf(y) : f8_e4m3_from_float(y);
        }
    }
    return largest / limit;
}

void quantise(struct tensor *out, void *data, float *scale, const struct tensor *in,
              enum dtype dtype) {
    assert(in->rank == 2 && in->scale == NULL);
    assert(dtype == DTYPE_I8 || dtype == DTYPE_F8_E4M3);
    int64_t inputs = in->dim[1], columns = quantise_columns(inputs, dtype);
    *out = (struct tensor){.data = data,
                           .dtype = dtype,
                           .rank = 2,
                           .dim = {in->dim[0], inputs},
                           .scale = scale,
                           .scale_rows = 1,
                           .scale_columns = columns};
    for (int64_t n = 0; n < in->dim[0]; n++) {
        for (int64_t k = 0; k < inputs; k += columns) {
            int64_t at = n * inputs + k, count = inputs - k < columns ? inputs - k : columns;
            *scale++ = quantise_block((uint8_t *)data + at, in, at, count, dtype);
        }
    }
}
