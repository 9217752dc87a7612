/* One line an event: time, level, subject, key=value. Programs log; modules return errors.
 * Any thread; a line is one write, whatever the stream's buffering. */
#ifndef VIDLOOM_BASE_LOG_H
#define VIDLOOM_BASE_LOG_H

#include <stdio.h>

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log;

/* Write to `stream` (not closed by log_close) lines at `level` and more important ones. */
MUST_CHECK enum error_code log_open(struct log **out, FILE *stream, enum log_level level,
                                    struct error *error);
void log_close(struct log **log);

/* "2026-11-23T21:40:00.123Z info worker: lease task=… attempt=1". `log` may be NULL: silence.
 * Control characters in the result are escaped, so that a prompt cannot forge a line. */
void log_line(struct log *log, enum log_level level, const char *subject, const char *format, ...)
    PRINTF_LIKE(4, 5);

#endif
