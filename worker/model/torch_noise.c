#include "worker/model/torch_noise.h"

#include <math.h>

enum { WORDS = 624, SHIFT = 397, BLOCK = 16 };

#define PI 3.14159265358979323846

/* -- MT19937: Matsumoto and Nishimura, "Mersenne Twister", 1998 ------------------------------- */

void torch_noise_seed(struct torch_noise *noise, uint64_t seed) {
    *noise = (struct torch_noise){.at = WORDS};
    noise->state[0] = (uint32_t)seed;
    for (int i = 1; i < WORDS; i++) {
        uint32_t before = noise->state[i - 1];
        noise->state[i] = UINT32_C(1812433253) * (before ^ before >> 30) + (uint32_t)i;
    }
}

static void renew(uint32_t state[WORDS]) {
    for (int i = 0; i < WORDS; i++) {
        uint32_t mixed =
            (state[i] & UINT32_C(0x80000000)) | (state[(i + 1) % WORDS] & UINT32_C(0x7fffffff));
        state[i] = state[(i + SHIFT) % WORDS] ^ mixed >> 1 ^ (mixed & 1 ? UINT32_C(0x9908b0df) : 0);
    }
}

static uint32_t draw32(struct torch_noise *noise) {
    if (noise->at == WORDS) {
        renew(noise->state);
        noise->at = 0;
    }
    uint32_t word = noise->state[noise->at++];
    word ^= word >> 11;
    word ^= word << 7 & UINT32_C(0x9d2c5680);
    word ^= word << 15 & UINT32_C(0xefc60000);
    return word ^ word >> 18;
}

/* Uniform in [0, 1): 24 bits of one word, 53 bits of two. */
static float draw_float(struct torch_noise *noise) {
    return (float)(draw32(noise) & 0xffffff) * 0x1p-24f;
}

static double draw_double(struct torch_noise *noise) {
    uint64_t high = draw32(noise), low = draw32(noise);
    return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* -- blocks of 16 -------------------------------------------------------------------------------
 *
 * Logarithm, sine and cosine in single precision as in Moshier's Cephes library, which PyTorch's
 * vector code follows, with a fused multiply-add wherever its compiler makes one: another rounding
 * would be another number. */

static float log_of(float x) {
    static const float polynomial[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                       -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                       2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    int exponent;
    x = frexpf(x, &exponent);
    if (x < 0.707106781186547524f) {
        exponent--;
        x = x + x - 1;
    } else {
        x -= 1;
    }
    float scale = (float)exponent, square = x * x, y = polynomial[0];
    for (int i = 1; i < 9; i++)
        y = fmaf(y, x, polynomial[i]);
    y = fmaf(y * x, square, scale * -2.12194440e-4f);
    y = fmaf(square, -0.5f, y);
    return fmaf(scale, 0.693359375f, x + y);
}

/* x from 0 to 2π. */
static void sine_and_cosine(float x, float *sine, float *cosine) {
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float turns = (float)octant;
    x = fmaf(turns, -0.78515625f, x);
    x = fmaf(turns, -2.4187564849853515625e-4f, x);
    x = fmaf(turns, -3.77489497744594108e-8f, x);
    float square = x * x;
    float c = fmaf(2.443315711809948e-5f, square, -1.388731625493765e-3f);
    c = fmaf(c, square, 4.166664568298827e-2f) * square;
    c = fmaf(c, square, -(square * 0.5f)) + 1;
    float s = fmaf(-1.9515295891e-4f, square, 8.3321608736e-3f);
    s = fmaf(s, square, -1.6666654611e-1f) * square;
    s = fmaf(s, x, x);
    bool swapped = octant & 2;
    *sine = (octant & 4 ? -1.0f : 1.0f) * (swapped ? c : s);
    *cosine = ((octant - 2) & 4 ? 1.0f : -1.0f) * (swapped ? s : c);
}

/* Box-Muller: number i of the block with number i+8. */
static void normal_block(float block[BLOCK]) {
    for (int i = 0; i < BLOCK / 2; i++) {
        float radius = sqrtf(-2.0f * log_of(1 - block[i])), sine, cosine;
        sine_and_cosine((float)(2 * PI) * block[i + BLOCK / 2], &sine, &cosine);
        block[i] = radius * cosine;
        block[i + BLOCK / 2] = radius * sine;
    }
}

/* -- draws ------------------------------------------------------------------------------------ */

static double draw_normal(struct torch_noise *noise) {
    if (noise->kept) {
        noise->kept = false;
        return noise->next;
    }
    double angle = 2 * PI * draw_double(noise);
    double radius = sqrt(-2 * log1p(-draw_double(noise)));
    noise->kept = true;
    noise->next = radius * sin(angle);
    return radius * cos(angle);
}

void torch_noise_normal(struct torch_noise *noise, float *out, size_t count) {
    if (count < BLOCK) {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)draw_normal(noise);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = draw_float(noise);
    for (size_t i = 0; i + BLOCK <= count; i += BLOCK)
        normal_block(out + i);
    if (count % BLOCK) { /* the last 16 are drawn again */
        float *last = out + count - BLOCK;
        for (int i = 0; i < BLOCK; i++)
            last[i] = draw_float(noise);
        normal_block(last);
    }
}
