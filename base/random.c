#include "base/random.h"

#include <math.h>

void random_block(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t block) {
    /* Multipliers and Weyl constants of Philox4x32; the counter is (block, stream), low word
     * first, the key is the seed. */
    uint32_t x0 = (uint32_t)block, x1 = (uint32_t)(block >> 32);
    uint32_t x2 = (uint32_t)stream, x3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * x0;
        uint64_t b = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(b >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)b;
        x2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* 53 random bits as a number in (0, 1]: its logarithm is finite. */
static double unit(uint32_t high, uint32_t low) {
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return (double)(bits + 1) * 0x1p-53;
}

void random_normal(float *out, size_t count, uint64_t seed, uint64_t stream, uint64_t first) {
    /* Block b gives elements 2b (cosine) and 2b+1 (sine). */
    for (size_t i = 0; i < count;) {
        uint64_t element = first + i;
        uint32_t word[4];
        random_block(word, seed, stream, element / 2);
        double radius = sqrt(-2.0 * log(unit(word[0], word[1])));
        double angle = 6.283185307179586476925 * unit(word[2], word[3]);
        if (element % 2 == 0) {
            out[i++] = (float)(radius * cos(angle));
            if (i < count)
                out[i++] = (float)(radius * sin(angle));
        } else {
            out[i++] = (float)(radius * sin(angle));
        }
    }
}

uint32_t random_below(uint32_t bound, uint64_t seed, uint64_t stream, uint64_t index) {
    /* floor(x * bound / 2^64) for a 64-bit x: the bias is below 2^-32. */
    uint32_t word[4];
    random_block(word, seed, stream, index);
    uint64_t low = (uint64_t)word[1] * bound >> 32;
    return (uint32_t)(((uint64_t)word[0] * bound + low) >> 32);
}
