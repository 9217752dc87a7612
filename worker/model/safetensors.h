/* Weight files: one safetensors file, or the shards that an index names, memory-mapped and checked
 * before a tensor is handed out. Also the small writer of the worker's own artifacts.
 *
 * A file is 8 bytes of header length (little endian), a JSON header, and data. Checked: the header
 * is at most SAFETENSORS_HEADER_MAX bytes and inside the file; names are unique (over all shards);
 * every dtype is known; shape × dtype is the byte range that is stated, with the multiplication
 * checked; ranges begin at 0, leave no hole, do not overlap, and end where the file ends.
 *
 * Read only after opening; any thread then. A file that is cut short by someone else while it is
 * mapped kills the process (SIGBUS): the store renames finished files and never writes in place. */
#ifndef VIDLOOM_WORKER_MODEL_SAFETENSORS_H
#define VIDLOOM_WORKER_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/tensor.h"

#define SAFETENSORS_HEADER_MAX (100u << 20) /* bytes; the limit of the reference reader */
#define SAFETENSORS_NAME_MAX   512          /* bytes */
#define SAFETENSORS_SHARDS_MAX 512

struct safetensors;

/* Open `path`: a .safetensors file, or a .json index beside its shards.
 * Errors: ERR_MISSING, ERR_DENIED, ERR_IO, ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED (a dtype),
 * ERR_MEMORY. The text names the file and, where there is one, the tensor. */
MUST_CHECK enum error_code safetensors_open(struct safetensors **out, const char *path,
                                            struct error *error);
/* Open a folder's weights: "<stem>.safetensors" or, if that is not there, its index. */
MUST_CHECK enum error_code safetensors_open_folder(struct safetensors **out, const char *folder,
                                                   const char *stem, struct error *error);
/* The same checks over bytes in memory, which must outlive the result. `name` is for errors. */
MUST_CHECK enum error_code safetensors_open_memory(struct safetensors **out, const void *bytes,
                                                   size_t length, const char *name,
                                                   struct error *error);
void safetensors_close(struct safetensors **file);

/* NULL when there is none. `data` is aligned for its type and lives until the file is closed. */
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);

size_t safetensors_count(const struct safetensors *file);
/* In order of names. */
const char *safetensors_name(const struct safetensors *file, size_t index);
const struct tensor *safetensors_tensor(const struct safetensors *file, size_t index);
const char *safetensors_path(const struct safetensors *file); /* as opened */

/* The files behind it, for hashing: bytes [0, *size), of which the header ends at *header. */
int safetensors_shards(const struct safetensors *file);
const uint8_t *safetensors_shard(const struct safetensors *file, int index, size_t *size,
                                 size_t *header);

/* Write tensors to `path`, whole or not at all, not synced. names are unique and plain text. */
MUST_CHECK enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                             const char *const *names, size_t count,
                                             struct error *error);

#endif
