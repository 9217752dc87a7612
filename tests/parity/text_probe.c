/* text_probe [TOKENIZER-FOLDER]: every line of standard input is a text in hexadecimal; for each, a
 * line with the cleaned text in hexadecimal, a space, and its ids with commas between them. What
 * fails gives "error" and the reason. For text_compare.py, which compares with the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/text_clean.h"
#include "worker/model/tokenizer.h"

#define LINE_BYTES_MAX (8u << 20)
#define IDS_MAX        (1 << 20)

/* In place; NULL-terminated. False: not hexadecimal, or with a zero byte. */
static bool from_hex(char *line) {
    size_t length = strcspn(line, "\n"), count = 0;
    for (size_t i = 0; i + 1 < length; i += 2) {
        char digits[3] = {line[i], line[i + 1], 0}, *end;
        line[count] = (char)strtoul(digits, &end, 16);
        if (*end != 0 || line[count++] == 0)
            return false;
    }
    line[count] = 0;
    return length % 2 == 0;
}

static void answer(const struct tokenizer *tokenizer, const char *text, int32_t *ids) {
    struct buffer clean = {0};
    struct error error;
    int count = 0;
    enum error_code code = text_clean(&clean, text, &error);
    if (code == ERR_OK && tokenizer != NULL)
        code = tokenizer_encode(tokenizer, ids, &count, IDS_MAX, clean.data, clean.length, &error);
    if (code != ERR_OK)
        printf("error %s", error.detail);
    for (size_t i = 0; code == ERR_OK && i < clean.length; i++)
        printf("%02x", (unsigned char)clean.data[i]);
    for (int i = 0; i < count; i++)
        printf("%s%d", i == 0 ? " " : ",", ids[i]);
    putchar('\n');
    buffer_close(&clean);
}

int main(int argc, char **argv) {
    struct tokenizer *tokenizer = NULL;
    struct error error;
    char *line = malloc(LINE_BYTES_MAX);
    int32_t *ids = malloc(IDS_MAX * sizeof *ids);
    bool ready = line != NULL && ids != NULL;
    if (ready && argc > 1 && tokenizer_open(&tokenizer, argv[1], &error) != ERR_OK) {
        fprintf(stderr, "%s\n", error.detail);
        ready = false;
    }
    while (ready && fgets(line, LINE_BYTES_MAX, stdin) != NULL) {
        if (from_hex(line))
            answer(tokenizer, line, ids);
        else
            puts("error not a line of hexadecimal");
    }
    tokenizer_close(&tokenizer);
    free(ids);
    free(line);
    return ready ? 0 : 1;
}
