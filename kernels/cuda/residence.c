/* Weights that give way. When the card's memory is too short for an arena or for more weights, or
 * weights occupy more than they are allowed, linear layers move to pinned memory of the host, one
 * by one until there is room, spread evenly over the order in which they were made. From then on
 * they pass through a few buffers on the card: the layer that is used next is on its way, on a
 * stream of its own, while this one's product runs. PCIe's 50 GB/s and a product of thousands of
 * rows overlap: what is computed for half a second a pass hides 25 GB.
 *
 * Which layer is next is learned: the one that followed the last time. A feed-forward goes through
 * its two layers again and again, a part of the rows at a time: such a return is not what follows.
 * Results do not depend on any of it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"

#define SLOTS WEIGHTS_MOVE_BUFFERS

/* What stays free beside an arena or weights, where weights can give way for it: kernels are loaded
 * when they are first launched, graphs are made when a step comes again, others use the card too,
 * and none of them can make weights give way. Of a small card, no more than a part. */
#define HEADROOM_BYTES ((size_t)512 << 20)
#define HEADROOM_PART  32

struct slot {
    void *memory;
    struct linear *holds;
    bool used;                /* since it was filled */
    uint64_t time;            /* of its last use */
    cudaEvent_t ready, freed; /* the copy is done; the last use is */
};

struct residence {
    struct linear *first, **end;
    int count;
    cudaStream_t copies;
    struct slot slot[SLOTS];
    size_t slot_bytes, moved_bytes; /* of a slot; the largest that has moved */
    size_t limit;                   /* of what weights and slots occupy; 0: none */
    struct linear *last;            /* that was not a return */
    uint64_t uses;
};

enum error_code residence_open(struct device *device, struct error *error) {
    struct residence *residence = calloc(1, sizeof *residence);
    device->residence = residence;
    if (residence == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for a list of layers");
    }
    residence->end = &residence->first;
    cudaError_t code = cudaStreamCreateWithFlags(&residence->copies, cudaStreamNonBlocking);
    for (int i = 0; i < SLOTS && code == cudaSuccess; i++) {
        code = cudaEventCreateWithFlags(&residence->slot[i].ready, cudaEventDisableTiming);
        if (code == cudaSuccess) {
            code = cudaEventCreateWithFlags(&residence->slot[i].freed, cudaEventDisableTiming);
        }
    }
    return code == cudaSuccess ? ERR_OK
                               : error_set(error, ERR_DEVICE, "GPU %d: no stream for copies: %s",
                                           device->index, cudaGetErrorString(code));
}

/* Nothing is in the slots, nothing on its way to them. */
static void slots_free(struct device *device) {
    struct residence *residence = device->residence;
    (void)cudaStreamSynchronize(residence->copies);
    (void)cudaStreamSynchronize(device->stream);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &residence->slot[i];
        (void)cudaFree(slot->memory);
        *slot = (struct slot){.ready = slot->ready, .freed = slot->freed};
    }
    residence->slot_bytes = 0;
}

void residence_close(struct device *device) {
    struct residence *residence = device->residence;
    if (residence == NULL) {
        return;
    }
    assert(residence->first == NULL);
    if (residence->copies != NULL) {
        slots_free(device);
        (void)cudaStreamDestroy(residence->copies);
    }
    for (int i = 0; i < SLOTS; i++) {
        if (residence->slot[i].ready != NULL) {
            (void)cudaEventDestroy(residence->slot[i].ready);
        }
        if (residence->slot[i].freed != NULL) {
            (void)cudaEventDestroy(residence->slot[i].freed);
        }
    }
    free(residence);
    device->residence = NULL;
}

void residence_add(struct device *device, struct linear *linear) {
    struct residence *residence = device->residence;
    linear->place = residence->end;
    *residence->end = linear;
    residence->end = &linear->next;
    residence->count++;
}

static bool any_moved(const struct residence *residence) {
    const struct linear *linear = residence->first;
    while (linear != NULL && linear->host == NULL) {
        linear = linear->next;
    }
    return linear != NULL;
}

void residence_remove(struct device *device, struct linear *linear) {
    struct residence *residence = device->residence;
    if (linear->place == NULL) {
        return;
    }
    *linear->place = linear->next;
    if (linear->next != NULL) {
        linear->next->place = linear->place;
    } else {
        residence->end = linear->place;
    }
    residence->count--;
    for (struct linear *other = residence->first; other != NULL; other = other->next) {
        other->follows = other->follows == linear ? NULL : other->follows;
    }
    residence->last = residence->last == linear ? NULL : residence->last;
    for (int i = 0; i < SLOTS; i++) {
        if (residence->slot[i].holds == linear) {
            (void)cudaStreamSynchronize(residence->copies); /* it reads what is given back */
            residence->slot[i].holds = NULL;
        }
    }
    (void)cudaFreeHost(linear->host);
    bool moved = linear->host != NULL;
    linear->host = NULL;
    if (moved && !any_moved(residence)) { /* what comes is as if nothing had ever moved */
        slots_free(device);
        residence->moved_bytes = 0;
    }
}

bool residence_moved(const struct device *device) {
    return device->residence->moved_bytes > 0;
}

/* -- moving ------------------------------------------------------------------------------------ */

static bool may_move(const struct linear *linear) {
    return linear->host == NULL && linear_weight_bytes(linear) >= WEIGHTS_MOVE_LEAST;
}

static struct linear *layer_at(const struct residence *residence, int index) {
    struct linear *linear = residence->first;
    while (index-- > 0) {
        linear = linear->next;
    }
    return linear;
}

/* Layers by the reversed bits of their number: however many have gone, they are spread evenly. */
static struct linear *next_to_move(const struct residence *residence) {
    int bits = 0;
    while (1 << bits < residence->count) {
        bits++;
    }
    for (int i = 0; i < 1 << bits; i++) {
        int reversed = 0;
        for (int b = 0; b < bits; b++) {
            reversed |= (i >> b & 1) << (bits - 1 - b);
        }
        if (reversed < residence->count) {
            struct linear *linear = layer_at(residence, reversed);
            if (may_move(linear)) {
                return linear;
            }
        }
    }
    return NULL;
}

static bool move(struct device *device, struct linear *linear) {
    size_t bytes = linear_weight_bytes(linear);
    void *host = NULL;
    if (cudaMallocHost(&host, bytes) != cudaSuccess ||
        cudaMemcpyAsync(host, linear->weight, bytes, cudaMemcpyDeviceToHost, device->stream) !=
            cudaSuccess ||
        cudaStreamSynchronize(device->stream) != cudaSuccess) {
        (void)cudaGetLastError();
        (void)cudaFreeHost(host);
        return false;
    }
    weight_free(device, linear->weight, bytes);
    linear->weight = NULL;
    linear->host = host;
    if (bytes > device->residence->moved_bytes) {
        device->residence->moved_bytes = bytes;
    }
    return true;
}

/* Slots in which every layer that has moved has room. */
static bool slots_fit(struct device *device) {
    struct residence *residence = device->residence;
    if (residence->slot_bytes >= residence->moved_bytes) {
        return true;
    }
    slots_free(device);
    for (int i = 0; i < SLOTS; i++) {
        if (cudaMalloc(&residence->slot[i].memory, residence->moved_bytes) != cudaSuccess) {
            (void)cudaGetLastError();
            slots_free(device);
            return false;
        }
    }
    residence->slot_bytes = residence->moved_bytes;
    return true;
}

static bool give_way(struct device *device) {
    struct residence *residence = device->residence;
    if (residence == NULL || graphs_recording(device)) {
        return false;
    }
    do {
        struct linear *linear = next_to_move(residence);
        if (linear == NULL || !move(device, linear)) {
            return false;
        }
    } while (!slots_fit(device));
    return true;
}

/* Whether less would stay free than should. */
static bool is_tight(const struct device *device, size_t bytes) {
    const size_t part = device->properties.totalGlobalMem / HEADROOM_PART;
    const size_t headroom = part < HEADROOM_BYTES ? part : HEADROOM_BYTES;
    size_t there = 0, all = 0;
    if (cudaMemGetInfo(&there, &all) != cudaSuccess) {
        (void)cudaGetLastError();
        return false;
    }
    return there < headroom || there - headroom < bytes;
}

cudaError_t residence_malloc(struct device *device, void **out, size_t bytes) {
    while (is_tight(device, bytes) && give_way(device)) {
    }
    cudaError_t code = cudaMalloc(out, bytes);
    while (code == cudaErrorMemoryAllocation && give_way(device)) {
        (void)cudaGetLastError(); /* a refused allocation is no fault of what comes next */
        code = cudaMalloc(out, bytes);
    }
    return code;
}

void residence_make_room(struct device *device, size_t bytes) {
    const struct residence *residence = device->residence;
    while (residence->limit > 0 &&
           device->weight_bytes + SLOTS * residence->slot_bytes + bytes > residence->limit &&
           give_way(device)) {
    }
}

void residence_limit(struct device *device, size_t bytes) {
    device->residence->limit = bytes;
    residence_make_room(device, 0);
}

size_t residence_least(const struct device *device) {
    size_t here = 0, all = 0, most = 0;
    for (const struct linear *l = device->residence->first; l != NULL; l = l->next) {
        size_t bytes = linear_weight_bytes(l);
        if (l->host != NULL || may_move(l)) {
            here += l->host == NULL ? bytes : 0;
            all += bytes;
            most = bytes > most ? bytes : most;
        }
    }
    return device->weight_bytes - here + (SLOTS * most < all ? SLOTS * most : all);
}

/* -- use --------------------------------------------------------------------------------------- */

static struct slot *slot_of(struct residence *residence, const struct linear *linear) {
    for (int i = 0; i < SLOTS; i++) {
        if (residence->slot[i].holds == linear) {
            return &residence->slot[i];
        }
    }
    return NULL;
}

/* Into the slot that was used the longest ago, once its last use is done. */
static struct slot *fill(struct device *device, struct linear *linear) {
    struct residence *residence = device->residence;
    struct slot *slot = &residence->slot[0];
    for (int i = 1; i < SLOTS; i++) {
        slot = residence->slot[i].time < slot->time ? &residence->slot[i] : slot;
    }
    cudaError_t code = cudaStreamWaitEvent(residence->copies, slot->freed, 0);
    if (code == cudaSuccess) {
        code = cudaMemcpyAsync(slot->memory, linear->host, linear_weight_bytes(linear),
                               cudaMemcpyHostToDevice, residence->copies);
    }
    if (code == cudaSuccess) {
        code = cudaEventRecord(slot->ready, residence->copies);
    }
    (void)device_noted(device, code, "weights on their way");
    slot->holds = linear;
    slot->used = false;
    slot->time = ++residence->uses;
    return slot;
}

const void *residence_enter(struct device *device, struct linear *linear) {
    struct residence *residence = device->residence;
    if (linear->host == NULL) {
        return linear->weight;
    }
    struct slot *slot = slot_of(residence, linear);
    if (slot == NULL) {
        slot = fill(device, linear);
    }
    if (!slot->used) {
        if (residence->last != NULL) {
            residence->last->follows = linear;
        }
        residence->last = linear;
        slot->used = true;
    }
    slot->time = ++residence->uses;
    (void)device_noted(device, cudaStreamWaitEvent(device->stream, slot->ready, 0), "weights");
    return slot->memory;
}

void residence_leave(struct device *device, struct linear *linear) {
    struct residence *residence = device->residence;
    if (linear->host == NULL) {
        return;
    }
    struct slot *slot = slot_of(residence, linear);
    (void)device_noted(device, cudaEventRecord(slot->freed, device->stream), "weights");
    if (linear->follows != NULL && slot_of(residence, linear->follows) == NULL) {
        (void)fill(device, linear->follows);
    }
}
