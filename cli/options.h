/* Command lines by table: every verb is one `struct verb`, every option one `struct option`, and
 * parsing, configuration files (config.h), `--help`, `vidloom help` and the manual page are all
 * made from those tables, so that they cannot disagree.
 *
 * Pure but for the caller's storage. Nothing here prints. */
#ifndef VIDLOOM_CLI_OPTIONS_H
#define VIDLOOM_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

enum option_type {
    OPTION_FLAG,   /* bool; takes no value */
    OPTION_INT,    /* int64_t, min..max */
    OPTION_NUMBER, /* double, min..max */
    OPTION_SIZE,   /* uint64_t, bytes; as "6GiB" */
    OPTION_TEXT,   /* const char *, not empty; points into argv, the table or the config's arena */
    OPTION_CHOICE, /* int, the index in `choices` */
};

struct option {
    char letter;       /* short form; 0: none */
    const char *name;  /* long form, without the dashes; also the key in a configuration file */
    const char *value; /* what help calls its value: "DIR"; NULL for a flag */
    enum option_type type;
    size_t offset;              /* of the member in the verb's values */
    const char *fallback;       /* the default as it would be typed; NULL: zero, false, NULL */
    double min, max;            /* OPTION_INT, OPTION_NUMBER: both included */
    const char *const *choices; /* OPTION_CHOICE: ends with NULL */
    bool command_line_only;     /* refused in a configuration file */
    const char *help;           /* full sentences; wrapped when shown */
};

/* A line of examples ("vidloom run job.yaml", "Make …") or of exit statuses ("2", "The …"). */
struct verb_note {
    const char *what, *meaning;
};

#define VERB_ARGUMENTS_MAX 64

struct cli; /* cli.h */

/* What a verb is called with. `values` is the verb's own struct, as its table describes. */
struct invocation {
    const struct verb *verb;
    void *values;
    const char *arguments[VERB_ARGUMENTS_MAX];
    int argument_count;
    bool help; /* --help was given: nothing else was checked */
};

struct verb {
    const char *name;
    const char *group;     /* heading in the list of verbs */
    const char *summary;   /* one line in the list of verbs */
    const char *arguments; /* "JOB.yaml", "[JOB]"; "" when there are none */
    int arguments_min, arguments_max;
    const char *purpose; /* paragraphs, "\n\n" between them; wrapped when shown */
    const struct option *options;
    int option_count;
    size_t values_bytes;
    const struct verb_note *examples; /* ends with a NULL `what`; may be NULL */
    const struct verb_note *exits;    /* likewise */
    int (*run)(struct cli *cli, const struct invocation *invocation); /* gives the exit status */
};

/* The verb of that name; ERR_USAGE with a suggestion when there is none. `verbs` ends with NULL. */
MUST_CHECK enum error_code options_find_verb(const struct verb **out,
                                             const struct verb *const *verbs, const char *name,
                                             struct error *error);

/* Fill values with the defaults of the table. `values` has verb->values_bytes bytes. */
void options_defaults(void *values, const struct verb *verb);

/* Read the words after the verb into `invocation->values` and `arguments`. `--name value`,
 * `--name=value`, `-n value`, `-nvalue`, flags together (`-qj`), `--` ends options; the last of a
 * repeated option counts. Values not named keep what they have. Errors: ERR_USAGE. */
MUST_CHECK enum error_code options_parse(struct invocation *invocation, const struct verb *verb,
                                         int count, char *const *words, struct error *error);

/* The option of a long name; NULL and, in *nearest, the closest one if there is any. */
const struct option *options_find(const struct verb *verb, const char *name, const char **nearest);

/* Set one option from text as typed; `text` is NULL for a flag that is to be set. The error says
 * what was expected but not where: the caller puts that in front. */
MUST_CHECK enum error_code options_set(void *values, const struct option *option, const char *text,
                                       struct error *error);

/* -- shown text, appended to a buffer -------------------------------------------------------- */
void help_verb(struct buffer *out, const struct verb *verb);             /* vidloom VERB --help */
void help_overview(struct buffer *out, const struct verb *const *verbs); /* vidloom help */
void help_manual(struct buffer *out, const struct verb *const *verbs);   /* ops/vidloom.1, roff */

#endif
