/* What the job reader takes, the encoder takes: the two say the same about every codec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "worker/media/media.h"

/* A model that can make anything. */
static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    (void)user, (void)spec, (void)error;
    *out = (struct model_facts){
        .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME | MODEL_CAN_WINDOW | MODEL_CAN_VAE,
        .size_multiple = 1,
        .size_min = 1,
        .size_max = LIMIT_SIDE,
        .width = 160,
        .height = 96,
        .fps = 16,
        .window_frames = 17,
        .overlaps = {1},
        .overlap_count = 1,
        .steps = 1,
        .guidance = 1,
        .shift = 1,
    };
    return ERR_OK;
}

struct asked {
    enum job_codec codec;
    enum job_container container;
    int width, height, numerator, denominator, quality;
};

static bool reader_takes(const struct asked *asked, struct error *error) {
    const struct job_resolver resolver = {.read_model = read_model};
    char yaml[512], quality[32] = "";
    struct job *job = NULL;
    bool folder = asked->container == JOB_CONTAINER_FOLDER;
    if (asked->quality >= 0)
        snprintf(quality, sizeof quality, ", quality: %d", asked->quality);
    snprintf(yaml, sizeof yaml,
             "model: any\nvideos:\n  - {prompt: a, frames: 1, output: {path: out/x%s%s, codec: %s, "
             "size: %dx%d, fps: %d/%d%s}}\n",
             folder ? "" : ".", folder ? "" : job_container_name(asked->container),
             job_codec_name(asked->codec), asked->width, asked->height, asked->numerator,
             asked->denominator, quality);
    bool taken = job_parse(&job, "job.yaml", yaml, strlen(yaml), &resolver, error) == ERR_OK;
    job_close(&job);
    return taken;
}

static bool encoder_takes(const struct asked *asked, struct error *error) {
    struct media_spec spec = {.width = asked->width,
                              .height = asked->height,
                              .fps_numerator = asked->numerator,
                              .fps_denominator = asked->denominator,
                              .quality = asked->quality};
    enum media_container container;
    assert_true(media_codec_from_name(&spec.codec, job_codec_name(asked->codec)));
    assert_true(media_container_from_name(&container, job_container_name(asked->container)));
    enum error_code code = media_check(&spec, container, error);
    return code == ERR_OK || code == ERR_UNSUPPORTED; /* an FFmpeg without the encoder */
}

static void compare(const struct asked *asked) {
    struct error reader = {0}, encoder = {0};
    if (reader_takes(asked, &reader) != encoder_takes(asked, &encoder))
        fail_msg("%s in %s, %dx%d, %d/%d fps, quality %d: the reader: '%s', the encoder: '%s'",
                 job_codec_name(asked->codec), job_container_name(asked->container), asked->width,
                 asked->height, asked->numerator, asked->denominator, asked->quality, reader.detail,
                 encoder.detail);
}

static void test_reader_and_encoder_agree(void **state) {
    static const int sizes[][2] = {{160, 96}, {8, 96},  {16, 16}, {15, 96},     {17, 17},
                                   {64, 64},  {62, 64}, {64, 63}, {8192, 8192}, {160, 8}};
    static const int rates[][2] = {{16, 1},   {1, 2},        {1, 7},
                                   {1, 1000}, {1, 1},        {240, 1},
                                   {241, 1},  {30000, 1001}, {1000000, 999999},
                                   {25, 2},   {20001, 10000}};
    static const int qualities[] = {-1, 0, 51, 52, 63};
    (void)state;
    for (int codec = 0; codec < JOB_CODEC_COUNT; codec++) {
        int home = -1; /* a container for the codec */
        struct asked asked = {(enum job_codec)codec, JOB_CONTAINER_MKV, 192, 192, 16, 1, -1};
        for (int i = 0; i < JOB_CONTAINER_COUNT; i++) {
            struct error error;
            asked.container = (enum job_container)i;
            compare(&asked);
            home = encoder_takes(&asked, &error) ? i : home;
        }
        assert_true(home >= 0);
        const struct asked usual = {
            (enum job_codec)codec, (enum job_container)home, 192, 192, 16, 1, -1};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            asked = usual;
            asked.width = sizes[i][0];
            asked.height = sizes[i][1];
            compare(&asked);
        }
        for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
            asked = usual;
            asked.numerator = rates[i][0];
            asked.denominator = rates[i][1];
            compare(&asked);
        }
        for (size_t i = 0; i < sizeof qualities / sizeof *qualities; i++) {
            asked = usual;
            asked.quality = qualities[i];
            compare(&asked);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reader_and_encoder_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
