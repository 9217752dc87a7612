/* Weights made narrower: what `vidloom convert` writes and a loader makes of wider ones when a job
 * asks for it. Plain C; host memory; any thread.
 *
 *   I8        symmetric: scale = max |w| / 127 of the block, data = round(w / scale)
 *   F8_E4M3   scale = max |w| / 448, data = w / scale rounded to the nearest
 *
 * A block is a row of F8_E4M3, which has exponents of its own, and what GPUs have products for; of
 * I8 it is one row by QUANTISE_COLUMNS columns. 256 is a measure of both ends: on a Zen 4 core
 * the int8 product runs at 1.59, 1.79, 1.89 and 1.94 times bf16's rate with blocks of 128, 256, 512
 * and whole rows, and the error grows with the block. */
#ifndef VIDLOOM_KERNELS_QUANTISE_H
#define VIDLOOM_KERNELS_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

#define QUANTISE_COLUMNS 256

/* Columns that share a scale. */
int64_t quantise_columns(int64_t inputs, enum dtype dtype);
/* f32 scales of a matrix [outputs,inputs] of I8 or F8_E4M3. */
int64_t quantise_scales(int64_t outputs, int64_t inputs, enum dtype dtype);

/* *out becomes `in` [N,K], of any floating type without scales, as I8 or F8_E4M3 in data
 * [N·K bytes] and scale [quantise_scales(N,K,dtype)], which stay the caller's. Values that are not
 * finite become the largest. */
void quantise(struct tensor *out, void *data, float *scale, const struct tensor *in,
              enum dtype dtype);

#endif
