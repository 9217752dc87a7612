/* ZIP files of stored members built in memory, with lies where a test asks for them. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_ZIP_BUILD_H
#define VIDLOOM_TESTS_WORKER_MODEL_ZIP_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

struct zip_build {
    const char *name;
    const void *bytes;
    size_t length;
    const char *local_name; /* in the header before the bytes; NULL: the same */
    int method, flags;
    uint64_t offset_added; /* to where it is */
    uint64_t size_added;
    bool zip64; /* its fields are in the extra field */
};

/* A little-endian number. */
void put_number(struct buffer *out, uint64_t value, int bytes);

/* `stated`: how many members the directory says there are. The caller closes the buffer. */
struct buffer zip_build(const struct zip_build *members, size_t count, bool zip64, uint64_t stated);

#endif
