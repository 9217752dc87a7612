/* Source: ftfy 6.3.1, fix_text, fix_and_explain and fixes.py: the same rules in the same order. */
#include "worker/model/text_repair.h"

#include <string.h>

#include "base/text.h"
#include "worker/model/html_entities.h"
#include "worker/model/text_encoding.h"
#include "worker/model/text_points.h"
#include "worker/model/unicode.h"

/* 64 rounds over the longest text, and any number over a short one. */
#define EFFORT_MAX            (4u << 20)
#define REFERENCE_LETTERS_MAX 24

/* -- character references -------------------------------------------------------------------- */

static bool is_alphanumeric(uint32_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z' && c < 0x80);
}

/* "&name;" or "&#38;" at the start of text: its length, or 0. Only ones with a semicolon. */
static size_t reference_length(const uint32_t *text, size_t left) {
    size_t start = left > 1 && text[1] == '#' ? 2 : 1, end = start;
    while (end < left && end - start <= REFERENCE_LETTERS_MAX && is_alphanumeric(text[end]))
        end++;
    bool is = end > start && end - start <= REFERENCE_LETTERS_MAX && end < left && text[end] == ';';
    return is ? end + 1 : 0;
}

/* Python's str.upper of the character or two that a reference may mean. */
static void add_upper(struct points *out, const char *text) {
    static const struct {
        uint32_t lower;
        const char *upper;
    } longer[] = {{0xdf, "SS"},   {0x149, "\xca\xbcN"}, {0xfb00, "FF"}, {0xfb01, "FI"},
                  {0xfb02, "FL"}, {0xfb03, "FFI"},      {0xfb04, "FFL"}};
    struct points lower = {0};
    points_add_utf8(&lower, text, strlen(text));
    for (size_t i = 0; i < lower.length; i++) {
        const char *upper = NULL;
        for (size_t j = 0; j < sizeof longer / sizeof *longer; j++)
            upper = longer[j].lower == lower.at[i] ? longer[j].upper : upper;
        if (upper != NULL)
            points_add_utf8(out, upper, strlen(upper));
        else
            points_add_one(out, unicode_upper(lower.at[i]));
    }
    out->failed |= lower.failed;
    points_close(&lower);
}

/* A reference in capitals ("&EACUTE;") that HTML does not know, and whose small one it does. */
static bool add_capital_reference(struct points *out, const char *name, size_t length,
                                  bool is_html) {
    char small[REFERENCE_LETTERS_MAX];
    for (size_t i = 0; i < length; i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return false;
        small[i] = (char)(name[i] >= 'A' ? name[i] | 0x20 : name[i]);
    }
    const char *meaning = is_html ? NULL : html_entity(small, length, true);
    if (meaning != NULL)
        add_upper(out, meaning);
    return meaning != NULL;
}

/* The meaning of text[0..length), a reference by its form; as it is where it has none. */
static void add_reference(struct points *out, const uint32_t *text, size_t length) {
    struct buffer written = {0}, meaning = {0};
    buffer_add_points(&written, text, length);
    if (written.data != NULL)
        html_unescape(&meaning, written.data);
    buffer_add(&meaning, "", 0); /* some mean nothing */
    out->failed |= written.failed || meaning.failed || written.data == NULL || meaning.data == NULL;
    if (!out->failed) {
        const char *name = written.data + 1;
        const char *entity = html_entity(name, length - 2, true);
        if (name[0] == '#' && memchr(meaning.data, ';', meaning.length) == NULL)
            points_add_utf8(out, meaning.data, meaning.length);
        else if (name[0] != '#' && entity != NULL)
            points_add_utf8(out, entity, strlen(entity));
        else if (name[0] == '#' || !add_capital_reference(out, name, length - 2,
                                                          strcmp(meaning.data, written.data) != 0))
            points_add(out, text, length);
    }
    buffer_close(&written);
    buffer_close(&meaning);
}

static void resolve_references(struct points *out, const struct points *text) {
    out->length = 0;
    for (size_t i = 0, length; i < text->length; i += length) {
        length = text->at[i] == '&' ? reference_length(text->at + i, text->length - i) : 0;
        if (length > 0) {
            add_reference(out, text->at + i, length);
        } else {
            points_add_one(out, text->at[i]);
            length = 1;
        }
    }
}

/* -- characters ------------------------------------------------------------------------------ */

/* What a ligature or digraph of Latin letters is made of; NULL: it is none. */
static const char *ligature(uint32_t c) {
    static const char *const presentation[] = {"ff", "fi", "fl", "ffi", "ffl", "\xc5\xbft", "st"};
    static const char *const digraph[] = {"D\xc5\xbd", "D\xc5\xbe", "d\xc5\xbe", "LJ", "Lj",
                                          "lj",        "NJ",        "Nj",        "nj"};
    switch (c) {
    case 0x132:
        return "IJ";
    case 0x133:
        return "ij";
    case 0x149:
        return "\xca\xbcn";
    case 0x1f1:
        return "DZ";
    case 0x1f2:
        return "Dz";
    case 0x1f3:
        return "dz";
    default:
        return c >= 0xfb00 && c <= 0xfb06 ? presentation[c - 0xfb00]
               : c >= 0x1c4 && c <= 0x1cc ? digraph[c - 0x1c4]
                                          : NULL;
    }
}

static uint32_t straight(uint32_t c) {
    return c >= 0x201c && c <= 0x201f ? '"' : (c >= 0x2018 && c <= 0x201b) || c == 0x2bc ? '\'' : c;
}

/* Standard width, straight quotes. */
static void add_plain(struct points *out, uint32_t c) {
    uint32_t plain[UNICODE_COMPATIBLE_MAX] = {c == 0x3000 ? ' ' : straight(c)};
    size_t count = c > 0xff00 && c < 0xfff0 ? unicode_compatible(plain, c) : 1;
    points_add(out, plain, count);
}

static void simplify(struct points *out, const struct points *text) {
    out->length = 0;
    for (size_t i = 0; i < text->length; i++) {
        uint32_t c = text->at[i];
        c = c >= 0x80 && c <= 0x9f ? html_windows_1252(c) : c;
        const char *parts = ligature(c);
        uint32_t part;
        if (parts == NULL)
            add_plain(out, c);
        for (size_t step; parts != NULL && *parts != 0; parts += step) {
            step = text_next_point(&part, parts, strlen(parts));
            add_plain(out, part);
        }
    }
}

/* -- controls; in place, since they only shorten --------------------------------------------- */

static void unify_line_breaks(struct points *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->length; i++) {
        uint32_t c = text->at[i];
        if (c == '\r' && i + 1 < text->length && text->at[i + 1] == '\n')
            continue;
        bool is_break = c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85;
        text->at[kept++] = is_break ? '\n' : c;
    }
    text->length = kept;
}

/* ESC [ digits and semicolons, a letter: the length, or 0. */
static size_t escape_length(const uint32_t *text, size_t left) {
    size_t end = 2;
    if (left < 3 || text[0] != 0x1b || text[1] != '[')
        return 0;
    while (end < left && (text[end] == ';' || unicode_is_decimal(text[end])))
        end++;
    bool letter = end < left && is_alphanumeric(text[end]) && text[end] > '9';
    return letter ? end + 1 : 0;
}

static void remove_escapes(struct points *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->length;) {
        size_t length = escape_length(text->at + i, text->length - i);
        if (length == 0)
            text->at[kept++] = text->at[i++];
        i += length;
    }
    text->length = kept;
}

static bool is_control(uint32_t c) {
    return c < 9 || c == 0xb || (c >= 0xe && c < 0x20) || c == 0x7f ||
           (c >= 0x206a && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

static void remove_controls(struct points *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->length; i++) {
        if (!is_control(text->at[i]))
            text->at[kept++] = text->at[i];
    }
    text->length = kept;
}

/* -- lines ----------------------------------------------------------------------------------- */

/* One round of everything; `spare` is scratch. */
static void repair_round(struct points *line, struct points *spare, bool references,
                         struct text_effort *effort) {
    if (references) {
        resolve_references(spare, line);
        points_swap(spare, line);
    }
    text_repair_encoding(line, effort);
    simplify(spare, line);
    points_swap(spare, line);
    unify_line_breaks(line);
    remove_escapes(line);
    remove_controls(line);
    unicode_nfc(spare, line);
    points_swap(spare, line);
}

static void repair_line(struct points *line, bool references, struct text_effort *effort) {
    struct points before = {0}, spare = {0};
    do {
        before.length = 0;
        points_add(&before, line->at, line->length);
        repair_round(line, &spare, references, effort);
        line->failed |= before.failed || spare.failed;
    } while (!line->failed && !points_equal(line, &before) &&
             text_effort_take(effort, line->length));
    points_close(&before);
    points_close(&spare);
}

enum error_code text_repair(struct buffer *out, const char *text, size_t length,
                            struct error *error) {
    struct points line = {0};
    struct text_effort effort = {EFFORT_MAX};
    bool references = true, failed = false;
    for (size_t start = 0, end; start < length && !failed && effort.left > 0; start = end) {
        const char *stop = memchr(text + start, '\n', length - start);
        end = stop != NULL ? (size_t)(stop - text) + 1 : length;
        references = references && memchr(text + start, '<', end - start) == NULL;
        line.length = 0;
        points_add_utf8(&line, text + start, end - start);
        repair_line(&line, references, &effort);
        buffer_add_points(out, line.at, line.length);
        failed = line.failed || out->failed;
    }
    buffer_add(out, "", 0);
    points_close(&line);
    if (failed)
        return error_set(error, ERR_MEMORY, "no memory for a text");
    if (effort.left == 0)
        return error_set(error, ERR_LIMIT,
                         "the text is garbled too many times over; write it plainly");
    return ERR_OK;
}
