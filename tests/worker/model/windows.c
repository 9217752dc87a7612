/* What each kind of checkpoint makes windows from and what it refuses; experts held together or one
 * at a time; latents that are given. Over the small models of tests/parity. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/worker/model/model_test.h"

#define GOLDEN "tests/parity/golden/"
#define FRAMES 9
#define WIDTH  64
#define HEIGHT 32
#define FRAME  (HEIGHT * WIDTH * 3)
#define LATENT (48 * 3 * (HEIGHT / 8) * (WIDTH / 8)) /* room for the largest */

struct opened {
    struct device *device;
    struct model *model;
    float rows[5 * 24];
};

static void open_model(struct opened *o, const char *kind, size_t memory) {
    char folder[128];
    struct error error = {0};
    const struct device_config config = {.threads = 2};
    const struct model_options options = {.stages = -1, .dtype = DTYPE_F32, .memory = memory};
    (void)snprintf(folder, sizeof folder, GOLDEN "%s", kind);
    random_normal(o->rows, 5 * 24, 1, 2, 0);
    ok(ops_cpu()->device_open(&o->device, &config, &error), &error);
    ok(model_open(&o->model, ops_cpu(), o->device, folder, &options, &error), &error);
}

static void close_model(struct opened *o) {
    model_close(&o->model);
    ops_cpu()->device_close(&o->device);
}

static struct denoise_request request_of(const struct opened *o, int frames) {
    const struct model_text text = {o->rows, 5}, none = {o->rows, 1};
    return (struct denoise_request){.size = {WIDTH, HEIGHT, frames},
                                    .positive = text,
                                    .negative = none,
                                    .sampler = SAMPLER_UNIPC,
                                    .steps = 4,
                                    .guidance = 3,
                                    .shift = 5,
                                    .seed = 1,
                                    .stream = 2};
}

static const uint8_t *pictures(void) {
    static uint8_t rgb[5 * FRAME];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)random_below(256, 3, 4, i / 7);
    return rgb;
}

/* A window of this source is refused, with this word in the sentence. */
static void refuses(const struct opened *o, const struct window_source *source,
                    enum error_code expected, const char *word) {
    static float latents[LATENT];
    struct error error = {0};
    const struct denoise_request request = request_of(o, FRAMES);
    enum error_code code = model_window(o->model, latents, source, &request, &error);
    if (code != expected || strstr(error.detail, word) == NULL)
        fail_msg("%s: %s", error_name(code), error.detail);
}

static void makes(const struct opened *o, const struct window_source *source) {
    static float latents[LATENT];
    struct error error = {0};
    const struct denoise_request request = request_of(o, FRAMES);
    ok(model_window(o->model, latents, source, &request, &error), &error);
}

static void each_by_its_kind(void **state) {
    const uint8_t *rgb = pictures();
    const struct window_source text = {WINDOW_RULE_MODEL, NULL, 0, NULL};
    const struct window_source one = {WINDOW_RULE_LAST_FRAME, rgb, 1, NULL};
    const struct window_source several = {WINDOW_RULE_OVERLAP, rgb, 5, NULL};
    const struct window_source prefix = {WINDOW_RULE_PREFIX, rgb, 5, NULL};
    const struct window_source both = {WINDOW_RULE_MODEL, rgb, 1, rgb + FRAME};
    struct opened o;
    open_model(&o, "t2v", 0);
    makes(&o, &text);
    refuses(&o, &one, ERR_UNSUPPORTED, "from text alone");
    close_model(&o);
    open_model(&o, "i2v", 0);
    makes(&o, &one);
    makes(&o, &several);
    refuses(&o, &text, ERR_UNSUPPORTED, "this model cannot");
    refuses(&o, &prefix, ERR_UNSUPPORTED, "prefix latents");
    refuses(&o, &both, ERR_UNSUPPORTED, "end a window");
    refuses(&o, &(struct window_source){WINDOW_RULE_LAST_FRAME, rgb, 5, NULL}, ERR_SHAPE,
            "a last frame");
    close_model(&o);
    open_model(&o, "flf2v", 0);
    makes(&o, &both);
    refuses(&o, &one, ERR_UNSUPPORTED, "between two frames");
    refuses(&o, &several, ERR_UNSUPPORTED, "overlapping");
    close_model(&o);
    open_model(&o, "i2v-a14b", 0);
    makes(&o, &both);
    makes(&o, &several);
    close_model(&o);
}

/* The first latents are those of the tail, whatever the steps made of the others. */
static void prefix_is_kept(void **state) {
    static float latents[LATENT];
    enum { CHANNELS = 48, GIVEN = 2, PLANE = (HEIGHT / 16) * (WIDTH / 16) };
    const uint8_t *rgb = pictures();
    struct opened o;
    struct bench bench;
    struct error error = {0};
    open_model(&o, "ti2v", 0);
    const struct denoise_request request = request_of(&o, FRAMES);
    const struct window_source source = {WINDOW_RULE_PREFIX, rgb, 5, NULL};
    ok(model_window(o.model, latents, &source, &request, &error), &error);
    refuses(&o, &(struct window_source){WINDOW_RULE_OVERLAP, rgb, 5, NULL}, ERR_UNSUPPORTED,
            "overlapping");
    close_model(&o);
    bench_open(&bench, GOLDEN "ti2v", DTYPE_F32);
    float *pixels = work_floats(&bench.runtime, 5 * FRAME);
    float *given = work_floats(&bench.runtime, CHANNELS * GIVEN * PLANE);
    bench.runtime.ops->from_pixels(bench.runtime.device, pixels, rgb, 5 * FRAME, DTYPE_F32);
    vae_encode(bench.parts.vae, &bench.runtime, given, pixels, 5, GIVEN, HEIGHT / 16, WIDTH / 16,
               0);
    for (int c = 0; c < CHANNELS; c++)
        assert_memory_equal(latents + (size_t)c * 3 * PLANE, given + (size_t)c * GIVEN * PLANE,
                            (size_t)GIVEN * PLANE * sizeof *given);
    bench_close(&bench);
}

/* Two experts one at a time give what they give together, request after request. */
static void one_expert_at_a_time(void **state) {
    static float together[LATENT], alone[LATENT];
    struct opened o;
    struct model_cost cost;
    struct error error = {0};
    const struct window_source text = {.tail_frames = 0};
    const struct model_size size = {WIDTH, HEIGHT, FRAMES};
    ok(model_plan(&cost, GOLDEN "t2v-a14b", STAGE_WINDOW, &size,
                  &(struct model_options){.dtype = DTYPE_F32}, &error),
       &error);
    assert_true(cost.weight_bytes_least < cost.weight_bytes);
    open_model(&o, "t2v-a14b", cost.weight_bytes + cost.work_bytes);
    struct denoise_request request = request_of(&o, FRAMES);
    request.guidance_low = 2;
    ok(model_window(o.model, together, &text, &request, &error), &error);
    size_t held = ops_cpu()->weight_bytes(o.device), work = model_work_peak(o.model);
    close_model(&o);
    open_model(&o, "t2v-a14b", cost.weight_bytes_least + work);
    for (int i = 0; i < 2; i++) {
        ok(model_window(o.model, alone, &text, &request, &error), &error);
        assert_memory_equal(alone, together, sizeof alone);
        assert_true(ops_cpu()->weight_bytes(o.device) <= held / 2 + 1);
    }
    close_model(&o);
    const struct device_config config = {.threads = 1};
    const struct model_options options = {
        .stages = -1, .dtype = DTYPE_F32, .memory = cost.weight_bytes_least / 2};
    ok(ops_cpu()->device_open(&o.device, &config, &error), &error);
    assert_int_equal(model_open(&o.model, ops_cpu(), o.device, GOLDEN "t2v-a14b", &options, &error),
                     ERR_MEMORY);
    assert_non_null(strstr(error.detail, "one expert at a time"));
    close_model(&o);
}

/* Keys and values that are made anew in every pass are those that a short video keeps. */
static void kept_or_made(void **state) {
    enum { COUNT = 16 * 3 * 6 * 10 };
    struct bench bench;
    struct error error = {0};
    struct transformer_grid grid;
    struct transformer_context text;
    static float latents[COUNT], rows[40 * 24];
    random_normal(latents, COUNT, 1, 1, 0);
    random_normal(rows, 40 * 24, 1, 2, 0);
    bench_open(&bench, GOLDEN "t2v", DTYPE_BF16);
    struct runtime *runtime = &bench.runtime;
    const struct transformer *transformer = bench.parts.window->expert[0].transformer;
    float *a = work_floats(runtime, COUNT), *b = work_floats(runtime, COUNT);
    ok(transformer_grid_open(&grid, transformer, runtime, 3, 6, 10, &error), &error);
    transformer_text_open(&text, transformer, runtime, &grid, rows, 40, 512);
    assert_non_null(text.kv);
    const struct transformer_input input = {
        .latents = latents, .grid = &grid, .text = &text, .time = {.value = {500}, .count = 1}};
    transformer_forward(transformer, runtime, a, &input);
    text.kv = NULL;
    transformer_forward(transformer, runtime, b, &input);
    assert_memory_equal(a, b, COUNT * sizeof *a);
    bench_close(&bench);
}

static void step_lists_are_lists(void **state) {
    for (const struct step_list *list = step_lists(); list->name != NULL; list++) {
        assert_ptr_equal(step_list_find(list->name), list);
        assert_true(list->sigmas[list->steps] == 0 && list->sigmas[0] <= 1);
        for (int i = 0; i < list->steps; i++)
            assert_true(list->sigmas[i] > list->sigmas[i + 1]);
    }
    assert_null(step_list_find("none"));
    static float latents[LATENT];
    struct opened o;
    struct error error = {0};
    open_model(&o, "t2v", 0);
    struct denoise_request request = request_of(&o, 1);
    const float wrong[] = {1, 0.5f, 0.6f, 0.2f, 0};
    request.sigmas = wrong;
    assert_int_equal(model_keyframe(o.model, latents, &request, &error), ERR_FORMAT);
    close_model(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_by_its_kind),     cmocka_unit_test(prefix_is_kept),
        cmocka_unit_test(one_expert_at_a_time), cmocka_unit_test(kept_or_made),
        cmocka_unit_test(step_lists_are_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
