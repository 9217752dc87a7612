#include "kernels/cpu/gemm.h"

#include <string.h>

#include "kernels/cpu/float.h"

size_t gemm_packed_bytes(const struct gemm *gemm, int64_t outputs, int64_t depth) {
    int64_t columns = (outputs + gemm->step - 1) / gemm->step * gemm->step;
    return (size_t)(columns * gemm_depth(gemm, depth)) * dtype_bytes(gemm->operand);
}

void gemm_pack(const struct gemm *gemm, void *out, int64_t outputs, int64_t depth, enum dtype dtype,
               gemm_row *read, const void *context, float *row) {
    int64_t padded = gemm_depth(gemm, depth);
    memset(out, 0, gemm_packed_bytes(gemm, outputs, depth));
    for (int64_t n = 0; n < outputs; n++) {
        int64_t first = n / gemm->panel * gemm->panel;
        int64_t columns = gemm_columns(gemm, first, outputs), column = n - first;
        read(context, n, row);
        for (int64_t k = 0; k < depth; k++) {
            float value = float_round(dtype, row[k]);
            if (gemm->operand == DTYPE_BF16) {
                int64_t at = first * padded + (k / 2 * columns + column) * 2 + k % 2;
                ((bf16 *)out)[at] = bf16_from_float(value);
            } else {
                ((float *)out)[first * padded + k * columns + column] = value;
            }
        }
    }
}
