/* vidloom coordinator: serve a queue of jobs. */
#include <stdlib.h>

#include "base/clock.h"
#include "cli/backend.h"
#include "cli/interrupt.h"
#include "cli/job_source.h"
#include "cli/remote.h"
#include "coordinator/server.h"

struct coordinator_values {
    const char *config, *state, *store, *output, *models, *clients, *workers;
    double lease, silence;
    bool overwrite;
    int log;
};

static enum error_code serve(struct cli *cli, const struct coordinator_values *values,
                             struct job_source *source, struct log *log, struct error *error) {
    struct server *server = NULL;
    struct server_config config = {
        .state = values->state,
        .store = values->store,
        .output_root = values->output,
        .worker_endpoints = &values->workers,
        .worker_endpoint_count = 1,
        .client_endpoints = &values->clients,
        .client_endpoint_count = 1,
        .lease_ns = (int64_t)(values->lease * (double)CLOCK_S),
        .worker_ns = (int64_t)(values->silence * (double)CLOCK_S),
        .overwrite = values->overwrite,
        .log = log,
        .stop = interrupt_flag(),
    };
    job_source_resolver(&config.resolver, source);
    enum error_code code = server_open(&server, &config, error);
    if (code == ERR_OK) {
        log_line(log, LOG_INFO, "coordinator", "listening clients=%s workers=%s state=%s",
                 server_client_address(server, 0), server_worker_address(server, 0), values->state);
        code = server_run(server, error);
        log_line(log, LOG_INFO, "coordinator", "stopped: jobs are kept in %s", values->state);
    }
    server_close(&server);
    return code;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct coordinator_values *values = invocation->values;
    struct job_source *source = calloc(1, sizeof *source);
    char models[FILE_PATH_BYTES];
    struct log *log = NULL;
    struct error error = {0};
    if (!source)
        return cli_fail_text(cli, ERR_MEMORY, "no memory for a coordinator");
    models_folder(models, values->models);
    source->models = models;
    snprintf(source->folder, sizeof source->folder, ".");
    interrupt_watch();
    enum error_code code = backend_log(&log, cli, values->log, &error);
    if (code == ERR_OK)
        code = serve(cli, values, source, log, &error);
    log_close(&log);
    free(source);
    return code == ERR_OK ? 0 : cli_fail(cli, &error);
}

#define TEXT_OPTION(key, what, standard, text)                                                     \
    {                                                                                              \
        .name = #key, .value = (what), .type = OPTION_TEXT,                                        \
        .offset = offsetof(struct coordinator_values, key), .fallback = (standard), .help = (text) \
    }

static const struct option options[] = {
    {.name = "config",
     .value = "FILE",
     .type = OPTION_TEXT,
     .offset = offsetof(struct coordinator_values, config),
     .command_line_only = true,
     .help = "A file with these options, one 'name: value' a line; the command line wins. "
             "configs/coordinator.yaml has them all, explained."},
    {.letter = 's',
     .name = "state",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct coordinator_values, state),
     .fallback = ".vidloom",
     .help = "Where the ledger, uploads and artifacts are kept, on a local disk."},
    TEXT_OPTION(store, "DIR", NULL,
                "Where artifacts are kept; workers must see it under the same path. Without it: "
                "store in the state folder."),
    TEXT_OPTION(output, "DIR", NULL,
                "Put in front of relative output paths of jobs. Without it: the current folder."),
    {.letter = 'm',
     .name = "models",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct coordinator_values, models),
     .help = "The folder of models. Without it: models in the current folder, else beside the "
             "program."},
    TEXT_OPTION(clients, "ADDRESS", REMOTE_CLIENTS,
                "Where to listen for clients. Loopback only; port * takes any that is free."),
    TEXT_OPTION(workers, "ADDRESS", REMOTE_WORKERS,
                "Where to listen for workers. Loopback only; port * takes any that is free."),
    {.name = "lease",
     .value = "SECONDS",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct coordinator_values, lease),
     .min = 1,
     .max = 3600,
     .fallback = "30",
     .help = "A task without progress for so long is given to another worker."},
    {.name = "silence",
     .value = "SECONDS",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct coordinator_values, silence),
     .min = 1,
     .max = 3600,
     .fallback = "30",
     .help = "A worker that is silent for so long is taken for lost."},
    {.letter = 'f',
     .name = "overwrite",
     .type = OPTION_FLAG,
     .offset = offsetof(struct coordinator_values, overwrite),
     .help = "Replace files at output paths that this coordinator did not make, whatever the jobs "
             "say."},
    LOG_OPTION(struct coordinator_values, "info"),
};

static const struct verb_note examples[] = {
    {"vidloom coordinator", "Serve on this machine, with the state in .vidloom."},
    {"vidloom coordinator --config configs/coordinator.yaml", "With everything said in a file."},
    {"vidloom coordinator --output /videos --state /var/lib/vidloom", "As a service would."},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "Stopped by Ctrl-C or a signal; every job is kept."},
    {"1", "The disk or the ledger failed, or another coordinator has the state folder."},
    {"2", "The command line or the configuration is wrong."},
    {"3", "An address cannot be listened at."},
    {NULL, NULL},
};

const struct verb verb_coordinator = {
    .name = "coordinator",
    .group = "Making videos",
    .summary = "serve a queue of jobs to workers",
    .arguments = "",
    .purpose =
        "Keep a queue of jobs and hand their tasks to workers ('vidloom worker'), any number "
        "of them. Jobs come by 'vidloom submit'. A job that was accepted is on the disk: "
        "stopped or killed at any moment, the coordinator goes on where it was when it is "
        "started again.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct coordinator_values),
    .examples = examples,
    .exits = exits,
    .run = run,
};
