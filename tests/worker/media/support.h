/* What the tests of media/ share: a scratch folder, a drawn moving pattern, and a reader that is
 * FFmpeg's own, used as players use it. */
#ifndef VIDLOOM_TESTS_WORKER_MEDIA_SUPPORT_H
#define VIDLOOM_TESTS_WORKER_MEDIA_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/file.h"
#include "worker/media/media.h"

/* Fails the test with the error's detail. */
#define assert_ok(call, error)                                                                     \
    do {                                                                                           \
        enum error_code assert_ok_code = (call);                                                   \
        if (assert_ok_code)                                                                        \
            fail_msg("%s: %s: %s", #call, error_name(assert_ok_code), (error)->detail);            \
    } while (0)
/* The code, and that the detail has `part` in it and is one line. */
void assert_error(enum error_code got, enum error_code expected, const struct error *error,
                  const char *part);

int scratch_setup(void **state); /* *state: the folder's path */
int scratch_teardown(void **state);
/* folder/name, in one of a few static buffers of the calling thread. */
const char *scratch_path(void **state, const char *name);

/* Frame `index` of the pattern: a soft disc that moves over a gradient. [height,width,3] */
void pattern_draw(uint8_t *rgb, int width, int height, int index);
/* Frames [first, first+count) of the pattern as a segment. */
enum error_code pattern_segment(const char *path, const struct media_spec *spec, int first,
                                int count, struct error *error);

uint8_t *read_bytes(const char *path, size_t *length); /* malloc'ed; fails the test */
void write_bytes(const char *path, const void *bytes, size_t length);
void assert_same_bytes(const char *a, const char *b);
int folder_entries(const char *path); /* without "." and ".." */

/* As a player sees it. */
struct played {
    int frames, width, height;
    char codec[32], format[64], primaries[32], transfer[32], matrix[32], range[32];
    double first_pts, last_pts, seconds; /* of the container */
    double pts_error;                    /* the largest distance from index / fps, in seconds */
    double psnr;                         /* against the pattern, dB; 99: identical */
    int64_t first_dts_index;             /* of the first packet, in frames; 0 or negative */
    char *provenance;                    /* the tag; malloc'ed */
};
void play(struct played *out, const char *path, double fps);

#endif
