/* Every case that make.py wrote, run by us in f32 and in bf16: parity FOLDER [--only WORD]
 * [--table NAME:INDEX].
 *
 * FOLDER has a folder for each model, with cases <kind>.<name>.safetensors in it. Prints a line a
 * case and type, its relative error and bound; exits 1 when one is over, 2 when one could not run.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/parity/parity.h"

struct tally {
    const char *table, *only; /* as on the command line */
    int cases, over, broken;
};

static const struct {
    const char *kind;
    parity_case *run;
} kinds[] = {
    {"text", parity_text},
    {"clip", parity_clip},
    {"transformer", parity_transformer},
    {"trajectory", parity_trajectory},
    {"decode", parity_decode},
    {"encode", parity_encode},
};

static parity_case *find_kind(const char *file) {
    size_t length = strcspn(file, ".");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i].kind) == length && strncmp(kinds[i].kind, file, length) == 0)
            return kinds[i].run;
    return NULL;
}

static void print_result(const struct parity_result *result, const char *label, enum dtype dtype,
                         struct tally *tally) {
    bool over = !(result->error <= result->bound);
    printf("%-44s %-5s %.2e  (bound %.1e)", label, dtype_name(dtype), result->error, result->bound);
    if (result->decibels != 0) {
        over = over || !(result->decibels >= result->decibels_least);
        printf("  %5.1f dB (at least %.0f)", result->decibels, result->decibels_least);
    }
    printf("%s\n", over ? "  OVER" : "");
    tally->over += over;
}

static void run_case(const char *folder, const char *label, const char *file, parity_case *run,
                     struct tally *tally) {
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16};
    char path[FILE_PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        struct parity_result result = {.bound = dtypes[i] == DTYPE_F32 ? 1e-4 : 1e-2};
        struct weights *tensors = NULL;
        struct error error = {0};
        enum error_code code = file_join(path, folder, file, &error);
        if (code == ERR_OK)
            code = weights_open(&tensors, path, &error);
        if (code == ERR_OK)
            code = run(&result, &(struct parity_given){tally->table, folder, tensors, dtypes[i]},
                       &error);
        weights_close(&tensors);
        tally->cases++;
        if (code == ERR_OK) {
            print_result(&result, label, dtypes[i], tally);
        } else {
            printf("%-44s %-5s %s: %s\n", label, dtype_name(dtypes[i]), error_name(code),
                   error.detail);
            tally->broken++;
        }
        (void)fflush(stdout);
    }
}

static int plain_name(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void run_model(const char *root, const char *model, struct tally *tally) {
    char folder[FILE_PATH_BYTES];
    struct dirent **entries;
    if (file_join(folder, root, model, NULL) != ERR_OK)
        return;
    int count = scandir(folder, &entries, plain_name, alphasort);
    for (int i = 0; i < count; i++) {
        const char *file = entries[i]->d_name, *suffix = strstr(file, PARITY_SUFFIX);
        parity_case *run = suffix != NULL ? find_kind(file) : NULL;
        char label[512];
        (void)snprintf(label, sizeof label, "%s %.*s", model,
                       suffix != NULL ? (int)(suffix - file) : 0, file);
        if (run != NULL && (tally->only == NULL || strstr(label, tally->only) != NULL))
            run_case(folder, label, file, run, tally);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv) {
    struct tally tally = {.table = table_argument(&argc, argv)};
    struct dirent **models;
    bool good = argc == 2 || (argc == 4 && strcmp(argv[2], "--only") == 0);
    int count = good ? scandir(argv[1], &models, plain_name, alphasort) : -1;
    if (count < 0) {
        (void)fprintf(stderr, "usage: parity FOLDER [--only WORD] [--table NAME:INDEX]; FOLDER is "
                              "what make.py wrote\n");
        return 2;
    }
    tally.only = argc == 4 ? argv[3] : NULL;
    for (int i = 0; i < count; i++) {
        run_model(argv[1], models[i]->d_name, &tally);
        free(models[i]);
    }
    free(models);
    printf("%d cases, %d over their bound, %d could not run\n", tally.cases, tally.over,
           tally.broken);
    if (tally.cases == 0 || tally.broken > 0)
        return 2;
    return tally.over > 0;
}
