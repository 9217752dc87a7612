#include "kernels/f8.h"

#define OUTPUTS_MAX 262144

bool f8_suits(const struct tensor *const *weights, int count, enum dtype dtype) {
    int64_t inputs = weights[0]->dim[1], outputs = 0;
    for (int i = 0; i < count; i++) {
        bool whole_rows = weights[i]->scale == NULL || weights[i]->scale_columns >= inputs;
        if (weights[i]->dtype != DTYPE_F8_E4M3 || !whole_rows) {
            return false;
        }
        outputs += weights[i]->dim[0];
    }
    return dtype == DTYPE_BF16 && inputs % 16 == 0 && outputs % 16 == 0 &&
           inputs <= F8_INPUTS_MAX && outputs <= OUTPUTS_MAX;
}
