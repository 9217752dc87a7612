/* A video in chunks: through the encoder or the decoder. */
#include "worker/model/vae.h"

#include <string.h>

#include "worker/model/vae_coder.h"
#include "worker/model/vae_layers.h"

#define TIME_STRIDE 4
#define LEVEL_SIDE  8 /* pixels of the outermost level that are a latent's, a side */

/* Frames of video that `count` latent frames are, from `first` on. */
static int64_t pictures(bool first, int64_t count) {
    return first ? 1 + TIME_STRIDE * (count - 1) : TIME_STRIDE * count;
}

static void begin_chunk(struct vae_stream *stream, int64_t count) {
    stream->first = stream->done == 0;
    stream->last = stream->done + count >= stream->frames;
    stream->cursor = 0;
}

static struct volume chunk_input(struct vae_stream *stream, int64_t count) {
    const struct vae_config *config = &stream->vae->config;
    if (!stream->encode)
        return volume_make(stream, ROLE_MIDDLE, count, stream->height, stream->width,
                           config->latent_channels);
    return volume_make(stream, ROLE_PIXELS, pictures(stream->first, count),
                       config->space_stride * stream->height, config->space_stride * stream->width,
                       VAE_PICTURE);
}

/* Run a chunk on the table that computes nothing, noting what every role and cache takes. */
static void measure_chunk(struct vae_stream *stream, int64_t done, int64_t count) {
    struct runtime dry = *stream->runtime, *real = stream->runtime;
    dry.ops = ops_measure();
    stream->runtime = &dry;
    stream->dry = true;
    stream->done = done;
    begin_chunk(stream, count);
    struct volume in = chunk_input(stream, count);
    if (stream->encode)
        (void)vae_encode_chunk(stream, &in);
    else
        (void)vae_decode_chunk(stream, &in);
    stream->runtime = real;
    stream->dry = false;
    stream->done = 0;
}

static int64_t usual_chunk(const struct vae_stream *stream) {
    int64_t width = stream->encode ? stream->vae->config.width : stream->vae->config.decoder_width;
    int64_t frame = stream->height * stream->width * LEVEL_SIDE * LEVEL_SIDE * width *
                    (int64_t)dtype_bytes(stream->runtime->dtype);
    const struct ops_wants *wants = &stream->runtime->wants;
    int64_t chunk = wants->chunk_bytes / (TIME_STRIDE * frame);
    if (wants->chunk_frames > 0 && chunk > wants->chunk_frames)
        chunk = wants->chunk_frames;
    return chunk < 1 ? 1 : chunk;
}

void vae_stream_open(struct vae_stream *stream, const struct vae *vae, struct runtime *runtime,
                     bool encode, int64_t frames, int64_t height, int64_t width, int64_t chunk) {
    memset(stream, 0, sizeof *stream);
    stream->runtime = runtime;
    stream->vae = vae;
    stream->encode = encode;
    stream->held = stream->source = -1;
    stream->frames = frames;
    stream->height = height;
    stream->width = width;
    stream->chunk = chunk > 0 ? chunk : usual_chunk(stream);
    if (stream->chunk > frames)
        stream->chunk = frames;
    if (runtime->wants.joins && runtime->dtype == DTYPE_BF16 && stream->chunk < frames)
        stream->room = VAE_HISTORY;
    measure_chunk(stream, 0, stream->chunk);
    if (stream->chunk < frames) {
        int64_t rest = frames - stream->chunk;
        measure_chunk(stream, stream->chunk, rest < stream->chunk ? rest : stream->chunk);
    }
    for (int i = 0; i < VAE_ROLES; i++)
        stream->role[i] = work_alloc(runtime, (int64_t)stream->role_bytes[i], DTYPE_U8);
    for (int i = 0; i < VAE_CACHES_MAX && stream->chunk < frames; i++)
        stream->cache[i] = work_alloc(runtime, (int64_t)stream->cache_bytes[i], DTYPE_U8);
}

const void *vae_decode_next(struct vae_stream *stream, const float *latents, int64_t *count) {
    int64_t left = stream->frames - stream->done, now = left < stream->chunk ? left : stream->chunk;
    if (now == 0)
        return NULL;
    struct runtime *runtime = stream->runtime;
    const struct ops *ops = runtime->ops;
    int64_t pixels = stream->height * stream->width;
    int channels = stream->vae->config.latent_channels;
    begin_chunk(stream, now);
    struct volume raw = chunk_input(stream, now);
    size_t mark = runtime->work->used;
    float *slice = work_floats(runtime, channels * now * pixels);
    for (int c = 0; c < channels; c++)
        ops->upload(runtime->device, slice + c * now * pixels,
                    latents + (c * stream->frames + stream->done) * pixels,
                    (size_t)(now * pixels) * sizeof *slice);
    ops->to_channels_last(runtime->device, raw.data, slice, stream->vae->from_mul,
                          stream->vae->from_add, channels, now * pixels, runtime->dtype);
    arena_reset(runtime->work, mark);
    struct volume out = vae_decode_chunk(stream, &raw);
    stream->done += now;
    *count = out.frames;
    return out.data;
}

/* The pictures of a chunk: those that are given, then grey. */
static void fill_pictures(struct vae_stream *stream, const struct volume *in, const uint8_t *pixels,
                          int64_t given) {
    const struct ops *ops = stream->runtime->ops;
    size_t frame = volume_frame_bytes(stream, in);
    int64_t begin = stream->first ? 0 : pictures(true, stream->done);
    int64_t there = given - begin < 0 ? 0 : given - begin;
    if (there > in->frames)
        there = in->frames;
    if (there > 0)
        ops->copy(stream->runtime->device, in->data, pixels + (size_t)begin * frame,
                  (size_t)there * frame);
    ops->zero(stream->runtime->device, in->data + (size_t)there * frame,
              (size_t)(in->frames - there) * frame);
}

void vae_encode(const struct vae *vae, struct runtime *runtime, float *latents, const void *pixels,
                int64_t given, int64_t frames, int64_t height, int64_t width, int64_t chunk) {
    int channels = vae->config.latent_channels;
    size_t mark = runtime->work->used;
    size_t moment = (size_t)(height * width * 2 * channels) * dtype_bytes(runtime->dtype);
    uint8_t *moments = work_alloc(runtime, frames * (int64_t)moment, DTYPE_U8);
    struct vae_stream stream;
    vae_stream_open(&stream, vae, runtime, true, frames, height, width, chunk);
    while (stream.done < frames) {
        int64_t left = frames - stream.done, now = left < stream.chunk ? left : stream.chunk;
        begin_chunk(&stream, now);
        struct volume in = chunk_input(&stream, now);
        fill_pictures(&stream, &in, pixels, given);
        struct volume out = vae_encode_chunk(&stream, &in);
        runtime->ops->copy(runtime->device, moments + (size_t)stream.done * moment, out.data,
                           (size_t)now * moment);
        stream.done += now;
    }
    runtime->ops->to_channels_first(runtime->device, latents, moments, vae->to_mul, vae->to_add,
                                    channels, 2 * channels, frames * height * width,
                                    runtime->dtype);
    arena_reset(runtime->work, mark);
}
