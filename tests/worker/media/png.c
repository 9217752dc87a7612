#include "tests/worker/media/png.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <libavcodec/avcodec.h>

#include "base/file.h"

static AVFrame *make_frame(const uint8_t *rgb, int width, int height) {
    AVFrame *frame = av_frame_alloc();
    assert_non_null(frame);
    frame->format = AV_PIX_FMT_RGB24;
    frame->width = width;
    frame->height = height;
    assert_int_equal(av_frame_get_buffer(frame, 0), 0);
    for (int y = 0; y < height; y++)
        memcpy(frame->data[0] + (ptrdiff_t)y * frame->linesize[0], rgb + (ptrdiff_t)y * width * 3,
               (size_t)width * 3);
    return frame;
}

void write_png(const char *path, const uint8_t *rgb, int width, int height) {
    struct error error = {0};
    AVCodecContext *encoder = avcodec_alloc_context3(avcodec_find_encoder(AV_CODEC_ID_PNG));
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = make_frame(rgb, width, height);
    assert_true(encoder && packet);
    encoder->width = width;
    encoder->height = height;
    encoder->pix_fmt = AV_PIX_FMT_RGB24;
    encoder->time_base = (AVRational){1, 1};
    encoder->thread_count = 1;
    assert_int_equal(avcodec_open2(encoder, NULL, NULL), 0);
    assert_int_equal(avcodec_send_frame(encoder, frame), 0);
    assert_int_equal(avcodec_receive_packet(encoder, packet), 0);
    assert_int_equal(file_write(path, packet->data, (size_t)packet->size, false, &error), ERR_OK);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&encoder);
}
