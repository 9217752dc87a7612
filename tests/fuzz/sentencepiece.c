/* Tokenizer files: what tokenizer_check lets through, the library must survive, text included. */
#include <string.h>

#include "worker/model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    /* Full-width A, the ligature fi, the numeral VIII, a cat, e and an accent, a balloon. */
    static const char mixed[] = "\xef\xbc\xa1 \xef\xac\x81 \xe2\x85\xa7 \xe7\x8c\xab e\xcc\x81 "
                                "\xf0\x9f\x8e\x88 zzzzzzzzzzzz";
    static const char *const texts[] = {"", "a red balloon, it rises.", mixed};
    struct tokenizer *tokenizer;
    struct error error;
    if (tokenizer_open_memory(&tokenizer, bytes, length, "fuzz", &error) != ERR_OK)
        return 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[64];
        int count;
        if (tokenizer_encode(tokenizer, ids, &count, 64, texts[i], strlen(texts[i]), &error) ==
            ERR_OK) {
            if (count < 1 || count > 64 || ids[count - 1] != TOKENIZER_END)
                __builtin_trap();
        }
    }
    tokenizer_close(&tokenizer);
    return 0;
}
