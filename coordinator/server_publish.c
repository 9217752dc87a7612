/* Publishing by rename. */
#include "coordinator/server_publish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/output.h"

/* -- what is there ----------------------------------------------------------------------------- */

bool publish_is_there(const char *path, const struct hash *hash, int64_t bytes) {
    struct stat status;
    struct hash found;
    uint64_t size;
    if (lstat(path, &status) != 0 ||
        (S_ISREG(status.st_mode) ? status.st_size != bytes : !S_ISDIR(status.st_mode)))
        return false;
    return hash_of_tree(&found, &size, path, NULL) == ERR_OK && size == (uint64_t)bytes &&
           hash_equal(&found, hash);
}

bool publish_staged_epoch(uint64_t *epoch, char *final_name, const char *staged_name) {
    const char *base = strrchr(staged_name, '/');
    base = base ? base + 1 : staged_name;
    size_t length = strlen(base);
    if (*base != '.' || length < sizeof ".x.0.part" - 1 || strcmp(base + length - 5, ".part") != 0)
        return false;
    const char *dot = memrchr(base + 1, '.', length - 6);
    if (!dot || dot == base + 1)
        return false;
    char *end;
    *epoch = strtoull(dot + 1, &end, 10);
    if (end != base + length - 5 || end == dot + 1 || dot[1] < '0' || dot[1] > '9')
        return false;
    size_t folder = (size_t)(base - staged_name);
    memcpy(final_name, staged_name, folder);
    memcpy(final_name + folder, base + 1, (size_t)(dot - base - 1));
    final_name[folder + (size_t)(dot - base - 1)] = '\0';
    return true;
}

/* -- sync -------------------------------------------------------------------------------------- */

static enum error_code sync_path(const char *path, int flags, struct error *error) {
    int file = open(path, flags | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
        return error_set_errno(error, errno, "cannot open %.512s", path);
    enum error_code code =
        fsync(file) == 0 ? ERR_OK : error_set_errno(error, errno, "cannot sync %.512s", path);
    close(file);
    return code;
}

static enum error_code sync_folder(const char *path, struct error *error) {
    DIR *folder = opendir(path);
    if (!folder)
        return error_set_errno(error, errno, "cannot read the folder %.512s", path);
    enum error_code code = ERR_OK;
    while (code == ERR_OK) {
        char name[FILE_PATH_BYTES];
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry && errno) /* what was not seen would be published without a sync */
            code = error_set_errno(error, errno, "cannot list the folder %.512s", path);
        if (!entry)
            break;
        if (entry->d_name[0] != '.' &&
            (code = file_join(name, path, entry->d_name, error)) == ERR_OK)
            code = sync_path(name, 0, error);
    }
    closedir(folder);
    return code == ERR_OK ? sync_path(path, O_DIRECTORY, error) : code;
}

/* -- rename ------------------------------------------------------------------------------------ */

static enum error_code refuse(const char *path, struct error *error) {
    return error_set(error, ERR_DENIED,
                     "%.512s is there already and is not of this coordinator's making; move it "
                     "away, or say 'overwrite: true' in the job's output, and retry the job",
                     path);
}

/* Some file systems know no RENAME_NOREPLACE. A hard link does not replace either. */
static enum error_code rename_by_link(const struct publish *publish, struct error *error) {
    struct stat status;
    if (lstat(publish->path, &status) == 0)
        return refuse(publish->path, error);
    if (link(publish->staged, publish->path) == 0) {
        unlink(publish->staged);
        return ERR_OK;
    }
    if (errno == EEXIST)
        return refuse(publish->path, error);
    if (rename(publish->staged, publish->path) != 0) /* a folder, or no links either */
        return error_set_errno(error, errno, "cannot rename to %.512s", publish->path);
    return ERR_OK;
}

/* A file takes a file's place at once. Folders change places, as no call replaces one that has
 * something in it; if the other turns out to be more than pictures of ours, they change back. */
static enum error_code rename_over(const struct publish *publish, bool folder,
                                   struct error *error) {
    struct stat status;
    enum error_code code = output_may_replace(publish->path, folder, error);
    if (code != ERR_OK)
        return code;
    bool exchange = folder && lstat(publish->path, &status) == 0;
    int failed =
        exchange ? renameat2(AT_FDCWD, publish->staged, AT_FDCWD, publish->path, RENAME_EXCHANGE)
                 : rename(publish->staged, publish->path);
    if (failed)
        return error_set_errno(error, errno, "cannot replace %.512s", publish->path);
    if (!exchange)
        return ERR_OK;
    code = output_may_replace(publish->staged, folder, error);
    if (code == ERR_OK)
        return file_remove_tree(publish->staged, error);
    if (renameat2(AT_FDCWD, publish->staged, AT_FDCWD, publish->path, RENAME_EXCHANGE) != 0)
        return error_set_errno(error, errno, "cannot put %.512s back", publish->path);
    return code;
}

static enum error_code rename_staged(const struct publish *publish, bool folder,
                                     struct error *error) {
    if (renameat2(AT_FDCWD, publish->staged, AT_FDCWD, publish->path, RENAME_NOREPLACE) == 0)
        return ERR_OK;
    if (errno == EEXIST && publish->replace)
        return rename_over(publish, folder, error);
    if (errno == EEXIST) /* a folder replaces an empty one, and no other */
        return folder && rename(publish->staged, publish->path) == 0 ? ERR_OK
                                                                     : refuse(publish->path, error);
    if (errno == EINVAL || errno == ENOSYS)
        return publish->replace ? rename_over(publish, folder, error)
                                : rename_by_link(publish, error);
    return error_set_errno(error, errno, "cannot rename to %.512s", publish->path);
}

static enum error_code nothing_staged(const struct publish *publish, struct error *error) {
    if (publish_is_there(publish->path, &publish->hash, publish->bytes))
        return file_sync_parent(publish->path, error);
    return error_set(error, ERR_MISSING, "%.512s is gone or not what the worker announced",
                     publish->staged);
}

enum error_code publish_file(const struct publish *publish, struct error *error) {
    struct stat status;
    if (lstat(publish->staged, &status) != 0 && errno != ENOENT && errno != ENOTDIR)
        return error_set_errno(error, errno, "cannot look at %.512s", publish->staged);
    if (lstat(publish->staged, &status) != 0)
        return nothing_staged(publish, error);
    bool folder = S_ISDIR(status.st_mode);
    if (!publish_is_there(publish->staged, &publish->hash, publish->bytes)) {
        /* Torn, or what was replaced by an exchange that a crash interrupted. */
        enum error_code removed = file_remove_tree(publish->staged, error);
        return removed == ERR_OK ? nothing_staged(publish, error) : removed;
    }
    enum error_code code =
        folder ? sync_folder(publish->staged, error) : sync_path(publish->staged, 0, error);
    if (code != ERR_OK)
        return code;
    if (!publish->replace && publish_is_there(publish->path, &publish->hash, publish->bytes))
        code = file_remove_tree(publish->staged, error); /* equal bytes are there already */
    else
        code = rename_staged(publish, folder, error);
    return code == ERR_OK ? file_sync_parent(publish->path, error) : code;
}
