/* Steps that repeat, as CUDA graphs: a step of a transformer is some hundred launches of which the
 * small ones take the host longer to queue than the card to run.
 *
 * The first time a key is met its operations are queued one by one: they load kernels, make plans
 * and measure, which no capture allows. The second time they are captured; from then on one launch
 * is all. Captured are pointers and numbers, so whatever frees memory that operations are given by
 * pointer calls graphs_forget, or its pointer is part of the key. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "kernels/ops.h"

/* Two passes of two experts, and as many of another size beside them. */
#define RECORDS_MAX 8

enum record_state {
    RECORD_EMPTY,
    RECORD_MET,    /* queued once */
    RECORD_KEPT,   /* as a graph */
    RECORD_REFUSED /* it cannot be captured: queued one by one, always */
};

struct record {
    enum record_state state;
    uint64_t used; /* when, in calls */
    size_t bytes;
    uint8_t key[OPS_KEY_MAX];
    cudaGraphExec_t graph;
};

struct graphs {
    uint64_t calls;
    bool recording;
    struct record record[RECORDS_MAX];
};

enum error_code graphs_open(struct device *device, struct error *error) {
    device->graphs = calloc(1, sizeof *device->graphs);
    return device->graphs != NULL ? ERR_OK : error_set(error, ERR_MEMORY, "no memory for graphs");
}

static void clear(struct record *record) {
    if (record->state == RECORD_KEPT) {
        (void)cudaGraphExecDestroy(record->graph);
    }
    *record = (struct record){.state = RECORD_EMPTY};
}

void graphs_forget(struct device *device) {
    bool waited = false;
    for (int i = 0; device->graphs != NULL && i < RECORDS_MAX; i++) {
        struct record *record = &device->graphs->record[i];
        if (record->state == RECORD_KEPT && !waited) { /* it may be running */
            (void)cudaStreamSynchronize(device->stream);
            waited = true;
        }
        clear(record);
    }
}

void graphs_close(struct device *device) {
    graphs_forget(device);
    free(device->graphs);
    device->graphs = NULL;
}

bool graphs_recording(const struct device *device) {
    return device->graphs->recording;
}

/* The key's own record, or an empty one in the place of the one that was used the longest ago. */
static struct record *record_of(struct device *device, const void *key, size_t bytes) {
    struct record *oldest = &device->graphs->record[0];
    for (int i = 0; i < RECORDS_MAX; i++) {
        struct record *record = &device->graphs->record[i];
        if (record->state != RECORD_EMPTY && record->bytes == bytes &&
            memcmp(record->key, key, bytes) == 0) {
            return record;
        }
        oldest = record->used < oldest->used ? record : oldest;
    }
    if (oldest->state == RECORD_KEPT) {
        (void)device_noted(device, cudaStreamSynchronize(device->stream), "a recorded step");
    }
    clear(oldest);
    oldest->bytes = bytes;
    memcpy(oldest->key, key, bytes);
    return oldest;
}

/* Capture what is queued; *whole: all of it was. False: it cannot be captured, and nothing runs. */
static bool capture(struct device *device, struct record *record, bool (*queue)(void *context),
                    void *context, bool *whole) {
    cudaGraph_t graph = NULL;
    *whole = true;
    if (cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        return false;
    }
    device->graphs->recording = true;
    *whole = queue(context);
    device->graphs->recording = false;
    bool good = cudaStreamEndCapture(device->stream, &graph) == cudaSuccess && !device->failed &&
                *whole && cudaGraphInstantiate(&record->graph, graph, 0) == cudaSuccess;
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    device->failed = false; /* by what cannot be captured: it has not run, and is done again */
    return good;
}

void cuda_repeat(struct device *device, const void *key, size_t bytes, bool (*queue)(void *context),
                 void *context) {
    assert(bytes > 0 && bytes <= OPS_KEY_MAX && !device->graphs->recording);
    if (!device_ready(device)) {
        return;
    }
    struct record *record = record_of(device, key, bytes);
    record->used = ++device->graphs->calls;
    bool whole = true;
    if (record->state == RECORD_MET && !residence_moved(device)) {
        bool good = capture(device, record, queue, context, &whole);
        if (!good) {
            (void)cudaGetLastError();
        }
        record->state = good ? RECORD_KEPT : whole ? RECORD_REFUSED : RECORD_MET;
    }
    if (record->state == RECORD_KEPT) {
        (void)device_noted(device, cudaGraphLaunch(record->graph, device->stream),
                           "a recorded step");
    } else if (whole && queue(context) && record->state == RECORD_EMPTY) {
        record->state = RECORD_MET;
    }
}
