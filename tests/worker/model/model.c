/* The door of models: a keyframe and windows end to end on random weights, planned memory,
 * progress, cancelling, and what is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/worker/model/model_test.h"

#define WIDTH  48
#define HEIGHT 32
#define FRAME  (HEIGHT * WIDTH * 3)
#define LATENT (16 * (HEIGHT / 8) * (WIDTH / 8)) /* of one latent frame */

struct fixture {
    struct device *device;
    struct model *model;
    float *rows, *empty;
    struct model_text text, none;
};

static void open_on(struct fixture *f, int threads, enum dtype dtype) {
    struct error error = {0};
    const struct device_config config = {.threads = threads};
    ok(ops_cpu()->device_open(&f->device, &config, &error), &error);
    ok(model_open(&f->model, ops_cpu(), f->device, RANDOM_WAN,
                  &(struct model_options){.stages = -1, .dtype = dtype}, &error),
       &error);
    const struct model_info *info = model_get_info(f->model);
    size_t bytes = (size_t)(info->text_length * info->text_width) * sizeof(float);
    f->rows = malloc(bytes);
    f->empty = malloc(bytes);
    ok(model_encode_text(f->model, f->rows, &f->text.count, "a red  balloon &amp; the sea", &error),
       &error);
    ok(model_encode_text(f->model, f->empty, &f->none.count, "", &error), &error);
    f->text.rows = f->rows;
    f->none.rows = f->empty;
    assert_int_equal(f->none.count, 1);
}

static void close_on(struct fixture *f) {
    model_close(&f->model);
    ops_cpu()->device_close(&f->device);
    free(f->rows);
    free(f->empty);
}

static int open_fixture(void **state) {
    static struct fixture f;
    open_on(&f, 2, DTYPE_F32);
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    close_on(*state);
    return 0;
}

static struct denoise_request request_of(const struct fixture *f, int frames) {
    return (struct denoise_request){.size = {WIDTH, HEIGHT, frames},
                                    .positive = f->text,
                                    .negative = f->none,
                                    .sampler = SAMPLER_EULER,
                                    .steps = 3,
                                    .guidance = 2.5f,
                                    .shift = 3,
                                    .seed = 7,
                                    .stream = 8};
}

struct film {
    uint8_t rgb[64 * FRAME];
    int frames, calls, stop_after;
};

static enum error_code keep(void *user, const uint8_t *rgb, int count, struct error *error) {
    struct film *film = user;
    assert_true(film->frames + count <= 64);
    memcpy(film->rgb + film->frames * FRAME, rgb, (size_t)count * FRAME);
    film->frames += count;
    if (++film->calls == film->stop_after)
        return error_set(error, ERR_FULL, "no room");
    return ERR_OK;
}

/* Keyframe, a window from it, a window from the last five frames. */
static void make_film(struct fixture *f, struct film *first, struct film *second) {
    static struct film still;
    static float latents[5 * LATENT];
    struct error error = {0};
    struct denoise_request request = request_of(f, 1);
    still = *first = *second = (struct film){.frames = 0};
    ok(model_keyframe(f->model, latents, &request, &error), &error);
    ok(model_decode(f->model, latents, 1, WIDTH, HEIGHT,
                    &(struct frame_sink){.frames = keep, .user = &still}, &error),
       &error);
    assert_int_equal(still.frames, 1);
    request.size.frames = 17;
    ok(model_window(f->model, latents, &(struct window_source){.tail = still.rgb, .tail_frames = 1},
                    &request, &error),
       &error);
    ok(model_decode(f->model, latents, 5, WIDTH, HEIGHT,
                    &(struct frame_sink){.frames = keep, .user = first}, &error),
       &error);
    assert_int_equal(first->frames, 17);
    request.stream = 9;
    request.guidance = 1;
    ok(model_window(f->model, latents,
                    &(struct window_source){.tail = first->rgb + 12 * FRAME, .tail_frames = 5},
                    &request, &error),
       &error);
    ok(model_decode(f->model, latents, 5, WIDTH, HEIGHT,
                    &(struct frame_sink){.frames = keep, .user = second}, &error),
       &error);
    assert_int_equal(second->frames, 17);
}

static void the_same_again(void **state) {
    static struct film a, b, again_a, again_b;
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; i < 2; i++) {
        struct fixture one, three;
        open_on(&one, 1, dtypes[i]);
        open_on(&three, 3, dtypes[i]);
        make_film(&one, &a, &b);
        make_film(&three, &again_a, &again_b);
        assert_memory_equal(&a, &again_a, sizeof a);
        assert_memory_equal(&b, &again_b, sizeof b);
        assert_memory_not_equal(a.rgb, b.rgb, 17 * FRAME);
        close_on(&one);
        close_on(&three);
    }
}

static void decode_frames(struct model *model, const float *latents, int frames) {
    struct film film = {.frames = 0};
    struct error error = {0};
    ok(model_decode(model, latents, frames, WIDTH, HEIGHT,
                    &(struct frame_sink){.frames = keep, .user = &film}, &error),
       &error);
}

/* The plan is what the run takes, to the byte; a keyframe's task decodes its frame. */
static void plan_is_peak(void **state) {
    static float latents[9 * LATENT];
    static uint8_t tail[5 * FRAME];
    static const enum model_stage stages[] = {STAGE_KEYFRAME, STAGE_WINDOW, STAGE_VAE};
    struct fixture *f = *state;
    struct error error = {0};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        struct model_cost cost;
        struct model *model;
        struct denoise_request request = request_of(f, stages[i] == STAGE_KEYFRAME ? 1 : 33);
        request.positive.count = request.negative.count = 63; /* and one row of padding */
        request.sampler = SAMPLER_UNIPC;
        ok(model_plan(&cost, RANDOM_WAN, stages[i], &request.size,
                      &(struct model_options){.dtype = DTYPE_BF16}, &error),
           &error);
        const struct model_options options = {
            .stages = stages[i] == STAGE_KEYFRAME ? STAGE_KEYFRAME | STAGE_VAE : (int)stages[i],
            .dtype = DTYPE_BF16};
        struct model_bytes bytes;
        ok(model_measure(&bytes, RANDOM_WAN, &options, &error), &error);
        assert_int_equal(cost.weight_bytes, bytes.all);
        assert_int_equal(cost.weight_bytes_least, bytes.least);
        ok(model_open(&model, ops_cpu(), f->device, RANDOM_WAN, &options, &error), &error);
        if (stages[i] == STAGE_KEYFRAME)
            ok(model_keyframe(model, latents, &request, &error), &error);
        else if (stages[i] == STAGE_WINDOW)
            ok(model_window(model, latents, &(struct window_source){.tail = tail, .tail_frames = 5},
                            &request, &error),
               &error);
        if (stages[i] != STAGE_WINDOW)
            decode_frames(model, latents, stages[i] == STAGE_KEYFRAME ? 1 : 9);
        print_message("planned %zu bytes of work, %zu of weights, %.3g flops\n", cost.work_bytes,
                      cost.weight_bytes, cost.flops);
        assert_int_equal(model_work_peak(model), cost.work_bytes);
        assert_true(cost.flops > 1e6);
        model_close(&model);
    }
}

static void decode_memory_is_bounded(void **state) {
    struct model_cost some, many;
    struct error error = {0};
    ok(model_plan(&some, RANDOM_WAN, STAGE_VAE, &(struct model_size){160, 96, 257},
                  &(struct model_options){.dtype = DTYPE_F32}, &error),
       &error);
    ok(model_plan(&many, RANDOM_WAN, STAGE_VAE, &(struct model_size){160, 96, 1025},
                  &(struct model_options){.dtype = DTYPE_F32}, &error),
       &error);
    assert_int_equal(some.work_bytes, many.work_bytes);
    assert_true(many.flops > 3.9 * some.flops);
}

/* A folder of the published image-to-video layout, made of links to the random model. */
static void make_published(char folder[64]) {
    static const char index[] = "{\"_class_name\": \"WanImageToVideoPipeline\"}";
    static const char *const links[][2] = {{"window", "transformer"},
                                           {"vae", "vae"},
                                           {"text_encoder", "text_encoder"},
                                           {"tokenizer", "tokenizer"},
                                           {"scheduler", "scheduler"}};
    char here[FILE_PATH_BYTES / 2], from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    struct error error = {0};
    (void)snprintf(folder, 64, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_non_null(getcwd(here, sizeof here));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        (void)snprintf(from, sizeof from, "%s/" RANDOM_WAN "/%s", here, links[i][0]);
        (void)snprintf(to, sizeof to, "%s/%s", folder, links[i][1]);
        assert_int_equal(symlink(from, to), 0);
    }
    (void)snprintf(to, sizeof to, "%s/model_index.json", folder);
    ok(file_write(to, index, sizeof index - 1, false, &error), &error);
}

/* One Euler step by hand: noise - velocity of [noise ‖ mask ‖ condition]. The condition is the
 * encoding of `pixels`, of which `kept` latent frames are taken and the others 0. */
static float *window_by_hand(const struct denoise_request *request, const float *pixels,
                             int pixel_frames, int kept, int marked, int text_length) {
    enum { FRAMES = 5, COUNT = FRAMES * LATENT };
    const int plane = LATENT / 16, encoded = (pixel_frames - 1) / 4 + 1;
    struct bench bench;
    bench_open(&bench, RANDOM_WAN, DTYPE_F32);
    struct runtime *runtime = &bench.runtime;
    float *condition = work_floats(runtime, COUNT + 4 * FRAMES * plane);
    float *latents = work_floats(runtime, COUNT), *v = work_floats(runtime, COUNT);
    float *x = malloc(COUNT * sizeof *x);
    memset(condition, 0, (size_t)(COUNT + 4 * FRAMES * plane) * sizeof *condition);
    vae_encode(bench.parts.vae, runtime, latents, pixels, pixel_frames, encoded, HEIGHT / 8,
               WIDTH / 8, 0);
    for (int f = 0; f < FRAMES; f++)
        for (int i = 0; i < plane; i++) {
            for (int c = 0; c < 4; c++)
                condition[(c * FRAMES + f) * plane + i] = f < marked;
            for (int c = 0; c < 16 && f < kept; c++)
                condition[((4 + c) * FRAMES + f) * plane + i] =
                    latents[(c * encoded + f) * plane + i];
        }
    random_normal(x, COUNT, request->seed, request->stream, 0);
    run_pass(&bench, bench.parts.window, v,
             &(struct pass){.frames = FRAMES,
                            .height = HEIGHT / 8,
                            .width = WIDTH / 8,
                            .latents = x,
                            .condition = condition,
                            .text = request->positive.rows,
                            .text_rows = request->positive.count,
                            .text_length = text_length,
                            .time = {.value = {1000}, .count = 1}});
    for (int i = 0; i < COUNT; i++)
        x[i] -= v[i];
    bench_close(&bench);
    return x;
}

/* The pocket family's rule and the published one, against what wan.md says of each. */
static void window_rules(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct model *published;
    char folder[64];
    static uint8_t tail[5 * FRAME];
    static float pixels[17 * FRAME], latents[5 * LATENT];
    for (int i = 0; i < 5 * FRAME; i++) {
        tail[i] = (uint8_t)(random_below(256, 1, 2, (uint64_t)i));
        pixels[i] = (float)tail[i] / 127.5f - 1;
    }
    struct denoise_request request = request_of(f, 17);
    request.steps = 1;
    request.guidance = 1;
    ok(model_window(f->model, latents, &(struct window_source){.tail = tail, .tail_frames = 5},
                    &request, &error),
       &error);
    float *expected = window_by_hand(&request, pixels, 5, 2, 2, 64);
    assert_true(relative_error(latents, expected, 5 * LATENT) < 1e-5);
    free(expected);

    make_published(folder);
    ok(model_open(&published, ops_cpu(), f->device, folder,
                  &(struct model_options){.stages = STAGE_WINDOW, .dtype = DTYPE_F32}, &error),
       &error);
    memset(pixels + 5 * FRAME, 0, 12 * FRAME * sizeof *pixels); /* mid-grey */
    struct window_source source = {.tail = tail, .tail_frames = 5};
    ok(model_window(published, latents, &source, &request, &error), &error);
    expected = window_by_hand(&request, pixels, 17, 5, 2, 512);
    assert_true(relative_error(latents, expected, 5 * LATENT) < 1e-5);
    free(expected);
    memset(pixels + FRAME, 0, 16 * FRAME * sizeof *pixels);
    source = (struct window_source){WINDOW_RULE_LAST_FRAME, tail, 1, NULL};
    ok(model_window(published, latents, &source, &request, &error), &error);
    expected = window_by_hand(&request, pixels, 17, 5, 1, 512);
    assert_true(relative_error(latents, expected, 5 * LATENT) < 1e-5);
    free(expected);
    source.tail_frames = 5;
    assert_int_equal(model_window(published, latents, &source, &request, &error), ERR_SHAPE);
    source = (struct window_source){WINDOW_RULE_PREFIX, tail, 5, NULL};
    assert_int_equal(model_window(published, latents, &source, &request, &error), ERR_UNSUPPORTED);
    assert_non_null(strstr(error.detail, "prefix"));
    model_close(&published);
    ok(file_remove_tree(folder, &error), &error);
}

struct watcher {
    int calls;
    atomic_bool cancel;
};

static void watch(void *user, int step, int steps) {
    struct watcher *watcher = user;
    assert_int_equal(step, ++watcher->calls);
    assert_int_equal(steps, 3);
    if (step == 2)
        atomic_store(&watcher->cancel, true);
}

static void progress_and_cancel(void **state) {
    struct fixture *f = *state;
    static float latents[LATENT];
    struct error error = {0};
    struct watcher watcher = {.calls = 0};
    struct denoise_request request = request_of(f, 1);
    request.progress = watch;
    request.user = &watcher;
    request.cancel = &watcher.cancel;
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_INTERRUPTED);
    assert_int_equal(watcher.calls, 2);
    request.cancel = NULL;
    watcher.calls = 0;
    ok(model_keyframe(f->model, latents, &request, &error), &error);
    assert_int_equal(watcher.calls, 3);
}

/* Operations that set the flag with the fifth matrix product or convolution. */
static atomic_bool stopped;
static int products;

static void count_product(void) {
    if (++products == 5)
        atomic_store(&stopped, true);
}
static void counted_linear(struct device *device, void *out, const void *in,
                           const struct linear *linear, int64_t rows,
                           const struct linear_epilogue *epilogue) {
    count_product();
    ops_cpu()->linear(device, out, in, linear, rows, epilogue);
}
static void counted_conv(struct device *device, const struct conv *conv,
                         const struct conv_args *args) {
    count_product();
    ops_cpu()->conv(device, conv, args);
}

/* In the middle of a step, and of a chunk. */
static void cancel_within(void **state) {
    struct fixture *f = *state;
    struct ops ops = *ops_cpu();
    static float latents[LATENT];
    static struct film film;
    struct error error = {0};
    struct model *model;
    ops.linear = counted_linear;
    ops.conv = counted_conv;
    ok(model_open(&model, &ops, f->device, RANDOM_WAN,
                  &(struct model_options){.stages = -1, .dtype = DTYPE_F32}, &error),
       &error);
    model_set_cancel(model, &stopped);
    struct denoise_request request = request_of(f, 1);
    request.steps = 1;
    assert_int_equal(model_keyframe(model, latents, &request, &error), ERR_INTERRUPTED);
    assert_int_equal(products, 5);
    atomic_store(&stopped, false);
    products = 0;
    film = (struct film){.stop_after = 0};
    assert_int_equal(model_decode(model, latents, 1, WIDTH, HEIGHT,
                                  &(struct frame_sink){.frames = keep, .user = &film}, &error),
                     ERR_INTERRUPTED);
    assert_int_equal(products, 5);
    model_set_cancel(model, NULL);
    ok(model_keyframe(model, latents, &request, &error), &error);
    model_close(&model);
}

static void a_sink_that_fails(void **state) {
    struct fixture *f = *state;
    static float latents[9 * LATENT];
    static struct film film;
    struct error error = {0};
    film = (struct film){.stop_after = 1};
    assert_int_equal(model_decode(f->model, latents, 9, WIDTH, HEIGHT,
                                  &(struct frame_sink){.frames = keep, .user = &film}, &error),
                     ERR_FULL);
    assert_string_equal(error.detail, "no room");
    film = (struct film){.stop_after = 0};
    ok(model_decode(f->model, latents, 9, WIDTH, HEIGHT,
                    &(struct frame_sink){.frames = keep, .user = &film}, &error),
       &error);
    assert_int_equal(film.frames, 33);
}

/* Frames and, of two in three, their planes, which are there when the frames are. */
struct twice {
    struct film film;
    uint8_t planes[64][FRAME / 2];
    int asked, stop_after;
};

static bool is_wanted(int frame) {
    return frame % 3 != 1;
}

static enum error_code place(void *user, struct nv12_planes *out, struct error *error) {
    struct twice *twice = user;
    uint8_t *luma = twice->planes[twice->asked];
    *out = (struct nv12_planes){luma, luma + WIDTH * HEIGHT, WIDTH, WIDTH};
    if (!is_wanted(twice->asked++))
        out->luma = NULL;
    if (twice->asked == twice->stop_after)
        return error_set(error, ERR_FULL, "no planes");
    return ERR_OK;
}

static enum error_code keep_twice(void *user, const uint8_t *rgb, int count, struct error *error) {
    struct twice *twice = user;
    static uint8_t expected[FRAME / 2];
    assert_true(twice->film.frames + count <= twice->asked);
    for (int i = 0; i < count; i++) {
        const struct nv12_args args = {
            {expected, expected + WIDTH * HEIGHT, WIDTH, WIDTH}, rgb + i * FRAME, HEIGHT, WIDTH};
        int frame = twice->film.frames + i;
        memset(expected, 0, sizeof expected);
        if (is_wanted(frame))
            nv12_rows(&args, 0, HEIGHT / 2);
        assert_memory_equal(twice->planes[frame], expected, sizeof expected);
    }
    return keep(&twice->film, rgb, count, error);
}

static void frames_for_an_encoder(void **state) {
    struct fixture *f = *state;
    static float latents[9 * LATENT];
    static struct twice twice;
    struct error error = {0};
    const struct frame_sink sink = {keep_twice, place, &twice};
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        latents[i] = sinf((float)i * 0.37f);
    ok(model_decode(f->model, latents, 9, WIDTH, HEIGHT, &sink, &error), &error);
    assert_int_equal(twice.film.frames, 33);
    assert_int_equal(twice.asked, 33);
    twice = (struct twice){.stop_after = 9};
    assert_int_equal(model_decode(f->model, latents, 9, WIDTH, HEIGHT, &sink, &error), ERR_FULL);
    assert_string_equal(error.detail, "no planes");
    assert_int_equal(twice.asked, 9);
}

static void refusals(void **state) {
    struct fixture *f = *state;
    static float latents[5 * LATENT];
    static uint8_t tail[5 * FRAME];
    struct error error = {0};
    struct denoise_request request = request_of(f, 17);
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_SHAPE);
    assert_int_equal(model_window(f->model, latents,
                                  &(struct window_source){.tail = tail, .tail_frames = 2}, &request,
                                  &error),
                     ERR_SHAPE);
    assert_non_null(strstr(error.detail, "1 or 5"));
    request.size.frames = 18;
    assert_int_equal(model_window(f->model, latents,
                                  &(struct window_source){.tail = tail, .tail_frames = 1}, &request,
                                  &error),
                     ERR_SHAPE);
    request.size.frames = 5;
    assert_int_equal(model_window(f->model, latents,
                                  &(struct window_source){.tail = tail, .tail_frames = 5}, &request,
                                  &error),
                     ERR_SHAPE);
    request = request_of(f, 1);
    request.size.width = 40;
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_SHAPE);
    assert_non_null(strstr(error.detail, "multiples of 16"));
    request = request_of(f, 1);
    request.positive.count = 65;
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_SHAPE);
    request = request_of(f, 1);
    request.negative.rows = NULL;
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_SHAPE);
    request.guidance = 1; /* then there need be none */
    ok(model_keyframe(f->model, latents, &request, &error), &error);
    request.steps = 0;
    assert_int_equal(model_keyframe(f->model, latents, &request, &error), ERR_LIMIT);
    assert_int_equal(model_decode(f->model, latents, 0, WIDTH, HEIGHT,
                                  &(struct frame_sink){.frames = keep, .user = NULL}, &error),
                     ERR_SHAPE);
    assert_int_equal(model_encode_text(f->model, latents, &request.steps, "\xff", &error),
                     ERR_FORMAT);
    struct model *model;
    ok(model_open(&model, ops_cpu(), f->device, RANDOM_WAN,
                  &(struct model_options){.stages = STAGE_VAE, .dtype = DTYPE_F32}, &error),
       &error);
    request = request_of(f, 1);
    assert_int_equal(model_keyframe(model, latents, &request, &error), ERR_UNSUPPORTED);
    assert_int_equal(model_window(model, latents,
                                  &(struct window_source){.tail = tail, .tail_frames = 1}, &request,
                                  &error),
                     ERR_UNSUPPORTED);
    assert_int_equal(model_encode_text(model, latents, &request.steps, "x", &error),
                     ERR_UNSUPPORTED);
    model_close(&model);
}

static void info(void **state) {
    struct model_info read;
    struct error error = {0};
    const struct fixture *f = *state;
    ok(model_read_info(&read, RANDOM_WAN, &error), &error);
    assert_memory_equal(&read, model_get_info(f->model), sizeof read);
    assert_string_equal(read.family, "pocket");
    assert_int_equal(read.stages, STAGE_TEXT | STAGE_KEYFRAME | STAGE_WINDOW | STAGE_VAE);
    assert_int_equal(read.overlap_count, 2);
    assert_int_equal(read.text_length, 64);
    assert_int_equal(read.text_width, 40);
    assert_int_equal(read.latent_channels, 16);
    assert_int_equal(read.steps, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info),          cmocka_unit_test(the_same_again),
        cmocka_unit_test(plan_is_peak),  cmocka_unit_test(decode_memory_is_bounded),
        cmocka_unit_test(window_rules),  cmocka_unit_test(progress_and_cancel),
        cmocka_unit_test(cancel_within), cmocka_unit_test(a_sink_that_fails),
        cmocka_unit_test(refusals),      cmocka_unit_test(frames_for_an_encoder),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
