#include "support.h"

#include <dirent.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* libx265 3.5 loses about a kilobyte an encoder: its own copies of parameters. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libx265\n";
}

void assert_error(enum error_code got, enum error_code expected, const struct error *error,
                  const char *part) {
    if (got != expected || error->code != expected || !strstr(error->detail, part) ||
        strchr(error->detail, '\n'))
        fail_msg("got %s, expected %s with \"%s\" in: %s", error_name(got), error_name(expected),
                 part, error->detail);
}

int scratch_setup(void **state) {
    char name[] = "/tmp/vidloom-test-XXXXXX";
    if (!mkdtemp(name))
        return -1;
    *state = strdup(name);
    return *state ? 0 : -1;
}

int scratch_teardown(void **state) {
    struct error error = {0};
    enum error_code code = file_remove_tree(*state, &error);
    free(*state);
    return code ? -1 : 0;
}

const char *scratch_path(void **state, const char *name) {
    static _Thread_local char paths[8][512];
    static _Thread_local int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

void pattern_draw(uint8_t *rgb, int width, int height, int index) {
    double x0 = width * (0.5 + 0.3 * sin(index * 0.11)),
           y0 = height * (0.5 + 0.3 * cos(index * 0.07)), radius = height * 0.22;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, rgb += 3) {
            double distance = hypot(x - x0, y - y0) - radius;
            double inside = 1 / (1 + exp(distance / 1.5));
            double sky[3] = {30 + 60.0 * y / height, 60 + 90.0 * y / height,
                             200 - 80.0 * x / width},
                   disc[3] = {220, 40 + 60.0 * y / height, 50};
            for (int c = 0; c < 3; c++)
                rgb[c] = (uint8_t)lround(sky[c] + (disc[c] - sky[c]) * inside);
        }
}

enum error_code pattern_segment(const char *path, const struct media_spec *spec, int first,
                                int count, struct error *error) {
    struct segment_writer *writer;
    uint8_t *rgb = malloc((size_t)spec->width * (size_t)spec->height * 3);
    enum error_code code = segment_open(&writer, path, spec, error);
    for (int i = first; !code && i < first + count; i++) {
        pattern_draw(rgb, spec->width, spec->height, i);
        code = segment_add(writer, rgb, error);
    }
    free(rgb);
    if (code)
        segment_abandon(&writer);
    else
        code = segment_finish(&writer, error);
    return code;
}

uint8_t *read_bytes(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s: cannot be opened", path);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*length + 1);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    bytes[*length] = 0;
    fclose(file);
    return bytes;
}

void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

void assert_same_bytes(const char *a, const char *b) {
    size_t a_length, b_length;
    uint8_t *a_bytes = read_bytes(a, &a_length), *b_bytes = read_bytes(b, &b_length);
    bool same = a_length == b_length && !memcmp(a_bytes, b_bytes, a_length);
    free(a_bytes);
    free(b_bytes);
    if (!same)
        fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, a_length, b, b_length);
}

int folder_entries(const char *path) {
    DIR *folder = opendir(path);
    assert_non_null(folder);
    int count = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder)))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}

/* Sum of squared differences from the pattern. */
static double distance(const AVFrame *frame, int index) {
    int width = frame->width, height = frame->height;
    int row = (width * 3 + 63) & ~63;
    uint8_t *rgb = malloc((size_t)row * (size_t)height + 64),
            *pattern = calloc((size_t)width * (size_t)height, 3);
    struct SwsContext *scaler =
        sws_getContext(width, height, frame->format, width, height, AV_PIX_FMT_RGB24,
                       SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, NULL, NULL, NULL);
    if (!(av_pix_fmt_desc_get(frame->format)->flags & AV_PIX_FMT_FLAG_RGB)) {
        const int *matrix = sws_getCoefficients(SWS_CS_ITU709);
        sws_setColorspaceDetails(scaler, matrix, 0, matrix, 1, 0, 1 << 16, 1 << 16);
    }
    uint8_t *planes[4] = {rgb};
    int strides[4] = {row};
    assert_int_equal(sws_scale(scaler, (const uint8_t *const *)frame->data, frame->linesize, 0,
                               height, planes, strides),
                     height);
    sws_freeContext(scaler);
    pattern_draw(pattern, width, height, index);
    double sum = 0;
    for (int y = 0; y < height; y++)
        for (int i = 0; i < width * 3; i++) {
            double d = rgb[(ptrdiff_t)y * row + i] - pattern[(ptrdiff_t)y * width * 3 + i];
            sum += d * d;
        }
    free(rgb);
    free(pattern);
    return sum;
}

static const char *name_or(const char *name) {
    return name ? name : "unknown";
}

void play(struct played *out, const char *path, double fps) {
    AVFormatContext *format = NULL;
    memset(out, 0, sizeof *out);
    assert_int_equal(avformat_open_input(&format, path, NULL, NULL), 0);
    assert_true(avformat_find_stream_info(format, NULL) >= 0);
    assert_int_equal(format->nb_streams, 1);
    const AVStream *stream = format->streams[0];
    const AVCodec *codec = avcodec_find_decoder(stream->codecpar->codec_id);
    AVCodecContext *decoder = avcodec_alloc_context3(codec);
    assert_true(avcodec_parameters_to_context(decoder, stream->codecpar) >= 0);
    decoder->thread_count = 1;
    assert_int_equal(avcodec_open2(decoder, codec, NULL), 0);

    snprintf(out->format, sizeof out->format, "%s", format->iformat->name);
    snprintf(out->codec, sizeof out->codec, "%s", avcodec_get_name(stream->codecpar->codec_id));
    out->seconds = (double)format->duration / AV_TIME_BASE;
    const AVDictionaryEntry *entry = av_dict_get(format->metadata, "vidloom", NULL, 0);
    out->provenance = entry ? strdup(entry->value) : NULL;

    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    double base = av_q2d(stream->time_base), sum = 0;
    int64_t last_dts = INT64_MIN;
    bool ended = false;
    while (!ended) {
        if (av_read_frame(format, packet) < 0) {
            assert_int_equal(avcodec_send_packet(decoder, NULL), 0);
            ended = true;
        } else {
            if (packet->dts != AV_NOPTS_VALUE) {
                assert_true(packet->dts > last_dts);
                if (last_dts == INT64_MIN)
                    out->first_dts_index = llround((double)packet->dts * base * fps);
                last_dts = packet->dts;
            }
            assert_int_equal(avcodec_send_packet(decoder, packet), 0);
        }
        av_packet_unref(packet);
        while (!avcodec_receive_frame(decoder, frame)) {
            double pts = (double)frame->best_effort_timestamp * base;
            double error = fabs(pts - out->frames / fps);
            if (!out->frames)
                out->first_pts = pts;
            out->last_pts = pts;
            if (error > out->pts_error)
                out->pts_error = error;
            sum += distance(frame, out->frames++);
            out->width = frame->width;
            out->height = frame->height;
            snprintf(out->primaries, sizeof out->primaries, "%s",
                     name_or(av_color_primaries_name(frame->color_primaries)));
            snprintf(out->transfer, sizeof out->transfer, "%s",
                     name_or(av_color_transfer_name(frame->color_trc)));
            snprintf(out->matrix, sizeof out->matrix, "%s",
                     name_or(av_color_space_name(frame->colorspace)));
            snprintf(out->range, sizeof out->range, "%s",
                     name_or(av_color_range_name(frame->color_range)));
            av_frame_unref(frame);
        }
    }
    double mean = sum / (3.0 * out->width * out->height * out->frames);
    out->psnr = mean > 0 ? fmin(99, 10 * log10(255 * 255 / mean)) : 99;
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&decoder);
    avformat_close_input(&format);
}
