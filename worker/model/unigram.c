/* Source: the Rust library tokenizers 0.23: added_vocabulary.rs, normalizers/precompiled.rs (and
 * the crate spm_precompiled), pre_tokenizers/metaspace.rs, models/unigram/model.rs
 * (encode_optimized). */
#include "worker/model/unigram.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "worker/model/text_points.h"
#include "worker/model/unicode.h"

#define MARK       "\xe2\x96\x81" /* U+2581 stands for a space */
#define MARK_BYTES 3

#define NORMALISED_BYTES_MAX (4u << 20)

/* -- pieces ---------------------------------------------------------------------------------- */

/* The pieces that begin with the same `depth` bytes. */
struct range {
    size_t low, high, depth;
};

static size_t lower_bound(const struct unigram_pieces *pieces, const struct range *range,
                          int byte) {
    size_t low = range->low, high = range->high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uint8_t)pieces->at[middle].text[range->depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keep the pieces that go on with a byte. The one that ends before it, if any, comes first; what is
 * left is longer. A piece that then ends here: its place; -1: none does. */
static ptrdiff_t narrow(const struct unigram_pieces *pieces, struct range *range, uint8_t byte) {
    if (range->low < range->high && pieces->at[range->low].length == range->depth)
        range->low++;
    range->low = lower_bound(pieces, range, byte);
    range->high = lower_bound(pieces, range, byte + 1);
    range->depth++;
    bool ends = range->low < range->high && pieces->at[range->low].length == range->depth;
    return ends ? (ptrdiff_t)range->low : -1;
}

static int32_t find(const struct unigram_pieces *pieces, const char *text, size_t length) {
    struct range range = {0, pieces->count, 0};
    ptrdiff_t place = -1;
    for (size_t i = 0; i < length && range.low < range.high; i++)
        place = narrow(pieces, &range, (uint8_t)text[i]);
    return place >= 0 && range.depth == length ? pieces->at[place].id : -1;
}

/* -- normalising ----------------------------------------------------------------------------- */

/* What the map has for the shortest beginning that it knows of text[0..length); NULL: nothing. */
static const char *map_find(const struct unigram *unigram, const char *text, size_t length) {
    uint32_t place = 0, unit = unigram->trie[0];
    for (size_t i = 0; i <= length; i++) {
        place ^= (unit >> 10) << ((unit & (1u << 9)) >> 6);
        if (i > 0 && (unit >> 8 & 1) != 0)
            return unigram->trie_text + (unigram->trie[place] & 0x7fffffffu);
        if (i == length || text[i] == 0)
            break;
        place ^= (uint8_t)text[i];
        unit = unigram->trie[place];
        if ((unit & 0x800000ffu) != (uint8_t)text[i])
            break;
    }
    return NULL;
}

/* A grapheme of less than 6 bytes is looked up whole, and all of it replaced even by what its
 * beginning maps to; a longer one, or one that the map does not know, character by character. */
static void map_grapheme(const struct unigram *unigram, struct buffer *out, const char *text,
                         size_t length) {
    const char *mapped = length < 6 ? map_find(unigram, text, length) : NULL;
    if (mapped != NULL) {
        buffer_add_text(out, mapped);
        return;
    }
    uint32_t point;
    for (size_t i = 0, step; i < length; i += step) {
        step = text_next_point(&point, text + i, length - i);
        mapped = map_find(unigram, text + i, step);
        buffer_add(out, mapped != NULL ? mapped : text + i, mapped != NULL ? strlen(mapped) : step);
    }
}

static void map_text(const struct unigram *unigram, struct buffer *out, const char *text,
                     size_t length) {
    size_t start = 0;
    uint32_t previous = 0, point = 0;
    int32_t state = 0;
    for (size_t at = 0, step; at < length && out->length <= NORMALISED_BYTES_MAX; at += step) {
        step = text_next_point(&point, text + at, length - at);
        if (at > 0 && unicode_breaks(previous, point, &state)) {
            map_grapheme(unigram, out, text + start, at - start);
            start = at;
        }
        previous = point;
    }
    if (length > start)
        map_grapheme(unigram, out, text + start, length - start);
}

static void collapse(struct buffer *out, const char *text, size_t length, const char *by) {
    for (size_t i = 0, run; i < length; i += run) {
        for (run = 0; i + run < length && text[i + run] == ' '; run++)
            ;
        if (run > 1)
            buffer_add_text(out, by);
        else
            buffer_add(out, text + i, run = 1);
    }
}

/* Unicode's White_Space, which unlike Python's has no U+001C to U+001F. */
static bool is_space(uint32_t point) {
    return points_is_space(point) && (point < 0x1c || point > 0x1f);
}

/* Bytes of white space at the start or the end. */
static size_t leading_space(const char *text, size_t length) {
    size_t at = 0;
    uint32_t point;
    for (size_t step; at < length; at += step) {
        step = text_next_point(&point, text + at, length - at);
        if (!is_space(point))
            break;
    }
    return at;
}

static size_t trailing_space(const char *text, size_t length) {
    size_t end = length;
    uint32_t point;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && ((uint8_t)text[start] & 0xc0) == 0x80)
            start--;
        if (text_next_point(&point, text + start, end - start) == 0 || !is_space(point))
            break;
        end = start;
    }
    return length - end;
}

static void take_step(const struct unigram *unigram, enum unigram_step step, struct buffer *out,
                      const char *text, size_t length) {
    size_t cut;
    switch (step) {
    case STEP_MAP:
        map_text(unigram, out, text, length);
        break;
    case STEP_COLLAPSE_TO_SPACE:
        collapse(out, text, length, " ");
        break;
    case STEP_COLLAPSE_TO_MARK:
        collapse(out, text, length, MARK);
        break;
    case STEP_STRIP_LEFT:
        cut = leading_space(text, length);
        buffer_add(out, text + cut, length - cut);
        break;
    case STEP_STRIP_RIGHT:
        buffer_add(out, text, length - trailing_space(text, length));
        break;
    }
}

/* -- the best path --------------------------------------------------------------------------- */

/* The best way to a byte of a word: from where, and by which piece. */
struct node {
    double score;
    int32_t start; /* -1: none yet */
    int32_t id;
    int32_t next; /* on the chosen path, the byte after the piece that begins here */
};

struct encoder {
    const struct unigram *unigram;
    int32_t *ids;
    int count, max;
    struct node *nodes;
    size_t capacity; /* of nodes */
    struct buffer segment, spare, words;
    bool failed, too_long;
};

static void emit(struct encoder *encoder, int32_t id) {
    if (encoder->count < encoder->max)
        encoder->ids[encoder->count++] = id;
}

/* A run of unknown characters is one token, or all of its bytes. */
static void emit_unknown(struct encoder *encoder, const char *text, size_t length) {
    const struct unigram *unigram = encoder->unigram;
    int32_t id = find(&unigram->pieces, text, length);
    bool in_bytes = id < 0;
    for (size_t i = 0; i < length && in_bytes; i++)
        in_bytes = unigram->bytes[(uint8_t)text[i]] >= 0;
    if (!in_bytes)
        emit(encoder, id >= 0 ? id : unigram->unknown);
    for (size_t i = 0; i < length && in_bytes; i++)
        emit(encoder, unigram->bytes[(uint8_t)text[i]]);
}

/* The first way to a node stays unless a better one comes. */
static void reach(struct node *node, double score, size_t start, int32_t id) {
    if (node->start < 0 || score > node->score)
        *node = (struct node){.score = score, .start = (int32_t)start, .id = id};
}

static void find_path(struct encoder *encoder, const char *word, size_t length) {
    const struct unigram *unigram = encoder->unigram;
    struct node *nodes = encoder->nodes;
    for (size_t i = 0; i <= length; i++)
        nodes[i] = (struct node){.start = -1};
    for (size_t start = 0, step; start < length; start += step) {
        struct range range = {0, unigram->pieces.count, 0};
        double score = nodes[start].score;
        bool known = false;
        uint32_t point;
        step = text_next_point(&point, word + start, length - start);
        for (size_t end = start; end < length && range.low < range.high; end++) {
            ptrdiff_t place = narrow(&unigram->pieces, &range, (uint8_t)word[end]);
            if (place < 0)
                continue;
            int32_t id = unigram->pieces.at[place].id;
            reach(&nodes[end + 1], score + unigram->scores[id], start, id);
            known = known || end + 1 == start + step;
        }
        if (!known)
            reach(&nodes[start + step], score + unigram->unknown_score, start, unigram->unknown);
    }
    for (size_t end = length; end > 0; end = (size_t)nodes[end].start)
        nodes[nodes[end].start].next = (int32_t)end;
}

static void encode_word(struct encoder *encoder, const char *word, size_t length) {
    if (length + 1 > encoder->capacity) {
        struct node *nodes = realloc(encoder->nodes, 2 * (length + 1) * sizeof *nodes);
        if (nodes == NULL) {
            encoder->failed = true;
            return;
        }
        encoder->nodes = nodes;
        encoder->capacity = 2 * (length + 1);
    }
    find_path(encoder, word, length);
    const struct node *nodes = encoder->nodes;
    const int32_t unknown = encoder->unigram->unknown;
    for (size_t start = 0, end; start < length; start = end) {
        end = (size_t)nodes[start].next;
        int32_t id = nodes[end].id;
        while (id == unknown && end < length && nodes[nodes[end].next].id == unknown)
            end = (size_t)nodes[end].next;
        if (id == unknown)
            emit_unknown(encoder, word + start, end - start);
        else
            emit(encoder, id);
    }
}

/* -- words ----------------------------------------------------------------------------------- */

/* Spaces become U+2581, one is put before, and every one starts a word. */
static void encode_words(struct encoder *encoder, const char *text, size_t length, bool first) {
    const struct unigram *unigram = encoder->unigram;
    struct buffer *words = &encoder->words;
    bool marked = text[0] == ' ' || (length >= MARK_BYTES && memcmp(text, MARK, MARK_BYTES) == 0);
    bool prefix = unigram->prefix == PREFIX_ALWAYS || (unigram->prefix == PREFIX_FIRST && first);
    words->length = 0;
    if (prefix && !marked)
        buffer_add_text(words, MARK);
    for (size_t i = 0; i < length; i++)
        buffer_add(words, text[i] == ' ' ? MARK : text + i, text[i] == ' ' ? MARK_BYTES : 1);
    if (words->failed)
        return;
    for (size_t start = 0, end; start < words->length; start = end) {
        const char *next = unigram->splits_words ? strstr(words->data + start + 1, MARK) : NULL;
        end = next != NULL ? (size_t)(next - words->data) : words->length;
        encode_word(encoder, words->data + start, end - start);
    }
}

/* What lies between two added tokens. */
static void encode_segment(struct encoder *encoder, const char *text, size_t length, bool first) {
    const struct unigram *unigram = encoder->unigram;
    encoder->segment.length = 0;
    buffer_add(&encoder->segment, text, length);
    for (int i = 0; i < unigram->step_count; i++) {
        struct buffer done = encoder->segment;
        encoder->spare.length = 0;
        buffer_add(&encoder->spare, "", 0);
        if (!done.failed)
            take_step(unigram, unigram->steps[i], &encoder->spare, done.data, done.length);
        encoder->segment = encoder->spare;
        encoder->spare = done;
    }
    const struct buffer *segment = &encoder->segment;
    encoder->too_long |= segment->length > NORMALISED_BYTES_MAX;
    if (segment->failed || segment->length == 0 || encoder->too_long)
        return;
    if (!unigram->splits_at_space) {
        encode_words(encoder, segment->data, segment->length, first);
        return;
    }
    size_t start = 0, step;
    uint32_t point;
    for (size_t at = 0; at < segment->length; at += step) {
        step = text_next_point(&point, segment->data + at, segment->length - at);
        if (!is_space(point))
            continue;
        if (at > start)
            encode_words(encoder, segment->data + start, at - start, first && start == 0);
        start = at + step;
    }
    if (segment->length > start)
        encode_words(encoder, segment->data + start, segment->length - start, first && start == 0);
}

/* -- added tokens ---------------------------------------------------------------------------- */

/* The longest added token that begins at the text; NULL: none does. */
static const struct unigram_piece *find_added(const struct unigram *unigram, const char *text,
                                              size_t length) {
    struct range range = {0, unigram->added_texts.count, 0};
    const struct unigram_piece *longest = NULL;
    for (size_t i = 0; i < length && range.low < range.high; i++) {
        ptrdiff_t place = narrow(&unigram->added_texts, &range, (uint8_t)text[i]);
        longest = place >= 0 ? &unigram->added_texts.at[place] : longest;
    }
    return longest;
}

static bool stands_alone(const char *text, size_t length, size_t start, size_t end) {
    uint32_t point = 0;
    size_t before = start;
    while (before > 0 && ((uint8_t)text[--before] & 0xc0) == 0x80)
        ;
    if (start > 0 && text_next_point(&point, text + before, start - before) > 0 &&
        unicode_is_word(point))
        return false;
    return end == length || text_next_point(&point, text + end, length - end) == 0 ||
           !unicode_is_word(point);
}

static void encode_text(struct encoder *encoder, const char *text, size_t length) {
    const struct unigram *unigram = encoder->unigram;
    size_t done = 0;
    for (size_t at = 0; at < length;) {
        const struct unigram_piece *found = find_added(unigram, text + at, length - at);
        if (found == NULL) {
            at++;
            continue;
        }
        const struct unigram_added *added = &unigram->added[found->id];
        size_t start = at, end = at + found->length;
        at = end; /* also when it is passed over: what is inside of it is not looked at again */
        if (added->single_word && !stands_alone(text, length, start, end))
            continue;
        if (added->strip_left)
            start -= trailing_space(text + done, start - done);
        if (added->strip_right)
            end += leading_space(text + end, length - end);
        if (start > done)
            encode_segment(encoder, text + done, start - done, done == 0);
        emit(encoder, added->id);
        done = at = end;
    }
    if (length > done)
        encode_segment(encoder, text + done, length - done, done == 0);
}

enum error_code unigram_encode(const struct unigram *unigram, int32_t *ids, int *count, int max,
                               const char *text, size_t length, struct error *error) {
    struct encoder encoder = {.unigram = unigram, .ids = ids, .max = max};
    size_t where;
    *count = 0;
    if (!text_is_utf8(text, length, &where))
        return error_set(error, ERR_FORMAT, "the text is not UTF-8 at byte %zu", where);
    encode_text(&encoder, text, length);
    bool failed =
        encoder.failed || encoder.segment.failed || encoder.spare.failed || encoder.words.failed;
    *count = encoder.count;
    free(encoder.nodes);
    buffer_close(&encoder.segment);
    buffer_close(&encoder.spare);
    buffer_close(&encoder.words);
    if (failed)
        return error_set(error, ERR_MEMORY, "no memory for a text's tokens");
    if (encoder.too_long)
        return error_set(error, ERR_LIMIT, "the text has more than 4 MiB once it is normalised");
    return ERR_OK;
}
