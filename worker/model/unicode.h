/* Facts of Unicode: one thin file over utf8proc. Pure; any thread. */
#ifndef VIDLOOM_WORKER_MODEL_UNICODE_H
#define VIDLOOM_WORKER_MODEL_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/text_points.h"

/* Letter, number or '_': what \w means to Python. */
bool unicode_is_word(uint32_t point);
bool unicode_is_decimal(uint32_t point); /* \d */
uint32_t unicode_upper(uint32_t point);  /* where that is one character, else itself */

#define UNICODE_COMPATIBLE_MAX 4
/* The NFKC form of one character of at most 4; its length. */
size_t unicode_compatible(uint32_t out[UNICODE_COMPATIBLE_MAX], uint32_t point);

/* `out` becomes the NFC form of `text`, in linear time. */
void unicode_nfc(struct points *out, const struct points *text);

/* Whether a user sees a new character begin at `next`; *state is 0 at the start of a text. */
bool unicode_breaks(uint32_t previous, uint32_t next, int32_t *state);

#endif
