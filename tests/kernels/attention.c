#include "tests/kernels/support.h"

struct attention_case {
    struct attention_args args;
    const void *packed; /* q, k and v of one row, as one linear layer writes them */
};

static void run_attention(const struct ops *ops, struct device *device, void *out, void *context) {
    struct attention_case *c = context;
    struct attention_args args = c->args;
    args.out = out;
    args.q = given(args.q);
    args.k = given(args.k);
    args.v = given(args.v);
    args.key_bias = given(args.key_bias);
    args.bias = given(args.bias);
    ops->attention(device, &args);
}

static double logit(const struct attention_args *a, int64_t head, int64_t i, int64_t j) {
    double sum = 0;
    for (int e = 0; e < a->head_dim; e++) {
        sum += (double)float_load(a->q, a->dtype, i * a->q_stride + head * a->head_dim + e) *
               (double)float_load(a->k, a->dtype, j * a->k_stride + head * a->head_dim + e);
    }
    sum *= (double)a->scale;
    sum += a->key_bias != NULL ? (double)a->key_bias[j] : 0;
    sum += a->bias != NULL ? (double)a->bias[(head * a->q_length + i) * a->k_length + j] : 0;
    return sum;
}

static void expect(const struct attention_args *a, double *out) {
    double *weight = malloc((size_t)a->k_length * sizeof *weight);
    assert_non_null(weight);
    for (int64_t head = 0; head < a->heads; head++) {
        for (int64_t i = 0; i < a->q_length; i++) {
            double max = -INFINITY, total = 0;
            for (int64_t j = 0; j < a->k_length; j++) {
                weight[j] = logit(a, head, i, j);
                max = fmax(max, weight[j]);
            }
            for (int64_t j = 0; j < a->k_length; j++) {
                weight[j] = exp(weight[j] - max);
                total += weight[j];
            }
            for (int e = 0; e < a->head_dim; e++) {
                double sum = 0;
                for (int64_t j = 0; j < a->k_length; j++) {
                    int64_t at = j * a->v_stride + head * a->head_dim + e;
                    sum += weight[j] * (double)float_load(a->v, a->dtype, at);
                }
                out[i * a->out_stride + head * a->head_dim + e] = sum / total;
            }
        }
    }
    free(weight);
}

struct shape {
    int64_t queries, keys;
    int heads, head_dim;
    bool key_bias, bias;
    double magnitude;
};

/* `odd` elements between rows beyond what is used: with 0, rows are aligned as a model's are, which
 * the tensor core kernels ask for. */
static void check_rows(struct shape s, enum dtype dtype, int64_t odd, bool library) {
    int64_t width = (int64_t)s.heads * s.head_dim, stride = 2 * width + 2 * odd;
    struct attention_case c = {
        .args = {.q = random_buffer(s.queries * (width + odd), dtype, s.magnitude),
                 .q_stride = width + odd,
                 .out_stride = width,
                 .k_stride = stride,
                 .v_stride = stride,
                 .q_length = s.queries,
                 .k_length = s.keys,
                 .heads = s.heads,
                 .head_dim = s.head_dim,
                 .scale = 1 / sqrtf((float)s.head_dim),
                 .library = library,
                 .dtype = dtype}};
    const uint8_t *both = random_buffer(s.keys * stride, dtype, s.magnitude);
    c.args.k = both;
    c.args.v = both + (size_t)width * dtype_bytes(dtype);
    if (s.key_bias) {
        float *bias = random_buffer(s.keys, DTYPE_F32, 3);
        for (int64_t j = 0; j + 1 < s.keys; j += 3) {
            bias[j] = j % 2 == 0 ? -1e30f : -1e9f;
        }
        bias[s.keys - 1] = 6.2f; /* ln 512: many keys that are one */
        c.args.key_bias = bias;
    }
    if (s.bias) {
        c.args.bias = random_buffer(s.heads * s.queries * s.keys, DTYPE_F32, 8);
    }
    double *expected = buffer_of((size_t)(s.queries * width) * sizeof *expected);
    expect(&c.args, expected);
    char name[128];
    snprintf(name, sizeof name, "attention %lldx%lld, %d heads of %d, %s", (long long)s.queries,
             (long long)s.keys, s.heads, s.head_dim, dtype_name(dtype));
    /* A logit of 500 in f32 has an error of 3e-5, and so has its weight. */
    double tolerance = dtype == DTYPE_BF16 ? 8e-3 : s.magnitude > 2 ? 1e-5 : 1e-6;
    check_against(name, run_attention, &c, expected, s.queries * width, dtype, tolerance);
    buffers_free(NULL);
}

static void check_attention(struct shape s, enum dtype dtype) {
    check_rows(s, dtype, 2, false);
}

static void any_length_and_width(void **state) {
    (void)state;
    random_start(1);
    static const struct shape shapes[] = {
        {1, 1, 1, 4, false, false, 1},       {1, 300, 2, 64, false, false, 1},
        {300, 1, 2, 64, false, false, 1},    {300, 300, 4, 64, false, false, 2},
        {257, 513, 2, 128, false, false, 2}, {25, 65, 3, 80, false, false, 1},
        {7, 90, 2, 20, true, true, 1},       {60, 70, 1, 384, false, false, 1},
        {9, 130, 1, 1024, false, false, 1},  {100, 77, 5, 12, true, false, 2},
        {31, 257, 2, 64, true, true, 1},     {24, 256, 1, 68, false, true, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_attention(shapes[i], DTYPE_F32);
        check_attention(shapes[i], DTYPE_BF16);
    }
}

static void random_shapes(void **state) {
    (void)state;
    random_start(2);
    for (int i = 0; i < 40; i++) {
        struct shape s = {random_range(1, 60),
                          random_range(1, 600),
                          (int)random_range(1, 3),
                          (int)random_range(1, 40) * 4,
                          i % 3 == 0,
                          i % 5 == 0,
                          1};
        check_attention(s, i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16);
    }
}

/* Around the tiles of the tensor core kernels: a key or a query more or less than whole tiles. */
static void aligned_rows(void **state) {
    (void)state;
    random_start(4);
    static const int64_t lengths[] = {1,   15,  63,  64,  65,  127, 128,
                                      129, 176, 177, 192, 257, 384, 385};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    for (int i = 0; i < LENGTHS; i++) {
        struct shape s = {.queries = lengths[i],
                          .keys = lengths[(i * 5 + 3) % LENGTHS],
                          .heads = i % 3 + 1,
                          .head_dim = i % 2 == 0 ? 64 : 128,
                          .key_bias = i % 4 > 1,
                          .magnitude = i % 5 == 4 ? 8 : 1};
        check_rows(s, DTYPE_BF16, 0, false);
        s.head_dim = 192 - s.head_dim;
        check_rows(s, DTYPE_BF16, 8, false);
    }
}

/* The VAE's heads, as wide as its channels; more queries than a block has. */
static void wide_heads(void **state) {
    (void)state;
    random_start(6);
    static const struct shape shapes[] = {
        {130, 65, 1, 384, false, false, 1},   {70, 190, 1, 640, false, false, 1},
        {33, 64, 1, 1024, false, false, 1},   {17, 129, 2, 256, true, false, 1},
        {129, 200, 1, 384, false, false, 12}, {5, 1, 1, 384, false, false, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_rows(shapes[i], DTYPE_BF16, i % 2 * 8, false);
    }
}

/* Asked for or not, with what it does not take among them. */
static void by_the_vendors_library(void **state) {
    (void)state;
    random_start(5);
    for (int i = 0; i < 8; i++) {
        struct shape s = {.queries = random_range(1, 200),
                          .keys = random_range(1, 300),
                          .heads = i % 3 + 1,
                          .head_dim = i % 2 == 0 ? 64 : 128,
                          .key_bias = i == 3,
                          .magnitude = 1};
        check_rows(s, i == 5 ? DTYPE_F32 : DTYPE_BF16, i % 3 * 4, true);
    }
}

/* One key far ahead of the others, which then moves: the running maximum must follow. */
static void sharp_logits(void **state) {
    (void)state;
    random_start(3);
    check_attention((struct shape){50, 700, 2, 64, true, true, 12}, DTYPE_F32);
    check_attention((struct shape){50, 700, 2, 64, true, true, 12}, DTYPE_BF16);
}

static void equal_logits_give_the_mean(void **state) {
    (void)state;
    enum { KEYS = 333, WIDTH = 8 };
    float *zeros = buffer_of(KEYS * WIDTH * sizeof(float));
    float *values = buffer_of(KEYS * WIDTH * sizeof(float));
    for (int j = 0; j < KEYS; j++) {
        for (int e = 0; e < WIDTH; e++) {
            values[j * WIDTH + e] = (float)(j + e);
        }
    }
    struct attention_case c = {.args = {.q = zeros,
                                        .k = zeros,
                                        .v = values,
                                        .q_stride = WIDTH,
                                        .k_stride = WIDTH,
                                        .v_stride = WIDTH,
                                        .out_stride = WIDTH,
                                        .q_length = 3,
                                        .k_length = KEYS,
                                        .heads = 1,
                                        .head_dim = WIDTH,
                                        .scale = 1,
                                        .dtype = DTYPE_F32}};
    double expected[3 * WIDTH];
    for (int i = 0; i < 3 * WIDTH; i++) {
        expected[i] = (KEYS - 1) / 2.0 + i % WIDTH;
    }
    check_against("equal logits", run_attention, &c, expected, 3 * WIDTH, DTYPE_F32, 1e-6);

    /* The same when every key is banned alike, and with one not banned. */
    float *bias = buffer_of(KEYS * sizeof(float));
    for (int j = 0; j < KEYS; j++) {
        bias[j] = -1e30f;
    }
    c.args.key_bias = bias;
    check_against("equal and banned", run_attention, &c, expected, 3 * WIDTH, DTYPE_F32, 1e-6);
    for (int j = 0; j < KEYS; j++) {
        bias[j] = j == 300 ? 0 : -INFINITY;
    }
    for (int i = 0; i < 3 * WIDTH; i++) {
        expected[i] = 300 + i % WIDTH;
    }
    check_against("one key", run_attention, &c, expected, 3 * WIDTH, DTYPE_F32, 1e-6);
    bf16 *narrow = buffer_of(KEYS * WIDTH * sizeof *narrow);
    for (int i = 0; i < KEYS * WIDTH; i++) {
        narrow[i] = bf16_from_float(values[i]);
    }
    c.args.v = narrow;
    c.args.dtype = DTYPE_BF16;
    check_against("one key", run_attention, &c, expected, 3 * WIDTH, DTYPE_BF16, 8e-3);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(any_length_and_width, buffers_free),
        cmocka_unit_test_teardown(random_shapes, buffers_free),
        cmocka_unit_test_teardown(aligned_rows, buffers_free),
        cmocka_unit_test_teardown(wide_heads, buffers_free),
        cmocka_unit_test_teardown(by_the_vendors_library, buffers_free),
        cmocka_unit_test_teardown(sharp_logits, buffers_free),
        cmocka_unit_test_teardown(equal_logits_give_the_mean, buffers_free),
    };
    return support_run(argc, argv, tests);
}
