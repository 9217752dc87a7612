/* A reader of just enough protobuf to know that a SentencePiece model is harmless. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "worker/model/tokenizer.h"
#include "worker/model/unigram.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct span {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value;    /* varint or fixed */
    struct span bytes; /* WIRE_BYTES */
};

static bool read_varint(struct span *span, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (span->at == span->end)
            return false;
        uint8_t byte = *span->at++;
        if (shift == 63 && byte > 1)
            return false;
        *out |= (uint64_t)(byte & 0x7fu) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool read_fixed(struct span *span, int size, uint64_t *out) {
    if (span->end - span->at < size)
        return false;
    *out = 0;
    for (int i = 0; i < size; i++)
        *out |= (uint64_t)span->at[i] << (8 * i);
    span->at += size;
    return true;
}

static bool read_field(struct span *span, struct field *out) {
    uint64_t tag;
    if (!read_varint(span, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return false;
    out->number = (uint32_t)(tag >> 3);
    out->wire = (enum wire)(tag & 7);
    switch (tag & 7) {
    case WIRE_VARINT:
        return read_varint(span, &out->value);
    case WIRE_FIXED64:
        return read_fixed(span, 8, &out->value);
    case WIRE_FIXED32:
        return read_fixed(span, 4, &out->value);
    case WIRE_BYTES:
        if (!read_varint(span, &out->value) || out->value > (uint64_t)(span->end - span->at))
            return false;
        out->bytes = (struct span){span->at, span->at + out->value};
        span->at += out->value;
        return true;
    default:
        return false; /* groups are not used, and nesting them is how readers are exhausted */
    }
}

static uint32_t word(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

struct check {
    const char *name;
    struct error *error;
    int pieces, unknown;
};

static enum error_code bad(struct check *check, const char *what) {
    return error_set(check->error, ERR_FORMAT, "%s: not a usable SentencePiece model: %s",
                     check->name, what);
}

/* message SentencePiece {piece = 1; score = 2; type = 3}; type 2 is the unknown piece. */
static enum error_code check_piece(struct check *check, struct span span) {
    struct field field;
    struct span piece = {0};
    if (++check->pieces > PIECES_MAX)
        return error_set(check->error, ERR_LIMIT, "%s: more than %d pieces", check->name,
                         PIECES_MAX);
    while (span.at != span.end) {
        if (!read_field(&span, &field))
            return bad(check, "a piece is cut short");
        if (field.number == 1 && field.wire == WIRE_BYTES) {
            piece = field.bytes;
        } else if (field.number == 2 && field.wire == WIRE_FIXED32) {
            uint32_t bits = (uint32_t)field.value;
            float score;
            memcpy(&score, &bits, sizeof score);
            if (!(fabsf(score) < 1e9f))
                return bad(check, "a piece's score is not a small number");
        } else if (field.number == 3 && field.wire == WIRE_VARINT) {
            if (field.value < 1 || field.value > 6)
                return bad(check, "a piece is of an unknown type");
            check->unknown += field.value == 2;
        } else {
            return bad(check, "a piece has an unknown field");
        }
    }
    size_t length = (size_t)(piece.end - piece.at);
    if (length == 0 || length > PIECE_BYTES_MAX || memchr(piece.at, 0, length) != NULL ||
        !text_is_utf8((const char *)piece.at, length, NULL))
        return bad(check, "a piece is not 1 to 512 bytes of UTF-8");
    return ERR_OK;
}

/* u32 size of a double-array trie, the trie (u32 units), and NUL-terminated texts that its values
 * point into. A walk goes from unit i to i ^ offset(i) ^ label, 0 <= label < 256. */
enum error_code tokenizer_check_map(const void *bytes, size_t length, const char *name,
                                    struct error *error) {
    struct check check = {.name = name, .error = error};
    const uint8_t *map = bytes;
    uint32_t trie = length > 4 ? word(map) : 0;
    if (trie == 0 || trie % 1024 != 0 || trie >= length - 4 || map[length - 1] != 0)
        return bad(&check, "its character map is cut short");
    const uint8_t *unit = map + 4, *text = unit + trie;
    uint32_t count = trie / 4, texts = (uint32_t)(length - 4 - trie);
    if (!text_is_utf8((const char *)text, texts, NULL))
        return bad(&check, "its character map does not give UTF-8");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t u = word(unit + 4 * (size_t)i);
        if (u >> 31 != 0) { /* a value */
            if ((u & 0x7fffffffu) >= texts)
                return bad(&check, "its character map points outside of itself");
            if ((text[u & 0x7fffffffu] & 0xc0) == 0x80)
                return bad(&check, "its character map points into a character");
            continue;
        }
        uint32_t offset = (u >> 10) << ((u & (1u << 9)) >> 6);
        if (((i ^ offset) | 0xffu) >= count)
            return bad(&check, "its character map jumps outside of itself");
        /* has_leaf: the unit at i ^ offset is taken for a value. */
        if ((u >> 8 & 1) != 0 && word(unit + 4 * (size_t)(i ^ offset)) >> 31 == 0)
            return bad(&check, "its character map has a leaf without a value");
    }
    return ERR_OK;
}

/* NormalizerSpec: 2 precompiled_charsmap, 6 normalization_rule_tsv (training only). */
static enum error_code check_normalizer(struct check *check, struct span span) {
    struct field field;
    while (span.at != span.end) {
        if (!read_field(&span, &field))
            return bad(check, "its normaliser is cut short");
        if (field.number == 2 && field.wire != WIRE_BYTES)
            return bad(check, "its character map is of the wrong type");
        size_t map = field.number == 2 ? (size_t)(field.bytes.end - field.bytes.at) : 0;
        enum error_code code =
            map == 0 ? ERR_OK : tokenizer_check_map(field.bytes.at, map, check->name, check->error);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

/* TrainerSpec: 3 model_type; 1 is unigram, which is also the default. */
static enum error_code check_trainer(struct check *check, struct span span) {
    struct field field;
    while (span.at != span.end) {
        if (!read_field(&span, &field))
            return bad(check, "its trainer settings are cut short");
        if (field.number == 3 && (field.wire != WIRE_VARINT || field.value != 1))
            return error_set(check->error, ERR_UNSUPPORTED,
                             "%s: not a unigram model; umT5's is one", check->name);
    }
    return ERR_OK;
}

/* ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec, 4 self_test_data, 5 denormalizer_spec.
 */
static enum error_code check_part(struct check *check, const struct field *field) {
    if (field->wire != WIRE_BYTES)
        return bad(check, "a part is of the wrong type");
    switch (field->number) {
    case 1:
        return check_piece(check, field->bytes);
    case 2:
        return check_trainer(check, field->bytes);
    case 3:
    case 5:
        return check_normalizer(check, field->bytes);
    case 4:
        return ERR_OK; /* samples: texts only */
    default:
        return bad(check, "it has an unknown part");
    }
}

enum error_code tokenizer_check(const void *bytes, size_t length, const char *name,
                                struct error *error) {
    struct check check = {.name = name, .error = error};
    struct span span = {bytes, (const uint8_t *)bytes + length};
    struct field field;
    if (length == 0)
        return bad(&check, "it is empty");
    if (length > TOKENIZER_BYTES_MAX)
        return error_set(error, ERR_LIMIT, "%s: %zu bytes; at most %u are read", name, length,
                         TOKENIZER_BYTES_MAX);
    while (span.at != span.end) {
        if (!read_field(&span, &field))
            return bad(&check, "it is cut short");
        enum error_code code = check_part(&check, &field);
        if (code != ERR_OK)
            return code;
    }
    if (check.pieces == 0 || check.unknown != 1)
        return bad(&check, "it must have pieces, exactly one of them unknown");
    return ERR_OK;
}
