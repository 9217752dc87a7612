/* What clients upload before they submit: job files, prompt lists, images, by content hash.
 *
 *   FOLDER/<64 hex>        whole: its bytes have that hash; synced
 *   FOLDER/<64 hex>.part   arriving; what a crash leaves is removed at open
 *
 * The folder is the table: nothing else knows what is there. The time of last use is the file's
 * modification time. One thread, the server's. */
#ifndef VIDLOOM_COORDINATOR_SERVER_UPLOADS_H
#define VIDLOOM_COORDINATOR_SERVER_UPLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

#define SERVER_UPLOAD_BYTES       (64u << 20)          /* one file */
#define SERVER_UPLOAD_TOTAL_BYTES (UINT64_C(16) << 30) /* all files */
#define SERVER_UPLOAD_COUNT       100000               /* files */
#define SERVER_UPLOAD_PARTS       64                   /* arriving at once, over all clients */
#define SERVER_UPLOAD_AGE_NS      (3600 * CLOCK_S)     /* unused ones are removed after this */
#define SERVER_UPLOAD_SHORT_NS    (60 * CLOCK_S)       /* … or this, when there are too many */

struct uploads;

/* Makes the folder if it is not there. Errors: ERR_IO, ERR_DENIED, ERR_FULL, ERR_MEMORY. */
MUST_CHECK enum error_code uploads_open(struct uploads **out, const char *folder,
                                        struct error *error);
void uploads_close(struct uploads **uploads); /* NULL is fine */

struct upload_chunk {
    struct hash hash; /* of the whole */
    uint64_t size;    /* of the whole */
    uint64_t offset;
    const void *bytes;
    size_t length; /* 0 asks how much is there */
    int64_t wall_ns;
};
/* Take a chunk. *next: bytes that are there, the offset to go on from; `size` when it is whole and
 * safe on disk. A chunk at another offset changes nothing (a repeated message). Errors: ERR_LIMIT
 * (too large; too many), ERR_FORMAT (the bytes do not have that hash; they are thrown away),
 * ERR_FULL, ERR_IO. */
MUST_CHECK enum error_code uploads_add(struct uploads *uploads, uint64_t *next,
                                       const struct upload_chunk *chunk, struct error *error);

/* The path and size of a whole upload, which counts as used now. False: it is not there. */
bool uploads_find(struct uploads *uploads, char path[FILE_PATH_BYTES], int64_t *size,
                  const struct hash *hash);

/* Whether so many that unused ones should go early. */
bool uploads_crowded(const struct uploads *uploads);
/* Remove what was last used before `before_ns` (wall clock) and is not among `kept`, which is
 * sorted by uploads_compare. Part files of that age too. */
void uploads_sweep(struct uploads *uploads, const struct hash *kept, size_t count,
                   int64_t before_ns);
int uploads_compare(const void *a, const void *b); /* of struct hash, for qsort */

#endif
