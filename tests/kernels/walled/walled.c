/* A backend over the CPU's operations with the manners of a GPU: its memory can be read and written
 * by operations alone, and operations take no other memory. So whatever works on it mixes up
 * neither host and device nor two devices. Ends the process, saying what was wrong, at the first
 * mistake; a touch of its memory from outside is a segmentation fault.
 *
 * WALLED_NAME is the backend's, WALLED_DEVICES how many devices it has. The last of several is of
 * another class, as its kernels are the plain ones. With WALLED_BROKEN defined it is of the same
 * class instead, and fails whatever is asked of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/ops.h"

#define PAGE ((size_t)4096)
#define ARENA_BYTES                                                                                \
    ((size_t)64 << 30) /* no card has more free: callers that ask for the sky see it */

/* A block of device memory; the page before it says which. */
struct region {
    struct region *next, **place;
    size_t bytes;
};

struct device {
    struct device *cpu; /* the CPU table's: nothing else looks into it */
    int index;
    struct region *regions;
};

static enum error_code walled_probe(int index, struct error *error) {
    return index >= 0 && index < WALLED_DEVICES
               ? ERR_OK
               : error_set(error, ERR_MISSING, "there is no device %d: there are %d, from 0", index,
                           WALLED_DEVICES);
}

static bool walled_multiplies_f8(int index) {
    (void)index;
    return false;
}

static bool walled_attends_narrow(int index, int64_t head_dim) {
    (void)index;
    (void)head_dim;
    return false;
}

#ifdef WALLED_BROKEN
static const bool broken = true;
#else
static const bool broken = false;
#endif

static bool is_plain(int index) {
    return !broken && WALLED_DEVICES > 1 && index == WALLED_DEVICES - 1;
}

static enum error_code walled_open(struct device **out, const struct device_config *config,
                                   struct error *error) {
    int index = config != NULL ? config->index : 0;
    enum error_code code = walled_probe(index, error);
    if (code != ERR_OK) {
        return code;
    }
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a device");
    }
    const struct device_config cpu = {.threads = 1, .isa = is_plain(index) ? "plain" : NULL};
    device->index = index;
    code = ops_cpu()->device_open(&device->cpu, &cpu, error);
    if (code != ERR_OK) {
        free(device);
        return code;
    }
    *out = device;
    return ERR_OK;
}

static void walled_close(struct device **device) {
    if (*device != NULL) {
        ops_cpu()->device_close(&(*device)->cpu);
        free(*device);
        *device = NULL;
    }
}

static void walled_info(struct device *device, struct device_info *out) {
    ops_cpu()->device_info(device->cpu, out);
    out->index = device->index;
    snprintf(out->name, sizeof out->name, "behind a wall, device %d", device->index);
    snprintf(out->class, sizeof out->class, "walled-%s",
             is_plain(device->index) ? "plain" : "best");
}

static enum error_code walled_status(struct device *device, struct error *error) {
    if (broken && device->index == WALLED_DEVICES - 1) {
        return error_set(error, ERR_DEVICE, "device %d is broken", device->index);
    }
    return ops_cpu()->status(device->cpu, error);
}

/* -- memory ------------------------------------------------------------------------------------ */

static void release(void *base) {
    struct region *region = (struct region *)(void *)((uint8_t *)base - PAGE);
    *region->place = region->next;
    if (region->next != NULL) {
        region->next->place = region->place;
    }
    (void)munmap(region, PAGE + region->bytes);
}

static enum error_code walled_arena_open(struct device *device, struct arena *out, size_t bytes,
                                         struct error *error) {
    *out = (struct arena){0};
    size_t whole = (bytes / PAGE + 1) * PAGE;
    struct region *region = whole <= ARENA_BYTES
                                ? mmap(NULL, PAGE + whole, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                : MAP_FAILED;
    if (region == MAP_FAILED || mprotect(region, PAGE, PROT_READ | PROT_WRITE) != 0) {
        return error_set(error, ERR_MEMORY, "device %d has no %zu bytes free", device->index,
                         bytes);
    }
    *region = (struct region){device->regions, &device->regions, whole};
    if (region->next != NULL) {
        region->next->place = &region->next;
    }
    device->regions = region;
    *out = (struct arena){
        .base = (uint8_t *)region + PAGE, .capacity = bytes > 0 ? bytes : 1, .release = release};
    return ERR_OK;
}

static const struct region *region_of(const struct device *device, const void *pointer) {
    for (const struct region *region = device->regions; region != NULL; region = region->next) {
        uintptr_t base = (uintptr_t)region + PAGE;
        if ((uintptr_t)pointer >= base && (uintptr_t)pointer < base + region->bytes) {
            return region;
        }
    }
    return NULL;
}

static void set_wall(const struct device *device, int protection) {
    for (const struct region *region = device->regions; region != NULL; region = region->next) {
        if (mprotect((uint8_t *)(uintptr_t)region + PAGE, region->bytes, protection) != 0) {
            abort();
        }
    }
}

static void mistake(const struct device *device, const char *operation, const char *what) {
    (void)fprintf(stderr, "device %d, %s: %s\n", device->index, operation, what);
    abort();
}

/* Open the wall for an operation whose every pointer is in this device's memory, or NULL. */
static void enter(const struct device *device, const char *operation, const void *const *pointers,
                  size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (pointers[i] != NULL && region_of(device, pointers[i]) == NULL) {
            mistake(device, operation, "was given memory that is not this device's");
        }
    }
    set_wall(device, PROT_READ | PROT_WRITE);
}

static void leave(const struct device *device) {
    set_wall(device, PROT_NONE);
}

#define ENTER(device, operation, ...)                                                              \
    enter((device), (operation), (const void *const[]){__VA_ARGS__},                               \
          sizeof((const void *const[]){__VA_ARGS__}) / sizeof(void *))

static void expect_host(const struct device *device, const char *operation, const void *pointer) {
    if (region_of(device, pointer) != NULL) {
        mistake(device, operation, "was given the device's memory where the host's is wanted");
    }
}

static void walled_upload(struct device *device, void *out, const void *host, size_t bytes) {
    if (bytes > 0) {
        expect_host(device, "upload", host);
        ENTER(device, "upload", out);
        ops_cpu()->upload(device->cpu, out, host, bytes);
        leave(device);
    }
}

static void walled_download(struct device *device, void *host, const void *in, size_t bytes) {
    if (bytes > 0) {
        expect_host(device, "download", host);
        ENTER(device, "download", in);
        ops_cpu()->download(device->cpu, host, in, bytes);
        leave(device);
    }
}

static enum error_code walled_staging_open(struct device *device, struct arena *out, size_t bytes,
                                           struct error *error) {
    (void)device;
    return arena_open(out, bytes, error);
}

static enum error_code walled_download_end(struct device *device, const void *host,
                                           struct error *error) {
    expect_host(device, "download_end", host);
    return walled_status(device, error);
}

static void walled_repeat(struct device *device, const void *key, size_t bytes,
                          bool (*queue)(void *context), void *context) {
    (void)device, (void)key, (void)bytes;
    (void)queue(context);
}

static size_t walled_weight_bytes(struct device *device) {
    return ops_cpu()->weight_bytes(device->cpu);
}

static size_t walled_mapped_bytes(struct device *device) {
    return ops_cpu()->mapped_bytes(device->cpu);
}

static void walled_limit_weights(struct device *device, size_t bytes) {
    ops_cpu()->limit_weights(device->cpu, bytes);
}

/* -- weights: the host's ---------------------------------------------------------------------- */

static enum error_code walled_linear_create(struct device *device, struct linear **out,
                                            const struct tensor *const *weights,
                                            const struct tensor *const *biases, int count,
                                            enum dtype dtype, struct error *error) {
    for (int i = 0; i < count; i++) {
        expect_host(device, "linear_create", weights[i]->data);
    }
    return ops_cpu()->linear_create(device->cpu, out, weights, biases, count, dtype, error);
}

static void walled_linear_close(struct device *device, struct linear **linear) {
    ops_cpu()->linear_close(device->cpu, linear);
}

static enum error_code walled_conv_create(struct device *device, struct conv **out,
                                          const struct conv_shape *shape,
                                          const struct tensor *weight, const struct tensor *bias,
                                          enum dtype dtype, struct error *error) {
    expect_host(device, "conv_create", weight->data);
    return ops_cpu()->conv_create(device->cpu, out, shape, weight, bias, dtype, error);
}

static void walled_conv_close(struct device *device, struct conv **conv) {
    ops_cpu()->conv_close(device->cpu, conv);
}

/* -- operations -------------------------------------------------------------------------------- */

static void walled_linear(struct device *device, void *out, const void *in,
                          const struct linear *linear, int64_t rows,
                          const struct linear_epilogue *epilogue) {
    ENTER(device, "linear", out, in, epilogue != NULL ? epilogue->gate : NULL,
          epilogue != NULL ? epilogue->group : NULL);
    ops_cpu()->linear(device->cpu, out, in, linear, rows, epilogue);
    leave(device);
}

static void walled_norm_linear(struct device *device, void *out, const struct norm_args *norm,
                               const struct linear *linear, int64_t rows,
                               const struct linear_epilogue *epilogue) {
    ENTER(device, "norm_linear", out, norm->x, norm->mul, norm->add, norm->group, norm->rows,
          epilogue != NULL ? epilogue->gate : NULL, epilogue != NULL ? epilogue->group : NULL);
    ops_cpu()->norm_linear(device->cpu, out, norm, linear, rows, epilogue);
    leave(device);
}

static void walled_attention(struct device *device, const struct attention_args *args) {
    ENTER(device, "attention", args->q, args->k, args->v, args->out, args->key_bias, args->bias);
    ops_cpu()->attention(device->cpu, args);
    leave(device);
}

static bool walled_attends_by_library(struct device *device, const struct attention_args *args) {
    (void)device;
    (void)args;
    return false;
}

static void walled_conv(struct device *device, const struct conv *conv,
                        const struct conv_args *args) {
    ENTER(device, "conv", args->out, args->in, args->residual, args->history, args->joined);
    ops_cpu()->conv(device->cpu, conv, args);
    leave(device);
}

static void walled_layer_norm(struct device *device, void *out, const float *x, const float *mul,
                              const float *add, const uint8_t *group, int64_t rows, int64_t width,
                              float eps, enum dtype dtype) {
    ENTER(device, "layer_norm", out, x, mul, add, group);
    ops_cpu()->layer_norm(device->cpu, out, x, mul, add, group, rows, width, eps, dtype);
    leave(device);
}

static void walled_rms_norm(struct device *device, void *out, const float *x, const float *weight,
                            int64_t rows, int64_t width, float eps, enum dtype dtype) {
    ENTER(device, "rms_norm", out, x, weight);
    ops_cpu()->rms_norm(device->cpu, out, x, weight, rows, width, eps, dtype);
    leave(device);
}

static void walled_qk_norm_rope(struct device *device, void *x, int64_t stride, const float *weight,
                                const float *cosine, const float *sine, int64_t rows, int heads,
                                int head_dim, float eps, enum dtype dtype) {
    ENTER(device, "qk_norm_rope", x, weight, cosine, sine);
    ops_cpu()->qk_norm_rope(device->cpu, x, stride, weight, cosine, sine, rows, heads, head_dim,
                            eps, dtype);
    leave(device);
}

static void walled_channel_norm(struct device *device, void *out, const void *x, const float *gamma,
                                int64_t rows, int64_t channels, enum activation activation,
                                enum dtype dtype) {
    ENTER(device, "channel_norm", out, x, gamma);
    ops_cpu()->channel_norm(device->cpu, out, x, gamma, rows, channels, activation, dtype);
    leave(device);
}

static void walled_activate(struct device *device, float *out, const float *x, int64_t count,
                            enum activation activation) {
    ENTER(device, "activate", out, x);
    ops_cpu()->activate(device->cpu, out, x, count, activation);
    leave(device);
}

static void walled_gelu_gate(struct device *device, void *out, const void *x, int64_t rows,
                             int64_t width, enum dtype dtype) {
    ENTER(device, "gelu_gate", out, x);
    ops_cpu()->gelu_gate(device->cpu, out, x, rows, width, dtype);
    leave(device);
}

static void walled_modulation(struct device *device, float *out, const float *table, const float *e,
                              int64_t groups, int chunks, int e_chunks, int64_t width,
                              uint32_t scale_mask) {
    ENTER(device, "modulation", out, table, e);
    ops_cpu()->modulation(device->cpu, out, table, e, groups, chunks, e_chunks, width, scale_mask);
    leave(device);
}

static void walled_convert(struct device *device, void *out, enum dtype out_dtype, const void *x,
                           enum dtype dtype, int64_t count) {
    ENTER(device, "convert", out, x);
    ops_cpu()->convert(device->cpu, out, out_dtype, x, dtype, count);
    leave(device);
}

static void walled_add(struct device *device, void *out, const void *a, const void *b,
                       int64_t count, enum dtype dtype) {
    ENTER(device, "add", out, a, b);
    ops_cpu()->add(device->cpu, out, a, b, count, dtype);
    leave(device);
}

static void walled_combine(struct device *device, float *out, const float *const *x,
                           const float *coefficient, int terms, int64_t count) {
    const void *used[OPS_COMBINE_MAX + 1] = {out};
    for (int i = 0; i < terms; i++) {
        used[i + 1] = x[i];
    }
    expect_host(device, "combine", x);
    expect_host(device, "combine", coefficient);
    enter(device, "combine", used, (size_t)terms + 1);
    ops_cpu()->combine(device->cpu, out, x, coefficient, terms, count);
    leave(device);
}

static void walled_copy(struct device *device, void *out, const void *x, size_t bytes) {
    ENTER(device, "copy", out, x);
    ops_cpu()->copy(device->cpu, out, x, bytes);
    leave(device);
}

static void walled_zero(struct device *device, void *out, size_t bytes) {
    ENTER(device, "zero", out);
    ops_cpu()->zero(device->cpu, out, bytes);
    leave(device);
}

static void walled_embed(struct device *device, float *out, const struct tensor *table,
                         const int32_t *host_ids, int64_t count) {
    expect_host(device, "embed", table->data);
    expect_host(device, "embed", host_ids);
    ENTER(device, "embed", out);
    ops_cpu()->embed(device->cpu, out, table, host_ids, count);
    leave(device);
}

static void walled_patchify(struct device *device, void *out, int64_t row_stride, int64_t first,
                            const float *latents, int channels, int64_t frames, int64_t height,
                            int64_t width, enum dtype dtype) {
    ENTER(device, "patchify", out, latents);
    ops_cpu()->patchify(device->cpu, out, row_stride, first, latents, channels, frames, height,
                        width, dtype);
    leave(device);
}

static void walled_unpatchify(struct device *device, float *latents, const float *tokens,
                              int channels, int64_t frames, int64_t height, int64_t width) {
    ENTER(device, "unpatchify", latents, tokens);
    ops_cpu()->unpatchify(device->cpu, latents, tokens, channels, frames, height, width);
    leave(device);
}

static void walled_to_channels_last(struct device *device, void *out, const float *x,
                                    const float *mul, const float *add, int channels,
                                    int64_t pixels, enum dtype dtype) {
    ENTER(device, "to_channels_last", out, x, mul, add);
    ops_cpu()->to_channels_last(device->cpu, out, x, mul, add, channels, pixels, dtype);
    leave(device);
}

static void walled_to_channels_first(struct device *device, float *out, const void *x,
                                     const float *mul, const float *add, int channels,
                                     int row_channels, int64_t pixels, enum dtype dtype) {
    ENTER(device, "to_channels_first", out, x, mul, add);
    ops_cpu()->to_channels_first(device->cpu, out, x, mul, add, channels, row_channels, pixels,
                                 dtype);
    leave(device);
}

static void walled_upsample(struct device *device, void *out, const void *x, int64_t frames,
                            int64_t height, int64_t width, int64_t channels, enum dtype dtype) {
    ENTER(device, "upsample", out, x);
    ops_cpu()->upsample(device->cpu, out, x, frames, height, width, channels, dtype);
    leave(device);
}

static void walled_interleave_frames(struct device *device, void *out, const void *x,
                                     int64_t frames, int64_t pixels, int64_t channels,
                                     enum dtype dtype) {
    ENTER(device, "interleave_frames", out, x);
    ops_cpu()->interleave_frames(device->cpu, out, x, frames, pixels, channels, dtype);
    leave(device);
}

static void walled_fold(struct device *device, const struct fold_args *args) {
    ENTER(device, "fold", args->out, args->x);
    ops_cpu()->fold(device->cpu, args);
    leave(device);
}

static void walled_unfold(struct device *device, const struct fold_args *args) {
    ENTER(device, "unfold", args->out, args->x);
    ops_cpu()->unfold(device->cpu, args);
    leave(device);
}

static void walled_from_pixels(struct device *device, void *out, const uint8_t *rgb, int64_t count,
                               enum dtype dtype) {
    ENTER(device, "from_pixels", out, rgb);
    ops_cpu()->from_pixels(device->cpu, out, rgb, count, dtype);
    leave(device);
}

static void walled_to_pixels(struct device *device, uint8_t *rgb, const void *x, int64_t count,
                             enum dtype dtype) {
    ENTER(device, "to_pixels", rgb, x);
    ops_cpu()->to_pixels(device->cpu, rgb, x, count, dtype);
    leave(device);
}

static void walled_to_nv12(struct device *device, const struct nv12_args *args) {
    ENTER(device, "to_nv12", args->out.luma, args->out.chroma, args->rgb);
    ops_cpu()->to_nv12(device->cpu, args);
    leave(device);
}

static void *walled_context(struct device *device) {
    return NULL;
}

extern const struct ops vidloom_ops;

const struct ops vidloom_ops = {
    .name = WALLED_NAME,
    .device_probe = walled_probe,
    .multiplies_f8 = walled_multiplies_f8,
    .attends_narrow = walled_attends_narrow,
    .device_open = walled_open,
    .device_close = walled_close,
    .device_info = walled_info,
    .status = walled_status,
    .arena_open = walled_arena_open,
    .upload = walled_upload,
    .download = walled_download,
    .staging_open = walled_staging_open,
    .download_begin = walled_download,
    .download_end = walled_download_end,
    .repeat = walled_repeat,
    .weight_bytes = walled_weight_bytes,
    .mapped_bytes = walled_mapped_bytes,
    .weight_bytes_least = walled_weight_bytes,
    .limit_weights = walled_limit_weights,
    .linear_create = walled_linear_create,
    .linear_close = walled_linear_close,
    .conv_create = walled_conv_create,
    .conv_close = walled_conv_close,
    .linear = walled_linear,
    .norm_linear = walled_norm_linear,
    .attention = walled_attention,
    .attends_by_library = walled_attends_by_library,
    .conv = walled_conv,
    .layer_norm = walled_layer_norm,
    .rms_norm = walled_rms_norm,
    .qk_norm_rope = walled_qk_norm_rope,
    .channel_norm = walled_channel_norm,
    .activate = walled_activate,
    .gelu_gate = walled_gelu_gate,
    .modulation = walled_modulation,
    .convert = walled_convert,
    .add = walled_add,
    .combine = walled_combine,
    .copy = walled_copy,
    .zero = walled_zero,
    .embed = walled_embed,
    .patchify = walled_patchify,
    .unpatchify = walled_unpatchify,
    .to_channels_last = walled_to_channels_last,
    .to_channels_first = walled_to_channels_first,
    .upsample = walled_upsample,
    .interleave_frames = walled_interleave_frames,
    .fold = walled_fold,
    .unfold = walled_unfold,
    .from_pixels = walled_from_pixels,
    .to_pixels = walled_to_pixels,
    .to_nv12 = walled_to_nv12,
    .context = walled_context,
    /* Little, so that small tests have several parts and chunks. */
    .wants = {.joins = true,
              .part_rows = 20,
              .chunk_bytes = 1 << 20,
              .chunk_frames = 2,
              .uploads = true},
};
