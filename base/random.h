/* Counter-based random numbers (Philox4x32-10): element i of (seed, stream) is always the same
 * number, whoever asks for it, in whatever order and on however many threads. Nothing is kept.
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef VIDLOOM_BASE_RANDOM_H
#define VIDLOOM_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Four 32-bit words for counter block `block` of (seed, stream). */
void random_block(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t block);

/* out[i] = standard normal number of element first+i (Box-Muller in double, rounded to float). */
void random_normal(float *out, size_t count, uint64_t seed, uint64_t stream, uint64_t first);

/* Uniform in [0, bound), bound > 0; element `index`. */
uint32_t random_below(uint32_t bound, uint64_t seed, uint64_t stream, uint64_t index);

#endif
