/* Files: bounded reading, whole writing, safe names, locks. Any thread. */
#ifndef VIDLOOM_BASE_FILE_H
#define VIDLOOM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define FILE_PATH_BYTES 4096

/* Read a regular file of at most `bytes_max` bytes into the arena; a NUL is added after it.
 * Errors name the path: ERR_MISSING, ERR_DENIED, ERR_USAGE (a directory or no regular file),
 * ERR_LIMIT (larger; says both sizes), ERR_IO, ERR_MEMORY. */
MUST_CHECK enum error_code file_read(char **out, size_t *length, struct arena *arena,
                                     const char *path, size_t bytes_max, struct error *error);

/* Write path whole or not at all: a temporary beside it, fsync, rename, fsync of the folder.
 * `durable` false leaves out both fsyncs. */
MUST_CHECK enum error_code file_write(const char *path, const void *bytes, size_t length,
                                      bool durable, struct error *error);

/* fsync the folder that `path` is in, so that its entry there lasts. */
MUST_CHECK enum error_code file_sync_parent(const char *path, struct error *error);

/* mkdir -p, mode 0777 & ~umask. */
MUST_CHECK enum error_code file_make_folders(const char *path, struct error *error);

/* "folder/name" into out. ERR_LIMIT when it does not fit. */
MUST_CHECK enum error_code file_join(char out[FILE_PATH_BYTES], const char *folder,
                                     const char *name, struct error *error);

/* Says that `path` does not fit FILE_PATH_BYTES: ERR_LIMIT. */
enum error_code file_too_long(const char *path, struct error *error);

/* Remove a file, or a folder with all in it; a missing one is fine. Symbolic links are removed, not
 * followed. */
MUST_CHECK enum error_code file_remove_tree(const char *path, struct error *error);

/* A name fit to be one path component: 1..128 bytes of letters, digits, '.', '_', '-', not starting
 * with '.' or '-'. */
bool file_name_is_plain(const char *name);

/* Take an exclusive lock on `path` (created if need be), held until file_unlock or the process
 * ends. ERR_BUSY, naming the holder's process id, when another process has it. */
MUST_CHECK enum error_code file_lock(int *out, const char *path, struct error *error);
void file_unlock(int *lock);

#endif
