/* Uploads: files by content hash in one folder. */
#include "coordinator/server_uploads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_SUFFIX ".part"

struct part {
    bool used;
    struct hash hash;
    uint64_t size, held;
    int64_t wall_ns; /* of the last chunk */
    struct hash_state state;
};

struct uploads {
    char folder[FILE_PATH_BYTES];
    uint64_t count, bytes; /* whole files */
    struct part parts[SERVER_UPLOAD_PARTS];
};

int uploads_compare(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct hash));
}

static enum error_code upload_path(char out[FILE_PATH_BYTES], const struct uploads *uploads,
                                   const struct hash *hash, const char *suffix,
                                   struct error *error) {
    char hex[HASH_HEX_BYTES], name[HASH_HEX_BYTES + sizeof PART_SUFFIX];
    hash_hex(hex, hash);
    snprintf(name, sizeof name, "%s%s", hex, suffix);
    return file_join(out, uploads->folder, name, error);
}

/* -- life and sweeping ------------------------------------------------------------------------- */

/* What the folder's entry is: a whole upload, a part, or something that is not ours. */
static bool entry_hash(struct hash *out, bool *part, const char *name) {
    char hex[HASH_HEX_BYTES];
    size_t length = strlen(name);
    *part = length == HASH_HEX_BYTES - 1 + strlen(PART_SUFFIX) &&
            strcmp(name + HASH_HEX_BYTES - 1, PART_SUFFIX) == 0;
    if (length != HASH_HEX_BYTES - 1 && !*part)
        return false;
    memcpy(hex, name, HASH_HEX_BYTES - 1);
    hex[HASH_HEX_BYTES - 1] = '\0';
    return hash_from_hex(out, hex);
}

static int64_t modified_ns(const struct stat *status) {
    return status->st_mtim.tv_sec * CLOCK_S + status->st_mtim.tv_nsec;
}

void uploads_sweep(struct uploads *uploads, const struct hash *kept, size_t count,
                   int64_t before_ns) {
    DIR *folder = opendir(uploads->folder);
    if (!folder)
        return;
    uploads->count = uploads->bytes = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        struct hash hash;
        struct stat status;
        bool part;
        if (!entry_hash(&hash, &part, entry->d_name) ||
            fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        bool wanted = !part && count && bsearch(&hash, kept, count, sizeof hash, uploads_compare);
        if (!wanted && modified_ns(&status) < before_ns &&
            unlinkat(dirfd(folder), entry->d_name, 0) == 0)
            continue;
        uploads->count += !part;
        uploads->bytes += part ? 0 : (uint64_t)status.st_size;
    }
    closedir(folder);
    for (size_t i = 0; i < SERVER_UPLOAD_PARTS; i++)
        if (uploads->parts[i].wall_ns < before_ns)
            uploads->parts[i].used = false;
}

static void remove_parts(const struct uploads *uploads) {
    DIR *folder = opendir(uploads->folder);
    if (!folder)
        return;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        struct hash hash;
        bool part;
        if (entry_hash(&hash, &part, entry->d_name) && part)
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

enum error_code uploads_open(struct uploads **out, const char *folder, struct error *error) {
    enum error_code code = file_make_folders(folder, error);
    if (code != ERR_OK)
        return code;
    if (strlen(folder) + HASH_HEX_BYTES + sizeof PART_SUFFIX >= FILE_PATH_BYTES)
        return error_set(error, ERR_LIMIT,
                         "the state folder's path has %zu bytes, at most %zu are taken: %.100s…",
                         strlen(folder), FILE_PATH_BYTES - HASH_HEX_BYTES - sizeof PART_SUFFIX - 1,
                         folder);
    struct uploads *uploads = calloc(1, sizeof *uploads);
    if (!uploads)
        return error_set(error, ERR_MEMORY, "no memory for the table of uploads");
    snprintf(uploads->folder, sizeof uploads->folder, "%s", folder);
    remove_parts(uploads);
    uploads_sweep(uploads, NULL, 0, INT64_MIN); /* counts */
    *out = uploads;
    return ERR_OK;
}

void uploads_close(struct uploads **uploads) {
    free(*uploads);
    *uploads = NULL;
}

bool uploads_crowded(const struct uploads *uploads) {
    return uploads->count > SERVER_UPLOAD_COUNT / 2 ||
           uploads->bytes > SERVER_UPLOAD_TOTAL_BYTES / 2;
}

bool uploads_find(struct uploads *uploads, char path[FILE_PATH_BYTES], int64_t *size,
                  const struct hash *hash) {
    struct stat status;
    if (upload_path(path, uploads, hash, "", NULL) != ERR_OK || lstat(path, &status) != 0 ||
        !S_ISREG(status.st_mode))
        return false;
    utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
    *size = status.st_size;
    return true;
}

/* -- chunks ------------------------------------------------------------------------------------ */

/* The part of that hash, or a free place for it; the one longest unheard of when there is none. */
static struct part *find_part(struct uploads *uploads, const struct upload_chunk *chunk) {
    struct part *best = &uploads->parts[0];
    for (size_t i = 0; i < SERVER_UPLOAD_PARTS; i++) {
        struct part *part = &uploads->parts[i];
        if (part->used && hash_equal(&part->hash, &chunk->hash) && part->size == chunk->size)
            return part;
        if (best->used && (!part->used || part->wall_ns < best->wall_ns))
            best = part;
    }
    if (best->used) {
        char path[FILE_PATH_BYTES];
        if (upload_path(path, uploads, &best->hash, PART_SUFFIX, NULL) == ERR_OK)
            unlink(path);
    }
    *best = (struct part){.used = true, .hash = chunk->hash, .size = chunk->size};
    hash_start(&best->state);
    return best;
}

static enum error_code write_part(const char *path, const struct part *part,
                                  const struct upload_chunk *chunk, bool last,
                                  struct error *error) {
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (part->held == 0 ? O_TRUNC : 0);
    int file = open(path, flags, 0666);
    if (file < 0)
        return error_set_errno(error, errno, "cannot write %.512s", path);
    enum error_code code = ERR_OK;
    size_t done = 0;
    while (code == ERR_OK && done < chunk->length) {
        ssize_t wrote = pwrite(file, (const char *)chunk->bytes + done, chunk->length - done,
                               (off_t)(part->held + done));
        if (wrote < 0 && errno != EINTR)
            code = error_set_errno(error, errno, "cannot write %.512s", path);
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    if (code == ERR_OK && last && fsync(file) != 0)
        code = error_set_errno(error, errno, "cannot sync %.512s", path);
    close(file);
    return code;
}

/* All bytes are there: check them, and give the file its name. */
static enum error_code finish_part(struct uploads *uploads, struct part *part, const char *path,
                                   struct error *error) {
    struct hash hash;
    char final[FILE_PATH_BYTES];
    hash_finish(&part->state, &hash);
    part->used = false;
    if (!hash_equal(&hash, &part->hash)) {
        unlink(path);
        return error_set(error, ERR_FORMAT,
                         "the uploaded bytes do not have the hash that they were announced with; "
                         "was the file changed meanwhile? Submit again");
    }
    enum error_code code = upload_path(final, uploads, &hash, "", error);
    if (code == ERR_OK && rename(path, final) != 0)
        code = error_set_errno(error, errno, "cannot rename %.512s", path);
    if (code == ERR_OK)
        code = file_sync_parent(final, error);
    if (code == ERR_OK) {
        uploads->count++;
        uploads->bytes += part->size;
    }
    return code;
}

static enum error_code check_limits(const struct uploads *uploads, const struct upload_chunk *chunk,
                                    struct error *error) {
    if (chunk->size > SERVER_UPLOAD_BYTES)
        return error_set(error, ERR_LIMIT, "a file of %llu bytes; at most %u are taken",
                         (unsigned long long)chunk->size, SERVER_UPLOAD_BYTES);
    if (chunk->offset > chunk->size || chunk->length > chunk->size - chunk->offset)
        return error_set(error, ERR_FORMAT, "a chunk beyond the end of its file");
    if (uploads->count >= SERVER_UPLOAD_COUNT ||
        uploads->bytes + chunk->size > SERVER_UPLOAD_TOTAL_BYTES)
        return error_set(
            error, ERR_LIMIT,
            "the coordinator holds %llu uploads of %llu bytes for unfinished jobs, the "
            "most it takes; let some of them end, then submit again",
            (unsigned long long)uploads->count, (unsigned long long)uploads->bytes);
    return ERR_OK;
}

enum error_code uploads_add(struct uploads *uploads, uint64_t *next,
                            const struct upload_chunk *chunk, struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t size;
    if (uploads_find(uploads, path, &size, &chunk->hash)) {
        *next = (uint64_t)size;
        return (uint64_t)size == chunk->size
                   ? ERR_OK
                   : error_set(error, ERR_FORMAT, "another size is known for this hash");
    }
    enum error_code code = check_limits(uploads, chunk, error);
    if (code == ERR_OK)
        code = upload_path(path, uploads, &chunk->hash, PART_SUFFIX, error);
    if (code != ERR_OK)
        return code;
    struct part *part = find_part(uploads, chunk);
    part->wall_ns = chunk->wall_ns;
    *next = part->held;
    if (chunk->offset != part->held || (chunk->length == 0 && chunk->size != 0))
        return ERR_OK;
    bool last = part->held + chunk->length == part->size;
    code = write_part(path, part, chunk, last, error);
    if (code != ERR_OK)
        return code;
    hash_add(&part->state, chunk->bytes, chunk->length);
    part->held += chunk->length;
    *next = part->held;
    return last ? finish_part(uploads, part, path, error) : ERR_OK;
}
