#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/ops.h"

enum error_code ops_load(const struct ops **out, const char *name, struct error *error) {
    if (!file_name_is_plain(name)) {
        return error_set(error, ERR_USAGE, "\"%s\" is not the name of a backend", name);
    }
    char path[FILE_PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) {
        return error_set(error, ERR_MISSING,
                         "cannot find out where this program lies, to look for libvidloom_%s.so "
                         "beside it",
                         name);
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    size_t room = sizeof path - (size_t)(slash + 1 - path);
    int written = snprintf(slash + 1, room, "libvidloom_%s.so", name);
    if (written < 0 || (size_t)written >= room) {
        return error_set(error, ERR_LIMIT, "the path of libvidloom_%s.so is too long", name);
    }
    /* Never closed: its functions are in use until the process ends. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        bool there = access(path, F_OK) == 0;
        return error_set(error, there ? ERR_UNSUPPORTED : ERR_MISSING,
                         "backend \"%s\": looked for %s: %s", name, path, dlerror());
    }
    const struct ops *table = dlsym(library, "vidloom_ops");
    if (table == NULL || table->name == NULL || strcmp(table->name, name) != 0) {
        (void)dlclose(library);
        return error_set(error, ERR_UNSUPPORTED,
                         "%s is no backend \"%s\" of this program: it has no table vidloom_ops of "
                         "that name",
                         path, name);
    }
    *out = table;
    return ERR_OK;
}
