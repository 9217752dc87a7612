/* How a window's frames differ from the video's first frame and from what went before: numbers that
 * tell drift and seams, whole-number sums all the way, so that equal frames give equal numbers on
 * every machine.
 *
 * Frames are [H,W,3] u8 RGB. One thread; frames are looked at during the call only. */
#ifndef VIDLOOM_WORKER_MEASURE_H
#define VIDLOOM_WORKER_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct measures {
    /* 0 … 1: the mean over R, G and B of the area between the two distributions of values (earth
     * mover's distance, of the full range). */
    double colour;
    double luminance; /* -1 … 1: mean luma (BT.709 weights) less the first frame's, of the range */
    double sharpness; /* -1 … 1: (s - s0) / (s + s0), s the mean size of luma's Laplacian */
    /* 0 … 1: mean difference of values over the seam, less that between successive new frames */
    double seam;
};

/* Sums over frames of one size. */
struct measure_sums {
    uint64_t histogram[3][256];
    uint64_t luma, laplacian; /* luma in 1/65536 of a value */
    int64_t frames;
};

struct measure {
    int width, height;
    struct measure_sums start, window;
    uint8_t *last;          /* the frame before the next one */
    int *luma;              /* of three rows */
    uint64_t seam, changes; /* sums of differences: over the seam, between new frames */
};

/* start: the video's first frame; before: the frame that the window's first new one follows. Both
 * NULL: the first new frame is the video's first, and there is no seam. Errors: ERR_MEMORY. */
MUST_CHECK enum error_code measure_open(struct measure *out, int width, int height,
                                        const uint8_t *start, const uint8_t *before,
                                        struct error *error);
void measure_add(struct measure *measure, const uint8_t *frame); /* each new frame, in order */
void measure_finish(const struct measure *measure, struct measures *out); /* after one at least */
void measure_close(struct measure *measure);                              /* zeroed is fine */

#endif
