/* Source: diffusers 0.42, pipeline_wan.py (prompt_clean), and Wan2.1, modules/tokenizers.py, which
 * agree: ftfy.fix_text, html.unescape twice, re.sub(r"\s+", " "), strip. (The former's \s does not
 * take U+001C to U+001F for white space, but none is left by then.) Python's rules, byte for byte.
 */
#include "worker/model/text_clean.h"

#include <string.h>

#include "base/text.h"
#include "worker/model/html_entities.h"
#include "worker/model/text_points.h"
#include "worker/model/text_repair.h"

static void collapse_space(struct buffer *out, const char *text) {
    size_t start = out->length, left = strlen(text), step;
    bool space = false;
    uint32_t point;
    for (; left > 0; text += step, left -= step) {
        step = text_next_point(&point, text, left);
        if (points_is_space(point)) {
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
    enum error_code code = text_repair(&repaired, text, length, error);
    if (code == ERR_OK && repaired.data != NULL)
        html_unescape(&once, repaired.data);
    if (once.data != NULL)
        html_unescape(&twice, once.data);
    if (twice.data != NULL)
        collapse_space(out, twice.data);
    buffer_add(out, "", 0);
    if (code == ERR_OK && (repaired.failed || once.failed || twice.failed || out->failed))
        code = error_set(error, ERR_MEMORY, "no memory for a text");
    buffer_close(&repaired);
    buffer_close(&once);
    buffer_close(&twice);
    return code;
}
