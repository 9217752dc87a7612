#include "cli/remote.h"

#include <inttypes.h>
#include <string.h>
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

void remote_watch_command(struct buffer *out, const struct cli *cli,
                          const struct remote_values *values, uint64_t job) {
    cli_put_word(out, cli->words[0]);
    buffer_add_text(out, " status --watch ");
    if (strcmp(values->address, REMOTE_CLIENTS) != 0) {
        buffer_add_text(out, "--coordinator ");
        cli_put_word(out, values->address);
        buffer_add_text(out, " ");
    }
    buffer_printf(out, "%" PRIu64, job);
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
