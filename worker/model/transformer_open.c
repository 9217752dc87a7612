/* The transformer's weights: taken over by name, given back. */
#include <stdlib.h>

#include "worker/model/loader.h"
#include "worker/model/transformer_layers.h"

static void load_one(struct loader *loader, struct layer *layer, const char *name, int64_t in,
                     int64_t out, enum dtype dtype) {
    loader_linear(loader, layer, &name, 1, in, out, true, dtype);
}

static void load_block(struct loader *loader, struct block *block,
                       const struct transformer_config *config, int index) {
    int64_t width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    loader_block(loader, index + 1);
    loader_enter(loader, "blocks.%d.", index);
    block->modulation = loader_vector(loader, "scale_shift_table", CHUNKS * width);
    block->norm_mul = loader_vector(loader, "norm2.weight", width);
    block->norm_add = loader_vector(loader, "norm2.bias", width);
    load_one(loader, &block->ffn_in, "ffn.net.0.proj", width, config->ffn, dtype);
    load_one(loader, &block->ffn_out, "ffn.net.2", config->ffn, width, dtype);
    loader_enter(loader, "blocks.%d.attn1.", index);
    loader_linear(loader, &block->self_qkv, (const char *const[]){"to_q", "to_k", "to_v"}, 3, width,
                  width, true, dtype);
    load_one(loader, &block->self_out, "to_out.0", width, width, dtype);
    block->self_q_norm = loader_vector(loader, "norm_q.weight", width);
    block->self_k_norm = loader_vector(loader, "norm_k.weight", width);
    loader_enter(loader, "blocks.%d.attn2.", index);
    load_one(loader, &block->cross_q, "to_q", width, width, dtype);
    loader_linear(loader, &block->cross_kv, (const char *const[]){"to_k", "to_v"}, 2, width, width,
                  true, dtype);
    load_one(loader, &block->cross_out, "to_out.0", width, width, dtype);
    block->cross_q_norm = loader_vector(loader, "norm_q.weight", width);
    block->cross_k_norm = loader_vector(loader, "norm_k.weight", width);
    if (config->image_width == 0)
        return;
    loader_linear(loader, &block->image_kv, (const char *const[]){"add_k_proj", "add_v_proj"}, 2,
                  width, width, true, dtype);
    block->image_k_norm = loader_vector(loader, "norm_added_k.weight", width);
}

static void load_image_embedder(struct loader *loader, struct image_embedder *image,
                                const struct transformer_config *config) {
    int64_t in = config->image_width, width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    loader_enter(loader, "condition_embedder.image_embedder.");
    if (config->image_rows > 0)
        image->position = loader_vector(loader, "pos_embed", config->image_rows * in);
    image->norm1_mul = loader_vector(loader, "norm1.weight", in);
    image->norm1_add = loader_vector(loader, "norm1.bias", in);
    load_one(loader, &image->in, "ff.net.0.proj", in, in, dtype);
    load_one(loader, &image->out, "ff.net.2", in, width, dtype);
    image->norm2_mul = loader_vector(loader, "norm2.weight", width);
    image->norm2_add = loader_vector(loader, "norm2.bias", width);
}

static void load_ends(struct loader *loader, struct transformer *transformer) {
    const struct transformer_config *config = &transformer->config;
    int64_t width = config->width;
    enum dtype dtype = loader->runtime->dtype;
    loader_enter(loader, "%s", "");
    const int64_t patch[] = {width, config->in_channels, 1, 2, 2};
    loader_patch(loader, &transformer->patch, "patch_embedding", 5, patch, true, dtype);
    transformer->head_modulation = loader_vector(loader, "scale_shift_table", HEAD_CHUNKS * width);
    load_one(loader, &transformer->head, "proj_out", width,
             (int64_t)TRANSFORMER_PATCH * config->out_channels, DTYPE_F32);
    loader_enter(loader, "condition_embedder.");
    load_one(loader, &transformer->text1, "text_embedder.linear_1", config->text_width, width,
             dtype);
    load_one(loader, &transformer->text2, "text_embedder.linear_2", width, width, dtype);
    load_one(loader, &transformer->time1, "time_embedder.linear_1", config->frequencies, width,
             DTYPE_F32);
    load_one(loader, &transformer->time2, "time_embedder.linear_2", width, width, DTYPE_F32);
    load_one(loader, &transformer->time_proj, "time_proj", width, CHUNKS * width, DTYPE_F32);
    if (config->image_width > 0)
        load_image_embedder(loader, &transformer->image, config);
}

void transformer_complete_config(struct transformer_config *config, const struct weights *file) {
    const struct tensor *norm = weights_find(file, "img_emb.proj.0.weight");
    const struct tensor *position = weights_find(file, "img_emb.emb_pos");
    if (norm != NULL && norm->rank == 1 && norm->dim[0] < 1 << 14)
        config->image_width = (int)norm->dim[0];
    if (position != NULL && position->rank == 3 && position->dim[1] < 1 << 14)
        config->image_rows = (int)position->dim[1];
}

enum error_code transformer_open(struct transformer **out, struct runtime *runtime,
                                 const struct weights *file,
                                 const struct transformer_config *config, int64_t *elements,
                                 struct error *error) {
    *out = NULL;
    struct transformer *transformer = calloc(1, sizeof *transformer);
    if (transformer == NULL)
        return error_set(error, ERR_MEMORY, "no memory for a transformer");
    transformer->config = *config;
    transformer->block = calloc((size_t)config->layers, sizeof *transformer->block);
    if (transformer->block == NULL) {
        transformer_close(runtime, &transformer);
        return error_set(error, ERR_MEMORY, "no memory for a transformer");
    }
    struct loader loader;
    loader_start(&loader, runtime, file, NAMES_TRANSFORMER, error);
    loader_stream(&loader, &transformer->stream, config->layers + 1);
    load_ends(&loader, transformer);
    for (int i = 0; i < config->layers; i++)
        load_block(&loader, &transformer->block[i], config, i);
    enum error_code code = loader_finish(&loader, NULL);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        transformer_close(runtime, &transformer);
    *out = transformer;
    return code;
}

static void close_layers(struct runtime *runtime, struct layer *const *layers) {
    for (; *layers != NULL; layers++)
        layer_close(runtime, *layers);
}

void transformer_close(struct runtime *runtime, struct transformer **transformer) {
    struct transformer *t = *transformer;
    if (t == NULL)
        return;
    close_layers(runtime, (struct layer *const[]){&t->patch, &t->text1, &t->text2, &t->time1,
                                                  &t->time2, &t->time_proj, &t->head, &t->image.in,
                                                  &t->image.out, NULL});
    for (int i = 0; t->block != NULL && i < t->config.layers; i++) {
        struct block *b = &t->block[i];
        close_layers(runtime, (struct layer *const[]){&b->self_qkv, &b->self_out, &b->cross_q,
                                                      &b->cross_kv, &b->cross_out, &b->image_kv,
                                                      &b->ffn_in, &b->ffn_out, NULL});
    }
    stream_close(&t->stream);
    free(t->block);
    free(t);
    *transformer = NULL;
}
