#include "worker/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* BT.709's weights in 1/65536. */
static int luma_of(const uint8_t *pixel) {
    return 13933 * pixel[0] + 46871 * pixel[1] + 4732 * pixel[2];
}

/* Luma of a row; returns its sum. Neighbours are often equal: two tables a channel, or every count
 * waits for the one before. */
static uint64_t row_add(int *luma, uint32_t counts[2][3][256], const uint8_t *row, int width) {
    uint64_t sum = 0;
    for (int x = 0; x < width; x++, row += 3) {
        luma[x] = luma_of(row);
        sum += (uint64_t)luma[x];
        counts[x & 1][0][row[0]]++;
        counts[x & 1][1][row[1]]++;
        counts[x & 1][2][row[2]]++;
    }
    return sum;
}

/* Of a row's inner pixels; one that is one or two wide has none. */
static uint64_t laplacian_of(const int *above, const int *row, const int *below, int width) {
    uint64_t sum = 0;
    for (int x = 1; x + 1 < width; x++) { /* of 32 bits: at most 8 · 255 · 2^16 */
        int value = 4 * row[x] - row[x - 1] - row[x + 1] - above[x] - below[x];
        sum += (uint32_t)abs(value) >> 16;
    }
    return sum;
}

static void sums_add(const struct measure *measure, struct measure_sums *sums,
                     const uint8_t *frame) {
    const int width = measure->width, height = measure->height;
    uint32_t counts[2][3][256] = {0};
    int *rows[3] = {measure->luma, measure->luma + width, measure->luma + 2 * (size_t)width};
    for (int y = 0; y < height; y++, frame += 3 * (size_t)width) {
        sums->luma += row_add(rows[y % 3], counts, frame, width);
        if (y >= 2)
            sums->laplacian +=
                laplacian_of(rows[(y - 2) % 3], rows[(y - 1) % 3], rows[y % 3], width);
    }
    for (int channel = 0; channel < 3; channel++)
        for (int value = 0; value < 256; value++)
            sums->histogram[channel][value] +=
                (uint64_t)counts[0][channel][value] + counts[1][channel][value];
    sums->frames++;
}

static uint64_t difference(const uint8_t *a, const uint8_t *b, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum += (uint64_t)abs(a[i] - b[i]);
    return sum;
}

static size_t frame_bytes(const struct measure *measure) {
    return 3 * (size_t)measure->width * (size_t)measure->height;
}

enum error_code measure_open(struct measure *out, int width, int height, const uint8_t *start,
                             const uint8_t *before, struct error *error) {
    *out = (struct measure){.width = width, .height = height};
    out->last = malloc(frame_bytes(out));
    out->luma = malloc(3 * (size_t)width * sizeof *out->luma);
    if (!out->last || !out->luma)
        return error_set(error, ERR_MEMORY, "no memory for a frame of %dx%d", width, height);
    if (start == NULL)
        return ERR_OK;
    memcpy(out->last, before, frame_bytes(out));
    sums_add(out, &out->start, start);
    return ERR_OK;
}

void measure_close(struct measure *measure) {
    free(measure->last);
    free(measure->luma);
    measure->last = NULL;
    measure->luma = NULL;
}

void measure_add(struct measure *measure, const uint8_t *frame) {
    if (measure->start.frames == 0) {
        memcpy(measure->last, frame, frame_bytes(measure));
        sums_add(measure, &measure->start, frame);
    }
    uint64_t change = difference(measure->last, frame, frame_bytes(measure));
    if (measure->window.frames)
        measure->changes += change;
    else
        measure->seam = change;
    memcpy(measure->last, frame, frame_bytes(measure));
    sums_add(measure, &measure->window, frame);
}

/* Histograms of other numbers of frames are compared by their shares. */
static double colour_distance(const struct measure_sums *a, const struct measure_sums *b,
                              double pixels) {
    double area = 0;
    for (int channel = 0; channel < 3; channel++) {
        uint64_t below_a = 0, below_b = 0;
        for (int value = 0; value < 255; value++) {
            below_a += a->histogram[channel][value];
            below_b += b->histogram[channel][value];
            area += fabs((double)below_a / (double)a->frames - (double)below_b / (double)b->frames);
        }
    }
    return area / (3 * 255 * pixels);
}

static double per_frame(uint64_t sum, const struct measure_sums *sums) {
    return (double)sum / (double)sums->frames;
}

void measure_finish(const struct measure *measure, struct measures *out) {
    const struct measure_sums *start = &measure->start, *window = &measure->window;
    double pixels = (double)measure->width * measure->height;
    double luma = per_frame(window->luma, window) - per_frame(start->luma, start);
    double sharp = per_frame(window->laplacian, window),
           sharp0 = per_frame(start->laplacian, start);
    double steps = (double)(window->frames - 1);
    double motion = steps > 0 ? (double)measure->changes / steps : 0;
    double seam = ((double)measure->seam - motion) / (3 * 255 * pixels);
    *out = (struct measures){
        .colour = fmin(1, colour_distance(window, start, pixels)),
        .luminance = fmax(-1, fmin(1, luma / (65536.0 * 255 * pixels))),
        .sharpness = sharp + sharp0 > 0 ? (sharp - sharp0) / (sharp + sharp0) : 0,
        .seam = seam > 0 ? fmin(1, seam) : 0,
    };
}
