/* Activations on their way through the coder, and what causal convolutions keep of them from one
 * chunk to the next. Inside worker/model/vae*.c only.
 *
 * A few buffers serve every activation (roles); a cache belongs to one convolution, and they are
 * taken in the order in which a chunk meets them. Both get their sizes from a dry run. */
#ifndef VIDLOOM_WORKER_MODEL_VAE_VOLUME_H
#define VIDLOOM_WORKER_MODEL_VAE_VOLUME_H

#include "worker/model/vae.h"

#define VAE_HISTORY 2 /* frames that a causal convolution of 3 looks back */

/* Where an activation lives. X, Y, Z and W take turns as the stream between blocks: one may be held
 * for a shortcut, and one is what goes through in pieces. IN is what the next convolution reads;
 * MIDDLE is between a block's two; PIXELS are a chunk's pictures. */
enum role { ROLE_X, ROLE_Y, ROLE_Z, ROLE_W, ROLE_IN, ROLE_MIDDLE, ROLE_PIXELS };

/* An activation [frames,height,width,channels]. */
struct volume {
    enum role role;
    uint8_t *data;
    uint8_t *before; /* room for VAE_HISTORY frames that end where `data` begins; NULL: none */
    int64_t frames, height, width;
    int channels;
};

size_t volume_frame_bytes(const struct vae_stream *stream, const struct volume *x);
int64_t volume_rows(const struct volume *x);

/* Replaces what was in the role. A dry run only notes the size. There is room before IN and MIDDLE
 * where the table joins history with the input (ops_wants.joins). */
struct volume volume_make(struct vae_stream *stream, enum role role, int64_t frames, int64_t height,
                          int64_t width, int channels);
struct volume volume_make_like(struct vae_stream *stream, enum role role, const struct volume *x,
                               int channels);
/* `count` frames of x from `first` on, where they are. */
struct volume volume_frames(const struct vae_stream *stream, const struct volume *x, int64_t first,
                            int64_t count);
/* Put a piece where its frames are in the whole. */
void volume_put(struct vae_stream *stream, const struct volume *whole, int64_t first,
                const struct volume *piece);
/* The role of the stream that is next after `role`. */
enum role role_next(const struct vae_stream *stream, enum role role);

/* The frames of a chunk in pieces, for the levels that have the most pixels. One piece, unless a
 * chunk is one latent frame, as in large pictures: then two frames, half of the memory. */
struct pieces {
    int64_t at, count;
    bool first, last; /* as they were of the chunk */
    int cursor;
};

/* Start with {0}; stream->first, last and cursor are those of the piece until there is none left.
 */
bool pieces_next(struct pieces *pieces, struct vae_stream *stream, int64_t frames);

/* The frames that the next cache kept of the chunk before; NULL, which stands for zeros, at the
 * start of a video. */
const void *history_of(struct vae_stream *stream, int count, size_t frame);
/* Keep the last `count` frames of history and `data` for the next chunk, and go on to the next
 * cache. */
void history_keep(struct vae_stream *stream, const uint8_t *data, int64_t frames, int count,
                  size_t frame);

#endif
