/* vidloom inspect MODEL|FILE: what a model folder or a weight file holds; what a video is and how
 * it was made. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/backend.h"
#include "cli/cli.h"
#include "cli/inspect_weights.h"
#include "cli/job_source.h"
#include "worker/media/media.h"
#include "worker/model/config.h"
#include "worker/model/missing.h"

#define PROVENANCE_ARENA ((size_t)16 << 20)

struct inspect_values {
    const char *models, *device;
    int dtype;
    bool json;
};

struct stage_row {
    enum model_stage stage;
    const char *name;
    struct model_cost cost;
    bool there;
};

/* -- a model ---------------------------------------------------------------------------------- */

static const char *sampler_name(enum sampler sampler) {
    return job_sampler_name((enum job_sampler)sampler);
}

static enum error_code plan_stages(struct stage_row rows[4], const struct model_info *info,
                                   const char *folder, const struct model_options *options,
                                   struct error *error) {
    static const struct stage_row stages[4] = {{.stage = STAGE_TEXT, .name = "text"},
                                               {.stage = STAGE_KEYFRAME, .name = "keyframe"},
                                               {.stage = STAGE_WINDOW, .name = "window"},
                                               {.stage = STAGE_VAE, .name = "decode"}};
    memcpy(rows, stages, sizeof stages);
    for (int i = 0; i < 4; i++) {
        struct model_size size = {info->width, info->height,
                                  rows[i].stage == STAGE_KEYFRAME ? 1 : info->window_frames};
        rows[i].there = (info->stages & (int)rows[i].stage) != 0;
        if (!rows[i].there)
            continue;
        enum error_code code =
            model_plan(&rows[i].cost, folder, rows[i].stage, &size, options, error);
        if (code != ERR_OK)
            return error_prefix(error, "%s: ", rows[i].name);
    }
    return ERR_OK;
}

/* A list under a heading; nothing when it is empty. */
static void put_lines(struct buffer *out, const char *heading, const struct buffer *list) {
    if (list->length > 0)
        buffer_printf(out, "\n%s\n", heading);
    for (char *line = list->data, *end; line && (end = strchr(line, '\n')); line = end + 1)
        buffer_printf(out, "  %.*s\n", (int)(end - line), line);
    out->failed = out->failed || list->failed;
}

static void put_lines_json(struct json_writer *writer, const char *key, struct buffer *list) {
    json_begin_array(writer, key);
    for (char *line = list->data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        json_put_text(writer, NULL, line);
    }
    json_end_array(writer);
}

static void put_missing(struct buffer *out, const char *folder) {
    struct buffer list = {0};
    (void)missing_list(&list, folder);
    put_lines(out, "Not in this folder, but in one of its kind:", &list);
    buffer_close(&list);
}

static void put_missing_json(struct json_writer *writer, const char *folder) {
    struct buffer list = {0};
    (void)missing_list(&list, folder);
    put_lines_json(writer, "missing", &list);
    buffer_close(&list);
}

static void put_sampling(struct buffer *out, const struct model_info *info) {
    buffer_printf(out, "sampler     %s, %d steps, guidance %g, shift %g",
                  sampler_name(info->sampler), info->steps, (double)info->guidance,
                  (double)info->shift);
    if (info->shift_small > 0)
        buffer_printf(out, " (%g up to as many pixels as 832x480)", (double)info->shift_small);
    if (info->experts > 1)
        buffer_printf(out,
                      "\nexperts     %d: one for times from %g up, another below with guidance %g",
                      info->experts, (double)info->boundary * 1000, (double)info->guidance_low);
    buffer_add_text(out, "\n\n");
}

/* The least and the most pixels a side that are a multiple of what they must be. */
static int least_side(const struct model_info *info) {
    return (info->size_min + info->size_multiple - 1) / info->size_multiple * info->size_multiple;
}
static int most_side(const struct model_info *info) {
    return info->size_max / info->size_multiple * info->size_multiple;
}

static void put_model(struct buffer *out, const char *folder, const struct model_info *info,
                      const struct stage_row rows[4], int pieces,
                      const struct model_options *options) {
    char hex[HASH_HEX_BYTES], weights[32], work[32];
    hash_hex(hex, &info->hash);
    buffer_printf(out, "folder      %s\nfamily      %s\n", folder, info->family);
    buffer_printf(out, "parameters  %.2f million\n", (double)info->parameters / 1e6);
    buffer_printf(out, "hash        %s\n", hex);
    buffer_printf(out, "made for    %dx%d, %d fps, windows of %d frames, %s", info->width,
                  info->height, info->fps, info->window_frames,
                  info->window_rules != 0 ? "continuing from" : "from text alone");
    for (int i = 0; info->window_rules != 0 && i < info->overlap_count; i++)
        buffer_printf(out, "%s %d", i ? " or" : "", info->overlaps[i]);
    buffer_printf(out, "\nsizes       multiples of %d, %d to %d pixels a side\n",
                  info->size_multiple, least_side(info), most_side(info));
    buffer_printf(out, "text        at most %d tokens of width %d\n", info->text_length,
                  info->text_width);
    put_sampling(out, info);
    buffer_printf(out, "%-9s  %10s  %10s  %s\n", "stage", "weights", "work", "GFLOP a task");
    for (int i = 0; i < 4; i++) {
        if (!rows[i].there) {
            buffer_printf(out, "%-9s  not in this folder\n", rows[i].name);
            continue;
        }
        buffer_printf(out, "%-9s  %10s  %10s  %.3f\n", rows[i].name,
                      text_bytes(weights, rows[i].cost.weight_bytes),
                      text_bytes(work, rows[i].cost.work_bytes), rows[i].cost.flops / 1e9);
    }
    inspect_put_components(out, folder, pieces);
    put_missing(out, folder);
    buffer_printf(out, "\nMemory as computed in %s at the size it was made for, device %s.\n",
                  options->dtype == DTYPE_F32 ? "f32" : "bf16", options->like->name);
}

static void put_model_json(struct buffer *out, const char *folder, const struct model_info *info,
                           const struct stage_row rows[4], int pieces) {
    struct json_writer writer = {.buffer = out};
    char hex[HASH_HEX_BYTES];
    hash_hex(hex, &info->hash);
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "folder", folder);
    json_put_text(&writer, "family", info->family);
    json_put_int(&writer, "parameters", info->parameters);
    json_put_text(&writer, "hash", hex);
    json_put_int(&writer, "width", info->width);
    json_put_int(&writer, "height", info->height);
    json_put_int(&writer, "fps", info->fps);
    json_put_int(&writer, "window_frames", info->window_frames);
    json_put_int(&writer, "size_multiple", info->size_multiple);
    json_put_int(&writer, "size_min", least_side(info));
    json_put_int(&writer, "size_max", most_side(info));
    json_put_text(&writer, "sampler", sampler_name(info->sampler));
    json_put_int(&writer, "steps", info->steps);
    json_put_float(&writer, "guidance", info->guidance);
    json_put_float(&writer, "shift", info->shift);
    if (info->shift_small > 0)
        json_put_float(&writer, "shift_small", info->shift_small);
    json_put_int(&writer, "experts", info->experts);
    if (info->experts > 1) {
        json_put_float(&writer, "boundary", info->boundary);
        json_put_float(&writer, "guidance_low", info->guidance_low);
    }
    json_begin_array(&writer, "stages");
    for (int i = 0; i < 4; i++) {
        if (!rows[i].there)
            continue;
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "stage", rows[i].name);
        json_put_int(&writer, "weight_bytes", (int64_t)rows[i].cost.weight_bytes);
        json_put_int(&writer, "work_bytes", (int64_t)rows[i].cost.work_bytes);
        json_put_double(&writer, "flops", rows[i].cost.flops);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    inspect_put_components_json(&writer, folder, pieces);
    put_missing_json(&writer, folder);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

/* What each stage fails at, a line each, by itself: the first is told in any case, and what is of
 * several stages only once. */
static void list_problems(struct buffer *out, const char *folder, const struct error *first) {
    static const enum model_stage stages[] = {STAGE_TEXT, STAGE_KEYFRAME, STAGE_WINDOW, STAGE_VAE};
    struct model_config config;
    struct error error = {0};
    char told[4][ERROR_DETAIL_BYTES] = {""};
    if (config_read_model(&config, folder, &error) != ERR_OK)
        return;
    for (int i = 0; i < 4; i++) {
        struct model_cost cost;
        const struct model_size size = {config.width, config.height,
                                        stages[i] == STAGE_KEYFRAME ? 1 : config.window_frames};
        const struct model_options options = {.dtype = DTYPE_BF16};
        enum error_code code = model_plan(&cost, folder, stages[i], &size, &options, &error);
        bool again = code == ERR_OK || code == ERR_MISSING || strstr(first->detail, error.detail);
        for (int k = 0; k < i; k++)
            again = again || strcmp(told[k], error.detail) == 0;
        if (again)
            continue;
        (void)snprintf(told[i], sizeof told[i], "%s", error.detail);
        buffer_add_text(out, error.detail);
        buffer_add_text(out, "\n");
    }
}

/* It cannot be opened: say why, what else is wrong and what else is not there. */
static int inspect_part(struct cli *cli, const struct inspect_values *values, const char *folder,
                        const struct error *error) {
    struct buffer text = {0}, problems = {0};
    struct json_writer writer = {.buffer = &text};
    list_problems(&problems, folder, error);
    if (values->json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "folder", folder);
        put_lines_json(&writer, "wrong", &problems);
        put_missing_json(&writer, folder);
        json_end_object(&writer);
        buffer_add_text(&text, "\n");
    } else {
        put_lines(&text, "Wrong, too:", &problems);
        put_missing(&text, folder);
    }
    buffer_close(&problems);
    if (text.length > 0)
        (void)cli_put(cli, &text);
    buffer_close(&text);
    return cli_fail(cli, error);
}

static int inspect_model(struct cli *cli, const struct inspect_values *values, const char *folder) {
    struct model_info info;
    struct stage_row rows[4];
    struct buffer text = {0};
    struct error error = {0};
    struct backend_devices devices;
    int pieces;
    if (backend_find(&devices, values->device, &error) != ERR_OK)
        return cli_fail(cli, &error);
    const struct model_options options = {.dtype = values->dtype == 1 ? DTYPE_F32 : DTYPE_BF16,
                                          .like = devices.items[0].ops,
                                          .like_index = devices.items[0].index};
    if (model_read_info(&info, folder, &error) != ERR_OK ||
        model_check_tokenizer(&pieces, &info, folder, &error) != ERR_OK ||
        plan_stages(rows, &info, folder, &options, &error) != ERR_OK)
        return inspect_part(cli, values, folder, &error);
    if (values->json)
        put_model_json(&text, folder, &info, rows, pieces);
    else
        put_model(&text, folder, &info, rows, pieces, &options);
    return cli_put(cli, &text);
}

/* -- a media file ----------------------------------------------------------------------------- */

static void put_json_node(struct json_writer *writer, const char *key, const struct json *node) {
    switch (node->type) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        (node->type == JSON_OBJECT ? json_begin_object : json_begin_array)(writer, key);
        for (const struct json *child = node->child; child; child = child->next)
            put_json_node(writer, child->key, child);
        (node->type == JSON_OBJECT ? json_end_object : json_end_array)(writer);
        break;
    case JSON_STRING:
        json_put_text(writer, key, node->string);
        break;
    case JSON_NUMBER:
        if (node->is_integer)
            json_put_int(writer, key, node->integer);
        else
            json_put_double(writer, key, node->number);
        break;
    case JSON_BOOL:
        json_put_bool(writer, key, node->boolean);
        break;
    case JSON_NULL:
        json_put_text(writer, key, NULL);
        break;
    }
}

static bool has_members(const struct json *node) {
    return node->type == JSON_OBJECT || node->type == JSON_ARRAY;
}

/* The texts come from a file that anyone may have written. */
static void put_scalar(struct buffer *out, const struct json *node) {
    if (node->type == JSON_STRING)
        buffer_add_shown(out, node->string);
    else if (node->type == JSON_NUMBER && node->is_integer)
        buffer_printf(out, "%" PRId64, node->integer);
    else if (node->type == JSON_NUMBER)
        buffer_printf(out, "%g", node->number);
    else
        buffer_add_text(out, node->type == JSON_NULL ? "none" : node->boolean ? "yes" : "no");
}

/* "  key    value", nested members indented; a list of values in one line. */
static void put_node(struct buffer *out, const struct json *node, int depth) {
    bool row = node->type == JSON_ARRAY;
    for (const struct json *child = node->child; row && child; child = child->next)
        row = !has_members(child);
    struct buffer key = {0};
    buffer_add_shown(&key, node->key ? node->key : "-");
    buffer_printf(out, "%*s%-*s ", 2 * depth, "", 12 - 2 * depth > 0 ? 12 - 2 * depth : 1,
                  key.data ? key.data : "");
    buffer_close(&key);
    if (!has_members(node))
        put_scalar(out, node);
    for (const struct json *child = node->child; row && child; child = child->next) {
        put_scalar(out, child);
        buffer_add_text(out, child->next ? " " : "");
    }
    buffer_add_text(out, "\n");
    for (const struct json *child = node->child; !row && child; child = child->next)
        put_node(out, child, depth + 1);
}

static void put_media(struct buffer *out, const char *path, const struct media_info *info,
                      const struct json *provenance) {
    char length[32];
    buffer_printf(out, "file         %s\n", path);
    buffer_printf(out, "format       %s, %s, %dx%d", info->format, info->codec, info->width,
                  info->height);
    if (info->fps > 0)
        buffer_printf(out, ", %g fps", info->fps);
    buffer_printf(out, "\nlength       %s",
                  info->fps > 0 ? text_duration(length, info->seconds) : "");
    if (info->frames >= 0)
        buffer_printf(out, "%s%" PRId64 " frames", info->fps > 0 ? ", " : "", info->frames);
    buffer_add_text(out, "\n");
    if (!provenance && !info->provenance) {
        buffer_add_text(out, "provenance   none: not made by vidloom, or stripped since\n");
        return;
    }
    if (!provenance) {
        buffer_add_text(out, "provenance   not readable: changed since it was written\n");
        return;
    }
    buffer_add_text(out, "\n");
    for (const struct json *child = provenance->child; child; child = child->next)
        put_node(out, child, 0);
}

static void put_media_json(struct buffer *out, const char *path, const struct media_info *info,
                           const struct json *provenance) {
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "file", path);
    json_put_text(&writer, "format", info->format);
    json_put_text(&writer, "codec", info->codec);
    json_put_int(&writer, "width", info->width);
    json_put_int(&writer, "height", info->height);
    if (info->fps > 0) {
        json_put_double(&writer, "fps", info->fps);
        json_put_double(&writer, "seconds", info->seconds);
    } else { /* pictures have no rate */
        json_put_text(&writer, "fps", NULL);
        json_put_text(&writer, "seconds", NULL);
    }
    json_put_int(&writer, "frames", info->frames);
    if (provenance)
        put_json_node(&writer, "provenance", provenance);
    else
        json_put_text(&writer, "provenance", NULL);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

static int inspect_media(struct cli *cli, const struct inspect_values *values, const char *path) {
    struct media_info info = {0};
    struct buffer text = {0};
    struct error error = {0};
    const struct json *provenance = NULL;
    if (media_read_info(&info, path, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (info.provenance && json_parse(&provenance, &cli->arena, info.provenance,
                                      strlen(info.provenance), &error) != ERR_OK)
        provenance = NULL;
    if (values->json)
        put_media_json(&text, path, &info, provenance);
    else
        put_media(&text, path, &info, provenance);
    media_info_close(&info);
    return cli_put(cli, &text);
}

/* -- the verb --------------------------------------------------------------------------------- */

/* A folder is a model, or a video as numbered pictures. */
static bool is_pictures(const char *folder) {
    char first[FILE_PATH_BYTES];
    struct stat status;
    struct error ignored;
    return file_join(first, folder, "00000.png", &ignored) == ERR_OK && stat(first, &status) == 0;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct inspect_values *values = invocation->values;
    const char *what = invocation->arguments[0];
    char models[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    struct stat status;
    struct error error = {0};
    if (stat(what, &status) == 0 && S_ISDIR(status.st_mode) && !is_pictures(what))
        return inspect_model(cli, values, what);
    if (stat(what, &status) == 0 && inspect_is_weights(what))
        return inspect_weights(cli, what, values->json);
    if (stat(what, &status) == 0)
        return inspect_media(cli, values, what);
    /* Something with an extension or a folder was meant as a file. */
    if (strchr(what, '/') || strchr(what, '.'))
        return cli_fail_text(cli, ERR_MISSING, "%.512s: %s", what, strerror(errno));
    models_folder(models, values->models);
    if (model_folder(folder, models, what, &error) != ERR_OK)
        return cli_fail(cli, &error);
    return inspect_model(cli, values, folder);
}

static const char *const dtypes[] = {"bf16", "f32", NULL};

static const struct option options[] = {
    {.letter = 'm',
     .name = "models",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct inspect_values, models),
     .help = "The folder of models. Without it: models in the current folder, else beside the "
             "program."},
    DEVICE_PLAN_OPTION(struct inspect_values),
    {.name = "dtype",
     .value = "TYPE",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct inspect_values, dtype),
     .fallback = "bf16",
     .choices = dtypes,
     .help = "The type to compute in, for the memory."},
    {.letter = 'j',
     .name = "json",
     .type = OPTION_FLAG,
     .offset = offsetof(struct inspect_values, json),
     .help = "Print one JSON object."},
};

static const struct verb_note examples[] = {
    {"vidloom inspect pocket", "What the model can do and the memory that each stage needs."},
    {"vidloom inspect wan2.1_t2v_14B_Q4_K.gguf", "What the file holds, and in which types."},
    {"vidloom inspect out/demo-balloon.mp4", "Its length and size, and the prompt, seed and model "
                                             "that it was made from."},
    {NULL, NULL},
};

const struct verb verb_inspect = {
    .name = "inspect",
    .group = "Looking",
    .summary = "what a model holds; how a video was made",
    .arguments = "MODEL|FILE",
    .arguments_min = 1,
    .arguments_max = 1,
    .purpose =
        "Of a model (a name under the folder of models, or a folder): its family, number of "
        "parameters, hash, the sizes that it can make, and the memory and arithmetic of "
        "each stage, and its weight files with their layout and types.\n\nOf a weight file "
        "(safetensors, .pth, GGUF, LoRA): what it holds, how many tensors of which types, its "
        "sizes and hash.\n\nOf a video: its format and length, and its provenance, which every "
        "published file carries: job, prompt, seed, models and their hashes, version.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct inspect_values),
    .examples = examples,
    .exits = cli_exits_file,
    .run = run,
};
