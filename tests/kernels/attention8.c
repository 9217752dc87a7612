/* Attention in 8 bits: near the exact one, exact where rounding is, and without the keys' mean. */
#include "kernels/narrow.h"
#include "tests/kernels/support.h"

#define E NARROW_HEAD_DIM

struct narrow_case {
    struct attention_args args;
};

static void run(const struct ops *ops, struct device *device, void *out, void *context) {
    struct narrow_case *c = context;
    struct attention_args args = c->args;
    args.out = out;
    args.q = given(args.q);
    args.k = given(args.k);
    args.v = given(args.v);
    args.narrow = (void *)(uintptr_t)given(args.narrow);
    ops->attention(device, &args);
}

static struct narrow_case make(int64_t queries, int64_t keys, int heads, double magnitude) {
    const int64_t width = (int64_t)heads * E;
    struct narrow_case c = {.args = {.q = random_buffer(queries * width, DTYPE_BF16, magnitude),
                                     .k = random_buffer(keys * 2 * width, DTYPE_BF16, magnitude),
                                     .q_stride = width,
                                     .k_stride = 2 * width,
                                     .v_stride = 2 * width,
                                     .out_stride = width,
                                     .q_length = queries,
                                     .k_length = keys,
                                     .heads = heads,
                                     .head_dim = E,
                                     .scale = 1 / sqrtf(E),
                                     .dtype = DTYPE_BF16}};
    c.args.v = (const uint16_t *)c.args.k + width;
    assert_true(narrow_suits(&c.args));
    size_t bytes = narrow_layout(&c.args).bytes;
    c.args.narrow = buffer_of(bytes);
    memset(c.args.narrow, 0xff, bytes);
    return c;
}

static uint16_t *element(const void *x, int64_t stride, int64_t row, int64_t head, int e) {
    return (uint16_t *)(uintptr_t)x + row * stride + head * E + e;
}

/* By double precision, of what is in q, k and v. */
static double *exact(const struct attention_args *a) {
    double *out = buffer_of((size_t)(a->q_length * a->out_stride) * sizeof *out);
    double *weight = buffer_of((size_t)a->k_length * sizeof *weight);
    for (int64_t unit = 0; unit < a->heads * a->q_length; unit++) {
        int64_t head = unit / a->q_length, i = unit % a->q_length;
        double max = -INFINITY, total = 0;
        for (int64_t j = 0; j < a->k_length; j++) {
            double sum = 0;
            for (int e = 0; e < E; e++) {
                sum += (double)bf16_to_float(*element(a->q, a->q_stride, i, head, e)) *
                       (double)bf16_to_float(*element(a->k, a->k_stride, j, head, e));
            }
            weight[j] = sum * (double)a->scale;
            max = fmax(max, weight[j]);
        }
        double *to = out + i * a->out_stride + head * E;
        for (int64_t j = 0; j < a->k_length; j++) {
            double p = exp(weight[j] - max);
            total += p;
            for (int e = 0; e < E; e++) {
                to[e] += p * (double)bf16_to_float(*element(a->v, a->v_stride, j, head, e));
            }
        }
        for (int e = 0; e < E; e++) {
            to[e] /= total;
        }
    }
    return out;
}

static void check_case(const char *name, struct narrow_case *c, double tolerance) {
    check_against(name, run, c, exact(&c->args), c->args.q_length * c->args.out_stride, DTYPE_BF16,
                  tolerance);
    buffers_free(NULL);
}

static void results_are_near_the_exact_ones(void **state) {
    (void)state;
    random_start(1);
    static const int64_t shapes[][3] = {{1, 1, 1},     {130, 64, 1},  {7, 65, 2},   {64, 129, 3},
                                        {200, 300, 2}, {129, 513, 1}, {3, 1100, 1}, {128, 128, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i];
        struct narrow_case c = make(shape[0], shape[1], (int)shape[2], i % 2 == 0 ? 1 : 3);
        char name[64];
        snprintf(name, sizeof name, "attention in 8 bits, %lldx%lld, %d heads", (long long)shape[0],
                 (long long)shape[1], (int)shape[2]);
        check_case(name, &c, 5e-2);
    }
}

static int whole(int64_t i) {
    return (int)(i * 7919 % 15) - 7;
}

/* Whole numbers that int8 and f8 hold, in pairs of opposite keys so that their mean is 0, logits
 * that are whole powers of 2: nothing is rounded but the result. */
static void what_needs_no_rounding_is_exact(void **state) {
    (void)state;
    for (int keys = 2; keys <= 260; keys += 86) {
        random_start(2);
        struct narrow_case c = make(130, keys, 2, 1);
        struct attention_args *a = &c.args;
        a->scale = 0.6931471805599453F;
        for (int64_t head = 0; head < 2; head++) {
            for (int64_t i = 0; i < a->q_length; i++) {
                for (int e = 0; e < E; e++) {
                    /* 127 meets zeros alone: it makes the scale 1. */
                    float q = e == E - 1 ? 127 : e == (i + head) % 8 ? (float)(i % 2 * 2 - 1) : 0;
                    *element(a->q, a->q_stride, i, head, e) = bf16_from_float(q);
                }
            }
            for (int64_t j = 0; j < keys; j++) {
                float sign = j % 2 == 0 ? 1 : -1;
                for (int e = 0; e < E; e++) {
                    float k = e < 8 ? (float)((j / 2 + e + head) % 3 - 1) : e == 100 ? 127 : 0;
                    *element(a->k, a->k_stride, j, head, e) = bf16_from_float(sign * k);
                    float v = j == 0 ? 7 : (float)whole(j * 131 + e + head * 17);
                    *element(a->v, a->v_stride, j, head, e) = bf16_from_float(v);
                }
            }
        }
        check_case("attention in 8 bits of whole numbers", &c, 4e-3);
    }
}

/* Keys that all have the same large part: without taking it off, int8 would see nothing else. */
static void a_common_part_of_the_keys_is_not_seen(void **state) {
    (void)state;
    random_start(3);
    struct narrow_case c = make(70, 200, 2, 1);
    struct attention_args *a = &c.args;
    for (int64_t j = 0; j < a->k_length; j++) {
        for (int head = 0; head < 2; head++) {
            for (int e = 0; e < E; e++) {
                uint16_t *k = element(a->k, a->k_stride, j, head, e);
                /* Whole numbers up to 255 are exact in bf16. */
                float x = rintf(2 * bf16_to_float(*k));
                *k = bf16_from_float(x + (e % 3 == 0 ? 160.0F : -150.0F));
            }
        }
    }
    check_case("attention in 8 bits with a common part", &c, 5e-2);
}

/* What 8 bits do not suit is done as if it was not asked for. */
static void other_calls_are_done_as_usual(void **state) {
    (void)state;
    random_start(4);
    struct narrow_case c = make(20, 30, 1, 1);
    c.args.key_bias = random_buffer(30, DTYPE_F32, 0);
    assert_false(narrow_suits(&c.args));
    c.args.key_bias = NULL;
    c.args.dtype = DTYPE_F32;
    assert_false(narrow_suits(&c.args));
    c.args.dtype = DTYPE_BF16;
    c.args.head_dim = 64;
    assert_false(narrow_suits(&c.args));
    c.args.head_dim = E;
    c.args.k = (const uint16_t *)c.args.k + 1; /* not aligned: no kernel for it */
    c.args.k_length--;
    check_case("attention that is not aligned", &c, 5e-2);
}

static void parts_do_not_meet(void **state) {
    (void)state;
    for (int64_t keys = 1; keys < 2000; keys = keys * 3 + 1) {
        const struct attention_args args = {
            .q_length = keys + 3, .k_length = keys, .heads = 3, .head_dim = E};
        const struct narrow_layout at = narrow_layout(&args);
        const size_t width = 3 * E, key = (size_t)keys;
        assert_true(at.keys >= keys && at.keys % 128 == 0 && at.keys < keys + 128);
        assert_true(at.q + (key + 3) * width <= at.k && at.k + key * width <= at.v);
        assert_true(at.v + (size_t)at.keys * width <= at.q_scale);
        assert_true(at.q_scale + (key + 3) * 3 * 4 <= at.k_scale);
        assert_true(at.k_scale + (size_t)at.blocks * 3 * 4 <= at.v_scale);
        assert_true(at.v_scale + width * 4 <= at.k_mean && at.k_mean + width * 4 <= at.k_sum);
        assert_true(at.k_sum + (size_t)at.chunks * width * 4 <= at.v_max);
        assert_true(at.v_max + (size_t)at.chunks * width * 4 <= at.bytes);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(results_are_near_the_exact_ones, buffers_free),
        cmocka_unit_test_teardown(what_needs_no_rounding_is_exact, buffers_free),
        cmocka_unit_test_teardown(a_common_part_of_the_keys_is_not_seen, buffers_free),
        cmocka_unit_test_teardown(other_calls_are_done_as_usual, buffers_free),
        cmocka_unit_test(parts_do_not_meet),
    };
    return support_run(argc, argv, tests);
}
