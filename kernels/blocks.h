/* Weights as files hold them, to f32: narrow floats and the blocks of GGUF files. Plain C, the
 * definition; host memory. */
#ifndef VIDLOOM_KERNELS_BLOCKS_H
#define VIDLOOM_KERNELS_BLOCKS_H

#include <stdint.h>

#include "kernels/tensor.h"

/* out[i] = element at + i of x, of a type in blocks. Any range of elements.
 *
 *   Q8_0  32 elements:  f16 d, i8 q[32];                             d·q
 *   Q4_0  32:           f16 d, u8 q[16] (low nibbles first half);    d·(q-8)
 *   Q4_K  256:          f16 d, f16 m, 12 bytes of 8 6-bit scales and minima, u8 q[128];  d·s·q -
 * m·n Q5_K  256:          as Q4_K with a fifth bit each in u8 h[32] before q Q6_K  256:          u8
 * low[128], u8 high[64], i8 s[16], f16 d;   d·s·(q-32)
 *
 * Source: the `gguf` Python package (quants.py), to which it is equal bit for bit. */
void blocks_to_float(float *out, const void *x, enum dtype dtype, int64_t at, int64_t count);

float f8_e4m3_to_float(uint8_t x);
float f8_e5m2_to_float(uint8_t x);

#endif
