/* The tables themselves: complete, what they say of the device, measuring, loading. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernels/support.h"

static void tables_are_complete(void **state) {
    (void)state;
    const struct ops *tables[] = {ops_cpu(), ops_measure()};
    for (int i = 0; i < 2; i++) {
        void *entry[offsetof(struct ops, wants) / sizeof(void *)];
        memcpy(entry, tables[i], sizeof entry);
        for (size_t j = 0; j < sizeof entry / sizeof *entry; j++) {
            assert_non_null(entry[j]);
        }
    }
}

static void device_says_what_it_is(void **state) {
    (void)state;
    struct device *device = NULL;
    struct error error = {0};
    struct device_config config = {.isa = "plain"};
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_OK);
    struct device_info info;
    ops_cpu()->device_info(device, &info);
    assert_string_equal(info.class, "cpu-plain-2");
    assert_true(info.threads >= 1 && info.memory > 0);
    assert_non_null(strstr(info.name, "plain"));
    struct arena arena;
    assert_int_equal(ops_cpu()->arena_open(device, &arena, 1 << 20, &error), ERR_OK);
    assert_non_null(arena_alloc(&arena, 1000));
    arena_close(&arena);
    ops_cpu()->device_close(&device);
    assert_null(device);
    ops_cpu()->device_close(&device);

    config.isa = "avx1024";
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_UNSUPPORTED);
    assert_non_null(strstr(error.detail, "avx1024"));
}

/* The same model code on both tables: the same weights counted, the same arena used. */
static size_t weights_and_arena(const struct ops *ops, const struct ops *like, int index,
                                enum dtype dtype, size_t *arena_bytes) {
    struct device *device = NULL;
    struct error error = {0};
    const struct device_config config = {.like = like, .index = index};
    assert_int_equal(ops->device_open(&device, &config, &error), ERR_OK);
    struct arena arena;
    assert_int_equal(ops->arena_open(device, &arena, 1 << 24, &error), ERR_OK);
    float *host = buffer_of(130 * 77 * 27 * sizeof *host);
    struct tensor weight = tensor_of(host, DTYPE_F32, 2, (int64_t[]){130, 77});
    struct tensor filter = tensor_of(host, DTYPE_F32, 5, (int64_t[]){20, 7, 3, 3, 3});
    const struct tensor *weights[] = {&weight, &weight};
    struct conv_shape shape = {3, 3, 3, 1, 1, 1, 7, 20};
    /* 256 inputs in int8: in blocks of 128, and in one that no GPU takes as it is; in f8. */
    static const int columns[] = {128, 64, 256};
    float *scales = buffer_of(96 * 4 * sizeof *scales);
    struct tensor blocks[3];
    struct linear *narrow[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3; i++) {
        blocks[i] = tensor_of(host, i < 2 ? DTYPE_I8 : DTYPE_F8_E4M3, 2, (int64_t[]){96, 256});
        blocks[i].scale = scales;
        blocks[i].scale_rows = 1;
        blocks[i].scale_columns = columns[i];
        assert_int_equal(ops->linear_create(device, &narrow[i],
                                            &(const struct tensor *){&blocks[i]}, NULL, 1, dtype,
                                            &error),
                         ERR_OK);
    }
    struct linear *linear = NULL;
    struct conv *conv = NULL;
    assert_int_equal(ops->linear_create(device, &linear, weights, NULL, 2, dtype, &error), ERR_OK);
    assert_int_equal(ops->conv_create(device, &conv, &shape, &filter, NULL, dtype, &error), ERR_OK);
    float *x = arena_array(&arena, 77, sizeof *x), *y = arena_array(&arena, 260, sizeof *y);
    ops->zero(device, x, 77 * sizeof *x);
    ops->linear(device, y, x, linear, 1, &(struct linear_epilogue){.out_dtype = DTYPE_F32});
    float result[260];
    ops->download(device, result, y, sizeof result);
    assert_true(result[259] == 0);
    assert_int_equal(ops->status(device, &error), ERR_OK);
    size_t bytes = ops->weight_bytes(device) + ops->mapped_bytes(device);
    *arena_bytes = arena.used;
    ops->linear_close(device, &linear);
    for (int i = 0; i < 3; i++) {
        ops->linear_close(device, &narrow[i]);
    }
    ops->conv_close(device, &conv);
    assert_int_equal(ops->weight_bytes(device), 0);
    arena_close(&arena);
    ops->device_close(&device);
    return bytes;
}

static void expect_measured(const struct ops *ops, int index) {
    for (int t = DTYPE_F32; t <= DTYPE_BF16; t++) {
        size_t real_arena = 0, measured_arena = 0;
        size_t real = weights_and_arena(ops, NULL, index, (enum dtype)t, &real_arena);
        size_t measured =
            weights_and_arena(ops_measure(), ops, index, (enum dtype)t, &measured_arena);
        assert_true(real > 260 * 77 * dtype_bytes((enum dtype)t));
        assert_int_equal(real, measured);
        assert_int_equal(real_arena, measured_arena);
    }
}

static void measuring_counts_what_the_cpu_holds(void **state) {
    (void)state;
    expect_measured(ops_cpu(), 0);
}

/* The files of kernels/cuda on the emulated machine; where they are not built, the test is skipped.
 */
static const struct ops *emulated_table(void) {
    const struct ops *emulated = NULL;
    struct error error = {0};
    if (ops_load(&emulated, "emulated", &error) == ERR_MISSING) {
        skip();
    }
    assert_non_null(emulated);
    return emulated;
}

static void measuring_counts_what_a_gpu_holds(void **state) {
    (void)state;
    const struct ops *emulated = emulated_table();
    expect_measured(emulated, 0);
    expect_measured(emulated, 1);
    assert_false(emulated->multiplies_f8(0) || emulated->multiplies_f8(99));
    assert_true(emulated->multiplies_f8(1) && emulated->multiplies_f8(3));
    assert_true(emulated->attends_narrow(0, 128) && emulated->attends_narrow(1, 128));
    assert_false(emulated->attends_narrow(0, 64) || emulated->attends_narrow(99, 128));
}

/* Which alone decides under whose name a figure stands (kernels/speed.c). */
static void the_vendors_attention_is_told_from_ours(void **state) {
    (void)state;
    const struct ops *emulated = emulated_table();
    struct device *device = NULL;
    struct error error = {0};
    assert_int_equal(emulated->device_open(&device, &(struct device_config){0}, &error), ERR_OK);
    static uint16_t rows[4][128] __attribute__((aligned(16)));
    struct attention_args args = {.q = rows[0],
                                  .k = rows[1],
                                  .v = rows[2],
                                  .out = rows[3],
                                  .q_stride = 128,
                                  .k_stride = 128,
                                  .v_stride = 128,
                                  .out_stride = 128,
                                  .q_length = 1,
                                  .k_length = 1,
                                  .heads = 1,
                                  .head_dim = 128,
                                  .scale = 1,
                                  .library = true,
                                  .dtype = DTYPE_BF16};
    assert_true(emulated->attends_by_library(device, &args));
    args.dtype = DTYPE_F32;
    assert_false(emulated->attends_by_library(device, &args));
    args.dtype = DTYPE_BF16;
    args.library = false;
    assert_false(emulated->attends_by_library(device, &args));
    emulated->device_close(&device);
    struct device *cpu = NULL;
    args.library = true;
    assert_int_equal(ops_cpu()->device_open(&cpu, &(struct device_config){0}, &error), ERR_OK);
    assert_false(ops_cpu()->attends_by_library(cpu, &args));
    ops_cpu()->device_close(&cpu);
}

static void a_missing_backend_is_named(void **state) {
    (void)state;
    const struct ops *ops = NULL;
    struct error error = {0};
    assert_int_equal(ops_load(&ops, "nowhere", &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, "libvidloom_nowhere.so in /"));
    assert_int_equal(ops_load(&ops, "../evil", &error), ERR_USAGE);
    assert_null(ops);
}

static void devices_are_named(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "cpu:",   "cpu:-1",    "cpu:x",
        "cpu:1 ", "cpu:99999", ":0",
        "",       "a/b:0",     "a-name-longer-than-any-backend-has:0"};
    const struct ops *ops = NULL;
    struct error error = {0};
    int index = -1;
    assert_int_equal(ops_find(&ops, &index, "cpu", &error), ERR_OK);
    assert_ptr_equal(ops, ops_cpu());
    assert_int_equal(index, 0);
    assert_int_equal(ops->device_probe(0, &error), ERR_OK);
    assert_int_equal(ops_find(&ops, &index, "cpu:7", &error), ERR_OK);
    assert_int_equal(index, 7);
    assert_int_equal(ops->device_probe(7, &error), ERR_MISSING);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ops_find(&ops, &index, wrong[i], &error), ERR_USAGE);
    }
    assert_int_equal(ops_find(&ops, &index, "nowhere:1", &error), ERR_MISSING);
    assert_int_equal(ops_find(&ops, &index, "walled:2", &error), ERR_OK);
    assert_string_equal(ops->name, "walled");
    assert_int_equal(ops->device_probe(2, &error), ERR_OK);
    assert_int_equal(ops->device_probe(3, &error), ERR_MISSING);
}

/* How a process ends that does `wrong` with a device of the walled backend. */
static int end_of(void (*wrong)(const struct ops *ops, struct device *device, float *there)) {
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        const struct ops *ops = NULL;
        struct device *device = NULL;
        struct arena arena;
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(0);
        }
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka's go on with the tests */
        (void)signal(SIGABRT, SIG_DFL);
        if (ops_load(&ops, "walled", NULL) != ERR_OK ||
            ops->device_open(&device, NULL, NULL) != ERR_OK ||
            ops->arena_open(device, &arena, 4096, NULL) != ERR_OK) {
            _exit(0);
        }
        wrong(ops, device, arena_alloc(&arena, 64));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void nothing_wrong(const struct ops *ops, struct device *device, float *there) {
    ops->zero(device, there, 64);
}

static void host_memory(const struct ops *ops, struct device *device, float *there) {
    float host[16];
    ops->combine(device, there, (const float *const[]){host}, (const float[]){1}, 1, 16);
}

static void device_memory(const struct ops *ops, struct device *device, float *there) {
    ops->zero(device, there, 64);
    *(volatile float *)there = 1;
}

static void the_wall_stands(void **state) {
    (void)state;
    assert_int_equal(end_of(nothing_wrong), 0);
    assert_int_not_equal(end_of(host_memory), 0);
    assert_int_not_equal(end_of(device_memory), 0);
}

static void types_have_names_and_sizes(void **state) {
    (void)state;
    assert_int_equal(dtype_bytes(DTYPE_F64), 8);
    assert_string_equal(dtype_name(DTYPE_BF16), "BF16");
    struct tensor tensor = tensor_of(NULL, DTYPE_F32, 3, (int64_t[]){2, 3, 5});
    assert_int_equal(tensor_elements(&tensor), 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete),
        cmocka_unit_test(device_says_what_it_is),
        cmocka_unit_test_teardown(measuring_counts_what_the_cpu_holds, buffers_free),
        cmocka_unit_test_teardown(measuring_counts_what_a_gpu_holds, buffers_free),
        cmocka_unit_test(the_vendors_attention_is_told_from_ours),
        cmocka_unit_test(a_missing_backend_is_named),
        cmocka_unit_test(devices_are_named),
        cmocka_unit_test(the_wall_stands),
        cmocka_unit_test(types_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
