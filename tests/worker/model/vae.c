/* The video autoencoders against tensors that AutoencoderKLWan gave, in f32 and bf16, and against
 * themselves: in chunks as in one, planned as run, after NaN as before.
 *
 *     test_model_vae [--table NAME:INDEX] [FOLDER...]     (folders as tests/parity/vae.py writes
 * them) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/vae.h"

struct subject {
    const char *folder, *tensors;
    enum dtype dtype;
};

struct state {
    struct bench bench;
    struct weights *reference;
    int64_t stride; /* pixels of a latent, a side */
};

static struct state *open_state(const struct subject *subject) {
    struct error error = {0};
    if (access(subject->tensors, F_OK) != 0)
        return NULL; /* reported as skipped by every test */
    struct state *state = calloc(1, sizeof *state);
    assert_non_null(state);
    bench_start(&state->bench, subject->dtype);
    struct parts *parts = &state->bench.parts;
    ok(weights_open_folder(&parts->vae_file, subject->folder, "diffusion_pytorch_model", &error),
       &error);
    ok(config_read_vae(&parts->vae_config, subject->folder, NULL, &error), &error);
    ok(vae_open(&parts->vae, &state->bench.runtime, parts->vae_file, &parts->vae_config, NULL,
                &error),
       &error);
    ok(weights_open(&state->reference, subject->tensors, &error), &error);
    state->stride = parts->vae_config.space_stride;
    return state;
}

static void close_state(struct state *state) {
    if (state == NULL)
        return;
    weights_close(&state->reference);
    bench_close(&state->bench);
    free(state);
}

static struct state *state_of(void **argument) {
    struct state *state = *argument;
    if (state == NULL)
        skip();
    else
        arena_reset(state->bench.runtime.work, 0);
    return state;
}

/* The same numbers up to the rounding of sums that are cut elsewhere. */
static void same(const struct state *state, const char *what, const float *got,
                 const float *expected, int64_t count) {
    double error = relative_error(got, expected, count);
    if (!(error <= (state->bench.runtime.dtype == DTYPE_F32 ? 1e-6 : 4e-3)))
        fail_msg("%s: %.2e apart", what, error);
}

/* As near to the reference as every component is, or in bf16 as near as it is to itself, where the
 * file says so. */
static void near(const struct state *state, const char *what, const float *got,
                 const struct tensor *expected) {
    char name[64];
    (void)snprintf(name, sizeof name, "%s.bfloat16", what);
    const struct tensor *own = weights_find(state->reference, name);
    double error = relative_error(got, expected->data, tensor_elements(expected));
    enum dtype dtype = state->bench.runtime.dtype;
    if (own == NULL || dtype == DTYPE_F32) {
        close_enough(what, got, expected, dtype);
        return;
    }
    float bound = fmaxf(1e-2f, *(const float *)own->data);
    print_message("%-24s BF16 %.2e (bound %.2e)\n", what, error, (double)bound);
    assert_true(error <= (double)bound);
}

/* Pixels [3,T,H,W] of latents, clamped (malloc). */
static float *decode(struct state *state, const float *latents, int64_t frames, int64_t height,
                     int64_t width, int64_t chunk) {
    struct runtime *runtime = &state->bench.runtime;
    struct vae_stream stream;
    size_t mark = runtime->work->used;
    int64_t plane = height * width * state->stride * state->stride;
    int64_t total = (4 * (frames - 1) + 1) * plane, at = 0, count;
    float *all = malloc((size_t)total * 3 * sizeof *all);
    assert_non_null(all);
    vae_stream_open(&stream, state->bench.parts.vae, runtime, false, frames, height, width, chunk);
    const void *pixels;
    while ((pixels = vae_decode_next(&stream, latents, &count)) != NULL) {
        float *some = table_get(runtime, pixels, count * plane * 3, runtime->dtype);
        memcpy(all + at * 3, some, (size_t)(count * plane) * 3 * sizeof *all);
        at += count * plane;
        free(some);
    }
    assert_int_equal(at, total);
    arena_reset(runtime->work, mark);
    float *out = channels_first(all, 3, total);
    free(all);
    for (int64_t i = 0; i < total * 3; i++)
        out[i] = fminf(fmaxf(out[i], -1), 1);
    return out;
}

static float *decode_reference(struct state *state, const struct tensor *latents, int64_t chunk) {
    return decode(state, latents->data, latents->dim[1], latents->dim[2], latents->dim[3], chunk);
}

/* In chunks of every size the same pixels, and those of the reference. */
static void decodes(void **argument) {
    struct state *state = state_of(argument);
    const struct tensor *latents = reference(state->reference, "vae.decode.normalised");
    const struct tensor *pixels = reference(state->reference, "vae.decode.pixels");
    float *whole = decode_reference(state, latents, latents->dim[1]);
    near(state, "vae.decode", whole, pixels);
    for (int64_t chunk = 1; chunk < latents->dim[1]; chunk++) {
        float *parts = decode_reference(state, latents, chunk);
        same(state, "decoded in chunks", parts, whole, tensor_elements(pixels));
        free(parts);
    }
    free(whole);
}

/* The reference's pixels in the compute type, those from frame `given` on grey. */
static void *pictures(struct state *state, const struct tensor *pixels, int64_t given) {
    int64_t count = tensor_elements(pixels), frame = count / pixels->dim[1];
    float *first = widened(pixels->data, count, pixels->dtype);
    float *last = channels_last(first, 3, count / 3);
    memset(last + given * frame, 0, (size_t)(count - given * frame) * sizeof *last);
    void *in = narrowed(&state->bench, last, count);
    free(first);
    free(last);
    return in;
}

static void encodes(void **argument) {
    struct state *state = state_of(argument);
    struct runtime *runtime = &state->bench.runtime;
    const struct tensor *pixels = reference(state->reference, "vae.encode.pixels");
    const struct tensor *latents = reference(state->reference, "vae.encode.normalised");
    const void *in = pictures(state, pixels, pixels->dim[1]);
    float *out = work_floats(runtime, tensor_elements(latents));
    for (int64_t chunk = 1; chunk <= latents->dim[1]; chunk++) {
        vae_encode(state->bench.parts.vae, runtime, out, in, pixels->dim[1], latents->dim[1],
                   latents->dim[2], latents->dim[3], chunk);
        float *got = table_get(runtime, out, tensor_elements(latents), DTYPE_F32);
        near(state, "vae.encode", got, latents);
        free(got);
    }
}

/* Grey after the given frames is the same as grey frames that are given. */
static void encodes_grey(void **argument) {
    struct state *state = state_of(argument);
    struct runtime *runtime = &state->bench.runtime;
    const struct tensor *pixels = reference(state->reference, "vae.encode.pixels");
    const struct tensor *latents = reference(state->reference, "vae.encode.normalised");
    int64_t count = tensor_elements(latents);
    const void *in = pictures(state, pixels, 5);
    float *all = work_floats(runtime, count), *some = work_floats(runtime, count);
    vae_encode(state->bench.parts.vae, runtime, all, in, pixels->dim[1], latents->dim[1],
               latents->dim[2], latents->dim[3], 0);
    vae_encode(state->bench.parts.vae, runtime, some, in, 5, latents->dim[1], latents->dim[2],
               latents->dim[3], 1);
    float *a = table_get(runtime, some, count, DTYPE_F32);
    float *b = table_get(runtime, all, count, DTYPE_F32);
    same(state, "encoded with grey", a, b, count);
    free(a);
    free(b);
}

/* The smallest pictures, and lines of one latent. */
static void small_pictures(void **argument) {
    struct state *state = state_of(argument);
    static const int64_t sizes[][2] = {{1, 1}, {1, 5}, {3, 1}};
    int channels = state->bench.parts.vae_config.latent_channels;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t height = sizes[i][0], width = sizes[i][1], frames = 3;
        int64_t count = 9 * height * width * state->stride * state->stride * 3;
        float *latents = calloc((size_t)(channels * frames * height * width), sizeof *latents);
        for (int64_t k = 0; k < channels * frames * height * width; k++)
            latents[k] = sinf((float)k);
        float *whole = decode(state, latents, frames, height, width, frames);
        float *parts = decode(state, latents, frames, height, width, 1);
        same(state, "a small picture", parts, whole, count);
        free(latents);
        free(whole);
        free(parts);
    }
}

/* Broken latents end as pixels of some kind, and leave nothing behind. */
static void not_numbers(void **argument) {
    struct state *state = state_of(argument);
    const struct tensor *latents = reference(state->reference, "vae.decode.normalised");
    const struct tensor *pixels = reference(state->reference, "vae.decode.pixels");
    int64_t count = tensor_elements(latents);
    float *broken = malloc((size_t)count * sizeof *broken);
    static const float values[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int v = 0; v < 4; v++) {
        memcpy(broken, latents->data, (size_t)count * sizeof *broken);
        broken[count / 2] = values[v];
        free(decode_reference(state,
                              &(struct tensor){.data = broken,
                                               .dtype = DTYPE_F32,
                                               .rank = 4,
                                               .dim = {latents->dim[0], latents->dim[1],
                                                       latents->dim[2], latents->dim[3]}},
                              1));
    }
    float *after = decode_reference(state, latents, 1);
    near(state, "vae.decode", after, pixels);
    free(after);
    free(broken);
}

/* Bytes that a decode takes on the table that computes nothing. */
static size_t planned(struct state *state, int64_t frames, int64_t height, int64_t width,
                      int64_t chunk) {
    struct runtime dry = state->bench.runtime;
    struct arena work;
    struct vae_stream stream;
    int64_t count;
    dry.ops = ops_measure();
    dry.work = &work;
    arena_open_measuring(&work);
    vae_stream_open(&stream, state->bench.parts.vae, &dry, false, frames, height, width, chunk);
    while (vae_decode_next(&stream, NULL, &count) != NULL)
        ;
    size_t peak = work.peak;
    arena_close(&work);
    return peak;
}

/* What a decode of so many latent frames takes in fact. */
static size_t taken(struct state *state, int64_t frames, int64_t height, int64_t width,
                    int64_t chunk) {
    int64_t channels = state->bench.parts.vae_config.latent_channels;
    float *latents = calloc((size_t)(channels * frames * height * width), sizeof *latents);
    assert_non_null(latents);
    state->bench.work.peak = state->bench.work.used;
    free(decode(state, latents, frames, height, width, chunk));
    free(latents);
    return state->bench.work.peak;
}

/* Memory is what the plan says, and does not grow with the video: 5 frames or 45. */
static void memory(void **argument) {
    struct state *state = state_of(argument);
    const struct tensor *latents = reference(state->reference, "vae.decode.normalised");
    int64_t height = latents->dim[2], width = latents->dim[3];
    state->bench.work.peak = 0;
    free(decode_reference(state, latents, 1));
    assert_int_equal(state->bench.work.peak, planned(state, latents->dim[1], height, width, 1));
    state->bench.work.peak = 0;
    free(decode_reference(state, latents, 0)); /* as many as the device wants */
    assert_int_equal(state->bench.work.peak, planned(state, latents->dim[1], height, width, 0));
    assert_int_equal(taken(state, 2, height, width, 1), taken(state, 12, height, width, 1));
    int64_t few = 2 * (int64_t)state->bench.runtime.wants.chunk_frames;
    few = few > 0 ? few : 2; /* a CPU's chunk is one latent frame */
    assert_int_equal(planned(state, few, 60, 104, 0), planned(state, 21 + few, 60, 104, 0));
}

static int run_subject(const struct subject *subject) {
    struct state *state = open_state(subject);
    struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(decodes, state),
        cmocka_unit_test_prestate(encodes, state),
        cmocka_unit_test_prestate(encodes_grey, state),
        cmocka_unit_test_prestate(small_pictures, state),
        cmocka_unit_test_prestate(not_numbers, state),
        cmocka_unit_test_prestate(memory, state),
    };
    int failed = cmocka_run_group_tests_name(subject->folder, tests, NULL, NULL);
    close_state(state);
    return failed;
}

int main(int count, char **folders) {
    static const char *const committed[][2] = {
        {RANDOM_WAN "/vae", RANDOM_WAN "/reference.safetensors"},
        {POCKET "/vae", "tests/vectors/pocket.safetensors"},
        {"tests/worker/model/vectors/wan22_vae",
         "tests/worker/model/vectors/wan22_vae/reference.safetensors"},
    };
    int failed = 0;
    bench_choose(&count, folders);
    for (int i = 0; i < (count > 1 ? count - 1 : 3); i++) {
        char tensors[512];
        (void)snprintf(tensors, sizeof tensors, count > 1 ? "%s/reference.safetensors" : "%s",
                       count > 1 ? folders[1 + i] : committed[i][1]);
        const char *folder = count > 1 ? folders[1 + i] : committed[i][0];
        failed += run_subject(&(struct subject){folder, tensors, DTYPE_F32});
        failed += run_subject(&(struct subject){folder, tensors, DTYPE_BF16});
    }
    return failed;
}
