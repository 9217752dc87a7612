/* Pictures: reading PNG, JPEG and WebP from anywhere, writing PNG.
 *
 * A file from outside is read whole and walked here first: its magic bytes choose the one decoder
 * that may see it, its size in pixels is checked before anything is allocated for them, and only
 * the chunks that make the picture are passed on. What is left out (colour profiles, EXIF,
 * comments) is what needs more parsers, or unpacks without a bound. So a picture's colours are
 * taken as sRGB and its EXIF orientation is ignored. No demuxer runs.
 *
 * Transparent parts are composed over black. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/media/internal.h"
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>

#define PICTURE_BYTES_MAX  (64 << 20)
#define PICTURE_PIXELS_MAX (INT64_C(64) << 20)

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

/* -- the walk through a file's chunks -------------------------------------------------------- */
static uint32_t big32(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint32_t big16(const uint8_t *b) {
    return (uint32_t)b[0] << 8 | b[1];
}

static uint32_t little16(const uint8_t *b) {
    return (uint32_t)b[1] << 8 | b[0];
}

static uint32_t little24(const uint8_t *b) {
    return little16(b) | (uint32_t)b[2] << 16;
}

static uint32_t little32(const uint8_t *b) {
    return little16(b) | little16(b + 2) << 16;
}

struct picture {
    const char *path;
    enum AVCodecID codec;
    uint8_t *bytes; /* padded; shortened in place to what the decoder gets */
    size_t length;
    int64_t width, height;
};

static enum error_code cut_off(const struct picture *picture, struct error *error) {
    return error_set(error, ERR_FORMAT,
                     "%s: is cut off or damaged: a %s picture of %zu bytes that "
                     "does not end as it should",
                     picture->path,
                     picture->codec == AV_CODEC_ID_PNG     ? "PNG"
                     : picture->codec == AV_CODEC_ID_MJPEG ? "JPEG"
                                                           : "WebP",
                     picture->length);
}

static enum error_code set_size(struct picture *picture, int64_t width, int64_t height,
                                struct error *error) {
    if (width < 1 || height < 1)
        return error_set(error, ERR_FORMAT, "%s: is damaged: a picture of %lldx%lld pixels",
                         picture->path, (long long)width, (long long)height);
    if (width > PICTURE_PIXELS_MAX / height)
        return error_set(
            error, ERR_LIMIT, "%s: %lldx%lld pixels, at most %lld in all are read; make it smaller",
            picture->path, (long long)width, (long long)height, (long long)PICTURE_PIXELS_MAX);
    picture->width = width;
    picture->height = height;
    return ERR_OK;
}

static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

bool media_png_size(int *width, int *height, const uint8_t *bytes, size_t length) {
    if (length < 24 || memcmp(bytes, png_magic, 8) != 0 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return false;
    uint32_t w = big32(bytes + 16), h = big32(bytes + 20);
    if (!w || !h || w > INT32_MAX || h > INT32_MAX)
        return false;
    *width = (int)w;
    *height = (int)h;
    return true;
}

/* Keep IHDR, PLTE, tRNS, IDAT, IEND. (A zTXt or iCCP of a megabyte unpacks to a gigabyte.) */
static enum error_code walk_png(struct picture *picture, struct error *error) {
    static const char kept[5][5] = {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"};
    uint8_t *bytes = picture->bytes;
    size_t from = 8, to = 8;
    int width, height;
    if (!media_png_size(&width, &height, bytes, picture->length) || big32(bytes + 8) != 13)
        return cut_off(picture, error);
    enum error_code code = set_size(picture, width, height, error);
    if (code)
        return code;
    for (bool ended = false; !ended;) {
        if (picture->length - from < 12)
            return cut_off(picture, error);
        size_t size = big32(bytes + from);
        if (size > picture->length - from - 12)
            return cut_off(picture, error);
        for (int i = 0; i < 5; i++)
            if (memcmp(bytes + from + 4, kept[i], 4) == 0) {
                if (!i && from != 8)
                    return error_set(error, ERR_FORMAT, "%s: is damaged: two PNG headers",
                                     picture->path);
                ended = i == 4;
                memmove(bytes + to, bytes + from, size + 12);
                to += size + 12;
                break;
            }
        from += size + 12;
    }
    picture->length = to;
    return ERR_OK;
}

/* Keep all but application data (JFIF and Adobe's, which tell the colours, stay) and comments. */
static enum error_code walk_jpeg(struct picture *picture, struct error *error) {
    uint8_t *bytes = picture->bytes;
    size_t from = 2, to = 2, length = picture->length;
    for (;;) {
        if (length - from < 4 || bytes[from] != 0xff)
            return cut_off(picture, error);
        uint8_t marker = bytes[from + 1];
        if (marker == 0xff) { /* a fill byte */
            from++;
            continue;
        }
        if (marker == 0xda)
            break;
        size_t size = big16(bytes + from + 2);
        if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd9) || size < 2 ||
            size + 2 > length - from)
            return cut_off(picture, error);
        bool frame =
            marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        if (frame) {
            if (size < 8)
                return cut_off(picture, error);
            enum error_code code =
                set_size(picture, big16(bytes + from + 7), big16(bytes + from + 5), error);
            if (code)
                return code;
        }
        bool skip = (marker > 0xe0 && marker <= 0xef && marker != 0xee) || marker == 0xfe;
        if (!skip) {
            memmove(bytes + to, bytes + from, size + 2);
            to += size + 2;
        }
        from += size + 2;
    }
    /* The end may be followed by other things (cameras add a second picture), but must be there. */
    size_t end = length;
    while (end > from + 1 && !(bytes[end - 2] == 0xff && bytes[end - 1] == 0xd9))
        end--;
    if (!picture->width || end <= from + 1)
        return cut_off(picture, error);
    memmove(bytes + to, bytes + from, end - from);
    picture->length = to + (end - from);
    return ERR_OK;
}

/* Keep VP8X, ALPH, VP8 and VP8L. */
static enum error_code walk_webp(struct picture *picture, struct error *error) {
    uint8_t *bytes = picture->bytes;
    size_t from = 12, to = 12, length = picture->length;
    size_t total = little32(bytes + 4);
    if (total < 4 || total > length - 8)
        return cut_off(picture, error);
    length = total + 8;
    bool found = false;
    while (length - from >= 8 && !found) {
        const uint8_t *chunk = bytes + from, *data = chunk + 8;
        size_t size = little32(chunk + 4), padded = size + (size & 1);
        if (size > length - from - 8)
            return cut_off(picture, error);
        if (padded > length - from - 8)
            padded = size;
        bool keep = true;
        int64_t width = 0, height = 0;
        if (!memcmp(chunk, "VP8X", 4) && size >= 10) {
            if (data[0] & 2)
                return error_set(error, ERR_UNSUPPORTED,
                                 "%s: is an animated WebP; save one picture of it", picture->path);
            width = 1 + (int64_t)little24(data + 4);
            height = 1 + (int64_t)little24(data + 7);
        } else if (!memcmp(chunk, "VP8 ", 4) && size >= 10) {
            width = little16(data + 6) & 0x3fff;
            height = little16(data + 8) & 0x3fff;
            found = true;
        } else if (!memcmp(chunk, "VP8L", 4) && size >= 5) {
            uint32_t bits = little32(data + 1);
            width = 1 + (bits & 0x3fff);
            height = 1 + (bits >> 14 & 0x3fff);
            found = true;
        } else if (memcmp(chunk, "ALPH", 4) != 0) {
            keep = false;
        }
        if (width || found) {
            enum error_code code = set_size(picture, width, height, error);
            if (code)
                return code;
        }
        if (keep) {
            memmove(bytes + to, chunk, 8 + padded);
            to += 8 + padded;
        }
        from += 8 + padded;
    }
    if (!found)
        return cut_off(picture, error);
    uint32_t size = (uint32_t)(to - 8);
    for (int i = 0; i < 4; i++)
        bytes[4 + i] = (uint8_t)(size >> 8 * i);
    picture->length = to;
    return ERR_OK;
}

/* What a file that is no picture of ours is, for the message. */
static const char *what_is_it(const uint8_t *bytes, size_t length) {
    static const struct {
        int offset;
        const char *magic, *what;
    } known[] = {
        {0, "GIF8", "a GIF picture"},
        {0, "BM", "a BMP picture"},
        {0, "II*", "a TIFF picture"},
        {0, "MM", "a TIFF picture"},
        {0, "%PDF", "a PDF document"},
        {0, "\xff\x0a", "a JPEG XL picture"},
        {4, "ftypavif", "an AVIF picture"},
        {4, "ftyphei", "a HEIC picture"},
        {4, "ftyp", "a video"},
        {0, "\x1a\x45\xdf\xa3", "a video"},
        {0, "#EXTM3U", "a playlist"},
        {0, "<svg", "an SVG drawing"},
        {0, "PK\x03\x04", "a ZIP archive"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t offset = (size_t)known[i].offset, n = strlen(known[i].magic);
        if (length >= offset + n && !memcmp(bytes + offset, known[i].magic, n))
            return known[i].what;
    }
    size_t start = length < 4096 ? length : 4096;
    if (memmem(bytes, start, "<svg", 4))
        return "an SVG drawing";
    if (!memchr(bytes, 0, start) && text_is_utf8((const char *)bytes, length, NULL))
        return "text";
    return "something else";
}

static enum error_code read_whole(struct picture *picture, struct error *error) {
    const char *path = picture->path;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return error_set_errno(error, errno, "%s", path);
    enum error_code code = ERR_OK;
    struct stat status;
    if (fstat(descriptor, &status))
        code = error_set_errno(error, errno, "%s", path);
    else if (!S_ISREG(status.st_mode))
        code = error_set(error, ERR_USAGE, "%s: is %s, not a PNG, JPEG or WebP picture", path,
                         S_ISDIR(status.st_mode) ? "a folder" : "a device, pipe or socket");
    else if (!status.st_size)
        code = error_set(error, ERR_FORMAT, "%s: is empty, not a PNG, JPEG or WebP picture", path);
    else if (status.st_size > PICTURE_BYTES_MAX) {
        char have[32], most[32];
        code = error_set(error, ERR_LIMIT, "%s: %s, at most %s are read; make the picture smaller",
                         path, text_bytes(have, (uint64_t)status.st_size),
                         text_bytes(most, PICTURE_BYTES_MAX));
    } else {
        size_t size = (size_t)status.st_size;
        picture->bytes = av_mallocz(size + AV_INPUT_BUFFER_PADDING_SIZE);
        if (!picture->bytes)
            code = error_set(error, ERR_MEMORY, "%s: no memory for its %zu bytes", path, size);
        for (ssize_t n = 1; !code && n && picture->length < size;) {
            n = read(descriptor, picture->bytes + picture->length, size - picture->length);
            if (n > 0)
                picture->length += (size_t)n;
            else if (n < 0 && errno != EINTR)
                code = error_set_errno(error, errno, "%s", path);
        }
    }
    close(descriptor);
    return code;
}

static enum error_code walk(struct picture *picture, struct error *error) {
    const uint8_t *bytes = picture->bytes;
    size_t length = picture->length;
    enum error_code code;
    if (length >= 8 && !memcmp(bytes, png_magic, 8)) {
        picture->codec = AV_CODEC_ID_PNG;
        code = walk_png(picture, error);
    } else if (length >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) {
        picture->codec = AV_CODEC_ID_MJPEG;
        code = walk_jpeg(picture, error);
    } else if (length >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4)) {
        picture->codec = AV_CODEC_ID_WEBP;
        code = walk_webp(picture, error);
    } else
        return error_set(error, ERR_FORMAT,
                         "%s: is %s, not a PNG, JPEG or WebP picture, whatever its name says",
                         picture->path, what_is_it(bytes, length));
    if (!code)
        memset(picture->bytes + picture->length, 0, AV_INPUT_BUFFER_PADDING_SIZE);
    return code;
}

/* -- decoding and scaling -------------------------------------------------------------------- */
/* A frame's memory, with the decoder's `opaque` byte in all of it. */
static int get_filled_buffer(AVCodecContext *decoder, AVFrame *frame, int flags) {
    int number = avcodec_default_get_buffer2(decoder, frame, flags);
    for (int i = 0; number >= 0 && i < AV_NUM_DATA_POINTERS && frame->buf[i]; i++)
        memset(frame->buf[i]->data, *(const uint8_t *)decoder->opaque, frame->buf[i]->size);
    return number;
}

static enum error_code decode_over(AVFrame **out, const struct picture *picture, uint8_t fill,
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
        decoder->max_pixels = PICTURE_PIXELS_MAX;
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
static enum error_code decode(AVFrame **out, const struct picture *picture, struct error *error) {
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
    struct picture picture = {.path = path};
    AVFrame *frame = NULL, *scaled = NULL;
    *out = NULL;
    media_enter();
    if (width < 1 || height < 1 || width > PICTURE_PIXELS_MAX / height)
        return error_set(error, ERR_SHAPE, "%s: cannot be scaled to %dx%d", path, width, height);
    enum error_code code;
    if ((code = read_whole(&picture, error)) || (code = walk(&picture, error)) ||
        (code = decode(&frame, &picture, error)))
        goto out;
    av_freep(&picture.bytes);
    if ((code = to_rgb(&frame, path, error)))
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
    av_free(picture.bytes);
    return code;
}

enum error_code media_write_png(const char *path, const uint8_t *rgb, int width, int height,
                                struct error *error) {
    struct media_spec spec = {.codec = CODEC_PNG,
                              .fps_numerator = 1,
                              .fps_denominator = 1,
                              .width = width,
                              .height = height,
                              .quality = -1};
    AVDictionary *options = NULL;
    AVFrame *frame = NULL;
    media_enter();
    if (width < 1 || height < 1 || width > PICTURE_PIXELS_MAX / height)
        return error_set(error, ERR_SHAPE, "%s: a picture of %dx%d", path, width, height);
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!codec)
        return error_set(error, ERR_UNSUPPORTED, "%s: this machine's FFmpeg cannot write PNG",
                         path);
    AVCodecContext *encoder = avcodec_alloc_context3(codec);
    AVPacket *packet = av_packet_alloc();
    enum error_code code;
    if (!encoder || !packet) {
        code = error_set(error, ERR_MEMORY, "%s: no memory to encode it", path);
        goto out;
    }
    if ((code = media_encoder_settings(encoder, &options, &spec, error)) ||
        (code = media_frame_new(&frame, AV_PIX_FMT_RGB24, width, height, error)))
        goto out;
    media_fill_rgb(frame, rgb);
    frame->color_primaries = encoder->color_primaries;
    frame->color_trc = encoder->color_trc;
    frame->colorspace = encoder->colorspace;
    frame->color_range = encoder->color_range;
    frame->pts = 0;
    int number = avcodec_open2(encoder, codec, &options);
    if (number >= 0)
        number = avcodec_send_frame(encoder, frame);
    if (number >= 0)
        number = avcodec_receive_packet(encoder, packet);
    code = number < 0 ? media_error(error, number, ERR_IO, "%s: encoding it", path)
                      : file_write(path, packet->data, (size_t)packet->size, false, error);

out:
    av_dict_free(&options);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&encoder);
    return code;
}
