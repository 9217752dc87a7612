/* Source: ftfy 6.3.1, badness.py and chardata.py: its classes of characters and which of them do
 * not stand together. The same choices, since the same text must come out. */
#include "worker/model/text_letters.h"

#include <stdlib.h>

#include "worker/model/unicode.h"

struct letter {
    uint16_t point;
    uint32_t classes;
    uint8_t bytes[ENCODINGS];
};

static const struct letter letters[] = {
#include "worker/model/text_letters.inc"
};

#define ALL_ENCODINGS ((1u << ENCODINGS) - 1)
#define SLOPPY_ENCODINGS                                                                           \
    (1u << SLOPPY_WINDOWS_1252 | 1u << SLOPPY_WINDOWS_1251 | 1u << SLOPPY_WINDOWS_1250 |           \
     1u << SLOPPY_WINDOWS_1253 | 1u << SLOPPY_WINDOWS_1254 | 1u << SLOPPY_WINDOWS_1257)

static int compare(const void *key, const void *letter) {
    uint32_t point = *(const uint32_t *)key, other = ((const struct letter *)letter)->point;
    return (point > other) - (point < other);
}

static const struct letter *find(uint32_t point) {
    return bsearch(&point, letters, sizeof letters / sizeof *letters, sizeof *letters, compare);
}

uint32_t letter_classes(uint32_t point) {
    if (point < 0x80 && point != ' ')
        return 0;
    const struct letter *letter = find(point);
    return letter != NULL ? letter->classes : 0;
}

uint32_t letters_encodings(const struct points *text) {
    uint32_t possible = ALL_ENCODINGS;
    for (size_t i = 0; i < text->length && possible != 0; i++) {
        uint32_t point = text->at[i];
        if (point == 0x1a)
            possible &= ~SLOPPY_ENCODINGS; /* there it stands for U+FFFD */
        if (point < 0x80)
            continue;
        const struct letter *letter = find(point);
        uint32_t here = 0;
        for (int e = 0; letter != NULL && e < ENCODINGS; e++)
            here |= (uint32_t)(letter->bytes[e] != 0) << e;
        possible &= here;
    }
    return possible;
}

uint8_t letter_byte(uint32_t point, enum encoding encoding) {
    if (point < 0x80)
        return (uint8_t)point;
    const struct letter *letter = find(point);
    return letter != NULL ? letter->bytes[encoding] : 0;
}

/* -- badness --------------------------------------------------------------------------------- */

#define ACCENTED    (LOWER_ACCENTED | UPPER_ACCENTED)
#define PUNCTUATION (OPENING | CLOSING)

static bool is_lower(uint32_t c) {
    return c >= 'a' && c <= 'z';
}

static bool is_latin(uint32_t c) {
    return is_lower(c | 0x20) && c < 0x80;
}

static bool is_one_of(uint32_t point, const uint16_t *points) {
    while (*points != 0 && *points != point)
        points++;
    return *points != 0;
}

/* A character and what follows it; past the end: 0 and no class, which no rule takes. */
struct view {
    const uint32_t *at;
    size_t left;
    uint32_t c[4], classes[4];
};

static struct view look(const uint32_t *at, size_t left) {
    struct view view = {.at = at, .left = left};
    for (size_t i = 0; i < 4 && i < left; i++) {
        view.c[i] = at[i];
        view.classes[i] = letter_classes(at[i]);
    }
    return view;
}

/* Pairs and triples of classes that do not stand together in any language. */
static bool classes_are_bad(const struct view *view) {
    const uint32_t a = view->classes[0], b = view->classes[1], c = view->classes[2];
    const uint32_t strange = ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW;
    return (a & C1) != 0 || ((a & (strange | BAD)) != 0 && (b & BAD) != 0) ||
           (is_latin(view->c[0]) && (b & (LOWER_PLAIN | UPPER_PLAIN)) != 0 && (c & BAD) != 0) ||
           ((a & BAD) != 0 && (b & strange) != 0) ||
           ((a & (LOWER_ACCENTED | LOWER_PLAIN | BOX | CLOSING | CURRENCY | NUMERIC)) != 0 &&
            (b & UPPER_ACCENTED) != 0) ||
           ((a & (BOX | CLOSING | CURRENCY | NUMERIC)) != 0 && (b & LOWER_ACCENTED) != 0) ||
           ((a & (LOWER_ACCENTED | BOX | CLOSING)) != 0 && (b & CURRENCY) != 0) ||
           (points_is_space(view->c[0]) && (b & UPPER_ACCENTED) != 0 && (c & CURRENCY) != 0) ||
           ((a & (UPPER_ACCENTED | BOX)) != 0 && (b & (NUMERIC | LAW)) != 0) ||
           ((a & UPPER_ACCENTED) != 0 && view->c[1] == 0xb0) ||
           ((a & (ACCENTED | BOX | CURRENCY | CLOSING)) != 0 && (b & OPENING) != 0 &&
            (c & NUMERIC) != 0) ||
           ((a & (ACCENTED | CURRENCY | NUMERIC | BOX | LAW)) != 0 && (b & CLOSING) != 0 &&
            (c & OPENING) != 0) ||
           ((a & (CURRENCY | NUMERIC | BOX)) != 0 && (b & OPENING) != 0) ||
           (is_lower(view->c[0]) && (b & UPPER_ACCENTED) != 0 && (c & (OPENING | CURRENCY)) != 0) ||
           ((a & BOX) != 0 && (b & KAOMOJI) != 0) ||
           ((a & (ACCENTED | CURRENCY | NUMERIC | PUNCTUATION | LAW)) != 0 && (b & BOX) != 0) ||
           ((a & BOX) != 0 && (b & CLOSING) != 0) ||
           ((a & ACCENTED) != 0 && (b & PUNCTUATION) != 0 && view->left > 2 &&
            unicode_is_word(view->c[2]));
}

/* What certain encodings make of certain alphabets, where the classes do not tell. */
static bool western_is_bad(const struct view *view) {
    static const uint16_t leads[] = {0xc2, 0xc3, 0xce, 0xd0, 0};
    static const uint16_t trails[] = {0x20ac, 0x153, 0x160,  0x161,  0xa2, 0xa3, 0x178,
                                      0x17e,  0xa0,  0xad,   0xae,   0xa9, 0xb0, 0xb7,
                                      0xbb,   0xb4,  0x2013, 0x2014, 0};
    static const uint16_t arabic[] = {0x178, 0x160, 0xae, 0xb0, 0xb5, 0xbb, 0};
    static const uint16_t indic[] = {0xb2, 0xb5, 0xb9, 0xbc, 0xbd, 0xbe, 0};
    const uint32_t *c = view->c, *classes = view->classes;
    const uint32_t any = COMMON | CURRENCY | BAD | NUMERIC | OPENING;
    switch (c[0]) {
    case 0x152: /* OE, oe: before anything but a Latin letter */
    case 0x153:
        return view->left > 1 && !is_latin(c[1]);
    case 0xd7:
        return c[1] == 0xb2 || c[1] == 0xb3;
    case 0xd8: /* Arabic letters are such pairs; two in a row are asked for */
    case 0xd9:
        return ((classes[1] & any) != 0 || is_one_of(c[1], arabic)) &&
               (c[2] == 0xd8 || c[2] == 0xd9) &&
               ((classes[3] & any) != 0 || is_one_of(c[3], arabic));
    case 0xe0:
        return is_one_of(c[1], indic);
    case 0x101:
        return c[1] == 0x20ac;
    default:
        return is_one_of(c[0], leads) &&
               (is_one_of(c[1], trails) || (classes[1] & PUNCTUATION) != 0);
    }
}

static bool eastern_is_bad(const struct view *view) {
    static const uint16_t root[] = {0xb1,   0x2202, 0x2020, 0x2260, 0xae, 0x2122, 0xb4,
                                    0x2264, 0x2265, 0xa5,   0xb5,   0xf8, 0};
    static const uint16_t low_a[] = {0xec, 0xee,   0xef, 0xf2, 0xf4,  0xfa, 0xf9,
                                     0xfb, 0x2020, 0xb0, 0xa2, 0x3c0, 0};
    static const uint16_t low_b[] = {0xe0, 0xe4, 0xb0, 0xea, 0};
    static const uint16_t cyrillic[] = {0x412, 0x413, 0x420, 0x421, 0};
    static const uint16_t greek[] = {0x392, 0x393, 0x39e, 0x39f, 0};
    static const uint16_t beta[] = {0x2122, 0xa0, 0x386, 0xad, 0xae, 0xb0, 0};
    const uint32_t *c = view->c, *at = view->at;
    const bool garbage =
        (view->classes[1] & (C1 | BAD | PUNCTUATION | CURRENCY)) != 0 || c[1] == 0xb0;
    switch (c[0]) {
    case 0x221a: /* MacRoman */
        return is_one_of(c[1], root);
    case 0x2248:
        return c[1] == 0xb0 || c[1] == 0xa2;
    case 0x201a:
        return (c[1] == 0xc4 && is_one_of(c[2], low_a)) ||
               ((c[1] == 0xe2 || c[1] == 0xf3) && is_one_of(c[2], low_b));
    case 0x432: /* Windows-1251 */
        return c[1] == 0x402;
    case 0x3b2: /* Windows-1253 */
        return c[1] == 0x20ac && is_one_of(c[2], beta);
    case 0x413:
        if (view->left > 6 && c[1] == 0x45e && c[2] == 0x412 && c[3] == 0x402 && at[4] == 0x412 &&
            at[5] != '\n' && (is_latin(at[6]) || at[6] == ' '))
            return true;
        break;
    default:
        break;
    }
    return (is_one_of(c[0], cyrillic) && (garbage || c[1] == 0xb5) && is_one_of(c[2], cyrillic)) ||
           (is_one_of(c[0], greek) && garbage && is_one_of(c[2], greek));
}

/* A capital A with a tilde or circumflex and a space: a letter, or a no-break space, that was. */
static bool space_is_bad(const struct view *view, bool first) {
    static const uint16_t before[] = {'.', ',', '?', '!', 0};
    const uint32_t *c = view->c;
    const bool tilde = c[1] == 0xc3 || c[1] == 0xc2;
    if (first && (c[0] == 0xc3 || c[0] == 0xc2) && c[1] == ' ')
        return true;
    if (is_lower(c[0]) &&
        ((tilde && c[2] == ' ') || (points_is_space(c[1]) && view->left > 3 &&
                                    (c[2] == 0xc3 || c[2] == 0xc2) && c[3] == ' ')))
        return true;
    return (is_lower(c[0]) || is_one_of(c[0], before) || (view->classes[0] & CLOSING) != 0) &&
           c[1] == 0xc2 && (c[2] == ' ' || (view->classes[2] & PUNCTUATION) != 0);
}

bool letters_are_bad(const uint32_t *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] < 0x80 && (i + 1 == length || text[i + 1] < 0x80) &&
            !(i + 2 < length && points_is_space(text[i + 1])))
            continue; /* every rule has a character past ASCII among its first two or three */
        const struct view view = look(text + i, length - i);
        if (classes_are_bad(&view) || western_is_bad(&view) || eastern_is_bad(&view) ||
            space_is_bad(&view, i == 0))
            return true;
    }
    return false;
}
