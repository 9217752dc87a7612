#include "cli/remote.h"

#include <time.h>

#include "base/clock.h"
#include "cli/interrupt.h"

enum error_code remote_open(struct client **out, const struct remote_values *values,
                            struct error *error) {
    struct client_config config = {
        .address = values->address,
        .timeout_ns = (int64_t)(values->timeout * (double)CLOCK_S),
        .cancel = interrupt_flag(),
    };
    interrupt_watch();
    return client_open(out, &config, error);
}

const char *remote_time(char out[32], int64_t wall_ns) {
    time_t seconds = (time_t)(wall_ns / CLOCK_S);
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(out, 32, "-");
    return out;
}

const char *remote_task(char out[32], enum plan_kind kind, int index) {
    if (kind >= PLAN_KIND_COUNT)
        snprintf(out, 32, "-");
    else if (kind == PLAN_WINDOW || kind == PLAN_DECODE)
        snprintf(out, 32, "%s %d", plan_kind_name(kind), index + 1);
    else
        snprintf(out, 32, "%s", plan_kind_name(kind));
    return out;
}
