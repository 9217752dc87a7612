/* The transformer's weights, as its files share them. */
#ifndef VIDLOOM_WORKER_MODEL_TRANSFORMER_LAYERS_H
#define VIDLOOM_WORKER_MODEL_TRANSFORMER_LAYERS_H

#include "worker/model/transformer.h"

#define TRANSFORMER_PATCH 4 /* latents of a token: 1·2·2 */

/* Chunks of a block's modulation. */
enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, CHUNKS };
enum { HEAD_SHIFT, HEAD_SCALE, HEAD_CHUNKS };

struct block {
    const float *modulation;          /* [6,width] */
    const float *norm_mul, *norm_add; /* before cross-attention */
    const float *self_q_norm, *self_k_norm, *cross_q_norm, *cross_k_norm;
    struct layer self_qkv, self_out;
    struct layer cross_q, cross_kv, cross_out;
    struct layer ffn_in, ffn_out;
    struct layer image_kv; /* of the image branch, if there is one */
    const float *image_k_norm;
};

/* Rows of an image encoder to rows of the transformer's width. */
struct image_embedder {
    const float *position; /* [image_rows,image_width]; NULL: none */
    const float *norm1_mul, *norm1_add, *norm2_mul, *norm2_add;
    struct layer in, out;
};

struct transformer {
    struct transformer_config config;
    struct layer patch;
    struct layer text1, text2;
    struct image_embedder image;
    struct layer time1, time2, time_proj; /* f32 */
    struct block *block;
    struct stream *stream;        /* block 0: all but the blocks; i + 1: block[i] */
    const float *head_modulation; /* [2,width] */
    struct layer head;            /* f32 */
};

/* Keys and values [rows,2·width] of one layer for a context. */
void transformer_make_kv(const struct transformer *transformer, struct runtime *runtime, void *out,
                         const struct transformer_context *context, int layer);

#endif
