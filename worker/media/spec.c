/* Codecs and containers: names, what goes with what, encoder options. */
#include <libavutil/opt.h>
#include <string.h>

#include "worker/media/internal.h"

#define SIZE_MAX_SIDE 16384

/* Encoders give other bytes for another number of threads, so it is the same on all machines. x264,
 * the usual one, has several: else a GPU waits for it longer than it decodes. */
#define H264_THREADS 8

#define IN(container) (1u << CONTAINER_##container)

/* Colour: RGB frames are taken as bt709 primaries, shown as they are. YUV codecs get bt709's matrix
 * in limited range, as players expect of video. FFV1 keeps RGB, so it is lossless against what was
 * decoded; PNG says sRGB, which is what viewers take a picture for.
 *
 * AV1 is libaom's, not SVT-AV1's: SVT 1.4 prints a banner that only an environment variable
 * can stop, and refuses frames under 64 pixels. libx265 3.5 gives other bytes from run to run for
 * pictures of 32 pixels a side, whatever its options, so it gets none below 64. NVENC takes no
 * sides below 145 pixels (H.264). */
static const struct codec_traits traits[CODEC_COUNT] = {
    [CODEC_H264] = {"h264", "libx264", AV_CODEC_ID_H264, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709,
                    AVCOL_RANGE_MPEG, AVCOL_TRC_BT709, IN(MP4) | IN(MKV) | IN(MOV), 2, 2, 18, 51,
                    16},
    [CODEC_HEVC] = {"hevc", "libx265", AV_CODEC_ID_HEVC, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709,
                    AVCOL_RANGE_MPEG, AVCOL_TRC_BT709, IN(MP4) | IN(MKV) | IN(MOV), 2, 2, 20, 51,
                    64},
    [CODEC_AV1] = {"av1", "libaom-av1", AV_CODEC_ID_AV1, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709,
                   AVCOL_RANGE_MPEG, AVCOL_TRC_BT709, IN(MP4) | IN(MKV) | IN(WEBM), 2, 2, 24, 63,
                   16},
    [CODEC_VP9] = {"vp9", "libvpx-vp9", AV_CODEC_ID_VP9, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709,
                   AVCOL_RANGE_MPEG, AVCOL_TRC_BT709, IN(MP4) | IN(MKV) | IN(WEBM), 2, 2, 24, 63,
                   16},
    [CODEC_FFV1] = {"ffv1", "ffv1", AV_CODEC_ID_FFV1, AV_PIX_FMT_BGR0, AVCOL_SPC_RGB,
                    AVCOL_RANGE_JPEG, AVCOL_TRC_BT709, IN(MKV), 1, 1, -1, -1, 16},
    [CODEC_PRORES] = {"prores", "prores_ks", AV_CODEC_ID_PRORES, AV_PIX_FMT_YUV422P10,
                      AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_TRC_BT709, IN(MOV) | IN(MKV), 2, 2,
                      0, 63, 16},
    [CODEC_PNG] = {"png", "png", AV_CODEC_ID_PNG, AV_PIX_FMT_RGB24, AVCOL_SPC_RGB, AVCOL_RANGE_JPEG,
                   AVCOL_TRC_IEC61966_2_1, IN(FOLDER), 1, 1, -1, -1, 16},
    [CODEC_H264_NVENC] = {"h264_nvenc", "h264_nvenc", AV_CODEC_ID_H264, AV_PIX_FMT_NV12,
                          AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_TRC_BT709,
                          IN(MP4) | IN(MKV) | IN(MOV), 2, 2, 20, 51, 160, true},
    [CODEC_HEVC_NVENC] = {"hevc_nvenc", "hevc_nvenc", AV_CODEC_ID_HEVC, AV_PIX_FMT_NV12,
                          AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_TRC_BT709,
                          IN(MP4) | IN(MKV) | IN(MOV), 2, 2, 20, 51, 160, true},
    [CODEC_AV1_NVENC] = {"av1_nvenc", "av1_nvenc", AV_CODEC_ID_AV1, AV_PIX_FMT_NV12,
                         AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_TRC_BT709,
                         IN(MP4) | IN(MKV) | IN(WEBM), 2, 2, 28, 63, 192, true},
};

static const char *const container_names[CONTAINER_COUNT] = {
    [CONTAINER_MP4] = "mp4", [CONTAINER_MKV] = "mkv",       [CONTAINER_WEBM] = "webm",
    [CONTAINER_MOV] = "mov", [CONTAINER_FOLDER] = "folder",
};

const struct codec_traits *media_traits(enum media_codec codec) {
    return (unsigned)codec < CODEC_COUNT ? &traits[codec] : NULL;
}

const char *media_container_name(enum media_container container) {
    return (unsigned)container < CONTAINER_COUNT ? container_names[container] : "unknown";
}

const char *media_codec_name(enum media_codec codec) {
    return (unsigned)codec < CODEC_COUNT ? traits[codec].name : "unknown";
}

bool media_codec_from_name(enum media_codec *out, const char *name) {
    for (int i = 0; i < CODEC_COUNT; i++)
        if (!strcmp(traits[i].name, name)) {
            *out = (enum media_codec)i;
            return true;
        }
    return false;
}

bool media_codec_on_gpu(enum media_codec codec) {
    return (unsigned)codec < CODEC_COUNT && traits[codec].gpu;
}

bool media_container_from_name(enum media_container *out, const char *name) {
    for (int i = 0; i < CONTAINER_COUNT; i++) {
        if (strcmp(container_names[i], name) == 0) {
            *out = (enum media_container)i;
            return true;
        }
    }
    return false;
}

/* ".mp4, .mkv or .mov" */
static void list_containers(char *out, size_t size, unsigned containers) {
    size_t used = 0;
    out[0] = 0;
    for (int i = 0, left = __builtin_popcount(containers); i < CONTAINER_COUNT; i++) {
        if (!(containers & (1u << i)))
            continue;
        const char *before = !used ? "" : left == 1 ? " or " : ", ";
        int n = i == CONTAINER_FOLDER
                    ? snprintf(out + used, size - used, "%sa path without an extension", before)
                    : snprintf(out + used, size - used, "%s.%s", before, container_names[i]);
        used += (size_t)n;
        left--;
    }
}

static void list_codecs(char *out, size_t size, enum media_container container) {
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < CODEC_COUNT; i++)
        if (traits[i].containers & (1u << container))
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", traits[i].name);
}

enum error_code media_check(const struct media_spec *spec, enum media_container container,
                            struct error *error) {
    const struct codec_traits *codec = media_traits(spec->codec);
    if (!codec || (unsigned)container >= CONTAINER_COUNT)
        return error_set(error, ERR_INTERNAL, "media_check: codec %d, container %d",
                         (int)spec->codec, (int)container);
    if (!(codec->containers & (1u << container))) {
        char fits[128], codecs[128];
        list_containers(fits, sizeof fits, codec->containers);
        list_codecs(codecs, sizeof codecs, container);
        if (container == CONTAINER_FOLDER)
            return error_set(error, ERR_USAGE,
                             "%s does not go into a folder of pictures (only png does); "
                             "end the output path in %s",
                             codec->name, fits);
        return error_set(error, ERR_USAGE,
                         "%s does not go into a .%s file; use %s, or one of the codecs that .%s "
                         "takes: %s",
                         codec->name, container_names[container], fits, container_names[container],
                         codecs);
    }
    if (spec->width < codec->side_min || spec->height < codec->side_min ||
        spec->width > SIZE_MAX_SIDE || spec->height > SIZE_MAX_SIDE)
        return error_set(error, ERR_SHAPE,
                         "frames of %dx%d: with %s each side must be from %d to %d pixels",
                         spec->width, spec->height, codec->name, codec->side_min, SIZE_MAX_SIDE);
    if (spec->width % codec->width_step || spec->height % codec->height_step)
        return error_set(error, ERR_SHAPE,
                         "%s stores colour at half the size, so width and height must be even, and "
                         "%dx%d is not: take %dx%d, or the codec png or ffv1",
                         codec->name, spec->width, spec->height, spec->width & ~1,
                         spec->height & ~1);
    int64_t numerator = spec->fps_numerator, denominator = spec->fps_denominator;
    if (numerator < 1 || denominator < 1 || denominator > 10000 || numerator < denominator ||
        numerator > 240 * denominator)
        return error_set(error, ERR_USAGE,
                         "%lld/%lld frames a second: must be from 1 to 240, with a denominator of "
                         "at most 10000",
                         (long long)numerator, (long long)denominator);
    if (spec->quality < -1 || spec->quality > 63)
        return error_set(
            error, ERR_USAGE,
            "quality %d: must be from 0 (best) to 63 (smallest), or -1 for the codec's "
            "default",
            spec->quality);
    if (codec->quality_max >= 0 && spec->quality > codec->quality_max)
        return error_set(error, ERR_USAGE, "quality %d: the scale of %s ends at %d (smallest)",
                         spec->quality, codec->name, codec->quality_max);
    if (!avcodec_find_encoder_by_name(codec->encoder))
        return error_set(error, ERR_UNSUPPORTED,
                         "this machine's FFmpeg has no encoder %s, which %s needs; install an "
                         "FFmpeg built with it, or choose another codec",
                         codec->encoder, codec->name);
    return ERR_OK;
}

/* What is the same for every codec, but for its format of pixels and its colour. */
static void describe_frames(AVCodecContext *encoder, const struct media_spec *spec,
                            const struct codec_traits *codec) {
    AVRational fps = {spec->fps_numerator, spec->fps_denominator};
    av_reduce(&fps.num, &fps.den, fps.num, fps.den, INT_MAX);

    encoder->width = spec->width;
    encoder->height = spec->height;
    encoder->pix_fmt = codec->format;
    encoder->framerate = fps;
    encoder->time_base = av_inv_q(fps);
    encoder->sample_aspect_ratio = (AVRational){1, 1};
    encoder->color_primaries = AVCOL_PRI_BT709;
    encoder->color_trc = codec->transfer;
    encoder->colorspace = codec->matrix;
    encoder->color_range = codec->range;
    if (codec->format == AV_PIX_FMT_YUV420P || codec->format == AV_PIX_FMT_NV12)
        encoder->chroma_sample_location = AVCHROMA_LOC_LEFT;
    encoder->thread_count = spec->codec == CODEC_H264 ? H264_THREADS : 1;
    encoder->gop_size = 250;
    encoder->flags |=
        AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_CLOSED_GOP | AV_CODEC_FLAG_BITEXACT;
}

/* Each codec's own options, by the names that FFmpeg gives them. */
static const struct {
    enum media_codec codec;
    const char *key, *value;
} fixed_options[] = {
    {CODEC_H264, "preset", "medium"},
    {CODEC_H264, "profile", "high"},
    /* Half of medium's lookahead: what it holds back is encoded when the last frame has come. */
    {CODEC_H264, "x264-params", "open-gop=0:cpu-independent=1:rc-lookahead=20"},
    {CODEC_HEVC, "preset", "medium"},
    /* info=0: the SEI of x265's settings names this CPU's features. */
    {CODEC_HEVC, "x265-params", "log-level=none:pools=none:frame-threads=1:open-gop=0:info=0"},
    {CODEC_AV1, "usage", "good"},
    {CODEC_AV1, "cpu-used", "6"},
    {CODEC_AV1, "row-mt", "0"},
    {CODEC_AV1, "tiles", "1x1"},
    {CODEC_VP9, "deadline", "good"},
    {CODEC_VP9, "cpu-used", "4"},
    {CODEC_VP9, "row-mt", "0"},
    {CODEC_VP9, "tile-columns", "0"},
    {CODEC_VP9, "auto-alt-ref", "1"},
    {CODEC_VP9, "lag-in-frames", "25"},
    {CODEC_FFV1, "slicecrc", "1"},
    {CODEC_PRORES, "vendor", "apl0"}, /* some editors open no other */
    {CODEC_PNG, "pred", "mixed"},
    {CODEC_H264_NVENC, "preset", "p5"},
    {CODEC_H264_NVENC, "tune", "hq"},
    {CODEC_H264_NVENC, "rc", "vbr"},
    {CODEC_H264_NVENC, "strict_gop", "1"},
    {CODEC_H264_NVENC, "profile", "high"},
    {CODEC_HEVC_NVENC, "preset", "p5"},
    {CODEC_HEVC_NVENC, "tune", "hq"},
    {CODEC_HEVC_NVENC, "rc", "vbr"},
    {CODEC_HEVC_NVENC, "strict_gop", "1"},
    {CODEC_HEVC_NVENC, "profile", "main"},
    {CODEC_AV1_NVENC, "preset", "p5"},
    {CODEC_AV1_NVENC, "tune", "hq"},
    {CODEC_AV1_NVENC, "rc", "vbr"},
    {CODEC_AV1_NVENC, "strict_gop", "1"},
};

/* And what depends on the quality, or is a field of the encoder's. Negative: no memory. */
static int add_options(AVCodecContext *encoder, AVDictionary **options,
                       const struct media_spec *spec, int quality) {
    int failed = 0;
    for (size_t i = 0; i < sizeof fixed_options / sizeof fixed_options[0]; i++)
        if (fixed_options[i].codec == spec->codec)
            failed |= av_dict_set(options, fixed_options[i].key, fixed_options[i].value, 0);
    switch (spec->codec) {
    case CODEC_H264:
        /* crf 0 is lossless, a profile that few players have: 1 looks the same. */
        failed |= av_dict_set_int(options, "crf", quality > 1 ? quality : 1, 0);
        break;
    case CODEC_HEVC:
        failed |= av_dict_set_int(options, "crf", quality, 0);
        break;
    case CODEC_AV1:
    case CODEC_VP9:
        encoder->bit_rate = 0;
        failed |= av_dict_set_int(options, "crf", quality, 0);
        break;
    case CODEC_FFV1:
        encoder->gop_size = 1;
        encoder->level = 3;
        encoder->slices = 4;
        break;
    case CODEC_PRORES:
        /* ProRes has no CRF; its profiles are its qualities: 422 HQ, 422, LT, Proxy. */
        failed |= av_dict_set_int(options, "profile", 3 - quality / 16, 0);
        break;
    case CODEC_PNG:
        encoder->gop_size = 0;
        encoder->compression_level = 6;
        break;
    case CODEC_H264_NVENC:
    case CODEC_HEVC_NVENC:
    case CODEC_AV1_NVENC:
        encoder->bit_rate = 0;
        failed |= av_dict_set_int(options, "gpu", spec->card ? spec->card->index : 0, 0);
        failed |= av_dict_set_int(options, "cq", quality > 1 ? quality : 1, 0); /* 0: it chooses */
        break;
    case CODEC_COUNT:
        break;
    }
    return failed;
}

/* Small pictures are looked at enlarged, and every segment's first frame, coded anew, is seen as a
 * step unless it is coded finely: with pocket's 160x96, twice the change inside windows at h264's
 * 18, 1.5 times at 10. They take few bytes anyway. */
static int default_quality(const struct codec_traits *codec, const struct media_spec *spec) {
    enum { SMALL = 256, FINER = 12 };
    bool small = spec->width < SMALL || spec->height < SMALL;
    return codec->quality_default > FINER && small ? codec->quality_default - FINER
                                                   : codec->quality_default;
}

enum error_code media_encoder_settings(AVCodecContext *encoder, AVDictionary **options,
                                       const struct media_spec *spec, struct error *error) {
    const struct codec_traits *codec = media_traits(spec->codec);
    int quality = spec->quality < 0 ? default_quality(codec, spec) : spec->quality;
    describe_frames(encoder, spec, codec);
    if (add_options(encoder, options, spec, quality) < 0)
        return error_set(error, ERR_MEMORY, "no memory for the settings of the %s encoder",
                         codec->name);
    return ERR_OK;
}
