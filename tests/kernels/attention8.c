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

static struct narrow_case make_of(int64_t queries, int64_t keys, int heads, int head_dim,
                                  double magnitude) {
    const int64_t width = (int64_t)heads * head_dim;
    struct narrow_case c = {.args = {.q = random_buffer(queries * width, DTYPE_BF16, magnitude),
                                     .k = random_buffer(keys * 2 * width, DTYPE_BF16, magnitude),
                                     .q_stride = width,
                                     .k_stride = 2 * width,
                                     .v_stride = 2 * width,
                                     .out_stride = width,
                                     .q_length = queries,
                                     .k_length = keys,
                                     .heads = heads,
                                     .head_dim = head_dim,
                                     .scale = 1 / sqrtf((float)head_dim),
                                     .dtype = DTYPE_BF16}};
    c.args.v = (const uint16_t *)c.args.k + width;
    assert_true(narrow_suits(&c.args));
    size_t bytes = narrow_layout(&c.args).bytes;
    c.args.narrow = buffer_of(bytes);
    memset(c.args.narrow, 0xff, bytes);
    return c;
}

static struct narrow_case make(int64_t queries, int64_t keys, int heads, double magnitude) {
    return make_of(queries, keys, heads, E, magnitude);
}

static uint16_t *element(const struct attention_args *a, const void *x, int64_t stride, int64_t row,
                         int64_t head, int e) {
    return (uint16_t *)(uintptr_t)x + row * stride + head * a->head_dim + e;
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
            for (int e = 0; e < a->head_dim; e++) {
                sum += (double)bf16_to_float(*element(a, a->q, a->q_stride, i, head, e)) *
                       (double)bf16_to_float(*element(a, a->k, a->k_stride, j, head, e));
            }
            weight[j] = sum * (double)a->scale;
            max = fmax(max, weight[j]);
        }
        double *to = out + i * a->out_stride + head * a->head_dim;
        for (int64_t j = 0; j < a->k_length; j++) {
            double p = exp(weight[j] - max);
            total += p;
            for (int e = 0; e < a->head_dim; e++) {
                to[e] += p * (double)bf16_to_float(*element(a, a->v, a->v_stride, j, head, e));
            }
        }
        for (int e = 0; e < a->head_dim; e++) {
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
        for (int head_dim = E / 2; head_dim <= E; head_dim += E / 2) {
            struct narrow_case c =
                make_of(shape[0], shape[1], (int)shape[2], head_dim, i % 2 == 0 ? 1 : 3);
            char name[80];
            snprintf(name, sizeof name, "attention in 8 bits, %lldx%lld, %d heads of %d",
                     (long long)shape[0], (long long)shape[1], (int)shape[2], head_dim);
            check_case(name, &c, 5e-2);
        }
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
                    *element(a, a->q, a->q_stride, i, head, e) = bf16_from_float(q);
                }
            }
            for (int64_t j = 0; j < keys; j++) {
                float sign = j % 2 == 0 ? 1 : -1;
                for (int e = 0; e < E; e++) {
                    float k = e < 8 ? (float)((j / 2 + e + head) % 3 - 1) : e == 100 ? 127 : 0;
                    *element(a, a->k, a->k_stride, j, head, e) = bf16_from_float(sign * k);
                    float v = j == 0 ? 7 : (float)whole(j * 131 + e + head * 17);
                    *element(a, a->v, a->v_stride, j, head, e) = bf16_from_float(v);
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
                uint16_t *k = element(a, a->k, a->k_stride, j, head, e);
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
    c.args.head_dim = 96;
    assert_false(narrow_suits(&c.args));
    c.args.head_dim = E;
    c.args.k = (const uint16_t *)c.args.k + 1; /* not aligned: no kernel for it */
    c.args.k_length--;
    check_case("attention that is not aligned", &c, 5e-2);
}

/* -- the CPU's products beside plain C's definition -------------------------------------------- */

static struct device *open_level(const char *level) {
    struct device *device = NULL;
    struct error error = {0};
    const struct device_config config = {.threads = 2, .isa = level};
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_OK);
    return device;
}

static uint16_t *result_at(const char *level, struct narrow_case *c) {
    struct device *device = open_level(level);
    struct error error = {0};
    uint16_t *out = buffer_of((size_t)(c->args.q_length * c->args.out_stride) * sizeof *out);
    run(ops_cpu(), device, out, c);
    assert_int_equal(ops_cpu()->status(device, &error), ERR_OK);
    ops_cpu()->device_close(&device);
    return out;
}

/* Levels without products compute in bf16, which is not the definition. */
static bool has_products(void) {
    struct device *device = open_level(NULL);
    struct device_info info;
    ops_cpu()->device_info(device, &info);
    ops_cpu()->device_close(&device);
    return strncmp(info.class, "cpu-avx512_bf16-", 16) == 0;
}

/* How far the products are from the definition, in the 2-norm. */
static void check_products(const char *name, struct narrow_case *c, double tolerance) {
    const uint16_t *ours = result_at(NULL, c), *theirs = result_at("plain", c);
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < c->args.q_length * c->args.out_stride; i++) {
        double x = (double)bf16_to_float(ours[i]), y = (double)bf16_to_float(theirs[i]);
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    double error = sqrt(difference / norm);
    print_message("%s: %.2g from the definition\n", name, error);
    if (!(error <= tolerance)) {
        fail_msg("%s: %g from the definition, at most %g", name, error, tolerance);
    }
    buffers_free(NULL);
}

static void products_are_near_the_definition(void **state) {
    (void)state;
    if (!has_products()) {
        skip();
    }
    random_start(5);
    static const int64_t shapes[][4] = {{1, 1, 1, 128},    {25, 257, 2, 128}, {3, 63, 1, 64},
                                        {70, 511, 1, 128}, {49, 770, 3, 64},  {300, 130, 1, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i];
        for (int magnitude = 0; magnitude <= 4; magnitude += 2) {
            struct narrow_case c = make_of(shape[0], shape[1], (int)shape[2], (int)shape[3],
                                           magnitude == 0 ? 0.1 : magnitude);
            char name[64];
            snprintf(name, sizeof name, "%lldx%lld, magnitude %d", (long long)shape[0],
                     (long long)shape[1], magnitude);
            check_products(name, &c, 2e-2);
        }
    }
}

static void scale_channel(struct narrow_case *c, const void *x, int64_t stride, int64_t length,
                          int e, float factor) {
    for (int64_t j = 0; j < length; j++) {
        uint16_t *at = element(&c->args, x, stride, j, 0, e);
        *at = bf16_from_float(bf16_to_float(*at) * factor);
    }
}

static void products_are_near_where_it_is_hard(void **state) {
    (void)state;
    if (!has_products()) {
        skip();
    }
    random_start(6);
    struct narrow_case c = make(60, 700, 1, 1);
    scale_channel(&c, c.args.k, c.args.k_stride, 700, 17, 60);
    check_products("a channel of k that is 60 times the others", &c, 2e-2);
    c = make(60, 700, 1, 1);
    scale_channel(&c, c.args.v, c.args.v_stride, 700, 3, 100);
    check_products("a channel of v that is 100 times the others", &c, 2e-2);
    c = make(60, 700, 1, 40); /* the largest weight is nearly all */
    check_products("logits of some hundreds", &c, 2e-2);
    c = make(60, 700, 1, 1e9);
    check_products("logits past 32 bits", &c, 2e-2);
    c = make(60, 300, 1, 1);
    memset((void *)(uintptr_t)c.args.q, 0, 60 * E * sizeof(uint16_t)); /* all weights alike */
    check_products("queries of zeros", &c, 2e-2);
    c = make(60, 300, 1, 1); /* later blocks' weights are all less, then all more */
    for (int64_t j = 0; j < 300; j++) {
        *element(&c.args, c.args.k, c.args.k_stride, j, 0, 0) =
            bf16_from_float(j < 256 ? -60.0F : 60.0F);
    }
    check_products("blocks far apart", &c, 2e-2);
}

/* The CPU's results are means of the values, whatever the weights are rounded to. */
static void a_mean_of_the_same_is_the_same(void **state) {
    (void)state;
    random_start(7);
    struct narrow_case c = make(33, 333, 1, 3);
    for (int64_t j = 0; j < 333; j++) {
        for (int e = 0; e < E; e++) {
            *element(&c.args, c.args.v, c.args.v_stride, j, 0, e) =
                bf16_from_float((float)(e - 40));
        }
    }
    const uint16_t *out = result_at(NULL, &c);
    for (int i = 0; i < 33 * E; i++) {
        double expected = i % E - 40, got = (double)bf16_to_float(out[i]);
        assert_true(fabs(got - expected) <= 4e-3 * fabs(expected));
    }
}

/* What lies past the last key is not seen. */
static void length_is_a_mask(void **state) {
    (void)state;
    random_start(8);
    for (int64_t keys = 1; keys < 300; keys += 85) {
        struct narrow_case c = make(40, 300, 2, 2);
        c.args.k_length = keys;
        uint16_t *before = result_at(NULL, &c);
        for (int64_t at = keys * c.args.k_stride; at < 300 * c.args.k_stride; at++) {
            ((uint16_t *)(uintptr_t)c.args.k)[at] =
                at % 2 == 0 ? 0x7f80 : 0x7fc0; /* infinity, NaN */
        }
        uint16_t *after = result_at(NULL, &c);
        assert_memory_equal(before, after, 40 * 2 * E * sizeof *before);
        buffers_free(NULL);
    }
}

static void parts_do_not_meet(void **state) {
    (void)state;
    for (int64_t keys = 1; keys < 2000; keys = keys * 3 + 1) {
        const struct attention_args args = {
            .q_length = keys + 3, .k_length = keys, .heads = 3, .head_dim = E};
        const struct narrow_layout at = narrow_layout(&args);
        const size_t width = 3 * E, key = (size_t)keys;
        assert_true(at.keys >= keys && at.keys % 128 == 0 && at.keys < keys + 128);
        assert_true(at.q + (key + 3) * width <= at.k);
        assert_true(at.k + (size_t)at.keys * width <= at.v);
        assert_true(at.v + (size_t)at.keys * width <= at.q_scale);
        assert_true(at.q_scale + (key + 3) * 3 * 4 <= at.k_scale);
        assert_true(at.k_scale + (size_t)at.blocks * 3 * 4 <= at.k_offset);
        assert_true(at.k_offset + (size_t)at.keys * 3 * 4 <= at.v_scale);
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
        cmocka_unit_test_teardown(products_are_near_the_definition, buffers_free),
        cmocka_unit_test_teardown(products_are_near_where_it_is_hard, buffers_free),
        cmocka_unit_test_teardown(a_mean_of_the_same_is_the_same, buffers_free),
        cmocka_unit_test_teardown(length_is_a_mask, buffers_free),
        cmocka_unit_test(parts_do_not_meet),
    };
    return support_run(argc, argv, tests);
}
