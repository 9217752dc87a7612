/* Errors: a code and one line of detail, in the caller's storage.
 *
 * A function that can fail returns enum error_code, is marked MUST_CHECK, and takes a
 * `struct error *` last. It fills the error on failure and leaves it alone on success. Modules
 * return errors; programs log them, once. The same numbers cross the wire, so codes are only ever
 * added at the end.
 *
 * Any thread. Nothing here allocates. */
#ifndef VIDLOOM_BASE_ERROR_H
#define VIDLOOM_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#if defined(__GNUC__)
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index)                                                     \
    __attribute__((format(printf, format_index, first_index)))
#else
#define MUST_CHECK
#define PRINTF_LIKE(format_index, first_index)
#endif

/* What the failure means for the work in hand. */
enum error_class {
    ERROR_CLASS_NONE,
    ERROR_CLASS_RETRY,       /* the same task may succeed elsewhere or later */
    ERROR_CLASS_FAIL_JOB,    /* the input is wrong: trying again cannot help */
    ERROR_CLASS_STOP_WORKER, /* this worker cannot be trusted to go on */
};

/* code, exit status of a program that ends with it, class, sentence */
#define ERROR_CODES(X)                                                                             \
    X(ERR_OK, 0, ERROR_CLASS_NONE, "no error")                                                     \
    X(ERR_USAGE, 2, ERROR_CLASS_FAIL_JOB, "the command line or a file is wrong")                   \
    X(ERR_FORMAT, 2, ERROR_CLASS_FAIL_JOB, "malformed data")                                       \
    X(ERR_SHAPE, 2, ERROR_CLASS_FAIL_JOB, "a size or shape does not fit")                          \
    X(ERR_MISSING, 2, ERROR_CLASS_FAIL_JOB, "something that was named is not there")               \
    X(ERR_UNSUPPORTED, 2, ERROR_CLASS_FAIL_JOB, "not supported")                                   \
    X(ERR_LIMIT, 2, ERROR_CLASS_FAIL_JOB, "a limit was exceeded")                                  \
    X(ERR_MEMORY, 1, ERROR_CLASS_RETRY, "not enough memory")                                       \
    X(ERR_IO, 1, ERROR_CLASS_RETRY, "reading or writing failed")                                   \
    X(ERR_FULL, 1, ERROR_CLASS_RETRY, "the disk is full")                                          \
    X(ERR_DENIED, 1, ERROR_CLASS_FAIL_JOB, "not permitted")                                        \
    X(ERR_DEVICE, 1, ERROR_CLASS_STOP_WORKER, "the compute device failed")                         \
    X(ERR_NETWORK, 3, ERROR_CLASS_RETRY, "the coordinator or worker cannot be reached")            \
    X(ERR_STALE, 1, ERROR_CLASS_NONE, "the lease is no longer held")                               \
    X(ERR_BUSY, 1, ERROR_CLASS_RETRY, "in use by another process")                                 \
    X(ERR_INTERRUPTED, 130, ERROR_CLASS_RETRY, "interrupted")                                      \
    X(ERR_INTERNAL, 1, ERROR_CLASS_STOP_WORKER, "a mistake in vidloom itself")

enum error_code {
#define X(code, exit_status, class, sentence) code,
    ERROR_CODES(X)
#undef X
        ERROR_CODE_COUNT
};

#define ERROR_DETAIL_BYTES 1024

struct error {
    enum error_code code;
    char detail[ERROR_DETAIL_BYTES]; /* what, where, expected, what to do; one line, no newline */
};

/* Fill `error` (may be NULL) and return `code`, so that a caller can `return error_set(...)`.
 * A detail that is too long is cut. */
enum error_code error_set(struct error *error, enum error_code code, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Put context in front of the detail that is there: "job.yaml:3:7: " + detail. Returns its code. */
enum error_code error_prefix(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

/* errno of a failed system call to a code: ENOSPC and EDQUOT are ERR_FULL, ENOENT ERR_MISSING,
 * EACCES, EPERM and EROFS ERR_DENIED, ELOOP and ENAMETOOLONG ERR_USAGE, ENOMEM
 * ERR_MEMORY, the rest ERR_IO.
 * The detail becomes "<formatted>: <strerror>". */
enum error_code error_set_errno(struct error *error, int errno_value, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* "ERR_SHAPE"; "unknown" for a number that is no code. */
const char *error_name(enum error_code code);
const char *error_sentence(enum error_code code);
enum error_class error_class_of(enum error_code code);
int error_exit_status(enum error_code code);

#ifdef __clang_analyzer__
/* The analyser does not see into error.c. These tell it that a code that was set is returned, and
 * that a failed system call is never ERR_OK; else it follows paths on which an error is none. */
#define error_set(error, code, ...) ((void)(error_set)((error), (code), __VA_ARGS__), (code))
#define error_set_errno(error, number, ...)                                                        \
    ((void)(error_set_errno)((error), (number), __VA_ARGS__), ERR_IO)
#endif

#endif
