/* Tensor names: one table from the diffusers layout to the original one, per component. */
#ifndef VIDLOOM_WORKER_MODEL_NAMES_H
#define VIDLOOM_WORKER_MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* The VAE of Wan2.1, and that of Wan2.2 with shortcuts around its levels. */
enum names_component { NAMES_UMT5, NAMES_TRANSFORMER, NAMES_VAE, NAMES_VAE_RESIDUAL, NAMES_CLIP };

/* The original name of a diffusers name. False when the result does not fit. */
bool names_to_original(char *out, size_t bytes, const char *diffusers,
                       enum names_component component);

/* And the diffusers name of an original one. CLIP's to_qkv stays: three tensors are one there. */
bool names_to_diffusers(char *out, size_t bytes, const char *original,
                        enum names_component component);

/* A tensor that only the original layout has: how a file's layout is told. */
const char *names_original_mark(enum names_component component);

#endif
