#include "worker/model/umt5.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "worker/model/loader.h"
#include "worker/model/numbers.h"

struct layer_weights {
    const float *norm1, *norm2;
    const struct tensor *bias; /* [buckets,heads] in the file; every layer has its own */
    struct layer qkv, out, ffn_in, ffn_out;
};

struct umt5 {
    struct umt5_config config;
    const struct tensor *embedding; /* in the file */
    struct layer_weights *layer;
    const float *norm;
    struct stream *stream; /* a block a layer */
};

static void load_layer(struct loader *loader, struct layer_weights *layer,
                       const struct umt5_config *config, int index) {
    static const char *const qkv[] = {"q", "k", "v"}, *const out[] = {"o"};
    static const char *const ffn_in[] = {"wi_0", "wi_1"}, *const ffn_out[] = {"wo"};
    int64_t width = config->width, inner = (int64_t)config->heads * config->head_dim;
    enum dtype dtype = loader->runtime->dtype;
    loader_block(loader, index);
    loader_enter(loader, "encoder.block.%d.layer.0.", index);
    layer->norm1 = loader_vector(loader, "layer_norm.weight", width);
    loader_enter(loader, "encoder.block.%d.layer.0.SelfAttention.", index);
    loader_linear(loader, &layer->qkv, qkv, 3, width, inner, false, dtype);
    loader_linear(loader, &layer->out, out, 1, inner, width, false, dtype);
    layer->bias = loader_tensor(loader, "relative_attention_bias.weight", 2,
                                (const int64_t[]){config->buckets, config->heads});
    loader_enter(loader, "encoder.block.%d.layer.1.", index);
    layer->norm2 = loader_vector(loader, "layer_norm.weight", width);
    loader_enter(loader, "encoder.block.%d.layer.1.DenseReluDense.", index);
    loader_linear(loader, &layer->ffn_in, ffn_in, 2, width, config->ffn, false, dtype);
    loader_linear(loader, &layer->ffn_out, ffn_out, 1, config->ffn, width, false, dtype);
}

enum error_code umt5_open(struct umt5 **out, struct runtime *runtime, const struct weights *file,
                          const struct umt5_config *config, int64_t *elements,
                          struct error *error) {
    static const char *const aliases[] = {"encoder.embed_tokens.weight",
                                          "spiece_model", /* of repackaged files */
                                          NULL};
    *out = NULL;
    struct umt5 *umt5 = calloc(1, sizeof *umt5);
    if (umt5 != NULL)
        umt5->layer = calloc((size_t)config->layers, sizeof *umt5->layer);
    if (umt5 == NULL || umt5->layer == NULL) {
        free(umt5);
        return error_set(error, ERR_MEMORY, "no memory for a text encoder");
    }
    umt5->config = *config;
    struct loader loader;
    loader_start(&loader, runtime, file, NAMES_UMT5, error);
    loader_stream(&loader, &umt5->stream, config->layers);
    umt5->embedding = loader_table(&loader, "shared.weight", config->vocabulary, config->width);
    umt5->norm = loader_vector(&loader, "encoder.final_layer_norm.weight", config->width);
    for (int i = 0; i < config->layers; i++)
        load_layer(&loader, &umt5->layer[i], config, i);
    enum error_code code = loader_finish(&loader, aliases);
    if (elements != NULL)
        *elements = loader.elements;
    if (code != ERR_OK)
        umt5_close(runtime, &umt5);
    *out = umt5;
    return code;
}

void umt5_close(struct runtime *runtime, struct umt5 **umt5) {
    if (*umt5 == NULL)
        return;
    for (int i = 0; i < (*umt5)->config.layers; i++) {
        struct layer_weights *layer = &(*umt5)->layer[i];
        layer_close(runtime, &layer->qkv);
        layer_close(runtime, &layer->out);
        layer_close(runtime, &layer->ffn_in);
        layer_close(runtime, &layer->ffn_out);
    }
    stream_close(&(*umt5)->stream);
    free((*umt5)->layer);
    free(*umt5);
    *umt5 = NULL;
}

/* Half of the buckets for each direction; half of those for one distance each, the rest growing
 * with the logarithm. In float, in the reference's order of operations: it decides on which side of
 * a step a distance falls. */
int umt5_bucket(int distance, int buckets, int max_distance) {
    int half = buckets / 2, exact = half / 2, far = abs(distance);
    int bucket = far;
    if (far >= exact) {
        float ratio =
            logf((float)far / (float)exact) / (float)log((double)max_distance / (double)exact);
        bucket = exact + (int)(ratio * (float)(half - exact));
        bucket = bucket < half ? bucket : half - 1;
    }
    return bucket + (distance > 0 ? half : 0);
}

/* bias[h][q][k] = table[bucket(k - q)][h]: for each head a row of 2·count-1 distances slides. */
static void fill_bias(float *bias, const struct umt5 *umt5, const struct layer_weights *layer,
                      int count) {
    const struct umt5_config *config = &umt5->config;
    for (int h = 0; h < config->heads; h++) {
        float *head = bias + (size_t)h * (size_t)count * (size_t)count;
        for (int distance = 1 - count; distance < count; distance++) {
            int bucket = umt5_bucket(distance, config->buckets, config->max_distance);
            float value;
            numbers_to_float(&value, layer->bias, (int64_t)bucket * config->heads + h, 1);
            int q = distance < 0 ? -distance : 0;
            for (; q < count && q + distance < count; q++)
                head[(size_t)q * (size_t)count + (size_t)(q + distance)] = value;
        }
    }
}

/* What one layer works in. */
struct scratch {
    float *x; /* [count,width] the residual stream */
    void *in, *wide;
    float *bias; /* [heads,count,count] */
    int64_t count;
};

static struct norm_args norm_of(const struct umt5 *umt5, const float *weight,
                                const struct scratch *s) {
    return (struct norm_args){
        .x = s->x, .mul = weight, .eps = umt5->config.eps, .rms = true, .rows = s->in};
}

static void attend(const struct umt5 *umt5, struct runtime *runtime,
                   const struct layer_weights *layer, const struct scratch *s) {
    const struct umt5_config *config = &umt5->config;
    int64_t inner = (int64_t)config->heads * config->head_dim;
    size_t part = (size_t)inner * dtype_bytes(runtime->dtype);
    const uint8_t *q = s->wide;
    const struct norm_args norm = norm_of(umt5, layer->norm1, s);
    run_norm_linear(runtime, s->wide, &norm, &layer->qkv, s->count,
                    &(struct linear_epilogue){.out_dtype = runtime->dtype});
    run_attention(runtime, &(struct attention_args){.q = q,
                                                    .k = q + part,
                                                    .v = q + 2 * part,
                                                    .out = s->in,
                                                    .q_stride = 3 * inner,
                                                    .k_stride = 3 * inner,
                                                    .v_stride = 3 * inner,
                                                    .out_stride = inner,
                                                    .q_length = s->count,
                                                    .k_length = s->count,
                                                    .heads = config->heads,
                                                    .head_dim = config->head_dim,
                                                    .scale = 1, /* folded into the weights */
                                                    .bias = s->bias,
                                                    .dtype = runtime->dtype});
    run_linear(runtime, s->x, s->in, &layer->out, s->count,
               &(struct linear_epilogue){.accumulate = true, .out_dtype = DTYPE_F32});
}

static void feed_forward(const struct umt5 *umt5, struct runtime *runtime,
                         const struct layer_weights *layer, const struct scratch *s) {
    const struct umt5_config *config = &umt5->config;
    const struct norm_args norm = norm_of(umt5, layer->norm2, s);
    run_norm_linear(runtime, s->wide, &norm, &layer->ffn_in, s->count,
                    &(struct linear_epilogue){.out_dtype = runtime->dtype});
    runtime->ops->gelu_gate(runtime->device, s->in, s->wide, s->count, config->ffn, runtime->dtype);
    run_linear(runtime, s->x, s->in, &layer->ffn_out, s->count,
               &(struct linear_epilogue){.accumulate = true, .out_dtype = DTYPE_F32});
}

static int64_t largest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

enum error_code umt5_encode(const struct umt5 *umt5, struct runtime *runtime, float *rows,
                            const int32_t *ids, int count, struct error *error) {
    const struct umt5_config *config = &umt5->config;
    int64_t inner = (int64_t)config->heads * config->head_dim;
    size_t bias_count = (size_t)config->heads * (size_t)count * (size_t)count;
    size_t mark = runtime->work->used;
    float *host = malloc(bias_count * sizeof *host);
    if (host == NULL)
        return error_set(error, ERR_MEMORY, "no memory for %d positions", count);
    struct scratch s = {.count = count};
    s.x = work_floats(runtime, count * config->width);
    s.in = work_alloc(runtime, count * largest(config->ffn, largest(inner, config->width)),
                      runtime->dtype);
    s.wide = work_alloc(runtime, count * largest(3 * inner, 2 * config->ffn), runtime->dtype);
    s.bias = work_floats(runtime, (int64_t)bias_count);
    float *out = work_floats(runtime, count * config->width);
    runtime->ops->embed(runtime->device, s.x, umt5->embedding, ids, count);
    for (int i = 0; i < config->layers; i++) {
        const struct layer_weights *layer = &umt5->layer[i];
        run_block(runtime, umt5->stream, i);
        if (!runtime->work->measuring)
            fill_bias(host, umt5, layer, count);
        runtime->ops->upload(runtime->device, s.bias, host, bias_count * sizeof *host);
        attend(umt5, runtime, layer, &s);
        feed_forward(umt5, runtime, layer, &s);
    }
    runtime->ops->rms_norm(runtime->device, out, s.x, umt5->norm, count, config->width, config->eps,
                           DTYPE_F32);
    if (!runtime->work->measuring)
        runtime->ops->download(runtime->device, rows, out,
                               (size_t)count * (size_t)config->width * sizeof *rows);
    arena_reset(runtime->work, mark);
    free(host);
    return runtime->ops->status(runtime->device, error);
}
