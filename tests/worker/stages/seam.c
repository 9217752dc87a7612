/* New frames follow those before them: the step is gone at the seam, and all is as decoded later.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "worker/seam.h"

enum { BYTES = 3 * 33 * 17, CHANGED = 6 };

struct fixture {
    struct arena arena;
    struct seam seam;
    uint8_t was[BYTES], again[BYTES], frame[BYTES];
};

static int setup(void **state) {
    static struct fixture fixture;
    struct error error = {0};
    memset(&fixture, 0, sizeof fixture);
    assert_int_equal(arena_open(&fixture.arena, 1 << 20, &error), ERR_OK);
    assert_int_equal(seam_open(&fixture.seam, &fixture.arena, BYTES, &error), ERR_OK);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    arena_close(&((struct fixture *)*state)->arena);
    return 0;
}

static void scatter(uint8_t *frame, uint64_t seed) {
    for (int i = 0; i < BYTES; i++)
        frame[i] = (uint8_t)random_below(256, seed, 0, (uint64_t)i);
}

static void test_without_seam(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < CHANGED + 1; i++)
        assert_ptr_equal(seam_next(&f->seam, f->frame), f->frame);
}

/* What stands still: 70 before, 140 decoded again, so the first new frame is 80 and the sixth 130.
 */
static void test_step_fades(void **state) {
    struct fixture *f = *state;
    memset(f->was, 70, BYTES);
    memset(f->again, 140, BYTES);
    memset(f->frame, 140, BYTES);
    seam_set(&f->seam, f->was, f->again);
    for (int i = 0; i < CHANGED; i++) {
        const uint8_t *shown = seam_next(&f->seam, f->frame);
        for (int k = 0; k < BYTES; k++)
            assert_int_equal(shown[k], 80 + 10 * i);
    }
    assert_ptr_equal(seam_next(&f->seam, f->frame), f->frame);
    assert_int_equal(f->frame[0], 140);
}

/* Nothing is changed where the given frame comes out as it was, whatever moves. */
static void test_no_step(void **state) {
    struct fixture *f = *state;
    scatter(f->was, 1);
    seam_set(&f->seam, f->was, f->was);
    for (int i = 0; i < CHANGED; i++) {
        scatter(f->frame, 2 + (uint64_t)i);
        assert_memory_equal(seam_next(&f->seam, f->frame), f->frame, BYTES);
    }
}

/* Values at both ends stay values: against the definition. */
static void test_ends_of_the_range(void **state) {
    struct fixture *f = *state;
    scatter(f->was, 1);
    scatter(f->again, 2);
    scatter(f->frame, 3);
    seam_set(&f->seam, f->was, f->again);
    const uint8_t *shown = seam_next(&f->seam, f->frame);
    int low = 0, high = 0;
    for (int k = 0; k < BYTES; k++) {
        int value = f->frame[k] + (f->was[k] - f->again[k]) * 6 / 7;
        low += value < 0;
        high += value > 255;
        assert_int_equal(shown[k], value < 0 ? 0 : value > 255 ? 255 : value);
    }
    assert_true(low > 0 && high > 0);
}

static void test_no_room(void **state) {
    struct fixture *f = *state;
    struct seam seam;
    struct error error = {0};
    assert_int_equal(seam_open(&seam, &f->arena, 1 << 20, &error), ERR_MEMORY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_seam, setup, teardown),
        cmocka_unit_test_setup_teardown(test_step_fades, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_of_the_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
