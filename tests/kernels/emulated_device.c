/* The host's side of the CUDA table, over the emulated machine: algorithms that are measured, steps
 * that are recorded. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/kernels/support.h"

static const struct ops *ops;

static int load(void **state) {
    struct error error;
    (void)state;
    return ops_load(&ops, "emulated", &error) != ERR_OK;
}

static struct device *open_device(const char *cache) {
    struct device *device = NULL;
    struct error error;
    const struct device_config config = {.cache = cache};
    assert_int_equal(ops->device_open(&device, &config, &error), ERR_OK);
    return device;
}

/* -- measured algorithms ------------------------------------------------------------------------
 */

/* A product that is worth measuring; the emulated library's wrong algorithm is its fastest. */
static void multiply(const char *cache) {
    enum { ROWS = 100, OUTPUTS = 300, INPUTS = 200 };
    struct device *device = open_device(cache);
    struct tensor weight = tensor_of(random_buffer((int64_t)OUTPUTS * INPUTS, DTYPE_BF16, 1),
                                     DTYPE_BF16, 2, (int64_t[]){OUTPUTS, INPUTS});
    const struct tensor *weights[] = {&weight};
    struct linear *linear = NULL;
    struct arena arena;
    struct error error;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 20, &error), ERR_OK);
    assert_int_equal(ops->linear_create(device, &linear, weights, NULL, 1, DTYPE_BF16, &error),
                     ERR_OK);
    const void *host = random_buffer((int64_t)ROWS * INPUTS, DTYPE_BF16, 1);
    void *in = arena_alloc(&arena, ROWS * INPUTS * 2);
    float *out = arena_alloc(&arena, ROWS * OUTPUTS * sizeof *out), result;
    ops->upload(device, in, host, ROWS * INPUTS * 2);
    ops->linear(device, out, in, linear, ROWS, NULL);
    ops->download(device, &result, out + OUTPUTS + 1, sizeof result);
    double expected = 0;
    for (int k = 0; k < INPUTS; k++) {
        expected += (double)float_load(host, DTYPE_BF16, INPUTS + k) *
                    (double)float_load(weight.data, DTYPE_BF16, INPUTS + k);
    }
    assert_true(fabs(expected - (double)result) <= 1e-5 * (1 + fabs(expected)));
    assert_int_equal(ops->status(device, &error), ERR_OK);
    ops->linear_close(device, &linear);
    arena_close(&arena);
    ops->device_close(&device);
}

/* The algorithm that the only file of the folder has for its only product; -1: there is none. */
static long kept_algorithm(const char *folder) {
    char command[128], line[512];
    long algorithm = -1, skip[7];
    snprintf(command, sizeof command, "cat %s/products-*", folder);
    FILE *file = popen(command, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char *end = line;
        for (int i = 0; i < 7; i++) {
            skip[i] = strtol(end, &end, 10);
        }
        if (skip[0] > 0) {
            assert_true(skip[0] == 300 && skip[1] == 200 && skip[2] == 100);
            algorithm = strtol(end, &end, 16);
        }
    }
    pclose(file);
    return algorithm;
}

static void the_fastest_equal_algorithm_is_kept(void **state) {
    (void)state;
    char folder[] = "/tmp/vidloom-emulated-XXXXXX";
    struct error error;
    random_start(1);
    assert_non_null(mkdtemp(folder));
    multiply(folder);
    assert_int_equal(kept_algorithm(folder), 1);
    multiply(folder);
    multiply(NULL);
    assert_int_equal(kept_algorithm(folder), 1);
    assert_int_equal(file_remove_tree(folder, &error), ERR_OK);
}

/* -- what repeats -------------------------------------------------------------------------------
 */

enum { WIDTH = 64, ROWS = 5 };

/* y = linear(layer_norm(x)), and a count of how often it was asked for. */
struct step {
    struct device *device;
    struct linear *linear;
    float *x, *y;
    void *normed;
    int asked;
    bool waits, stops;
};

static bool queue_step(void *context) {
    struct step *step = context;
    struct error error;
    step->asked++;
    ops->layer_norm(step->device, step->normed, step->x, NULL, NULL, NULL, ROWS, WIDTH, 1e-6f,
                    DTYPE_BF16);
    if (step->waits) {
        (void)ops->status(step->device, &error);
    }
    if (step->stops) {
        return false;
    }
    ops->linear(step->device, step->y, step->normed, step->linear, ROWS, NULL);
    return true;
}

static void step_open(struct step *step, struct arena *arena) {
    struct error error;
    struct tensor weight = tensor_of(random_buffer(WIDTH * WIDTH, DTYPE_F32, 1), DTYPE_F32, 2,
                                     (int64_t[]){WIDTH, WIDTH});
    const struct tensor *weights[] = {&weight};
    *step = (struct step){.device = open_device(NULL)};
    assert_int_equal(ops->arena_open(step->device, arena, 1 << 20, &error), ERR_OK);
    assert_int_equal(
        ops->linear_create(step->device, &step->linear, weights, NULL, 1, DTYPE_BF16, &error),
        ERR_OK);
    step->x = arena_alloc(arena, ROWS * WIDTH * sizeof(float));
    step->y = arena_alloc(arena, ROWS * WIDTH * sizeof(float));
    step->normed = arena_alloc(arena, ROWS * WIDTH * 2);
}

static void step_close(struct step *step, struct arena *arena) {
    struct error error;
    assert_int_equal(ops->status(step->device, &error), ERR_OK);
    ops->linear_close(step->device, &step->linear);
    arena_close(arena);
    ops->device_close(&step->device);
}

/* New numbers, the step by itself, then as `key`: equal bytes. */
static void repeat_equals_step(struct step *step, int key) {
    float expected[ROWS * WIDTH], result[ROWS * WIDTH];
    int asked = step->asked;
    ops->upload(step->device, step->x, random_buffer(ROWS * WIDTH, DTYPE_F32, 1), sizeof expected);
    (void)queue_step(step);
    ops->download(step->device, expected, step->y, sizeof expected);
    ops->zero(step->device, step->y, sizeof result);
    step->asked = asked;
    ops->repeat(step->device, &key, sizeof key, queue_step, step);
    ops->download(step->device, result, step->y, sizeof result);
    assert_memory_equal(expected, result, sizeof result);
}

static void a_step_is_recorded_at_its_second_time(void **state) {
    (void)state;
    struct step step;
    struct arena arena;
    random_start(2);
    step_open(&step, &arena);
    for (int i = 1; i <= 5; i++) {
        repeat_equals_step(&step, 1);
        assert_int_equal(step.asked, i < 2 ? i : 2);
    }
    repeat_equals_step(&step, 2); /* another key is another step */
    assert_int_equal(step.asked, 3);
    step_close(&step, &arena);
}

static void a_closed_layer_is_forgotten(void **state) {
    (void)state;
    struct step step, other;
    struct arena arena, other_arena;
    random_start(3);
    step_open(&step, &arena);
    for (int i = 0; i < 3; i++) {
        repeat_equals_step(&step, 1);
    }
    assert_int_equal(step.asked, 2);
    struct tensor weight = tensor_of(random_buffer(WIDTH * WIDTH, DTYPE_F32, 1), DTYPE_F32, 2,
                                     (int64_t[]){WIDTH, WIDTH});
    const struct tensor *weights[] = {&weight};
    struct error error;
    ops->linear_close(step.device, &step.linear);
    assert_int_equal(
        ops->linear_create(step.device, &step.linear, weights, NULL, 1, DTYPE_BF16, &error),
        ERR_OK);
    for (int i = 0; i < 3; i++) {
        repeat_equals_step(&step, 1);
    }
    assert_int_equal(step.asked, 4);
    step_open(&other, &other_arena); /* devices do not share what they recorded */
    repeat_equals_step(&other, 1);
    assert_int_equal(other.asked, 1);
    step_close(&other, &other_arena);
    step_close(&step, &arena);
}

static void more_keys_than_are_kept_are_still_right(void **state) {
    (void)state;
    struct step step;
    struct arena arena;
    random_start(4);
    step_open(&step, &arena);
    for (int i = 0; i < 60; i++) {
        repeat_equals_step(&step, i * 7 % 20);
    }
    for (int i = 0; i < 4; i++) {
        repeat_equals_step(&step, 100);
    }
    step_close(&step, &arena);
}

/* A step that waits cannot be captured: it is queued one by one, and the device is well. */
static void what_cannot_be_recorded_still_runs(void **state) {
    (void)state;
    struct step step;
    struct arena arena;
    random_start(5);
    step_open(&step, &arena);
    step.waits = true;
    for (int i = 0; i < 4; i++) {
        repeat_equals_step(&step, 1);
    }
    assert_int_equal(step.asked, 5); /* once more for the capture that failed */
    step_close(&step, &arena);
}

/* A step that was cut short is not what is kept. */
static void a_cancelled_step_is_not_recorded(void **state) {
    (void)state;
    struct step step;
    struct arena arena;
    int key = 1;
    random_start(6);
    step_open(&step, &arena);
    step.stops = true;
    for (int i = 0; i < 3; i++) {
        ops->repeat(step.device, &key, sizeof key, queue_step, &step);
    }
    step.stops = false;
    repeat_equals_step(&step, 1);
    step.stops = true;
    ops->repeat(step.device, &key, sizeof key, queue_step, &step);
    step.stops = false;
    for (int i = 0; i < 3; i++) {
        repeat_equals_step(&step, 1);
    }
    step_close(&step, &arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_fastest_equal_algorithm_is_kept, buffers_free),
        cmocka_unit_test_teardown(a_step_is_recorded_at_its_second_time, buffers_free),
        cmocka_unit_test_teardown(a_closed_layer_is_forgotten, buffers_free),
        cmocka_unit_test_teardown(more_keys_than_are_kept_are_still_right, buffers_free),
        cmocka_unit_test_teardown(what_cannot_be_recorded_still_runs, buffers_free),
        cmocka_unit_test_teardown(a_cancelled_step_is_not_recorded, buffers_free),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
