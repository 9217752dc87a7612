/* FFmpeg held at arm's length: its log, its error numbers, its files. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/media/internal.h"

#define IO_BUFFER_BYTES 65536

/* -- log ------------------------------------------------------------------------------------- */
/* Of the calling thread, where what FFmpeg returns as an error comes up; what an encoder's own
 * threads say is lost. */
static _Thread_local struct {
    int level;
    char text[320];
} last_line;

__attribute__((format(printf, 3, 0))) static void keep_line(void *context, int level,
                                                            const char *format, va_list arguments) {
    level &= 0xff;
    /* A later warning does not hide an error. */
    if (level > AV_LOG_WARNING || (last_line.text[0] && level > last_line.level))
        return;
    char line[sizeof last_line.text];
    int length = vsnprintf(line, sizeof line, format, arguments);
    if (length <= 0)
        return;
    size_t end = strlen(line);
    while (end && (line[end - 1] == '\n' || line[end - 1] == ' ' || line[end - 1] == '.'))
        end--;
    if (!end)
        return;
    /* It may quote the file that was read. */
    for (size_t i = 0; i < end; i++)
        last_line.text[i] = line[i] >= 32 && line[i] < 127 ? line[i] : '?';
    last_line.text[end] = 0;
    last_line.level = level;
}

static pthread_once_t log_once = PTHREAD_ONCE_INIT;

static void log_install(void) {
    av_log_set_callback(keep_line);
}

void media_enter(void) {
    pthread_once(&log_once, log_install);
    last_line.text[0] = 0;
}

enum error_code media_error(struct error *error, int number, enum error_code fallback,
                            const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    enum error_code code = fallback;
    if (number == AVERROR(ENOMEM))
        code = ERR_MEMORY;
    else if (number == AVERROR(ENOSPC) || number == AVERROR(EDQUOT))
        code = ERR_FULL;
    char text[AV_ERROR_MAX_STRING_SIZE];
    av_strerror(number, text, sizeof text);
    /* "…, quitting", of a library that gives up: we do not. */
    char *end = strstr(last_line.text, ", quitting");
    if (end)
        *end = '\0';
    return error_set(error, code, "%s: %s", what, last_line.text[0] ? last_line.text : text);
}

/* -- files ----------------------------------------------------------------------------------- */
static int io_read(void *opaque, uint8_t *bytes, int length) {
    struct media_file *file = opaque;
    ssize_t n;
    do
        n = read(file->descriptor, bytes, (size_t)length);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return (int)n;
    if (n < 0 && !file->error_number)
        file->error_number = errno;
    return n ? AVERROR(file->error_number) : AVERROR_EOF;
}

#if LIBAVFORMAT_VERSION_MAJOR >= 61
static int io_write(void *opaque, const uint8_t *bytes, int length) {
#else
static int io_write(void *opaque, uint8_t *bytes, int length) {
#endif
    struct media_file *file = opaque;
    for (int done = 0; done < length && !file->error_number;) {
        ssize_t n = write(file->descriptor, bytes + done, (size_t)(length - done));
        if (n < 0 && errno != EINTR)
            file->error_number = errno; /* for good: what is on disk has a hole from here */
        else if (n > 0) {
            done += (int)n;
            file->written += (uint64_t)n;
        }
    }
    return file->error_number ? AVERROR(file->error_number) : length;
}

static int64_t io_seek(void *opaque, int64_t offset, int whence) {
    struct media_file *file = opaque;
    if (whence & AVSEEK_SIZE) {
        struct stat status;
        return fstat(file->descriptor, &status) ? AVERROR(errno) : status.st_size;
    }
    off_t at = lseek(file->descriptor, offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : at;
}

static enum error_code file_start(struct media_file *file, const char *path, int flags,
                                  struct error *error) {
    bool writing = (flags & O_ACCMODE) != O_RDONLY;
    memset(file, 0, sizeof *file);
    file->descriptor = -1;
    size_t length = strlen(path);
    if (length >= sizeof file->path)
        return error_set(error, ERR_LIMIT, "%.64s…: a path of more than %d bytes", path,
                         (int)sizeof file->path - 1);
    memcpy(file->path, path, length + 1);
    /* O_NONBLOCK: opening a pipe must not wait for its other end. */
    int descriptor = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666);
    if (descriptor < 0 && errno == EISDIR)
        return error_set(error, ERR_USAGE, "%s: is a folder, not a file", path);
    if (descriptor < 0)
        return error_set_errno(error, errno, "%s", path);
    struct stat status;
    if (fstat(descriptor, &status) || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return error_set(error, ERR_USAGE, "%s: is %s, not a regular file", path,
                         S_ISDIR(status.st_mode) ? "a folder" : "a device, pipe or socket");
    }
    unsigned char *buffer = av_malloc(IO_BUFFER_BYTES);
    file->io =
        buffer ? avio_alloc_context(buffer, IO_BUFFER_BYTES, writing, file,
                                    writing ? NULL : io_read, writing ? io_write : NULL, io_seek)
               : NULL;
    if (!file->io) {
        av_free(buffer);
        close(descriptor);
        if (writing)
            unlink(path);
        return error_set(error, ERR_MEMORY, "%s: no memory for its buffer", path);
    }
    file->descriptor = descriptor;
    return ERR_OK;
}

enum error_code media_file_create(struct media_file *file, const char *path, struct error *error) {
    return file_start(file, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, error);
}

enum error_code media_file_open(struct media_file *file, const char *path, struct error *error) {
    return file_start(file, path, O_RDONLY, error);
}

enum error_code media_file_error(const struct media_file *file, struct error *error) {
    if (!file->error_number)
        return ERR_OK;
    if (file->error_number == ENOSPC || file->error_number == EDQUOT) {
        char bytes[32];
        return error_set(error, ERR_FULL,
                         "%s: the disk is full after %s of it; free some space there, or choose "
                         "another folder, and start again: finished work is kept",
                         file->path, text_bytes(bytes, file->written));
    }
    return error_set_errno(error, file->error_number, "%s", file->path);
}

void media_file_drop(struct media_file *file) {
    if (file->io) {
        av_freep(&file->io->buffer);
        avio_context_free(&file->io);
    }
    if (file->descriptor >= 0)
        close(file->descriptor);
    file->descriptor = -1;
}

enum error_code media_file_close(struct media_file *file, bool sync, struct error *error) {
    if (file->io && file->io->write_flag)
        avio_flush(file->io);
    if (sync && !file->error_number && fsync(file->descriptor))
        file->error_number = errno;
    int descriptor = file->descriptor;
    file->descriptor = -1;
    /* A network file system may tell of a full disk only here. */
    if (close(descriptor) && errno != EINTR && !file->error_number)
        file->error_number = errno;
    media_file_drop(file);
    return media_file_error(file, error);
}

void media_file_remove(struct media_file *file) {
    media_file_drop(file);
    if (file->path[0])
        unlink(file->path);
}

/* -- muxers and demuxers --------------------------------------------------------------------- */
static int open_nothing(AVFormatContext *format, AVIOContext **io, const char *url, int flags,
                        AVDictionary **options) {
    return AVERROR(EACCES);
}

/* The muxer reads what it wrote to move it behind the index; nothing else is opened. */
static int open_own_output(AVFormatContext *format, AVIOContext **io, const char *url, int flags,
                           AVDictionary **options) {
    const struct media_file *output = format->opaque;
    if (flags != AVIO_FLAG_READ || strcmp(url, output->path) != 0)
        return AVERROR(EACCES);
    struct media_file *again = av_mallocz(sizeof *again);
    if (!again)
        return AVERROR(ENOMEM);
    if (file_start(again, url, O_RDONLY | O_NOFOLLOW, NULL)) {
        av_free(again);
        return AVERROR(EIO);
    }
    *io = again->io;
    return 0;
}

static int close_own_output(AVFormatContext *format, AVIOContext *io) {
    if (io) {
        struct media_file *again = io->opaque;
        media_file_drop(again);
        av_free(again);
    }
    return 0;
}

enum error_code media_muxer_open(AVFormatContext **out, const char *format, struct media_file *file,
                                 struct error *error) {
    AVFormatContext *muxer = NULL;
    int number = avformat_alloc_output_context2(&muxer, NULL, format, NULL);
    if (number < 0)
        return media_error(error, number, ERR_UNSUPPORTED,
                           "%s: this machine's FFmpeg cannot write %s", file->path, format);
    muxer->url = av_strdup(file->path);
    if (!muxer->url) {
        avformat_free_context(muxer);
        return error_set(error, ERR_MEMORY, "%s: no memory for the %s writer", file->path, format);
    }
    muxer->pb = file->io;
    muxer->opaque = file;
    muxer->io_open = open_own_output;
    muxer->io_close2 = close_own_output;
    muxer->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_CUSTOM_IO;
    /* We give time stamps that need no shift; Matroska would move the first frame off zero. */
    muxer->avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED;
    *out = muxer;
    return ERR_OK;
}

enum error_code media_demuxer_open(AVFormatContext **out, const char *format,
                                   struct media_file *file, struct error *error) {
    const AVInputFormat *input = av_find_input_format(format);
    AVFormatContext *demuxer = avformat_alloc_context();
    if (!input || !demuxer) {
        avformat_free_context(demuxer);
        return error_set(error, input ? ERR_MEMORY : ERR_UNSUPPORTED,
                         "%s: this machine's FFmpeg cannot read %s", file->path, format);
    }
    demuxer->pb = file->io;
    demuxer->io_open = open_nothing;
    demuxer->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_NOFILLIN | AVFMT_FLAG_NOPARSE;
    int number = avformat_open_input(&demuxer, file->path, input, NULL); /* frees it on failure */
    if (number < 0) {
        enum error_code code = media_file_error(file, error);
        return code ? code
                    : media_error(error, number, ERR_FORMAT, "%s: is damaged or cut off",
                                  file->path);
    }
    *out = demuxer;
    return ERR_OK;
}
