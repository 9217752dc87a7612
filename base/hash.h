/* BLAKE2b-256 content addresses (libsodium). A hash is compared and stored as 32 bytes, shown as
 * 64 lower-case hex digits. Any thread; the state is the caller's. */
#ifndef VIDLOOM_BASE_HASH_H
#define VIDLOOM_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HASH_BYTES     32
#define HASH_HEX_BYTES (2 * HASH_BYTES + 1)

struct hash {
    uint8_t bytes[HASH_BYTES];
};

struct hash_state {
    _Alignas(64) unsigned char opaque[384];
};

void hash_start(struct hash_state *state);
void hash_add(struct hash_state *state, const void *bytes, size_t length);
/* Length-prefixed (u64 little endian), so that ("ab","c") and ("a","bc") differ: canonical keys are
 * made of these. */
void hash_add_text(struct hash_state *state, const char *text);
void hash_add_u64(struct hash_state *state, uint64_t value);
void hash_finish(struct hash_state *state, struct hash *out);

void hash_of(struct hash *out, const void *bytes, size_t length);
/* Errors: ERR_MISSING, ERR_IO, ERR_DENIED. */
MUST_CHECK enum error_code hash_of_file(struct hash *out, const char *path, struct error *error);

/* A published output: of a file, its hash and size; of a folder of files (no folders in it), the
 * hash over each file's name (hash_add_text) and hash in order of their names, and the sum of their
 * sizes. Errors: as hash_of_file; ERR_UNSUPPORTED for anything else that lies there. */
MUST_CHECK enum error_code hash_of_tree(struct hash *out, uint64_t *bytes, const char *path,
                                        struct error *error);

void hash_hex(char out[HASH_HEX_BYTES], const struct hash *hash);
bool hash_from_hex(struct hash *out, const char *hex); /* exactly 64 digits */
bool hash_equal(const struct hash *a, const struct hash *b);

#endif
