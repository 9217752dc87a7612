#include "worker/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct store {
    char objects[FILE_PATH_BYTES], staging[FILE_PATH_BYTES];
};

/* <64 hex>-<epoch>-<16 hex> */
#define STAGED_NAME_BYTES (HASH_HEX_BYTES - 1 + 1 + 20 + 1 + 16 + 1)

enum error_code store_open(struct store **out, const char *folder, struct error *error) {
    *out = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return error_set(error, ERR_MEMORY, "%s: no memory for the store", folder);
    enum error_code code;
    if ((code = file_join(store->objects, folder, "objects", error)) ||
        (code = file_join(store->staging, folder, "staging", error)) ||
        (code = file_make_folders(store->objects, error)) ||
        (code = file_make_folders(store->staging, error))) {
        free(store);
        return code;
    }
    *out = store;
    return ERR_OK;
}

void store_close(struct store **store) {
    free(*store);
    *store = NULL;
}

/* errno with what to do about it. */
static enum error_code failed(struct error *error, int number, const char *path) {
    enum error_code code = error_set_errno(error, number, "%s", path);
    if (code == ERR_FULL)
        code = error_set(error, ERR_FULL,
                         "%s: the disk of the store is full; free some space there and start "
                         "again: finished work is kept",
                         path);
    return code;
}

/* -- staging --------------------------------------------------------------------------------- */
/* Task and epoch of a name that store_begin gave; false for any other. */
static bool staged_parse(const char *name, struct hash *task, uint64_t *epoch) {
    char hex[HASH_HEX_BYTES];
    if (strlen(name) < HASH_HEX_BYTES || name[HASH_HEX_BYTES - 1] != '-')
        return false;
    memcpy(hex, name, HASH_HEX_BYTES - 1);
    hex[HASH_HEX_BYTES - 1] = 0;
    if (!hash_from_hex(task, hex))
        return false;
    const char *at = name + HASH_HEX_BYTES;
    if (*at < '0' || *at > '9')
        return false;
    char *end;
    errno = 0;
    *epoch = strtoull(at, &end, 10);
    return !errno && *end == '-' && strlen(end + 1) == 16 &&
           strspn(end + 1, "0123456789abcdef") == 16;
}

/* Whether `path` is of this store's staging folder and a name that store_begin gave: what is not is
 * neither renamed nor removed. */
static bool is_staged(const struct store *store, const char *path) {
    size_t length = strlen(store->staging);
    struct hash task;
    uint64_t epoch;
    return !strncmp(path, store->staging, length) && path[length] == '/' &&
           staged_parse(path + length + 1, &task, &epoch);
}

enum error_code store_begin(struct store *store, char path[FILE_PATH_BYTES],
                            const struct hash *task, uint64_t epoch, struct error *error) {
    char name[STAGED_NAME_BYTES], hex[HASH_HEX_BYTES];
    hash_hex(hex, task);
    for (int attempt = 0; attempt < 8; attempt++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return error_set_errno(error, errno, "%s: no random name to be had", store->staging);
        snprintf(name, sizeof name, "%s-%" PRIu64 "-%016" PRIx64, hex, epoch, random);
        enum error_code code = file_join(path, store->staging, name, error);
        if (code)
            return code;
        int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0) {
            close(descriptor);
            return ERR_OK;
        }
        if (errno != EEXIST)
            return failed(error, errno, path);
    }
    return error_set(error, ERR_IO, "%s: every random name is taken", store->staging);
}

void store_abandon(struct store *store, const char *path) {
    if (is_staged(store, path))
        unlink(path);
}

/* -- objects --------------------------------------------------------------------------------- */
/* FOLDER/objects/ab/<hex>; with `make`, its folder too. */
static enum error_code object_path(struct store *store, char path[FILE_PATH_BYTES],
                                   const struct hash *hash, bool make, struct error *error) {
    char hex[HASH_HEX_BYTES], folder[FILE_PATH_BYTES];
    hash_hex(hex, hash);
    char prefix[3] = {hex[0], hex[1], 0};
    enum error_code code = file_join(folder, store->objects, prefix, error);
    if (!code)
        code = file_join(path, folder, hex, error);
    if (!code && make && mkdir(folder, 0777) && errno != EEXIST)
        code = failed(error, errno, folder);
    return code;
}

/* Whether `path` is a regular file with these bytes; an unreadable one is not. */
static bool is_whole(const char *path, const struct hash *hash, uint64_t size, bool verify) {
    struct stat status;
    struct hash have;
    if (lstat(path, &status) || !S_ISREG(status.st_mode) || (uint64_t)status.st_size != size)
        return false;
    return !verify || (!hash_of_file(&have, path, NULL) && hash_equal(&have, hash));
}

enum error_code store_commit(struct store *store, struct hash *hash, uint64_t *size,
                             const char *path, struct error *error) {
    char object[FILE_PATH_BYTES];
    struct stat status;
    if (!is_staged(store, path))
        return error_set(error, ERR_USAGE, "%s: is not a file that store_begin gave", path);
    enum error_code code = ERR_OK;
    if (lstat(path, &status))
        code = failed(error, errno, path);
    else if (!S_ISREG(status.st_mode))
        code = error_set(error, ERR_USAGE, "%s: is not a regular file", path);
    if (code || (code = hash_of_file(hash, path, error)) ||
        (code = object_path(store, object, hash, true, error)))
        goto fail;
    *size = (uint64_t)status.st_size;
    if (is_whole(object, hash, *size, true)) {
        /* Readers may have it open, and over NFS a replaced file is a stale one. */
        unlink(path);
        return ERR_OK;
    }
    if (!rename(path, object))
        return ERR_OK;
    code = failed(error, errno, object);

fail:
    store_abandon(store, path);
    return code;
}

enum error_code store_find(struct store *store, char path[FILE_PATH_BYTES], const struct hash *hash,
                           uint64_t size, bool verify, struct error *error) {
    struct stat status;
    enum error_code code = object_path(store, path, hash, false, error);
    if (code)
        return code;
    if (lstat(path, &status)) {
        if (errno == ENOENT)
            return error_set(error, ERR_MISSING, "%s: is not in the store", path);
        return failed(error, errno, path);
    }
    if (S_ISREG(status.st_mode) && (uint64_t)status.st_size == size) {
        struct hash have;
        if (!verify)
            return ERR_OK;
        code = hash_of_file(&have, path, error);
        if (code)
            return code; /* unreadable now (permissions, a failing disk): not ours to remove */
        if (hash_equal(&have, hash))
            return ERR_OK;
        code =
            error_set(error, ERR_MISSING, "%s: is corrupt, and was removed to be made again", path);
    } else
        code = error_set(error, ERR_MISSING,
                         "%s: has %lld bytes of %" PRIu64 ", and was removed to be made again",
                         path, (long long)status.st_size, size);
    struct error removal;
    if (file_remove_tree(path, &removal)) {
        if (error)
            *error = removal;
        return removal.code;
    }
    return code;
}

/* -- sweeping -------------------------------------------------------------------------------- */
/* By lease if `task`, by age if not. */
static enum error_code sweep(struct store *store, int *removed, const struct hash *task,
                             uint64_t epoch, int64_t before_ns, struct error *error) {
    int count = 0;
    enum error_code code = ERR_OK;
    DIR *folder = opendir(store->staging);
    if (!folder)
        return failed(error, errno, store->staging);
    const struct dirent *entry;
    while (!code && (errno = 0, entry = readdir(folder))) {
        struct hash of;
        uint64_t of_epoch;
        struct stat status;
        if (!staged_parse(entry->d_name, &of, &of_epoch))
            continue;
        if (task) {
            if (!hash_equal(&of, task) || of_epoch > epoch)
                continue;
        } else {
            if (fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW))
                continue; /* committed or swept meanwhile */
            if ((int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec >= before_ns)
                continue;
        }
        if (!unlinkat(dirfd(folder), entry->d_name, 0))
            count++;
        else if (errno != ENOENT)
            code = error_set_errno(error, errno, "%s/%s", store->staging, entry->d_name);
    }
    if (!code && errno)
        code = error_set_errno(error, errno, "%s", store->staging);
    closedir(folder);
    if (removed)
        *removed = count;
    return code;
}

enum error_code store_sweep_lease(struct store *store, int *removed, const struct hash *task,
                                  uint64_t epoch, struct error *error) {
    return sweep(store, removed, task, epoch, 0, error);
}

enum error_code store_sweep_older(struct store *store, int *removed, int64_t before_ns,
                                  struct error *error) {
    return sweep(store, removed, NULL, 0, before_ns, error);
}
