/* What every component of a model works with: a device with its operations, and the two lifetimes
 * of device memory. The measuring runtime has the same shape, so that one code path both runs and
 * plans: `measure` is ops_measure() and arenas that only count. */
#ifndef VIDLOOM_WORKER_MODEL_RUNTIME_H
#define VIDLOOM_WORKER_MODEL_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/arena.h"
#include "kernels/ops.h"
#include "worker/model/stream.h"

struct runtime {
    const struct ops *ops;
    struct device *device;
    enum dtype dtype;  /* compute type */
    enum dtype narrow; /* what linear layers' weights are made at opening: BF16, I8, F8_E4M3; or
                          F32, 0: they stay as they are */
    struct ops_wants wants; /* of the table that runs, when measuring too */
    bool attention8;        /* the video attends to itself in 8 bits, where the device does so */
    struct arena *params;   /* device, as long as the model: norms' weights, modulation tables */
    struct arena *made; /* host, as long: weights that no file has as they are, random or narrower.
                           NULL: in params, where that is the host's memory */
    struct arena *work; /* device, one request; reserved once at its planned size */
    struct streamer *streamer; /* of weights that are used in their files; NULL: they come when
                                  they are touched */
    bool streaming;            /* under a limit that they do not fit */
    /* May be NULL. Once it is set the operations below do nothing more, so that whatever is at hand
     * ends soon; what it gives is of no use, and model_run says so. */
    const atomic_bool *cancel;
    double flops_step; /* of the sampler's last step, when measuring */
    double flops;      /* of linear, attention and conv so far; a multiply-add counts two */
};

/* A linear layer and a convolution with what their callers count by. */
struct layer {
    struct linear *linear;
    int64_t in, out;
};

struct filter {
    struct conv *conv;
    struct conv_shape shape;
};

/* Blocks of the request's arena. Planning has made sure that they fit, hence no error: running out
 * is our own mistake and ends the process. */
void *work_alloc(struct runtime *runtime, int64_t elements, enum dtype dtype);
float *work_floats(struct runtime *runtime, int64_t elements);

/* A parameter's copy in the model's device memory. NULL when it is full, which opening checks. */
const float *params_floats(struct runtime *runtime, const float *host, int64_t count);

/* Where weights are made. */
struct arena *runtime_made(struct runtime *runtime);
/* Bytes of weights that the device holds or uses in place, but those in streams. */
size_t runtime_weights(const struct runtime *runtime);

bool run_is_stopped(const struct runtime *runtime);
/* Before the layers of a stream's block; `stream` may be NULL. */
void run_block(struct runtime *runtime, struct stream *stream, int block);

/* The operations, counting their arithmetic. */
void run_linear(struct runtime *runtime, void *out, const void *in, const struct layer *layer,
                int64_t rows, const struct linear_epilogue *epilogue);
/* norm->rows must hold [rows, layer->in] of the runtime's type. */
void run_norm_linear(struct runtime *runtime, void *out, const struct norm_args *norm,
                     const struct layer *layer, int64_t rows,
                     const struct linear_epilogue *epilogue);
void run_attention(struct runtime *runtime, const struct attention_args *args);
void run_conv(struct runtime *runtime, const struct filter *filter, const struct conv_args *args);

#endif
