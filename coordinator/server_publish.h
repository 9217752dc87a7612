/* Publishing: a staged file (or folder of pictures) to its final name, whole or not at all.
 * Blocking disk work; called by the server's thread between two commits. */
#ifndef VIDLOOM_COORDINATOR_SERVER_PUBLISH_H
#define VIDLOOM_COORDINATOR_SERVER_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

struct publish {
    const char *staged, *path; /* beside each other */
    struct hash hash;          /* of what is staged: plan.h, mux */
    int64_t bytes;
    bool replace; /* what is at `path` may go */
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

#endif
