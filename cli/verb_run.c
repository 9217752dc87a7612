/* vidloom run JOB.yaml: a coordinator, workers and a client in this process. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/text.h"
#include "cli/backend.h"
#include "cli/crew.h"
#include "cli/estimate.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "cli/job_source.h"
#include "cli/local.h"

struct run_values {
    struct backend_values backend;
    struct follow_values follow;
    const char *state;
    int64_t workers;
    int log;
    bool overwrite;
};

struct run {
    struct cli *cli;
    const struct run_values *values;
    const char *path; /* of the job file */
    char models[FILE_PATH_BYTES];
    struct job_source source;
    struct backend_devices devices;
    struct log *log;
    struct local *local;
    struct client *client;
    uint64_t submitted; /* job number */
};

/* What the limit of memory costs on the first device, or that nothing fits in it. */
static enum error_code plan_memory(struct run *run, const struct job *job, struct error *error) {
    const struct backend_values *backend = &run->values->backend;
    struct estimate estimate;
    char all[32], held[32], read[32];
    const struct estimate_worker worker = {.ops = run->devices.items[0].ops,
                                           .index = run->devices.items[0].index,
                                           .dtype = backend_dtype(backend),
                                           .memory = backend->memory};
    enum error_code code = estimate_job(&estimate, job, &run->source, &worker, error);
    for (int i = 0; i < ESTIMATE_ROWS && code == ERR_OK && !run->values->follow.quiet; i++) {
        const struct model_cost *cost = &estimate.stages[i].cost;
        if (cost->read_bytes > 0)
            (void)fprintf(run->cli->err,
                          "%s: of %s of weights %s are held at once; each task reads %s again from "
                          "their files\n",
                          plan_kind_name(estimate.stages[i].kind),
                          text_bytes(all, cost->weight_bytes), text_bytes(held, cost->held_bytes),
                          text_bytes(read, cost->read_bytes));
    }
    return code;
}

static void tell_notes(struct run *run, const struct job *job) {
    struct plan_note note = {0};
    for (int i = 0; i < PLAN_NOTES_TOLD && plan_next_note(&note, job); i++)
        (void)fprintf(run->cli->err, "note: video %s: %s\n", job->videos[note.video].name,
                      note.text);
}

/* Mistakes in the job file are told before anything is made or opened. */
static enum error_code check_job(struct run *run, struct error *error) {
    struct job *job = NULL;
    models_folder(run->models, run->values->backend.models);
    enum error_code code = job_source_open(&job, &run->source, run->path, run->models,
                                           run->values->state, &run->cli->arena, error);
    if (code == ERR_OK && !run->values->follow.quiet)
        job_source_warn(run->cli->err, job);
    if (code == ERR_OK)
        code = backend_find(&run->devices, run->values->backend.device, error);
    if (code == ERR_OK && !run->values->follow.quiet)
        job_source_warn_device(run->cli->err, &run->source, job, run->devices.items[0].ops,
                               run->devices.items[0].index, backend_dtype(&run->values->backend));
    if (code == ERR_OK && run->values->backend.memory > 0)
        code = plan_memory(run, job, error);
    if (code == ERR_OK && !run->values->follow.quiet)
        tell_notes(run, job);
    job_close(&job);
    return code;
}

static enum error_code start(struct run *run, struct error *error) {
    const struct run_values *values = run->values;
    struct job_resolver resolver;
    job_source_resolver(&resolver, &run->source);
    enum error_code code = backend_log(&run->log, run->cli, values->log, error);
    if (code != ERR_OK)
        return code;
    if (*run->devices.note && !values->follow.quiet)
        (void)fprintf(run->cli->err, "No GPU is used: %s\n", run->devices.note);
    struct local_config config = {
        .state = values->state,
        .models = run->models,
        .resolver = &resolver,
        .devices = &run->devices,
        .workers = (int)values->workers,
        .threads = (int)values->backend.threads,
        .dtype = backend_dtype(&values->backend),
        .memory = values->backend.memory,
        .overwrite = values->overwrite,
        .log = run->log,
        .failed = interrupt_ask,
    };
    code = local_open(&run->local, &config, error);
    if (code != ERR_OK)
        return code;
    return local_connect(run->local, &run->client, interrupt_flag(), error);
}

/* One page of them: the client must not be asked while it tells. */
struct others {
    uint64_t ids[256];
    int count;
};

static bool see_job(void *user, const struct client_job *job) {
    struct others *others = user;
    if (job->state == JOB_RUNNING)
        others->ids[others->count++] = job->id;
    return others->count < 256;
}

static enum error_code pause_others(struct client *client, struct error *error) {
    struct others others = {.count = 256};
    enum error_code code = ERR_OK;
    while (others.count == 256 && code == ERR_OK) {
        others.count = 0;
        code = client_jobs(client, see_job, &others, error);
        for (int i = 0; i < others.count && code == ERR_OK; i++)
            code = client_control(client, others.ids[i], CONTROL_PAUSE, error);
    }
    return code;
}

/* Jobs that were interrupted wait until they are run again: this command is about one job.
 * Submitting it goes on with it if it was paused. */
static enum error_code submit(struct run *run, struct error *error) {
    struct client_submission submission = {.path = run->path};
    struct client_submitted submitted;
    enum error_code code = pause_others(run->client, error);
    if (code == ERR_OK)
        code = client_submit(run->client, &submitted, &submission, error);
    if (code == ERR_OK) {
        run->submitted = submitted.job;
        code = local_start_workers(run->local, error);
    }
    return code;
}

static int follow(struct run *run) {
    struct buffer again = {0};
    cli_put_command(&again, run->cli);
    struct follow_request request = {
        .client = run->client,
        .job = run->submitted,
        .form = follow_form(&run->values->follow),
        .again = again.failed ? "the same command" : again.data,
        .failed = local_has_failed(run->local),
        .failure = local_failure(run->local),
    };
    int status = follow_job(run->cli, &request);
    buffer_close(&again);
    return status;
}

/* Told when it ends before there was anything to follow. */
static int say_failure(struct run *run, const struct error *error) {
    if (run->local && atomic_load(local_has_failed(run->local)))
        return cli_fail(run->cli, local_failure(run->local));
    if (error->code == ERR_INTERRUPTED)
        return cli_fail_text(run->cli, ERR_INTERRUPTED,
                             "interrupted; the same command begins again");
    return cli_fail(run->cli, error);
}

static int run_verb(struct cli *cli, const struct invocation *invocation) {
    struct run *run = calloc(1, sizeof *run);
    struct error error = {0};
    int status;
    if (!run)
        return cli_fail_text(cli, ERR_MEMORY, "no memory to run a job");
    run->cli = cli;
    run->values = invocation->values;
    run->path = invocation->arguments[0];
    interrupt_watch();
    if (check_job(run, &error) != ERR_OK || start(run, &error) != ERR_OK ||
        submit(run, &error) != ERR_OK)
        status = say_failure(run, &error);
    else
        status = follow(run);
    client_close(&run->client);
    local_close(&run->local);
    log_close(&run->log);
    free(run);
    return status;
}

static const struct option options[] = {
    {.letter = 's',
     .name = "state",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct run_values, state),
     .fallback = ".vidloom",
     .help = "Where the ledger and the intermediate results are kept, on a local disk."},
    {.letter = 'w',
     .name = "workers",
     .value = "N",
     .type = OPTION_INT,
     .offset = offsetof(struct run_values, workers),
     .min = 1,
     .max = CREW_MAX,
     .fallback = "1",
     .help = "Videos to work on at the same time, on each device. One uses all cores; more take "
             "more memory. On a GPU the last of several decodes and encodes beside what the others "
             "make. Files do not depend on it."},
    BACKEND_OPTIONS(struct run_values),
    {.letter = 'f',
     .name = "overwrite",
     .type = OPTION_FLAG,
     .offset = offsetof(struct run_values, overwrite),
     .help = "Replace files that are there and were not made by 'vidloom run' with this state."},
    LOG_OPTION(struct run_values, "none"),
    FOLLOW_OPTIONS(struct run_values),
};

static const struct verb_note examples[] = {
    {"vidloom run configs/jobs/demo.yaml", "Make the demo's videos under out/."},
    {"vidloom run --progress lines job.yaml 2> log", "Show progress as lines, into a file."},
    {"vidloom run --json job.yaml", "Progress and results for a program, one object a line."},
    {"vidloom run --device all job.yaml", "On every GPU of this machine."},
    {"vidloom run --state /scratch/state job.yaml", "Keep the intermediate results elsewhere."},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "Every video is at its place."},
    {"1", "A video failed (the others are there), or the machine did: disk, memory, device."},
    {"2", "The command line or the job file is wrong; nothing was begun."},
    {"130", "Interrupted; the same command goes on."},
    {NULL, NULL},
};

const struct verb verb_run = {
    .name = "run",
    .group = "Making videos",
    .summary = "make the videos of a job on this machine",
    .arguments = "JOB.yaml",
    .arguments_min = 1,
    .arguments_max = 1,
    .purpose =
        "Make every video of a job on this machine, with no server and no set-up. Each "
        "appears at its place whole, as soon as it is done; at the end a table says where "
        "they are, how long each took, and two measures from 0 to 1, the greatest of a "
        "video's windows. Drift is how far a window's frames have gone from the video's "
        "first in colours, brightness and sharpness: a video that fades, darkens or blurs "
        "on its way has much. Seam is by how much the picture jumps where one window goes "
        "over into the next, above what changes between frames anyway. A warning names each "
        "video that is past the job's limits of them after all redraws; it is there all the "
        "same, and the exit status stays 0.\n\nInterrupted by Ctrl-C, a kill or a power cut, "
        "the same command goes on where it was; done already, it has nothing to do. The "
        "first Ctrl-C stops in good order, the second at once. Equal jobs give equal files, "
        "byte for byte, on one kind of device.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct run_values),
    .examples = examples,
    .exits = exits,
    .run = run_verb,
};
