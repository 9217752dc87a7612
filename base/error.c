#include "base/error.h"

#undef error_set
#undef error_set_errno

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    const char *name, *sentence;
    enum error_class class;
    int exit_status;
} codes[ERROR_CODE_COUNT] = {
#define X(code, exit_status, class, sentence) [code] = {#code, sentence, class, exit_status},
    ERROR_CODES(X)
#undef X
};

static bool is_code(enum error_code code) {
    return (unsigned)code < ERROR_CODE_COUNT;
}

/* Format into `out`, all on one line, cut at a whole UTF-8 character. The text is formatted aside
 * first because an argument may point into the error that is being filled. */
static void format_detail(char out[ERROR_DETAIL_BYTES], const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);

static void format_detail(char out[ERROR_DETAIL_BYTES], const char *format, va_list arguments) {
    char text[ERROR_DETAIL_BYTES];
    int length = vsnprintf(text, sizeof text, format, arguments);
    if (length < 0)
        text[0] = '\0';
    if (length >= (int)sizeof text) {
        /* The last character may have been cut in two: step back over its bytes and drop it. */
        size_t end = sizeof text - 1;
        while (end > 0 && ((unsigned char)text[end - 1] & 0xC0) == 0x80)
            end--;
        if (end > 0 && (unsigned char)text[end - 1] >= 0xC0)
            end--;
        else
            end = sizeof text - 1;
        text[end] = '\0';
    }
    for (char *at = text; *at; at++)
        memset(at, ' ', text_control(at));
    memcpy(out, text, strlen(text) + 1);
}

static void set_detail(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

static void set_detail(struct error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    format_detail(error->detail, format, arguments);
    va_end(arguments);
}

enum error_code error_set(struct error *error, enum error_code code, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        format_detail(error->detail, format, arguments);
        va_end(arguments);
        error->code = code;
    }
    return code;
}

enum error_code error_prefix(struct error *error, const char *format, ...) {
    if (!error)
        return ERR_INTERNAL; /* there is no code to give back */
    char prefix[ERROR_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_detail(prefix, format, arguments);
    va_end(arguments);
    set_detail(error, "%s%s", prefix, error->detail);
    return error->code;
}

enum error_code error_set_errno(struct error *error, int errno_value, const char *format, ...) {
    enum error_code code = ERR_IO;
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        code = ERR_FULL;
        break;
    case ENOENT:
        code = ERR_MISSING;
        break;
    case EACCES:
    case EPERM:
    case EROFS:
        code = ERR_DENIED;
        break;
    case ELOOP:
    case ENAMETOOLONG:
        code = ERR_USAGE;
        break;
    case ENOMEM:
        code = ERR_MEMORY;
        break;
    default:
        break;
    }
    if (error) {
        char what[ERROR_DETAIL_BYTES], number[64];
        va_list arguments;
        va_start(arguments, format);
        format_detail(what, format, arguments);
        va_end(arguments);
        set_detail(error, "%s: %s", what, strerror_r(errno_value, number, sizeof number));
        error->code = code;
    }
    return code;
}

const char *error_name(enum error_code code) {
    return is_code(code) ? codes[code].name : "unknown";
}

const char *error_sentence(enum error_code code) {
    return is_code(code) ? codes[code].sentence : "unknown error";
}

enum error_class error_class_of(enum error_code code) {
    return is_code(code) ? codes[code].class : ERROR_CLASS_STOP_WORKER;
}

int error_exit_status(enum error_code code) {
    return is_code(code) ? codes[code].exit_status : 1;
}
