/* vidloom: finds the verb, reads its options, runs it. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/config.h"

#define ARENA_BYTES ((size_t)4 << 30) /* address space; pages are taken when they are touched */

/* Defaults, then the configuration file, then the command line, each over the one before. */
static enum error_code read_options(struct cli *cli, struct invocation *invocation,
                                    const struct verb *verb, int count, char *const *words,
                                    struct error *error) {
    options_defaults(invocation->values, verb);
    enum error_code code = options_parse(invocation, verb, count, words, error);
    const char *path = config_path(invocation->values, verb);
    if (code != ERR_OK || invocation->help || !path)
        return code;
    options_defaults(invocation->values, verb);
    code = config_read(invocation->values, verb, path, &cli->arena, error);
    if (code != ERR_OK)
        return code;
    return options_parse(invocation, verb, count, words, error);
}

static int run_verb(struct cli *cli, const struct verb *verb, int count, char *const *words) {
    struct error error = {0};
    struct invocation invocation = {.values = calloc(1, verb->values_bytes + 1)};
    int status;
    if (!invocation.values)
        return cli_fail_text(cli, ERR_MEMORY, "no memory for the command line");
    if (read_options(cli, &invocation, verb, count, words, &error) != ERR_OK) {
        status = cli_fail(cli, &error);
    } else if (invocation.help) {
        struct buffer text = {0};
        help_verb(&text, verb);
        status = cli_put(cli, &text);
    } else {
        status = verb->run(cli, &invocation);
    }
    free(invocation.values);
    return status;
}

static bool is_one_of(const char *word, const char *a, const char *b) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

static int run_words(struct cli *cli, int count, char *const *words) {
    struct error error = {0};
    struct buffer text = {0};
    const struct verb *verb;
    if (count == 0) {
        help_overview(&text, cli->verbs);
        cli_put(cli, &text);
        return cli_fail_text(cli, ERR_USAGE, "expected a verb");
    }
    if (is_one_of(words[0], "--version", "-V")) {
        buffer_add_text(&text, "vidloom " VIDLOOM_VERSION "\n");
        return cli_put(cli, &text);
    }
    if (is_one_of(words[0], "--help", "-h"))
        return run_verb(cli, &verb_help, count - 1, words + 1);
    if (options_find_verb(&verb, cli->verbs, words[0], &error) != ERR_OK)
        return cli_fail(cli, &error);
    return run_verb(cli, verb, count - 1, words + 1);
}

/* A file must not be opened as number 0, 1 or 2, or what is printed goes into it. The wrong way
 * round, so that using a stream that is closed still fails. */
static void hold_standard_streams(void) {
    for (int number = 0; number <= 2; number++)
        if (fcntl(number, F_GETFD) == -1 && errno == EBADF &&
            open("/dev/null", number == 0 ? O_WRONLY : O_RDONLY) != number)
            _exit(1);
}

int main(int argc, char **argv) {
    hold_standard_streams();
    struct cli cli = {.out = stdout, .err = stderr, .verbs = cli_verbs(), .words = argv};
    struct error error = {0};
    setlocale(LC_CTYPE, ""); /* for UTF-8 bars; numbers stay in the C locale */
    if (arena_open(&cli.arena, ARENA_BYTES, &error) != ERR_OK)
        return cli_fail(&cli, &error);
    int status = run_words(&cli, argc > 0 ? argc - 1 : 0, argv + 1);
    arena_close(&cli.arena);
    return status;
}
