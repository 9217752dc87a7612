/* Attention over struct gemm, in one pass over the keys: a piece is one head and some queries; for
 * each block of keys, keys and values are packed once, then a few query rows at a time make their
 * logits, weights and sums, all in the first two levels of cache (Dao et al., FlashAttention). */
#include <assert.h>

#include "kernels/cpu/linear.h"

#define QUERIES        256 /* of a piece, at most; fewer for wide heads and little work */
#define QUERIES_MIN    64  /* each piece packs all keys and values: 5 % of its work at 64 */
#define PIECES         8   /* that are wanted, for the threads to share */
#define QUERY_ROWS     24  /* at a time: a multiple of the tiles' rows */
#define KEYS           256 /* of a block, at most; a multiple of every panel */
#define BLOCK_ELEMENTS 32768

/* Below every logit, yet finite when multiplied by log2 e. */
#define LOWEST (-1e38f)

struct attention_loop {
    struct device *device;
    const struct attention_args *args;
    const struct gemm *gemm;
    int64_t query_parts, key_step;
};

/* c[rows, columns] (+)= a · packed b, of which each panel has `depth`. */
static void product(const struct gemm *gemm, float *c, int64_t ldc, const void *a, int64_t stride,
                    const void *b, int64_t rows, int64_t columns, int64_t depth, bool accumulate) {
    for (int64_t column = 0; column < columns; column += gemm->panel) {
        int width = gemm_columns(gemm, column, columns);
        const void *panel = element(b, gemm->operand, column * depth);
        int64_t tiles = (rows + gemm_rows(gemm, width) - 1) / gemm_rows(gemm, width);
        for (int64_t t = 0; t < tiles; t++) {
            int64_t r = part_begin(rows, tiles, t);
            const void *row = element(a, gemm->operand, r * stride);
            gemm->tile(c + r * ldc + column, ldc, &row, stride, &panel,
                       (int)(part_begin(rows, tiles, t + 1) - r), width, 1, depth, accumulate);
        }
    }
}

static void attention_piece(const void *context, int64_t piece, int worker) {
    const struct attention_loop *loop = context;
    const struct attention_args *args = loop->args;
    const struct gemm *gemm = loop->gemm;
    int64_t head = piece / loop->query_parts, part = piece % loop->query_parts;
    int64_t first = part_begin(args->q_length, loop->query_parts, part);
    int64_t queries = part_begin(args->q_length, loop->query_parts, part + 1) - first;
    int64_t depth = args->head_dim, width = gemm_round_up(depth, gemm->step);

    void *scratch = device_scratch(loop->device, worker);
    float *out = scratch_floats(&scratch, queries * width);
    float *logits = scratch_floats(&scratch, QUERY_ROWS * KEYS);
    float *weights = scratch_floats(&scratch, QUERY_ROWS * KEYS);
    float *keys = scratch_floats(&scratch, KEYS * depth);
    float *values = scratch_floats(&scratch, KEYS * width);
    struct softmax_row *state = (struct softmax_row *)(void *)scratch_floats(&scratch, 2 * queries);
    const void *q = element(args->q, args->dtype, first * args->q_stride + head * depth);
    int64_t q_stride = args->q_stride;
    if (args->dtype != gemm->operand) {
        float *wide = scratch_floats(&scratch, queries * depth);
        for (int64_t r = 0; r < queries; r++) {
            struct convert_args convert = {wide + r * depth, element(q, args->dtype, r * q_stride),
                                           gemm->operand, args->dtype};
            loop->device->level.convert(&convert, 0, depth);
        }
        q = wide;
        q_stride = depth;
    }
    for (int64_t r = 0; r < queries; r++) {
        state[r] = (struct softmax_row){.max = LOWEST, .sum = 0};
    }

    for (int64_t key = 0; key < args->k_length; key += loop->key_step) {
        int64_t count =
            args->k_length - key < loop->key_step ? args->k_length - key : loop->key_step;
        int64_t padded = gemm_round_up(count, gemm->step);
        gemm->pack_keys(keys, element(args->k, args->dtype, key * args->k_stride + head * depth),
                        args->dtype, args->k_stride, count, depth);
        gemm->pack_values(values,
                          element(args->v, args->dtype, key * args->v_stride + head * depth),
                          args->dtype, args->v_stride, count, depth);
        for (int64_t r = 0; r < queries; r += QUERY_ROWS) {
            int64_t rows = queries - r < QUERY_ROWS ? queries - r : QUERY_ROWS;
            product(gemm, logits, padded, element(q, gemm->operand, r * q_stride), q_stride, keys,
                    rows, padded, depth, false);
            struct softmax_block block = {
                .logits = logits,
                .weights = weights,
                .stride = padded,
                .rows = (int)rows,
                .first = key == 0,
                .keys = count,
                .scale = args->scale,
                .key_bias = args->key_bias != NULL ? args->key_bias + key : NULL,
                .bias_stride = args->k_length,
                .state = state + r,
                .out = out + r * width,
                .out_width = width,
            };
            if (args->bias != NULL) {
                block.bias =
                    args->bias + (head * args->q_length + first + r) * args->k_length + key;
            }
            gemm->softmax(&block);
            product(gemm, out + r * width, width, weights, padded, values, rows, width, padded,
                    key > 0);
        }
    }
    void *to = (char *)args->out +
               (first * args->out_stride + head * depth) * (int64_t)dtype_bytes(args->dtype);
    gemm->softmax_end(to, args->dtype, args->out_stride, out, width, state, queries, depth);
}

void attention_gemm(struct device *device, const struct attention_args *args,
                    const struct gemm *gemm) {
    if (device->failed || args->q_length == 0) {
        return;
    }
    int64_t queries = 2 * BLOCK_ELEMENTS / args->head_dim;
    queries = queries > QUERIES ? QUERIES : queries;
    int64_t share = (args->heads * args->q_length + PIECES - 1) / PIECES;
    share = share < QUERIES_MIN ? QUERIES_MIN : share;
    queries = queries > share ? share : queries;
    int64_t keys = BLOCK_ELEMENTS / args->head_dim / GEMM_PANEL_MAX * GEMM_PANEL_MAX;
    keys = keys > KEYS ? KEYS : keys < GEMM_PANEL_MAX ? GEMM_PANEL_MAX : keys;
    struct attention_loop loop = {.device = device,
                                  .args = args,
                                  .gemm = gemm,
                                  .query_parts = (args->q_length + queries - 1) / queries,
                                  .key_step = keys};
    pool_run(device->pool, args->heads * loop.query_parts, attention_piece, &loop);
}
