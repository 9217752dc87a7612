#include "worker/model/vae_coder.h"

#include <math.h>

#include "worker/model/vae_layers.h"

/* out = conv(history ‖ x) + residual: 3×3×3, as many frames as x. */
static void causal_conv(struct vae_stream *stream, void *out, const struct volume *x,
                        const struct filter *filter, const void *residual) {
    size_t frame = volume_frame_bytes(stream, x);
    const void *history = history_of(stream, VAE_HISTORY, frame);
    if (history != NULL && x->before != NULL) {
        stream->runtime->ops->copy(stream->runtime->device, x->before, history,
                                   VAE_HISTORY * frame);
        history = x->before;
    }
    run_conv(stream->runtime, filter,
             &(struct conv_args){.out = out,
                                 .in = x->data,
                                 .residual = residual,
                                 .history = history,
                                 .history_frames = VAE_HISTORY,
                                 .frames = x->frames,
                                 .height = x->height,
                                 .width = x->width,
                                 .pad_top = 1,
                                 .pad_bottom = 1,
                                 .pad_left = 1,
                                 .pad_right = 1});
    history_keep(stream, x->data, x->frames, VAE_HISTORY, frame);
}

/* 1×1×1, or 1×1 on every frame. */
static void point_conv(struct vae_stream *stream, void *out, const struct volume *x,
                       const struct filter *filter, const void *residual) {
    run_conv(stream->runtime, filter,
             &(struct conv_args){.out = out,
                                 .in = x->data,
                                 .residual = residual,
                                 .frames = x->frames,
                                 .height = x->height,
                                 .width = x->width});
}

static void norm(struct vae_stream *stream, void *out, const struct volume *x, const float *gamma,
                 enum activation activation) {
    stream->runtime->ops->channel_norm(stream->runtime->device, out, x->data, gamma, volume_rows(x),
                                       x->channels, activation, stream->runtime->dtype);
}

/* In place, unless the width changes or a shortcut still wants what came in. */
static void run_resnet(struct vae_stream *stream, struct volume *x, const struct resnet *res) {
    struct volume in = volume_make_like(stream, ROLE_IN, x, res->in), y = *x;
    struct volume middle = volume_make_like(stream, ROLE_MIDDLE, x, res->out);
    norm(stream, in.data, x, res->norm1, ACTIVATION_SILU);
    causal_conv(stream, middle.data, &in, &res->conv1, NULL);
    norm(stream, middle.data, &middle, res->norm2, ACTIVATION_SILU);
    const uint8_t *residual = x->data;
    if (res->in != res->out || (int)x->role == stream->held)
        y = volume_make_like(stream, role_next(stream, x->role), x, res->out);
    if (res->in != res->out) {
        point_conv(stream, y.data, x, &res->shortcut, NULL);
        residual = y.data;
    }
    causal_conv(stream, y.data, &middle, &res->conv2, residual);
    *x = y;
}

/* Every frame attends to itself, with one head as wide as the channels. */
static void run_attention_block(struct vae_stream *stream, struct volume *x,
                                const struct middle *block) {
    struct volume in = volume_make_like(stream, ROLE_IN, x, x->channels);
    struct volume qkv = volume_make_like(stream, ROLE_MIDDLE, x, 3 * x->channels);
    norm(stream, in.data, x, block->norm, ACTIVATION_NONE);
    point_conv(stream, qkv.data, &in, &block->qkv, NULL);
    size_t part = (size_t)x->channels * dtype_bytes(stream->runtime->dtype);
    for (int64_t f = 0; f < x->frames; f++) {
        const uint8_t *q = qkv.data + (size_t)f * volume_frame_bytes(stream, &qkv);
        run_attention(
            stream->runtime,
            &(struct attention_args){.q = q,
                                     .k = q + part,
                                     .v = q + 2 * part,
                                     .out = in.data + (size_t)f * volume_frame_bytes(stream, &in),
                                     .q_stride = 3 * x->channels,
                                     .k_stride = 3 * x->channels,
                                     .v_stride = 3 * x->channels,
                                     .out_stride = x->channels,
                                     .q_length = x->height * x->width,
                                     .k_length = x->height * x->width,
                                     .heads = 1,
                                     .head_dim = x->channels,
                                     .scale = 1 / sqrtf((float)x->channels),
                                     .dtype = stream->runtime->dtype});
    }
    point_conv(stream, x->data, &in, &block->proj, x->data);
}

static void run_middle(struct vae_stream *stream, struct volume *x, const struct middle *middle) {
    run_resnet(stream, x, &middle->before);
    run_attention_block(stream, x, middle);
    run_resnet(stream, x, &middle->after);
}

/* Twice the frames. The first frame of a video stays one, and the convolution does not see it. */
static struct volume time_up(struct vae_stream *stream, const struct volume *x,
                             const struct resample *up) {
    const struct ops *ops = stream->runtime->ops;
    struct device *device = stream->runtime->device;
    int64_t alone = stream->first ? 1 : 0, rest = x->frames - alone;
    size_t frame = volume_frame_bytes(stream, x);
    struct volume out =
        volume_make(stream, ROLE_MIDDLE, alone + 2 * rest, x->height, x->width, x->channels);
    ops->copy(device, out.data, x->data, (size_t)alone * frame);
    const uint8_t *seen = x->data + (size_t)alone * frame;
    const void *history = history_of(stream, VAE_HISTORY, frame);
    if (rest > 0) {
        struct volume twice =
            volume_make(stream, ROLE_IN, rest, x->height, x->width, 2 * x->channels);
        run_conv(stream->runtime, &up->time,
                 &(struct conv_args){.out = twice.data,
                                     .in = seen,
                                     .history = history,
                                     .history_frames = VAE_HISTORY,
                                     .frames = rest,
                                     .height = x->height,
                                     .width = x->width});
        ops->interleave_frames(device, out.data + (size_t)alone * frame, twice.data, rest,
                               x->height * x->width, x->channels, stream->runtime->dtype);
    }
    history_keep(stream, seen, rest, VAE_HISTORY, frame);
    return out;
}

/* Nearest ×2 in space and a 3×3 convolution, a few frames at a time so that the enlarged picture is
 * still in the cache when it is read. */
static void run_up(struct vae_stream *stream, struct volume *x, const struct resample *up) {
    struct volume from = up->in_time ? time_up(stream, x, up) : *x;
    struct volume to = volume_make(stream, role_next(stream, x->role), from.frames, 2 * from.height,
                                   2 * from.width, up->space.shape.out_channels);
    int64_t piece =
        stream->runtime->wants.chunk_bytes / 2 / (int64_t)(4 * volume_frame_bytes(stream, &from));
    piece = piece < 1 ? 1 : piece > from.frames ? from.frames : piece;
    struct volume large =
        volume_make(stream, ROLE_IN, piece, 2 * from.height, 2 * from.width, from.channels);
    for (int64_t f = 0; f < from.frames; f += piece) {
        int64_t count = from.frames - f < piece ? from.frames - f : piece;
        stream->runtime->ops->upsample(stream->runtime->device, large.data,
                                       from.data + (size_t)f * volume_frame_bytes(stream, &from),
                                       count, from.height, from.width, from.channels,
                                       stream->runtime->dtype);
        run_conv(stream->runtime, &up->space,
                 &(struct conv_args){.out = to.data + (size_t)f * volume_frame_bytes(stream, &to),
                                     .in = large.data,
                                     .frames = count,
                                     .height = large.height,
                                     .width = large.width,
                                     .pad_top = 1,
                                     .pad_bottom = 1,
                                     .pad_left = 1,
                                     .pad_right = 1});
    }
    *x = to;
}

/* Half the frames: the first of a video stays, then every three overlapping by one become one. */
static struct volume time_down(struct vae_stream *stream, const struct volume *x,
                               const struct resample *down) {
    const struct ops *ops = stream->runtime->ops;
    int64_t alone = stream->first ? 1 : 0;
    size_t frame = volume_frame_bytes(stream, x);
    int64_t frames = stream->first ? 1 + (x->frames - 1) / 2 : x->frames / 2;
    struct volume out =
        volume_make(stream, role_next(stream, x->role), frames, x->height, x->width, x->channels);
    ops->copy(stream->runtime->device, out.data, x->data, (size_t)alone * frame);
    /* One frame of history; at the start of a video the taps begin at frame 0. */
    const void *history = history_of(stream, 1, frame);
    if (frames > alone)
        run_conv(stream->runtime, &down->time,
                 &(struct conv_args){.out = out.data + (size_t)alone * frame,
                                     .in = x->data,
                                     .history = history,
                                     .history_frames = stream->first ? 0 : 1,
                                     .frames = x->frames,
                                     .height = x->height,
                                     .width = x->width});
    history_keep(stream, x->data, x->frames, 1, frame);
    return out;
}

static void run_down(struct vae_stream *stream, struct volume *x, const struct resample *down) {
    struct volume half = volume_make(stream, role_next(stream, x->role), x->frames, x->height / 2,
                                     x->width / 2, down->space.shape.out_channels);
    run_conv(stream->runtime, &down->space,
             &(struct conv_args){.out = half.data,
                                 .in = x->data,
                                 .frames = x->frames,
                                 .height = x->height,
                                 .width = x->width,
                                 .pad_bottom = 1,
                                 .pad_right = 1});
    *x = down->in_time ? time_down(stream, &half, down) : half;
}

/* x += what came into the level, averaged over the pixels that became one, or repeated. */
static void add_shortcut(struct vae_stream *stream, const struct volume *x,
                         const struct volume *entry, const struct level *level) {
    const struct ops *ops = stream->runtime->ops;
    const struct volume *fine = stream->encode ? entry : x, *coarse = stream->encode ? x : entry;
    const struct fold_args args = {.out = x->data,
                                   .x = entry->data,
                                   .frames = fine->frames,
                                   .height = fine->height,
                                   .width = fine->width,
                                   .channels = fine->channels,
                                   .folded = coarse->channels,
                                   .factor_t = level->resample.in_time ? 2 : 1,
                                   .factor_s = level->resample.present ? 2 : 1,
                                   .accumulate = true,
                                   .dtype = stream->runtime->dtype};
    (stream->encode ? ops->fold : ops->unfold)(stream->runtime->device, &args);
}

static void run_levels(struct vae_stream *stream, struct volume *x, const struct coder *coder,
                       int begin, int end) {
    for (int i = begin; i < end; i++) {
        const struct level *level = &coder->level[i];
        const struct volume entry = *x;
        stream->held = level->shortcut ? (int)entry.role : -1;
        for (int r = 0; r < level->count; r++)
            run_resnet(stream, x, &level->res[r]);
        if (level->resample.present && stream->encode)
            run_down(stream, x, &level->resample);
        else if (level->resample.present)
            run_up(stream, x, &level->resample);
        if (level->shortcut)
            add_shortcut(stream, x, &entry, level);
    }
    stream->held = -1;
}

/* Norm, SiLU, convolution: the end of both. */
static struct volume run_head(struct vae_stream *stream, const struct volume *x,
                              const struct coder *coder) {
    struct volume in = volume_make_like(stream, ROLE_IN, x, x->channels);
    struct volume out =
        volume_make_like(stream, ROLE_MIDDLE, x, coder->conv_out.shape.out_channels);
    norm(stream, in.data, x, coder->norm_out, ACTIVATION_SILU);
    causal_conv(stream, out.data, &in, &coder->conv_out, NULL);
    return out;
}

/* Patches of pixels to channels, (channel, column, row), and back. */
static struct volume run_patches(struct vae_stream *stream, enum role role,
                                 const struct volume *x) {
    const struct ops *ops = stream->runtime->ops;
    int patch = stream->vae->config.patch, folded = VAE_PICTURE * patch * patch;
    const struct volume out =
        stream->encode
            ? volume_make(stream, role, x->frames, x->height / patch, x->width / patch, folded)
            : volume_make(stream, role, x->frames, x->height * patch, x->width * patch,
                          VAE_PICTURE);
    const struct volume *fine = stream->encode ? x : &out;
    const struct fold_args args = {.out = out.data,
                                   .x = x->data,
                                   .frames = fine->frames,
                                   .height = fine->height,
                                   .width = fine->width,
                                   .channels = VAE_PICTURE,
                                   .folded = folded,
                                   .factor_t = 1,
                                   .factor_s = patch,
                                   .columns_first = true,
                                   .dtype = stream->runtime->dtype};
    (stream->encode ? ops->fold : ops->unfold)(stream->runtime->device, &args);
    return out;
}

/* The last level of the decoder that makes more frames, and the first of the encoder that makes
 * fewer: on the pixels' side of it are the most, and time does not change. */
static int time_level(const struct vae_stream *stream, const struct coder *coder) {
    int found = -1;
    for (int i = 0; i < stream->vae->config.levels; i++)
        if (coder->level[i].resample.in_time && (found < 0 || !stream->encode))
            found = i;
    return found;
}

/* From the last level that makes more frames to pictures. */
static struct volume decode_outer(struct vae_stream *stream, const struct volume *x, int begin) {
    const struct coder *coder = &stream->vae->decoder;
    struct volume whole = {0};
    struct pieces pieces = {0};
    stream->source = (int)x->role;
    while (pieces_next(&pieces, stream, x->frames)) {
        struct volume piece = volume_frames(stream, x, pieces.at, pieces.count);
        run_levels(stream, &piece, coder, begin, stream->vae->config.levels);
        piece = run_head(stream, &piece, coder);
        if (stream->vae->config.patch > 1)
            piece = run_patches(stream, ROLE_IN, &piece);
        if (pieces.at == 0)
            whole = pieces.count == x->frames
                        ? piece
                        : volume_make(stream, ROLE_PIXELS, x->frames, piece.height, piece.width,
                                      piece.channels);
        if (pieces.count < x->frames)
            volume_put(stream, &whole, pieces.at, &piece);
    }
    stream->source = -1;
    return whole;
}

struct volume vae_decode_chunk(struct vae_stream *stream, const struct volume *raw) {
    const struct coder *coder = &stream->vae->decoder;
    int inner = time_level(stream, coder) + 1;
    struct volume in = volume_make_like(stream, ROLE_IN, raw, raw->channels);
    point_conv(stream, in.data, raw, &coder->quant, NULL);
    struct volume x = volume_make_like(stream, ROLE_X, &in, coder->conv_in.shape.out_channels);
    causal_conv(stream, x.data, &in, &coder->conv_in, NULL);
    run_middle(stream, &x, &coder->middle);
    run_levels(stream, &x, coder, 0, inner);
    return decode_outer(stream, &x, inner);
}

/* From pictures to the first level that makes fewer frames. */
static struct volume encode_outer(struct vae_stream *stream, const struct volume *pictures,
                                  int end) {
    const struct coder *coder = &stream->vae->encoder;
    struct volume whole = {0};
    struct pieces pieces = {0};
    int64_t done = 0, frames = (pictures->frames + 1) / 2;
    while (pieces_next(&pieces, stream, pictures->frames)) {
        struct volume in = volume_frames(stream, pictures, pieces.at, pieces.count);
        if (stream->vae->config.patch > 1)
            in = run_patches(stream, ROLE_IN, &in);
        struct volume x = volume_make_like(stream, ROLE_X, &in, coder->conv_in.shape.out_channels);
        causal_conv(stream, x.data, &in, &coder->conv_in, NULL);
        run_levels(stream, &x, coder, 0, end);
        if (pieces.at == 0)
            whole = pieces.count == pictures->frames
                        ? x
                        : volume_make(stream, ROLE_W, frames, x.height, x.width, x.channels);
        if (pieces.count < pictures->frames)
            volume_put(stream, &whole, done, &x);
        done += x.frames;
    }
    return whole;
}

struct volume vae_encode_chunk(struct vae_stream *stream, const struct volume *pictures) {
    const struct coder *coder = &stream->vae->encoder;
    int outer = time_level(stream, coder) + 1;
    struct volume x = encode_outer(stream, pictures, outer);
    run_levels(stream, &x, coder, outer, stream->vae->config.levels);
    run_middle(stream, &x, &coder->middle);
    struct volume head = run_head(stream, &x, coder);
    struct volume out = volume_make_like(stream, ROLE_X, &head, head.channels);
    point_conv(stream, out.data, &head, &coder->quant, NULL);
    return out;
}
