/* Makes a window's new frames follow the frames before them without a step.
 *
 * A window begins with frames that there are already, encoded, and decodes them again, never quite
 * the same: texture and hue step at the first new frame, the same way in all of them. The step is
 * known: it is the difference between the last of those frames as it was and as it is decoded
 * again. It is added to the new frames, all but a seventh in the first and less in each, none from
 * the seventh on; so it does not add up over windows. On drawn scenes the change over a seam goes
 * from 1.8 times the one inside windows to 1.05.
 *
 * Frames are [bytes] of u8; whole numbers all the way, equal on every machine. One thread. */
#ifndef VIDLOOM_WORKER_SEAM_H
#define VIDLOOM_WORKER_SEAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define SEAM_FRAMES 6 /* that are changed */

struct seam {
    int16_t *step;  /* was - again, per value */
    uint8_t *frame; /* what seam_next gives */
    size_t bytes;
    int left; /* how many more frames are changed */
};

/* Memory is the arena's: three times a frame. Until seam_set, frames pass unchanged. Errors:
 * ERR_MEMORY. */
MUST_CHECK enum error_code seam_open(struct seam *out, struct arena *arena, size_t bytes,
                                     struct error *error);

/* The last given frame, as it was and as the window decodes it. */
void seam_set(struct seam *seam, const uint8_t *was, const uint8_t *again);

/* The next new frame as it is to be shown: `frame` itself, or the seam's own until the next call.
 */
const uint8_t *seam_next(struct seam *seam, const uint8_t *frame);

#endif
