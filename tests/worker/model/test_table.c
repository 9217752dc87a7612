#include "tests/worker/model/test_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/numbers.h"

#define HOST_BYTES   ((size_t)16 << 30)  /* address space */
#define DEVICE_BYTES ((size_t)256 << 20) /* memory: the emulated machine has 1 GiB in all */

const char *table_argument(int *count, char **arguments) {
    for (int i = 1; i + 1 < *count; i++) {
        if (strcmp(arguments[i], "--table") != 0)
            continue;
        const char *name = arguments[i + 1];
        for (int k = i; k + 2 <= *count; k++) /* the NULL at the end, too */
            arguments[k] = arguments[k + 2];
        *count -= 2;
        return name;
    }
    return "cpu";
}

enum error_code table_open(struct runtime *out, struct arena *params, struct arena *work,
                           const char *table, int threads, enum dtype dtype, struct error *error) {
    struct device_config config = {.threads = threads};
    *params = *work = (struct arena){0};
    *out = (struct runtime){.dtype = dtype, .params = params, .work = work};
    enum error_code code = ops_find(&out->ops, &config.index, table, error);
    if (code == ERR_OK)
        out->wants = out->ops->wants;
    if (code == ERR_OK)
        code = out->ops->device_open(&out->device, &config, error);
    size_t bytes = out->ops == ops_cpu() ? HOST_BYTES : DEVICE_BYTES;
    if (code == ERR_OK)
        code = out->ops->arena_open(out->device, params, bytes, error);
    if (code == ERR_OK)
        code = out->ops->arena_open(out->device, work, bytes, error);
    return code;
}

void table_close(struct runtime *runtime) {
    if (runtime->device == NULL)
        return;
    arena_close(runtime->params);
    arena_close(runtime->work);
    runtime->ops->device_close(&runtime->device);
}

void *table_put(struct runtime *runtime, const void *host, size_t bytes) {
    void *out = work_alloc(runtime, (int64_t)bytes, DTYPE_U8);
    runtime->ops->upload(runtime->device, out, host, bytes);
    return out;
}

float *table_put_floats(struct runtime *runtime, const float *host, int64_t count) {
    return table_put(runtime, host, (size_t)count * sizeof *host);
}

float *table_get(const struct runtime *runtime, const void *there, int64_t count,
                 enum dtype dtype) {
    size_t bytes = (size_t)count * dtype_bytes(dtype);
    void *host = malloc(bytes + 1);
    float *out = malloc(((size_t)count + 1) * sizeof *out);
    if (host == NULL || out == NULL) {
        (void)fprintf(stderr, "no memory for %zu bytes of a result\n", bytes);
        abort();
    }
    runtime->ops->download(runtime->device, host, there, bytes);
    const struct tensor tensor = {.data = host, .dtype = dtype, .rank = 1, .dim = {count}};
    numbers_to_float(out, &tensor, 0, count);
    free(host);
    return out;
}
