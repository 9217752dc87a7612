/* The weights of the video autoencoder as the coder walks through them. Inside worker/model/vae*.c
 * only. */
#ifndef VIDLOOM_WORKER_MODEL_VAE_LAYERS_H
#define VIDLOOM_WORKER_MODEL_VAE_LAYERS_H

#include "worker/model/config.h"
#include "worker/model/runtime.h"

#define VAE_RES_MAX 9 /* residual blocks of one level of the decoder */
#define VAE_PICTURE 3 /* channels of a frame */

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
    struct resnet res[VAE_RES_MAX];
    int count, in, out;       /* blocks; channels before and after */
    bool shortcut;            /* around all of it */
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

#endif
