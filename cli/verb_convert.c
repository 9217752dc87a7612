/* vidloom convert IN OUT: weights in another layout, type or container. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/cli.h"
#include "worker/model/convert.h"

struct convert_values {
    int layout, type;
    bool quiet;
};

static const char *const layouts[] = {"diffusers", "original", NULL};
static const char *const types[] = {"same", "bf16", "f16", "f32", "int8", "fp8", NULL};
static const enum dtype type_dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16,
                                         DTYPE_F32, DTYPE_I8,   DTYPE_F8_E4M3};

static void say(void *user, const char *path, int64_t bytes) {
    const struct cli *cli = user;
    char size[32];
    (void)fprintf(cli->err, "writing %s, %s\n", path, text_bytes(size, (uint64_t)bytes));
}

/* A line a layer: where a model is hurt most is seen at once. */
static void say_error(void *user, const char *name, double error) {
    const struct cli *cli = user;
    struct buffer shown = {0};
    buffer_add_shown(&shown, name);
    (void)fprintf(cli->out, "%-64s %.2e\n", shown.data ? shown.data : "", error);
    buffer_close(&shown);
}

static bool is_there(const char *folder, const char *name, const char *end) {
    char path[FILE_PATH_BYTES], whole[256];
    (void)snprintf(whole, sizeof whole, "%s%s", name, end);
    return file_join(path, folder, whole, NULL) == ERR_OK && access(path, F_OK) == 0;
}

/* The command has our own names alone in it: there is nothing to quote. blocks: the text encoder's
 * matrices are int8 or fp8. */
static void say_pth(const struct cli *cli, const char *out, bool blocks) {
    for (const char *const *name = convert_pth_names; *name; name++) {
        if (!is_there(out, *name, ".safetensors") &&
            !is_there(out, *name, ".safetensors.index.json"))
            continue;
        (void)fprintf(cli->err, "%s.safetensors: the reference implementation opens %s.pth", *name,
                      *name);
        if (strstr(*name, "clip"))
            (void)fprintf(cli->err, ", and with a text tower, which is not here: take the "
                                    "published one\n");
        else if (blocks && strstr(*name, "t5"))
            (void)fprintf(cli->err, ", and no int8 or fp8 in blocks\n");
        else
            (void)fprintf(cli->err,
                          "; to make it, in that folder:\n  python3 -c \"import glob, torch, "
                          "safetensors.torch as s; torch.save({k: v for f in "
                          "glob.glob('%s*.safetensors') for k, v in s.load_file(f).items()}, "
                          "'%s.pth')\"\n",
                          *name, *name);
    }
}

/* Who takes the folder to another program must know. */
static void say_beside(const struct cli *cli, const char *out) {
    char path[FILE_PATH_BYTES];
    if (file_join(path, out, "scheduler", NULL) == ERR_OK && access(path, F_OK) == 0)
        (void)fprintf(cli->err,
                      "%s and config.json files hold what the original layout has no place for: "
                      "vidloom reads them, the reference implementation does not\n",
                      path);
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct convert_values *values = invocation->values;
    const char *in = invocation->arguments[0], *out = invocation->arguments[1];
    const struct convert_options options = {
        .layout = values->layout == 0 ? CONVERT_DIFFUSERS : CONVERT_ORIGINAL,
        .typed = values->type != 0,
        .dtype = type_dtypes[values->type],
        .progress = values->quiet ? NULL : say,
        .quantised = values->quiet ? NULL : say_error,
        .user = cli,
    };
    struct stat status;
    struct error error = {0};
    if (stat(in, &status) != 0)
        return cli_fail_text(cli, ERR_MISSING, "%.512s: %s", in, strerror(errno));
    enum error_code code = S_ISDIR(status.st_mode) ? convert_folder(out, in, &options, &error)
                                                   : convert_file(out, in, &options, &error);
    if (code == ERR_OK && S_ISDIR(status.st_mode) && options.layout == CONVERT_ORIGINAL &&
        !values->quiet) {
        say_pth(cli, out, options.dtype == DTYPE_I8 || options.dtype == DTYPE_F8_E4M3);
        say_beside(cli, out);
    }
    return code == ERR_OK ? 0 : cli_fail(cli, &error);
}

static const struct option options[] = {
    {.letter = 'l',
     .name = "layout",
     .value = "LAYOUT",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct convert_values, layout),
     .fallback = "diffusers",
     .choices = layouts,
     .help = "Whose names and folders to write."},
    {.letter = 't',
     .name = "type",
     .value = "TYPE",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct convert_values, type),
     .fallback = "same",
     .choices = types,
     .help = "The type of matrices and convolutions; norms, biases, modulation and the time "
             "embedding keep theirs. With same, every element stays as it is to the bit. A "
             "quantised GGUF file needs a type. int8 and fp8 are for the matrices of the blocks, "
             "with a scale for every 256 columns of a row, or for a row of fp8; the relative error "
             "of each is printed."},
    {.letter = 'q',
     .name = "quiet",
     .type = OPTION_FLAG,
     .offset = offsetof(struct convert_values, quiet),
     .help = "Do not name the files as they are written."},
};

static const struct verb_note examples[] = {
    {"vidloom convert Wan2.1-T2V-1.3B wan-bf16 --type bf16",
     "The original layout, with its .pth files, to the diffusers layout in half the size."},
    {"vidloom convert wan.gguf wan.safetensors --type bf16", "One quantised file to safetensors."},
    {NULL, NULL},
};

const struct verb verb_convert = {
    .name = "convert",
    .group = "Looking",
    .summary = "weights in another layout or type",
    .arguments = "IN OUT",
    .arguments_min = 2,
    .arguments_max = 2,
    .purpose = "Of a model's folder, in whatever layout and containers: a new folder with every "
               "component as safetensors, its configuration, tokenizer and scheduler. Of one "
               "weight file: a new file. Files of more than 10 GB are cut into shards with an "
               "index.\n\nOUT appears whole or not at all and must not be there before. The "
               "original layout's .pth files keep their names but become safetensors, which the "
               "reference implementation does not open: how to make them .pth again is said at "
               "the end; what the layout has no place for (another schedule or boundary, the "
               "statistics of latents) goes into "
               "scheduler/ and config.json files beside them, which vidloom reads and the "
               "reference implementation does not.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct convert_values),
    .examples = examples,
    .exits = cli_exits_file,
    .run = run,
};
