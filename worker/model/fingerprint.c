#include "worker/model/fingerprint.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

#define SAMPLE ((size_t)64 << 10)
#define STRIDE ((size_t)16 << 20)

/* Samples of a mapped file, with the system kept from reading what lies between them: its
 * read-ahead would fetch the whole file. Advice only, so a failure changes nothing but the time. */
static void add_samples(struct hash_state *state, const uint8_t *bytes, size_t begin, size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    (void)madvise((void *)(uintptr_t)bytes, size, MADV_RANDOM);
    for (size_t at = begin; at < size; at += STRIDE) {
        size_t length = size - at < SAMPLE ? size - at : SAMPLE, start = at / page * page;
        (void)madvise((void *)(uintptr_t)(bytes + start), at + length - start, MADV_WILLNEED);
        hash_add(state, bytes + at, length);
    }
    (void)madvise((void *)(uintptr_t)bytes, size, MADV_NORMAL);
}

static void add_weights(struct hash_state *state, const struct weights *file) {
    hash_add_u64(state, (uint64_t)weights_shards(file));
    for (int i = 0; i < weights_shards(file); i++) {
        size_t size, header;
        const uint8_t *bytes = weights_shard(file, i, &size, &header);
        hash_add_u64(state, size);
        if (size <= FINGERPRINT_WHOLE) {
            hash_add(state, bytes, size);
            continue;
        }
        hash_add(state, bytes, header);
        add_samples(state, bytes, header, size);
    }
}

static enum error_code add_file(struct hash_state *state, const char *folder, const char *name,
                                struct error *error) {
    char path[FILE_PATH_BYTES];
    struct hash hash = {{0}};
    enum error_code code = file_join(path, folder, name, error);
    if (code == ERR_OK)
        code = hash_of_file(&hash, path, error);
    if (code != ERR_OK && code != ERR_MISSING)
        return code;
    hash_add_text(state, name);
    hash_add(state, hash.bytes, sizeof hash.bytes);
    return ERR_OK;
}

enum error_code fingerprint(struct hash *out, const char *folder, const char *const *names,
                            const struct weights *const *files, int count, struct error *error) {
    struct hash_state state;
    hash_start(&state);
    hash_add_text(&state, "vidloom model 1");
    for (int i = 0; names[i] != NULL; i++) {
        enum error_code code = add_file(&state, folder, names[i], error);
        if (code != ERR_OK)
            return code;
    }
    for (int i = 0; i < count; i++) {
        hash_add_u64(&state, (uint64_t)i);
        if (files[i] != NULL)
            add_weights(&state, files[i]);
    }
    hash_finish(&state, out);
    return ERR_OK;
}
