/* Every operation of the runtime, as a table of functions per kind of device.
 *
 * The plain C file kernels/cpu/<op>.c defines an operation; every faster variant must equal it
 * within the tolerance given here (relative error of the whole tensor in the 2-norm, or exactly).
 * Model code is straight-line C over this table and contains no #ifdef.
 *
 * Axis letters: B batch, C channels, T latent or video frames, H W height and width, L tokens,
 * D model width, N heads, E head dimension. M, N, K in matrix products as usual.
 * Layouts: token matrices [L,D] row-major; video inside the VAE channels-last [T,H,W,C]; latents at
 * rest [C,T,H,W] f32 as PyTorch has them.
 *
 * Types: `dtype` below is the *compute* type, DTYPE_F32 or DTYPE_BF16, of activations that feed a
 * matrix product. The residual stream, norms' statistics, softmax and modulation are always f32,
 * accumulation is always f32.
 *
 * Errors: an operation returns nothing. The first failure in a device sticks, later operations do
 * nothing, and `status` reports it: so a step is written straight and checked once where it
 * synchronises. Wrong shapes are our own mistakes and are asserted.
 *
 * Threads: one thread calls into a device at a time; the device spreads work over its own threads.
 * Results do not depend on how many there are: work is cut into pieces by its size alone.
 *
 * Memory: pointers are device memory unless marked host. Operations allocate nothing; weights are
 * taken over once by linear_create and conv_create.
 *
 * Weights in place: the CPU copies the weights of convolutions and of small linear layers in the
 * order that its products read. A linear layer of device_config.in_place weights or more is read
 * where it lies, at every call, each part of it a few times over (rows / 768): nothing is read
 * at creation, so a mapped file is only paged in when the layer is used, and a caller may advise
 * the kernel about its pages ahead and behind. Results are the same bits either way. */
#ifndef VIDLOOM_KERNELS_OPS_H
#define VIDLOOM_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "kernels/args.h"
#include "kernels/nv12.h"
#include "kernels/tensor.h"

struct device; /* one device and everything a thread needs to drive it */
struct linear; /* a linear layer's weights, laid out as the device likes them */
struct conv;   /* a convolution's weights, likewise */

struct device_config {
    int threads;     /* CPU: threads to use; 0: one for each core this process may run on */
    int index;       /* GPU: which one; measuring: of `like` */
    const char *isa; /* CPU: cap for tests and comparison: "plain", "avx2", "avx512", "avx512_bf16";
                        NULL: best */
    const char *cache;      /* GPU: an existing folder, where what was measured about the machine is
                               kept for the next time; changes no result. NULL: nowhere */
    const struct ops *like; /* measuring: the table whose layers are counted; NULL: the CPU's */
    int64_t in_place; /* CPU: a linear layer of at least so many weights is not copied; 0: 2^20 */
};

struct device_info {
    char name[128]; /* "AMD EPYC, 2 threads, avx512_bf16" */
    char class[64]; /* results are byte-identical within one class: "cpu-avx512_bf16-2" */
    int threads;
    int index;     /* its number among the table's */
    size_t memory; /* bytes of device memory in all */
};

/* What a table asks of its callers, who are right without it, but slower. Memory is planned with
 * the wants of the table that will run: those of `like` where a plan is made on ops_measure. */
struct ops_wants {
    bool joins; /* conv in bf16 is given history right before its input, or conv_args.joined */
    /* Rows of a feed-forward at a time. Hidden rows are its largest activation: a CPU's stay in its
     * caches, while a GPU that multiplies few rows leaves processors idle in the last wave of
     * tiles. */
    int64_t part_rows;
    /* Bytes of the largest activation of a VAE's chunk: latent frames are taken as many at a time
     * as come to so much, or one. What a chunk's convolutions see of the one before is copied
     * to it (joins) or read in place. A CPU's chunk stays in a shared cache; a GPU's is large,
     * since every chunk copies that. */
    int64_t chunk_bytes;
    int chunk_frames; /* latent frames of a chunk at most; 0: any number */
    /* Opening a layer copies its weights to the device's own memory: what is open is better kept
     * than opened again. */
    bool uploads;
};

#define OPS_COMBINE_MAX   6
#define OPS_KEY_MAX       256 /* bytes of a key of `repeat` */
#define OPS_DOWNLOADS_MAX 4

struct ops {
    const char *name; /* "cpu", "cuda", "measure" */

    /* -- device ------------------------------------------------------------------------------ */
    /* Whether device_open would take device `index`: ERR_MISSING when there are not so many,
     * ERR_UNSUPPORTED when it cannot be used. Takes little time and nothing of its memory. */
    enum error_code (*device_probe)(int index, struct error *error);
    /* Whether device `index` keeps and multiplies weights of F8_E4M3 as they are (linear_create);
     * false too where there is none. */
    bool (*multiplies_f8)(int index);
    /* Whether device `index` attends in 8 bits where it may (attention_args.narrow) with heads of
     * so many channels, in bf16. */
    bool (*attends_narrow)(int index, int64_t head_dim);
    enum error_code (*device_open)(struct device **out, const struct device_config *config,
                                   struct error *error);
    void (*device_close)(struct device **device); /* NULL is fine; weights are closed first */
    void (*device_info)(struct device *device, struct device_info *out);
    /* Wait for what was queued; report and clear the first failure. */
    enum error_code (*status)(struct device *device, struct error *error);
    /* Device memory; arena_close releases it. On a GPU that is short of it, linear layers' weights
     * give way, to arenas and to each other: they move to the host's memory and come to the device
     * when they are used, the next one beside the product of this one. ERR_MEMORY when all have
     * gone. */
    enum error_code (*arena_open)(struct device *device, struct arena *out, size_t bytes,
                                  struct error *error);
    void (*upload)(struct device *device, void *out, const void *host, size_t bytes);
    void (*download)(struct device *device, void *host, const void *in, size_t bytes); /* waits */
    /* Host memory for downloads that do not wait; arena_close releases it, before the device is
     * closed. */
    enum error_code (*staging_open)(struct device *device, struct arena *out, size_t bytes,
                                    struct error *error);
    /* Queue a download into staging memory; what is queued after it may overwrite `in`. The bytes
     * are there when download_end of the same `host` returns; it waits for no more, and reports the
     * first failure that is known by then, as status does. At most OPS_DOWNLOADS_MAX have begun and
     * not ended. status ends all. */
    void (*download_begin)(struct device *device, void *host, const void *in, size_t bytes);
    enum error_code (*download_end)(struct device *device, const void *host, struct error *error);
    /* Bytes of device memory that weights taken over so far occupy (less what gave way), and bytes
     * of host memory (of mapped files, as a rule) that they are read from in place. */
    size_t (*weight_bytes)(struct device *device);
    size_t (*mapped_bytes)(struct device *device);
    /* What weight_bytes come to at least, when all that can has given way, with the memory that it
     * then passes through. On a CPU nothing gives way: weight_bytes. */
    size_t (*weight_bytes_least)(struct device *device);
    /* From now on weights give way as they do to arenas so that they occupy at most so many bytes,
     * or as few as they can; 0: as many as there is room for. */
    void (*limit_weights)(struct device *device, size_t bytes);

    /* Do what queue(context) does, which queues operations of this device and nothing else: no
     * upload, download, status, embed, creating or closing. It returns whether it queued all of
     * them. Two calls with the same key would queue the same operations on the same arguments,
     * pointers and numbers alike; what differs between them lies in device memory. So a device may
     * keep what it was given, and queue it again without asking. What was kept is forgotten when a
     * layer is closed. The CPU asks every time. */
    void (*repeat)(struct device *device, const void *key, size_t bytes,
                   bool (*queue)(void *context), void *context);

    /* -- weights ----------------------------------------------------------------------------- */
    /* One layer from `count` tensors [n_i,K] (host, any float type) stacked along the output, with
     * biases [n_i] or all NULL: packed QKV is count 3. The weights' data must outlive the layer: a
     * device may use them in place. `dtype` is the compute type, to which they are rounded.
     *
     * Weights of type I8 (with scales: kernels/tensor.h; kernels/quantise.h makes them) and compute
     * type bf16 make an int8 layer where the device has int8 products (AVX-512 VNNI; plain C;
     * GPUs): `in` stays bf16 and is rounded to int8 on the way, row by row and block by block
     * (kernels/cpu/int8.h has the formula), which costs about 1 % in the 2-norm. All that have the
     * products give the same sums, to the bit. The CPU always uses the weights in place. Wanted:
     * the same scale_columns in all tensors and, CPU: K and scale_columns multiples of 4,
     * scale_columns at least 32 (or K); GPU: K a multiple of 16, scale_columns one of 128 (or K),
     * an even number of outputs. Otherwise, and elsewhere, I8 is widened as any other type is.
     *
     * Weights of F8_E4M3 with a scale for each row, for all, or none, K and the number of outputs
     * multiples of 16, make a layer in f8 likewise (kernels/f8.h has the formula) in plain C and on
     * GPUs of compute capability 8.9 and newer, to 4e-3 of plain C's; elsewhere they are widened.
     * int8 has the same rate and, by blocks, a third of its error. */
    enum error_code (*linear_create)(struct device *device, struct linear **out,
                                     const struct tensor *const *weights,
                                     const struct tensor *const *biases, int count,
                                     enum dtype dtype, struct error *error);
    void (*linear_close)(struct device *device, struct linear **linear);
    /* weight [Cout,Cin,kt,kh,kw] (or [Cout,Cin,kh,kw]; host), bias [Cout] or NULL. */
    enum error_code (*conv_create)(struct device *device, struct conv **out,
                                   const struct conv_shape *shape, const struct tensor *weight,
                                   const struct tensor *bias, enum dtype dtype,
                                   struct error *error);
    void (*conv_close)(struct device *device, struct conv **conv);

    /* -- matrix products --------------------------------------------------------------------- */
    /* out[M,N] = epilogue(in[M,K] · Wᵀ + b); in is the layer's compute type, contiguous.
     * 1e-6 f32, 4e-3 bf16. */
    void (*linear)(struct device *device, void *out, const void *in, const struct linear *linear,
                   int64_t rows, const struct linear_epilogue *epilogue);
    /* The same with in = norm(x): the bits of the two operations, one after the other. Where the
     * products are in 8 bits GPUs round the rows while they make them, and write nothing else. */
    void (*norm_linear)(struct device *device, void *out, const struct norm_args *norm,
                        const struct linear *linear, int64_t rows,
                        const struct linear_epilogue *epilogue);
    /* Any lengths, head_dim a multiple of 4 up to 1024. 1e-6 f32, 8e-3 bf16. With args.narrow
     * (kernels/narrow.h) GPUs, CPUs that have int8 products, and plain C to define it, compute in 8
     * bits: 5e-2, the CPU's 2e-2 from plain C's; others do not. */
    void (*attention)(struct device *device, const struct attention_args *args);
    /* Whether `attention` of these args would be the vendor's own, as args.library asks: false
     * where there is none, or where it has no kernel for these types, lengths, distances and
     * addresses, and the table's own takes its place. Queues nothing; may take as long as making a
     * plan. */
    bool (*attends_by_library)(struct device *device, const struct attention_args *args);
    /* T' = (history+T-kt)/st+1, H' = (H+pads-kh)/sh+1, W' alike. 1e-6 f32, 4e-3 bf16. */
    void (*conv)(struct device *device, const struct conv *conv, const struct conv_args *args);

    /* -- norms ------------------------------------------------------------------------------- */
    /* out[r,:] = (x[r,:]-mean)·rsqrt(var+eps) ⊙ mul + add; x f32 [rows,width]; mul and add are
     * [width] or [groups,width] f32 chosen by group[r]; NULL: 1 and 0. out is `dtype`.
     * Serves LayerNorm (weight, bias) and modulation (1+scale, shift). */
    void (*layer_norm)(struct device *device, void *out, const float *x, const float *mul,
                       const float *add, const uint8_t *group, int64_t rows, int64_t width,
                       float eps, enum dtype dtype);
    /* out = x·rsqrt(mean x²+eps) ⊙ weight; x f32, out `dtype`, contiguous rows. umT5. */
    void (*rms_norm)(struct device *device, void *out, const float *x, const float *weight,
                     int64_t rows, int64_t width, float eps, enum dtype dtype);
    /* In place on `dtype` rows of heads*head_dim elements, `stride` apart: RMS over the whole row,
     * times weight, then rotary embedding of pairs (2j,2j+1) of each head by angle j of the row:
     * cosine, sine [rows,head_dim/2] f32; NULL: no rotation (cross-attention). */
    void (*qk_norm_rope)(struct device *device, void *x, int64_t stride, const float *weight,
                         const float *cosine, const float *sine, int64_t rows, int heads,
                         int head_dim, float eps, enum dtype dtype);
    /* VAE: out = act(x / max(‖x‖₂ over C, 1e-12) · √C ⊙ gamma), channels last, `dtype` both.
     * May be in place. activation: NONE or SILU. */
    void (*channel_norm)(struct device *device, void *out, const void *x, const float *gamma,
                         int64_t rows, int64_t channels, enum activation activation,
                         enum dtype dtype);

    /* -- elementwise ------------------------------------------------------------------------- */
    /* out = act(x) f32. */
    void (*activate)(struct device *device, float *out, const float *x, int64_t count,
                     enum activation activation);
    /* out[r,:] = gelu_tanh(x[r,:width]) ⊙ x[r,width:]; x `dtype` [rows,2·width]. umT5's gate. */
    void (*gelu_gate)(struct device *device, void *out, const void *x, int64_t rows, int64_t width,
                      enum dtype dtype);
    /* out[g,c,:] = table[c,:] + e[g,c,:] (+1 where bit c of scale_mask is set); [groups,chunks,D].
     * e has e_chunks chunks: chunks of them, or 1 used for every c (the head). */
    void (*modulation)(struct device *device, float *out, const float *table, const float *e,
                       int64_t groups, int chunks, int e_chunks, int64_t width,
                       uint32_t scale_mask);
    void (*convert)(struct device *device, void *out, enum dtype out_dtype, const void *x,
                    enum dtype dtype, int64_t count); /* to f32, bf16, f16; from f8 and i8 too */
    /* out = a + b, `dtype` all; out may be one of them. 1e-6 f32, 4e-3 bf16. */
    void (*add)(struct device *device, void *out, const void *a, const void *b, int64_t count,
                enum dtype dtype);
    /* out = Σ coefficient[i]·x[i], 1..OPS_COMBINE_MAX terms, f32, in order; out may be an x.
     * Samplers, guidance. */
    void (*combine)(struct device *device, float *out, const float *const *x,
                    const float *coefficient, int terms, int64_t count);
    void (*copy)(struct device *device, void *out, const void *x, size_t bytes);
    void (*zero)(struct device *device, void *out, size_t bytes);

    /* -- layout ------------------------------------------------------------------------------ */
    /* out[i,:] = table[ids[i],:] as f32; table [rows,width] any float type (host ids). */
    void (*embed)(struct device *device, float *out, const struct tensor *table,
                  const int32_t *host_ids, int64_t count);
    /* Latents [C,T,H,W] f32 to tokens [T·H/2·W/2, row_stride], written as `dtype` at columns
     * first..first+4C: column first + (c·2+kh)·2+kw. Several sources (noisy, mask, condition) fill
     * one row by different `first`, in units of elements. Patch (1,2,2). */
    void (*patchify)(struct device *device, void *out, int64_t row_stride, int64_t first,
                     const float *latents, int channels, int64_t frames, int64_t height,
                     int64_t width, enum dtype dtype);
    /* Head's tokens [L,4C] f32, order (kh,kw,c) with c fastest, to latents [C,T,H,W] f32. */
    void (*unpatchify)(struct device *device, float *latents, const float *tokens, int channels,
                       int64_t frames, int64_t height, int64_t width);
    /* [C,T,H,W] f32 to [T,H,W,C] `dtype`, x·mul[c]+add[c] (f32 [C]; NULL: 1 and 0). */
    void (*to_channels_last)(struct device *device, void *out, const float *x, const float *mul,
                             const float *add, int channels, int64_t pixels, enum dtype dtype);
    /* [T·H·W,row_channels] `dtype` to [C,T·H·W] f32 of the first C channels, x·mul[c]+add[c]. */
    void (*to_channels_first)(struct device *device, float *out, const void *x, const float *mul,
                              const float *add, int channels, int row_channels, int64_t pixels,
                              enum dtype dtype);
    /* Nearest ×2 in H and W: [T,H,W,C] to [T,2H,2W,C]. */
    void (*upsample)(struct device *device, void *out, const void *x, int64_t frames,
                     int64_t height, int64_t width, int64_t channels, enum dtype dtype);
    /* [T,H,W,2C] to [2T,H,W,C]: first C channels are the even frames, last C the odd ones. */
    void (*interleave_frames)(struct device *device, void *out, const void *x, int64_t frames,
                              int64_t pixels, int64_t channels, enum dtype dtype);
    /* Fine to coarse: with v[(c·ft+a)·fs²+b·fs+e] = x[ft·t+a-lack,fs·y+b,fs·x+e,c], or 0 where a
     * frame is lacking, and r = C·ft·fs²/D: out[t,y,x,d] is the mean of v[d·r..(d+1)·r). Averages
     * (Wan2.2's AvgDown) or, where r is 1, a patch of pixels to channels. 1e-6 f32, 4e-3 bf16. */
    void (*fold)(struct device *device, const struct fold_args *args);
    /* Coarse to fine: out[ft·t+a-lack,fs·y+b,fs·x+e,c] is x[t,y,x,⌊((c·ft+a)·fs²+b·fs+e)/r⌋], each
     * value r = C·ft·fs²/D times (Wan2.2's DupUp). */
    void (*unfold)(struct device *device, const struct fold_args *args);
    /* Pixels: u8 0..255 to -1..1 and back (clamped, rounded to nearest even). */
    void (*from_pixels)(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                        enum dtype dtype);
    void (*to_pixels)(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                      enum dtype dtype);
    /* A picture to the planes that an encoder takes (kernels/nv12.h). Exact. */
    void (*to_nv12)(struct device *device, const struct nv12_args *args);

    /* -- what is no operation ---------------------------------------------------------------- */
    /* Of a CUDA device its CUcontext, for a library that reads the device's memory; else NULL. */
    void *(*context)(struct device *device);
    struct ops_wants wants;
};

/* The table of this machine's CPU: plain C, overwritten per feature found. Always there. */
const struct ops *ops_cpu(void);
/* Computes nothing: for planning sizes with measuring arenas. linear_create and conv_create count
 * the bytes that the CPU table would hold, or a GPU's (device_config.like). */
const struct ops *ops_measure(void);
/* The table of that name: "cpu" is ops_cpu; any other is in a shared object libvidloom_NAME.so,
 * beside the program or in ../lib/vidloom from there. Errors: ERR_MISSING says where it was looked
 * for; ERR_UNSUPPORTED: it is there but cannot be loaded; ERR_USAGE: no name. */
MUST_CHECK enum error_code ops_load(const struct ops **out, const char *name, struct error *error);
/* The table and the number of a device that is named as people do: "cuda:1"; "cuda" is its first.
 * The device is not looked at. Errors: ops_load's. */
MUST_CHECK enum error_code ops_find(const struct ops **out, int *index, const char *device,
                                    struct error *error);

#endif
