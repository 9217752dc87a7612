/* What the verbs share: the list of them, the one error line, writing a report. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"

static const struct verb *const verbs[] = {
    &verb_run,     &verb_check,   &verb_coordinator, &verb_worker, &verb_submit, &verb_status,
    &verb_logs,    &verb_cancel,  &verb_pause,       &verb_resume, &verb_retry,  &verb_drain,
    &verb_workers, &verb_inspect, &verb_convert,     &verb_bench,  &verb_help,   NULL,
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
    snprintf(line, sizeof line, "%s", *error->detail ? error->detail : error_sentence(error->code));
    /* A name from outside must not be able to forge a line or move the cursor. */
    for (char *at = line; *at; at++)
        memset(at, '?', text_control(at));
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

void cli_put_word(struct buffer *out, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:=,+@%";
    if (*word && word[strspn(word, plain)] == '\0') {
        buffer_add_text(out, word);
        return;
    }
    bool control = false;
    for (const char *at = word; *at; at++)
        control |= (unsigned char)*at < 0x20 || *at == 0x7F;
    buffer_add_text(out, control ? "$'" : "'");
    for (const char *at = word; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            buffer_printf(out, "\\%03o", (unsigned char)*at);
        else if (control && (*at == '\'' || *at == '\\'))
            buffer_printf(out, "\\%c", *at);
        else if (*at == '\'')
            buffer_add_text(out, "'\\''");
        else
            buffer_add(out, at, 1);
    }
    buffer_add_text(out, "'");
}

void cli_put_command(struct buffer *out, const struct cli *cli) {
    for (char *const *word = cli->words; *word; word++) {
        if (word != cli->words)
            buffer_add_text(out, " ");
        cli_put_word(out, *word);
    }
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
