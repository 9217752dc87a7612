#include "base/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t id) {
    struct timespec now = {0};
    (void)clock_gettime(id, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * CLOCK_S + now.tv_nsec;
}

int64_t clock_monotonic_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void) {
    return read_clock(CLOCK_REALTIME);
}
