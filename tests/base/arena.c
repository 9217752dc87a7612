#include "base/arena.h"

#include <string.h>

#include "tests/base/test.h"

static void test_blocks(void **state) {
    (void)state;
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1000, &error), ERR_OK);
    char *a = arena_alloc(&arena, 1), *b = arena_alloc(&arena, 65);
    assert_int_equal((uintptr_t)a % ARENA_ALIGN, 0);
    assert_ptr_equal(b, a + 64);
    assert_int_equal(arena.used, 192);
    assert_non_null(arena_alloc(&arena, 0));
    assert_int_equal(arena.used, 192);
    assert_null(arena_alloc(&arena, 1000 - 192 + 1));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(arena_strdup(&arena, "x", SIZE_MAX));
    /* The last bytes can be used though they do not fill an aligned block. */
    assert_non_null(arena_alloc(&arena, 1000 - 192));
    assert_int_equal(arena.used, 1000);
    assert_null(arena_alloc(&arena, 1));
    arena_close(&arena);
    arena_close(&arena);
    assert_null(arena_alloc(&arena, 0));
}

static void test_reset_and_zero(void **state) {
    (void)state;
    struct arena arena;
    struct error error;
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    size_t mark = arena.used;
    memset(arena_alloc(&arena, 1000), 0xAA, 1000);
    arena_reset(&arena, mark);
    assert_int_equal(arena.used, 0);
    assert_int_equal(arena.peak, 1024);
    const char *zeroed = arena_zalloc(&arena, 5000);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(zeroed[i], 0);
    arena_reset(&arena, SIZE_MAX); /* a mark above: nothing happens */
    assert_int_equal(arena.used, 5056);
    assert_string_equal(arena_strdup(&arena, "abcdef", 3), "abc");
    assert_string_equal(arena_strdup(&arena, NULL, 0), "");
    arena_close(&arena);
}

static void test_large_reservation_is_free(void **state) {
    (void)state;
    struct arena arena;
    struct error error;
#if !defined(__SANITIZE_THREAD__)
    assert_int_equal(arena_open(&arena, (size_t)1 << 38, &error), ERR_OK);
    char *block = arena_alloc(&arena, (size_t)1 << 37);
    assert_non_null(block);
    block[((size_t)1 << 37) - 1] = 1;
    arena_close(&arena);
#endif
    assert_int_equal(arena_open(&arena, SIZE_MAX / 2, &error), ERR_MEMORY);
    assert_non_null(strstr(error.detail, "9223372036854775807"));
}

static void use(struct arena *arena) {
    (void)arena_alloc(arena, 100);
    size_t mark = arena->used;
    (void)arena_zalloc(arena, 12345);
    (void)arena_strdup(arena, "text", 4);
    arena_reset(arena, mark);
    (void)arena_array(arena, 7, 13);
}

static void test_measuring_counts_the_same(void **state) {
    (void)state;
    struct arena measuring, real;
    struct error error;
    arena_open_measuring(&measuring);
    assert_non_null(arena_zalloc(&measuring, (size_t)1 << 50));
    arena_close(&measuring);
    arena_open_measuring(&measuring);
    use(&measuring);
    assert_int_equal(arena_open(&real, measuring.peak, &error), ERR_OK);
    use(&real);
    assert_int_equal(real.peak, measuring.peak);
    assert_int_equal(real.used, measuring.used);
    arena_close(&real);
    arena_close(&measuring);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks),
                                       cmocka_unit_test(test_reset_and_zero),
                                       cmocka_unit_test(test_large_reservation_is_free),
                                       cmocka_unit_test(test_measuring_counts_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
