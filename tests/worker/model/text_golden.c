/* 5,200 texts in 40 scripts: what the reference makes of them, and its ids for three tokenizers.
 * tests/parity/text.sh golden makes the vectors, and finds what differs when one of these fails. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/text_clean.h"
#include "worker/model/tokenizer.h"

#define VECTORS    "tests/worker/model/vectors/"
#define TOKENIZERS 3
#define IDS_MAX    512

struct golden {
    struct arena arena;
    const struct json *texts;
    struct tokenizer *tokenizers[TOKENIZERS];
};

/* The file, with byte fallback too. */
static void open_json(struct golden *golden, struct error *error) {
    static const char without[] = "\"byte_fallback\":false", with[] = "\"byte_fallback\":true";
    char *text;
    size_t length;
    ok(file_read(&text, &length, &golden->arena, VECTORS "text_tokenizer.json", 1 << 20, error),
       error);
    ok(tokenizer_open_memory(&golden->tokenizers[0], text, length, "plain.json", error), error);
    char *at = strstr(text, without);
    assert_non_null(at);
    memmove(at + sizeof with - 1, at + sizeof without - 1, strlen(at + sizeof without - 1) + 1);
    memcpy(at, with, sizeof with - 1);
    ok(tokenizer_open_memory(&golden->tokenizers[1], text, strlen(text), "bytes.json", error),
       error);
}

static int set_up(void **state) {
    static struct golden golden;
    struct error error = {0};
    char *text;
    size_t length;
    ok(arena_open(&golden.arena, 64 << 20, &error), &error);
    ok(file_read(&text, &length, &golden.arena, VECTORS "text.json", 1 << 20, &error), &error);
    ok(json_parse(&golden.texts, &golden.arena, text, length, &error), &error);
    open_json(&golden, &error);
    ok(tokenizer_open_folder(&golden.tokenizers[2], RANDOM_WAN "/tokenizer", &error), &error);
    *state = &golden;
    return 0;
}

static int tear_down(void **state) {
    struct golden *golden = *state;
    for (int i = 0; i < TOKENIZERS; i++)
        tokenizer_close(&golden->tokenizers[i]);
    arena_close(&golden->arena);
    return 0;
}

static void cleaned_as_the_reference(void **state) {
    const struct golden *golden = *state;
    assert_true(golden->texts->length >= 5000);
    for (const struct json *row = golden->texts->child; row != NULL; row = row->next) {
        const char *text = row->child->string, *expected = row->child->next->string;
        struct buffer clean = {0};
        struct error error = {0};
        ok(text_clean(&clean, text, &error), &error);
        assert_string_equal(clean.data, strcmp(expected, "=") == 0 ? text : expected);
        buffer_close(&clean);
    }
}

/* FNV-1a of the ids in decimal, with commas between them. */
static void hash_ids(char out[17], const int32_t *ids, int count) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < count; i++) {
        char digits[16];
        (void)snprintf(digits, sizeof digits, "%s%d", i > 0 ? "," : "", ids[i]);
        for (const char *at = digits; *at != 0; at++)
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
    }
    (void)snprintf(out, 17, "%016" PRIx64, hash);
}

static void ids_as_the_reference(void **state) {
    const struct golden *golden = *state;
    for (const struct json *row = golden->texts->child; row != NULL; row = row->next) {
        const struct json *clean = row->child->next, *expected = clean->next;
        clean = strcmp(clean->string, "=") == 0 ? row->child : clean;
        for (int i = 0; i < TOKENIZERS; i++, expected = expected->next) {
            int32_t ids[IDS_MAX];
            int count;
            char hash[17];
            struct error error = {0};
            ok(tokenizer_encode(golden->tokenizers[i], ids, &count, IDS_MAX, clean->string,
                                clean->length, &error),
               &error);
            hash_ids(hash, ids, count);
            /* "": two paths are equally good, and SentencePiece's versions differ. */
            if (expected->length > 0 && strcmp(hash, expected->string) != 0)
                fail_msg("tokenizer %d gives other ids for \"%s\"", i, clean->string);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleaned_as_the_reference),
        cmocka_unit_test(ids_as_the_reference),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
