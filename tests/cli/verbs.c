/* The tables of the verbs agree with themselves, with the manual page, the configuration files and
 * the example job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/job_source.h"
#include "coordinator/job.h"

static void check_option(const struct verb *verb, const struct option *option, void *values) {
    struct error error = {0};
    const char *nearest;
    if (option->fallback && options_set(values, option, option->fallback, &error) != ERR_OK)
        fail_msg("%s --%s: default: %s", verb->name, option->name, error.detail);
    assert_ptr_equal(options_find(verb, option->name, &nearest), option); /* no name twice */
    assert_true((option->type == OPTION_FLAG) == (option->value == NULL));
    assert_true((option->type == OPTION_CHOICE) == (option->choices != NULL));
    assert_true(option->letter != 'h' && strcmp(option->name, "help") != 0);
    assert_true(option->offset < verb->values_bytes);
    assert_true(option->help[strlen(option->help) - 1] == '.');
    for (const struct option *other = verb->options; other < option; other++)
        if (option->letter && other->letter == option->letter)
            fail_msg("%s: -%c is there twice", verb->name, option->letter);
}

static void test_tables(void **state) {
    for (const struct verb *const *at = cli_verbs(); *at; at++) {
        const struct verb *verb = *at;
        void *values = calloc(1, verb->values_bytes + 1);
        assert_non_null(verb->run);
        assert_non_null(verb->purpose);
        assert_true(verb->examples && verb->examples[0].what);
        assert_true(verb->exits && verb->exits[0].what);
        assert_true(verb->arguments_min <= verb->arguments_max);
        assert_true((verb->arguments_max > 0) == (*verb->arguments != '\0'));
        for (int i = 0; i < verb->option_count; i++)
            check_option(verb, &verb->options[i], values);
        free(values);
    }
}

/* What is told as a command does what was asked for when it is pasted into a shell. */
static void test_words_are_quoted(void **state) {
    static const struct {
        const char *word, *quoted;
    } cases[] = {
        {"job.yaml", "job.yaml"}, {"", "''"},           {"my job.yaml", "'my job.yaml'"},
        {"it's", "'it'\\''s'"},   {"$HOME", "'$HOME'"}, {"a\nb'c\\", "$'a\\012b\\'c\\\\'"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer text = {0};
        cli_put_word(&text, cases[i].word);
        assert_string_equal(text.data, cases[i].quoted);
        buffer_close(&text);
    }
    char *const words[] = {"vidloom", "run", "--state", "a b", "job.yaml", NULL};
    const struct cli cli = {.words = words};
    struct buffer text = {0};
    cli_put_command(&text, &cli);
    assert_string_equal(text.data, "vidloom run --state 'a b' job.yaml");
    buffer_close(&text);
}

static void test_help_fits(void **state) {
    for (const struct verb *const *verb = cli_verbs(); *verb; verb++) {
        struct buffer text = {0};
        help_verb(&text, *verb);
        for (const char *line = text.data; line; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (strcspn(line, "\n") > 80)
                fail_msg("%s: %.*s", (*verb)->name, (int)strcspn(line, "\n"), line);
        }
        buffer_close(&text);
    }
}

static char *read_text(struct arena *arena, const char *path) {
    struct error error;
    char *text;
    size_t length;
    if (file_read(&text, &length, arena, path, 1 << 20, &error) != ERR_OK)
        fail_msg("%s", error.detail);
    return text;
}

static void test_manual_page(void **state) {
    struct arena arena;
    struct error error;
    struct buffer text = {0};
    assert_int_equal(arena_open(&arena, 1 << 22, &error), ERR_OK);
    help_manual(&text, cli_verbs());
    if (strcmp(text.data, read_text(&arena, "ops/vidloom.1")) != 0)
        fail_msg("out of date: vidloom help --man > ops/vidloom.1");
    buffer_close(&text);
    arena_close(&arena);
}

/* The file says of every option what its default is: in a comment where there is none. */
static void check_config(const struct verb *verb, const char *path) {
    struct arena arena;
    struct error error;
    unsigned char *values = calloc(1, verb->values_bytes);
    unsigned char *defaults = calloc(1, verb->values_bytes);
    assert_int_equal(arena_open(&arena, 1 << 22, &error), ERR_OK);
    char *text = read_text(&arena, path);
    options_defaults(values, verb);
    options_defaults(defaults, verb);
    if (config_read(values, verb, path, &arena, &error) != ERR_OK)
        fail_msg("%s", error.detail);
    for (int i = 0; i < verb->option_count; i++) {
        const struct option *option = &verb->options[i];
        char line[80];
        snprintf(line, sizeof line, "%s: ", option->name);
        if (!option->command_line_only && !strstr(text, line))
            fail_msg("%s does not mention %s", path, option->name);
        const unsigned char *given = values + option->offset, *usual = defaults + option->offset;
        if (option->type == OPTION_TEXT && option->fallback) {
            const char *a, *b;
            memcpy(&a, given, sizeof a);
            memcpy(&b, usual, sizeof b);
            assert_string_equal(a, b);
        }
        if (option->type == OPTION_INT || option->type == OPTION_NUMBER)
            assert_memory_equal(given, usual, 8);
        if (option->type == OPTION_CHOICE)
            assert_memory_equal(given, usual, sizeof(int));
    }
    free(values);
    free(defaults);
    arena_close(&arena);
}

static void test_configurations(void **state) {
    check_config(&verb_coordinator, "configs/coordinator.yaml");
    check_config(&verb_worker, "configs/worker.yaml");
}

/* Every key of a job file is in the example, at least in a comment. */
static void test_example_job(void **state) {
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 22, &error), ERR_OK);
    const char *text = read_text(&arena, "configs/jobs/example.yaml");
    for (int words = 0; words < JOB_VALUES_CODEC; words++) {
        for (const char *const *key = job_words((enum job_words)words); *key; key++) {
            char member[80];
            snprintf(member, sizeof member, "%s:", *key);
            if (!strstr(text, member))
                fail_msg("configs/jobs/example.yaml does not show %s", *key);
        }
    }
    arena_close(&arena);
}

/* The lists that the runtime knows are those that editors and readers of the example are told of.
 */
static void test_published_steps(void **state) {
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 22, &error), ERR_OK);
    const char *schema = read_text(&arena, "configs/job.schema.json");
    const char *example = read_text(&arena, "configs/jobs/example.yaml");
    for (const struct step_list *list = step_lists(); list->name; list++) {
        char quoted[80];
        snprintf(quoted, sizeof quoted, "\"%s\"", list->name);
        assert_non_null(strstr(schema, quoted));
        assert_non_null(strstr(example, list->name));
    }
    struct job_source source = {.models = "models"};
    struct job_resolver resolver;
    struct job_step_list steps;
    job_source_resolver(&resolver, &source);
    assert_int_equal(resolver.find_steps(&source, &steps, "rcm", &error), ERR_OK);
    assert_int_equal(steps.sampler, JOB_SAMPLER_RENOISE);
    assert_int_equal(steps.steps, 4);
    assert_true(steps.sigmas[0] > 0.98 && steps.sigmas[0] < 0.99 && steps.sigmas[4] == 0);
    assert_int_equal(resolver.find_steps(&source, &steps, "lightx2", &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "did you mean \"lightx2v\"?"));
    assert_int_equal(resolver.find_steps(&source, &steps, "turbo", &error), ERR_USAGE);
    assert_non_null(strstr(error.detail, "causvid-4, rcm"));
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),          cmocka_unit_test(test_words_are_quoted),
        cmocka_unit_test(test_help_fits),       cmocka_unit_test(test_manual_page),
        cmocka_unit_test(test_configurations),  cmocka_unit_test(test_example_job),
        cmocka_unit_test(test_published_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
