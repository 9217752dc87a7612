/* vidloom help [VERB] */
#include "cli/cli.h"

struct help_values {
    bool man;
};

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct help_values *values = invocation->values;
    const struct verb *verb;
    struct buffer text = {0};
    struct error error;
    if (values->man) {
        help_manual(&text, cli->verbs);
    } else if (invocation->argument_count == 0) {
        help_overview(&text, cli->verbs);
    } else {
        if (options_find_verb(&verb, cli->verbs, invocation->arguments[0], &error) != ERR_OK)
            return cli_fail(cli, &error);
        help_verb(&text, verb);
    }
    return cli_put(cli, &text);
}

static const struct option options[] = {
    {.name = "man",
     .type = OPTION_FLAG,
     .offset = offsetof(struct help_values, man),
     .help = "Print the manual page of the whole program, for man(1)."},
};

static const struct verb_note examples[] = {
    {"vidloom help run", "All about making the videos of a job."},
    {"vidloom help --man | man -l -", "The manual page, with every verb."},
    {NULL, NULL},
};

const struct verb verb_help = {
    .name = "help",
    .group = "Looking",
    .summary = "explain a verb",
    .arguments = "[VERB]",
    .arguments_max = 1,
    .purpose = "Explain a verb: what it is for, its options, examples and exit statuses. Without "
               "one, list them all. 'vidloom --version' prints the version.",
    .options = options,
    .option_count = 1,
    .values_bytes = sizeof(struct help_values),
    .examples = examples,
    .exits = cli_exits_file,
    .run = run,
};
