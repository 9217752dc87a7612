#include "kernels/nv12.h"

#include <string.h>

static int64_t within(int64_t i, int64_t count) {
    return i < 0 ? 0 : i < count ? i : count - 1;
}

static uint8_t luma_of(const uint8_t *rgb) {
    int sum = NV12_LUMA_R * rgb[0] + NV12_LUMA_G * rgb[1] + NV12_LUMA_B * rgb[2];
    return (uint8_t)((sum + (16 << NV12_LUMA_BITS) + (1 << (NV12_LUMA_BITS - 1))) >>
                     NV12_LUMA_BITS);
}

/* sum: of the matrix's row, over the taps. */
static uint8_t chroma_of(int64_t sum) {
    const int bits = NV12_CHROMA_BITS + 16;
    int64_t value = (sum + ((int64_t)128 << bits) + ((int64_t)1 << (bits - 1))) >> bits;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Columns first.. of the picture, some past its edges: of each value the sum over a block row's
 * eight rows. */
static void column_sums(int *sum, const struct nv12_args *args, int64_t y, int64_t first,
                        int64_t columns) {
    static const int tap[] = NV12_TAPS;
    int64_t from = first > 0 ? 0 : -first;
    int64_t to = args->width - first < columns ? args->width - first : columns;
    memset(sum, 0, (size_t)columns * 3 * sizeof *sum);
    for (int j = 0; j < 8; j++) {
        int64_t row = within(2 * y - NV12_REACH + j, args->height);
        const uint8_t *rgb = args->rgb + (row * args->width + first + from) * 3;
        for (int64_t i = 0; i < (to - from) * 3; i++) {
            sum[from * 3 + i] += tap[j] * rgb[i];
        }
    }
    for (int64_t i = 0; i < from; i++) {
        memcpy(sum + i * 3, sum + from * 3, 3 * sizeof *sum);
    }
    for (int64_t i = to; i < columns; i++) {
        memcpy(sum + i * 3, sum + (to - 1) * 3, 3 * sizeof *sum);
    }
}

/* sum: of the block's eight columns. */
static void block_chroma(uint8_t *out, const int *sum) {
    static const int tap[] = NV12_TAPS;
    int64_t mean[3] = {0};
    for (int i = 0; i < 8 * 3; i++) {
        mean[i % 3] += tap[i / 3] * sum[i];
    }
    out[0] = chroma_of(NV12_CB_R * mean[0] + NV12_CB_G * mean[1] + NV12_CB_B * mean[2]);
    out[1] = chroma_of(NV12_CR_R * mean[0] + NV12_CR_G * mean[1] + NV12_CR_B * mean[2]);
}

static void chroma_row(uint8_t *out, const struct nv12_args *args, int64_t y) {
    enum { STRIP = 64 }; /* blocks at a time */
    int sum[(2 * STRIP + 6) * 3];
    const int64_t blocks = args->width / 2;
    for (int64_t x = 0; x < blocks; x += STRIP) {
        int64_t count = blocks - x < STRIP ? blocks - x : STRIP;
        column_sums(sum, args, y, 2 * x - NV12_REACH, 2 * count + 6);
        for (int64_t i = 0; i < count; i++) {
            block_chroma(out + 2 * (x + i), sum + i * 6);
        }
    }
}

void nv12_rows(const struct nv12_args *args, int64_t first, int64_t end) {
    for (int64_t y = first; y < end; y++) {
        for (int64_t row = 2 * y; row < 2 * y + 2; row++) {
            uint8_t *luma = args->out.luma + row * args->out.luma_stride;
            for (int64_t x = 0; x < args->width; x++) {
                luma[x] = luma_of(args->rgb + (row * args->width + x) * 3);
            }
        }
        chroma_row(args->out.chroma + y * args->out.chroma_stride, args, y);
    }
}
