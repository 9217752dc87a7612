#include "kernels/narrow.h"

bool narrow_suits_width(int64_t head_dim) {
    return head_dim == NARROW_HEAD_DIM || head_dim == NARROW_HEAD_DIM / 2;
}

bool narrow_suits(const struct attention_args *args) {
    return args->dtype == DTYPE_BF16 && narrow_suits_width(args->head_dim) && args->bias == NULL &&
           args->key_bias == NULL && args->scale > 0 && args->k_length <= INT32_MAX / 2;
}

static size_t part(size_t *end, int64_t bytes) {
    size_t begin = *end;
    *end += ((size_t)bytes + 255) / 256 * 256;
    return begin;
}

struct narrow_layout narrow_layout(const struct attention_args *args) {
    const int64_t width = (int64_t)args->heads * args->head_dim, real = (int64_t)sizeof(float);
    struct narrow_layout out = {.blocks = (args->k_length + NARROW_KEYS - 1) / NARROW_KEYS,
                                .chunks = (args->k_length + NARROW_CHUNK - 1) / NARROW_CHUNK};
    size_t end = 0;
    out.keys = (out.blocks + 1) / 2 * 2 * NARROW_KEYS;
    out.q = part(&end, args->q_length * width);
    out.k = part(&end, out.keys * width);
    out.v = part(&end, out.keys * width);
    out.q_scale = part(&end, args->q_length * args->heads * real);
    out.k_scale = part(&end, args->heads * out.blocks * real);
    out.k_offset = part(&end, args->heads * out.keys * (int64_t)sizeof(int32_t));
    out.v_scale = part(&end, width * real);
    out.k_mean = part(&end, width * real);
    out.k_sum = part(&end, out.chunks * width * real);
    out.v_max = part(&end, out.chunks * width * real);
    out.bytes = end;
    return out;
}
