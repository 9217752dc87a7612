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
    int64_t threads;
    uint64_t memory;
};
extern const char *const backend_dtypes[];
extern const char *const backend_log_levels[];

#define BACKEND_DEVICES_MAX 64

struct backend_device {
    const struct ops *ops;
    int index;
    char name[32]; /* "cuda:1", "cpu" */
};

struct backend_devices {
    struct backend_device items[BACKEND_DEVICES_MAX];
    int count;
    char note[ERROR_DETAIL_BYTES]; /* of auto: why the CPU, where there is the backend of GPUs but
                                      none that can be used; else "" */
};

/* The devices that a command line names: "auto" (every GPU that can be used, else the CPU), "all"
 * (every GPU; an error when there is none), or names with commas: "cpu", "cuda:0,cuda:1"; "cuda" is
 * its first. None is opened. Errors: ERR_MISSING, ERR_UNSUPPORTED, ERR_USAGE, ERR_LIMIT, with what
 * was looked for, what was found, and what to do. */
MUST_CHECK enum error_code backend_find(struct backend_devices *out, const char *text,
                                        struct error *error);
enum dtype backend_dtype(const struct backend_values *values);
/* index in backend_log_levels: "none" gives no log (NULL). */
MUST_CHECK enum error_code backend_log(struct log **out, struct cli *cli, int level,
                                       struct error *error);

/* For verbs that plan: one device. */
#define DEVICE_PLAN_OPTION(values_type)                                                            \
    {                                                                                              \
        .letter = 'd', .name = "device", .value = "DEVICE", .type = OPTION_TEXT,                   \
        .offset = offsetof(values_type, device), .fallback = "auto",                               \
        .help =                                                                                    \
            "The device that is planned for, as 'vidloom run --device' takes it; of several, the " \
            "first: each kind holds weights in its own way."                                       \
    }

#define MEMORY_HELP                                                                                \
    "The memory that each worker may take for weights and work, e.g. 6GiB. Weights that do not "   \
    "fit are read from their files ahead of use, again in every pass; a GPU's come from the "      \
    "machine's memory. Without it: no limit."

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
         .value = "DEVICE",                                                                        \
         .type = OPTION_TEXT,                                                                      \
         .offset = offsetof(values_type, backend.device),                                          \
         .fallback = "auto",                                                                       \
         .help = "What computes: auto (every GPU that can be used, else the CPU), all (every "     \
                 "GPU), cpu, or some by number, with commas: cuda:0,cuda:1."},                     \
        {.letter = 't',                                                                            \
         .name = "threads",                                                                        \
         .value = "N",                                                                             \
         .type = OPTION_INT,                                                                       \
         .offset = offsetof(values_type, backend.threads),                                         \
         .max = 1024,                                                                              \
         .fallback = "0",                                                                          \
         .help = "Threads of a CPU; 0: one for each core. Files do not depend on it."},            \
        {.name = "memory",                                                                         \
         .value = "SIZE",                                                                          \
         .type = OPTION_SIZE,                                                                      \
         .offset = offsetof(values_type, backend.memory),                                          \
         .help = MEMORY_HELP},                                                                     \
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
