/* tokenizer.json: small files by hand. text_golden.c compares with the reference by the thousand.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/tokenizer.h"
#include "worker/model/unigram.h"

#define MARK "\xe2\x96\x81"
#define PIECES                                                                                     \
    "[\"<pad>\",0],[\"</s>\",0],[\"<s>\",0],[\"<unk>\",0],[\"" MARK                                \
    "\",-2],[\"a\",-3.5],[\"b\",-3],"                                                              \
    "[\"ab\",-5],[\"<0x41>\",0],[\"" MARK "ab\",-1]"
#define SPACES "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}"
#define MODEL  "\"model\":{\"type\":\"Unigram\",\"unk_id\":3,\"vocab\":[" PIECES "]}"
#define ADDED                                                                                      \
    "\"added_tokens\":[{\"id\":10,\"content\":\"<x>\"},{\"id\":12,\"content\":\"<xx>\","           \
    "\"lstrip\":true,\"rstrip\":true},{\"id\":11,\"content\":\"ba\",\"single_word\":true}]"

static const char plain[] = "{" ADDED "," SPACES "," MODEL "}";

static void expect(const char *json, const char *text, int count, const int32_t *expected) {
    struct unigram *unigram;
    struct error error = {0};
    int32_t ids[32];
    int made;
    ok(unigram_open(&unigram, json, strlen(json), "x.json", &error), &error);
    ok(unigram_encode(unigram, ids, &made, 32, text, strlen(text), &error), &error);
    assert_int_equal(made, count);
    if (count > 0)
        assert_memory_equal(ids, expected, (size_t)count * sizeof *ids);
    unigram_close(&unigram);
    assert_null(unigram);
}

#define EXPECT(json, text, ...)                                                                    \
    expect(json, text, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)),                  \
           (int32_t[]){__VA_ARGS__})

static void best_paths(void **state) {
    expect(plain, "", 0, NULL);
    EXPECT(plain, "ab", 9);
    EXPECT(plain, "ab ab", 9, 9);
    EXPECT(plain, "b", 4, 6);
    EXPECT(plain, "bab", 4, 6, 7);
    EXPECT(plain, "zz\xc3\xa9", 4, 3); /* a run of unknown characters is one */
    EXPECT(plain, "zaz", 4, 3, 5, 3);
    EXPECT(plain, "  b", 4, 4, 6); /* every mark is a word */
    EXPECT(plain, "<0x41>", 4, 8); /* a byte's name is a piece too */
    EXPECT(plain, "<unk>", 4, 3);
}

static void added_tokens(void **state) {
    EXPECT(plain, "<x>", 10);
    EXPECT(plain, "ab<x>ab", 9, 10, 9);
    EXPECT(plain, "b <x> b", 4, 6, 4, 10, 4, 6); /* space before it is kept */
    EXPECT(plain, "ab <xx> ab", 9, 12, 9);       /* the longest; with the space around it */
    EXPECT(plain, "ba", 11);
    EXPECT(plain, "bab", 4, 6, 7); /* inside of a word: none */
    EXPECT(plain, "ba ba", 11, 4, 11);
}

static void first_ids_only(void **state) {
    struct unigram *unigram;
    struct error error = {0};
    int32_t ids[3] = {-1, -1, -1};
    int count;
    ok(unigram_open(&unigram, plain, strlen(plain), "x.json", &error), &error);
    ok(unigram_encode(unigram, ids, &count, 2, "bbbbbb", 6, &error), &error);
    assert_int_equal(count, 2);
    assert_int_equal(ids[2], -1);
    assert_int_equal(unigram_encode(unigram, ids, &count, 2, "a\xff", 2, &error), ERR_FORMAT);
    unigram_close(&unigram);
}

static void refuse(enum error_code expected, const char *why, const char *json) {
    struct tokenizer *tokenizer;
    struct error error = {0};
    assert_int_equal(tokenizer_open_memory(&tokenizer, json, strlen(json), "x.json", &error),
                     expected);
    assert_null(tokenizer);
    assert_non_null(strstr(error.detail, "x.json"));
    if (strstr(error.detail, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.detail, why);
}

static void refusals(void **state) {
#define WITH(model) "{" SPACES ",\"model\":{\"unk_id\":3,\"vocab\":[" model "]}}"
    refuse(ERR_FORMAT, "x.json:1:1", "");
    refuse(ERR_FORMAT, "no list of pieces", "{}");
    refuse(ERR_FORMAT, "no list of pieces", "[1]");
    refuse(ERR_UNSUPPORTED, "\"BPE\"", "{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}");
    refuse(ERR_FORMAT, "unk_id", "{\"model\":{\"unk_id\":1,\"vocab\":[]}}");
    refuse(ERR_FORMAT, "no pre_tokenizer", "{" MODEL "}");
    refuse(ERR_UNSUPPORTED, "\"ByteLevel\"",
           "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," MODEL "}");
    refuse(ERR_UNSUPPORTED, "<pad> and </s>", WITH("[\"a\",0],[\"b\",0],[\"c\",0],[\"d\",0]"));
    refuse(ERR_FORMAT, "score", WITH(PIECES ",[\"z\",\"1\"]"));
    refuse(ERR_FORMAT, "score", WITH(PIECES ",[\"z\",1e300]"));
    refuse(ERR_FORMAT, "512 bytes", WITH(PIECES ",[\"\",1]"));
    refuse(ERR_FORMAT, "512 bytes", WITH(PIECES ",7"));
    refuse(ERR_UNSUPPORTED, "\"NFKC\"",
           "{\"normalizer\":{\"type\":\"NFKC\"}," SPACES "," MODEL "}");
    refuse(ERR_UNSUPPORTED, "replacing \"a\"",
           "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\" "
           "\"}," SPACES "," MODEL "}");
    refuse(ERR_FORMAT, "base64",
           "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!\"}," SPACES
           "," MODEL "}");
    refuse(
        ERR_FORMAT, "cut short",
        "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAQAAA==\"}," SPACES
        "," MODEL "}");
    refuse(ERR_UNSUPPORTED, "added token",
           "{\"added_tokens\":[{\"id\":1,\"content\":\"\xc3\xa9\",\"normalized\":true}]," SPACES
           "," MODEL "}");
    refuse(ERR_FORMAT, "added token",
           "{\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]," SPACES "," MODEL "}");
#undef WITH
}

/* What is damaged is refused, or encodes without harm. */
static void damaged_files(void **state) {
    struct arena arena = {0};
    struct error error = {0};
    char *text;
    size_t length;
    unsigned seed = 7;
    ok(arena_open(&arena, 4 << 20, &error), &error);
    ok(file_read(&text, &length, &arena, "tests/worker/model/vectors/text_tokenizer.json", 1 << 20,
                 &error),
       &error);
    for (int round = 0; round < 60; round++) {
        char *copy = malloc(length);
        memcpy(copy, text, length);
        for (int i = 0; i < 3; i++) {
            seed = seed * 1103515245u + 12345u;
            copy[(seed >> 8) % length] = "0A\"],/z1"[seed >> 29];
        }
        struct unigram *unigram;
        int32_t ids[64];
        int count;
        const char *sample = "\xef\xbc\xa1 red \xef\xac\x81 e\xcc\x81 <extra_id_5> zzz";
        if (unigram_open(&unigram, copy, length - (size_t)round, "x.json", &error) == ERR_OK) {
            if (unigram_encode(unigram, ids, &count, 64, sample, strlen(sample), &error) == ERR_OK)
                assert_in_range(count, 1, 64);
            unigram_close(&unigram);
        }
        free(copy);
    }
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_paths),     cmocka_unit_test(added_tokens),
        cmocka_unit_test(first_ids_only), cmocka_unit_test(refusals),
        cmocka_unit_test(damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
