/* The directory of a ZIP file whose members are stored, not compressed: where each one's bytes are.
 * Nothing is written or unpacked. Refused: compression, encryption, several disks, members that
 * overlap or leave the file, names twice, names that lead out of a folder. ZIP64 is understood.
 *
 * Source: PKWARE's APPNOTE.TXT. Any thread. */
#ifndef VIDLOOM_WORKER_MODEL_ZIP_H
#define VIDLOOM_WORKER_MODEL_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define ZIP_MEMBERS_MAX 65535

struct zip_member {
    const char *name;
    uint64_t begin, end; /* its bytes in the file */
    uint64_t header;     /* where its local header begins */
    uint32_t crc;
};

struct zip {
    struct zip_member *member; /* in order of names */
    size_t count;
};

/* Whether it begins like a ZIP. */
bool zip_is(const uint8_t *bytes, size_t size);
/* Errors: ERR_FORMAT, ERR_UNSUPPORTED (compression), ERR_LIMIT. Members are in the arena. */
MUST_CHECK enum error_code zip_read(struct zip *out, struct arena *arena, const uint8_t *bytes,
                                    size_t size, struct error *error);
/* NULL when there is none. */
const struct zip_member *zip_find(const struct zip *zip, const char *name);
/* The member's bytes against its checksum. */
bool zip_is_whole(const struct zip_member *member, const uint8_t *bytes);

#endif
