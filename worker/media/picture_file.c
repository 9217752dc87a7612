/* Picture files from outside: read whole and walked, before a decoder sees them.
 *
 * The magic bytes choose the one decoder that may see a file, its size in pixels is checked before
 * anything is allocated for them, and only the chunks that make the picture are passed on. What is
 * left out (colour profiles, EXIF, comments) is what needs more parsers, or unpacks without a
 * bound. No demuxer runs. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/media/internal.h"

#define PICTURE_BYTES_MAX (64 << 20)

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

static enum error_code cut_off(const struct media_picture *picture, struct error *error) {
    return error_set(error, ERR_FORMAT,
                     "%s: is cut off or damaged: a %s picture of %zu bytes that "
                     "does not end as it should",
                     picture->path,
                     picture->codec == AV_CODEC_ID_PNG     ? "PNG"
                     : picture->codec == AV_CODEC_ID_MJPEG ? "JPEG"
                                                           : "WebP",
                     picture->length);
}

static enum error_code set_size(struct media_picture *picture, int64_t width, int64_t height,
                                struct error *error) {
    if (width < 1 || height < 1)
        return error_set(error, ERR_FORMAT, "%s: is damaged: a picture of %lldx%lld pixels",
                         picture->path, (long long)width, (long long)height);
    if (width > MEDIA_PIXELS_MAX / height)
        return error_set(
            error, ERR_LIMIT, "%s: %lldx%lld pixels, at most %lld in all are read; make it smaller",
            picture->path, (long long)width, (long long)height, (long long)MEDIA_PIXELS_MAX);
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
static enum error_code walk_png(struct media_picture *picture, struct error *error) {
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
static enum error_code walk_jpeg(struct media_picture *picture, struct error *error) {
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
static enum error_code walk_webp(struct media_picture *picture, struct error *error) {
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

static enum error_code read_whole(struct media_picture *picture, struct error *error) {
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

static enum error_code walk(struct media_picture *picture, struct error *error) {
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

enum error_code media_picture_read(struct media_picture *picture, const char *path,
                                   struct error *error) {
    *picture = (struct media_picture){.path = path};
    enum error_code code = read_whole(picture, error);
    if (!code)
        code = walk(picture, error);
    if (code)
        media_picture_drop(picture);
    return code;
}

void media_picture_drop(struct media_picture *picture) {
    av_freep(&picture->bytes);
}
