/* Arrays that grow one item at a time: twice as long each time, so that adding n takes time in
 * proportion to n. */
#ifndef VIDLOOM_BASE_GROW_H
#define VIDLOOM_BASE_GROW_H

#include <stddef.h>

/* `items`, a malloc'd array (NULL: none yet) of `capacity` items of `size` bytes, with room for one
 * more than `count`: itself, or moved to where it is longer. NULL: no memory; then `items` and
 * `capacity` are as they were. */
void *grow(void *items, size_t *capacity, size_t count, size_t size);

#endif
