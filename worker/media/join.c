/* Joining: segments to the published file or folder, packet by packet.
 *
 * Every segment is read twice. The first pass checks that all are whole and of one specification,
 * and measures the encoder's delay; nothing has been written when it fails. The second copies.
 *
 * Time: packets lie in decoding order, and the display times of a segment of n frames are 0..n-1 in
 * some order. So the display time of a packet is its segment's first frame plus its own, and the
 * decoding time is the packet's number minus the delay, the smallest that lets no frame be shown
 * before it is decoded. In MP4 and MOV the negative decoding times at the start become the ordinary
 * one-entry edit list that skips the delay; the first frame is shown at 0. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/media/internal.h"

#define SEGMENT_FRAMES_MAX 1000000
#define TAGS_MAX           32

/* -- reading a segment ----------------------------------------------------------------------- */
struct reader {
    struct media_file file;
    AVFormatContext *demuxer;
    AVPacket *packet;
    AVRational frame_time; /* seconds a frame takes */
};

static void reader_close(struct reader *reader) {
    av_packet_free(&reader->packet);
    avformat_close_input(&reader->demuxer);
    media_file_drop(&reader->file);
}

static enum error_code reader_open(struct reader *reader, const char *path,
                                   const struct media_spec *spec, struct error *error) {
    const struct codec_traits *traits = media_traits(spec->codec);
    memset(reader, 0, sizeof *reader);
    reader->frame_time = (AVRational){spec->fps_denominator, spec->fps_numerator};
    enum error_code code = media_file_open(&reader->file, path, error);
    if (code)
        return code;
    code = media_demuxer_open(&reader->demuxer, "matroska", &reader->file, error);
    if (code)
        goto fail;
    reader->packet = av_packet_alloc();
    if (!reader->packet) {
        code = error_set(error, ERR_MEMORY, "%s: no memory to read it", path);
        goto fail;
    }
    const AVCodecParameters *have =
        reader->demuxer->nb_streams == 1 ? reader->demuxer->streams[0]->codecpar : NULL;
    if (!have || have->codec_id != traits->id || have->width != spec->width ||
        have->height != spec->height) {
        code =
            error_set(error, ERR_FORMAT, "%s: expected a segment of %s at %dx%d, found %s at %dx%d",
                      path, traits->name, spec->width, spec->height,
                      have ? avcodec_get_name(have->codec_id) : "no single video",
                      have ? have->width : 0, have ? have->height : 0);
        goto fail;
    }
    return ERR_OK;

fail:
    reader_close(reader);
    return code;
}

/* The next packet and the number of the frame that it shows; *frame is -1 at the end. */
static enum error_code reader_next(struct reader *reader, int64_t *frame, struct error *error) {
    av_packet_unref(reader->packet);
    int number = av_read_frame(reader->demuxer, reader->packet);
    enum error_code code = media_file_error(&reader->file, error);
    if (code)
        return code;
    *frame = -1;
    if (number == AVERROR_EOF)
        return ERR_OK;
    if (number < 0)
        return media_error(error, number, ERR_FORMAT, "%s: is damaged", reader->file.path);
    /* Codecs that Matroska holds in the way of AVI (PNG) have only a decoding time. */
    const AVPacket *packet = reader->packet;
    int64_t time = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
    if (time == AV_NOPTS_VALUE || time < 0 || packet->flags & AV_PKT_FLAG_CORRUPT)
        return error_set(error, ERR_FORMAT, "%s: is damaged: a frame without a time",
                         reader->file.path);
    /* Matroska's milliseconds, to the nearest frame: at most 240 a second, so this is exact. */
    *frame = av_rescale_q(time, reader->demuxer->streams[0]->time_base, reader->frame_time);
    if (*frame > SEGMENT_FRAMES_MAX)
        return error_set(error, ERR_LIMIT, "%s: more than %d frames", reader->file.path,
                         SEGMENT_FRAMES_MAX);
    return ERR_OK;
}

/* -- first pass ------------------------------------------------------------------------------ */
struct survey {
    AVCodecParameters *codec; /* of the first segment */
    int64_t frames;           /* of all */
    int64_t delay;            /* frames between decoding and showing */
};

static enum error_code survey_segment(struct survey *survey, const char *path,
                                      const struct media_spec *spec, struct error *error) {
    struct reader reader;
    enum error_code code = reader_open(&reader, path, spec, error);
    if (code)
        return code;
    const AVCodecParameters *codec = reader.demuxer->streams[0]->codecpar;
    if (!survey->codec) {
        survey->codec = avcodec_parameters_alloc();
        if (!survey->codec || avcodec_parameters_copy(survey->codec, codec) < 0)
            code = error_set(error, ERR_MEMORY, "%s: no memory to read it", path);
    } else if (codec->extradata_size != survey->codec->extradata_size ||
               (codec->extradata_size && memcmp(codec->extradata, survey->codec->extradata,
                                                (size_t)codec->extradata_size) != 0))
        code = error_set(error, ERR_FORMAT,
                         "%s: was encoded with other settings than the first segment; remove it "
                         "from the store so that it is made again",
                         path);
    int64_t count = 0, sum = 0, frame = -1;
    while (!code && !(code = reader_next(&reader, &frame, error)) && frame >= 0) {
        if (!count && (!(reader.packet->flags & AV_PKT_FLAG_KEY) || frame))
            code = error_set(error, ERR_FORMAT, "%s: does not start with a key frame", path);
        if (count - frame > survey->delay)
            survey->delay = count - frame;
        sum += frame;
        count++;
    }
    /* The header's duration was written last, so a file cut between two frames is seen too. */
    int64_t declared =
        reader.demuxer->duration == AV_NOPTS_VALUE
            ? 0
            : av_rescale_q(reader.demuxer->duration, AV_TIME_BASE_Q, reader.frame_time);
    if (!code && (!count || sum != count * (count - 1) / 2 || count != declared))
        code = error_set(error, ERR_FORMAT, "%s: is cut off: %lld whole frames of %lld", path,
                         (long long)count, (long long)declared);
    survey->frames += count;
    reader_close(&reader);
    return code;
}

/* -- one file -------------------------------------------------------------------------------- */
static enum error_code start_file(AVFormatContext *muxer, struct media_file *file,
                                  enum media_container container, const struct media_spec *spec,
                                  const struct survey *survey, const struct media_tag *tags,
                                  int tag_count, struct error *error) {
    const struct codec_traits *traits = media_traits(spec->codec);
    AVStream *stream = avformat_new_stream(muxer, NULL);
    if (!stream || avcodec_parameters_copy(stream->codecpar, survey->codec) < 0)
        return error_set(error, ERR_MEMORY, "%s: no memory for its header", file->path);
    AVCodecParameters *codec = stream->codecpar;
    codec->codec_tag = 0;
    if (codec->codec_id == AV_CODEC_ID_HEVC && container != CONTAINER_MKV)
        codec->codec_tag = MKTAG('h', 'v', 'c', '1'); /* QuickTime shows no other */
    codec->format = traits->format;
    codec->color_primaries = AVCOL_PRI_BT709;
    codec->color_trc = traits->transfer;
    codec->color_space = traits->matrix;
    codec->color_range = traits->range;
    codec->sample_aspect_ratio = stream->sample_aspect_ratio = (AVRational){1, 1};
    codec->video_delay = (int)survey->delay;
    av_reduce(&stream->time_base.num, &stream->time_base.den, spec->fps_denominator,
              spec->fps_numerator, INT_MAX);
    stream->avg_frame_rate = stream->r_frame_rate = av_inv_q(stream->time_base);

    int failed = 0;
    for (int i = 0; i < tag_count; i++)
        failed |= av_dict_set(&muxer->metadata, tags[i].key, tags[i].value, 0);
    AVDictionary *options = NULL;
    if (container == CONTAINER_MP4 || container == CONTAINER_MOV) {
        /* use_metadata_tags: any key, as itself; without it MP4 keeps a dozen fixed ones. */
        failed |= av_dict_set(&options, "movflags", "faststart+use_metadata_tags+write_colr", 0);
        /* The movie's clock counts frames exactly too; FFmpeg's default of 1000 rounds the end. */
        int64_t timescale = stream->time_base.den;
        while (timescale < 10000)
            timescale *= 2;
        failed |= av_dict_set_int(&options, "movie_timescale", timescale, 0);
    } else {
        failed |= av_dict_set_int(&stream->metadata, MEDIA_FRAMES_KEY, survey->frames, 0);
        failed |= av_dict_set_int(&options, "cues_to_front", 1, 0);
    }
    int number = failed < 0 ? AVERROR(ENOMEM) : avformat_write_header(muxer, &options);
    av_dict_free(&options);
    enum error_code code = media_file_error(file, error);
    if (!code && number < 0)
        code = media_error(error, number, ERR_IO, "%s: writing its header", file->path);
    return code;
}

static enum error_code copy_segments(AVFormatContext *muxer, struct media_file *file,
                                     const struct media_spec *spec, const struct survey *survey,
                                     const char *const *segments, int count, struct error *error) {
    AVStream *stream = muxer->streams[0];
    int64_t base = 0, total = 0; /* frames in the segments before; packets so far */
    AVRational frame_time;
    av_reduce(&frame_time.num, &frame_time.den, spec->fps_denominator, spec->fps_numerator,
              INT_MAX);
    for (int i = 0; i < count; i++, base = total) {
        struct reader reader;
        enum error_code code = reader_open(&reader, segments[i], spec, error);
        if (code)
            return code;
        int64_t frame = -1;
        while (!(code = reader_next(&reader, &frame, error)) && frame >= 0) {
            AVPacket *packet = reader.packet;
            packet->stream_index = 0;
            packet->pos = -1;
            packet->pts = base + frame;
            packet->dts = total++ - survey->delay;
            packet->duration = 1;
            av_packet_rescale_ts(packet, frame_time, stream->time_base);
            int number = av_write_frame(muxer, packet);
            code = media_file_error(file, error);
            if (!code && number < 0)
                code =
                    media_error(error, number, ERR_IO, "%s: copying %s", file->path, segments[i]);
            if (code)
                break;
        }
        reader_close(&reader);
        if (code)
            return code;
    }
    return ERR_OK;
}

static enum error_code join_file(const char *path, enum media_container container,
                                 const struct media_spec *spec, const struct survey *survey,
                                 const char *const *segments, int count,
                                 const struct media_tag *tags, int tag_count, struct error *error) {
    static const char *const formats[CONTAINER_COUNT] = {
        [CONTAINER_MP4] = "mp4",
        [CONTAINER_MKV] = "matroska",
        [CONTAINER_WEBM] = "webm",
        [CONTAINER_MOV] = "mov",
    };
    struct media_file file;
    AVFormatContext *muxer = NULL;
    enum error_code code = media_file_create(&file, path, error);
    if (code)
        return code;
    if ((code = media_muxer_open(&muxer, formats[container], &file, error)) ||
        (code = start_file(muxer, &file, container, spec, survey, tags, tag_count, error)) ||
        (code = copy_segments(muxer, &file, spec, survey, segments, count, error)))
        goto out;
    /* Faststart: reads the file back and moves it behind the index, so this can fill the disk too.
     */
    int number = av_write_trailer(muxer);
    avio_flush(file.io);
    code = media_file_error(&file, error);
    if (!code && number < 0)
        code = media_error(error, number, ERR_IO, "%s: writing its index", path);

out:
    avformat_free_context(muxer);
    if (!code)
        code = media_file_close(&file, true, error);
    if (code)
        media_file_remove(&file);
    return code;
}

/* -- a folder of pictures -------------------------------------------------------------------- */
static enum error_code write_at(int folder, const char *path, const char *name,
                                const uint8_t *bytes, size_t length, struct error *error) {
    int descriptor =
        openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    int failed = descriptor < 0 ? errno : 0;
    for (size_t done = 0; !failed && done < length;) {
        ssize_t n = write(descriptor, bytes + done, length - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            failed = errno;
    }
    if (descriptor >= 0 && close(descriptor) && errno != EINTR && !failed)
        failed = errno;
    if (!failed)
        return ERR_OK;
    enum error_code code = error_set_errno(error, failed, "%s/%s", path, name);
    if (code == ERR_FULL)
        code =
            error_set(error, ERR_FULL,
                      "%s/%s: the disk is full; free some space there, or choose another folder, "
                      "and start again: finished work is kept",
                      path, name);
    return code;
}

static void picture_name(char out[32], int64_t index) {
    snprintf(out, 32, "%05lld.png", (long long)index);
}

static enum error_code sync_at(int folder, const char *path, const char *name,
                               struct error *error) {
    int descriptor = openat(folder, name, O_RDONLY | O_CLOEXEC);
    int failed = descriptor < 0 || fsync(descriptor) ? errno : 0;
    if (descriptor >= 0)
        close(descriptor);
    return failed
               ? error_set_errno(error, failed, "%s/%s: writing it through to the disk", path, name)
               : ERR_OK;
}

static enum error_code join_folder(const char *path, const struct media_spec *spec,
                                   const struct survey *survey, const char *const *segments,
                                   int count, const char *provenance, struct error *error) {
    char name[32];
    int64_t written = 0;
    enum error_code code = ERR_OK;
    if (mkdir(path, 0777)) {
        if (errno == EEXIST)
            return error_set(
                error, ERR_USAGE,
                "%s: exists; the pictures go into a new folder, so remove or rename it", path);
        return error_set_errno(error, errno, "%s: making the folder", path);
    }
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        code = error_set_errno(error, errno, "%s", path);
    for (int i = 0; !code && i < count; i++) {
        struct reader reader;
        int64_t frame = -1;
        code = reader_open(&reader, segments[i], spec, error);
        if (code)
            break;
        while (!(code = reader_next(&reader, &frame, error)) && frame >= 0) {
            picture_name(name, written++);
            code = write_at(folder, path, name, reader.packet->data, (size_t)reader.packet->size,
                            error);
            if (code)
                break;
        }
        reader_close(&reader);
    }
    if (!code && provenance) {
        code = write_at(folder, path, MEDIA_PROVENANCE_FILE, (const uint8_t *)provenance,
                        strlen(provenance), error);
    }
    /* All are synced after all are written: one flush of the journal then serves most of them. */
    for (int64_t i = 0; !code && i < written; i++) {
        picture_name(name, i);
        code = sync_at(folder, path, name, error);
    }
    if (!code && provenance)
        code = sync_at(folder, path, MEDIA_PROVENANCE_FILE, error);
    if (!code && fsync(folder))
        code = error_set_errno(error, errno, "%s: writing it through to the disk", path);
    if (code && folder >= 0) {
        /* Only what was made here. */
        for (int64_t i = 0; i < written; i++) {
            picture_name(name, i);
            unlinkat(folder, name, 0);
        }
        unlinkat(folder, MEDIA_PROVENANCE_FILE, 0);
    }
    if (folder >= 0)
        close(folder);
    if (code)
        rmdir(path);
    return code;
}

/* -- the door -------------------------------------------------------------------------------- */
static enum error_code check_tags(const char *path, const struct media_tag *tags, int count,
                                  const char **provenance, struct error *error) {
    *provenance = NULL;
    if (count > TAGS_MAX)
        return error_set(error, ERR_LIMIT, "%s: %d tags, at most %d", path, count, TAGS_MAX);
    for (int i = 0; i < count; i++) {
        const char *key = tags[i].key, *value = tags[i].value;
        size_t length = strlen(value);
        if (!file_name_is_plain(key))
            return error_set(error, ERR_USAGE, "%s: tag %d has no plain name", path, i);
        if (length > MEDIA_PROVENANCE_BYTES_MAX)
            return error_set(error, ERR_LIMIT, "%s: the tag %s has %zu bytes, at most %d", path,
                             key, length, MEDIA_PROVENANCE_BYTES_MAX);
        if (!length || !text_is_utf8(value, length, NULL))
            return error_set(error, ERR_USAGE, "%s: the tag %s is %s", path, key,
                             length ? "not UTF-8" : "empty");
        if (!strcmp(key, MEDIA_PROVENANCE_KEY))
            *provenance = value;
    }
    return ERR_OK;
}

enum error_code media_join(const char *path, enum media_container container,
                           const struct media_spec *spec, const char *const *segments, int count,
                           const struct media_tag *tags, int tag_count, struct error *error) {
    struct survey survey = {0};
    const char *provenance = NULL;
    media_enter();
    enum error_code code = media_check(spec, container, error);
    if (!code)
        code = check_tags(path, tags, tag_count, &provenance, error);
    if (!code && count < 1)
        code = error_set(error, ERR_USAGE, "%s: no segments to join", path);
    for (int i = 0; !code && i < count; i++)
        code = survey_segment(&survey, segments[i], spec, error);
    if (!code)
        code = container == CONTAINER_FOLDER
                   ? join_folder(path, spec, &survey, segments, count, provenance, error)
                   : join_file(path, container, spec, &survey, segments, count, tags, tag_count,
                               error);
    avcodec_parameters_free(&survey.codec);
    return code;
}
