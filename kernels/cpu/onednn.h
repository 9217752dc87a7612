/* oneDNN, the yardstick of `vidloom bench`: matrix products and convolutions alone, on its own
 * threads, in the layouts it likes best. No operation of the runtime uses it: on the machines we
 * have, the tile kernel of gemm.h is as fast on large shapes and several times faster on the small
 * channel counts of a VAE at full size. */
#ifndef VIDLOOM_KERNELS_CPU_ONEDNN_H
#define VIDLOOM_KERNELS_CPU_ONEDNN_H

#include <stdbool.h>

#include "kernels/ops.h"

struct onednn;

/* One primitive with its operands, filled with harmless numbers. dtype U8: u8 x s8 to s32.
 * conv: [1,Cin,T,H,W] with zeros of 1 around H and W; channels_last false: any layout it likes. */
MUST_CHECK enum error_code onednn_matmul(struct onednn **out, int64_t rows, int64_t outputs,
                                         int64_t inputs, enum dtype dtype, struct error *error);
MUST_CHECK enum error_code onednn_conv(struct onednn **out, const struct conv_shape *shape,
                                       int64_t frames, int64_t height, int64_t width,
                                       enum dtype dtype, bool channels_last, struct error *error);
MUST_CHECK enum error_code onednn_run(struct onednn *onednn, struct error *error);
void onednn_close(struct onednn **onednn);

#endif
