/* The one file that calls utf8proc. */
#include "worker/model/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool unicode_is_word(uint32_t point) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)point);
    return point == '_' || (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool unicode_is_decimal(uint32_t point) {
    return utf8proc_category((utf8proc_int32_t)point) == UTF8PROC_CATEGORY_ND;
}

uint32_t unicode_upper(uint32_t point) {
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)point);
}

size_t unicode_compatible(uint32_t out[UNICODE_COMPATIBLE_MAX], uint32_t point) {
    utf8proc_int32_t buffer[UNICODE_COMPATIBLE_MAX];
    int class = 0;
    utf8proc_ssize_t length =
        utf8proc_decompose_char((utf8proc_int32_t)point, buffer, UNICODE_COMPATIBLE_MAX,
                                UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, &class);
    if (length > 0 && length <= UNICODE_COMPATIBLE_MAX)
        length = utf8proc_normalize_utf32(buffer, length, UTF8PROC_COMPOSE);
    if (length <= 0 || length > UNICODE_COMPATIBLE_MAX) {
        out[0] = point;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < length; i++)
        out[i] = (uint32_t)buffer[i];
    return (size_t)length;
}

static uint8_t combining_class(uint32_t point) {
    return (uint8_t)utf8proc_get_property((utf8proc_int32_t)point)->combining_class;
}

/* Put a run of combining characters in canonical order: by class, those of one class as they were.
 * utf8proc has this too, in the square of the run's length. */
static void order_run(uint32_t *run, uint32_t *spare, size_t length) {
    size_t start[257] = {0}, ordered = 1;
    while (ordered < length && combining_class(run[ordered - 1]) <= combining_class(run[ordered]))
        ordered++;
    if (ordered >= length)
        return;
    for (size_t i = 0; i < length; i++)
        start[combining_class(run[i]) + 1]++;
    for (size_t class = 1; class < 257; class ++)
        start[class] += start[class - 1];
    for (size_t i = 0; i < length; i++)
        spare[start[combining_class(run[i])]++] = run[i];
    memcpy(run, spare, length * sizeof *run);
}

void unicode_nfc(struct points *out, const struct points *text) {
    out->length = 0;
    for (size_t i = 0; i < text->length; i++) {
        utf8proc_int32_t parts[8];
        int boundary = 0;
        utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)text->at[i], parts, 8,
                                                         UTF8PROC_DECOMPOSE, &boundary);
        for (utf8proc_ssize_t j = 0; j < count && j < 8; j++)
            points_add_one(out, (uint32_t)parts[j]);
    }
    uint32_t *spare = malloc((out->length + 1) * sizeof *spare);
    out->failed |= spare == NULL;
    for (size_t i = 0, end; i < out->length && !out->failed; i = end + 1) {
        for (end = i; end < out->length && combining_class(out->at[end]) != 0; end++)
            ;
        order_run(out->at + i, spare, end - i);
    }
    free(spare);
    if (out->length > 0 && !out->failed)
        out->length = (size_t)utf8proc_normalize_utf32((utf8proc_int32_t *)out->at,
                                                       (utf8proc_ssize_t)out->length,
                                                       UTF8PROC_COMPOSE | UTF8PROC_STABLE);
}

bool unicode_breaks(uint32_t previous, uint32_t next, int32_t *state) {
    return utf8proc_grapheme_break_stateful((utf8proc_int32_t)previous, (utf8proc_int32_t)next,
                                            state);
}
