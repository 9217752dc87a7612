#include "cli/backend.h"

#include <string.h>

const char *const backend_dtypes[] = {"bf16", "f32", NULL};
const char *const backend_log_levels[] = {"error", "warning", "info", "debug", "none", NULL};

enum error_code backend_find(const struct ops **out, const struct backend_values *values,
                             struct error *error) {
    if (strcmp(values->device, "cpu") != 0)
        return ops_load(out, values->device, error);
    *out = ops_cpu();
    return ERR_OK;
}

enum dtype backend_dtype(const struct backend_values *values) {
    return values->dtype == 1 ? DTYPE_F32 : DTYPE_BF16;
}

enum error_code backend_log(struct log **out, struct cli *cli, int level, struct error *error) {
    *out = NULL;
    if (!backend_log_levels[level + 1]) /* the last: none */
        return ERR_OK;
    return log_open(out, cli->err, (enum log_level)level, error);
}
