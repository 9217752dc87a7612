#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

_Static_assert(sizeof(struct hash_state) >= sizeof(crypto_generichash_state),
               "hash_state holds libsodium's state");
_Static_assert(_Alignof(struct hash_state) >= _Alignof(crypto_generichash_state),
               "hash_state is aligned for libsodium's state");
_Static_assert(HASH_BYTES >= crypto_generichash_BYTES_MIN, "BLAKE2b can be this short");

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

static void start_sodium(void) {
    /* Chooses the code for this processor. Hashing works without, so a failure costs speed only. */
    (void)!sodium_init();
}

#define STATE_OF(state) ((crypto_generichash_state *)(void *)(state)->opaque)

void hash_start(struct hash_state *state) {
    (void)pthread_once(&sodium_once, start_sodium);
    (void)crypto_generichash_init(STATE_OF(state), NULL, 0, HASH_BYTES);
}

void hash_add(struct hash_state *state, const void *bytes, size_t length) {
    if (length)
        (void)crypto_generichash_update(STATE_OF(state), bytes, length);
}

void hash_add_text(struct hash_state *state, const char *text) {
    size_t length = strlen(text);
    hash_add_u64(state, length);
    hash_add(state, text, length);
}

void hash_add_u64(struct hash_state *state, uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    hash_add(state, bytes, sizeof bytes);
}

void hash_finish(struct hash_state *state, struct hash *out) {
    (void)crypto_generichash_final(STATE_OF(state), out->bytes, HASH_BYTES);
}

void hash_of(struct hash *out, const void *bytes, size_t length) {
    struct hash_state state;
    hash_start(&state);
    hash_add(&state, bytes, length);
    hash_finish(&state, out);
}

enum error_code hash_of_file(struct hash *out, const char *path, struct error *error) {
    uint8_t bytes[64 * 1024];
    struct hash_state state;
    enum error_code code = ERR_OK;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
    hash_start(&state);
    for (;;) {
        ssize_t length = read(file, bytes, sizeof bytes);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            code = error_set_errno(error, errno, "cannot read %s", path);
        if (length <= 0)
            break;
        hash_add(&state, bytes, (size_t)length);
    }
    if (code == ERR_OK)
        hash_finish(&state, out);
    (void)close(file);
    return code;
}

static int is_entry(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Not alphasort: that one asks the locale. */
static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum error_code hash_of_folder(struct hash *out, uint64_t *bytes, const char *path,
                                      struct error *error) {
    struct dirent **entries;
    int count = scandir(path, &entries, is_entry, by_name);
    if (count < 0)
        return error_set_errno(error, errno, "cannot list %s", path);
    enum error_code code = ERR_OK;
    struct hash_state state;
    hash_start(&state);
    *bytes = 0;
    for (int i = 0; i < count; i++) {
        char file[FILE_PATH_BYTES];
        struct stat status;
        struct hash hash;
        if (code == ERR_OK)
            code = file_join(file, path, entries[i]->d_name, error);
        if (code == ERR_OK && (lstat(file, &status) != 0 || !S_ISREG(status.st_mode)))
            code = error_set(error, ERR_UNSUPPORTED, "%s is not a file", file);
        if (code == ERR_OK)
            code = hash_of_file(&hash, file, error);
        if (code == ERR_OK) {
            *bytes += (uint64_t)status.st_size;
            hash_add_text(&state, entries[i]->d_name);
            hash_add(&state, hash.bytes, sizeof hash.bytes);
        }
        free(entries[i]);
    }
    free(entries);
    if (code == ERR_OK)
        hash_finish(&state, out);
    return code;
}

enum error_code hash_of_tree(struct hash *out, uint64_t *bytes, const char *path,
                             struct error *error) {
    struct stat status;
    if (lstat(path, &status) != 0)
        return error_set_errno(error, errno, "cannot find %s", path);
    if (S_ISDIR(status.st_mode))
        return hash_of_folder(out, bytes, path, error);
    if (!S_ISREG(status.st_mode))
        return error_set(error, ERR_UNSUPPORTED, "%s is neither a file nor a folder", path);
    *bytes = (uint64_t)status.st_size;
    return hash_of_file(out, path, error);
}

void hash_hex(char out[HASH_HEX_BYTES], const struct hash *hash) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < HASH_BYTES; i++) {
        out[2 * i] = digits[hash->bytes[i] >> 4];
        out[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    out[HASH_HEX_BYTES - 1] = '\0';
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1; /* upper case too: a hash has one spelling */
}

bool hash_from_hex(struct hash *out, const char *hex) {
    struct hash hash;
    if (strnlen(hex, HASH_HEX_BYTES) != HASH_HEX_BYTES - 1)
        return false;
    for (size_t i = 0; i < HASH_BYTES; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        hash.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = hash;
    return true;
}

bool hash_equal(const struct hash *a, const struct hash *b) {
    return memcmp(a->bytes, b->bytes, HASH_BYTES) == 0;
}
