/* Following a job to its end: what `run`, `submit --wait` and `status --watch` have in common. */
#ifndef VIDLOOM_CLI_FOLLOW_H
#define VIDLOOM_CLI_FOLLOW_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/progress.h"

struct follow_request {
    struct client *client;
    uint64_t job;
    enum progress_form form;
    const char *again; /* the command that goes on with it, as a shell takes it: for messages */
    bool goes_on;      /* when interrupted, the job itself goes on elsewhere */
    /* When *failed is set (NULL: never), `failure` is why there is no news any more. */
    const atomic_bool *failed;
    const struct error *failure;
};

/* Show progress until the job has ended, then the table of files (cli->out) and a warning for each
 * video that is past its limits (cli->err), which is no failure. Gives the exit status, and has
 * said why when it is not 0: 1 a video failed or the job was canceled; 3 the coordinator was lost;
 * 130 interrupted. */
int follow_job(struct cli *cli, const struct follow_request *request);

/* Options of every verb that shows progress; their values begin with this. */
struct follow_values {
    int progress; /* enum progress_form, but for JSON */
    bool quiet, json;
};
extern const char *const follow_forms[];
enum progress_form follow_form(const struct follow_values *values);

#define FOLLOW_OPTIONS(values_type)                                                                \
    {.name = "progress",                                                                           \
     .value = "FORM",                                                                              \
     .type = OPTION_CHOICE,                                                                        \
     .offset = offsetof(values_type, follow.progress),                                             \
     .choices = follow_forms,                                                                      \
     .fallback = "auto",                                                                           \
     .help = "How to show progress: bars redrawn in place, or lines as for a log; auto is bars "   \
             "on a terminal."},                                                                    \
        {.letter = 'q',                                                                            \
         .name = "quiet",                                                                          \
         .type = OPTION_FLAG,                                                                      \
         .offset = offsetof(values_type, follow.quiet),                                            \
         .help = "Show no progress and no table, only errors."},                                   \
    {                                                                                              \
        .letter = 'j', .name = "json", .type = OPTION_FLAG,                                        \
        .offset = offsetof(values_type, follow.json),                                              \
        .help = "Print one JSON object a line: progress once a second, each video as it ends, "    \
                "and the job at the end."                                                          \
    }

#endif
