/* What the files of worker/media/ share: the table of codecs, and how FFmpeg's libraries are held.
 *
 * - FFmpeg opens no file itself. Every AVIOContext is over a descriptor that we opened, so errno of
 *   each write is known (a full disk), and a playlist or a reference inside a file leads nowhere.
 * - FFmpeg prints nothing. Its lines go to a callback that keeps the last one of the calling thread
 *   for the error's detail. av_log has one callback per process: that pointer (set once) and
 *   the thread's line are the only writable globals of this folder.
 *
 * Any thread; one object by one thread at a time. */
#ifndef VIDLOOM_WORKER_MEDIA_INTERNAL_H
#define VIDLOOM_WORKER_MEDIA_INTERNAL_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixfmt.h>
#include <libswscale/swscale.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "worker/media/media.h"

#define MEDIA_PROVENANCE_KEY       "vidloom" /* the tag that media_read_info gives back */
#define MEDIA_PROVENANCE_FILE      "provenance.json"
#define MEDIA_PROVENANCE_BYTES_MAX (4 << 20)
#define MEDIA_FRAMES_KEY           "NUMBER_OF_FRAMES" /* Matroska's statistics tag of a track */

/* Every conversion is made by these, so that all CPUs give the same bytes. */
#define MEDIA_SCALE_FLAGS                                                                          \
    (SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP | SWS_FULL_CHR_H_INT)

/* -- codecs (spec.c) ------------------------------------------------------------------------- */
struct codec_traits {
    const char *name;    /* as in a job file */
    const char *encoder; /* FFmpeg's name of it */
    enum AVCodecID id;
    enum AVPixelFormat format;
    enum AVColorSpace matrix;
    enum AVColorRange range;
    enum AVColorTransferCharacteristic transfer;
    unsigned containers; /* bits 1 << enum media_container */
    int width_step;      /* width must be a multiple */
    int height_step;
    int quality_default, quality_max; /* -1: lossless, quality means nothing */
    int side_min;                     /* pixels */
    bool gpu;
};
const struct codec_traits *media_traits(enum media_codec codec);
/* Set everything of the encoder but its extradata. `options` receives private ones. */
MUST_CHECK enum error_code media_encoder_settings(AVCodecContext *encoder, AVDictionary **options,
                                                  const struct media_spec *spec,
                                                  struct error *error);

/* -- frames on a card (card.c) --------------------------------------------------------------- */
bool media_has_cuda(void); /* this FFmpeg */
/* A source of NV12 frames in the memory of a CUcontext, for av_hwframe_get_buffer and encoders. */
MUST_CHECK enum error_code media_card_frames(AVBufferRef **out, void *cuda, int width, int height,
                                             struct error *error);

/* -- log and errors (libav.c) ---------------------------------------------------------------- */
void media_enter(void); /* first thing in every function of media.h that calls FFmpeg */
/* An FFmpeg error number to a code; the detail becomes "<formatted>: <FFmpeg's last line or the
 * number's text>". `fallback` is the code for numbers that say nothing certain. */
enum error_code media_error(struct error *error, int number, enum error_code fallback,
                            const char *format, ...) PRINTF_LIKE(4, 5);

/* -- files (libav.c) ------------------------------------------------------------------------- */
struct media_file {
    AVIOContext *io;
    int descriptor;   /* -1: closed */
    int error_number; /* errno of the first failed read or write; 0: none */
    uint64_t written; /* bytes */
    char path[FILE_PATH_BYTES];
};
/* Create or empty a regular file for writing. */
MUST_CHECK enum error_code media_file_create(struct media_file *file, const char *path,
                                             struct error *error);
/* A regular file for reading. ERR_MISSING, ERR_DENIED, ERR_USAGE (a folder, a device). */
MUST_CHECK enum error_code media_file_open(struct media_file *file, const char *path,
                                           struct error *error);
/* The error of a failed write, with what to do; ERR_OK when there was none. */
enum error_code media_file_error(const struct media_file *file, struct error *error);
/* Flush and close, after fsync if `sync`. Reports the first failure. */
MUST_CHECK enum error_code media_file_close(struct media_file *file, bool sync,
                                            struct error *error);
void media_file_drop(struct media_file *file);   /* close, whatever happened */
void media_file_remove(struct media_file *file); /* close and unlink */

/* A muxer whose output is `file` (which must outlive it). It may read `file` again (to put the
 * index first) and opens nothing else. */
MUST_CHECK enum error_code media_muxer_open(AVFormatContext **out, const char *format,
                                            struct media_file *file, struct error *error);
/* A demuxer of the format named, over `file`; no decoder is opened, no value guessed. */
MUST_CHECK enum error_code media_demuxer_open(AVFormatContext **out, const char *format,
                                              struct media_file *file, struct error *error);

/* -- picture files (picture_file.c) ---------------------------------------------------------- */
#define MEDIA_PIXELS_MAX (INT64_C(64) << 20) /* of a picture that is read or made */

struct media_picture {
    const char *path;
    enum AVCodecID codec;
    uint8_t *bytes; /* padded; shortened in place to what the decoder gets */
    size_t length;
    int64_t width, height;
};
/* The chunks of a PNG, JPEG or WebP file that make its picture, and its size in pixels. `path` is
 * kept. Errors name it: ERR_MISSING, ERR_DENIED, ERR_USAGE (no file), ERR_FORMAT, ERR_LIMIT (bytes
 * or pixels), ERR_UNSUPPORTED (animated), ERR_IO, ERR_MEMORY; then there is nothing to drop. */
MUST_CHECK enum error_code media_picture_read(struct media_picture *picture, const char *path,
                                              struct error *error);
void media_picture_drop(struct media_picture *picture);
/* Width and height from a PNG file's first 24 bytes or more. */
bool media_png_size(int *width, int *height, const uint8_t *bytes, size_t length);

/* -- pictures (picture.c) -------------------------------------------------------------------- */
/* Copy packed RGB into a frame (allocated RGB24): libswscale and encoders may read some bytes past
 * a row, which the caller's buffer need not have. */
void media_fill_rgb(AVFrame *frame, const uint8_t *rgb);
MUST_CHECK enum error_code media_frame_new(AVFrame **out, enum AVPixelFormat format, int width,
                                           int height, struct error *error);

#endif
