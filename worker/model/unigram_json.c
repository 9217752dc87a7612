/* tokenizer.json into a struct unigram. What is not known is refused by name: a step left out would
 * give other ids without a word. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "worker/model/tokenizer.h"
#include "worker/model/unigram.h"

/* The parsed file, while it is read: 450 bytes a piece; umT5's takes 115 MB. Address space only. */
#define JSON_ARENA_BYTES ((size_t)512 << 20)

#define UNKNOWN_PENALTY 10.0
#define ADDED_MAX       4096

struct reader {
    struct unigram *unigram;
    struct arena *arena; /* the unigram's */
    const struct json *vocabulary, *added;
    const char *name;
    struct error *error;
};

static enum error_code bad(const struct reader *reader, const char *what) {
    return error_set(reader->error, ERR_FORMAT, "%s: not a usable tokenizer: %s", reader->name,
                     what);
}

static enum error_code unsupported(const struct reader *reader, const char *what,
                                   const char *type) {
    return error_set(reader->error, ERR_UNSUPPORTED,
                     "%s: %s \"%.64s\" is not known here; umT5 has none", reader->name, what, type);
}

static const char *type_of(const struct json *json) {
    return json_text(json, "type", "without a type");
}

static bool is_type(const struct json *json, const char *type) {
    return strcmp(type_of(json), type) == 0;
}

/* -- normalizer ------------------------------------------------------------------------------ */

static int digit_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Standard base64, padded or not. NULL: it is none, or no room. */
static uint8_t *from_base64(struct arena *arena, const char *text, size_t length, size_t *out) {
    while (length > 0 && text[length - 1] == '=')
        length--;
    uint8_t *bytes = arena_alloc(arena, length / 4 * 3 + 3);
    uint32_t bits = 0;
    *out = 0;
    for (size_t i = 0; i < length && bytes != NULL; i++) {
        int digit = digit_of(text[i]);
        if (digit < 0)
            return NULL;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 != 0)
            bytes[(*out)++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return bytes;
}

static enum error_code read_map(const struct reader *reader, const struct json *step) {
    const struct json *map = json_get(step, "precompiled_charsmap");
    struct unigram *unigram = reader->unigram;
    size_t length = 0;
    uint8_t *bytes = map == NULL || map->type != JSON_STRING || unigram->trie != NULL
                         ? NULL
                         : from_base64(reader->arena, map->string, map->length, &length);
    if (bytes == NULL)
        return bad(reader, "its precompiled_charsmap is not base64, or there twice");
    enum error_code code = tokenizer_check_map(bytes, length, reader->name, reader->error);
    if (code != ERR_OK)
        return code;
    size_t units =
        (bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24) / 4;
    uint32_t *trie = arena_array(reader->arena, units, sizeof *trie);
    if (trie == NULL)
        return bad(reader, "its character map is too large");
    for (size_t i = 0; i < units; i++) {
        const uint8_t *unit = bytes + 4 + 4 * i;
        trie[i] =
            unit[0] | (uint32_t)unit[1] << 8 | (uint32_t)unit[2] << 16 | (uint32_t)unit[3] << 24;
    }
    unigram->trie = trie;
    unigram->trie_text = (const char *)bytes + 4 + 4 * units;
    return ERR_OK;
}

static enum error_code add_step(const struct reader *reader, enum unigram_step step) {
    struct unigram *unigram = reader->unigram;
    if (unigram->step_count == UNIGRAM_STEPS_MAX)
        return bad(reader, "it normalises in more than 8 steps");
    unigram->steps[unigram->step_count++] = step;
    return ERR_OK;
}

static enum error_code read_replace(const struct reader *reader, const struct json *step) {
    const char *pattern = json_text(json_get(step, "pattern"), "Regex", "not a regex");
    const char *content = json_text(step, "content", "");
    if (strcmp(pattern, " {2,}") != 0)
        return unsupported(reader, "replacing", pattern);
    if (strcmp(content, " ") == 0)
        return add_step(reader, STEP_COLLAPSE_TO_SPACE);
    if (strcmp(content, "\xe2\x96\x81") == 0)
        return add_step(reader, STEP_COLLAPSE_TO_MARK);
    return unsupported(reader, "replacing spaces by", content);
}

static enum error_code read_normalizer(const struct reader *reader, const struct json *step,
                                       bool nested) {
    enum error_code code = ERR_OK;
    if (step == NULL || step->type == JSON_NULL)
        return ERR_OK;
    if (is_type(step, "Sequence") && !nested) {
        const struct json *steps = json_get(step, "normalizers");
        for (step = steps != NULL ? steps->child : NULL; step != NULL && code == ERR_OK;
             step = step->next)
            code = read_normalizer(reader, step, true);
        return code;
    }
    if (is_type(step, "Precompiled")) {
        code = read_map(reader, step);
        return code == ERR_OK ? add_step(reader, STEP_MAP) : code;
    }
    if (is_type(step, "Replace"))
        return read_replace(reader, step);
    if (!is_type(step, "Strip"))
        return unsupported(reader, "the normalizer", type_of(step));
    if (json_bool(step, "strip_left", false))
        code = add_step(reader, STEP_STRIP_LEFT);
    if (code == ERR_OK && json_bool(step, "strip_right", false))
        code = add_step(reader, STEP_STRIP_RIGHT);
    return code;
}

/* -- pre_tokenizer --------------------------------------------------------------------------- */

static enum error_code read_metaspace(const struct reader *reader, const struct json *json) {
    struct unigram *unigram = reader->unigram;
    const char *mark = json_text(json, "replacement", "");
    const char *scheme = json_text(json, "prepend_scheme", "always");
    if (!is_type(json, "Metaspace"))
        return unsupported(reader, "the pre_tokenizer", type_of(json));
    if (strcmp(mark, "\xe2\x96\x81") != 0)
        return unsupported(reader, "a space written as", mark);
    if (strcmp(scheme, "always") == 0)
        unigram->prefix = json_bool(json, "add_prefix_space", true) ? PREFIX_ALWAYS : PREFIX_NEVER;
    else if (strcmp(scheme, "first") == 0)
        unigram->prefix = PREFIX_FIRST;
    else if (strcmp(scheme, "never") == 0)
        unigram->prefix = PREFIX_NEVER;
    else
        return unsupported(reader, "the prepend_scheme", scheme);
    unigram->splits_words = json_bool(json, "split", true);
    return ERR_OK;
}

static enum error_code read_pre_tokenizer(const struct reader *reader, const struct json *json) {
    if (json != NULL && is_type(json, "Sequence")) {
        const struct json *list = json_get(json, "pretokenizers");
        const struct json *first = list != NULL ? list->child : NULL;
        if (first != NULL && is_type(first, "WhitespaceSplit")) {
            reader->unigram->splits_at_space = true;
            first = first->next;
        }
        if (first == NULL || first->next != NULL)
            return bad(reader, "its pre_tokenizer is not WhitespaceSplit and Metaspace");
        json = first;
    }
    if (json == NULL || json->type != JSON_OBJECT)
        return bad(reader, "it has no pre_tokenizer");
    return read_metaspace(reader, json);
}

/* -- pieces ---------------------------------------------------------------------------------- */

static int compare_pieces(const void *a, const void *b) {
    const struct unigram_piece *x = a, *y = b;
    size_t common = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->text, y->text, common);
    if (order == 0)
        order = (x->length > y->length) - (x->length < y->length);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

/* Sort, and of equal texts keep the one with the highest id, which is the last. */
static struct unigram_pieces sort_pieces(struct unigram_piece *pieces, size_t count) {
    size_t kept = 0;
    if (count > 0)
        qsort(pieces, count, sizeof *pieces, compare_pieces);
    for (size_t i = 0; i < count; i++) {
        bool again = i + 1 < count && pieces[i].length == pieces[i + 1].length &&
                     memcmp(pieces[i].text, pieces[i + 1].text, pieces[i].length) == 0;
        if (!again)
            pieces[kept++] = pieces[i];
    }
    return (struct unigram_pieces){pieces, kept};
}

/* A number as serde_json reads it, which is the last bit off for one in five of the numbers with 17
 * digits: the digits as an integer, rounded, divided by a power of ten, rounded again. It decides
 * ties: "1111111" is 11 11 11 1 or 1 11 11 11 by that bit. */
static double read_score(const struct json *number) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *at = number->string, *end = at + number->length;
    uint64_t digits = 0;
    int point = 0;
    bool fraction = false, full = false;
    for (at += *at == '-'; at < end && *at != 'e' && *at != 'E'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (*at == '.') {
            fraction = true;
            continue;
        }
        full = full || digits > (UINT64_MAX - digit) / 10; /* further digits are dropped */
        digits = full ? digits : digits * 10 + digit;
        point += full ? !fraction : -(int)fraction;
    }
    long exponent = at < end ? strtol(at + 1, NULL, 10) : 0;
    if (exponent < -400 || exponent > 400 || labs(point + exponent) > 22)
        return number->number;
    point += (int)exponent;
    double value = point >= 0 ? (double)digits * tens[point] : (double)digits / tens[-point];
    return number->string[0] == '-' ? -value : value;
}

static bool is_piece(const struct json *json) {
    return json != NULL && json->type == JSON_STRING && json->length > 0 &&
           json->length <= PIECE_BYTES_MAX;
}

/* Texts stand one after another in `pool`. */
static struct unigram_piece take_piece(char **pool, const struct json *text, int32_t id) {
    struct unigram_piece piece = {*pool, (uint32_t)text->length, id};
    memcpy(*pool, text->string, text->length);
    *pool += text->length;
    return piece;
}

/* "<0x41>" */
static int byte_of(const struct unigram_piece *piece) {
    char digits[3] = {0};
    if (piece->length != 6 || memcmp(piece->text, "<0x", 3) != 0 || piece->text[5] != '>')
        return -1;
    memcpy(digits, piece->text + 3, 2);
    return strspn(digits, "0123456789ABCDEF") == 2 ? (int)strtol(digits, NULL, 16) : -1;
}

static enum error_code read_vocabulary(const struct reader *reader, char *pool,
                                       bool byte_fallback) {
    struct unigram *unigram = reader->unigram;
    size_t count = reader->vocabulary->length;
    struct unigram_piece *pieces = arena_array(reader->arena, count, sizeof *pieces);
    double *scores = arena_array(reader->arena, count, sizeof *scores), least = HUGE_VAL;
    if (pieces == NULL || scores == NULL)
        return bad(reader, "its vocabulary is too large");
    int32_t id = 0;
    for (const struct json *entry = reader->vocabulary->child; entry != NULL;
         entry = entry->next, id++) {
        const struct json *text = entry->type == JSON_ARRAY ? entry->child : NULL;
        const struct json *score = text != NULL ? text->next : NULL;
        if (!is_piece(text))
            return bad(reader, "a piece is not 1 to 512 bytes of text");
        if (score == NULL || score->type != JSON_NUMBER || !(fabs(score->number) < 1e9))
            return bad(reader, "a piece's score is not a small number");
        pieces[id] = take_piece(&pool, text, id);
        scores[id] = read_score(score);
        least = scores[id] < least ? scores[id] : least;
        int byte = byte_fallback ? byte_of(&pieces[id]) : -1;
        if (byte >= 0)
            unigram->bytes[byte] = id;
    }
    const struct unigram_piece *first = pieces;
    if (id < 2 || first[0].length != 5 || memcmp(first[0].text, "<pad>", 5) != 0 ||
        first[1].length != 4 || memcmp(first[1].text, "</s>", 4) != 0)
        return error_set(reader->error, ERR_UNSUPPORTED,
                         "%s: the first pieces are not <pad> and </s>, as in umT5", reader->name);
    unigram->unknown_score = least - UNKNOWN_PENALTY;
    unigram->scores = scores;
    unigram->pieces = sort_pieces(pieces, count);
    unigram->ids = (int)count;
    return ERR_OK;
}

static bool is_ascii(const struct json *text) {
    size_t i = 0;
    while (i < text->length && (uint8_t)text->string[i] < 0x80)
        i++;
    return i == text->length;
}

static enum error_code read_added(const struct reader *reader, char *pool) {
    struct unigram *unigram = reader->unigram;
    size_t count = reader->added != NULL ? reader->added->length : 0;
    struct unigram_piece *texts = arena_array(reader->arena, count, sizeof *texts);
    struct unigram_added *added = arena_array(reader->arena, count, sizeof *added);
    const struct json *token = count > 0 ? reader->added->child : NULL;
    if (texts == NULL || added == NULL)
        return bad(reader, "it has too many added tokens");
    for (int32_t at = 0; token != NULL; token = token->next, at++) {
        int64_t id = json_int(token, "id", -1);
        const struct json *content = json_get(token, "content");
        if (!is_piece(content) || id < 0 || id >= PIECES_MAX)
            return bad(reader, "an added token is not 1 to 512 bytes of text with an id");
        /* One that is looked for after normalising is the same in ASCII, which is not changed. */
        if (json_bool(token, "normalized", false) && !is_ascii(content))
            return unsupported(reader, "the normalized added token", content->string);
        texts[at] = take_piece(&pool, content, at);
        added[at] = (struct unigram_added){.id = (int32_t)id,
                                           .single_word = json_bool(token, "single_word", false),
                                           .strip_left = json_bool(token, "lstrip", false),
                                           .strip_right = json_bool(token, "rstrip", false)};
        unigram->ids = id >= unigram->ids ? (int)id + 1 : unigram->ids;
    }
    unigram->added_texts = sort_pieces(texts, count);
    unigram->added = added;
    return ERR_OK;
}

/* -- the file -------------------------------------------------------------------------------- */

static enum error_code read_model(struct reader *reader, const struct json *model) {
    const struct json *vocabulary = json_get(model, "vocab");
    struct unigram *unigram = reader->unigram;
    int64_t unknown = json_int(model, "unk_id", -1);
    if (strcmp(json_text(model, "type", "Unigram"), "Unigram") != 0)
        return error_set(reader->error, ERR_UNSUPPORTED,
                         "%s: a model of type \"%.64s\"; umT5's is Unigram", reader->name,
                         type_of(model));
    if (vocabulary == NULL || vocabulary->type != JSON_ARRAY)
        return bad(reader, "it has no list of pieces");
    if (vocabulary->length > PIECES_MAX)
        return error_set(reader->error, ERR_LIMIT, "%s: more than %d pieces", reader->name,
                         PIECES_MAX);
    if (unknown < 0 || unknown >= (int64_t)vocabulary->length)
        return bad(reader, "its unk_id is none of its pieces");
    unigram->unknown = (int32_t)unknown;
    reader->vocabulary = vocabulary;
    return ERR_OK;
}

static enum error_code read_file(struct reader *reader, const struct json *root, size_t length) {
    const struct json *model = json_get(root, "model");
    reader->added = json_get(root, "added_tokens");
    if (reader->added != NULL &&
        (reader->added->type != JSON_ARRAY || reader->added->length > ADDED_MAX))
        return bad(reader, "its added_tokens are not a list of at most 4096");
    enum error_code code = read_model(reader, model);
    /* Every text is shorter than its JSON. */
    char *pool = arena_alloc(reader->arena, length);
    char *added_pool = arena_alloc(reader->arena, length);
    if (code == ERR_OK && (pool == NULL || added_pool == NULL))
        code = bad(reader, "it is too large");
    if (code == ERR_OK)
        code = read_vocabulary(reader, pool, json_bool(model, "byte_fallback", false));
    if (code == ERR_OK)
        code = read_added(reader, added_pool);
    if (code == ERR_OK)
        code = read_normalizer(reader, json_get(root, "normalizer"), false);
    if (code == ERR_OK)
        code = read_pre_tokenizer(reader, json_get(root, "pre_tokenizer"));
    return code;
}

enum error_code unigram_open(struct unigram **out, const void *bytes, size_t length,
                             const char *name, struct error *error) {
    *out = NULL;
    struct arena json = {0}, arena = {0};
    const struct json *root = NULL;
    struct error inner = {0};
    if (length > TOKENIZER_BYTES_MAX)
        return error_set(error, ERR_LIMIT, "%s: %zu bytes; at most %u are read", name, length,
                         TOKENIZER_BYTES_MAX);
    enum error_code code = arena_open(&json, JSON_ARENA_BYTES, error);
    if (code == ERR_OK) {
        code = json_parse(&root, &json, bytes, length, &inner);
        if (code != ERR_OK)
            code = error_set(error, code, "%s:%s", name, inner.detail);
    }
    /* Twice the file for texts and map, and 24 bytes a piece. */
    if (code == ERR_OK)
        code = arena_open(&arena, 4 * length + (size_t)PIECES_MAX * 32 + (1u << 20), error);
    struct unigram *unigram = code == ERR_OK ? arena_zalloc(&arena, sizeof *unigram) : NULL;
    if (unigram != NULL) {
        struct reader reader = {unigram, &arena, NULL, NULL, name, error};
        memset(unigram->bytes, 0xff, sizeof unigram->bytes);
        code = read_file(&reader, root, length);
    }
    arena_close(&json);
    if (code != ERR_OK || unigram == NULL) {
        arena_close(&arena);
        return code;
    }
    unigram->arena = arena;
    *out = unigram;
    return ERR_OK;
}

void unigram_close(struct unigram **unigram) {
    if (*unigram == NULL)
        return;
    struct arena arena = (*unigram)->arena;
    arena_close(&arena);
    *unigram = NULL;
}
