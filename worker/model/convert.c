#include "worker/model/convert.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/json.h"
#include "worker/model/clip.h"
#include "worker/model/components.h"
#include "worker/model/config.h"
#include "worker/model/convert_items.h"
#include "worker/model/describe.h"

#define SHARD_BYTES   INT64_C(10000000000)
#define ITEMS_ARENA   ((size_t)1 << 30)  /* address space */
#define COPY_MAX      ((size_t)64 << 20) /* bytes of a small file */
#define STEM          "diffusion_pytorch_model"
#define ORIGINAL_TEXT "models_t5_umt5-xxl-enc-bf16"
#define ORIGINAL_CLIP "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
#define ORIGINAL_VAE  "Wan2.1_VAE"
#define ORIGINAL_VAE2 "Wan2.2_VAE"
#define LENGTH_STEM   64

const char *const convert_pth_names[] = {ORIGINAL_TEXT, ORIGINAL_CLIP, ORIGINAL_VAE, ORIGINAL_VAE2,
                                         NULL};

/* -- one component's files ------------------------------------------------------------------- */

/* Items [first, first+count) that go into one shard. */
static size_t shard_of(const struct safetensors_item *item, size_t first, size_t count,
                       int64_t limit) {
    int64_t bytes = 0;
    size_t taken = 0;
    while (first + taken < count) {
        int64_t next = (int64_t)tensor_bytes(&item[first + taken].shape);
        if (taken > 0 && bytes + next > limit)
            break;
        bytes += next;
        taken++;
    }
    return taken;
}

static enum error_code write_shard(const char *folder, const char *name,
                                   const struct safetensors_item *item, size_t count,
                                   const struct convert_options *options, struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t bytes = 0;
    enum error_code code = file_join(path, folder, name, error);
    for (size_t i = 0; i < count; i++)
        bytes += (int64_t)tensor_bytes(&item[i].shape);
    if (code == ERR_OK && options->progress != NULL)
        options->progress(options->user, path, bytes);
    return code == ERR_OK ? safetensors_stream(path, item, count, error) : code;
}

static enum error_code write_text(const char *folder, const char *name, const struct buffer *text,
                                  struct error *error) {
    char path[FILE_PATH_BYTES];
    if (text->failed)
        return error_set(error, ERR_MEMORY, "%s: no memory for %s", folder, name);
    enum error_code code = file_join(path, folder, name, error);
    return code == ERR_OK ? file_write(path, text->data, text->length, false, error) : code;
}

/* STEM.safetensors, or shards of at most `limit` bytes and their index. */
static enum error_code write_items(const char *folder, const char *stem,
                                   const struct safetensors_item *item, size_t count,
                                   const struct convert_options *options, struct error *error) {
    int64_t limit = options->shard_bytes > 0 ? options->shard_bytes : SHARD_BYTES, total = 0;
    size_t shards = 0, number = 0;
    char name[LENGTH_STEM + 64];
    for (size_t i = 0; i < count; i += shard_of(item, i, count, limit))
        shards++;
    struct buffer index = {0};
    struct json_writer writer = {.buffer = &index};
    enum error_code code = ERR_OK;
    json_begin_object(&writer, NULL);
    json_begin_object(&writer, "weight_map");
    for (size_t i = 0, taken; i < count && code == ERR_OK; i += taken) {
        taken = shard_of(item, i, count, limit);
        if (shards == 1)
            (void)snprintf(name, sizeof name, "%s.safetensors", stem);
        else
            (void)snprintf(name, sizeof name, "%s-%05zu-of-%05zu.safetensors", stem, ++number,
                           shards);
        code = write_shard(folder, name, item + i, taken, options, error);
        for (size_t k = i; k < i + taken; k++) {
            json_put_text(&writer, item[k].name, name);
            total += (int64_t)tensor_bytes(&item[k].shape);
        }
    }
    json_end_object(&writer);
    json_begin_object(&writer, "metadata");
    json_put_int(&writer, "total_size", total);
    json_end_object(&writer);
    json_end_object(&writer);
    (void)snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    if (code == ERR_OK && shards > 1)
        code = write_text(folder, name, &index, error);
    buffer_close(&index);
    return code;
}

static enum error_code write_weights(const char *folder, const char *stem,
                                     const struct weights *weights, enum names_component component,
                                     const struct convert_options *options, struct error *error) {
    struct arena arena;
    struct safetensors_item *item;
    size_t count;
    enum error_code code = arena_open(&arena, ITEMS_ARENA, error);
    if (code != ERR_OK)
        return code;
    code = convert_items(&item, &count, &arena, weights, component, options, error);
    if (code == ERR_OK)
        code = file_make_folders(folder, error);
    if (code == ERR_OK)
        code = write_items(folder, stem, item, count, options, error);
    arena_close(&arena);
    return code;
}

/* -- configurations -------------------------------------------------------------------------- */

/* boundary: of two experts, which the layout leaves to its code; 0: there is one. */
static void put_original_config(struct buffer *out, const struct transformer_config *config,
                                const char *type, float boundary) {
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "_class_name", "WanModel");
    json_put_text(&writer, "model_type", type);
    json_put_int(&writer, "dim", config->width);
    json_put_int(&writer, "ffn_dim", config->ffn);
    json_put_int(&writer, "freq_dim", config->frequencies);
    json_put_int(&writer, "text_dim", config->text_width);
    json_put_int(&writer, "text_len", 512);
    json_put_int(&writer, "in_dim", config->in_channels);
    json_put_int(&writer, "out_dim", config->out_channels);
    json_put_int(&writer, "num_heads", config->heads);
    json_put_int(&writer, "num_layers", config->layers);
    json_put_float(&writer, "eps", config->eps);
    if (boundary > 0)
        json_put_float(&writer, "boundary_ratio", boundary);
    json_end_object(&writer);
}

static void put_class(struct json_writer *writer, const char *key, const char *library,
                      const char *class) {
    json_begin_array(writer, key);
    json_put_text(writer, NULL, class == NULL ? NULL : library);
    json_put_text(writer, NULL, class);
    json_end_array(writer);
}

static void put_model_index(struct buffer *out, const struct model_config *config) {
    const struct denoiser_config *denoiser =
        config->window.experts > 0 ? &config->window : &config->keyframe;
    struct json_writer writer = {.buffer = out};
    bool two = denoiser->experts > 1, image = config->keyframe.experts == 0;
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "_class_name", image ? "WanImageToVideoPipeline" : "WanPipeline");
    json_put_text(&writer, "_diffusers_version", "0.35.0");
    if (two)
        json_put_float(&writer, "boundary_ratio", denoiser->boundary);
    if (config->condition == WINDOW_PREFIX)
        json_put_bool(&writer, "expand_timesteps", true);
    put_class(&writer, "scheduler", "diffusers", "UniPCMultistepScheduler");
    put_class(&writer, "text_encoder", "transformers", "UMT5EncoderModel");
    put_class(&writer, "tokenizer", "transformers", "T5TokenizerFast");
    put_class(&writer, "transformer", "diffusers", "WanTransformer3DModel");
    put_class(&writer, "transformer_2", "diffusers", two ? "WanTransformer3DModel" : NULL);
    put_class(&writer, "vae", "diffusers", "AutoencoderKLWan");
    if (image) {
        const char *encoder = config->image_encoder ? "CLIPVisionModel" : NULL;
        put_class(&writer, "image_encoder", "transformers", encoder);
        put_class(&writer, "image_processor", "transformers",
                  encoder == NULL ? NULL : "CLIPImageProcessor");
    }
    json_end_object(&writer);
}

/* One shift is for one size: that at the size the model is made for. */
static void put_scheduler(struct buffer *out, const struct scheduler_config *config) {
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "_class_name", "UniPCMultistepScheduler");
    json_put_int(&writer, "num_train_timesteps", 1000);
    json_put_int(&writer, "solver_order", 2);
    json_put_text(&writer, "solver_type", "bh2");
    json_put_bool(&writer, "predict_x0", true);
    json_put_text(&writer, "prediction_type", "flow_prediction");
    json_put_bool(&writer, "use_flow_sigmas", true);
    json_put_float(&writer, "flow_shift",
                   config->shift_small > 0 ? config->shift_small : config->shift);
    json_end_object(&writer);
}

/* What clip_encode does with a picture, as CLIPImageProcessor is told it. */
static void put_preprocessor(struct buffer *out, int side) {
    static const char *const steps[] = {"do_convert_rgb", "do_resize", "do_center_crop",
                                        "do_rescale", "do_normalize"};
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "image_processor_type", "CLIPImageProcessor");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        json_put_bool(&writer, steps[i], true);
    json_put_int(&writer, "resample", 3); /* Pillow's bicubic */
    json_put_double(&writer, "rescale_factor", 1.0 / 255);
    json_begin_object(&writer, "size");
    json_put_int(&writer, "shortest_edge", side);
    json_end_object(&writer);
    json_begin_object(&writer, "crop_size");
    json_put_int(&writer, "height", side);
    json_put_int(&writer, "width", side);
    json_end_object(&writer);
    const float *const lists[] = {clip_pixel_mean, clip_pixel_deviation};
    for (int i = 0; i < 2; i++) {
        json_begin_array(&writer, i == 0 ? "image_mean" : "image_std");
        for (int c = 0; c < 3; c++)
            json_put_double(&writer, NULL, (double)lists[i][c]);
        json_end_array(&writer);
    }
    json_end_object(&writer);
}

/* -- a folder -------------------------------------------------------------------------------- */

struct conversion {
    const char *in, *out; /* `out` is the folder that is renamed at the end */
    const struct convert_options *options;
    struct model_config config;
    struct error *error;
};

static bool is_there(const struct conversion *c, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, c->in, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

/* A small file of `in`, if it is there. */
static enum error_code copy_file(const struct conversion *c, const char *from, const char *to) {
    char source[FILE_PATH_BYTES], target[FILE_PATH_BYTES], *bytes;
    struct arena arena;
    size_t length;
    enum error_code code = file_join(source, c->in, from, c->error);
    if (code == ERR_OK)
        code = file_join(target, c->out, to, c->error);
    if (code != ERR_OK || access(source, F_OK) != 0)
        return code;
    code = arena_open(&arena, COPY_MAX + ARENA_ALIGN, c->error);
    if (code != ERR_OK)
        return code;
    code = file_read(&bytes, &length, &arena, source, COPY_MAX - 1, c->error);
    if (code == ERR_OK) {
        char *slash = strrchr(target, '/');
        *slash = 0;
        code = file_make_folders(target, c->error);
        *slash = '/';
    }
    if (code == ERR_OK)
        code = file_write(target, bytes, length, false, c->error);
    arena_close(&arena);
    return code;
}

/* The regular files of a folder of small files. */
static enum error_code copy_folder(const struct conversion *c, const char *from, const char *to) {
    char source[FILE_PATH_BYTES], a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    struct dirent **entries;
    enum error_code code = file_join(source, c->in, from, c->error);
    int total = code == ERR_OK ? scandir(source, &entries, NULL, alphasort) : -1;
    for (int i = 0; i < total; i++) {
        const char *name = entries[i]->d_name;
        if (name[0] != '.' && code == ERR_OK)
            code = file_join(a, from, name, c->error);
        if (name[0] != '.' && code == ERR_OK)
            code = file_join(b, to, name, c->error);
        if (name[0] != '.' && code == ERR_OK)
            code = copy_file(c, a, b);
        free(entries[i]);
    }
    if (total >= 0)
        free(entries);
    return code;
}

/* out/folder/name. */
static enum error_code write_in(const struct conversion *c, const char *folder, const char *name,
                                struct buffer *text) {
    char path[FILE_PATH_BYTES];
    enum error_code code = file_join(path, c->out, folder, c->error);
    if (code == ERR_OK)
        code = file_make_folders(path, c->error);
    return code == ERR_OK ? write_text(path, name, text, c->error) : code;
}

/* The transformer in `from` of `in`, to `to` of `out`. */
static enum error_code convert_transformer(const struct conversion *c, const char *from,
                                           const char *to) {
    char source[FILE_PATH_BYTES], target[FILE_PATH_BYTES];
    struct weights *weights = NULL;
    struct transformer_config config;
    struct buffer text = {0};
    bool diffusers = c->options->layout == CONVERT_DIFFUSERS;
    enum error_code code = file_join(source, c->in, from, c->error);
    if (code == ERR_OK)
        code = file_join(target, c->out, to, c->error);
    if (code == ERR_OK)
        code = component_open(&weights, c->in, from, c->error);
    if (code == ERR_OK)
        code = config_read_transformer(&config, source, weights, c->error);
    if (code == ERR_OK)
        code = write_weights(target, STEM, weights, NAMES_TRANSFORMER, c->options, c->error);
    const char *type = code == ERR_OK ? describe_transformer(weights) : NULL;
    const struct denoiser_config *window = &c->config.window;
    if (code == ERR_OK && diffusers)
        code = describe_config(&text, weights, NAMES_TRANSFORMER, &config, c->error);
    else if (code == ERR_OK)
        put_original_config(&text, &config, type == NULL ? "t2v" : type,
                            window->experts > 1 ? window->boundary : 0);
    if (code == ERR_OK)
        code = write_text(target, "config.json", &text, c->error);
    buffer_close(&text);
    weights_close(&weights);
    return code;
}

/* What `in` says of the component goes along, into the original layout too: the statistics of
 * latents are nowhere else. The diffusers layout needs one in any case. */
static enum error_code write_config(const struct conversion *c, const char *name,
                                    const struct weights *weights, enum names_component component) {
    char config[64];
    struct buffer text = {0};
    (void)snprintf(config, sizeof config, "%s/config.json", name);
    if (is_there(c, config))
        return copy_file(c, config, config);
    if (c->options->layout == CONVERT_ORIGINAL)
        return ERR_OK;
    enum error_code code = describe_config(&text, weights, component, NULL, c->error);
    if (code == ERR_OK)
        code = write_in(c, name, "config.json", &text);
    buffer_close(&text);
    return code;
}

/* One of the other components, if it is there. */
static enum error_code convert_component(const struct conversion *c, const char *name,
                                         const char *stem, const char *original) {
    char target[FILE_PATH_BYTES];
    struct weights *weights = NULL;
    enum names_component component;
    bool diffusers = c->options->layout == CONVERT_DIFFUSERS;
    if (!component_is_there(c->in, name))
        return ERR_OK;
    enum error_code code = component_open(&weights, c->in, name, c->error);
    if (code == ERR_OK && !describe_component(&component, weights))
        code = error_set(c->error, ERR_UNSUPPORTED, "%s: tensors of no known component",
                         weights_path(weights));
    if (code == ERR_OK && original == NULL)
        original = component == NAMES_VAE_RESIDUAL ? ORIGINAL_VAE2 : ORIGINAL_VAE;
    if (code == ERR_OK)
        code = file_join(target, c->out, diffusers ? name : ".", c->error);
    if (code == ERR_OK)
        code = write_weights(target, diffusers ? stem : original, weights, component, c->options,
                             c->error);
    if (code == ERR_OK)
        code = write_config(c, name, weights, component);
    weights_close(&weights);
    return code;
}

/* Diffusers reads no picture without it. */
static enum error_code write_preprocessor(const struct conversion *c) {
    char folder[FILE_PATH_BYTES];
    struct clip_config clip;
    struct weights *weights;
    struct buffer text = {0};
    enum error_code code = component_open(&weights, c->in, "image_encoder", c->error);
    if (code != ERR_OK)
        return code;
    code = file_join(folder, c->in, "image_encoder", c->error);
    if (code == ERR_OK)
        code = config_read_clip(&clip, folder, weights, c->error);
    weights_close(&weights);
    if (code != ERR_OK)
        return code;
    put_preprocessor(&text, clip.image_size);
    code = write_in(c, "image_processor", "preprocessor_config.json", &text);
    buffer_close(&text);
    return code;
}

/* Copied where it is, into the original layout too, whose own code has only one schedule a model.
 */
static enum error_code write_scheduler(const struct conversion *c) {
    struct buffer text = {0};
    if (is_there(c, "scheduler/scheduler_config.json"))
        return copy_folder(c, "scheduler", "scheduler");
    if (c->options->layout == CONVERT_ORIGINAL)
        return ERR_OK;
    put_scheduler(&text, &c->config.scheduler);
    enum error_code code = write_in(c, "scheduler", "scheduler_config.json", &text);
    buffer_close(&text);
    return code;
}

/* model_index.json and what goes with it: copied where they are, else written. */
static enum error_code write_pipeline(const struct conversion *c) {
    struct buffer index = {0};
    if (is_there(c, "model_index.json")) {
        enum error_code code = copy_file(c, "model_index.json", "model_index.json");
        return code == ERR_OK ? copy_folder(c, "image_processor", "image_processor") : code;
    }
    put_model_index(&index, &c->config);
    enum error_code code = write_text(c->out, "model_index.json", &index, c->error);
    if (code == ERR_OK && c->config.image_encoder)
        code = write_preprocessor(c);
    buffer_close(&index);
    return code;
}

/* Where a transformer goes: the pocket family's folders keep their names. */
static const char *target_of(const struct conversion *c, const struct denoiser_config *denoiser,
                             int expert) {
    static const char *const names[2][2] = {{"transformer", "transformer_2"},
                                            {"high_noise_model", "low_noise_model"}};
    const char *from = denoiser->folder[expert];
    bool original = c->options->layout == CONVERT_ORIGINAL;
    if (strcmp(from, "keyframe") == 0 || strcmp(from, "window") == 0)
        return from;
    return original && denoiser->experts == 1 ? "." : names[original][expert];
}

static enum error_code convert_all(const struct conversion *c) {
    const struct denoiser_config *denoisers[] = {&c->config.keyframe, &c->config.window};
    bool same = strcmp(denoisers[0]->folder[0], denoisers[1]->folder[0]) == 0;
    bool original = c->options->layout == CONVERT_ORIGINAL;
    enum error_code code = ERR_OK;
    if (original && c->config.condition == WINDOW_LATENT_ZEROS)
        return error_set(c->error, ERR_UNSUPPORTED,
                         "%s is of the %s family, which has only the diffusers layout", c->in,
                         c->config.family);
    for (int d = 0; d < (same ? 1 : 2); d++)
        for (int i = 0; i < CONFIG_EXPERTS_MAX && i < denoisers[d]->experts && code == ERR_OK; i++)
            code = convert_transformer(c, denoisers[d]->folder[i], target_of(c, denoisers[d], i));
    if (code == ERR_OK)
        code = convert_component(c, "text_encoder", "model", ORIGINAL_TEXT);
    if (code == ERR_OK)
        code = convert_component(c, "image_encoder", "model", ORIGINAL_CLIP);
    if (code == ERR_OK)
        code = convert_component(c, "vae", STEM, NULL);
    if (code == ERR_OK)
        code =
            copy_folder(c, component_tokenizer(c->in), original ? "google/umt5-xxl" : "tokenizer");
    if (code == ERR_OK)
        code = write_scheduler(c);
    return code == ERR_OK && !original ? write_pipeline(c) : code;
}

/* -- whole or not at all --------------------------------------------------------------------- */

static enum error_code begin(char part[FILE_PATH_BYTES], const char *out, struct error *error) {
    if (access(out, F_OK) == 0)
        return error_set(error, ERR_USAGE, "%s is there already; remove it, or name another", out);
    if (snprintf(part, FILE_PATH_BYTES, "%s.part", out) >= FILE_PATH_BYTES)
        return error_set(error, ERR_LIMIT, "%s: too long a path", out);
    struct stat ignored;
    if (lstat(part, &ignored) == 0) /* not known to be ours */
        return error_set(error, ERR_USAGE,
                         "%s is there already, where the conversion is written until it is whole: "
                         "left by one that was cut off, or yours; remove it, or name another",
                         part);
    return ERR_OK;
}

static enum error_code end(const char *part, const char *out, enum error_code code,
                           struct error *error) {
    if (code == ERR_OK && rename(part, out) != 0)
        code = error_set_errno(error, errno, "%s: renaming it to %s", part, out);
    if (code == ERR_OK)
        return file_sync_parent(out, error);
    (void)!file_remove_tree(part, NULL);
    return code;
}

enum error_code convert_folder(const char *out, const char *in,
                               const struct convert_options *options, struct error *error) {
    char part[FILE_PATH_BYTES];
    struct conversion c = {.in = in, .out = part, .options = options, .error = error};
    enum error_code code = config_read_model(&c.config, in, error);
    if (code == ERR_OK)
        code = begin(part, out, error);
    if (code == ERR_OK)
        code = end(part, out, convert_all(&c), error);
    return code;
}

enum error_code convert_file(const char *out, const char *in, const struct convert_options *options,
                             struct error *error) {
    char part[FILE_PATH_BYTES];
    struct arena arena;
    struct weights *weights;
    struct safetensors_item *item;
    enum names_component component;
    size_t count;
    enum error_code code = component_open_file(&weights, in, error);
    if (code != ERR_OK)
        return code;
    if (!describe_component(&component, weights))
        code = error_set(error, ERR_UNSUPPORTED,
                         "%s: tensors of no known component: not a transformer, umT5, a VAE or "
                         "CLIP",
                         in);
    if (code == ERR_OK)
        code = begin(part, out, error);
    if (code == ERR_OK)
        code = arena_open(&arena, ITEMS_ARENA, error);
    if (code == ERR_OK) {
        code = convert_items(&item, &count, &arena, weights, component, options, error);
        if (code == ERR_OK)
            code = end(part, out, safetensors_stream(part, item, count, error), error);
        arena_close(&arena);
    }
    weights_close(&weights);
    return code;
}
