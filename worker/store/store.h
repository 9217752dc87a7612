/* Artifacts by content: what tasks make, kept under the hash of its bytes.
 *
 *   FOLDER/objects/ab/<64 hex>   a whole artifact; never changed, only removed
 *   FOLDER/staging/<task>-<epoch>-<random>   being written
 *
 * An artifact is written under staging/ and renamed when it is whole, so objects/ holds no part
 * files whatever is killed. Nothing is synced: after a power cut an object may be empty or torn.
 * store_find sees that (size, and with `verify` the hash), removes it, and says ERR_MISSING, and
 * the task that made it is run again. Sizes and hashes come from the ledger, not from here.
 *
 * The folder may be shared by any number of threads, processes and machines (NFS with rename,
 * nothing more is asked). Leases and their epochs are the coordinator's business: a worker that
 * lost its lease can add an object that nobody asks for, or leave a staging file, and harms
 * nothing.
 *
 * A struct store holds only the folder's name: any thread, at once.
 *
 * Errors of all: ERR_FULL (the disk; nothing half-written is left), ERR_DENIED, ERR_IO, ERR_LIMIT
 * (a path too long), ERR_MEMORY; each names the path. */
#ifndef VIDLOOM_WORKER_STORE_STORE_H
#define VIDLOOM_WORKER_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

struct store;

/* Opens FOLDER, making it and its two sub-folders if need be. */
MUST_CHECK enum error_code store_open(struct store **out, const char *folder, struct error *error);
void store_close(struct store **store); /* NULL is fine */

/* A new empty file under staging/, for one artifact of the lease (task key, epoch); `path` receives
 * its name. Write to it by that name, close it, then store_commit or store_abandon it. What a
 * killed worker leaves is taken by store_sweep. */
MUST_CHECK enum error_code store_begin(struct store *store, char path[FILE_PATH_BYTES],
                                       const struct hash *task, uint64_t epoch,
                                       struct error *error);

/* Hash the staged file and make it an object; the staged name is gone afterwards, on failure too.
 * An equal object that is there already stays (its bytes are checked, and replaced if they are
 * corrupt), so two workers may commit the same artifact at once. `hash` and `size` receive what to
 * find it by.
 * ERR_USAGE: `path` is not from store_begin. ERR_MISSING: the file is gone (swept). */
MUST_CHECK enum error_code store_commit(struct store *store, struct hash *hash, uint64_t *size,
                                        const char *path, struct error *error);
void store_abandon(struct store *store, const char *path); /* of store_begin; gone is fine */

/* The path of an object of that hash and size, for reading. ERR_MISSING when it is not there, has
 * another size, or (`verify`: reads all of it) other bytes; a bad one is removed, so that its task
 * is made again. The caller sends that task back to the queue rather than failing the job. */
MUST_CHECK enum error_code store_find(struct store *store, char path[FILE_PATH_BYTES],
                                      const struct hash *hash, uint64_t size, bool verify,
                                      struct error *error);

/* Remove leftovers of staging/; *removed (may be NULL) counts them.
 * store_sweep_lease: those of the task with this epoch or an earlier one, when that lease is over.
 * store_sweep_older: those last written before `before_ns` (wall clock, since 1970), whose writers
 * are surely dead; e.g. a day ago. Names that store_begin did not give are left alone. */
MUST_CHECK enum error_code store_sweep_lease(struct store *store, int *removed,
                                             const struct hash *task, uint64_t epoch,
                                             struct error *error);
MUST_CHECK enum error_code store_sweep_older(struct store *store, int *removed, int64_t before_ns,
                                             struct error *error);

#endif
