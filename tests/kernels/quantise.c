#include "kernels/quantise.h"

#include "tests/kernels/support.h"

static double value(const struct tensor *t, int64_t n, int64_t k) {
    int64_t columns = (t->dim[1] + t->scale_columns - 1) / t->scale_columns;
    float scale = t->scale[n / t->scale_rows * columns + k / t->scale_columns];
    return (double)float_load(t->data, t->dtype, n * t->dim[1] + k) * (double)scale;
}

/* Half a step of the type is the most that a value may be off: of its block's largest for int8, of
 * its own size for f8 (and of the least step of the block near zero). */
static void values_are_nearest(void **state) {
    (void)state;
    random_start(1);
    static const enum dtype from[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (int i = 0; i < 6; i++) {
        enum dtype dtype = i % 2 == 0 ? DTYPE_I8 : DTYPE_F8_E4M3;
        int64_t dim[2] = {7, i < 3 ? 700 : 100};
        const void *data = random_buffer(dim[0] * dim[1], from[i / 2], 3);
        struct tensor in = tensor_of(data, from[i / 2], 2, dim), out;
        int64_t scales = quantise_scales(dim[0], dim[1], dtype);
        assert_int_equal(scales, i < 3 && dtype == DTYPE_I8 ? 21 : 7);
        quantise(&out, buffer_of((size_t)(dim[0] * dim[1])),
                 buffer_of((size_t)scales * sizeof(float)), &in, dtype);
        assert_int_equal(tensor_bytes(&out), dim[0] * dim[1]);
        for (int64_t n = 0; n < dim[0]; n++) {
            for (int64_t k = 0; k < dim[1]; k++) {
                double x = (double)float_load(data, in.dtype, n * dim[1] + k);
                double most = dtype == DTYPE_I8 ? 3.0 / 127 / 2 : fabs(x) / 16 + 3.0 / 448 / 1024;
                assert_true(fabs(value(&out, n, k) - x) <= most * 1.0001);
            }
        }
    }
}

static void every_f8_survives(void **state) {
    (void)state;
    uint8_t bytes[256], back[256];
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)((i & 0x7f) == 0x7f ? 0x7e : i); /* NaN: 448, so that the scale is 1 */
    }
    struct tensor in = tensor_of(bytes, DTYPE_F8_E4M3, 2, (int64_t[]){1, 256}), out;
    float scale;
    quantise(&out, back, &scale, &in, DTYPE_F8_E4M3);
    assert_true(scale == 1);
    assert_memory_equal(back, bytes, sizeof bytes);
}

static void odd_values_stay_finite(void **state) {
    (void)state;
    static const float odd[2][4] = {{INFINITY, -INFINITY, NAN, 2}, {0, -0.0f, 1e-38f, 1e-45f}};
    struct tensor in = tensor_of(odd, DTYPE_F32, 2, (int64_t[]){2, 4}), out;
    uint8_t data[8];
    float scale[2];
    for (int i = 0; i < 2; i++) {
        quantise(&out, data, scale, &in, i == 0 ? DTYPE_I8 : DTYPE_F8_E4M3);
        static const double expected[] = {2, -2, -2, 2};
        for (int k = 0; k < 4; k++) {
            assert_true(fabs(value(&out, 0, k) - expected[k]) < 1e-6);
        }
        assert_true(scale[1] == 0 && value(&out, 1, 2) == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(values_are_nearest, buffers_free),
        cmocka_unit_test(every_f8_survives),
        cmocka_unit_test(odd_values_stay_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
