/* The device of the CPU: threads, scratch memory, the first failure; and its table. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/linear.h"
#include "kernels/narrow.h"

/* Part of every task's key: raise it when a kernel's results change by a single bit. */
#define KERNEL_GENERATION 2

#define PIECE_ELEMENTS 16384 /* of a piece of rows: some 10 us of work, 64 KiB of f32 */

static enum error_code cpu_probe(int index, struct error *error) {
    return index == 0
               ? ERR_OK
               : error_set(error, ERR_MISSING, "there is no CPU %d: all cores are cpu:0", index);
}

static enum error_code cpu_open(struct device **out, const struct device_config *config,
                                struct error *error) {
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a device");
    }
    enum error_code code =
        cpu_level_choose(&device->level, config != NULL ? config->isa : NULL, error);
    if (code == ERR_OK) {
        code = pool_open(&device->pool, config != NULL ? config->threads : 0, error);
    }
    if (code != ERR_OK) {
        free(device);
        return code;
    }
    device->threads = pool_threads(device->pool);
    device->in_place = config != NULL && config->in_place > 0 ? config->in_place : IN_PLACE_DEFAULT;
    size_t bytes = (size_t)device->threads * SCRATCH_BYTES;
    void *scratch = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (scratch == MAP_FAILED) {
        pool_close(&device->pool);
        free(device);
        return error_set(error, ERR_MEMORY, "cannot reserve %zu bytes of scratch memory", bytes);
    }
    device->scratch = scratch;
    *out = device;
    return ERR_OK;
}

static void cpu_close(struct device **device) {
    if (*device != NULL) {
        pool_close(&(*device)->pool);
        (void)munmap((*device)->scratch, (size_t)(*device)->threads * SCRATCH_BYTES);
        free(*device);
        *device = NULL;
    }
}

static void cpu_name(char out[64]) {
    snprintf(out, 64, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL && colon[1] == ' ') {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(out, 64, "%.63s", colon + 2);
            break;
        }
    }
    (void)fclose(file);
}

/* Only the plain level does, which is no device's number. */
static bool cpu_multiplies_f8(int index) {
    (void)index;
    return false;
}

/* By int8 products, or in plain C as it is defined. */
static bool cpu_attends_narrow(int index, int64_t head_dim) {
    struct cpu_level level;
    struct error ignored;
    (void)index;
    return narrow_suits_width(head_dim) && cpu_level_choose(&level, NULL, &ignored) == ERR_OK &&
           (level.attention8 != NULL || level_gemm(&level, DTYPE_BF16) == NULL);
}

static bool cpu_attends_by_library(struct device *device, const struct attention_args *args) {
    (void)device;
    (void)args;
    return false;
}

static void cpu_info(struct device *device, struct device_info *out) {
    char name[64];
    cpu_name(name);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s, %d thread%s, %s", name, device->threads,
             device->threads == 1 ? "" : "s", device->level.name);
    snprintf(out->class, sizeof out->class, "cpu-%s-%d", device->level.name, KERNEL_GENERATION);
    out->threads = device->threads;
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    out->memory = pages > 0 && page_bytes > 0 ? (size_t)pages * (size_t)page_bytes : 0;
}

static enum error_code cpu_status(struct device *device, struct error *error) {
    if (!device->failed) {
        return ERR_OK;
    }
    device->failed = false;
    return error_set(error, device->failure.code, "%s", device->failure.detail);
}

void device_fail(struct device *device, enum error_code code, const char *detail) {
    if (!device->failed) {
        device->failed = true;
        (void)error_set(&device->failure, code, "%s", detail);
    }
}

static enum error_code cpu_arena_open(struct device *device, struct arena *out, size_t bytes,
                                      struct error *error) {
    (void)device;
    return arena_open(out, bytes, error);
}

static void cpu_transfer(struct device *device, void *out, const void *in, size_t bytes) {
    cpu_copy(device, out, in, bytes);
}

static enum error_code cpu_download_end(struct device *device, const void *host,
                                        struct error *error) {
    return cpu_status(device, error);
}

static size_t cpu_weight_bytes(struct device *device) {
    return device->weight_bytes;
}

static size_t cpu_mapped_bytes(struct device *device) {
    return device->mapped_bytes;
}

/* Nothing gives way: large layers are read in place. */
static void cpu_limit_weights(struct device *device, size_t bytes) {}

static void *cpu_context(struct device *device) {
    return NULL;
}

void *device_scratch(struct device *device, int worker) {
    return device->scratch + (size_t)worker * SCRATCH_BYTES;
}

struct rows_loop {
    rows_function *function;
    const void *args;
    int64_t rows, piece_rows;
};

static void rows_piece(const void *context, int64_t piece, int worker) {
    const struct rows_loop *loop = context;
    int64_t begin = piece * loop->piece_rows, end = begin + loop->piece_rows;
    (void)worker;
    loop->function(loop->args, begin, end < loop->rows ? end : loop->rows);
}

void device_rows(struct device *device, rows_function *function, const void *args, int64_t rows,
                 int64_t width) {
    if (device->failed || rows <= 0) {
        return;
    }
    int64_t piece_rows = width >= PIECE_ELEMENTS ? 1 : PIECE_ELEMENTS / width;
    struct rows_loop loop = {function, args, rows, piece_rows};
    pool_run(device->pool, (rows + piece_rows - 1) / piece_rows, rows_piece, &loop);
}

static void cpu_repeat(struct device *device, const void *key, size_t bytes,
                       bool (*queue)(void *context), void *context) {
    (void)queue(context);
}

const struct ops *ops_cpu(void) {
    static const struct ops table = {
        .name = "cpu",
        .device_probe = cpu_probe,
        .multiplies_f8 = cpu_multiplies_f8,
        .attends_narrow = cpu_attends_narrow,
        .device_open = cpu_open,
        .device_close = cpu_close,
        .device_info = cpu_info,
        .status = cpu_status,
        .arena_open = cpu_arena_open,
        .upload = cpu_transfer,
        .download = cpu_transfer,
        .staging_open = cpu_arena_open,
        .download_begin = cpu_transfer,
        .download_end = cpu_download_end,
        .repeat = cpu_repeat,
        .weight_bytes = cpu_weight_bytes,
        .mapped_bytes = cpu_mapped_bytes,
        .weight_bytes_least = cpu_weight_bytes,
        .limit_weights = cpu_limit_weights,
        .linear_create = cpu_linear_create,
        .linear_close = cpu_linear_close,
        .conv_create = cpu_conv_create,
        .conv_close = cpu_conv_close,
        .linear = cpu_linear,
        .norm_linear = cpu_norm_linear,
        .attention = cpu_attention,
        .attends_by_library = cpu_attends_by_library,
        .conv = cpu_conv,
        .layer_norm = cpu_layer_norm,
        .rms_norm = cpu_rms_norm,
        .qk_norm_rope = cpu_qk_norm_rope,
        .channel_norm = cpu_channel_norm,
        .activate = cpu_activate,
        .gelu_gate = cpu_gelu_gate,
        .modulation = cpu_modulation,
        .convert = cpu_convert,
        .add = cpu_add,
        .combine = cpu_combine,
        .copy = cpu_copy,
        .zero = cpu_zero,
        .embed = cpu_embed,
        .patchify = cpu_patchify,
        .unpatchify = cpu_unpatchify,
        .to_channels_last = cpu_to_channels_last,
        .to_channels_first = cpu_to_channels_first,
        .upsample = cpu_upsample,
        .interleave_frames = cpu_interleave_frames,
        .fold = cpu_fold,
        .unfold = cpu_unfold,
        .from_pixels = cpu_from_pixels,
        .to_pixels = cpu_to_pixels,
        .to_nv12 = cpu_to_nv12,
        .context = cpu_context,
        .wants = CPU_WANTS,
    };
    return &table;
}
