/* vidloom worker: do tasks for a coordinator. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/backend.h"
#include "cli/crew.h"
#include "cli/interrupt.h"
#include "cli/job_source.h"
#include "cli/remote.h"
#include "coordinator/plan.h"
#include "proto/endpoint.h"
#include "worker/agent.h"

struct worker_values {
    struct backend_values backend;
    const char *config, *coordinator, *name, *store, *kinds;
    double patience;
    int log;
};

/* "node7-4711", made plain. */
static void default_name(char out[64]) {
    char host[40];
    if (gethostname(host, sizeof host) != 0)
        snprintf(host, sizeof host, "worker");
    host[sizeof host - 1] = '\0';
    snprintf(out, 64, "%s-%ld", host, (long)getpid());
    if (!file_name_is_plain(out))
        snprintf(out, 64, "worker-%ld", (long)getpid());
}

static enum error_code kind_from_name(unsigned *out, const char *name, struct error *error) {
    const char *names[PLAN_KIND_COUNT + 2] = {0};
    for (int i = 0; i < PLAN_KIND_COUNT; i++) {
        names[i] = plan_kind_name((enum plan_kind)i);
        if (strcmp(names[i], name) == 0) {
            *out |= PLAN_KIND_BIT(i);
            return ERR_OK;
        }
    }
    names[PLAN_KIND_COUNT] = "all";
    const char *nearest = text_nearest(name, names);
    if (nearest)
        return error_set(error, ERR_USAGE,
                         "kinds: there is no task kind '%.32s': did you mean "
                         "'%s'?",
                         name, nearest);
    return error_set(error, ERR_USAGE,
                     "kinds: there is no task kind '%.32s': expected all, or "
                     "some of text, keyframe, image, window, decode, mux",
                     name);
}

/* "all", or names with commas. */
static enum error_code parse_kinds(unsigned *out, const char *text, struct error *error) {
    char name[32];
    *out = 0;
    if (strcmp(text, "all") == 0) {
        *out = PLAN_KINDS_ALL;
        return ERR_OK;
    }
    while (*text) {
        size_t length = strcspn(text, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < 31 ? length : 31), text);
        enum error_code code = kind_from_name(out, name, error);
        if (code != ERR_OK)
            return code;
        text += length + (text[length] == ',');
    }
    return ERR_OK;
}

static enum error_code serve(const struct worker_values *values, struct agent_config *agent,
                             struct error *error) {
    struct backend_devices devices;
    struct crew *crew = NULL;
    agent->address = values->coordinator;
    agent->store = values->store;
    agent->device.threads = (int)values->backend.threads;
    agent->device.cache = values->store;
    agent->dtype = backend_dtype(&values->backend);
    agent->memory = values->backend.memory;
    agent->stop = agent->cancel = interrupt_flag();
    agent->connect_timeout_ms = (int)(values->patience * 1000);
    enum error_code code = parse_kinds(&agent->kinds, values->kinds, error);
    if (code == ERR_OK)
        code = backend_find(&devices, values->backend.device, error);
    if (code != ERR_OK)
        return code;
    if (*devices.note)
        log_line(agent->log, LOG_WARNING, "worker", "no GPU is used: %s", devices.note);
    struct crew_config config = {.agent = *agent, .devices = &devices, .each = 1};
    code = crew_open(&crew, &config, error);
    if (code == ERR_OK)
        code = crew_wait(crew, error);
    else
        interrupt_ask(); /* those that have begun */
    crew_close(&crew);
    return code;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct worker_values *values = invocation->values;
    struct endpoint_context *context = NULL;
    char models[FILE_PATH_BYTES], name[64];
    struct log *log = NULL;
    struct error error = {0};
    default_name(name);
    models_folder(models, values->backend.models);
    interrupt_watch();
    enum error_code code = backend_log(&log, cli, values->log, &error);
    if (code == ERR_OK)
        code = endpoint_context_open(&context, &error);
    if (code == ERR_OK) {
        struct agent_config agent = {.name = values->name ? values->name : name,
                                     .context = context,
                                     .models = models,
                                     .log = log};
        code = serve(values, &agent, &error);
    }
    endpoint_context_close(&context);
    log_close(&log);
    return code == ERR_OK ? 0 : cli_fail(cli, &error);
}

#define TEXT_OPTION(key, what, standard, text)                                                     \
    {                                                                                              \
        .name = #key, .value = (what), .type = OPTION_TEXT,                                        \
        .offset = offsetof(struct worker_values, key), .fallback = (standard), .help = (text)      \
    }

static const struct option options[] = {
    {.name = "config",
     .value = "FILE",
     .type = OPTION_TEXT,
     .offset = offsetof(struct worker_values, config),
     .command_line_only = true,
     .help = "A file with these options, one 'name: value' a line; the command line wins. "
             "configs/worker.yaml has them all, explained."},
    {.letter = 'c',
     .name = "coordinator",
     .value = "ADDRESS",
     .type = OPTION_TEXT,
     .offset = offsetof(struct worker_values, coordinator),
     .fallback = REMOTE_WORKERS,
     .help = "Where the coordinator listens for workers."},
    TEXT_OPTION(name, "NAME", NULL,
                "What it is called in reports; several devices get a number after it. Without it: "
                "the machine's name and the process number."),
    TEXT_OPTION(store, "DIR", NULL,
                "The folder of artifacts. Without it: the one that the coordinator names."),
    TEXT_OPTION(kinds, "LIST", "all",
                "Task kinds to take: all, or some of text, keyframe, image, window, decode, mux, "
                "with commas."),
    BACKEND_OPTIONS(struct worker_values),
    {.name = "patience",
     .value = "SECONDS",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct worker_values, patience),
     .max = 86400,
     .fallback = "60",
     .help = "Give up when no coordinator was there for so long; 0: never."},
    LOG_OPTION(struct worker_values, "info"),
};

static const struct verb_note examples[] = {
    {"vidloom worker", "Work for the coordinator on this machine."},
    {"vidloom worker --threads 1 --name small", "With one core."},
    {"vidloom worker --device all", "One for each GPU of this machine."},
    {"vidloom worker --kinds text,decode,mux", "Leave the denoising to others."},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "Stopped by Ctrl-C or a signal, or drained; what it was at is given to another."},
    {"1", "The device or the disk failed."},
    {"2", "The command line or the configuration is wrong."},
    {"3", "There was no coordinator for --patience seconds."},
    {NULL, NULL},
};

const struct verb verb_worker = {
    .name = "worker",
    .group = "Making videos",
    .summary = "do tasks for a coordinator",
    .arguments = "",
    .purpose = "Do tasks for a coordinator: one worker for each device that is named. When the "
               "coordinator goes away the worker waits for it to come back. Killed at any moment, "
               "it loses nothing: "
               "another does its task again.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct worker_values),
    .examples = examples,
    .exits = exits,
    .run = run,
};
