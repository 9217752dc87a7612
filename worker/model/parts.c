#include "worker/model/parts.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "worker/model/components.h"
#include "worker/model/lora.h"

#define PARTS_FILES_MIN 4 /* of parts_files, also where a folder has less */

static bool is_there(const char *folder, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, folder, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

int parts_stages(const char *folder, const struct model_config *config) {
    int stages = 0;
    if (is_there(folder, "text_encoder") || component_is_there(folder, "text_encoder"))
        stages |= STAGE_TEXT;
    if (config->keyframe.experts > 0)
        stages |= STAGE_KEYFRAME;
    if (config->window.experts > 0)
        stages |= STAGE_WINDOW;
    if (is_there(folder, "vae") || component_is_there(folder, "vae"))
        stages |= STAGE_VAE;
    return stages;
}

/* Path of a component, and its weights opened. */
static enum error_code open_file(struct weights **file, char path[FILE_PATH_BYTES],
                                 const char *folder, const char *name, struct error *error) {
    enum error_code code = file_join(path, folder, name, error);
    return code == ERR_OK ? component_open(file, folder, name, error) : code;
}

enum error_code parts_open_tokenizer(struct parts *parts, const char *folder, struct error *error) {
    char path[FILE_PATH_BYTES];
    enum error_code code = file_join(path, folder, component_tokenizer(folder), error);
    if (code != ERR_OK || !tokenizer_is_built()) /* without one, texts come as rows */
        return code;
    code = tokenizer_open_folder(&parts->tokenizer, path, error);
    if (code == ERR_OK && tokenizer_pieces(parts->tokenizer) > parts->umt5_config.vocabulary)
        code = error_set(error, ERR_SHAPE, "%s has %d pieces, but the text encoder only %d rows",
                         path, tokenizer_pieces(parts->tokenizer), parts->umt5_config.vocabulary);
    return code;
}

static enum error_code open_text(struct parts *parts, struct runtime *runtime, const char *folder,
                                 struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t elements = 0;
    enum error_code code = open_file(&parts->umt5_file, path, folder, "text_encoder", error);
    if (code == ERR_OK)
        code = config_read_umt5(&parts->umt5_config, path, parts->umt5_file, error);
    if (code == ERR_OK)
        code = umt5_open(&parts->umt5, runtime, parts->umt5_file, &parts->umt5_config, &elements,
                         error);
    parts->elements += elements;
    if (code != ERR_OK)
        return code;
    char json[64], pieces[64];
    const char *tokenizer = component_tokenizer(folder);
    (void)snprintf(json, sizeof json, "%s/tokenizer.json", tokenizer);
    (void)snprintf(pieces, sizeof pieces, "%s/spiece.model", tokenizer);
    if (!is_there(folder, json) && !is_there(folder, pieces))
        return error_set(error, ERR_MISSING, "%s/%s has neither tokenizer.json nor spiece.model",
                         folder, tokenizer);
    return runtime->params->measuring ? ERR_OK : parts_open_tokenizer(parts, folder, error);
}

static enum error_code open_clip(struct parts *parts, struct runtime *runtime, const char *folder,
                                 struct error *error) {
    char path[FILE_PATH_BYTES];
    int64_t elements = 0;
    enum error_code code = open_file(&parts->clip_file, path, folder, "image_encoder", error);
    if (code == ERR_OK)
        code = config_read_clip(&parts->clip_config, path, parts->clip_file, error);
    if (code == ERR_OK)
        code = config_check_picture(&parts->clip_config, folder, error);
    if (code == ERR_OK)
        code = clip_open(&parts->clip, runtime, parts->clip_file, &parts->clip_config, &elements,
                         error);
    parts->elements += elements;
    return code;
}

static enum error_code open_vae(struct parts *parts, struct runtime *runtime, struct error *error) {
    int64_t elements = 0;
    enum error_code code =
        vae_open(&parts->vae, runtime, parts->vae_file, &parts->vae_config, &elements, error);
    parts->elements += elements;
    return code;
}

static enum error_code check_channels(const struct denoiser *denoiser, bool conditioned,
                                      const char *folder, struct error *error) {
    int in = denoiser->config.in_channels, out = denoiser->config.out_channels;
    if (in == (conditioned ? 2 * out + 4 : out))
        return ERR_OK;
    return error_set(error, ERR_UNSUPPORTED,
                     "%s/%s: %d channels in and %d out; expected %d in for %s", folder,
                     denoiser->source.folder[0], in, out, conditioned ? 2 * out + 4 : out,
                     conditioned ? "image-to-video (noise, mask, condition)" : "text-to-video");
}

static bool same_source(const struct denoiser_config *a, const struct denoiser_config *b) {
    return a->experts == b->experts && strcmp(a->folder[0], b->folder[0]) == 0;
}

/* The transformers, last of all, since experts may be exchanged. */
static enum error_code open_denoisers(struct parts *parts, struct runtime *runtime,
                                      const char *folder, bool alone, struct error *error) {
    const struct model_config *config = &parts->config;
    bool same = same_source(&config->keyframe, &config->window);
    bool keyframe = (parts->stages & STAGE_KEYFRAME) != 0;
    bool window = (parts->stages & STAGE_WINDOW) != 0;
    enum error_code code = ERR_OK;
    if (keyframe || (window && same)) {
        code =
            denoiser_open(&parts->denoisers[0], runtime, folder, &config->keyframe, alone, error);
        if (code == ERR_OK)
            code = check_channels(&parts->denoisers[0], false, folder, error);
        parts->keyframe = keyframe ? &parts->denoisers[0] : NULL;
        parts->window = window && same ? &parts->denoisers[0] : NULL;
    }
    if (code == ERR_OK && window && !same) {
        code = denoiser_open(&parts->denoisers[1], runtime, folder, &config->window, alone, error);
        if (code == ERR_OK)
            code = check_channels(&parts->denoisers[1], true, folder, error);
        parts->window = &parts->denoisers[1];
    }
    parts->elements += parts->denoisers[0].elements + parts->denoisers[1].elements;
    return code;
}

static enum error_code check_denoiser(const struct parts *parts, const struct denoiser *denoiser,
                                      const char *folder, struct error *error) {
    const struct transformer_config *config = &denoiser->config;
    const struct clip_config *clip = &parts->clip_config;
    if (parts->umt5 != NULL && config->text_width != parts->umt5_config.width)
        return error_set(
            error, ERR_SHAPE,
            "%s: the transformer reads texts of width %d, but the text encoder's is %d", folder,
            config->text_width, parts->umt5_config.width);
    if (parts->vae_config.latent_channels > 0 &&
        config->out_channels != parts->vae_config.latent_channels)
        return error_set(error, ERR_SHAPE,
                         "%s: the transformer has latents of %d channels, but the VAE's have %d",
                         folder, config->out_channels, parts->vae_config.latent_channels);
    if (parts->config.condition == WINDOW_PREFIX && parts->vae_config.latent_channels > 0 &&
        !parts->vae_config.residual)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s: 'expand_timesteps' is for models with Wan2.2's VAE; this one's is "
                         "Wan2.1's, with latents of %d channels",
                         folder, parts->vae_config.latent_channels);
    if (config->image_width == 0)
        return ERR_OK;
    if (parts->clip == NULL)
        return error_set(error, ERR_MISSING,
                         "%s has no image encoder, but the transformer has an image branch",
                         folder);
    if (config->image_width != clip->width ||
        (config->image_rows != 0 && config->image_rows != 2 * clip_rows(clip)))
        return error_set(
            error, ERR_SHAPE,
            "%s: the transformer reads %d image rows of width %d, but the image encoder "
            "gives %d of width %d a picture",
            folder, config->image_rows, config->image_width, (int)clip_rows(clip), clip->width);
    return ERR_OK;
}

/* Only a window that begins with frames encodes any. */
static bool encodes_frames(const struct model_config *config, int stages) {
    return (stages & STAGE_WINDOW) != 0 &&
           (config->condition == WINDOW_PREFIX || !same_source(&config->keyframe, &config->window));
}

static enum error_code open_all(struct parts *parts, struct runtime *runtime, const char *folder,
                                bool alone, struct error *error) {
    char path[FILE_PATH_BYTES];
    int stages = parts->stages;
    bool frames = encodes_frames(&parts->config, stages);
    enum error_code code = ERR_OK;
    if ((stages & STAGE_TEXT) != 0)
        code = open_text(parts, runtime, folder, error);
    /* Sizes depend on the VAE, whatever is opened. */
    bool there = (parts_stages(folder, &parts->config) & STAGE_VAE) != 0;
    bool needed = (stages & STAGE_VAE) != 0 || frames;
    if (code == ERR_OK && (there || needed))
        code = open_file(&parts->vae_file, path, folder, "vae", error);
    if (code == ERR_OK && (there || needed))
        code = config_read_vae(&parts->vae_config, path, parts->vae_file, error);
    if (code == ERR_OK && needed)
        code = open_vae(parts, runtime, error);
    if (!needed)
        weights_close(&parts->vae_file);
    if (code == ERR_OK && frames && parts->config.image_encoder)
        code = open_clip(parts, runtime, folder, error);
    if (code == ERR_OK)
        code = open_denoisers(parts, runtime, folder, alone, error);
    if (code == ERR_OK && parts->keyframe != NULL)
        code = check_denoiser(parts, parts->keyframe, folder, error);
    if (code == ERR_OK && parts->window != NULL)
        code = check_denoiser(parts, parts->window, folder, error);
    return code;
}

/* Of what was copied the file is not needed any more. */
static void give_back_files(const struct parts *parts) {
    const struct weights *files[PARTS_FILES_MAX];
    int count = parts_files(files, parts);
    for (int i = 0; i < count; i++)
        if (files[i] != NULL)
            weights_give_back(files[i]);
}

enum error_code parts_open(struct parts *parts, struct runtime *runtime, const char *folder,
                           const struct model_options *options, bool alone, struct error *error) {
    memset(parts, 0, sizeof *parts);
    enum error_code code = config_read_model(&parts->config, folder, error);
    if (code != ERR_OK)
        return code;
    int there = parts_stages(folder, &parts->config);
    int stages = options->stages == -1 ? there : options->stages;
    if ((stages & ~there) != 0)
        return error_set(error, ERR_MISSING, "%s has no %s", folder,
                         (stages & ~there & STAGE_TEXT) != 0       ? "text_encoder"
                         : (stages & ~there & STAGE_KEYFRAME) != 0 ? "text-to-video transformer"
                         : (stages & ~there & STAGE_WINDOW) != 0   ? "image-to-video transformer"
                                                                   : "vae");
    parts->stages = stages;
    struct denoiser_config *const sources[] = {&parts->config.keyframe, &parts->config.window};
    for (int i = 0; i < 2; i++) {
        sources[i]->loras = options->loras;
        sources[i]->lora_count = options->lora_count;
    }
    code = open_all(parts, runtime, folder, alone, error);
    if (code == ERR_OK)
        give_back_files(parts);
    else
        parts_close(parts, runtime);
    return code;
}

void parts_close(struct parts *parts, struct runtime *runtime) {
    tokenizer_close(&parts->tokenizer);
    umt5_close(runtime, &parts->umt5);
    clip_close(runtime, &parts->clip);
    vae_close(runtime, &parts->vae);
    weights_close(&parts->umt5_file);
    weights_close(&parts->clip_file);
    weights_close(&parts->vae_file);
    for (int i = 0; i < 2; i++)
        denoiser_close(&parts->denoisers[i], runtime);
}

int parts_files(const struct weights *out[PARTS_FILES_MAX], const struct parts *parts) {
    const struct weights *const files[PARTS_FILES_MAX] = {
        parts->umt5_file, parts->denoisers[0].expert[0].file, parts->denoisers[1].expert[0].file,
        parts->vae_file,  parts->denoisers[0].expert[1].file, parts->denoisers[1].expert[1].file,
        parts->clip_file,
    };
    memcpy(out, files, sizeof files);
    int count = PARTS_FILES_MAX;
    while (count > PARTS_FILES_MIN && files[count - 1] == NULL)
        count--;
    return count;
}

size_t parts_passing(const struct parts *parts) {
    size_t most = 0;
    for (int i = 0; i < 2 * CONFIG_EXPERTS_MAX; i++) {
        const struct denoiser *denoiser = &parts->denoisers[i / CONFIG_EXPERTS_MAX];
        size_t passing = lora_passing(denoiser->expert[i % CONFIG_EXPERTS_MAX].file);
        most = passing > most ? passing : most;
    }
    return most;
}

bool parts_window_from_text(const struct parts *parts) {
    const struct denoiser *window = parts->window;
    return window != NULL && window->config.in_channels == window->config.out_channels;
}

unsigned parts_window_rules(const struct parts *parts) {
    unsigned one = 1u << WINDOW_RULE_MODEL | 1u << WINDOW_RULE_LAST_FRAME;
    if (parts->window == NULL)
        return 0;
    if (parts->config.condition == WINDOW_PREFIX)
        return one | 1u << WINDOW_RULE_PREFIX;
    if (parts_window_from_text(parts))
        return 0;
    return parts->window->config.image_rows > 0 ? one : one | 1u << WINDOW_RULE_OVERLAP;
}

/* Diffusers lets every model without a CLIP branch end in a picture; one branch has two positions.
 */
enum window_end parts_window_end(const struct parts *parts) {
    const struct denoiser *window = parts->window;
    if (window == NULL || parts->config.condition != WINDOW_GREY_FRAMES ||
        parts_window_from_text(parts))
        return WINDOW_END_NONE;
    if (window->config.image_rows > 0)
        return WINDOW_END_MUST;
    return window->config.image_width > 0 ? WINDOW_END_NONE : WINDOW_END_MAY;
}
