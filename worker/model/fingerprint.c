#include "worker/model/fingerprint.h"

#include "base/file.h"

static void add_weights(struct hash_state *state, const struct safetensors *file) {
    const size_t sample = 64u << 10, stride = 16u << 20;
    hash_add_u64(state, (uint64_t)safetensors_shards(file));
    for (int i = 0; i < safetensors_shards(file); i++) {
        size_t size, header;
        const uint8_t *bytes = safetensors_shard(file, i, &size, &header);
        hash_add_u64(state, size);
        if (size <= FINGERPRINT_WHOLE) {
            hash_add(state, bytes, size);
            continue;
        }
        hash_add(state, bytes, header);
        for (size_t at = header; at < size; at += stride)
            hash_add(state, bytes + at, size - at < sample ? size - at : sample);
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
                            const struct safetensors *const *files, int count,
                            struct error *error) {
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
