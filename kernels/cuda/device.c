/* The device of the CUDA table: memory, transfers, the first failure; and the table. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "kernels/cuda/backend.h"
#include "kernels/narrow.h"
#include "kernels/ops.h"

/* Part of every task's key: raise it when a kernel's results change by a single bit. */
#define KERNEL_GENERATION 6

static_assert(DOWNLOADS_MAX == OPS_DOWNLOADS_MAX, "as many as the contract says");

bool device_ready(struct device *device) {
    return !device->failed && device_noted(device, cudaSetDevice(device->index), "cudaSetDevice");
}

void device_fail(struct device *device, enum error_code code, const char *format, ...) {
    if (device->failed) {
        return;
    }
    char detail[ERROR_DETAIL_BYTES];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(detail, sizeof detail, format, values);
    va_end(values);
    device->failed = true;
    (void)error_set(&device->failure, code, "GPU %d: %s", device->index, detail);
}

bool device_noted(struct device *device, cudaError_t code, const char *what) {
    if (code != cudaSuccess) {
        device_fail(device, code == cudaErrorMemoryAllocation ? ERR_MEMORY : ERR_DEVICE, "%s: %s",
                    what, cudaGetErrorString(code));
    }
    return code == cudaSuccess;
}

static enum error_code refuse(struct error *error, int index, cudaError_t code, const char *what) {
    return error_set(error, code == cudaErrorMemoryAllocation ? ERR_MEMORY : ERR_DEVICE,
                     "GPU %d: %s: %s", index, what, cudaGetErrorString(code));
}

static void cuda_close(struct device **device_pointer) {
    struct device *device = *device_pointer;
    if (device == NULL) {
        return;
    }
    if (device->stream != NULL) {
        (void)cudaSetDevice(device->index);
        (void)cudaStreamSynchronize(device->stream);
    }
    graphs_close(device);
    residence_close(device);
    matmul_close(device);
    attention_cudnn_close(device);
    convolve_close(device);
    (void)cudaFree(device->scratch);
    (void)cudaFree(device->workspace);
    (void)cudaFreeHost(device->staging);
    for (int i = 0; i < 2; i++) {
        if (device->staged[i] != NULL) {
            (void)cudaEventDestroy(device->staged[i]);
        }
    }
    for (int i = 0; i < DOWNLOADS_MAX; i++) {
        if (device->downloads[i].done != NULL) {
            (void)cudaEventDestroy(device->downloads[i].done);
        }
    }
    if (device->stream != NULL) {
        (void)cudaStreamDestroy(device->stream);
    }
    free(device);
    *device_pointer = NULL;
}

/* Without a context of it, which takes some hundred MiB of its memory: a probe is no use of it. */
static enum error_code find_gpu(struct device *device, struct error *error) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) {
        return error_set(error, ERR_MISSING, "no GPU can be used: %s", cudaGetErrorString(code));
    }
    if (device->index < 0 || device->index >= count) {
        return error_set(error, ERR_MISSING, "there is no GPU %d: this machine has %d, from 0",
                         device->index, count);
    }
    code = cudaGetDeviceProperties(&device->properties, device->index);
    if (code != cudaSuccess) {
        return refuse(error, device->index, code, "cannot be used");
    }
    device->capability = 10 * device->properties.major + device->properties.minor;
    device->processors = device->properties.multiProcessorCount;
    if (device->capability < 80) {
        return error_set(error, ERR_UNSUPPORTED,
                         "GPU %d, %s, has compute capability %d.%d: 8.0 or newer is needed",
                         device->index, device->properties.name, device->properties.major,
                         device->properties.minor);
    }
    return ERR_OK;
}

static enum error_code cuda_probe(int index, struct error *error) {
    struct device device = {.index = index};
    enum error_code code = find_gpu(&device, error);
    (void)cudaGetLastError(); /* a device that is refused is no fault of one that is open */
    return code;
}

static bool cuda_multiplies_f8(int index) {
    int major = 0, minor = 0;
    bool there =
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess &&
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) == cudaSuccess;
    (void)cudaGetLastError();
    return there && 10 * major + minor >= F8_CAPABILITY;
}

static bool cuda_attends_narrow(int index, int64_t head_dim) {
    struct error ignored;
    return head_dim == NARROW_HEAD_DIM && cuda_probe(index, &ignored) == ERR_OK;
}

static enum error_code take_memory(struct device *device, struct error *error) {
    cudaError_t code = cudaSetDevice(device->index);
    if (code == cudaSuccess) {
        code = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    }
    if (code == cudaSuccess) {
        code = cudaMalloc(&device->scratch, SCRATCH_BYTES);
    }
    if (code == cudaSuccess) {
        code = cudaMalloc(&device->workspace, WORKSPACE_BYTES);
    }
    if (code == cudaSuccess) {
        code = cudaMallocHost(&device->staging, STAGING_BYTES + STAGING_ROW_BYTES);
    }
    for (int i = 0; i < 2 && code == cudaSuccess; i++) {
        code = cudaEventCreateWithFlags(&device->staged[i], cudaEventDisableTiming);
    }
    for (int i = 0; i < DOWNLOADS_MAX && code == cudaSuccess; i++) {
        code = cudaEventCreateWithFlags(&device->downloads[i].done, cudaEventDisableTiming);
    }
    return code == cudaSuccess ? ERR_OK : refuse(error, device->index, code, "no stream or memory");
}

static enum error_code cuda_open(struct device **out, const struct device_config *config,
                                 struct error *error) {
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a device");
    }
    device->index = config != NULL ? config->index : 0;
    device->cache = config != NULL ? config->cache : NULL;
    enum error_code code = find_gpu(device, error);
    if (code == ERR_OK) {
        code = take_memory(device, error);
    }
    if (code == ERR_OK) {
        code = graphs_open(device, error);
    }
    if (code == ERR_OK) {
        code = residence_open(device, error);
    }
    if (code == ERR_OK) {
        code = matmul_open(device, error);
    }
    if (code == ERR_OK) {
        code = convolve_open(device, error);
    }
    if (code != ERR_OK) {
        cuda_close(&device);
        (void)cudaGetLastError();
        return code;
    }
    device->cache = NULL; /* the caller's */
    *out = device;
    return ERR_OK;
}

/* "580.95.05": kernels that the driver compiles and what its encoders write depend on it. */
static void name_driver(char out[16]) {
    char line[256];
    (void)snprintf(out, 16, "unknown");
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (file == NULL) {
        return;
    }
    char *rest = fgets(line, sizeof line, file);
    (void)fclose(file);
    if (rest == NULL) {
        return;
    }
    for (char *word; (word = strtok_r(rest, " \t\n", &rest)) != NULL;) {
        if (word[strspn(word, "0123456789.")] == '\0' && strchr(word, '.') != NULL) {
            (void)snprintf(out, 16, "%s", word);
            return;
        }
    }
}

void device_line(char out[DEVICE_LINE_BYTES], const struct device *device, const char *library,
                 size_t version) {
    int driver;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) {
        driver = 0;
    }
    (void)snprintf(out, DEVICE_LINE_BYTES,
                   "%.200s, compute capability %d.%d, %d processors, driver %d, %s %zu",
                   device->properties.name, device->capability / 10, device->capability % 10,
                   device->processors, driver, library, version);
}

static void cuda_info(struct device *device, struct device_info *out) {
    char driver[16];
    name_driver(driver);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%.100s, GPU %d", device->properties.name, device->index);
    snprintf(out->class, sizeof out->class, "cuda-sm%d-%d-%zu-%zu-%s-%d", device->capability,
             device->processors, matmul_version(), convolve_version(), driver, KERNEL_GENERATION);
    out->index = device->index;
    out->memory = device->properties.totalGlobalMem;
}

/* The first failure, which is cleared. */
static enum error_code report(struct device *device, struct error *error) {
    if (!device->failed) {
        return ERR_OK;
    }
    device->failed = false;
    return error_set(error, device->failure.code, "%s", device->failure.detail);
}

static enum error_code cuda_status(struct device *device, struct error *error) {
    if (cudaSetDevice(device->index) == cudaSuccess) {
        (void)device_noted(device, cudaStreamSynchronize(device->stream), "what was queued");
    }
    for (int i = 0; i < DOWNLOADS_MAX; i++) {
        device->downloads[i].host = NULL;
    }
    return report(device, error);
}

static void release(void *base) {
    (void)cudaFree(base);
}

static enum error_code cuda_arena_open(struct device *device, struct arena *out, size_t bytes,
                                       struct error *error) {
    *out = (struct arena){0};
    void *base = NULL;
    cudaError_t code = cudaSetDevice(device->index);
    if (code == cudaSuccess) {
        code = residence_malloc(device, &base, bytes > 0 ? bytes : ARENA_ALIGN);
    }
    if (code != cudaSuccess) {
        (void)cudaGetLastError(); /* a refused allocation is no fault of what comes next */
        return error_set(error, ERR_MEMORY, "GPU %d has no %zu bytes free: %s", device->index,
                         bytes, cudaGetErrorString(code));
    }
    *out = (struct arena){
        .base = base, .capacity = bytes > 0 ? bytes : ARENA_ALIGN, .release = release};
    return ERR_OK;
}

/* Pageable memory is copied away before the call returns, so `host` may be reused at once; staging
 * memory may not. */
static void cuda_upload(struct device *device, void *out, const void *host, size_t bytes) {
    if (bytes > 0 && device_ready(device)) {
        (void)device_noted(
            device, cudaMemcpyAsync(out, host, bytes, cudaMemcpyHostToDevice, device->stream),
            "upload");
    }
}

static void cuda_download(struct device *device, void *host, const void *in, size_t bytes) {
    if (bytes > 0 && device_ready(device) &&
        device_noted(device,
                     cudaMemcpyAsync(host, in, bytes, cudaMemcpyDeviceToHost, device->stream),
                     "download")) {
        (void)device_noted(device, cudaStreamSynchronize(device->stream), "download");
    }
}

static void release_staging(void *base) {
    (void)cudaFreeHost(base);
}

static enum error_code cuda_staging_open(struct device *device, struct arena *out, size_t bytes,
                                         struct error *error) {
    *out = (struct arena){0};
    void *base = NULL;
    size_t capacity = bytes > 0 ? bytes : ARENA_ALIGN;
    cudaError_t code = cudaSetDevice(device->index);
    if (code == cudaSuccess) {
        code = cudaMallocHost(&base, capacity);
    }
    if (code != cudaSuccess) {
        (void)cudaGetLastError();
        return error_set(error, ERR_MEMORY, "GPU %d: no %zu bytes of pinned memory: %s",
                         device->index, bytes, cudaGetErrorString(code));
    }
    *out = (struct arena){.base = base, .capacity = capacity, .release = release_staging};
    return ERR_OK;
}

static struct download *download_of(struct device *device, const void *host) {
    for (int i = 0; i < DOWNLOADS_MAX; i++) {
        if (device->downloads[i].host == host) {
            return &device->downloads[i];
        }
    }
    return NULL;
}

static void cuda_download_begin(struct device *device, void *host, const void *in, size_t bytes) {
    struct download *download = download_of(device, NULL);
    assert(download != NULL && download_of(device, host) == NULL);
    if (bytes > 0 && device_ready(device) &&
        device_noted(device,
                     cudaMemcpyAsync(host, in, bytes, cudaMemcpyDeviceToHost, device->stream),
                     "download") &&
        device_noted(device, cudaEventRecord(download->done, device->stream), "download")) {
        download->host = host;
    }
}

static enum error_code cuda_download_end(struct device *device, const void *host,
                                         struct error *error) {
    struct download *download = download_of(device, host);
    if (download != NULL) {
        (void)device_noted(device, cudaEventSynchronize(download->done), "download");
        download->host = NULL;
    }
    return report(device, error);
}

static void cuda_copy(struct device *device, void *out, const void *x, size_t bytes) {
    if (bytes > 0 && device_ready(device)) {
        (void)device_noted(device,
                           cudaMemcpyAsync(out, x, bytes, cudaMemcpyDeviceToDevice, device->stream),
                           "copy");
    }
}

static void cuda_zero(struct device *device, void *out, size_t bytes) {
    if (bytes > 0 && device_ready(device)) {
        (void)device_noted(device, cudaMemsetAsync(out, 0, bytes, device->stream), "zero");
    }
}

static size_t cuda_weight_bytes(struct device *device) {
    return device->weight_bytes;
}

static size_t cuda_weight_bytes_least(struct device *device) {
    return residence_least(device);
}

static void cuda_limit_weights(struct device *device, size_t bytes) {
    if (device_ready(device)) {
        residence_limit(device, bytes);
    }
}

/* Weights are on the device: nothing is read in place. */
static size_t cuda_mapped_bytes(struct device *device) {
    return 0;
}

void *weight_alloc(struct device *device, size_t bytes, struct error *error) {
    void *out = NULL;
    cudaError_t code = cudaSetDevice(device->index);
    if (code == cudaSuccess) {
        residence_make_room(device, bytes);
        code = residence_malloc(device, &out, bytes);
    }
    if (code != cudaSuccess) {
        (void)cudaGetLastError();
        (void)error_set(error, ERR_MEMORY, "GPU %d has no %zu bytes free for weights: %s",
                        device->index, bytes, cudaGetErrorString(code));
        return NULL;
    }
    device->weight_bytes += bytes;
    return out;
}

void weight_free(struct device *device, void *weight, size_t bytes) {
    if (weight != NULL) {
        (void)cudaSetDevice(device->index);
        graphs_forget(device);
        (void)cudaFree(weight);
        device->weight_bytes -= bytes;
    }
}

static void make_row(uint8_t *out, enum dtype dtype, int64_t width, const void *there,
                     const float *floats) {
    if (there != NULL) {
        memcpy(out, there, (size_t)width * dtype_bytes(dtype));
        return;
    }
    for (int64_t i = 0; i < width; i++) {
        float_store(out, dtype, i, floats[i]);
    }
}

void weight_upload(struct device *device, void *out, enum dtype dtype, int64_t rows, int64_t width,
                   weight_row *row, const void *context) {
    const size_t row_bytes = (size_t)width * dtype_bytes(dtype), half = STAGING_BYTES / 2;
    uint8_t *staging = device->staging;
    float *floats = (float *)(void *)(staging + STAGING_BYTES);
    if (!device_ready(device)) {
        return;
    }
    if ((size_t)width * sizeof *floats > STAGING_ROW_BYTES) {
        device_fail(device, ERR_LIMIT, "a row of %lld weights is longer than the staging memory",
                    (long long)width);
        return;
    }
    const int64_t chunk = (int64_t)(half / row_bytes);
    for (int64_t first = 0; first < rows && !device->failed; first += chunk) {
        int64_t count = rows - first < chunk ? rows - first : chunk;
        cudaEvent_t left = device->staged[device->staging_next];
        uint8_t *to = staging + (size_t)device->staging_next * half;
        device->staging_next = 1 - device->staging_next;
        (void)device_noted(device, cudaEventSynchronize(left), "weights");
        for (int64_t r = 0; r < count; r++) {
            const void *there = row(context, first + r, dtype, floats);
            make_row(to + (size_t)r * row_bytes, dtype, width, there, floats);
        }
        cuda_upload(device, (uint8_t *)out + (size_t)first * row_bytes, to,
                    (size_t)count * row_bytes);
        (void)device_noted(device, cudaEventRecord(left, device->stream), "weights");
    }
}

struct embedding {
    const struct tensor *table;
    const int32_t *ids;
};

static const void *embedding_row(const void *context, int64_t row, enum dtype dtype, float *out) {
    const struct embedding *embedding = context;
    int64_t width = embedding->table->dim[1], id = embedding->ids[row];
    assert(id >= 0 && id < embedding->table->dim[0]);
    float_row(out, embedding->table->data, embedding->table->dtype, id * width, width);
    return NULL;
}

/* The table stays where it is, in the mapped file: a prompt needs a few hundred rows of it. */
static void cuda_embed(struct device *device, float *out, const struct tensor *table,
                       const int32_t *host_ids, int64_t count) {
    assert(count >= 0 && table->rank == 2);
    struct embedding embedding = {table, host_ids};
    weight_upload(device, out, DTYPE_F32, count, table->dim[1], embedding_row, &embedding);
}

extern const struct ops vidloom_ops;

const struct ops vidloom_ops = {
    .name = VIDLOOM_CUDA_NAME,
    .device_probe = cuda_probe,
    .multiplies_f8 = cuda_multiplies_f8,
    .attends_narrow = cuda_attends_narrow,
    .device_open = cuda_open,
    .device_close = cuda_close,
    .device_info = cuda_info,
    .status = cuda_status,
    .arena_open = cuda_arena_open,
    .upload = cuda_upload,
    .download = cuda_download,
    .staging_open = cuda_staging_open,
    .download_begin = cuda_download_begin,
    .download_end = cuda_download_end,
    .repeat = cuda_repeat,
    .weight_bytes = cuda_weight_bytes,
    .mapped_bytes = cuda_mapped_bytes,
    .weight_bytes_least = cuda_weight_bytes_least,
    .limit_weights = cuda_limit_weights,
    .linear_create = cuda_linear_create,
    .linear_close = cuda_linear_close,
    .conv_create = cuda_conv_create,
    .conv_close = cuda_conv_close,
    .linear = cuda_linear,
    .norm_linear = cuda_norm_linear,
    .attention = cuda_attention,
    .attends_by_library = attention_cudnn_suits,
    .conv = cuda_conv,
    .layer_norm = cuda_layer_norm,
    .rms_norm = cuda_rms_norm,
    .qk_norm_rope = cuda_qk_norm_rope,
    .channel_norm = cuda_channel_norm,
    .activate = cuda_activate,
    .gelu_gate = cuda_gelu_gate,
    .modulation = cuda_modulation,
    .convert = cuda_convert,
    .add = cuda_add,
    .combine = cuda_combine,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .embed = cuda_embed,
    .patchify = cuda_patchify,
    .unpatchify = cuda_unpatchify,
    .to_channels_last = cuda_to_channels_last,
    .to_channels_first = cuda_to_channels_first,
    .upsample = cuda_upsample,
    .interleave_frames = cuda_interleave_frames,
    .fold = cuda_fold,
    .unfold = cuda_unfold,
    .from_pixels = cuda_from_pixels,
    .to_pixels = cuda_to_pixels,
    .to_nv12 = cuda_to_nv12,
    .context = cuda_context,
    /* 4 * 8 pictures of a chunk are half of what an encoder lets lie on the card
     * (SEGMENT_PLANES_MAX): two chunks are under way. */
    .wants = {.joins = true,
              .part_rows = 32768,
              .chunk_bytes = (int64_t)1 << 30,
              .chunk_frames = 8,
              .uploads = true},
};
