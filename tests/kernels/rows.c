/* Norms and elementwise operations: plain C against double precision, levels against plain C. */
#include "tests/kernels/support.h"

static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
/* 384, 1024 and 5120 are the models': GPUs have other kernels for each. */
static const int64_t widths[] = {1,  2,  3,   8,   15,  16,   17,   24,  31,
                                 33, 64, 100, 256, 384, 1024, 1536, 5120};
#define WIDTHS (sizeof widths / sizeof *widths)

static double tolerance(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 1e-6 : 4e-3;
}

struct rows_case {
    const void *x;
    const float *weight, *mul, *add, *cosine, *sine;
    const uint8_t *group;
    int64_t rows, width, stride;
    int heads, head_dim;
    enum activation activation;
    enum dtype dtype, out_dtype;
    int chunks, e_chunks;
    uint32_t mask;
    int terms;
    const float *terms_x[OPS_COMBINE_MAX];
    bool in_place;
};

static double expected_activation(double x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    }
    return x;
}

static const uint8_t *random_groups(int64_t rows) {
    uint8_t *group = buffer_of((size_t)rows);
    for (int64_t r = 0; r < rows; r++) {
        group[r] = (uint8_t)random_range(0, 2);
    }
    return group;
}

static void run_layer_norm(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->layer_norm(device, out, given(c->x), given(c->mul), given(c->add), given(c->group),
                    c->rows, c->width, 1e-6f, c->out_dtype);
}

static void layer_norm_equals_double(void **state) {
    (void)state;
    random_start(1);
    for (size_t w = 0; w < WIDTHS; w++) {
        for (int i = 0; i < 6; i++) {
            struct rows_case c = {.rows = 37, .width = widths[w], .out_dtype = types[i % 2]};
            float *x = random_buffer(c.rows * c.width, DTYPE_F32, i == 5 ? 1e4 : 1);
            for (int64_t k = 0; k < c.width; k++) {
                x[k] += 50;         /* a mean far from 0 */
                x[c.width + k] = 3; /* no variance at all */
            }
            c.x = x;
            if (i >= 2) {
                c.mul = random_buffer(3 * c.width, DTYPE_F32, 2);
                c.add = i >= 3 ? random_buffer(3 * c.width, DTYPE_F32, 2) : NULL;
                c.group = i >= 4 ? random_groups(c.rows) : NULL;
            }
            double *expected = buffer_of((size_t)(c.rows * c.width) * sizeof *expected);
            for (int64_t r = 0; r < c.rows; r++) {
                double mean = 0, variance = 0;
                for (int64_t k = 0; k < c.width; k++) {
                    mean += (double)x[r * c.width + k] / (double)c.width;
                }
                for (int64_t k = 0; k < c.width; k++) {
                    double d = (double)x[r * c.width + k] - mean;
                    variance += d * d / (double)c.width;
                }
                int64_t g = c.group != NULL ? c.group[r] * c.width : 0;
                for (int64_t k = 0; k < c.width; k++) {
                    double y = ((double)x[r * c.width + k] - mean) / sqrt(variance + 1e-6);
                    y *= c.mul != NULL ? (double)c.mul[g + k] : 1;
                    y += c.add != NULL ? (double)c.add[g + k] : 0;
                    expected[r * c.width + k] = y;
                }
            }
            /* Row 0's mean of 50 costs f32 six bits. */
            double allowed = c.out_dtype == DTYPE_F32 ? 2e-5 : 4e-3;
            if (c.width > 1 || c.add != NULL) {
                check_against("layer_norm", run_layer_norm, &c, expected, c.rows * c.width,
                              c.out_dtype, allowed);
            }
            buffers_free(NULL);
        }
    }
}

static void run_rms_norm(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->rms_norm(device, out, given(c->x), given(c->weight), c->rows, c->width, 1e-6f,
                  c->out_dtype);
}

static void rms_norm_equals_double(void **state) {
    (void)state;
    random_start(2);
    for (size_t w = 0; w < WIDTHS; w++) {
        for (int t = 0; t < 2; t++) {
            struct rows_case c = {.rows = 29, .width = widths[w], .out_dtype = types[t]};
            const float *x = random_buffer(c.rows * c.width, DTYPE_F32, t == 0 ? 1e5 : 1);
            c.x = x;
            c.weight = random_buffer(c.width, DTYPE_F32, 1);
            double *expected = buffer_of((size_t)(c.rows * c.width) * sizeof *expected);
            for (int64_t r = 0; r < c.rows; r++) {
                double mean = 0;
                for (int64_t k = 0; k < c.width; k++) {
                    mean +=
                        (double)x[r * c.width + k] * (double)x[r * c.width + k] / (double)c.width;
                }
                for (int64_t k = 0; k < c.width; k++) {
                    expected[r * c.width + k] =
                        (double)x[r * c.width + k] / sqrt(mean + 1e-6) * (double)c.weight[k];
                }
            }
            check_against("rms_norm", run_rms_norm, &c, expected, c.rows * c.width, c.out_dtype,
                          tolerance(c.out_dtype));
            buffers_free(NULL);
        }
    }
}

static void run_qk_norm_rope(const struct ops *ops, struct device *device, void *out,
                             void *context) {
    struct rows_case *c = context;
    ops->copy(device, out, given(c->x), (size_t)(c->rows * c->stride) * dtype_bytes(c->dtype));
    ops->qk_norm_rope(device, out, c->stride, given(c->weight), given(c->cosine), given(c->sine),
                      c->rows, c->heads, c->head_dim, 1e-6f, c->dtype);
}

static void qk_norm_rope_equals_double(void **state) {
    (void)state;
    random_start(3);
    static const int shapes[][2] = {{1, 2}, {2, 4},  {3, 20}, {4, 64},   {2, 128},
                                    {1, 6}, {3, 24}, {5, 96}, {12, 128}, {40, 128}};
    enum { SHAPES = sizeof shapes / sizeof *shapes };
    for (int i = 0; i < 4 * SHAPES; i++) {
        struct rows_case c = {.rows = 21,
                              .heads = shapes[i % SHAPES][0],
                              .head_dim = shapes[i % SHAPES][1],
                              .dtype = types[i / SHAPES % 2]};
        int64_t width = (int64_t)c.heads * c.head_dim, half = c.head_dim / 2;
        c.stride = 3 * width; /* q of a packed row: k and v must stay */
        c.x = random_buffer(c.rows * c.stride, c.dtype, 5);
        c.weight = random_buffer(width, DTYPE_F32, 1);
        if (i < 2 * SHAPES) {
            float *cosine = buffer_of((size_t)(c.rows * half) * sizeof(float));
            float *sine = buffer_of((size_t)(c.rows * half) * sizeof(float));
            for (int64_t j = 0; j < c.rows * half; j++) {
                double angle = random_unit() * 3;
                cosine[j] = (float)cos(angle);
                sine[j] = (float)sin(angle);
            }
            c.cosine = cosine;
            c.sine = sine;
        }
        double *expected = buffer_of((size_t)(c.rows * c.stride) * sizeof *expected);
        for (int64_t r = 0; r < c.rows; r++) {
            double mean = 0;
            double *row = expected + r * c.stride;
            for (int64_t k = 0; k < c.stride; k++) {
                row[k] = (double)float_load(c.x, c.dtype, r * c.stride + k);
                mean += k < width ? row[k] * row[k] / (double)width : 0;
            }
            for (int64_t k = 0; k < width; k += 2) {
                double a = row[k] / sqrt(mean + 1e-6) * (double)c.weight[k];
                double b = row[k + 1] / sqrt(mean + 1e-6) * (double)c.weight[k + 1];
                int64_t angle = r * half + k % c.head_dim / 2;
                double cosine = c.cosine != NULL ? (double)c.cosine[angle] : 1;
                double sine = c.sine != NULL ? (double)c.sine[angle] : 0;
                row[k] = a * cosine - b * sine;
                row[k + 1] = a * sine + b * cosine;
            }
        }
        check_against("qk_norm_rope", run_qk_norm_rope, &c, expected, c.rows * c.stride, c.dtype,
                      tolerance(c.dtype));
        buffers_free(NULL);
    }
}

static void run_channel_norm(const struct ops *ops, struct device *device, void *out,
                             void *context) {
    struct rows_case *c = context;
    const void *x = given(c->x);
    if (c->in_place) {
        ops->copy(device, out, x, (size_t)(c->rows * c->width) * dtype_bytes(c->dtype));
        x = out;
    }
    ops->channel_norm(device, out, x, given(c->weight), c->rows, c->width, c->activation, c->dtype);
}

static void channel_norm_equals_double(void **state) {
    (void)state;
    random_start(4);
    for (size_t w = 0; w < WIDTHS; w++) {
        for (int i = 0; i < 4; i++) {
            struct rows_case c = {.rows = 2100, /* several pieces */
                                  .width = widths[w],
                                  .dtype = types[i % 2],
                                  .activation = i < 2 ? ACTIVATION_SILU : ACTIVATION_NONE,
                                  .in_place = i % 2 == 1};
            if (c.width > 64) {
                c.rows = 50;
            }
            c.x = random_buffer(c.rows * c.width, c.dtype, 3);
            memset((void *)(uintptr_t)c.x, 0,
                   (size_t)c.width * dtype_bytes(c.dtype)); /* a zero row */
            c.weight = random_buffer(c.width, DTYPE_F32, 2);
            double *expected = buffer_of((size_t)(c.rows * c.width) * sizeof *expected);
            for (int64_t r = 0; r < c.rows; r++) {
                double squares = 0;
                for (int64_t k = 0; k < c.width; k++) {
                    double x = (double)float_load(c.x, c.dtype, r * c.width + k);
                    squares += x * x;
                }
                for (int64_t k = 0; k < c.width; k++) {
                    double x = (double)float_load(c.x, c.dtype, r * c.width + k);
                    x = x / fmax(sqrt(squares), 1e-12) * sqrt((double)c.width) *
                        (double)c.weight[k];
                    expected[r * c.width + k] = expected_activation(x, c.activation);
                }
            }
            check_against("channel_norm", run_channel_norm, &c, expected, c.rows * c.width, c.dtype,
                          tolerance(c.dtype));
            buffers_free(NULL);
        }
    }
}

static void run_activate(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->activate(device, out, given(c->x), c->rows, c->activation);
}

static void activate_equals_double(void **state) {
    (void)state;
    random_start(5);
    static const double scales[] = {1e-3, 1, 4, 30, 1e4, 1e20};
    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_GELU_ERF; activation++) {
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
            struct rows_case c = {.rows = s == 1 ? 40001 : 77,
                                  .activation = (enum activation)activation};
            const float *x = random_buffer(c.rows, DTYPE_F32, scales[s]);
            c.x = x;
            double *expected = buffer_of((size_t)c.rows * sizeof *expected);
            for (int64_t i = 0; i < c.rows; i++) {
                expected[i] = expected_activation((double)x[i], c.activation);
            }
            check_against("activate", run_activate, &c, expected, c.rows, DTYPE_F32, 1e-6);
            buffers_free(NULL);
        }
    }
}

static void run_gelu_gate(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->gelu_gate(device, out, given(c->x), c->rows, c->width, c->dtype);
}

static void gelu_gate_equals_double(void **state) {
    (void)state;
    random_start(6);
    for (size_t w = 0; w < WIDTHS; w++) {
        for (int t = 0; t < 2; t++) {
            struct rows_case c = {.rows = 19, .width = widths[w], .dtype = types[t]};
            c.x = random_buffer(2 * c.rows * c.width, c.dtype, 4);
            double *expected = buffer_of((size_t)(c.rows * c.width) * sizeof *expected);
            for (int64_t r = 0; r < c.rows; r++) {
                for (int64_t k = 0; k < c.width; k++) {
                    double gate = (double)float_load(c.x, c.dtype, 2 * r * c.width + k);
                    double x = (double)float_load(c.x, c.dtype, (2 * r + 1) * c.width + k);
                    expected[r * c.width + k] = expected_activation(gate, ACTIVATION_GELU_TANH) * x;
                }
            }
            check_against("gelu_gate", run_gelu_gate, &c, expected, c.rows * c.width, c.dtype,
                          tolerance(c.dtype));
            buffers_free(NULL);
        }
    }
}

static void run_modulation(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->modulation(device, out, given(c->weight), given(c->x), c->rows, c->chunks, c->e_chunks,
                    c->width, c->mask);
}

static void modulation_equals_double(void **state) {
    (void)state;
    random_start(7);
    for (size_t w = 0; w < WIDTHS; w++) {
        struct rows_case c = {.rows = 2, .chunks = w % 2 == 0 ? 6 : 2, .width = widths[w]};
        c.e_chunks = w % 2 == 0 ? 6 : 1;
        c.mask = w % 2 == 0 ? 0x12 : 2;
        const float *e = random_buffer(c.rows * c.e_chunks * c.width, DTYPE_F32, 1);
        c.x = e;
        c.weight = random_buffer(c.chunks * c.width, DTYPE_F32, 1);
        int64_t count = c.rows * c.chunks * c.width;
        double *expected = buffer_of((size_t)count * sizeof *expected);
        for (int64_t i = 0; i < count; i++) {
            int64_t k = i % c.width, chunk = i / c.width % c.chunks, g = i / c.width / c.chunks;
            int64_t row = g * c.e_chunks + (c.e_chunks == 1 ? 0 : chunk);
            expected[i] = (double)c.weight[chunk * c.width + k] + (double)e[row * c.width + k] +
                          (c.mask >> chunk & 1);
        }
        check_against("modulation", run_modulation, &c, expected, count, DTYPE_F32, 1e-6);
        buffers_free(NULL);
    }
}

static void run_convert(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->convert(device, out, c->out_dtype, given(c->x), c->dtype, c->rows);
}

static void convert_is_exact(void **state) {
    (void)state;
    random_start(8);
    static const enum dtype all[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (int i = 0; i < 9; i++) {
        for (int64_t rows = 1; rows < 40000; rows = rows * 3 + 1) {
            struct rows_case c = {.rows = rows, .dtype = all[i % 3], .out_dtype = all[i / 3]};
            c.x = random_buffer(rows, c.dtype, 1000);
            check("convert", run_convert, &c, rows, c.out_dtype, 0);
            buffers_free(NULL);
        }
    }
    /* Every bf16 and f16 to f32 and back, infinities and numbers too small or large included. */
    for (int t = 1; t < 3; t++) {
        for (uint32_t u = 0; u < 0x10000; u++) {
            uint16_t h = (uint16_t)u, back;
            float x = all[t] == DTYPE_BF16 ? bf16_to_float(h) : f16_to_float(h);
            back = all[t] == DTYPE_BF16 ? bf16_from_float(x) : f16_from_float(x);
            if (isnan(x)) {
                x = all[t] == DTYPE_BF16 ? bf16_to_float(back) : f16_to_float(back);
                assert_true(isnan(x));
            } else {
                assert_int_equal(back, h);
            }
        }
    }
    enum { NARROW = 256 + 7 }; /* and a remainder */
    uint16_t *every = buffer_of(0x10000 * sizeof *every);
    uint8_t *narrow = buffer_of(NARROW);
    for (int i = 0; i < 0x10000; i++) {
        every[i] = (uint16_t)i;
    }
    for (int i = 0; i < NARROW; i++) {
        narrow[i] = (uint8_t)i;
    }
    static const enum dtype weights[] = {DTYPE_F16, DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_I8};
    for (int i = 0; i < 8; i++) {
        struct rows_case c = {.dtype = weights[i / 2], .out_dtype = types[i % 2]};
        c.x = c.dtype == DTYPE_F16 ? (const void *)every : narrow;
        c.rows = c.dtype == DTYPE_F16 ? 0x10000 : NARROW;
        check("convert every", run_convert, &c, c.rows, c.out_dtype, 0);
    }
    assert_int_equal(bf16_from_float(1 + 0x1p-8f), 0x3f80);            /* a tie, to even */
    assert_int_equal(bf16_from_float(1 + 0x1p-8f + 0x1p-20f), 0x3f81); /* past it */
    assert_int_equal(bf16_from_float(1 + 3 * 0x1p-8f), 0x3f82);
    assert_int_equal(bf16_from_float(3.4e38f), 0x7f80);
    assert_int_equal(f16_from_float(65519), 0x7bff);
    assert_int_equal(f16_from_float(65520), 0x7c00);
    assert_int_equal(f16_from_float(0x1p-25f), 0); /* a tie, to even */
    assert_int_equal(f16_from_float(0x1.8p-25f), 1);
    assert_int_equal(f16_from_float(-1e-9f), 0x8000);
    assert_int_equal(f16_from_float(0x1p-14f - 0x1p-26f), 0x400); /* subnormal up to normal */
    static const uint32_t special[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff,
                                       0x7f7fffff, 0x80000000, 1,          0x007fffff, 0x3f808000,
                                       0x3f818000, 0x7f7f8000, 0xff7f7fff, 0x7fffffff, 0x3f800000,
                                       0xbf808001, 0x33000000};
    void *x = buffer_of(sizeof special);
    memcpy(x, special, sizeof special);
    struct rows_case c = {.rows = sizeof special / sizeof *special,
                          .x = x,
                          .dtype = DTYPE_F32,
                          .out_dtype = DTYPE_BF16};
    check("convert special", run_convert, &c, c.rows, DTYPE_BF16, 0);
}

static void run_combine(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    static const float coefficient[OPS_COMBINE_MAX] = {1, -0.5f, 3, 0.1f, -7, 2};
    const float *x[OPS_COMBINE_MAX];
    for (int i = 0; i < c->terms; i++) {
        x[i] = given(c->terms_x[i]);
    }
    if (c->in_place) {
        ops->copy(device, out, x[c->terms - 1], (size_t)c->rows * sizeof(float));
        x[c->terms - 1] = out;
    }
    ops->combine(device, out, x, coefficient, c->terms, c->rows);
}

static void run_add(const struct ops *ops, struct device *device, void *out, void *context) {
    struct rows_case *c = context;
    ops->add(device, out, given(c->terms_x[0]), given(c->terms_x[1]), c->rows, DTYPE_F32);
}

static void combine_is_exact(void **state) {
    (void)state;
    random_start(9);
    for (int terms = 1; terms <= OPS_COMBINE_MAX; terms++) {
        struct rows_case c = {.rows = terms == 3 ? 50001 : 16 * terms + terms, .terms = terms};
        for (int i = 0; i < terms; i++) {
            c.terms_x[i] = random_buffer(c.rows, DTYPE_F32, 100);
        }
        check("combine", run_combine, &c, c.rows, DTYPE_F32, 0);
        c.in_place = true;
        check("combine in place", run_combine, &c, c.rows, DTYPE_F32, 0);
        if (terms >= 2) {
            double *expected = buffer_of((size_t)c.rows * sizeof *expected);
            for (int64_t i = 0; i < c.rows; i++) {
                expected[i] = (double)(c.terms_x[0][i] + c.terms_x[1][i]);
            }
            check_against("add", run_add, &c, expected, c.rows, DTYPE_F32, 0);
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(layer_norm_equals_double, buffers_free),
        cmocka_unit_test_teardown(rms_norm_equals_double, buffers_free),
        cmocka_unit_test_teardown(qk_norm_rope_equals_double, buffers_free),
        cmocka_unit_test_teardown(channel_norm_equals_double, buffers_free),
        cmocka_unit_test_teardown(activate_equals_double, buffers_free),
        cmocka_unit_test_teardown(gelu_gate_equals_double, buffers_free),
        cmocka_unit_test_teardown(modulation_equals_double, buffers_free),
        cmocka_unit_test_teardown(convert_is_exact, buffers_free),
        cmocka_unit_test_teardown(combine_is_exact, buffers_free),
    };
    return support_run(argc, argv, tests);
}
