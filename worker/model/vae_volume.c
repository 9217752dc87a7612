#include "worker/model/vae_volume.h"

#include <assert.h>

size_t volume_frame_bytes(const struct vae_stream *stream, const struct volume *x) {
    return (size_t)(x->height * x->width * x->channels) * dtype_bytes(stream->runtime->dtype);
}

int64_t volume_rows(const struct volume *x) {
    return x->frames * x->height * x->width;
}

struct volume volume_make(struct vae_stream *stream, enum role role, int64_t frames, int64_t height,
                          int64_t width, int channels) {
    struct volume x = {role, NULL, NULL, frames, height, width, channels};
    const size_t frame = volume_frame_bytes(stream, &x), most = (size_t)stream->room * frame;
    const bool room =
        most > 0 && most % ARENA_ALIGN == 0 && (role == ROLE_IN || role == ROLE_MIDDLE);
    const size_t before = room ? most : 0, bytes = before + (size_t)frames * frame;
    if (stream->dry && stream->role_bytes[role] < bytes)
        stream->role_bytes[role] = bytes;
    assert(bytes <= stream->role_bytes[role]);
    uint8_t *memory = stream->dry ? (uint8_t *)(uintptr_t)ARENA_ALIGN : stream->role[role];
    x.data = memory + before;
    x.before = room ? memory : NULL;
    return x;
}

struct volume volume_make_like(struct vae_stream *stream, enum role role, const struct volume *x,
                               int channels) {
    return volume_make(stream, role, x->frames, x->height, x->width, channels);
}

enum role role_next(const struct vae_stream *stream, enum role role) {
    enum role next = ROLE_X;
    while (next == role || (int)next == stream->held || (int)next == stream->source)
        next++;
    assert(next <= ROLE_W);
    return next;
}

struct volume volume_frames(const struct vae_stream *stream, const struct volume *x, int64_t first,
                            int64_t count) {
    struct volume out = *x;
    out.before = NULL;
    out.data += (size_t)first * volume_frame_bytes(stream, x);
    out.frames = count;
    return out;
}

void volume_put(struct vae_stream *stream, const struct volume *whole, int64_t first,
                const struct volume *piece) {
    size_t frame = volume_frame_bytes(stream, piece);
    stream->runtime->ops->copy(stream->runtime->device, whole->data + (size_t)first * frame,
                               piece->data, (size_t)piece->frames * frame);
}

bool pieces_next(struct pieces *pieces, struct vae_stream *stream, int64_t frames) {
    if (pieces->count == 0)
        *pieces =
            (struct pieces){.first = stream->first, .last = stream->last, .cursor = stream->cursor};
    pieces->at += pieces->count;
    int64_t left = frames - pieces->at;
    pieces->count = stream->chunk > 1 || left < 2 ? left : 2;
    stream->first = pieces->first && (pieces->at == 0 || left == 0);
    stream->last = pieces->last && left == pieces->count;
    if (left > 0)
        stream->cursor = pieces->cursor;
    return left > 0;
}

const void *history_of(struct vae_stream *stream, int count, size_t frame) {
    assert(stream->cursor < VAE_CACHES_MAX);
    if (stream->dry)
        stream->cache_bytes[stream->cursor] = (size_t)count * frame;
    return stream->first ? NULL : stream->cache[stream->cursor];
}

void history_keep(struct vae_stream *stream, const uint8_t *data, int64_t frames, int count,
                  size_t frame) {
    const struct ops *ops = stream->runtime->ops;
    struct device *device = stream->runtime->device;
    uint8_t *cache = stream->cache[stream->cursor++];
    if (stream->last || stream->dry)
        return;
    int kept = frames < count ? (int)frames : count, old = count - kept;
    if (stream->first)
        ops->zero(device, cache, (size_t)old * frame);
    else if (kept > 0)
        ops->copy(device, cache, cache + (size_t)kept * frame, (size_t)old * frame);
    ops->copy(device, cache + (size_t)old * frame, data + (size_t)(frames - kept) * frame,
              (size_t)kept * frame);
}
