#include "worker/model/text_points.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define POINTS_FIRST 64

void points_add(struct points *points, const uint32_t *more, size_t count) {
    if (points->failed || count == 0)
        return;
    if (count > points->capacity - points->length) {
        size_t capacity = points->capacity > 0 ? points->capacity : POINTS_FIRST;
        while (capacity - points->length < count && capacity <= SIZE_MAX / 16)
            capacity *= 2;
        uint32_t *at = capacity - points->length < count
                           ? NULL
                           : realloc(points->at, capacity * sizeof *points->at);
        if (at == NULL) {
            points->failed = true;
            return;
        }
        points->at = at;
        points->capacity = capacity;
    }
    memcpy(points->at + points->length, more, count * sizeof *more);
    points->length += count;
}

void points_add_one(struct points *points, uint32_t point) {
    points_add(points, &point, 1);
}

void points_add_utf8(struct points *points, const char *text, size_t length) {
    uint32_t point;
    for (size_t i = 0, step; i < length; i += step) {
        step = text_next_point(&point, text + i, length - i);
        if (step == 0)
            return;
        points_add_one(points, point);
    }
}

bool points_equal(const struct points *a, const struct points *b) {
    return a->length == b->length &&
           (a->length == 0 || memcmp(a->at, b->at, a->length * sizeof *a->at) == 0);
}

void points_swap(struct points *a, struct points *b) {
    struct points other = *a;
    *a = *b;
    *b = other;
}

void points_close(struct points *points) {
    free(points->at);
    *points = (struct points){0};
}

void buffer_add_point(struct buffer *buffer, uint32_t point) {
    char bytes[4];
    buffer_add(buffer, bytes, text_put_point(bytes, point));
}

void buffer_add_points(struct buffer *buffer, const uint32_t *points, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_add_point(buffer, points[i]);
}

bool points_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}
