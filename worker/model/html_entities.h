/* HTML's character references, by the rules of Python's html.unescape. Pure; any thread. */
#ifndef VIDLOOM_WORKER_MODEL_HTML_ENTITIES_H
#define VIDLOOM_WORKER_MODEL_HTML_ENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Add a text of valid UTF-8 with its references resolved, once. */
void html_unescape(struct buffer *out, const char *text);

/* One named reference. name is what follows '&', without a ';'; NULL: there is none so called.
 * `semicolon`: whether the text has one after it (many references need it). */
const char *html_entity(const char *name, size_t length, bool semicolon);

/* What browsers take U+0080 to U+009F for: the character of Windows-1252, or themselves where it
 * has none. */
uint32_t html_windows_1252(uint32_t control);

#endif
