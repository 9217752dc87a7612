#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t text_next_point(uint32_t *point, const char *text, size_t left) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* less is an overlong form */
    const uint8_t *byte = (const uint8_t *)text;
    if (left == 0)
        return 0;
    uint8_t first = byte[0];
    size_t length = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (length == 0 || length > left || first > 0xF4)
        return 0;
    uint32_t value = length == 1 ? first : first & (0x7FU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (byte[i] & 0x3FU);
    }
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *point = value;
    return length;
}

size_t text_put_point(char out[4], uint32_t point) {
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3F));
    out[0] = (char)(lead[length > 1 ? length : 0] | point);
    return length;
}

bool text_is_utf8(const char *text, size_t length, size_t *where) {
    uint32_t point;
    size_t at = 0;
    while (at < length) {
        size_t bytes = text_next_point(&point, text + at, length - at);
        if (bytes == 0)
            break;
        at += bytes;
    }
    if (at < length && where)
        *where = at;
    return at >= length;
}

size_t text_control(const char *at) {
    const uint8_t *byte = (const uint8_t *)at;
    if (byte[0] == 0xC2 && byte[1] >= 0x80 && byte[1] <= 0x9F)
        return 2;
    return (byte[0] != 0 && byte[0] < 0x20) || byte[0] == 0x7F ? 1 : 0;
}

#define WORD_BYTES_MAX 64

/* Optimal string alignment distance; case does not count. Both at most WORD_BYTES_MAX long. */
static int distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    int rows[3][WORD_BYTES_MAX + 1];
    int *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        last[j] = before[j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            int best = last[j - 1] + (x != y);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]) && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        int *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b_length];
}

const char *text_nearest(const char *word, const char *const *candidates) {
    size_t length = strnlen(word, WORD_BYTES_MAX + 1);
    if (length == 0 || length > WORD_BYTES_MAX)
        return NULL;
    int best = (int)(length / 3);
    best = best < 1 ? 1 : best > 3 ? 3 : best;
    const char *nearest = NULL;
    for (; *candidates; candidates++) {
        size_t other = strnlen(*candidates, WORD_BYTES_MAX + 1);
        if (other > WORD_BYTES_MAX)
            continue;
        int steps = distance(word, length, *candidates, other);
        if (steps < best || (steps == best && !nearest)) {
            best = steps;
            nearest = *candidates;
        }
    }
    return nearest;
}

bool text_ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

bool text_to_int(const char *text, int64_t *out) {
    const char *at = text;
    bool negative = *at == '-';
    int64_t value = 0;
    if (*at == '-' || *at == '+')
        at++;
    if (!*at)
        return false;
    for (; *at; at++) {
        if (*at < '0' || *at > '9')
            return false;
        int digit = *at - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *out = value;
    return true;
}

bool text_to_double(const char *text, double *out) {
    /* strtod also takes spaces, hexadecimal, "inf" and "nan": check the shape first. The programs
     * stay in the C locale, so the point is a point. */
    const char *at = text;
    size_t digits = 0;
    if (*at == '-' || *at == '+')
        at++;
    for (; *at >= '0' && *at <= '9'; at++)
        digits++;
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++)
            digits++;
    if (digits == 0)
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '-' || *at == '+')
            at++;
        if (*at < '0' || *at > '9')
            return false;
        while (*at >= '0' && *at <= '9')
            at++;
    }
    if (*at)
        return false;
    double value = strtod(text, NULL);
    if (!isfinite(value))
        return false;
    *out = value;
    return true;
}

bool text_to_bytes(const char *text, uint64_t *out) {
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},         {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
                 {"TiB", 0x1p40}, {"kB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
    char number[32];
    double value;
    size_t length = strspn(text, "0123456789."), unit = 0;
    if (length == 0 || length >= sizeof number)
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    text += length;
    text += *text == ' ' && text[1] != '\0';
    while (unit < sizeof units / sizeof *units && strcmp(units[unit].name, text) != 0)
        unit++;
    if (unit == sizeof units / sizeof *units || !text_to_double(number, &value) ||
        value * units[unit].bytes >= 0x1p63)
        return false;
    *out = (uint64_t)(value * units[unit].bytes);
    return true;
}

char *text_bytes(char out[32], uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        (void)snprintf(out, 32, "%u B", (unsigned)bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

char *text_duration(char out[32], double seconds) {
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e12) {
        (void)snprintf(out, 32, "unknown");
    } else if (seconds < 0.0995) {
        (void)snprintf(out, 32, "%.0f ms", seconds * 1000);
    } else if (seconds < 59.95) {
        (void)snprintf(out, 32, "%.1f s", seconds);
    } else if (seconds < 3599.5) {
        int whole = (int)(seconds + 0.5);
        (void)snprintf(out, 32, "%d min %02d s", whole / 60, whole % 60);
    } else {
        int64_t minutes = (int64_t)(seconds / 60 + 0.5);
        (void)snprintf(out, 32, "%lld h %02d min", (long long)(minutes / 60), (int)(minutes % 60));
    }
    return out;
}
