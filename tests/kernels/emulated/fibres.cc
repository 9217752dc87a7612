/* Fibres for the emulated machine: every thread of a block has a stack, and hands over where it
 * would wait. One operating system thread. */
#include <setjmp.h>
#include <stdio.h>
#include <ucontext.h>

#include <map>
#include <vector>

#include "tests/kernels/emulated/machine.cuh"

#define STACK_BYTES  (256 * 1024)
#define SHARED_BYTES (228 * 1024)
#define THREADS_MAX  1024
#define STALLS_MAX   100000 /* passes over a block in which nothing moved: a deadlock */

struct copy {
    uint32_t shared;
    const void *global;
    bool there;
};

struct fibre {
    jmp_buf context;
    ucontext_t start;
    uint8_t *stack;
    bool begun, done;
    std::vector<copy> copies;    /* asked for, not yet made */
    std::vector<size_t> commits; /* ends of groups in copies */
};

struct warp {
    int live, arrived;
    unsigned generation;
    uint8_t slots[2][WARP * EMULATED_SLOT];
};

/* A barrier in shared memory. */
struct phase {
    int count, pending;
    int64_t bytes;   /* announced, still to come */
    uint32_t parity; /* of the phase that is open */
};

struct tensor_copy {
    uint32_t shared;
    struct emulated_map map;
    int x, y, z;
    uint32_t phase;
};

struct named {
    int arrived;
    unsigned generation;
};

struct index3 threadIdx, blockIdx, gridDim;
uint8_t *emulated_shared;

static struct fibre *fibres[THREADS_MAX];
static struct warp warps[THREADS_MAX / WARP];
static std::map<uint32_t, phase> phases;
static std::vector<tensor_copy> tensor_copies; /* asked for, not yet made */
static struct named named_barriers[16];
static jmp_buf scheduler;
static ucontext_t scheduler_start;
static int current, live, arrived;
static unsigned barrier_generation;
static uint64_t moves; /* things that happened: tells waiting from a deadlock */
static void (*body)(void *);
static void *body_context;

static void hand_over(void) {
    if (_setjmp(fibres[current]->context) == 0) {
        _longjmp(scheduler, 1);
    }
}

static void fibre_main(void) {
    for (;;) {
        body(body_context);
        struct fibre *self = fibres[current];
        self->done = true;
        self->copies.clear();
        self->commits.clear();
        moves++;
        live--;
        warps[current / WARP].live--;
        hand_over();
    }
}

static void resume(int thread) {
    struct fibre *fibre = fibres[thread];
    current = thread;
    threadIdx = {(unsigned)thread, 0, 0};
    if (_setjmp(scheduler) == 0) {
        if (fibre->begun) {
            _longjmp(fibre->context, 1);
        }
        fibre->begun = true;
        setcontext(&fibre->start);
    }
}

static void prepare(int threads) {
    if (emulated_shared == NULL) {
        emulated_shared = (uint8_t *)aligned_alloc(1024, SHARED_BYTES);
    }
    for (int i = 0; i < threads; i++) {
        if (fibres[i] == NULL) {
            fibres[i] = new fibre();
            fibres[i]->stack = (uint8_t *)malloc(STACK_BYTES);
            getcontext(&fibres[i]->start);
            fibres[i]->start.uc_stack.ss_sp = fibres[i]->stack;
            fibres[i]->start.uc_stack.ss_size = STACK_BYTES;
            fibres[i]->start.uc_link = &scheduler_start;
            makecontext(&fibres[i]->start, fibre_main, 0);
        }
        fibres[i]->done = false;
    }
    for (int i = 0; i < threads; i++) {
        warps[i / WARP].live = threads - i / WARP * WARP < WARP ? threads % WARP : WARP;
        warps[i / WARP].arrived = 0;
    }
    live = threads;
    arrived = 0;
    phases.clear();
    tensor_copies.clear();
    for (int i = 0; i < 16; i++) {
        if (named_barriers[i].arrived != 0) {
            fprintf(stderr, "emulated machine: barrier %d was left half full\n", i);
            abort();
        }
    }
}

static void run_block(int threads, size_t shared, uint64_t *random) {
    prepare(threads);
    memset(emulated_shared, 0xff, shared); /* NaN of every type */
    int stalls = 0;
    while (live > 0) {
        uint64_t before = moves;
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        /* Warps begin anywhere and go either way, lanes too. */
        int first = (int)((*random >> 33) % (unsigned)threads);
        bool back = (*random >> 20 & 1) != 0;
        for (int i = 0; i < threads; i++) {
            int thread = (first + (back ? threads - i : i)) % threads;
            if (!fibres[thread]->done) {
                resume(thread);
            }
        }
        stalls = moves == before ? stalls + 1 : 0;
        if (stalls > STALLS_MAX) {
            fprintf(stderr, "emulated machine: block %u,%u: every thread waits\n", blockIdx.x,
                    blockIdx.y);
            abort();
        }
    }
}

void emulated_run(dim3 grid, int threads, size_t shared, void (*thread)(void *), void *context) {
    static uint64_t random = 1;
    if (threads > THREADS_MAX || shared > SHARED_BYTES || grid.y > 65535 || grid.z > 65535) {
        fprintf(stderr, "emulated machine: a launch that no GPU takes\n");
        abort();
    }
    body = thread;
    body_context = context;
    gridDim = {grid.x, grid.y, grid.z};
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                run_block(threads, shared, &random);
            }
        }
    }
}

/* The index variables are the running fibre's: put them back after a wait. */
static void wait_for(const unsigned *generation, unsigned seen) {
    while (*generation == seen) {
        hand_over();
    }
}

void emulated_barrier(void) {
    struct index3 mine = threadIdx;
    unsigned seen = barrier_generation;
    moves++;
    if (++arrived == live) {
        arrived = 0;
        barrier_generation++;
    } else {
        wait_for(&barrier_generation, seen);
    }
    threadIdx = mine;
}

const uint8_t *emulated_exchange(const void *mine, size_t bytes) {
    struct index3 index = threadIdx;
    struct warp *warp = &warps[index.x / WARP];
    unsigned seen = warp->generation;
    uint8_t *slots = warp->slots[seen % 2];
    memcpy(slots + index.x % WARP * EMULATED_SLOT, mine, bytes);
    moves++;
    if (++warp->arrived == warp->live) {
        warp->arrived = 0;
        warp->generation++;
    } else {
        wait_for(&warp->generation, seen);
    }
    threadIdx = index;
    return slots;
}

void emulated_copy(uint32_t shared, const void *global, bool there) {
    if (shared % 16 != 0 || (uintptr_t)global % 16 != 0 || shared + 16 > SHARED_BYTES) {
        fprintf(stderr, "emulated machine: a copy of 16 bytes that is not aligned\n");
        abort();
    }
    /* What comes is not there yet, and what was there is gone. */
    memset(emulated_shared + shared, 0xff, 16);
    fibres[current]->copies.push_back({shared, global, there});
}

void emulated_copy_commit(void) {
    fibres[current]->commits.push_back(fibres[current]->copies.size());
}

void emulated_copy_wait(int pending) {
    struct fibre *self = fibres[current];
    if ((int)self->commits.size() <= pending) {
        return;
    }
    size_t groups = self->commits.size() - (size_t)pending, end = self->commits[groups - 1];
    for (size_t i = 0; i < end; i++) {
        const struct copy *copy = &self->copies[i];
        if (copy->there) {
            memcpy(emulated_shared + copy->shared, copy->global, 16);
        } else {
            memset(emulated_shared + copy->shared, 0, 16);
        }
    }
    self->copies.erase(self->copies.begin(), self->copies.begin() + (long)end);
    self->commits.erase(self->commits.begin(), self->commits.begin() + (long)groups);
    for (size_t i = 0; i < self->commits.size(); i++) {
        self->commits[i] -= end;
    }
}

void emulated_named(int id, int threads, bool wait) {
    struct index3 mine = threadIdx;
    struct named *barrier = &named_barriers[id];
    unsigned seen = barrier->generation;
    moves++;
    if (++barrier->arrived == threads) {
        barrier->arrived = 0;
        barrier->generation++;
    } else if (wait) {
        wait_for(&barrier->generation, seen);
    }
    threadIdx = mine;
}

/* -- barriers in shared memory and the copies that end their phases ------------------------------
 */

static struct phase *phase_of(uint32_t shared) {
    auto found = phases.find(shared);
    if (found == phases.end()) {
        fprintf(stderr, "emulated machine: no barrier was made at %u\n", shared);
        abort();
    }
    return &found->second;
}

static void phase_settle(struct phase *phase) {
    moves++;
    if (phase->pending == 0 && phase->bytes == 0) {
        phase->pending = phase->count;
        phase->parity ^= 1;
    }
}

void emulated_phase_init(uint32_t shared, int count) {
    if (shared % 8 != 0) {
        abort();
    }
    phases[shared] = {count, count, 0, 0};
}

void emulated_phase_arrive(uint32_t shared, int bytes) {
    struct phase *phase = phase_of(shared);
    phase->pending--;
    phase->bytes += bytes;
    phase_settle(phase);
}

void emulated_copy_tensor(uint32_t shared, const struct emulated_map *map, int x, int y, int z,
                          uint32_t phase) {
    if (shared % 1024 != 0 || shared + (uint32_t)map->rows * 128 > SHARED_BYTES) {
        fprintf(stderr, "emulated machine: a tensor copy to %u\n", shared);
        abort();
    }
    memset(emulated_shared + shared, 0xff, (size_t)map->rows * 128); /* what was there is gone */
    tensor_copies.push_back({shared, *map, x, y, z, phase});
}

static void tensor_copy_make(const struct tensor_copy *copy) {
    const struct emulated_map *map = &copy->map;
    for (int r = 0; r < map->rows; r++) {
        for (int chunk = 0; chunk < 8; chunk++) {
            uint32_t to = copy->shared + (uint32_t)(r * 128 + chunk * 16);
            to ^= (to >> 7 & 7) << 4;
            int64_t row = copy->z + r, element = copy->x + chunk * (16 / map->bytes);
            if (row < map->length && element < map->head_dim && copy->y < map->heads) {
                int64_t at = row * map->stride + (int64_t)copy->y * map->head_dim + element;
                memcpy(emulated_shared + to, map->data + at * map->bytes, 16);
            } else {
                memset(emulated_shared + to, 0, 16);
            }
        }
    }
    struct phase *phase = phase_of(copy->phase);
    phase->bytes -= (int64_t)map->rows * 128;
    phase_settle(phase);
}

/* The copies that this barrier counts are made now and no sooner: their data is there for whoever
 * waits, and for nobody else. */
void emulated_phase_wait(uint32_t shared, uint32_t parity) {
    struct index3 mine = threadIdx;
    while (phase_of(shared)->parity == parity) {
        bool made = false;
        for (size_t i = 0; i < tensor_copies.size(); i++) {
            if (tensor_copies[i].phase == shared) {
                struct tensor_copy copy = tensor_copies[i];
                tensor_copies.erase(tensor_copies.begin() + (long)i--);
                tensor_copy_make(&copy);
                made = true;
            }
        }
        if (!made) {
            hand_over();
        }
    }
    threadIdx = mine;
}
