/* Texts from outside: what is cleaned is UTF-8 without white space at its ends, twice in a row, or
 * controls; what is not UTF-8 is refused. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "worker/model/text_clean.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct buffer text = {0}, out = {0};
    struct error error;
    buffer_add(&text, bytes, length);
    buffer_add(&text, "", 0);
    if (text_clean(&out, text.data, &error) == ERR_OK) {
        if (!text_is_utf8(text.data, strlen(text.data), NULL) || strlen(out.data) != out.length ||
            !text_is_utf8(out.data, out.length, NULL) || strstr(out.data, "  ") != NULL ||
            strpbrk(out.data, "\n\r\t\x1b\x7f") != NULL)
            abort();
        if (out.length > 0 && (out.data[0] == ' ' || out.data[out.length - 1] == ' '))
            abort();
    } else if (error.code != ERR_FORMAT && error.code != ERR_LIMIT) {
        abort();
    }
    buffer_close(&text);
    buffer_close(&out);
    return 0;
}
