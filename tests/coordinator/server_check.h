/* Checks that may fail in any thread: cmocka's longjmp only works in the test's own. */
#ifndef VIDLOOM_TESTS_SERVER_CHECK_H
#define VIDLOOM_TESTS_SERVER_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define check_ok(call, error_pointer)                                                              \
    do {                                                                                           \
        if ((call) != ERR_OK) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,                          \
                    (error_pointer)->detail);                                                      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
