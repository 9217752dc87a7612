/* Segments: RGB frames to one Matroska file that starts with a key frame. */
#include <stdlib.h>
#include <string.h>

#include "worker/media/internal.h"

struct segment_writer {
    struct media_spec spec;
    struct media_file file;
    AVFormatContext *muxer;
    AVStream *stream;
    AVCodecContext *encoder;
    struct SwsContext *scaler;
    AVFrame *rgb, *frame;             /* as given; as encoded, or as it goes to the card */
    AVBufferRef *card;                /* where frames on the card come from; NULL: from the host */
    AVFrame *out[SEGMENT_PLANES_MAX]; /* planes given and not yet added, in a ring */
    int out_first, out_count;
    AVPacket *packet;
    int64_t frames;
    struct error failure; /* the first; ERR_OK while all is well */
};

static void writer_free(struct segment_writer *writer, bool remove_file) {
    av_packet_free(&writer->packet);
    av_frame_free(&writer->frame);
    av_frame_free(&writer->rgb);
    sws_freeContext(writer->scaler);
    avcodec_free_context(&writer->encoder);
    for (int i = 0; i < SEGMENT_PLANES_MAX; i++)
        av_frame_free(&writer->out[i]);
    av_buffer_unref(&writer->card);
    avformat_free_context(writer->muxer); /* before the file that it writes to */
    if (remove_file)
        media_file_remove(&writer->file);
    else
        media_file_drop(&writer->file);
    free(writer);
}

/* The encoder takes frames on the card. */
static enum error_code use_card(struct segment_writer *writer, struct error *error) {
    const struct media_spec *spec = &writer->spec;
    enum error_code code =
        media_card_frames(&writer->card, spec->card->cuda, spec->width, spec->height, error);
    if (code)
        return error_prefix(error, "%s: ", writer->file.path);
    writer->encoder->pix_fmt = AV_PIX_FMT_CUDA;
    writer->encoder->sw_pix_fmt = media_traits(spec->codec)->format;
    writer->encoder->hw_frames_ctx = av_buffer_ref(writer->card);
    return writer->encoder->hw_frames_ctx
               ? ERR_OK
               : error_set(error, ERR_MEMORY, "%s: no memory for its encoder", writer->file.path);
}

static enum error_code open_encoder(struct segment_writer *writer, struct error *error) {
    const struct codec_traits *traits = media_traits(writer->spec.codec);
    const char *path = writer->file.path;
    const AVCodec *codec = avcodec_find_encoder_by_name(traits->encoder);
    writer->encoder = avcodec_alloc_context3(codec);
    if (!writer->encoder)
        return error_set(error, ERR_MEMORY, "%s: no memory for the %s encoder", path, traits->name);
    AVDictionary *options = NULL;
    enum error_code code = media_encoder_settings(writer->encoder, &options, &writer->spec, error);
    if (!code && traits->gpu && writer->spec.card && writer->spec.card->cuda && media_has_cuda())
        code = use_card(writer, error);
    if (!code) {
        int number = avcodec_open2(writer->encoder, codec, &options);
        const AVDictionaryEntry *unknown = av_dict_get(options, "", NULL, AV_DICT_IGNORE_SUFFIX);
        if (number < 0)
            code = media_error(
                error, number, ERR_UNSUPPORTED, "%s: the %s encoder refuses %dx%d at quality %d%s",
                path, traits->name, writer->spec.width, writer->spec.height, writer->spec.quality,
                traits->gpu ? ", or there is no NVIDIA card and driver for it" : "");
        else if (unknown)
            code = error_set(error, ERR_UNSUPPORTED,
                             "%s: this machine's %s does not know the option %s", path,
                             traits->encoder, unknown->key);
    }
    av_dict_free(&options);
    return code;
}

static enum error_code open_scaler(struct segment_writer *writer, struct error *error) {
    const struct codec_traits *traits = media_traits(writer->spec.codec);
    int width = writer->spec.width, height = writer->spec.height;
    if (traits->format == AV_PIX_FMT_RGB24 || traits->format == AV_PIX_FMT_NV12)
        return ERR_OK;
    writer->scaler = sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, traits->format,
                                    MEDIA_SCALE_FLAGS, NULL, NULL, NULL);
    if (!writer->scaler)
        return media_error(error, AVERROR(EINVAL), ERR_MEMORY, "%s: the colour conversion at %dx%d",
                           writer->file.path, width, height);
    if (traits->matrix != AVCOL_SPC_RGB) {
        const int *matrix = sws_getCoefficients(SWS_CS_ITU709);
        if (sws_setColorspaceDetails(writer->scaler, matrix, 1, matrix, 0, 0, 1 << 16, 1 << 16) < 0)
            return error_set(error, ERR_UNSUPPORTED,
                             "%s: this machine's libswscale cannot convert to bt709",
                             writer->file.path);
    }
    return ERR_OK;
}

static enum error_code open_muxer(struct segment_writer *writer, struct error *error) {
    enum error_code code = media_muxer_open(&writer->muxer, "matroska", &writer->file, error);
    if (code)
        return code;
    writer->stream = avformat_new_stream(writer->muxer, NULL);
    if (!writer->stream ||
        avcodec_parameters_from_context(writer->stream->codecpar, writer->encoder) < 0)
        return error_set(error, ERR_MEMORY, "%s: no memory for its header", writer->file.path);
    writer->stream->time_base = writer->encoder->time_base;
    writer->stream->avg_frame_rate = writer->encoder->framerate;
    int number = avformat_write_header(writer->muxer, NULL);
    code = media_file_error(&writer->file, error);
    if (!code && number < 0)
        code = media_error(error, number, ERR_IO, "%s: writing its header", writer->file.path);
    return code;
}

enum error_code segment_open(struct segment_writer **out, const char *path,
                             const struct media_spec *spec, struct error *error) {
    *out = NULL;
    media_enter();
    const struct codec_traits *traits = media_traits(spec->codec);
    if (!traits)
        return error_set(error, ERR_INTERNAL, "%s: codec %d", path, (int)spec->codec);
    /* The container is chosen when segments are joined: check with one that the codec has. */
    enum error_code code =
        media_check(spec, (enum media_container)__builtin_ctz(traits->containers), error);
    if (code)
        return code;
    struct segment_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return error_set(error, ERR_MEMORY, "%s: no memory for its writer", path);
    writer->spec = *spec;
    code = media_file_create(&writer->file, path, error);
    if (code) {
        writer_free(writer, false);
        return code;
    }
    if ((code = open_encoder(writer, error)) || (code = open_scaler(writer, error)) ||
        (code =
             media_frame_new(&writer->rgb, AV_PIX_FMT_RGB24, spec->width, spec->height, error)) ||
        (code =
             media_frame_new(&writer->frame, traits->format, spec->width, spec->height, error)) ||
        (code = open_muxer(writer, error)))
        goto fail;
    writer->packet = av_packet_alloc();
    if (!writer->packet) {
        code = error_set(error, ERR_MEMORY, "%s: no memory for a packet", path);
        goto fail;
    }
    *out = writer;
    return ERR_OK;

fail:
    segment_abandon(&writer);
    return code;
}

/* Send one frame (NULL: the end) and write what the encoder has ready. */
static enum error_code encode(struct segment_writer *writer, AVFrame *frame, struct error *error) {
    const char *path = writer->file.path;
    int number = avcodec_send_frame(writer->encoder, frame);
    while (number >= 0) {
        number = avcodec_receive_packet(writer->encoder, writer->packet);
        if (number == AVERROR(EAGAIN) || number == AVERROR_EOF)
            return media_file_error(&writer->file, error);
        if (number < 0)
            break;
        writer->packet->stream_index = 0;
        writer->packet->duration = 1; /* FFV1 and libvpx leave it out */
        av_packet_rescale_ts(writer->packet, writer->encoder->time_base, writer->stream->time_base);
        number = av_write_frame(writer->muxer, writer->packet);
        av_packet_unref(writer->packet);
        if (number < 0) {
            enum error_code code = media_file_error(&writer->file, error);
            return code ? code : media_error(error, number, ERR_IO, "%s: writing a frame", path);
        }
    }
    return media_error(error, number, ERR_IO, "%s: encoding frame %lld as %s", path,
                       (long long)writer->frames, media_codec_name(writer->spec.codec));
}

/* Encode a frame that is filled. */
static enum error_code add(struct segment_writer *writer, AVFrame *frame, struct error *error) {
    const struct codec_traits *traits = media_traits(writer->spec.codec);
    frame->pts = writer->frames;
    frame->sample_aspect_ratio = (AVRational){1, 1};
    frame->color_primaries = AVCOL_PRI_BT709;
    frame->color_trc = traits->transfer;
    frame->colorspace = traits->matrix;
    frame->color_range = traits->range;
    frame->chroma_location = writer->encoder->chroma_sample_location;
    enum error_code code = encode(writer, frame, error);
    writer->frames++;
    return code;
}

/* Packed RGB to what is encoded: *out is writer's own. */
static enum error_code convert(AVFrame **out, struct segment_writer *writer, const uint8_t *rgb,
                               struct error *error) {
    const struct codec_traits *traits = media_traits(writer->spec.codec);
    const int rows = writer->spec.height;
    AVFrame *frame = *out = traits->format == AV_PIX_FMT_RGB24 ? writer->rgb : writer->frame;
    /* The encoder may still hold the frame before. */
    if (av_frame_make_writable(writer->rgb) < 0 || av_frame_make_writable(frame) < 0)
        return error_set(error, ERR_MEMORY, "%s: no memory for a frame", writer->file.path);
    if (traits->format == AV_PIX_FMT_NV12) {
        const struct nv12_args args = {
            .out = {frame->data[0], frame->data[1], frame->linesize[0], frame->linesize[1]},
            .rgb = rgb,
            .height = rows,
            .width = writer->spec.width};
        nv12_rows(&args, 0, rows / 2);
        return ERR_OK;
    }
    media_fill_rgb(writer->rgb, rgb);
    if (writer->scaler &&
        sws_scale(writer->scaler, (const uint8_t *const *)writer->rgb->data, writer->rgb->linesize,
                  0, rows, frame->data, frame->linesize) != rows)
        return error_set(error, ERR_MEMORY, "%s: converting the colours of frame %lld",
                         writer->file.path, (long long)writer->frames);
    return ERR_OK;
}

/* A new frame on the card. */
static enum error_code card_frame(AVFrame **out, struct segment_writer *writer,
                                  struct error *error) {
    *out = av_frame_alloc();
    int number = *out ? av_hwframe_get_buffer(writer->card, *out, 0) : AVERROR(ENOMEM);
    if (number >= 0)
        return ERR_OK;
    av_frame_free(out);
    return media_error(error, number, ERR_DEVICE, "%s: a frame on the card", writer->file.path);
}

/* A frame of the host by way of the card. */
static enum error_code add_to_card(struct segment_writer *writer, const AVFrame *frame,
                                   struct error *error) {
    AVFrame *there;
    enum error_code code = card_frame(&there, writer, error);
    if (code)
        return code;
    int number = av_hwframe_transfer_data(there, frame, 0);
    code = number < 0 ? media_error(error, number, ERR_DEVICE, "%s: frame %lld to the card",
                                    writer->file.path, (long long)writer->frames)
                      : add(writer, there, error);
    av_frame_free(&there);
    return code;
}

/* The first failure is that of all that follows. */
static enum error_code kept(const struct segment_writer *writer, struct error *error) {
    if (writer->failure.code && error)
        *error = writer->failure;
    return writer->failure.code;
}

enum error_code segment_add(struct segment_writer *writer, const uint8_t *rgb,
                            struct error *error) {
    struct error *failure = &writer->failure;
    AVFrame *frame;
    media_enter();
    if (!failure->code && convert(&frame, writer, rgb, failure) == ERR_OK)
        failure->code =
            writer->card ? add_to_card(writer, frame, failure) : add(writer, frame, failure);
    return kept(writer, error);
}

bool segment_on_card(const struct segment_writer *writer) {
    return writer->card != NULL;
}

enum error_code segment_planes(struct segment_writer *writer, struct nv12_planes *out,
                               struct error *error) {
    struct error *failure = &writer->failure;
    media_enter();
    if (!failure->code && (!writer->card || writer->out_count == SEGMENT_PLANES_MAX))
        (void)error_set(failure, ERR_INTERNAL, "%s: planes for frame %d of %d", writer->file.path,
                        writer->out_count, SEGMENT_PLANES_MAX);
    AVFrame **place = &writer->out[(writer->out_first + writer->out_count) % SEGMENT_PLANES_MAX];
    if (!failure->code && card_frame(place, writer, failure) == ERR_OK) {
        const AVFrame *frame = *place;
        *out = (struct nv12_planes){frame->data[0], frame->data[1], frame->linesize[0],
                                    frame->linesize[1]};
        writer->out_count++;
    }
    return kept(writer, error);
}

enum error_code segment_add_planes(struct segment_writer *writer, struct error *error) {
    struct error *failure = &writer->failure;
    media_enter();
    if (!failure->code && writer->out_count == 0)
        (void)error_set(failure, ERR_INTERNAL, "%s: no planes are out", writer->file.path);
    if (!failure->code) {
        AVFrame **frame = &writer->out[writer->out_first];
        writer->out_first = (writer->out_first + 1) % SEGMENT_PLANES_MAX;
        writer->out_count--;
        failure->code = add(writer, *frame, failure);
        av_frame_free(frame);
    }
    return kept(writer, error);
}

enum error_code segment_finish(struct segment_writer **writer_pointer, struct error *error) {
    struct segment_writer *writer = *writer_pointer;
    struct error *failure = &writer->failure;
    *writer_pointer = NULL;
    media_enter();
    if (!failure->code && !writer->frames)
        (void)error_set(failure, ERR_USAGE, "%s: a segment of no frames", writer->file.path);
    if (!failure->code)
        failure->code = encode(writer, NULL, failure);
    if (!failure->code) {
        int number = av_write_trailer(writer->muxer);
        avio_flush(writer->file.io);
        if (!media_file_error(&writer->file, failure) && number < 0)
            (void)media_error(failure, number, ERR_IO, "%s: writing its end", writer->file.path);
    }
    enum error_code code = failure->code;
    if (!code)
        code = media_file_close(&writer->file, false, failure);
    if (code) {
        if (error)
            *error = *failure;
        segment_abandon(&writer);
    } else {
        writer_free(writer, false);
    }
    return code;
}

void segment_abandon(struct segment_writer **writer) {
    if (!*writer)
        return;
    writer_free(*writer, true);
    *writer = NULL;
}
