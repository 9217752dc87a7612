/* Text made whole: ftfy.fix_text (6.3.1) with its default configuration. Pure; any thread. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_REPAIR_H
#define VIDLOOM_WORKER_MODEL_TEXT_REPAIR_H

#include "base/buffer.h"
#include "base/error.h"

/* Add text[0..length), valid UTF-8, to `out`, each line until nothing changes any more: character
 * references (up to the first line with a '<'), mojibake, C1 controls, Latin ligatures, full and
 * half width, curly quotes, line breaks, terminal escapes, control characters, NFC. The time is
 * linear but for texts that are garbled many times over, whose rounds are bounded. Errors:
 * ERR_LIMIT (that bound), ERR_MEMORY. */
MUST_CHECK enum error_code text_repair(struct buffer *out, const char *text, size_t length,
                                       struct error *error);

#endif
