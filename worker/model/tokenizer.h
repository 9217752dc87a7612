/* Text to the ids of a published unigram model: spiece.model by SentencePiece (tokenizer.cc is one
 * thin file over the library), tokenizer.json by unigram.c, each with the ids that its own library
 * gives.
 *
 * SentencePiece trusts its model file; we do not, so tokenizer_check refuses what it would not
 * survive before it sees a byte. After opening: any thread.
 *
 * A build without SentencePiece (VIDLOOM_BARE) has tokenizer_bare.c: opening gives
 * ERR_UNSUPPORTED. */
#ifndef VIDLOOM_WORKER_MODEL_TOKENIZER_H
#define VIDLOOM_WORKER_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TOKENIZER_BYTES_MAX (64u << 20)
#define TOKENIZER_PAD       0
#define TOKENIZER_END       1 /* </s>, after every text */

struct tokenizer;

/* False in a build without SentencePiece. */
bool tokenizer_is_built(void);

/* Errors: ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED (no unigram model; other ids of <pad> and </s>),
 * ERR_MEMORY. `name` is for errors; one that ends with ".json" says that it is a tokenizer.json.
 * The bytes may go after the call. */
MUST_CHECK enum error_code tokenizer_open_memory(struct tokenizer **out, const void *bytes,
                                                 size_t length, const char *name,
                                                 struct error *error);
MUST_CHECK enum error_code tokenizer_open(struct tokenizer **out, const char *path,
                                          struct error *error);
/* The tokenizer of a folder: its tokenizer.json, which the reference takes when there are both,
 * else its spiece.model. Errors as above, and ERR_MISSING when it has neither. */
MUST_CHECK enum error_code tokenizer_open_folder(struct tokenizer **out, const char *folder,
                                                 struct error *error);
void tokenizer_close(struct tokenizer **tokenizer);
/* One past the highest id. */
int tokenizer_pieces(const struct tokenizer *tokenizer);

/* ids[0..*count) of cleaned UTF-8 text, at most `max` (2 or more) of them: what is longer is cut,
 * and the last is always </s>. */
MUST_CHECK enum error_code tokenizer_encode(const struct tokenizer *tokenizer, int32_t *ids,
                                            int *count, int max, const char *text, size_t length,
                                            struct error *error);

/* Whether a SentencePiece model is one that the library reads safely: a well-formed message, pieces
 * that are short UTF-8 with finite scores, one unknown piece, and a character map whose every jump
 * stays inside it. */
MUST_CHECK enum error_code tokenizer_check(const void *bytes, size_t length, const char *name,
                                           struct error *error);

/* The same of its precompiled character map alone, which tokenizer.json has too. */
MUST_CHECK enum error_code tokenizer_check_map(const void *bytes, size_t length, const char *name,
                                               struct error *error);

#ifdef __cplusplus
}
#endif
#endif
