/* What the verbs of the program share. One thread, the main one. */
#ifndef VIDLOOM_CLI_CLI_H
#define VIDLOOM_CLI_CLI_H

#include <stdio.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "cli/options.h"

struct cli {
    FILE *out, *err;
    struct arena arena; /* texts that live as long as the program: files read, plans */
    const struct verb *const *verbs;
    char *const *words; /* the command line, the program's name first; ends with NULL */
};

/* Every verb, in the order of the overview; ends with NULL. */
const struct verb *const *cli_verbs(void);

/* One line, "vidloom: " + detail, on cli->err. Gives the exit status of the error's code. */
int cli_fail(struct cli *cli, const struct error *error);
/* The same for a code and a text made here. */
int cli_fail_text(struct cli *cli, enum error_code code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Append one word, quoted as a shell needs it; and the whole command line that was given. */
void cli_put_word(struct buffer *out, const char *word);
void cli_put_command(struct buffer *out, const struct cli *cli);

/* Write what a report gathered to cli->out and close the buffer. Gives the exit status: 0, or 1
 * with a line when it could not be written whole (a full disk, a closed pipe). */
int cli_put(struct cli *cli, struct buffer *text);

/* The statuses that every verb can end with; a verb with its own list says what they mean there. */
extern const struct verb_note cli_exits_file[];   /* reads files: 0, 1, 2 */
extern const struct verb_note cli_exits_remote[]; /* talks to a coordinator: 0, 1, 2, 3 */

extern const struct verb verb_run, verb_check, verb_coordinator, verb_worker, verb_submit,
    verb_status, verb_logs, verb_cancel, verb_pause, verb_resume, verb_retry, verb_drain,
    verb_workers, verb_inspect, verb_convert, verb_bench, verb_help;

#endif
