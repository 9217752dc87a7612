#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/base/test.h"

static void test_known_answers(void **state) {
    (void)state;
    static const struct {
        const char *text, *hex;
    } cases[] = {/* b2sum -l 256 */
                 {"", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
                 {"abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"}};
    for (size_t i = 0; i < 2; i++) {
        struct hash hash, again;
        char hex[HASH_HEX_BYTES];
        hash_of(&hash, cases[i].text, strlen(cases[i].text));
        hash_hex(hex, &hash);
        assert_string_equal(hex, cases[i].hex);
        assert_true(hash_from_hex(&again, hex));
        assert_true(hash_equal(&hash, &again));
        again.bytes[31] ^= 1;
        assert_false(hash_equal(&hash, &again));
    }
}

static void test_pieces(void **state) {
    (void)state;
    struct hash_state hasher;
    struct hash whole, pieces;
    char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    hash_of(&whole, bytes, sizeof bytes);
    hash_start(&hasher);
    for (size_t at = 0, step = 1; at < sizeof bytes; at += step, step = step * 3 % 131) {
        if (step > sizeof bytes - at)
            step = sizeof bytes - at;
        hash_add(&hasher, bytes + at, step);
    }
    hash_add(&hasher, NULL, 0);
    hash_finish(&hasher, &pieces);
    assert_true(hash_equal(&whole, &pieces));
}

static void test_text_is_prefixed(void **state) {
    (void)state;
    struct hash_state hasher;
    struct hash a, b, c;
    hash_start(&hasher);
    hash_add_text(&hasher, "ab");
    hash_add_text(&hasher, "c");
    hash_finish(&hasher, &a);
    hash_start(&hasher);
    hash_add_text(&hasher, "a");
    hash_add_text(&hasher, "bc");
    hash_finish(&hasher, &b);
    assert_false(hash_equal(&a, &b));
    /* The encoding of keys never changes: u64 little endian, then the bytes. */
    hash_of(&c, "\2\0\0\0\0\0\0\0ab\1\0\0\0\0\0\0\0c", 19);
    assert_true(hash_equal(&a, &c));
}

static void test_hex_is_strict(void **state) {
    (void)state;
    struct hash hash;
    char hex[HASH_HEX_BYTES + 1];
    memset(hex, 'a', sizeof hex);
    hex[64] = '\0';
    assert_true(hash_from_hex(&hash, hex));
    hex[5] = 'A';
    assert_false(hash_from_hex(&hash, hex));
    hex[5] = 'g';
    assert_false(hash_from_hex(&hash, hex));
    hex[5] = 'a';
    hex[63] = '\0';
    assert_false(hash_from_hex(&hash, hex));
    assert_false(hash_from_hex(&hash, ""));
    memset(hex, 'a', 65);
    hex[65] = '\0';
    assert_false(hash_from_hex(&hash, hex));
}

static void test_file(void **state) {
    (void)state;
    char path[] = "/tmp/vidloom-hash-XXXXXX";
    struct hash hash, expected;
    struct error error;
    size_t length = 300000; /* several reads */
    char *bytes = calloc(1, length);
    int file = mkstemp(path);
    assert_true(file >= 0 && bytes);
    bytes[length - 1] = 1;
    assert_int_equal(write(file, bytes, length), length);
    assert_int_equal(close(file), 0);
    assert_int_equal(hash_of_file(&hash, path, &error), ERR_OK);
    hash_of(&expected, bytes, length);
    assert_true(hash_equal(&hash, &expected));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hash_of_file(&hash, path, &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, path));
    assert_int_equal(hash_of_file(&hash, "/tmp", &error), ERR_IO);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_text_is_prefixed), cmocka_unit_test(test_hex_is_strict),
        cmocka_unit_test(test_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
