#include "worker/model/vae.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/loader.h"

#define HISTORY     2 /* frames that a causal convolution of 3 looks back */
#define RES_MAX     9 /* residual blocks of one level of the decoder */
#define PICTURE     3 /* channels of a frame */
#define STRIDE      8 /* pixels of a latent, a side */
#define TIME_STRIDE 4

/* Activations of one chunk and one convolution are kept at about this size: small enough for a
 * shared cache, large enough to keep every core busy. */
#define CHUNK_BYTES ((int64_t)16 << 20)

struct resnet {
    const float *norm1, *norm2;
    struct filter conv1, conv2, shortcut; /* shortcut.conv is NULL where widths agree */
    int in, out;
};

struct middle {
    struct resnet before, after;
    const float *norm;
    struct filter qkv, proj;
};

/* Half the resolution in space, and maybe in time, or twice. */
struct resample {
    bool present, in_time;
    struct filter space, time;
};

struct level {
    struct resnet res[RES_MAX];
    int count;
    struct resample resample; /* after the residual blocks */
};

struct coder {
    struct filter conv_in, conv_out;
    struct filter quant; /* encoder: after all; decoder: before all */
    struct middle middle;
    struct level level[CONFIG_LEVELS_MAX];
    const float *norm_out;
    int width_out; /* channels of the last activation */
};

struct vae {
    struct vae_config config;
    struct coder encoder, decoder;
    const float *to_mul, *to_add;     /* normalise: 1/deviation, -mean/deviation */
    const float *from_mul, *from_add; /* deviation, mean */
};

/* -- weights --------------------------------------------------------------------------------- */

static void load_cube(struct loader *loader, struct filter *filter, const char *name, int size,
                      int in, int out) {
    const struct conv_shape shape = {size, size, size, 1, 1, 1, in, out};
    loader_filter(loader, filter, name, &shape, false);
}

static void load_plane(struct loader *loader, struct filter *filter, const char *name, int size,
                       int stride, int in, int out) {
    const struct conv_shape shape = {1, size, size, 1, stride, stride, in, out};
    loader_filter(loader, filter, name, &shape, true);
}

static void load_resnet(struct loader *loader, struct resnet *res, int in, int out) {
    res->in = in;
    res->out = out;
    res->norm1 = loader_vector(loader, "norm1.gamma", in);
    load_cube(loader, &res->conv1, "conv1", 3, in, out);
    res->norm2 = loader_vector(loader, "norm2.gamma", out);
    load_cube(loader, &res->conv2, "conv2", 3, out, out);
    if (in != out)
        load_cube(loader, &res->shortcut, "conv_shortcut", 1, in, out);
}

static void load_middle(struct loader *loader, struct middle *middle, const char *coder,
                        int width) {
    loader_enter(loader, "%s.mid_block.resnets.0.", coder);
    load_resnet(loader, &middle->before, width, width);
    loader_enter(loader, "%s.mid_block.attentions.0.", coder);
    middle->norm = loader_vector(loader, "norm.gamma", width);
    load_plane(loader, &middle->qkv, "to_qkv", 1, 1, width, 3 * width);
    load_plane(loader, &middle->proj, "proj", 1, 1, width, width);
    loader_enter(loader, "%s.mid_block.resnets.1.", coder);
    load_resnet(loader, &middle->after, width, width);
}

static void load_down(struct loader *loader, struct resample *down, int width, bool in_time) {
    const struct conv_shape time = {3, 1, 1, 2, 1, 1, width, width};
    down->present = true;
    down->in_time = in_time;
    load_plane(loader, &down->space, "resample.1", 3, 2, width, width);
    if (in_time)
        loader_filter(loader, &down->time, "time_conv", &time, false);
}

static void load_up(struct loader *loader, struct resample *up, int width, bool in_time) {
    const struct conv_shape time = {3, 1, 1, 1, 1, 1, width, 2 * width};
    up->present = true;
    up->in_time = in_time;
    load_plane(loader, &up->space, "resample.1", 3, 1, width, width / 2);
    if (in_time)
        loader_filter(loader, &up->time, "time_conv", &time, false);
}

static void load_ends(struct loader *loader, struct coder *coder, const char *name, int in,
                      int first, int last, int out) {
    loader_enter(loader, "%s.", name);
    load_cube(loader, &coder->conv_in, "conv_in", 3, in, first);
    coder->norm_out = loader_vector(loader, "norm_out.gamma", last);
    load_cube(loader, &coder->conv_out, "conv_out", 3, last, out);
    coder->width_out = last;
}

static void load_encoder(struct loader *loader, struct coder *coder,
                         const struct vae_config *config) {
    int width = config->width, index = 0,
        last = config->width * config->multiple[config->levels - 1];
    load_ends(loader, coder, "encoder", PICTURE, width, last, 2 * config->latent_channels);
    for (int i = 0; i < config->levels; i++) {
        struct level *level = &coder->level[i];
        int out = config->width * config->multiple[i];
        level->count = config->res_blocks;
        for (int r = 0; r < level->count; r++) {
            loader_enter(loader, "encoder.down_blocks.%d.", index++);
            load_resnet(loader, &level->res[r], r == 0 ? width : out, out);
        }
        width = out;
        loader_enter(loader, "encoder.down_blocks.%d.", index);
        if (i < config->levels - 1) {
            load_down(loader, &level->resample, width, config->time_down[i]);
            index++;
        }
    }
    load_middle(loader, &coder->middle, "encoder", last);
    loader_enter(loader, "%s", "");
    load_cube(loader, &coder->quant, "quant_conv", 1, 2 * config->latent_channels,
              2 * config->latent_channels);
}

static void load_decoder(struct loader *loader, struct coder *coder,
                         const struct vae_config *config) {
    int levels = config->levels, width = config->decoder_width * config->multiple[levels - 1];
    load_ends(loader, coder, "decoder", config->latent_channels, width,
              config->decoder_width * config->multiple[0], PICTURE);
    load_middle(loader, &coder->middle, "decoder", width);
    for (int i = 0; i < levels; i++) {
        struct level *level = &coder->level[i];
        int out = config->decoder_width * config->multiple[levels - 1 - i];
        level->count = config->res_blocks + 1;
        for (int r = 0; r < level->count; r++) {
            loader_enter(loader, "decoder.up_blocks.%d.resnets.%d.", i, r);
            load_resnet(loader, &level->res[r], r == 0 ? width : out, out);
        }
        loader_enter(loader, "decoder.up_blocks.%d.upsamplers.0.", i);
        if (i < levels - 1)
            load_up(loader, &level->resample, out, config->time_down[levels - 2 - i]);
        width = out / 2; /* up-sampling halves the width */
    }
    loader_enter(loader, "%s", "");
    load_cube(loader, &coder->quant, "post_quant_conv", 1, config->latent_channels,
              config->latent_channels);
}

static void load_statistics(struct loader *loader, struct vae *vae) {
    float mul[CONFIG_CHANNELS_MAX], add[CONFIG_CHANNELS_MAX];
    int channels = vae->config.latent_channels;
    for (int i = 0; i < channels; i++) {
        mul[i] = 1 / vae->config.deviation[i];
        add[i] = -vae->config.mean[i] / vae->config.deviation[i];
    }
    vae->to_mul = params_floats(loader->runtime, mul, channels);
    vae->to_add = params_floats(loader->runtime, add, channels);
    vae->from_mul = params_floats(loader->runtime, vae->config.deviation, channels);
    vae->from_add = params_floats(loader->runtime, vae->config.mean, channels);
    if (loader->code == ERR_OK && vae->from_add == NULL)
        loader->code = error_set(loader->error, ERR_MEMORY, "no device memory for parameters");
}

enum error_code vae_open(struct vae **out, struct runtime *runtime, const struct safetensors *file,
                         const struct vae_config *config, int64_t *elements, struct error *error) {
    struct vae *vae = calloc(1, sizeof *vae);
    *out = NULL;
    if (vae == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a VAE");
    vae->config = *config;
    struct loader loader;
    loader_start(&loader, runtime, file, NAMES_VAE, error);
    load_encoder(&loader, &vae->encoder, config);
    load_decoder(&loader, &vae->decoder, config);
    load_statistics(&loader, vae);
    enum error_code code = loader_finish(&loader, NULL);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        vae_close(runtime, &vae);
    *out = vae;
    return code;
}

static void close_resnet(struct runtime *runtime, struct resnet *res) {
    filter_close(runtime, &res->conv1);
    filter_close(runtime, &res->conv2);
    filter_close(runtime, &res->shortcut);
}

static void close_coder(struct runtime *runtime, struct coder *coder) {
    filter_close(runtime, &coder->conv_in);
    filter_close(runtime, &coder->conv_out);
    filter_close(runtime, &coder->quant);
    close_resnet(runtime, &coder->middle.before);
    close_resnet(runtime, &coder->middle.after);
    filter_close(runtime, &coder->middle.qkv);
    filter_close(runtime, &coder->middle.proj);
    for (int i = 0; i < CONFIG_LEVELS_MAX; i++) {
        for (int r = 0; r < RES_MAX; r++)
            close_resnet(runtime, &coder->level[i].res[r]);
        filter_close(runtime, &coder->level[i].resample.space);
        filter_close(runtime, &coder->level[i].resample.time);
    }
}

void vae_close(struct runtime *runtime, struct vae **vae) {
    if (*vae == NULL)
        return;
    close_coder(runtime, &(*vae)->encoder);
    close_coder(runtime, &(*vae)->decoder);
    free(*vae);
    *vae = NULL;
}

/* -- activations ----------------------------------------------------------------------------- */

/* Where an activation lives. X and Y take turns as the stream between blocks; IN is what the next
 * convolution reads; MIDDLE is between a block's two. */
enum role { ROLE_X, ROLE_Y, ROLE_IN, ROLE_MIDDLE };

/* An activation with room for HISTORY frames before it, so that history and chunk are one
 * contiguous input without a copy of the chunk. */
struct volume {
    enum role role;
    uint8_t *data;
    int64_t frames, height, width;
    int channels;
};

static size_t element_bytes(const struct vae_stream *stream) {
    return dtype_bytes(stream->runtime->dtype);
}

static size_t frame_bytes(const struct vae_stream *stream, const struct volume *x) {
    return (size_t)(x->height * x->width * x->channels) * element_bytes(stream);
}

static int64_t rows_of(const struct volume *x) {
    return x->frames * x->height * x->width;
}

/* Replaces what was in the role. A dry run only notes the size. */
static struct volume make(struct vae_stream *stream, enum role role, int64_t frames, int64_t height,
                          int64_t width, int channels) {
    struct volume x = {role, NULL, frames, height, width, channels};
    size_t frame = frame_bytes(stream, &x), bytes = (size_t)(frames + HISTORY) * frame;
    if (stream->dry && stream->role_bytes[role] < bytes)
        stream->role_bytes[role] = bytes;
    assert(bytes <= stream->role_bytes[role]);
    uint8_t *base = stream->dry ? (uint8_t *)(uintptr_t)ARENA_ALIGN : stream->role[role];
    x.data = base + HISTORY * frame;
    return x;
}

static struct volume make_like(struct vae_stream *stream, enum role role, const struct volume *x,
                               int channels) {
    return make(stream, role, x->frames, x->height, x->width, channels);
}

static enum role other(enum role role) {
    return role == ROLE_X ? ROLE_Y : ROLE_X;
}

/* Put the frames that the cache kept before x, or zeros at the start of a video. */
static void load_history(struct vae_stream *stream, uint8_t *to, int frames, size_t frame) {
    assert(stream->cursor < VAE_CACHES_MAX);
    size_t bytes = (size_t)frames * frame;
    if (stream->dry)
        stream->cache_bytes[stream->cursor] = bytes;
    if (stream->first)
        stream->runtime->ops->zero(stream->runtime->device, to, bytes);
    else
        stream->runtime->ops->copy(stream->runtime->device, to, stream->cache[stream->cursor],
                                   bytes);
}

/* Keep the last frames before `end` for the next chunk, and go on to the next cache. */
static void save_history(struct vae_stream *stream, const uint8_t *end, int frames, size_t frame) {
    size_t bytes = (size_t)frames * frame;
    if (!stream->last)
        stream->runtime->ops->copy(stream->runtime->device, stream->cache[stream->cursor],
                                   end - bytes, bytes);
    stream->cursor++;
}

/* out = conv(history ‖ x) + residual: 3×3×3, as many frames as x. */
static void causal_conv(struct vae_stream *stream, void *out, const struct volume *x,
                        const struct filter *filter, const void *residual) {
    size_t frame = frame_bytes(stream, x);
    uint8_t *start = x->data - HISTORY * frame;
    load_history(stream, start, HISTORY, frame);
    run_conv(stream->runtime, filter,
             &(struct conv_args){out, start, residual, x->frames + HISTORY, x->height, x->width, 1,
                                 1, 1, 1});
    save_history(stream, x->data + (size_t)x->frames * frame, HISTORY, frame);
}

/* 1×1×1, or 1×1 on every frame. */
static void point_conv(struct vae_stream *stream, void *out, const struct volume *x,
                       const struct filter *filter, const void *residual) {
    run_conv(
        stream->runtime, filter,
        &(struct conv_args){out, x->data, residual, x->frames, x->height, x->width, 0, 0, 0, 0});
}

static void norm(struct vae_stream *stream, void *out, const struct volume *x, const float *gamma,
                 enum activation activation) {
    stream->runtime->ops->channel_norm(stream->runtime->device, out, x->data, gamma, rows_of(x),
                                       x->channels, activation, stream->runtime->dtype);
}

static void run_resnet(struct vae_stream *stream, struct volume *x, const struct resnet *res) {
    struct volume in = make_like(stream, ROLE_IN, x, res->in), y = *x;
    struct volume middle = make_like(stream, ROLE_MIDDLE, x, res->out);
    norm(stream, in.data, x, res->norm1, ACTIVATION_SILU);
    causal_conv(stream, middle.data, &in, &res->conv1, NULL);
    norm(stream, middle.data, &middle, res->norm2, ACTIVATION_SILU);
    if (res->in != res->out) {
        y = make_like(stream, other(x->role), x, res->out);
        point_conv(stream, y.data, x, &res->shortcut, NULL);
    }
    causal_conv(stream, y.data, &middle, &res->conv2, y.data);
    *x = y;
}

/* Every frame attends to itself, with one head as wide as the channels. */
static void run_attention_block(struct vae_stream *stream, struct volume *x,
                                const struct middle *block) {
    struct volume in = make_like(stream, ROLE_IN, x, x->channels);
    struct volume qkv = make_like(stream, ROLE_MIDDLE, x, 3 * x->channels);
    norm(stream, in.data, x, block->norm, ACTIVATION_NONE);
    point_conv(stream, qkv.data, &in, &block->qkv, NULL);
    size_t part = (size_t)x->channels * element_bytes(stream);
    for (int64_t f = 0; f < x->frames; f++) {
        const uint8_t *q = qkv.data + (size_t)f * frame_bytes(stream, &qkv);
        run_attention(stream->runtime, &(struct attention_args){
                                           .q = q,
                                           .k = q + part,
                                           .v = q + 2 * part,
                                           .out = in.data + (size_t)f * frame_bytes(stream, &in),
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
    size_t frame = frame_bytes(stream, x);
    struct volume out =
        make(stream, ROLE_MIDDLE, alone + 2 * rest, x->height, x->width, x->channels);
    ops->copy(device, out.data, x->data, (size_t)alone * frame);
    uint8_t *start = x->data + (size_t)alone * frame - HISTORY * frame;
    load_history(stream, start, HISTORY, frame); /* over the first frame, which is copied */
    if (rest > 0) {
        struct volume twice = make(stream, ROLE_IN, rest, x->height, x->width, 2 * x->channels);
        run_conv(stream->runtime, &up->time,
                 &(struct conv_args){twice.data, start, NULL, rest + HISTORY, x->height, x->width,
                                     0, 0, 0, 0});
        ops->interleave_frames(device, out.data + (size_t)alone * frame, twice.data, rest,
                               x->height * x->width, x->channels, stream->runtime->dtype);
    }
    save_history(stream, start + (size_t)(rest + HISTORY) * frame, HISTORY, frame);
    return out;
}

/* Nearest ×2 in space and a 3×3 convolution, a few frames at a time so that the enlarged picture is
 * still in the cache when it is read. */
static void run_up(struct vae_stream *stream, struct volume *x, const struct resample *up) {
    struct volume from = up->in_time ? time_up(stream, x, up) : *x;
    struct volume to = make(stream, other(x->role), from.frames, 2 * from.height, 2 * from.width,
                            up->space.shape.out_channels);
    int64_t piece = CHUNK_BYTES / 2 / (int64_t)(4 * frame_bytes(stream, &from));
    piece = piece < 1 ? 1 : piece > from.frames ? from.frames : piece;
    struct volume large =
        make(stream, ROLE_IN, piece, 2 * from.height, 2 * from.width, from.channels);
    for (int64_t f = 0; f < from.frames; f += piece) {
        int64_t count = from.frames - f < piece ? from.frames - f : piece;
        stream->runtime->ops->upsample(
            stream->runtime->device, large.data, from.data + (size_t)f * frame_bytes(stream, &from),
            count, from.height, from.width, from.channels, stream->runtime->dtype);
        run_conv(stream->runtime, &up->space,
                 &(struct conv_args){to.data + (size_t)f * frame_bytes(stream, &to), large.data,
                                     NULL, count, large.height, large.width, 1, 1, 1, 1});
    }
    *x = to;
}

/* Half the frames: the first of a video stays, then every three overlapping by one become one. */
static struct volume time_down(struct vae_stream *stream, const struct volume *x,
                               const struct resample *down) {
    const struct ops *ops = stream->runtime->ops;
    int64_t alone = stream->first ? 1 : 0;
    size_t frame = frame_bytes(stream, x);
    int64_t frames = stream->first ? 1 + (x->frames - 1) / 2 : x->frames / 2;
    struct volume out = make(stream, other(x->role), frames, x->height, x->width, x->channels);
    ops->copy(stream->runtime->device, out.data, x->data, (size_t)alone * frame);
    /* One frame of history; at the start of a video there is none, and the taps begin at frame 0.
     */
    const uint8_t *start = stream->first ? x->data : x->data - frame;
    load_history(stream, x->data - frame, 1, frame);
    if (frames > alone)
        run_conv(stream->runtime, &down->time,
                 &(struct conv_args){out.data + (size_t)alone * frame, start, NULL,
                                     x->frames + 1 - alone, x->height, x->width, 0, 0, 0, 0});
    save_history(stream, x->data + (size_t)x->frames * frame, 1, frame);
    return out;
}

static void run_down(struct vae_stream *stream, struct volume *x, const struct resample *down) {
    struct volume half = make(stream, other(x->role), x->frames, x->height / 2, x->width / 2,
                              down->space.shape.out_channels);
    run_conv(
        stream->runtime, &down->space,
        &(struct conv_args){half.data, x->data, NULL, x->frames, x->height, x->width, 0, 1, 0, 1});
    *x = down->in_time ? time_down(stream, &half, down) : half;
}

static void run_levels(struct vae_stream *stream, struct volume *x, const struct coder *coder) {
    for (int i = 0; i < stream->vae->config.levels; i++) {
        const struct level *level = &coder->level[i];
        for (int r = 0; r < level->count; r++)
            run_resnet(stream, x, &level->res[r]);
        if (level->resample.present && stream->encode)
            run_down(stream, x, &level->resample);
        else if (level->resample.present)
            run_up(stream, x, &level->resample);
    }
}

/* Norm, SiLU, convolution: the end of both. */
static struct volume run_head(struct vae_stream *stream, const struct volume *x,
                              const struct coder *coder) {
    struct volume in = make_like(stream, ROLE_IN, x, x->channels);
    struct volume out = make_like(stream, ROLE_MIDDLE, x, coder->conv_out.shape.out_channels);
    norm(stream, in.data, x, coder->norm_out, ACTIVATION_SILU);
    causal_conv(stream, out.data, &in, &coder->conv_out, NULL);
    return out;
}

/* -- streams --------------------------------------------------------------------------------- */

/* `count` latent frames, raw values in ROLE_MIDDLE, to pictures. */
static struct volume decode_chunk(struct vae_stream *stream, const struct volume *raw) {
    const struct coder *coder = &stream->vae->decoder;
    struct volume in = make_like(stream, ROLE_IN, raw, raw->channels);
    point_conv(stream, in.data, raw, &coder->quant, NULL);
    struct volume x = make_like(stream, ROLE_X, &in, coder->conv_in.shape.out_channels);
    causal_conv(stream, x.data, &in, &coder->conv_in, NULL);
    run_middle(stream, &x, &coder->middle);
    run_levels(stream, &x, coder);
    return run_head(stream, &x, coder);
}

/* Pictures in ROLE_IN to moments [count,h,w,2C]. */
static struct volume encode_chunk(struct vae_stream *stream, const struct volume *in) {
    const struct coder *coder = &stream->vae->encoder;
    struct volume x = make_like(stream, ROLE_X, in, coder->conv_in.shape.out_channels);
    causal_conv(stream, x.data, in, &coder->conv_in, NULL);
    run_levels(stream, &x, coder);
    run_middle(stream, &x, &coder->middle);
    struct volume head = run_head(stream, &x, coder);
    struct volume out = make_like(stream, ROLE_X, &head, head.channels);
    point_conv(stream, out.data, &head, &coder->quant, NULL);
    return out;
}

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
    if (!stream->encode)
        return make(stream, ROLE_MIDDLE, count, stream->height, stream->width,
                    stream->vae->config.latent_channels);
    return make(stream, ROLE_IN, pictures(stream->first, count), STRIDE * stream->height,
                STRIDE * stream->width, PICTURE);
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
        (void)encode_chunk(stream, &in);
    else
        (void)decode_chunk(stream, &in);
    stream->runtime = real;
    stream->dry = false;
    stream->done = 0;
}

static int64_t usual_chunk(const struct vae_stream *stream) {
    int64_t width = stream->encode ? stream->vae->config.width : stream->vae->config.decoder_width;
    int64_t frame =
        stream->height * stream->width * STRIDE * STRIDE * width * (int64_t)element_bytes(stream);
    int64_t chunk = CHUNK_BYTES / (TIME_STRIDE * frame);
    return chunk < 1 ? 1 : chunk;
}

void vae_stream_open(struct vae_stream *stream, const struct vae *vae, struct runtime *runtime,
                     bool encode, int64_t frames, int64_t height, int64_t width, int64_t chunk) {
    memset(stream, 0, sizeof *stream);
    stream->runtime = runtime;
    stream->vae = vae;
    stream->encode = encode;
    stream->frames = frames;
    stream->height = height;
    stream->width = width;
    stream->chunk = chunk > 0 ? chunk : usual_chunk(stream);
    if (stream->chunk > frames)
        stream->chunk = frames;
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
    struct volume out = decode_chunk(stream, &raw);
    stream->done += now;
    *count = out.frames;
    return out.data;
}

/* The pictures of a chunk: those that are given, then grey. */
static void fill_pictures(struct vae_stream *stream, const struct volume *in, const uint8_t *pixels,
                          int64_t given) {
    const struct ops *ops = stream->runtime->ops;
    size_t frame = frame_bytes(stream, in);
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
        struct volume out = encode_chunk(&stream, &in);
        runtime->ops->copy(runtime->device, moments + (size_t)stream.done * moment, out.data,
                           (size_t)now * moment);
        stream.done += now;
    }
    runtime->ops->to_channels_first(runtime->device, latents, moments, vae->to_mul, vae->to_add,
                                    channels, 2 * channels, frames * height * width,
                                    runtime->dtype);
    arena_reset(runtime->work, mark);
}
