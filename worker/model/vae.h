/* The causal video autoencoders of Wan2.1 and Wan2.2: pixels to latents and back, in a stream.
 * A latent is s pixels wide and high (config->space_stride): 8, or Wan2.2's 16.
 *
 * Activations are [T,H,W,C] of the compute type. Time goes by in chunks: every causal convolution
 * keeps the last two frames of its input from one chunk to the next, so the result does not depend
 * on how a video is cut, and memory does not depend on how long it is. The first frame of a video
 * is one latent frame by itself; every later latent frame is four.
 *
 * Source: diffusers, autoencoder_kl_wan.py. One thread at a time. */
#ifndef VIDLOOM_WORKER_MODEL_VAE_H
#define VIDLOOM_WORKER_MODEL_VAE_H

#include "worker/model/config.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

struct vae;

/* *elements (may be NULL) gets the number of parameters. */
MUST_CHECK enum error_code vae_open(struct vae **out, struct runtime *runtime,
                                    const struct weights *file, const struct vae_config *config,
                                    int64_t *elements, struct error *error);
void vae_close(struct runtime *runtime, struct vae **vae);

#define VAE_CACHES_MAX 96
#define VAE_ROLES      7

/* A video on its way through the encoder or decoder. Its memory is in the runtime's work arena from
 * vae_stream_open until the caller resets the arena. */
struct vae_stream {
    struct runtime *runtime;
    const struct vae *vae;
    bool encode;
    int64_t frames;        /* latent frames in all */
    int64_t height, width; /* latents */
    int64_t done;          /* latent frames gone through */
    int64_t chunk;         /* latent frames in one go */
    bool first, last;      /* of the chunk that is going through */
    bool dry;              /* only asking for sizes */
    int cursor;            /* next cache */
    int held;              /* role of what came into a level, which its shortcut reads; or -1 */
    int source;            /* role of what is going through in pieces; or -1 */
    int room;              /* frames before what convolutions read, for history */
    size_t role_bytes[VAE_ROLES], cache_bytes[VAE_CACHES_MAX];
    uint8_t *role[VAE_ROLES], *cache[VAE_CACHES_MAX];
};

/* chunk 0: as many latent frames at a time as the device wants (ops_wants.chunk_bytes); 1 for
 * large pictures on a CPU. Otherwise that many, for tests. */
void vae_stream_open(struct vae_stream *stream, const struct vae *vae, struct runtime *runtime,
                     bool encode, int64_t frames, int64_t height, int64_t width, int64_t chunk);

/* Decode the next chunk of normalised latents [C,frames,height,width] f32, host. Returns the frames
 * [*count,s·height,s·width,3] of the compute type, on the device until the next call; not clamped.
 * NULL when all are done. */
const void *vae_decode_next(struct vae_stream *stream, const float *latents, int64_t *count);

/* Encode [1+4(frames-1),s·height,s·width,3] pixels in -1..1 of the compute type (device), of which
 * the first `given` frames are there and the others grey (0), to normalised latents
 * [C,frames,height,width] f32 (device): the mean, not a sample. */
void vae_encode(const struct vae *vae, struct runtime *runtime, float *latents, const void *pixels,
                int64_t given, int64_t frames, int64_t height, int64_t width, int64_t chunk);

#endif
