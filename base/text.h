/* Text from outside: validity, help with spelling, numbers, and sizes for people. Any thread; texts
 * end with a NUL where no length is given. */
#ifndef VIDLOOM_BASE_TEXT_H
#define VIDLOOM_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point at the start of text[0..left) and the bytes that it has; 0 where there is none of
 * strict UTF-8. */
size_t text_next_point(uint32_t *point, const char *text, size_t left);
/* The UTF-8 of a code point up to U+10FFFF; returns its bytes. */
size_t text_put_point(char out[4], uint32_t point);

/* Strict UTF-8: no overlong forms, surrogates, or code points past U+10FFFF. On failure *where
 * (may be NULL) is the offset of the first bad byte. */
bool text_is_utf8(const char *text, size_t length, size_t *where);

/* Bytes of the control character that begins here, which a terminal obeys: C0 but for the NUL that
 * ends a text, DEL, C1; 0: it is none. */
size_t text_control(const char *at);

/* The candidate nearest to `word` by edit distance (transpositions count one), or NULL when none is
 * within a third of the word's length (at least 1, at most 3). `candidates` ends with NULL. */
const char *text_nearest(const char *word, const char *const *candidates);

/* Whether `text` is something and then `end`. */
bool text_ends_with(const char *text, const char *end);

/* Whole-string numbers. Underscores, spaces, trailing characters, NaN, infinities: false. */
bool text_to_int(const char *text, int64_t *out);
bool text_to_double(const char *text, double *out);

/* "6GiB", "1.5 GB", "4096": a number that is not below 0 and, if it is not of bytes, its unit: KiB
 * to TiB of 1024, kB to TB of 1000. Rounded down. */
bool text_to_bytes(const char *text, uint64_t *out);

/* "1.5 GiB", "12 KiB"; "1 h 02 min", "12.3 s". Returns `out`. */
char *text_bytes(char out[32], uint64_t bytes);
char *text_duration(char out[32], double seconds);

#endif
