/* Linear layers in f8 (kernels/f8.h): plain C against double, whoever has such products against
 * plain C, who has not against both from afar. */
#include "kernels/f8.h"

#include "kernels/quantise.h"
#include "tests/kernels/support.h"

struct f8_case {
    int64_t rows, outputs, inputs;
    const void *in;
    struct tensor weight[2], bias[2], exact[2];
    struct linear_epilogue epilogue;
    const void *expected; /* plain C's result; NULL: not known yet */
    bool bad;             /* rows 2 and 4 are not numbers */
};

static double error_of(const struct f8_case *c, const void *out) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < c->rows * c->outputs; i++) {
        double wanted = (double)float_load(c->expected, c->epilogue.out_dtype, i);
        double d = (double)float_load(out, c->epilogue.out_dtype, i) - wanted;
        difference += d * d;
        norm += wanted * wanted;
    }
    return sqrt(difference / norm);
}

/* Whoever says that it multiplies f8 is near plain C, nearer than widened weights could be. */
static void expect_products(const struct ops *ops, struct device *device, const void *out,
                            const struct f8_case *c) {
    struct device_info info;
    ops->device_info(device, &info);
    if (c->expected == NULL || !ops->multiplies_f8(info.index)) {
        return;
    }
    size_t bytes = (size_t)(c->rows * c->outputs) * dtype_bytes(c->epilogue.out_dtype);
    void *host = malloc(bytes);
    assert_non_null(host);
    ops->download(device, host, out, bytes);
    double error = error_of(c, host);
    if (!(error <= 4e-3)) {
        fail_msg("%s, %lldx%lldx%lld: %.2g from plain C", info.name, (long long)c->rows,
                 (long long)c->outputs, (long long)c->inputs, error);
    }
    free(host);
}

static void run(const struct ops *ops, struct device *device, void *out, const struct f8_case *c,
                const struct tensor *tensors) {
    struct linear *linear = NULL;
    struct error error = {0};
    const struct tensor *weights[] = {&tensors[0], &tensors[1]};
    const struct tensor *biases[] = {&c->bias[0], &c->bias[1]};
    size_t row = (size_t)c->outputs * dtype_bytes(c->epilogue.out_dtype);
    struct linear_epilogue epilogue = c->epilogue;
    assert_int_equal(ops->linear_create(device, &linear, weights, biases, 2, DTYPE_BF16, &error),
                     ERR_OK);
    epilogue.gate = given(epilogue.gate);
    epilogue.group = given(epilogue.group);
    if (epilogue.accumulate) {
        ops->zero(device, out, (size_t)c->rows * row);
        ops->linear(device, out, given(c->in), linear, c->rows, &epilogue);
    }
    ops->linear(device, out, given(c->in), linear, c->rows, &epilogue);
    if (c->bad) {
        ops->zero(device, (char *)out + 2 * row, row);
        ops->zero(device, (char *)out + 4 * row, row);
    }
    ops->linear_close(device, &linear);
}

static void run_f8(const struct ops *ops, struct device *device, void *out, void *context) {
    const struct f8_case *c = context;
    run(ops, device, out, c, c->weight);
    expect_products(ops, device, out, c);
}

static void run_exact(const struct ops *ops, struct device *device, void *out, void *context) {
    const struct f8_case *c = context;
    run(ops, device, out, c, c->exact);
}

static void *on_plain(struct f8_case *c, operation *run_it) {
    struct device *device = NULL;
    struct error error = {0};
    const struct device_config config = {.threads = 1, .isa = "plain"};
    void *out = buffer_of((size_t)(c->rows * c->outputs) * dtype_bytes(c->epilogue.out_dtype));
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_OK);
    run_it(ops_cpu(), device, out, c);
    ops_cpu()->device_close(&device);
    return out;
}

/* Of two matrices; the first has 16 outputs or a third. */
static struct f8_case make(int64_t rows, int64_t outputs, int64_t inputs, double scale) {
    struct f8_case c = {.rows = rows, .outputs = outputs, .inputs = inputs};
    int64_t part[2] = {outputs / 3 + 1, outputs - outputs / 3 - 1};
    c.in = random_buffer(rows * inputs, DTYPE_BF16, scale);
    for (int i = 0; i < 2; i++) {
        int64_t n = part[i];
        c.exact[i] = tensor_of(random_buffer(n * inputs, DTYPE_BF16, 1), DTYPE_BF16, 2,
                               (int64_t[]){n, inputs});
        c.bias[i] = tensor_of(random_buffer(n, DTYPE_F32, 1), DTYPE_F32, 1, &n);
        quantise(&c.weight[i], buffer_of((size_t)(n * inputs)),
                 buffer_of((size_t)quantise_scales(n, inputs, DTYPE_F8_E4M3) * sizeof(float)),
                 &c.exact[i], DTYPE_F8_E4M3);
    }
    return c;
}

/* The nearest of f8's numbers; of two the one with an even last bit. */
static double nearest(double x) {
    double best = 0;
    int even = 1;
    for (int i = 0; i < 0x7f; i++) {
        double size = (double)f8_e4m3_to_float((uint8_t)i);
        double d = fabs(size - fabs(x)), least = fabs(best - fabs(x));
        if (d < least || (d == least && !even)) {
            best = size;
            even = i % 2 == 0;
        }
    }
    return x < 0 ? -best : best;
}

static double expected_of(const struct f8_case *c, int64_t m, int64_t n) {
    int part = n >= c->weight[0].dim[0];
    int64_t row = part ? n - c->weight[0].dim[0] : n;
    double largest = 0, sum = 0;
    for (int64_t k = 0; k < c->inputs; k++) {
        largest = fmax(largest, fabs((double)float_load(c->in, DTYPE_BF16, m * c->inputs + k)));
    }
    const struct tensor *weight = &c->weight[part];
    for (int64_t k = 0; k < c->inputs; k++) {
        double x = (double)float_load(c->in, DTYPE_BF16, m * c->inputs + k);
        sum += nearest((double)((float)x * (448 / (float)largest))) *
               (double)float_load(weight->data, DTYPE_F8_E4M3, row * c->inputs + k);
    }
    double scale = weight->scale != NULL ? (double)weight->scale[row / weight->scale_rows] : 1;
    return sum * scale * largest / 448 + (double)((const float *)c->bias[part].data)[row];
}

static void plain_equals_double(void **state) {
    (void)state;
    random_start(1);
    struct f8_case c = make(5, 32, 144, 3);
    c.weight[1].scale = NULL;
    const float *out = on_plain(&c, run_f8);
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < c.rows * c.outputs; i++) {
        double wanted = expected_of(&c, i / c.outputs, i % c.outputs);
        difference += ((double)out[i] - wanted) * ((double)out[i] - wanted);
        norm += wanted * wanted;
    }
    assert_true(difference <= 1e-12 * norm);
}

/* Scales of every kind: a row each, one for all, none. */
static void scale_otherwise(struct f8_case *c, int kind) {
    for (int part = 0; part < 2 && kind > 0; part++) {
        c->weight[part].scale_rows = c->weight[part].dim[0];
        c->weight[part].scale = kind == 2 && part == 1 ? NULL : c->weight[part].scale;
    }
}

static const uint8_t *random_groups(int64_t rows) {
    uint8_t *group = buffer_of((size_t)rows);
    for (int64_t r = 0; r < rows; r++) {
        group[r] = (uint8_t)random_range(0, 2);
    }
    return group;
}

static void products_are_near_plain(void **state) {
    (void)state;
    random_start(2);
    static const int64_t shapes[][3] = {{1, 16, 16},      {130, 192, 256}, {17, 208, 272},
                                        {200, 384, 1536}, {3, 64, 4096},   {129, 144, 400},
                                        {7, 20, 64},      {9, 48, 72}};
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i / 4];
        struct f8_case c = make(shape[0], shape[1], shape[2], i % 2 == 0 ? 1 : 1e4);
        scale_otherwise(&c, (int)(i % 3));
        const struct linear_epilogue ends[] = {
            {.out_dtype = DTYPE_F32},
            {.out_dtype = DTYPE_BF16, .activation = ACTIVATION_GELU_TANH},
            {.out_dtype = DTYPE_F32, .accumulate = true},
            {.out_dtype = DTYPE_F32,
             .accumulate = true,
             .activation = ACTIVATION_GELU_ERF,
             .group = random_groups(c.rows),
             .gate = random_buffer(3 * c.outputs, DTYPE_F32, 1)}};
        c.epilogue = ends[i % 4];
        c.expected = on_plain(&c, run_f8);
        char name[64];
        snprintf(name, sizeof name, "f8 %lldx%lldx%lld", (long long)c.rows, (long long)c.outputs,
                 (long long)c.inputs);
        check(name, run_f8, &c, c.rows * c.outputs, c.epilogue.out_dtype, 8e-2);
        buffers_free(NULL);
    }
}

/* More rows than a GPU rounds at a time. */
static void pieces_meet(void **state) {
    (void)state;
    random_start(3);
    struct f8_case c = make(386, 16, F8_INPUTS_MAX, 1);
    c.epilogue = (struct linear_epilogue){.out_dtype = DTYPE_BF16};
    c.expected = on_plain(&c, run_f8);
    check_backends("f8 in pieces", run_f8, &c, c.rows * c.outputs, DTYPE_BF16, 8e-2);
}

/* Zeros, infinities and NaN among the rows; the other rows are what they are without them. */
static void a_bad_row_is_alone(void **state) {
    (void)state;
    random_start(4);
    struct f8_case c = make(9, 64, 304, 1);
    uint16_t *in = (uint16_t *)(uintptr_t)c.in;
    memset(in + 304, 0, 304 * sizeof *in); /* row 1 */
    c.bad = true;
    const float *before = on_plain(&c, run_f8);
    in[2 * 304 + 7] = 0x7f80;   /* row 2: infinity */
    in[4 * 304 + 270] = 0x7fc0; /* row 4: NaN */
    const float *after = on_plain(&c, run_f8);
    assert_memory_equal(before, after, (size_t)(c.rows * c.outputs) * sizeof *after);
    for (int64_t n = 0; n < c.outputs; n++) {
        int part = n >= c.bias[0].dim[0];
        int64_t at = part ? n - c.bias[0].dim[0] : n;
        assert_true(after[c.outputs + n] == ((const float *)c.bias[part].data)[at]);
    }
    c.expected = after;
    check_backends("f8 with bad rows", run_f8, &c, c.rows * c.outputs, DTYPE_F32, 8e-2);
}

/* What rounding both costs, whoever does it. */
static void results_are_near_the_exact_product(void **state) {
    (void)state;
    random_start(5);
    struct f8_case c = make(33, 160, 1008, 0.1);
    double *expected = buffer_of((size_t)(c.rows * c.outputs) * sizeof *expected);
    const float *exact = on_plain(&c, run_exact);
    for (int64_t i = 0; i < c.rows * c.outputs; i++) {
        expected[i] = (double)exact[i];
    }
    c.expected = exact;
    print_message("f8: %.2g from the exact product\n", error_of(&c, on_plain(&c, run_f8)));
    c.expected = NULL;
    check_against("f8 against exact", run_f8, &c, expected, c.rows * c.outputs, DTYPE_F32, 5e-2);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(plain_equals_double, buffers_free),
        cmocka_unit_test_teardown(products_are_near_plain, buffers_free),
        cmocka_unit_test_teardown(pieces_meet, buffers_free),
        cmocka_unit_test_teardown(a_bad_row_is_alone, buffers_free),
        cmocka_unit_test_teardown(results_are_near_the_exact_product, buffers_free),
    };
    return support_run(argc, argv, tests);
}
