/* Places of outputs. */
#include "coordinator/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* -- places ------------------------------------------------------------------------------------ */

/* `folder` (absolute, or "./…") with its links followed as far as it is there. */
static enum error_code find_folder(char out[FILE_PATH_BYTES], const char *folder,
                                   struct error *error) {
    char found[PATH_MAX], there[FILE_PATH_BYTES];
    size_t length = strlen(folder);
    memcpy(there, folder, length + 1);
    while (!realpath(there, found)) {
        if ((errno != ENOENT && errno != ENOTDIR) || length <= 1)
            return error_set_errno(error, errno, "cannot look at the folder %.512s", there);
        while (length > 1 && there[length - 1] != '/')
            length--;
        while (length > 1 && there[length - 1] == '/')
            length--;
        there[length] = '\0';
    }
    const char *rest = folder + length + strspn(folder + length, "/");
    return *rest ? file_join(out, found, rest, error) : file_join(out, "/", found + 1, error);
}

enum error_code output_place(struct output_places *places, char out[FILE_PATH_BYTES],
                             const char *path, struct error *error) {
    char whole[FILE_PATH_BYTES];
    enum error_code code =
        path[0] == '/'
            ? file_join(whole, "/", path + 1, error)
            : file_join(whole, places->root && *places->root ? places->root : ".", path, error);
    if (code != ERR_OK)
        return code;
    char *name = strrchr(whole, '/');
    *name++ = '\0';
    if (!*whole)
        return file_join(out, "/", name, error);
    if (strcmp(whole, places->folder) != 0) {
        places->folder[0] = '\0';
        code = find_folder(places->found, whole, error);
        if (code != ERR_OK)
            return code;
        memcpy(places->folder, whole, sizeof whole);
    }
    return file_join(out, places->found, name, error);
}

bool output_is_inside(const char *inner, const char *outer) {
    size_t length = strlen(outer);
    return strncmp(inner, outer, length) == 0 && (inner[length] == '\0' || inner[length] == '/');
}

/* -- what is there ----------------------------------------------------------------------------- */

/* "00000.png", …, and the file beside them. */
static bool is_our_name(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return strcmp(name, "provenance.json") == 0 ||
           (digits >= 5 && strcmp(name + digits, ".png") == 0);
}

/* What is in a folder: `foreign` the first thing that is not a picture of ours, "" without. */
struct content {
    char foreign[NAME_MAX + 1];
    int64_t entries;
    int64_t bytes; /* of those that are */
};

static enum error_code look_into(struct content *out, const char *path, struct error *error) {
    *out = (struct content){.entries = 0};
    DIR *folder = opendir(path);
    if (!folder)
        return error_set_errno(error, errno, "cannot look into the folder %.512s", path);
    enum error_code code = ERR_OK;
    for (;;) {
        struct stat status;
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) /* what was not seen may be anybody's */
                code = error_set_errno(error, errno, "cannot list the folder %.512s", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        bool file = fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISREG(status.st_mode);
        out->entries++;
        if (file && is_our_name(entry->d_name))
            out->bytes += status.st_size;
        else if (!*out->foreign)
            memcpy(out->foreign, entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(folder);
    return code;
}

enum error_code output_may_replace(const char *path, bool folder, struct error *error) {
    struct stat status;
    struct content content;
    if (lstat(path, &status) != 0)
        return ERR_OK; /* if it is more than not there, writing will say so */
    bool is_folder = S_ISDIR(status.st_mode);
    if (!folder && (S_ISREG(status.st_mode) || S_ISLNK(status.st_mode)))
        return ERR_OK;
    if (folder != is_folder)
        return error_set(error, ERR_DENIED,
                         "%.512s is there and is %s, which %s never replaces; move it away, or "
                         "choose another path",
                         path,
                         is_folder                 ? "a folder"
                         : S_ISREG(status.st_mode) ? "a file"
                         : S_ISLNK(status.st_mode) ? "a link"
                                                   : "a device, pipe or socket",
                         folder ? "a folder of pictures" : "a video file");
    enum error_code code = look_into(&content, path, error);
    if (code == ERR_OK && *content.foreign)
        code = error_set(error, ERR_DENIED,
                         "%.512s is a folder with other things in it (%.128s) than pictures of "
                         "ours, so it is never replaced; choose another path",
                         path, content.foreign);
    return code;
}

bool output_is_free(const char *path, bool folder) {
    struct stat status;
    struct content content;
    if (lstat(path, &status) != 0)
        return true;
    return folder && S_ISDIR(status.st_mode) && look_into(&content, path, NULL) == ERR_OK &&
           content.entries == 0;
}

bool output_is_there(const char *path, int64_t bytes) {
    struct stat status;
    struct content content;
    if (lstat(path, &status) != 0)
        return false;
    if (S_ISREG(status.st_mode))
        return status.st_size == bytes;
    return S_ISDIR(status.st_mode) && look_into(&content, path, NULL) == ERR_OK &&
           content.bytes == bytes;
}
