/* Tables of sines: rotary positions of video tokens, and the time embedding. Host, pure, computed
 * in double and rounded once, as the reference does. */
#ifndef VIDLOOM_WORKER_MODEL_ROPE_H
#define VIDLOOM_WORKER_MODEL_ROPE_H

#include <stdint.h>

/* cosine, sine [frames·height·width, head_dim/2]: the pairs of a head are split into time, row and
 * column parts of head_dim/2 - 2⌊head_dim/6⌋, ⌊head_dim/6⌋ and ⌊head_dim/6⌋ pairs; in a part of
 * n pairs, pair j turns by position · 10000^(-j/n). */
void rope_tables(float *cosine, float *sine, int64_t frames, int64_t height, int64_t width,
                 int head_dim);

/* out[i] = cos(t·w), out[count/2 + i] = sin(t·w) with w = 10000^(-i/(count/2)). */
void rope_time_waves(float *out, double t, int count);

#endif
