/* tokenizer.json from outside, and what it makes of a text. */
#include <stdlib.h>
#include <string.h>

#include "worker/model/unigram.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    /* Full-width A, the ligature fi, a cat, e and an accent, a balloon, added tokens. */
    static const char mixed[] =
        "\xef\xbc\xa1 \xef\xac\x81 \xe7\x8c\xab  e\xcc\x81 <x>a\xf0\x9f\x8e\x88 "
        "</s><extra_id_5> zzzzzzzzzzzz";
    static const char *const texts[] = {"", "ab a red balloon, it rises.", mixed};
    struct unigram *unigram;
    struct error error;
    if (unigram_open(&unigram, bytes, length, "fuzz", &error) != ERR_OK)
        return 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[64];
        int count;
        if (unigram_encode(unigram, ids, &count, 64, texts[i], strlen(texts[i]), &error) != ERR_OK)
            continue;
        for (int j = 0; j < count; j++) {
            if (ids[j] < 0 || ids[j] >= unigram->ids)
                abort();
        }
    }
    unigram_close(&unigram);
    return 0;
}
