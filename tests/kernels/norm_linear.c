/* norm_linear gives the bits of the norm and the linear layer, one after the other, on every level
 * and backend, whatever its layers make of their weights. */
#include "kernels/quantise.h"
#include "tests/kernels/support.h"

struct norm_case {
    int64_t rows, outputs, inputs;
    const float *x, *mul, *add;
    const uint8_t *group;
    bool rms;
    struct tensor weight, bias;
    struct linear_epilogue epilogue;
    enum dtype dtype;
    void *between, *apart; /* [rows,inputs] and [rows,outputs] of the compute type */
};

static void run_apart(const struct ops *ops, struct device *device, void *out,
                      const struct norm_case *c, const struct linear *linear,
                      const struct norm_args *norm, const struct linear_epilogue *epilogue) {
    if (c->rms) {
        ops->rms_norm(device, norm->rows, norm->x, norm->mul, c->rows, c->inputs, norm->eps,
                      c->dtype);
    } else {
        ops->layer_norm(device, norm->rows, norm->x, norm->mul, norm->add, norm->group, c->rows,
                        c->inputs, norm->eps, c->dtype);
    }
    ops->linear(device, out, norm->rows, linear, c->rows, epilogue);
}

static void run_both(const struct ops *ops, struct device *device, void *out, void *context) {
    const struct norm_case *c = context;
    const struct tensor *weights[] = {&c->weight}, *biases[] = {&c->bias};
    const struct norm_args norm = {.x = given(c->x),
                                   .mul = given(c->mul),
                                   .add = given(c->add),
                                   .group = given(c->group),
                                   .eps = 1e-6f,
                                   .rms = c->rms,
                                   .rows = (void *)(uintptr_t)given(c->between)};
    void *apart = (void *)(uintptr_t)given(c->apart);
    size_t bytes = (size_t)(c->rows * c->outputs) * dtype_bytes(c->epilogue.out_dtype);
    uint8_t *first = malloc(bytes), *second = malloc(bytes);
    struct linear_epilogue epilogue = c->epilogue;
    struct linear *linear = NULL;
    struct error error;
    assert_true(first != NULL && second != NULL);
    epilogue.gate = given(epilogue.gate);
    assert_int_equal(ops->linear_create(device, &linear, weights, biases, 1, c->dtype, &error),
                     ERR_OK);
    ops->zero(device, apart, bytes);
    ops->zero(device, out, bytes);
    run_apart(ops, device, apart, c, linear, &norm, &epilogue);
    ops->download(device, first, apart, bytes);
    ops->norm_linear(device, out, &norm, linear, c->rows, &epilogue);
    ops->download(device, second, out, bytes);
    ops->linear_close(device, &linear);
    assert_memory_equal(first, second, bytes);
    free(first);
    free(second);
}

/* BF16 or F32: of that compute type; I8, F8_E4M3: rounded, of bf16. */
static struct norm_case make(const int64_t shape[3], enum dtype weights) {
    struct norm_case c = {.rows = shape[0], .outputs = shape[1], .inputs = shape[2]};
    const int64_t matrix[2] = {c.outputs, c.inputs};
    c.dtype = weights == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16;
    c.weight = tensor_of(random_buffer(c.outputs * c.inputs, c.dtype, 0.1), c.dtype, 2, matrix);
    c.bias = tensor_of(random_buffer(c.outputs, DTYPE_F32, 1), DTYPE_F32, 1, &c.outputs);
    if (weights == DTYPE_I8 || weights == DTYPE_F8_E4M3) {
        const struct tensor exact = c.weight;
        quantise(&c.weight, buffer_of((size_t)(c.outputs * c.inputs)),
                 buffer_of((size_t)quantise_scales(c.outputs, c.inputs, weights) * sizeof(float)),
                 &exact, weights);
    }
    float *x = random_buffer(c.rows * c.inputs, DTYPE_F32, 3);
    for (int64_t k = 0; k < c.inputs && c.rows > 2; k++) {
        x[k] = 0;
        x[c.inputs + k] *= 1e6f;
    }
    c.x = x;
    c.between = buffer_of((size_t)(c.rows * c.inputs) * dtype_bytes(c.dtype));
    c.apart = buffer_of((size_t)(c.rows * c.outputs) * sizeof(float));
    return c;
}

/* Layer norm with and without groups, then RMS norm, each with another way out. */
static void vary(struct norm_case *c, int variant) {
    c->rms = variant == 2;
    c->mul = random_buffer((variant == 1 ? 3 : 1) * c->inputs, DTYPE_F32, 2);
    c->epilogue = (struct linear_epilogue){.out_dtype = DTYPE_F32, .accumulate = variant == 2};
    if (variant == 1) {
        uint8_t *group = buffer_of((size_t)c->rows);
        for (int64_t r = 0; r < c->rows; r++) {
            group[r] = (uint8_t)random_range(0, 2);
        }
        c->group = group;
        c->add = random_buffer(3 * c->inputs, DTYPE_F32, 1);
        c->epilogue.activation = ACTIVATION_GELU_TANH;
        c->epilogue.out_dtype = c->dtype;
    } else if (variant == 0) {
        c->epilogue.gate = random_buffer(c->outputs, DTYPE_F32, 1);
    }
}

static void together_is_as_apart(void **state) {
    (void)state;
    random_start(1);
    static const int64_t shapes[][3] = {{1, 16, 16},   {5, 32, 256},   {130, 48, 400},
                                        {9, 64, 1024}, {37, 48, 1536}, {3, 16, 5120},
                                        {4, 32, 1552}, {6, 21, 77}};
    static const struct {
        enum dtype weights;
        double tolerance; /* from plain C: levels without 8-bit products have other roundings */
    } kinds[] = {{DTYPE_F32, 1e-5}, {DTYPE_BF16, 1e-2}, {DTYPE_I8, 3e-2}, {DTYPE_F8_E4M3, 8e-2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            for (int variant = 0; variant < 3; variant++) {
                struct norm_case c = make(shapes[i], kinds[kind].weights);
                vary(&c, variant);
                if (variant == 1 && c.weight.dtype == DTYPE_I8) { /* a scale a row */
                    c.weight.scale_columns = c.inputs;
                }
                char name[64];
                snprintf(name, sizeof name, "norm_linear %lldx%lldx%lld, %s", (long long)c.rows,
                         (long long)c.outputs, (long long)c.inputs, dtype_name(c.weight.dtype));
                check(name, run_both, &c, c.rows * c.outputs, c.epilogue.out_dtype,
                      kinds[kind].tolerance);
                buffers_free(NULL);
            }
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(together_is_as_apart, buffers_free),
    };
    return support_run(argc, argv, tests);
}
