#include "worker/model/numbers.h"

#include <assert.h>

#include "kernels/cpu/float.h"

bool numbers_are_float(const struct tensor *tensor) {
    if (tensor->dtype == DTYPE_I8)
        return tensor->scale != NULL;
    return tensor->dtype != DTYPE_I64 && tensor->dtype != DTYPE_I32 && tensor->dtype != DTYPE_U8;
}

/* Elements of rows in blocks with scales. */
static void scale_elements(float *out, const struct tensor *tensor, int64_t first, int64_t count) {
    int64_t inputs = tensor->dim[1];
    int64_t columns = (inputs + tensor->scale_columns - 1) / tensor->scale_columns;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = (first + i) / inputs, column = (first + i) % inputs;
        out[i] *=
            tensor->scale[row / tensor->scale_rows * columns + column / tensor->scale_columns];
    }
}

void numbers_to_float(float *out, const struct tensor *tensor, int64_t first, int64_t count) {
    assert(first >= 0 && count >= 0 && first + count <= tensor_elements(tensor));
    float_row(out, tensor->data, tensor->dtype, first, count);
    if (tensor->scale != NULL)
        scale_elements(out, tensor, first, count);
}
