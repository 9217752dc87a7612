/* From numbers to pointers: open addressing, no tombstones. */
#include "coordinator/scheduler_internal.h"

#include <stdlib.h>

static size_t id_map_slot(const struct id_map *map, uint64_t key) {
    uint64_t mixed = key * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(mixed >> 32) & map->mask;
    while (map->keys[at] && map->keys[at] != key)
        at = (at + 1) & map->mask;
    return at;
}

void *id_map_get(const struct id_map *map, uint64_t key) {
    if (!map->keys || !key)
        return NULL;
    size_t at = id_map_slot(map, key);
    return map->keys[at] ? map->values[at] : NULL;
}

static bool id_map_grow(struct id_map *map) {
    struct id_map old = *map;
    size_t slots = old.keys ? 2 * (old.mask + 1) : 64;
    uint64_t *keys = calloc(slots, sizeof *keys);
    void **values = calloc(slots, sizeof *values);
    if (!keys || !values) {
        free(keys);
        free(values);
        return false;
    }
    *map = (struct id_map){.keys = keys, .values = values, .mask = slots - 1, .count = old.count};
    for (size_t i = 0; old.keys && i <= old.mask; i++)
        if (old.keys[i]) {
            size_t at = id_map_slot(map, old.keys[i]);
            keys[at] = old.keys[i];
            values[at] = old.values[i];
        }
    id_map_close(&old);
    return true;
}

bool id_map_put(struct id_map *map, uint64_t key, void *value) {
    if ((!map->keys || map->count * 2 > map->mask) && !id_map_grow(map))
        return false;
    size_t at = id_map_slot(map, key);
    map->count += !map->keys[at];
    map->keys[at] = key;
    map->values[at] = value;
    return true;
}

void id_map_remove(struct id_map *map, uint64_t key) {
    if (!map->keys)
        return;
    size_t at = id_map_slot(map, key);
    if (!map->keys[at])
        return;
    map->keys[at] = 0;
    map->count--;
    /* What follows may have stood where it stands only because of this one. */
    for (at = (at + 1) & map->mask; map->keys[at]; at = (at + 1) & map->mask) {
        uint64_t moved = map->keys[at];
        void *value = map->values[at];
        map->keys[at] = 0;
        size_t to = id_map_slot(map, moved);
        map->keys[to] = moved;
        map->values[to] = value;
    }
}

void id_map_close(struct id_map *map) {
    free(map->keys);
    free(map->values);
}
