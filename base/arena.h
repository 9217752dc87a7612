/* Arenas: reserve once, hand out in order, give back all at once.
 *
 * An arena reserves address space; the kernel commits a page when it is first touched, so a large
 * capacity costs nothing until it is used. Every block is aligned to ARENA_ALIGN bytes and zeroed
 * only if asked for. One thread at a time.
 *
 * A *measuring* arena has no memory: it hands out addresses that must not be touched and counts.
 * Model code run against a measuring arena and the `ops_measure` table (kernels/ops.h) gives the
 * bytes that the real run will take, from the same code path.
 *
 * An arena over a device's memory (ops->arena_open) hands out device addresses: no arena_zalloc and
 * no arena_strdup there. */
#ifndef VIDLOOM_BASE_ARENA_H
#define VIDLOOM_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ARENA_ALIGN 64

struct arena {
    uint8_t *base;
    size_t capacity; /* bytes reserved */
    size_t used;     /* bytes handed out, alignment included */
    size_t peak;     /* highest `used` since open */
    bool measuring;
    void (*release)(void *base); /* how a device's memory is given back; NULL: host memory */
};

/* Reserve `capacity` bytes. Errors: ERR_MEMORY with the bytes asked for. */
MUST_CHECK enum error_code arena_open(struct arena *arena, size_t capacity, struct error *error);
void arena_open_measuring(struct arena *arena);
void arena_close(struct arena *arena); /* a zeroed arena is fine */

/* NULL when it does not fit; the contents are undefined (arena_zalloc: zero). A zero size is fine.
 */
void *arena_alloc(struct arena *arena, size_t bytes);
void *arena_zalloc(struct arena *arena, size_t bytes);
/* count * size with the multiplication checked. */
void *arena_array(struct arena *arena, size_t count, size_t size);
char *arena_strdup(struct arena *arena, const char *text, size_t length); /* adds a NUL */

/* Return to an earlier `used`: size_t mark = arena.used; ...; arena_reset(&arena, mark).
 * Memory above the mark may be reused; what was there is undefined. */
void arena_reset(struct arena *arena, size_t mark);

#endif
