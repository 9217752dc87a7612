/* Attention: ours, ours in 8 bits, the vendor's. */
#include <math.h>

#include "kernels/narrow.h"
#include "kernels/speed_internal.h"

enum attention_by { BY_US, BY_US_IN_8_BITS, BY_LIBRARY };

struct attention_shape {
    int64_t q_length, k_length, heads, head_dim;
};

static void run_attention(struct speed *s, const void *args) {
    s->ops->attention(s->device, args);
}

/* In this way, and not by another under its name, which would be a false figure. */
static bool attends(struct speed *s, const struct attention_args *args, enum attention_by by) {
    const int index = s->config->device.index;
    return s->code == ERR_OK && (by != BY_LIBRARY || s->ops->attends_by_library(s->device, args)) &&
           (by != BY_US_IN_8_BITS || s->ops->attends_narrow(index, args->head_dim));
}

static void measure(struct speed *s, const char *key, struct attention_shape shape,
                    enum attention_by by) {
    static const char *const words[] = {"bf16", "8 bits", "bf16 by the vendor's library"};
    const int64_t q = shape.q_length, k = shape.k_length, width = shape.heads * shape.head_dim;
    struct attention_args args = {.q = speed_operand(s, q * width, DTYPE_BF16, SALT_Q),
                                  .k = speed_operand(s, k * width, DTYPE_BF16, SALT_K),
                                  .v = speed_operand(s, k * width, DTYPE_BF16, SALT_V),
                                  .out = speed_room(s, (size_t)(q * width) * 2),
                                  .q_stride = width,
                                  .k_stride = width,
                                  .v_stride = width,
                                  .out_stride = width,
                                  .q_length = q,
                                  .k_length = k,
                                  .heads = (int)shape.heads,
                                  .head_dim = (int)shape.head_dim,
                                  .scale = 1 / sqrtf((float)shape.head_dim),
                                  .library = by == BY_LIBRARY,
                                  .dtype = DTYPE_BF16};
    if (by == BY_US_IN_8_BITS) {
        args.narrow = speed_room(s, narrow_layout(&args).bytes);
    }
    if (attends(s, &args, by)) {
        struct speed_samples samples = {0};
        double seconds = speed_seconds(s, run_attention, &args);
        speed_check_attention(s, &samples, &args);
        if (speed_right(s, key, &samples, by == BY_US_IN_8_BITS ? 5e-2 : 8e-3)) {
            speed_put(s, key, 4.0 * (double)q * (double)k * (double)width / seconds * 1e-12,
                      "TFLOP/s", &samples, "attention %s, %lld heads of %lld, %lld tokens to %lld",
                      words[by], (long long)shape.heads, (long long)shape.head_dim, (long long)q,
                      (long long)k);
        }
    }
    speed_reset(s);
}

/* The library's is the last: a failure of it takes nothing along. */
void speed_attentions(struct speed *s) {
    const struct speed_sizes *z = s->sizes;
    const int64_t tokens = z->tokens, heads = z->shapes[0].heads;
    measure(s, "attention_128", (struct attention_shape){tokens, tokens, heads, 128}, BY_US);
    measure(s, "attention8_128", (struct attention_shape){tokens, tokens, heads, 128},
            BY_US_IN_8_BITS);
    measure(s, "attention_cross", (struct attention_shape){tokens, z->text, heads, 128}, BY_US);
    measure(s, "attention_14b", (struct attention_shape){tokens, tokens, z->heads_14b, 128}, BY_US);
    measure(s, "attention_64", (struct attention_shape){tokens, tokens, 2 * heads, 64}, BY_US);
    measure(s, "attention_vae", (struct attention_shape){z->vae_tokens, z->vae_tokens, 1, 384},
            BY_US);
    measure(s, "attention_128_cudnn", (struct attention_shape){tokens, tokens, heads, 128},
            BY_LIBRARY);
}
