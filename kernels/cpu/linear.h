/* Linear layers and convolutions inside this folder. */
#ifndef VIDLOOM_KERNELS_CPU_LINEAR_H
#define VIDLOOM_KERNELS_CPU_LINEAR_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"

#define PLAIN_COLUMNS 64 /* output columns that the plain products keep in registers and L1 */

struct linear_args {
    void *out;
    const void *in;
    const struct linear *linear;
    int64_t rows;
    const struct linear_epilogue *epilogue;
    const struct gemm *gemm;
};

/* Of a row that is summed at a stretch: elements. */
int64_t linear_step(const struct gemm *gemm);
/* Whether rows of this depth fit scratch memory. */
bool linear_fits(const struct gemm *gemm, int64_t inputs);
struct gemm_finish linear_finish(const struct linear_args *args);
void linear_gemm(struct device *device, const struct linear_args *args);

struct conv_call {
    const struct conv *conv;
    struct conv_args args;
    int64_t out_frames, out_height, out_width;
    const struct gemm *gemm;
};

/* Frame `frame` of the input, history first; NULL: zeros. */
const void *conv_frame(const struct conv_call *call, int64_t frame);
void conv_gemm(struct device *device, const struct conv_call *call);

void attention_gemm(struct device *device, const struct attention_args *args,
                    const struct gemm *gemm);

/* Layers in f8 (kernels/f8.h); args are linear_args. */
rows_function f8_linear_plain;

/* In 8 bits (kernels/narrow.h); args are attention_args, rows are (head, query). */
rows_function attention_narrow_plain;

static inline const struct gemm *level_gemm(const struct cpu_level *level, enum dtype dtype) {
    return dtype == DTYPE_BF16 ? level->gemm_bf16 : level->gemm_f32;
}

void *weight_alloc(size_t bytes);
/* The tensor, and the row of it, that row *n of the stacked matrix is. */
const struct tensor *linear_part(const struct linear *linear, int64_t *n);
struct gemm_source linear_source(const struct linear *linear);
void linear_finish_plain(const struct linear_args *args, int64_t m, int64_t first, const float *sum,
                         int64_t columns);

#endif
