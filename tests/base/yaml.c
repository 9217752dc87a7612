#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "tests/base/test.h"

static struct arena arena;

static int open_arena(void **state) {
    (void)state;
    struct error error;
    return arena_open(&arena, 256u << 20, &error) == ERR_OK ? 0 : -1;
}

static int close_arena(void **state) {
    (void)state;
    arena_close(&arena);
    return 0;
}

static const struct yaml *parse(const char *text) {
    const struct yaml *yaml = NULL;
    struct error error = {0};
    if (yaml_parse(&yaml, &arena, "job.yaml", text, strlen(text), &error) != ERR_OK)
        fail_msg("%s: %s", text, error.detail);
    return yaml;
}

static void test_job(void **state) {
    (void)state;
    const struct yaml *yaml = parse("# a comment\n"
                                    "job: harbour\n"
                                    "output: {size: 160x96, fps: 16}\n"
                                    "videos:\n"
                                    "  - name: \"3\"\n"
                                    "    prompt: |\n"
                                    "      two\n"
                                    "      lines\n"
                                    "    empty:\n"
                                    "  - b\n");
    assert_int_equal(yaml->type, YAML_MAPPING);
    assert_int_equal(yaml->length, 3);
    assert_string_equal(yaml_get(yaml, "job")->text, "harbour");
    assert_false(yaml_get(yaml, "job")->quoted);
    const struct yaml *fps = yaml_get(yaml_get(yaml, "output"), "fps");
    assert_string_equal(fps->text, "16");
    assert_int_equal(fps->line, 3);
    assert_int_equal(fps->column, 29);
    assert_int_equal(fps->key_line, 3);
    assert_int_equal(fps->key_column, 24);
    const struct yaml *videos = yaml_get(yaml, "videos");
    assert_int_equal(videos->type, YAML_SEQUENCE);
    assert_int_equal(videos->length, 2);
    assert_true(yaml_get(videos->child, "name")->quoted);
    assert_string_equal(yaml_get(videos->child, "prompt")->text, "two\nlines\n");
    assert_true(yaml_get(videos->child, "prompt")->quoted);
    assert_int_equal(yaml_get(videos->child, "empty")->length, 0);
    assert_null(videos->child->key);
    assert_string_equal(videos->child->next->text, "b");
    assert_null(videos->child->next->next);
    assert_null(yaml_get(yaml, "absent"));
    assert_null(yaml_get(videos, "job"));
    assert_null(yaml_get(NULL, "job"));
}

static void test_byte_order_mark(void **state) {
    (void)state;
    struct error error;
    const struct yaml *root = NULL;
    static const char text[] = "\xEF\xBB\xBFjob: a\n";
    assert_int_equal(yaml_parse(&root, &arena, "a.yaml", text, sizeof text - 1, &error), ERR_OK);
    assert_string_equal(yaml_get(root, "job")->text, "a");
}

static void test_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "job.yaml:1:1: there is nothing in it"},
        {"# only a comment\n", "job.yaml:1:1: there is nothing in it"},
        {"a: &x 1\n", "job.yaml:1:4: anchors"},
        {"a: 1\nb: *x\n", "job.yaml:2:4: aliases"},
        {"&k a: 1\n", "job.yaml:1:1: anchors"},
        {"*k : 1\n", "job.yaml:1:1: aliases"},
        {"a: !!int 1\n", "job.yaml:1:4: tags"},
        {"a: ! 1\n", "job.yaml:1:4: tags"},
        {"a: &x [1]\n", "job.yaml:1:4: anchors"},
        {"a: &x {b: 1}\n", "job.yaml:1:4: anchors"},
        {"a: !t {b: 1}\n", "job.yaml:1:4: tags"},
        {"%TAG ! tag:x,2000:\n---\na: 1\n", "job.yaml:1:1: %TAG"},
        {"a: 1\n---\nb: 2\n", "job.yaml:2:1: a second document"},
        {"a: 1\nb: 2\n\"a\": 3\n", "job.yaml:3:1: 'a' is there twice, first in line 1"},
        {"{a: {b: 1, c: 2, b: 3}}", "job.yaml:1:18: 'b' is there twice"},
        {"[a]: 1\n", "job.yaml:1:1: a key must be plain text"},
        {"? {a: 1}\n: 1\n", "job.yaml:1:3: a key must be plain text"},
        {"a: [1, 2\n", "job.yaml:2:1: "},
        {"a: \"x\n", "job.yaml:2:1: "},
        {"a: b: c\n", "job.yaml:1:5: "},
        {"a:\n\t- 1\n", "job.yaml:2:1: "},
        {"a: \"x\\0y\"\n", "job.yaml:1:4: a NUL"},
        {"a: \xFF\n", "job.yaml:1:4: "},
        {"a: \xC3\n", "job.yaml:1:4: "},
        {"a: x\x01\n", "job.yaml:1:5: "},
        {"\xFF\xFE"
         "a",
         "job.yaml:1:1: "},
        {"a: \"\\ud800\"\n", "job.yaml:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct yaml *yaml = NULL;
        struct error error = {0};
        size_t mark = arena.used;
        enum error_code code =
            yaml_parse(&yaml, &arena, "job.yaml", cases[i][0], strlen(cases[i][0]), &error);
        if (code != ERR_FORMAT)
            fail_msg("accepted: %s", cases[i][0]);
        if (strncmp(error.detail, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: %s", cases[i][0], error.detail);
        assert_null(yaml);
        assert_int_equal(arena.used, mark);
    }
}

static void test_limits(void **state) {
    (void)state;
    struct error error;
    const struct yaml *yaml;
    struct buffer buffer = {0};
    for (int depth = 32; depth <= 33; depth++) {
        for (int i = 0; i < depth; i++)
            buffer_add_text(&buffer, "[");
        for (int i = 0; i < depth; i++)
            buffer_add_text(&buffer, "]");
        assert_int_equal(yaml_parse(&yaml, &arena, "x", buffer.data, buffer.length, &error),
                         depth == 32 ? ERR_OK : ERR_LIMIT);
        buffer_close(&buffer);
    }
    /* A hundred thousand open brackets: libyaml itself has no cap on nesting. */
    for (int i = 0; i < 100000; i++)
        buffer_add_text(&buffer, "[");
    assert_int_equal(yaml_parse(&yaml, &arena, "x", buffer.data, buffer.length, &error), ERR_LIMIT);
    buffer_close(&buffer);
    assert_int_equal(yaml_parse(&yaml, &arena, "x", "", YAML_BYTES_MAX + 1, &error), ERR_LIMIT);
    struct arena small;
    static const char text[] = "a: [1, 2, {b: c}]\nd: e\n";
    for (size_t bytes = 1; bytes < 2048; bytes += 64) {
        assert_int_equal(arena_open(&small, bytes, &error), ERR_OK);
        enum error_code code = yaml_parse(&yaml, &small, "x", text, strlen(text), &error);
        assert_true(code == ERR_OK || code == ERR_LIMIT);
        arena_close(&small);
    }
    for (int i = 0; i < 50000; i++)
        buffer_printf(&buffer, "key%d: %d\n", i * 7919 % 50000, i);
    assert_int_equal(yaml_parse(&yaml, &arena, "x", buffer.data, buffer.length, &error), ERR_OK);
    assert_int_equal(yaml->length, 50000);
    buffer_close(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job), cmocka_unit_test(test_byte_order_mark),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
