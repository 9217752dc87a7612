/* The VAEs: both ways, a latent frame at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/parity/parity.h"
#include "worker/model/numbers.h"

struct opened {
    struct parity_bench bench;
    struct vae_config config;
    struct weights *file;
    struct vae *vae;
};

static enum error_code open_vae(struct opened *o, const char *folder, enum dtype dtype,
                                struct error *error) {
    char path[FILE_PATH_BYTES];
    memset(o, 0, sizeof *o);
    enum error_code code = parity_bench_open(&o->bench, dtype, error);
    if (code == ERR_OK)
        code = file_join(path, folder, "vae", error);
    if (code == ERR_OK)
        code = config_read_vae(&o->config, path, NULL, error);
    if (code == ERR_OK)
        code = weights_open_folder(&o->file, path, "diffusion_pytorch_model", error);
    return code == ERR_OK ? vae_open(&o->vae, &o->bench.runtime, o->file, &o->config, NULL, error)
                          : code;
}

static void close_vae(struct opened *o) {
    vae_close(&o->bench.runtime, &o->vae);
    weights_close(&o->file);
    parity_bench_close(&o->bench);
}

/* In bf16 we need not be nearer than the reference is to itself: its own error there is in the
 * case. */
static void widen_bound(struct parity_result *result, const struct weights *tensors,
                        enum dtype dtype) {
    double own = parity_number(tensors, "bfloat16", 0, 0);
    if (dtype == DTYPE_BF16 && own > result->bound)
        result->bound = own;
}

/* Frames [count,H,W,3] of the compute type to out[3][..] at frame `at`, clamped. */
static void keep_frames(float *out, int64_t at, const struct tensor *pixels, const void *frames,
                        int64_t count, enum dtype dtype) {
    int64_t plane = pixels->dim[2] * pixels->dim[3];
    const struct tensor from = {
        .data = frames, .dtype = dtype, .rank = 1, .dim = {count * plane * 3}};
    for (int64_t i = 0; i < count * plane; i++)
        for (int64_t c = 0; c < 3; c++) {
            float value;
            numbers_to_float(&value, &from, 3 * i + c, 1);
            out[(c * pixels->dim[1] + at) * plane + i] = fminf(fmaxf(value, -1), 1);
        }
}

enum error_code parity_decode(struct parity_result *result, const char *folder,
                              const struct weights *tensors, enum dtype dtype,
                              struct error *error) {
    struct opened o;
    const struct tensor *latents = NULL, *pixels = NULL;
    float *got = NULL;
    enum error_code code = open_vae(&o, folder, dtype, error);
    if (code == ERR_OK)
        code = parity_need(&latents, tensors, "latents", error);
    if (code == ERR_OK)
        code = parity_need(&pixels, tensors, "pixels", error);
    if (code == ERR_OK && (got = malloc((size_t)tensor_elements(pixels) * sizeof *got)) == NULL)
        code = error_set(error, ERR_MEMORY, "no memory");
    if (code == ERR_OK) {
        struct vae_stream stream;
        int64_t at = 0, count;
        const void *frames;
        vae_stream_open(&stream, o.vae, &o.bench.runtime, false, latents->dim[1], latents->dim[2],
                        latents->dim[3], 1);
        while ((frames = vae_decode_next(&stream, latents->data, &count)) != NULL) {
            keep_frames(got, at, pixels, frames, count, dtype);
            at += count;
        }
        code = o.bench.runtime.ops->status(o.bench.runtime.device, error);
        parity_measure(result, got, pixels);
        widen_bound(result, tensors, dtype);
    }
    free(got);
    close_vae(&o);
    return code;
}

/* [3,T,H,W] f32 to [T,H,W,3] of the compute type in work memory. */
static void *take_pixels(struct runtime *runtime, const struct tensor *pixels) {
    int64_t count = tensor_elements(pixels), area = count / 3;
    float *last = work_floats(runtime, count);
    void *out = work_alloc(runtime, count, runtime->dtype);
    for (int64_t i = 0; i < area; i++)
        for (int64_t c = 0; c < 3; c++)
            last[3 * i + c] = ((const float *)pixels->data)[c * area + i];
    runtime->ops->convert(runtime->device, out, runtime->dtype, last, DTYPE_F32, count);
    return out;
}

enum error_code parity_encode(struct parity_result *result, const char *folder,
                              const struct weights *tensors, enum dtype dtype,
                              struct error *error) {
    struct opened o;
    const struct tensor *latents = NULL, *pixels = NULL;
    enum error_code code = open_vae(&o, folder, dtype, error);
    if (code == ERR_OK)
        code = parity_need(&latents, tensors, "latents", error);
    if (code == ERR_OK)
        code = parity_need(&pixels, tensors, "pixels", error);
    if (code == ERR_OK) {
        struct runtime *runtime = &o.bench.runtime;
        void *in = take_pixels(runtime, pixels);
        float *got = work_floats(runtime, tensor_elements(latents));
        vae_encode(o.vae, runtime, got, in, pixels->dim[1], latents->dim[1], latents->dim[2],
                   latents->dim[3], 1);
        code = runtime->ops->status(runtime->device, error);
        parity_measure(result, got, latents);
        widen_bound(result, tensors, dtype);
    }
    close_vae(&o);
    return code;
}
