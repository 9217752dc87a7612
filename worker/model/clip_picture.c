/* Pictures as CLIP's image processor makes them: Pillow's bicubic filter in its fixed-point
 * arithmetic, so that a picture gives the same bytes, and the middle of the result. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/clip.h"

#define PRECISION 22 /* bits after the point of a tap */
#define SUPPORT   2.0

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* The taps of every output pixel of one axis. */
struct taps {
    int most;        /* a pixel has at most */
    int *first;      /* [out] input pixel */
    int *count;      /* [out] */
    int32_t *weight; /* [out][most] */
    double *exact;   /* [most] of one pixel */
};

static void taps_close(struct taps *taps) {
    free(taps->first);
    free(taps->count);
    free(taps->weight);
    free(taps->exact);
}

static void fill_taps(struct taps *taps, int pixel, int in, double scale, double stretch) {
    double center = (pixel + 0.5) * scale, support = SUPPORT * stretch, sum = 0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    end = end > in ? in : end;
    for (int i = 0; i < end - first; i++) {
        taps->exact[i] = bicubic((i + first - center + 0.5) / stretch);
        sum += taps->exact[i];
    }
    for (int i = 0; i < end - first; i++) {
        double w = taps->exact[i] / sum * (1 << PRECISION);
        taps->weight[(size_t)pixel * (size_t)taps->most + (size_t)i] =
            (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    taps->first[pixel] = first;
    taps->count[pixel] = end - first;
}

static bool taps_open(struct taps *taps, int in, int out) {
    double scale = (double)in / out, stretch = scale < 1 ? 1 : scale;
    size_t most = (size_t)ceil(SUPPORT * stretch) * 2 + 1;
    *taps = (struct taps){.most = (int)most,
                          .first = calloc((size_t)out, sizeof(int)),
                          .count = calloc((size_t)out, sizeof(int)),
                          .weight = calloc((size_t)out * most, sizeof(int32_t)),
                          .exact = calloc(most, sizeof(double))};
    if (taps->first == NULL || taps->count == NULL || taps->weight == NULL || taps->exact == NULL)
        return false;
    for (int i = 0; i < out; i++)
        fill_taps(taps, i, in, scale, stretch);
    return true;
}

/* out[line][pixel][3] of in[line][..][3], pixels `step` and lines `line` bytes apart in both. */
static void filter(uint8_t *out, size_t out_step, size_t out_line, const uint8_t *in,
                   size_t in_step, size_t in_line, int lines, int pixels, const struct taps *taps) {
    for (int y = 0; y < lines; y++)
        for (int x = 0; x < pixels; x++) {
            const int32_t *weight = taps->weight + (size_t)x * (size_t)taps->most;
            const uint8_t *from = in + (size_t)y * in_line + (size_t)taps->first[x] * in_step;
            for (int c = 0; c < 3; c++) {
                int32_t sum = 1 << (PRECISION - 1);
                for (int i = 0; i < taps->count[x]; i++)
                    sum += weight[i] * from[(size_t)i * in_step + (size_t)c];
                sum >>= PRECISION;
                out[(size_t)y * out_line + (size_t)x * out_step + (size_t)c] =
                    (uint8_t)(sum < 0     ? 0
                              : sum > 255 ? 255
                                          : sum);
            }
        }
}

enum error_code clip_fit_picture(uint8_t *out, int image_size, const uint8_t *rgb, int height,
                                 int width, struct error *error) {
    int shorter = height < width ? height : width;
    int tall = (int)((int64_t)image_size * height / shorter);
    int wide = (int)((int64_t)image_size * width / shorter);
    size_t side = (size_t)image_size, row = 3 * (size_t)wide;
    struct taps across = {0}, down = {0};
    uint8_t *narrow = malloc((size_t)height * row), *fit = malloc((size_t)tall * row);
    enum error_code code = ERR_OK;
    if (narrow == NULL || fit == NULL || !taps_open(&across, width, wide) ||
        !taps_open(&down, height, tall)) {
        code = error_set(error, ERR_MEMORY, "no memory for a picture of %dx%d", width, height);
    } else {
        filter(narrow, 3, row, rgb, 3, 3 * (size_t)width, height, wide, &across);
        filter(fit, row, 3, narrow, row, 3, wide, tall, &down);
        const uint8_t *middle =
            fit + (size_t)((tall - image_size) / 2) * row + 3 * (size_t)((wide - image_size) / 2);
        for (size_t y = 0; y < side; y++)
            memcpy(out + y * 3 * side, middle + y * row, 3 * side);
    }
    taps_close(&across);
    taps_close(&down);
    free(narrow);
    free(fit);
    return code;
}
