#include "base/random.h"

#include <math.h>

#include "tests/base/test.h"

static void test_known_answers(void **state) {
    (void)state;
    /* philox4x32 10 of Random123's kat_vectors; counter words are (block, stream), key the seed. */
    static const struct {
        uint64_t seed, stream, block;
        uint32_t words[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822u,
         0x0370734413198a2eu,
         0x85a308d3243f6a88u,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
    for (size_t i = 0; i < 3; i++) {
        uint32_t words[4];
        random_block(words, cases[i].seed, cases[i].stream, cases[i].block);
        for (size_t j = 0; j < 4; j++)
            assert_int_equal(words[j], cases[i].words[j]);
    }
}

static void test_normal_is_normal(void **state) {
    (void)state;
    enum { COUNT = 200000 };
    static float numbers[COUNT];
    double sum = 0, squares = 0, fourth = 0, next_to = 0;
    int beyond = 0;
    random_normal(numbers, COUNT, 42, 7, 0);
    for (size_t i = 0; i < COUNT; i++) {
        double x = numbers[i];
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        beyond += fabs(x) > 1.959964;
        if (i)
            next_to += x * numbers[i - 1];
    }
    /* Five standard errors each. */
    assert_true(fabs(sum / COUNT) < 5 / sqrt(COUNT));
    assert_true(fabs(squares / COUNT - 1) < 5 * sqrt(2.0 / COUNT));
    assert_true(fabs(fourth / COUNT - 3) < 5 * sqrt(96.0 / COUNT));
    assert_true(fabs(next_to / COUNT) < 5 / sqrt(COUNT));
    assert_true(fabs(beyond / (double)COUNT - 0.05) < 5 * sqrt(0.05 * 0.95 / COUNT));
}

static void test_elements_do_not_depend_on_the_cut(void **state) {
    (void)state;
    float whole[100], piece[100];
    random_normal(whole, 100, 3, 9, 1000);
    for (size_t first = 0; first < 100; first++) {
        for (size_t count = 0; count <= 5 && first + count <= 100; count++) {
            random_normal(piece, count, 3, 9, 1000 + first);
            for (size_t i = 0; i < count; i++)
                assert_true(piece[i] == whole[first + i]);
        }
    }
    random_normal(piece, 100, 3, 10, 1000);
    for (size_t i = 0; i < 100; i++)
        assert_true(piece[i] != whole[i]);
    random_normal(piece, 3, 1, 1, UINT64_MAX - 1); /* goes round */
}

static void test_below(void **state) {
    (void)state;
    int counts[6] = {0};
    for (uint64_t i = 0; i < 60000; i++)
        counts[random_below(6, 1, 2, i)]++;
    for (size_t i = 0; i < 6; i++)
        assert_in_range(counts[i], 9500, 10500);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(random_below(1, 5, 5, i), 0);
        assert_true(random_below(UINT32_MAX, 5, 5, i) < UINT32_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_normal_is_normal),
        cmocka_unit_test(test_elements_do_not_depend_on_the_cut), cmocka_unit_test(test_below)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
