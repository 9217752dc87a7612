#include "base/grow.h"

#include <stdint.h>
#include <stdlib.h>

#include "tests/base/test.h"

static void test_one_by_one(void **state) {
    (void)state;
    int *items = NULL;
    size_t capacity = 0, moves = 0;
    for (size_t i = 0; i < 1000; i++) {
        size_t before = capacity;
        int *longer = grow(items, &capacity, i, sizeof *items);
        assert_non_null(longer);
        assert_true(capacity > i);
        moves += capacity != before;
        items = longer;
        items[i] = (int)i;
    }
    assert_int_equal(moves, 11); /* 1, 2, 4, …, 1024 */
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    free(items);
}

static void test_no_memory_leaves_all_as_it_was(void **state) {
    (void)state;
    size_t capacity = 4;
    char *items = malloc(capacity);
    assert_non_null(items);
    assert_null(grow(items, &capacity, 4, SIZE_MAX / 8)); /* its size has no number */
    assert_int_equal(capacity, 4);
    items[3] = 1;
    assert_ptr_equal(grow(items, &capacity, 3, SIZE_MAX / 8), items);
    free(items);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_by_one),
        cmocka_unit_test(test_no_memory_leaves_all_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
