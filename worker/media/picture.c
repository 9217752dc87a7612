/* Pictures: decoding PNG, JPEG and WebP (picture_file.c reads them), scaling, writing PNG.
 *
 * A picture's colours are taken as sRGB, its EXIF orientation is ignored, and transparent parts are
 * composed over black. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/media/internal.h"
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>

/* -- frames ---------------------------------------------------------------------------------- */
enum error_code media_frame_new(AVFrame **out, enum AVPixelFormat format, int width, int height,
                                struct error *error) {
    AVFrame *frame = av_frame_alloc();
    if (frame) {
        frame->format = format;
        frame->width = width;
        frame->height = height;
        if (av_frame_get_buffer(frame, 0) < 0)
            av_frame_free(&frame);
    }
    *out = frame;
    return frame ? ERR_OK
                 : error_set(error, ERR_MEMORY, "no memory for a frame of %dx%d", width, height);
}

void media_fill_rgb(AVFrame *frame, const uint8_t *rgb) {
    size_t row = (size_t)frame->width * 3;
    for (int y = 0; y < frame->height; y++)
        memcpy(frame->data[0] + (ptrdiff_t)y * frame->linesize[0], rgb + (size_t)y * row, row);
}

/* -- decoding and scaling -------------------------------------------------------------------- */
/* A frame's memory, with the decoder's `opaque` byte in all of it. */
static int get_filled_buffer(AVCodecContext *decoder, AVFrame *frame, int flags) {
    int number = avcodec_default_get_buffer2(decoder, frame, flags);
    for (int i = 0; number >= 0 && i < AV_NUM_DATA_POINTERS && frame->buf[i]; i++)
        memset(frame->buf[i]->data, *(const uint8_t *)decoder->opaque, frame->buf[i]->size);
    return number;
}

static enum error_code decode_over(AVFrame **out, const struct media_picture *picture, uint8_t fill,
                                   struct error *error) {
    const AVCodec *codec = avcodec_find_decoder(picture->codec);
    AVCodecContext *decoder = avcodec_alloc_context3(codec);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    enum error_code code = ERR_OK;
    if (!codec)
        code = error_set(error, ERR_UNSUPPORTED, "%s: this machine's FFmpeg has no decoder for %s",
                         picture->path, avcodec_get_name(picture->codec));
    else if (!decoder || !packet || !frame)
        code = error_set(error, ERR_MEMORY, "%s: no memory to decode it", picture->path);
    else {
        decoder->thread_count = 1;
        decoder->opaque = &fill;
        decoder->get_buffer2 = get_filled_buffer;
        decoder->max_pixels = MEDIA_PIXELS_MAX;
        decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
        packet->data = picture->bytes;
        packet->size = (int)picture->length;
        int number = avcodec_open2(decoder, codec, NULL);
        if (number >= 0)
            number = avcodec_send_packet(decoder, packet);
        if (number >= 0)
            number = avcodec_send_packet(decoder, NULL);
        if (number >= 0)
            number = avcodec_receive_frame(decoder, frame);
        if (number < 0)
            code = media_error(error, number, ERR_FORMAT, "%s: cannot be decoded, it is damaged",
                               picture->path);
        else if (frame->width != picture->width || frame->height != picture->height ||
                 frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT)
            code =
                error_set(error, ERR_FORMAT, "%s: is damaged: decoded to %dx%d of %lldx%lld pixels",
                          picture->path, frame->width, frame->height, (long long)picture->width,
                          (long long)picture->height);
    }
    if (code)
        av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&decoder);
    *out = frame;
    return code;
}

static bool same_pixels(const AVFrame *a, const AVFrame *b) {
    int bytes = av_image_get_linesize(a->format, a->width, 0);
    for (int y = 0; y < a->height; y++)
        if (memcmp(a->data[0] + (ptrdiff_t)y * a->linesize[0],
                   b->data[0] + (ptrdiff_t)y * b->linesize[0], (size_t)bytes) != 0)
            return false;
    return true;
}

/* FFmpeg takes a PNG whose compressed data end early for a whole one, and leaves the rows that are
 * missing as its memory was: they show by differing over another memory. */
static enum error_code decode(AVFrame **out, const struct media_picture *picture,
                              struct error *error) {
    AVFrame *again = NULL;
    enum error_code code = decode_over(out, picture, 0, error);
    if (code != ERR_OK || picture->codec != AV_CODEC_ID_PNG)
        return code;
    code = decode_over(&again, picture, 0xff, error);
    if (code == ERR_OK && !same_pixels(*out, again))
        code = error_set(error, ERR_FORMAT, "%s: is cut off: not all rows of the picture are there",
                         picture->path);
    av_frame_free(&again);
    if (code != ERR_OK)
        av_frame_free(out);
    return code;
}

static enum error_code convert(AVFrame *out, const AVFrame *in, const char *path,
                               struct error *error) {
    struct SwsContext *scaler =
        sws_getContext(in->width, in->height, in->format, out->width, out->height, out->format,
                       MEDIA_SCALE_FLAGS, NULL, NULL, NULL);
    enum error_code code = ERR_OK;
    if (!scaler)
        return media_error(error, AVERROR(EINVAL), ERR_UNSUPPORTED,
                           "%s: cannot be converted from %dx%d %s to %dx%d", path, in->width,
                           in->height, av_get_pix_fmt_name(in->format), out->width, out->height);
    /* JPEG and lossy WebP are bt601; JPEG has the full range. */
    int matrix = in->colorspace == AVCOL_SPC_BT709 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    bool full = in->color_range == AVCOL_RANGE_JPEG || in->format == AV_PIX_FMT_YUVJ420P ||
                in->format == AV_PIX_FMT_YUVJ422P || in->format == AV_PIX_FMT_YUVJ444P ||
                in->format == AV_PIX_FMT_YUVJ440P || in->format == AV_PIX_FMT_YUVJ411P;
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(in->format);
    if (!(format->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) &&
        format->nb_components >= 3)
        sws_setColorspaceDetails(scaler, sws_getCoefficients(matrix), full,
                                 sws_getCoefficients(SWS_CS_ITU709), 1, 0, 1 << 16, 1 << 16);
    if (sws_scale(scaler, (const uint8_t *const *)in->data, in->linesize, 0, in->height, out->data,
                  out->linesize) != out->height)
        code = error_set(error, ERR_MEMORY, "%s: no memory to convert %dx%d to %dx%d", path,
                         in->width, in->height, out->width, out->height);
    sws_freeContext(scaler);
    return code;
}

static void compose_over_black(AVFrame *rgba) {
    for (int y = 0; y < rgba->height; y++) {
        uint8_t *pixel = rgba->data[0] + (ptrdiff_t)y * rgba->linesize[0];
        for (int x = 0; x < rgba->width; x++, pixel += 4)
            for (int c = 0; c < 3; c++)
                pixel[c] = (uint8_t)((pixel[c] * pixel[3] + 127) / 255);
    }
}

/* The decoded picture as packed RGB of its own size; RGB0 where it had transparency. */
static enum error_code to_rgb(AVFrame **frame, const char *path, struct error *error) {
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get((*frame)->format);
    bool alpha = format->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL);
    AVFrame *rgb;
    if ((*frame)->format == AV_PIX_FMT_RGB24)
        return ERR_OK;
    enum error_code code = media_frame_new(&rgb, alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24,
                                           (*frame)->width, (*frame)->height, error);
    if (!code)
        code = convert(rgb, *frame, path, error);
    if (code) {
        av_frame_free(&rgb);
        return code;
    }
    if (alpha) {
        compose_over_black(rgb);
        rgb->format = AV_PIX_FMT_RGB0;
    }
    av_frame_free(frame);
    *frame = rgb;
    return ERR_OK;
}

/* The largest middle part of the shape wanted. */
static void crop(AVFrame *frame, int width, int height) {
    int64_t w = llround((double)frame->height * width / height);
    int64_t h = llround((double)frame->width * height / width);
    w = w < 1 ? 1 : w > frame->width ? frame->width : w;
    h = h < 1 ? 1 : h > frame->height ? frame->height : h;
    int bytes = frame->format == AV_PIX_FMT_RGB24 ? 3 : 4;
    frame->data[0] += (ptrdiff_t)((frame->height - h) / 2) * frame->linesize[0] +
                      (ptrdiff_t)((frame->width - w) / 2) * bytes;
    frame->width = (int)w;
    frame->height = (int)h;
}

enum error_code media_read_image(uint8_t **out, const char *path, int width, int height,
                                 struct error *error) {
    struct media_picture picture;
    AVFrame *frame = NULL, *scaled = NULL;
    *out = NULL;
    media_enter();
    if (width < 1 || height < 1 || width > MEDIA_PIXELS_MAX / height)
        return error_set(error, ERR_SHAPE, "%s: cannot be scaled to %dx%d", path, width, height);
    enum error_code code = media_picture_read(&picture, path, error);
    if (code)
        return code;
    code = decode(&frame, &picture, error);
    media_picture_drop(&picture);
    if (code || (code = to_rgb(&frame, path, error)))
        goto out;
    crop(frame, width, height);
    if ((code = media_frame_new(&scaled, AV_PIX_FMT_RGB24, width, height, error)) ||
        (code = convert(scaled, frame, path, error)))
        goto out;
    size_t row = (size_t)width * 3;
    *out = malloc(row * (size_t)height);
    if (!*out) {
        code = error_set(error, ERR_MEMORY, "%s: no memory for %dx%d pixels", path, width, height);
        goto out;
    }
    for (int y = 0; y < height; y++)
        memcpy(*out + (size_t)y * row, scaled->data[0] + (ptrdiff_t)y * scaled->linesize[0], row);

out:
    av_frame_free(&scaled);
    av_frame_free(&frame);
    return code;
}
