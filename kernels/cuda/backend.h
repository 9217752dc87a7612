/* What the files of this folder share: the device, and the entries of its table. Read by C and by
 * the kernel files.
 *
 * An entry checks shapes (asserts: they are our own mistakes), returns at once when the device has
 * failed, queues on the device's stream and notes the launch's code. It neither allocates nor
 * waits; a fault on the device shows where `status` or `download` synchronises. */
#ifndef VIDLOOM_KERNELS_CUDA_BACKEND_H
#define VIDLOOM_KERNELS_CUDA_BACKEND_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "base/error.h"
#include "kernels/args.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory for products whose way out no library has: small enough to stay in the L2 cache of
 * the large cards, so that writing and reading it again costs little. */
#define SCRATCH_BYTES ((size_t)32 << 20)
/* Of cuBLASLt and cuDNN; Hopper's kernels ask for 32. */
#define WORKSPACE_BYTES ((size_t)64 << 20)
#define F8_CAPABILITY   89 /* from here on cuBLASLt has products of f8 */
#define DOWNLOADS_MAX   4  /* OPS_DOWNLOADS_MAX: the kernel files do not see the table */
#define STAGING_BYTES   ((size_t)16 << 20) /* pinned host memory */
#define STAGING_ROW_BYTES                                                                          \
    ((size_t)4 << 20) /* behind it: a row of weights in f32 on its way there */

struct graphs;    /* graphs.c: what repeats */
struct residence; /* residence.c: where weights are */
struct matmul;    /* matmul.c: cuBLASLt */
struct convolve;  /* convolve.c: cuDNN */

/* A download that has begun. */
struct download {
    const void *host; /* NULL: it has ended */
    cudaEvent_t done;
};

struct device {
    int index;
    int capability; /* 90 for compute capability 9.0 */
    int processors; /* streaming multiprocessors */
    cudaStream_t stream;
    void *scratch, *workspace; /* device memory, SCRATCH_BYTES and WORKSPACE_BYTES */
    void *staging;             /* pinned host memory, STAGING_BYTES and STAGING_ROW_BYTES */
    cudaEvent_t staged[2];     /* what weight_upload sent from either half of it has left */
    int staging_next;          /* the half that comes next */
    const char *cache; /* folder of what was measured; NULL: none. While the device is opened */
    struct graphs *graphs;
    struct residence *residence;
    struct matmul *matmul;
    struct convolve *convolve;
    struct attention_plans *attention_plans; /* attention_cudnn.c; NULL: none was asked for */
    struct download downloads[DOWNLOADS_MAX];
    size_t weight_bytes;
    bool failed;
    struct error failure;
    struct cudaDeviceProp properties;
};

/* Weights as cuBLASLt and our kernels read them: [N,K] rows of the compute type, of int8 or f8. */
struct linear {
    int64_t outputs, inputs;
    enum dtype dtype;  /* compute type */
    enum dtype stored; /* what the weights are: that, I8 or F8_E4M3 */
    void *weight;      /* NULL while they are on the host */
    /* Of residence.c: */
    struct linear *next, **place;
    struct linear *follows; /* the layer that was used after this one; NULL: not known */
    void *host; /* pinned memory, where the weights have moved to; NULL: they have not */

    float *scale;      /* of weights in 8 bits, [blocks of K, N]; NULL: of the compute type */
    int64_t block;     /* columns that share a scale; 0: of the compute type */
    float *bias;       /* [N]; zeros where there is none */
    void *bias_narrow; /* [N] bf16, for cuBLASLt with a bf16 result or f8; NULL where it has none */
    size_t bytes;
};

/* [Cout,kt,kh,kw,Cin] of the compute type: cuDNN's channels-last filter. */
struct conv {
    struct conv_shape shape;
    enum dtype dtype;
    void *weight;
    void *bias; /* [Cout] of dtype: cuDNN's compiled kernels take no other */
    size_t bytes;
};

/* Whether there is anything to do it on: makes the device current; false once it has failed. */
bool device_ready(struct device *device);
/* The first failure sticks. */
void device_fail(struct device *device, enum error_code code, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Note the code of a call; true when it went well. */
bool device_noted(struct device *device, cudaError_t code, const char *what);
/* The card, the driver, and a library's version, for what was measured of them (tuning.h). */
#define DEVICE_LINE_BYTES 512
void device_line(char out[DEVICE_LINE_BYTES], const struct device *device, const char *library,
                 size_t version);

/* `bytes` of device memory that counts as weights, and back. NULL: `error` says so. */
void *weight_alloc(struct device *device, size_t bytes, struct error *error);
void weight_free(struct device *device, void *weight, size_t bytes);
/* Row r of what is uploaded: where it lies as `dtype` already, or NULL, and it is in `out` as f32.
 */
typedef const void *weight_row(const void *context, int64_t row, enum dtype dtype, float *out);
/* Rows of any float type on the host to `dtype` on the device, through pinned staging: the next
 * ones are made while the last are on their way. What rows are made of is read by then. */
void weight_upload(struct device *device, void *out, enum dtype dtype, int64_t rows, int64_t width,
                   weight_row *row, const void *context);

/* -- graphs.c ---------------------------------------------------------------------------------- */
MUST_CHECK enum error_code graphs_open(struct device *device, struct error *error);
void graphs_close(struct device *device);
/* Memory that something recorded may use is about to go. */
void graphs_forget(struct device *device);
/* Whether operations are being recorded: then there is no waiting and no memory to be had. */
bool graphs_recording(const struct device *device);
void cuda_repeat(struct device *device, const void *key, size_t bytes, bool (*queue)(void *context),
                 void *context);

/* -- residence.c ------------------------------------------------------------------------------- */
MUST_CHECK enum error_code residence_open(struct device *device, struct error *error);
void residence_close(struct device *device);
/* A layer that is whole, and one that is about to go. */
void residence_add(struct device *device, struct linear *linear);
void residence_remove(struct device *device, struct linear *linear);
/* cudaMalloc, for which weights give way, and for some memory that stays free beside it. Waits when
 * they do. */
cudaError_t residence_malloc(struct device *device, void **out, size_t bytes);
/* Weights give way until so many more bytes of them are within the limit, or all that can have. */
void residence_make_room(struct device *device, size_t bytes);
/* Bytes that weights may occupy from now on, with the buffers that they pass through; 0: any. */
void residence_limit(struct device *device, size_t bytes);
/* What they occupy at least. */
size_t residence_least(const struct device *device);
/* Whether any layer that is there has moved: then what is queued differs from pass to pass. */
bool residence_moved(const struct device *device);
/* The weights on the card for what is queued until leave. */
const void *residence_enter(struct device *device, struct linear *linear);
void residence_leave(struct device *device, struct linear *linear);
size_t linear_weight_bytes(const struct linear *linear);

/* -- matmul.c ---------------------------------------------------------------------------------- */
MUST_CHECK enum error_code matmul_open(struct device *device, struct error *error);
void matmul_close(struct device *device);
size_t matmul_version(void); /* of the library: results may differ between versions */
/* out[rows,N] = in · Wᵀ, and then: */
struct matmul_args {
    void *out;
    enum dtype out_dtype;  /* f32 or bf16 */
    const void *in;        /* [rows,K] of the type that the weights are: bf16 or f8 */
    const float *in_scale; /* [rows] of f8, 16-byte aligned: times this and the weights' scale, on
                              Hopper; NULL: sums as they are */
    const struct linear *linear;
    int64_t rows;
    int64_t out_stride; /* elements from one row of out to the next; 0: N */
    bool bias;          /* + b */
    bool gelu;          /* GELU by tanh of both; with bias */
    bool accumulate;    /* + out; without GELU */
};
/* Whether cuBLASLt has something for this shape and alignment. */
bool matmul_has(struct device *device, const struct matmul_args *args);
/* False: it has not; nothing was queued. */
bool matmul_run(struct device *device, const struct matmul_args *args);

/* -- convolve.c -------------------------------------------------------------------------------- */
MUST_CHECK enum error_code convolve_open(struct device *device, struct error *error);
void convolve_close(struct device *device);
size_t convolve_version(void); /* as matmul_version */
/* Of a convolution's result. */
struct volume_size {
    int64_t frames, height, width;
};
struct volume_size convolve_size(const struct conv_shape *shape, const struct conv_args *args);
/* `args` for `count` frames of the result from `first` on, none of which sees other history than
 * zeros. */
struct conv_args convolve_part(const struct conv *conv, const struct conv_args *args, int64_t first,
                               int64_t count);
/* History only as zeros. False: cuDNN has no plan for this shape; nothing was queued. */
bool convolve_run(struct device *device, const struct conv *conv, const struct conv_args *args);

/* -- trial.cu: what algorithms are tried on ------------------------------------------------------
 */
/* Whole vectors of 16 bytes become random bf16 numbers from 1/8 to 2. */
int trial_fill(struct device *device, void *out, size_t bytes);
/* The TRIAL_SUMS numbers that `out` gets add up to another one, but for chance, when any bit of the
 * whole vectors of x is another. */
#define TRIAL_SUMS (512 * 256)
int trial_sums(struct device *device, uint64_t *out, const void *x, size_t bytes);

/* -- product.cu: any shape and type, slower; and the way out of a product in scratch memory -------
 */
int product_linear(struct device *device, void *out, const void *in, const struct linear *linear,
                   int64_t rows, const struct linear_epilogue *epilogue);
int product_conv(struct device *device, const struct conv *conv, const struct conv_args *args);
/* out = epilogue(product + b) for rows first.. of the whole; product [rows,N] f32, times in_scale
 * [rows] and the weights' scales; NULL: as it is. */
int product_finish(struct device *device, void *out, const float *product, const float *in_scale,
                   const struct linear *linear, int64_t first, int64_t rows,
                   const struct linear_epilogue *epilogue);
/* gate · W and gate · b of the outputs first.., in bf16 [count,K] and f32; K is a multiple of 8. */
int product_gated(struct device *device, void *weight, float *bias, const struct linear *linear,
                  const float *gate, int64_t first, int64_t count);
/* A layer of f8, for rows first.. of the whole. */
struct rounded;
int product_f8(struct device *device, void *out, const struct rounded *in,
               const struct linear *linear, int64_t first, int64_t rows,
               const struct linear_epilogue *epilogue);

/* -- rounding.cu, norms.cu: rows as products in 8 bits read them ----------------------------------
 */
struct rounded {
    void *rows;   /* [rows,inputs] of dtype */
    float *scale; /* [rows,blocks] */
    int64_t inputs, block;
    enum dtype dtype; /* I8 or F8_E4M3 */
};
/* Of bf16 rows. */
int rounding_rows(struct device *device, const struct rounded *out, const void *in, int64_t rows);
/* Of the bf16 rows that the norm would give, from row `first` on, in one pass. Whether it takes
 * them. */
bool rounding_takes_norm(const struct norm_args *norm, int64_t inputs, int64_t block);
int rounding_norm(struct device *device, const struct rounded *out, const struct norm_args *norm,
                  int64_t first, int64_t rows);

/* -- int8.cu, int8_sm90.cu: layers whose weights stay int8 ---------------------------------------
 */
/* out = epilogue(in · Wᵀ + b) for rows first.. of the whole. sm90: false when it is not for this
 * card. */
bool int8_sm90(struct device *device, void *out, const int8_t *in, const float *in_scale,
               const struct linear *linear, int64_t first, int64_t rows,
               const struct linear_epilogue *epilogue);
int int8_sm80(struct device *device, void *out, const int8_t *in, const float *in_scale,
              const struct linear *linear, int64_t first, int64_t rows,
              const struct linear_epilogue *epilogue);

/* -- attention: each returns false when it is not for this call, and queues nothing then ----------
 */
bool attention_sm90(struct device *device, const struct attention_args *args);
bool attention_sm80(struct device *device, const struct attention_args *args);
bool attention_wide(struct device *device, const struct attention_args *args);
void attention_any(struct device *device, const struct attention_args *args);
/* By cuDNN, where args->library asks for it; and whether it would be. */
bool attention_cudnn_suits(struct device *device, const struct attention_args *args);
bool attention_cudnn(struct device *device, const struct attention_args *args);
void attention_cudnn_close(struct device *device);

/* -- attention8*.cu: in 8 bits. First prepare, then sm90 (false: not for this card) or sm80 -------
 */
struct narrow_layout;
int attention8_prepare(struct device *device, const struct attention_args *args,
                       const struct narrow_layout *layout);
bool attention8_sm90(struct device *device, const struct attention_args *args,
                     const struct narrow_layout *layout);
int attention8_sm80(struct device *device, const struct attention_args *args,
                    const struct narrow_layout *layout);

/* -- tensor_map.c: rows [length] of heads [heads] of elements [head_dim] (bf16, f16, int8), rows
 * `stride` elements apart, in boxes of 128 bytes of one head by `rows` rows, with 128-byte swizzle;
 * zeros past the end. False: the driver refuses. */
struct CUtensorMap_st;
bool tensor_map(struct CUtensorMap_st *out, const void *data, enum dtype dtype, int head_dim,
                int heads, int64_t length, int64_t stride, int rows);

/* -- entries of the table ---------------------------------------------------------------------- */
enum error_code cuda_linear_create(struct device *device, struct linear **out,
                                   const struct tensor *const *weights,
                                   const struct tensor *const *biases, int count, enum dtype dtype,
                                   struct error *error);
void cuda_linear_close(struct device *device, struct linear **pointer);
enum error_code cuda_conv_create(struct device *device, struct conv **out,
                                 const struct conv_shape *shape, const struct tensor *weight,
                                 const struct tensor *bias, enum dtype dtype, struct error *error);
void cuda_conv_close(struct device *device, struct conv **pointer);

void cuda_linear(struct device *device, void *out, const void *in, const struct linear *linear,
                 int64_t rows, const struct linear_epilogue *epilogue);
void cuda_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                      const struct linear *linear, int64_t rows,
                      const struct linear_epilogue *epilogue);
void cuda_conv(struct device *device, const struct conv *conv, const struct conv_args *args);
void cuda_attention(struct device *device, const struct attention_args *args);

void cuda_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                     const float *add, const uint8_t *group, int64_t rows, int64_t width, float eps,
                     enum dtype dtype);
void cuda_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                   int64_t rows, int64_t width, float eps, enum dtype dtype);
void cuda_qk_norm_rope(struct device *device, void *x, int64_t stride, const float *weight,
                       const float *cosine, const float *sine, int64_t rows, int heads,
                       int head_dim, float eps, enum dtype dtype);
void cuda_channel_norm(struct device *device, void *out, const void *x, const float *gamma,
                       int64_t rows, int64_t channels, enum activation activation,
                       enum dtype dtype);

void cuda_activate(struct device *device, float *out, const float *x, int64_t count,
                   enum activation activation);
void cuda_gelu_gate(struct device *device, void *out, const void *x, int64_t rows, int64_t width,
                    enum dtype dtype);
void cuda_modulation(struct device *device, float *out, const float *table, const float *e,
                     int64_t groups, int chunks, int e_chunks, int64_t width, uint32_t scale_mask);
void cuda_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                  enum dtype dtype, int64_t count);
void cuda_add(struct device *device, void *out, const void *a, const void *b, int64_t count,
              enum dtype dtype);
void cuda_combine(struct device *device, float *out, const float *const *x,
                  const float *coefficient, int terms, int64_t count);

void cuda_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                   const float *latents, int channels, int64_t frames, int64_t height,
                   int64_t width, enum dtype dtype);
void cuda_unpatchify(struct device *device, float *latents, const float *tokens, int channels,
                     int64_t frames, int64_t height, int64_t width);
void cuda_to_channels_last(struct device *device, void *out, const float *x, const float *mul,
                           const float *add, int channels, int64_t pixels, enum dtype dtype);
void cuda_to_channels_first(struct device *device, float *out, const void *x, const float *mul,
                            const float *add, int channels, int row_channels, int64_t pixels,
                            enum dtype dtype);
void cuda_upsample(struct device *device, void *out, const void *x, int64_t frames, int64_t height,
                   int64_t width, int64_t channels, enum dtype dtype);
void cuda_interleave_frames(struct device *device, void *out, const void *x, int64_t frames,
                            int64_t pixels, int64_t channels, enum dtype dtype);
void cuda_fold(struct device *device, const struct fold_args *args);
void cuda_unfold(struct device *device, const struct fold_args *args);
void cuda_from_pixels(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                      enum dtype dtype);
void cuda_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                    enum dtype dtype);
struct nv12_args;
void cuda_to_nv12(struct device *device, const struct nv12_args *args);
void *cuda_context(struct device *device); /* context.c */

#ifdef __cplusplus
}
#endif

#endif
