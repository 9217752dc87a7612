/* A growing byte string, always NUL-terminated after its length. One thread at a time.
 * Memory failure is sticky: `failed` is set, later calls do nothing, and buffer_take gives NULL, so
 * a writer checks once at the end. */
#ifndef VIDLOOM_BASE_BUFFER_H
#define VIDLOOM_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct buffer {
    char *data; /* NULL until something is added */
    size_t length, capacity;
    bool failed;
};

void buffer_add(struct buffer *buffer, const void *bytes, size_t length);
void buffer_add_text(struct buffer *buffer, const char *text);
/* A text from outside, for a terminal: each control character (text.h) is a '?'. */
void buffer_add_shown(struct buffer *buffer, const char *text);
void buffer_printf(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
char *buffer_take(struct buffer *buffer); /* caller frees; the buffer is empty again */
void buffer_close(struct buffer *buffer);

#endif
