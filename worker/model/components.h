/* Which file of a model's folder holds which component, whatever layout it came in.
 *
 *   text_encoder    text_encoder/model.safetensors (or its index), models_t5_umt5-xxl-enc-bf16.pth,
 *                   text_encoders/ or the folder itself: *umt5*
 *   image_encoder   image_encoder/model.safetensors, models_clip_*, clip_vision/, *clip_vision*
 *   vae             vae/diffusion_pytorch_model.safetensors, Wan2.1_VAE.pth, Wan2.2_VAE.pth,
 *                   any other weight file in vae/, *vae*
 *   transformer     transformer/, high_noise_model/ or the folder itself:
 *                   diffusion_pytorch_model.safetensors (or its index); *high_noise*; the one
 * weight file of diffusion_models/, unet/ or the folder that is no other component's transformer_2
 * transformer_2/, low_noise_model/, *low_noise* .               the same as transformer any other
 * name  a folder of that name with diffusion_pytorch_model.safetensors
 *
 * A weight file is *.safetensors, *.safetensors.index.json (beside its shards), *.gguf, *.pth,
 * *.pt; patterns ignore case; the published .pth names go before others. One checkpoint with
 * several components under prefixes serves them all. Names come out as the original or the
 * diffusers layout has them: prefixes are taken off, llama.cpp's names of umT5 are translated.
 *
 * Sources: the file lists of the published models (Wan-AI), of ComfyUI's repackaged ones
 * (Comfy-Org), city96/ComfyUI-GGUF. Any thread. */
#ifndef VIDLOOM_WORKER_MODEL_COMPONENTS_H
#define VIDLOOM_WORKER_MODEL_COMPONENTS_H

#include <stdbool.h>

#include "base/error.h"
#include "base/file.h"
#include "worker/model/weights.h"

/* Whether the folder has a file for one of the listed components. */
bool component_is_there(const char *folder, const char *component);

/* ERR_MISSING: the folder has no such component; says what was looked for. */
enum error_code component_missing(const char *folder, const char *component, struct error *error);

/* The file of its own that it has, or its index, whose shards may be missing; false: none, or
 * several that may be it. */
bool component_find(char out[FILE_PATH_BYTES], const char *folder, const char *component);

/* Errors: ERR_MISSING (names what was looked for), ERR_USAGE (two files may be it: names both), and
 * those of weights_open. */
MUST_CHECK enum error_code component_open(struct weights **out, const char *folder,
                                          const char *component, struct error *error);

/* One weight file or index by itself, with a transformer's prefixes taken off. */
MUST_CHECK enum error_code component_open_file(struct weights **out, const char *path,
                                               struct error *error);

/* The folder's tokenizer: tokenizer/ or google/umt5-xxl/ ; "tokenizer" where there is none. */
const char *component_tokenizer(const char *folder);

#endif
