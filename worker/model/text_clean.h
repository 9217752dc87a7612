/* Prompts as the reference prepares them for the tokenizer. Pure; any thread. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_CLEAN_H
#define VIDLOOM_WORKER_MODEL_TEXT_CLEAN_H

#include "base/buffer.h"
#include "base/error.h"

#define TEXT_BYTES_MAX (64u << 10)

/* Add the cleaned text to `out`: repaired (text_repair.h), HTML character references resolved
 * twice, runs of white space made one space, none at the ends. Takes a few milliseconds for a text
 * of TEXT_BYTES_MAX, and 0.2 s at most for one made to be slow.
 * Errors: ERR_FORMAT (not UTF-8, lone surrogates included; says where), ERR_LIMIT (longer than
 * TEXT_BYTES_MAX; garbled too many times over), ERR_MEMORY. */
MUST_CHECK enum error_code text_clean(struct buffer *out, const char *text, struct error *error);

#endif
