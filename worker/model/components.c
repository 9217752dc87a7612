#include "worker/model/components.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/model/weights_internal.h"

#define STEM   "diffusion_pytorch_model"
#define DIGITS "[0-9][0-9][0-9][0-9][0-9]"
#define SHARD  "-" DIGITS "-of-"

/* Where a component may be, the likeliest first. A name without '*' stands for the file, or for its
 * index where it ends in ".safetensors". */
struct place {
    const char *component, *folder, *name;
};

static const struct place places[] = {
    {"text_encoder", "text_encoder", "model.safetensors"},
    {"text_encoder", ".", "models_t5_umt5-xxl-enc-bf16.pth"},
    {"text_encoder", "text_encoder", "*"},
    {"text_encoder", "text_encoders", "*"},
    {"text_encoder", ".", "*umt5*"},
    {"image_encoder", "image_encoder", "model.safetensors"},
    {"image_encoder", ".", "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"},
    {"image_encoder", ".", "models_clip_*"},
    {"image_encoder", "image_encoder", "*"},
    {"image_encoder", "clip_vision", "*"},
    {"image_encoder", ".", "*clip_vision*"},
    {"vae", "vae", STEM ".safetensors"},
    {"vae", ".", "Wan2.1_VAE.pth"},
    {"vae", ".", "Wan2.2_VAE.pth"},
    {"vae", "vae", "*"},
    {"vae", ".", "*vae*"},
    {"transformer", "transformer", STEM ".safetensors"},
    {"transformer", "transformer", "*"},
    {"transformer", ".", STEM ".safetensors"},
    {"transformer", "high_noise_model", STEM ".safetensors"},
    {"transformer", "diffusion_models", "*high_noise*"},
    {"transformer", "unet", "*high_noise*"},
    {"transformer", ".", "*high_noise*"},
    {"transformer", "diffusion_models", "*"},
    {"transformer", "unet", "*"},
    {"transformer", ".", "*"},
    {"transformer_2", "transformer_2", STEM ".safetensors"},
    {"transformer_2", "transformer_2", "*"},
    {"transformer_2", "low_noise_model", STEM ".safetensors"},
    {"transformer_2", "diffusion_models", "*low_noise*"},
    {"transformer_2", "unet", "*low_noise*"},
    {"transformer_2", ".", "*low_noise*"},
};

#define PLACES (sizeof places / sizeof *places)

/* What a repackaged checkpoint puts before the names of a component, the longest first. */
static const struct {
    const char *component;
    const char *prefix[4];
} prefixes[] = {
    {"transformer", {"model.diffusion_model.", "diffusion_model.", "model."}},
    {"transformer_2", {"model.diffusion_model.", "diffusion_model.", "model."}},
    {"vae", {"first_stage_model.", "vae."}},
    {"text_encoder", {"text_encoders.umt5xxl.transformer.", "umt5xxl.transformer."}},
    {"image_encoder", {"clip_vision."}},
};

static const char *const *prefixes_of(const char *component) {
    static const char *const none[] = {NULL};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strcmp(prefixes[i].component, component) == 0)
            return prefixes[i].prefix;
    return none;
}

/* -- files ----------------------------------------------------------------------------------- */

static bool matches(const char *name, const char *pattern) {
    return fnmatch(pattern, name, FNM_CASEFOLD | FNM_PERIOD) == 0;
}

static bool is_weight_file(const char *name) {
    return matches(name, "*.safetensors") || matches(name, "*.safetensors.index.json") ||
           matches(name, "*.gguf") || matches(name, "*.pth") || matches(name, "*.pt");
}

static bool is_shard(const char *name) {
    return matches(name, "*" SHARD "*");
}

/* In the folder itself a file is a transformer when it is nothing else. */
static bool is_of_another(const char *name, const struct place *place) {
    if (matches(name, "*lora*"))
        return true;
    if (strcmp(place->name, "*") != 0 || strcmp(place->component, "transformer") != 0)
        return false;
    return matches(name, "*umt5*") || matches(name, "*clip*") || matches(name, "*vae*") ||
           matches(name, "models_t5*") || matches(name, "*low_noise*");
}

/* The file of a plain name, or its index; *count says how many of the two there are. */
static bool find_plain(char out[FILE_PATH_BYTES], char index[FILE_PATH_BYTES], int *count,
                       const char *folder, const struct place *place) {
    char name[160], inner[FILE_PATH_BYTES];
    *count = 0;
    (void)snprintf(name, sizeof name, "%s.index.json", place->name);
    if (file_join(inner, folder, place->folder, NULL) != ERR_OK ||
        file_join(out, inner, place->name, NULL) != ERR_OK ||
        file_join(index, inner, name, NULL) != ERR_OK)
        return false;
    bool whole = access(out, F_OK) == 0;
    bool sharded = matches(place->name, "*.safetensors") && access(index, F_OK) == 0;
    if (!whole && sharded)
        memcpy(out, index, FILE_PATH_BYTES);
    *count = whole + sharded;
    return whole || sharded;
}

/* The one file of a pattern; *count says how many there are. `out` and `second` are the first two
 * in order of names. */
static bool find_pattern(char out[FILE_PATH_BYTES], char second[FILE_PATH_BYTES], int *count,
                         const char *folder, const struct place *place) {
    char inner[FILE_PATH_BYTES];
    struct dirent **entries;
    *count = 0;
    if (file_join(inner, folder, place->folder, NULL) != ERR_OK)
        return false;
    int total = scandir(inner, &entries, NULL, alphasort);
    for (int i = 0; i < total; i++) {
        const char *name = entries[i]->d_name;
        bool found = is_weight_file(name) && !is_shard(name) && /* that is found by its index */
                     matches(name, place->name) && !is_of_another(name, place);
        if (found && file_join(*count == 0 ? out : second, inner, name, NULL) == ERR_OK)
            (*count)++;
        free(entries[i]);
    }
    if (total >= 0)
        free(entries);
    return *count > 0;
}

/* ERR_MISSING without a text when there is none. */
static enum error_code find_file(char out[FILE_PATH_BYTES], const char *folder,
                                 const char *component, struct error *error) {
    char second[FILE_PATH_BYTES];
    for (size_t i = 0; i < PLACES; i++) {
        int count = 1;
        if (strcmp(places[i].component, component) != 0)
            continue;
        if (strchr(places[i].name, '*') == NULL) {
            if (find_plain(out, second, &count, folder, &places[i]))
                return count > 1 ? weights_both(error, out, second) : ERR_OK;
        } else if (find_pattern(out, second, &count, folder, &places[i])) {
            if (count > 1)
                return error_set(error, ERR_USAGE,
                                 "%s: both %s and %s may be the %s: leave one there", folder, out,
                                 second, component);
            return ERR_OK;
        }
    }
    return ERR_MISSING;
}

/* How many shards lie in a place; `first` is the first of them. */
static int count_shards(char first[FILE_PATH_BYTES], const char *folder,
                        const struct place *place) {
    char inner[FILE_PATH_BYTES], pattern[192];
    struct dirent **entries;
    const char *end = strstr(place->name, ".safetensors");
    int count = 0, stem = (int)(end != NULL ? (size_t)(end - place->name) : strlen(place->name));
    if ((end == NULL && strchr(place->name, '*') == NULL) ||
        file_join(inner, folder, place->folder, NULL) != ERR_OK)
        return 0;
    (void)snprintf(pattern, sizeof pattern, "%.*s" SHARD DIGITS ".safetensors", stem, place->name);
    int total = scandir(inner, &entries, NULL, alphasort);
    for (int i = 0; i < total; i++) {
        const char *name = entries[i]->d_name;
        if (matches(name, pattern) && !is_of_another(name, place) &&
            (count > 0 || file_join(first, inner, name, NULL) == ERR_OK))
            count++;
        free(entries[i]);
    }
    if (total >= 0)
        free(entries);
    return count;
}

/* What a download that was cut short leaves. */
static enum error_code shards_alone(const char *folder, const char *component, const char *first,
                                    int count, struct error *error) {
    const char *end = first + strlen(first), *of = end - strlen("00001.safetensors");
    const char *stem = end - strlen("-00001-of-00001.safetensors");
    return error_set(error, ERR_MISSING,
                     "%s has no %s that can be used: there are %d of %ld shards, but "
                     "%.*s.safetensors.index.json, which says what is in them, is missing: the "
                     "download is not complete, go on with it",
                     folder, component, count, strtol(of, NULL, 10), (int)(stem - first), first);
}

enum error_code component_missing(const char *folder, const char *component, struct error *error) {
    char shard[FILE_PATH_BYTES];
    for (size_t i = 0; i < PLACES; i++) {
        bool here = strcmp(places[i].component, component) == 0;
        int count = here ? count_shards(shard, folder, &places[i]) : 0;
        if (count > 0)
            return shards_alone(folder, component, shard, count, error);
    }
    char looked[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < PLACES && used < sizeof looked; i++)
        if (strcmp(places[i].component, component) == 0)
            used += (size_t)snprintf(looked + used, sizeof looked - used, "%s%s%s%s",
                                     used == 0 ? "" : ", ",
                                     strcmp(places[i].folder, ".") == 0 ? "" : places[i].folder,
                                     strcmp(places[i].folder, ".") == 0 ? "" : "/", places[i].name);
    return error_set(
        error, ERR_MISSING,
        "%s has no %s; looked for %s, '*' with an end of .safetensors, .safetensors.index.json, "
        ".gguf, .pth or .pt",
        folder, component, looked);
}

static bool is_listed(const char *component) {
    for (size_t i = 0; i < PLACES; i++)
        if (strcmp(places[i].component, component) == 0)
            return true;
    return false;
}

/* -- names ----------------------------------------------------------------------------------- */

/* llama.cpp's parts of umT5's names. */
static const struct {
    const char *llama, *original;
} llama_rows[] = {
    {"token_embd", "token_embedding"},
    {"enc.output_norm", "norm"},
    {"enc.blk", "blocks"},
    {"attn_rel_b", "pos_embedding.embedding"},
    {"attn_norm", "norm1"},
    {"ffn_norm", "norm2"},
    {"attn_q", "attn.q"},
    {"attn_k", "attn.k"},
    {"attn_v", "attn.v"},
    {"attn_o", "attn.o"},
    {"ffn_gate", "ffn.gate.0"},
    {"ffn_up", "ffn.fc1"},
    {"ffn_down", "ffn.fc2"},
};

static void from_llama(char out[WEIGHTS_NAME_MAX + 1], const char *name) {
    size_t used = 0;
    while (*name != 0 && used < WEIGHTS_NAME_MAX) {
        size_t taken = strcspn(name, "."), length = taken;
        const char *text = name;
        for (size_t i = 0; i < sizeof llama_rows / sizeof *llama_rows; i++) {
            size_t bytes = strlen(llama_rows[i].llama);
            if (strncmp(name, llama_rows[i].llama, bytes) == 0 &&
                strchr(".", name[bytes]) != NULL) {
                taken = bytes;
                text = llama_rows[i].original;
                length = strlen(text);
                break;
            }
        }
        used += (size_t)snprintf(out + used, WEIGHTS_NAME_MAX + 1 - used, "%.*s%s", (int)length,
                                 text, name[taken] == '.' ? "." : "");
        name += taken + (name[taken] == '.');
    }
}

static enum error_code translate_llama(struct weights *weights, struct error *error) {
    for (size_t i = 0; i < weights->count; i++) {
        char name[WEIGHTS_NAME_MAX + 1] = "";
        from_llama(name, weights->entry[i].name);
        weights->entry[i].name = arena_strdup(&weights->arena, name, strlen(name));
        if (weights->entry[i].name == NULL)
            return error_set(error, ERR_LIMIT, "%s: too many tensors", weights->path);
    }
    return weights_sort(weights, error);
}

/* Newer files of CLIP leave the prefix out. */
static enum error_code name_vision(struct weights *weights, struct error *error) {
    char name[WEIGHTS_NAME_MAX + 32];
    for (size_t i = 0; i < weights->count; i++) {
        (void)snprintf(name, sizeof name, "vision_model.%s", weights->entry[i].name);
        weights->entry[i].name = arena_strdup(&weights->arena, name, strlen(name));
        if (weights->entry[i].name == NULL)
            return error_set(error, ERR_LIMIT, "%s: too many tensors", weights->path);
    }
    return weights_sort(weights, error);
}

/* A convolution's weights of four dimensions, the first two in one, as stable-diffusion.cpp keeps
 * them in GGUF files: five again. */
static void unfold_patch(struct weights *weights) {
    const struct weights_entry *found = weights_entry_find(weights, "patch_embedding.weight");
    const struct tensor *bias = weights_find(weights, "patch_embedding.bias");
    if (found == NULL || bias == NULL || bias->rank != 1 || bias->dim[0] == 0)
        return;
    struct tensor *tensor = &weights->entry[found - weights->entry].tensor;
    if (tensor->rank != 4 || tensor->dim[0] % bias->dim[0] != 0)
        return;
    for (int i = 4; i > 1; i--)
        tensor->dim[i] = tensor->dim[i - 1];
    tensor->dim[1] = tensor->dim[0] / bias->dim[0];
    tensor->dim[0] = bias->dim[0];
    tensor->rank = 5;
}

/* -- the door -------------------------------------------------------------------------------- */

bool component_is_there(const char *folder, const char *component) {
    char path[FILE_PATH_BYTES];
    return find_file(path, folder, component, NULL) != ERR_MISSING;
}

bool component_find(char out[FILE_PATH_BYTES], const char *folder, const char *component) {
    if (strcmp(component, ".") == 0)
        component = "transformer";
    if (is_listed(component))
        return find_file(out, folder, component, NULL) == ERR_OK;
    char index[FILE_PATH_BYTES];
    int count;
    const struct place plain = {component, component, STEM ".safetensors"};
    return find_plain(out, index, &count, folder, &plain) && count == 1;
}

/* A component that has no file of its own may be in the transformer's, under its prefix. */
static enum error_code open_part(struct weights **out, const char *folder, const char *component,
                                 struct error *error) {
    char path[FILE_PATH_BYTES];
    if (strcmp(component, "transformer_2") == 0 ||
        find_file(path, folder, "transformer", error) != ERR_OK)
        return component_missing(folder, component, error);
    enum error_code code = weights_open(out, path, error);
    if (code == ERR_OK && weights_select(*out, prefixes_of(component)) == NULL) {
        weights_close(out);
        code = component_missing(folder, component, error);
    }
    return code;
}

/* Names as one of the two layouts has them. */
static enum error_code normalise(struct weights *weights, const char *const *prefix,
                                 struct error *error) {
    (void)weights_select(weights, prefix);
    unfold_patch(weights);
    if (weights_find(weights, "token_embd.weight") != NULL)
        return translate_llama(weights, error);
    return weights_find(weights, "embeddings.class_embedding") != NULL ? name_vision(weights, error)
                                                                       : ERR_OK;
}

enum error_code component_open(struct weights **out, const char *folder, const char *component,
                               struct error *error) {
    char path[FILE_PATH_BYTES];
    *out = NULL;
    if (strcmp(component, ".") == 0) /* the original layout's, beside its config.json */
        component = "transformer";
    if (!is_listed(component)) {
        enum error_code code = file_join(path, folder, component, error);
        return code == ERR_OK ? weights_open_folder(out, path, STEM, error) : code;
    }
    enum error_code code = find_file(path, folder, component, error);
    if (code == ERR_MISSING)
        return open_part(out, folder, component, error);
    if (code == ERR_OK)
        code = weights_open(out, path, error);
    if (code == ERR_OK)
        code = normalise(*out, prefixes_of(component), error);
    if (code != ERR_OK)
        weights_close(out);
    return code;
}

enum error_code component_open_file(struct weights **out, const char *path, struct error *error) {
    enum error_code code = weights_open(out, path, error);
    if (code == ERR_OK)
        code = normalise(*out, prefixes_of("transformer"), error);
    if (code != ERR_OK)
        weights_close(out);
    return code;
}

const char *component_tokenizer(const char *folder) {
    static const char *const names[] = {"tokenizer", "google/umt5-xxl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[FILE_PATH_BYTES];
        if (file_join(path, folder, names[i], NULL) == ERR_OK && access(path, F_OK) == 0)
            return names[i];
    }
    return names[0];
}
