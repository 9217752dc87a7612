#include "worker/model/html_entities.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "worker/model/text_points.h"

#define ENTITY_CHARACTERS_MAX 32

struct entity {
    const char *name, *text;
    bool bare; /* may stand without a semicolon */
};

static const struct entity entities[] = {
#include "worker/model/html_entities.inc"
};

struct key {
    const char *name;
    size_t length;
};

static int compare(const void *key_pointer, const void *entity_pointer) {
    const struct key *key = key_pointer;
    const struct entity *entity = entity_pointer;
    int order = strncmp(key->name, entity->name, key->length);
    return order != 0 ? order : -(entity->name[key->length] != 0);
}

const char *html_entity(const char *name, size_t length, bool semicolon) {
    const struct key key = {name, length};
    const struct entity *entity =
        bsearch(&key, entities, sizeof entities / sizeof *entities, sizeof *entities, compare);
    return entity != NULL && (semicolon || entity->bare) ? entity->text : NULL;
}

/* &#128; to &#159; mean Windows-1252, as browsers have it; 0: as written. */
static const uint16_t windows_1252[32] = {
    0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
    0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};

uint32_t html_windows_1252(uint32_t control) {
    return windows_1252[control - 0x80];
}

static bool is_invalid(uint32_t c) {
    return (c >= 1 && c <= 8) || (c >= 0xe && c <= 0x1f) || (c >= 0x7f && c <= 0x9f) ||
           (c >= 0xfdd0 && c <= 0xfdef) || c == 0xb || (c & 0xfffe) == 0xfffe;
}

static void add_number(struct buffer *out, uint32_t c) {
    if (c == 0 || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        buffer_add_point(out, 0xfffd);
    else if (c >= 0x80 && c <= 0x9f)
        buffer_add_point(out, html_windows_1252(c));
    else if (!is_invalid(c)) /* the others mean nothing */
        buffer_add_point(out, c);
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
           characters < ENTITY_CHARACTERS_MAX) {
        uint32_t point;
        length += text_next_point(&point, text + length, 4);
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

void html_unescape(struct buffer *out, const char *text) {
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
