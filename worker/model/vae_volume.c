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
    struct volume x = {role, NULL, frames, height, width, channels};
    size_t frame = volume_frame_bytes(stream, &x), bytes = (size_t)(frames + VAE_HISTORY) * frame;
    if (stream->dry && stream->role_bytes[role] < bytes)
        stream->role_bytes[role] = bytes;
    assert(bytes <= stream->role_bytes[role]);
    uint8_t *base = stream->dry ? (uint8_t *)(uintptr_t)ARENA_ALIGN : stream->role[role];
    x.data = base + VAE_HISTORY * frame;
    return x;
}

struct volume volume_make_like(struct vae_stream *stream, enum role role, const struct volume *x,
                               int channels) {
    return volume_make(stream, role, x->frames, x->height, x->width, channels);
}

enum role role_next(const struct vae_stream *stream, enum role role) {
    enum role next = ROLE_X;
    while (next == role || (int)next == stream->held)
        next++;
    return next;
}

void history_load(struct vae_stream *stream, uint8_t *to, int frames, size_t frame) {
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

void history_save(struct vae_stream *stream, const uint8_t *end, int frames, size_t frame) {
    size_t bytes = (size_t)frames * frame;
    if (!stream->last)
        stream->runtime->ops->copy(stream->runtime->device, stream->cache[stream->cursor],
                                   end - bytes, bytes);
    stream->cursor++;
}
