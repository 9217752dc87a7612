/* Attention in 8 bits: what it is, and the memory it takes.
 *
 *   k'[j,e]   = k[j,e] - mean of k[·,e]: the softmax does not see it, and what is left is small
 *   kq, sk    = k' rounded to int8 by blocks of NARROW_KEYS keys of a head: sk = max |k'| / 127
 *   qq, sq    = q likewise, by rows of a head
 *   logit     = scale · sq[i] · sk[j / NARROW_KEYS] · Σ_e qq[i,e] · kq[j,e], the sum exact
 *   out       = Σ p v / Σ p with p = exp(logit - max); where p is rounded, either of it
 *
 * where a device may round p and v on the way into the second product: GPUs to f8 (E4M3; v by
 * channels of a head), CPUs to 8 bits (cpu/attention8.h). Method: SageAttention (arXiv 2410.02367,
 * 2411.10958). */
#ifndef VIDLOOM_KERNELS_NARROW_H
#define VIDLOOM_KERNELS_NARROW_H

#include <stddef.h>

#include "kernels/args.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NARROW_KEYS     64  /* that share a scale */
#define NARROW_HEAD_DIM 128 /* the most; GPUs: the only one */
#define NARROW_CHUNK    512 /* keys that are summed up together */

/* Where its parts lie in attention_args.narrow: bytes from the beginning. */
struct narrow_layout {
    int64_t blocks, chunks; /* of keys: that share a scale, that are summed up together */
    int64_t keys;           /* k_length in whole pairs of blocks */
    size_t q, k;            /* int8 [length][heads][E]; the CPU: no q, and keys in panels */
    size_t v;               /* f8 [heads][E][keys], the order of keys is the kernel's own; int8 */
    size_t q_scale;         /* f32 [q_length][heads] */
    size_t k_scale;         /* f32 [heads][blocks] */
    size_t k_offset;        /* the CPU: i32 [heads][keys] */
    size_t v_scale, k_mean; /* f32 [heads][E] */
    size_t k_sum, v_max;    /* f32 [chunks][heads][E] */
    size_t bytes;           /* of all */
};

/* Whether attention of these lengths and this type can be done in 8 bits. */
bool narrow_suits(const struct attention_args *args);
/* Of that, what a model's heads say. */
bool narrow_suits_width(int64_t head_dim);
struct narrow_layout narrow_layout(const struct attention_args *args);

#ifdef __cplusplus
}
#endif

#endif
