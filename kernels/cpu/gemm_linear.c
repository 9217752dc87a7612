/* The matrix products over struct gemm. */
#include <assert.h>

#include "kernels/cpu/linear.h"

void linear_gemm(struct device *device, const struct linear_args *args) {
    assert(false);
}

void conv_gemm(struct device *device, const struct conv_call *call) {
    assert(false);
}

void attention_gemm(struct device *device, const struct attention_args *args,
                    const struct gemm *gemm) {
    assert(false);
}
