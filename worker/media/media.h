/* Pictures and video by FFmpeg's libraries: the only place that calls them.
 *
 * A *segment* is a short piece of encoded video that starts with a key frame and depends on nothing
 * before it; segments of one specification are joined without re-encoding. Encoders run with a
 * number of threads that is the same on all machines (x264 eight, the others one) and no time
 * stamps of their own, so equal frames give equal bytes.
 *
 * What NVIDIA's cards encode may lie on the card already: see segment_planes.
 *
 * YUV codecs get bt709 in limited range; FFV1 and PNG keep the RGB that they are given, exactly.
 * Nothing is printed; FFmpeg's own words go into the error's detail. A full disk is ERR_FULL, and
 * whatever fails leaves no file. Any thread; one writer by one thread at a time. */
#ifndef VIDLOOM_WORKER_MEDIA_MEDIA_H
#define VIDLOOM_WORKER_MEDIA_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "kernels/nv12.h"

enum media_codec {
    CODEC_H264,
    CODEC_HEVC,
    CODEC_AV1,
    CODEC_VP9,
    CODEC_FFV1,
    CODEC_PRORES,
    CODEC_PNG,
    /* By an NVIDIA card, beside its other work. */
    CODEC_H264_NVENC,
    CODEC_HEVC_NVENC,
    CODEC_AV1_NVENC,
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

/* The card of the nvenc codecs. */
struct media_card {
    int index;
    void *cuda; /* its CUcontext (kernels/ops.h, context), where frames may lie on it; else NULL */
};

struct media_spec {
    enum media_codec codec;
    int width, height;
    int fps_numerator, fps_denominator;
    /* 0 best … smallest, on the codec's own scale; -1: its default, 12 finer (but for prores) for
     * pictures less than 256 wide or high.
     *   h264      0..51 (CRF; default 18; 0 is taken as 1: lossless H.264 plays nearly nowhere)
     *   hevc      0..51 (CRF; 20)
     *   av1, vp9  0..63 (CRF; 24)
     *   prores    0..63: 422 HQ (the default), 422, LT, Proxy; 16 steps each
     *   ffv1, png lossless: no meaning
     *   h264_nvenc, hevc_nvenc   0..51 (CQ; 20; 0 is taken as 1)
     *   av1_nvenc                0..63 (CQ; 28; likewise) */
    int quality;
    const struct media_card *card; /* outlives writers; NULL: the first, frames from the host */
};

const char *media_codec_name(enum media_codec codec); /* "h264" */
bool media_codec_from_name(enum media_codec *out, const char *name);
/* Whether a card encodes. Its bytes are the same for one kind of card and one driver. */
bool media_codec_on_gpu(enum media_codec codec);
/* "mp4", "mkv", "webm", "mov", "folder". */
const char *media_container_name(enum media_container container);
bool media_container_from_name(enum media_container *out, const char *name);
/* Whether the pair goes together, its sizes and numbers can be made, and this FFmpeg has the
 * encoder; says what goes instead. Sides are 16..16384 (from 64 with hevc, 160 with nvenc, 192 with
 * av1_nvenc), even where the codec halves the colour; 1..240 frames a second. h264, hevc: mp4 mkv
 * mov    av1, vp9: mp4 mkv webm    prores: mov mkv    ffv1: mkv    png: folder    nvenc as without
 * it. Errors: ERR_USAGE, ERR_SHAPE, ERR_UNSUPPORTED. */
MUST_CHECK enum error_code media_check(const struct media_spec *spec,
                                       enum media_container container, struct error *error);

/* -- segments -------------------------------------------------------------------------------- */
struct segment_writer;

/* `path` (a staging name) is created or emptied. Checks the specification as media_check does. */
MUST_CHECK enum error_code segment_open(struct segment_writer **out, const char *path,
                                        const struct media_spec *spec, struct error *error);
MUST_CHECK enum error_code segment_add(struct segment_writer *writer, const uint8_t *rgb,
                                       struct error *error); /* [H,W,3] u8 */
/* Whether the writer takes frames that lie on the card: an nvenc codec, a card with its `cuda`, and
 * an FFmpeg that has CUDA's memory. They are those that segment_add would make of equal pixels. */
bool segment_on_card(const struct segment_writer *writer);
/* Memory on the card for one more frame, to be filled by the caller. At most
 * SEGMENT_PLANES_MAX are out. */
#define SEGMENT_PLANES_MAX 64
MUST_CHECK enum error_code segment_planes(struct segment_writer *writer, struct nv12_planes *out,
                                          struct error *error);
/* The next frame is in the first planes given that are out; nothing is still writing them. */
MUST_CHECK enum error_code segment_add_planes(struct segment_writer *writer, struct error *error);
/* Flush, write the trailer and close, whatever happened. Reports the first failure, one of
 * segment_add included, and then the file is removed; on success it is whole (and not synced).
 * *writer is NULL afterwards. A segment of no frames is ERR_USAGE. */
MUST_CHECK enum error_code segment_finish(struct segment_writer **writer, struct error *error);
void segment_abandon(struct segment_writer **writer); /* NULL is fine; removes the file */

/* -- the published file ---------------------------------------------------------------------- */
struct media_tag {
    const char *key, *value; /* e.g. "vidloom": the provenance, one line of JSON; "title" */
};

/* Join segments, in order, into `path` (a new folder for CODEC_PNG: 00000.png, …), synced to disk;
 * its name in the parent folder is for the caller, who renames it. No re-encode. Time stamps run
 * through from 0; the index comes first; bt709 is signalled; equal segments and tags give equal
 * bytes. Every segment is checked before anything is written: ERR_FORMAT names one that is cut off
 * or of another specification, ERR_MISSING one that is gone.
 * Tags: keys as file_name_is_plain, values UTF-8, not empty, at most 4 MiB. ffprobe shows them
 * under their keys (Matroska and WebM in capitals); a folder keeps only "vidloom", as
 * provenance.json. */
MUST_CHECK enum error_code media_join(const char *path, enum media_container container,
                                      const struct media_spec *spec, const char *const *segments,
                                      int count, const struct media_tag *tags, int tag_count,
                                      struct error *error);

struct media_info {
    char format[32]; /* a name of media_container_name */
    char codec[32];  /* a name of media_codec_name, or FFmpeg's */
    int width, height;
    double seconds, fps; /* 0 when unknown, as of a folder */
    int64_t frames;      /* counted from the index; -1 when unknown */
    char *provenance;    /* JSON, not parsed, or NULL; free with media_info_close */
};

/* From the headers; no frame is decoded. Errors: ERR_MISSING, ERR_DENIED, ERR_USAGE (a device),
 * ERR_FORMAT (nothing that vidloom makes, or damaged); *out then needs no closing. */
MUST_CHECK enum error_code media_read_info(struct media_info *out, const char *path,
                                           struct error *error);
void media_info_close(struct media_info *info);

/* -- pictures -------------------------------------------------------------------------------- */
/* A PNG, JPEG or WebP file, scaled (bicubic) to cover width x height and centre-cropped, as
 * [H,W,3] u8 malloc'ed (caller frees). At most 64 Mi pixels and 64 MiB. Only the formats named are
 * opened, only files, whatever the extension says. Errors name the path and what it is instead.
 * Transparent parts lie over black. Colour profiles and EXIF (its orientation too) are ignored; of
 * an animated PNG the still picture is taken, an animated WebP is ERR_UNSUPPORTED. */
MUST_CHECK enum error_code media_read_image(uint8_t **out, const char *path, int width, int height,
                                            struct error *error);
#endif
