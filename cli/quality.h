/* What a video's windows were measured to be, as `run`, `submit --wait` and `status` tell it: one
 * form of the numbers in tables, JSON and warnings. Pure. */
#ifndef VIDLOOM_CLI_QUALITY_H
#define VIDLOOM_CLI_QUALITY_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/json.h"

struct quality {
    double drift, seam; /* the greatest of the windows taken so far; both 0: none was measured */
    double drift_limit, seam_limit; /* the job's; 0: none */
    int redraws;                    /* windows drawn again so far, each time counted */
};

/* Bits: which of the limits are past. What is taken stays, so it does not get better again. */
enum { QUALITY_DRIFT = 1, QUALITY_SEAM = 2 };
unsigned quality_past(const struct quality *quality);

/* Columns of a table, with two spaces behind each; redraws only when asked for. */
void quality_put_head(struct buffer *out, bool redraws);
void quality_put_cells(struct buffer *out, const struct quality *quality, bool redraws);
/* drift, seam, redraws, and past_limits: the names of those in `past`. */
void quality_put_json(struct json_writer *writer, const struct quality *quality, unsigned past);
/* A line that names the video and each limit that stayed broken; nothing when none did. */
void quality_warn(struct buffer *out, const char *video, const struct quality *quality);

#endif
