#include "worker/model/parts.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"

static bool is_there(const char *folder, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, folder, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

int parts_stages(const char *folder, const struct model_config *config) {
    int stages = 0;
    if (is_there(folder, "text_encoder"))
        stages |= STAGE_TEXT;
    if (config->keyframe[0] != 0)
        stages |= STAGE_KEYFRAME;
    if (config->window[0] != 0)
        stages |= STAGE_WINDOW;
    if (is_there(folder, "vae"))
        stages |= STAGE_VAE;
    return stages;
}

/* Path of a component, and its weights opened. */
static enum error_code open_file(struct parts *parts, enum part part, char path[FILE_PATH_BYTES],
                                 const char *folder, const char *name, struct error *error) {
    const char *stem = part == PART_TEXT ? "model" : "diffusion_pytorch_model";
    enum error_code code = file_join(path, folder, name, error);
    return code == ERR_OK ? weights_open_folder(&parts->file[part], path, stem, error) : code;
}

static enum error_code open_text(struct parts *parts, struct runtime *runtime, const char *folder,
                                 struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t elements = 0;
    enum error_code code = open_file(parts, PART_TEXT, path, folder, "text_encoder", error);
    if (code == ERR_OK)
        code = config_read_umt5(&parts->umt5_config, path, error);
    if (code == ERR_OK)
        code = umt5_open(&parts->umt5, runtime, parts->file[PART_TEXT], &parts->umt5_config,
                         &elements, error);
    parts->elements += elements;
    if (code != ERR_OK)
        return code;
    if (!is_there(folder, "tokenizer/tokenizer.json") &&
        !is_there(folder, "tokenizer/spiece.model"))
        return error_set(error, ERR_MISSING,
                         "%s/tokenizer has neither tokenizer.json nor spiece.model", folder);
    code = file_join(path, folder, "tokenizer", error);
    if (code != ERR_OK || runtime->params->measuring)
        return code;
    code = tokenizer_open_folder(&parts->tokenizer, path, error);
    if (code == ERR_UNSUPPORTED) /* a bare build: texts come as rows */
        code = tokenizer_pieces(NULL) == 0 ? ERR_OK : code;
    if (code == ERR_OK && parts->tokenizer != NULL &&
        tokenizer_pieces(parts->tokenizer) > parts->umt5_config.vocabulary)
        code = error_set(error, ERR_SHAPE, "%s has %d pieces, but the text encoder only %d rows",
                         path, tokenizer_pieces(parts->tokenizer), parts->umt5_config.vocabulary);
    return code;
}

static enum error_code open_transformer(struct parts *parts, enum part part,
                                        struct runtime *runtime, const char *folder,
                                        struct error *error) {
    char path[FILE_PATH_BYTES];
    bool window = part == PART_WINDOW;
    struct transformer_config *config = window ? &parts->window_config : &parts->keyframe_config;
    const char *name = window ? parts->config.window : parts->config.keyframe;
    int64_t elements = 0;
    enum error_code code = open_file(parts, part, path, folder, name, error);
    if (code == ERR_OK)
        code = config_read_transformer(config, path, error);
    int channels = window ? 2 * config->out_channels + 4 : config->out_channels;
    if (code == ERR_OK && config->in_channels != channels)
        code = error_set(error, ERR_UNSUPPORTED,
                         "%s: %d channels in and %d out; expected %d in for %s", path,
                         config->in_channels, config->out_channels, channels,
                         window ? "image-to-video (noise, mask, condition)" : "text-to-video");
    if (code == ERR_OK)
        code = transformer_open(window ? &parts->window : &parts->keyframe, runtime,
                                parts->file[part], config, &elements, error);
    parts->elements += elements;
    return code;
}

static enum error_code open_vae(struct parts *parts, struct runtime *runtime, const char *folder,
                                struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t elements = 0;
    enum error_code code = open_file(parts, PART_VAE, path, folder, "vae", error);
    if (code == ERR_OK)
        code = config_read_vae(&parts->vae_config, path, error);
    if (code == ERR_OK && parts->vae_config.space_stride != 8)
        code = error_set(error, ERR_UNSUPPORTED,
                         "%s: a VAE of stride %d; models of another than 8 are not supported yet",
                         path, parts->vae_config.space_stride);
    if (code == ERR_OK)
        code = vae_open(&parts->vae, runtime, parts->file[PART_VAE], &parts->vae_config, &elements,
                        error);
    parts->elements += elements;
    return code;
}

/* What was opened fits together. */
static enum error_code check_widths(const struct parts *parts, const char *folder,
                                    struct error *error) {
    const struct transformer_config *transformers[] = {
        parts->keyframe != NULL ? &parts->keyframe_config : NULL,
        parts->window != NULL ? &parts->window_config : NULL};
    for (int i = 0; i < 2; i++) {
        const struct transformer_config *config = transformers[i];
        if (config == NULL)
            continue;
        if (parts->umt5 != NULL && config->text_width != parts->umt5_config.width)
            return error_set(error, ERR_SHAPE,
                             "%s: the transformer reads texts of width %d, but the text encoder's "
                             "is %d",
                             folder, config->text_width, parts->umt5_config.width);
        if (parts->vae != NULL && config->out_channels != parts->vae_config.latent_channels)
            return error_set(error, ERR_SHAPE,
                             "%s: the transformer has latents of %d channels, but the VAE's have "
                             "%d",
                             folder, config->out_channels, parts->vae_config.latent_channels);
    }
    return ERR_OK;
}

enum error_code parts_open(struct parts *parts, struct runtime *runtime, const char *folder,
                           int stages, struct error *error) {
    memset(parts, 0, sizeof *parts);
    enum error_code code = config_read_model(&parts->config, folder, error);
    if (code != ERR_OK)
        return code;
    int there = parts_stages(folder, &parts->config);
    if (stages == -1)
        stages = there;
    if ((stages & ~there) != 0)
        return error_set(error, ERR_MISSING, "%s has no %s", folder,
                         (stages & ~there & STAGE_TEXT) != 0       ? "text_encoder"
                         : (stages & ~there & STAGE_KEYFRAME) != 0 ? "text-to-video transformer"
                         : (stages & ~there & STAGE_WINDOW) != 0   ? "image-to-video transformer"
                                                                   : "vae");
    parts->stages = stages;
    if ((stages & STAGE_TEXT) != 0)
        code = open_text(parts, runtime, folder, error);
    if (code == ERR_OK && (stages & STAGE_KEYFRAME) != 0)
        code = open_transformer(parts, PART_KEYFRAME, runtime, folder, error);
    if (code == ERR_OK && (stages & STAGE_WINDOW) != 0)
        code = open_transformer(parts, PART_WINDOW, runtime, folder, error);
    /* A window's first frames are encoded. */
    if (code == ERR_OK && (stages & (STAGE_VAE | STAGE_WINDOW)) != 0)
        code = open_vae(parts, runtime, folder, error);
    if (code == ERR_OK)
        code = check_widths(parts, folder, error);
    if (code != ERR_OK)
        parts_close(parts, runtime);
    return code;
}

void parts_close(struct parts *parts, struct runtime *runtime) {
    tokenizer_close(&parts->tokenizer);
    umt5_close(runtime, &parts->umt5);
    transformer_close(runtime, &parts->keyframe);
    transformer_close(runtime, &parts->window);
    vae_close(runtime, &parts->vae);
    for (int i = 0; i < PART_COUNT; i++)
        weights_close(&parts->file[i]);
}
