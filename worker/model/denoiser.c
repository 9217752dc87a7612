#include "worker/model/denoiser.h"

#include <assert.h>
#include <string.h>

#include "base/file.h"
#include "worker/model/components.h"
#include "worker/model/lora.h"

static enum error_code add_loras(struct weights *file, const struct denoiser_config *source,
                                 int expert, struct error *error) {
    enum error_code code = ERR_OK;
    for (int i = 0; i < source->lora_count && code == ERR_OK; i++) {
        const struct model_lora *lora = &source->loras[i];
        bool other = model_lora_expert(lora) == (expert == 0 ? LORA_LOW : LORA_HIGH);
        if (source->experts < 2 || !other)
            code = lora_add(file, lora->path, lora->strength, error);
    }
    return code;
}

static enum error_code read_config(struct transformer_config *out, struct denoiser *denoiser,
                                   const char *folder, int index, struct error *error) {
    const char *name = denoiser->source.folder[index];
    struct expert *expert = &denoiser->expert[index];
    char path[FILE_PATH_BYTES];
    enum error_code code = file_join(path, folder, name, error);
    if (code == ERR_OK)
        code = component_open(&expert->file, folder, name, error);
    if (code == ERR_OK)
        code = config_read_transformer(out, path, expert->file, error);
    if (code == ERR_OK)
        transformer_complete_config(out, expert->file);
    return code == ERR_OK ? add_loras(expert->file, &denoiser->source, index, error) : code;
}

static bool same_shape(const struct transformer_config *a, const struct transformer_config *b) {
    return a->heads == b->heads && a->head_dim == b->head_dim && a->in_channels == b->in_channels &&
           a->out_channels == b->out_channels && a->text_width == b->text_width &&
           a->frequencies == b->frequencies && a->ffn == b->ffn && a->layers == b->layers &&
           a->image_width == b->image_width && a->image_rows == b->image_rows && a->eps == b->eps;
}

/* Both files are opened and compared before any weight is taken over. */
static enum error_code read_configs(struct denoiser *denoiser, const char *folder,
                                    struct error *error) {
    struct transformer_config second;
    const struct denoiser_config *source = &denoiser->source;
    enum error_code code = read_config(&denoiser->config, denoiser, folder, 0, error);
    if (code != ERR_OK || source->experts == 1)
        return code;
    code = read_config(&second, denoiser, folder, 1, error);
    if (code == ERR_OK && !same_shape(&second, &denoiser->config))
        code = error_set(error, ERR_SHAPE, "%s: the experts in %s and %s are not of one shape",
                         folder, source->folder[0], source->folder[1]);
    return code;
}

static size_t held_bytes(const struct runtime *runtime) {
    return runtime->params->used + runtime_weights(runtime);
}

static enum error_code open_expert(struct denoiser *denoiser, struct runtime *runtime, int index,
                                   struct error *error) {
    struct expert *expert = &denoiser->expert[index];
    int64_t elements = 0;
    enum error_code code = transformer_open(&expert->transformer, runtime, expert->file,
                                            &denoiser->config, &elements, error);
    denoiser->elements = denoiser->source.experts * elements;
    return code;
}

enum error_code denoiser_open(struct denoiser *denoiser, struct runtime *runtime,
                              const char *folder, const struct denoiser_config *source, bool alone,
                              struct error *error) {
    *denoiser = (struct denoiser){.source = *source,
                                  .alone = alone && source->experts > 1,
                                  .params_mark = runtime->params->used,
                                  .made_mark = runtime_made(runtime)->used};
    enum error_code code = read_configs(denoiser, folder, error);
    if (code == ERR_OK)
        code = open_expert(denoiser, runtime, 0, error);
    size_t before = held_bytes(runtime);
    denoiser->params_second = runtime->params->used;
    if (code == ERR_OK && source->experts > 1 && !denoiser->alone)
        code = open_expert(denoiser, runtime, 1, error);
    denoiser->second_bytes = held_bytes(runtime) - before;
    denoiser->params_end = runtime->params->used;
    return code;
}

void denoiser_close(struct denoiser *denoiser, struct runtime *runtime) {
    for (int i = 0; i < CONFIG_EXPERTS_MAX; i++) {
        transformer_close(runtime, &denoiser->expert[i].transformer);
        weights_close(&denoiser->expert[i].file);
    }
}

int denoiser_choose(const struct denoiser *denoiser, float time) {
    return denoiser->source.experts > 1 && time < denoiser->source.boundary * 1000;
}

enum error_code denoiser_hold(struct denoiser *denoiser, struct runtime *runtime, int expert,
                              struct error *error) {
    if (denoiser->expert[expert].transformer != NULL)
        return ERR_OK;
    assert(denoiser->alone && !runtime->work->measuring);
    transformer_close(runtime, &denoiser->expert[1 - expert].transformer);
    lora_release(denoiser->expert[1 - expert].file, NULL);
    arena_reset(runtime->params, denoiser->params_mark);
    arena_reset(runtime_made(runtime), denoiser->made_mark);
    return open_expert(denoiser, runtime, expert, error);
}

bool denoiser_part(struct denoiser *denoiser, struct runtime *runtime) {
    if (denoiser->alone || denoiser->source.experts < 2)
        return false;
    transformer_close(runtime, &denoiser->expert[1].transformer);
    lora_release(denoiser->expert[1].file, NULL);
    if (runtime->params->used == denoiser->params_end) /* nothing was opened after it */
        arena_reset(runtime->params, denoiser->params_second);
    denoiser->alone = true;
    return true;
}

const struct transformer *denoiser_transformer(const struct denoiser *denoiser,
                                               const struct runtime *runtime, int expert) {
    const struct transformer *held = denoiser->expert[expert].transformer;
    if (held == NULL && runtime->work->measuring)
        held = denoiser->expert[1 - expert].transformer;
    assert(held != NULL);
    return held;
}
