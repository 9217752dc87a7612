/* Operations that move elements: exact. */
#include "tests/kernels/support.h"

struct layout_case {
    const void *x;
    const float *mul, *add;
    int channels, row_channels;
    int64_t frames, height, width, row_stride, first;
    enum dtype dtype;
    struct tensor table;
    const int32_t *ids;
    int64_t count;
};

static void run_patchify(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    int64_t tokens = c->frames * c->height / 2 * c->width / 2;
    ops->zero(device, out, (size_t)(tokens * c->row_stride) * dtype_bytes(c->dtype));
    ops->patchify(device, out, c->row_stride, c->first, given(c->x), c->channels, c->frames,
                  c->height, c->width, c->dtype);
}

static void run_unpatchify(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->unpatchify(device, out, given(c->x), c->channels, c->frames, c->height, c->width);
}

static void patchify_and_back(void **state) {
    (void)state;
    random_start(1);
    for (int i = 0; i < 8; i++) {
        struct layout_case c = {.channels = i % 2 == 0 ? 16 : 3,
                                .frames = random_range(1, 4),
                                .height = 2 * random_range(1, 20),
                                .width = 2 * random_range(1, 20),
                                .dtype = i < 4 ? DTYPE_F32 : DTYPE_BF16};
        c.first = i % 3 * 4;
        c.row_stride = 4 * c.channels + c.first + i;
        int64_t plane = c.height * c.width, volume = c.frames * plane;
        const float *x = random_buffer(c.channels * volume, DTYPE_F32, 1);
        c.x = x;
        int64_t tokens = volume / 4;
        double *expected = buffer_of((size_t)(tokens * c.row_stride) * sizeof *expected);
        for (int64_t ch = 0; ch < c.channels; ch++) {
            for (int64_t t = 0; t < c.frames; t++) {
                for (int64_t y = 0; y < c.height; y++) {
                    for (int64_t column = 0; column < c.width; column++) {
                        int64_t token = (t * c.height / 2 + y / 2) * (c.width / 2) + column / 2;
                        int64_t at = c.first + (ch * 2 + y % 2) * 2 + column % 2;
                        expected[token * c.row_stride + at] = (double)float_round(
                            c.dtype, x[ch * volume + t * plane + y * c.width + column]);
                    }
                }
            }
        }
        check_against("patchify", run_patchify, &c, expected, tokens * c.row_stride, c.dtype, 0);

        const float *tokens_in = random_buffer(c.channels * volume, DTYPE_F32, 1);
        c.x = tokens_in;
        expected = buffer_of((size_t)(c.channels * volume) * sizeof *expected);
        for (int64_t ch = 0; ch < c.channels; ch++) {
            for (int64_t t = 0; t < c.frames; t++) {
                for (int64_t y = 0; y < c.height; y++) {
                    for (int64_t column = 0; column < c.width; column++) {
                        int64_t token = (t * c.height / 2 + y / 2) * (c.width / 2) + column / 2;
                        int64_t at = (y % 2 * 2 + column % 2) * c.channels + ch;
                        expected[ch * volume + t * plane + y * c.width + column] =
                            (double)tokens_in[token * 4 * c.channels + at];
                    }
                }
            }
        }
        check_against("unpatchify", run_unpatchify, &c, expected, c.channels * volume, DTYPE_F32,
                      0);
        buffers_free(NULL);
    }
}

static void run_channels_last(const struct ops *ops, struct device *device, void *out,
                              void *context) {
    struct layout_case *c = context;
    ops->to_channels_last(device, out, given(c->x), given(c->mul), given(c->add), c->channels,
                          c->count, c->dtype);
}

static void run_channels_first(const struct ops *ops, struct device *device, void *out,
                               void *context) {
    struct layout_case *c = context;
    ops->to_channels_first(device, out, given(c->x), given(c->mul), given(c->add), c->channels,
                           c->row_channels, c->count, c->dtype);
}

static void channels_last_and_first(void **state) {
    (void)state;
    random_start(2);
    for (int i = 0; i < 12; i++) {
        struct layout_case c = {.channels = i % 3 == 0 ? 16 : i,
                                .count = i == 5 ? 20000 : random_range(1, 900),
                                .dtype = i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16};
        c.row_channels = c.channels + i % 4 * 5;
        if (i > 3) {
            c.mul = random_buffer(c.channels, DTYPE_F32, 2);
            c.add = random_buffer(c.channels, DTYPE_F32, 2);
        }
        const float *x = random_buffer(c.channels * c.count, DTYPE_F32, 1);
        c.x = x;
        double *expected = buffer_of((size_t)(c.channels * c.count) * sizeof *expected);
        for (int64_t p = 0; p < c.count; p++) {
            for (int64_t ch = 0; ch < c.channels; ch++) {
                float product = x[ch * c.count + p] * (c.mul != NULL ? c.mul[ch] : 1);
                float sum = product + (c.add != NULL ? c.add[ch] : 0);
                expected[p * c.channels + ch] = (double)float_round(c.dtype, sum);
            }
        }
        check_against("to_channels_last", run_channels_last, &c, expected, c.channels * c.count,
                      c.dtype, 0);

        c.x = random_buffer(c.row_channels * c.count, c.dtype, 1);
        for (int64_t p = 0; p < c.count; p++) {
            for (int64_t ch = 0; ch < c.channels; ch++) {
                float product = float_load(c.x, c.dtype, p * c.row_channels + ch) *
                                (c.mul != NULL ? c.mul[ch] : 1);
                float sum = product + (c.add != NULL ? c.add[ch] : 0);
                expected[ch * c.count + p] = (double)sum;
            }
        }
        check_against("to_channels_first", run_channels_first, &c, expected, c.channels * c.count,
                      DTYPE_F32, 0);
        buffers_free(NULL);
    }
}

static void run_upsample(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->upsample(device, out, given(c->x), c->frames, c->height, c->width, c->channels, c->dtype);
}

static void run_interleave(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->interleave_frames(device, out, given(c->x), c->frames, c->height * c->width, c->channels,
                           c->dtype);
}

static void upsample_and_interleave(void **state) {
    (void)state;
    random_start(3);
    for (int i = 0; i < 10; i++) {
        struct layout_case c = {.channels = (int)random_range(1, 70),
                                .frames = random_range(1, 3),
                                .height = random_range(1, 13),
                                .width = random_range(1, 13),
                                .dtype = i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16};
        int64_t pixels = c.height * c.width, count = c.frames * pixels * c.channels;
        c.x = random_buffer(count, c.dtype, 1);
        double *expected = buffer_of((size_t)(4 * count) * sizeof *expected);
        for (int64_t o = 0; o < 4 * count; o++) {
            int64_t ch = o % c.channels, p = o / c.channels;
            int64_t x = p % (2 * c.width), line = p / (2 * c.width);
            int64_t y = line % (2 * c.height), t = line / (2 * c.height);
            int64_t in = ((t * c.height + y / 2) * c.width + x / 2) * c.channels + ch;
            expected[o] = (double)float_load(c.x, c.dtype, in);
        }
        check_against("upsample", run_upsample, &c, expected, 4 * count, c.dtype, 0);

        c.x = random_buffer(2 * count, c.dtype, 1);
        for (int64_t o = 0; o < 2 * count; o++) {
            int64_t ch = o % c.channels, p = o / c.channels % pixels, t = o / c.channels / pixels;
            int64_t in = ((t / 2 * pixels + p) * 2 + t % 2) * c.channels + ch;
            expected[o] = (double)float_load(c.x, c.dtype, in);
        }
        check_against("interleave_frames", run_interleave, &c, expected, 2 * count, c.dtype, 0);
        buffers_free(NULL);
    }
}

static void set_quarters(const struct ops *ops, struct device *device, void *out, int64_t count,
                         enum dtype dtype) {
    void *quarters = malloc((size_t)count * dtype_bytes(dtype) + 1);
    assert_non_null(quarters);
    for (int64_t i = 0; i < count; i++) {
        float_store(quarters, dtype, i, 0.25f);
    }
    ops->upload(device, out, quarters, (size_t)count * dtype_bytes(dtype));
    free(quarters);
}

static void run_fold(const struct ops *ops, struct device *device, void *out, void *context) {
    struct fold_args *c = context;
    struct fold_args args = *c;
    int64_t frames = (c->frames + c->factor_t - 1) / c->factor_t, area = c->height * c->width;
    args.out = out;
    args.x = given(args.x);
    set_quarters(ops, device, out, frames * area / c->factor_s / c->factor_s * c->folded, c->dtype);
    ops->fold(device, &args);
}

static void run_unfold(const struct ops *ops, struct device *device, void *out, void *context) {
    struct fold_args *c = context;
    struct fold_args args = *c;
    args.out = out;
    args.x = given(args.x);
    set_quarters(ops, device, out, c->frames * c->height * c->width * c->channels, c->dtype);
    ops->unfold(device, &args);
}

/* Both ways by walking over the fine side: which channel of which coarse pixel it is a part of. */
static void check_fold(struct fold_args c) {
    int64_t s = c.factor_s, cells = c.factor_t * s * s, share = c.channels * cells / c.folded;
    int64_t frames = (c.frames + c.factor_t - 1) / c.factor_t;
    int64_t lack = frames * c.factor_t - c.frames;
    int64_t fine = c.frames * c.height * c.width * c.channels;
    int64_t coarse = frames * (c.height / s) * (c.width / s) * c.folded;
    const void *folded = random_buffer(coarse, c.dtype, 1);
    const void *whole = random_buffer(fine, c.dtype, 1);
    double *down = buffer_of((size_t)coarse * sizeof *down);
    double *up = buffer_of((size_t)fine * sizeof *up), before = c.accumulate ? 0.25 : 0;
    for (int64_t i = 0; i < coarse; i++) {
        down[i] = before;
    }
    for (int64_t i = 0; i < fine; i++) {
        int64_t ch = i % c.channels, pixel = i / c.channels, line = pixel / c.width;
        int64_t x = pixel % c.width, y = line % c.height, t = line / c.height + lack;
        int64_t block = c.columns_first ? x % s * s + y % s : y % s * s + x % s;
        int64_t channel = ((ch * c.factor_t + t % c.factor_t) * s * s + block) / share;
        int64_t at = (t / c.factor_t * (c.height / s) + y / s) * (c.width / s) + x / s;
        at = at * c.folded + channel;
        down[at] += (double)float_load(whole, c.dtype, i) / (double)share;
        up[i] = before + (double)float_load(folded, c.dtype, at);
    }
    double tolerance = c.dtype == DTYPE_F32 ? 1e-6 : 4e-3;
    c.x = whole;
    check_against("fold", run_fold, &c, down, coarse, c.dtype, tolerance);
    c.x = folded;
    check_against("unfold", run_unfold, &c, up, fine, c.dtype, c.accumulate ? tolerance : 0);
    buffers_free(NULL);
}

static void fold_and_back(void **state) {
    (void)state;
    random_start(7);
    /* The shapes of Wan2.2's shortcuts and patches, then others; frames that do and do not fit. */
    static const struct fold_args shapes[] = {
        {.channels = 20, .folded = 20, .factor_t = 1, .factor_s = 2, .accumulate = true},
        {.channels = 5, .folded = 10, .factor_t = 2, .factor_s = 2, .accumulate = true},
        {.channels = 20, .folded = 20, .factor_t = 1, .factor_s = 1, .accumulate = true},
        {.channels = 8, .folded = 8, .factor_t = 2, .factor_s = 2, .accumulate = true},
        {.channels = 8, .folded = 16, .factor_t = 1, .factor_s = 2, .accumulate = true},
        {.channels = 3, .folded = 12, .factor_t = 1, .factor_s = 2, .columns_first = true},
        {.channels = 7, .folded = 63, .factor_t = 3, .factor_s = 3, .columns_first = true},
        {.channels = 65, .folded = 1, .factor_t = 4, .factor_s = 4, .accumulate = true},
    };
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
        struct fold_args c = shapes[i / 4];
        c.frames = random_range(1, 6);
        c.height = c.factor_s * random_range(1, 9);
        c.width = c.factor_s * random_range(1, 9);
        c.dtype = i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16;
        check_fold(c);
    }
}

static void run_from_pixels(const struct ops *ops, struct device *device, void *out,
                            void *context) {
    struct layout_case *c = context;
    ops->from_pixels(device, out, given(c->x), c->count, c->dtype);
}

static void run_to_pixels(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->to_pixels(device, out, given(c->x), c->count, c->dtype);
}

static void pixels_and_back(void **state) {
    (void)state;
    random_start(4);
    enum { COUNT = 40003 };
    uint8_t *rgb = buffer_of(COUNT);
    double *expected = buffer_of(COUNT * sizeof *expected);
    for (int i = 0; i < COUNT; i++) {
        rgb[i] = (uint8_t)(i % 256);
    }
    for (int t = 0; t < 2; t++) {
        struct layout_case c = {.x = rgb, .count = COUNT, .dtype = t == 0 ? DTYPE_F32 : DTYPE_BF16};
        for (int i = 0; i < COUNT; i++) {
            expected[i] = (double)float_round(c.dtype, (float)rgb[i] / 127.5f - 1);
        }
        check_against("from_pixels", run_from_pixels, &c, expected, COUNT, c.dtype, 0);
        float *x = random_buffer(COUNT, DTYPE_F32, 1.3);
        for (int i = 0; i < 256; i++) {
            x[i] = (float)i / 127.5f - 1; /* back to what they were */
        }
        x[300] = NAN;
        x[301] = INFINITY;
        x[302] = -INFINITY;
        void *typed = buffer_of(COUNT * sizeof(float));
        for (int i = 0; i < COUNT; i++) {
            float_store(typed, c.dtype, i, x[i]);
            double y = (double)float_load(typed, c.dtype, i);
            y = isnan(y) || y < -1 ? -1 : y > 1 ? 1 : y;
            expected[i] = (double)rintf(((float)y + 1) * 127.5f);
            if (i < 256 && t == 0) {
                assert_int_equal((int)expected[i], i);
            }
        }
        c.x = typed;
        check_against("to_pixels", run_to_pixels, &c, expected, COUNT, DTYPE_U8, 0);
    }
}

static void run_to_nv12(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    uint8_t *luma = out, *chroma = luma + c->height * c->row_stride;
    const struct nv12_args args = {.out = {luma, chroma, c->row_stride, c->row_stride},
                                   .rgb = given(c->x),
                                   .height = c->height,
                                   .width = c->width};
    ops->zero(device, out, (size_t)(c->height * 3 / 2 * c->row_stride));
    ops->to_nv12(device, &args);
}

/* The cubic of a = -0.6. */
static double cubic(double x) {
    x = fabs(x);
    return x < 1 ? (1.4 * x - 2.4) * x * x + 1 : x < 2 ? ((-0.6 * x + 3) * x - 4.8) * x + 2.4 : 0;
}

/* Red, green and blue of a block of 2x2, by the cubic at half the distance; edges repeat. */
static void block_mean(double mean[3], const uint8_t *rgb, const struct layout_case *c, int64_t y,
                       int64_t x) {
    mean[0] = mean[1] = mean[2] = 0;
    for (int64_t down = -3; down <= 4; down++) {
        for (int64_t right = -3; right <= 4; right++) {
            int64_t row = 2 * y + down, column = 2 * x + right;
            row = row < 0 ? 0 : row >= c->height ? c->height - 1 : row;
            column = column < 0 ? 0 : column >= c->width ? c->width - 1 : column;
            double weight = cubic((double)down / 2 - 0.25) * cubic((double)right / 2 - 0.25) / 4;
            for (int i = 0; i < 3; i++) {
                mean[i] += weight * rgb[(row * c->width + column) * 3 + i];
            }
        }
    }
}

/* bt709 in limited range, in doubles. */
static void to_planes(void **state) {
    (void)state;
    random_start(9);
    for (int i = 0; i < 8; i++) {
        struct layout_case c = {.height = i == 0 ? 2 : 2 * random_range(1, 20),
                                .width = i == 0 ? 2 : 2 * random_range(1, 150)};
        c.row_stride = c.width + 3 * i;
        int64_t count = c.height * 3 / 2 * c.row_stride;
        uint8_t *rgb = buffer_of((size_t)(c.height * c.width * 3));
        double *expected = buffer_of((size_t)count * sizeof *expected);
        for (int64_t p = 0; p < c.height * c.width * 3; p++) {
            rgb[p] = (uint8_t)(i == 1 ? 255 * (random_unit() > 0) : 127.5 * (random_unit() + 1));
        }
        for (int64_t p = 0; p < c.height * c.width; p++) {
            double y = 0.2126 * rgb[3 * p] + 0.7152 * rgb[3 * p + 1] + 0.0722 * rgb[3 * p + 2];
            expected[p / c.width * c.row_stride + p % c.width] = 16 + 219 * y / 255;
        }
        for (int64_t p = 0; p < c.height / 2 * c.width / 2; p++) {
            int64_t y = p / (c.width / 2), x = p % (c.width / 2);
            double mean[3];
            block_mean(mean, rgb, &c, y, x);
            double luma = 0.2126 * mean[0] + 0.7152 * mean[1] + 0.0722 * mean[2];
            double *chroma = expected + (c.height + y) * c.row_stride + 2 * x;
            chroma[0] = fmin(fmax(128 + 224 * (mean[2] - luma) / 1.8556 / 255, 0), 255);
            chroma[1] = fmin(fmax(128 + 224 * (mean[0] - luma) / 1.5748 / 255, 0), 255);
        }
        c.x = rgb;
        /* Rounding to whole levels is 0.29 of about 130. */
        check_against("to_nv12", run_to_nv12, &c, expected, count, DTYPE_U8, 4e-3);
        check("to_nv12", run_to_nv12, &c, count, DTYPE_U8, 0);
        buffers_free(NULL);
    }
}

static void run_embed(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->embed(device, out, &c->table, c->ids, c->count);
}

static void embed_rows(void **state) {
    (void)state;
    random_start(5);
    static const enum dtype all[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (int t = 0; t < 3; t++) {
        enum { ROWS = 50, WIDTH = 130, COUNT = 300 };
        struct layout_case c = {.count = COUNT};
        c.table =
            tensor_of(random_buffer(ROWS * WIDTH, all[t], 3), all[t], 2, (int64_t[]){ROWS, WIDTH});
        int32_t *ids = buffer_of(COUNT * sizeof *ids);
        double *expected = buffer_of(COUNT * WIDTH * sizeof *expected);
        for (int i = 0; i < COUNT; i++) {
            ids[i] = (int32_t)random_range(0, ROWS - 1);
            for (int k = 0; k < WIDTH; k++) {
                expected[i * WIDTH + k] =
                    (double)float_load(c.table.data, all[t], ids[i] * WIDTH + k);
            }
        }
        c.ids = ids;
        check_against("embed", run_embed, &c, expected, COUNT * WIDTH, DTYPE_F32, 0);
    }
}

static void run_copy(const struct ops *ops, struct device *device, void *out, void *context) {
    struct layout_case *c = context;
    ops->upload(device, out, c->x, (size_t)c->count);
    ops->zero(device, out, (size_t)c->count);
    ops->copy(device, out, given(c->x), (size_t)c->count / 2);
    uint8_t first = 0;
    ops->download(device, &first, given(c->x), 1);
    ops->upload(device, (uint8_t *)out + 1, &first, 1);
}

static void copy_and_zero(void **state) {
    (void)state;
    random_start(6);
    uint8_t *x = buffer_of(100001);
    double *expected = buffer_of(100001 * sizeof *expected);
    for (int i = 0; i < 100001; i++) {
        x[i] = (uint8_t)random_range(0, 255);
        expected[i] = i < 50000 ? x[i] : 0;
    }
    expected[1] = x[0];
    struct layout_case c = {.x = x, .count = 100001};
    check_against("copy", run_copy, &c, expected, 100001, DTYPE_U8, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(patchify_and_back, buffers_free),
        cmocka_unit_test_teardown(channels_last_and_first, buffers_free),
        cmocka_unit_test_teardown(upsample_and_interleave, buffers_free),
        cmocka_unit_test_teardown(fold_and_back, buffers_free),
        cmocka_unit_test_teardown(pixels_and_back, buffers_free),
        cmocka_unit_test_teardown(to_planes, buffers_free),
        cmocka_unit_test_teardown(embed_rows, buffers_free),
        cmocka_unit_test_teardown(copy_and_zero, buffers_free),
    };
    return support_run(argc, argv, tests);
}
