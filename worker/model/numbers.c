#include "worker/model/numbers.h"

#include <assert.h>

#include "kernels/cpu/float.h"

bool numbers_are_float(enum dtype dtype) {
    return dtype != DTYPE_I64 && dtype != DTYPE_I32 && dtype != DTYPE_U8;
}

void numbers_to_float(float *out, const struct tensor *tensor, int64_t first, int64_t count) {
    assert(first >= 0 && count >= 0 && first + count <= tensor_elements(tensor));
    float_row(out, tensor->data, tensor->dtype, first, count);
}
