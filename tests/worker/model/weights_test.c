#include "tests/worker/model/weights_test.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

void expect_bytes(const void *bytes, size_t length, enum error_code expected, const char *why) {
    struct weights *weights;
    struct error error = {0};
    enum error_code code = weights_open_memory(&weights, bytes, length, "w", &error);
    if (code != expected || (why != NULL && strstr(error.detail, why) == NULL))
        fail_msg("expected %s with '%s', got %s: %s", error_name(expected), why, error_name(code),
                 error.detail);
    assert_true((weights != NULL) == (code == ERR_OK));
    weights_close(&weights);
}

static void open_damaged(const char *bytes, size_t length) {
    struct weights *weights;
    struct error error = {0};
    if (weights_open_memory(&weights, bytes, length, "w", &error) != ERR_OK)
        assert_true(error.detail[0] != 0);
    for (size_t k = 0; weights != NULL && k < weights_count(weights); k++) {
        const struct tensor *tensor = weights_tensor(weights, k);
        const char *data = tensor->data;
        if (data >= bytes && data < bytes + length) /* not an aligned copy */
            assert_true(tensor_bytes(tensor) <= (size_t)(bytes + length - data));
    }
    weights_close(&weights);
}

void damage(const char *path, size_t header, size_t tail) {
    struct arena arena;
    struct error error = {0};
    char *bytes;
    size_t length;
    ok(arena_open(&arena, 1 << 22, &error), &error);
    ok(file_read(&bytes, &length, &arena, path, 1 << 21, &error), &error);
    for (size_t i = 0; i < length * 8; i += 7) {
        if (i / 8 >= header && i / 8 < length - tail)
            continue;
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
        open_damaged(bytes, length);
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
    }
    for (size_t cut = 0; cut < length; cut++) {
        struct weights *weights;
        char *exact = malloc(cut + 1); /* so that a sanitizer sees a read past its end */
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        assert_int_not_equal(weights_open_memory(&weights, exact, cut, "w", &error), ERR_OK);
        free(exact);
    }
    arena_close(&arena);
}

void same_weights(const char *got, const char *expected) {
    struct weights *a, *b;
    struct error error = {0};
    ok(weights_open(&a, got, &error), &error);
    ok(weights_open(&b, expected, &error), &error);
    assert_int_equal(weights_count(a), weights_count(b));
    for (size_t i = 0; i < weights_count(a); i++) {
        const struct tensor *x = weights_tensor(a, i), *y = weights_tensor(b, i);
        assert_string_equal(weights_name(a, i), weights_name(b, i));
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, sizeof x->dim);
        assert_memory_equal(x->data, y->data, tensor_bytes(x));
    }
    weights_close(&a);
    weights_close(&b);
}
