/* Pictures from outside: every kind that is read, and everything that only looks like one. */
#include "support.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/worker/media/png.h"

#define WIDTH  160
#define HEIGHT 96

/* The pattern as a file of another kind, by FFmpeg's encoders. `alpha` is put into every pixel that
 * has room for it. */
static void encode(const char *path, const char *encoder, enum AVPixelFormat format, int width,
                   int height, int alpha) {
    const AVCodec *codec = avcodec_find_encoder_by_name(encoder);
    if (!codec)
        skip();
    AVCodecContext *context = avcodec_alloc_context3(codec);
    context->width = width;
    context->height = height;
    context->pix_fmt = format;
    context->time_base = (AVRational){1, 25};
    context->color_range = !strcmp(encoder, "mjpeg") ? AVCOL_RANGE_JPEG : AVCOL_RANGE_UNSPECIFIED;
    context->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
    context->flags |= AV_CODEC_FLAG_QSCALE;
    context->global_quality = !strcmp(encoder, "mjpeg") ? 2 * FF_QP2LAMBDA : 95 * FF_QP2LAMBDA;
    assert_int_equal(avcodec_open2(context, codec, NULL), 0);
    AVFrame *rgba = av_frame_alloc(), *frame = av_frame_alloc();
    rgba->format = AV_PIX_FMT_RGBA;
    frame->format = format;
    rgba->width = frame->width = width;
    rgba->height = frame->height = height;
    assert_int_equal(av_frame_get_buffer(rgba, 0), 0);
    assert_int_equal(av_frame_get_buffer(frame, 0), 0);
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    pattern_draw(rgb, width, height, 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *pixel = rgba->data[0] + y * rgba->linesize[0] + 4 * x;
            memcpy(pixel, rgb + ((size_t)y * (size_t)width + (size_t)x) * 3, 3);
            pixel[3] = (uint8_t)alpha;
        }
    free(rgb);
    struct SwsContext *scaler =
        sws_getContext(width, height, AV_PIX_FMT_RGBA, width, height, format,
                       SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
    assert_non_null(scaler);
    sws_scale(scaler, (const uint8_t *const *)rgba->data, rgba->linesize, 0, height, frame->data,
              frame->linesize);
    sws_freeContext(scaler);
    frame->quality = context->global_quality;
    AVPacket *packet = av_packet_alloc();
    frame->pts = 0;
    assert_int_equal(avcodec_send_frame(context, frame), 0);
    if (avcodec_receive_packet(context, packet)) {
        assert_int_equal(avcodec_send_frame(context, NULL), 0);
        assert_int_equal(avcodec_receive_packet(context, packet), 0);
    }
    write_bytes(path, packet->data, (size_t)packet->size);
    av_packet_free(&packet);
    av_frame_free(&frame);
    av_frame_free(&rgba);
    avcodec_free_context(&context);
}

/* Against the pattern with every sample times `factor`, dB. */
static double psnr(const uint8_t *rgb, int width, int height, double factor) {
    size_t count = (size_t)width * (size_t)height * 3;
    uint8_t *pattern = malloc(count);
    pattern_draw(pattern, width, height, 0);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += pow(rgb[i] - pattern[i] * factor, 2);
    free(pattern);
    return sum ? fmin(99, 10 * log10(255 * 255 / (sum / (double)count))) : 99;
}

static void test_formats(void **state) {
    static const struct {
        const char *name, *encoder;
        enum AVPixelFormat format;
        int alpha;
        double psnr_min;
    } cases[] = {
        {"rgb24.png", "png", AV_PIX_FMT_RGB24, 255, 99},
        {"rgba.png", "png", AV_PIX_FMT_RGBA, 255, 99},
        {"half.png", "png", AV_PIX_FMT_RGBA, 128, 50},
        {"clear.png", "png", AV_PIX_FMT_RGBA, 0, 99},
        {"rgb48.png", "png", AV_PIX_FMT_RGB48BE, 255, 50},
        {"rgba64.png", "png", AV_PIX_FMT_RGBA64BE, 255, 50},
        {"gray-named.jpg", "png", AV_PIX_FMT_RGB24, 255, 99}, /* the name does not count */
        {"yuv420.jpg", "mjpeg", AV_PIX_FMT_YUVJ420P, 255, 36},
        {"yuv422.jpeg", "mjpeg", AV_PIX_FMT_YUVJ422P, 255, 36},
        {"yuv444.jpg", "mjpeg", AV_PIX_FMT_YUVJ444P, 255, 38},
        {"lossy.webp", "libwebp", AV_PIX_FMT_YUV420P, 255, 34},
        {"lossy-alpha.webp", "libwebp", AV_PIX_FMT_YUVA420P, 128, 36},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        uint8_t *rgb;
        const char *path = scratch_path(state, cases[i].name);
        encode(path, cases[i].encoder, cases[i].format, WIDTH, HEIGHT, cases[i].alpha);
        assert_ok(media_read_image(&rgb, path, WIDTH, HEIGHT, &error), &error);
        double got = psnr(rgb, WIDTH, HEIGHT, cases[i].alpha / 255.0);
        print_message("%s: %.2f dB\n", cases[i].name, got);
        if (got < cases[i].psnr_min)
            fail_msg("%s: %.2f dB, expected %.0f", cases[i].name, got, cases[i].psnr_min);
        free(rgb);
    }
}

/* Grey pictures come out grey, on the full scale. */
static void test_grey(void **state) {
    static const enum AVPixelFormat formats[] = {AV_PIX_FMT_GRAY8, AV_PIX_FMT_GRAY16BE,
                                                 AV_PIX_FMT_YA8, AV_PIX_FMT_MONOBLACK};
    for (int i = 0; i < 4; i++) {
        struct error error = {0};
        uint8_t *rgb;
        const char *path = scratch_path(state, "grey.png");
        encode(path, "png", formats[i], WIDTH, HEIGHT, 255);
        assert_ok(media_read_image(&rgb, path, WIDTH, HEIGHT, &error), &error);
        int least = 255, most = 0;
        for (size_t k = 0; k < (size_t)WIDTH * HEIGHT; k++) {
            assert_true(abs(rgb[3 * k] - rgb[3 * k + 1]) <= 1 &&
                        abs(rgb[3 * k] - rgb[3 * k + 2]) <= 1);
            least = rgb[3 * k] < least ? rgb[3 * k] : least;
            most = rgb[3 * k] > most ? rgb[3 * k] : most;
        }
        assert_true(most - least > 25);
        if (formats[i] == AV_PIX_FMT_MONOBLACK)
            assert_true(least == 0 && most == 255);
        free(rgb);
    }
}

static void test_write_and_read(void **state) {
    static const int sizes[][2] = {{160, 96}, {1, 1}, {51, 35}, {33, 7}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct error error = {0};
        int width = sizes[i][0], height = sizes[i][1];
        size_t count = (size_t)width * (size_t)height * 3, length;
        uint8_t *rgb = malloc(count), *back;
        for (size_t k = 0; k < count; k++)
            rgb[k] = (uint8_t)random_below(256, 7, i, k);
        const char *path = scratch_path(state, "w.png"), *again = scratch_path(state, "w2.png");
        write_png(path, rgb, width, height);
        write_png(again, rgb, width, height);
        assert_same_bytes(path, again);
        assert_ok(media_read_image(&back, path, width, height, &error), &error);
        assert_memory_equal(rgb, back, count);
        free(back);
        free(rgb);
        free(read_bytes(path, &length));
    }
    struct error error = {0};
    uint8_t *none;
    assert_error(media_read_image(&none, scratch_path(state, "w.png"), 0, 5, &error), ERR_SHAPE,
                 &error, "0x5");
}

/* Covered and cropped in the middle: the disc of the pattern is the judge. */
static void test_scale_and_crop(void **state) {
    struct error error = {0};
    uint8_t *rgb;
    const char *path = scratch_path(state, "scale.png");
    encode(path, "png", AV_PIX_FMT_RGB24, 640, 384, 255);
    assert_ok(media_read_image(&rgb, path, WIDTH, HEIGHT, &error), &error);
    assert_true(psnr(rgb, WIDTH, HEIGHT, 1) > 27); /* the disc's edge is drawn in pixels */
    free(rgb);
    /* Thirds of red, green, blue: the middle square is green, the whole width shows all. */
    uint8_t stripes[90 * 30 * 3] = {0};
    for (int i = 0; i < 90 * 30; i++)
        stripes[i * 3 + i % 90 / 30] = 255;
    write_png(path, stripes, 90, 30);
    assert_ok(media_read_image(&rgb, path, 64, 64, &error), &error);
    for (int i = 0; i < 64 * 64; i++)
        if (i % 64 > 4 && i % 64 < 59)
            assert_true(rgb[3 * i] < 8 && rgb[3 * i + 1] > 247 && rgb[3 * i + 2] < 8);
    free(rgb);
    assert_ok(media_read_image(&rgb, path, 180, 60, &error), &error);
    assert_true(rgb[3 * (180 * 30 + 10)] > 247);
    assert_true(rgb[3 * (180 * 30 + 90) + 1] > 247);
    assert_true(rgb[3 * (180 * 30 + 170) + 2] > 247);
    free(rgb);
    /* Extreme shapes, both ways. */
    static const int shapes[][4] = {{1, 1, 64, 64},     {1000, 1, 64, 64}, {1, 1000, 64, 64},
                                    {70000, 2, 48, 32}, {3, 2, 832, 480},  {2000, 1500, 16, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t count = (size_t)shapes[i][0] * (size_t)shapes[i][1] * 3;
        uint8_t *grey = malloc(count);
        memset(grey, 99, count);
        write_png(path, grey, shapes[i][0], shapes[i][1]);
        free(grey);
        assert_ok(media_read_image(&rgb, path, shapes[i][2], shapes[i][3], &error), &error);
        for (int k = 0; k < shapes[i][2] * shapes[i][3] * 3; k++)
            assert_true(rgb[k] >= 98 && rgb[k] <= 100);
        free(rgb);
    }
}

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* CRC-32 as PNG has it. */
static uint32_t crc(const uint8_t *bytes, size_t length) {
    uint32_t c = 0xffffffff;
    for (size_t i = 0; i < length; i++) {
        c ^= bytes[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void refuse(const char *path, enum error_code expected, const char *part) {
    struct error error = {0};
    uint8_t *rgb = (uint8_t *)1;
    assert_error(media_read_image(&rgb, path, 64, 64, &error), expected, &error, part);
    assert_null(rgb);
    assert_non_null(strstr(error.detail, path));
}

static void refuse_text(void **state, const char *name, const char *text, const char *part) {
    const char *path = scratch_path(state, name);
    write_bytes(path, text, strlen(text));
    refuse(path, ERR_FORMAT, part);
}

static void test_not_pictures(void **state) {
    refuse(scratch_path(state, "missing.png"), ERR_MISSING, "No such file");
    refuse(*state, ERR_USAGE, "is a folder");
    refuse("/dev/zero", ERR_USAGE, "is a device");
    const char *pipe_path = scratch_path(state, "pipe.png");
    assert_int_equal(mkfifo(pipe_path, 0666), 0);
    refuse(pipe_path, ERR_USAGE, "pipe");
    refuse_text(state, "empty.png", "", "is empty");
    refuse_text(state, "text.png", "a red balloon\n", "is text");
    refuse_text(state, "list.jpg", "#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n",
                "is a playlist");
    refuse_text(state, "draw.png", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "is an SVG");
    refuse_text(state, "draw2.png", "<?xml version=\"1.0\"?>\n<!-- x -->\n<svg/>", "is an SVG");
    refuse_text(state, "a.png", "GIF89a............", "is a GIF");
    refuse_text(state, "b.png", "%PDF-1.4", "is a PDF");
    refuse_text(state, "c.png", "....ftypheic", "is a HEIC");
    refuse_text(state, "d.png", "\x89PNG\r\n\x1a\n", "PNG");
    refuse_text(state, "e.jpg", "\xff\xd8\xff", "JPEG");
    refuse_text(state, "f.webp", "RIFF\x04", "is text");
    refuse_text(state, "g.png", "\x01\x02\xff\xfe", "something else");
    /* concat: and other protocols are names of files that are not there. */
    refuse("concat:/etc/passwd|/etc/group", ERR_MISSING, "concat:");
    refuse("http://127.0.0.1:9/a.png", ERR_MISSING, "http:");
}

static void test_bombs(void **state) {
    size_t length;
    const char *good = scratch_path(state, "base.png"), *path = scratch_path(state, "bomb.png");
    encode(good, "png", AV_PIX_FMT_RGB24, 16, 16, 255);
    uint8_t *bytes = read_bytes(good, &length);
    static const uint32_t sizes[][2] = {
        {0x7fffffff, 0x7fffffff}, {100000, 100000}, {8193, 8192}, {0x7fffffff, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        put32(bytes + 16, sizes[i][0]);
        put32(bytes + 20, sizes[i][1]);
        put32(bytes + 29, crc(bytes + 12, 17));
        write_bytes(path, bytes, length);
        refuse(path, ERR_LIMIT, "make it smaller");
    }
    /* As large as may be, and nothing of it there. */
    put32(bytes + 16, 8192);
    put32(bytes + 20, 8192);
    put32(bytes + 29, crc(bytes + 12, 17));
    write_bytes(path, bytes, length);
    refuse(path, ERR_FORMAT, "bomb.png");
    put32(bytes + 16, 0);
    put32(bytes + 29, crc(bytes + 12, 17));
    write_bytes(path, bytes, length);
    refuse(path, ERR_FORMAT, "bomb.png");
    free(bytes);
    /* A file of 65 MiB, sparse. */
    write_bytes(path, "\x89PNG", 4);
    assert_int_equal(truncate(path, 65 << 20), 0);
    refuse(path, ERR_LIMIT, "65");
    /* An animated WebP; a WebP whose canvas is huge. */
    uint8_t webp[64] = "RIFF\x38\0\0\0WEBPVP8X\x0a\0\0\0\x02";
    path = scratch_path(state, "bomb.webp");
    write_bytes(path, webp, sizeof webp);
    refuse(path, ERR_UNSUPPORTED, "animated");
    webp[20] = 0;
    memset(webp + 24, 0xff, 6);
    write_bytes(path, webp, sizeof webp);
    refuse(path, ERR_LIMIT, "16777216x16777216");
}

static void test_cut_off(void **state) {
    static const struct {
        const char *encoder;
        enum AVPixelFormat format;
    } kinds[] = {{"png", AV_PIX_FMT_RGB24},
                 {"mjpeg", AV_PIX_FMT_YUVJ420P},
                 {"libwebp", AV_PIX_FMT_YUV420P},
                 {"libwebp", AV_PIX_FMT_YUVA420P}};
    const char *good = scratch_path(state, "whole"), *path = scratch_path(state, "cut");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length;
        encode(good, kinds[i].encoder, kinds[i].format, WIDTH, HEIGHT, 200);
        uint8_t *bytes = read_bytes(good, &length);
        for (size_t cut = 1; cut < length; cut += 1 + length / 100) {
            write_bytes(path, bytes, cut);
            refuse(path, ERR_FORMAT, "cut");
        }
        free(bytes);
    }
}

/* A PNG of 40x24 whose compressed data, in themselves good, hold `rows` rows. */
static size_t png_of_rows(uint8_t *out, size_t rows) {
    static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const uint8_t header[] = {0, 0, 0, 40, 0, 0, 0, 24, 8, 2, 0, 0, 0};
    uint8_t data[8192];
    size_t raw = rows * (1 + 40 * 3), used = 0, at = 8;
    uint32_t a = 1, b = 0;
    const uint8_t start[] = {0x78,
                             1,
                             1,
                             (uint8_t)raw,
                             (uint8_t)(raw >> 8),
                             (uint8_t)~raw,
                             (uint8_t)(~raw >> 8)}; /* one stored block */
    memcpy(data, start, sizeof start);
    used = sizeof start;
    for (size_t i = 0; i < raw; i++) {
        uint8_t byte = i % (1 + 40 * 3) ? (uint8_t)(i * 7) : 0;
        data[used++] = byte;
        a = (a + byte) % 65521;
        b = (b + a) % 65521;
    }
    put32(data + used, b << 16 | a);
    used += 4;
    memcpy(out, magic, 8);
    const struct {
        const char *type;
        const uint8_t *bytes;
        size_t length;
    } chunks[] = {{"IHDR", header, sizeof header}, {"IDAT", data, used}, {"IEND", data, 0}};
    for (size_t i = 0; i < 3; i++) {
        put32(out + at, (uint32_t)chunks[i].length);
        memcpy(out + at + 4, chunks[i].type, 4);
        memcpy(out + at + 8, chunks[i].bytes, chunks[i].length);
        put32(out + at + 8 + chunks[i].length, crc(out + at + 4, 4 + chunks[i].length));
        at += 12 + chunks[i].length;
    }
    return at;
}

static void test_missing_rows(void **state) {
    const char *path = scratch_path(state, "rows.png");
    uint8_t bytes[8192], *rgb;
    struct error error = {0};
    write_bytes(path, bytes, png_of_rows(bytes, 24));
    assert_int_equal(media_read_image(&rgb, path, 40, 24, &error), ERR_OK);
    free(rgb);
    for (size_t rows = 0; rows < 24; rows += 23 - rows < 4 ? 1 : 5) {
        write_bytes(path, bytes, png_of_rows(bytes, rows));
        refuse(path, ERR_FORMAT, "");
    }
}

/* Random damage: an error with a sentence, or a picture; never a crash, a leak, or a wait. The
 * seeds are fixed. */
static void test_damage(void **state) {
    static const struct {
        const char *encoder;
        enum AVPixelFormat format;
    } kinds[] = {
        {"png", AV_PIX_FMT_RGBA}, {"mjpeg", AV_PIX_FMT_YUVJ422P}, {"libwebp", AV_PIX_FMT_YUVA420P}};
    const char *good = scratch_path(state, "whole"), *path = scratch_path(state, "damaged");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length;
        int refused = 0;
        encode(good, kinds[i].encoder, kinds[i].format, 40, 24, 200);
        uint8_t *bytes = read_bytes(good, &length), *damaged = malloc(length);
        for (uint32_t round = 0; round < 400; round++) {
            struct error error = {0};
            uint8_t *rgb;
            memcpy(damaged, bytes, length);
            /* Half of the rounds hit the headers. */
            uint32_t span = round & 1 && length > 64 ? 64 : (uint32_t)length;
            for (uint32_t k = 0; k <= round % 5; k++)
                damaged[random_below(span, round, i, 2 * k)] =
                    (uint8_t)random_below(256, round, i, 2 * k + 1);
            write_bytes(path, damaged, length);
            if (media_read_image(&rgb, path, 32, 32, &error)) {
                assert_null(rgb);
                assert_non_null(strstr(error.detail, path));
                refused++;
            }
            free(rgb);
        }
        print_message("%s: refused %d of 400\n", kinds[i].encoder, refused);
        free(bytes);
        free(damaged);
    }
}

/* Compressed text that would unpack to a gigabyte is never unpacked: it is cut out before the
 * decoder sees it. Here it is not even valid, and the picture still reads. */
static void test_chunks_left_out(void **state) {
    struct error error = {0};
    size_t length;
    uint8_t *rgb, *bytes;
    const char *good = scratch_path(state, "base.png"), *path = scratch_path(state, "chunks.png");
    encode(good, "png", AV_PIX_FMT_RGB24, WIDTH, HEIGHT, 255);
    bytes = read_bytes(good, &length);
    uint8_t chunk[12 + 20] = {0, 0, 0, 20, 'i', 'C', 'C', 'P'};
    uint8_t *with = malloc(length + sizeof chunk);
    memcpy(with, bytes, 33);
    memcpy(with + 33, chunk, sizeof chunk);
    memcpy(with + 33 + sizeof chunk, bytes + 33, length - 33);
    write_bytes(path, with, length + sizeof chunk);
    assert_ok(media_read_image(&rgb, path, WIDTH, HEIGHT, &error), &error);
    assert_true(psnr(rgb, WIDTH, HEIGHT, 1) == 99);
    free(rgb);
    free(with);
    free(bytes);
    /* JPEG: an EXIF block and a comment of 60000 bytes, and something after the end. */
    encode(good, "mjpeg", AV_PIX_FMT_YUVJ444P, WIDTH, HEIGHT, 255);
    bytes = read_bytes(good, &length);
    with = calloc(1, length + 2 * 60002 + 100);
    memcpy(with, bytes, 2);
    static const uint8_t markers[2] = {0xe1, 0xfe};
    for (int i = 0; i < 2; i++) {
        uint8_t *at = with + 2 + (size_t)i * 60002;
        at[0] = 0xff;
        at[1] = markers[i];
        at[2] = 60000 >> 8;
        at[3] = 60000 & 255;
    }
    memcpy(with + 2 + 2 * 60002, bytes + 2, length - 2);
    write_bytes(path, with, length + 2 * 60002 + 100);
    assert_ok(media_read_image(&rgb, path, WIDTH, HEIGHT, &error), &error);
    assert_true(psnr(rgb, WIDTH, HEIGHT, 1) > 38);
    free(rgb);
    free(with);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),        cmocka_unit_test(test_grey),
        cmocka_unit_test(test_write_and_read), cmocka_unit_test(test_scale_and_crop),
        cmocka_unit_test(test_not_pictures),   cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_cut_off),        cmocka_unit_test(test_missing_rows),
        cmocka_unit_test(test_damage),         cmocka_unit_test(test_chunks_left_out),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
