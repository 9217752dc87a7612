/* What a published file is, from its headers: no decoder is opened. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/media/internal.h"

/* -- folders of pictures --------------------------------------------------------------------- */
/* As much of folder/name as fits in bytes[0..size); -1 with errno. */
static ssize_t read_at(int folder, const char *name, void *bytes, size_t size) {
    int descriptor = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return -1;
    size_t done = 0;
    ssize_t n = 1;
    while (n > 0 && done < size) {
        n = read(descriptor, (char *)bytes + done, size - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    int failed = errno;
    close(descriptor);
    errno = failed;
    return n < 0 ? -1 : (ssize_t)done;
}

static enum error_code folder_provenance(char **out, int folder, const char *path,
                                         struct error *error) {
    char *text = malloc(MEDIA_PROVENANCE_BYTES_MAX + 2);
    if (!text)
        return error_set(error, ERR_MEMORY, "%s: no memory to read it", path);
    enum error_code code = ERR_OK;
    ssize_t length = read_at(folder, MEDIA_PROVENANCE_FILE, text, MEDIA_PROVENANCE_BYTES_MAX + 1);
    if (length < 0 && errno != ENOENT)
        code = error_set_errno(error, errno, "%s/%s", path, MEDIA_PROVENANCE_FILE);
    else if (length > MEDIA_PROVENANCE_BYTES_MAX)
        code = error_set(error, ERR_LIMIT, "%s/%s: more than %d bytes", path, MEDIA_PROVENANCE_FILE,
                         MEDIA_PROVENANCE_BYTES_MAX);
    else if (length > 0 && text_is_utf8(text, (size_t)length, NULL)) {
        text[length] = 0;
        *out = strdup(text);
        if (!*out)
            code = error_set(error, ERR_MEMORY, "%s: no memory to read it", path);
    }
    free(text);
    return code;
}

static enum error_code read_folder(struct media_info *out, const char *path, struct error *error) {
    uint8_t header[32];
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_set_errno(error, errno, "%s", path);
    enum error_code code = ERR_OK;
    ssize_t length = read_at(folder, "00000.png", header, sizeof header);
    if (length < 0 || !media_png_size(&out->width, &out->height, header, (size_t)length)) {
        code = error_set(error, ERR_FORMAT, "%s: is a folder without pictures named 00000.png, …",
                         path);
        goto out;
    }
    snprintf(out->format, sizeof out->format, "folder");
    snprintf(out->codec, sizeof out->codec, "png");
    struct stat status;
    char name[32];
    do
        snprintf(name, sizeof name, "%05lld.png", (long long)++out->frames);
    while (!fstatat(folder, name, &status, 0));
    code = folder_provenance(&out->provenance, folder, path, error);

out:
    close(folder);
    return code;
}

/* -- files ----------------------------------------------------------------------------------- */
/* The format of a file by its first bytes: FFmpeg's demuxer, and the name we give it. */
static bool sniff(const char **demuxer, const char **name, const uint8_t *bytes, size_t length) {
    static const uint8_t ebml[4] = {0x1a, 0x45, 0xdf, 0xa3};
    if (length >= 12 && !memcmp(bytes + 4, "ftyp", 4)) {
        *demuxer = "mov";
        *name = memcmp(bytes + 8, "qt  ", 4) ? "mp4" : "mov";
        return true;
    }
    if (length >= 12 && !memcmp(bytes, ebml, sizeof ebml)) {
        *demuxer = "matroska";
        *name = memmem(bytes, length, "webm", 4) ? "webm" : "mkv";
        return true;
    }
    return false;
}

static enum error_code fill(struct media_info *out, AVFormatContext *demuxer, const char *path,
                            struct error *error) {
    int index = av_find_best_stream(demuxer, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (index < 0)
        return error_set(error, ERR_FORMAT, "%s: has no video in it", path);
    const AVStream *stream = demuxer->streams[index];
    const AVCodecParameters *codec = stream->codecpar;
    const char *name = avcodec_get_name(codec->codec_id);
    for (int i = 0; i < CODEC_COUNT; i++)
        if (media_traits((enum media_codec)i)->id == codec->codec_id &&
            !media_traits((enum media_codec)i)->gpu)
            name = media_traits((enum media_codec)i)->name;
    snprintf(out->codec, sizeof out->codec, "%s", name);
    out->width = codec->width;
    out->height = codec->height;
    if (stream->avg_frame_rate.num > 0 && stream->avg_frame_rate.den > 0)
        out->fps = av_q2d(stream->avg_frame_rate);
    if (stream->duration > 0)
        out->seconds = (double)stream->duration * av_q2d(stream->time_base);
    else if (demuxer->duration > 0)
        out->seconds = (double)demuxer->duration / AV_TIME_BASE;
    out->frames = -1;
    const AVDictionaryEntry *entry = av_dict_get(stream->metadata, MEDIA_FRAMES_KEY, NULL, 0);
    if (stream->nb_frames > 0)
        out->frames = stream->nb_frames;
    else if (entry && (!text_to_int(entry->value, &out->frames) || out->frames < 0))
        out->frames = -1;
    entry = av_dict_get(demuxer->metadata, MEDIA_PROVENANCE_KEY, NULL, 0);
    if (entry) {
        size_t length = strlen(entry->value);
        if (length <= MEDIA_PROVENANCE_BYTES_MAX && text_is_utf8(entry->value, length, NULL)) {
            out->provenance = strdup(entry->value);
            if (!out->provenance)
                return error_set(error, ERR_MEMORY, "%s: no memory to read it", path);
        }
    }
    return ERR_OK;
}

enum error_code media_read_info(struct media_info *out, const char *path, struct error *error) {
    memset(out, 0, sizeof *out);
    media_enter();
    struct stat status;
    if (stat(path, &status))
        return error_set_errno(error, errno, "%s", path);
    enum error_code code;
    if (S_ISDIR(status.st_mode)) {
        code = read_folder(out, path, error);
        if (code)
            media_info_close(out);
        return code;
    }
    struct media_file file;
    AVFormatContext *demuxer = NULL;
    uint8_t head[64];
    const char *format, *name;
    code = media_file_open(&file, path, error);
    if (code)
        return code;
    int length = avio_read(file.io, head, sizeof head);
    if (length < 0 || !sniff(&format, &name, head, (size_t)length)) {
        code = media_file_error(&file, error);
        if (!code)
            code = error_set(error, ERR_FORMAT,
                             "%s: is not a video file that vidloom makes (.mp4, .mov, .mkv, .webm, "
                             "or a folder of pictures)",
                             path);
        goto out;
    }
    if (avio_seek(file.io, 0, SEEK_SET) < 0) {
        code = error_set(error, ERR_IO, "%s: cannot be read from its start again", path);
        goto out;
    }
    code = media_demuxer_open(&demuxer, format, &file, error);
    if (code)
        goto out;
    snprintf(out->format, sizeof out->format, "%s", name);
    code = fill(out, demuxer, path, error);

out:
    avformat_close_input(&demuxer);
    media_file_drop(&file);
    if (code)
        media_info_close(out);
    return code;
}

void media_info_close(struct media_info *info) {
    free(info->provenance);
    memset(info, 0, sizeof *info);
}
