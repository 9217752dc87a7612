#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"

#define LINE_BYTES 8192 /* of the message; what is longer is cut and marked */

struct log {
    FILE *stream;
    enum log_level level;
    pthread_mutex_t lock; /* a line is written whole, whatever the stream's buffering */
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

static void write_escaped(FILE *stream, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = printable(at);
        if (length) {
            (void)fwrite(at, 1, length, stream);
            at += length;
            continue;
        }
        if (*at == '\n')
            (void)fputs("\\n", stream);
        else if (*at == '\t')
            (void)fputs("\\t", stream);
        else
            (void)fprintf(stream, "\\x%02x", *at);
        at++;
    }
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
    (void)fprintf(log->stream, "%s.%03dZ %s ", stamp, (int)(now % CLOCK_S / CLOCK_MS),
                  names[level]);
    write_escaped(log->stream, subject);
    (void)fputs(": ", log->stream);
    write_escaped(log->stream, text);
    if ((size_t)length >= sizeof text)
        (void)fprintf(log->stream, " [cut: %d bytes]", length);
    (void)fputc('\n', log->stream);
    (void)fflush(log->stream);
    pthread_mutex_unlock(&log->lock);
}
