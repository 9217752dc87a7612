#include "worker/model/noise.h"

#include "base/random.h"

void noise_draw(struct noise_source *source, float *out, size_t count) {
    if (source->noise == NOISE_TORCH) {
        if (source->drawn == 0)
            torch_noise_seed(&source->torch, source->seed);
        torch_noise_normal(&source->torch, out, count);
    } else {
        random_normal(out, count, source->seed, source->stream, source->drawn);
    }
    source->drawn += count;
}
