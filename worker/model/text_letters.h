/* The characters that mojibake is made of: what they are, and the bytes they may once have been.
 * Pure; any thread. Inside of the text path only. */
#ifndef VIDLOOM_WORKER_MODEL_TEXT_LETTERS_H
#define VIDLOOM_WORKER_MODEL_TEXT_LETTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/model/text_points.h"

/* Classes: what a character mostly is in text that is whole. */
enum letter_class {
    COMMON = 1 << 0, /* anywhere */
    C1 = 1 << 1,     /* controls U+0080 to U+009F */
    BAD = 1 << 2,    /* hardly anywhere but in mojibake */
    LAW = 1 << 3,
    CURRENCY = 1 << 4,
    OPENING = 1 << 5, /* punctuation */
    CLOSING = 1 << 6,
    NUMERIC = 1 << 7,
    KAOMOJI = 1 << 8, /* letters that faces are made of */
    UPPER_ACCENTED = 1 << 9,
    LOWER_ACCENTED = 1 << 10,
    UPPER_PLAIN = 1 << 11,
    LOWER_PLAIN = 1 << 12,
    BOX = 1 << 13,
    /* In an encoding like Latin-1: the first of 2, 3 or 4 bytes of UTF-8; a further one. */
    FIRST_OF_2 = 1 << 14,
    FIRST_OF_3 = 1 << 15,
    FIRST_OF_4 = 1 << 16,
    CONTINUATION = 1 << 17,
    SURE_CONTINUATION = 1 << 18, /* and rarely anything else: no spaces, dashes, quotes */
};

/* In the order in which they are tried. The "sloppy" ones give a byte without a meaning the one it
 * has in Latin-1, and U+FFFD the byte 0x1A. */
enum encoding {
    LATIN_1,
    SLOPPY_WINDOWS_1252,
    SLOPPY_WINDOWS_1251,
    SLOPPY_WINDOWS_1250,
    SLOPPY_WINDOWS_1253,
    SLOPPY_WINDOWS_1254,
    SLOPPY_WINDOWS_1257,
    ISO_8859_2,
    MACROMAN,
    CP437,
    ENCODINGS
};

/* 0 for a character of no class. */
uint32_t letter_classes(uint32_t point);

/* The encodings that can write every character: a bit each. */
uint32_t letters_encodings(const struct points *text);

/* The byte of a character in an encoding that can write it. */
uint8_t letter_byte(uint32_t point, enum encoding encoding);

/* Whether something in the text is unlikely to have been meant: ftfy.badness. */
bool letters_are_bad(const uint32_t *text, size_t length);

#endif
