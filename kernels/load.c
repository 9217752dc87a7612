#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "kernels/ops.h"

#define NAME_BYTES 32 /* of a backend */
#define INDEX_MAX  1023

/* Where shared objects are, from the program's own folder: built, or installed. */
static const char *const folders[] = {"", "../lib/vidloom/"};
#define FOLDERS (int)(sizeof folders / sizeof *folders)

/* The folder that the program lies in, with its last slash. */
static enum error_code program_folder(char out[FILE_PATH_BYTES], const char *name,
                                      struct error *error) {
    ssize_t length = readlink("/proc/self/exe", out, FILE_PATH_BYTES - 1);
    if (length <= 0) {
        return error_set(error, ERR_MISSING,
                         "cannot find out where this program lies, to look for libvidloom_%s.so "
                         "beside it",
                         name);
    }
    out[length] = '\0';
    strrchr(out, '/')[1] = '\0';
    return ERR_OK;
}

/* The shared object's path, of the first folder that has it. */
static enum error_code find_library(char out[FILE_PATH_BYTES], const char *name,
                                    struct error *error) {
    char program[FILE_PATH_BYTES];
    enum error_code code = program_folder(program, name, error);
    for (int i = 0; i < FOLDERS && code == ERR_OK; i++) {
        int length =
            snprintf(out, FILE_PATH_BYTES, "%s%slibvidloom_%s.so", program, folders[i], name);
        if (length < 0 || length >= FILE_PATH_BYTES) {
            return error_set(error, ERR_LIMIT, "the path of libvidloom_%s.so is too long", name);
        }
        if (access(out, F_OK) == 0) {
            return ERR_OK;
        }
    }
    return code != ERR_OK ? code
                          : error_set(error, ERR_MISSING,
                                      "backend \"%s\": there is no libvidloom_%s.so in %.2000s or "
                                      "in %s from there",
                                      name, name, program, folders[1]);
}

enum error_code ops_load(const struct ops **out, const char *name, struct error *error) {
    char path[FILE_PATH_BYTES];
    if (strcmp(name, "cpu") == 0) {
        *out = ops_cpu();
        return ERR_OK;
    }
    if (!file_name_is_plain(name)) {
        return error_set(error, ERR_USAGE, "\"%s\" is not the name of a backend", name);
    }
    enum error_code code = find_library(path, name, error);
    if (code != ERR_OK) {
        return code;
    }
    /* Never closed: its functions are in use until the process ends. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return error_set(error, ERR_UNSUPPORTED, "backend \"%s\" cannot be loaded: %s", name,
                         dlerror());
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

enum error_code ops_find(const struct ops **out, int *index, const char *device,
                         struct error *error) {
    char name[NAME_BYTES];
    size_t length = strcspn(device, ":");
    int64_t number = 0;
    bool numbered = device[length] == ':';
    if (length == 0 || length >= sizeof name ||
        (numbered &&
         (!text_to_int(device + length + 1, &number) || number < 0 || number > INDEX_MAX))) {
        return error_set(error, ERR_USAGE, "'%.64s' is no device: expected cpu, or cuda:0", device);
    }
    snprintf(name, sizeof name, "%.*s", (int)length, device);
    *index = (int)number;
    return ops_load(out, name, error);
}
