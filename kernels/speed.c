#include "kernels/speed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu/float.h"
#include "kernels/speed_internal.h"

#define SAMPLES   5
#define CALLS_MAX 2000
#define TOO_LONG  5.0 /* seconds of a call that is timed once: something is amiss */

/* Random numbers, repeated in every operand: CHUNK of them, from a place that differs from chunk to
 * chunk and from operand to operand. So no two rows are equal, which would hide a mistake. */
#define CHUNK   ((int64_t)1 << 20)
#define PLACES  ((int64_t)1 << 16)
#define PATTERN (CHUNK + PLACES)

static const struct speed_sizes full = {
    .arena_bytes = (size_t)6 << 30,
    .copy_bytes = (size_t)2 << 30,
    .product = 8192,
    .tokens = 32760,
    .text = 512,
    .heads_14b = 40,
    .vae_tokens = 6240,
    .shapes = {{"1.3b", 1536, 12, 8960}, {"14b", 5120, 40, 13824}},
    .frames = 4,
    .height = 480,
    .width = 832};
static const struct speed_sizes small = {.arena_bytes = (size_t)256 << 20,
                                         .copy_bytes = (size_t)8 << 20,
                                         .product = 256,
                                         .tokens = 240,
                                         .text = 32,
                                         .heads_14b = 3,
                                         .vae_tokens = 96,
                                         .shapes = {{"1.3b", 256, 2, 512}, {"14b", 384, 3, 640}},
                                         .frames = 2,
                                         .height = 32,
                                         .width = 48};

/* -- operands --------------------------------------------------------------------------------- */

void *speed_room(struct speed *s, size_t bytes) {
    void *out = s->code == ERR_OK ? arena_alloc(&s->arena, bytes) : NULL;
    if (s->code == ERR_OK && out == NULL) {
        s->code = error_set(s->error, ERR_MEMORY, "a shape needs more than the %zu bytes taken",
                            s->arena.capacity);
    }
    return out;
}

/* Multiples of 4, as kernels read 16 bytes at a time; the factors are odd, so they come back late.
 */
static int64_t place_of(int64_t salt, int64_t chunk) {
    return (salt * 331 + chunk * 1021) * 4 % PLACES;
}

float speed_value(const struct speed *s, int64_t salt, int64_t i) {
    return s->pattern[place_of(salt, i / CHUNK) + i % CHUNK];
}

void *speed_operand(struct speed *s, int64_t elements, enum dtype dtype, int64_t salt) {
    uint8_t *out = speed_room(s, (size_t)elements * dtype_bytes(dtype));
    for (int64_t i = 0; out != NULL && i < elements; i += CHUNK) {
        int64_t count = elements - i < CHUNK ? elements - i : CHUNK;
        s->ops->convert(s->device, out + (size_t)i * dtype_bytes(dtype), dtype,
                        s->there + place_of(salt, i / CHUNK), DTYPE_F32, count);
    }
    return out;
}

uint16_t *speed_weights(struct speed *s, int64_t elements, int64_t inputs) {
    uint16_t *out = malloc((size_t)elements * sizeof *out);
    uint16_t *rounded = malloc((size_t)PATTERN * sizeof *rounded);
    double scale = 1;
    while (scale * scale * (double)inputs > 1) {
        scale /= 2;
    }
    if (out == NULL || rounded == NULL) {
        if (s->code == ERR_OK) {
            s->code = error_set(s->error, ERR_MEMORY, "no memory for weights");
        }
        free(rounded);
        free(out);
        return NULL;
    }
    for (int64_t i = 0; i < PATTERN; i++) {
        rounded[i] = bf16_from_float(s->pattern[i] * (float)scale);
    }
    for (int64_t i = 0; i < elements; i += CHUNK) {
        int64_t count = elements - i < CHUNK ? elements - i : CHUNK;
        memcpy(out + i, rounded + place_of(0, i / CHUNK), (size_t)count * sizeof *out);
    }
    free(rounded);
    return out;
}

void speed_reset(struct speed *s) {
    arena_reset(&s->arena, (size_t)PATTERN * sizeof(float));
}

/* -- time ------------------------------------------------------------------------------------- */

static double time_calls(struct speed *s, speed_call *run, const void *args, int calls) {
    int64_t before = clock_monotonic_ns();
    for (int i = 0; i < calls; i++) {
        run(s, args);
    }
    if (s->code == ERR_OK) {
        s->code = s->ops->status(s->device, s->error);
    }
    return (double)(clock_monotonic_ns() - before) / (double)CLOCK_S / calls;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double speed_seconds(struct speed *s, speed_call *run, const void *args) {
    double sample[SAMPLES], budget = s->config->seconds > 0 ? s->config->seconds : 0.3;
    if (s->code != ERR_OK) {
        return 0;
    }
    /* Plans are made and algorithms measured in the first call: it never counts. */
    bool slow = time_calls(s, run, args, 1) > TOO_LONG;
    double once = s->code == ERR_OK ? time_calls(s, run, args, slow ? 1 : 2) : 0;
    if (slow || s->code != ERR_OK) {
        return s->code == ERR_OK ? once : 0;
    }
    double calls = budget / SAMPLES / (once > 0 ? once : 1e-9);
    for (int i = 0; i < SAMPLES; i++) {
        sample[i] = time_calls(s, run, args,
                               calls < 1           ? 1
                               : calls > CALLS_MAX ? CALLS_MAX
                                                   : (int)calls);
    }
    qsort(sample, SAMPLES, sizeof *sample, by_value);
    return s->code == ERR_OK ? sample[SAMPLES / 2] : 0;
}

/* -- figures ---------------------------------------------------------------------------------- */

void speed_sample(struct speed_samples *samples, double got, double expected) {
    samples->off += (got - expected) * (got - expected);
    samples->size += expected * expected;
    samples->count++;
}

static double error_of(const struct speed_samples *samples) {
    return samples != NULL && samples->count > 0 ? sqrt(samples->off / samples->size) : 0;
}

bool speed_right(struct speed *s, const char *key, const struct speed_samples *samples,
                 double tolerance) {
    if (s->code != ERR_OK) {
        return false;
    }
    if (error_of(samples) <= tolerance) { /* not so of NaN */
        return true;
    }
    if (s->wrong++ == 0) {
        (void)error_set(s->error, ERR_DEVICE,
                        "%s: wrong: of %lld numbers of the result the relative error is %.2g, at "
                        "most %.2g was expected. It has no figure. Run the operation's tests on "
                        "this table",
                        key, (long long)samples->count, error_of(samples), tolerance);
    }
    return false;
}

void speed_put(struct speed *s, const char *key, double value, const char *unit,
               const struct speed_samples *samples, const char *format, ...) {
    struct figure figure = {.key = key, .value = value, .unit = unit, .error = error_of(samples)};
    va_list values;
    va_start(values, format);
    (void)vsnprintf(figure.what, sizeof figure.what, format, values);
    va_end(values);
    if (s->code == ERR_OK) {
        s->config->put(s->config->user, &figure);
    }
}

/* -- all -------------------------------------------------------------------------------------- */

static void start(struct speed *s) {
    const struct device_config *device = &s->config->device;
    s->pattern = malloc((size_t)PATTERN * sizeof *s->pattern);
    if (s->pattern == NULL) {
        s->code = error_set(s->error, ERR_MEMORY, "no memory for random numbers");
        return;
    }
    random_normal(s->pattern, (size_t)PATTERN, 1, 1, 0);
    s->code = s->ops->device_open(&s->device, device, s->error);
    if (s->code == ERR_OK) {
        s->code = s->ops->arena_open(s->device, &s->arena, s->sizes->arena_bytes, s->error);
    }
    s->there = speed_room(s, (size_t)PATTERN * sizeof(float));
    if (s->there != NULL) {
        s->ops->upload(s->device, s->there, s->pattern, (size_t)PATTERN * sizeof(float));
    }
}

enum error_code speed_kernels(const struct speed_config *config, struct error *error) {
    static const struct {
        enum speed_group group;
        void (*measure)(struct speed *s);
    } groups[] = {{SPEED_ATTENTION, speed_attentions},
                  {SPEED_LINEAR, speed_products},
                  {SPEED_CONV, speed_convs},
                  {SPEED_ELEMENTWISE, speed_moves}};
    struct speed s = {.config = config,
                      .ops = config->ops,
                      .sizes = config->small ? &small : &full,
                      .error = error};
    if ((config->groups & (SPEED_ATTENTION | SPEED_LINEAR | SPEED_CONV | SPEED_ELEMENTWISE)) == 0) {
        return ERR_OK;
    }
    start(&s);
    for (size_t i = 0; i < sizeof groups / sizeof *groups && s.code == ERR_OK; i++) {
        if ((config->groups & groups[i].group) != 0) {
            groups[i].measure(&s);
        }
    }
    arena_close(&s.arena);
    if (s.device != NULL) {
        s.ops->device_close(&s.device);
    }
    free(s.pattern);
    return s.code == ERR_OK && s.wrong > 0 ? ERR_DEVICE : s.code;
}
