/* A text as code points, growing. One thread at a time. As struct buffer: memory failure is sticky,
 * and a writer checks `failed` once at the end. Inside of the text path only. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_POINTS_H
#define VIDLOOM_WORKER_MODEL_TEXT_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct points {
    uint32_t *at;
    size_t length, capacity;
    bool failed;
};

void points_add(struct points *points, const uint32_t *more, size_t count);
void points_add_one(struct points *points, uint32_t point);
void points_add_utf8(struct points *points, const char *text, size_t length); /* valid UTF-8 */
bool points_equal(const struct points *a, const struct points *b);
void points_swap(struct points *a, struct points *b);
void points_close(struct points *points);

/* UTF-8 of one code point, or of all of them. */
void buffer_add_point(struct buffer *buffer, uint32_t point);
void buffer_add_points(struct buffer *buffer, const uint32_t *points, size_t count);

/* What Python's str.isspace and \s take for white space. */
bool points_is_space(uint32_t point);

#endif
