/* Text is mojibake when it has sequences that no language has (letters_are_bad) and the bytes that
 * some encoding gives it are UTF-8. Where that does not hold for the whole text, parts that look
 * like UTF-8 are repaired alone; what stays of C1 controls was Windows-1252. */
#include "worker/model/text_encoding.h"

#include <string.h>

#include "base/text.h"
#include "worker/model/html_entities.h"
#include "worker/model/text_letters.h"

bool text_effort_take(struct text_effort *effort, size_t length) {
    bool enough = length < effort->left;
    effort->left -= enough ? length + 1 : effort->left;
    return enough;
}

/* -- bytes ----------------------------------------------------------------------------------- */

static bool is_in(uint8_t byte, uint8_t first, uint8_t last) {
    return byte >= first && byte <= last;
}

/* A byte that goes on, and is neither white space to Windows-1252 (A0) nor an ellipsis (85). */
static bool goes_on(uint8_t byte) {
    return is_in(byte, 0x80, 0xbf) && byte != 0x85 && byte != 0xa0;
}

/* The length of what would be UTF-8 if a space were the no-break space that it may have been; 0: it
 * would not, or would be a rare character. */
static size_t spaced_length(const uint8_t *b, size_t left) {
    if (left >= 2 && b[1] == ' ' && b[0] != 0 && strchr("\xc2\xc3\xc5\xce\xd0\xd9", b[0]) != NULL)
        return 2;
    if (left >= 3 && (((b[0] == 0xe2 || b[0] == 0xe3) && b[1] == ' ' && goes_on(b[2])) ||
                      (is_in(b[0], 0xe0, 0xe3) && goes_on(b[1]) && b[2] == ' ')))
        return 3;
    if (left < 4 || b[0] != 0xf0)
        return 0;
    int spaces = 0;
    for (int i = 1; i < 4; i++) {
        if (b[i] != ' ' && !is_in(b[i], 0x80, 0xbf))
            return 0;
        spaces += b[i] == ' ';
    }
    return spaces == 1 ? 4 : 0;
}

/* C3 and a space are "à" at the end of a word rather than at the start of the next, but for the
 * Portuguese "às" and "àquele". The space stays then. */
static bool is_a_grave(const uint8_t *b, size_t left) {
    static const char *const joined[] = {" ", "quele", "quela", "quilo", "s "};
    if (left < 2 || b[0] != 0xc3 || b[1] != ' ')
        return false;
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
        size_t length = strlen(joined[i]);
        if (left - 2 >= length && memcmp(b + 2, joined[i], length) == 0)
            return false;
    }
    return true;
}

static void restore_no_break_spaces(struct buffer *bytes) {
    struct buffer restored = {0};
    const uint8_t *b = (const uint8_t *)bytes->data;
    for (size_t i = 0; i < bytes->length; i++) {
        bool grave = is_a_grave(b + i, bytes->length - i);
        buffer_add(&restored, grave ? "\xc3\xa0 " : (const char *)b + i, grave ? 3 : 1);
        i += grave;
    }
    for (size_t i = 0, length; i<restored.length; i += length> 0 ? length : 1) {
        char *at = restored.data + i;
        length = spaced_length((const uint8_t *)at, restored.length - i);
        for (size_t j = 0; j < length; j++)
            at[j] = at[j] == ' ' ? '\xa0' : at[j];
    }
    buffer_close(bytes);
    *bytes = restored;
}

static bool is_lost(uint8_t byte, bool question) {
    return byte == 0x1a || (question && byte == '?');
}

/* The halves of a surrogate pair, each as three bytes, `lost` of which (2 or 5) is not there. */
static bool is_lossy_pair(const uint8_t *b, int lost) {
    return b[0] == 0xed && is_in(b[1], 0xa0, 0xaf) && b[3] == 0xed && is_in(b[4], 0xb0, 0xbf) &&
           is_lost(b[lost], true) && (is_lost(b[7 - lost], true) || is_in(b[7 - lost], 0x80, 0xbf));
}

/* The length of UTF-8 of which bytes were lost (0x1A), at most one of them as '?'. */
static size_t lossy_length(const uint8_t *b, size_t left) {
    if (left >= 2 &&
        ((is_in(b[0], 0xc2, 0xdf) && b[1] == 0x1a) || (is_in(b[0], 0xc2, 0xc3) && b[1] == '?')))
        return 2;
    if (left >= 6 && (is_lossy_pair(b, 2) || is_lossy_pair(b, 5)))
        return 6;
    size_t length = is_in(b[0], 0xe0, 0xef) ? 3 : is_in(b[0], 0xf0, 0xf4) ? 4 : 0;
    size_t lost = 0, questions = 0;
    for (size_t i = 1; i < length; i++) {
        if (i >= left || !(is_lost(b[i], true) || is_in(b[i], 0x80, 0xbf)))
            return 0;
        lost += is_lost(b[i], true);
        questions += b[i] == '?';
    }
    if (length > 0)
        return lost > 0 && questions <= 1 ? length : 0;
    return b[0] == 0x1a;
}

static void replace_lossy(struct buffer *bytes) {
    struct buffer replaced = {0};
    const uint8_t *b = (const uint8_t *)bytes->data;
    for (size_t i = 0, length; i<bytes->length; i += length> 0 ? length : 1) {
        length = lossy_length(b + i, bytes->length - i);
        buffer_add(&replaced, length > 0 ? "\xef\xbf\xbd" : (const char *)b + i,
                   length > 0 ? 3 : 1);
    }
    buffer_close(bytes);
    *bytes = replaced;
}

/* A character past U+FFFF as two surrogates (CESU-8), or U+0000 as two bytes (Java); 0: neither. */
static size_t variant_next(uint32_t *point, const uint8_t *b, size_t left) {
    if (left >= 2 && b[0] == 0xc0 && b[1] == 0x80) {
        *point = 0;
        return 2;
    }
    if (left < 6 || b[0] != 0xed || !is_in(b[1], 0xa0, 0xaf) || !is_in(b[2], 0x80, 0xbf) ||
        b[3] != 0xed || !is_in(b[4], 0xb0, 0xbf) || !is_in(b[5], 0x80, 0xbf))
        return 0;
    *point = 0x10000 +
             ((b[1] & 0xfu) << 16 | (b[2] & 0x3fu) << 10 | (b[4] & 0xfu) << 6 | (b[5] & 0x3fu));
    return 6;
}

static bool decode(struct points *out, const struct buffer *bytes) {
    for (size_t i = 0, step; i < bytes->length; i += step) {
        uint32_t point;
        const char *at = bytes->data + i;
        step = variant_next(&point, (const uint8_t *)at, bytes->length - i);
        if (step == 0)
            step = text_next_point(&point, at, bytes->length - i);
        if (step == 0)
            return false;
        points_add_one(out, point);
    }
    return true;
}

/* -- text ------------------------------------------------------------------------------------ */

/* The text's bytes in an encoding, read as UTF-8. */
static bool reread(struct points *out, const struct points *text, enum encoding encoding) {
    struct buffer bytes = {0};
    for (size_t i = 0; i < text->length; i++) {
        char byte = (char)letter_byte(text->at[i], encoding);
        buffer_add(&bytes, &byte, 1);
    }
    if (encoding != MACROMAN) /* there it would be a dash before a space */
        restore_no_break_spaces(&bytes);
    if (encoding >= SLOPPY_WINDOWS_1252 && encoding <= SLOPPY_WINDOWS_1257)
        replace_lossy(&bytes);
    out->length = 0;
    bool done = decode(out, &bytes);
    out->failed |= bytes.failed;
    buffer_close(&bytes);
    return done;
}

/* The end of a run of what looks like UTF-8 read as another encoding. */
static size_t garbled_end(const struct points *text, size_t start) {
    for (;;) {
        size_t goes = 0, left = text->length - start;
        uint32_t first = left > 0 ? letter_classes(text->at[start]) : 0;
        while (goes < 3 && goes + 1 < left &&
               (letter_classes(text->at[start + 1 + goes]) & CONTINUATION) != 0)
            goes++;
        if ((first & FIRST_OF_2) != 0 && goes >= 1)
            start += 2;
        else if ((first & FIRST_OF_3) != 0 && goes >= 2)
            start += 3;
        else if ((first & FIRST_OF_4) != 0 && goes >= 3)
            start += 4;
        else
            return start;
    }
}

/* Repair the garbled runs of a text one by one. A run is shorter than the text, so that this ends.
 */
static void repair_runs(struct points *out, const struct points *text, struct text_effort *effort) {
    out->length = 0;
    for (size_t i = 0; i < text->length;) {
        bool inside = i > 0 && (letter_classes(text->at[i - 1]) & SURE_CONTINUATION) != 0;
        size_t end = inside ? i : garbled_end(text, i), length = end - i;
        if (length == 0) {
            points_add_one(out, text->at[i++]);
            continue;
        }
        struct points run = {0};
        points_add(&run, text->at + i, length);
        if (!run.failed && length < text->length && letters_are_bad(run.at, run.length))
            text_repair_encoding(&run, effort);
        points_add(out, run.at, run.length);
        out->failed |= run.failed;
        points_close(&run);
        i = end;
    }
}

static bool has_c1(const struct points *text) {
    for (size_t i = 0; i < text->length; i++) {
        if (text->at[i] >= 0x80 && text->at[i] <= 0x9f)
            return true;
    }
    return false;
}

static void repair_c1(struct points *out, const struct points *text) {
    out->length = 0;
    for (size_t i = 0; i < text->length; i++) {
        uint32_t c = text->at[i];
        points_add_one(out, c >= 0x80 && c <= 0x9f ? html_windows_1252(c) : c);
    }
}

/* One step; the text is `out` when it says so. */
static bool repair_once(struct points *out, const struct points *text, struct text_effort *effort) {
    if (!letters_are_bad(text->at, text->length))
        return false;
    uint32_t possible = letters_encodings(text);
    for (int encoding = 0; encoding < ENCODINGS; encoding++) {
        if ((possible >> encoding & 1) != 0 && reread(out, text, (enum encoding)encoding))
            return true;
    }
    repair_runs(out, text, effort);
    if (!points_equal(out, text))
        return true;
    if (!has_c1(text))
        return false;
    repair_c1(out, text);
    return true;
}

void text_repair_encoding(struct points *text, struct text_effort *effort) {
    struct points next = {0};
    while (text_effort_take(effort, text->length) && repair_once(&next, text, effort)) {
        bool same = points_equal(&next, text);
        points_swap(&next, text);
        if (same || text->failed || next.failed)
            break;
    }
    text->failed |= next.failed;
    points_close(&next);
}
