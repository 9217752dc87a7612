/* Linear layers in f8 (kernels/f8.h): the definition. */
#include "kernels/f8.h"

#include <math.h>

#include "kernels/cpu/linear.h"

#define DEPTH_BLOCK 64 /* partial sums: keeps f32 rounding small over long rows */

/* q as f32; the scale. */
static float quantise_row(float *q, const void *x, int64_t at, int64_t count) {
    float largest = 0;
    for (int64_t k = 0; k < count; k++) {
        float magnitude = fabsf(float_load(x, DTYPE_BF16, at + k));
        largest = magnitude > largest ? magnitude : largest;
    }
    float factor = largest > F8_LEAST ? F8_MAX / largest : 0;
    for (int64_t k = 0; k < count; k++) {
        float y = float_load(x, DTYPE_BF16, at + k) * factor;
        y = y > F8_MAX ? F8_MAX : y >= -F8_MAX ? y : -F8_MAX; /* NaN too */
        q[k] = f8_e4m3_to_float(f8_e4m3_from_float(y));
    }
    return largest > F8_LEAST ? largest / F8_MAX : 0;
}

/* `value`: of the 256 bytes. */
static float product(const float *q, const uint8_t *w, const float *value, int64_t count) {
    float sum = 0;
    for (int64_t k = 0; k < count; k += DEPTH_BLOCK) {
        float part = 0;
        for (int64_t j = k; j < count && j < k + DEPTH_BLOCK; j++) {
            part += q[j] * value[w[j]];
        }
        sum += part;
    }
    return sum;
}

static void plain_row(const struct linear_args *args, const float *value, int64_t m) {
    const struct linear *linear = args->linear;
    int64_t inputs = linear->inputs;
    float q[F8_INPUTS_MAX];
    float scale = quantise_row(q, args->in, m * inputs, inputs);
    for (int64_t n = 0; n < linear->outputs; n++) {
        int64_t row = n;
        const struct tensor *part = linear_part(linear, &row);
        const uint8_t *w = (const uint8_t *)part->data + row * inputs;
        float of_row = part->scale != NULL ? part->scale[row / part->scale_rows] : 1;
        float y = product(q, w, value, inputs) * (scale * of_row);
        linear_finish_plain(args, m, n, &y, 1);
    }
}

void f8_linear_plain(const void *args_pointer, int64_t begin, int64_t end) {
    float value[256];
    for (int i = 0; i < 256; i++) {
        value[i] = f8_e4m3_to_float((uint8_t)i);
    }
    for (int64_t m = begin; m < end; m++) {
        plain_row(args_pointer, value, m);
    }
}
