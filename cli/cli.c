/* What the verbs share: the list of them, the one error line, writing a report. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>

static const struct verb *const verbs[] = {
    &verb_run,     &verb_check,   &verb_coordinator, &verb_worker, &verb_submit, &verb_status,
    &verb_logs,    &verb_cancel,  &verb_pause,       &verb_resume, &verb_retry,  &verb_drain,
    &verb_workers, &verb_inspect, &verb_bench,       &verb_help,   NULL,
};

const struct verb *const *cli_verbs(void) {
    return verbs;
}

const struct verb_note cli_exits_file[] = {
    {"0", "Done."},
    {"1", "It could not be done: reading, writing or memory failed."},
    {"2", "The command line or a file is wrong; the line on stderr says where and what to do."},
    {NULL, NULL}};

const struct verb_note cli_exits_remote[] = {
    {"0", "Done."},
    {"1", "The coordinator could not do it; the line on stderr says why."},
    {"2", "The command line or a file is wrong, or there is no such job, video or worker."},
    {"3", "The coordinator cannot be reached."},
    {NULL, NULL}};

int cli_fail(struct cli *cli, const struct error *error) {
    char line[ERROR_DETAIL_BYTES];
    int length = snprintf(line, sizeof line, "%s",
                          *error->detail ? error->detail : error_sentence(error->code));
    /* A name from outside must not be able to forge a line or move the cursor. */
    for (int i = 0; i < length && line[i]; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = '?';
    fflush(cli->out);
    fprintf(cli->err, "vidloom: %s\n", line);
    return error_exit_status(error->code);
}

int cli_fail_text(struct cli *cli, enum error_code code, const char *format, ...) {
    struct error error = {.code = code};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.detail, sizeof error.detail, format, arguments);
    va_end(arguments);
    return cli_fail(cli, &error);
}

int cli_put(struct cli *cli, struct buffer *text) {
    struct error error;
    bool failed = text->failed;
    if (failed)
        error_set(&error, ERR_MEMORY, "no memory for the report");
    errno = 0;
    if (!failed &&
        ((text->length && fwrite(text->data, 1, text->length, cli->out) < text->length) ||
         fflush(cli->out) != 0)) {
        error_set_errno(&error, errno, "writing the report");
        failed = true;
    }
    buffer_close(text);
    return failed ? cli_fail(cli, &error) : 0;
}
