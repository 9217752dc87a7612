/* Ids equal the reference's; hostile model files are refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/worker/model/model_test.h"

#define SPIECE RANDOM_WAN "/tokenizer/spiece.model"

static void expect_ids(struct tokenizer *tokenizer, const struct weights *file, const char *name,
                       const char *text) {
    const struct tensor *expected = reference(file, "%s.ids", name);
    struct error error = {0};
    int32_t ids[64];
    int count = 0;
    ok(tokenizer_encode(tokenizer, ids, &count, 64, text, strlen(text), &error), &error);
    assert_int_equal(count, expected->dim[0]);
    assert_memory_equal(ids, expected->data, (size_t)count * sizeof *ids);
}

static void ids_of_the_reference(void **state) {
    struct tokenizer *tokenizer;
    struct weights *file;
    struct error error = {0};
    ok(tokenizer_open(&tokenizer, SPIECE, &error), &error);
    ok(weights_open(&file, RANDOM_WAN "/reference.safetensors", &error), &error);
    expect_ids(tokenizer, file, "text.0",
               "a red hot air balloon over the sea at night, mountains behind");
    expect_ids(tokenizer, file, "text.0.joined",
               "a red hot air balloon over the sea at night, mountains behind. it rises");
    expect_ids(tokenizer, file, "text.1",
               "White bird above a snowfield at dawn in the rain, zyx\xc3\xbc");
    expect_ids(tokenizer, file, "text.empty", "");
    weights_close(&file);
    tokenizer_close(&tokenizer);
}

static void a_cut_keeps_the_end(void **state) {
    struct tokenizer *tokenizer;
    struct error error = {0};
    ok(tokenizer_open(&tokenizer, SPIECE, &error), &error);
    int32_t ids[64] = {0}, longer[64] = {0};
    int count, all;
    const char *text = "a red hot air balloon over the sea at night";
    ok(tokenizer_encode(tokenizer, longer, &all, 64, text, strlen(text), &error), &error);
    for (int max = 2; max < all; max++) {
        ok(tokenizer_encode(tokenizer, ids, &count, max, text, strlen(text), &error), &error);
        assert_int_equal(count, max);
        assert_memory_equal(ids, longer, (size_t)(max - 1) * sizeof *ids);
        assert_int_equal(ids[max - 1], TOKENIZER_END);
        assert_int_equal(ids[max], 0);
        ids[max - 1] = 0;
    }
    tokenizer_close(&tokenizer);
}

static void refuse(const void *bytes, size_t length, const char *why) {
    struct tokenizer *tokenizer;
    struct error error = {0};
    enum error_code code = tokenizer_open_memory(&tokenizer, bytes, length, "x.model", &error);
    assert_true(code == ERR_FORMAT || code == ERR_UNSUPPORTED || code == ERR_LIMIT);
    assert_null(tokenizer);
    assert_non_null(strstr(error.detail, "x.model"));
    if (strstr(error.detail, why) == NULL)
        fail_msg("'%s' does not say '%s'", error.detail, why);
}

static void hostile_models(void **state) {
    refuse("", 0, "empty");
    refuse("\x0a", 1, "cut short");
    refuse("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "cut short");
    refuse("\x0b", 1, "cut short"); /* a group */
    refuse("\x0a\x05\x0a\x03"
           "abc",
           7, "exactly one");                       /* no unknown piece */
    refuse("\x0a\x02\x0a\x00", 4, "UTF-8");         /* an empty piece */
    refuse("\x0a\x04\x0a\x02\xc3\x28", 6, "UTF-8"); /* a broken one */
    refuse("\x0a\x08\x0a\x01"
           "a\x15\x00\x00\xc0\x7f",
           10, "score"); /* NaN */
    refuse("\x0a\x05\x0a\x01"
           "a\x18\x09",
           7, "type");
    refuse("\x12\x02\x18\x02", 4, "unigram"); /* BPE */
    refuse("\x1a\x06\x12\x04\xff\xff\xff\xff", 8, "character map");
}

/* Any one bit of the character map, and any cut: refused, or harmless to run. */
static void damaged_models(void **state) {
    struct arena arena;
    struct error error = {0};
    char *bytes;
    size_t length;
    ok(arena_open(&arena, 1 << 22, &error), &error);
    ok(file_read(&bytes, &length, &arena, SPIECE, 1 << 20, &error), &error);
    uint32_t seed = 1;
    int opened = 0;
    for (int i = 0; i < 200; i++) {
        seed = seed * 1664525 + 1013904223;
        size_t at = seed % length;
        char before = bytes[at];
        bytes[at] = (char)(before ^ (1 << (seed >> 29)));
        size_t cut = i % 8 == 0 ? at : length;
        struct tokenizer *tokenizer;
        if (tokenizer_open_memory(&tokenizer, bytes, cut, "x", &error) == ERR_OK) {
            int32_t ids[64];
            int count;
            const char *text =
                "A red \xef\xbc\xa1\xef\xac\x81\xe2\x85\xa7 balloon \xf0\x9f\x8e\x88";
            ok(tokenizer_encode(tokenizer, ids, &count, 64, text, strlen(text), &error), &error);
            opened++;
        }
        tokenizer_close(&tokenizer);
        bytes[at] = before;
    }
    print_message("%d of 200 damaged models still open\n", opened);
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_the_reference),
        cmocka_unit_test(a_cut_keeps_the_end),
        cmocka_unit_test(hostile_models),
        cmocka_unit_test(damaged_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
