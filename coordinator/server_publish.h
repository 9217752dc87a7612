/* Publishing: a staged file (or folder of pictures) to its final name, whole or not at all. It is
 * blocking disk work, so a thread of its own does it, when the intent is committed. */
#ifndef VIDLOOM_COORDINATOR_SERVER_PUBLISH_H
#define VIDLOOM_COORDINATOR_SERVER_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

struct publish {
    const char *staged, *path; /* beside each other */
    struct hash hash;          /* of what is staged: plan.h, mux */
    int64_t bytes;
    bool replace; /* what is at `path` may go, if output.h says that it is of that kind */
};

/* ERR_OK also when it is there already, whole, from an earlier call. Otherwise nothing has changed
 * at `path`. ERR_MISSING: nothing staged, or not what was announced (then it is removed): mux
 * again. ERR_DENIED: something else is at `path`, or the folder cannot be written. ERR_FULL,
 * ERR_IO. */
MUST_CHECK enum error_code publish_file(const struct publish *publish, struct error *error);

/* Whether `path` is a file or folder with this hash and size. */
bool publish_is_there(const char *path, const struct hash *hash, int64_t bytes);

/* A staged name, "…/.NAME.<epoch>.part", of the final path "…/NAME": its epoch. False: it is none.
 * `final` (at least as large as staged) receives the final name. */
bool publish_staged_epoch(uint64_t *epoch, char *final_name, const char *staged_name);

/* -- the thread -------------------------------------------------------------------------------- */

struct publisher;

struct published {
    uint64_t job;
    int video;
    enum error_code code; /* of publish_file */
    struct error error;
    char path[FILE_PATH_BYTES];
};

MUST_CHECK enum error_code publisher_open(struct publisher **out, struct error *error);
/* Ends what is at hand; what waits is left to the next start, as its intent is committed. NULL is
 * fine. */
void publisher_close(struct publisher **out);
/* After those that were added before; `publish` is copied. ERR_MEMORY. */
MUST_CHECK enum error_code publisher_add(struct publisher *publisher, uint64_t job, int video,
                                         const struct publish *publish, struct error *error);
bool publisher_take(struct publisher *publisher, struct published *out); /* the next that is done */
bool publisher_is_busy(struct publisher *publisher); /* something was added and not taken */

#endif
