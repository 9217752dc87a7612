#include "cli/quality.h"

#include <stdio.h>

unsigned quality_past(const struct quality *quality) {
    bool drift = quality->drift_limit > 0 && quality->drift > quality->drift_limit;
    bool seam = quality->seam_limit > 0 && quality->seam > quality->seam_limit;
    return (drift ? QUALITY_DRIFT : 0) | (seam ? QUALITY_SEAM : 0);
}

void quality_put_head(struct buffer *out, bool redraws) {
    buffer_printf(out, "%5s  %5s  ", "drift", "seam");
    if (redraws)
        buffer_printf(out, "%7s  ", "redraws");
}

void quality_put_cells(struct buffer *out, const struct quality *quality, bool redraws) {
    if (quality->drift > 0 || quality->seam > 0)
        buffer_printf(out, "%5.3f  %5.3f  ", quality->drift, quality->seam);
    else
        buffer_printf(out, "%5s  %5s  ", "-", "-");
    if (redraws)
        buffer_printf(out, "%7d  ", quality->redraws);
}

void quality_put_json(struct json_writer *writer, const struct quality *quality, unsigned past) {
    json_put_double(writer, "drift", quality->drift);
    json_put_double(writer, "seam", quality->seam);
    json_put_int(writer, "redraws", quality->redraws);
    json_begin_array(writer, "past_limits");
    if (past & QUALITY_DRIFT)
        json_put_text(writer, NULL, "drift");
    if (past & QUALITY_SEAM)
        json_put_text(writer, NULL, "seam");
    json_end_array(writer);
}

void quality_warn(struct buffer *out, const char *video, const struct quality *quality) {
    unsigned past = quality_past(quality);
    if (!past)
        return;
    buffer_printf(out, "warning: %s: ", video);
    if (past & QUALITY_DRIFT)
        buffer_printf(out, "drift %.3g is past the limit of %g", quality->drift,
                      quality->drift_limit);
    if (past == (QUALITY_DRIFT | QUALITY_SEAM))
        buffer_add_text(out, " and ");
    if (past & QUALITY_SEAM)
        buffer_printf(out, "seam %.3g is past the limit of %g", quality->seam, quality->seam_limit);
    if (quality->redraws)
        buffer_printf(out, " after %d redraw%s\n", quality->redraws,
                      quality->redraws == 1 ? "" : "s");
    else
        buffer_add_text(out, ": the job asks for no redraws\n");
}
