#include "base/grow.h"

#include <stdint.h>
#include <stdlib.h>

void *grow(void *items, size_t *capacity, size_t count, size_t size) {
    if (items && count < *capacity)
        return items;
    size_t larger = *capacity ? 2 * *capacity : 1;
    void *moved = larger > SIZE_MAX / 2 / size ? NULL : realloc(items, larger * size);
    if (moved)
        *capacity = larger;
    return moved;
}
