/* The part of cmocka that the tests of a bare build use, for machines without it (a rented GPU with
 * nvcc and CMake and no network). */
#ifndef VIDLOOM_TESTS_BARE_CMOCKA_H
#define VIDLOOM_TESTS_BARE_CMOCKA_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*setup)(void **state), (*teardown)(void **state);
    void *initial_state;
};

#define cmocka_unit_test(function)                                                                 \
    { #function, function, NULL, NULL, NULL }
#define cmocka_unit_test_teardown(function, after)                                                 \
    { #function, function, NULL, after, NULL }
#define cmocka_unit_test_prestate(function, state)                                                 \
    { #function, function, NULL, NULL, state }
#define cmocka_unit_test_prestate_setup_teardown(function, before, after, state)                   \
    { #function, function, before, after, state }
#define cmocka_unit_test_setup_teardown(function, before, after)                                   \
    { #function, function, before, after, NULL }

enum { BARE_FAILED = 1, BARE_SKIPPED };

/* Where a test that ends early goes; one for all files of a program. */
extern jmp_buf bare_end;
__attribute__((weak)) jmp_buf bare_end;

#define print_message printf

__attribute__((noreturn, format(printf, 3, 4))) static inline void
bare_fail(const char *file, int line, const char *format, ...) {
    va_list values;
    va_start(values, format);
    (void)vprintf(format, values);
    va_end(values);
    printf("\n%s:%d: failed\n", file, line);
    longjmp(bare_end, BARE_FAILED);
}

static inline int bare_between(uintmax_t x, uintmax_t low, uintmax_t high) {
    return low <= x && x <= high;
}

#define fail_msg(...) bare_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip()        longjmp(bare_end, BARE_SKIPPED)

#define BARE_CHECK(holds, what)                                                                    \
    do {                                                                                           \
        if (!(holds))                                                                              \
            fail_msg("not so: %s", what);                                                          \
    } while (0)
#define assert_true(x)               BARE_CHECK(x, #x)
#define assert_false(x)              BARE_CHECK(!(x), "!(" #x ")")
#define assert_null(x)               BARE_CHECK((x) == NULL, #x " == NULL")
#define assert_non_null(x)           BARE_CHECK((x) != NULL, #x " != NULL")
#define assert_ptr_equal(a, b)       BARE_CHECK((a) == (b), #a " == " #b)
#define assert_memory_equal(a, b, n) BARE_CHECK(memcmp((a), (b), (n)) == 0, #a " equals " #b)
#define assert_memory_not_equal(a, b, n)                                                           \
    BARE_CHECK(memcmp((a), (b), (n)) != 0, #a " differs from " #b)
#define assert_string_not_equal(a, b) BARE_CHECK(strcmp((a), (b)) != 0, #a " differs from " #b)
#define assert_float_equal(a, b, e)                                                                \
    BARE_CHECK(fabs((double)(a) - (double)(b)) <= (double)(e), #a " is " #b)
#define assert_in_range(x, low, high)                                                              \
    BARE_CHECK(bare_between((uintmax_t)(x), (uintmax_t)(low), (uintmax_t)(high)),                  \
               #low " <= " #x " <= " #high)
#define assert_int_not_equal(a, b)                                                                 \
    BARE_CHECK((uintmax_t)(a) != (uintmax_t)(b), #a " differs from " #b)
#define assert_int_equal(a, b)                                                                     \
    do {                                                                                           \
        uintmax_t bare_a = (uintmax_t)(a), bare_b = (uintmax_t)(b);                                \
        if (bare_a != bare_b)                                                                      \
            fail_msg("%s is %jd, not %s, %jd", #a, (intmax_t)bare_a, #b, (intmax_t)bare_b);        \
    } while (0)
#define assert_string_equal(a, b)                                                                  \
    do {                                                                                           \
        const char *bare_a = (a), *bare_b = (b);                                                   \
        if (strcmp(bare_a, bare_b) != 0)                                                           \
            fail_msg("%s is \"%s\", not \"%s\"", #a, bare_a, bare_b);                              \
    } while (0)

static inline int bare_run(const struct CMUnitTest *tests, size_t count,
                           int (*before)(void **state), int (*after)(void **state)) {
    void *group = NULL;
    volatile int failed = 0, passed = 0, skipped = 0; /* kept across longjmp */
    if (before != NULL && before(&group) != 0) {
        printf("the tests' preparation failed\n");
        return 1;
    }
    for (volatile size_t i = 0; i < count; i++) {
        void *state = tests[i].initial_state != NULL ? tests[i].initial_state : group;
        const struct CMUnitTest *const volatile test = &tests[i];
        printf("[ RUN      ] %s\n", test->name);
        (void)fflush(stdout);
        int end = setjmp(bare_end);
        if (end == 0) {
            if (test->setup != NULL && test->setup(&state) != 0)
                longjmp(bare_end, BARE_FAILED);
            test->test(&state);
        }
        if (test->teardown != NULL)
            (void)test->teardown(&state);
        printf("[ %s ] %s\n",
               end == BARE_FAILED    ? " FAILED "
               : end == BARE_SKIPPED ? "SKIPPED "
                                     : "      OK",
               test->name);
        failed = failed + (end == BARE_FAILED);
        skipped = skipped + (end == BARE_SKIPPED);
        passed = passed + (end == 0);
    }
    if (after != NULL)
        (void)after(&group);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed;
}

#define cmocka_run_group_tests(tests, before, after)                                               \
    bare_run((tests), sizeof(tests) / sizeof *(tests), (before), (after))
#define cmocka_run_group_tests_name(name, tests, before, after)                                    \
    bare_run((tests), sizeof(tests) / sizeof *(tests), (before), (after))

#endif
