/* Pictures and video by FFmpeg's libraries: the only place that calls them.
 *
 * A *segment* is a short piece of encoded video that starts with a key frame and depends on nothing
 * before it; segments of one specification are joined without re-encoding. Encoders run with fixed
 * threads and no time stamps of their own, so equal frames give equal bytes. */
#ifndef VIDLOOM_WORKER_MEDIA_MEDIA_H
#define VIDLOOM_WORKER_MEDIA_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum media_codec {
    CODEC_H264,
    CODEC_HEVC,
    CODEC_AV1,
    CODEC_VP9,
    CODEC_FFV1,
    CODEC_PRORES,
    CODEC_PNG,
    CODEC_COUNT
};
enum media_container {
    CONTAINER_MP4,
    CONTAINER_MKV,
    CONTAINER_WEBM,
    CONTAINER_MOV,
    CONTAINER_FOLDER,
    CONTAINER_COUNT
};

struct media_spec {
    enum media_codec codec;
    int width, height;
    int fps_numerator, fps_denominator;
    int quality; /* 0 best … 63 smallest; the codec's own scale (CRF) where it has one; -1: default
                  */
};

const char *media_codec_name(enum media_codec codec); /* "h264" */
bool media_codec_from_name(enum media_codec *out, const char *name);
/* "mp4", "mkv", "webm", "mov", "folder". */
bool media_container_from_name(enum media_container *out, const char *name);
/* By the extension of `path`; a path without one, or ending in '/', is a folder of pictures. */
bool media_container_from_path(enum media_container *out, const char *path);
/* Whether the pair goes together and this FFmpeg has the encoder; says what goes instead. */
MUST_CHECK enum error_code media_check(const struct media_spec *spec,
                                       enum media_container container, struct error *error);

/* -- segments ------------------------------------------------------------------------------------
 */
struct segment_writer;
MUST_CHECK enum error_code segment_open(struct segment_writer **out, const char *path,
                                        const struct media_spec *spec, struct error *error);
MUST_CHECK enum error_code segment_add(struct segment_writer *writer, const uint8_t *rgb,
                                       struct error *error); /* [H,W,3] u8 */
/* Flush, write the trailer and close, whatever happened; reports the first failure, a full disk
 * (ERR_FULL) included. The file is then whole. */
MUST_CHECK enum error_code segment_finish(struct segment_writer **writer, struct error *error);
void segment_abandon(struct segment_writer **writer); /* NULL is fine; removes the file */

/* -- the published file
 * ---------------------------------------------------------------------------- */
struct media_tag {
    const char *key,
        *value; /* e.g. "vidloom" = the provenance as one line of JSON, "title" = name */
};
/* Join segments, in order, into `path` (a folder for CODEC_PNG: 00000.png, …), synced to disk. No
 * re-encode. Time stamps run through; MP4 and MOV have their index first; bt709 is signalled. */
MUST_CHECK enum error_code media_join(const char *path, enum media_container container,
                                      const struct media_spec *spec, const char *const *segments,
                                      int count, const struct media_tag *tags, int tag_count,
                                      struct error *error);

struct media_info {
    char format[32], codec[32];
    int width, height;
    double seconds, fps;
    int64_t frames;   /* counted from the index; -1 when unknown */
    char *provenance; /* JSON, or NULL; free with media_info_close */
};
MUST_CHECK enum error_code media_read_info(struct media_info *out, const char *path,
                                           struct error *error);
void media_info_close(struct media_info *info);

/* -- pictures ------------------------------------------------------------------------------------
 */
/* A PNG, JPEG or WebP file, scaled (bicubic) to cover width x height and centre-cropped, as
 * [H,W,3] u8 malloc'ed (caller frees). At most 64 Mi pixels and 64 MiB. Only the formats named are
 * opened, only files, whatever the extension says. Errors name the path and what it is instead. */
MUST_CHECK enum error_code media_read_image(uint8_t **out, const char *path, int width, int height,
                                            struct error *error);
MUST_CHECK enum error_code media_write_png(const char *path, const uint8_t *rgb, int width,
                                           int height, struct error *error);

#endif
