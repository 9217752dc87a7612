/* What identifies a model folder in task keys: a hash of every file that is used.
 *
 * Every byte of a file of at most FINGERPRINT_WHOLE bytes; of a larger one its size, its header and
 * 64 KiB out of every 16 MiB, so that naming a 28 GB checkpoint takes a second and not a minute. */
#ifndef VIDLOOM_WORKER_MODEL_FINGERPRINT_H
#define VIDLOOM_WORKER_MODEL_FINGERPRINT_H

#include "base/error.h"
#include "base/hash.h"
#include "worker/model/weights.h"

#define FINGERPRINT_WHOLE (UINT64_C(1) << 30)

/* files[0..count) may hold NULLs; names (relative to the folder, ends with NULL) are small files,
 * and one that is not there counts as such. A build without libsodium gives zeros. */
MUST_CHECK enum error_code fingerprint(struct hash *out, const char *folder,
                                       const char *const *names, const struct weights *const *files,
                                       int count, struct error *error);

#endif
