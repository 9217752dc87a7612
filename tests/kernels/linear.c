#include "tests/kernels/support.h"

struct linear_case {
    int64_t rows, outputs, inputs;
    enum dtype dtype;
    int parts; /* stacked tensors */
    bool bias;
    struct linear_epilogue epilogue;
    enum dtype weight_dtype;
    /* made by prepare */
    const void *in, *out_before;
    const float *no_gate; /* zeros */
    struct tensor weight[4], bias_tensor[4];
};

/* Of any type, with scales where it has them. */
static struct tensor random_weights(int64_t outputs, int64_t inputs, enum dtype dtype) {
    struct tensor out = tensor_of(NULL, dtype, 2, (int64_t[]){outputs, inputs});
    if (dtype <= DTYPE_F16) {
        out.data = random_buffer(outputs * inputs, dtype, 1);
        return out;
    }
    size_t bytes = tensor_bytes(&out);
    uint8_t *data = buffer_of(bytes);
    for (size_t i = 0; i < bytes; i++) { /* no NaN of f8, no infinite scale of blocks */
        data[i] = (uint8_t)(random_range(0, 55) + random_range(0, 1) * 128);
    }
    out.data = data;
    if (dtype == DTYPE_F8_E4M3 || dtype == DTYPE_I8) {
        out.scale_rows = dtype == DTYPE_I8 ? 1 : 3;
        out.scale_columns = 32;
        int64_t rows = (outputs + out.scale_rows - 1) / out.scale_rows;
        out.scale = random_buffer(rows * ((inputs + 31) / 32), DTYPE_F32, 0.01);
    }
    return out;
}

static void prepare(struct linear_case *c, double scale) {
    c->in = random_buffer(c->rows * c->inputs, c->dtype, scale);
    c->out_before = random_buffer(c->rows * c->outputs, c->epilogue.out_dtype, 1);
    int64_t left = c->outputs;
    for (int i = 0; i < c->parts; i++) {
        int64_t n = i == c->parts - 1 ? left : c->outputs / c->parts;
        left -= n;
        c->weight[i] = random_weights(n, c->inputs, c->weight_dtype);
        c->bias_tensor[i] = tensor_of(random_buffer(n, DTYPE_F32, 1), DTYPE_F32, 1, (int64_t[]){n});
    }
}

static void run_linear(const struct ops *ops, struct device *device, void *out, void *context) {
    struct linear_case *c = context;
    struct linear *linear = NULL;
    struct error error;
    const struct tensor *weights[4], *biases[4];
    for (int i = 0; i < c->parts; i++) {
        weights[i] = &c->weight[i];
        biases[i] = &c->bias_tensor[i];
    }
    assert_int_equal(ops->linear_create(device, &linear, weights, c->bias ? biases : NULL, c->parts,
                                        c->dtype, &error),
                     ERR_OK);
    if (c->epilogue.accumulate) {
        ops->copy(device, out, given(c->out_before),
                  (size_t)(c->rows * c->outputs) * sizeof(float));
    }
    struct linear_epilogue epilogue = c->epilogue;
    epilogue.gate = given(epilogue.gate);
    epilogue.group = given(epilogue.group);
    ops->linear(device, out, given(c->in), linear, c->rows, &epilogue);
    ops->linear_close(device, &linear);
    assert_null(linear);
    ops->linear_close(device, &linear);
}

static void check_linear(struct linear_case c, double scale) {
    if (c.parts == 0) {
        c.parts = 1;
    }
    prepare(&c, scale);
    char name[128];
    snprintf(name, sizeof name, "linear %lldx%lldx%lld %s", (long long)c.rows, (long long)c.outputs,
             (long long)c.inputs, dtype_name(c.dtype));
    check(name, run_linear, &c, c.rows * c.outputs, c.epilogue.out_dtype,
          c.dtype == DTYPE_F32 ? 1e-6 : 4e-3);
}

static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};

/* By double precision, small enough to see every remainder of rows, columns and depth. */
static void every_remainder_equals_double(void **state) {
    (void)state;
    random_start(1);
    for (int i = 0; i < 120; i++) {
        struct linear_case c = {.rows = i < 40 ? i % 20 + 1 : random_range(1, 30),
                                .outputs = random_range(1, 150),
                                .inputs = random_range(1, 70),
                                .dtype = types[i % 2],
                                .parts = 1,
                                .bias = i % 3 != 0};
        prepare(&c, 1);
        double *expected = buffer_of((size_t)(c.rows * c.outputs) * sizeof *expected);
        for (int64_t m = 0; m < c.rows; m++) {
            for (int64_t n = 0; n < c.outputs; n++) {
                double sum = c.bias ? (double)float_load(c.bias_tensor[0].data, DTYPE_F32, n) : 0;
                for (int64_t k = 0; k < c.inputs; k++) {
                    float w = float_load(c.weight[0].data, DTYPE_F32, n * c.inputs + k);
                    sum += (double)float_load(c.in, c.dtype, m * c.inputs + k) *
                           (double)float_round(c.dtype, w);
                }
                expected[m * c.outputs + n] = sum;
            }
        }
        check_against("linear", run_linear, &c, expected, c.rows * c.outputs, DTYPE_F32, 1e-6);
        buffers_free(NULL);
    }
}

static void shapes_equal_plain(void **state) {
    (void)state;
    random_start(2);
    static const int64_t shapes[][3] = {{1, 1, 1},       {1, 1536, 256}, {300, 768, 256},
                                        {193, 65, 129},  {385, 257, 31}, {7, 64, 4097},
                                        {40, 300, 2500}, {2, 3, 5000}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int t = 0; t < 2; t++) {
            check_linear((struct linear_case){.rows = shapes[i][0],
                                              .outputs = shapes[i][1],
                                              .inputs = shapes[i][2],
                                              .dtype = types[t],
                                              .bias = true},
                         1);
            buffers_free(NULL);
        }
    }
}

static void every_epilogue_equals_plain(void **state) {
    (void)state;
    random_start(3);
    for (int t = 0; t < 2; t++) {
        for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_GELU_ERF; activation++) {
            for (int gate = 0; gate < 3; gate++) {
                for (int out = 0; out < 3; out++) { /* f32, compute type, accumulate */
                    struct linear_case c = {.rows = 50,
                                            .outputs = 83,
                                            .inputs = 24,
                                            .dtype = types[t],
                                            .parts = 3,
                                            .weight_dtype = DTYPE_BF16,
                                            .bias = true};
                    uint8_t *group = buffer_of(50);
                    for (int i = 0; i < 50; i++) {
                        group[i] = (uint8_t)random_range(0, 2);
                    }
                    c.epilogue = (struct linear_epilogue){
                        .activation = (enum activation)activation,
                        .gate = gate > 0
                                    ? random_buffer((gate > 1 ? 3 : 1) * c.outputs, DTYPE_F32, 1)
                                    : NULL,
                        .group = gate > 1 ? group : NULL,
                        .accumulate = out == 2,
                        .out_dtype = out == 1 ? types[t] : DTYPE_F32};
                    check_linear(c, 1);
                    buffers_free(NULL);
                }
            }
        }
    }
}

/* A gate of all rows, with more rows than inputs: tables may put it into the weights; of the last
 * shape they do not fit GPUs' scratch memory at once. */
static void a_gate_of_many_rows_equals_plain(void **state) {
    (void)state;
    random_start(8);
    static const int64_t shapes[][3] = {
        {70, 128, 64}, {33, 83, 32}, {40, 83, 30}, {300, 264, 72}, {32, 494080, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            struct linear_case c = {.rows = shapes[i][0],
                                    .outputs = shapes[i][1],
                                    .inputs = shapes[i][2],
                                    .dtype = DTYPE_BF16,
                                    .weight_dtype = DTYPE_BF16,
                                    .bias = i % 2 == 0};
            c.epilogue.gate = random_buffer(c.outputs, DTYPE_F32, 3);
            c.epilogue.accumulate = accumulate == 1;
            check_linear(c, 1);
            buffers_free(NULL);
        }
    }
}

static void run_after_none(const struct ops *ops, struct device *device, void *out, void *context) {
    struct linear_case *c = context;
    const float *gate = c->epilogue.gate;
    c->epilogue.gate = c->no_gate;
    run_linear(ops, device, out, c);
    c->epilogue.gate = gate;
    run_linear(ops, device, out, c);
}

/* What a layer gives does not depend on the gate that it met first, by which a table that measures
 * algorithms may have chosen one: of zeros all give the same. */
static void a_gate_of_zeros_chooses_nothing(void **state) {
    (void)state;
    random_start(9);
    struct linear_case c = {.rows = 256,
                            .outputs = 304,
                            .inputs = 208,
                            .dtype = DTYPE_BF16,
                            .weight_dtype = DTYPE_BF16,
                            .parts = 1,
                            .bias = true};
    prepare(&c, 1);
    c.epilogue.gate = random_buffer(c.outputs, DTYPE_F32, 1);
    c.no_gate =
        memset(buffer_of((size_t)c.outputs * sizeof(float)), 0, (size_t)c.outputs * sizeof(float));
    check("linear after a gate of zeros", run_after_none, &c, c.rows * c.outputs, DTYPE_F32, 4e-3);
    buffers_free(NULL);
}

static void large_numbers_equal_plain(void **state) {
    (void)state;
    random_start(4);
    for (int t = 0; t < 2; t++) {
        check_linear(
            (struct linear_case){.rows = 33, .outputs = 70, .inputs = 66, .dtype = types[t]}, 1e30);
        struct linear_case c = {.rows = 33, .outputs = 70, .inputs = 66, .dtype = types[t]};
        c.epilogue.activation = ACTIVATION_GELU_TANH;
        check_linear(c, 1e6);
        c.epilogue.activation = ACTIVATION_SILU;
        check_linear(c, 1e6);
    }
}

static struct device *open_at(const char *level, int threads, int64_t in_place,
                              const struct ops *ops) {
    struct device *device = NULL;
    struct error error = {0};
    struct device_config config = {.threads = threads, .isa = level, .in_place = in_place};
    assert_int_equal(ops->device_open(&device, &config, &error), ERR_OK);
    return device;
}

/* What the layer takes, by the table that measures. */
static void check_bytes(const struct linear_case *c, const struct ops *ops, const char *level,
                        int64_t in_place, size_t weight_bytes[2]) {
    struct device *device = open_at(level, 1, in_place, ops);
    struct linear *linear = NULL;
    struct error error = {0};
    const struct tensor *weights[] = {&c->weight[0], &c->weight[1]};
    assert_int_equal(ops->linear_create(device, &linear, weights, NULL, c->parts, c->dtype, &error),
                     ERR_OK);
    weight_bytes[0] = ops->weight_bytes(device);
    weight_bytes[1] = ops->mapped_bytes(device);
    ops->linear_close(device, &linear);
    assert_int_equal(ops->weight_bytes(device), 0);
    assert_int_equal(ops->mapped_bytes(device), 0);
    ops->device_close(&device);
}

static void in_place_equals_packed(void **state) {
    (void)state;
    random_start(5);
    static const char *const levels[] = {"plain", "avx2", "avx512", "avx512_bf16"};
    static const enum dtype weights[] = {DTYPE_F32,     DTYPE_BF16, DTYPE_F16,
                                         DTYPE_F8_E4M3, DTYPE_I8,   DTYPE_Q8_0};
    static const int64_t shapes[][3] = {{5, 70, 64}, {800, 130, 96}, {9, 200, 4128}, {3, 20, 31}};
    for (int i = 0; i < 4 * 6 * 2 * 4; i++) {
        const int64_t *shape = shapes[i % 4];
        const char *level = levels[i / 4 % 4];
        struct linear_case c = {.rows = shape[0],
                                .outputs = shape[1],
                                .inputs = shape[2],
                                .dtype = types[i / 16 % 2],
                                .parts = 2,
                                .bias = true,
                                .weight_dtype = weights[i / 32]};
        if (c.weight_dtype == DTYPE_Q8_0 && c.inputs % 32 != 0) {
            continue;
        }
        prepare(&c, 1);
        size_t bytes = (size_t)(c.rows * c.outputs) * sizeof(float);
        float *packed = buffer_of(bytes), *in_place = buffer_of(bytes);
        struct device *device = open_at(level, 2, INT64_MAX, ops_cpu());
        run_linear(ops_cpu(), device, packed, &c);
        ops_cpu()->device_close(&device);
        device = open_at(level, 3, 1, ops_cpu());
        run_linear(ops_cpu(), device, in_place, &c);
        ops_cpu()->device_close(&device);
        if (memcmp(packed, in_place, bytes) != 0) {
            fail_msg("%s, %s weights, %lldx%lldx%lld %s: used in place they give other bits", level,
                     dtype_name(c.weight_dtype), (long long)c.rows, (long long)c.outputs,
                     (long long)c.inputs, dtype_name(c.dtype));
        }
        for (int64_t place = 0; place < 2; place++) {
            size_t real[2], measured[2], there = 0;
            check_bytes(&c, ops_cpu(), level, place, real);
            check_bytes(&c, ops_measure(), level, place, measured);
            for (int part = 0; part < c.parts; part++) {
                there += tensor_bytes(&c.weight[part]);
            }
            assert_int_equal(real[0], measured[0]);
            assert_int_equal(real[1], measured[1]);
            bool may = place == 1 || c.weight_dtype == DTYPE_I8; /* int8 always may */
            assert_true(real[1] == 0 || (real[1] == there && may));
        }
        buffers_free(NULL);
    }
}

static void a_row_too_long_for_scratch_is_refused(void **state) {
    (void)state;
    const int64_t inputs = 100000;
    float *weight = buffer_of((size_t)inputs * sizeof(float));
    struct tensor tensor = tensor_of(weight, DTYPE_F32, 2, (int64_t[]){1, inputs});
    struct device *device = NULL;
    struct linear *linear = NULL;
    struct error error = {0};
    struct device_info info;
    assert_int_equal(ops_cpu()->device_open(&device, NULL, &error), ERR_OK);
    ops_cpu()->device_info(device, &info);
    enum error_code code = ops_cpu()->linear_create(
        device, &linear, &(const struct tensor *){&tensor}, NULL, 1, DTYPE_F32, &error);
    assert_int_equal(code, strstr(info.class, "plain") == NULL ? ERR_LIMIT : ERR_OK);
    ops_cpu()->linear_close(device, &linear);
    ops_cpu()->device_close(&device);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_remainder_equals_double, buffers_free),
        cmocka_unit_test_teardown(shapes_equal_plain, buffers_free),
        cmocka_unit_test_teardown(every_epilogue_equals_plain, buffers_free),
        cmocka_unit_test_teardown(a_gate_of_many_rows_equals_plain, buffers_free),
        cmocka_unit_test_teardown(a_gate_of_zeros_chooses_nothing, buffers_free),
        cmocka_unit_test_teardown(large_numbers_equal_plain, buffers_free),
        cmocka_unit_test_teardown(in_place_equals_packed, buffers_free),
        cmocka_unit_test_teardown(a_row_too_long_for_scratch_is_refused, buffers_free),
    };
    return support_run(argc, argv, tests);
}
