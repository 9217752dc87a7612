/* Names, and what is refused before anything is encoded. */
#include "support.h"

#include "worker/media/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct media_spec spec(enum media_codec codec) {
    return (struct media_spec){.codec = codec,
                               .width = 192,
                               .height = 192,
                               .fps_numerator = 16,
                               .fps_denominator = 1,
                               .quality = -1};
}

static void test_codec_names(void **state) {
    for (int i = 0; i < CODEC_COUNT; i++) {
        enum media_codec codec = CODEC_COUNT;
        assert_true(media_codec_from_name(&codec, media_codec_name((enum media_codec)i)));
        assert_int_equal(codec, i);
    }
    enum media_codec codec = CODEC_COUNT;
    assert_false(media_codec_from_name(&codec, "h265"));
    assert_false(media_codec_from_name(&codec, ""));
    assert_int_equal(codec, CODEC_COUNT);
    assert_string_equal(media_codec_name((enum media_codec)99), "unknown");
}

static void test_container_names(void **state) {
    enum media_container container = CONTAINER_COUNT;
    for (int i = 0; i < CONTAINER_COUNT; i++) {
        const char *name = media_container_name((enum media_container)i);
        assert_true(media_container_from_name(&container, name));
        assert_int_equal(container, i);
    }
    assert_false(media_container_from_name(&container, "avi"));
    assert_false(media_container_from_name(&container, ".mp4"));
}

static void test_pairs(void **state) {
    static const unsigned fits[CODEC_COUNT] = {
        [CODEC_H264] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_MOV,
        [CODEC_HEVC] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_MOV,
        [CODEC_AV1] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_WEBM,
        [CODEC_VP9] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_WEBM,
        [CODEC_FFV1] = 1 << CONTAINER_MKV,
        [CODEC_PRORES] = 1 << CONTAINER_MKV | 1 << CONTAINER_MOV,
        [CODEC_PNG] = 1 << CONTAINER_FOLDER,
        [CODEC_H264_NVENC] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_MOV,
        [CODEC_HEVC_NVENC] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_MOV,
        [CODEC_AV1_NVENC] = 1 << CONTAINER_MP4 | 1 << CONTAINER_MKV | 1 << CONTAINER_WEBM,
    };
    for (int codec = 0; codec < CODEC_COUNT; codec++)
        for (int container = 0; container < CONTAINER_COUNT; container++) {
            struct error error = {0};
            struct media_spec s = spec((enum media_codec)codec);
            enum error_code code = media_check(&s, (enum media_container)container, &error);
            /* Not every FFmpeg has the encoders of cards. */
            if (code == ERR_UNSUPPORTED && media_codec_on_gpu((enum media_codec)codec))
                assert_error(code, ERR_UNSUPPORTED, &error, "has no encoder");
            else if (fits[codec] & (1u << container))
                assert_ok(code, &error);
            else
                assert_error(code, ERR_USAGE, &error, media_codec_name((enum media_codec)codec));
        }
    struct error error = {0};
    struct media_spec s = spec(CODEC_H264);
    assert_error(media_check(&s, CONTAINER_WEBM, &error), ERR_USAGE, &error,
                 ".mp4, .mkv or .mov, or one of the codecs that .webm takes: av1, vp9, av1_nvenc");
    assert_error(media_check(&s, CONTAINER_FOLDER, &error), ERR_USAGE, &error, "only png does");
    s.codec = CODEC_PNG;
    assert_error(media_check(&s, CONTAINER_MP4, &error), ERR_USAGE, &error,
                 "a path without an extension");
}

static void test_refusals(void **state) {
    static const struct {
        struct media_spec spec;
        enum error_code code;
        const char *part;
    } cases[] = {
        {{CODEC_H264, 51, 35, 16, 1, -1, 0}, ERR_SHAPE, "50x34"},
        {{CODEC_H264, 0, 96, 16, 1, -1, 0}, ERR_SHAPE, "0x96"},
        {{CODEC_H264, -160, 96, 16, 1, -1, 0}, ERR_SHAPE, "-160x96"},
        {{CODEC_H264, 14, 96, 16, 1, -1, 0}, ERR_SHAPE, "from 16"},
        {{CODEC_H264, 160, 1 << 30, 16, 1, -1, 0}, ERR_SHAPE, "16384"},
        {{CODEC_H264, 160, 96, 0, 1, -1, 0}, ERR_USAGE, "from 1 to 240"},
        {{CODEC_H264, 160, 96, 16, 0, -1, 0}, ERR_USAGE, "from 1 to 240"},
        {{CODEC_H264, 160, 96, 241, 1, -1, 0}, ERR_USAGE, "from 1 to 240"},
        {{CODEC_H264, 160, 96, 1, 2, -1, 0}, ERR_USAGE, "from 1 to 240"},
        {{CODEC_H264, 160, 96, 16, 1, 52, 0}, ERR_USAGE, "ends at 51"},
        {{CODEC_H264, 160, 96, 16, 1, 64, 0}, ERR_USAGE, "0 (best)"},
        {{CODEC_H264, 160, 96, 16, 1, -2, 0}, ERR_USAGE, "0 (best)"},
        {{CODEC_H264_NVENC, 96, 160, 16, 1, -1, 0}, ERR_SHAPE, "from 160"},
        {{CODEC_HEVC_NVENC, 160, 161, 16, 1, -1, 0}, ERR_SHAPE, "160x160"},
        {{CODEC_AV1_NVENC, 192, 192, 16, 1, 64, 0}, ERR_USAGE, "0 (best)"},
        {{(enum media_codec)77, 160, 96, 16, 1, -1, 0}, ERR_INTERNAL, "77"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        assert_error(media_check(&cases[i].spec, CONTAINER_MP4, &error), cases[i].code, &error,
                     cases[i].part);
    }
    struct error error = {0};
    struct media_spec s = spec(CODEC_FFV1);
    s.width = 51;
    s.height = 35;
    assert_ok(media_check(&s, CONTAINER_MKV, &error), &error);
}

/* Where there is a card its segments are right; where there is none, that is what is said. */
static void test_cards(void **state) {
    static const enum media_codec codecs[] = {CODEC_H264_NVENC, CODEC_HEVC_NVENC, CODEC_AV1_NVENC};
    char path[] = "/tmp/vidloom-nvenc-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    uint8_t *rgb = calloc(192 * 192, 3);
    assert_non_null(rgb);
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        struct error error = {0};
        struct segment_writer *writer = NULL;
        struct media_spec s = spec(codecs[i]);
        enum error_code code = segment_open(&writer, path, &s, &error);
        if (code != ERR_OK) {
            assert_int_equal(code, ERR_UNSUPPORTED);
            assert_true(strstr(error.detail, "no NVIDIA card and driver") != NULL ||
                        strstr(error.detail, "has no encoder") != NULL);
            print_message("%s: %s\n", media_codec_name(codecs[i]), error.detail);
            continue;
        }
        for (int frame = 0; frame < 20; frame++) {
            memset(rgb, 10 * frame, 192 * 192 * 3);
            assert_ok(segment_add(writer, rgb, &error), &error);
        }
        assert_ok(segment_finish(&writer, &error), &error);
        const char *segments[] = {path, path};
        char joined[64];
        snprintf(joined, sizeof joined, "%s.mp4", path);
        assert_ok(media_join(joined, CONTAINER_MP4, &s, segments, 2, NULL, 0, &error), &error);
        struct media_info info;
        assert_ok(media_read_info(&info, joined, &error), &error);
        assert_int_equal(info.frames, 40);
        media_info_close(&info);
        unlink(joined);
    }
    free(rgb);
    unlink(path);
}

/* What cards encode has the colours of what the others do. */
static void test_card_colours(void **state) {
    enum { W = 64, H = 48 };
    static uint8_t rgb[H * W * 3], card[H * W * 3 / 2], others[H * W * 3 / 2];
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)(i % 7 == 0 ? i * 31 : i % 3 * 80 + i / 3 % W);
    const struct nv12_args args = {{card, card + H * W, W, W}, rgb, H, W};
    nv12_rows(&args, 0, H / 2);
    struct SwsContext *scaler = sws_getContext(W, H, AV_PIX_FMT_RGB24, W, H, AV_PIX_FMT_YUV420P,
                                               MEDIA_SCALE_FLAGS, NULL, NULL, NULL);
    assert_non_null(scaler);
    const int *matrix = sws_getCoefficients(SWS_CS_ITU709);
    assert_true(sws_setColorspaceDetails(scaler, matrix, 1, matrix, 0, 0, 1 << 16, 1 << 16) >= 0);
    uint8_t *const planes[] = {others, others + H * W, others + H * W * 5 / 4, NULL};
    assert_int_equal(sws_scale(scaler, (const uint8_t *const[]){rgb, NULL, NULL, NULL},
                               (const int[]){W * 3, 0, 0, 0}, 0, H, planes,
                               (const int[]){W, W / 2, W / 2, 0}),
                     H);
    sws_freeContext(scaler);
    for (int i = 0; i < W * H; i++)
        assert_in_range(card[i] - others[i] + 1, 0, 2);
    for (int i = 0; i < W * H / 4; i++)
        for (int c = 0; c < 2; c++)
            assert_in_range(card[H * W + 2 * i + c] - planes[1 + c][i] + 1, 0, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codec_names), cmocka_unit_test(test_container_names),
        cmocka_unit_test(test_pairs),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cards),       cmocka_unit_test(test_card_colours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
