#include "base/clock.h"

#include <time.h>

#include "tests/base/test.h"

static void test_clocks(void **state) {
    (void)state;
    int64_t last = clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
    int64_t wall = clock_wall_ns() / CLOCK_S;
    assert_in_range(time(NULL) - wall + 2, 0, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
