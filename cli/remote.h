/* Talking to a coordinator: the options that every such verb has, and the connection. */
#ifndef VIDLOOM_CLI_REMOTE_H
#define VIDLOOM_CLI_REMOTE_H

#include <stdint.h>

#include "cli/cli.h"
#include "cli/client.h"

#define REMOTE_CLIENTS "tcp://127.0.0.1:7310" /* where a coordinator listens for clients */
#define REMOTE_WORKERS "tcp://127.0.0.1:7311" /* and for workers */

struct remote_values {
    const char *address;
    double timeout; /* s */
};

#define REMOTE_OPTIONS(values_type)                                                                \
    {.letter = 'c',                                                                                \
     .name = "coordinator",                                                                        \
     .value = "ADDRESS",                                                                           \
     .type = OPTION_TEXT,                                                                          \
     .offset = offsetof(values_type, remote.address),                                              \
     .fallback = REMOTE_CLIENTS,                                                                   \
     .help = "Where the coordinator listens for clients."},                                        \
    {                                                                                              \
        .name = "timeout", .value = "SECONDS", .type = OPTION_NUMBER,                              \
        .offset = offsetof(values_type, remote.timeout), .fallback = "10", .min = 0.1,             \
        .max = 86400, .help = "How long to wait for an answer before giving up."                   \
    }

#define REMOTE_JSON_OPTION(values_type)                                                            \
    {                                                                                              \
        .letter = 'j', .name = "json", .type = OPTION_FLAG, .offset = offsetof(values_type, json), \
        .help = "Print one JSON object a line."                                                    \
    }

/* Ctrl-C ends every call of the client with ERR_INTERRUPTED. */
MUST_CHECK enum error_code remote_open(struct client **out, const struct remote_values *values,
                                       struct error *error);

/* Append the command that follows a job, as a shell takes it. */
void remote_watch_command(struct buffer *out, const struct cli *cli,
                          const struct remote_values *values, uint64_t job);

/* "2026-11-23 21:40:05", UTC. */
const char *remote_time(char out[32], int64_t wall_ns);
/* "window 12", "text": what a worker is at. */
const char *remote_task(char out[32], enum plan_kind kind, int index);

#endif
