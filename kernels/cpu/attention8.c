/* Attention in 8 bits over an instruction set's products: keys and values are rounded and packed
 * once, into args.narrow; then it goes as cpu/gemm_attention.c does. */
#include "kernels/cpu/attention8.h"

#define QUERIES 256 /* of a piece, at most */
#define PIECES  8   /* that are wanted, for the threads to share */
#define ROWS    24  /* queries at a time: a multiple of the tiles' rows */
#define PANEL   ATTENTION8_COLUMNS

/* In the definition's units a logit is the power of e, here a 64th of a power of 2. */
#define UNITS (64 * 1.44269504088896341f)

#define LOWEST (-1e38f)

struct attention8_loop {
    struct device *device;
    const struct attention_args *args;
    struct narrow_layout at;
    int64_t keys; /* of a head, in whole panels */
    int64_t query_parts;
};

static void *memory(const struct attention8_loop *loop, size_t at) {
    return (char *)loop->args->narrow + at;
}

static int8_t *key_panel(const struct attention8_loop *loop, int64_t head, int64_t key) {
    return (int8_t *)memory(loop, loop->at.k) + (head * loop->keys + key) * loop->args->head_dim;
}

/* Channels first.. of a head, from `key` on: a panel has all keys. */
static int8_t *value_panel(const struct attention8_loop *loop, int64_t head, int64_t first,
                           int64_t key) {
    return (int8_t *)memory(loop, loop->at.v) + (head * loop->args->head_dim + first) * loop->keys +
           key * PANEL;
}

static float *key_scale(const struct attention8_loop *loop, int64_t head, int64_t key) {
    return (float *)memory(loop, loop->at.k_scale) + head * loop->at.blocks + key / NARROW_KEYS;
}

static int32_t *key_offset(const struct attention8_loop *loop, int64_t head, int64_t key) {
    return (int32_t *)memory(loop, loop->at.k_offset) + head * loop->keys + key;
}

static float *of_chunk(const struct attention8_loop *loop, size_t at, int64_t chunk, int64_t head) {
    return (float *)memory(loop, at) + (chunk * loop->args->heads + head) * loop->args->head_dim;
}

static const void *row(const void *x, int64_t stride, int64_t token, int64_t head, int head_dim) {
    return element(x, DTYPE_BF16, token * stride + head * head_dim);
}

static void sum_chunk(const void *context, int64_t piece, int worker) {
    const struct attention8_loop *loop = context;
    const struct attention_args *args = loop->args;
    int64_t head = piece / loop->at.chunks, chunk = piece % loop->at.chunks;
    int64_t key = chunk * NARROW_CHUNK;
    (void)worker;
    loop->device->level.attention8->chunk(
        of_chunk(loop, loop->at.k_sum, chunk, head), of_chunk(loop, loop->at.v_max, chunk, head),
        row(args->k, args->k_stride, key, head, args->head_dim), args->k_stride,
        row(args->v, args->v_stride, key, head, args->head_dim), args->v_stride,
        at_most(NARROW_CHUNK, args->k_length - key), args->head_dim);
}

static void pack_block(const void *context, int64_t piece, int worker) {
    const struct attention8_loop *loop = context;
    const struct attention_args *args = loop->args;
    const struct cpu_level *level = &loop->device->level;
    const int width = args->head_dim;
    int64_t head = piece / loop->at.blocks, key = piece % loop->at.blocks * NARROW_KEYS;
    int64_t count = at_most(NARROW_KEYS, args->k_length - key);
    float mean[NARROW_HEAD_DIM] = {0};
    for (int64_t chunk = 0; chunk < loop->at.chunks; chunk++) {
        const float *sum = of_chunk(loop, loop->at.k_sum, chunk, head);
        for (int e = 0; e < width; e++) {
            mean[e] += sum[e];
        }
    }
    for (int e = 0; e < width; e++) {
        mean[e] /= (float)args->k_length;
    }
    int8_t *rows = device_scratch(loop->device, worker);
    int8_t *panel = key_panel(loop, head, key);
    int32_t *offset = key_offset(loop, head, key);
    *key_scale(loop, head, key) = level->attention8->keys(
        rows, row(args->k, args->k_stride, key, head, width), args->k_stride, count, mean, width);
    /* Units of four bytes are packed like floats. */
    level->gemm_f32->pack_keys(panel, rows, DTYPE_F32, width / 4, NARROW_KEYS, width / 4);
    level->int8->offsets(offset, panel, NARROW_KEYS, width);
    for (int j = (int)count; j < NARROW_KEYS; j++) {
        offset[attention8_column(j)] = ATTENTION8_NO_KEY;
    }
    level->attention8->values(value_panel(loop, head, 0, key), PANEL * loop->keys,
                              row(args->v, args->v_stride, key, head, width), args->v_stride, count,
                              of_chunk(loop, loop->at.v_max, key / NARROW_CHUNK, head), width);
}

/* Of a piece: queries, and what is known of them so far. */
struct attention8_piece {
    int64_t head, queries;
    uint8_t *q;                            /* [queries, head_dim] */
    float *factor, *max, *sum;             /* [queries] */
    float *out;                            /* [queries, head_dim] */
    int32_t *products;                     /* [ROWS, ATTENTION8_KEYS] */
    uint8_t *weights;                      /* likewise */
    float keep[ROWS + 8], share[ROWS + 8]; /* in whole vectors */
};

/* c[rows, PANEL] = a · panel. */
static void product(const struct attention8_loop *loop, int32_t *c, int64_t ldc, const uint8_t *a,
                    int64_t stride, const int8_t *panel, int64_t rows, int64_t depth) {
    const struct cpu_level *level = &loop->device->level;
    int64_t most = gemm_rows(level->gemm_bf16, PANEL), tiles = (rows + most - 1) / most;
    for (int64_t t = 0; t < tiles; t++) {
        int64_t r = part_begin(rows, tiles, t);
        const void *from = a + r * stride, *b = panel;
        level->int8->tile((float *)(void *)(c + r * ldc), ldc, &from, stride, &b,
                          (int)(part_begin(rows, tiles, t + 1) - r), PANEL, 1, depth, false);
    }
}

/* Queries r.. of a piece attend to `keys` keys. */
static void attend(const struct attention8_loop *loop, struct attention8_piece *p, int64_t r,
                   int64_t key, int64_t keys) {
    const struct attention8_products *products = loop->device->level.attention8;
    const int width = loop->args->head_dim;
    int64_t rows = at_most(ROWS, p->queries - r);
    int64_t padded = gemm_round_up(keys, NARROW_KEYS);
    for (int64_t j = 0; j < padded; j += NARROW_KEYS) {
        product(loop, p->products + j, ATTENTION8_KEYS, p->q + r * width, width,
                key_panel(loop, p->head, key + j), rows, width);
    }
    products->softmax(&(struct attention8_block){.products = p->products,
                                                 .offset = key_offset(loop, p->head, key),
                                                 .key_scale = key_scale(loop, p->head, key),
                                                 .factor = p->factor + r,
                                                 .weights = p->weights,
                                                 .rows = rows,
                                                 .keys = keys,
                                                 .max = p->max + r,
                                                 .sum = p->sum + r,
                                                 .keep = p->keep,
                                                 .share = p->share});
    for (int e = 0; e < width; e += PANEL) {
        product(loop, p->products + e, width, p->weights, ATTENTION8_KEYS,
                value_panel(loop, p->head, e, key), rows, padded);
    }
    products->fold(p->out + r * width, p->products, p->keep, p->share,
                   of_chunk(loop, loop->at.v_max, key / NARROW_CHUNK, p->head), rows, width,
                   key == 0);
}

static void attention8_piece(const void *context, int64_t index, int worker) {
    const struct attention8_loop *loop = context;
    const struct attention_args *args = loop->args;
    const struct cpu_level *level = &loop->device->level;
    const int width = args->head_dim;
    int64_t part = index % loop->query_parts;
    int64_t first = part_begin(args->q_length, loop->query_parts, part);
    struct attention8_piece p = {
        .head = index / loop->query_parts,
        .queries = part_begin(args->q_length, loop->query_parts, part + 1) - first};
    void *scratch = device_scratch(loop->device, worker);
    p.q = (uint8_t *)scratch_floats(&scratch, p.queries * width / 4);
    p.factor = scratch_floats(&scratch, p.queries);
    p.max = scratch_floats(&scratch, p.queries);
    p.sum = scratch_floats(&scratch, p.queries);
    p.out = scratch_floats(&scratch, p.queries * width);
    p.products = (int32_t *)(void *)scratch_floats(&scratch, ROWS * ATTENTION8_KEYS);
    p.weights = (uint8_t *)scratch_floats(&scratch, ROWS * ATTENTION8_KEYS / 4);
    for (int64_t r = 0; r < p.queries; r++) {
        const void *q = row(args->q, args->q_stride, first + r, p.head, width);
        p.factor[r] = UNITS * args->scale * level->int8->quantise(p.q + r * width, q, width);
        p.max[r] = LOWEST;
        p.sum[r] = 0;
    }
    for (int64_t key = 0; key < args->k_length; key += ATTENTION8_KEYS) {
        int64_t keys = at_most(ATTENTION8_KEYS, args->k_length - key);
        for (int64_t r = 0; r < p.queries; r += ROWS) {
            attend(loop, &p, r, key, keys);
        }
    }
    void *out = (char *)args->out + (first * args->out_stride + p.head * width) * 2;
    level->attention8->end(out, args->out_stride, p.out, p.sum, p.queries, width);
}

void attention8(struct device *device, const struct attention_args *args) {
    if (device->failed || args->q_length == 0) {
        return;
    }
    int64_t share = (args->heads * args->q_length + PIECES - 1) / PIECES;
    int64_t queries = at_most(QUERIES, share < ROWS ? ROWS : share);
    struct attention8_loop loop = {.device = device,
                                   .args = args,
                                   .at = narrow_layout(args),
                                   .query_parts = (args->q_length + queries - 1) / queries};
    loop.keys = loop.at.blocks * NARROW_KEYS;
    pool_run(device->pool, args->heads * loop.at.chunks, sum_chunk, &loop);
    pool_run(device->pool, args->heads * loop.at.blocks, pack_block, &loop);
    pool_run(device->pool, args->heads * loop.query_parts, attention8_piece, &loop);
}
