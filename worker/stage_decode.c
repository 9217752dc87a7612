/* decode: latents to frames, straight into an encoder. Yields a segment, the last frames for the
 * window that follows, and how the new ones differ from the video's first frame and from what went
 * before, a step at the seam taken out. Memory is that of a few frames, whatever the window's
 * length. */
#include <string.h>

#include "base/file.h"
#include "worker/seam.h"
#include "worker/stage.h"

struct sink {
    struct segment_writer *writer;
    uint8_t *tail; /* the last `tail_frames` of all `frames` decoded ones */
    size_t frame_bytes;
    int64_t frames, drop, keep, tail_frames;
    int64_t seen;
    int64_t placed; /* frames that planes were asked for */
    struct measure measure;
    struct seam seam;
    const struct stage_task *task;
};

/* Whether a frame is encoded from where it was decoded: all but those that the seam changes. */
static bool stays_on_card(const struct sink *sink, int64_t frame) {
    int64_t first = sink->drop > 0 ? sink->drop + SEAM_FRAMES : 0;
    return frame >= first && frame < sink->drop + sink->keep && segment_on_card(sink->writer);
}

static enum error_code sink_planes(void *user, struct nv12_planes *out, struct error *error) {
    struct sink *sink = user;
    *out = (struct nv12_planes){.luma = NULL};
    return stays_on_card(sink, sink->placed++) ? segment_planes(sink->writer, out, error) : ERR_OK;
}

static enum error_code encode(const struct sink *sink, const uint8_t *rgb, struct error *error) {
    return stays_on_card(sink, sink->seen) ? segment_add_planes(sink->writer, error)
                                           : segment_add(sink->writer, rgb, error);
}

/* A decoded frame as it is shown. */
static const uint8_t *shown(struct sink *sink, const uint8_t *rgb) {
    if (sink->seen >= sink->drop)
        return seam_next(&sink->seam, rgb);
    if (sink->seen == sink->drop - 1)
        seam_set(&sink->seam, sink->measure.last, rgb);
    return rgb;
}

static enum error_code sink_frames(void *user, const uint8_t *rgb, int count, struct error *error) {
    struct sink *sink = user;
    if (count > sink->frames - sink->seen)
        return error_set(error, ERR_SHAPE,
                         "the latents decode to more than the %lld planned frames",
                         (long long)sink->frames);
    for (int i = 0; i < count; i++, sink->seen++, rgb += sink->frame_bytes) {
        const uint8_t *frame = shown(sink, rgb);
        if (sink->seen >= sink->drop && sink->seen < sink->drop + sink->keep) {
            enum error_code code = encode(sink, frame, error);
            if (code != ERR_OK)
                return code;
            measure_add(&sink->measure, frame);
        }
        int64_t place = sink->seen - (sink->frames - sink->tail_frames);
        if (place >= 0 && place < sink->tail_frames)
            memcpy(sink->tail + (size_t)place * sink->frame_bytes, frame, sink->frame_bytes);
    }
    if (sink->task->progress)
        sink->task->progress(sink->task->user, (int)sink->seen, (int)sink->frames);
    return stage_canceled(sink->task, error);
}

/* What a card encodes is the same bytes on cards of one class alone, which the CPU's is not. */
static enum error_code choose_gpu(struct media_spec *spec, const struct stage_context *context,
                                  struct error *error) {
    spec->card = &context->card;
    if (media_codec_on_gpu(spec->codec) && !context->gpu)
        return error_set(error, ERR_UNSUPPORTED,
                         "codec %s: this worker does not run on an NVIDIA card; start it with "
                         "--device cuda:0, or choose another codec",
                         media_codec_name(spec->codec));
    return ERR_OK;
}

static enum error_code read_parameters(struct sink *sink, struct media_spec *spec,
                                       const struct stage_context *context,
                                       const struct stage_task *task, struct error *error) {
    enum error_code code = stage_media_spec(spec, task, error);
    if (code == ERR_OK)
        code = choose_gpu(spec, context, error);
    if (code == ERR_OK)
        code = stage_int(&sink->frames, task, "frames", 1, 1 << 12, error);
    if (code == ERR_OK)
        code = stage_int(&sink->drop, task, "drop", 0, sink->frames - 1, error);
    if (code == ERR_OK)
        code = stage_int(&sink->keep, task, "keep", 1, sink->frames - sink->drop, error);
    if (code == ERR_OK)
        code = stage_int(&sink->tail_frames, task, "tail", 0, sink->frames, error);
    sink->frame_bytes = (size_t)spec->width * (size_t)spec->height * 3;
    sink->task = task;
    return code;
}

/* Decode into a staged segment; whole and in the store on success, gone on failure. */
static enum error_code decode_segment(struct stage_context *context, struct model *model,
                                      const struct tensor *latents, struct sink *sink,
                                      const struct media_spec *spec, struct stage_result *result,
                                      struct error *error) {
    char staged[FILE_PATH_BYTES];
    enum error_code code =
        store_begin(context->store, staged, &sink->task->key, sink->task->epoch, error);
    if (code != ERR_OK)
        return code;
    code = segment_open(&sink->writer, staged, spec, error);
    if (code != ERR_OK) {
        store_abandon(context->store, staged);
        return code;
    }
    const struct frame_sink frames = {
        .frames = sink_frames,
        .planes = segment_on_card(sink->writer) ? sink_planes : NULL,
        .user = sink,
    };
    code = model_decode(model, latents->data, (int)latents->dim[1], spec->width, spec->height,
                        &frames, error);
    if (code == ERR_OK && sink->seen != sink->frames)
        code = error_set(error, ERR_SHAPE, "the latents decode to %lld frames, the plan says %lld",
                         (long long)sink->seen, (long long)sink->frames);
    if (code != ERR_OK) {
        segment_abandon(&sink->writer);
        return code;
    }
    code = segment_finish(&sink->writer, error);
    if (code != ERR_OK) {
        store_abandon(context->store, staged);
        return code;
    }
    return stage_put_file(context, "segment", staged, result, error);
}

/* The frames to measure against: the video's first, if another task has it, and the last of those
 * before the new ones. */
static enum error_code open_measure(struct sink *sink, struct stage_context *context,
                                    const struct media_spec *spec, struct stage_result *result,
                                    struct error *error) {
    const int64_t one[] = {1, spec->height, spec->width, 3};
    const int64_t tail[] = {sink->drop, spec->height, spec->width, 3};
    struct weights *start_file = NULL, *before_file = NULL;
    const struct tensor *start, *before;
    if (sink->drop == 0 && !stage_has_input(sink->task, "start"))
        return measure_open(&sink->measure, spec->width, spec->height, NULL, NULL, error);
    enum error_code code = stage_tensor(&start_file, &start, context, sink->task, "start", "frames",
                                        DTYPE_U8, 4, one, result, error);
    const uint8_t *last = code == ERR_OK ? start->data : NULL;
    if (code == ERR_OK && sink->drop > 0)
        code = stage_tensor(&before_file, &before, context, sink->task, "before", "frames",
                            DTYPE_U8, 4, tail, result, error);
    if (code == ERR_OK && sink->drop > 0)
        last = (const uint8_t *)before->data + (size_t)(sink->drop - 1) * sink->frame_bytes;
    if (code == ERR_OK)
        code = measure_open(&sink->measure, spec->width, spec->height, start->data, last, error);
    weights_close(&start_file);
    weights_close(&before_file);
    return code;
}

enum error_code stage_decode(struct stage_context *context, const struct stage_task *task,
                             struct stage_result *result, struct error *error) {
    struct sink sink = {0};
    struct media_spec spec;
    struct model *model;
    enum error_code code = read_parameters(&sink, &spec, context, task, error);
    if (code == ERR_OK)
        code = stage_model(&model, context, task, STAGE_VAE, error);
    if (code != ERR_OK)
        return code;
    const struct model_info *info = model_get_info(model);
    sink.tail = arena_array(&context->arena, (size_t)sink.tail_frames, sink.frame_bytes);
    if (!sink.tail)
        return error_set(error, ERR_MEMORY, "no room for %lld tail frames",
                         (long long)sink.tail_frames);
    code = seam_open(&sink.seam, &context->arena, sink.frame_bytes, error);
    if (code != ERR_OK)
        return code;

    const int64_t dims[] = {info->latent_channels, (sink.frames - 1) / info->time_stride + 1,
                            spec.height / info->space_stride, spec.width / info->space_stride};
    struct weights *file = NULL;
    const struct tensor *latents;
    code = stage_tensor(&file, &latents, context, task, "latents", "latents", DTYPE_F32, 4, dims,
                        result, error);
    if (code == ERR_OK)
        code = open_measure(&sink, context, &spec, result, error);
    if (code == ERR_OK)
        code = decode_segment(context, model, latents, &sink, &spec, result, error);
    if (code == ERR_OK) {
        measure_finish(&sink.measure, &result->measures);
        result->measured = true;
    }
    measure_close(&sink.measure);
    if (code == ERR_OK && sink.tail_frames > 0) {
        struct tensor tail = {.data = sink.tail,
                              .dtype = DTYPE_U8,
                              .rank = 4,
                              .dim = {sink.tail_frames, spec.height, spec.width, 3}};
        code = stage_put_tensor(context, task, "frames", &tail, result, error);
    }
    weights_close(&file);
    return code;
}
