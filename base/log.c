#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"

#define LINE_BYTES 8192 /* of the message; what is longer is cut and marked */

struct log {
    FILE *stream;
    enum log_level level;
    pthread_mutex_t lock; /* guards the line that is being made */
    struct buffer line;
};

enum error_code log_open(struct log **out, FILE *stream, enum log_level level,
                         struct error *error) {
    *out = NULL;
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return error_set(error, ERR_MEMORY, "no memory for the log");
    log->stream = stream;
    log->level = level;
    int failure = pthread_mutex_init(&log->lock, NULL);
    if (failure) {
        free(log);
        return error_set_errno(error, failure, "cannot make a lock for the log");
    }
    *out = log;
    return ERR_OK;
}

void log_close(struct log **log) {
    if (!*log)
        return;
    (void)fflush((*log)->stream);
    pthread_mutex_destroy(&(*log)->lock);
    buffer_close(&(*log)->line);
    free(*log);
    *log = NULL;
}

/* How many bytes at `at` can be printed as they are: 0 for a control character (C0, DEL, or the C1
 * set, which moves a terminal's cursor too), a line separator, or a byte that is not UTF-8. */
static size_t printable(const unsigned char *at) {
    if (at[0] < 0x20 || at[0] == 0x7F)
        return 0;
    if (at[0] < 0x80)
        return 1;
    size_t length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    size_t there = strnlen((const char *)at, length);
    if (there < length || !text_is_utf8((const char *)at, length, NULL))
        return 0;
    if (at[0] == 0xC2 && at[1] < 0xA0)
        return 0;
    if (at[0] == 0xE2 && at[1] == 0x80 && (at[2] == 0xA8 || at[2] == 0xA9))
        return 0;
    return length;
}

static void add_escaped(struct buffer *line, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = 0, step;
        while ((step = printable(at + length)) != 0)
            length += step;
        buffer_add(line, at, length);
        at += length;
        if (!*at)
            break;
        if (*at == '\n')
            buffer_add_text(line, "\\n");
        else if (*at == '\t')
            buffer_add_text(line, "\\t");
        else
            buffer_printf(line, "\\x%02x", *at);
        at++;
    }
}

/* All of it at once, also to an unbuffered stream: else every piece is a system call of its own,
 * and lines of two processes mix. */
static void write_line(struct log *log) {
    if (!log->line.failed)
        (void)fwrite(log->line.data, 1, log->line.length, log->stream);
    (void)fflush(log->stream);
    if (log->line.failed)
        buffer_close(&log->line); /* the line is lost; the next may fit */
    log->line.length = 0;
}

void log_line(struct log *log, enum log_level level, const char *subject, const char *format, ...) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (!log || level > log->level)
        return;

    char text[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;

    int64_t now = clock_wall_ns();
    time_t seconds = (time_t)(now / CLOCK_S);
    struct tm utc = {0};
    char stamp[32] = "";
    if (!gmtime_r(&seconds, &utc) || !strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc))
        stamp[0] = '\0';

    pthread_mutex_lock(&log->lock);
    struct buffer *line = &log->line;
    buffer_printf(line, "%s.%03dZ %s ", stamp, (int)(now % CLOCK_S / CLOCK_MS), names[level]);
    add_escaped(line, subject);
    buffer_add_text(line, ": ");
    add_escaped(line, text);
    if ((size_t)length >= sizeof text)
        buffer_printf(line, " [cut: %d bytes]", length);
    buffer_add_text(line, "\n");
    write_line(log);
    pthread_mutex_unlock(&log->lock);
}
