/* Every published checkpoint by its names and shapes alone: files of the right size with holes in
 * place of weights are recognised, counted and planned, with the arithmetic that the architecture
 * implies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/worker/model/published_folder.h"

#define TEXT_PARAMETERS INT64_C(5680910336)
#define VAE21           126892531
#define VAE22           704688668

/* -- tests ----------------------------------------------------------------------------------- */

static void is_recognised(const struct published *p, const char *folder) {
    struct model_info info;
    struct error error = {0};
    ok(model_read_info(&info, folder, &error), &error);
    int64_t vae = p->in == 48 ? VAE22 : VAE21;
    /* all layers of CLIP but the last, as they are used */
    int64_t clip = p->clip == NO_CLIP ? 0 : 31 * INT64_C(19677440) + 1280 * (588 + 1 + 257 + 2);
    assert_string_equal(info.family, p->family);
    assert_int_equal(info.parameters, p->parameters + TEXT_PARAMETERS + vae + clip);
    assert_int_equal(info.stages, p->stages);
    assert_int_equal(info.experts, p->experts);
    assert_int_equal(info.window_rules & ~1u, p->rules);
    assert_int_equal(info.window_end, p->end);
    assert_int_equal(info.window_from_text, p->from_text);
    assert_int_equal(info.text_length, 512);
    assert_int_equal(info.size_multiple, p->in == 48 ? 32 : 16);
    assert_int_equal(info.latent_channels, p->out);
    assert_int_equal(info.sampler, SAMPLER_UNIPC);
    assert_int_equal(info.steps, p->steps);
    assert_false(info.window_fixed);
    assert_int_equal(info.width, p->video_width);
    assert_int_equal(info.height, p->video_height);
}

static struct model_cost plan(const char *folder, enum model_stage stage, int frames) {
    struct model_cost cost;
    struct error error = {0};
    const struct model_size size = {832, 480, frames};
    ok(model_plan(&cost, folder, stage, &size, &(struct model_options){.dtype = DTYPE_BF16},
                  &error),
       &error);
    return cost;
}

/* TFLOP of one pass and of the whole VAE at 832x480 and 81 frames: wan.md, section 7 (less 1 % for
 * the zeros before the VAE's first frame), and for the image branch what its keys and values are
 * made of. */
static void costs_what_it_should(const struct published *p, const char *folder) {
    struct model_cost window = plan(folder, STAGE_WINDOW, 81), decode = plan(folder, STAGE_VAE, 81);
    assert_float_equal(plan(folder, STAGE_TEXT, 1).flops / 1e12, 4.8, 0.05);
    print_message("%-10s window of 81 frames: %.2f GB of work, %.2f of weights (%.2f at least), "
                  "%.0f TFLOP a pass; decode: %.2f GB of work\n",
                  p->name, (double)window.work_bytes / 1e9, (double)window.weight_bytes / 1e9,
                  (double)window.weight_bytes_least / 1e9, window.flops_forward / 1e12,
                  (double)decode.work_bytes / 1e9);
    double pass = p->width == 1536 ? 283 : p->width == 3072 ? 98 : p->clip != NO_CLIP ? 1690 : 1678;
    assert_float_equal(window.flops_forward / 1e12, pass, 0.01 * pass);
    assert_float_equal(decode.flops / 1e12, p->in == 48 ? 597 : 275, p->in == 48 ? 12 : 3);
    assert_int_equal(plan(folder, STAGE_VAE, 241).work_bytes, decode.work_bytes);
    /* Stream, its copy for products, and q, k, v: 12 bytes an element; the rest is little. What is
     * encoded before takes what the VAE does, and is given back. */
    double tokens = p->in == 48 ? 8190 : 32760, stream = 12 * tokens * p->width;
    assert_true((double)window.work_bytes < (p->from_text && p->in != 48 ? 1.2 * stream : 3e9));
    assert_true((double)window.weight_bytes_least <
                1.25 * 2 * (double)p->parameters / p->experts + 2e9);
}

static void every_model(void **state) {
    for (const struct published *p = published_models; p->name != NULL; p++) {
        char folder[] = "/tmp/vidloom-test-XXXXXX";
        struct error error = {0};
        assert_non_null(mkdtemp(folder));
        published_make(folder, p);
        is_recognised(p, folder);
        costs_what_it_should(p, folder);
        ok(file_remove_tree(folder, &error), &error);
    }
}

/* Times by token belong to Wan2.2's VAE. */
static void prefix_of_another_vae(void **state) {
    struct published t2v = published_models[0];
    char folder[] = "/tmp/vidloom-test-XXXXXX";
    struct model_info info;
    struct error error = {0};
    t2v.index = "{\"_class_name\": \"WanPipeline\", \"expand_timesteps\": true}";
    assert_non_null(mkdtemp(folder));
    published_make(folder, &t2v);
    assert_int_equal(model_read_info(&info, folder, &error), ERR_UNSUPPORTED);
    assert_non_null(strstr(error.detail, "'expand_timesteps'"));
    ok(file_remove_tree(folder, &error), &error);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_model),
                                       cmocka_unit_test(prefix_of_another_vae)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
