/* Which device computes: the options that verbs with a worker have in common. */
#ifndef VIDLOOM_CLI_BACKEND_H
#define VIDLOOM_CLI_BACKEND_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "kernels/ops.h"

struct backend_values {
    const char *models, *device;
    int dtype;
    int64_t threads, index;
};
extern const char *const backend_dtypes[];
extern const char *const backend_log_levels[];

/* "cpu", or a backend in a shared object. */
MUST_CHECK enum error_code backend_find(const struct ops **out, const struct backend_values *values,
                                        struct error *error);
enum dtype backend_dtype(const struct backend_values *values);
/* index in backend_log_levels: "none" gives no log (NULL). */
MUST_CHECK enum error_code backend_log(struct log **out, struct cli *cli, int level,
                                       struct error *error);

#define BACKEND_OPTIONS(values_type)                                                               \
    {.letter = 'm',                                                                                \
     .name = "models",                                                                             \
     .value = "DIR",                                                                               \
     .type = OPTION_TEXT,                                                                          \
     .offset = offsetof(values_type, backend.models),                                              \
     .help = "The folder of models. Without it: models in the current folder, else beside the "    \
             "program."},                                                                          \
        {.letter = 'd',                                                                            \
         .name = "device",                                                                         \
         .value = "NAME",                                                                          \
         .type = OPTION_TEXT,                                                                      \
         .offset = offsetof(values_type, backend.device),                                          \
         .fallback = "cpu",                                                                        \
         .help = "What computes: cpu, or a backend that is there as a shared object beside the "   \
                 "program."},                                                                      \
        {.name = "index",                                                                          \
         .value = "N",                                                                             \
         .type = OPTION_INT,                                                                       \
         .offset = offsetof(values_type, backend.index),                                           \
         .max = 63,                                                                                \
         .fallback = "0",                                                                          \
         .help = "Which device, where there are several."},                                        \
        {.letter = 't',                                                                            \
         .name = "threads",                                                                        \
         .value = "N",                                                                             \
         .type = OPTION_INT,                                                                       \
         .offset = offsetof(values_type, backend.threads),                                         \
         .max = 1024,                                                                              \
         .fallback = "0",                                                                          \
         .help = "Threads of a CPU; 0: one for each core. Files do not depend on it."},            \
    {                                                                                              \
        .name = "dtype", .value = "TYPE", .type = OPTION_CHOICE,                                   \
        .offset = offsetof(values_type, backend.dtype), .choices = backend_dtypes,                 \
        .fallback = "bf16", .help = "The type to compute in; f32 is for comparison, and slower."   \
    }

#define LOG_OPTION(values_type, level)                                                             \
    {                                                                                              \
        .name = "log", .value = "LEVEL", .type = OPTION_CHOICE,                                    \
        .offset = offsetof(values_type, log), .choices = backend_log_levels, .fallback = (level),  \
        .help = "What is written to stderr."                                                       \
    }

#endif
