/* Weights from one layout, type or container to safetensors in another.
 *
 * Names and shapes are those of the layout, so that the reference reads what is written; of the
 * original layout's .pth files the name stays and the container is safetensors. Without a type
 * every element is copied to the bit. A type is for what products read, matrices and convolutions:
 * norms, biases, modulation and the time embedding stay as they are, since they are computed in
 * f32. Int8 and fp8 (kernels/quantise.h) are for the matrices of the blocks of transformers and of
 * umT5 alone; NAME_scale beside each holds its scales.
 *
 * What is written appears whole at its name or not at all. One thread. */
#ifndef VIDLOOM_WORKER_MODEL_CONVERT_H
#define VIDLOOM_WORKER_MODEL_CONVERT_H

#include <stdbool.h>

#include "base/error.h"
#include "kernels/tensor.h"

enum convert_layout { CONVERT_DIFFUSERS, CONVERT_ORIGINAL };

struct convert_options {
    enum convert_layout layout;
    bool typed; /* to `dtype`: F32, BF16, F16, I8 or F8_E4M3; else as they are */
    enum dtype dtype;
    int64_t shard_bytes; /* a file of more is cut; 0: 10 GB */
    /* Before each file that is written; may be NULL. */
    void (*progress)(void *user, const char *path, int64_t bytes);
    /* After each matrix that was quantised: ‖quantised - exact‖ / ‖exact‖. May be NULL. */
    void (*quantised)(void *user, const char *name, double error);
    void *user;
};

/* Where the original layout has NAME.pth: convert_folder writes NAME.safetensors, or shards of it.
 * Ends with NULL. */
extern const char *const convert_pth_names[];

/* A model's folder, in any layout, to a new folder `out`: weights with their configuration,
 * tokenizer and scheduler. What the original layout has no place for goes along as the diffusers
 * layout keeps it (scheduler/, config.json of text encoder, image encoder and VAE, a boundary_ratio
 * in the experts' config.json): this runtime reads it there, the reference does not. Errors: those
 * of opening it; ERR_USAGE (out is there), ERR_UNSUPPORTED (a type in blocks without `typed`; what
 * the layout has no place for), ERR_IO, ERR_FULL. */
MUST_CHECK enum error_code convert_folder(const char *out, const char *in,
                                          const struct convert_options *options,
                                          struct error *error);
/* One component's file (or index) to one file `out`. */
MUST_CHECK enum error_code convert_file(const char *out, const char *in,
                                        const struct convert_options *options, struct error *error);

#endif
