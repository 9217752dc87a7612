/* The host's side of the CUDA table, over the emulated machine: algorithms that are measured, steps
 * that are recorded. */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/join.h"
#include "kernels/quantise.h"
#include "tests/kernels/support.h"

static const struct ops *ops;

static int load(void **state) {
    struct error error;
    (void)state;
    return ops_load(&ops, "emulated", &error) != ERR_OK;
}

/* Devices; the small one has 128 MiB, most of them taken at opening. */
enum { USUAL = 0, HOPPER = 1, SMALL = 2, ADA = 3, LOST = 4, NONE = 5 };

static struct device *open_device(int index, const char *cache) {
    struct device *device = NULL;
    struct error error;
    const struct device_config config = {.index = index, .cache = cache};
    assert_int_equal(ops->device_open(&device, &config, &error), ERR_OK);
    return device;
}

/* What a function of the emulated machine's library, which `load` has loaded, has counted. */
static uint64_t counted(const char *function) {
    Dl_info info;
    assert_true(dladdr(ops, &info) != 0);
    void *library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (library == NULL) {
        fail_msg("%s cannot be opened again", info.dli_fname);
        return 0;
    }
    union {
        void *pointer;
        uint64_t (*function)(void);
    } count = {dlsym(library, function)};
    assert_non_null(count.pointer);
    uint64_t out = count.function();
    (void)dlclose(library);
    return out;
}

/* -- probing ---------------------------------------------------------------------------------- */

static void a_probe_takes_nothing_and_leaves_nothing(void **state) {
    (void)state;
    struct device *device = NULL, *none = NULL;
    struct error error;
    const struct device_config lost = {.index = LOST};
    const uint64_t before = counted("emulated_selected");
    assert_int_equal(ops->device_probe(ADA, &error), ERR_OK);
    assert_int_equal(ops->device_probe(NONE, &error), ERR_MISSING);
    assert_int_equal(ops->device_probe(LOST, &error), ERR_DEVICE);
    assert_true(ops->attends_narrow(ADA, 128) && !ops->attends_narrow(LOST, 128));
    assert_true(ops->multiplies_f8(ADA) && !ops->multiplies_f8(LOST));
    assert_int_equal(ops->device_open(&none, &lost, &error), ERR_DEVICE);
    assert_int_equal(counted("emulated_selected"), before);
    /* What another device is refused for is no failure of this one's next launch. */
    device = open_device(USUAL, NULL);
    struct arena arena;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 16, &error), ERR_OK);
    float *x = arena_alloc(&arena, 256);
    ops->zero(device, x, 256);
    assert_int_equal(ops->device_probe(LOST, &error), ERR_DEVICE);
    ops->activate(device, x, x, 64, ACTIVATION_SILU);
    assert_int_equal(ops->device_open(&none, &lost, &error), ERR_DEVICE);
    ops->activate(device, x, x, 64, ACTIVATION_SILU);
    assert_int_equal(ops->status(device, &error), ERR_OK);
    arena_close(&arena);
    ops->device_close(&device);
}

/* -- measured algorithms ---------------------------------------------------------------------- */

enum { PRODUCT_OUTPUTS = 304, PRODUCT_INPUTS = 208 };
enum { ROWS_USUAL = 100, ROWS_FAILING = 101 }; /* 7n+3: the first proposal fails */

/* A product that is worth measuring, of weights of BF16 or F8_E4M3; the emulated library's wrong
 * algorithm is its fastest. `full`: there is no memory to measure in. Returns a number made of all
 * of its results' bits. */
static uint64_t multiply(int index, const char *cache, enum dtype type, int64_t rows, bool full) {
    const int64_t dim[2] = {PRODUCT_OUTPUTS, PRODUCT_INPUTS};
    const int64_t elements = dim[0] * dim[1], row = PRODUCT_INPUTS;
    struct device *device = open_device(index, cache);
    struct tensor exact = tensor_of(random_buffer(elements, DTYPE_BF16, 1), DTYPE_BF16, 2, dim);
    struct tensor weight = exact;
    if (type == DTYPE_F8_E4M3) {
        quantise(&weight, buffer_of((size_t)elements), buffer_of(sizeof(float) * PRODUCT_OUTPUTS),
                 &exact, type);
    }
    const struct tensor *weights[] = {&weight};
    struct linear *linear = NULL;
    struct arena arena, rest = {0};
    struct error error;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 20, &error), ERR_OK);
    if (full) { /* but for the weights and as much again, less than a trial's results */
        const size_t left = 2 * (size_t)elements * 2;
        assert_int_equal(ops->arena_open(device, &rest, counted("emulated_free") - left, &error),
                         ERR_OK);
    }
    assert_int_equal(ops->linear_create(device, &linear, weights, NULL, 1, DTYPE_BF16, &error),
                     ERR_OK);
    const void *host = random_buffer(rows * row, DTYPE_BF16, 1);
    void *in = arena_alloc(&arena, (size_t)(rows * row) * 2);
    const size_t out_bytes = sizeof(float) * (size_t)rows * PRODUCT_OUTPUTS;
    float *out = arena_alloc(&arena, out_bytes), *results = buffer_of(out_bytes);
    ops->upload(device, in, host, (size_t)(rows * row) * 2);
    ops->linear(device, out, in, linear, rows, NULL);
    ops->download(device, results, out, out_bytes);
    const float result = results[PRODUCT_OUTPUTS + 1];
    double expected = 0, size = 0;
    for (int k = 0; k < PRODUCT_INPUTS; k++) {
        double term = (double)float_load(host, DTYPE_BF16, row + k) *
                      (double)float_load(exact.data, DTYPE_BF16, row + k);
        expected += term;
        size += fabs(term);
    }
    /* The wrong one is half as much again. */
    assert_true(fabs(expected - (double)result) <= (type == DTYPE_BF16 ? 1e-5 : 2e-2) * size);
    assert_int_equal(ops->status(device, &error), ERR_OK);
    ops->linear_close(device, &linear);
    arena_close(&rest);
    arena_close(&arena);
    ops->device_close(&device);
    uint64_t bits = 0xcbf29ce484222325;
    for (size_t i = 0; i < out_bytes; i++) {
        bits = (bits ^ ((const uint8_t *)results)[i]) * 0x100000001b3;
    }
    return bits;
}

/* What the only file of the folder has for its only product. */
struct kept {
    long type, epilogue;
    long algorithm; /* -1: there is none */
};

static struct kept kept_of(const char *folder) {
    char command[128], line[512];
    long number[7];
    struct kept kept = {.algorithm = -1};
    snprintf(command, sizeof command, "cat %s/products-*", folder);
    FILE *file = popen(command, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char *end = line;
        for (int i = 0; i < 7; i++) {
            number[i] = strtol(end, &end, 10);
        }
        if (number[0] > 0) {
            assert_true(number[0] == PRODUCT_OUTPUTS && number[1] == PRODUCT_INPUTS &&
                        (number[2] == ROWS_USUAL || number[2] == ROWS_FAILING));
            kept = (struct kept){number[3], number[4], strtol(end, &end, 16)};
        }
    }
    pclose(file);
    return kept;
}

static void the_fastest_equal_algorithm_is_kept(void **state) {
    (void)state;
    char folder[] = "/tmp/vidloom-emulated-XXXXXX";
    struct error error;
    random_start(1);
    assert_non_null(mkdtemp(folder));
    multiply(USUAL, folder, DTYPE_BF16, ROWS_USUAL, false);
    assert_int_equal(kept_of(folder).algorithm, 1);
    multiply(USUAL, folder, DTYPE_BF16, ROWS_USUAL, false);
    multiply(USUAL, NULL, DTYPE_BF16, ROWS_USUAL, false);
    assert_int_equal(kept_of(folder).algorithm, 1);
    assert_int_equal(file_remove_tree(folder, &error), ERR_OK);
}

static void a_proposal_that_fails_is_passed_over(void **state) {
    (void)state;
    char folder[] = "/tmp/vidloom-emulated-XXXXXX";
    struct error error;
    random_start(3);
    assert_non_null(mkdtemp(folder));
    const uint64_t bits = multiply(USUAL, folder, DTYPE_BF16, ROWS_FAILING, false);
    assert_int_equal(kept_of(folder).algorithm, 1);
    /* And to the same bits where there is no memory to measure in. */
    random_start(3);
    assert_int_equal(multiply(USUAL, NULL, DTYPE_BF16, ROWS_FAILING, true), bits);
    assert_int_equal(file_remove_tree(folder, &error), ERR_OK);
}

/* The library's, which looks closely at what it is given: not the kernel that is always there. On
 * Hopper with scales and the bias; elsewhere the bare sums. */
static void f8_is_multiplied_by_the_library(void **state) {
    (void)state;
    static const struct {
        int device;
        long type, epilogue;
    } cases[] = {{HOPPER, 0x300 | DTYPE_F32, 1}, {ADA, 0x100 | DTYPE_F32, 0}};
    random_start(2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[] = "/tmp/vidloom-emulated-XXXXXX";
        struct error error;
        assert_non_null(mkdtemp(folder));
        multiply(cases[i].device, folder, DTYPE_F8_E4M3, ROWS_USUAL, false);
        const struct kept kept = kept_of(folder);
        assert_int_equal(kept.algorithm, 1);
        assert_int_equal(kept.type, cases[i].type);
        assert_int_equal(kept.epilogue, cases[i].epilogue);
        assert_int_equal(file_remove_tree(folder, &error), ERR_OK);
    }
}

/* -- what repeats ----------------------------------------------------------------------------- */

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
    *step = (struct step){.device = open_device(USUAL, NULL)};
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

/* -- downloads that do not wait --------------------------------------------------------------- */

static void a_download_keeps_what_was_there(void **state) {
    (void)state;
    struct device *device = open_device(USUAL, NULL);
    struct arena arena, staging;
    struct error error;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 16, &error), ERR_OK);
    assert_int_equal(ops->staging_open(device, &staging, 1 << 16, &error), ERR_OK);
    float *x = arena_alloc(&arena, 8 * sizeof *x), *host[OPS_DOWNLOADS_MAX];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < OPS_DOWNLOADS_MAX; i++) {
            float value = (float)(10 * round + i);
            host[i] = (float *)(void *)staging.base + (ptrdiff_t)i * 64;
            ops->upload(device, x + 7, &value, sizeof value);
            ops->download_begin(device, host[i], x, 8 * sizeof *x);
        }
        /* In another order than they began; the last round by status, which ends all. */
        for (int i = OPS_DOWNLOADS_MAX - 1; i >= 0; i--) {
            assert_int_equal(round < 2 ? ops->download_end(device, host[i], &error)
                                       : ops->status(device, &error),
                             ERR_OK);
            assert_true(host[i][7] == (float)(10 * round + i));
        }
    }
    ops->download_begin(device, host[0], x, 0); /* nothing */
    assert_int_equal(ops->download_end(device, host[0], &error), ERR_OK);
    arena_close(&staging);
    arena_close(&arena);
    ops->device_close(&device);
}

/* -- weights that give way -------------------------------------------------------------------- */

enum { LAYERS = 7, SIDE = 1024 };

/* Layers of 2 MiB, used as a model does: two of them in turns, several times over. */
struct stack {
    struct device *device;
    struct linear *layer[LAYERS];
    void *x, *y;
};

static void stack_open(struct stack *stack, int index, struct arena *arena, size_t arena_bytes,
                       const void *weights) {
    struct error error;
    stack->device = open_device(index, NULL);
    assert_int_equal(ops->arena_open(stack->device, arena, arena_bytes, &error), ERR_OK);
    for (int i = 0; i < LAYERS; i++) {
        struct tensor weight = tensor_of((const uint16_t *)weights + (int64_t)i * SIDE, DTYPE_BF16,
                                         2, (int64_t[]){SIDE, SIDE});
        assert_int_equal(ops->linear_create(stack->device, &stack->layer[i],
                                            (const struct tensor *[]){&weight}, NULL, 1, DTYPE_BF16,
                                            &error),
                         ERR_OK);
    }
    stack->x = arena_alloc(arena, SIDE * 2);
    stack->y = arena_alloc(arena, SIDE * 2);
}

static void use(struct stack *stack, int layer) {
    const struct linear_epilogue narrow = {.out_dtype = DTYPE_BF16};
    ops->linear(stack->device, stack->y, stack->x, stack->layer[layer], 1, &narrow);
    void *swap = stack->x;
    stack->x = stack->y;
    stack->y = swap;
}

static bool pass(void *context) {
    static const int order[] = {2, 3, 0, 1, 0, 1, 0, 1, 4, 5, 6};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        use(context, order[i]);
    }
    use(context, 2); /* an even number: the result is where the input was */
    return true;
}

static void stack_run(struct stack *stack, const void *in, uint16_t out[SIDE]) {
    const int key = 1;
    ops->upload(stack->device, stack->x, in, SIDE * 2);
    for (int i = 0; i < 3; i++) {
        ops->repeat(stack->device, &key, sizeof key, pass, stack);
    }
    ops->download(stack->device, out, stack->x, SIDE * 2);
}

static void stack_close(struct stack *stack, struct arena *arena) {
    struct error error;
    assert_int_equal(ops->status(stack->device, &error), ERR_OK);
    for (int i = 0; i < LAYERS; i++) {
        ops->linear_close(stack->device, &stack->layer[i]);
    }
    assert_int_equal(ops->weight_bytes(stack->device), 0);
    arena_close(arena);
    ops->device_close(&stack->device);
}

/* Beside an arena for which there is room only without weights. */
static void weights_give_way_to_work(void **state) {
    (void)state;
    struct stack usual, small;
    struct arena usual_arena, small_arena, work, none;
    struct error error;
    uint16_t expected[SIDE], result[SIDE];
    random_start(7);
    const void *weights = random_buffer((int64_t)SIDE * (SIDE + LAYERS), DTYPE_BF16, 0.05);
    const void *in = random_buffer(SIDE, DTYPE_BF16, 1);
    stack_open(&usual, USUAL, &usual_arena, 1 << 16, weights);
    stack_open(&small, SMALL, &small_arena, 1 << 16, weights);
    stack_run(&usual, in, expected);
    stack_run(&small, in, result);
    assert_memory_equal(expected, result, sizeof result);
    size_t before = ops->weight_bytes(small.device);
    /* 128 MiB less the device's own 96 and the 6 that layers pass through: two can stay. */
    assert_int_equal(ops->arena_open(small.device, &work, (size_t)24 << 20, &error), ERR_OK);
    size_t after = ops->weight_bytes(small.device);
    assert_true(after < before && before - after >= (size_t)6 * SIDE * SIDE * 2);
    stack_run(&small, in, result);
    assert_memory_equal(expected, result, sizeof result);
    /* All have gone: what is still too large is refused, and what is there is well. */
    assert_int_equal(ops->arena_open(small.device, &none, (size_t)40 << 20, &error), ERR_MEMORY);
    stack_run(&small, in, result);
    assert_memory_equal(expected, result, sizeof result);
    arena_close(&work);
    stack_close(&small, &small_arena);
    stack_close(&usual, &usual_arena);
}

/* More layers than the card holds. */
static void weights_give_way_to_weights(void **state) {
    (void)state;
    struct stack usual, small;
    struct arena usual_arena, small_arena;
    uint16_t expected[SIDE], result[SIDE];
    random_start(8);
    const void *weights = random_buffer((int64_t)SIDE * (SIDE + LAYERS), DTYPE_BF16, 0.05);
    const void *in = random_buffer(SIDE, DTYPE_BF16, 1);
    stack_open(&usual, USUAL, &usual_arena, 1 << 16, weights);
    stack_run(&usual, in, expected);
    stack_open(&small, SMALL, &small_arena, (size_t)21 << 20, weights); /* of 32 MiB */
    assert_true(ops->weight_bytes(small.device) <= (size_t)3 * SIDE * SIDE * 2);
    stack_run(&small, in, result);
    assert_memory_equal(expected, result, sizeof result);
    stack_close(&small, &small_arena);
    stack_close(&usual, &usual_arena);
}

/* Kernels and graphs come later, and can make nothing give way: a part of the card stays free, here
 * a thirty-second. When the last layer that moved is closed, so are the buffers. */
static void weights_leave_room_for_what_comes_later(void **state) {
    (void)state;
    struct stack usual, small;
    struct arena usual_arena, small_arena;
    uint16_t expected[SIDE], result[SIDE];
    random_start(11);
    const void *weights = random_buffer((int64_t)SIDE * (SIDE + LAYERS), DTYPE_BF16, 0.05);
    const void *in = random_buffer(SIDE, DTYPE_BF16, 1);
    stack_open(&usual, USUAL, &usual_arena, 1 << 16, weights);
    stack_run(&usual, in, expected);
    stack_open(&small, SMALL, &small_arena, (size_t)17 << 20, weights); /* 14 of the other 15 */
    stack_run(&small, in, result);
    assert_memory_equal(expected, result, sizeof result);
    assert_true(counted("emulated_free") >= (size_t)4 << 20);
    assert_true(ops->weight_bytes(small.device) >= (size_t)2 * SIDE * SIDE * 2);
    for (int i = 0; i < LAYERS; i++) {
        ops->linear_close(small.device, &small.layer[i]);
    }
    assert_int_equal(counted("emulated_free"), (size_t)15 << 20);
    stack_close(&small, &small_arena);
    stack_close(&usual, &usual_arena);
}

/* What the measuring table says of the same layers. */
static size_t measured_least(const void *weights) {
    struct device *device = NULL;
    struct error error;
    const struct device_config config = {.like = ops};
    struct linear *layer[LAYERS] = {NULL};
    assert_int_equal(ops_measure()->device_open(&device, &config, &error), ERR_OK);
    for (int i = 0; i < LAYERS; i++) {
        struct tensor weight = tensor_of(weights, DTYPE_BF16, 2, (int64_t[]){SIDE, SIDE});
        assert_int_equal(ops_measure()->linear_create(device, &layer[i],
                                                      (const struct tensor *[]){&weight}, NULL, 1,
                                                      DTYPE_BF16, &error),
                         ERR_OK);
    }
    size_t least = ops_measure()->weight_bytes_least(device);
    for (int i = 0; i < LAYERS; i++) {
        ops_measure()->linear_close(device, &layer[i]);
    }
    assert_int_equal(ops_measure()->weight_bytes_least(device), 0);
    ops_measure()->device_close(&device);
    return least;
}

/* Though the card has room. */
static void weights_give_way_to_a_limit(void **state) {
    (void)state;
    const size_t layer = (size_t)SIDE * SIDE * 2;
    struct stack usual, limited;
    struct arena usual_arena, limited_arena;
    uint16_t expected[SIDE], result[SIDE];
    random_start(9);
    const void *weights = random_buffer((int64_t)SIDE * (SIDE + LAYERS), DTYPE_BF16, 0.05);
    const void *in = random_buffer(SIDE, DTYPE_BF16, 1);
    stack_open(&usual, USUAL, &usual_arena, 1 << 16, weights);
    stack_run(&usual, in, expected);
    stack_open(&limited, USUAL, &limited_arena, 1 << 16, weights);
    struct device *device = limited.device;
    const size_t all = ops->weight_bytes(device), least = ops->weight_bytes_least(device);
    assert_int_equal(all - least, (LAYERS - WEIGHTS_MOVE_BUFFERS) * layer);
    assert_int_equal(least, measured_least(weights));
    ops->limit_weights(device, all); /* nothing need go */
    assert_int_equal(ops->weight_bytes(device), all);
    ops->limit_weights(device, least + layer); /* the buffers count */
    assert_int_equal(ops->weight_bytes(device), least + layer - WEIGHTS_MOVE_BUFFERS * layer);
    assert_int_equal(ops->weight_bytes_least(device), least);
    stack_run(&limited, in, result);
    assert_memory_equal(expected, result, sizeof result);
    ops->limit_weights(device, 1); /* as few as they can */
    assert_int_equal(ops->weight_bytes(device), least - WEIGHTS_MOVE_BUFFERS * layer);
    stack_run(&limited, in, result);
    assert_memory_equal(expected, result, sizeof result);
    stack_close(&limited, &limited_arena);
    stack_close(&usual, &usual_arena);
}

/* Each layer comes once a pass, however often it is used in a row, and none in vain. */
static void weights_come_once_a_pass(void **state) {
    (void)state;
    struct stack stack;
    struct arena arena;
    random_start(10);
    const void *weights = random_buffer((int64_t)SIDE * (SIDE + LAYERS), DTYPE_BF16, 0.05);
    const void *in = random_buffer(SIDE, DTYPE_BF16, 1);
    stack_open(&stack, USUAL, &arena, 1 << 16, weights);
    ops->limit_weights(stack.device, 1);
    ops->upload(stack.device, stack.x, in, SIDE * 2);
    (void)pass(&stack); /* learns the order */
    uint64_t before = counted("emulated_copied");
    for (int i = 1; i <= 3; i++) {
        (void)pass(&stack);
        assert_int_equal(counted("emulated_copied") - before,
                         (uint64_t)i * LAYERS * SIDE * SIDE * 2);
    }
    stack_close(&stack, &arena);
}

/* -- weights on their way to the card -----------------------------------------------------------
 */

enum { TALL = 12000, TALL_WIDTH = 1024 };

/* Column `k` of two stacked matrices, by a product with a row of the identity. */
static void take_column(struct device *device, uint16_t *out, struct linear *linear,
                        struct arena *arena, int64_t k) {
    const struct linear_epilogue narrow = {.out_dtype = DTYPE_BF16};
    uint16_t unit[TALL_WIDTH] = {0};
    void *in = arena_alloc(arena, sizeof unit), *there = arena_alloc(arena, 2 * TALL * sizeof *out);
    unit[k] = 0x3f80;
    ops->upload(device, in, unit, sizeof unit);
    ops->linear(device, there, in, linear, 1, &narrow);
    ops->download(device, out, there, 2 * TALL * sizeof *out);
    arena_reset(arena, 0);
}

/* Many times what staging holds, as they are and from another type: every one is where it belongs,
 * though memory is filled while it is read. */
static void weights_arrive_whole(void **state) {
    (void)state;
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F32};
    static const int64_t columns[] = {0, 511, TALL_WIDTH - 1};
    struct device *device = open_device(USUAL, NULL);
    struct arena arena;
    struct error error;
    random_start(12);
    const int64_t dim[2] = {TALL, TALL_WIDTH}, elements = 2 * dim[0] * dim[1];
    const void *exact = random_buffer(elements, DTYPE_BF16, 1);
    float *wide = buffer_of((size_t)elements * sizeof *wide);
    uint16_t *out = buffer_of(2 * TALL * sizeof *out);
    float_row(wide, exact, DTYPE_BF16, 0, elements);
    assert_int_equal(ops->arena_open(device, &arena, 1 << 20, &error), ERR_OK);
    for (size_t t = 0; t < 2; t++) {
        const uint8_t *data = types[t] == DTYPE_F32 ? (const void *)wide : exact;
        size_t half = (size_t)(elements / 2) * dtype_bytes(types[t]);
        struct tensor first = tensor_of(data, types[t], 2, dim);
        struct tensor second = tensor_of(data + half, types[t], 2, dim);
        struct linear *linear = NULL;
        assert_int_equal(ops->linear_create(device, &linear,
                                            (const struct tensor *[]){&first, &second}, NULL, 2,
                                            DTYPE_BF16, &error),
                         ERR_OK);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            take_column(device, out, linear, &arena, columns[c]);
            for (int64_t n = 0; n < 2 * TALL; n++) {
                assert_int_equal(out[n], ((const uint16_t *)exact)[n * TALL_WIDTH + columns[c]]);
            }
        }
        ops->linear_close(device, &linear);
    }
    assert_int_equal(ops->status(device, &error), ERR_OK);
    arena_close(&arena);
    ops->device_close(&device);
}

/* -- memory of operations --------------------------------------------------------------------- */

/* What a step and a decode are made of. */
struct layers {
    struct linear *linear;
    struct conv *conv;
    struct attention_args attention;
    struct conv_args args;
};

enum { LAYER_ROWS = 96, LAYER_WIDTH = 128, LAYER_SIDE = 8, LAYER_CHANNELS = 32, LAYER_FRAMES = 6 };

static void layers_open(struct layers *layers, struct device *device) {
    const int64_t width = LAYER_WIDTH, channels = LAYER_CHANNELS;
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, LAYER_CHANNELS, LAYER_CHANNELS};
    struct tensor weight = tensor_of(random_buffer(width * width, DTYPE_BF16, 0.1), DTYPE_BF16, 2,
                                     (int64_t[]){width, width});
    struct tensor filter = tensor_of(random_buffer(27 * channels * channels, DTYPE_BF16, 0.1),
                                     DTYPE_BF16, 5, (int64_t[]){channels, channels, 3, 3, 3});
    struct error error;
    assert_int_equal(ops->linear_create(device, &layers->linear, (const struct tensor *[]){&weight},
                                        NULL, 1, DTYPE_BF16, &error),
                     ERR_OK);
    assert_int_equal(
        ops->conv_create(device, &layers->conv, &shape, &filter, NULL, DTYPE_BF16, &error), ERR_OK);
}

static void *zeros(struct device *device, struct arena *arena, size_t bytes) {
    void *out = arena_alloc(arena, bytes);
    assert_non_null(out);
    ops->zero(device, out, bytes);
    return out;
}

static void layers_place(struct layers *layers, struct device *device, struct arena *arena) {
    const size_t rows = (size_t)LAYER_ROWS * LAYER_WIDTH * 2;
    const size_t frame = (size_t)LAYER_SIDE * LAYER_SIDE * LAYER_CHANNELS * 2;
    const void *x = zeros(device, arena, rows);
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, LAYER_CHANNELS, LAYER_CHANNELS};
    layers->attention = (struct attention_args){.q = x,
                                                .k = x,
                                                .v = x,
                                                .out = zeros(device, arena, rows),
                                                .q_stride = LAYER_WIDTH,
                                                .k_stride = LAYER_WIDTH,
                                                .v_stride = LAYER_WIDTH,
                                                .out_stride = LAYER_WIDTH,
                                                .q_length = LAYER_ROWS,
                                                .k_length = LAYER_ROWS,
                                                .heads = 1,
                                                .head_dim = LAYER_WIDTH,
                                                .scale = 0.1f,
                                                .dtype = DTYPE_BF16};
    layers->args = (struct conv_args){.history = zeros(device, arena, 2 * frame),
                                      .history_frames = 2,
                                      .out = zeros(device, arena, LAYER_FRAMES * frame),
                                      .in = zeros(device, arena, LAYER_FRAMES * frame),
                                      .frames = LAYER_FRAMES,
                                      .height = LAYER_SIDE,
                                      .width = LAYER_SIDE,
                                      .pad_top = 1,
                                      .pad_bottom = 1,
                                      .pad_left = 1,
                                      .pad_right = 1};
    layers->args.joined = zeros(device, arena, conv_join(&shape, &layers->args, DTYPE_BF16).bytes);
}

/* With not a byte left on the card, and no weights that give way. */
static void operations_take_no_memory(void **state) {
    (void)state;
    struct layers layers = {.linear = NULL};
    struct arena arena;
    struct error error;
    random_start(9);
    struct device *device = open_device(SMALL, NULL);
    layers_open(&layers, device);
    const size_t weights = ops->weight_bytes(device), left = ((size_t)32 << 20) - weights;
    assert_int_equal(ops->arena_open(device, &arena, left, &error), ERR_OK);
    assert_int_equal(ops->weight_bytes(device), weights);
    layers_place(&layers, device, &arena);
    const struct linear_epilogue to_stream = {.accumulate = true, .out_dtype = DTYPE_F32};
    float *stream = zeros(device, &arena, sizeof *stream * LAYER_ROWS * LAYER_WIDTH);
    for (int i = 0; i < 2; i++) {
        ops->attention(device, &layers.attention);
        ops->linear(device, stream, layers.attention.out, layers.linear, LAYER_ROWS, &to_stream);
        ops->conv(device, layers.conv, &layers.args);
        if (ops->status(device, &error) != ERR_OK) {
            fail_msg("%s", error.detail);
        }
    }
    assert_int_equal(ops->weight_bytes(device), weights);
    ops->linear_close(device, &layers.linear);
    ops->conv_close(device, &layers.conv);
    arena_close(&arena);
    ops->device_close(&device);
}

/* -- plans of convolutions -------------------------------------------------------------------- */

enum { SPOTS = 2 }; /* channels of a layer that mixes them, and no more */

static struct conv *mixer_open(struct device *device, float value) {
    const struct conv_shape shape = {1, 1, 1, 1, 1, 1, SPOTS, SPOTS};
    const float host[SPOTS * SPOTS] = {value, value, value, value};
    struct tensor weight = tensor_of(host, DTYPE_F32, 5, (int64_t[]){SPOTS, SPOTS, 1, 1, 1});
    struct conv *conv = NULL;
    struct error error;
    assert_int_equal(ops->conv_create(device, &conv, &shape, &weight, NULL, DTYPE_BF16, &error),
                     ERR_OK);
    return conv;
}

/* Of ones, `width` pixels: twice the layer's value, plus one with a residual. */
static float mix(struct device *device, const struct conv *conv, uint8_t *memory, int64_t width,
                 bool residual) {
    uint16_t ones[2 * SPOTS * 1024], result;
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        ones[i] = 0x3f80;
    }
    const struct conv_args args = {.in = memory,
                                   .out = memory + sizeof ones,
                                   .residual = residual ? memory : NULL,
                                   .frames = 1,
                                   .height = 1,
                                   .width = width};
    ops->upload(device, memory, ones, sizeof ones);
    ops->conv(device, conv, &args);
    ops->download(device, &result, memory + sizeof ones, sizeof result);
    return float_load(&result, DTYPE_BF16, 0);
}

/* A plan belongs to shapes: layers share it, and it outlives them. */
static void layers_of_a_shape_share_a_plan(void **state) {
    (void)state;
    struct device *device = open_device(USUAL, NULL);
    struct arena arena;
    struct error error;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 16, &error), ERR_OK);
    uint8_t *memory = arena_alloc(&arena, 1 << 15);
    struct conv *one = mixer_open(device, 1), *other = mixer_open(device, 3);
    const uint64_t before = counted("emulated_plans");
    assert_true(mix(device, one, memory, 8, false) == 2 &&
                mix(device, other, memory, 8, false) == 6);
    assert_int_equal(counted("emulated_plans") - before, 1);
    assert_true(mix(device, one, memory, 8, true) == 3 && mix(device, other, memory, 8, true) == 7);
    assert_int_equal(counted("emulated_plans") - before, 2);
    assert_true(mix(device, one, memory, 9, false) == 2);
    assert_int_equal(counted("emulated_plans") - before, 3);
    ops->conv_close(device, &other);
    ops->conv_close(device, &one);
    one = mixer_open(device, 4);
    assert_true(mix(device, one, memory, 8, false) == 8);
    assert_int_equal(counted("emulated_plans") - before, 3);
    /* As many as are kept: the one that was used the longest ago is made again. */
    for (int64_t width = 100; width < 612; width++) {
        assert_true(mix(device, one, memory, width, false) == 8);
    }
    assert_int_equal(counted("emulated_plans") - before, 3 + 512);
    assert_true(mix(device, one, memory, 101, false) == 8);
    assert_int_equal(counted("emulated_plans") - before, 3 + 512);
    assert_true(mix(device, one, memory, 8, false) == 8);
    assert_int_equal(counted("emulated_plans") - before, 3 + 513);
    assert_int_equal(ops->status(device, &error), ERR_OK);
    ops->conv_close(device, &one);
    arena_close(&arena);
    ops->device_close(&device);
}

/* -- measured convolutions -------------------------------------------------------------------- */

enum { CUBE_CHANNELS = 32, CUBE_SIDE = 10, CUBE_FRAMES = 4 };

struct cube {
    uint64_t plans; /* that were made for it */
    uint16_t out[CUBE_FRAMES * CUBE_SIDE * CUBE_SIDE * CUBE_CHANNELS];
};

/* The sum that the middle of the first frame's channel 1 is, without what is added to it. */
static double cube_sum(const void *in, const void *weight) {
    double sum = 0;
    for (int tap = 0; tap < 9; tap++) {
        for (int c = 0; c < CUBE_CHANNELS; c++) {
            int pixel = (4 + tap / 3) * CUBE_SIDE + 4 + tap % 3;
            sum += (double)float_load(in, DTYPE_BF16, pixel * CUBE_CHANNELS + c) *
                   (double)float_load(weight, DTYPE_BF16, (CUBE_CHANNELS + c) * 27 + 18 + tap);
        }
    }
    return sum;
}

/* Worth measuring, by a process that keeps what it measures in `cache`: 3x3x3, zeros before. The
 * emulated library's wrong algorithm is its fastest. `full`: there is no memory to measure in. */
static void convolve(struct cube *cube, const char *cache, int64_t frames, bool residual,
                     bool full) {
    const struct conv_shape shape = {3, 3, 3, 1, 1, 1, CUBE_CHANNELS, CUBE_CHANNELS};
    const int64_t frame = CUBE_SIDE * CUBE_SIDE * CUBE_CHANNELS;
    const size_t bytes = (size_t)(frames * frame) * sizeof(uint16_t);
    struct device *device = open_device(SMALL, cache);
    struct arena arena, rest = {0};
    struct conv *conv = NULL;
    struct error error;
    random_start(11);
    const void *in = random_buffer(CUBE_FRAMES * frame, DTYPE_BF16, 1);
    struct tensor weight =
        tensor_of(random_buffer(27 * CUBE_CHANNELS * CUBE_CHANNELS, DTYPE_BF16, 1), DTYPE_BF16, 5,
                  (int64_t[]){CUBE_CHANNELS, CUBE_CHANNELS, 3, 3, 3});
    assert_int_equal(ops->conv_create(device, &conv, &shape, &weight, NULL, DTYPE_BF16, &error),
                     ERR_OK);
    assert_int_equal(ops->arena_open(device, &arena, 2 * bytes + 1024, &error), ERR_OK);
    if (full) { /* but for less than a trial's results */
        assert_int_equal(
            ops->arena_open(device, &rest, counted("emulated_free") - bytes / 2, &error), ERR_OK);
    }
    void *there = arena_alloc(&arena, bytes), *out = arena_alloc(&arena, bytes);
    ops->upload(device, there, in, bytes);
    cube->plans = counted("emulated_plans");
    ops->conv(device, conv,
              &(struct conv_args){.in = there,
                                  .out = out,
                                  .residual = residual ? there : NULL,
                                  .history_frames = 2,
                                  .frames = frames,
                                  .height = CUBE_SIDE,
                                  .width = CUBE_SIDE,
                                  .pad_top = 1,
                                  .pad_bottom = 1,
                                  .pad_left = 1,
                                  .pad_right = 1});
    cube->plans = counted("emulated_plans") - cube->plans;
    memset(cube->out, 0, sizeof cube->out);
    ops->download(device, cube->out, out, bytes);
    assert_int_equal(ops->status(device, &error), ERR_OK);
    const int64_t middle = (5 * CUBE_SIDE + 5) * CUBE_CHANNELS + 1;
    const double expected =
        cube_sum(in, weight.data) + (residual ? (double)float_load(in, DTYPE_BF16, middle) : 0);
    assert_true(fabs((double)float_load(cube->out, DTYPE_BF16, middle) - expected) <
                0.01 * (1 + fabs(expected)));
    ops->conv_close(device, &conv);
    arena_close(&rest);
    arena_close(&arena);
    ops->device_close(&device);
}

/* How many convolutions the folder has, all by the emulated library's algorithm 3: the one with the
 * first one's bits that is the fastest. */
static int cubes_kept(const char *folder) {
    char command[128], line[512];
    int kept = 0;
    snprintf(command, sizeof command, "cat %s/convolutions-* 2>/dev/null", folder);
    FILE *file = popen(command, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char *word = strstr(line, " 400000003 "); /* its number and that there are three knobs */
        kept += line[0] == '3' && word != NULL;
        assert_true(line[0] != '3' || word != NULL);
    }
    pclose(file);
    return kept;
}

/* Plans that are made: the first; in its trial again, with two others; the best of them. */
enum { PLANS_OF_TRIAL = 5, PLANS_OF_SHORT_TRIAL = 4 };

static void the_fastest_equal_plan_is_kept(void **state) {
    (void)state;
    char folder[] = "/tmp/vidloom-emulated-XXXXXX";
    static struct cube first, again;
    struct error error;
    assert_non_null(mkdtemp(folder));
    /* Without memory to measure in, by the first plan. */
    convolve(&first, folder, 2, false, true);
    assert_int_equal(first.plans, 1);
    assert_int_equal(cubes_kept(folder), 0);
    convolve(&again, folder, 2, false, false);
    assert_int_equal(again.plans, PLANS_OF_TRIAL);
    assert_int_equal(cubes_kept(folder), 1);
    assert_memory_equal(first.out, again.out, sizeof first.out);
    /* The next process does not measure. */
    convolve(&again, folder, 2, false, false);
    assert_int_equal(again.plans, 1);
    assert_memory_equal(first.out, again.out, sizeof first.out);
    /* More frames of the layer, and a residual: only what was the fastest is tried. */
    convolve(&again, folder, 3, false, false);
    assert_int_equal(again.plans, PLANS_OF_SHORT_TRIAL);
    convolve(&again, folder, 3, true, false);
    assert_int_equal(again.plans, PLANS_OF_SHORT_TRIAL);
    assert_int_equal(cubes_kept(folder), 3);
    convolve(&again, folder, 3, true, false);
    assert_int_equal(again.plans, 1);
    convolve(&again, NULL, 3, true, false);
    assert_int_equal(again.plans, PLANS_OF_TRIAL);
    assert_int_equal(file_remove_tree(folder, &error), ERR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_takes_nothing_and_leaves_nothing),
        cmocka_unit_test_teardown(the_fastest_equal_algorithm_is_kept, buffers_free),
        cmocka_unit_test_teardown(a_proposal_that_fails_is_passed_over, buffers_free),
        cmocka_unit_test_teardown(f8_is_multiplied_by_the_library, buffers_free),
        cmocka_unit_test_teardown(a_step_is_recorded_at_its_second_time, buffers_free),
        cmocka_unit_test_teardown(a_closed_layer_is_forgotten, buffers_free),
        cmocka_unit_test_teardown(more_keys_than_are_kept_are_still_right, buffers_free),
        cmocka_unit_test_teardown(what_cannot_be_recorded_still_runs, buffers_free),
        cmocka_unit_test_teardown(a_cancelled_step_is_not_recorded, buffers_free),
        cmocka_unit_test(a_download_keeps_what_was_there),
        cmocka_unit_test_teardown(weights_give_way_to_work, buffers_free),
        cmocka_unit_test_teardown(weights_give_way_to_weights, buffers_free),
        cmocka_unit_test_teardown(weights_leave_room_for_what_comes_later, buffers_free),
        cmocka_unit_test_teardown(weights_give_way_to_a_limit, buffers_free),
        cmocka_unit_test_teardown(weights_come_once_a_pass, buffers_free),
        cmocka_unit_test_teardown(weights_arrive_whole, buffers_free),
        cmocka_unit_test_teardown(operations_take_no_memory, buffers_free),
        cmocka_unit_test(layers_of_a_shape_share_a_plan),
        cmocka_unit_test_teardown(the_fastest_equal_plan_is_kept, buffers_free),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
