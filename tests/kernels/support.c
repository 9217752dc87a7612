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

static void *buffers[4096];
static int buffer_count;

void *buffer_of(size_t bytes) {
    void *out = calloc(1, bytes > 0 ? bytes : 1);
    if (out == NULL || buffer_count >= 4096) {
        abort();
    }
    buffers[buffer_count++] = out;
    return out;
}

int buffers_free(void **state) {
    (void)state;
    while (buffer_count > 0) {
        free(buffers[--buffer_count]);
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

static void check_all(const char *name, operation *run, void *context, const double *expected,
                      int64_t count, enum dtype dtype, double tolerance) {
    size_t bytes = (size_t)count * dtype_bytes(dtype);
    uint8_t *plain = malloc(bytes + 1), *first = malloc(bytes + 1), *out = malloc(bytes + 1);
    double *reference = malloc(((size_t)count + 1) * sizeof *reference);
    if (plain == NULL || first == NULL || out == NULL || reference == NULL) {
        abort();
    }
    run_guarded(name, "plain", 1, run, context, plain, bytes);
    for (int64_t i = 0; i < count; i++) {
        reference[i] = expected != NULL ? expected[i] : value_of(plain, dtype, i);
    }
    for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
        if (!has_level(levels[level])) {
            continue;
        }
        for (size_t t = 0; t < sizeof thread_counts / sizeof *thread_counts; t++) {
            run_guarded(name, levels[level], thread_counts[t], run, context, out, bytes);
            if (t == 0) {
                memcpy(first, out, bytes);
            } else if (memcmp(first, out, bytes) != 0) {
                fail_msg("%s: %s differs between 1 and %d threads", name, levels[level],
                         thread_counts[t]);
            }
        }
        if (tolerance == 0 && expected == NULL) {
            if (memcmp(plain, first, bytes) != 0) {
                fail_msg("%s: %s is not equal to plain C", name, levels[level]);
            }
        } else {
            compare(name, levels[level], reference, first, count, dtype, tolerance);
        }
    }
    free(plain);
    free(first);
    free(out);
    free(reference);
}

void check(const char *name, operation *run, void *context, int64_t count, enum dtype dtype,
           double tolerance) {
    check_all(name, run, context, NULL, count, dtype, tolerance);
}

void check_against(const char *name, operation *run, void *context, const double *expected,
                   int64_t count, enum dtype dtype, double tolerance) {
    check_all(name, run, context, expected, count, dtype, tolerance);
}
