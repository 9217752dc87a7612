/* vidloom check JOB.yaml: read and plan everything, run nothing. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/backend.h"
#include "cli/cli.h"
#include "cli/estimate.h"
#include "cli/job_source.h"
#include "worker/device_class.h"

#define ROWS_SHOWN 24
/* Finding published videos by key needs the whole plan; beyond this many tasks the path decides. */
#define EXACT_TASKS_MAX 100000

struct check_values {
    const char *state, *models, *device;
    int dtype;
    uint64_t memory;
    bool all, json;
};

/* Of one model, by its stage: where each LoRA goes. */
struct lora_rows {
    const char *stage;
    const struct job_model *model;
    struct model_options options;
    struct model_lora loras[LIMIT_LORAS];
    char paths[LIMIT_LORAS][FILE_PATH_BYTES];
};

struct check {
    const struct check_values *values;
    struct job *job;
    struct job_source source;
    struct backend_devices devices;
    struct estimate estimate;
    unsigned char *published; /* [video_count] */
    int published_count;
    char folder[FILE_PATH_BYTES]; /* the current one */
    char ledger_note[256];        /* why what is done is not known; "" when it is */
    struct lora_rows loras[2];    /* keyframe, window */
};

/* -- what is there already -------------------------------------------------------------------- */

/* Where `vidloom run` in this folder writes the file: the ledger knows whole paths. */
static enum error_code published_path(char out[FILE_PATH_BYTES], const struct check *check,
                                      const char *path, struct error *error) {
    if (path[0] != '/')
        return file_join(out, check->folder, path, error);
    snprintf(out, FILE_PATH_BYTES, "%s", path);
    return ERR_OK;
}

static enum error_code is_published(bool *out, const struct check *check, int video,
                                    struct ledger *ledger, struct buffer *texts,
                                    struct error *error) {
    struct ledger_publication publication;
    struct plan *plan;
    char path[FILE_PATH_BYTES];
    const struct job_video *it = &check->job->videos[video];
    enum error_code code = published_path(path, check, it->output.path, error);
    if (code == ERR_OK)
        code = ledger_find_publication(ledger, &publication, out, path, texts, error);
    if (code != ERR_OK || !*out)
        return code;
    *out = publication.done && output_is_there(path, publication.bytes);
    if (!*out || check->estimate.tasks > EXACT_TASKS_MAX)
        return ERR_OK;
    code = plan_open(&plan, check->job, it, error);
    if (code != ERR_OK)
        return code;
    *out = hash_equal(&plan->tasks[plan->task_count - 1].key, &publication.key);
    plan_close(&plan);
    return ERR_OK;
}

static enum error_code read_ledger(struct check *check, struct ledger *ledger, const char *class,
                                   struct error *error) {
    struct buffer texts = {0};
    enum error_code code = estimate_from_ledger(&check->estimate, check->job, ledger, class, error);
    for (int i = 0; i < check->job->video_count && code == ERR_OK; i++) {
        bool published = false;
        code = is_published(&published, check, i, ledger, &texts, error);
        check->published[i] = published;
        check->published_count += published;
    }
    buffer_close(&texts);
    return code;
}

/* A ledger that cannot be read does not make the job wrong: it is noted, and the rest is shown. */
static void find_published(struct check *check, const char *class) {
    char path[FILE_PATH_BYTES];
    struct stat status;
    struct ledger *ledger;
    struct error error = {0};
    if (file_join(path, check->values->state, "ledger.db", &error) != ERR_OK ||
        stat(path, &status) != 0 || !getcwd(check->folder, sizeof check->folder))
        return;
    enum error_code code = ledger_sqlite_open(&ledger, check->values->state, &error);
    if (code == ERR_OK) {
        code = read_ledger(check, ledger, class, &error);
        ledger_close(&ledger);
    }
    if (code == ERR_BUSY)
        snprintf(check->ledger_note, sizeof check->ledger_note,
                 "not known: vidloom is running on %.128s", check->values->state);
    else if (code != ERR_OK)
        snprintf(check->ledger_note, sizeof check->ledger_note, "not known: %.200s", error.detail);
}

/* -- shown ------------------------------------------------------------------------------------ */

static double seconds_of(const struct job_video *video) {
    return (double)video->frames * video->output.fps_denominator / video->output.fps_numerator;
}

static int name_width(const struct job *job, int rows) {
    int width = 5;
    for (int i = 0; i < rows; i++) {
        int length = (int)strlen(job->videos[i].name);
        width = length > width ? length : width;
    }
    return width < 32 ? width : 32;
}

/* Two experts have a scale each. */
static bool has_keyframe_scales(const struct check *check) {
    return check->job->keyframe.facts.experts > 1 &&
           check->estimate.stages[ESTIMATE_KEYFRAME].tasks > 0;
}

static bool has_window_scales(const struct check *check) {
    return check->job->window.facts.experts > 1;
}

static double low_scale(const struct job_sampling *sampling) {
    return sampling->guidance_low != 0 ? sampling->guidance_low : sampling->guidance;
}

static void put_scales(struct buffer *out, const struct job_sampling *sampling) {
    buffer_printf(out, "%13g, %-5g", sampling->guidance, low_scale(sampling));
}

static void put_videos(struct buffer *out, const struct check *check) {
    const struct job *job = check->job;
    int rows = check->values->all || job->video_count <= ROWS_SHOWN ? job->video_count : ROWS_SHOWN;
    int width = name_width(job, rows);
    buffer_printf(out, "%-*s  %8s %7s %7s %8s  %-9s  ", width, "video", "seconds", "frames",
                  "windows", "computed", "size");
    if (has_keyframe_scales(check))
        buffer_add_text(out, "keyframe high, low  ");
    if (has_window_scales(check))
        buffer_add_text(out, has_keyframe_scales(check) ? "window high, low    "
                                                        : "guidance high, low  ");
    buffer_add_text(out, "to\n");
    for (int i = 0; i < rows; i++) {
        const struct job_video *video = &job->videos[i];
        struct plan_counts counts = {0};
        struct error error;
        char size[32];
        if (plan_count(&counts, job, video, &error) != ERR_OK)
            continue; /* estimate_job has counted them all before */
        snprintf(size, sizeof size, "%dx%d", video->output.width, video->output.height);
        buffer_printf(out, "%-*s  %8.1f %7" PRId64 " %7d %8" PRId64 "  %-9s  ", width, video->name,
                      seconds_of(video), video->frames, counts.windows, counts.computed, size);
        if (has_keyframe_scales(check))
            put_scales(out, &video->keyframe);
        if (has_window_scales(check))
            put_scales(out, &video->window);
        buffer_printf(out, "%s%s\n", video->output.path, check->published[i] ? " (done)" : "");
    }
    if (rows < job->video_count)
        buffer_printf(out, "… and %d more (--all shows them)\n", job->video_count - rows);
}

/* What does nothing. */
static void put_notes(struct buffer *out, const struct job *job) {
    struct plan_note note = {0};
    bool more = plan_next_note(&note, job);
    for (int i = 0; i < PLAN_NOTES_TOLD && more; i++) {
        buffer_printf(out, "%snote: video %s: %s\n", i == 0 ? "\n" : "",
                      job->videos[note.video].name, note.text);
        more = plan_next_note(&note, job);
    }
    if (more)
        buffer_add_text(out, "note: and more such shots\n");
}

static enum error_code read_loras(struct check *check, struct error *error) {
    const struct job *job = check->job;
    struct lora_rows *keyframe = &check->loras[0], *window = &check->loras[1];
    *keyframe = (struct lora_rows){.stage = "keyframe", .model = &job->keyframe};
    *window = (struct lora_rows){.stage = "window", .model = &job->window};
    enum error_code code = ERR_OK;
    for (int i = 0; i < 2 && code == ERR_OK; i++) {
        struct lora_rows *rows = &check->loras[i];
        code = job_source_options(&rows->options, rows->loras, rows->paths, &check->source,
                                  rows->model, error);
    }
    if (check->estimate.stages[ESTIMATE_KEYFRAME].tasks == 0) /* it is added to nothing */
        keyframe->options.lora_count = 0;
    return code;
}

/* NULL: there is one transformer. */
static const char *expert_of(const struct lora_rows *rows, int lora) {
    return rows->model->facts.experts < 2 ? NULL : job_expert_name(rows->model->loras[lora].expert);
}

static void put_loras(struct buffer *out, const struct check *check) {
    if (check->loras[0].options.lora_count + check->loras[1].options.lora_count == 0)
        return;
    buffer_printf(out, "\n%-9s %8s  %-7s  %s\n", "LoRA of", "strength", "experts", "file");
    for (int i = 0; i < 2; i++) {
        const struct lora_rows *rows = &check->loras[i];
        for (int k = 0; k < rows->options.lora_count; k++) {
            const char *expert = expert_of(rows, k);
            buffer_printf(out, "%-9s %8g  %-7s  %s\n", rows->stage, rows->model->loras[k].strength,
                          expert ? expert : "-", rows->model->loras[k].spec);
        }
    }
}

static void put_stages(struct buffer *out, const struct check *check) {
    char weights[32], work[32], again[32];
    bool limited = check->values->memory > 0;
    bool several = strcmp(check->job->keyframe.spec, check->job->window.spec) != 0;
    buffer_printf(out, "\n%-9s %8s  %10s  %10s  %s%s\n", "stage", "tasks", "weights", "work",
                  limited ? "read again  " : "", several ? "GFLOP a task  model" : "GFLOP a task");
    for (int i = 0; i < ESTIMATE_ROWS; i++) {
        const struct estimate_stage *stage = &check->estimate.stages[i];
        if (stage->tasks == 0)
            continue;
        buffer_printf(out, "%-9s %8" PRId64, plan_kind_name(stage->kind), stage->tasks);
        if (stage->cost.flops > 0)
            buffer_printf(out, "  %10s  %10s", text_bytes(weights, stage->cost.held_bytes),
                          text_bytes(work, stage->cost.work_bytes));
        if (stage->cost.flops > 0 && limited)
            buffer_printf(out, "  %10s",
                          stage->cost.read_bytes ? text_bytes(again, stage->cost.read_bytes) : "-");
        if (stage->cost.flops > 0)
            buffer_printf(out, several ? "  %12.2f" : "  %.2f", stage->cost.flops / 1e9);
        if (several && stage->model)
            buffer_printf(out, "  %s", stage->model->spec);
        buffer_add_text(out, "\n");
    }
}

static void put_sums(struct buffer *out, const struct check *check) {
    const struct estimate *estimate = &check->estimate;
    char memory[32], length[32], time[32];
    double ratio = estimate->seconds > 0 ? estimate->video_seconds / estimate->seconds : 0;
    buffer_printf(out, "\nvideos   %" PRId64 ", %s long together, %" PRId64 " tasks\n",
                  estimate->videos, text_duration(length, estimate->video_seconds),
                  estimate->tasks);
    buffer_printf(out, "memory   %s for weights and the largest task, for each worker on %s\n",
                  text_bytes(memory, estimate->weight_bytes + estimate->work_bytes),
                  check->devices.items[0].name);
    buffer_printf(out, "time     about %s on this machine, %.2f times real time (estimate: %s",
                  text_duration(time, estimate->seconds), ratio,
                  estimate->measured ? "as an earlier job took" : "from the arithmetic");
    if (!estimate->measured)
        buffer_printf(out, " at %.*f GFLOP/s", estimate->flops_per_second < 1e10 ? 1 : 0,
                      estimate->flops_per_second / 1e9);
    buffer_add_text(out, ")\n");
    if (*check->ledger_note)
        buffer_printf(out, "done     %s\n", check->ledger_note);
    else
        buffer_printf(out, "done     %d of %d videos\n", check->published_count,
                      check->job->video_count);
}

static void put_json_video(struct json_writer *writer, const struct check *check, int i) {
    const struct job_video *video = &check->job->videos[i];
    struct plan_counts counts = {0};
    struct error error;
    if (plan_count(&counts, check->job, video, &error) != ERR_OK)
        return;
    json_begin_object(writer, NULL);
    json_put_text(writer, "name", video->name);
    json_put_double(writer, "seconds", seconds_of(video));
    json_put_int(writer, "frames", video->frames);
    json_put_int(writer, "windows", counts.windows);
    json_put_int(writer, "frames_computed", counts.computed);
    json_put_int(writer, "tasks", counts.tasks);
    json_put_int(writer, "width", video->output.width);
    json_put_int(writer, "height", video->output.height);
    if (has_keyframe_scales(check)) {
        json_put_double(writer, "keyframe_guidance", video->keyframe.guidance);
        json_put_double(writer, "keyframe_guidance_low", low_scale(&video->keyframe));
    }
    if (has_window_scales(check)) {
        json_put_double(writer, "guidance", video->window.guidance);
        json_put_double(writer, "guidance_low", low_scale(&video->window));
    }
    json_put_text(writer, "path", video->output.path);
    json_put_bool(writer, "done", check->published[i]);
    json_end_object(writer);
}

static void put_json_stages(struct json_writer *writer, const struct check *check) {
    json_begin_array(writer, "stages");
    for (int i = 0; i < ESTIMATE_ROWS; i++) {
        const struct estimate_stage *stage = &check->estimate.stages[i];
        if (stage->tasks == 0)
            continue;
        json_begin_object(writer, NULL);
        json_put_text(writer, "stage", plan_kind_name(stage->kind));
        if (stage->model)
            json_put_text(writer, "model", stage->model->spec);
        json_put_int(writer, "tasks", stage->tasks);
        json_put_int(writer, "weight_bytes", (int64_t)stage->cost.weight_bytes);
        json_put_int(writer, "held_bytes", (int64_t)stage->cost.held_bytes);
        json_put_int(writer, "read_bytes", (int64_t)stage->cost.read_bytes);
        json_put_int(writer, "work_bytes", (int64_t)stage->cost.work_bytes);
        json_put_double(writer, "flops", stage->cost.flops);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void put_json_loras(struct json_writer *writer, const struct check *check) {
    json_begin_array(writer, "loras");
    for (int i = 0; i < 2; i++) {
        const struct lora_rows *rows = &check->loras[i];
        for (int k = 0; k < rows->options.lora_count; k++) {
            json_begin_object(writer, NULL);
            json_put_text(writer, "stage", rows->stage);
            json_put_text(writer, "file", rows->model->loras[k].spec);
            json_put_double(writer, "strength", rows->model->loras[k].strength);
            json_put_text(writer, "expert", expert_of(rows, k));
            json_end_object(writer);
        }
    }
    json_end_array(writer);
}

static void put_json_notes(struct json_writer *writer, const struct job *job) {
    struct plan_note note = {0};
    json_begin_array(writer, "notes");
    for (int i = 0; i < PLAN_NOTES_TOLD && plan_next_note(&note, job); i++) {
        json_begin_object(writer, NULL);
        json_put_text(writer, "video", job->videos[note.video].name);
        json_put_text(writer, "text", note.text);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void put_json(struct buffer *out, const struct check *check) {
    struct json_writer writer = {.buffer = out};
    const struct estimate *estimate = &check->estimate;
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "job", check->job->name);
    json_put_double(&writer, "video_seconds", estimate->video_seconds);
    json_put_int(&writer, "tasks", estimate->tasks);
    json_put_text(&writer, "device", check->devices.items[0].name);
    json_put_int(&writer, "memory_bytes", (int64_t)(estimate->weight_bytes + estimate->work_bytes));
    json_put_double(&writer, "estimate_s", estimate->seconds);
    json_put_bool(&writer, "estimate_measured", estimate->measured);
    json_put_int(&writer, "done", check->published_count);
    put_json_notes(&writer, check->job);
    put_json_loras(&writer, check);
    put_json_stages(&writer, check);
    json_begin_array(&writer, "videos");
    for (int i = 0; i < check->job->video_count; i++)
        put_json_video(&writer, check, i);
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

/* -- the verb --------------------------------------------------------------------------------- */

/* What the ledger has of it; and time, which depends on the device. */
static enum error_code look_at_device(struct check *check, const struct estimate_worker *worker,
                                      struct error *error) {
    const struct ops *ops = worker->ops;
    const struct device_config config = {.index = worker->index};
    struct device *device;
    struct device_info info;
    enum error_code code = ops->device_open(&device, &config, error);
    if (code != ERR_OK)
        return code;
    device_class_read(&info, ops, device, worker->dtype);
    find_published(check, info.class);
    if (!check->estimate.measured)
        code = estimate_from_arithmetic(&check->estimate, check->job, worker, device, error);
    ops->device_close(&device);
    return code;
}

static enum error_code look(struct check *check, const char *path, struct cli *cli,
                            struct error *error) {
    char models[FILE_PATH_BYTES];
    models_folder(models, check->values->models);
    enum error_code code = job_source_open(&check->job, &check->source, path, models,
                                           check->values->state, &cli->arena, error);
    if (code != ERR_OK)
        return code;
    job_source_warn(cli->err, check->job);
    code = backend_find(&check->devices, check->values->device, error);
    if (code != ERR_OK)
        return code;
    const struct estimate_worker worker = {.ops = check->devices.items[0].ops,
                                           .index = check->devices.items[0].index,
                                           .dtype =
                                               check->values->dtype == 1 ? DTYPE_F32 : DTYPE_BF16,
                                           .memory = check->values->memory};
    job_source_warn_device(cli->err, &check->source, check->job, worker.ops, worker.index,
                           worker.dtype);
    check->published = calloc((size_t)check->job->video_count + 1, 1);
    if (!check->published)
        return error_set(error, ERR_MEMORY, "no memory for %d videos", check->job->video_count);
    code = estimate_job(&check->estimate, check->job, &check->source, &worker, error);
    if (code != ERR_OK)
        return code;
    code = read_loras(check, error);
    return code == ERR_OK ? look_at_device(check, &worker, error) : code;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    struct check *check = calloc(1, sizeof *check);
    struct buffer text = {0};
    struct error error = {0};
    int status;
    if (!check)
        return cli_fail_text(cli, ERR_MEMORY, "no memory to check a job");
    check->values = invocation->values;
    if (look(check, invocation->arguments[0], cli, &error) != ERR_OK) {
        status = cli_fail(cli, &error);
    } else if (check->values->json) {
        put_json(&text, check);
        status = cli_put(cli, &text);
    } else {
        put_videos(&text, check);
        put_notes(&text, check->job);
        put_loras(&text, check);
        put_stages(&text, check);
        put_sums(&text, check);
        status = cli_put(cli, &text);
    }
    job_close(&check->job);
    free(check->published);
    free(check);
    return status;
}

static const char *const dtypes[] = {"bf16", "f32", NULL};

static const struct option options[] = {
    {.letter = 's',
     .name = "state",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct check_values, state),
     .fallback = ".vidloom",
     .help = "Where 'vidloom run' keeps its ledger: to see what is done already."},
    {.letter = 'm',
     .name = "models",
     .value = "DIR",
     .type = OPTION_TEXT,
     .offset = offsetof(struct check_values, models),
     .help = "The folder of models. Without it: models in the current folder, else beside the "
             "program."},
    DEVICE_PLAN_OPTION(struct check_values),
    {.name = "dtype",
     .value = "TYPE",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct check_values, dtype),
     .fallback = "bf16",
     .choices = dtypes,
     .help = "The type to compute in, for the memory and time."},
    {.name = "memory",
     .value = "SIZE",
     .type = OPTION_SIZE,
     .offset = offsetof(struct check_values, memory),
     .help =
         "The memory that a worker may take, as 'vidloom run --memory' is told: the weights that "
         "are held at once, and what each task reads again from their files."},
    {.letter = 'a',
     .name = "all",
     .type = OPTION_FLAG,
     .offset = offsetof(struct check_values, all),
     .help = "Show every video, however many there are."},
    {.letter = 'j',
     .name = "json",
     .type = OPTION_FLAG,
     .offset = offsetof(struct check_values, json),
     .help = "Print one JSON object instead of tables."},
};

static const struct verb_note examples[] = {
    {"vidloom check job.yaml", "Is the file right, how much is it, how long will it take?"},
    {"vidloom check --json job.yaml", "The same numbers for a program."},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "The job can be run."},
    {"1", "It could not be checked: reading or memory failed."},
    {"2", "The command line or the job file is wrong; the line on stderr says file, line and "
          "column, what was expected, and what may have been meant."},
    {NULL, NULL},
};

const struct verb verb_check = {
    .name = "check",
    .group = "Making videos",
    .summary = "validate a job; show its plan, memory and time",
    .arguments = "JOB.yaml",
    .arguments_min = 1,
    .arguments_max = 1,
    .purpose = "Read a job file with everything that it names (prompt lists, images, models) and "
               "show what 'vidloom run' would do: the videos, their windows, the frames that these "
               "compute and the tasks, the memory "
               "that each stage needs, about how long it will take on this machine, and what is "
               "done already. Nothing is generated and nothing is written.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct check_values),
    .examples = examples,
    .exits = exits,
    .run = run,
};
