/* The text path of a build without SentencePiece and utf8proc: rows of text come from elsewhere. */
#include "worker/model/text_clean.h"
#include "worker/model/tokenizer.h"

enum error_code text_clean(struct buffer *out, const char *text, struct error *error) {
    return error_set(error, ERR_UNSUPPORTED, "this build cleans no texts");
}

bool tokenizer_is_built(void) {
    return false;
}

enum error_code tokenizer_open_memory(struct tokenizer **out, const void *bytes, size_t length,
                                      const char *name, struct error *error) {
    *out = NULL;
    return error_set(error, ERR_UNSUPPORTED, "%s: this build has no tokenizer", name);
}

enum error_code tokenizer_open(struct tokenizer **out, const char *path, struct error *error) {
    return tokenizer_open_memory(out, NULL, 0, path, error);
}

enum error_code tokenizer_open_folder(struct tokenizer **out, const char *folder,
                                      struct error *error) {
    return tokenizer_open_memory(out, NULL, 0, folder, error);
}

void tokenizer_close(struct tokenizer **tokenizer) {
    *tokenizer = NULL;
}

int tokenizer_pieces(const struct tokenizer *tokenizer) {
    return 0;
}

enum error_code tokenizer_encode(const struct tokenizer *tokenizer, int32_t *ids, int *count,
                                 int max, const char *text, size_t length, struct error *error) {
    return error_set(error, ERR_UNSUPPORTED, "this build has no tokenizer");
}
