/* Mojibake undone: UTF-8 that was read as another encoding, perhaps several times over. Pure; any
 * thread. Inside of the text path only. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_ENCODING_H
#define VIDLOOM_WORKER_MODEL_TEXT_ENCODING_H

#include "worker/model/text_points.h"

/* How many more characters may be looked at; 0 when a repair stopped early. A text can be made that
 * needs as many rounds as it has letters. */
struct text_effort {
    size_t left;
};

/* Whether there is effort left for a round over `length` characters, which is then taken. */
bool text_effort_take(struct text_effort *effort, size_t length);

/* Source: ftfy 6.3.1, fix_encoding with its default configuration. In place. */
void text_repair_encoding(struct points *text, struct text_effort *effort);

#endif
