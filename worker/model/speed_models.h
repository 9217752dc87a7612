/* The whole of Wan2.1 on a table, with random weights: kernels/speed.h's figures of models. */
#ifndef VIDLOOM_WORKER_MODEL_SPEED_MODELS_H
#define VIDLOOM_WORKER_MODEL_SPEED_MODELS_H

#include "kernels/speed.h"

/* Seconds of the VAE's decode to pixels on the host, and of four steps of the 1.3B transformer, in
 * bf16 and with linear layers and attention in 8 bits: 81 frames of 480x832. 10 GiB on the device,
 * 4 on the host. Errors: the device's, ERR_MEMORY. */
MUST_CHECK enum error_code speed_models(const struct speed_config *config, struct error *error);

#endif
