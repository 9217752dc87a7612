#include "tests/kernels/support.h"

#define GUARD  256
#define POISON 0xa5

static const char *const levels[] = {"plain", "avx2", "avx512", "avx512_bf16"};
static const int thread_counts[] = {1, 2, 3};

static uint64_t random_state;

void random_start(uint64_t seed) {
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
}

double random_unit(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) / (double)(UINT64_C(1) << 52) - 1;
}

int64_t random_range(int64_t first, int64_t last) {
    return first +
           (int64_t)((random_unit() + 1) / 2 * (double)(last - first + 1)) % (last - first + 1);
}

#define BUFFERS_MAX 4096

struct block {
    uint8_t *host;
    size_t bytes;
    void *device; /* its copy there during an operation; NULL: not asked for yet */
};

static struct block buffers[BUFFERS_MAX];
static int buffer_count;

/* A device in another memory than the tests'. */
struct backend {
    const char *name; /* as on the command line */
    const struct ops *ops;
    struct device *device;
    struct arena arena;
};

#define BACKENDS_MAX        4
#define BACKEND_ARENA_BYTES ((size_t)192 << 20)

static struct backend backends[BACKENDS_MAX];
static int backend_count;
static struct backend *running; /* NULL: a CPU level, whose memory is the tests' */

void *buffer_of(size_t bytes) {
    void *out = calloc(1, bytes > 0 ? bytes : 1);
    if (out == NULL || buffer_count >= BUFFERS_MAX) {
        abort();
    }
    buffers[buffer_count++] = (struct block){out, bytes, NULL};
    return out;
}

int buffers_free(void **state) {
    (void)state;
    while (buffer_count > 0) {
        free(buffers[--buffer_count].host);
    }
    return 0;
}

void *random_buffer(int64_t count, enum dtype dtype, double scale) {
    void *out = buffer_of((size_t)count * dtype_bytes(dtype));
    for (int64_t i = 0; i < count; i++) {
        float_store(out, dtype, i, (float)(random_unit() * scale));
    }
    return out;
}

struct tensor tensor_of(const void *data, enum dtype dtype, int rank, const int64_t *dim) {
    struct tensor out = {.data = data, .dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++) {
        out.dim[i] = dim[i];
    }
    return out;
}

const void *given(const void *host) {
    if (host == NULL || running == NULL) {
        return host;
    }
    for (int i = buffer_count - 1; i >= 0; i--) {
        struct block *block = &buffers[i];
        uintptr_t offset = (uintptr_t)host - (uintptr_t)block->host;
        if ((uintptr_t)host < (uintptr_t)block->host || offset > block->bytes) {
            continue;
        }
        if (block->device == NULL) {
            block->device = arena_alloc(&running->arena, block->bytes);
            assert_non_null(block->device);
            running->ops->upload(running->device, block->device, block->host, block->bytes);
        }
        return (const uint8_t *)block->device + offset;
    }
    fail_msg("an operation was given memory that is no block of the tests");
    return NULL;
}

static void backend_open(struct backend *out, const char *name) {
    struct error error = {0};
    struct device_config config = {0};
    out->name = name;
    if (ops_find(&out->ops, &config.index, name, &error) != ERR_OK ||
        out->ops->device_open(&out->device, &config, &error) != ERR_OK ||
        out->ops->arena_open(out->device, &out->arena, BACKEND_ARENA_BYTES, &error) != ERR_OK) {
        fprintf(stderr, "%s: %s\n", name, error.detail);
        exit(1);
    }
    struct device_info info;
    out->ops->device_info(out->device, &info);
    printf("also on %s: %s (%s)\n", name, info.name, info.class);
}

int support_open(int argc, char **argv) {
    for (int i = 1; i < argc && backend_count < BACKENDS_MAX; i++) {
        backend_open(&backends[backend_count++], argv[i]);
    }
    return backend_count;
}

int support_close(int failed) {
    while (backend_count > 0) {
        struct backend *backend = &backends[--backend_count];
        arena_close(&backend->arena);
        backend->ops->device_close(&backend->device);
    }
    return failed;
}

static struct device *open_device(const char *level, int threads) {
    struct device *device = NULL;
    struct error error = {0};
    struct device_config config = {.threads = threads, .isa = level};
    assert_int_equal(ops_cpu()->device_open(&device, &config, &error), ERR_OK);
    return device;
}

/* Whether this machine has the level itself, and not only a lower one. */
static bool has_level(const char *level) {
    struct device *device = open_device(level, 1);
    struct device_info info;
    ops_cpu()->device_info(device, &info);
    ops_cpu()->device_close(&device);
    char class[64];
    snprintf(class, sizeof class, "cpu-%s-", level);
    return strncmp(info.class, class, strlen(class)) == 0;
}

static void run_guarded(const char *name, const char *level, int threads, operation *run,
                        void *context, uint8_t *out, size_t bytes) {
    static uint8_t guard[GUARD];
    memset(guard, POISON, sizeof guard);
    uint8_t *block = malloc(bytes + 2 * GUARD);
    assert_non_null(block);
    memset(block, POISON, bytes + 2 * GUARD);
    struct device *device = open_device(level, threads);
    run(ops_cpu(), device, block + GUARD, context);
    struct error error = {0};
    assert_int_equal(ops_cpu()->status(device, &error), ERR_OK);
    assert_int_equal(ops_cpu()->weight_bytes(device), 0);
    ops_cpu()->device_close(&device);
    if (memcmp(block, guard, GUARD) != 0 || memcmp(block + GUARD + bytes, guard, GUARD) != 0) {
        fail_msg("%s: %s on %d threads wrote outside its output", name, level, threads);
    }
    memcpy(out, block + GUARD, bytes);
    free(block);
}

/* The same in a backend's memory. */
static void run_on_backend(const char *name, struct backend *backend, operation *run, void *context,
                           uint8_t *out, size_t bytes) {
    const struct ops *ops = backend->ops;
    struct error error = {0};
    uint8_t *block = malloc(bytes + 2 * GUARD);
    assert_non_null(block);
    memset(block, POISON, bytes + 2 * GUARD);
    arena_reset(&backend->arena, 0);
    uint8_t *there = arena_alloc(&backend->arena, bytes + 2 * GUARD);
    assert_non_null(there);
    ops->upload(backend->device, there, block, bytes + 2 * GUARD);
    running = backend;
    run(ops, backend->device, there + GUARD, context);
    running = NULL;
    for (int i = 0; i < buffer_count; i++) {
        buffers[i].device = NULL;
    }
    ops->download(backend->device, block, there, bytes + 2 * GUARD);
    if (ops->status(backend->device, &error) != ERR_OK) {
        fail_msg("%s: %s: %s", name, backend->name, error.detail);
    }
    assert_int_equal(ops->weight_bytes(backend->device), 0);
    for (size_t i = 0; i < GUARD; i++) {
        if (block[i] != POISON || block[GUARD + bytes + i] != POISON) {
            fail_msg("%s: %s wrote outside its output", name, backend->name);
        }
    }
    memcpy(out, block + GUARD, bytes);
    free(block);
}

static double value_of(const void *x, enum dtype dtype, int64_t i) {
    if (dtype == DTYPE_U8) {
        return ((const uint8_t *)x)[i];
    }
    return (double)float_load(x, dtype, i);
}

static void compare(const char *name, const char *level, const double *expected, const void *out,
                    int64_t count, enum dtype dtype, double tolerance) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = value_of(out, dtype, i), y = expected[i];
        if (isnan(y) && isnan(x)) {
            continue;
        }
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    double error = sqrt(difference) / (norm > 0 ? sqrt(norm) : 1);
    if (!(error <= tolerance)) {
        fail_msg("%s: %s is off by %.3g, %.3g is allowed", name, level, error, tolerance);
    }
}

static void equal(const char *name, const char *level, const uint8_t *plain, const uint8_t *out,
                  size_t bytes) {
    if (memcmp(plain, out, bytes) != 0) {
        fail_msg("%s: %s is not equal to plain C", name, level);
    }
}

/* What an operation must give: `expected`, or else what plain C gives. */
struct wanted {
    const char *name;
    const double *expected;
    const uint8_t *plain; /* bytes; NULL: not to be equal */
    int64_t count;
    enum dtype dtype;
    double tolerance;
};

static void check_result(const struct wanted *wanted, const char *level, const uint8_t *out) {
    if (wanted->plain != NULL) {
        equal(wanted->name, level, wanted->plain, out,
              (size_t)wanted->count * dtype_bytes(wanted->dtype));
    } else {
        compare(wanted->name, level, wanted->expected, out, wanted->count, wanted->dtype,
                wanted->tolerance);
    }
}

static void check_levels(const struct wanted *wanted, operation *run, void *context) {
    size_t bytes = (size_t)wanted->count * dtype_bytes(wanted->dtype);
    uint8_t *first = malloc(bytes + 1), *out = malloc(bytes + 1);
    if (first == NULL || out == NULL) {
        abort();
    }
    /* With a backend the CPU's levels are left to the runs without: its time may be lent. */
    size_t level_count = backend_count > 0 ? 0 : sizeof levels / sizeof *levels;
    for (size_t level = 0; level < level_count; level++) {
        if (!has_level(levels[level])) {
            continue;
        }
        for (size_t t = 0; t < sizeof thread_counts / sizeof *thread_counts; t++) {
            run_guarded(wanted->name, levels[level], thread_counts[t], run, context, out, bytes);
            if (t == 0) {
                memcpy(first, out, bytes);
            } else if (memcmp(first, out, bytes) != 0) {
                fail_msg("%s: %s differs between 1 and %d threads", wanted->name, levels[level],
                         thread_counts[t]);
            }
        }
        check_result(wanted, levels[level], first);
    }
    free(first);
    free(out);
}

static void check_on_backends(const struct wanted *wanted, operation *run, void *context) {
    static unsigned checks;
    size_t bytes = (size_t)wanted->count * dtype_bytes(wanted->dtype);
    uint8_t *first = malloc(bytes + 1), *out = malloc(bytes + 1);
    if (first == NULL || out == NULL) {
        abort();
    }
    for (int i = 0; i < backend_count; i++) {
        run_on_backend(wanted->name, &backends[i], run, context, first, bytes);
        if (checks++ % 8 == 0) { /* often enough to see results that move */
            run_on_backend(wanted->name, &backends[i], run, context, out, bytes);
            if (memcmp(first, out, bytes) != 0) {
                fail_msg("%s: %s gives two results", wanted->name, backends[i].name);
            }
        }
        check_result(wanted, backends[i].name, first);
    }
    free(first);
    free(out);
}

static void check_all(struct wanted wanted, operation *run, void *context, bool on_levels) {
    size_t bytes = (size_t)wanted.count * dtype_bytes(wanted.dtype);
    uint8_t *plain = malloc(bytes + 1);
    double *reference = malloc(((size_t)wanted.count + 1) * sizeof *reference);
    if (plain == NULL || reference == NULL) {
        abort();
    }
    run_guarded(wanted.name, "plain", 1, run, context, plain, bytes);
    for (int64_t i = 0; i < wanted.count; i++) {
        reference[i] = value_of(plain, wanted.dtype, i);
    }
    if (wanted.expected == NULL) {
        wanted.plain = wanted.tolerance == 0 ? plain : NULL;
        wanted.expected = reference;
    }
    if (on_levels) {
        check_levels(&wanted, run, context);
    }
    check_on_backends(&wanted, run, context);
    free(plain);
    free(reference);
}

void check(const char *name, operation *run, void *context, int64_t count, enum dtype dtype,
           double tolerance) {
    check_all((struct wanted){name, NULL, NULL, count, dtype, tolerance}, run, context, true);
}

void check_against(const char *name, operation *run, void *context, const double *expected,
                   int64_t count, enum dtype dtype, double tolerance) {
    check_all((struct wanted){name, expected, NULL, count, dtype, tolerance}, run, context, true);
}

void check_backends(const char *name, operation *run, void *context, int64_t count,
                    enum dtype dtype, double tolerance) {
    check_all((struct wanted){name, NULL, NULL, count, dtype, tolerance}, run, context, false);
}
