#include "kernels/quantise.h"
#include "tests/kernels/support.h"

struct int8_case {
    int64_t rows, outputs, inputs;
    const void *in;
    struct tensor weight[2], bias[2], exact[2];
    struct linear_epilogue epilogue;
};

static void run(const struct ops *ops, struct device *device, void *out, const struct int8_case *c,
                const struct tensor *tensors) {
    struct linear *linear = NULL;
    struct error error = {0};
    const struct tensor *weights[] = {&tensors[0], &tensors[1]};
    const struct tensor *biases[] = {&c->bias[0], &c->bias[1]};
    assert_int_equal(ops->linear_create(device, &linear, weights, biases, 2, DTYPE_BF16, &error),
                     ERR_OK);
    struct linear_epilogue epilogue = c->epilogue;
    epilogue.gate = given(epilogue.gate);
    ops->linear(device, out, given(c->in), linear, c->rows, &epilogue);
    ops->linear_close(device, &linear);
}

static void run_int8(const struct ops *ops, struct device *device, void *out, void *context) {
    const struct int8_case *c = context;
    run(ops, device, out, c, c->weight);
}

static void run_exact(const struct ops *ops, struct device *device, void *out, void *context) {
    const struct int8_case *c = context;
    run(ops, device, out, c, c->exact);
}

static struct int8_case make(int64_t rows, int64_t outputs, int64_t inputs, double scale) {
    struct int8_case c = {.rows = rows, .outputs = outputs, .inputs = inputs};
    c.in = random_buffer(rows * inputs, DTYPE_BF16, scale);
    int64_t part[2] = {outputs / 3 + 1, outputs - outputs / 3 - 1};
    for (int i = 0; i < 2; i++) {
        int64_t n = part[i];
        c.exact[i] = tensor_of(random_buffer(n * inputs, DTYPE_BF16, 1), DTYPE_BF16, 2,
                               (int64_t[]){n, inputs});
        c.bias[i] = tensor_of(random_buffer(n, DTYPE_F32, 1), DTYPE_F32, 1, &n);
        void *data = buffer_of((size_t)(n * inputs));
        float *scales = buffer_of((size_t)quantise_scales(n, inputs, DTYPE_I8) * sizeof *scales);
        quantise(&c.weight[i], data, scales, &c.exact[i], DTYPE_I8);
    }
    return c;
}

static struct device *open_level(const char *level, int threads) {
    struct device *device = NULL;
    struct error error = {0};
    struct device_config config = {.threads = threads, .isa = level};
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_OK);
    return device;
}

static void run_at(void *out, const char *level, int threads, struct int8_case *c) {
    struct device *device = open_level(level, threads);
    run_int8(ops_cpu(), device, out, c);
    assert_int_equal(ops_cpu()->weight_bytes(device), 0);
    assert_int_equal(ops_cpu()->mapped_bytes(device), 0);
    ops_cpu()->device_close(&device);
}

/* The best level has int8 products, or widens the weights; only the former gives plain C's bits. */
static bool has_products(void) {
    struct device *device = open_level(NULL, 1);
    struct device_info info;
    ops_cpu()->device_info(device, &info);
    ops_cpu()->device_close(&device);
    return strncmp(info.class, "cpu-avx512_bf16-", 16) == 0;
}

static void products_equal_the_definition(void **state) {
    (void)state;
    random_start(1);
    static const int64_t shapes[][3] = {{1, 2, 4},     {5, 70, 256},  {17, 200, 260}, {3, 65, 1536},
                                        {40, 131, 64}, {7, 40, 2560}, {1100, 66, 32}, {2, 5, 9000}};
    for (size_t i = 0; has_products() && i < 2 * sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i / 2];
        struct int8_case c = make(shape[0], shape[1], shape[2], i % 2 == 0 ? 1 : 1e4);
        if (i % 3 == 0) { /* blocks as others make them */
            for (int part = 0; part < 2; part++) {
                c.weight[part].scale_rows = c.weight[part].dim[0];
                c.weight[part].scale_columns = shape[2] > 300 ? shape[2] + 1 : 256;
            }
        }
        if (i % 5 == 1) { /* no part of a row's largest */
            ((uint16_t *)(uintptr_t)c.in)[c.rows * c.inputs / 2] = 0xffc0;
        }
        size_t bytes = (size_t)(c.rows * c.outputs) * sizeof(float);
        float *plain = buffer_of(bytes), *fast = buffer_of(bytes);
        run_at(plain, "plain", 1, &c);
        for (int threads = 1; threads <= 3; threads += 2) {
            run_at(fast, NULL, threads, &c);
            if (memcmp(plain, fast, bytes) != 0) {
                fail_msg("int8 %lldx%lldx%lld on %d threads is not equal to plain C",
                         (long long)c.rows, (long long)c.outputs, (long long)c.inputs, threads);
            }
        }
        buffers_free(NULL);
    }
}

/* Shapes that GPUs have products for. A CPU that widens the weights has none (`exact`). */
static void backends_equal_the_definition(void **state) {
    const bool *exact = *state;
    if (!*exact) {
        skip();
    }
    random_start(4);
    static const int64_t shapes[][3] = {{1, 2, 16},       {130, 194, 256}, {17, 200, 272},
                                        {200, 386, 1536}, {3, 66, 4096},   {129, 130, 400},
                                        {1700, 200, 16}}; /* more tiles than a patch has rows */
    for (size_t i = 0; i < 3 * sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i / 3];
        struct int8_case c = make(shape[0], shape[1], shape[2], i % 2 == 0 ? 1 : 1e4);
        for (int part = 0; i % 3 == 1 && part < 2; part++) { /* a scale a tensor; one a row */
            c.weight[part].scale_rows = part == 0 ? c.weight[part].dim[0] : 1;
            c.weight[part].scale_columns = shape[2] + 1;
        }
        for (int part = 0; i % 3 == 2 && part < 2; part++) {
            c.weight[part].scale_rows = 3;
            c.weight[part].scale_columns = 384; /* more than quantise gave: some are left over */
        }
        char name[64];
        snprintf(name, sizeof name, "int8 %lldx%lldx%lld", (long long)c.rows, (long long)c.outputs,
                 (long long)c.inputs);
        check_backends(name, run_int8, &c, c.rows * c.outputs, DTYPE_F32, 0);
        c.epilogue = (struct linear_epilogue){.activation = ACTIVATION_GELU_TANH,
                                              .gate = random_buffer(c.outputs, DTYPE_F32, 1),
                                              .out_dtype = DTYPE_BF16};
        check_backends(name, run_int8, &c, c.rows * c.outputs, DTYPE_BF16, 4e-3);
        buffers_free(NULL);
    }
}

/* Zeros, infinities and NaN among the rows; the other rows are what they are without them. */
static void a_bad_row_is_alone(void **state) {
    (void)state;
    random_start(2);
    struct int8_case c = make(9, 70, 300, 1);
    uint16_t *in = (uint16_t *)(uintptr_t)c.in;
    size_t bytes = (size_t)(c.rows * c.outputs) * sizeof(float), row = bytes / 9;
    float *before = buffer_of(bytes), *after = buffer_of(bytes);
    run_at(before, NULL, 1, &c);
    memset(in + 300, 0, 300 * sizeof *in); /* row 1 */
    in[2 * 300 + 7] = 0x7f80;              /* row 2: infinity */
    in[4 * 300 + 270] = 0x7fc0;            /* row 4: NaN */
    run_at(after, NULL, 1, &c);
    static const int same[] = {0, 3, 5, 6, 7, 8};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        assert_memory_equal((char *)before + (size_t)same[i] * row,
                            (char *)after + (size_t)same[i] * row, row);
    }
    for (int n = 0; n < 70; n++) {
        const struct tensor *bias = &c.bias[n < c.bias[0].dim[0] ? 0 : 1];
        int64_t at = n < c.bias[0].dim[0] ? n : n - c.bias[0].dim[0];
        assert_true(after[70 + n] == float_load(bias->data, DTYPE_F32, at));
    }
}

/* Every level, whatever it does with int8, is near the product of the weights that were rounded. */
static void results_are_near_the_exact_product(void **state) {
    (void)state;
    random_start(3);
    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_GELU_ERF; activation++) {
        struct int8_case c = make(33, 150, 1000, 0.1);
        c.epilogue = (struct linear_epilogue){.activation = (enum activation)activation,
                                              .gate = random_buffer(150, DTYPE_F32, 1),
                                              .out_dtype = DTYPE_BF16};
        uint16_t *out = buffer_of((size_t)(c.rows * c.outputs) * sizeof *out);
        struct device *device = open_level("plain", 1);
        run_exact(ops_cpu(), device, out, &c);
        ops_cpu()->device_close(&device);
        double *expected = buffer_of((size_t)(c.rows * c.outputs) * sizeof *expected);
        for (int64_t i = 0; i < c.rows * c.outputs; i++) {
            expected[i] = (double)bf16_to_float(out[i]);
        }
        check_against("int8 against exact", run_int8, &c, expected, c.rows * c.outputs, DTYPE_BF16,
                      1.5e-2);
        buffers_free(NULL);
    }
}

int main(int argc, char **argv) {
    bool on_cpu =
        argc > 1 && (strncmp(argv[1], "cpu:", 4) == 0 || strncmp(argv[1], "walled:", 7) == 0);
    bool exact = !on_cpu || has_products();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(products_equal_the_definition, buffers_free),
        cmocka_unit_test_prestate_setup_teardown(backends_equal_the_definition, NULL, buffers_free,
                                                 &exact),
        cmocka_unit_test_teardown(a_bad_row_is_alone, buffers_free),
        cmocka_unit_test_teardown(results_are_near_the_exact_product, buffers_free),
    };
    return support_run(argc, argv, tests);
}
