/* Where outputs go on this machine's disk, and what they may take the place of. Blocking disk work;
 * any thread, one struct by one thread at a time. */
#ifndef VIDLOOM_COORDINATOR_OUTPUT_H
#define VIDLOOM_COORDINATOR_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

/* Remembers the last folder, as the videos of a job mostly share one. Zero it but for `root`. */
struct output_places {
    const char *root; /* absolute, in front of relative paths; NULL: the current folder */
    char folder[FILE_PATH_BYTES], found[FILE_PATH_BYTES];
};

/* The one absolute name of the place that `path` names: links among its folders are followed, its
 * last part is not. Folders that are not there yet stay as written. Two paths name one place
 * if and only if this gives equal names. Errors: ERR_DENIED, ERR_USAGE (links in a circle),
 * ERR_LIMIT. */
MUST_CHECK enum error_code output_place(struct output_places *places, char out[FILE_PATH_BYTES],
                                        const char *path, struct error *error);

/* Whether the place `inner` is `outer`, or in it. */
bool output_is_inside(const char *inner, const char *outer);

/* Whether an output may replace what is at `path`: a file a file (or a link); a folder of pictures
 * a folder with nothing in it but pictures and provenance, as we write them. Nothing there: ERR_OK.
 * ERR_DENIED says what is there; ERR_IO. */
MUST_CHECK enum error_code output_may_replace(const char *path, bool folder, struct error *error);

/* Whether an output can be put at `path` without replacing: nothing is there, or an empty folder
 * for a folder of pictures. */
bool output_is_free(const char *path, bool folder);

/* Whether what was published at `path` with `bytes` bytes is there: a file of that size, or a
 * folder whose pictures together have it. No content is read: this is asked for every video of a
 * job.
 */
bool output_is_there(const char *path, int64_t bytes);

#endif
