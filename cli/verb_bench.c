/* vidloom bench: what this machine reaches, and whether that became worse. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/backend.h"
#include "cli/bench_wan.h"
#include "cli/job_source.h"
#include "cli/report.h"
#include "kernels/bench.h"
#include "worker/model/speed_models.h"

#define REPORT_BYTES_MAX (1u << 20)

struct bench_values {
    struct backend_values backend;
    int what;
    bool quick;
    const char *compare, *model;
    double tolerance, seconds;
    bool json;
};

enum what { WHAT_ALL, WHAT_KERNELS, WHAT_WAN, WHAT_VIDEO };
static const char *const whats[] = {"all", "kernels", "wan", "video", NULL};

/* -- operations
 * ------------------------------------------------------------------------------------ */

static enum error_code bench_kernels(struct report *report, const struct bench_values *values,
                                     struct error *error) {
    struct bench_row rows[BENCH_ROWS_MAX];
    struct bench_config config = {.threads = (int)values->backend.threads, .quick = values->quick};
    int count;
    enum error_code code = bench_run(rows, &count, &config, error);
    for (int i = 0; i < count && code == ERR_OK; i++) {
        struct report_row *row = report_add(report, rows[i].gflops, "GFLOP/s", "%s %s %s",
                                            rows[i].name, rows[i].dtype, rows[i].shape);
        if (row && rows[i].share > 0)
            row->share = rows[i].share;
    }
    return code;
}

/* -- a GPU: the figures of ops/gpu/figures.txt ------------------------------------------------- */

static void add_figure(void *user, const struct figure *figure) {
    struct report_row *row = report_add(user, figure->value, figure->unit, "%s", figure->what);
    if (row)
        row->lower_better = strcmp(figure->unit, "s") == 0;
}

static enum error_code bench_device(struct report *report, const struct bench_values *values,
                                    const struct ops *ops, const struct device_config *device,
                                    struct error *error) {
    const struct speed_config config = {.ops = ops,
                                        .device = *device,
                                        .groups = SPEED_ALL,
                                        .small = values->quick,
                                        .put = add_figure,
                                        .user = report};
    enum error_code code = ERR_OK;
    if (values->what == WHAT_ALL || values->what == WHAT_KERNELS)
        code = speed_kernels(&config, error);
    if (code == ERR_OK && (values->what == WHAT_ALL || values->what == WHAT_WAN))
        code = speed_models(&config, error);
    return code;
}

/* -- the whole way
 * --------------------------------------------------------------------------------- */

/* Become `vidloom run` in `folder`, silently. Never returns. */
static void become_run(const char *folder, const char *program, const char *threads,
                       const char *device) {
    const char *arguments[] = {"vidloom",  "run",  "--quiet",  "--threads", threads,
                               "--device", device, "job.yaml", NULL};
    if (chdir(folder) == 0)
        execv(program, (char *const *)arguments);
    _exit(127);
}

/* A fresh process, so that its peak memory is its own. */
static enum error_code time_run(double *seconds, double *peak_mib, const char *folder,
                                int64_t threads, const char *device, struct error *error) {
    char program[FILE_PATH_BYTES], count[24];
    struct rusage usage;
    int status;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return error_set_errno(error, errno, "cannot find this program");
    program[length] = '\0';
    snprintf(count, sizeof count, "%lld", (long long)threads);
    int64_t start = clock_monotonic_ns();
    pid_t child = fork();
    if (child == 0)
        become_run(folder, program, count, device);
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        return error_set_errno(error, errno, "cannot run the benchmark's job");
    *seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    *peak_mib = (double)usage.ru_maxrss / 1024;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(error, ERR_INTERNAL, "the benchmark's job failed");
    return ERR_OK;
}

static enum error_code write_job(const char *folder, const char *model, double seconds,
                                 struct error *error) {
    char path[FILE_PATH_BYTES], text[FILE_PATH_BYTES + 512];
    int length = snprintf(text, sizeof text,
                          "job: bench\nmodel: \"%s\"\noutput: {path: \"{video}.mp4\"}\nvideos:\n"
                          "  - {name: bench, prompt: a red hot air balloon over the sea at night, "
                          "motion: it stays still, seconds: %g, seed: 1}\n",
                          model, seconds);
    enum error_code code = file_join(path, folder, "job.yaml", error);
    return code != ERR_OK ? code : file_write(path, text, (size_t)length, false, error);
}

static enum error_code bench_model(struct report *report, const struct bench_values *values,
                                   const char *device, struct error *error) {
    char models[FILE_PATH_BYTES], model[FILE_PATH_BYTES], absolute[PATH_MAX];
    char folder[] = "/tmp/vidloom-bench-XXXXXX";
    double took = 0, peak = 0;
    models_folder(models, values->backend.models);
    enum error_code code = model_folder(model, models, values->model, error);
    if (code != ERR_OK)
        return code;
    if (!realpath(model, absolute))
        return error_set_errno(error, errno, "cannot find the model %.512s", model);
    if (!mkdtemp(folder))
        return error_set_errno(error, errno, "cannot make the benchmark's folder %s", folder);
    code = write_job(folder, absolute, values->seconds, error);
    if (code == ERR_OK)
        code = time_run(&took, &peak, folder, values->backend.threads, device, error);
    struct error ignored;
    if (file_remove_tree(folder, &ignored) != ERR_OK && code == ERR_OK)
        code = error_set(error, ERR_IO, "%s", ignored.detail);
    if (code != ERR_OK)
        return code;
    report_add(report, values->seconds / took, "x real time", "%s, %g s of video", values->model,
               values->seconds);
    struct report_row *row = report_add(report, peak, "MiB", "%s, %g s of video: peak memory",
                                        values->model, values->seconds);
    if (row)
        row->lower_better = true;
    return ERR_OK;
}

/* -- the verb
 * --------------------------------------------------------------------------------------- */

static enum error_code measure(struct report *report, const struct bench_values *values,
                               struct error *error) {
    struct backend_devices devices;
    struct device *device;
    struct device_info info;
    enum error_code code = backend_find(&devices, values->backend.device, error);
    if (code != ERR_OK)
        return code;
    const struct ops *ops = devices.items[0].ops;
    struct device_config config = {.threads = (int)values->backend.threads,
                                   .index = devices.items[0].index};
    code = ops->device_open(&device, &config, error);
    if (code != ERR_OK)
        return code;
    ops->device_info(device, &info);
    snprintf(report->version, sizeof report->version, "%s", VIDLOOM_VERSION);
    snprintf(report->device, sizeof report->device, "%s", info.name);
    snprintf(report->class, sizeof report->class, "%s", info.class);
    ops->device_close(&device);
    bool on_cpu = ops == ops_cpu();
    if (!on_cpu)
        code = bench_device(report, values, ops, &config, error);
    if (on_cpu && (values->what == WHAT_ALL || values->what == WHAT_KERNELS))
        code = bench_kernels(report, values, error);
    if (on_cpu && code == ERR_OK && (values->what == WHAT_ALL || values->what == WHAT_WAN))
        code = bench_wan(report, &config, values->quick, error);
    if (code == ERR_OK && (values->what == WHAT_ALL || values->what == WHAT_VIDEO))
        code = bench_model(report, values, devices.items[0].name, error);
    return code;
}

static enum error_code read_earlier(struct report *out, const char *path, struct cli *cli,
                                    struct error *error) {
    char *text;
    size_t length;
    enum error_code code = file_read(&text, &length, &cli->arena, path, REPORT_BYTES_MAX, error);
    return code != ERR_OK ? code : report_parse(out, path, text, length, &cli->arena, error);
}

static int report_all(struct cli *cli, const struct bench_values *values, const struct report *now,
                      const struct report *then) {
    struct buffer text = {0}, comparison = {0};
    int regressions = 0;
    if (values->compare)
        regressions = report_compare(&comparison, now, then, values->tolerance / 100);
    if (values->json)
        report_json(&text, now);
    else if (values->compare)
        buffer_add(&text, comparison.data, comparison.length);
    else
        report_table(&text, now);
    if (values->json && values->compare) /* the object alone goes to stdout */
        fputs(comparison.data ? comparison.data : "", cli->err);
    buffer_close(&comparison);
    int status = cli_put(cli, &text);
    if (status == 0 && regressions)
        return cli_fail_text(cli, ERR_INTERNAL, "%d of %d are worse than in %s by more than %g %%",
                             regressions, now->count, values->compare, values->tolerance);
    return status;
}

static int run(struct cli *cli, const struct invocation *invocation) {
    const struct bench_values *values = invocation->values;
    struct report *now = calloc(1, sizeof *now), *then = calloc(1, sizeof *then);
    struct error error = {0};
    enum error_code code = ERR_OK;
    int status;
    if (!now || !then) {
        status = cli_fail_text(cli, ERR_MEMORY, "no memory for a report");
        goto done;
    }
    if (values->compare) /* first: a wrong name costs no minute */
        code = read_earlier(then, values->compare, cli, &error);
    if (code == ERR_OK)
        code = measure(now, values, &error);
    if (code == ERR_OK)
        status = report_all(cli, values, now, then);
    else
        status = cli_fail(cli, &error);
done:
    free(now);
    free(then);
    return status;
}

static const struct option options[] = {
    {.name = "only",
     .value = "WHAT",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct bench_values, what),
     .choices = whats,
     .fallback = "all",
     .help =
         "What to measure: the operations, a step and a decode of Wan2.1 with random weights, or a "
         "model from job file to video."},
    {.name = "quick",
     .type = OPTION_FLAG,
     .offset = offsetof(struct bench_values, quick),
     .help = "Leave out the large shapes: seconds instead of minutes."},
    {.name = "seconds",
     .value = "N",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct bench_values, seconds),
     .min = 1,
     .max = 3600,
     .fallback = "20",
     .help = "Length of the video that is made."},
    {.name = "model",
     .value = "MODEL",
     .type = OPTION_TEXT,
     .offset = offsetof(struct bench_values, model),
     .fallback = "pocket",
     .help = "The model that makes it: a name under the folder of models, or a path."},
    {.name = "compare",
     .value = "FILE",
     .type = OPTION_TEXT,
     .offset = offsetof(struct bench_values, compare),
     .help = "What 'vidloom bench --json' printed earlier: show then and now, and name what became "
             "worse."},
    {.name = "tolerance",
     .value = "PERCENT",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct bench_values, tolerance),
     .max = 1000,
     .fallback = "10",
     .help = "How much worse a number may be before it is called a regression."},
    BACKEND_OPTIONS(struct bench_values),
    {.letter = 'j',
     .name = "json",
     .type = OPTION_FLAG,
     .offset = offsetof(struct bench_values, json),
     .help = "Print one JSON object; a comparison then goes to stderr."},
};

static const struct verb_note examples[] = {
    {"vidloom bench", "A table of everything."},
    {"vidloom bench --json > today.json", "Keep it, to compare with."},
    {"vidloom bench --compare today.json", "Has anything become slower since?"},
    {NULL, NULL},
};

static const struct verb_note exits[] = {
    {"0", "Done; with --compare: nothing is worse."},
    {"1", "With --compare: something is worse. Or it could not be measured."},
    {"2", "The command line is wrong, or FILE is not an earlier result."},
    {NULL, NULL},
};

const struct verb verb_bench = {
    .name = "bench",
    .group = "Looking",
    .summary = "measure, and compare with an earlier result",
    .arguments = "",
    .purpose = "Measure what this machine reaches: first matrix products, convolutions and "
               "attention, beside oneDNN alone on the same shapes in the same run (attention: "
               "beside its large matrix product), with the share of it that each reaches; then a "
               "step of Wan2.1's 1.3B transformer, in bf16 and with weights, activations and "
               "attention in 8 bits, and its VAE's decode, full width, random weights, with their "
               "shares of oneDNN's large bf16 product and convolution; then a model from job file "
               "to finished video, with its "
               "peak memory. On a GPU: attention, linear layers, convolutions and elementwise "
               "operations at Wan2.1's shapes, its decoder and four steps of its 1.3B transformer "
               "on 81 frames of 480x832, then the model to the video. For numbers worth keeping "
               "nothing else should run meanwhile.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .values_bytes = sizeof(struct bench_values),
    .examples = examples,
    .exits = exits,
    .run = run,
};
