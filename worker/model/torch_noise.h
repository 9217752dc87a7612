/* The numbers that torch.randn gives with a CPU generator, so that a seed found elsewhere makes the
 * same noise here. base/random.h is this project's own generator.
 *
 * The generator is MT19937, seeded with the low 32 bits of the seed as
 * torch.Generator("cpu").manual_seed(seed) does. One torch_noise_normal is one
 * torch.randn(shape, generator=…, dtype=float32) of as many elements: they are not a stream, 16 and
 * then 16 are other numbers than 32. Equal bit for bit to PyTorch 2.15 on a machine with AVX2
 * (aten/src/ATen/native/cpu/DistributionTemplates.h, avx_mathfun.h); without it PyTorch calls the
 * system's logarithm, sine and cosine, which differ in the last place or two. */
#ifndef VIDLOOM_WORKER_MODEL_TORCH_NOISE_H
#define VIDLOOM_WORKER_MODEL_TORCH_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct torch_noise {
    uint32_t state[624];
    int at;      /* next word of the state; 624: all are used */
    bool kept;   /* small draws make numbers in pairs: the second one of a pair, */
    double next; /* for the next small draw */
};

void torch_noise_seed(struct torch_noise *noise, uint64_t seed);
void torch_noise_normal(struct torch_noise *noise, float *out, size_t count);

#endif
