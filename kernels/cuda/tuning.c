#include "kernels/cuda/tuning.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define FORMAT        "vidloom %s 1"
#define FORMAT_BYTES  64
#define MACHINE_BYTES 256
#define LINE_BYTES    256 /* of a product; seven numbers and eight words at their longest */
#define FILE_BYTES    ((size_t)TUNING_ENTRIES_MAX * LINE_BYTES + 1024)

struct entry {
    struct tuning_product product;
    struct tuning_algorithm algorithm;
};

struct tuning {
    const char *what;
    char machine[MACHINE_BYTES];
    char path[FILE_PATH_BYTES]; /* "": no file is kept */
    int count;
    struct entry entry[TUNING_ENTRIES_MAX];
};

/* FNV-1a: against accidents, not against anyone. */
static uint64_t sum_of(const char *bytes, size_t length) {
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) {
        sum = (sum ^ (uint8_t)bytes[i]) * 0x100000001b3u;
    }
    return sum;
}

static size_t print_end(char out[64], int count, uint64_t sum) {
    return (size_t)snprintf(out, 64, "end %d %016" PRIx64 "\n", count, sum);
}

/* -- reading ----------------------------------------------------------------------------------- */

/* The next number of a line, up to `largest`. */
static bool read_number(const char **at, int base, uint64_t largest, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(*at, &end, base);
    bool good = errno == 0 && end != *at && *out <= largest && (*end == ' ' || *end == '\0');
    *at = end;
    return good;
}

static bool read_product(struct entry *out, const char *line) {
    uint64_t size[3], number[4];
    bool good = true;
    for (int i = 0; i < 3; i++) {
        good = good && read_number(&line, 10, INT64_MAX, &size[i]) && size[i] > 0;
    }
    for (int i = 0; i < 4; i++) {
        good = good && read_number(&line, 10, UINT32_MAX, &number[i]);
    }
    for (int i = 0; i < TUNING_WORDS; i++) {
        good = good && read_number(&line, 16, UINT64_MAX, &out->algorithm.word[i]);
    }
    if (good) {
        out->product = (struct tuning_product){
            (int64_t)size[0],    (int64_t)size[1],    (int64_t)size[2],   (uint32_t)number[0],
            (uint32_t)number[1], (uint32_t)number[2], (uint32_t)number[3]};
    }
    return good && *line == '\0';
}

/* The last line must be the sum's; it is cut off. */
static bool sum_is_right(char *text, size_t length, int *count) {
    if (length == 0 || text[length - 1] != '\n' || memchr(text, '\0', length) != NULL) {
        return false;
    }
    size_t start = length - 1;
    while (start > 0 && text[start - 1] != '\n') {
        start--;
    }
    char expected[64];
    *count = (int)strtol(text + start + strcspn(text + start, " "), NULL, 10);
    print_end(expected, *count, sum_of(text, start));
    bool right = strcmp(text + start, expected) == 0;
    text[start] = '\0';
    return right;
}

/* The next line, or NULL; its newline becomes the end of it. */
static char *next_line(char **rest) {
    char *line = *rest, *end = strchr(line, '\n');
    if (end == NULL) {
        return NULL;
    }
    *end = '\0';
    *rest = end + 1;
    return line;
}

static void read_text(struct tuning *tuning, char *text, size_t length) {
    int count;
    if (!sum_is_right(text, length, &count) || count < 0 || count > TUNING_ENTRIES_MAX) {
        return;
    }
    char expected[FORMAT_BYTES];
    (void)snprintf(expected, sizeof expected, FORMAT, tuning->what);
    const char *format = next_line(&text), *machine = format != NULL ? next_line(&text) : NULL;
    if (machine == NULL || strcmp(format, expected) != 0 || strcmp(machine, tuning->machine) != 0) {
        return;
    }
    for (int i = 0; i < count; i++) {
        const char *line = next_line(&text);
        if (line == NULL || !read_product(&tuning->entry[i], line)) {
            return;
        }
    }
    tuning->count = *text == '\0' ? count : 0;
}

static void read_file(struct tuning *tuning) {
    struct arena arena = {0};
    struct error error;
    char *text;
    size_t length;
    if (arena_open(&arena, 2 * FILE_BYTES, &error) == ERR_OK &&
        file_read(&text, &length, &arena, tuning->path, FILE_BYTES, &error) == ERR_OK) {
        read_text(tuning, text, length);
    }
    arena_close(&arena);
}

/* -- writing ----------------------------------------------------------------------------------- */

static size_t print_product(char *out, const struct entry *entry) {
    const struct tuning_product *p = &entry->product;
    size_t used = (size_t)snprintf(
        out, LINE_BYTES,
        "%" PRId64 " %" PRId64 " %" PRId64 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32,
        p->outputs, p->inputs, p->rows, p->type, p->epilogue, p->in_alignment, p->out_alignment);
    for (int i = 0; i < TUNING_WORDS; i++) {
        used +=
            (size_t)snprintf(out + used, LINE_BYTES - used, " %" PRIx64, entry->algorithm.word[i]);
    }
    out[used] = '\n';
    return used + 1;
}

static void write_file(const struct tuning *tuning) {
    char *text = tuning->path[0] != '\0' ? malloc(FILE_BYTES) : NULL;
    if (text == NULL) {
        return;
    }
    size_t used =
        (size_t)snprintf(text, FILE_BYTES, FORMAT "\n%s\n", tuning->what, tuning->machine);
    for (int i = 0; i < tuning->count; i++) {
        used += print_product(text + used, &tuning->entry[i]);
    }
    used += print_end(text + used, tuning->count, sum_of(text, used));
    struct error error; /* a disk that is full only costs measuring again */
    if (file_write(tuning->path, text, used, false, &error) != ERR_OK) {
        (void)error;
    }
    free(text);
}

/* -- the door ---------------------------------------------------------------------------------- */

/* "products-NVIDIA-H200--….txt": letters and digits of the machine's name, and its sum. */
static bool name_file(struct tuning *tuning, const char *folder) {
    char name[96], *out = name + snprintf(name, 32, "%.30s-", tuning->what);
    for (const char *c = tuning->machine; *c != '\0' && out < name + 64; c++) {
        bool plain =
            (*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z');
        *out++ = plain ? *c : '-';
    }
    (void)snprintf(out, 32, "-%08" PRIx32 ".txt",
                   (uint32_t)sum_of(tuning->machine, strlen(tuning->machine)));
    struct error error;
    return file_join(tuning->path, folder, name, &error) == ERR_OK;
}

enum error_code tuning_open(struct tuning **out, const char *folder, const char *what,
                            const char *machine, struct error *error) {
    struct tuning *tuning = calloc(1, sizeof *tuning);
    if (tuning == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for measured algorithms");
    }
    tuning->what = what;
    (void)snprintf(tuning->machine, sizeof tuning->machine, "%s", machine);
    for (char *c = tuning->machine; *c != '\0'; c++) {
        *c = *c == '\n' ? ' ' : *c;
    }
    if (folder != NULL && name_file(tuning, folder)) {
        read_file(tuning);
    } else {
        tuning->path[0] = '\0';
    }
    *out = tuning;
    return ERR_OK;
}

void tuning_close(struct tuning **tuning) {
    free(*tuning);
    *tuning = NULL;
}

bool tuning_find(const struct tuning *tuning, const struct tuning_product *product,
                 struct tuning_algorithm *out) {
    for (int i = 0; i < tuning->count; i++) {
        if (memcmp(&tuning->entry[i].product, product, sizeof *product) == 0) {
            *out = tuning->entry[i].algorithm;
            return true;
        }
    }
    return false;
}

bool tuning_find_like(const struct tuning *tuning, const struct tuning_product *product,
                      int64_t least, struct tuning_algorithm *out) {
    for (int i = 0; i < tuning->count; i++) {
        struct tuning_product like = tuning->entry[i].product;
        const bool enough = like.rows >= least;
        like.rows = product->rows;
        if (enough && memcmp(&like, product, sizeof like) == 0) {
            *out = tuning->entry[i].algorithm;
            return true;
        }
    }
    return false;
}

void tuning_add(struct tuning *tuning, const struct tuning_product *product,
                const struct tuning_algorithm *algorithm) {
    int at = 0;
    while (at < tuning->count &&
           memcmp(&tuning->entry[at].product, product, sizeof *product) != 0) {
        at++;
    }
    if (at == TUNING_ENTRIES_MAX) {
        return;
    }
    tuning->entry[at] = (struct entry){*product, *algorithm};
    tuning->count += at == tuning->count;
    write_file(tuning);
}

int tuning_choose(int count, tuning_trial *trial, void *context) {
    float best_time = 0, time;
    uint64_t expected = 0, digest;
    int best = -1;
    for (int i = 0; i < count; i++) {
        if (!trial(context, i, &time, &digest)) {
            continue;
        }
        expected = best < 0 ? digest : expected;
        if (best < 0 || (digest == expected && time < best_time)) {
            best = i;
            best_time = time;
        }
    }
    return best;
}
