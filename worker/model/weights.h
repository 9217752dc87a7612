/* Named tensors of weight files, whatever they are packed in:
 *
 *   safetensors   one file, or the shards that an index (.json) names
 *   .pth, .pt     a ZIP of what torch.save wrote; read as data, nothing in it is run
 *   .gguf         quantised or not
 *
 * What a file is, its bytes say, not its name. Files are memory-mapped and every tensor is where it
 * lies in the file; only one that is not aligned for its type is copied. All that a header states
 * is checked before a tensor is handed out: names are unique over all files, types are known, shape
 * and type agree with the range of bytes, ranges are inside the file.
 * Scales of int8 and fp8 matrices that a file keeps as tensors of their own are in their matrices'
 * `scale` and not in the list.
 *
 * Read only after opening; any thread then. A file that is cut short by someone else while it is
 * mapped kills the process (SIGBUS): the store renames finished files and never writes in place. */
#ifndef VIDLOOM_WORKER_MODEL_WEIGHTS_H
#define VIDLOOM_WORKER_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/tensor.h"

#define WEIGHTS_NAME_MAX    512   /* bytes */
#define WEIGHTS_FILES_MAX   512   /* shards */
#define WEIGHTS_TENSORS_MAX 16384 /* of all files; the largest models have two thousand */

enum weights_format { WEIGHTS_SAFETENSORS, WEIGHTS_PTH, WEIGHTS_GGUF };

struct weights;

/* Open `path`: a weight file, or an index beside its shards.
 * Errors: ERR_MISSING, ERR_DENIED, ERR_IO, ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED (a type, a
 * pickle's global or opcode), ERR_MEMORY. The text names the file and, where there is one, the
 * tensor. */
MUST_CHECK enum error_code weights_open(struct weights **out, const char *path,
                                        struct error *error);
/* Open a folder's weights: "<stem>.safetensors" or its index; ERR_USAGE where both are there. */
MUST_CHECK enum error_code weights_open_folder(struct weights **out, const char *folder,
                                               const char *stem, struct error *error);
/* The same checks over bytes in memory, which must outlive the result. `name` is for errors. */
MUST_CHECK enum error_code weights_open_memory(struct weights **out, const void *bytes,
                                               size_t length, const char *name,
                                               struct error *error);
void weights_close(struct weights **weights);

/* Keep only the tensors whose names begin with the first of `prefixes` (ends with NULL) that any
 * name begins with, under their names without it: "model.diffusion_model." of a repackaged file.
 * Returns that prefix; NULL when none is there, and then nothing changes. */
const char *weights_select(struct weights *weights, const char *const *prefixes);

/* NULL when there is none. `data` is aligned for its type and lives until the weights are closed.
 */
const struct tensor *weights_find(const struct weights *weights, const char *name);

size_t weights_count(const struct weights *weights);
/* In order of names. */
const char *weights_name(const struct weights *weights, size_t index);
const struct tensor *weights_tensor(const struct weights *weights, size_t index);
const char *weights_path(const struct weights *weights); /* as opened */
enum weights_format weights_format(const struct weights *weights);
const char *weights_format_name(enum weights_format format); /* "safetensors", "pth", "gguf" */

/* Whether these bytes are in a mapped file, not in a copy. */
bool weights_are_mapped(const struct weights *weights, const void *data);

/* The pages that were read so far leave the process; they come back when they are touched. */
void weights_give_back(const struct weights *weights);

/* The files behind it, for hashing: bytes [0, *size), and in [0, *header) all that is not data. */
int weights_shards(const struct weights *weights);
const uint8_t *weights_shard(const struct weights *weights, int index, size_t *size,
                             size_t *header);

#endif
