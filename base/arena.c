#include "base/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Where a measuring arena pretends to be: not a canonical address on any 64-bit machine of today,
 * so that a touch faults. */
#define MEASURING_BASE     ((uintptr_t)1 << 62)
#define MEASURING_CAPACITY ((size_t)1 << 60)

enum error_code arena_open(struct arena *arena, size_t capacity, struct error *error) {
    *arena = (struct arena){0};
    if (capacity == 0)
        capacity = ARENA_ALIGN;
    void *base = mmap(NULL, capacity, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return error_set(error, ERR_MEMORY, "cannot reserve %zu bytes: %s", capacity,
                         errno == ENOMEM ? "not enough memory or address space" : "refused");
    arena->base = base;
    arena->capacity = capacity;
    return ERR_OK;
}

void arena_open_measuring(struct arena *arena) {
    *arena = (struct arena){
        .base = (uint8_t *)MEASURING_BASE, .capacity = MEASURING_CAPACITY, .measuring = true};
}

void arena_close(struct arena *arena) {
    if (arena->release)
        arena->release(arena->base);
    else if (arena->base && !arena->measuring)
        (void)munmap(arena->base, arena->capacity);
    *arena = (struct arena){0};
}

/* As arena_alloc; *dirty is how many bytes at the block's start may have been used before. */
static void *take(struct arena *arena, size_t bytes, size_t *dirty) {
    *dirty = 0;
    if (!arena->base || bytes > arena->capacity - arena->used)
        return NULL;
    size_t start = arena->used, end = start + bytes;
    size_t padding = (ARENA_ALIGN - end % ARENA_ALIGN) % ARENA_ALIGN;
    end = padding > arena->capacity - end ? arena->capacity : end + padding;
    if (arena->peak > start) {
        size_t used_before = arena->peak - start;
        *dirty = used_before < bytes ? used_before : bytes;
    }
    arena->used = end;
    if (end > arena->peak)
        arena->peak = end;
    /* By integers: a measuring arena has no object that a pointer could move within. */
    return (void *)((uintptr_t)arena->base + start);
}

void *arena_alloc(struct arena *arena, size_t bytes) {
    size_t dirty;
    return take(arena, bytes, &dirty);
}

void *arena_zalloc(struct arena *arena, size_t bytes) {
    size_t dirty;
    void *block = take(arena, bytes, &dirty);
    /* Pages above the peak were never touched: the kernel gives them zeroed. */
    if (block && dirty && !arena->measuring)
        memset(block, 0, dirty);
    return block;
}

void *arena_array(struct arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return arena_alloc(arena, bytes);
}

char *arena_strdup(struct arena *arena, const char *text, size_t length) {
    if (length == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(arena, length + 1);
    if (copy && !arena->measuring) {
        if (length)
            memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

void arena_reset(struct arena *arena, size_t mark) {
    if (mark < arena->used)
        arena->used = mark;
}
