/* What kernels/cuda calls of CUDA's runtime and libraries, on host memory, at once; and the
 * conversions of kernels/cpu/float.h for the emulated machine. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "kernels/cuda/backend.h"
#include "tests/kernels/emulated/runtime.h"

float emulated_f16_to_float(uint16_t bits);
uint16_t emulated_f16_from_float(float x);
float emulated_bf16_to_float(uint16_t bits);
uint16_t emulated_bf16_from_float(float x);
float emulated_f8_to_float(uint8_t bits);
uint8_t emulated_f8_from_float(float x);

float emulated_f16_to_float(uint16_t bits) {
    return f16_to_float(bits);
}
uint16_t emulated_f16_from_float(float x) {
    return f16_from_float(x);
}
float emulated_bf16_to_float(uint16_t bits) {
    return bf16_to_float(bits);
}
uint16_t emulated_bf16_from_float(float x) {
    return bf16_from_float(x);
}

float emulated_f8_to_float(uint8_t bits) {
    return float_load(&bits, DTYPE_F8_E4M3, 0);
}
uint8_t emulated_f8_from_float(float x) {
    return f8_e4m3_from_float(x > 448 ? 448 : x < -448 ? -448 : x);
}

/* Device 0 is of the kind of an A100, device 1 of an H100, device 2 like 0 with little memory,
 * device 3 of an L40S, device 4 has fallen off the bus. */
#define DEVICES 5

static const size_t total[DEVICES] = {(size_t)1 << 30, (size_t)1 << 30, (size_t)128 << 20,
                                      (size_t)1 << 30};
static const int capability[DEVICES] = {80, 90, 80, 89, 0};
static int current;
static uint64_t selected;
static cudaError_t last; /* failure, until it is asked for */

uint64_t emulated_selected(void) {
    return selected;
}

static cudaError_t failed(cudaError_t code) {
    last = code;
    return code;
}

int emulated_capability(void) {
    return capability[current];
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = DEVICES;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
    selected++;
    if (index < 0 || index >= DEVICES || capability[index] == 0) {
        return failed(cudaErrorInvalidDevice);
    }
    current = index;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int index) {
    if (capability[index] == 0) {
        return failed(cudaErrorDevicesUnavailable);
    }
    *out = (struct cudaDeviceProp){.major = capability[index] / 10,
                                   .minor = capability[index] % 10,
                                   .multiProcessorCount = 3,
                                   .totalGlobalMem = total[index]};
    strcpy(out->name, "emulated GPU");
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr attribute, int index) {
    if (index < 0 || index >= DEVICES || capability[index] == 0) {
        return failed(cudaErrorInvalidDevice);
    }
    *out = attribute == cudaDevAttrComputeCapabilityMajor ? capability[index] / 10
                                                          : capability[index] % 10;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *out) {
    *out = 0;
    return cudaSuccess;
}

/* There is no driver. */
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found) {
    (void)name;
    (void)version;
    (void)flags;
    *out = NULL;
    *found = cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t code = last;
    last = cudaSuccess;
    return code;
}

const char *cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorMemoryAllocation ? "out of memory" : "error";
}

/* -- the stream, its graphs and events --------------------------------------------------------- */

/* Something queued while the stream was captured. */
struct node {
    struct node *next;
    void (*run)(void *context);
    void *context;
};

/* A graph, and what is made of it: the same thing, counted. */
struct CUgraph_st {
    struct node *first, **end;
    int owners;
};

/* The first of the two streams that a device of kernels/cuda makes does everything at once, but for
 * copies from pinned memory, which read it as late as may be: when something else is queued or they
 * are waited for. The second, for copies, does only what an event is waited for, and no sooner:
 * what nobody waits for is not there. */
struct CUstream_st {
    bool deferred;
    struct node *first, **end; /* queued, not done */
    uint64_t queued, done;
};

struct CUevent_st {
    float time;
    struct CUstream_st *stream; /* where it was recorded; NULL: nowhere */
    uint64_t queued;            /* there by then */
};

static struct CUgraph_st *capture; /* being recorded; NULL: none */
static bool capture_broken;
static float now;

void emulated_clock_add(float milliseconds) {
    now += milliseconds;
}

static void *copy_of(const void *in, size_t bytes) {
    void *out = malloc(bytes);
    if (out == NULL) {
        abort();
    }
    memcpy(out, in, bytes);
    return out;
}

static struct node *node_make(void (*run)(void *context), const void *context, size_t bytes) {
    const struct node node = {.run = run, .context = copy_of(context, bytes)};
    return copy_of(&node, sizeof node);
}

static void node_free(struct node *node) {
    free(node->context);
    free(node);
}

static void do_until(struct CUstream_st *stream, uint64_t queued) {
    while (stream->done < queued && stream->first != NULL) {
        struct node *node = stream->first;
        stream->first = node->next;
        stream->end = stream->first == NULL ? &stream->first : stream->end;
        stream->done++;
        node->run(node->context);
        node_free(node);
    }
}

static void defer(struct CUstream_st *stream, void (*run)(void *context), const void *context,
                  size_t bytes) {
    *stream->end = node_make(run, context, bytes);
    stream->end = &(*stream->end)->next;
    stream->queued++;
}

static struct CUstream_st *late; /* has copies from pinned memory to do; NULL: none has */

static void do_late(void) {
    if (late != NULL) {
        do_until(late, late->queued);
        late = NULL;
    }
}

void emulated_queue(void (*run)(void *context), const void *context, size_t bytes) {
    do_late();
    struct node *node = node_make(run, context, bytes);
    if (capture == NULL) {
        run(node->context);
        node_free(node);
        return;
    }
    *capture->end = node;
    capture->end = &node->next;
}

/* What no captured stream takes: it waits, allocates, or reads the host's memory later on. */
static cudaError_t outside_capture(void) {
    capture_broken = capture_broken || capture != NULL;
    return capture != NULL ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    (void)stream, (void)mode;
    if (outside_capture() != cudaSuccess) {
        return cudaErrorIllegalState;
    }
    capture = calloc(1, sizeof *capture);
    if (capture == NULL) {
        abort();
    }
    capture->end = &capture->first;
    capture->owners = 1;
    capture_broken = false;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (--graph->owners > 0) {
        return cudaSuccess;
    }
    while (graph->first != NULL) {
        struct node *node = graph->first;
        graph->first = node->next;
        node_free(node);
    }
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    (void)stream;
    *out = capture;
    capture = NULL;
    if (capture_broken) {
        (void)cudaGraphDestroy(*out);
        *out = NULL;
        return cudaErrorStreamCaptureInvalidated;
    }
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    (void)flags;
    graph->owners++;
    *out = (cudaGraphExec_t)(void *)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    return cudaGraphDestroy((cudaGraph_t)(void *)graph);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    (void)stream;
    do_late();
    for (struct node *node = ((cudaGraph_t)(void *)exec)->first; node != NULL; node = node->next) {
        node->run(node->context);
    }
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    (void)flags;
    return cudaEventCreate(out);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->time = now;
    event->stream = stream;
    event->queued = stream->queued;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    (void)stream, (void)flags;
    if (event->stream != NULL) {
        do_until(event->stream, event->queued);
    }
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cudaError_t code = outside_capture();
    return code == cudaSuccess ? cudaStreamWaitEvent(NULL, event, 0) : code;
}

cudaError_t cudaEventElapsedTime(float *out, cudaEvent_t begin, cudaEvent_t end) {
    *out = end->time - begin->time;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    static unsigned created;
    (void)flags;
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return cudaErrorMemoryAllocation;
    }
    (*out)->deferred = created++ % 2 == 1;
    (*out)->end = &(*out)->first;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    do_until(stream, stream->queued);
    return outside_capture();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    do_late();
    do_until(stream, stream->queued);
    free(stream);
    return cudaSuccess;
}

/* -- memory ------------------------------------------------------------------------------------ */

/* Before every block. */
struct allocation {
    size_t bytes;
    int device;              /* -1: the host's, pinned */
    struct allocation *next; /* of those */
};

#define ALIGNMENT ((size_t)256)

static size_t taken[DEVICES];
static struct allocation *pinned;

static void *allocate(size_t bytes, int device) {
    uint8_t *base = aligned_alloc(ALIGNMENT, ALIGNMENT + (bytes + 255) / ALIGNMENT * ALIGNMENT);
    if (base == NULL) {
        abort();
    }
    struct allocation *allocation = (struct allocation *)(void *)base;
    *allocation = (struct allocation){bytes, device, device < 0 ? pinned : NULL};
    pinned = device < 0 ? allocation : pinned;
    memset(base + ALIGNMENT, 0xff, bytes < 1 << 20 ? bytes : 1 << 20);
    return base + ALIGNMENT;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    cudaError_t code = outside_capture();
    if (code != cudaSuccess) {
        return code;
    }
    if (bytes > total[current] - taken[current]) {
        return failed(cudaErrorMemoryAllocation);
    }
    *out = allocate(bytes, current);
    taken[current] += bytes;
    return cudaSuccess;
}

uint64_t emulated_free(void) {
    return total[current] - taken[current];
}

cudaError_t cudaMemGetInfo(size_t *there, size_t *all) {
    *there = total[current] - taken[current];
    *all = total[current];
    return outside_capture();
}

static bool is_pinned(const void *pointer) {
    for (const struct allocation *a = pinned; a != NULL; a = a->next) {
        const uint8_t *base = (const uint8_t *)(const void *)a + ALIGNMENT;
        if ((const uint8_t *)pointer >= base && (const uint8_t *)pointer < base + a->bytes) {
            return true;
        }
    }
    return false;
}

static void unpin(const struct allocation *allocation) {
    struct allocation **link = &pinned;
    while (*link != NULL && *link != allocation) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = allocation->next;
    }
}

/* Waits for all that was queued, as CUDA's does. */
cudaError_t cudaFree(void *pointer) {
    do_late();
    if (pointer != NULL) {
        uint8_t *base = (uint8_t *)pointer - ALIGNMENT;
        const struct allocation *allocation = (struct allocation *)(void *)base;
        if (allocation->device >= 0) {
            taken[allocation->device] -= allocation->bytes;
        }
        unpin(allocation);
        free(base);
    }
    return outside_capture();
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    *out = allocate(bytes, -1);
    return outside_capture();
}

cudaError_t cudaFreeHost(void *pointer) {
    return cudaFree(pointer);
}

struct transfer {
    void *out;
    const void *in;
    size_t out_pitch, in_pitch, width, height;
    int value;
};

static void transfer(void *context) {
    const struct transfer *t = context;
    for (size_t row = 0; row < t->height; row++) {
        if (t->in != NULL) {
            memcpy((char *)t->out + row * t->out_pitch, (const char *)t->in + row * t->in_pitch,
                   t->width);
        } else {
            memset((char *)t->out + row * t->out_pitch, t->value, t->width);
        }
    }
}

static uint64_t copied;

uint64_t emulated_copied(void) {
    return copied;
}

cudaError_t cudaMemcpy2DAsync(void *out, size_t out_pitch, const void *in, size_t in_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    const struct transfer t = {out, in, out_pitch, in_pitch, width, height, 0};
    if (kind != cudaMemcpyDeviceToDevice && outside_capture() != cudaSuccess) {
        return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->deferred) { /* what comes is not there yet, and what was there is gone */
        memset(out, 0xff, width * height);
        defer(stream, transfer, &t, sizeof t);
        copied += width * height;
        return cudaSuccess;
    }
    if (kind == cudaMemcpyHostToDevice && is_pinned(in)) {
        if (late != stream) {
            do_late();
        }
        defer(stream, transfer, &t, sizeof t);
        late = stream;
        return cudaSuccess;
    }
    emulated_queue(transfer, &t, sizeof t);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *out, const void *in, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return cudaMemcpy2DAsync(out, bytes, in, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemsetAsync(void *out, int value, size_t bytes, cudaStream_t stream) {
    const struct transfer t = {.out = out, .width = bytes, .height = 1, .value = value};
    (void)stream;
    emulated_queue(transfer, &t, sizeof t);
    return cudaSuccess;
}

/* -- tensor copies and cuDNN, which has a plan for nothing ------------------------------------- */

/* emulated_map of machine.cuh. */
struct map {
    const uint8_t *data;
    int bytes;
    int head_dim, heads, rows;
    int64_t length, stride;
};

bool tensor_map(struct CUtensorMap_st *out, const void *data, enum dtype dtype, int head_dim,
                int heads, int64_t length, int64_t stride, int rows) {
    const int bytes = (int)dtype_bytes(dtype);
    const struct map map = {data, bytes, head_dim, heads, rows, length, stride};
    if ((uintptr_t)data % 16 != 0 || stride * bytes % 16 != 0 || rows > 256) {
        return false;
    }
    memcpy(out, &map, sizeof map);
    return true;
}
