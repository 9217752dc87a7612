/* Measures of pictures whose differences are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "worker/measure.h"

enum { WIDTH = 33, HEIGHT = 17, BYTES = WIDTH * HEIGHT * 3 };

static void fill(uint8_t *frame, uint8_t value) {
    memset(frame, value, BYTES);
}

static void scatter(uint8_t *frame, uint64_t seed) {
    for (int i = 0; i < BYTES; i++)
        frame[i] = (uint8_t)random_below(256, seed, 0, (uint64_t)i);
}

static struct measures measured(const uint8_t *start, const uint8_t *before,
                                uint8_t (*frames)[BYTES], int count) {
    struct measure measure;
    struct measures out;
    struct error error = {0};
    assert_int_equal(measure_open(&measure, WIDTH, HEIGHT, start, before, &error), ERR_OK);
    for (int i = 0; i < count; i++)
        measure_add(&measure, frames[i]);
    measure_finish(&measure, &out);
    measure_close(&measure);
    return out;
}

static void test_same(void **state) {
    uint8_t frames[3][BYTES];
    (void)state;
    for (int i = 0; i < 3; i++)
        scatter(frames[i], 5);
    struct measures m = measured(frames[0], frames[0], frames, 3);
    assert_true(m.colour == 0 && m.luminance == 0 && m.sharpness == 0 && m.seam == 0);
}

/* With nothing before them, frames are measured against their own first. */
static void test_own_first(void **state) {
    uint8_t frames[3][BYTES];
    (void)state;
    for (int i = 0; i < 3; i++)
        scatter(frames[i], (uint64_t)i);
    struct measures own = measured(NULL, NULL, frames, 3);
    struct measures given = measured(frames[0], frames[0], frames, 3);
    assert_memory_equal(&own, &given, sizeof own);
    assert_true(own.colour > 0 && own.seam == 0);
}

/* A frame 51 values lighter: a fifth of the range. */
static void test_lighter(void **state) {
    uint8_t start[BYTES], frames[2][BYTES];
    (void)state;
    fill(start, 100);
    fill(frames[0], 151);
    fill(frames[1], 151);
    struct measures m = measured(start, start, frames, 2);
    assert_float_equal(m.colour, 0.2, 1e-12);
    assert_float_equal(m.luminance, 0.2, 1e-12);
    assert_float_equal(m.seam, 0.2, 1e-12);
    assert_float_equal(m.sharpness, 0, 0);
    fill(frames[0], 49);
    fill(frames[1], 49);
    m = measured(start, start, frames, 2);
    assert_float_equal(m.luminance, -0.2, 1e-12);
    assert_float_equal(m.colour, 0.2, 1e-12);
}

/* One channel alone counts a third of the colours; the extremes are the bounds. */
static void test_bounds(void **state) {
    uint8_t start[BYTES], frames[1][BYTES];
    (void)state;
    fill(start, 0);
    fill(frames[0], 255);
    struct measures m = measured(start, start, frames, 1);
    assert_true(m.colour == 1 && m.luminance == 1 && m.seam == 1);
    for (int i = 0; i < BYTES; i++)
        frames[0][i] = i % 3 == 0 ? 255 : 0;
    m = measured(start, start, frames, 1);
    assert_float_equal(m.colour, 1.0 / 3, 1e-12);
    assert_float_equal(m.luminance, 0.2126, 1e-4);
}

/* Averaging neighbours softens; the same picture out of nothing is as sharp as can be told. */
static void test_sharpness(void **state) {
    uint8_t start[BYTES], frames[1][BYTES];
    (void)state;
    scatter(start, 3);
    for (int i = 0; i < BYTES; i++)
        frames[0][i] = (uint8_t)((start[i] + start[(i + 3) % BYTES]) / 2);
    struct measures softer = measured(start, start, frames, 1);
    assert_true(softer.sharpness < -0.1 && softer.sharpness > -0.6);
    uint8_t sharp[1][BYTES];
    memcpy(sharp[0], start, BYTES);
    struct measures sharper = measured(frames[0], frames[0], sharp, 1);
    assert_float_equal(sharper.sharpness, -softer.sharpness, 1e-12);
    fill(frames[0], 9);
    assert_true(measured(start, start, frames, 1).sharpness == -1);
    assert_true(measured(frames[0], frames[0], sharp, 1).sharpness == 1);
}

/* A step over the seam that is as large as those between the frames is none; a larger one is. */
static void test_seam(void **state) {
    uint8_t before[BYTES], frames[3][BYTES];
    (void)state;
    fill(before, 10);
    for (int i = 0; i < 3; i++)
        fill(frames[i], (uint8_t)(20 + 10 * i));
    assert_true(measured(before, before, frames, 3).seam == 0);
    for (int i = 0; i < 3; i++)
        fill(frames[i], (uint8_t)(71 + 10 * i));
    assert_float_equal(measured(before, before, frames, 3).seam, 51 / 255.0, 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),      cmocka_unit_test(test_own_first),
        cmocka_unit_test(test_lighter),   cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_sharpness), cmocka_unit_test(test_seam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
