/* Linear layers in f8: weights are F8_E4M3 with a scale for each row, or for all, and activations
 * are rounded to F8_E4M3 too, row by row.
 *
 *   s[m] = max |x[m,k]| / 448;  q[m,k] = x[m,k] / s[m], rounded to the nearest
 *   y[m,n] = (Σ_k q[m,k] · w[n,k]) · (s[m] · scale[n])
 *
 * A product of two is exact in f32. A sum is not, and depends on who takes it: tensor cores keep
 * some 14 bits of what they add at a stretch. Of a number f8 keeps four bits: 4 % of a product in
 * the 2-norm, three times as much as int8 by blocks. */
#ifndef VIDLOOM_KERNELS_F8_H
#define VIDLOOM_KERNELS_F8_H

#include <stdbool.h>

#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define F8_MAX        448.0f
#define F8_INPUTS_MAX 65536
/* Rows with less in them are zeros: their reciprocals would not be finite. */
#define F8_LEAST 1e-30f

/* Whether a layer of these matrices, of the same inputs and compute type `dtype`, can be so. */
bool f8_suits(const struct tensor *const *weights, int count, enum dtype dtype);

#ifdef __cplusplus
}
#endif

#endif
