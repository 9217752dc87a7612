/* The encoder's and the decoder's straight line for one chunk. Inside worker/model/vae*.c only. */
#ifndef VIDLOOM_WORKER_MODEL_VAE_CODER_H
#define VIDLOOM_WORKER_MODEL_VAE_CODER_H

#include "worker/model/vae_volume.h"

/* Latent frames, raw values in ROLE_MIDDLE, to pictures in ROLE_PIXELS. */
struct volume vae_decode_chunk(struct vae_stream *stream, const struct volume *raw);
/* Pictures in ROLE_IN, or in ROLE_MIDDLE where they are to be patched, to moments [count,h,w,2C].
 */
struct volume vae_encode_chunk(struct vae_stream *stream, const struct volume *pictures);

#endif
