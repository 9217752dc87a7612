#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define REMOVE_DEPTH_MAX 128

enum error_code file_read(char **out, size_t *length, struct arena *arena, const char *path,
                          size_t bytes_max, struct error *error) {
    enum error_code code = ERR_OK;
    size_t mark = arena->used, got = 0, size = 0;
    char *bytes = NULL;
    struct stat info;
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    if (fstat(file, &info) != 0) {
        code = error_set_errno(error, errno, "cannot look at %s", path);
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        code = error_set(error, ERR_USAGE, "%s is %s, not a regular file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
        goto done;
    }
    if ((uintmax_t)info.st_size > bytes_max) {
        code = error_set(error, ERR_LIMIT, "%s has %jd bytes; at most %zu are read", path,
                         (intmax_t)info.st_size, bytes_max);
        goto done;
    }
    size = (size_t)info.st_size;
    bytes = size < SIZE_MAX ? arena_alloc(arena, size + 1) : NULL;
    if (!bytes) {
        code = error_set(error, ERR_MEMORY, "no room for the %zu bytes of %s: %zu are free", size,
                         path, arena->capacity - arena->used);
        goto done;
    }
    if (arena->measuring) {
        got = size;
        goto done;
    }
    while (got < size) {
        ssize_t step = read(file, bytes + got, size - got);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0) {
            code = error_set_errno(error, errno, "cannot read %s", path);
            goto done;
        }
        if (step == 0)
            break; /* it was cut meanwhile */
        got += (size_t)step;
    }
    bytes[got] = '\0';

done:
    (void)close(file);
    if (code != ERR_OK) {
        arena_reset(arena, mark);
        return code;
    }
    *out = bytes;
    *length = got;
    return ERR_OK;
}

enum error_code file_too_long(const char *path, struct error *error) {
    return error_set(error, ERR_LIMIT, "a path of %zu bytes, at most %d are taken: %.100s…",
                     strlen(path), FILE_PATH_BYTES - 1, path);
}

/* The folder that `path` is in, "." when it has none. */
static enum error_code parent_of(char out[FILE_PATH_BYTES], const char *path, struct error *error) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length >= FILE_PATH_BYTES)
        return file_too_long(path, error);
    if (length == 0) {
        memcpy(out, ".", 2);
    } else {
        memcpy(out, path, length);
        out[length] = '\0';
    }
    return ERR_OK;
}

enum error_code file_sync_parent(const char *path, struct error *error) {
    char folder[FILE_PATH_BYTES];
    enum error_code code = parent_of(folder, path, error);
    if (code != ERR_OK)
        return code;
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return error_set_errno(error, errno, "cannot open the folder %s", folder);
    if (fsync(descriptor) != 0)
        code = error_set_errno(error, errno, "cannot sync the folder %s", folder);
    (void)close(descriptor);
    return code;
}

enum error_code file_write(const char *path, const void *bytes, size_t length, bool durable,
                           struct error *error) {
    enum error_code code;
    char folder[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES], name[64];
    uint64_t number = 0;
    code = parent_of(folder, path, error);
    if (code != ERR_OK)
        return code;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        return error_set_errno(error, errno, "cannot get a random number to write %s", path);
    (void)snprintf(name, sizeof name, ".vidloom-%016llx.tmp", (unsigned long long)number);
    code = file_join(temporary, folder, name, error);
    if (code != ERR_OK)
        return code;
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        return error_set_errno(error, errno, "cannot write in the folder %s", folder);

    const char *from = bytes;
    for (size_t done = 0; done < length;) {
        ssize_t step = write(file, from + done, length - done);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0) {
            code = error_set_errno(error, errno, "cannot write %s", path);
            goto failed;
        }
        done += (size_t)step;
    }
    if (durable && fsync(file) != 0) {
        code = error_set_errno(error, errno, "cannot sync %s", path);
        goto failed;
    }
    /* NFS and quotas report late: a failed close is a failed write. */
    if (close(file) != 0) {
        file = -1;
        code = error_set_errno(error, errno, "cannot write %s", path);
        goto failed;
    }
    file = -1;
    if (rename(temporary, path) != 0) {
        code = error_set_errno(error, errno, "cannot rename into %s", path);
        goto failed;
    }
    return durable ? file_sync_parent(path, error) : ERR_OK;

failed:
    if (file >= 0)
        (void)close(file);
    (void)unlink(temporary);
    return code;
}

enum error_code file_make_folders(const char *path, struct error *error) {
    char step[FILE_PATH_BYTES];
    size_t length = strlen(path);
    if (length >= sizeof step)
        return file_too_long(path, error);
    memcpy(step, path, length + 1);
    for (size_t at = 1; at <= length; at++) {
        if (step[at] != '/' && step[at] != '\0')
            continue;
        char end = step[at];
        step[at] = '\0';
        if (mkdir(step, 0777) != 0 && errno != EEXIST) {
            /* An existing folder on a read-only or foreign disk may say so instead of EEXIST. */
            int why = errno;
            struct stat info;
            if (stat(step, &info) != 0 || !S_ISDIR(info.st_mode))
                return error_set_errno(error, why, "cannot make the folder %s", step);
        }
        step[at] = end;
    }
    struct stat info;
    if (length == 0 || stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(error, ERR_USAGE, "cannot make the folder '%s': %s", path,
                         length == 0 ? "the name is empty" : "there is a file of that name");
    return ERR_OK;
}

enum error_code file_join(char out[FILE_PATH_BYTES], const char *folder, const char *name,
                          struct error *error) {
    size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    int need = snprintf(out, FILE_PATH_BYTES, "%s%s%s", folder, slash, name);
    if (need < 0 || need >= FILE_PATH_BYTES) {
        out[0] = '\0';
        return error_set(error, ERR_LIMIT, "a path of more than %d bytes: %.100s…/%.100s",
                         FILE_PATH_BYTES - 1, folder, name);
    }
    return ERR_OK;
}

/* Remove `name` in the open folder `at`, with all that is in it. */
static enum error_code remove_in(int at, const char *name, int depth, struct error *error) {
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return ERR_OK;
    if (errno != EISDIR && errno != EPERM)
        return error_set_errno(error, errno, "cannot remove %s", name);
    int why = errno;
    if (depth >= REMOVE_DEPTH_MAX)
        return error_set(error, ERR_LIMIT, "cannot remove %s: more than %d folders deep", name,
                         REMOVE_DEPTH_MAX);
    int descriptor = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return error_set_errno(error, errno == ENOTDIR ? why : errno, "cannot remove %s", name);
    DIR *folder = fdopendir(descriptor);
    if (!folder) {
        why = errno;
        (void)close(descriptor);
        return error_set_errno(error, why, "cannot list %s", name);
    }
    enum error_code code = ERR_OK;
    while (code == ERR_OK) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                code = error_set_errno(error, errno, "cannot list %s", name);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            code = remove_in(descriptor, entry->d_name, depth + 1, error);
        if (code != ERR_OK && depth == 0) /* what is in the way, and of what */
            (void)error_prefix(error, "cannot remove %s: ", name);
    }
    (void)closedir(folder);
    if (code == ERR_OK && unlinkat(at, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        code = error_set_errno(error, errno, "cannot remove the folder %s", name);
    return code;
}

enum error_code file_remove_tree(const char *path, struct error *error) {
    return remove_in(AT_FDCWD, path, 0, error);
}

bool file_name_is_plain(const char *name) {
    size_t length = strnlen(name, 129);
    if (length < 1 || length > 128 || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

enum error_code file_lock(int *out, const char *path, struct error *error) {
    *out = -1;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        return error_set_errno(error, errno, "cannot open the lock %s", path);
    enum error_code code = ERR_OK;
    char text[32];
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            code = error_set_errno(error, errno, "cannot lock %s", path);
        } else {
            ssize_t length = pread(file, text, sizeof text - 1, 0);
            size_t digits = 0;
            while ((ssize_t)digits < length && text[digits] >= '0' && text[digits] <= '9')
                digits++;
            text[digits] = '\0';
            code = error_set(error, ERR_BUSY, "%s is held by process %s", path,
                             digits ? text : "(unknown)");
        }
        (void)close(file);
        return code;
    }
    /* The holder's number helps people only: the lock is the kernel's, so a write that fails or an
     * old number after a crash does no harm. */
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(file, 0) == 0 && length > 0)
        (void)!pwrite(file, text, (size_t)length, 0);
    *out = file;
    return ERR_OK;
}

void file_unlock(int *lock) {
    if (*lock < 0)
        return;
    /* The file stays: removing it would let two processes lock two files of one name. */
    (void)!ftruncate(*lock, 0);
    (void)close(*lock);
    *lock = -1;
}
