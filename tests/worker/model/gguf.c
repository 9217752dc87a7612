/* GGUF files as the gguf package writes them, blocks to the bit; headers that lie are refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks.h"
#include "tests/worker/model/weights_test.h"
#include "tests/worker/model/zip_build.h"
#include "worker/model/numbers.h"

#define FOLDER "tests/vectors/weights"

static void as_the_package_reads_it(void **state) {
    struct weights *file, *expected;
    struct error error = {0};
    ok(weights_open(&file, FOLDER "/blocks.gguf", &error), &error);
    ok(weights_open(&expected, FOLDER "/blocks.safetensors", &error), &error);
    assert_int_equal(weights_format(file), WEIGHTS_GGUF);
    assert_int_equal(weights_count(file), weights_count(expected));
    for (size_t i = 0; i < weights_count(file); i++) {
        const struct tensor *tensor = weights_tensor(file, i),
                            *reference = weights_tensor(expected, i);
        int64_t elements = tensor_elements(tensor);
        float values[2048];
        assert_string_equal(weights_name(file, i), weights_name(expected, i));
        assert_int_equal(tensor->rank, reference->rank);
        assert_memory_equal(tensor->dim, reference->dim, sizeof tensor->dim);
        assert_true(elements <= 2048);
        numbers_to_float(values, tensor, 0, elements);
        if (memcmp(values, reference->data, (size_t)elements * sizeof *values) != 0)
            fail_msg("%s differs", weights_name(file, i));
        for (int64_t at = 0; at < elements; at += 37) { /* any range */
            int64_t count = elements - at < 301 ? elements - at : 301;
            numbers_to_float(values, tensor, at, count);
            assert_memory_equal(values, (const float *)reference->data + at,
                                (size_t)count * sizeof *values);
        }
    }
    weights_close(&file);
    weights_close(&expected);
}

/* Every byte there is, against the definition in exact arithmetic. */
static void eight_bits(void **state) {
    for (int x = 0; x < 256; x++) {
        int exponent = x >> 3 & 15, fraction = x & 7;
        double sign = x < 128 ? 1 : -1;
        float got = f8_e4m3_to_float((uint8_t)x);
        double expected = exponent == 0 ? sign * fraction * 0x1p-9
                                        : sign * (8 + fraction) * ldexp(1, exponent - 10);
        assert_true((x & 127) == 127 ? isnan(got) : (double)got == expected);
        exponent = x >> 2 & 31;
        fraction = x & 3;
        got = f8_e5m2_to_float((uint8_t)x);
        expected = exponent == 0 ? sign * fraction * 0x1p-16
                                 : sign * (4 + fraction) * ldexp(1, exponent - 17);
        if (exponent == 31)
            assert_true(fraction == 0 ? got == (float)(sign * INFINITY) : isnan(got));
        else
            assert_true((double)got == expected);
    }
}

/* -- headers --------------------------------------------------------------------------------- */

static void put_text(struct buffer *out, const char *text) {
    put_number(out, strlen(text), 8);
    buffer_add_text(out, text);
}

static void put_start(struct buffer *out, uint64_t version, uint64_t tensors, uint64_t keys) {
    buffer_add_text(out, "GGUF");
    put_number(out, version, 4);
    put_number(out, tensors, 8);
    put_number(out, keys, 8);
}

static void put_tensor(struct buffer *out, const char *name, int64_t rows, int64_t row,
                       uint64_t type, uint64_t offset) {
    put_text(out, name);
    put_number(out, 2, 4);
    put_number(out, (uint64_t)row, 8);
    put_number(out, (uint64_t)rows, 8);
    put_number(out, type, 4);
    put_number(out, offset, 8);
}

/* Closes the buffer. `data` bytes follow the header's padding. */
static void expect(struct buffer *header, size_t data, enum error_code code, const char *why) {
    static const char zeros[256];
    while (header->length % 32 != 0)
        buffer_add(header, zeros, 1);
    assert_true(data <= sizeof zeros);
    buffer_add(header, zeros, data);
    expect_bytes(header->data, header->length, code, why);
    buffer_close(header);
}

static void one_tensor(int64_t rows, int64_t row, uint64_t type, uint64_t offset, size_t data,
                       enum error_code code, const char *why) {
    struct buffer out = {0};
    put_start(&out, 3, 1, 0);
    put_tensor(&out, "a", rows, row, type, offset);
    expect(&out, data, code, why);
}

static void tensors_that_lie(void **state) {
    one_tensor(2, 4, 0, 0, 32, ERR_OK, NULL);
    one_tensor(2, 4, 0, 0, 31, ERR_FORMAT, "cut short");
    one_tensor(2, 4, 0, 32, 64, ERR_FORMAT, "does not begin");
    one_tensor(2, 4, 0, UINT64_MAX, 64, ERR_FORMAT, "does not begin");
    one_tensor(2, 4, 99, 0, 64, ERR_UNSUPPORTED, "type 99");
    one_tensor(2, 4, 6, 0, 64, ERR_UNSUPPORTED, "'a' is of Q5_0; read are F32, ");
    one_tensor(2, 4, 10, 0, 64, ERR_UNSUPPORTED, "is of Q2_K;");
    one_tensor(1, 32, 8, 0, 34, ERR_OK, NULL);
    one_tensor(1, 33, 8, 0, 64, ERR_FORMAT, "blocks");
    one_tensor(-1, 4, 0, 0, 64, ERR_FORMAT, "63 bits");
    one_tensor(INT64_MAX, INT64_MAX, 0, 0, 64, ERR_FORMAT, "63 bits");
    one_tensor((int64_t)1 << 50, 32, 8, 0, 64, ERR_FORMAT, "cut short");
}

static void headers_that_lie(void **state) {
    struct buffer out = {0};
    put_start(&out, 1, 0, 0);
    expect(&out, 0, ERR_UNSUPPORTED, "version 1");
    put_start(&out, 0x03000000, 0, 0); /* big endian */
    expect(&out, 0, ERR_UNSUPPORTED, "version");
    put_start(&out, 3, UINT64_MAX, 0);
    expect(&out, 0, ERR_LIMIT, "tensors");
    put_start(&out, 3, 0, UINT64_MAX);
    expect(&out, 0, ERR_LIMIT, "keys");
    put_start(&out, 3, 16384, 0);
    expect(&out, 0, ERR_FORMAT, NULL);
    put_start(&out, 3, 2, 0);
    put_tensor(&out, "a", 1, 8, 0, 0);
    put_tensor(&out, "a", 1, 8, 0, 32);
    expect(&out, 64, ERR_FORMAT, "'a'");
    put_start(&out, 3, 2, 0);
    put_tensor(&out, "a", 1, 8, 0, 0);
    put_tensor(&out, "b", 1, 8, 0, 0); /* on top of it */
    expect(&out, 64, ERR_FORMAT, "does not begin");
}

static void keys_that_lie(void **state) {
    static const struct {
        const char *key;
        uint64_t type, item, count;
        enum error_code code;
    } keys[] = {
        {"k", 13, 0, 0, ERR_FORMAT},
        {"k", 9, 0, UINT64_MAX, ERR_FORMAT},
        {"k", 9, 8, UINT64_MAX, ERR_FORMAT},
        {"k", 9, 9, 1, ERR_FORMAT},
        {"k", 9, 10, UINT64_MAX / 8 + 1, ERR_FORMAT},
        {"k", 8, UINT64_MAX, 0, ERR_FORMAT},
        {"general.alignment", 5, 32, 0, ERR_FORMAT},
        {"general.alignment", 4, 0, 0, ERR_FORMAT},
        {"general.alignment", 4, 48, 0, ERR_FORMAT},
        {"comfy.gguf.orig_shape.a", 9, 4, 1, ERR_FORMAT},
        {"comfy.gguf.orig_shape.a", 9, 5, 7, ERR_FORMAT},
        {"comfy.gguf.orig_shape.a", 9, 5, 0, ERR_FORMAT},
        {"comfy.gguf.orig_shape.a", 4, 5, 1, ERR_FORMAT},
        {"comfy.gguf.orig_shape.a", 9, 5, 1, ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct buffer out = {0};
        put_start(&out, 3, 1, 1);
        put_text(&out, keys[i].key);
        put_number(&out, keys[i].type, 4);
        put_number(&out, keys[i].item, keys[i].type == 8 ? 8 : 4);
        put_number(&out, keys[i].count, 8);
        put_tensor(&out, "a", 2, 4, 0, 0);
        expect(&out, 32, keys[i].code, "GGUF header");
    }
}

static void damaged_files(void **state) {
    damage(FOLDER "/blocks.gguf", 1200, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_package_reads_it), cmocka_unit_test(eight_bits),
        cmocka_unit_test(tensors_that_lie),        cmocka_unit_test(headers_that_lie),
        cmocka_unit_test(keys_that_lie),           cmocka_unit_test(damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
