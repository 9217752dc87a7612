#include "worker/model/text_points.h"

#include <stdlib.h>
#include <string.h>

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
        step = utf8_next(&point, text + i, length - i);
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
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; point >>= 6)
        bytes[i] = (char)(0x80 | (point & 0x3f));
    bytes[0] = (char)(length == 1 ? point : lead[length] | point);
    buffer_add(buffer, bytes, length);
}

void buffer_add_points(struct buffer *buffer, const uint32_t *points, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_add_point(buffer, points[i]);
}

size_t utf8_next(uint32_t *point, const char *text, size_t left) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *s = (const uint8_t *)text;
    if (left == 0)
        return 0;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (length == 0 || length > left || s[0] > 0xf4)
        return 0;
    uint32_t c = length == 1 ? s[0] : s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *point = c;
    return length;
}

bool points_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}
