/* What operations are given (kernels/ops.h says what they do with it). Read by C and by the CUDA
 * files, which are C++ and do not see the table. */
#ifndef VIDLOOM_KERNELS_ARGS_H
#define VIDLOOM_KERNELS_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tensor.h"

/* Weights of GPUs that give way (kernels/cuda/residence.c): of layers whose matrix has so many
 * bytes, through so many buffers of the largest one's size: a feed-forward's two, and the one after
 * it. */
#define WEIGHTS_MOVE_LEAST   ((size_t)1 << 16)
#define WEIGHTS_MOVE_BUFFERS 3

enum activation { ACTIVATION_NONE, ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_GELU_ERF };

/* What happens to a linear layer's y = x·Wᵀ + b before it is written. */
struct linear_epilogue {
    enum activation activation; /* y = act(y) */
    const float *gate;          /* [N] f32 or [groups,N]; y = gate ⊙ y; NULL: none. In bf16 it may
                                 * be rounded into the weights */
    const uint8_t *group;       /* [M]: row of `gate` for each row; NULL: row 0 */
    bool accumulate;            /* out += y (out is f32) instead of out = y */
    enum dtype out_dtype;       /* f32 or the compute type */
};

/* Rows of a linear layer that a norm makes of f32 rows: ops.layer_norm or, with `rms`,
 * ops.rms_norm, whose weight is `mul`. */
struct norm_args {
    const float *x;         /* [M,K] */
    const float *mul, *add; /* [K] or [groups,K]; NULL: 1 and 0. RMS: [K], and NULL */
    const uint8_t *group;   /* [M]: row of mul and add for each row; NULL: row 0 */
    float eps;
    bool rms;
    void *rows; /* memory for [M,K] of the layer's compute type; what is in it afterwards is the
                   device's affair */
};

struct attention_args {
    const void *q, *k, *v; /* element (token,head,e) at token*stride + head*E + e */
    void *out;             /* same layout, compute type */
    int64_t q_stride, k_stride, v_stride, out_stride; /* elements */
    int64_t q_length, k_length;
    int heads, head_dim;
    float scale;           /* softmax(scale · q kᵀ + bias) v */
    const float *key_bias; /* [k_length] f32 added to every query's logits; NULL: none */
    const float *bias;     /* [heads,q_length,k_length] f32 (umT5); NULL: none */
    void *narrow;          /* memory for 8 bits, narrow_layout's bytes, where narrow_suits and the
                              device may do so; overwritten. NULL: in the compute type */
    bool library;          /* by the vendor's own attention where ops.attends_by_library says so,
                              to compare with */
    enum dtype dtype;
};

struct conv_shape {
    int kernel_t, kernel_h, kernel_w; /* taps */
    int stride_t, stride_h, stride_w;
    int in_channels, out_channels;
};

struct conv_args {
    void *out;                     /* [T',H',W',Cout] compute type */
    const void *in;                /* [T,H,W,Cin] compute type */
    const void *residual;          /* like out, added; NULL: none. May be out itself */
    const void *history;           /* frames before those of `in`; NULL: zeros, at no cost */
    int history_frames;            /* of it; 0: none */
    void *joined;                  /* memory for conv_join's bytes (kernels/join.h) where the table
                                      wants it (ops.wants); overwritten. NULL: slower there */
    int64_t frames, height, width; /* T, H, W of `in` */
    int pad_top, pad_bottom, pad_left, pad_right; /* zeros */
};

/* Blocks of ft frames and fs×fs pixels of the fine side [T,H,W,C] are pixels of the coarse side
 * [⌈T/ft⌉,H/fs,W/fs,D]. Where ft does not divide T, it is the first block that lacks its first
 * `lack` = ⌈T/ft⌉·ft-T frames: the first frame of a video is a latent frame by itself. */
struct fold_args {
    void *out;
    const void *x;                 /* out and x: the fine and the coarse side, or the reverse */
    int64_t frames, height, width; /* T, H, W */
    int channels, folded;          /* C, D; D divides C·ft·fs² */
    int factor_t, factor_s;        /* ft, fs; ft·fs² at most 64 */
    bool columns_first;            /* a block's order is (t,column,row) instead of (t,row,column) */
    bool accumulate;               /* out += instead of out = */
    enum dtype dtype;
};

#endif
