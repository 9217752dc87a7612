#include "cli/inspect_weights.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "worker/model/components.h"
#include "worker/model/describe.h"
#include "worker/model/fingerprint.h"
#include "worker/model/lora.h"

#define TYPES_BYTES  128
#define NAMES_SHOWN  8
#define HEADER_ARENA ((size_t)1 << 20)

/* What is known of one set of weights. */
struct summary {
    const struct weights *weights;
    bool known, lora;
    enum names_component component;
    struct lora_summary added;
    const char *model; /* NULL: of no published size */
    const char *layout;
    int64_t parameters;
    char types[TYPES_BYTES]; /* "690 Q4_K, 405 F32" */
};

static const char *component_name(const struct summary *summary) {
    static const char *const names[] = {[NAMES_UMT5] = "text encoder",
                                        [NAMES_TRANSFORMER] = "transformer",
                                        [NAMES_VAE] = "vae",
                                        [NAMES_VAE_RESIDUAL] = "vae",
                                        [NAMES_CLIP] = "image encoder"};
    return summary->lora ? "lora" : summary->known ? names[summary->component] : "unknown";
}

static void count_types(struct summary *summary) {
    size_t count[DTYPE_COUNT] = {0}, used = 0;
    for (size_t i = 0; i < weights_count(summary->weights); i++) {
        const struct tensor *tensor = weights_tensor(summary->weights, i);
        count[tensor->dtype]++;
        summary->parameters += tensor_elements(tensor);
    }
    for (int i = 0; i < DTYPE_COUNT && used < TYPES_BYTES; i++)
        if (count[i] > 0)
            used += (size_t)snprintf(summary->types + used, TYPES_BYTES - used, "%s%zu %s",
                                     used > 0 ? ", " : "", count[i], dtype_name((enum dtype)i));
}

static void summarise(struct summary *out, const struct weights *weights) {
    *out = (struct summary){.weights = weights, .layout = "none"};
    out->lora = lora_describe(&out->added, weights);
    out->known = !out->lora && describe_component(&out->component, weights);
    out->model = out->known ? describe_published(weights) : NULL;
    if (out->known)
        out->layout = weights_find(weights, names_original_mark(out->component)) != NULL
                          ? "original"
                          : "diffusers";
    count_types(out);
}

/* -- one file --------------------------------------------------------------------------------- */

bool inspect_is_weights(const char *path) {
    static const char *const ends[] = {".safetensors", ".pth", ".pt", ".gguf",
                                       ".safetensors.index.json"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (text_ends_with(path, ends[i]))
            return true;
    return false;
}

static void put_text(struct buffer *out, const struct summary *s, const char *hex,
                     const struct buffer *config) {
    buffer_printf(out, "file        %s\nformat      %s, %d file%s\n", weights_path(s->weights),
                  weights_format_name(weights_format(s->weights)), weights_shards(s->weights),
                  weights_shards(s->weights) == 1 ? "" : "s");
    buffer_printf(out, "holds       %s", component_name(s));
    if (s->known)
        buffer_printf(out, ", %s layout, %s", s->layout,
                      s->model != NULL ? s->model : "of no published size");
    buffer_printf(out, "\ntensors     %zu: %s\n", weights_count(s->weights), s->types);
    buffer_printf(out, "parameters  %.2f million\n", (double)s->parameters / 1e6);
    buffer_printf(out, "hash        %s\n", hex);
    if (s->lora) {
        buffer_printf(out, "adds        %d pairs", s->added.pairs);
        if (s->added.pairs > 0)
            buffer_printf(out, " of rank %d", s->added.rank_min);
        if (s->added.rank_max != s->added.rank_min)
            buffer_printf(out, " to %d", s->added.rank_max);
        buffer_printf(out, ", %d differences\n", s->added.differences);
        if (s->added.width > 0)
            buffer_printf(out, "made for    a transformer of width %" PRId64 "\n", s->added.width);
    } else if (config->length > 0) {
        buffer_printf(out, "sizes       %s\n", config->data);
    } else {
        buffer_printf(out, "Not recognised: names of no transformer, umT5, VAE, CLIP or LoRA "
                           "that is known. It begins with\n");
        for (size_t i = 0; i < weights_count(s->weights) && i < NAMES_SHOWN; i++) {
            buffer_add_text(out, "  ");
            buffer_add_shown(out, weights_name(s->weights, i));
            buffer_add_text(out, "\n");
        }
    }
}

static void put_summary_json(struct json_writer *writer, const struct summary *s) {
    json_put_text(writer, "file", weights_path(s->weights));
    json_put_text(writer, "format", weights_format_name(weights_format(s->weights)));
    json_put_int(writer, "shards", weights_shards(s->weights));
    json_put_text(writer, "holds", component_name(s));
    json_put_text(writer, "layout", s->known ? s->layout : NULL);
    json_put_text(writer, "model", s->model);
    json_put_int(writer, "tensors", (int64_t)weights_count(s->weights));
    json_put_text(writer, "types", s->types);
    json_put_int(writer, "parameters", s->parameters);
}

static void put_json(struct buffer *out, struct cli *cli, const struct summary *s, const char *hex,
                     const struct buffer *config) {
    struct json_writer writer = {.buffer = out};
    const struct json *sizes;
    struct error ignored;
    json_begin_object(&writer, NULL);
    put_summary_json(&writer, s);
    json_put_text(&writer, "hash", hex);
    if (s->lora) {
        json_put_int(&writer, "pairs", s->added.pairs);
        json_put_int(&writer, "rank_min", s->added.rank_min);
        json_put_int(&writer, "rank_max", s->added.rank_max);
        json_put_int(&writer, "differences", s->added.differences);
        json_put_int(&writer, "width", s->added.width);
    }
    if (config->length > 0 &&
        json_parse(&sizes, &cli->arena, config->data, config->length, &ignored) == ERR_OK)
        json_put(&writer, "config", sizes);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

int inspect_weights(struct cli *cli, const char *path, bool json) {
    static const char *const no_files[] = {NULL};
    struct weights *weights;
    struct summary summary;
    struct buffer config = {0}, text = {0};
    struct hash hash;
    struct error error = {0}, ignored;
    char hex[HASH_HEX_BYTES];
    if (component_open_file(&weights, path, &error) != ERR_OK)
        return cli_fail(cli, &error);
    if (fingerprint(&hash, ".", no_files, (const struct weights *const *)&weights, 1, &error) !=
        ERR_OK) {
        weights_close(&weights);
        return cli_fail(cli, &error);
    }
    hash_hex(hex, &hash);
    summarise(&summary, weights);
    /* Sizes that no configuration tells from shapes alone are left out. */
    if (summary.known &&
        describe_config(&config, weights, summary.component, NULL, &ignored) != ERR_OK)
        buffer_close(&config);
    if (json)
        put_json(&text, cli, &summary, hex, &config);
    else
        put_text(&text, &summary, hex, &config);
    buffer_close(&config);
    weights_close(&weights);
    return cli_put(cli, &text);
}

/* -- a folder --------------------------------------------------------------------------------- */

static const char *const components[] = {
    "text_encoder", "image_encoder", "transformer", "transformer_2", "keyframe", "window", "vae"};

#define COMPONENTS (sizeof components / sizeof *components)

/* The tokenizer's file, in the folder. */
static const char *tokenizer_path(char path[FILE_PATH_BYTES], const char *folder,
                                  const char *name) {
    (void)snprintf(path, FILE_PATH_BYTES, "%.2048s/%s/%s", folder, component_tokenizer(folder),
                   name);
    return path;
}

static bool has_tokenizer_json(const char *folder) {
    char path[FILE_PATH_BYTES];
    return access(tokenizer_path(path, folder, "tokenizer.json"), F_OK) == 0;
}

void inspect_put_components(struct buffer *out, const char *folder, int pieces) {
    buffer_printf(out, "\n%-14s %-12s %-10s %s\n", "component", "format", "layout",
                  "tensors, model");
    for (size_t i = 0; i < COMPONENTS; i++) {
        struct weights *weights;
        struct summary s;
        struct error ignored;
        if (component_open(&weights, folder, components[i], &ignored) != ERR_OK)
            continue;
        summarise(&s, weights);
        buffer_printf(out, "%-14s %-12s %-10s %s%s%s\n", components[i],
                      weights_format_name(weights_format(weights)), s.layout, s.types,
                      s.model != NULL ? "; " : "", s.model != NULL ? s.model : "");
        weights_close(&weights);
    }
    if (pieces > 0)
        buffer_printf(out, "%-14s %-12s %-10s %d pieces\n", "tokenizer",
                      has_tokenizer_json(folder) ? "json" : "spiece", "-", pieces);
}

void inspect_put_components_json(struct json_writer *writer, const char *folder, int pieces) {
    json_begin_array(writer, "components");
    for (size_t i = 0; i < COMPONENTS; i++) {
        struct weights *weights;
        struct summary s;
        struct error ignored;
        if (component_open(&weights, folder, components[i], &ignored) != ERR_OK)
            continue;
        summarise(&s, weights);
        json_begin_object(writer, NULL);
        json_put_text(writer, "component", components[i]);
        put_summary_json(writer, &s);
        json_end_object(writer);
        weights_close(&weights);
    }
    json_end_array(writer);
    if (pieces == 0)
        return;
    char path[FILE_PATH_BYTES];
    json_begin_object(writer, "tokenizer");
    json_put_text(writer, "file",
                  tokenizer_path(path, folder,
                                 has_tokenizer_json(folder) ? "tokenizer.json" : "spiece.model"));
    json_put_int(writer, "pieces", pieces);
    json_end_object(writer);
}
