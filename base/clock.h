/* Time, in nanoseconds. Any thread. What decides never calls these: the edge of a program does, and
 * passes `now` down. */
#ifndef VIDLOOM_BASE_CLOCK_H
#define VIDLOOM_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_MS INT64_C(1000000)
#define CLOCK_S  INT64_C(1000000000)

int64_t clock_monotonic_ns(void); /* for durations and leases */
int64_t clock_wall_ns(void);      /* since 1970, UTC; for people only */

#endif
