/* Prompts as the reference prepares them for the tokenizer. Pure; any thread. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_CLEAN_H
#define VIDLOOM_WORKER_MODEL_TEXT_CLEAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

#define TEXT_BYTES_MAX (64u << 10)

/* Add the cleaned text to `out`: repair (see text_clean.c), HTML character references resolved
 * twice, runs of white space made one space, none at the ends.
 * Errors: ERR_FORMAT (not UTF-8; says where), ERR_LIMIT (longer than TEXT_BYTES_MAX), ERR_MEMORY.
 */
MUST_CHECK enum error_code text_clean(struct buffer *out, const char *text, struct error *error);

/* One HTML character reference. name is what follows '&', without a ';'; NULL: there is none so
 * called. `semicolon`: whether the text has one after it (many references need it). */
const char *html_entity(const char *name, size_t length, bool semicolon);

#endif
