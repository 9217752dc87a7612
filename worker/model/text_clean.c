/* Source: diffusers, pipeline_wan.py (prompt_clean): ftfy.fix_text where ftfy is installed,
 * html.unescape twice, re.sub(r"\s+", " "), strip. Python's rules, byte for byte. */
#include "worker/model/text_clean.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

#define ENTITY_BYTES_MAX 32

static void add_code_point(struct buffer *out, uint32_t c) {
    char bytes[4];
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; c >>= 6)
        bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(length == 1 ? c : lead[length] | c);
    buffer_add(out, bytes, length);
}

/* Of valid UTF-8; *length is 1 to 4. */
static uint32_t code_point(const char *text, size_t *length) {
    const uint8_t *s = (const uint8_t *)text;
    *length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = *length == 1 ? s[0] : s[0] & (0x7fu >> *length);
    for (size_t i = 1; i < *length; i++)
        c = c << 6 | (s[i] & 0x3fu);
    return c;
}

/* What Python's str.isspace and \s take for white space. */
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* -- repair ---------------------------------------------------------------------------------- */

/* ftfy's rules (mojibake, curly quotes, ligatures, full-width letters, NFC, control characters) go
 * here. None is applied yet: the models shipped with this program were trained without them. */
static void repair(struct buffer *out, const char *text, size_t length) {
    buffer_add(out, text, length);
}

/* -- character references -------------------------------------------------------------------- */

/* &#128; to &#159; mean Windows-1252, as browsers have it; 0: as written. */
static const uint16_t windows_1252[32] = {
    0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
    0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};

static bool is_invalid(uint32_t c) {
    return (c >= 1 && c <= 8) || (c >= 0xe && c <= 0x1f) || (c >= 0x7f && c <= 0x9f) ||
           (c >= 0xfdd0 && c <= 0xfdef) || c == 0xb || (c & 0xfffe) == 0xfffe;
}

static void add_number(struct buffer *out, uint32_t c) {
    if (c == 0 || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        add_code_point(out, 0xfffd);
    else if (c >= 0x80 && c <= 0x9f)
        add_code_point(out, windows_1252[c - 0x80]);
    else if (!is_invalid(c)) /* the others mean nothing */
        add_code_point(out, c);
}

/* "#38;" or "#x26": bytes taken after the '&', 0 when it is none. */
static size_t add_numeric(struct buffer *out, const char *text) {
    bool hex = text[1] == 'x' || text[1] == 'X';
    const char *digits = hex ? "0123456789abcdefABCDEF" : "0123456789";
    const char *at = text + 1 + hex;
    size_t count = strspn(at, digits);
    if (count == 0)
        return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t digit =
            at[i] <= '9' ? (uint32_t)(at[i] - '0') : (uint32_t)((at[i] | 32) - 'a' + 10);
        value = value > 0x10ffff ? value : value * (hex ? 16 : 10) + digit;
    }
    add_number(out, value);
    return 1 + (size_t)hex + count + (at[count] == ';');
}

/* "amp;", or the longest beginning that may stand without a semicolon ("notit;" is "not" + "it;").
 * Bytes taken after the '&'. */
static size_t add_named(struct buffer *out, const char *text) {
    size_t length = 0, characters = 0;
    while (text[length] != 0 && strchr("\t\n\f <&#;", text[length]) == NULL &&
           characters < ENTITY_BYTES_MAX) {
        size_t step;
        (void)code_point(text + length, &step);
        length += step;
        characters++;
    }
    const char *found = text[length] == ';' ? html_entity(text, length, true) : NULL;
    if (found != NULL) {
        buffer_add_text(out, found);
        return length + 1;
    }
    for (; length > 1; length--) {
        found = html_entity(text, length, false);
        if (found != NULL) {
            buffer_add_text(out, found);
            return length;
        }
    }
    return 0;
}

static void unescape(struct buffer *out, const char *text) {
    while (*text != 0) {
        size_t plain = strcspn(text, "&");
        buffer_add(out, text, plain);
        text += plain;
        if (*text == 0)
            break;
        size_t taken = text[1] == '#' ? add_numeric(out, text + 1) : add_named(out, text + 1);
        if (taken == 0)
            buffer_add(out, "&", 1);
        text += 1 + taken;
    }
}

static void collapse_space(struct buffer *out, const char *text) {
    size_t start = out->length, step;
    bool space = false;
    for (; *text != 0; text += step) {
        if (is_space(code_point(text, &step))) {
            space = true;
            continue;
        }
        if (space && out->length > start)
            buffer_add(out, " ", 1);
        space = false;
        buffer_add(out, text, step);
    }
}

enum error_code text_clean(struct buffer *out, const char *text, struct error *error) {
    size_t length = strlen(text), where;
    if (length > TEXT_BYTES_MAX)
        return error_set(error, ERR_LIMIT, "the text has %zu bytes; at most %u are read", length,
                         TEXT_BYTES_MAX);
    if (!text_is_utf8(text, length, &where))
        return error_set(error, ERR_FORMAT, "the text is not UTF-8 at byte %zu", where);
    struct buffer repaired = {0}, once = {0}, twice = {0};
    repair(&repaired, text, length);
    if (repaired.data != NULL)
        unescape(&once, repaired.data);
    if (once.data != NULL)
        unescape(&twice, once.data);
    if (twice.data != NULL)
        collapse_space(out, twice.data);
    buffer_add(out, "", 0);
    bool failed = repaired.failed || once.failed || twice.failed || out->failed;
    buffer_close(&repaired);
    buffer_close(&once);
    buffer_close(&twice);
    return failed ? error_set(error, ERR_MEMORY, "no memory for a text") : ERR_OK;
}
