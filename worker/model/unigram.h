/* The unigram tokenizer of a tokenizer.json, with the ids that Hugging Face's library gives.
 *
 * SentencePiece reads spiece.model (tokenizer.cc), but not this file as its own library does: that
 * one sums scores in double and word by word (so ties fall otherwise), normalises by grapheme, and
 * splits the text at added tokens first. Hence a reader and a search of our own, both small. */
#ifndef VIDLOOM_WORKER_MODEL_UNIGRAM_H
#define VIDLOOM_WORKER_MODEL_UNIGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define PIECE_BYTES_MAX 512
#define PIECES_MAX      (1 << 20)

struct unigram_piece {
    const char *text;
    uint32_t length;
    int32_t id;
};

/* Distinct texts in order of bytes. */
struct unigram_pieces {
    const struct unigram_piece *at;
    size_t count;
};

enum unigram_step {
    STEP_MAP,               /* the precompiled character map */
    STEP_COLLAPSE_TO_SPACE, /* two spaces and more become one */
    STEP_COLLAPSE_TO_MARK,  /* … become U+2581 */
    STEP_STRIP_LEFT,
    STEP_STRIP_RIGHT,
};

#define UNIGRAM_STEPS_MAX 8

enum unigram_prefix { PREFIX_ALWAYS, PREFIX_FIRST, PREFIX_NEVER };

/* Taken out of the text before anything else. */
struct unigram_added {
    int32_t id;
    bool single_word;             /* not inside of a word */
    bool strip_left, strip_right; /* with the white space there */
};

struct unigram {
    struct arena arena; /* holds everything below, and this */
    struct unigram_pieces pieces;
    const double *scores;              /* by id */
    struct unigram_pieces added_texts; /* their "id" is a place in `added` */
    const struct unigram_added *added;
    double unknown_score;
    int32_t unknown;
    int32_t bytes[256]; /* ids of <0x00> to <0xFF>; -1: none, or not to be used */
    int ids;            /* one past the highest */

    enum unigram_step steps[UNIGRAM_STEPS_MAX];
    int step_count;
    const uint32_t *trie;  /* checked: no walk leaves it (tokenizer_check_map) */
    const char *trie_text; /* NUL-terminated texts of its values */

    bool splits_at_space; /* before U+2581 is put in */
    bool splits_words;    /* every U+2581 starts a word */
    enum unigram_prefix prefix;
};

/* Read a tokenizer.json. Errors: ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED (what it would not do as
 * its own library does), ERR_MEMORY. */
MUST_CHECK enum error_code unigram_open(struct unigram **out, const void *bytes, size_t length,
                                        const char *name, struct error *error);
void unigram_close(struct unigram **unigram);

/* The first `max` ids of valid UTF-8, without </s>; *count of them. Any thread. Linear in the text,
 * times the length of the longest piece where pieces repeat one character.
 * Errors: ERR_FORMAT (not UTF-8), ERR_LIMIT (more than 4 MiB once normalised), ERR_MEMORY. */
MUST_CHECK enum error_code unigram_encode(const struct unigram *unigram, int32_t *ids, int *count,
                                          int max, const char *text, size_t length,
                                          struct error *error);

#endif
