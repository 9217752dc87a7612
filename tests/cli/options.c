/* Command lines, configuration files and help: cli/options.c, cli/help.c, cli/config.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "cli/config.h"
#include "cli/options.h"

struct values {
    bool json, quiet;
    int64_t threads;
    double speed;
    uint64_t memory;
    const char *state, *config;
    int codec;
};

static const char *const codecs[] = {"h264", "hevc", "av1", NULL};

static const struct option options[] = {
    {.letter = 'j',
     .name = "json",
     .type = OPTION_FLAG,
     .offset = offsetof(struct values, json),
     .help = "Print JSON."},
    {.letter = 'q',
     .name = "quiet",
     .type = OPTION_FLAG,
     .offset = offsetof(struct values, quiet),
     .help = "Say nothing."},
    {.letter = 't',
     .name = "threads",
     .value = "N",
     .type = OPTION_INT,
     .offset = offsetof(struct values, threads),
     .min = 1,
     .max = 64,
     .fallback = "2",
     .help = "Threads."},
    {.name = "memory",
     .value = "SIZE",
     .type = OPTION_SIZE,
     .offset = offsetof(struct values, memory),
     .help = "Memory."},
    {.name = "speed",
     .value = "X",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct values, speed),
     .min = 0.5,
     .max = 4,
     .fallback = "1",
     .help = "Speed."},
    {.letter = 's',
     .name = "state",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct values, state),
     .fallback = ".vidloom",
     .help = "State."},
    {.name = "codec",
     .value = "CODEC",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct values, codec),
     .choices = codecs,
     .fallback = "h264",
     .help = "Codec."},
    {.name = "config",
     .value = "FILE",
     .type = OPTION_TEXT,
     .offset = offsetof(struct values, config),
     .command_line_only = true,
     .help = "Config."},
};

static const struct verb verb = {
    .name = "test",
    .group = "Tests",
    .summary = "a verb for tests",
    .arguments = "FILE [FILE]",
    .arguments_min = 1,
    .arguments_max = 2,
    .purpose = "First paragraph, which is long enough that it has to be wrapped somewhere before "
               "its end.\n\nSecond paragraph.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct values),
};

#define WORDS_MAX 16

/* Parse a command line of words that are separated by single spaces; '_' is an empty word. */
static enum error_code parse(struct values *values, struct invocation *invocation, const char *line,
                             struct error *error) {
    static char storage[512];
    char *words[WORDS_MAX];
    int count = 0;
    snprintf(storage, sizeof storage, "%s", line);
    for (char *word = strtok(storage, " "); word && count < WORDS_MAX; word = strtok(NULL, " "))
        words[count++] = strcmp(word, "_") == 0 ? word + 1 : word;
    memset(error, 0, sizeof *error);
    invocation->values = values;
    options_defaults(values, &verb);
    return options_parse(invocation, &verb, count, words, error);
}

static void test_defaults(void **state) {
    struct values values;
    options_defaults(&values, &verb);
    assert_false(values.json);
    assert_int_equal(values.threads, 2);
    assert_true(values.speed > 0.999 && values.speed < 1.001);
    assert_string_equal(values.state, ".vidloom");
    assert_int_equal(values.codec, 0);
    assert_null(values.config);
    assert_int_equal(values.memory, 0);
}

static void test_size(void **state) {
    struct values values;
    struct invocation invocation;
    struct error error;
    assert_int_equal(parse(&values, &invocation, "a --memory 1.5GiB", &error), ERR_OK);
    assert_int_equal(values.memory, UINT64_C(3) << 29);
}

static void test_forms(void **state) {
    static const char *const lines[] = {
        "--threads 8 --state dir --codec av1 -j -q file",
        "--threads=8 --state=dir --codec=av1 --json --quiet file",
        "-t 8 -s dir --codec av1 -jq file",
        "-t8 -sdir --codec=av1 -qj file",
        "file -jqt8 -sdir --codec av1",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct values values;
        struct invocation invocation;
        struct error error;
        assert_int_equal(parse(&values, &invocation, lines[i], &error), ERR_OK);
        assert_int_equal(values.threads, 8);
        assert_string_equal(values.state, "dir");
        assert_int_equal(values.codec, 2);
        assert_true(values.json && values.quiet);
        assert_int_equal(invocation.argument_count, 1);
        assert_string_equal(invocation.arguments[0], "file");
    }
}

static void test_last_counts(void **state) {
    struct values values;
    struct invocation invocation;
    struct error error;
    assert_int_equal(parse(&values, &invocation, "-t 3 --threads 4 -t5 a b", &error), ERR_OK);
    assert_int_equal(values.threads, 5);
    assert_int_equal(invocation.argument_count, 2);
}

static void test_arguments(void **state) {
    struct values values;
    struct invocation invocation;
    struct error error;
    assert_int_equal(parse(&values, &invocation, "-- -j --state", &error), ERR_OK);
    assert_string_equal(invocation.arguments[0], "-j");
    assert_string_equal(invocation.arguments[1], "--state");
    assert_false(values.json);
    assert_int_equal(parse(&values, &invocation, "-", &error), ERR_OK);
    assert_string_equal(invocation.arguments[0], "-");
}

static void test_help(void **state) {
    struct values values;
    struct invocation invocation;
    struct error error;
    assert_int_equal(parse(&values, &invocation, "--help", &error), ERR_OK);
    assert_true(invocation.help);
    assert_int_equal(parse(&values, &invocation, "-jh", &error), ERR_OK);
    assert_true(invocation.help);
}

static void test_mistakes(void **state) {
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"", "expected FILE"},
        {"a b c", "'c' is one argument too many"},
        {"_", "argument 1 is empty"},
        {"--thread 3 a", "did you mean --threads?"},
        {"--jsno a", "did you mean --json?"},
        {"--hepl", "did you mean --help?"},
        {"--bananas a", "'vidloom help test' lists them"},
        {"-x a", "no option -x"},
        {"-jx a", "no option -x"},
        {"a --threads", "--threads: expected N after it"},
        {"a -t", "-t: expected N after it"},
        {"a -t 0", "-t: expected a whole number from 1 to 64, not '0'"},
        {"a -t 65", "from 1 to 64"},
        {"a -t -1", "from 1 to 64"},
        {"a -t 1.5", "whole number"},
        {"a -t 8x", "whole number"},
        {"a -t 99999999999999999999", "whole number"},
        {"a --memory 6G", "--memory: expected a size such as 6GiB or 500MB, not '6G'"},
        {"a --memory -1", "expected a size"},
        {"a --speed nan", "expected a number from 0.5 to 4, not 'nan'"},
        {"a --speed inf", "expected a number"},
        {"a --speed 1e999", "expected a number"},
        {"a --codec h265", "did you mean"},
        {"a --codec theora", "expected one of h264, hevc, av1, not 'theora'"},
        {"a --state=", "expected DIR, not an empty text"},
        {"a --state \xff", "not UTF-8"},
        {"a --json=true", "--json: takes no value"},
        {"a --=3", "has no option --"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct values values;
        struct invocation invocation;
        struct error error;
        assert_int_equal(parse(&values, &invocation, rows[i].line, &error), ERR_USAGE);
        if (!strstr(error.detail, rows[i].says))
            fail_msg("'%s' says '%s'; expected '%s'", rows[i].line, error.detail, rows[i].says);
    }
}

static void test_verbs(void **state) {
    static const struct verb run = {.name = "run"}, resume = {.name = "resume"};
    static const struct verb *const verbs[] = {&run, &resume, NULL};
    const struct verb *found;
    struct error error;
    assert_int_equal(options_find_verb(&found, verbs, "resume", &error), ERR_OK);
    assert_ptr_equal(found, &resume);
    assert_int_equal(options_find_verb(&found, verbs, "rnu", &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "did you mean 'run'?"));
    assert_int_equal(options_find_verb(&found, verbs, "xylophone", &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "'vidloom help' lists them"));
}

/* -- configuration files
 * --------------------------------------------------------------------------- */

static enum error_code configure(struct values *values, const char *text, struct arena *arena,
                                 struct error *error) {
    options_defaults(values, &verb);
    memset(error, 0, sizeof *error);
    return config_parse(values, &verb, "c.yaml", text, strlen(text), arena, error);
}

static void test_config(void **state) {
    struct arena arena;
    struct values values;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    assert_int_equal(configure(&values,
                               "# a comment\nthreads: 8\nspeed: 2.5\nstate: \"some dir\"\n"
                               "codec: hevc\njson: true\nquiet: false\n",
                               &arena, &error),
                     ERR_OK);
    assert_int_equal(values.threads, 8);
    assert_string_equal(values.state, "some dir");
    assert_int_equal(values.codec, 1);
    assert_true(values.json && !values.quiet);
    arena_close(&arena);
}

static void test_config_mistakes(void **state) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"threads: 0\n", "c.yaml:1:10: threads: expected a whole number from 1 to 64"},
        {"json: true\n\nthreds: 3\n", "c.yaml:3:1: threds is not a key"},
        {"threds: 3\n", "did you mean threads?"},
        {"zzz: 3\n", "'vidloom help test' lists them"},
        {"config: other.yaml\n", "c.yaml:1:1: config can be given on the command line only"},
        {"threads: \"8\"\n", "c.yaml:1:10: threads: expected a number without quotes"},
        {"json: \"true\"\n", "expected true or false without quotes"},
        {"json: yes\n", "expected true or false, not 'yes'"},
        {"state: [a, b]\n", "state: expected one value, not a list"},
        {"state: {a: b}\n", "state: expected one value, not a mapping"},
        {"- threads\n", "c.yaml:1:1: expected 'key: value' lines"},
        {"threads: 1\nthreads: 2\n", "c.yaml:2:1"},
        {"threads: &a 1\n", "c.yaml:1:"},
    };
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct values values;
        assert_int_not_equal(configure(&values, rows[i].text, &arena, &error), ERR_OK);
        if (!strstr(error.detail, rows[i].says))
            fail_msg("'%s' says '%s'; expected '%s'", rows[i].text, error.detail, rows[i].says);
    }
    arena_close(&arena);
}

/* -- help
 * ------------------------------------------------------------------------------------------ */

static void test_help_text(void **state) {
    struct buffer text = {0};
    help_verb(&text, &verb);
    assert_non_null(text.data);
    assert_non_null(strstr(text.data, "Usage: vidloom test [OPTION]... FILE [FILE]\n"));
    assert_non_null(
        strstr(text.data, "\n  -t, --threads N         Threads. From 1 to 64. Default: 2.\n"));
    assert_non_null(strstr(text.data, "One of h264, hevc, av1."));
    assert_non_null(strstr(text.data, "\n\nSecond paragraph.\n"));
    for (const char *line = text.data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        assert_true(strcspn(line, "\n") <= 80);
    }
    buffer_close(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_size),
        cmocka_unit_test(test_forms),     cmocka_unit_test(test_last_counts),
        cmocka_unit_test(test_arguments), cmocka_unit_test(test_help),
        cmocka_unit_test(test_mistakes),  cmocka_unit_test(test_verbs),
        cmocka_unit_test(test_config),    cmocka_unit_test(test_config_mistakes),
        cmocka_unit_test(test_help_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
