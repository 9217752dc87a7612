#include "kernels/join.h"

struct conv_join conv_join(const struct conv_shape *shape, const struct conv_args *args,
                           enum dtype dtype) {
    const int64_t history = args->history_frames;
    struct conv_join out = {.outputs =
                                (history + args->frames - shape->kernel_t) / shape->stride_t + 1};
    if (history == 0 || args->history == NULL) {
        return out;
    }
    int64_t seeing = (history + shape->stride_t - 1) / shape->stride_t;
    out.seeing = seeing < out.outputs ? seeing : out.outputs;
    out.frames = (out.seeing - 1) * shape->stride_t + shape->kernel_t;
    out.bytes =
        (size_t)(out.frames * args->height * args->width * shape->in_channels) * dtype_bytes(dtype);
    return out;
}
