/* Opening and closing: every tensor by its name and shape. */
#include <stdlib.h>

#include "worker/model/loader.h"
#include "worker/model/vae.h"
#include "worker/model/vae_layers.h"

static void load_cube(struct loader *loader, struct filter *filter, const char *name, int size,
                      int in, int out) {
    const struct conv_shape shape = {size, size, size, 1, 1, 1, in, out};
    loader_filter(loader, filter, name, &shape, false);
}

static void load_plane(struct loader *loader, struct filter *filter, const char *name, int size,
                       int stride, int in, int out) {
    const struct conv_shape shape = {1, size, size, 1, stride, stride, in, out};
    loader_filter(loader, filter, name, &shape, true);
}

static void load_resnet(struct loader *loader, struct resnet *res, int in, int out) {
    res->in = in;
    res->out = out;
    res->norm1 = loader_vector(loader, "norm1.gamma", in);
    load_cube(loader, &res->conv1, "conv1", 3, in, out);
    res->norm2 = loader_vector(loader, "norm2.gamma", out);
    load_cube(loader, &res->conv2, "conv2", 3, out, out);
    if (in != out)
        load_cube(loader, &res->shortcut, "conv_shortcut", 1, in, out);
}

static void load_middle(struct loader *loader, struct middle *middle, const char *coder,
                        int width) {
    loader_enter(loader, "%s.mid_block.resnets.0.", coder);
    load_resnet(loader, &middle->before, width, width);
    loader_enter(loader, "%s.mid_block.attentions.0.", coder);
    middle->norm = loader_vector(loader, "norm.gamma", width);
    load_plane(loader, &middle->qkv, "to_qkv", 1, 1, width, 3 * width);
    load_plane(loader, &middle->proj, "proj", 1, 1, width, width);
    loader_enter(loader, "%s.mid_block.resnets.1.", coder);
    load_resnet(loader, &middle->after, width, width);
}

static void load_down(struct loader *loader, struct resample *down, int width, bool in_time) {
    const struct conv_shape time = {3, 1, 1, 2, 1, 1, width, width};
    down->present = true;
    down->in_time = in_time;
    load_plane(loader, &down->space, "resample.1", 3, 2, width, width);
    if (in_time)
        loader_filter(loader, &down->time, "time_conv", &time, false);
}

static void load_up(struct loader *loader, struct resample *up, int width, int out, bool in_time) {
    const struct conv_shape time = {3, 1, 1, 1, 1, 1, width, 2 * width};
    up->present = true;
    up->in_time = in_time;
    load_plane(loader, &up->space, "resample.1", 3, 1, width, out);
    if (in_time)
        loader_filter(loader, &up->time, "time_conv", &time, false);
}

static void load_ends(struct loader *loader, struct coder *coder, const char *name, int in,
                      int first, int last, int out) {
    loader_enter(loader, "%s.", name);
    load_cube(loader, &coder->conv_in, "conv_in", 3, in, first);
    coder->norm_out = loader_vector(loader, "norm_out.gamma", last);
    load_cube(loader, &coder->conv_out, "conv_out", 3, last, out);
    coder->width_out = last;
}

static int picture_channels(const struct vae_config *config) {
    return VAE_PICTURE * config->patch * config->patch;
}

/* Wan2.1 numbers the encoder's blocks through, Wan2.2 by level. */
static void enter_down_block(struct loader *loader, const struct vae_config *config, int level,
                             int block) {
    if (!config->residual)
        loader_enter(loader, "encoder.down_blocks.%d.", level * (config->res_blocks + 1) + block);
    else if (block < config->res_blocks)
        loader_enter(loader, "encoder.down_blocks.%d.resnets.%d.", level, block);
    else
        loader_enter(loader, "encoder.down_blocks.%d.downsampler.", level);
}

static void load_encoder(struct loader *loader, struct coder *coder,
                         const struct vae_config *config) {
    int width = config->width, last = config->width * config->multiple[config->levels - 1];
    load_ends(loader, coder, "encoder", picture_channels(config), width, last,
              2 * config->latent_channels);
    for (int i = 0; i < config->levels; i++) {
        struct level *level = &coder->level[i];
        *level = (struct level){.count = config->res_blocks,
                                .in = width,
                                .out = config->width * config->multiple[i],
                                .shortcut = config->residual};
        for (int r = 0; r < level->count; r++) {
            enter_down_block(loader, config, i, r);
            load_resnet(loader, &level->res[r], r == 0 ? level->in : level->out, level->out);
        }
        enter_down_block(loader, config, i, level->count);
        if (i < config->levels - 1)
            load_down(loader, &level->resample, level->out, config->time_down[i]);
        width = level->out;
    }
    load_middle(loader, &coder->middle, "encoder", last);
    loader_enter(loader, "%s", "");
    load_cube(loader, &coder->quant, "quant_conv", 1, 2 * config->latent_channels,
              2 * config->latent_channels);
}

static void load_decoder(struct loader *loader, struct coder *coder,
                         const struct vae_config *config) {
    int levels = config->levels, width = config->decoder_width * config->multiple[levels - 1];
    load_ends(loader, coder, "decoder", config->latent_channels, width,
              config->decoder_width * config->multiple[0], picture_channels(config));
    load_middle(loader, &coder->middle, "decoder", width);
    for (int i = 0; i < levels; i++) {
        struct level *level = &coder->level[i];
        int out = config->decoder_width * config->multiple[levels - 1 - i];
        *level = (struct level){.count = config->res_blocks + 1,
                                .in = width,
                                .out = out,
                                .shortcut = config->residual && i < levels - 1};
        for (int r = 0; r < level->count; r++) {
            loader_enter(loader, "decoder.up_blocks.%d.resnets.%d.", i, r);
            load_resnet(loader, &level->res[r], r == 0 ? width : out, out);
        }
        width = config->residual ? out : out / 2; /* Wan2.1 halves it on the way up */
        loader_enter(loader, "decoder.up_blocks.%d.%s.", i,
                     config->residual ? "upsampler" : "upsamplers.0");
        if (i < levels - 1)
            load_up(loader, &level->resample, out, width, config->time_down[levels - 2 - i]);
    }
    loader_enter(loader, "%s", "");
    load_cube(loader, &coder->quant, "post_quant_conv", 1, config->latent_channels,
              config->latent_channels);
}

static void load_statistics(struct loader *loader, struct vae *vae) {
    float mul[CONFIG_CHANNELS_MAX], add[CONFIG_CHANNELS_MAX];
    int channels = vae->config.latent_channels;
    for (int i = 0; i < channels; i++) {
        mul[i] = 1 / vae->config.deviation[i];
        add[i] = -vae->config.mean[i] / vae->config.deviation[i];
    }
    vae->to_mul = params_floats(loader->runtime, mul, channels);
    vae->to_add = params_floats(loader->runtime, add, channels);
    vae->from_mul = params_floats(loader->runtime, vae->config.deviation, channels);
    vae->from_add = params_floats(loader->runtime, vae->config.mean, channels);
    if (loader->code == ERR_OK && vae->from_add == NULL)
        loader->code = error_set(loader->error, ERR_MEMORY, "no device memory for parameters");
}

enum error_code vae_open(struct vae **out, struct runtime *runtime, const struct weights *file,
                         const struct vae_config *config, int64_t *elements, struct error *error) {
    struct vae *vae = calloc(1, sizeof *vae);
    *out = NULL;
    if (vae == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a VAE");
    vae->config = *config;
    struct loader loader;
    loader_start(&loader, runtime, file, config->residual ? NAMES_VAE_RESIDUAL : NAMES_VAE, error);
    load_encoder(&loader, &vae->encoder, config);
    load_decoder(&loader, &vae->decoder, config);
    load_statistics(&loader, vae);
    enum error_code code = loader_finish(&loader, NULL);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        vae_close(runtime, &vae);
    *out = vae;
    return code;
}

static void close_resnet(struct runtime *runtime, struct resnet *res) {
    filter_close(runtime, &res->conv1);
    filter_close(runtime, &res->conv2);
    filter_close(runtime, &res->shortcut);
}

static void close_coder(struct runtime *runtime, struct coder *coder) {
    filter_close(runtime, &coder->conv_in);
    filter_close(runtime, &coder->conv_out);
    filter_close(runtime, &coder->quant);
    close_resnet(runtime, &coder->middle.before);
    close_resnet(runtime, &coder->middle.after);
    filter_close(runtime, &coder->middle.qkv);
    filter_close(runtime, &coder->middle.proj);
    for (int i = 0; i < CONFIG_LEVELS_MAX; i++) {
        for (int r = 0; r < VAE_RES_MAX; r++)
            close_resnet(runtime, &coder->level[i].res[r]);
        filter_close(runtime, &coder->level[i].resample.space);
        filter_close(runtime, &coder->level[i].resample.time);
    }
}

void vae_close(struct runtime *runtime, struct vae **vae) {
    if (*vae == NULL)
        return;
    close_coder(runtime, &(*vae)->encoder);
    close_coder(runtime, &(*vae)->decoder);
    free(*vae);
    *vae = NULL;
}
