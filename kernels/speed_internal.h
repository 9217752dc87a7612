/* Between the files of kernels/speed.h: operands, time, figures, and what should come out. */
#ifndef VIDLOOM_KERNELS_SPEED_INTERNAL_H
#define VIDLOOM_KERNELS_SPEED_INTERNAL_H

#include "kernels/speed.h"

/* Width, heads of 128 and hidden width of a transformer. */
struct speed_shape {
    const char *name;
    int64_t width, heads, ffn;
};

struct speed_sizes {
    size_t arena_bytes, copy_bytes;
    int64_t product; /* M = N = K */
    int64_t tokens, text, heads_14b, vae_tokens;
    struct speed_shape shapes[2];
    int64_t frames, height, width; /* of the VAE's largest activations: a piece of a video */
};

struct speed {
    const struct speed_config *config;
    const struct ops *ops;
    const struct speed_sizes *sizes;
    struct device *device;
    struct arena arena;
    float *pattern, *there; /* normal numbers on the host, and on the device */
    enum error_code code;   /* the first failure; nothing is measured after it */
    struct error *error;    /* of that, or of the first wrong result */
    int wrong;              /* results */
};

/* -- operands --------------------------------------------------------------------------------- */

/* Memory on the device; NULL after a failure. */
void *speed_room(struct speed *s, size_t bytes);
/* Random: zeros would be faster than what is real. Operands of other salts have other numbers. */
void *speed_operand(struct speed *s, int64_t elements, enum dtype dtype, int64_t salt);
/* Element i of the operand of that salt, before it was rounded. */
float speed_value(const struct speed *s, int64_t salt, int64_t i);
/* bf16 on the host, of the size that keeps a layer's output that of its input. NULL: no memory. */
uint16_t *speed_weights(struct speed *s, int64_t elements, int64_t inputs);
/* All operands are given back. */
void speed_reset(struct speed *s);

/* -- time and figures ------------------------------------------------------------------------- */

/* Queues one call. */
typedef void speed_call(struct speed *s, const void *args);

/* Seconds of a call, the median of some samples; 0 after a failure. */
double speed_seconds(struct speed *s, speed_call *run, const void *args);

/* Numbers that came out beside those of f64. */
struct speed_samples {
    double off, size; /* squares of the differences, and of what was expected */
    int64_t count;
};

void speed_sample(struct speed_samples *samples, double got, double expected);
/* Whether a result may be told as `key`'s: false after a failure, or where it is wrong, which is
 * noted. NULL: nothing was compared. */
bool speed_right(struct speed *s, const char *key, const struct speed_samples *samples,
                 double tolerance);
void speed_put(struct speed *s, const char *key, double value, const char *unit,
               const struct speed_samples *samples, const char *format, ...) PRINTF_LIKE(6, 7);

/* -- what should come out (speed_check.c) -------------------------------------------------------
 */

/* Rows to look at: the first, the last and others between; `index` is any number up to
 * SPEED_SAMPLES. */
#define SPEED_SAMPLES 8
int64_t speed_place(int64_t first, int64_t end, int index);

/* Salts of attention's operands, which are contiguous: heads beside each other. */
enum { SALT_Q = 1, SALT_K, SALT_V };
void speed_check_attention(struct speed *s, struct speed_samples *samples,
                           const struct attention_args *args);

enum { SALT_IN = 1, SALT_GATE, SALT_HISTORY, SALT_RESIDUAL };

/* A layer's call: its rows, `part` of them at a time. Hidden rows take the place of the last
 * part's.
 */
struct speed_product {
    struct linear *linear;
    const uint16_t *weight; /* host, bf16; the bias is the pattern */
    int64_t rows, part, outputs, inputs;
    bool in_hidden, out_hidden;
    void *out;
    const void *in; /* bf16, of SALT_IN */
    struct linear_epilogue epilogue;
};

/* `out` holds what one call left of zeros. */
void speed_check_product(struct speed *s, struct speed_samples *samples,
                         const struct speed_product *product);

struct speed_convolution {
    struct conv *conv;
    const uint16_t *weight; /* host, bf16; the bias is the pattern */
    int channels;           /* in and out; 3x3x3 */
    const void *kept; /* history, of SALT_HISTORY, from before this chunk; NULL: there was none */
    struct conv_args args;
};

void speed_check_conv(struct speed *s, struct speed_samples *samples,
                      const struct speed_convolution *convolution);

/* -- groups -------------------------------------------------------------------------------------
 */

void speed_attentions(struct speed *s);
void speed_products(struct speed *s);
void speed_convs(struct speed *s);
void speed_moves(struct speed *s);

#endif
