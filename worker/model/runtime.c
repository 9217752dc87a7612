#include "worker/model/runtime.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels/join.h"

void *work_alloc(struct runtime *runtime, int64_t elements, enum dtype dtype) {
    assert(elements >= 0);
    void *out = arena_array(runtime->work, (size_t)elements, dtype_bytes(dtype));
    if (out == NULL)
        abort(); /* the plan was wrong: better no result than a wild write */
    return out;
}

float *work_floats(struct runtime *runtime, int64_t elements) {
    return work_alloc(runtime, elements, DTYPE_F32);
}

const float *params_floats(struct runtime *runtime, const float *host, int64_t count) {
    float *out = arena_array(runtime->params, (size_t)count, sizeof *out);
    if (out != NULL)
        runtime->ops->upload(runtime->device, out, host, (size_t)count * sizeof *out);
    return out;
}

struct arena *runtime_made(struct runtime *runtime) {
    return runtime->made != NULL ? runtime->made : runtime->params;
}

size_t runtime_weights(const struct runtime *runtime) {
    return runtime->ops->weight_bytes(runtime->device) +
           runtime->ops->mapped_bytes(runtime->device) - streamer_bytes(runtime->streamer);
}

bool run_is_stopped(const struct runtime *runtime) {
    return runtime->cancel != NULL && atomic_load(runtime->cancel);
}

void run_block(struct runtime *runtime, struct stream *stream, int block) {
    if (stream != NULL && !runtime->work->measuring && !run_is_stopped(runtime))
        stream_enter(stream, block);
}

void run_linear(struct runtime *runtime, void *out, const void *in, const struct layer *layer,
                int64_t rows, const struct linear_epilogue *epilogue) {
    runtime->flops += 2.0 * (double)rows * (double)layer->in * (double)layer->out;
    if (run_is_stopped(runtime))
        return;
    runtime->ops->linear(runtime->device, out, in, layer->linear, rows, epilogue);
}

void run_norm_linear(struct runtime *runtime, void *out, const struct norm_args *norm,
                     const struct layer *layer, int64_t rows,
                     const struct linear_epilogue *epilogue) {
    runtime->flops += 2.0 * (double)rows * (double)layer->in * (double)layer->out;
    if (run_is_stopped(runtime))
        return;
    runtime->ops->norm_linear(runtime->device, out, norm, layer->linear, rows, epilogue);
}

void run_attention(struct runtime *runtime, const struct attention_args *args) {
    runtime->flops += 4.0 * (double)args->q_length * (double)args->k_length * args->heads *
                      (double)args->head_dim;
    if (run_is_stopped(runtime))
        return;
    runtime->ops->attention(runtime->device, args);
}

/* Taps over time that all frames of the output take together: zeros before a video cost nothing. */
static int64_t time_taps(const struct conv_shape *shape, const struct conv_args *args) {
    int64_t taps = 0;
    int64_t last = args->history_frames + args->frames - shape->kernel_t;
    for (int64_t t = 0; t <= last; t += shape->stride_t) {
        int64_t zeros = args->history == NULL ? args->history_frames - t : 0;
        taps += shape->kernel_t - (zeros > 0 ? zeros : 0);
    }
    return taps;
}

void run_conv(struct runtime *runtime, const struct filter *filter, const struct conv_args *args) {
    const struct conv_shape *s = &filter->shape;
    int64_t height =
        (args->height + args->pad_top + args->pad_bottom - s->kernel_h) / s->stride_h + 1;
    int64_t width =
        (args->width + args->pad_left + args->pad_right - s->kernel_w) / s->stride_w + 1;
    runtime->flops += 2.0 * (double)(time_taps(s, args) * height * width) * s->kernel_h *
                      s->kernel_w * s->in_channels * s->out_channels;
    if (run_is_stopped(runtime))
        return;
    size_t mark = runtime->work->used;
    struct conv_args joined = *args;
    size_t bytes = runtime->wants.joins && runtime->dtype == DTYPE_BF16
                       ? conv_join(s, args, runtime->dtype).bytes
                       : 0;
    joined.joined = bytes > 0 ? work_alloc(runtime, (int64_t)bytes, DTYPE_U8) : NULL;
    runtime->ops->conv(runtime->device, filter->conv, &joined);
    arena_reset(runtime->work, mark);
}
