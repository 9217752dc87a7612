#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Make room for `extra` more bytes and the NUL. */
static bool reserve(struct buffer *buffer, size_t extra) {
    if (buffer->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(buffer->length, extra, &need) || need > PTRDIFF_MAX - 1) {
        buffer->failed = true;
        return false;
    }
    need++;
    if (buffer->data && need <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < need)
        capacity = capacity > PTRDIFF_MAX / 2 ? need : capacity * 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t length) {
    if (!reserve(buffer, length))
        return;
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void buffer_add_text(struct buffer *buffer, const char *text) {
    buffer_add(buffer, text, strlen(text));
}

void buffer_add_shown(struct buffer *buffer, const char *text) {
    while (*text) {
        size_t bytes = 0, control;
        while (text[bytes] && !text_control(text + bytes))
            bytes++;
        buffer_add(buffer, text, bytes);
        text += bytes;
        control = text_control(text);
        buffer_add(buffer, "?", control ? 1 : 0);
        text += control;
    }
}

void buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char small[256];
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(small, sizeof small, format, arguments);
    if (length < 0) {
        buffer->failed = true;
    } else if ((size_t)length < sizeof small) {
        buffer_add(buffer, small, (size_t)length);
    } else if (reserve(buffer, (size_t)length)) {
        (void)vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

char *buffer_take(struct buffer *buffer) {
    if (!buffer->failed && !buffer->data)
        buffer_add(buffer, "", 0);
    char *data = buffer->data;
    if (buffer->failed) {
        free(data);
        data = NULL;
    }
    *buffer = (struct buffer){0};
    return data;
}

void buffer_close(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}
