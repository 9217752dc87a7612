/* What cmocka wants included before it, and a short way to list tests. */
#ifndef VIDLOOM_TESTS_BASE_TEST_H
#define VIDLOOM_TESTS_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
