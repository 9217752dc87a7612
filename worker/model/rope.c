#include "worker/model/rope.h"

#include <math.h>

#define BASE 10000.0

/* One axis's part of one token's row. */
static void fill(float *cosine, float *sine, int64_t position, int pairs) {
    for (int j = 0; j < pairs; j++) {
        double angle = (double)position / pow(BASE, (double)j / pairs);
        cosine[j] = (float)cos(angle);
        sine[j] = (float)sin(angle);
    }
}

/* Tokens of one frame share their time part, and so on: compute the part of the first token that
 * has a position, then copy, so that a large grid takes few sines. */
void rope_tables(float *cosine, float *sine, int64_t frames, int64_t height, int64_t width,
                 int head_dim) {
    int pairs = head_dim / 2, side = head_dim / 6, time = pairs - 2 * side;
    for (int64_t token = 0; token < frames * height * width; token++) {
        int64_t x = token % width, y = token / width % height, f = token / width / height;
        const int64_t like[] = {f * height * width, y * width, x}; /* first with the same f; y; x */
        const int64_t position[] = {f, y, x};
        const int first[] = {0, time, time + side}, count[] = {time, side, side};
        for (int axis = 0; axis < 3; axis++) {
            float *c = cosine + token * pairs + first[axis],
                  *s = sine + token * pairs + first[axis];
            const float *c0 = cosine + like[axis] * pairs + first[axis];
            const float *s0 = sine + like[axis] * pairs + first[axis];
            if (like[axis] == token)
                fill(c, s, position[axis], count[axis]);
            for (int j = 0; j < count[axis] && like[axis] != token; j++) {
                c[j] = c0[j];
                s[j] = s0[j];
            }
        }
    }
}

void rope_time_waves(float *out, double t, int count) {
    int half = count / 2;
    for (int i = 0; i < half; i++) {
        double angle = t * pow(BASE, -(double)i / half);
        out[i] = (float)cos(angle);
        out[half + i] = (float)sin(angle);
    }
}
