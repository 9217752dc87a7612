/* RGB to NV12, the planes that cards' encoders take: bt709 in limited range, colour at half the
 * size in both directions.
 *
 * In whole numbers, so that every device gives the same bytes. Luma is rounded from the pixel.
 * Colour is the matrix of a bicubic mean of 8x8 pixels about the middle of a block of 2x2 (edges
 * repeat): what libswscale gives the other encoders, to within one level. */
#ifndef VIDLOOM_KERNELS_NV12_H
#define VIDLOOM_KERNELS_NV12_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct nv12_planes {
    uint8_t *luma, *chroma;             /* [H,W]; [H/2,W/2,2]: Cb, Cr */
    int64_t luma_stride, chroma_stride; /* bytes from row to row */
};

/* A picture [H,W,3] u8; H and W are even. */
struct nv12_args {
    struct nv12_planes out;
    const uint8_t *rgb;
    int64_t height, width;
};

/* Weights of pixels -3..4 from a block's first one: the cubic of a = -0.6 at half the distance. */
#define NV12_TAPS                                                                                  \
    { -4, -11, 31, 112, 112, 31, -11, -4 }
enum {
    NV12_REACH = 3, /* pixels before a block's first one */
    NV12_LUMA_BITS = 16,
    NV12_LUMA_R = 11966, /* 219/255 of 0.2126, 0.7152, 0.0722 */
    NV12_LUMA_G = 40254,
    NV12_LUMA_B = 4064,
    NV12_CHROMA_BITS = 13, /* beside the 16 of the taps */
    NV12_CB_R = -824,      /* 224/255 of (B-Y)/1.8556 and (R-Y)/1.5748; grey has none */
    NV12_CB_G = -2774,
    NV12_CB_B = 3598,
    NV12_CR_R = 3598,
    NV12_CR_G = -3268,
    NV12_CR_B = -330
};

/* Rows of blocks first..end-1 of height/2, in plain C. */
void nv12_rows(const struct nv12_args *args, int64_t first, int64_t end);

#ifdef __cplusplus
}
#endif

#endif
