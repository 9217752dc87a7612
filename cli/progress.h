/* Progress of a job, shown: bars on a terminal, plain lines in a log, JSON for a program.
 *
 * Rendering is a set of pure functions from the state to text (tests/cli/progress.c). The driver at
 * the end of this file owns the stream: it redraws in place at most ten times a second, hides the
 * cursor meanwhile, and gives it back. One thread. */
#ifndef VIDLOOM_CLI_PROGRESS_H
#define VIDLOOM_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/quality.h"

enum progress_phase {
    PHASE_WAITING,
    PHASE_RUNNING,
    PHASE_DONE,
    PHASE_FAILED,
    PHASE_CANCELED,
    PHASE_COUNT
};
const char *progress_phase_name(enum progress_phase phase); /* "waiting", … */

struct progress_video {
    const char *name;
    enum progress_phase phase;
    const char *stage;         /* what it is at: "keyframe", "window", "decode", "mux"; "" */
    int windows, windows_done; /* of the whole video */
    int step, steps;           /* of the window or keyframe being denoised; steps 0: no steps */
    double seconds;            /* length of the video, s */
    double took;               /* work it took so far, s; for the speed of a finished one */
    struct quality quality;    /* of what is there of it */
    bool before;               /* it had ended when this program began to follow */
    const char *path;          /* where it is published; NULL or "": not yet */
    const char *error;         /* why it failed; NULL or "": it did not */
};

struct progress {
    const char *job;
    const struct progress_video *videos;
    int count;
    double elapsed;       /* s since this program began to follow */
    double done_at_start; /* s of video that were there at that moment (see progress_done) */
    bool paused;
};

/* Seconds of video made so far; windows and steps under way count in part. */
double progress_done(const struct progress *state);
/* The part of one video that is made, 0..1. */
double progress_fraction(const struct progress_video *video);

struct progress_sums {
    int done, failed, canceled, running;
    double seconds, seconds_done; /* of video; failed and canceled ones are left out of `seconds` */
    double left;                  /* s until the end at this pace; -1: not known yet */
    double speed;                 /* seconds of video a second; 0: not known yet */
};
void progress_sum(struct progress_sums *out, const struct progress *state);

struct progress_style {
    int columns; /* of the terminal; lines are cut to this */
    int rows;    /* more running videos than fit are counted in one line */
    bool utf8, colour;
};

/* The block of bars, each line ended by '\n', and in *lines (may be NULL) how many there are. */
void progress_bars(struct buffer *out, int *lines, const struct progress *state,
                   const struct progress_style *style);
/* One line about a video that has ended; "" while it has not. */
void progress_ended(struct buffer *out, const struct progress_video *video,
                    const struct progress_style *style);
/* One line for a log: the totals. */
void progress_line(struct buffer *out, const struct progress *state);
/* One JSON object and '\n'. */
void progress_json(struct buffer *out, const struct progress *state);
void progress_json_video(struct buffer *out, const struct progress_video *video);

/* -- driver ------------------------------------------------------------------------------------ */

enum progress_form { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_LINES, PROGRESS_JSON, PROGRESS_QUIET };

struct progress_view;

/* JSON goes to `out`, bars and lines go to `err`. AUTO: bars if `err` is a terminal, else lines.
 * Errors: ERR_MEMORY. */
MUST_CHECK enum error_code progress_open(struct progress_view **out_view, enum progress_form form,
                                         FILE *out, FILE *err, struct error *error);
/* Show the state if something ended or enough time has passed; `now` is monotonic nanoseconds.
 * The videos must keep their order and number from call to call. */
void progress_show(struct progress_view *view, const struct progress *state, int64_t now);
/* Take the bars away and give the cursor back. NULL is fine. */
void progress_close(struct progress_view **view);

#endif
