/* The VAEs: both ways, a latent frame at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/parity/parity.h"

struct opened {
    struct parity_bench bench;
    struct vae_config config;
    struct weights *file;
    struct vae *vae;
};

static enum error_code open_vae(struct opened *o, const struct parity_given *given,
                                struct error *error) {
    char path[FILE_PATH_BYTES];
    memset(o, 0, sizeof *o);
    enum error_code code = parity_bench_open(&o->bench, given, error);
    if (code == ERR_OK)
        code = file_join(path, given->folder, "vae", error);
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
static void widen_bound(struct parity_result *result, const struct parity_given *given) {
    double own = parity_number(given->tensors, "bfloat16", 0, 0);
    if (given->dtype == DTYPE_BF16 && own > result->bound)
        result->bound = own;
}

/* Frames [count,H,W,3] of the compute type, in the bench's memory, to out[3][..] at frame `at`,
 * clamped. */
static void keep_frames(float *out, int64_t at, const struct tensor *pixels,
                        const struct runtime *runtime, const void *frames, int64_t count) {
    int64_t plane = pixels->dim[2] * pixels->dim[3];
    float *from = table_get(runtime, frames, count * plane * 3, runtime->dtype);
    for (int64_t i = 0; i < count * plane; i++)
        for (int64_t c = 0; c < 3; c++)
            out[(c * pixels->dim[1] + at) * plane + i] = fminf(fmaxf(from[3 * i + c], -1), 1);
    free(from);
}

enum error_code parity_decode(struct parity_result *result, const struct parity_given *given,
                              struct error *error) {
    const struct weights *tensors = given->tensors;
    struct opened o;
    const struct tensor *latents = NULL, *pixels = NULL;
    float *got = NULL;
    enum error_code code = open_vae(&o, given, error);
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
            keep_frames(got, at, pixels, &o.bench.runtime, frames, count);
            at += count;
        }
        code = o.bench.runtime.ops->status(o.bench.runtime.device, error);
        parity_measure(result, got, pixels);
        widen_bound(result, given);
    }
    free(got);
    close_vae(&o);
    return code;
}

/* [3,T,H,W] f32 to [T,H,W,3] of the compute type in work memory; NULL: no memory. */
static void *take_pixels(struct runtime *runtime, const struct tensor *pixels) {
    int64_t count = tensor_elements(pixels), area = count / 3;
    float *last = malloc((size_t)count * sizeof *last);
    if (last == NULL)
        return NULL;
    for (int64_t i = 0; i < area; i++)
        for (int64_t c = 0; c < 3; c++)
            last[3 * i + c] = ((const float *)pixels->data)[c * area + i];
    float *exact = table_put_floats(runtime, last, count);
    void *out = work_alloc(runtime, count, runtime->dtype);
    runtime->ops->convert(runtime->device, out, runtime->dtype, exact, DTYPE_F32, count);
    free(last);
    return out;
}

enum error_code parity_encode(struct parity_result *result, const struct parity_given *given,
                              struct error *error) {
    const struct weights *tensors = given->tensors;
    struct opened o;
    const struct tensor *latents = NULL, *pixels = NULL;
    void *in = NULL;
    enum error_code code = open_vae(&o, given, error);
    if (code == ERR_OK)
        code = parity_need(&latents, tensors, "latents", error);
    if (code == ERR_OK)
        code = parity_need(&pixels, tensors, "pixels", error);
    if (code == ERR_OK && (in = take_pixels(&o.bench.runtime, pixels)) == NULL)
        code = error_set(error, ERR_MEMORY, "no memory");
    if (code == ERR_OK) {
        struct runtime *runtime = &o.bench.runtime;
        float *got = work_floats(runtime, tensor_elements(latents));
        vae_encode(o.vae, runtime, got, in, pixels->dim[1], latents->dim[1], latents->dim[2],
                   latents->dim[3], 1);
        code = runtime->ops->status(runtime->device, error);
        parity_measure_there(result, &o.bench, got, latents);
        widen_bound(result, given);
    }
    close_vae(&o);
    return code;
}
