/* What the files of this folder share: the device, and the table of row functions that each
 * instruction set level fills.
 *
 * An operation is: an args struct, a plain function over a range of rows (the definition), perhaps
 * faster ones, and an entry of `struct ops` that cuts the rows into pieces and hands them to the
 * pool. Row functions are pure in the sense that row r's result depends on r alone, not on the
 * range it was called with: so results do not depend on how work was cut or on how many threads
 * there are. */
#ifndef VIDLOOM_KERNELS_CPU_CPU_H
#define VIDLOOM_KERNELS_CPU_CPU_H

#include "kernels/cpu/float.h"
#include "kernels/cpu/pool.h"
#include "kernels/ops.h"

/* Rows begin..end-1 of an operation. */
typedef void rows_function(const void *args, int64_t begin, int64_t end);

struct layer_norm_args {
    void *out;
    const float *x, *mul, *add;
    const uint8_t *group;
    int64_t width;
    float eps;
    enum dtype dtype;
};

struct rms_norm_args {
    void *out;
    const float *x, *weight;
    int64_t width;
    float eps;
    enum dtype dtype;
};

struct qk_norm_rope_args {
    void *x;
    int64_t stride;
    const float *weight, *cosine, *sine;
    int heads, head_dim;
    float eps;
    enum dtype dtype;
};

struct channel_norm_args {
    void *out;
    const void *x;
    const float *gamma;
    int64_t channels;
    enum activation activation;
    enum dtype dtype;
};

struct activate_args { /* rows are elements */
    float *out;
    const float *x;
    enum activation activation;
};

struct gelu_gate_args {
    void *out;
    const void *x;
    int64_t width;
    enum dtype dtype;
};

struct modulation_args { /* rows are group*chunks + chunk */
    float *out;
    const float *table, *e;
    int chunks, e_chunks;
    int64_t width;
    uint32_t scale_mask;
};

struct convert_args { /* rows are elements */
    void *out;
    const void *x;
    enum dtype out_dtype, dtype;
};

struct combine_args { /* rows are elements */
    float *out;
    const float *x[OPS_COMBINE_MAX];
    float coefficient[OPS_COMBINE_MAX];
    int terms;
};

struct bytes_args { /* rows are bytes; copy and zero */
    void *out;
    const void *x;
};

struct embed_args {
    float *out;
    const struct tensor *table;
    const int32_t *ids;
};

struct patchify_args { /* rows are tokens; unpatchify too */
    void *out;
    const float *in;
    int64_t row_stride, first;
    int channels;
    int64_t frames, height, width;
    enum dtype dtype;
};

struct channels_args { /* rows are pixels */
    void *out;
    const void *x;
    const float *mul, *add;
    int channels, row_channels;
    int64_t pixels;
    enum dtype dtype;
};

struct upsample_args { /* rows are input image rows: frame*height + y */
    void *out;
    const void *x;
    int64_t width;
    size_t pixel_bytes;
};

struct interleave_args { /* rows are input pixels: frame*pixels + p */
    void *out;
    const void *x;
    int64_t pixels;
    size_t half_bytes; /* of C channels */
};

struct pixels_args { /* rows are elements; from_pixels and to_pixels */
    void *out;
    const void *x;
    enum dtype dtype;
};

struct gemm;                /* cpu/gemm.h */
struct int8_products;       /* cpu/int8.h */
struct attention8_products; /* cpu/attention8.h */

/* One instruction set level. */
struct cpu_level {
    const char *name; /* "plain", "avx2", "avx512", "avx512_bf16" */
    rows_function *layer_norm, *rms_norm, *qk_norm_rope, *channel_norm;
    rows_function *activate, *gelu_gate, *modulation, *convert, *combine;
    rows_function *to_channels_last, *to_channels_first, *from_pixels, *to_pixels;
    const struct gemm *gemm_f32, *gemm_bf16; /* NULL: the plain products */
    const struct int8_products *int8;        /* NULL: int8 weights are widened; plain: defined */
    const struct attention8_products *attention8; /* NULL: bf16; plain: defined */
};

/* Scratch memory of one worker, for packed operands and tiles. Address space only until touched. */
#define SCRATCH_BYTES ((size_t)64 << 20)

struct device {
    struct pool *pool;
    int threads;
    struct cpu_level level;
    uint8_t *scratch; /* threads * SCRATCH_BYTES */
    int64_t in_place; /* weights of a linear layer that is not copied, at least */
    size_t weight_bytes, mapped_bytes;
    bool as_gpu;                      /* measuring: layers are counted as a GPU holds them */
    bool gpu_f8;                      /* which multiplies f8 */
    size_t moving_bytes, moving_most; /* of layers: what can give way, and the most of one */
    bool failed;
    struct error failure;
};

/* Weights of a layer: where they lie, or packed in the layout that the level's products want. */
struct linear {
    int64_t outputs, inputs; /* N, K */
    enum dtype dtype;        /* compute type */
    struct tensor *part;     /* stacked along N; data is the caller's */
    bool int8, f8;           /* kernels/cpu/int8.h, kernels/f8.h */
    void *weight;            /* packed; NULL: used in place */
    float *bias;             /* [N]; zeros where there is none */
    size_t bytes, mapped;    /* ours, and the caller's where used in place */
    size_t moving;           /* measuring as a GPU: of `bytes`, what can give way */
};

struct conv {
    struct conv_shape shape;
    enum dtype dtype;
    void *weight;
    float *bias; /* [Cout] */
    size_t bytes;
};

/* Cut `rows` rows of `width` elements each into pieces of about 16k elements and run them. */
void device_rows(struct device *device, rows_function *function, const void *args, int64_t rows,
                 int64_t width);
void *device_scratch(struct device *device, int worker);
/* The first failure sticks. */
void device_fail(struct device *device, enum error_code code, const char *detail);

static inline float *scratch_floats(void **cursor, int64_t count) {
    float *out = *cursor;
    *cursor = (uint8_t *)*cursor + ((size_t)count * sizeof(float) + 63) / 64 * 64;
    return out;
}

float activation_plain(float x, enum activation activation);

/* One file each: the definition (plain) and the entry. */
rows_function layer_norm_plain, rms_norm_plain, qk_norm_rope_plain, channel_norm_plain;
rows_function activate_plain, gelu_gate_plain, modulation_plain, convert_plain, combine_plain;
rows_function to_channels_last_plain, to_channels_first_plain, from_pixels_plain, to_pixels_plain;

void cpu_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                    const float *add, const uint8_t *group, int64_t rows, int64_t width, float eps,
                    enum dtype dtype);
void cpu_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                  int64_t rows, int64_t width, float eps, enum dtype dtype);
void cpu_qk_norm_rope(struct device *device, void *x, int64_t stride, const float *weight,
                      const float *cosine, const float *sine, int64_t rows, int heads, int head_dim,
                      float eps, enum dtype dtype);
void cpu_channel_norm(struct device *device, void *out, const void *x, const float *gamma,
                      int64_t rows, int64_t channels, enum activation activation, enum dtype dtype);
void cpu_activate(struct device *device, float *out, const float *x, int64_t count,
                  enum activation activation);
void cpu_gelu_gate(struct device *device, void *out, const void *x, int64_t rows, int64_t width,
                   enum dtype dtype);
void cpu_modulation(struct device *device, float *out, const float *table, const float *e,
                    int64_t groups, int chunks, int e_chunks, int64_t width, uint32_t scale_mask);
void cpu_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                 enum dtype dtype, int64_t count);
void cpu_add(struct device *device, void *out, const void *a, const void *b, int64_t count,
             enum dtype dtype);
void cpu_combine(struct device *device, float *out, const float *const *x, const float *coefficient,
                 int terms, int64_t count);
void cpu_copy(struct device *device, void *out, const void *x, size_t bytes);
void cpu_zero(struct device *device, void *out, size_t bytes);
void cpu_embed(struct device *device, float *out, const struct tensor *table,
               const int32_t *host_ids, int64_t count);
void cpu_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                  const float *latents, int channels, int64_t frames, int64_t height, int64_t width,
                  enum dtype dtype);
void cpu_unpatchify(struct device *device, float *latents, const float *tokens, int channels,
                    int64_t frames, int64_t height, int64_t width);
void cpu_to_channels_last(struct device *device, void *out, const float *x, const float *mul,
                          const float *add, int channels, int64_t pixels, enum dtype dtype);
void cpu_to_channels_first(struct device *device, float *out, const void *x, const float *mul,
                           const float *add, int channels, int row_channels, int64_t pixels,
                           enum dtype dtype);
void cpu_upsample(struct device *device, void *out, const void *x, int64_t frames, int64_t height,
                  int64_t width, int64_t channels, enum dtype dtype);
void cpu_interleave_frames(struct device *device, void *out, const void *x, int64_t frames,
                           int64_t pixels, int64_t channels, enum dtype dtype);
void cpu_fold(struct device *device, const struct fold_args *args);
void cpu_unfold(struct device *device, const struct fold_args *args);
void cpu_from_pixels(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                     enum dtype dtype);
void cpu_to_nv12(struct device *device, const struct nv12_args *args);
void cpu_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                   enum dtype dtype);

enum error_code cpu_linear_create(struct device *device, struct linear **out,
                                  const struct tensor *const *weights,
                                  const struct tensor *const *biases, int count, enum dtype dtype,
                                  struct error *error);
void cpu_linear_close(struct device *device, struct linear **linear);
enum error_code cpu_conv_create(struct device *device, struct conv **out,
                                const struct conv_shape *shape, const struct tensor *weight,
                                const struct tensor *bias, enum dtype dtype, struct error *error);
void cpu_conv_close(struct device *device, struct conv **conv);
void cpu_linear(struct device *device, void *out, const void *in, const struct linear *linear,
                int64_t rows, const struct linear_epilogue *epilogue);
void cpu_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                     const struct linear *linear, int64_t rows,
                     const struct linear_epilogue *epilogue);
void cpu_conv(struct device *device, const struct conv *conv, const struct conv_args *args);
void cpu_attention(struct device *device, const struct attention_args *args);

/* A layer without its memory, counted in the device: what ops_measure does too, and closes with
 * cpu_linear_close. */
enum error_code linear_describe(struct device *device, struct linear **out,
                                const struct tensor *const *weights, int count, enum dtype dtype,
                                struct error *error);
/* Bytes of packed weights at this level. */
size_t conv_bytes(const struct cpu_level *level, const struct conv_shape *shape, enum dtype dtype);

/* A feed-forward's rows and a VAE's activations that caches hold, and every core has work on. */
#define CPU_WANTS                                                                                  \
    { .part_rows = 4096, .chunk_bytes = 16 << 20 }

#define IN_PLACE_DEFAULT                                                                           \
    (INT64_C(1) << 20) /* the least layer whose packing costs more than reading */

/* The best level of this machine, capped by name (NULL: none). ERR_UNSUPPORTED: unknown name. */
MUST_CHECK enum error_code cpu_level_choose(struct cpu_level *out, const char *cap,
                                            struct error *error);

#endif
