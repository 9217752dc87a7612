/* Text made from the tables of options.h: --help, the overview, the manual page. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

#define HELP_COLUMNS 80
#define HELP_INDENT  26 /* where the text of an option starts */

/* -- wrapped text ------------------------------------------------------------------------------ */

/* Add `text` wrapped to HELP_COLUMNS with every line after the first indented; the cursor is at
 * `column`. "\n" in the text starts a new line. */
static void add_wrapped(struct buffer *out, const char *text, int column, int indent) {
    bool first = true;
    while (*text) {
        size_t length = strcspn(text, " \n");
        if (!first && column + 1 + (int)length > HELP_COLUMNS) {
            buffer_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            buffer_add_text(out, " ");
            column++;
        }
        buffer_add(out, text, length);
        column += (int)length;
        first = false;
        text += length;
        while (*text == '\n') {
            buffer_printf(out, "\n%*s", text[1] == '\n' ? 0 : indent, "");
            column = indent;
            first = true;
            text++;
        }
        text += strspn(text, " ");
    }
    buffer_add_text(out, "\n");
}

/* "  left    text …", the text on its own line when `left` is too long for the column. */
static void add_row(struct buffer *out, const char *left, const char *text, int indent) {
    int used = 2 + (int)strlen(left);
    buffer_printf(out, "  %s", left);
    if (used + 2 > indent)
        buffer_printf(out, "\n%*s", indent, "");
    else
        buffer_printf(out, "%*s", indent - used, "");
    add_wrapped(out, text, indent, indent);
}

/* -- options ----------------------------------------------------------------------------------- */

/* "-s, --state DIR", or with roff's font changes. */
static void option_names(char *out, size_t bytes, const struct option *option) {
    char letter[8] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(out, bytes, "%s--%s%s%s", letter, option->name, option->value ? " " : "",
             option->value ? option->value : "");
}

/* The help sentence, then what the value may be and what it is when not given. */
static void option_text(struct buffer *out, const struct option *option) {
    buffer_add_text(out, option->help);
    if (option->type == OPTION_CHOICE) {
        buffer_add_text(out, " One of");
        for (int i = 0; option->choices[i]; i++)
            buffer_printf(out, "%s %s", i ? "," : "", option->choices[i]);
        buffer_add_text(out, ".");
    }
    if (option->type == OPTION_INT)
        buffer_printf(out, " From %.0f to %.0f.", option->min, option->max);
    if (option->type == OPTION_NUMBER)
        buffer_printf(out, " From %g to %g.", option->min, option->max);
    if (option->fallback && option->type != OPTION_FLAG)
        buffer_printf(out, " Default: %s.", option->fallback);
}

static const struct option help_option = {
    .letter = 'h', .name = "help", .type = OPTION_FLAG, .help = "Show this text."};

static void add_option_row(struct buffer *out, const struct option *option) {
    char names[80];
    struct buffer text = {0};
    option_names(names, sizeof names, option);
    option_text(&text, option);
    add_row(out, names, text.data ? text.data : "", HELP_INDENT);
    buffer_close(&text);
}

/* -- help -------------------------------------------------------------------------------------- */

static void add_examples(struct buffer *out, const struct verb_note *notes) {
    buffer_add_text(out, "\nExamples\n");
    for (; notes->what; notes++) {
        buffer_printf(out, "  %s\n      ", notes->what);
        add_wrapped(out, notes->meaning, 6, 6);
    }
}

void help_verb(struct buffer *out, const struct verb *verb) {
    buffer_printf(out, "Usage: vidloom %s%s%s%s\n\n", verb->name,
                  verb->option_count ? " [OPTION]..." : "", *verb->arguments ? " " : "",
                  verb->arguments);
    add_wrapped(out, verb->purpose, 0, 0);
    buffer_add_text(out, "\nOptions\n");
    for (int i = 0; i < verb->option_count; i++)
        add_option_row(out, &verb->options[i]);
    add_option_row(out, &help_option);
    if (verb->examples)
        add_examples(out, verb->examples);
    if (verb->exits) {
        buffer_add_text(out, "\nExit status\n");
        for (const struct verb_note *note = verb->exits; note->what; note++)
            add_row(out, note->what, note->meaning, 8);
    }
}

void help_overview(struct buffer *out, const struct verb *const *verbs) {
    const char *group = "";
    buffer_printf(out, "vidloom %s: minute-long video from text, in batches\n\n", VIDLOOM_VERSION);
    buffer_add_text(out, "Usage: vidloom VERB [OPTION]... [ARGUMENT]...\n");
    for (; *verbs; verbs++) {
        if (strcmp((*verbs)->group, group) != 0)
            buffer_printf(out, "\n%s\n", (*verbs)->group);
        group = (*verbs)->group;
        char left[80];
        snprintf(left, sizeof left, "%s %s", (*verbs)->name, (*verbs)->arguments);
        add_row(out, left, (*verbs)->summary, HELP_INDENT);
    }
    buffer_add_text(out, "\n'vidloom help VERB' explains a verb: its options, examples and exit "
                         "statuses.\nFirst steps: vidloom run configs/jobs/demo.yaml\n");
}

/* -- the manual page --------------------------------------------------------------------------- */

/* roff: '-' is a hyphen unless escaped, '\' an escape, '.' and ''' at a line's start a request. */
static void add_roff(struct buffer *out, const char *text) {
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\''))
            buffer_add_text(out, "\\&");
        line_start = *text == '\n';
        if (text[0] == '\n' && text[1] == '\n') {
            buffer_add_text(out, "\n.PP\n");
            text++;
        } else if (*text == '\n') {
            buffer_add_text(out, "\n.br\n");
        } else if (*text == '-' || *text == '\\') {
            buffer_add_text(out, *text == '-' ? "\\-" : "\\e");
        } else {
            buffer_add(out, text, 1);
        }
    }
}

static void add_roff_tagged(struct buffer *out, const char *tag, const char *text) {
    buffer_add_text(out, ".TP\n.B ");
    add_roff(out, tag);
    buffer_add_text(out, "\n");
    add_roff(out, text);
    buffer_add_text(out, "\n");
}

static void add_roff_option(struct buffer *out, const struct option *option) {
    char names[80];
    struct buffer text = {0};
    option_names(names, sizeof names, option);
    option_text(&text, option);
    add_roff_tagged(out, names + strspn(names, " "), text.data ? text.data : "");
    buffer_close(&text);
}

static void add_roff_verb(struct buffer *out, const struct verb *verb) {
    buffer_printf(out, ".SS \"vidloom %s %s\"\n", verb->name, verb->arguments);
    add_roff(out, verb->purpose);
    buffer_add_text(out, "\n");
    for (int i = 0; i < verb->option_count; i++)
        add_roff_option(out, &verb->options[i]);
    if (verb->examples)
        buffer_add_text(out, ".PP\nExamples:\n");
    for (const struct verb_note *note = verb->examples; note && note->what; note++)
        add_roff_tagged(out, note->what, note->meaning);
}

void help_manual(struct buffer *out, const struct verb *const *verbs) {
    buffer_printf(out, ".TH VIDLOOM 1 \"\" \"vidloom %s\" \"User Commands\"\n", VIDLOOM_VERSION);
    buffer_add_text(out, ".\\\" Made from the option tables: vidloom help --man > ops/vidloom.1\n"
                         ".SH NAME\nvidloom \\- minute\\-long video from text, in batches\n"
                         ".SH SYNOPSIS\n.B vidloom\n.I VERB\n[\\fIOPTION\\fR]... "
                         "[\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n");
    add_roff(out, "A job file in YAML names videos. A coordinator splits every video into a "
                  "keyframe, a chain of sliding windows, decoding and encoding; workers do these "
                  "tasks, on one machine or many. An interrupted job continues where it was when "
                  "the same command is given again.\n");
    buffer_add_text(out, ".SH VERBS\n");
    for (const struct verb *const *verb = verbs; *verb; verb++)
        add_roff_verb(out, *verb);
    buffer_add_text(out, ".SH EXIT STATUS\n");
    static const struct verb_note statuses[] = {{"0", "Done."},
                                                {"1", "The job failed, or something it needs did."},
                                                {"2", "The command line or a file is wrong."},
                                                {"3", "The coordinator cannot be reached."},
                                                {"130", "Interrupted; the same command resumes."}};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        add_roff_tagged(out, statuses[i].what, statuses[i].meaning);
    buffer_add_text(out, ".SH ENVIRONMENT\n");
    add_roff_tagged(out, "NO_COLOR", "When set and not empty, nothing is coloured.");
}
